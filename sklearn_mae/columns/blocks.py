"""Sparse tables, made dense a block at a time; an array is one block.

A block holds so few numbers that what is computed of it takes little memory.
"""

from collections.abc import Iterator

import numpy as np
from scipy import sparse

__all__ = [
    "canonical",
    "column_blocks",
    "dense",
    "is_sparse",
    "row_blocks",
    "rows_at_once",
]

# 17 MB in float64
NUMBERS_AT_ONCE = 1 << 21
# rows whose figures are computed at once: blocks are of a multiple, where they can be
ROWS_AT_ONCE = 64


def is_sparse(X) -> bool:
    """Whether X is a sparse array or matrix of scipy's."""
    return sparse.issparse(X)


def canonical(X):
    """Return sparse rows as a CSR array, entries that are given twice added up."""
    rows = sparse.csr_array(X)
    if not rows.has_canonical_format:
        rows = rows.copy()  # (it may share its entries with X)
        rows.sum_duplicates()
    return rows


def dense(X):
    """Return sparse rows as an array, and anything else as it is."""
    return X.toarray(order="C") if sparse.issparse(X) else X


def rows_at_once(n_columns: int) -> int:
    """Return the number of rows of a block."""
    rows = max(1, NUMBERS_AT_ONCE // max(1, n_columns))
    return rows if rows < ROWS_AT_ONCE else rows - rows % ROWS_AT_ONCE


def row_blocks(X) -> Iterator[np.ndarray]:
    """Yield all rows of X, dense, block by block."""
    if not sparse.issparse(X):
        yield X
        return
    X, rows = canonical(X), rows_at_once(X.shape[1])
    for start in range(0, max(1, X.shape[0]), rows):
        yield dense(X[start : start + rows])


def column_blocks(X) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield positions of columns and these columns, dense, block by block."""
    n, m = X.shape
    if not sparse.issparse(X):
        yield np.arange(m), X
        return
    X, columns = X.tocsc(), max(1, NUMBERS_AT_ONCE // max(1, n))
    for start in range(0, m, columns):
        positions = np.arange(start, min(m, start + columns))
        # entries of a column side by side, as those of X[:, columns] of an array: sums
        # over rows are rounded alike
        yield positions, X[:, positions].toarray(order="F")
