"""The columns of a user's table: what they are, the way to float64 and back."""

from sklearn_mae.columns.frames import Columns

__all__ = ["Columns"]
