"""What a numeric column's entries may be: grids, and values that are found often.

Ties of numbers are of two kinds. Measurements are rounded: all entries are multiples of
a step. And some values stand out: zeros, limits, answers on a scale. A density knows
neither, and a model that finds them drives it to infinity. So an entry on a grid is
scored by the mass of its cell, and a value that is found often has a mass of its own.
"""

from collections.abc import Callable

import numpy as np

from sklearn_mae.columns import decimals_of
from sklearn_mae.records import array, entries, need

__all__ = ["Grids"]

# narrowest cell, in standard deviations, that single precision tells apart
NARROWEST = 1e-5
# a value has a mass of its own if it is more than this part of a column and is found
# more than so many times; a column has so many of them at most
OFTEN, LEAST_COUNT, MOST_VALUES = 0.01, 5, 20
# a column of so few different values, in so many more rows, holds levels: each of them
# has a mass of its own
MOST_LEVELS, ROWS_OF_LEVEL = 20, 10
# of what is on a grid but for rounding, in cells
ROUNDING = 1e-3
EXACT = 2**53

STATE = (
    "step_",
    "start_",
    "decimals_",
    "values_",
    "shares_",
    "whole_",
    "quantiles_",
    "counts_",
)


class Grids:
    """Grids and frequent values of m columns, as the model sees them.

    Attributes
    ----------
    step_, start_ : ndarray of shape (m,)
        Distance of two grid points, and one of them, in units of X; 0 where there is no
        grid.
    decimals_ : ndarray of shape (m,), int64
        Of grid points.
    values_, shares_ : list of m ndarrays
        Values that have masses of their own, as the model sees them, sorted, and their
        parts of the column. Of a category these are all of its values.
    whole_ : ndarray of shape (m,), bool
        Whether there were no other values.
    quantiles_ : ndarray of shape (m, n_quantiles)
        Evenly spaced quantiles, as the model sees them; 0 of categories.
    counts_ : ndarray of shape (m,), int64
        Entries that were not missing.
    """

    n_quantiles = 8

    @classmethod
    def fit(
        cls,
        X: np.ndarray,
        dtype,
        encode: Callable,
        numeric: np.ndarray,
        scale: np.ndarray,
    ) -> "Grids":
        """Learn from varying columns X (n, m), NaN where an entry is missing.

        ``dtype`` is the type that they had: 0.1 as a float32 has one decimal.
        ``encode`` takes rows to what the model sees, ``numeric`` and ``scale`` (m,)
        say which columns hold numbers, and in which units the model sees them.
        """
        grids, m = cls(), X.shape[1]
        grids.step_, grids.start_ = np.zeros((2, m))
        grids.decimals_ = np.zeros(m, dtype=np.int64)
        for j in np.flatnonzero(numeric):
            grid = _grid(X[~np.isnan(X[:, j]), j], dtype)
            if grid is not None and grid[1] >= NARROWEST * scale[j]:
                grids.start_[j], grids.step_[j], grids.decimals_[j] = grid
        missing = np.isnan(X)
        usual = np.array([X[~gone, j][0] for j, gone in enumerate(missing.T)])
        seen = encode(np.where(missing, usual, X)).astype(np.float64)
        grids.values_, grids.shares_ = [], []
        grids.counts_ = (~missing).sum(axis=0)
        grids.whole_ = np.zeros(m, dtype=bool)
        grids.quantiles_ = np.zeros((m, cls.n_quantiles))
        for j in range(m):
            column = seen[~missing[:, j], j]
            values, counts = np.unique(column, return_counts=True)
            n = len(column)
            levels = len(values) <= MOST_LEVELS and n >= ROWS_OF_LEVEL * len(values)
            grids.whole_[j] = not numeric[j] or (levels and grids.step_[j] > 0)
            if not grids.whole_[j]:
                often = counts > max(LEAST_COUNT, OFTEN * n)
                often[np.argsort(-counts, kind="stable")[MOST_VALUES:]] = False
                values, counts = values[often], counts[often]
            grids.values_.append(values)
            grids.shares_.append(counts / n)
            if numeric[j]:
                middle = (np.arange(cls.n_quantiles) + 0.5) / cls.n_quantiles
                grids.quantiles_[j] = np.quantile(column, middle)
        return grids

    def rounded(self, X: np.ndarray) -> np.ndarray:
        """Return the grid points nearest to entries (..., m) of columns with a grid."""
        X = X.copy()
        for j in np.flatnonzero(self.step_):
            index = np.round((X[..., j] - self.start_[j]) / self.step_[j])
            points = self.start_[j] + index * self.step_[j]
            X[..., j] = np.round(points, self.decimals_[j])
        return X

    def settled(self, X: np.ndarray) -> np.ndarray:
        """Return entries with what is on a grid but for rounding put onto it."""
        nearest = self.rounded(X)
        with np.errstate(invalid="ignore"):
            near = abs(X - nearest) <= ROUNDING * self.step_
        return np.where(near, nearest, X)

    def off(self, X: np.ndarray) -> np.ndarray:
        """Which columns hold entries between the points of their grids, (m,)."""
        with np.errstate(invalid="ignore"):
            return (abs(X - self.rounded(X)) > ROUNDING * self.step_).any(axis=0)

    def write(self) -> dict:
        """Return what was learned as arrays and lists of them."""
        return {name: getattr(self, name) for name in STATE}

    @classmethod
    def read(cls, state, m: int) -> "Grids":
        """Take over what ``write`` returned, each entry checked."""
        state, grids = entries(state, STATE, "grids"), cls()
        grids.step_ = array(state["step_"], np.float64, (m,), "step_")
        need(bool((grids.step_ >= 0).all()), "step_", grids.step_)
        grids.start_ = array(state["start_"], np.float64, (m,), "start_")
        grids.decimals_ = array(state["decimals_"], np.int64, (m,), "decimals_")
        grids.whole_ = array(state["whole_"], np.bool_, (m,), "whole_")
        grids.counts_ = array(state["counts_"], np.int64, (m,), "counts_")
        need(bool((grids.counts_ > 0).all()), "counts_", grids.counts_)
        shape = (m, cls.n_quantiles)
        grids.quantiles_ = array(state["quantiles_"], np.float64, shape, "quantiles_")
        for name in ("values_", "shares_"):
            each = state[name]
            need(type(each) is list and len(each) == m, name, each)
            setattr(grids, name, [_numbers(some, name) for some in each])
        for values, shares in zip(grids.values_, grids.shares_, strict=True):
            need(len(values) == len(shares), "shares_", shares)
            need(bool((shares > 0).all()), "shares_", shares)
        return grids


def _numbers(value, name: str) -> np.ndarray:
    need(isinstance(value, np.ndarray), name, value)
    return array(value, np.float64, (value.size,), name)


def _grid(values: np.ndarray, dtype) -> tuple[float, float, int] | None:
    """Return the first point of the widest grid of all values, its step, decimals.

    None where they have as many decimals as floats have.
    """
    decimals = decimals_of(values, dtype)
    if decimals is None:
        return None
    whole = np.unique(np.round(values * 10.0**decimals))
    if abs(whole).max() >= EXACT or len(whole) < 2:
        return None
    step = int(np.gcd.reduce(np.diff(whole).astype(np.int64)))
    return float(whole[0] / 10**decimals), step / 10**decimals, decimals
