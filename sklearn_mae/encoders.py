"""q_phi(z|x): what a row's code is, and the bound on its log-likelihood.

Two parts. A *proposal* is a conditional distribution over z given features of x. A
*rule* says which distribution over z follows from it:

- ``Amortised``: the proposal itself. Bound: the ELBO, log p(x) >= -(D + R).
- ``Resampling`` (Cremer et al. 2017; the paper's section 6): k draws
  z_i ~ q_phi with weights w_i = p(x, z_i) / q(z_i|x), of which one is kept with
  probability w~_i = w_i / sum_j w_j. Bound: L_k = E log (1/k) sum_i w_i (Burda et
  al. 2015).

Distortion D = -E log p(x|z) and rate R, both in nats, sum to minus the bound. For the
resampling encoder R = -L_k - D is an upper bound on the information of its codes.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent

from sklearn_mae.model import (
    DiagonalNormal,
    LatentVariableModel,
    Rows,
    mlp,
    normal_of,
    without_underflow,
)

__all__ = [
    "Amortised",
    "Bound",
    "CategoryTable",
    "GaussianEncoder",
    "OneHot",
    "Posterior",
    "Resampling",
    "Standardised",
    "UserEncoder",
]


class Standardised(nn.Module):
    """Features of numeric columns: (x - mean) / scale."""

    mean: Tensor
    scale: Tensor

    def __init__(self, mean, scale):
        super().__init__()
        self.register_buffer("mean", torch.as_tensor(mean, dtype=torch.float64))
        self.register_buffer("scale", torch.as_tensor(scale, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        """Return features of shape (..., D)."""
        return (x - self.mean) / self.scale


class OneHot(nn.Module):
    """Features of categorical columns: one indicator for each category."""

    offsets: Tensor
    one: Tensor

    def __init__(self, cardinalities):
        super().__init__()
        offsets = torch.tensor([0, *cardinalities[:-1]]).cumsum(0)
        self.register_buffer("offsets", offsets, persistent=False)
        self.register_buffer("one", torch.ones(()), persistent=False)
        self.n_indicators = sum(cardinalities)

    def forward(self, x: Tensor) -> Tensor:
        """Return features of shape (..., sum of cardinalities)."""
        shape = (*x.shape[:-1], self.n_indicators)
        features = self.one.new_zeros(shape)
        return features.scatter(-1, x + self.offsets, self.one.expand(x.shape))


class GaussianEncoder(nn.Module):
    """Normal distribution over z whose mean and log-scale a network gives.

    Parameters
    ----------
    network : nn.Module
        From features to 2 d numbers.
    """

    def __init__(self, network):
        super().__init__()
        self.network = network

    @classmethod
    def from_sizes(cls, n_inputs, hidden_layer_sizes, n_components, activation):
        """Build with a fully connected network."""
        return cls(mlp(n_inputs, hidden_layer_sizes, 2 * n_components, activation))

    def forward(self, features: Tensor) -> DiagonalNormal:
        """Return q(z|x)."""
        return normal_of(self.network(features))


class Posterior(GaussianEncoder):
    """r_omega(z|x): an encoder that is trained on draws of the model."""

    def forward(self, features: Tensor, given: Tensor | None = None) -> DiagonalNormal:
        """Return r(z|x), or with what is given besides r(z|x, g)."""
        if given is not None:
            features = torch.cat([features, given.to(features)], -1)
        return super().forward(features)

    def objective(self, r: DiagonalNormal, z: Tensor) -> Tensor:
        """What omega maximises, for codes z that rows were drawn from: log r(z|x)."""
        return r.log_prob(z)


class CategoryTable(nn.Module):
    """One row of numbers for each category: a linear map of its indicator.

    One free Gaussian for each category (paper, section 7.2).

    Parameters
    ----------
    n_categories : int
        Number of categories.
    n_components : int
        Dimension d of the code; a row holds d means and d log-scales.
    """

    # Adam moves every parameter by about its rate in a step. The weights of a network
    # move their outputs by many times that; a table's are its outputs.
    speed = 4.0

    def __init__(self, n_categories, n_components):
        super().__init__()
        # the means start apart: from a common start the categories would have to break
        # their symmetry first
        means = torch.randn(n_categories, n_components)
        start = torch.cat([means, torch.zeros_like(means)], -1)
        self.table = nn.Parameter(start / self.speed)

    def forward(self, features: Tensor) -> Tensor:
        """Return the rows of one-hot features."""
        return features @ (self.speed * self.table)


class UserEncoder(nn.Module):
    """A user's module, its Distribution brought to one event of d components.

    Parameters
    ----------
    module : nn.Module
        ``forward(features)`` returns a torch Distribution over the code.
    """

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, features: Tensor) -> Distribution:
        """Return q(z|x)."""
        q = self.module(features)
        return q if q.event_shape else Independent(q, 1)


class Bound(NamedTuple):
    """Per-row figures of an encoder in nats: elbo = -(distortion + rate)."""

    elbo: Tensor
    distortion: Tensor
    rate: Tensor


class Amortised:
    """The code's distribution is the proposal q_phi(z|x)."""

    n_draws = 1

    def bound(
        self, model: LatentVariableModel, x: Rows, q: Distribution, z: Tensor
    ) -> Bound:
        """ELBO from draws z ~ q of shape (..., k, n, d), averaged over k."""
        distortion = -model.log_lik(x, z).mean(-2)
        rate = model.prior.kl(q, z).expand_as(distortion)
        return Bound(-(distortion + rate), distortion, rate)

    def mean_code(self, model, x, q, z, groups) -> Tensor:
        """Mean of the code's distribution, shape (n, d), from draws (S, n, d)."""
        try:
            return q.mean.expand(z.shape[1:])
        except NotImplementedError:
            return z.mean(0)

    def choose(self, model, x, q, z, u) -> Tensor:
        """Return the code drawn: the one draw there is."""
        return z[..., 0, :, :]

    def log_density(self, model, x, q, z, others) -> Tensor:
        """Log q(z|x) at points z of shape (..., n, d)."""
        return q.log_prob(z)


class Resampling:
    """The code is one of k draws, kept in proportion to its importance weight.

    Parameters
    ----------
    n_draws : int
        Number of draws k.
    """

    def __init__(self, n_draws: int):
        self.n_draws = n_draws

    def bound(
        self, model: LatentVariableModel, x: Rows, q: Distribution, z: Tensor
    ) -> Bound:
        """L_k from draws z ~ q of shape (..., k, n, d); gradients pass the weights."""
        log_lik = model.log_lik(x, z)
        log_w = log_lik + model.prior.log_prob(z) - q.log_prob(z)
        log_w = without_underflow(log_w, -2)
        elbo = torch.logsumexp(log_w, -2) - math.log(z.shape[-3])
        distortion = -(torch.softmax(log_w, -2) * log_lik).sum(-2)
        return Bound(elbo, distortion, -elbo - distortion)

    def mean_code(self, model, x, q, z, groups) -> Tensor:
        """Mean of the resampled code, over groups of k draws.

        Parameters
        ----------
        model : LatentVariableModel
            The model.
        x, q : Rows, Distribution
            Rows and their proposals.
        z : Tensor of shape (S, n, d)
            Draws from q.
        groups : Tensor of shape (G, k)
            Which draws are in which group, each draw in as many: it is decoded once.

        Returns
        -------
        Tensor of shape (n, d)
            Mean over groups of the mean given a group's draws.
        """
        log_w = model.log_weights(x, z, q)
        in_groups = torch.softmax(log_w[groups], 1).flatten(0, 1)
        places = groups.flatten().argsort(stable=True).view(len(z), -1)
        weights = in_groups[places].sum(1)
        return (weights.unsqueeze(-1) * z).sum(0) / len(groups)

    def choose(self, model, x, q, z, u) -> Tensor:
        """Keep the draw at which the cumulated weights pass u, of shape (..., n)."""
        weights = torch.softmax(model.log_weights(x, z, q), -2)
        below = weights.cumsum(-2) < u.unsqueeze(-2)
        index = below.sum(-2).clamp_max(z.shape[-3] - 1)
        index = index[..., None, :, None].expand(*z.shape[:-3], 1, *z.shape[-2:])
        return z.gather(-3, index).squeeze(-3)

    def log_density(self, model, x, q, z, others) -> Tensor:
        """Log q_EW(z|x) (Cremer et al. 2017), an average over groups of other draws.

        Parameters
        ----------
        model : LatentVariableModel
            The model.
        x, q : Rows, Distribution
            Rows and their proposals.
        z : Tensor of shape (..., n, d)
            Points.
        others : Tensor of shape (S, k - 1, ..., n, d)
            S groups of k - 1 draws from q.

        Returns
        -------
        Tensor of shape (..., n)
            log of p(x, z) E[1 / ((w(z) + sum_j w_j) / k)].
        """
        log_joint = model.log_joint(x, z)
        log_w = log_joint - q.log_prob(z)
        log_others = torch.logsumexp(model.log_weights(x, others, q), 1)
        log_mean = torch.logaddexp(log_w, log_others) - math.log(self.n_draws)
        return log_joint + torch.logsumexp(-log_mean, 0) - math.log(len(others))
