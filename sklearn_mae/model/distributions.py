"""Distributions that draw from a generator they are given, and how to draw at all."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.distributions import (
    Distribution,
    Independent,
    MultivariateNormal,
    Normal,
    TransformedDistribution,
)

from sklearn_mae.model.torch_state import private_random

__all__ = [
    "LOG_SQRT_2PI",
    "DiagonalNormal",
    "PrivateDistribution",
    "draw",
    "normal_of",
    "transport",
]

LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)


class PrivateDistribution(Distribution):
    """A Distribution that draws from a generator it is given.

    torch's own Distributions take no generator and validate their arguments at every
    construction, which would cost more than the arithmetic of a small network.

    Attributes
    ----------
    partly_reparametrised : bool
        Whether ``rsample`` reparametrises some entries, though not all.
    """

    arg_constraints: dict = {}  # noqa: RUF012
    partly_reparametrised = False

    def __init__(self, batch_shape, event_shape):
        super().__init__(batch_shape, event_shape, validate_args=False)

    def sample(self, sample_shape=(), generator=None):
        """Draw without a gradient."""
        with torch.no_grad():
            return self.rsample(sample_shape, generator)

    def transport(self, noise: Tensor) -> Tensor | None:
        """Map standard normal noise to a draw; None: there is no such map."""
        return None

    def of_pattern(self, observed: Tensor) -> "PrivateDistribution":
        """Return that of rows of which only these entries (..., D) are seen.

        The same where entries are independent.
        """
        return self


class DiagonalNormal(PrivateDistribution):
    """Normal distribution with independent components along the last axis.

    Parameters
    ----------
    loc : Tensor of shape (..., d)
    log_scale : Tensor, broadcastable to ``loc``
        Logarithm of the standard deviations.
    """

    has_rsample = True

    def __init__(self, loc: Tensor, log_scale: Tensor):
        self.loc, self.log_scale = loc, log_scale
        super().__init__(loc.shape[:-1], loc.shape[-1:])

    @property
    def mean(self):
        """Mean."""
        return self.loc

    def entry_log_prob(self, value):
        """Log-density of each entry."""
        e = (value - self.loc) * torch.exp(-self.log_scale)
        return -0.5 * e.square() - self.log_scale - LOG_SQRT_2PI

    def log_prob(self, value):
        """Log-density, summed over the last axis."""
        e = (value - self.loc) * torch.exp(-self.log_scale)
        log_scale = self.log_scale.sum(-1)
        return -0.5 * e.square().sum(-1) - log_scale - self._constant

    def entropy(self):
        """Differential entropy in nats."""
        return self.log_scale.expand_as(self.loc).sum(-1) + (
            self._constant + 0.5 * self.loc.shape[-1]
        )

    @property
    def _constant(self):
        return self.loc.shape[-1] * LOG_SQRT_2PI

    def rsample(self, sample_shape=(), generator=None):
        """Reparametrised draw."""
        shape = (*sample_shape, *self.loc.shape)
        return self.transport(
            torch.randn(
                shape,
                generator=generator,
                dtype=self.loc.dtype,
                device=self.loc.device,
            )
        )

    def transport(self, noise):
        """Map standard normal noise to a draw."""
        return self.loc + torch.exp(self.log_scale) * noise


def normal_of(numbers: Tensor) -> DiagonalNormal:
    """Normal whose d means and d log-scales a network gave, shape (..., 2 d)."""
    mean, log_scale = numbers.chunk(2, -1)
    # a row far outside the training data must not overflow to NaN
    return DiagonalNormal(mean, log_scale.clamp(-12.0, 4.0))


def draw(
    distribution: Distribution, sample_shape=(), generator=None, reparametrised=True
) -> Any:
    """Draw with a private generator, whoever wrote the Distribution.

    Returns a Tensor, or ``Rows`` of a distribution over rows.
    """
    partly = getattr(distribution, "partly_reparametrised", False)
    differentiable = reparametrised and (distribution.has_rsample or partly)
    method = getattr(distribution, "rsample" if differentiable else "sample")
    if isinstance(distribution, PrivateDistribution):
        return method(sample_shape, generator)
    seed = torch.randint(2**62, (), generator=generator, device=generator.device)
    with private_random(int(seed)):
        return method(torch.Size(sample_shape))


def transport(distribution: Distribution, noise: Tensor) -> Tensor | None:
    """Map standard normal noise to a draw, deterministically.

    Quasi-random and row-keyed draws need it. Returns None for a family that has no
    such map.
    """
    match distribution:
        case PrivateDistribution():
            return distribution.transport(noise)
        case Independent():
            return transport(distribution.base_dist, noise)
        case Normal():
            return distribution.loc + distribution.scale * noise
        case MultivariateNormal():
            scaled = distribution.scale_tril @ noise.unsqueeze(-1)
            return distribution.loc + scaled.squeeze(-1)
        case TransformedDistribution():
            z = transport(distribution.base_dist, noise)
            for step in distribution.transforms:
                z = None if z is None else step(z)
            return z
    try:
        return distribution.icdf(torch.special.ndtr(noise))
    except NotImplementedError:
        return None
