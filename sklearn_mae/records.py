"""Plain values of a saved fit, each checked before it is believed.

A file may come from anybody. What reads it asks here for a number, an array or a list
of a type, size and range, and gets that or a ValueError that names the entry.
"""

import reprlib

import numpy as np

__all__ = [
    "array",
    "count",
    "entries",
    "increasing",
    "names",
    "need",
    "number",
    "outcomes",
    "positive",
]


def need(good: bool, name: str, value) -> None:
    """Refuse a value unless it is good."""
    if not good:
        raise ValueError(
            "This is no fit of a MutualAutoencoder as it was saved: its entry "
            f"{name!r} is {reprlib.repr(value)}. The file is damaged or was tampered "
            "with: do not use it."
        )


def entries(value, keys, name: str) -> dict:
    """Return a dict that has just these entries."""
    need(type(value) is dict and value.keys() == set(keys), name, value)
    return value


def count(value, name: str) -> int:
    """Return an int of at least 1."""
    need(type(value) is int and value >= 1, name, value)
    return value


def number(value, name: str) -> float:
    """Return a finite float."""
    need(type(value) is float and np.isfinite(value), name, value)
    return value


def names(value, n: int, name: str) -> list[str]:
    """Return a list of n strings."""
    good = type(value) is list and len(value) == n
    need(good and all(type(entry) is str for entry in value), name, value)
    return value


def outcomes(value, name: str) -> list:
    """Return a list of distinct strings, of booleans, or of numbers without NaN."""
    need(type(value) is list, name, value)
    kinds = {type(outcome) for outcome in value}
    good = kinds <= {str} or kinds <= {bool} or kinds <= {int, float}
    need(good and all(outcome == outcome for outcome in value), name, value)
    need(len(set(value)) == len(value), name, value)
    return list(value)


def array(
    value, dtype, shape: tuple[int, ...], name: str, missing: bool = False
) -> np.ndarray:
    """Return a copy of an array of finite numbers, or of missing ones (NaN)."""
    good = isinstance(value, np.ndarray) and value.dtype == dtype
    need(good and value.shape == shape, name, value)
    finite = np.isfinite(value) | (np.isnan(value) & missing)
    need(bool(finite.all()), name, value)
    return np.array(value)


def positive(value, shape: tuple[int, ...], name: str) -> np.ndarray:
    """Return a copy of an array of positive floats."""
    value = array(value, np.float64, shape, name)
    need(bool((value > 0).all()), name, value)
    return value


def increasing(value, dtype, name: str) -> np.ndarray:
    """Return a copy of an array of at least one number, each above the last."""
    need(isinstance(value, np.ndarray) and value.size > 0, name, value)
    value = array(value, dtype, (value.size,), name)
    need(bool((np.diff(value) > 0).all()), name, value)
    return value
