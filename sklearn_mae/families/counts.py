"""Columns of counts: Poisson and negative binomial given z."""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from sklearn_mae.encoders import Standardised
from sklearn_mae.families.base import ColumnFamily
from sklearn_mae.families.categorical import TOO_LARGE
from sklearn_mae.families.gaussian import shown
from sklearn_mae.model import PrivateDistribution
from sklearn_mae.records import positive

__all__ = [
    "IndependentNegativeBinomial",
    "IndependentPoisson",
    "NegativeBinomial",
    "Poisson",
]

# Logarithms of rates are kept within this: no table holds counts of 1e13, and a code
# far from all others must not overflow.
LARGEST_LOG_RATE = 30.0
# Logarithms of r, which is the smaller the more a column varies. From exp(12) on its
# variance is the Poisson's but for a part in 100,000.
LOG_R = -6.0, 12.0


def _stirling_error(x: Tensor) -> Tensor:
    """Log x! less Stirling's approximation of it, for x > 0.

    By the series where x is large: there log x! itself has lost its decimals.
    """
    large = x.clamp_min(16.0)
    series = (1 / 12 - (1 / 360 - 1 / 1260 / large**2) / large**2) / large
    small = x.clamp_max(16.0)
    exact = torch.lgamma(small + 1) - (small + 0.5) * small.log() + small
    return torch.where(x > 16, series, exact - 0.5 * math.log(2 * math.pi))


def _deviance(x: Tensor, log_ratio: Tensor) -> Tensor:
    """Half the Poisson deviance of x > 0 at a mean m, from log(x / m)."""
    return x * (log_ratio + torch.expm1(-log_ratio))


class IndependentPoisson(PrivateDistribution):
    """Independent Poisson columns."""

    has_rsample = False

    def __init__(self, log_rate):
        self.log_rate = log_rate
        super().__init__(log_rate.shape[:-1], log_rate.shape[-1:])

    @property
    def mean(self):
        """Rates."""
        return self.log_rate.exp()

    @property
    def variance(self):
        """Rates, too."""
        return self.mean

    @property
    def mode(self):
        """Most probable counts; of two, the larger."""
        return self.mean.floor()

    def entry_log_prob(self, value):
        """Log-probability of each entry."""
        x = value.clamp_min(1.0)
        log_x = x.log()
        of_some = -_deviance(x, log_x - self.log_rate) - _stirling_error(x)
        of_some = of_some - 0.5 * (log_x + math.log(2 * math.pi))
        return torch.where(value > 0, of_some, -self.mean)

    def log_prob(self, value):
        """Log-probability, summed over the columns."""
        return self.entry_log_prob(value).sum(-1)

    def sample(self, sample_shape=(), generator=None):
        """Draw counts."""
        rate = self.mean.detach().expand(*sample_shape, *self.log_rate.shape)
        return _poisson(rate, generator)


def _poisson(rate: Tensor, generator) -> Tensor:
    # a diverged model's NaN is to be reported, not to raise
    x = torch.poisson(rate.nan_to_num(0.0), generator=generator)
    return torch.where(rate.isnan(), rate, x)


class IndependentNegativeBinomial(PrivateDistribution):
    """Independent counts of mean m and variance m + m^2 / r.

    Parameters
    ----------
    log_mean : Tensor of shape (..., m)
    log_r : Tensor, broadcastable to ``log_mean``
        Logarithm of the number r.
    """

    has_rsample = False

    def __init__(self, log_mean, log_r):
        self.log_mean, self.log_r = log_mean, log_r
        super().__init__(log_mean.shape[:-1], log_mean.shape[-1:])

    @property
    def mean(self):
        """Means."""
        return self.log_mean.exp()

    @property
    def variance(self):
        """Variances."""
        return self.mean + self.mean.square() * torch.exp(-self.log_r)

    @property
    def mode(self):
        """Most probable counts; of two, the larger."""
        return (self.mean * (1 - torch.exp(-self.log_r))).floor().clamp_min(0.0)

    def entry_log_prob(self, value):
        """Log-probability of each entry.

        As r / (r + x) times the probability of r successes in r + x trials, by
        deviances (Loader 2000): differences of log-gammas lose their decimals.
        """
        r, log_mean = self.log_r.exp(), self.log_mean
        log_total = torch.logaddexp(self.log_r, log_mean)
        x = value.clamp_min(1.0)
        n = r + x
        log_n, log_x = n.log(), x.log()
        # r and x beside n r / (r + m) and n m / (r + m)
        of_r = _deviance(r, log_total - log_n)
        of_x = _deviance(x, log_x - log_n + log_total - log_mean)
        errors = _stirling_error(n) - _stirling_error(r) - _stirling_error(x)
        normal = 0.5 * (self.log_r - log_n - log_x - math.log(2 * math.pi))
        of_none = -r * torch.log1p(torch.exp(log_mean - self.log_r))
        return torch.where(value > 0, errors - of_r - of_x + normal, of_none)

    def log_prob(self, value):
        """Log-probability, summed over the columns."""
        return self.entry_log_prob(value).sum(-1)

    def sample(self, sample_shape=(), generator=None):
        """Draw counts: Poisson ones, whose rates are gamma."""
        shape = (*sample_shape, *self.log_mean.shape)
        r = self.log_r.detach().exp().expand(shape)
        # (what torch's Gamma draws with, and hands no generator)
        gamma = torch._standard_gamma(r.contiguous(), generator=generator)
        return _poisson(gamma * (self.mean.detach() / r), generator)


class LogCounts(nn.Module):
    """Features of counts: log(1 + x), standardised."""

    def __init__(self, mean, scale):
        super().__init__()
        self.standardised = Standardised(mean, scale)

    def forward(self, x: Tensor) -> Tensor:
        """Return features of shape (..., m)."""
        return self.standardised(torch.log1p(x))


class Poisson(ColumnFamily):
    """Columns of counts, Poisson given z.

    The decoder's outputs are logarithms of rates, over the columns' mean rates.

    Attributes
    ----------
    mean_, variance_ : ndarray of shape (m,)
        Of the counts.
    log_mean_, log_scale_ : ndarray of shape (m,)
        Means and standard deviations of log(1 + x).
    """

    discrete = True
    state = ("mean_", "variance_", "log_mean_", "log_scale_")

    def check(self, X: np.ndarray, names: Callable) -> None:
        """Refuse what is no count."""
        wrong = (X < 0) | (X != np.floor(X)) | (X >= TOO_LARGE)
        if wrong.any():
            # scikit-learn's wording
            negative = "Negative values in data: " if (X < 0).any() else ""
            raise ValueError(
                f"{negative}X holds values that are no counts: column(s) "
                f"{names(wrong.any(axis=0))}, for example {shown(X[wrong][0])}. "
                "likelihood='poisson' and 'negative_binomial' need non-negative "
                "integers below 2**53. Round or drop such columns, or use "
                "likelihood='gaussian'."
            )

    def fit(self, X: np.ndarray, names: Callable) -> "Poisson":
        """Learn moments."""
        logs = np.log1p(X)
        self.mean_, self.variance_ = X.mean(axis=0), X.var(axis=0)
        self.log_mean_, self.log_scale_ = logs.mean(axis=0), logs.std(axis=0)
        return self

    def read(self, state: dict, m: int) -> None:
        """Set the moments."""
        for name in self.state:
            setattr(self, name, positive(state[name], (m,), name))

    def describe(self, tags) -> None:
        """Tables of no negative entries."""
        tags.positive_only = True

    @property
    def n_columns(self) -> int:
        """Number of columns."""
        return len(self.mean_)

    @property
    def n_inputs(self) -> int:
        """One for each column."""
        return len(self.mean_)

    @property
    def n_outputs(self) -> int:
        """One for each column."""
        return len(self.mean_)

    def features(self) -> nn.Module:
        """Logarithms, standardised."""
        return LogCounts(self.log_mean_, self.log_scale_)

    def constants(self, min_scale) -> dict[str, Tensor]:
        """Logarithms of the columns' means."""
        return {"log_mean": torch.as_tensor(self.mean_, dtype=torch.float64).log()}

    def log_rate(self, outputs: Tensor, given: dict[str, Tensor]) -> Tensor:
        """Logarithms of rates, within bounds."""
        log_rate = given["log_mean"] + outputs
        return log_rate.clamp(-LARGEST_LOG_RATE, LARGEST_LOG_RATE)

    def distribution(
        self, outputs: Tensor, given: dict[str, Tensor]
    ) -> PrivateDistribution:
        """Return Poisson distributions."""
        return IndependentPoisson(self.log_rate(outputs, given))

    def point(self, p) -> Tensor:
        """Most probable counts."""
        return p.mode

    def fisher_terms(self, p) -> list[tuple[Tensor, Tensor]]:
        """Of the logarithms of the rates."""
        return [((0.5 * p.log_rate).exp(), p.log_rate)]


class NegativeBinomial(Poisson):
    """Columns of counts that vary more than Poisson ones, each with an r of its own."""

    def constants(self, min_scale) -> dict[str, Tensor]:
        """Add the logarithms of r that the columns' variances ask for."""
        excess = np.maximum(self.variance_ - self.mean_, 1e-3 * self.mean_)
        log_r = torch.as_tensor(self.mean_**2 / excess, dtype=torch.float64).log()
        return {**super().constants(min_scale), "first_log_r": log_r}

    def shared(self) -> dict[str, Tensor]:
        """What is learned of log r beyond its start."""
        return {"raw_log_r": torch.zeros(len(self.mean_))}

    def distribution(
        self, outputs: Tensor, given: dict[str, Tensor]
    ) -> PrivateDistribution:
        """Return negative binomial distributions."""
        log_r = (given["first_log_r"] + given["raw_log_r"]).clamp(*LOG_R)
        log_mean = self.log_rate(outputs, given)
        return IndependentNegativeBinomial(log_mean, log_r)

    def fisher_terms(self, p) -> list[tuple[Tensor, Tensor]]:
        """Of the logarithms of the means."""
        log_weight = p.log_mean + p.log_r - torch.logaddexp(p.log_mean, p.log_r)
        return [((0.5 * log_weight).exp(), p.log_mean)]
