"""The cells of one column as they were read, judged by their values.

What a cell may be: a string ("text"), a boolean, a real number, or missing.
"""

import dataclasses
import reprlib
from collections.abc import Hashable, Iterable
from decimal import Decimal
from functools import cached_property
from numbers import Complex, Integral, Real
from typing import Any

import numpy as np

__all__ = [
    "Cells",
    "Outcome",
    "decimals_of",
    "is_missing",
    "objects",
    "plain",
    "rounded",
    "sort_of",
    "wrong_cell",
]

Outcome = str | bool | int | float

MAX_DECIMALS = 14  # float64 tells no more apart
NEVER_MISSING = {str, bool, int, np.str_, np.bool_}
# None, or unequal to itself where missing
SIMPLE = {*NEVER_MISSING, type(None), float, np.float32, np.float64}
# numpy calls durations integers, and gives each of these a __float__
NO_NUMBERS = (np.datetime64, np.timedelta64, np.ndarray, np.void, bytes)


@dataclasses.dataclass
class Cells:
    """One column of a table.

    Attributes
    ----------
    label : hashable
        Name of the column, its position if it has none.
    values : ndarray of shape (n,)
        float64 in which NaN is a missing entry, or objects.
    dtype : str
        What its library calls its type, see ``natives.py``.
    declared : list or None
        Categories that the type declares, in order.
    categorical : bool
        Whether the type says that these are no numbers, whatever the values.
    """

    label: Hashable
    values: np.ndarray
    dtype: str = "object"
    declared: list | None = None
    categorical: bool = False

    @cached_property
    def missing(self) -> np.ndarray:
        """Which entries are missing, shape (n,)."""
        if self.values.dtype != object:
            return np.isnan(self.values)
        n, kinds = len(self.values), set(map(type, self.values))
        if kinds <= NEVER_MISSING:
            return np.zeros(n, dtype=bool)
        if kinds <= SIMPLE:
            return np.fromiter((x is None or x != x for x in self.values), bool, n)
        return np.fromiter(map(is_missing, self.values), bool, n)

    @cached_property
    def present(self) -> list:
        """The entries that are not missing, as Python holds them."""
        return self.values[~self.missing].tolist()

    @cached_property
    def examples(self) -> dict[str, Any]:
        """Map each sort of entries that there is to one of them.

        Raises
        ------
        TypeError
            If an entry is no string, boolean or real number.
        """
        if self.values.dtype == object:
            return _examples(self.label, self.present)
        for part in (self.values[:100], self.values):  # mostly the first will do
            found = part[~np.isnan(part)]
            if len(found):
                return {"number": float(found[0])}
        return {}

    @cached_property
    def declared_examples(self) -> dict[str, Any]:
        """Map each sort of the declared categories to one of them."""
        return _examples(self.label, self.declared or [])

    def floats(self) -> np.ndarray:
        """Return numbers and booleans as float64, anything else as NaN."""
        if self.values.dtype != object:
            return self.values
        values = np.full(len(self.values), np.nan)
        # (numpy would read strings, and takes no number beyond its range)
        found = None if "text" in self.examples else _at_once(self.present)
        if found is None:
            found = np.array([_as_float(self.label, x) for x in self.present])
        values[~self.missing] = found
        return values


def objects(values: Iterable, n: int) -> np.ndarray:
    """Return an array of n objects, sequences among them kept whole."""
    return np.fromiter(values, dtype=object, count=n)


def plain(value) -> Outcome:
    """Return an outcome without the type that numpy gave it."""
    match sort_of(type(value)):
        case "text":
            return str(value)
        case "boolean":
            return bool(value)
    return int(value) if isinstance(value, Integral) else float(value)


def sort_of(kind: type) -> str | None:
    """Return which sort of entries a type is of, None for one that is not taken."""
    if issubclass(kind, str):
        return "text"
    if issubclass(kind, bool | np.bool_):
        return "boolean"
    if issubclass(kind, NO_NUMBERS):
        return None
    if issubclass(kind, Complex):
        return "number" if issubclass(kind, Real) else None
    is_number = issubclass(kind, Decimal) or hasattr(kind, "__float__")
    return "number" if is_number else None


def wrong_cell(label: Hashable, value, rest: str) -> TypeError:
    """Return what to raise of an entry of a column."""
    return TypeError(
        f"Column {label!r} of X holds {reprlib.repr(value)} of type "
        f"{type(value).__name__}{rest}"
    )


def decimals_of(values: np.ndarray, dtype=np.float64) -> int | None:
    """Return the least number of decimals that all values have, None if too many.

    Parameters
    ----------
    values : ndarray of shape (n,), of float64
        NaN and infinity say nothing.
    dtype : dtype
        Type that the values had: 0.1 as a float32 has one decimal.

    Returns
    -------
    int or None
        From 0 to 14.
    """
    rest = values[np.isfinite(values)]
    few = rest[:100]
    if (rounded(few, MAX_DECIMALS).astype(dtype) != few).any():
        return None  # the rule for measurements, found early
    for k in range(MAX_DECIMALS + 1):
        rest = rest[rounded(rest, k).astype(dtype) != rest]
        if not len(rest):
            return k
    return None


def rounded(values: np.ndarray, k: int) -> np.ndarray:
    """Round to k decimals what is not too large for it."""
    with np.errstate(over="ignore", invalid="ignore"):
        result = np.round(values, k)
    return np.where(np.isfinite(result), result, values)


def _examples(label: Hashable, values: list) -> dict[str, Any]:
    # of each type the first entry
    examples = dict(zip(map(type, reversed(values)), reversed(values), strict=True))
    sorts = {}
    for kind, value in examples.items():
        sort = sort_of(kind)
        if sort is None:
            raise wrong_cell(
                label,
                value,
                "; argument must be a string, a boolean or a real number. Turn dates "
                "into numbers, for example of days, and anything else into strings or "
                "numbers, or drop the column.",
            )
        sorts[sort] = value
    return sorts


def is_missing(value) -> bool:
    """Whether an entry stands for none."""
    if value is None or value is np.ma.masked:
        return True
    if hasattr(value, "__len__"):
        return False
    try:
        return bool(value != value)
    except (ArithmeticError, TypeError):  # pandas.NA, and a signalling NaN
        return True


def _at_once(values: list) -> np.ndarray | None:
    try:
        return np.array(values, dtype=np.float64)
    except (OverflowError, TypeError, ValueError):
        return None


def _as_float(label: Hashable, value) -> float:
    if isinstance(value, str):
        return np.nan
    try:
        return float(value)
    except OverflowError:
        return np.inf if value > 0 else -np.inf
    except (TypeError, ValueError) as error:
        raise wrong_cell(
            label, value, f", which is no number: {error}. Convert or drop it."
        ) from error
