"""Bounds on the model's information I(x, z), per sample and in nats.

With z0 ~ p(z), x ~ p(x|z0), proposals z_1..z_K ~ r_omega(z|x) independent of z0 given
x, and w_j = p(z_j) p(x|z_j) / r_omega(z_j|x):

    lower  L_K = E[ log p(x|z0) - log (1/(K+1)) sum_{j=0..K} w_j ]  <=  I
    upper  U_K = E[ log p(x|z0) - log (1/K)     sum_{j=1..K} w_j ]  >=  I
    L_0 = H(z) + E log r_omega(z0|x): the paper's infomax bound     (eq. 7, 9)

Where I must fall, the gradient goes through U_K; where it must rise, through L_K.
Minimising a *lower* bound would teach the decoder to mislead r_omega, not to forget.
The gradient is taken at fixed omega and includes the paths from x through r_omega into
the proposals and their densities.

After training the proposals come from a mixture around each x (``local_proposal``), and
the noise of a joint draw is averaged out as far as its proposals allow (``smoothing``).
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution

from sklearn_mae.model import (
    LOG_SQRT_2PI,
    DiagonalNormal,
    LatentVariableModel,
    PrivateDistribution,
    draw,
)

__all__ = [
    "Weighted",
    "amortised_proposal",
    "estimate_sandwich",
    "infomax",
    "local_proposal",
    "prior_entropy",
    "regressed_mean",
    "sandwich",
    "smoothing",
    "weigh",
]

# codes decoded in one call: enough to keep a core busy, few enough to stay in cache
DECODED_AT_ONCE = 16_384


def prior_entropy(n_components: int) -> float:
    """H(z) of the prior N(0, I_d)."""
    return n_components * (LOG_SQRT_2PI + 0.5)


def infomax(r: Distribution, z0: Tensor) -> Tensor:
    """Per-sample infomax bound H(z) + log r_omega(z0|x) (eq. 7)."""
    return prior_entropy(z0.shape[-1]) + r.log_prob(z0)


class Weighted(NamedTuple):
    """A joint draw (z0, x) and K proposals z for the same x.

    Shapes ``(K, ...)`` of ``log_lik`` and ``log_w``, ``(K, ..., d)`` of ``z``; those
    that belong to z0 have no K. ``log_q0`` is the proposal's log-density at z0.
    """

    z: Tensor
    log_lik: Tensor
    log_w: Tensor
    z0: Tensor
    log_lik0: Tensor
    log_w0: Tensor
    log_q0: Tensor


def weigh(
    model: LatentVariableModel,
    x: Tensor,
    z0: Tensor,
    log_lik0: Tensor,
    proposal: Distribution,
    n_proposals: int,
    generator: torch.Generator,
) -> Weighted:
    """Draw proposals for x and weigh them and z0.

    Parameters
    ----------
    model : LatentVariableModel
        The model.
    x : Tensor
        Draws of the model, shape (n, D); or all outcomes, shape (S, 1, D).
    z0 : Tensor of shape (n, d)
        The codes that they were drawn from.
    log_lik0 : Tensor of shape (n,) or (S, n)
        log p(x|z0).
    proposal : Distribution
        Over z given x; it must not have seen z0.
    n_proposals : int
        K.
    generator : torch.Generator
        For the proposals.

    Returns
    -------
    Weighted
        Proposals and weights.
    """
    z = draw(proposal, (n_proposals,), generator)
    log_lik = model.likelihood(z).log_prob(x)
    log_w = log_lik + model.log_prior(z) - proposal.log_prob(z)
    log_q0 = proposal.log_prob(z0)
    log_w0 = log_lik0 + model.log_prior(z0) - log_q0
    return Weighted(z, log_lik, log_w, z0, log_lik0, log_w0, log_q0)


def sandwich(weighted: Weighted) -> tuple[Tensor, Tensor]:
    """Per-sample integrands of L_K and U_K, each of the shape of ``log_lik0``."""
    log_sum = torch.logsumexp(weighted.log_w, 0)
    k = len(weighted.log_w)
    upper = weighted.log_lik0 - log_sum + math.log(k)
    log_sum = torch.logaddexp(log_sum, weighted.log_w0)
    lower = weighted.log_lik0 - log_sum + math.log(k + 1)
    return lower, upper


def smoothing(weighted: Weighted) -> tuple[Tensor, Tensor]:
    """Functions of a joint draw and its proposals that have mean zero, exactly.

    Given the set {z0, z_1, .., z_K}, each of them is the one that x came from with
    probability proportional to its weight. So the weighted mean of any g over the set
    has the expectation of g(z0): Rao-Blackwell.

    Parameters
    ----------
    weighted : Weighted
        Joint draws of shape (n,) and independent, identically distributed proposals.

    Returns
    -------
    correction : Tensor of shape (n,)
        To be added to log p(x|z0): it becomes the weighted mean of log p(x|z).
    controls : Tensor of shape (n, 2 d)
        Weighted means of z and z^2 - 1, whose means are the prior's: zero.
    """
    log_w = torch.cat([weighted.log_w0.unsqueeze(0), weighted.log_w])
    weights = torch.softmax(log_w, 0)
    log_lik = torch.cat([weighted.log_lik0.unsqueeze(0), weighted.log_lik])
    z = torch.cat([weighted.z0.unsqueeze(0), weighted.z])
    moments = torch.cat([z, z.square() - 1], -1)
    controls = (weights.unsqueeze(-1) * moments).sum(0)
    return (weights * log_lik).sum(0) - weighted.log_lik0, controls


class PrecisionNormal(PrivateDistribution):
    """Normal distribution given by the Cholesky factor of its precision matrix."""

    has_rsample = False

    def __init__(self, loc: Tensor, factor: Tensor):
        self.loc, self.factor = loc, factor
        super().__init__(loc.shape[:-1], loc.shape[-1:])

    def log_prob(self, value):
        """Log-density."""
        e = ((value - self.loc).unsqueeze(-2) @ self.factor).squeeze(-2)
        log_det = self.factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return log_det - 0.5 * e.square().sum(-1) - e.shape[-1] * LOG_SQRT_2PI

    def sample(self, sample_shape=(), generator=None):
        """Draw."""
        shape = (*self.loc.shape, math.prod(sample_shape))
        noise = torch.empty(shape, dtype=self.loc.dtype, device=self.loc.device)
        noise.normal_(generator=generator)
        e = torch.linalg.solve_triangular(self.factor.mT, noise, upper=True)
        return self.loc + e.movedim(-1, 0).unflatten(0, tuple(sample_shape))


class Mixture(PrivateDistribution):
    """Mixture of distributions over the same event, drawn independently each time."""

    has_rsample = False

    def __init__(self, shares: list[float], components: list[Distribution]):
        self.shares, self.components = shares, components
        super().__init__(components[0].batch_shape, components[0].event_shape)

    def log_prob(self, value):
        """Log-density."""
        parts = [
            math.log(share) + component.log_prob(value)
            for share, component in zip(self.shares, self.components, strict=True)
        ]
        return torch.logsumexp(torch.stack(parts), 0)

    def sample(self, sample_shape=(), generator=None):
        """Draw."""
        z = draw(self.components[0], sample_shape, generator, reparametrised=False)
        u = torch.empty((*z.shape[:-1], 1), dtype=z.dtype, device=z.device)
        u.uniform_(generator=generator)
        passed = self.shares[0]
        for share, component in zip(self.shares[1:], self.components[1:], strict=True):
            other = draw(component, sample_shape, generator, reparametrised=False)
            z = torch.where(u < passed, z, other.expand_as(z))
            passed += share
        return z


# shares of the mixture: where the posterior looks normal around its mode, wherever
# r_omega says, and everywhere (which bounds the weights)
LOCAL, AMORTISED, DEFENSIVE = 0.75, 0.2, 0.05
# a proposal should be a little wider than its target
INFLATION = 1.2
FISHER_STEPS = 5


def _prior_of(z: Tensor) -> DiagonalNormal:
    return DiagonalNormal(torch.zeros_like(z), z.new_zeros(z.shape[-1]))


def amortised_proposal(model: LatentVariableModel, x: Tensor) -> Mixture:
    """r_omega(z|x) with a share of the prior, for x of any leading shape."""
    r = model.r(x)
    return Mixture([1 - DEFENSIVE, DEFENSIVE], [r, _prior_of(r.loc)])


@torch.no_grad()
def local_proposal(model: LatentVariableModel, x: Tensor) -> Mixture:
    """Proposal around the posterior mode of each row, found from r_omega's mean.

    Fisher scoring climbs to the mode of p(z|x); the posterior is taken to be normal
    there, with precision I + J'J, J the whitened Jacobian of the likelihood.
    """
    r = model.r(x)
    z = r.loc
    if model.likelihood.whitened_jacobian(z[:1]) is None:
        return amortised_proposal(model, x)
    identity = torch.eye(z.shape[-1], dtype=z.dtype, device=z.device)

    def precision_factor(z):
        jacobian = model.likelihood.whitened_jacobian(z)
        return torch.linalg.cholesky(jacobian.mT @ jacobian + identity)

    stride = z.new_tensor([0.0, 0.1, 0.25, 0.5, 1.0])[:, None, None]
    for _ in range(FISHER_STEPS):
        with torch.enable_grad():
            at = z.detach().requires_grad_()
            (slope,) = torch.autograd.grad(model.log_joint(x, at).sum(), at)
        step = torch.cholesky_solve(slope.unsqueeze(-1), precision_factor(z))
        candidates = z + stride * step.squeeze(-1)
        best = model.log_joint(x, candidates).argmax(0)
        z = candidates[best, torch.arange(len(z), device=z.device)]
    local = PrecisionNormal(z, precision_factor(z) / INFLATION)
    return Mixture([LOCAL, AMORTISED, DEFENSIVE], [local, r, _prior_of(z)])


def regressed_mean(
    values: np.ndarray, controls: np.ndarray, n_folds: int = 5
) -> tuple[float, float]:
    """Mean of values with regressed control variates, and its standard error.

    The coefficients for a fold come from the other folds: fitted on the same samples
    they would bias the mean and flatter the standard error.

    Parameters
    ----------
    values : ndarray of shape (n,)
        Samples.
    controls : ndarray of shape (n, c)
        Controls of known mean zero.
    n_folds : int
        Number of folds.

    Returns
    -------
    mean, standard_error : float
        In the units of ``values``.
    """
    values, controls = np.asarray(values, float), np.asarray(controls, float)
    residuals = np.empty_like(values)
    fold = np.arange(len(values)) % n_folds
    for k in range(n_folds):
        inside, outside = fold == k, fold != k
        design = controls[outside] - controls[outside].mean(0)
        centred = values[outside] - values[outside].mean()
        coefficients = np.linalg.lstsq(design, centred, rcond=None)[0]
        residuals[inside] = values[inside] - controls[inside] @ coefficients
    return float(residuals.mean()), float(residuals.std(ddof=1) / len(values) ** 0.5)


@torch.no_grad()
def estimate_sandwich(
    model: LatentVariableModel,
    n_samples: int,
    n_proposals: int,
    generator: torch.Generator,
) -> dict[str, float]:
    """Estimate both bounds from fresh joint draws.

    Parameters
    ----------
    model : LatentVariableModel
        The model, in the precision and on the device to compute in.
    n_samples : int
        Joint draws (z0, x).
    n_proposals : int
        Proposals K for each.
    generator : torch.Generator
        Source of all draws.

    Returns
    -------
    dict
        ``lower``, ``upper``, ``lower_se``, ``upper_se`` in nats.
    """
    values, controls = [], []
    rows = max(1, DECODED_AT_ONCE // n_proposals)
    codes = torch.empty(
        (n_samples, model.n_components),
        dtype=model.reference.dtype,
        device=model.reference.device,
    ).normal_(generator=generator)
    for z0 in codes.split(rows):
        p = model.likelihood(z0)
        x = draw(p, (), generator, reparametrised=False)
        proposal = local_proposal(model, x)
        weighted = weigh(model, x, z0, p.log_prob(x), proposal, n_proposals, generator)
        correction, control = smoothing(weighted)
        lower, upper = sandwich(weighted)
        values.append(torch.stack([lower + correction, upper + correction]))
        controls.append(control)
    both = torch.cat(values, 1).double().cpu().numpy()
    regressors = torch.cat(controls).double().cpu().numpy()
    lower, lower_se = regressed_mean(both[0], regressors)
    upper, upper_se = regressed_mean(both[1], regressors)
    return {
        "lower": lower,
        "upper": upper,
        "lower_se": lower_se,
        "upper_se": upper_se,
    }
