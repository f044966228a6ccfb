"""A user's table as float64, and float64 as that table again."""

import reprlib
import warnings
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np

from sklearn_mae.columns.cells import Cells
from sklearn_mae.columns.column import Column
from sklearn_mae.columns.natives import LIBRARIES, read_frame
from sklearn_mae.records import entries, need

__all__ = ["Columns"]

MAX_SHOWN = 5


class Columns:
    """What the columns of a user's table are, and the way to float64 and back.

    Numbers are "numeric"; strings, booleans and the categories of pandas, polars and
    pyarrow are a "category". Columns of objects are judged by their values, and
    strings are never read as numbers. NaN, None, ``pandas.NA`` and nulls are missing.

    Attributes
    ----------
    kinds_ : list of {"numeric", "category"}
        Of each column.
    categories_ : list of (ndarray of objects) or None
        Outcomes that ``fit`` saw: of strings and booleans sorted, of other categories
        in the order that their type declares. None for numeric columns.
    names_ : list of str
        Names of the columns, their positions in an array.
    """

    kinds_: list[str]
    categories_: list[np.ndarray | None]
    names_: list[str]

    def fit(self, X: Any, wanted: list[str | None] | None = None) -> "Columns":
        """Learn what the columns are.

        Parameters
        ----------
        X : array, list of rows or data frame of shape (n, D)
            The table.
        wanted : list of D {"numeric", "category", None}, or None
            What a column must be: "numeric" takes numbers and booleans. Numbers are
            numeric with "category", too: they are codes as they stand.

        Returns
        -------
        self : Columns
            The object itself.

        Raises
        ------
        TypeError
            If a column holds dates, mixed types or anything else that is neither
            numbers, nor strings, nor booleans.
        ValueError
            If X is not of two dimensions, or complex.
        """
        container, table = _read(X)
        wanted = [None] * len(table) if wanted is None else wanted
        columns = [
            Column.fit(cells, kind, in_frame=container in LIBRARIES)
            for cells, kind in zip(table, wanted, strict=True)
        ]
        if container in LIBRARIES:
            for column in columns:
                LIBRARIES[container].adopt(column)
        self._set(container, columns)
        return self

    def encode(self, X: Any, *, warn: bool = True) -> np.ndarray:
        """Return rows as numbers; unseen categories are missing, with a warning.

        Parameters
        ----------
        X : array, list of rows or data frame of shape (n, D)
            Rows, in a container of any kind.
        warn : bool
            Whether to warn of unseen categories.

        Returns
        -------
        ndarray of shape (n, D), of float64
            Numbers, and indices of ``categories_``; NaN where an entry is missing. It
            may be X itself.

        Raises
        ------
        TypeError
            If entries are of another sort than those of ``fit``, such as strings in
            a numeric column.
        ValueError
            If X is not of two dimensions, is complex or has not D columns.
        """
        D = len(self._columns)
        as_it_is = "category" not in self.kinds_ and _is_of_numbers(X)
        if as_it_is and X.ndim == 2 and X.shape[1] == D:
            return _canonical(np.ascontiguousarray(_as_float64(X)))
        _, table = _read(X)
        if len(table) != D:
            raise ValueError(  # in scikit-learn's words
                f"X has {len(table)} features, but MutualAutoencoder is expecting "
                f"{D} features as input."
            )
        values = np.empty((len(table[0].values) if table else 0, D))
        unseen = {}
        for j, (column, cells) in enumerate(zip(self._columns, table, strict=True)):
            cells.label = column.label  # the name that it had in fit
            values[:, j], new = column.encode(cells)
            if new:
                unseen[self.names_[j]] = new
        if unseen and warn:
            _warn_of(unseen)
        return _canonical(values)

    def decode(self, values: np.ndarray, *, round: Any = True, index: Any = None):
        """Return encoded rows as a table like the one of ``fit``.

        Parameters
        ----------
        values : ndarray of shape (..., n, D), of float64
            Numbers, and indices of ``categories_``; NaN where an entry is missing.
        round : bool or array-like of D bool
            Whether numbers in frames get the decimals of ``fit``, integers their
            type and range; of all columns or of each. Without, integers become floats.
        index : pandas.Index or None
            Index of a pandas frame, instead of 0 to n - 1.

        Returns
        -------
        ndarray of shape (..., n, D), data frame, or list of data frames
            After ``fit`` on numbers alone in an array, the values; on other arrays
            or rows an array of objects (of booleans where it had only those, none
            missing). After ``fit`` on a data frame such a frame, and a list of them
            for each leading axis. A missing entry is what the type has for it; where
            it has none, pandas gets floats or objects.

        Raises
        ------
        ImportError
            If the library of the frame is not installed.
        """
        values = np.asarray(values, dtype=np.float64)
        if self._container not in LIBRARIES:
            return self._array(values)
        if values.ndim > 2:
            return [self.decode(each, round=round, index=index) for each in values]
        library = LIBRARIES[self._container]
        each = np.broadcast_to(round, len(self._columns)).tolist()
        return library.frame(self._columns, values, each, index)

    def rounded(self, values: np.ndarray) -> np.ndarray:
        """Return encoded rows, numbers of frames with the decimals of ``fit``."""
        if self._container not in LIBRARIES:
            return values
        each = [
            column.numbers(values[..., j], True)
            if column.kind == "numeric"
            else values[..., j]
            for j, column in enumerate(self._columns)
        ]
        return np.stack(each, axis=-1)

    def seeing(self, values: np.ndarray) -> "Columns":
        """Return a copy whose ranges hold these encoded rows, too; of frames."""
        if self._container not in LIBRARIES:
            return self
        columns = [
            column.seeing(values[:, j]) for j, column in enumerate(self._columns)
        ]
        wider = Columns()
        wider._set(self._container, columns)
        return wider

    def within(self, values: np.ndarray) -> np.ndarray:
        """Return encoded rows, numbers of frames in the range that ``fit`` saw."""
        if self._container not in LIBRARIES:
            return values
        each = [column.within(values[..., j]) for j, column in enumerate(self._columns)]
        return np.stack(each, axis=-1)

    @property
    def labels(self) -> list:
        """Labels of the columns, their positions in an array."""
        return [column.label for column in self._columns]

    def write(self) -> dict:
        """Return the fitted state as plain values."""
        return {
            "container": self._container,
            "columns": [column.write() for column in self._columns],
        }

    @classmethod
    def read(cls, state: dict, n_features: int) -> "Columns":
        """Return what was written, each entry checked.

        Parameters
        ----------
        state : dict
            What ``write`` returned.
        n_features : int
            How many columns there must be.

        Returns
        -------
        Columns
            Fitted as the one that was written.

        Raises
        ------
        ValueError
            If an entry is not as ``write`` returns it.
        """
        state = entries(state, ("container", "columns"), "table")
        container, found = state["container"], state["columns"]
        need(container in ("array", *LIBRARIES), "container", container)
        need(type(found) is list and len(found) == n_features, "columns", found)
        columns = [Column.read(each) for each in found]
        labels = [column.label for column in columns]
        if container == "array":
            need(labels == list(range(n_features)), "label", labels)
        else:
            need(len(set(map(str, labels))) == n_features, "label", labels)
        for column in columns:
            if container == "array":
                good = column.dtype in ("bool", "float64", "object", "object[int64]")
                need(good and column.declared is None, "dtype", column.dtype)
            else:
                good = container == "pandas" or type(column.label) is str
                need(good, "label", column.label)
                need(LIBRARIES[container].knows(column), "dtype", column.dtype)
        columns_of = cls()
        columns_of._set(container, columns)
        return columns_of

    def _set(self, container: str, columns: list[Column]) -> None:
        self._container, self._columns = container, columns
        self.kinds_ = [column.kind for column in columns]
        self.names_ = [str(column.label) for column in columns]
        self.categories_ = [column.known_outcomes for column in columns]

    def _array(self, values: np.ndarray) -> np.ndarray:
        if "category" not in self.kinds_:
            return values
        result = np.empty(values.shape, dtype=object)
        for j, column in enumerate(self._columns):
            if column.kind == "category":
                result[..., j] = column.outcomes(values[..., j], column.hole)
            else:
                result[..., j] = values[..., j]
        booleans = all(column.dtype == "bool" for column in self._columns)
        whole = not np.isnan(values).any()
        return result.astype(bool) if booleans and whole else result


def _is_of_numbers(X: Any) -> bool:
    return isinstance(X, np.ndarray) and X.dtype.kind in "fiu"


def _as_float64(X: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # infinity is for others to refuse
        return X.astype(np.float64, copy=False)


def _canonical(values: np.ndarray) -> np.ndarray:
    """Make all NaN the same, of which there are many: equal rows have equal bits."""
    missing = np.isnan(values)
    return np.where(missing, np.nan, values) if missing.any() else values


def _read(X: Any) -> tuple[str, list[Cells]]:
    """Return what container a table comes back in, and its columns."""
    frame = nw.from_native(X, eager_only=True, pass_through=True)
    if isinstance(frame, nw.DataFrame):
        return read_frame(frame)
    X = np.asarray(X, dtype=object if isinstance(X, list | tuple) else None)
    if X.ndim != 2:  # in scikit-learn's words
        raise ValueError(
            f"Expected 2D array, got {X.ndim}D array instead: {reprlib.repr(X)}. "
            "Reshape your data, with a row for each sample and a column for each "
            "feature: X.reshape(-1, 1) has one feature, X.reshape(1, -1) one sample."
        )
    if X.dtype.kind == "c":
        raise ValueError(
            f"Complex data not supported: X is an array of {X.dtype}. Take its real "
            "and its imaginary part as columns of their own."
        )
    if _is_of_numbers(X):
        dtype, X = "float64", _as_float64(X)
    else:
        dtype, X = "bool" if X.dtype == bool else "object", X.astype(object)
    return "array", [Cells(j, column, dtype) for j, column in enumerate(X.T)]


def _warn_of(unseen: dict[str, list]) -> None:
    listed = []
    for name, values in unseen.items():
        shown = ", ".join(map(repr, values[:MAX_SHOWN]))
        more = len(values) - MAX_SHOWN
        listed.append(f"{name!r} ({shown}{f' and {more} more' if more > 0 else ''})")
    warnings.warn(
        "X holds categories that fit did not see, which count as missing. Columns: "
        f"{', '.join(listed)}. Fit on rows that have them, or merge them into known "
        "ones.",
        UserWarning,
        stacklevel=3,
    )
