"""The latent-variable model: prior, distributions, networks."""

from sklearn_mae.model.classes import ClassNormals, class_means
from sklearn_mae.model.distributions import (
    LOG_SQRT_2PI,
    DiagonalNormal,
    PrivateDistribution,
    draw,
    normal_of,
    transport,
)
from sklearn_mae.model.latent import MAX_OUTCOMES, Cost, LatentVariableModel
from sklearn_mae.model.networks import ACTIVATIONS, mlp
from sklearn_mae.model.precision import in_single_precision, without_underflow
from sklearn_mae.model.prior import BlockPrior, Prior, StandardNormal
from sklearn_mae.model.rows import Pool, RowDistribution, Rows
from sklearn_mae.model.torch_state import plain_torch, private_random

__all__ = [
    "ACTIVATIONS",
    "LOG_SQRT_2PI",
    "MAX_OUTCOMES",
    "BlockPrior",
    "ClassNormals",
    "Cost",
    "DiagonalNormal",
    "LatentVariableModel",
    "Pool",
    "Prior",
    "PrivateDistribution",
    "RowDistribution",
    "Rows",
    "StandardNormal",
    "class_means",
    "draw",
    "in_single_precision",
    "mlp",
    "normal_of",
    "plain_torch",
    "private_random",
    "transport",
    "without_underflow",
]
