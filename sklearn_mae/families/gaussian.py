"""Columns of numbers with a normal distribution given z."""

import math
from collections.abc import Callable, Sequence
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from sklearn_mae.encoders import Standardised
from sklearn_mae.families.base import ColumnFamily, FisherTerm
from sklearn_mae.model import DiagonalNormal
from sklearn_mae.records import array, positive

__all__ = [
    "LEAST_NOISE",
    "Continuous",
    "Gaussian",
    "Heteroscedastic",
    "Isotropic",
    "Numeric",
    "shown",
]

# in standard deviations: with gains of networks and small noises on top, the squares of
# figures still are within the range of float64
MAX_DISTANCE = 1e100
# least noise of a column that rests on few rows: 3 / (5 + rows) standard deviations
LEAST_NOISE = 3.0, 5.0


def shown(value) -> str:
    """Write a number with as many digits as it takes to see why it is refused."""
    return f"{value:g}" if float(f"{value:g}") == value else repr(float(value))


class Numeric(ColumnFamily):
    """Columns of numbers that the model sees as they are, and the encoder standardised.

    Attributes
    ----------
    mean_, scale_ : ndarray of shape (m,)
        Means and standard deviations.
    support_ : ndarray of shape (m,)
        Number of rows that each column's variance rests on: n / kurtosis. Of a column
        that is 0 but for k equal entries about k.
    """

    state: tuple[str, ...] = ("mean_", "scale_", "support_")

    def fit(self, X: np.ndarray, names: Callable) -> "Numeric":
        """Learn means and scales."""
        with np.errstate(over="ignore"):
            self.mean_, self.scale_ = np.nanmean(X, axis=0), np.nanstd(X, axis=0)
        bad = ~(np.isfinite(self.mean_) & np.isfinite(self.scale_) & (self.scale_ > 0))
        if bad.any():
            raise ValueError(
                f"The standard deviation of column(s) {names(bad)} of X leaves "
                "the range of float64. Rescale them, for example by a power of ten."
            )
        fourth = np.nanmean(Numeric.standardised(self, X) ** 4, axis=0)
        self.support_ = 1 / fourth * (~np.isnan(X)).sum(axis=0)
        return self

    def read(self, state: dict, m: int) -> None:
        """Set means, scales and supports."""
        self.mean_ = array(state["mean_"], np.float64, (m,), "mean_")
        self.scale_ = positive(state["scale_"], (m,), "scale_")
        self.support_ = positive(state["support_"], (m,), "support_")

    @property
    def n_columns(self) -> int:
        """Number of columns."""
        return len(self.mean_)

    def standardised(self, X: np.ndarray) -> np.ndarray:
        """Subtract means, divide by scales."""
        return (X - self.mean_) / self.scale_

    def features(self) -> nn.Module:
        """Standardise."""
        return Standardised(self.mean_, self.scale_)

    @property
    def n_outputs(self) -> int:
        """One for each column."""
        return len(self.mean_)


class Continuous(Numeric):
    """Columns of real numbers: a spread of the size of rounding is none."""

    def varies(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Which columns spread wider than the rounding of measurements."""
        with np.errstate(over="ignore"):
            largest = np.maximum(abs(low), abs(high))
            return high - low > 10 * np.finfo(np.float64).eps * largest

    def encode(self, X: np.ndarray, names: Callable) -> np.ndarray:
        """Refuse rows whose figures would leave float64, as squares of them do."""
        with np.errstate(over="ignore"):
            far = abs(self.standardised(X)) > MAX_DISTANCE
        if far.any():
            row, column = np.argwhere(far)[0]
            raise ValueError(
                f"X holds {shown(X[row, column])} in row {row}, column(s) "
                f"{names([column])}, more than {MAX_DISTANCE:g} standard "
                f"deviations ({self.scale_[column]:g}) from the mean of fit's rows "
                f"({self.mean_[column]:g}): figures leave the range of float64. Clip "
                "or transform such values, or drop those rows."
            )
        return X


class Gaussian(Continuous):
    """Normal columns, each with a standard deviation that does not depend on z.

    The model sees them standardised.
    """

    def encode(self, X: np.ndarray, names: Callable) -> np.ndarray:
        """Standardise."""
        return self.standardised(super().encode(X, names))

    def decode(self, Y: np.ndarray) -> np.ndarray:
        """Undo that."""
        return Y * self.scale_ + self.mean_

    def key(self, X: np.ndarray) -> np.ndarray:
        """Standardise."""
        return self.standardised(X)

    def log_volume(self, Y: np.ndarray) -> np.ndarray:
        """Logarithms of the scales."""
        return np.log(self.scale_)

    def features(self) -> nn.Module:
        """The encoder sees what the model sees."""
        return nn.Identity()

    def constants(self, min_scale) -> dict[str, Tensor]:
        """Floor of each column's log-scale.

        Without it a column that the decoder can copy drives its density to infinity,
        and the likelihood measures the learning-rate schedule. A column whose variance
        rests on a few rows can be learned by heart, and its noise then seems to vanish:
        one new row that differs would cost thousands of nats.
        """
        most, rows = LEAST_NOISE
        floor = np.maximum(min_scale, most / (rows + self.support_))
        return {"floor": torch.as_tensor(floor, dtype=torch.float64).log()}

    def shared(self) -> dict[str, Tensor]:
        """Log-scales, before the floor bends them."""
        return {"raw_log_scale": torch.zeros(len(self.mean_))}

    def distribution(self, outputs: Tensor, given: dict[str, Tensor]) -> DiagonalNormal:
        """Return normals with the outputs for means."""
        return self.normal(outputs, given["raw_log_scale"], given["floor"])

    def normal(self, mean: Tensor, raw: Tensor, floor: Tensor) -> DiagonalNormal:
        """Return normals whose log-scales stay above the floor."""
        return DiagonalNormal(mean, floor + softplus(raw - floor))

    def fisher_terms(self, p: DiagonalNormal) -> list[FisherTerm]:
        """Of the means."""
        scale = torch.exp(-p.log_scale).expand_as(p.loc)
        return [FisherTerm(scale.unsqueeze(-1), p.loc.unsqueeze(-1))]


class Heteroscedastic(Gaussian):
    """Normal columns whose standard deviations depend on z."""

    @property
    def n_outputs(self) -> int:
        """A mean and a log-scale for each column."""
        return 2 * len(self.mean_)

    def shared(self) -> dict[str, Tensor]:
        """Nothing."""
        return {}

    def distribution(self, outputs: Tensor, given: dict[str, Tensor]) -> DiagonalNormal:
        """Return normals of means and log-scales."""
        mean, raw = outputs.chunk(2, -1)
        return self.normal(mean, raw, given["floor"])

    def fisher_terms(self, p: DiagonalNormal) -> list[FisherTerm]:
        """Of the means and of the log-scales."""
        log_scale = p.log_scale.unsqueeze(-1)
        root = torch.full_like(log_scale, math.sqrt(2))
        return [*super().fisher_terms(p), FisherTerm(root, log_scale)]


class Isotropic(Gaussian):
    """Normal columns in one unit: they share a scale and a standard deviation.

    So probabilistic PCA has it, and ``Gaussian`` factor analysis: the spread of a
    column, against that of the others, says how much of it there is to explain. But for
    the floor of the noise, the model is the same whatever orthogonal matrix turns the
    rows.

    Attributes
    ----------
    scale_, support_ : ndarray of shape (m,)
        One number each, m times: the root of the columns' mean variance, and the rows
        that it rests on.
    """

    def fit(self, X: np.ndarray, names: Callable) -> "Isotropic":
        """Learn means and the scale."""
        super().fit(X, names)
        return self._pooled()

    def extended(self, others: Sequence[ColumnFamily]) -> Self:
        """Return the fitted family of its columns and those of others, in order."""
        return super().extended(others)._pooled()

    def _pooled(self) -> Self:
        # (of columns that were pooled before it is the same as of all at once)
        variances = self.scale_**2
        support = np.average(self.support_, weights=variances)
        self.scale_ = np.full_like(self.scale_, np.sqrt(variances.mean()))
        self.support_ = np.full_like(self.support_, support)
        return self

    def shared(self) -> dict[str, Tensor]:
        """The log-scale, before the floor bends it."""
        return {"raw_log_scale": torch.zeros(1)}
