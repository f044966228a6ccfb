"""What the parameter ``likelihood`` says of each column of a table.

A name is of all columns. Pairs of a name and columns are read as ``ColumnTransformer``
reads its own; columns that no pair names, and all columns of ``"auto"`` or of a
likelihood of whole tables, are what the families take numbers for, or strings, booleans
and categories.
"""

import reprlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from sklearn_mae.families import (
    COLUMN_FAMILIES,
    OF_KIND,
    ROW_FAMILIES,
    TABLE_FAMILIES,
)

__all__ = ["AUTO", "by_column", "described", "is_table", "settled_likelihood", "wanted"]

AUTO = "auto"


def is_table(likelihood) -> bool:
    """Whether a likelihood is one of columns, not of rows of words."""
    return not (isinstance(likelihood, str) and likelihood in ROW_FAMILIES)


def _of_whole_table(likelihood) -> bool:
    return isinstance(likelihood, str) and likelihood in TABLE_FAMILIES


def by_column(likelihood, X, names: Sequence[str] | None, n: int) -> list[str | None]:
    """Return the name of each of n columns' family; None: "auto", or a user's.

    Parameters
    ----------
    likelihood : str, list of (str, columns) or callable
        The parameter.
    X : object
        The table, for selectors of columns.
    names : sequence of str or None
        Of its columns.
    n : int
        Their number.

    Raises
    ------
    ValueError, TypeError
        If a pair is none, names no likelihood of columns, or a column that is not
        there or that another pair has named.
    """
    if callable(likelihood):
        return [None] * n
    if isinstance(likelihood, str):
        by_type = likelihood == AUTO or _of_whole_table(likelihood)
        return [None if by_type else likelihood] * n
    found: list[str | None] = [None] * n
    named = np.zeros(n, dtype=bool)
    for pair in likelihood:
        name, columns = _pair(pair)
        for j in _positions(columns, X, names, n):
            if named[j]:
                label = j if names is None else names[j]
                raise ValueError(
                    f"likelihood names column {label!r} twice, the second time in "
                    f"({name!r}, {reprlib.repr(columns)}). Name each column once."
                )
            found[j], named[j] = None if name == AUTO else name, True
    return found


def _pair(pair) -> tuple[str, Any]:
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise ValueError(
            f"likelihood holds {reprlib.repr(pair)}, which is no pair of a likelihood "
            "and columns, as ('poisson', ['visits']) is one."
        )
    name, columns = pair
    if name != AUTO and (not isinstance(name, str) or name not in COLUMN_FAMILIES):
        raise ValueError(
            f"likelihood names {reprlib.repr(name)} in a pair. Likelihoods of columns "
            f"are {[AUTO, *COLUMN_FAMILIES]}."
        )
    return name, columns


def _positions(columns, X, names: Sequence[str] | None, n: int) -> list[int]:
    """Return the positions of columns given by name, position, mask or selector."""
    given = columns
    if callable(columns):
        if names is None:
            raise TypeError(
                f"likelihood selects columns by {reprlib.repr(given)}, and X has no "
                "names of columns. Pass a data frame, or positions."
            )
        columns = columns(X)
    if isinstance(columns, slice):
        start, stop = columns.start, columns.stop
        if isinstance(start, str):
            start = _position(start, names, n)
        if isinstance(stop, str):
            stop = _position(stop, names, n) + 1  # slices of names hold their last one
        return list(range(n)[start : stop : columns.step])
    if isinstance(columns, str | int | np.integer) and not isinstance(columns, bool):
        return [_position(columns, names, n)]
    if not hasattr(columns, "__iter__"):
        raise TypeError(
            f"likelihood names columns by {reprlib.repr(given)}. Pass a name, a "
            "position, several of them, a slice, a mask or a selector of columns."
        )
    columns = list(columns)
    if any(isinstance(each, bool | np.bool_) for each in columns) and not all(
        isinstance(each, bool | np.bool_) for each in columns
    ):
        raise TypeError(
            f"likelihood names columns by {reprlib.repr(given)}, a mask in part. Pass "
            "either booleans or positions."
        )
    if columns and all(isinstance(each, bool | np.bool_) for each in columns):
        if len(columns) != n:
            raise ValueError(
                f"likelihood selects columns by a mask of {len(columns)} entries, but "
                f"X has {n} columns. Pass one entry for each column."
            )
        return [int(j) for j in np.flatnonzero(columns)]
    return [_position(each, names, n) for each in columns]


def _position(column, names: Sequence[str] | None, n: int) -> int:
    if isinstance(column, int | np.integer) and -n <= column < n:
        return int(column) % n
    if isinstance(column, str) and names is not None and column in names:
        return list(names).index(column)
    known = f"the positions 0 to {n - 1}"
    if names is not None:
        known += f" and the names {reprlib.repr(list(names))}"
    raise ValueError(
        f"likelihood names column {column!r}, which X has not. Its columns have "
        f"{known}."
    )


def wanted(likelihood, names: list[str | None]) -> list[str | None]:
    """Return what each column must be for its family; None: what it is."""
    if callable(likelihood):
        return ["numeric"] * len(names)
    return [None if name is None else COLUMN_FAMILIES[name].kind for name in names]


def settled_likelihood(likelihood, names: list[str | None], kinds: list[str] | None):
    """Return a callable, the name of all columns' family, or a tuple of each one's.

    Before those of a likelihood of whole tables its own name stands. ``kinds`` are
    those of the columns; None: all are numeric.
    """
    if callable(likelihood):
        return likelihood
    kinds = ["numeric"] * len(names) if kinds is None else kinds
    pairs = zip(names, kinds, strict=True)
    settled = [OF_KIND[kind] if name is None else name for name, kind in pairs]
    if _of_whole_table(likelihood):
        return (likelihood, *settled)
    return settled[0] if len(set(settled)) == 1 else tuple(settled)


def described(settled, names: Sequence[str] | None):
    """Return a settled likelihood in the parameter's own form."""
    if not isinstance(settled, tuple):
        return settled
    if settled[0] in TABLE_FAMILIES:
        return settled[0]
    labels = list(range(len(settled))) if names is None else list(names)
    pairs = zip(settled, labels, strict=True)
    found: dict[str, list] = {}
    for name, label in pairs:
        found.setdefault(name, []).append(label)
    return list(found.items())
