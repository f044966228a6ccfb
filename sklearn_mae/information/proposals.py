"""Proposals for a trained model: a mixture around each row's posterior mode."""

import math

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

__all__ = ["Mixture", "PrecisionNormal", "amortised_proposal", "local_proposal"]


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
LOCAL, AMORTISED, DEFENSIVE = 0.6, 0.35, 0.05
# a proposal should be a little wider than its target
INFLATION = 1.2
# from r_omega's mean; more of them narrow no bracket
FISHER_STEPS = 2


def _prior_of(z: Tensor) -> DiagonalNormal:
    return DiagonalNormal(torch.zeros_like(z), z.new_zeros(z.shape[-1]))


def amortised_proposal(model: LatentVariableModel, x: Tensor) -> Mixture:
    """r_omega(z|x) with a share of the prior, for x of any leading shape."""
    r = model.posterior(model.features(x))  # built in, so with a loc
    return Mixture([1 - DEFENSIVE, DEFENSIVE], [r, _prior_of(r.loc)])


@torch.no_grad()
def local_proposal(model: LatentVariableModel, x: Tensor) -> Mixture:
    """Proposal around the posterior mode of each row, found from r_omega's mean.

    Fisher scoring climbs to the mode of p(z|x); the posterior is taken to be normal
    there, with precision I + J'J, J the whitened Jacobian of the likelihood.
    """
    r = model.posterior(model.features(x))  # built in, so with a loc
    z = r.loc
    if model.likelihood.whitened_jacobian(z[:1]) is None:
        return amortised_proposal(model, x)
    identity = torch.eye(z.shape[-1], dtype=torch.float64, device=z.device)

    def precision_factor(z):
        # a small noise's square leaves no room for the identity in single precision;
        # a diverged model's factor is NaN, not an error
        jacobian = model.likelihood.whitened_jacobian(z).double()
        precision = jacobian.mT @ jacobian + identity
        return torch.linalg.cholesky_ex(precision).L.to(z)

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
