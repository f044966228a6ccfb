"""Rounding: where single precision is as good as double, and what is below it."""

import copy
import math

import torch
from torch import Tensor

from sklearn_mae.model.distributions import draw
from sklearn_mae.model.latent import LatentVariableModel

__all__ = ["in_single_precision", "without_underflow"]

# joint draws whose log-densities are compared in both precisions, and by how many nats
# they may differ in the mean
N_COMPARED, ROUNDING = 200, 1e-3


@torch.no_grad()
def in_single_precision(
    model: LatentVariableModel, generator: torch.Generator
) -> LatentVariableModel | None:
    """Return a copy in float32 if its log-densities are as good, else None.

    Those of p(x, z) and of q(z|x) are compared, at joint draws of the model.
    """
    z = model.independent_codes(model.at_once(N_COMPARED), generator)
    x = draw(model.rows(z, generator), (), generator, reparametrised=False)
    single = copy.deepcopy(model).float()
    x32, z32 = x.to(torch.float32), z.to(torch.float32)
    joint = single.log_joint(x32, z32) - model.log_joint(x, z)
    encoder = single.q(x32).log_prob(z32) - model.q(x).log_prob(z)
    # (a NaN is not below)
    off = (difference.abs().mean() for difference in (joint, encoder))
    return single if all(float(mean) < ROUNDING for mean in off) else None


def without_underflow(log_w: Tensor, dim: int) -> Tensor:
    """Set weights far below the rounding of the largest to 0.

    A weight of less than the square of that rounding changes no sum. Its gradient is a
    number so small that processors take a hundred times as long for it; that of 0 is 0.
    On wide rows, whose weights differ most, a step takes half as long.

    Parameters
    ----------
    log_w : Tensor
        Logarithms of weights.
    dim : int
        Along which they are summed.
    """
    least = 2 * math.log(torch.finfo(log_w.dtype).eps)
    below = log_w.detach() - log_w.detach().amax(dim, keepdim=True) < least
    return log_w.masked_fill(below, -math.inf)
