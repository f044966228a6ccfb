"""Kinds of data, one class each, and their names.

To add a kind of column, write a ``ColumnFamily`` (``base.py``) and name it in
``COLUMN_FAMILIES``; for a kind of row, a ``RowFamily`` in ``ROW_FAMILIES``.
"""

from sklearn_mae.families.base import (
    ColumnFamily,
    Likelihood,
    RowFamily,
    Schedule,
    Structure,
)
from sklearn_mae.families.bernoulli import Bernoulli
from sklearn_mae.families.categorical import Categorical
from sklearn_mae.families.counts import NegativeBinomial, Poisson
from sklearn_mae.families.gaussian import Gaussian, Heteroscedastic
from sklearn_mae.families.modules import try_user_modules
from sklearn_mae.families.sequences import Sequences
from sklearn_mae.families.table import Table
from sklearn_mae.families.user import UserTable

__all__ = [
    "COLUMN_FAMILIES",
    "ROW_FAMILIES",
    "ColumnFamily",
    "Likelihood",
    "RowFamily",
    "Schedule",
    "Structure",
    "likelihood_names",
    "row_family",
    "try_user_modules",
]

COLUMN_FAMILIES = {
    "bernoulli": Bernoulli,
    "categorical": Categorical,
    "gaussian": Gaussian,
    "heteroscedastic": Heteroscedastic,
    "negative_binomial": NegativeBinomial,
    "poisson": Poisson,
}
ROW_FAMILIES = {"sequence": Sequences}


def likelihood_names() -> set[str]:
    """Names that the parameter ``likelihood`` may have."""
    return COLUMN_FAMILIES.keys() | ROW_FAMILIES.keys()


def row_family(likelihood) -> RowFamily:
    """Return the unfitted family of rows that a likelihood, or a user's, asks for."""
    if callable(likelihood):
        return UserTable()
    if likelihood in ROW_FAMILIES:
        return ROW_FAMILIES[likelihood]()
    return Table(COLUMN_FAMILIES[likelihood]())
