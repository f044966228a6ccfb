"""Kinds of columns by their names.

To add one, write a ``ColumnFamily`` (``base.py``) and name it here.
"""

from sklearn_mae.families.bernoulli import Bernoulli
from sklearn_mae.families.categorical import Categorical
from sklearn_mae.families.counts import NegativeBinomial, Poisson
from sklearn_mae.families.gaussian import Gaussian, Heteroscedastic, Isotropic
from sklearn_mae.families.positive import LogNormal
from sklearn_mae.families.student import StudentT

__all__ = ["COLUMN_FAMILIES", "OF_KIND"]

# in the order in which documents and messages list them
COLUMN_FAMILIES = {
    "gaussian": Gaussian,
    "isotropic": Isotropic,
    "heteroscedastic": Heteroscedastic,
    "lognormal": LogNormal,
    "student_t": StudentT,
    "bernoulli": Bernoulli,
    "categorical": Categorical,
    "poisson": Poisson,
    "negative_binomial": NegativeBinomial,
}
# what columns are taken for where nothing is said
OF_KIND = {"numeric": "gaussian", "category": "categorical"}
