"""The columns of a user's table: what they are, the way to float64 and back."""

from sklearn_mae.columns.blocks import (
    canonical,
    column_blocks,
    dense,
    is_sparse,
    row_blocks,
    rows_at_once,
)
from sklearn_mae.columns.cells import decimals_of, is_missing
from sklearn_mae.columns.frames import Columns

__all__ = [
    "Columns",
    "canonical",
    "column_blocks",
    "decimals_of",
    "dense",
    "is_missing",
    "is_sparse",
    "row_blocks",
    "rows_at_once",
]
