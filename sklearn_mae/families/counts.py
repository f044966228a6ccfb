"""Columns of counts: non-negative integers without an upper limit.

Their log-probabilities are differences of numbers that grow with the counts. So they
are computed in double precision and in Loader's form (2000): the deviance, 0 where the
mean is the count, plus what does not depend on the mean. Neither loses digits where
counts, or a size r, are large.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, softplus

from sklearn_mae.encoders import Standardised
from sklearn_mae.families.base import FisherTerm
from sklearn_mae.families.categorical import TOO_LARGE, no_whole_numbers
from sklearn_mae.families.gaussian import Numeric, shown
from sklearn_mae.model import LOG_SQRT_2PI, PrivateDistribution
from sklearn_mae.records import positive

__all__ = [
    "IndependentNegativeBinomial",
    "IndependentPoisson",
    "LogStandardised",
    "NegativeBinomial",
    "Poisson",
]

# The largest count that float32 holds, too. Draws and modes end here: X may hold them.
LARGEST = float(TOO_LARGE - 2**29)
# No count has a larger mean, and its square is within the range of float32: a code far
# from all others costs many nats, and overflows nothing.
MAX_LOG_RATE = math.log(LARGEST)
# No mean exceeds this many times the largest count of its column in the fit: no row
# would be the likelier for it. Codes that hardly any row has may be decoded to
# anything. Log-probabilities there, and the noise of gradients through draws, grow with
# the means: without this limit training diverged.
BEYOND = 10.0
# From this rate on a Poisson distribution is a normal one to 1e-11 nats, while exact
# methods lose digits, and those of CUDA leave the range of their integers.
NORMAL_FROM = 2.0**30
# Stirling's series is as exact as float64 from here on.
STIRLING_FROM = 15.0
# Least excess of a column's variance over its mean, as a part of the mean, that a size
# is started from. Without excess it would be infinite and could not be learned.
LEAST_EXCESS = 0.01
# From so many columns on, rows of which less than such a part of the counts is positive
# are summed by these counts.
WIDE, FEW = 1_024, 0.25
# From this part of its mean on a count's variance is worth a word.
OVERDISPERSED = 2.0


def _stirling(a: Tensor) -> Tensor:
    """What log Gamma(a) is above (a - 1/2) log a - a + log(2 pi) / 2."""
    small, large = a.clamp_max(STIRLING_FROM), a.clamp_min(STIRLING_FROM)
    direct = torch.lgamma(small) - (small - 0.5) * small.log() + small - LOG_SQRT_2PI
    square = large.square()
    series = 1 / 1260 - 1 / 1680 / square
    series = (1 / 12 - (1 / 360 - series / square) / square) / large
    return torch.where(a < STIRLING_FROM, direct, series)


def _poisson(rate: Tensor, generator) -> Tensor:
    """Draw Poisson counts.

    Rates that are NaN, of a diverged model, give 0: it is to be reported, not to raise.
    """
    rate = rate.nan_to_num(0.0)
    noise = torch.empty_like(rate, memory_format=torch.contiguous_format)
    noise.normal_(generator=generator)
    few = torch.poisson(rate.clamp_max(NORMAL_FROM), generator)
    many = noise.mul_(rate.sqrt()).add_(rate).round_()  # (in place: rows may be wide)
    return torch.where(rate < NORMAL_FROM, few, many).clamp_(max=LARGEST)


class IndependentPoisson(PrivateDistribution):
    """Independent Poisson columns.

    Parameters
    ----------
    log_rate : Tensor of shape (..., m)
        Logarithms of the means.
    """

    has_rsample = False

    def __init__(self, log_rate: Tensor):
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
        """Most probable counts, the larger one where two are equally probable."""
        return self.mean.floor()

    def entry_log_prob(self, value):
        """Log-probability of each entry."""
        x, given = value.double(), [each.double() for each in self._given]
        log_prob = torch.where(x > 0, self._of_some(x, *given), self._of_none(*given))
        return log_prob.to(self.log_rate)

    @property
    def _given(self) -> tuple[Tensor, ...]:
        """What the probabilities of a count depend on."""
        return (self.log_rate,)

    def _of_none(self, log_rate):
        """Log-probability of 0."""
        return -log_rate.exp()

    def _of_some(self, x, log_rate):
        """Log-probability of positive counts; anything finite of others."""
        x = x.clamp_min(1.0)
        distance = log_rate - x.log()
        deviance = x * (torch.expm1(distance) - distance)
        return -deviance - 0.5 * x.log() - LOG_SQRT_2PI - _stirling(x)

    def log_prob(self, value):
        """Log-probability, summed over the columns."""
        m = self.log_rate.shape[-1:].numel()
        if m >= WIDE and value.dim() == 2 and value.shape == self.log_rate.shape[-2:]:
            some = value > 0
            if int(some.sum()) < FEW * some.numel():
                return self._log_prob_of_few(value, some)
        return self.entry_log_prob(value).sum(-1)

    def _log_prob_of_few(self, value, some):
        """The same of rows (n, m) with few positive counts, in less memory and time."""
        rows, columns = some.nonzero(as_tuple=True)
        log_rate, *others = self._given
        of_all = (each.expand(log_rate.shape) for each in self._given)
        picked = (each[..., rows, columns].double() for each in of_all)
        found = self._of_some(value[rows, columns].double(), *picked)
        # (a rate of 0 makes a count of 0 certain: those that are positive add nothing)
        log_rate = log_rate.masked_fill(some, -torch.inf).double()
        total = self._of_none(log_rate, *(each.double() for each in others)).sum(-1)
        return total.index_add(-1, rows, found).to(self.log_rate)

    def sample(self, sample_shape=(), generator=None):
        """Draw counts, of the rates' floating type."""
        rate = self.mean.detach()
        return _poisson(rate.expand(*sample_shape, *rate.shape), generator)


class IndependentNegativeBinomial(IndependentPoisson):
    """Independent negative binomial columns: Poisson ones whose rates are gamma.

    The variance is mu + mu^2 / r; for r to infinity they are Poisson.

    Parameters
    ----------
    log_rate : Tensor of shape (..., m)
        Logarithms of the means mu.
    log_size : Tensor, broadcastable to ``log_rate``
        Logarithms of the sizes r, the gamma distributions' shapes.
    """

    def __init__(self, log_rate: Tensor, log_size: Tensor):
        self.log_size = log_size
        super().__init__(log_rate)

    @property
    def variance(self):
        """That of counts."""
        return self.mean + (2 * self.log_rate - self.log_size).exp()

    @property
    def mode(self):
        """Most probable counts, the larger one where two are equally probable."""
        return (self.mean * -torch.expm1(-self.log_size)).clamp_min(0).floor()

    @property
    def _given(self):
        return self.log_rate, self.log_size

    def _of_none(self, log_rate, log_size):
        return -log_size.exp() * softplus(log_rate - log_size)

    def _of_some(self, x, log_rate, log_size):
        x = x.clamp_min(1.0)
        size = log_size.exp()
        at, mean = x.log() - log_size, log_rate - log_size
        deviance = x * (logsigmoid(at) - logsigmoid(mean))
        deviance = deviance + size * (logsigmoid(-at) - logsigmoid(-mean))
        stirling = _stirling(x + size) - _stirling(size) - _stirling(x)
        return -deviance - 0.5 * (x.log() + softplus(at)) - LOG_SQRT_2PI + stirling

    def sample(self, sample_shape=(), generator=None):
        """Draw counts, of the rates' floating type."""
        mean, size = self.mean.detach(), self.log_size.detach().exp().nan_to_num(1.0)
        size = size.expand(*sample_shape, *mean.shape)
        # Distributions draw their gammas by it, but without a generator
        gamma = torch._standard_gamma(size, generator=generator)
        return _poisson(mean * (gamma / size), generator)


class LogStandardised(Standardised):
    """Features of counts: log(1 + x), standardised."""

    def forward(self, x: Tensor) -> Tensor:
        """Return features of shape (..., m)."""
        return super().forward(torch.log1p(x))


class Poisson(Numeric):
    """Columns of counts whose variance given z is their mean.

    The model sees them as they are, the encoder log(1 + x), standardised. The decoder
    gives log-rates, 0 for the mean of the column.

    Attributes
    ----------
    mean_, scale_, support_ : ndarray of shape (m,)
        Of log(1 + x), see ``Numeric``.
    rate_, largest_ : ndarray of shape (m,)
        Means of the counts, and the largest ones.
    """

    discrete = True
    state: tuple[str, ...] = (*Numeric.state, "rate_", "largest_")

    def check(self, X: np.ndarray, names: Callable) -> None:
        """Refuse what is no count."""
        wrong = no_whole_numbers(X)
        if wrong.any():
            # scikit-learn's wording
            negative = "Negative values in data: " if (X < 0).any() else ""
            raise ValueError(
                f"{negative}X holds values that are no counts: likelihood='poisson' "
                "and 'negative_binomial' need non-negative integers below 2**53, for "
                f"float64 to tell them apart: column(s) {names(wrong.any(axis=0))}, "
                f"for example {shown(X[wrong][0])}. Round what is nearly an integer, "
                "or use likelihood='gaussian'."
            )

    def varies(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Which columns differ by more than the rounding of their logarithms."""
        low, high = np.log1p(low), np.log1p(high)
        return high - low > 10 * np.finfo(np.float64).eps * high

    def fit(self, X: np.ndarray, names: Callable) -> "Poisson":
        """Learn means of counts, means and scales of their logarithms."""
        super().fit(np.log1p(X), names)
        self.rate_, self.largest_ = np.nanmean(X, axis=0), np.nanmax(X, axis=0)
        return self

    def standardised(self, X: np.ndarray) -> np.ndarray:
        """Standardise logarithms."""
        return super().standardised(np.log1p(X))

    def misfit(self, values: np.ndarray, names: Callable) -> str | None:
        """Given z counts vary as much as their mean: for more, codes must know more."""
        with np.errstate(invalid="ignore"):  # of columns that are 0 in all these rows
            times = np.nanvar(values, axis=0) / np.nanmean(values, axis=0)
        wide = times > OVERDISPERSED
        if not wide.any():
            return None
        return (
            "a Poisson likelihood leaves each count the variance of its mean, and "
            f"column(s) {names(wide)} vary up to {times[wide].max():.3g} times as "
            "much: let their likelihood be 'negative_binomial'"
        )

    def read(self, state: dict, m: int) -> None:
        """Set what ``fit`` learned."""
        super().read(state, m)
        self.rate_ = positive(state["rate_"], (m,), "rate_")
        self.largest_ = positive(state["largest_"], (m,), "largest_")

    def describe(self, tags) -> None:
        """Tables of counts."""
        tags.positive_only = True

    def features(self) -> nn.Module:
        """Standardise logarithms."""
        return LogStandardised(self.mean_, self.scale_)

    def constants(self, min_scale) -> dict[str, Tensor]:
        """Largest log-rates, and how far outputs of 0, the means, are below them."""
        largest = torch.as_tensor(self.largest_).log()
        most = (largest + math.log(BEYOND)).clamp_max(MAX_LOG_RATE)
        # (of counts as large as numbers go the mean is hardly below)
        below = (most - torch.as_tensor(self.rate_).log()).clamp_min(0.1)
        return {"most": most, "below": below.expm1().log()}

    def distribution(
        self, outputs: Tensor, given: dict[str, Tensor]
    ) -> IndependentPoisson:
        """Return Poisson distributions."""
        return IndependentPoisson(self.log_rate(outputs, given))

    def log_rate(self, outputs: Tensor, given: dict[str, Tensor]) -> Tensor:
        """Return log-rates, bent where they near the largest.

        A gradient is left there: a rate that went too far comes back.
        """
        return given["most"] - softplus(given["below"] - outputs)

    def point(self, p: IndependentPoisson) -> Tensor:
        """Most probable counts."""
        return p.mode

    def expected(self, p: IndependentPoisson, weights: Tensor) -> Tensor:
        """Return means, as counts."""
        return super().expected(p, weights).round()

    def fisher_terms(self, p) -> list[FisherTerm]:
        """Of the log-rates."""
        log_rate = p.log_rate.unsqueeze(-1)
        return [FisherTerm((0.5 * log_rate).exp(), log_rate)]


class NegativeBinomial(Poisson):
    """Columns of counts whose variance given z is mu + mu^2 / r.

    Each column has a size r that does not depend on z.

    Attributes
    ----------
    size_ : ndarray of shape (m,)
        Sizes of the columns' own moments, which training starts from.
    """

    state = (*Poisson.state, "size_")

    def misfit(self, values: np.ndarray, names: Callable) -> None:
        """Sizes are learned."""

    def fit(self, X: np.ndarray, names: Callable) -> "NegativeBinomial":
        """Learn sizes, too."""
        super().fit(X, names)
        excess = np.nanvar(X, axis=0) / self.rate_ - 1
        self.size_ = self.rate_ / np.maximum(excess, LEAST_EXCESS)
        return self

    def read(self, state: dict, m: int) -> None:
        """Set what ``fit`` learned."""
        super().read(state, m)
        self.size_ = positive(state["size_"], (m,), "size_")

    def shared(self) -> dict[str, Tensor]:
        """Logarithms of the sizes."""
        return {"log_size": torch.as_tensor(self.size_, dtype=torch.float32).log()}

    def distribution(
        self, outputs: Tensor, given: dict[str, Tensor]
    ) -> IndependentNegativeBinomial:
        """Return negative binomial distributions."""
        log_size = given["log_size"].clamp(-MAX_LOG_RATE, MAX_LOG_RATE)
        return IndependentNegativeBinomial(self.log_rate(outputs, given), log_size)

    def fisher_terms(self, p) -> list[FisherTerm]:
        """Of the log-rates: mu r / (mu + r)."""
        log_fisher = p.log_rate + logsigmoid(p.log_size - p.log_rate)
        root = (0.5 * log_fisher).exp()
        return [FisherTerm(root.unsqueeze(-1), p.log_rate.unsqueeze(-1))]
