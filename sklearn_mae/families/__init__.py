"""Kinds of data, one class each, and their names.

To add a kind of column, write a ``ColumnFamily`` (``base.py``) and name it in
``registry.py``; for a kind of row, a ``RowFamily`` in ``ROW_FAMILIES``.
"""

from sklearn_mae.families.base import (
    ColumnFamily,
    Likelihood,
    RowFamily,
    Schedule,
    Structure,
)
from sklearn_mae.families.given import GivenLikelihood
from sklearn_mae.families.joined import Joined
from sklearn_mae.families.modules import try_user_modules
from sklearn_mae.families.registry import COLUMN_FAMILIES, OF_KIND
from sklearn_mae.families.sequences import Sequences
from sklearn_mae.families.table import Table
from sklearn_mae.families.user import UserTable

__all__ = [
    "COLUMN_FAMILIES",
    "OF_KIND",
    "ROW_FAMILIES",
    "ColumnFamily",
    "GivenLikelihood",
    "Likelihood",
    "RowFamily",
    "Schedule",
    "Structure",
    "likelihood_names",
    "row_family",
    "try_user_modules",
]

ROW_FAMILIES = {"sequence": Sequences}


def likelihood_names() -> list[str]:
    """Names that a likelihood may have."""
    return [*COLUMN_FAMILIES, *ROW_FAMILIES]


def row_family(likelihood) -> RowFamily:
    """Return the unfitted family of rows that a likelihood asks for.

    Parameters
    ----------
    likelihood : str, tuple of str, list or callable
        The name of all columns' family or of a kind of row, the name of each column's
        family, or a user's factory; "auto" or pairs, where columns are not known yet.
    """
    if callable(likelihood):
        return UserTable()
    if isinstance(likelihood, tuple):
        return Table(Joined(likelihood))
    if likelihood == "auto" or isinstance(likelihood, list):
        return Table(Joined(()))  # of columns that are not known yet
    if likelihood in ROW_FAMILIES:
        return ROW_FAMILIES[likelihood]()
    return Table(COLUMN_FAMILIES[likelihood]())
