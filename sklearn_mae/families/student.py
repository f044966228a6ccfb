"""Columns of numbers with heavy tails: Student's t distribution given z."""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from sklearn_mae.families.base import FisherTerm
from sklearn_mae.families.gaussian import Gaussian
from sklearn_mae.model import PrivateDistribution

__all__ = ["IndependentStudentT", "Squashed", "StudentT"]

# least degrees of freedom: from here on there is a mean
LEAST_FREEDOM = 1.0
# what training starts from, above that
START = 4.0
# of a normal distribution: quartiles lie so many standard deviations apart
QUARTILES_APART = 1.349


class IndependentStudentT(PrivateDistribution):
    """Independent t-distributed columns.

    Parameters
    ----------
    loc : Tensor of shape (..., m)
        Locations, the means.
    log_scale : Tensor, broadcastable to ``loc``
        Logarithms of the scales.
    freedom : Tensor, broadcastable to ``loc``
        Degrees of freedom, above 1.
    """

    has_rsample = True

    def __init__(self, loc: Tensor, log_scale: Tensor, freedom: Tensor):
        self.loc, self.log_scale, self.freedom = loc, log_scale, freedom
        super().__init__(loc.shape[:-1], loc.shape[-1:])

    @property
    def mean(self):
        """Mean."""
        return self.loc

    @property
    def variance(self):
        """Variance, infinite up to two degrees of freedom."""
        ratio = self.freedom / (self.freedom - 2)
        ratio = torch.where(self.freedom > 2, ratio, torch.inf)
        return (torch.exp(2 * self.log_scale) * ratio).expand_as(self.loc)

    def entropy(self):
        """Differential entropy in nats."""
        half, rest = 0.5 * (self.freedom + 1), 0.5 * self.freedom
        spread = half * (torch.digamma(half) - torch.digamma(rest))
        log_beta = torch.lgamma(rest) + math.lgamma(0.5) - torch.lgamma(half)
        each = spread + 0.5 * self.freedom.log() + log_beta + self.log_scale
        return each.expand_as(self.loc).sum(-1)

    def entry_log_prob(self, value):
        """Log-density of each entry."""
        e = (value - self.loc) * torch.exp(-self.log_scale)
        half = 0.5 * (self.freedom + 1)
        constant = torch.lgamma(half) - torch.lgamma(0.5 * self.freedom)
        constant = constant - 0.5 * torch.log(math.pi * self.freedom) - self.log_scale
        return constant - half * torch.log1p(e.square() / self.freedom)

    def log_prob(self, value):
        """Log-density, summed over the columns."""
        return self.entry_log_prob(value).sum(-1)

    def rsample(self, sample_shape=(), generator=None):
        """Reparametrised draw: a normal one over the root of a gamma one."""
        shape = (*sample_shape, *self.loc.shape)
        noise = torch.randn(
            shape, generator=generator, dtype=self.loc.dtype, device=self.loc.device
        )
        half = (0.5 * self.freedom).expand(shape)
        # torch's gamma draws have gradients, and are never 0 but by underflow
        gamma = torch._standard_gamma(half, generator=generator)
        gamma = gamma.clamp_min(torch.finfo(gamma.dtype).tiny)
        return self.loc + torch.exp(self.log_scale) * noise * (half / gamma).sqrt()


class Squashed(nn.Module):
    """Features of columns with heavy tails: the inverse hyperbolic sine.

    Near 0 it is the value, far out the logarithm.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return features of shape (..., m)."""
        return torch.asinh(x)


class StudentT(Gaussian):
    """Columns with t distributions, each with a scale and degrees of freedom.

    Neither depends on z. The model sees columns centred at the median and in multiples
    of what the quartiles say of the standard deviation: moments would measure the
    tails. ``mean_`` and ``scale_`` are these two.
    """

    def fit(self, X: np.ndarray, names: Callable) -> "StudentT":
        """Learn medians and scales."""
        super().fit(X, names)
        low, self.mean_, high = np.nanquantile(X, [0.25, 0.5, 0.75], axis=0)
        scale = (high - low) / QUARTILES_APART
        # half of the entries or more may be equal
        self.scale_ = np.where(scale > 0, scale, self.scale_)
        # of what the encoder sees: a fourth moment would be that of the farthest rows
        seen = np.arcsinh(self.standardised(X))
        fourth = np.nanmean(seen**4, axis=0) / np.nanmean(seen**2, axis=0) ** 2
        self.support_ = (~np.isnan(X)).sum(axis=0) / fourth
        return self

    def features(self) -> nn.Module:
        """The encoder sees extreme values as near ones."""
        return Squashed()

    def shared(self) -> dict[str, Tensor]:
        """Log-scales and degrees of freedom, each before a floor bends it."""
        start = math.log(math.expm1(START))
        return {**super().shared(), "raw_freedom": torch.full_like(self._zeros, start)}

    @property
    def _zeros(self) -> Tensor:
        return torch.zeros(len(self.mean_))

    def distribution(  # type: ignore[override]
        self, outputs: Tensor, given: dict[str, Tensor]
    ) -> IndependentStudentT:
        """Return t distributions with the outputs for locations."""
        normal = super().distribution(outputs, given)
        freedom = LEAST_FREEDOM + softplus(given["raw_freedom"])
        return IndependentStudentT(outputs, normal.log_scale, freedom)

    def fisher_terms(self, p) -> list[FisherTerm]:
        """Of the locations."""
        ratio = (p.freedom + 1) / (p.freedom + 3)
        scale = (ratio.sqrt() * torch.exp(-p.log_scale)).expand_as(p.loc)
        return [FisherTerm(scale.unsqueeze(-1), p.loc.unsqueeze(-1))]
