"""p_theta(x|z) for tables: one distribution over all columns, independent given z.

Each likelihood includes its decoder and says what the rest of the package has to know
about it: ``outcomes()`` lists every value of x where that is possible, ``point(p)`` is
the value that ``inverse_transform`` returns, ``fisher_information(z)`` how sharply x
tells codes apart, ``cost`` how many codes a certificate may decode.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent
from torch.nn.functional import log_softmax, softplus

from sklearn_mae.model import MAX_OUTCOMES, Cost, DiagonalNormal, PrivateDistribution

__all__ = [
    "BernoulliLikelihood",
    "CategoricalLikelihood",
    "ForeignLikelihood",
    "GaussianLikelihood",
]


def _jacobian(function, z: Tensor) -> Tensor:
    """Jacobian of a row-wise function at codes (n, d): shape (n, m, d).

    By two reverse passes, of which the second differentiates the first by its seed:
    torch's forward mode keeps its state in a global and fails in concurrent threads.
    """
    n, d = z.shape
    with torch.enable_grad():
        z = z.detach().repeat(d, 1).requires_grad_()
        values = function(z)
        seed = torch.zeros_like(values, requires_grad=True)
        (pulled,) = torch.autograd.grad(values, z, seed, create_graph=True)
        directions = torch.eye(d, dtype=z.dtype, device=z.device)
        directions = directions.repeat_interleave(n, 0)
        (columns,) = torch.autograd.grad(pulled, seed, directions)
    return columns.unflatten(0, (d, n)).movedim(0, -1)


def _gram(whitened: Tensor) -> Tensor:
    """J'J of J (n, m, d), in double precision: squares of small noises are large."""
    whitened = whitened.double()
    return whitened.mT @ whitened


class GaussianLikelihood(nn.Module):
    """Normal columns.

    Parameters
    ----------
    decoder : nn.Module
        From codes to D means, or to D means and D unbounded log-scales.
    n_features : int
        Number of columns D.
    heteroscedastic : bool
        Whether the standard deviations depend on z; otherwise they are D parameters.
    min_scale : float or array-like of shape (D,)
        Floor of the standard deviations, in units of the columns as the model sees
        them. Without it a column that the decoder can copy drives its density to
        infinity, and the likelihood measures the learning-rate schedule.
    """

    cost = Cost()
    # Adam moves every parameter by about its rate in a step. A decoder's weights move
    # its means by many times that: noise scales must keep up with the residuals.
    speed = 10.0

    floor: Tensor

    def __init__(self, decoder, n_features, heteroscedastic=False, min_scale=0.01):
        super().__init__()
        self.decoder = decoder
        self.n_features = n_features
        self.heteroscedastic = heteroscedastic
        floor = torch.as_tensor(min_scale, dtype=torch.float64).log()
        self.register_buffer("floor", floor, persistent=False)
        if not heteroscedastic:
            self.raw_log_scale = nn.Parameter(torch.zeros(n_features))

    def forward(self, z: Tensor) -> DiagonalNormal:
        """Return p(x|z)."""
        if self.heteroscedastic:
            mean, raw = self.decoder(z).chunk(2, -1)
        else:
            mean, raw = self.decoder(z), self.speed * self.raw_log_scale
        return DiagonalNormal(mean, self.floor + softplus(raw - self.floor))

    @torch.no_grad()
    def set_scale(self, scale) -> None:
        """Set the standard deviations that do not depend on z, all above the floor.

        Parameters
        ----------
        scale : float or array-like of shape (D,)
            In units of the columns as the model sees them.
        """
        log_scale = torch.as_tensor(scale, dtype=torch.float64).log()
        raw = self.floor + torch.log(torch.expm1(log_scale.to(self.floor) - self.floor))
        self.raw_log_scale.copy_(raw / self.speed)

    def outcomes(self) -> None:
        """There is no list of them."""

    def point(self, p: DiagonalNormal) -> Tensor:
        """Mean."""
        return p.loc

    def fisher_information(self, z: Tensor, x: Tensor | None = None) -> Tensor:
        """Of x about z, shape (n, d, d), in float64; the same for every x."""
        p = self(z)
        precision = torch.exp(-p.log_scale).expand_as(p.loc).unsqueeze(-1)
        jacobian = precision * _jacobian(lambda z: self(z).loc, z)
        if not self.heteroscedastic:
            return _gram(jacobian)
        of_scale = math.sqrt(2) * _jacobian(lambda z: self(z).log_scale, z)
        return _gram(jacobian) + _gram(of_scale)


class IndependentBernoulli(PrivateDistribution):
    """Independent binary columns; a value between 0 and 1 counts in proportion."""

    has_rsample = False

    def __init__(self, logits):
        self.logits = logits
        super().__init__(logits.shape[:-1], logits.shape[-1:])

    @property
    def mean(self):
        """Probabilities of a one."""
        return self.logits.sigmoid()

    def log_prob(self, value):
        """Log-probability, summed over the columns."""
        return (value * self.logits).sum(-1) - softplus(self.logits).sum(-1)

    def entropy(self):
        """Entropy in nats."""
        return (softplus(self.logits) - self.logits * self.mean).sum(-1)

    def sample(self, sample_shape=(), generator=None):
        """Draw zeros and ones."""
        p = self.mean.detach().expand(*sample_shape, *self.logits.shape)
        u = torch.empty_like(p, memory_format=torch.contiguous_format)
        # not torch.bernoulli: a diverged model's NaN is to be reported, not to raise
        return (u.uniform_(generator=generator) < p).to(p)


class BernoulliLikelihood(nn.Module):
    """Binary columns.

    Parameters
    ----------
    decoder : nn.Module
        From codes to D logits.
    n_features : int
        Number of columns D.
    """

    cost = Cost()

    def __init__(self, decoder, n_features):
        super().__init__()
        self.decoder = decoder
        self.n_features = n_features

    def forward(self, z: Tensor) -> IndependentBernoulli:
        """Return p(x|z)."""
        return IndependentBernoulli(self.decoder(z))

    def outcomes(self) -> Tensor | None:
        """All 2^D rows of zeros and ones, or None where they are too many."""
        rows = _all_rows([2] * self.n_features)
        return None if rows is None else rows.to(next(self.parameters()).dtype)

    def point(self, p: IndependentBernoulli) -> Tensor:
        """Mean."""
        return p.mean

    def fisher_information(self, z: Tensor, x: Tensor | None = None) -> Tensor:
        """Of x about z, shape (n, d, d), in float64; the same for every x."""
        mean = self(z).mean
        scale = (mean * (1 - mean)).sqrt().unsqueeze(-1)
        return _gram(scale * _jacobian(self.decoder, z))


class IndependentCategorical(PrivateDistribution):
    """Independent categorical columns; outcomes are indices 0 .. c_j - 1."""

    has_rsample = False

    def __init__(self, log_probs):
        self.log_probs = log_probs  # (..., D, max_j c_j)
        super().__init__(log_probs.shape[:-2], log_probs.shape[-2:-1])

    @property
    def mode(self):
        """Most probable category of each column."""
        return self.log_probs.argmax(-1)

    def log_prob(self, value):
        """Log-probability, summed over the columns."""
        shape = torch.broadcast_shapes(value.shape, self.log_probs.shape[:-1])
        log_probs = self.log_probs.expand(*shape, -1)
        chosen = log_probs.gather(-1, value.expand(shape).unsqueeze(-1))
        return chosen.squeeze(-1).sum(-1)

    def entropy(self):
        """Entropy in nats."""
        return -(self.log_probs.exp() * self.log_probs).sum((-2, -1))

    def sample(self, sample_shape=(), generator=None):
        """Draw indices."""
        log_probs = self.log_probs.detach().expand(*sample_shape, *self.log_probs.shape)
        u = torch.rand(
            log_probs.shape[:-1],
            generator=generator,
            dtype=log_probs.dtype,
            device=log_probs.device,
        )
        below = log_probs.exp().cumsum(-1) < u.unsqueeze(-1)
        # rounding may leave the last cumulated probability just below u
        last = (log_probs > IMPOSSIBLE / 2).sum(-1) - 1
        # and a diverged model, all NaN, has none
        return torch.minimum(below.sum(-1), last.clamp_min(0))


# finite, so that 0 * log 0 is 0 in sums over outcomes
IMPOSSIBLE = -1e30


class CategoricalLikelihood(nn.Module):
    """Categorical columns, each with its own number of categories.

    Parameters
    ----------
    decoder : nn.Module
        From codes to the logits of all columns, one after the other.
    cardinalities : sequence of int
        Number of categories c_j of each column.
    """

    cost = Cost()

    exists: Tensor

    def __init__(self, decoder, cardinalities: Sequence[int]):
        super().__init__()
        self.decoder = decoder
        self.cardinalities = tuple(cardinalities)
        self.n_features = len(self.cardinalities)
        widest = max(self.cardinalities)
        cardinality = torch.tensor(self.cardinalities).unsqueeze(-1)
        exists = torch.arange(widest) < cardinality  # (D, widest)
        self.register_buffer("exists", exists, persistent=False)
        self.ragged = not bool(exists.all())

    def forward(self, z: Tensor) -> IndependentCategorical:
        """Return p(x|z)."""
        logits = self.decoder(z)
        shape = (*logits.shape[:-1], *self.exists.shape)
        if self.ragged:
            padded = logits.new_full(shape, IMPOSSIBLE)
            padded[..., self.exists] = logits
        else:
            padded = logits.reshape(shape)
        return IndependentCategorical(log_softmax(padded, -1))

    def outcomes(self) -> Tensor | None:
        """All rows of category indices, or None where they are too many."""
        rows = _all_rows(self.cardinalities)
        return None if rows is None else rows.to(self.exists.device)

    def point(self, p: IndependentCategorical) -> Tensor:
        """Most probable categories."""
        return p.mode

    def fisher_information(self, z: Tensor, x: Tensor | None = None) -> Tensor:
        """Of x about z, shape (n, d, d), in float64; the same for every x."""
        scale = (0.5 * self(z).log_probs).exp().flatten(-2).unsqueeze(-1)
        return _gram(scale * _jacobian(lambda z: self(z).log_probs.flatten(-2), z))


class ForeignLikelihood(nn.Module):
    """A user's module, its Distribution brought to one event of D columns.

    Parameters
    ----------
    module : nn.Module
        ``forward(z)`` returns a torch Distribution over the columns.
    n_features : int
        Number of columns D.
    """

    cost = Cost()

    def __init__(self, module, n_features):
        super().__init__()
        self.module = module
        self.n_features = n_features

    def forward(self, z: Tensor) -> Distribution:
        """Return p(x|z)."""
        p = self.module(z)
        return Independent(p, 1) if not p.event_shape else p

    def outcomes(self) -> None:
        """Unknown."""

    def point(self, p: Distribution) -> Tensor:
        """Mean."""
        return p.mean

    def fisher_information(self, z: Tensor, x: Tensor | None = None) -> None:
        """None is known."""


def _all_rows(cardinalities: Sequence[int]) -> Tensor | None:
    """Every row of indices, shape (S, D); None above the limit."""
    if math.prod(cardinalities) > MAX_OUTCOMES:
        return None
    axes = [torch.arange(c) for c in cardinalities]
    return torch.cartesian_prod(*axes).reshape(-1, len(cardinalities))
