"""Estimates of I(x, z) with standard errors: exact where sums or grids allow it.

The sandwich reports draws made after the choice of their number, and of the number of
proposals, was final.
"""

import copy
import math
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
from sklearn_mae.information.proposals import amortised_proposal, local_proposal
from sklearn_mae.model import LatentVariableModel, draw

__all__ = [
    "estimate_sandwich",
    "information_of_model",
    "regressed_mean",
    "training_bias",
]

# a coefficient that few samples support adds more noise than it takes away
SAMPLES_PER_CONTROL = 20
# of the training's proposals for each draw that its bias is measured with
ROUGH_SETS = 4
# proposals whose weights are held at once
WEIGHED_AT_ONCE = 32_768
# where the proposals are annealed: chains for each draw, and draws of the pilot run
CHAINS, ANNEALED_PILOT = 4, 100
# of sequences
ROWS_WITH_GRADIENTS = 64
# codes decoded in one call, and numbers held at once, while integrating
DECODED_AT_ONCE = 4_096
NUMBERS_AT_ONCE = 4_000_000
# rows times points times columns: none finer than that
NUMBERS_ON_GRIDS = 1e9
# log-density to which a grid's logarithms of masses can be added in double precision
LARGEST = 1e10


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
        Controls of known mean zero, the most useful first: no more than one for every
        20 samples are used.
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
        coefficients = np.linalg.lstsq(design, centred, rcond=None)[0]
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
        posteriors = _posteriors_on_grid(
            exact, x.double() if x.is_floating_point() else x
        )
    if posteriors is not None:
        bounds = (log_lik - posteriors.log_marginal,) * 2
    else:
        proposal = local_proposal(model, x)
        fine = weigh(model, x, z0, log_lik, proposal, 8 * n_proposals, generator)
        bounds = sandwich(fine)
    lower, upper = bounds
    bias = 0.5 * (sum(sandwich(rough)) - lower - upper)  # (sets, n)
    return float(bias.mean()), float((upper - lower).mean())


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
        result = _by_enumeration(model, outcomes) if on_grid else None
        if result is None:
            result = _by_enumerated_sandwich(
                model, outcomes, n_samples, tol, generator, budget
            )
    elif on_grid:
        result = _by_grid(model, n_samples, tol, generator)
    if result is None:
        result = _by_sandwich(model, n_samples, tol, generator, budget)
    return {"estimate": 0.5 * (result["lower"] + result["upper"]), **result}


def _by_sandwich(model, n_samples, tol, generator, budget):
    """Double draws or proposals on pilot runs, then estimate on fresh draws."""
    # decodes of a draw besides its proposals: two Jacobians, the climb to the mode
    price = 6 * model.n_components + 16
    n, k, n_pilot = n_samples, 64, min(n_samples, 500)
    gap, noise, before, may_anneal = 0.0, 0.0, math.nan, True
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
        if foreseen > tol and may_anneal:
            may_anneal = False
            plain = gap, foreseen + noise
            annealed = _by_annealing(model, reserve, plain, generator, budget)
            if annealed is not None:
                return annealed
            budget -= min(budget // 5, budget - reserve)
        before = gap
    else:  # all that is left, for what is known to want it
        if gap > noise:
            k = max(k, budget // n - price)
        elif noise > 0:
            n = max(n, budget // (price + k))
    final = estimate_sandwich(model, n, k, generator)
    return {**final, "method": "sandwich", "n_samples": n, "n_proposals": k}


def _by_annealing(model, reserve, plain, generator, budget):
    """Anneal the proposals; None where a pilot run promises no narrower bracket.

    Narrower than the gap that plain proposals have reached and the width foreseen for
    them. If None, at most a fifth of the budget is spent, and none of the reserve.
    """
    # decodes of a draw at one temperature; a gradient costs two more
    cost, n = 3 * N_LEAPFROG * (CHAINS + 2), ANNEALED_PILOT
    t = min(budget // 5, budget - reserve) // (cost * (n + TUNED_ON))
    if t < 2:
        return None
    step_sizes = tuned_step_sizes(model, t, generator)
    pilot = estimate_sandwich(model, n, CHAINS, generator, step_sizes)
    budget -= t * cost * (n + TUNED_ON)
    reached = pilot["upper"] - pilot["lower"]
    noise = 2 * (pilot["lower_se"] + pilot["upper_se"])

    def width(n_final):
        """Of what the rest of the budget buys: the gap falls with the temperatures."""
        return reached * t * n_final * cost / budget + noise * (n / n_final) ** 0.5

    n_final = min((n // 2 * 2**i for i in range(7)), key=width)
    if not (reached < plain[0] and width(n_final) < plain[1]):
        return None
    n_temperatures = max(2, budget // (cost * n_final))
    at = torch.arange(n_temperatures, device=step_sizes.device) * t // n_temperatures
    final = estimate_sandwich(model, n_final, CHAINS, generator, step_sizes[at])
    return {
        **final,
        "method": "sandwich",
        "n_samples": n_final,
        "n_proposals": CHAINS,
        "n_temperatures": n_temperatures,
    }


def _exact(information, method, **extra):
    return {
        "lower": information,
        "upper": information,
        "lower_se": 0.0,
        "upper_se": 0.0,
        "method": method,
        **extra,
    }


def _grid(d: int, n: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Points of a grid over [-8, 8]^d and the logarithms of their prior masses."""
    axis = torch.linspace(-8, 8, n, dtype=like.dtype, device=like.device)
    points = torch.cartesian_prod(*[axis] * d).reshape(-1, d)
    log_mass = -0.5 * points.square().sum(-1)
    return points, log_mass - torch.logsumexp(log_mass, 0)


@torch.no_grad()
def _by_enumeration(model, outcomes):
    """Sum over outcomes; the integral over z on a grid, doubled until two agree.

    None where no grid is fine enough.
    """
    before, n = math.inf, 257 if model.n_components == 1 else 33
    while n**model.n_components <= 1 << 20:
        points, log_mass = _grid(model.n_components, n, model.reference)
        rows = max(1, min(DECODED_AT_ONCE, NUMBERS_AT_ONCE // outcomes.numel()))
        log_marginal, negentropy = [], 0.0
        for z, mass in zip(points.split(rows), log_mass.split(rows), strict=True):
            log_prob = model.likelihood(z).log_prob(outcomes.unsqueeze(1))  # (S, rows)
            log_marginal.append(torch.logsumexp(log_prob + mass, -1))
            negentropy += float((mass.exp() * log_prob.exp() * log_prob).sum())
        marginal = torch.logsumexp(torch.stack(log_marginal), 0)
        now = negentropy - float((marginal.exp() * marginal).sum())
        if abs(now - before) < 1e-5:
            # what is left of rounding must not make an information negative
            return _exact(max(now, 0.0), "enumeration", n_outcomes=len(outcomes))
        if math.isnan(now):
            return None  # a diverged model: no grid will do
        before, n = now, 2 * n - 1
    return None


@torch.no_grad()
def _by_enumerated_sandwich(model, outcomes, n_samples, tol, generator, budget):
    """Sum over outcomes, the sandwich for log p(x).

    Codes in groups share their proposals: the standard error is that of the groups'
    means. None where the budget bears too few proposals for each outcome.
    """
    n_groups, k = 25, 64
    n = max(2, n_samples // n_groups)
    if n_groups * k * len(outcomes) > budget:
        return None
    while True:
        means = _enumerated_means(model, outcomes, n_groups, n, k, generator)
        lower, upper = (float(mean) for mean in means.mean(axis=0))
        lower_se, upper_se = (
            float(se) for se in means.std(axis=0, ddof=1) / n_groups**0.5
        )
        gap, noise = upper - lower, 2 * (lower_se + upper_se)
        if gap + noise <= tol or 2 * n_groups * k * len(outcomes) > budget:
            break
        if gap > noise:
            k *= 2
        else:
            n_groups *= 2
    return {
        "lower": lower,
        "upper": upper,
        "lower_se": lower_se,
        "upper_se": upper_se,
        "method": "enumeration",
        "n_outcomes": len(outcomes),
        "n_samples": n * n_groups,
        "n_proposals": k,
    }


def _enumerated_means(model, outcomes, n_groups, n, k, generator):
    """Means over groups of n codes of both integrands summed over x, (groups, 2)."""
    rows = max(1, min(DECODED_AT_ONCE // k, NUMBERS_AT_ONCE // (n * outcomes.shape[1])))
    means = []
    for _ in range(n_groups):
        z0 = model.draw_codes(n, generator)
        p = model.likelihood(z0)
        total = 0
        for some in outcomes.split(rows):
            x = some.unsqueeze(1)
            log_prob = p.log_prob(x)
            proposal = amortised_proposal(model, x)
            weighted = weigh(model, x, z0, log_prob, proposal, k, generator)
            both_sides = torch.stack(sandwich(weighted))
            total = total + (log_prob.exp() * both_sides).sum(1).mean(-1)
        means.append(total)
    return torch.stack(means).double().cpu().numpy()


@torch.no_grad()
def _by_grid(model, n_samples, tol, generator):
    """KL(p(z|x) || p(z)) on a grid over z for draws of x; None if too fine a grid."""
    few = 40
    while True:
        z0 = _prior_draws(model, n_samples, generator)
        x = draw(model.likelihood(z0), (), generator, reparametrised=False)
        # too narrow posteriors are found out on a few of them
        share = NUMBERS_ON_GRIDS * few / n_samples
        if few < n_samples and _posteriors_on_grid(model, x[:few], share) is None:
            return None
        on_grid = _posteriors_on_grid(model, x)
        if on_grid is None:
            return None
        information, moments = on_grid.information, on_grid.moments
        mean, se = regressed_mean(information.cpu().numpy(), moments.cpu().numpy())
        if 4 * se <= tol or n_samples >= 64_000:
            exact = _exact(mean, "grid", n_samples=n_samples)
            return {**exact, "lower_se": se, "upper_se": se}
        n_samples *= 2


class Posteriors(NamedTuple):
    """Of each row KL(p(z|x) || p(z)), the means of z^2 - 1 and z, and log p(x)."""

    information: Tensor
    moments: Tensor
    log_marginal: Tensor


def _posteriors_on_grid(model, x, affordable=NUMBERS_ON_GRIDS):
    """Integrate over z for each row, on a grid that is doubled until two agree."""
    d = model.n_components
    before, n = None, 513 if d == 1 else 65
    if (2 * n - 1) ** d * x.numel() > affordable:
        return None  # no second grid to agree with the first
    while n**d * x.numel() <= affordable:
        points, log_mass = _grid(d, n, model.reference)
        log_marginal = points.new_full((len(x),), -math.inf)
        means = points.new_zeros((len(x), 1 + 2 * d))
        at_once = DECODED_AT_ONCE
        for z, mass in zip(points.split(at_once), log_mass.split(at_once), strict=True):
            p = model.likelihood(z)
            moments = torch.cat([z.square() - 1, z], -1)
            rows = max(1, NUMBERS_AT_ONCE // (len(z) * x.shape[-1]))
            for start in range(0, len(x), rows):
                i = slice(start, start + rows)
                log_lik = p.log_prob(x[i].unsqueeze(1))
                log_sum = torch.logsumexp(log_lik + mass, -1)
                total = torch.logaddexp(log_marginal[i], log_sum)
                weights = (log_lik + mass - total.unsqueeze(-1)).exp()
                kept = (log_marginal[i] - total).exp().unsqueeze(-1)
                added = [(weights * log_lik).sum(-1, keepdim=True), weights @ moments]
                means[i] = kept * means[i] + torch.cat(added, -1)
                log_marginal[i] = total
        information = means[:, 0] - log_marginal
        if information.isnan().any():
            return None  # a diverged model: no grid will do
        if float(log_marginal.abs().max()) > LARGEST:
            return None  # rounding has eaten the prior's masses: any grids would agree
        if before is not None and float((information - before).abs().max()) < 1e-4:
            return Posteriors(information, means[:, 1:], log_marginal)
        before, n = information, 2 * n - 1
    return None
