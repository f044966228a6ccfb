"""The bounds, per sample: weights, sandwich, infomax, and variance reduction."""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from sklearn_mae.model import (
    LatentVariableModel,
    Prior,
    Rows,
    draw,
    without_underflow,
)

__all__ = [
    "Weighted",
    "control_variates",
    "correction",
    "infomax",
    "sandwich",
    "weigh",
]

# codes decoded in one call: enough to keep a core busy, few enough to stay in cache
DECODED_AT_ONCE = 2_048


def infomax(r: Distribution, z0: Tensor, prior: Prior) -> Tensor:
    """Per-sample infomax bound H(z) + log r_omega(z0|x) (eq. 7)."""
    return prior.entropy + r.log_prob(z0)


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
    x: Rows,
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
    x : Rows
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
    log_lik = torch.cat([model.log_lik(x, some) for some in z.split(at_once)])
    log_w = log_lik + model.prior.log_prob(z) - proposal.log_prob(z)
    log_q0 = proposal.log_prob(z0)
    log_w0 = log_lik0 + model.prior.log_prob(z0) - log_q0
    return Weighted(z, log_lik, log_w, z0, log_lik0, log_w0, log_q0)


def sandwich(weighted: Weighted) -> tuple[Tensor, Tensor]:
    """Per-sample integrands of L_K and U_K, each of the shape of ``log_lik0``."""
    log_sum = torch.logsumexp(without_underflow(weighted.log_w, 0), 0)
    k = len(weighted.log_w)
    upper = weighted.log_lik0 - log_sum + math.log(k)
    both = torch.stack(torch.broadcast_tensors(log_sum, weighted.log_w0))
    log_sum = torch.logsumexp(without_underflow(both, 0), 0)
    lower = weighted.log_lik0 - log_sum + math.log(k + 1)
    return lower, upper


def _posterior_weights(weighted: Weighted) -> Tensor:
    """Probability that x came from z0 and from each of z_1..z_K, (K + 1, ..)."""
    log_w = weighted.log_w.expand(-1, *weighted.log_w0.shape)
    return torch.softmax(torch.cat([weighted.log_w0.unsqueeze(0), log_w]), 0)


@torch.no_grad()
def correction(weighted: Weighted, prior: Prior) -> Tensor:
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
    prior : Prior
        Of the codes.

    Returns
    -------
    Tensor of the shape of ``log_lik0``
        The correction, without a gradient.
    """
    log_joint = weighted.log_lik + prior.log_prob(weighted.z)
    log_joint = log_joint.expand(-1, *weighted.log_w0.shape)
    log_joint0 = (weighted.log_lik0 + prior.log_prob(weighted.z0)).unsqueeze(0)
    log_joint = torch.cat([log_joint0, log_joint])
    smoothed = (_posterior_weights(weighted) * log_joint).sum(0)
    return smoothed + prior.entropy - weighted.log_lik0


@torch.no_grad()
def control_variates(weighted: Weighted, prior: Prior) -> Tensor:
    """Control variates: posterior means of functions whose prior means are zero.

    Parameters
    ----------
    weighted : Weighted
        Joint draws of shape (n,) and independent, identically distributed proposals.
    prior : Prior
        Of the codes.

    Returns
    -------
    Tensor of shape (n, c)
        See ``Prior.controls``.
    """
    z = torch.cat([weighted.z0.unsqueeze(0), weighted.z])
    return prior.controls(_posterior_weights(weighted), z)
