"""The bounds, per sample: weights, sandwich, infomax, and variance reduction."""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from sklearn_mae.model import LOG_SQRT_2PI, LatentVariableModel, draw, log_prior

__all__ = [
    "Weighted",
    "control_variates",
    "correction",
    "infomax",
    "prior_draws",
    "prior_entropy",
    "sandwich",
    "weigh",
]

# codes decoded in one call: enough to keep a core busy, few enough to stay in cache
DECODED_AT_ONCE = 2_048


def prior_entropy(n_components: int) -> float:
    """H(z) of the prior N(0, I_d)."""
    return n_components * (LOG_SQRT_2PI + 0.5)


def prior_draws(
    model: LatentVariableModel, n: int, generator: torch.Generator
) -> Tensor:
    """Independent draws of codes from the prior, shape (n, d)."""
    z = model.reference.new_empty(n, model.n_components)
    return z.detach().normal_(generator=generator)


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
        Over z given x, independent of z0 given x.
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
    at_once = max(1, DECODED_AT_ONCE // z[0].shape[:-1].numel())
    log_lik = torch.cat(
        [model.likelihood(some).log_prob(x) for some in z.split(at_once)]
    )
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


def _posterior_weights(weighted: Weighted) -> Tensor:
    """Probability that x came from z0 and from each of z_1..z_K, (K + 1, ..)."""
    log_w = weighted.log_w.expand(-1, *weighted.log_w0.shape)
    return torch.softmax(torch.cat([weighted.log_w0.unsqueeze(0), log_w]), 0)


@torch.no_grad()
def correction(weighted: Weighted) -> Tensor:
    """Term of mean zero that reduces the variance of a bound's integrand.

    The term is added to the integrand. Given the set {z0, z_1, .., z_K}, x came from
    each of its codes with probability proportional to the code's weight. So the
    weighted mean of any g over the set has the expectation of g(z0): Rao-Blackwell.
    Here log p(x|z0) is replaced by the weighted mean of log p(x, z) + H(z), of which
    log p(z) + H(z) has mean zero.

    Parameters
    ----------
    weighted : Weighted
        Joint draws and independent, identically distributed proposals.

    Returns
    -------
    Tensor of the shape of ``log_lik0``
        The correction, without a gradient.
    """
    log_joint = weighted.log_lik + log_prior(weighted.z)
    log_joint = log_joint.expand(-1, *weighted.log_w0.shape)
    log_joint0 = (weighted.log_lik0 + log_prior(weighted.z0)).unsqueeze(0)
    log_joint = torch.cat([log_joint0, log_joint])
    smoothed = (_posterior_weights(weighted) * log_joint).sum(0)
    return smoothed + prior_entropy(weighted.z0.shape[-1]) - weighted.log_lik0


@torch.no_grad()
def control_variates(weighted: Weighted) -> Tensor:
    """Control variates: weighted means of polynomials whose prior means are zero.

    Parameters
    ----------
    weighted : Weighted
        Joint draws of shape (n,) and independent, identically distributed proposals.

    Returns
    -------
    Tensor of shape (n, c)
        Of z^2 - 1 and z, then z_i z_j and z^3 - 3 z.
    """
    weights = _posterior_weights(weighted)
    z = torch.cat([weighted.z0.unsqueeze(0), weighted.z])
    i, j = torch.triu_indices(z.shape[-1], z.shape[-1], 1, device=z.device)
    products = torch.einsum("kn,kni,knj->nij", weights, z, z)
    others = torch.cat([z.square() - 1, z, z**3 - 3 * z], -1)
    squares, means, cubes = torch.einsum("kn,kni->ni", weights, others).chunk(3, -1)
    return torch.cat([squares, means, products[:, i, j], cubes], -1)
