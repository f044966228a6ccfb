"""The bias of the bounds that steer the training, measured while it goes on."""

import copy
import math

import torch

from sklearn_mae.information.bounds import sandwich, weigh
from sklearn_mae.information.proposals import local_proposal
from sklearn_mae.information.quadrature import posteriors_on_lattices
from sklearn_mae.model import LatentVariableModel, draw

__all__ = ["training_bias"]

# Sets of the training's K proposals for each draw: their mean is the training's
# midpoint with less noise.
ROUGH_SETS = 4
# The better midpoint uses this many times the training's proposals.
FINER = 8
# Rows times columns for which a grid is affordable while training, and rows times
# points times columns of the finest grid.
ROWS_ON_GRID, NUMBERS_ON_GRID = 20_000, 3e7


@torch.no_grad()
def training_bias(
    model: LatentVariableModel,
    n_samples: int,
    n_proposals: int,
    generator: torch.Generator,
    widest: float = math.inf,
) -> tuple[float, float]:
    """Estimate by how much the training's midpoint overstates I(x, z).

    The training's midpoint of L_K and U_K has few proposals, from r_omega. Here it is
    averaged over several sets of them, and compared with a far better midpoint for the
    *same* joint draws. Most of the noise is common to both and cancels.

    Parameters
    ----------
    model : LatentVariableModel
        The model.
    n_samples : int
        Joint draws.
    n_proposals : int
        K of the training.
    generator : torch.Generator
        Source of all draws.
    widest : float
        Gap at which the training cuts its upper bound off, in nats.

    Returns
    -------
    bias, gap : float
        Mean difference of the midpoints, and mean gap of the better bounds, in nats.
        NaN where the model diverged.
    """
    at_once = model.at_once(n_samples)
    sizes = [min(at_once, n_samples - i) for i in range(0, n_samples, at_once)]
    parts = [_bias_and_gaps(model, n, n_proposals, generator) for n in sizes]
    columns = zip(*parts, strict=True)
    bias, gap, rough = (
        sum(n / n_samples * part for n, part in zip(sizes, each, strict=True))
        for each in columns
    )
    return bias - 0.5 * max(0.0, rough - widest), gap


def _bias_and_gaps(model, n_samples, n_proposals, generator) -> tuple[float, ...]:
    """Mean difference of midpoints, and mean gaps of the better and rough bounds."""
    z0 = model.independent_codes(n_samples, generator)
    p = model.rows(z0, generator)
    x = draw(p, (), generator, reparametrised=False)
    log_lik = p.log_prob(x)
    n_rough = ROUGH_SETS * n_proposals
    rough = weigh(model, x, z0, log_lik, model.r(x), n_rough, generator)
    sets = rough.log_w.unflatten(0, (n_proposals, ROUGH_SETS))
    rough = rough._replace(log_w=sets)
    posteriors = None
    small = x.shape.numel() <= ROWS_ON_GRID and model.many_codes
    if model.n_components == 1 and small:
        # sums over a fine grid lose too much in float32
        exact = copy.deepcopy(model).double()
        posteriors = posteriors_on_lattices(
            exact,
            x.to(torch.float64),
            z0.double(),
            log_lik.double(),
            generator,
            NUMBERS_ON_GRID,
        )
    if posteriors is not None:
        bounds = (log_lik - posteriors.log_marginal,) * 2
    else:
        proposal = local_proposal(model, x)
        n_fine = FINER * n_proposals
        bounds = sandwich(weigh(model, x, z0, log_lik, proposal, n_fine, generator))
    lower, upper = bounds
    rough_lower, rough_upper = sandwich(rough)  # (sets, n)
    bias = 0.5 * (rough_lower + rough_upper - lower - upper)
    means = bias.mean(), (upper - lower).mean(), (rough_upper - rough_lower).mean()
    bias, gap, rough_gap = (float(mean) for mean in means)
    return bias, gap, rough_gap
