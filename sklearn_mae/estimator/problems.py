"""Tables that hold what no model takes, and what to say of them."""

import datetime
import reprlib

import numpy as np

from sklearn_mae.columns import is_missing, is_sparse

__all__ = ["numbers_problem", "table_problem"]


def table_problem(X, holes: bool = False) -> TypeError | ValueError | None:
    """Return what to raise of columns that hold what no model takes, or None.

    ``holes``: whether entries may be missing.

    scikit-learn's own check stops at the first entry and names no column.
    """
    return _problem(_named_columns(X), holes)


def numbers_problem(X: np.ndarray, names, holes: bool) -> Exception | None:
    """Return what to raise of columns of float64 with such names, or None."""
    if np.isfinite(X).all():
        return None
    return _problem(list(zip(names, X.T, strict=True)), holes)


def _problem(columns, holes: bool) -> TypeError | ValueError | None:
    for is_bad, error, message in PROBLEMS:
        if holes and is_bad is _first_missing:
            continue
        bad = [
            (name, values[found])
            for name, values in columns
            if (found := is_bad(values)) is not None
        ]
        if bad:
            names, values = zip(*bad, strict=True)
            example = f"{reprlib.repr(values[0])} of type {type(values[0]).__name__}"
            return error(message.format(", ".join(names), example))
    return None


def _named_columns(X) -> list[tuple[str, np.ndarray]]:
    if hasattr(X, "iloc"):  # pandas: names may be of any kind
        columns = (X.iloc[:, j] for j in range(X.shape[1])) if X.ndim == 2 else ()
        return [(str(column.name), np.asarray(column)) for column in columns]
    if hasattr(X, "columns") and hasattr(X, "dtypes"):  # polars
        return [(str(name), np.asarray(X[name])) for name in X.columns]
    if hasattr(X, "column_names") and hasattr(X, "column"):  # pyarrow
        names = enumerate(X.column_names)
        return [(str(name), np.asarray(X.column(j))) for j, name in names]
    if is_sparse(X) and X.format == "csr" and X.dtype.kind == "f":
        wrong = ~np.isfinite(X.data)
        columns, values = X.indices[wrong], X.data[wrong]
        return [(str(j), values[columns == j]) for j in np.unique(columns)]
    if isinstance(X, list | tuple):
        try:
            X = np.asarray(X, dtype=object)
        except ValueError:  # of unequal depth
            return []
    if not isinstance(X, np.ndarray) or X.ndim != 2:
        return []
    if X.dtype in (np.float32, np.float64) and np.isfinite(X).all():
        return []
    return [(str(j), column) for j, column in enumerate(X.T)]


def _first(column: np.ndarray, is_bad) -> int | None:
    """Return the place of the first of the entries that is bad, None if none is."""
    return next((i for i, value in enumerate(column) if is_bad(value)), None)


def _first_string(column: np.ndarray) -> int | None:
    if column.dtype.kind not in "USTO":
        return None
    return _first(column, lambda value: isinstance(value, str | bytes))


def _first_date(column: np.ndarray) -> int | None:
    if column.dtype.kind in "mM":
        return 0 if len(column) else None
    # (the last is how a pandas Period is known)
    kinds = (datetime.date, datetime.time, datetime.timedelta)
    return _first_object(
        column, lambda value: isinstance(value, kinds) or hasattr(value, "to_timestamp")
    )


def _first_other(column: np.ndarray) -> int | None:
    if column.ndim > 1 or column.dtype.kind == "V":  # cells of several values
        return 0 if len(column) else None
    return _first_object(
        column, lambda value: not is_missing(value) and _as_float(value) is None
    )


def _first_missing(column: np.ndarray) -> int | None:
    if column.dtype.kind == "f":
        missing = np.isnan(column)
        return int(missing.argmax()) if missing.any() else None
    return _first_object(column, is_missing)


def _first_infinity(column: np.ndarray) -> int | None:
    if column.dtype.kind == "f":
        with np.errstate(over="ignore"):
            infinite = np.isinf(column.astype(np.float64))
        return int(infinite.argmax()) if infinite.any() else None
    return _first_object(column, lambda value: _as_float(value) in (-np.inf, np.inf))


def _first_object(column: np.ndarray, is_bad) -> int | None:
    return _first(column, is_bad) if column.dtype.kind == "O" else None


def _as_float(value) -> float | None:
    """Return an entry as a float, infinite if it is too large; None if it is none."""
    try:
        return float(value)
    except OverflowError:
        return np.inf
    except (TypeError, ValueError):
        return None


PROBLEMS = (
    (
        _first_string,
        ValueError,
        "could not convert string to float: column(s) {} of X hold text. Encode them, "
        "for example with sklearn.preprocessing.OneHotEncoder in a ColumnTransformer "
        "(OrdinalEncoder for likelihood='categorical'), or drop them.",
    ),
    (
        _first_date,
        ValueError,
        "could not convert dates to float: column(s) {} of X hold dates or durations. "
        "Turn them into numbers, for example of days, or drop them.",
    ),
    (
        _first_other,
        TypeError,
        "argument must be a string or a real number: column(s) {} of X hold what is "
        "neither, such as {}. Turn them into numbers or drop those columns.",
    ),
    (
        _first_missing,
        ValueError,
        "Input X contains NaN. Column(s) {} hold missing values, which sequences, "
        "flows and callable likelihoods do not take. Fill them, for example with "
        "sklearn.impute.SimpleImputer in a Pipeline, or drop those rows.",
    ),
    (
        _first_infinity,
        ValueError,
        "Input X contains infinity or a value too large for dtype('float64') in "
        "column(s) {}. Clip or transform them, or drop those rows.",
    ),
)
