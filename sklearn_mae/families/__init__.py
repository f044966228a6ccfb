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

# in the order in which documents and messages list them
COLUMN_FAMILIES = {
    "gaussian": Gaussian,
    "heteroscedastic": Heteroscedastic,
    "bernoulli": Bernoulli,
    "categorical": Categorical,
    "poisson": Poisson,
    "negative_binomial": NegativeBinomial,
}
ROW_FAMILIES = {"sequence": Sequences}


def likelihood_names() -> list[str]:
    """Names that the parameter ``likelihood`` may have."""
    return [*COLUMN_FAMILIES, *ROW_FAMILIES]


def row_family(likelihood) -> RowFamily:
    """Return the unfitted family of rows that a likelihood, or a user's, asks for."""
    if callable(likelihood):
        return UserTable()
    if likelihood in ROW_FAMILIES:
        return ROW_FAMILIES[likelihood]()
    return Table(COLUMN_FAMILIES[likelihood]())
