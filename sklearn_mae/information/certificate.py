"""Estimates of I(x, z) with standard errors: exact where sums or grids allow it.

A grid or a sum over outcomes reports what it is sure to resolve and hands over what it
does not. What is sampled reports draws made after the choice of their number, and of
the number of proposals, was final.
"""

import copy
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sklearn_mae.information.annealing import (
    N_LEAPFROG,
    TUNED_ON,
    tuned_step_sizes,
    weigh_chains,
)
from sklearn_mae.information.bounds import (
    control_variates,
    correction,
    sandwich,
    weigh,
)
from sklearn_mae.information.common import (
    bracket_of_means,
    enumerated_means,
    row_means,
)
from sklearn_mae.information.proposals import local_proposal
from sklearn_mae.information.quadrature import (
    DECODED_AT_ONCE,
    NUMBERS_ON_GRIDS,
    enumerate_on_lattices,
    posteriors_on_lattices,
)
from sklearn_mae.model import LatentVariableModel, draw

__all__ = [
    "estimate_sandwich",
    "information_of_model",
    "regressed_mean",
    "training_bias",
]

# a coefficient that few samples support adds more noise than it takes away
SAMPLES_PER_CONTROL = 20
# spread of controls, alone or together, below which they are left out: their scale is
# 1, their means are zero but for the rounding or a grid's error that a tiny spread is
SPREAD = 0.01
# of the training's proposals for each draw that its bias is measured with
ROUGH_SETS = 4
# rows times points times columns of a grid while training
NUMBERS_IN_TRAINING = 3e7
# proposals whose weights are held at once
WEIGHED_AT_ONCE = 32_768
# where the proposals are annealed: chains for each draw, and draws of the pilot run
CHAINS, ANNEALED_PILOT = 4, 100
# of sequences
ROWS_WITH_GRADIENTS = 64
# where codes are shared by all rows: joint draws of the pilot run, and rows times codes
# times columns of the pilot run and of the final one
COMMON_PILOT, NUMBERS_OF_PILOT, NUMBERS_IN_COMMON = 400, 3e7, 3e8
# of the prior, where outcomes are summed
FEWEST_CODES = 50_000


def regressed_mean(
    values: np.ndarray, controls: np.ndarray, n_folds: int = 5
) -> tuple[float, float]:
    """Mean of values with regressed control variates, and its standard error.

    The coefficients for a fold come from the other folds: fitted on the same samples
    they would bias the mean and flatter the standard error.

    Parameters
    ----------
    values : ndarray of shape (n,)
        Samples.
    controls : ndarray of shape (n, c)
        Controls of known mean zero and a scale of about 1, the most useful first: no
        more than one for every 20 samples are used, and none that hardly vary.
    n_folds : int
        Number of folds.

    Returns
    -------
    mean, standard_error : float
        In the units of ``values``; NaN where a sample is not finite.
    """
    values, controls = np.asarray(values, float), np.asarray(controls, float)
    if not (np.isfinite(values).all() and np.isfinite(controls).all()):
        return math.nan, math.nan
    controls = controls[:, : len(values) // SAMPLES_PER_CONTROL]
    residuals = np.empty_like(values)
    fold = np.arange(len(values)) % n_folds
    for k in range(n_folds):
        inside, outside = fold == k, fold != k
        design = controls[outside] - controls[outside].mean(0)
        centred = values[outside] - values[outside].mean()
        left, sizes, right = np.linalg.svd(design, full_matrices=False)
        varies = sizes > SPREAD * len(design) ** 0.5
        along = left[:, varies].T @ centred / sizes[varies]
        coefficients = along @ right[varies]
        residuals[inside] = values[inside] - controls[inside] @ coefficients
    return float(residuals.mean()), float(residuals.std(ddof=1) / len(values) ** 0.5)


def _prior_draws(model, n, generator):
    z = model.reference.new_empty(n, model.n_components)
    return z.detach().normal_(generator=generator)


@torch.no_grad()
def estimate_sandwich(
    model: LatentVariableModel,
    n_samples: int,
    n_proposals: int,
    generator: torch.Generator,
    step_sizes: Tensor | None = None,
) -> dict[str, float]:
    """Estimate both bounds from fresh joint draws.

    Parameters
    ----------
    model : LatentVariableModel
        The model, in the precision and on the device to compute in.
    n_samples : int
        Joint draws (z0, x).
    n_proposals : int
        Proposals K for each.
    generator : torch.Generator
        Source of all draws.
    step_sizes : Tensor of shape (T,), optional
        To anneal the proposals with, through T temperatures (``annealing.py``).

    Returns
    -------
    dict
        ``lower``, ``upper``, ``lower_se``, ``upper_se`` in nats.
    """
    values, controls = [], []
    at_once = WEIGHED_AT_ONCE if step_sizes is None else DECODED_AT_ONCE
    rows = max(1, at_once // n_proposals)
    if model.likelihood.slow:  # gradients keep every word's probability
        rows = min(rows, ROWS_WITH_GRADIENTS)
    codes = _prior_draws(model, n_samples, generator)
    for z0 in codes.split(rows):
        p = model.likelihood(z0)
        x = draw(p, (), generator, reparametrised=False)
        joint = model, x, z0, p.log_prob(x), local_proposal(model, x), n_proposals
        if step_sizes is None:
            weighted = around = weigh(*joint, generator)
        else:
            weighted, around = weigh_chains(*joint, step_sizes, generator)
        values.append(torch.stack(sandwich(weighted)) + correction(around))
        controls.append(control_variates(around))
    both = torch.cat(values, 1).double().cpu().numpy()
    regressors = torch.cat(controls).double().cpu().numpy()
    estimates = [regressed_mean(values, regressors) for values in both]
    (lower, lower_se), (upper, upper_se) = estimates
    return {
        "lower": lower,
        "upper": upper,
        "lower_se": lower_se,
        "upper_se": upper_se,
    }


@torch.no_grad()
def training_bias(
    model: LatentVariableModel,
    n_samples: int,
    n_proposals: int,
    generator: torch.Generator,
    widest: float = math.inf,
) -> tuple[float, float]:
    """Estimate by how much the training's midpoint overstates I(x, z).

    The midpoint of L_K and U_K with few proposals from r_omega, averaged over several
    sets of them, against a far better one for the *same* joint draws: what both share,
    most of the noise, cancels.

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
        Mean difference, and the distance of the better one's own bounds, in nats; NaN
        where it failed.
    """
    z0 = _prior_draws(model, n_samples, generator)
    p = model.likelihood(z0)
    x = draw(p, (), generator, reparametrised=False)
    log_lik = p.log_prob(x)
    n_rough = ROUGH_SETS * n_proposals
    rough = weigh(model, x, z0, log_lik, model.r(x), n_rough, generator)
    sets = rough.log_w.unflatten(0, (n_proposals, ROUGH_SETS))
    rough = rough._replace(log_w=sets)
    posteriors = None
    small = x.numel() <= 20_000 and not model.likelihood.slow
    if model.n_components == 1 and small:
        # sums over a fine grid lose too much in float32
        exact = copy.deepcopy(model).double()
        posteriors = posteriors_on_lattices(
            exact,
            x.double() if x.is_floating_point() else x,
            z0.double(),
            log_lik.double(),
            generator,
            NUMBERS_IN_TRAINING,
        )
    if posteriors is not None:
        bounds = (log_lik - posteriors.log_marginal,) * 2
    else:
        proposal = local_proposal(model, x)
        fine = weigh(model, x, z0, log_lik, proposal, 8 * n_proposals, generator)
        bounds = sandwich(fine)
    lower, upper = bounds
    rough_lower, rough_upper = sandwich(rough)  # (sets, n)
    bias = 0.5 * (rough_lower + rough_upper - lower - upper)
    cut = 0.5 * max(0.0, float((rough_upper - rough_lower).mean()) - widest)
    return float(bias.mean()) - cut, float((upper - lower).mean())


def information_of_model(
    model: LatentVariableModel,
    n_samples: int,
    tol: float,
    generator: torch.Generator,
    budget: int = 2_000_000,
) -> dict:
    """Bracket I(x, z) of the model, in nats.

    Sums over outcomes where x can be listed, a grid over z in one or two dimensions,
    else the sandwich.

    Parameters
    ----------
    model : LatentVariableModel
        In float64.
    n_samples : int
        Joint draws to begin with.
    tol : float
        Width of the interval, two standard errors on each side included, at which to
        stop.
    generator : torch.Generator
        Source of all draws.
    budget : int
        Codes that the sandwich may decode to come nearer to ``tol``, gradients counted
        as what they cost.

    Returns
    -------
    dict
        ``lower``, ``upper``, ``lower_se``, ``upper_se``, ``method`` and what it took;
        ``n_temperatures`` among it where the sandwich annealed its proposals.
    """
    outcomes = model.likelihood.outcomes()
    on_grid = model.n_components <= 2 and not model.likelihood.slow
    result = None
    if outcomes is not None:
        result = _by_enumeration(model, outcomes, tol, on_grid, generator)
    elif on_grid:
        result = _by_grid(model, n_samples, tol, generator)
    if result is None:
        result = _by_sandwich(model, n_samples, tol, generator, budget)
    return {"estimate": 0.5 * (result["lower"] + result["upper"]), **result}


def _width(bounds: dict) -> float:
    noise = bounds["lower_se"] + bounds["upper_se"]
    return bounds["upper"] - bounds["lower"] + 2 * noise


class _Plan(NamedTuple):
    """What a pilot run promises: a width, by what estimates, for how many decodes."""

    width: float
    estimate: Callable[[], dict]
    spent: int


def _by_sandwich(model, n_samples, tol, generator, budget):
    """Double draws or proposals on pilot runs, then estimate on fresh draws."""
    # decodes of a draw besides its proposals: two Jacobians, the climb to the mode
    price = 6 * model.n_components + 16
    n, k, n_pilot = n_samples, 64, min(n_samples, 500)
    gap, noise, before, other = 0.0, 0.0, math.nan, None
    may_change = True
    # a pilot is worth its draws where what it may ask for can still be paid
    while (n_pilot + 2 * n) * (price + k) <= budget:
        pilot = estimate_sandwich(model, n_pilot, k, generator)
        budget -= n_pilot * (price + k)
        gap = pilot["upper"] - pilot["lower"]
        noise = 2 * (pilot["lower_se"] + pilot["upper_se"]) * (n_pilot / n) ** 0.5
        if gap + noise <= 0.9 * tol:
            break
        if gap <= noise:
            n *= 2
            continue
        k *= 2
        # if each doubling that can be paid does what the last one did
        reserve = n * (price + k)
        foreseen = gap * (gap / before) ** math.log2(budget / reserve)
        if foreseen > tol and may_change:
            may_change = False
            spare = n_pilot * (price + k)
            pilots = min(budget // 3, budget - reserve)
            plans = _alternatives(model, tol, gap, generator, pilots, budget - spare)
            budget -= sum(plan.spent for plan in plans)
            best = min(plans, key=lambda plan: plan.width, default=None)
            if best is not None and best.width < foreseen + noise:
                other = best.estimate()
                if _width(other) <= max(tol, gap + noise):
                    return other
                n = n_pilot  # it kept no promise, and has spent all but the spare
                break
        before = gap
    else:  # all that is left, for what is known to want it
        if gap > noise:
            k = max(k, budget // n - price)
        elif noise > 0:
            n = max(n, budget // (price + k))
    final = estimate_sandwich(model, n, k, generator)
    found = {**final, "method": "sandwich", "n_samples": n, "n_proposals": k}
    if other is None or math.isnan(_width(other)) or _width(found) <= _width(other):
        return found
    return other


def _alternatives(model, tol, gap, generator, pilots, budget):
    """Plans of what may reach a narrower bracket than plain proposals.

    Their pilot runs share the first budget; each final run may spend the second.
    """
    common = annealed = None
    if not model.likelihood.slow:
        common = _common_codes(model, tol, generator, pilots // 3, budget)
    if common is not None:
        pilots, budget = pilots - common.spent, budget - common.spent
    if common is None or common.width > tol:
        annealed = _annealing(model, gap, generator, pilots, budget)
    return [plan for plan in (common, annealed) if plan is not None]


def _common_codes(model, tol, generator, pilots, budget):
    """Plan codes that all rows share: more of them, or more rows.

    None where the columns are too many for a pilot run. Each row's own code is one of
    those that it shares, so that there are at least as many codes as rows.
    """

    def codes(n_samples, numbers, affordable):
        """As many as may be decoded, and held against all columns of all rows."""
        return int(min(affordable, numbers / (n_samples * n_columns)))

    z = _prior_draws(model, 1, generator)
    n_columns = draw(model.likelihood(z), (), generator, reparametrised=False).numel()
    n_pilot = codes(COMMON_PILOT, NUMBERS_OF_PILOT, pilots // 2)
    if n_pilot < COMMON_PILOT:
        return None
    pilot = bracket_of_means(row_means(model, COMMON_PILOT, n_pilot, generator))
    # each set is decoded again for the rows that are its own
    budget -= 2 * n_pilot
    gap = max(0.0, pilot["upper"] - pilot["lower"])
    noise = _width(pilot) - gap

    def width(n, m):
        """Of n draws and m codes: the wider the gap, the slower it falls."""
        closed = (n_pilot / m) ** (1 / (1 + 0.5 * gap))
        return gap * closed + noise * (COMMON_PILOT / n) ** 0.5

    sizes = []
    for i in range(8):
        n = COMMON_PILOT // 2 * 2**i
        for j in range(5):
            sizes.append((n, codes(n, NUMBERS_IN_COMMON / 2**j, budget // 2)))
    sizes = [(n, m) for n, m in sizes if n <= m]
    enough = [size for size in sizes if width(*size) <= 0.8 * tol]
    if enough:
        least = min(n * m for n, m in enough)
        sizes = [(n, m) for n, m in enough if n * m < 1.5 * least]
    n, m = min(sizes, key=lambda size: width(*size))

    def estimate():
        final = bracket_of_means(row_means(model, n, m, generator))
        return {**final, "method": "sandwich", "n_samples": n, "n_codes": m}

    return _Plan(width(n, m), estimate, 2 * n_pilot)


def _annealing(model, gap, generator, pilots, budget):
    """Plan annealed proposals, of no use where they are no nearer than plain ones.

    None where too little is left for a pilot run.
    """
    # decodes of a draw at one temperature; a gradient costs two more
    cost, n = 3 * N_LEAPFROG * (CHAINS + 2), ANNEALED_PILOT
    t = pilots // (cost * (n + TUNED_ON))
    if t < 2:
        return None
    step_sizes = tuned_step_sizes(model, t, generator)
    pilot = estimate_sandwich(model, n, CHAINS, generator, step_sizes)
    spent = t * cost * (n + TUNED_ON)
    budget -= spent
    reached = pilot["upper"] - pilot["lower"]
    noise = _width(pilot) - reached

    def width(n_final):
        """Of what the rest of the budget buys: the gap falls with the temperatures."""
        return reached * t * n_final * cost / budget + noise * (n / n_final) ** 0.5

    n_final = min((n // 2 * 2**i for i in range(7)), key=width)
    n_temperatures = max(2, budget // (cost * n_final))
    at = torch.arange(n_temperatures, device=step_sizes.device) * t // n_temperatures

    def estimate():
        final = estimate_sandwich(model, n_final, CHAINS, generator, step_sizes[at])
        return {
            **final,
            "method": "sandwich",
            "n_samples": n_final,
            "n_proposals": CHAINS,
            "n_temperatures": n_temperatures,
        }

    return _Plan(width(n_final) if reached < gap else math.inf, estimate, spent)


def _exact(information, method, **extra):
    return {
        "lower": information,
        "upper": information,
        "lower_se": 0.0,
        "upper_se": 0.0,
        "method": method,
        **extra,
    }


def _by_enumeration(model, outcomes, tol, on_grid, generator):
    """Sum over outcomes: on a grid over z, else with codes that all of them share.

    None where the affordable codes are too few for so many outcomes.
    """
    if on_grid:
        information = enumerate_on_lattices(model, outcomes, generator)
        if information is not None:
            # what is left of rounding must not make an information negative
            information = max(information, 0.0)
            return _exact(information, "enumeration", n_outcomes=len(outcomes))
    most = int(NUMBERS_ON_GRIDS / outcomes.numel())
    # no gap is larger than S outcomes by the number of codes
    if model.likelihood.slow or len(outcomes) > tol * most:
        return None
    n_codes = min(FEWEST_CODES, int(NUMBERS_OF_PILOT / outcomes.numel()))
    while True:
        means = enumerated_means(model, outcomes, n_codes, generator)
        found = bracket_of_means(means)
        if math.isnan(_width(found)):
            return None
        if _width(found) <= tol or 4 * n_codes > most:
            return {
                **found,
                "method": "enumeration",
                "n_outcomes": len(outcomes),
                "n_codes": n_codes,
            }
        n_codes *= 4


@torch.no_grad()
def _by_grid(model, n_samples, tol, generator):
    """KL(p(z|x) || p(z)) on a grid over z for draws of x; None if too fine a grid."""
    few = 40
    while True:
        # strata of z: the standard error does not know how much noise they spare
        z0 = model.draw_codes(n_samples, generator)
        p = model.likelihood(z0)
        x = draw(p, (), generator, reparametrised=False)
        joint = x, z0, p.log_prob(x)
        # too narrow posteriors are found out on a few of them
        share = NUMBERS_ON_GRIDS * few / n_samples
        some = [values[:few] for values in joint]
        if few < n_samples and (
            posteriors_on_lattices(model, *some, generator, share) is None
        ):
            return None
        on_grid = posteriors_on_lattices(model, *joint, generator)
        if on_grid is None:
            return None
        information, moments = on_grid.information, on_grid.moments
        mean, se = regressed_mean(information.cpu().numpy(), moments.cpu().numpy())
        if 4 * se <= tol or n_samples >= 64_000:
            exact = _exact(mean, "grid", n_samples=n_samples)
            return {**exact, "lower_se": se, "upper_se": se}
        n_samples *= 2
