"""What a user hands over as a table, brought to what scikit-learn's checks can read.

What only seems to be a table is refused by what it is; columns whose entries are wrong
are named (``problems.table_problem``); all else is left to scikit-learn.
"""

import reprlib
from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from numbers import Number

import numpy as np
import torch

__all__ = ["as_table"]

# any of them says: there are numbers to be had
TABLES = ("__array__", "__array_interface__", "__dataframe__", "shape")


def as_table(X, name: str):
    """Return a table that scikit-learn can read: masked entries are missing ones.

    Parameters
    ----------
    X : object
        What the user passed.
    name : str
        Of the argument, for messages.

    Returns
    -------
    array-like
        X itself, or an array or a list made of it.

    Raises
    ------
    TypeError, ValueError
        If X is no table.
    """
    if isinstance(X, np.ndarray) and X.dtype == object and X.ndim < 2:
        X = X.tolist()  # what holds objects is what it holds
    if isinstance(X, list | tuple):
        X = [_as_array(row, name) for row in X]
        _check_rows(X, name)
    X = _as_array(X, name)
    problem = _no_table(X)
    if problem is not None:
        kind = type(X).__name__
        raise TypeError(
            f"{name} is no table but {reprlib.repr(X)} of type {kind}{problem}. Pass "
            "an array, a data frame or a list of rows, of shape (n_samples, n_columns)."
        )
    names = getattr(X, "column_names", getattr(X, "columns", None))
    names = [] if names is None else list(names)
    repeated = [str(each) for each, n in Counter(map(str, names)).items() if n > 1]
    if repeated:
        raise ValueError(
            f"{name} has several columns of the same name: {', '.join(repeated)}. "
            "Rename or drop them, so that each name stands for one column."
        )
    return X


def _as_array(X, name: str):
    """Make arrays of tensors and of masked arrays; return anything else as it is."""
    if isinstance(X, torch.Tensor):
        return _of_tensor(X, name)
    if not isinstance(X, np.ma.MaskedArray) or X.dtype.names:
        return X
    if not np.ma.is_masked(X):
        return X.data
    if X.dtype.kind in "biu":
        X = X.astype(np.float64)
    elif X.dtype.kind not in "fc":
        X = X.astype(object)
    return X.filled(np.nan)


def _of_tensor(X: torch.Tensor, name: str) -> np.ndarray:
    if X.is_meta:
        raise TypeError(
            f"{name} is a tensor on the device 'meta', which holds no values. Pass one "
            "on the CPU."
        )
    if X.layout != torch.strided:
        raise TypeError(
            f"Sparse data was passed for {name}, a tensor of layout {X.layout}, but "
            f"dense data is required. Use {name}.to_dense()."
        )
    try:
        X = X.detach().cpu().resolve_conj().resolve_neg()
        if X.is_quantized:
            X = X.dequantize()
        if X.is_floating_point() and X.dtype not in (torch.float32, torch.float64):
            X = X.float()  # of the small types numpy knows one
        return X.numpy()
    except (NotImplementedError, RuntimeError, TypeError) as error:
        raise TypeError(
            f"{name} is a tensor of type {X.dtype} that cannot be made an array: "
            f"{error}. Pass an ordinary tensor or an array."
        ) from error


def _check_rows(X: list, name: str) -> None:
    """Refuse a list whose rows are of different lengths, or none."""
    lengths = [_length(row) for row in X]
    if len(set(lengths)) > 1:
        other = next(i for i, length in enumerate(lengths) if length != lengths[0])
        first, second = (
            f"row {i} is {reprlib.repr(X[i])}"
            if lengths[i] is None
            else f"row {i} has {lengths[i]} entries"
            for i in (0, other)
        )
        raise ValueError(
            f"The rows of {name} are not of one length: {first} and {second}. Fill "
            "or cut them."
        )
    if lengths[:1] == [None]:
        for i, row in enumerate(X):
            # (a list of texts, or of numbers, is refused as such)
            if not isinstance(row, Number | str | bytes | np.generic | np.ndarray):
                raise TypeError(
                    f"Row {i} of {name} is {reprlib.repr(row)} of type "
                    f"{type(row).__name__}, and no sequence; argument must be a table "
                    "whose entries are a string or a real number each. Pass an array, "
                    "a data frame or a list of rows."
                )


def _length(row) -> int | None:
    """Return the number of entries of a row, None if it is no sequence."""
    if isinstance(row, str | bytes | Mapping | AbstractSet):
        return None
    if not hasattr(row, "__len__") or not hasattr(row, "__getitem__"):
        return None
    return None if getattr(row, "ndim", 1) == 0 else len(row)


def _no_table(X) -> str | None:
    """Say what to do with what is no table; None for a table and what may be one."""
    if hasattr(X, "collect"):
        return ", whose rows are not computed yet: call its collect()"
    if getattr(getattr(X, "dtype", None), "names", None):
        fields = ", ".join(X.dtype.names)
        return (
            f" with the fields {fields}: make columns of them by "
            "numpy.lib.recfunctions.structured_to_unstructured or pandas.DataFrame"
        )
    if isinstance(X, Mapping) and not hasattr(X, "shape"):  # (some sparse ones are)
        return ": make columns of its entries, for example by pandas.DataFrame"
    if hasattr(X, "__next__"):
        return ", which can be read once only: make a list of it"
    if isinstance(X, Number | str | bytes | Sequence | memoryview):
        return None  # for other checks to say more of
    if any(hasattr(X, attribute) for attribute in TABLES):
        return None
    return ""
