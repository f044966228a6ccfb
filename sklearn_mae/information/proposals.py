"""Proposals for a trained model: a mixture around each row's posterior mode."""

import math
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from sklearn_mae.model import (
    LOG_SQRT_2PI,
    LatentVariableModel,
    PrivateDistribution,
    Rows,
    draw,
    transport,
)

__all__ = [
    "Mixture",
    "PrecisionNormal",
    "amortised_proposal",
    "local_proposal",
    "posterior_normal",
    "wary_proposal",
]


class PrecisionNormal(PrivateDistribution):
    """Normal distribution given by the Cholesky factor of its precision matrix."""

    has_rsample = False

    def __init__(self, loc: Tensor, factor: Tensor):
        self.loc, self.factor = loc, factor
        super().__init__(loc.shape[:-1], loc.shape[-1:])

    @property
    def mean(self):
        """Mean of the distribution."""
        return self.loc

    def log_prob(self, value):
        """Log-density."""
        # draws of one row share its factor: einsum does not copy it for each of them
        e = torch.einsum("...i,...ij->...j", value - self.loc, self.factor)
        log_det = self.factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return log_det - 0.5 * e.square().sum(-1) - e.shape[-1] * LOG_SQRT_2PI

    def sample(self, sample_shape=(), generator=None):
        """Draw."""
        shape = (*self.loc.shape, math.prod(sample_shape))
        noise = torch.empty(shape, dtype=self.loc.dtype, device=self.loc.device)
        noise.normal_(generator=generator)
        e = torch.linalg.solve_triangular(self.factor.mT, noise, upper=True)
        return self.loc + e.movedim(-1, 0).unflatten(0, tuple(sample_shape))

    def transport(self, noise: Tensor) -> Tensor:
        """Map standard normal noise (S, ..., d) to draws, of several axes S, too."""
        sizes = noise.shape[: noise.dim() - self.loc.dim()]
        e = noise.expand(*sizes, *self.loc.shape).reshape(-1, *self.loc.shape)
        e = torch.linalg.solve_triangular(self.factor.mT, e.movedim(0, -1), upper=True)
        return self.loc + e.movedim(-1, 0).unflatten(0, sizes)


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

    def transport(self, noise: Tensor) -> Tensor:
        """Map standard normal noise (S, ..., d) to draws, each part's share of them."""
        ends = [round(len(noise) * end) for end in accumulate(self.shares)]
        starts = [0, *ends[:-1]]
        parts = zip(self.components, starts, ends, strict=True)
        draws: list[Any] = [
            transport(part, noise[start:end]) for part, start, end in parts
        ]
        shape = self.batch_shape + self.event_shape
        return torch.cat([z.expand(len(z), *shape) for z in draws])


# Shares of the mixture: a normal around the posterior mode, r_omega, and the prior. The
# prior's share bounds the weights wherever p(x|z) is bounded.
LOCAL, AMORTISED, DEFENSIVE = 0.6, 0.35, 0.05
# of a normal around the mode, where little is known of r_omega
WARY_LOCAL = 0.5
# A proposal should be a little wider than its target. What that costs grows with d.
INFLATION = 0.2
# Scoring steps from r_omega's mean. More of them narrow no bracket.
STEPS = 2


def amortised_proposal(model: LatentVariableModel, x: Rows) -> Mixture:
    """r_omega(z|x) with a share of the prior, for x of any leading shape."""
    r = model.r(x)
    return Mixture([1 - DEFENSIVE, DEFENSIVE], [r, model.prior.wide(r.loc)])


def inflation(n_components: int) -> float:
    """Width of a local proposal, in units of the posterior's at its mode."""
    return 1 + INFLATION / max(1.0, n_components / 8) ** 0.5


def _observed_precision(model: LatentVariableModel, x: Rows, z: Tensor):
    """Minus the Hessian of log p(x, z) in z, made positive definite.

    Away from a mode some curvatures may be negative: each is replaced by its absolute
    value, and by 1 where that is smaller. 1 is the prior's curvature, which a Fisher
    information can only add to. None where log p is not twice differentiable.
    """
    try:
        with torch.enable_grad():
            at = z.detach().requires_grad_()
            log_joint = model.log_joint(x, at).sum()
            (slope,) = torch.autograd.grad(log_joint, at, create_graph=True)
            rows = [
                torch.autograd.grad(along.sum(), at, retain_graph=True)[0]
                for along in slope.unbind(-1)
            ]
        curvature, directions = torch.linalg.eigh(-torch.stack(rows, -2).double())
    except RuntimeError:  # not twice differentiable, or not finite
        return None
    curvature = curvature.abs().clamp_min(1.0)
    return (directions * curvature.unsqueeze(-2)) @ directions.mT


def _precision_factor(model: LatentVariableModel, x: Rows, z: Tensor):
    """Cholesky factor of the posterior's precision, were it normal around z."""
    fisher = model.likelihood.fisher_information(z, x)
    if fisher is None:
        precision = _observed_precision(model, x, z)
        if precision is None:
            return None
    else:
        # a small noise's square leaves no room for the prior's in single precision
        precision = fisher.double() + model.prior.precision(z)
    # a diverged model's factor is NaN, not an error
    return torch.linalg.cholesky_ex(precision).L.to(z)


@torch.no_grad()
def posterior_normal(
    model: LatentVariableModel, x: Rows, start: Tensor
) -> PrecisionNormal | None:
    """Normal distribution around the posterior mode of each row, found from a start.

    Fisher scoring climbs to the mode of p(z|x); the posterior is taken to be normal
    there, with precision I + F, F the Fisher information of x about z. Where a
    likelihood does not state its Fisher information, log p(x, z) is differentiated
    twice instead. None where that fails.
    """
    z = start
    factor = _precision_factor(model, x, z)
    if factor is None:
        return None
    stride = z.new_tensor([0.0, 0.1, 0.25, 0.5, 1.0])[:, None, None]
    for _ in range(STEPS):
        with torch.enable_grad():
            at = z.detach().requires_grad_()
            (slope,) = torch.autograd.grad(model.log_joint(x, at).sum(), at)
        # the precision at the start is kept: the line search makes up for it
        step = torch.cholesky_solve(slope.unsqueeze(-1), factor)
        candidates = z + stride * step.squeeze(-1)
        best = model.log_joint(x, candidates).argmax(0)
        z = candidates[best, torch.arange(len(z), device=z.device)]
    factor = _precision_factor(model, x, z)
    return None if factor is None else PrecisionNormal(z, factor)


def local_proposal(model: LatentVariableModel, x: Rows) -> Mixture:
    """Proposal around the posterior mode of each row, found from r_omega's mean.

    Where no normal distribution is found there, r_omega proposes.
    """
    r = model.r(x)
    normal = posterior_normal(model, x, r.loc)
    if normal is None:
        return amortised_proposal(model, x)
    z = normal.loc
    local = PrecisionNormal(z, normal.factor / inflation(z.shape[-1]))
    return Mixture([LOCAL, AMORTISED, DEFENSIVE], [local, r, model.prior.wide(z)])


def wary_proposal(model: LatentVariableModel, x: Rows) -> Mixture:
    """Proposal for rows whose pattern of observed entries r_omega may not know.

    Like ``local_proposal``, with larger shares of what does not rest on r_omega.
    """
    components = local_proposal(model, x).components
    shares = [WARY_LOCAL] * (len(components) > 2)
    others = len(components) - len(shares)
    return Mixture([*shares, *[(1 - sum(shares)) / others] * others], components)
