"""What a numeric column's entries may be: grids, and values that are found often.

Ties of numbers are of two kinds. Measurements are rounded: all entries are multiples of
a step. And some values stand out: zeros, limits, answers on a scale. A density knows
neither, and a model that finds them drives it to infinity. So an entry on a grid is
scored by the mass of its cell, and a value that is found often has a mass of its own.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np

from sklearn_mae.columns import decimals_of
from sklearn_mae.records import array, entries, need

__all__ = ["N_QUANTILES", "Grids"]

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
N_QUANTILES = 8


@dataclass
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
    frequent_ : list of m ndarrays
        The same values in units of X.
    whole_ : ndarray of shape (m,), bool
        Whether there were no other values.
    quantiles_ : ndarray of shape (m, 8)
        Evenly spaced quantiles, as the model sees them; 0 of categories.
    counts_ : ndarray of shape (m,), int64
        Entries that were not missing.
    """

    step_: np.ndarray
    start_: np.ndarray
    decimals_: np.ndarray
    values_: list[np.ndarray]
    shares_: list[np.ndarray]
    frequent_: list[np.ndarray]
    whole_: np.ndarray
    quantiles_: np.ndarray
    counts_: np.ndarray

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
        m, missing = X.shape[1], np.isnan(X)
        step, start = np.zeros((2, m))
        decimals = np.zeros(m, dtype=np.int64)
        for i in np.flatnonzero(numeric):
            grid = _grid(X[~missing[:, i], i], dtype)
            if grid is not None and grid[1] >= NARROWEST * scale[i]:
                start[i], step[i], decimals[i] = grid
        usual = np.array([X[~gone, j][0] for j, gone in enumerate(missing.T)])
        seen = encode(np.where(missing, usual, X)).astype(np.float64)
        whole, quantiles = np.zeros(m, dtype=bool), np.zeros((m, N_QUANTILES))
        of_columns, shares, frequent = [], [], []
        for j in range(m):
            column = seen[~missing[:, j], j]
            values, first, counts = np.unique(
                column, return_index=True, return_counts=True
            )
            in_units, n = X[~missing[:, j], j][first], len(column)
            levels = len(values) <= MOST_LEVELS and n >= ROWS_OF_LEVEL * len(values)
            whole[j] = not numeric[j] or (levels and step[j] > 0)
            if not whole[j]:
                often = counts > max(LEAST_COUNT, OFTEN * n)
                often[np.argsort(-counts, kind="stable")[MOST_VALUES:]] = False
                values, counts = values[often], counts[often]
                in_units = in_units[often]
            of_columns.append(values)
            shares.append(counts / n)
            frequent.append(in_units)
            if numeric[j]:
                middle = (np.arange(N_QUANTILES) + 0.5) / N_QUANTILES
                quantiles[j] = np.quantile(column, middle)
        counts = (~missing).sum(axis=0)
        return cls(
            step,
            start,
            decimals,
            of_columns,
            shares,
            frequent,
            whole,
            quantiles,
            counts,
        )

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
        return dict(vars(self))

    @classmethod
    def read(cls, state, m: int) -> "Grids":
        """Take over what ``write`` returned, each entry checked."""
        state = entries(state, [field.name for field in fields(cls)], "grids")

        def each(name, kind=np.float64):
            return array(state[name], kind, (m,), name)

        step, counts = each("step_"), each("counts_", np.int64)
        need(bool((step >= 0).all()), "step_", step)
        need(bool((counts > 0).all()), "counts_", counts)
        values, shares, frequent = (
            _lists(state[name], m, name) for name in ("values_", "shares_", "frequent_")
        )
        for some, parts, in_units in zip(values, shares, frequent, strict=True):
            good = len(some) == len(parts) and bool((parts > 0).all())
            need(good, "shares_", parts)
            need(len(in_units) == len(some), "frequent_", in_units)
        shape = (m, N_QUANTILES)
        return cls(
            step,
            each("start_"),
            each("decimals_", np.int64),
            values,
            shares,
            frequent,
            each("whole_", np.bool_),
            array(state["quantiles_"], np.float64, shape, "quantiles_"),
            counts,
        )


def _lists(value, m: int, name: str) -> list[np.ndarray]:
    need(type(value) is list and len(value) == m, name, value)
    for some in value:
        need(isinstance(some, np.ndarray), name, some)
    return [array(some, np.float64, (some.size,), name) for some in value]


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
