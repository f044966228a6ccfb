"""Rows that a user hands over, checked, as numbers; and the way back.

Numbers in arrays are scikit-learn's to check. Data frames, and arrays of objects or
booleans, are read column by column (``columns/``) and come back as they came.
"""

import reprlib
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import narwhals.stable.v2 as nw
import numpy as np
from sklearn.utils import check_array
from sklearn.utils.validation import validate_data

from sklearn_mae.columns import Columns, canonical, dense, is_missing, is_sparse
from sklearn_mae.estimator.fitted import Fitted
from sklearn_mae.estimator.inputs import as_table
from sklearn_mae.estimator.likelihoods import (
    by_column,
    is_table,
    settled_likelihood,
    wanted,
)
from sklearn_mae.estimator.problems import numbers_problem, table_problem
from sklearn_mae.estimator.sparse import takes_sparse
from sklearn_mae.families import RowFamily, row_family

__all__ = [
    "RowsOfFit",
    "check_fills",
    "index_of",
    "row_given",
    "rows_of_fit",
    "rows_of_next_fit",
    "rows_of_transform",
]


class RowsOfFit(NamedTuple):
    """What ``fit`` has read of a table.

    ``X`` are rows as numbers, NaN where an entry is missing (a sparse table stays
    sparse), ``columns`` the way there and back (None: X is what it was),
    ``likelihood`` that of each column, settled.
    """

    X: Any
    columns: Columns | None
    likelihood: Any


def rows_of_fit(estimator, X) -> RowsOfFit:
    """Read the rows of a first fit, or refuse them."""
    likelihood = estimator.likelihood
    family = row_family(likelihood)
    X = _table(X, family)
    if not is_table(likelihood):
        return RowsOfFit(_numbers(estimator, X, family, reset=True), None, likelihood)
    if not _has_columns(X):
        X = _numbers(estimator, X, family, reset=True)
        names = by_column(likelihood, X, None, X.shape[1])
        return RowsOfFit(X, None, settled_likelihood(likelihood, names, None))
    validate_data(estimator, X, reset=True, skip_check_array=True)
    labels = getattr(estimator, "feature_names_in_", None)
    names = by_column(likelihood, X, labels, estimator.n_features_in_)
    columns = Columns().fit(X, wanted(likelihood, names))
    rows = _encoded(estimator, X, columns, family)
    return RowsOfFit(
        rows, columns, settled_likelihood(likelihood, names, columns.kinds_)
    )


def rows_of_transform(
    estimator, X, warn: bool = True, fills: bool = False
) -> np.ndarray:
    """Return rows for a fitted estimator, dense, or refuse them.

    ``warn``: of categories that fit has not seen, and of holes that nothing knows of,
    unless the method ``fills`` them.
    """
    fitted = estimator._fitted
    X = _table(X, fitted.family)
    if takes_sparse(fitted.family):
        X = dense(X)
    if fitted.columns is None or not (_has_columns(X) or _is_two_dimensional(X)):
        rows = _numbers(estimator, X, fitted.family, reset=False)
    else:
        validate_data(estimator, X, reset=False, skip_check_array=True)
        rows = _encoded(estimator, X, fitted.columns, fitted.family, warn)
    if warn and not fills and fitted.knows_its_holes_alone:
        _warn_of_holes(fitted.family.unforeseen(rows))
    return rows


def _warn_of_holes(names: list[str]) -> None:
    if names:
        warnings.warn(
            f"Column(s) {', '.join(names)} of X miss entries, and none of fit's rows "
            "did. With target='condition' or likelihood='autoregressive' nothing "
            "stands in for what networks have not learned: codes and log p(x) of such "
            "rows are off. Fit on rows with such holes, or fill them with impute.",
            UserWarning,
            stacklevel=3,
        )


def rows_of_next_fit(estimator, X) -> RowsOfFit:
    """Read rows that go on from a fit, as that fit read its own."""
    fitted, likelihood = estimator._fitted, estimator.likelihood
    if is_sparse(X) and fitted.columns is None:
        rows = _numbers(estimator, _table(X, fitted.family), fitted.family, reset=False)
    else:
        rows = rows_of_transform(estimator, X, fills=True)
    if is_table(likelihood):
        names = by_column(likelihood, X, fitted.feature_names_in_, rows.shape[1])
        kinds = None if fitted.columns is None else fitted.columns.kinds_
        likelihood = settled_likelihood(likelihood, names, kinds)
    columns = fitted.columns
    return RowsOfFit(rows, columns and columns.seeing(rows), likelihood)


def check_fills(fitted: Fitted, name: str) -> None:
    """Refuse rows whose missing entries no method can fill."""
    if not fitted.family.holes:
        raise ValueError(
            f"{name} is for tables, and with likelihood={fitted.likelihood_!r} no "
            "entry of a row can be left out. Fit a table with likelihood='auto' or "
            "'autoregressive'."
        )


def row_given(estimator, given) -> np.ndarray:
    """Return one row as numbers from its known entries; the others are missing."""
    try:
        return _row_given(estimator, given)
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(
            f"given={reprlib.repr(given)} is no row of this table: {error}"
        ) from error


def _row_given(estimator, given) -> np.ndarray:
    fitted = estimator._fitted
    n, columns = fitted.n_features_in_, fitted.columns
    labels = list(range(n)) if columns is None else columns.labels
    row = _as_mapping(given)
    if row is None:
        if np.ndim(given) != 2:
            raise TypeError(
                "it is neither a mapping nor a table of one row. Pass known entries by "
                f"their columns, as in given={{{labels[0]!r}: ...}}."
            )
        found = rows_of_transform(estimator, given, fills=True)
        if len(found) != 1:
            raise ValueError(_rows_given(len(found)))
        return found
    unknown = [label for label in row if label not in labels]
    if unknown or not row:
        raise ValueError(
            f"it names {unknown or 'no columns'}. Pass known entries by their columns, "
            f"some of {labels[:20]}."
        )
    entries = np.full((1, n), None, dtype=object)
    for label, value in row.items():
        entries[0, labels.index(label)] = value
    if columns is None:
        error = table_problem(entries, holes=True)
        if error is not None:
            raise error
        numbers = [np.nan if is_missing(x) else float(x) for x in entries[0]]
        found = np.array([numbers])
    else:
        found = _encoded(estimator, entries, columns, fitted.family, warn=False)
    there = fitted.family.observed(found)[0]
    for label, value in row.items():
        if not is_missing(value) and not there[labels.index(label)]:
            raise ValueError(
                f"it holds {value!r} for column {label!r}, a category that fit has not "
                "seen. Pass one that it has, or leave the column out."
            )
    return found


def _as_mapping(given) -> dict | None:
    """Return known entries by their columns; None for a row without names."""
    if isinstance(given, Mapping):
        return dict(given)
    if getattr(given, "ndim", None) == 1 and hasattr(given, "to_dict"):
        return given.to_dict()  # a row of a pandas frame
    frame = nw.from_native(given, eager_only=True, pass_through=True)
    if not isinstance(frame, nw.DataFrame):
        return None
    if len(frame) != 1:
        raise ValueError(_rows_given(len(frame)))
    return dict(zip(frame.columns, frame.row(0), strict=True))


def _rows_given(n: int) -> str:
    return f"it has {n} rows. Pass one, and call sample for each row."


def index_of(X):
    """Return the index of a pandas frame, None for anything else."""
    return getattr(X, "index", None) if hasattr(X, "iloc") else None


def _table(X, family: RowFamily):
    problem = family.text_problem(X)
    if problem is not None:
        raise ValueError(problem)
    return as_table(X, "X")


def _is_two_dimensional(X) -> bool:
    """Whether X is an array of numbers, or a list of rows, of two dimensions."""
    if isinstance(X, list):
        return len(X) > 0 and hasattr(X[0], "__len__") and not isinstance(X[0], str)
    return isinstance(X, np.ndarray) and X.ndim == 2 and X.dtype.kind in "fiu"


def _has_columns(X) -> bool:
    """Whether X is to be read column by column."""
    if isinstance(X, np.ndarray):
        return X.ndim == 2 and X.dtype.kind in "ObUST" and X.size > 0
    if isinstance(X, list):
        try:
            rows = np.asarray(X)
        except ValueError:  # of unequal depth
            return False
        if rows.ndim != 2 or rows.dtype.kind == "c":
            return False
        # (among numbers numpy takes a boolean for one)
        truths = any(isinstance(x, bool | np.bool_) for row in X for x in row)
        return truths or rows.dtype.kind not in "fiu"
    frame = hasattr(X, "columns") or hasattr(X, "column_names")
    return frame and len(getattr(X, "shape", ())) == 2 and 0 not in X.shape


def _numbers(estimator, X, family: RowFamily, reset: bool):
    """Check rows that are numbers; sparse ones, where they may be, come back as CSR."""
    holes, may_be_sparse = family.holes, takes_sparse(family)
    if is_sparse(X) and may_be_sparse:
        X = canonical(X)
    error = table_problem(X, holes)
    if error is not None:
        # wrong names and wrong widths come first
        validate_data(estimator, X, reset=reset, skip_check_array=True)
        raise error
    return validate_data(
        estimator,
        X,
        reset=reset,
        accept_sparse="csr" if may_be_sparse else False,
        dtype=[np.float64, np.float32],
        order="C",
        ensure_all_finite="allow-nan" if holes else True,
    )


def _encoded(
    estimator, X, columns: Columns, family: RowFamily, warn: bool = True
) -> np.ndarray:
    """Read rows column by column."""
    values = columns.encode(X, warn=warn)
    error = numbers_problem(values, columns.names_, family.holes)
    if error is not None:
        raise error
    values = check_array(
        values,
        order="C",
        ensure_all_finite="allow-nan",
        input_name="X",
        estimator=estimator,
    )
    singles = {str(dtype).lower() for dtype in getattr(X, "dtypes", ())} == {"float32"}
    return values.astype(np.float32) if singles else values
