"""Models of given networks, without a table to fit to: exact cases of known truth.

Tests and benchmarks build their models here, as ``fit`` builds them from X.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from sklearn_mae.encoders import GaussianEncoder, Posterior
from sklearn_mae.families.base import ColumnFamily
from sklearn_mae.families.categorical import Categorical
from sklearn_mae.families.counts import LARGEST
from sklearn_mae.families.joined import Joined
from sklearn_mae.families.registry import COLUMN_FAMILIES
from sklearn_mae.families.table import TableLikelihood
from sklearn_mae.model import LatentVariableModel

__all__ = [
    "joined_columns",
    "set_scale",
    "standard_columns",
    "standard_likelihood",
    "standard_model",
]

# what such a family would have learned of each column
LEARNED = {
    "mean_": 0.0,
    "scale_": 1.0,
    "support_": np.inf,
    "rate_": 1.0,
    "largest_": LARGEST,
    "size_": 1.0,
}


def standard_columns(name: str, columns: int | Sequence[int]) -> ColumnFamily:
    """Return a family as if fitted to standardised columns, or to counts of mean 1.

    Parameters
    ----------
    name : str
        Of the family.
    columns : int or sequence of int
        Number of columns; of categories the number of each column's.
    """
    if not isinstance(columns, int):
        family = Categorical()
        family.categories_ = [np.arange(float(n)) for n in columns]
        return family
    numeric = COLUMN_FAMILIES[name]()
    for attribute in numeric.state:
        setattr(numeric, attribute, np.full(columns, LEARNED[attribute]))
    return numeric


def joined_columns(**columns: int | Sequence[int]) -> Joined:
    """Return families joined, each as ``standard_columns`` has it, in that order."""
    names: list[str] = []
    parts = []
    for name, some in columns.items():
        family = standard_columns(name, some)
        positions = np.arange(len(names), len(names) + family.n_columns)
        names += [name] * family.n_columns
        parts.append((name, family, positions))
    joined = Joined(names)
    joined.parts_ = parts
    return joined


def standard_likelihood(
    name: str, decoder: nn.Module, columns: int | Sequence[int], min_scale=0.01
) -> TableLikelihood:
    """Return p(x|z) of standardised columns from a given decoder."""
    return TableLikelihood(standard_columns(name, columns), decoder, min_scale)


@torch.no_grad()
def set_scale(likelihood: Any, scale) -> None:
    """Set the standard deviations of Gaussian columns, all above the floor."""
    floor = likelihood.floor
    log_scale = torch.as_tensor(scale, dtype=torch.float64).log().to(floor)
    raw = floor + torch.log(torch.expm1(log_scale - floor))
    likelihood.raw_log_scale.copy_(raw)


def standard_model(
    likelihood: nn.Module,
    n_inputs: int,
    n_components: int,
    hidden_layer_sizes: Sequence[int] = (16,),
    features: nn.Module | None = None,
    encoder: nn.Module | None = None,
    posterior: nn.Module | None = None,
    activation: str = "tanh",
) -> LatentVariableModel:
    """Return a model of a likelihood, with an encoder and a posterior.

    Those that are not given are Gaussian and have their initial weights.

    Parameters
    ----------
    likelihood : nn.Module
        p(x|z).
    n_inputs : int
        Numbers that encoder and posterior see.
    n_components : int
        Dimension d of the code.
    hidden_layer_sizes : sequence of int
        Of encoder and posterior.
    features : nn.Module, optional
        From x to what they see; None: x itself.
    encoder, posterior : nn.Module, optional
        To be used as they are.
    activation : str
        Of both.
    """
    network = (n_inputs, hidden_layer_sizes, n_components, activation)
    if encoder is None:
        encoder = GaussianEncoder.from_sizes(*network)
    if posterior is None:
        posterior = Posterior.from_sizes(*network)
    features = nn.Identity() if features is None else features
    return LatentVariableModel(likelihood, encoder, posterior, features, n_components)
