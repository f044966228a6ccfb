"""Kinds of data, one class each, and their names.

To add a kind of column, write a ``ColumnFamily`` (``base.py``) and name it in
``registry.py``; for a kind of row, a ``RowFamily`` in ``ROW_FAMILIES``, or in
``TABLE_FAMILIES`` where it is one of tables.
"""

from sklearn_mae.families.autoregressive import AutoregressiveTable
from sklearn_mae.families.base import (
    ColumnFamily,
    Likelihood,
    RowFamily,
    Schedule,
    Structure,
)
from sklearn_mae.families.flow import FlowTable
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
    "TABLE_FAMILIES",
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
# of whole tables, whose columns are what their types say
TABLE_FAMILIES = {"autoregressive": AutoregressiveTable, "flow": FlowTable}


def likelihood_names() -> list[str]:
    """Names that a likelihood may have."""
    return [*COLUMN_FAMILIES, *TABLE_FAMILIES, *ROW_FAMILIES]


def row_family(likelihood) -> RowFamily:
    """Return the unfitted family of rows that a likelihood asks for.

    Parameters
    ----------
    likelihood : str, tuple of str, list or callable
        The name of all columns' family or of a kind of row, the name of each column's
        family, or a user's factory; "auto" or pairs, where columns are not known yet.
        A likelihood of whole tables by its name, and in a tuple with those of the
        families that its columns are read by.
    """
    if callable(likelihood):
        return UserTable()
    if isinstance(likelihood, tuple):
        if likelihood[0] in TABLE_FAMILIES:
            return TABLE_FAMILIES[likelihood[0]](Joined(likelihood[1:]))
        return Table(Joined(likelihood))
    if likelihood == "auto" or isinstance(likelihood, list):
        return Table(Joined(()))  # of columns that are not known yet
    if likelihood in TABLE_FAMILIES:
        return TABLE_FAMILIES[likelihood](Joined(()))
    if likelihood in ROW_FAMILIES:
        return ROW_FAMILIES[likelihood]()
    return Table(COLUMN_FAMILIES[likelihood]())
