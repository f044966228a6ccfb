"""Bounds on I(x, z) from codes that all rows share, blind to r_omega and gradients.

Sets of codes stand for the prior. The code z0 that x comes from is one of them. With
p_A(x) the mean of p(x|z) over all sets and p_B(x) over all but that of z0,

    E[log p(x|z0) - log p_A(x)]  <=  I  <=  E[log p(x|z0) - log p_B(x)]:

the first is the information that x has about which code of the sets it is, less than
all that it has about z0; the second is Jensen's inequality, for p_B(x) is an unbiased
estimate of p(x). Both hold for every decoder and any number of codes. The gap is about
exp(I) / codes: it asks how much x says about z, and not how many modes, kinks or jumps
p(z|x) has.
"""

import math

import numpy as np
import torch
from torch import Tensor

from sklearn_mae.information.quadrature import (
    DECODED_AT_ONCE,
    NUMBERS_AT_ONCE,
    integrate,
    sum_over_outcomes,
)
from sklearn_mae.model import LatentVariableModel, draw

__all__ = ["SETS", "bracket_of_means", "enumerated_means", "row_means"]

# independent of each other but for what they estimate log p(x) with
SETS = 25


def bracket_of_means(means: np.ndarray) -> dict[str, float]:
    """Bounds and standard errors from the means of both integrands over each set.

    Parameters
    ----------
    means : ndarray of shape (SETS, 2)
        Of the lower and of the upper bound's.

    Returns
    -------
    dict
        ``lower``, ``upper``, ``lower_se``, ``upper_se`` in nats.
    """
    lower, upper = (float(mean) for mean in means.mean(0))
    # so few means say what their spread is to 14 %: that much is added
    unsure = 1 + (2 * (len(means) - 1)) ** -0.5
    errors = unsure * means.std(0, ddof=1) / len(means) ** 0.5
    lower_se, upper_se = (float(se) for se in errors)
    return {
        "lower": lower,
        "upper": upper,
        "lower_se": lower_se,
        "upper_se": upper_se,
    }


def _log_masses(codes):
    return codes.new_full((len(codes),), -math.log(len(codes)))


def _log_marginals(model, x, codes):
    """Log of the mean over the codes of p(x|z), for each row."""
    sums = []
    for z in codes.split(DECODED_AT_ONCE):
        p = model.likelihood(z)
        rows = x.split(max(1, NUMBERS_AT_ONCE // (len(z) * x.shape[-1])))
        sums.append(
            torch.cat([torch.logsumexp(p.log_prob(i.unsqueeze(1)), -1) for i in rows])
        )
    return torch.logsumexp(torch.stack(sums), 0) - math.log(len(codes))


def _both_sides(log_marginals: Tensor) -> tuple[Tensor, Tensor]:
    """Log p_A, and log p_B for each set left out, from log p of each: (SETS, n)."""
    n = len(log_marginals)
    log_all = torch.logsumexp(log_marginals, 0) - math.log(n)
    without = log_marginals.repeat(n, 1, 1)
    index = torch.arange(n, device=log_marginals.device)
    without[index, index] = -math.inf
    return log_all, torch.logsumexp(without, 1) - math.log(n - 1)


@torch.no_grad()
def row_means(
    model: LatentVariableModel, n_samples: int, n_codes: int, generator: torch.Generator
) -> np.ndarray:
    """Means of both integrands over draws of x.

    Parameters
    ----------
    model : LatentVariableModel
        The model.
    n_samples : int
        Joint draws, about.
    n_codes : int
        Codes that stand for the prior, about.
    generator : torch.Generator
        Source of all draws.

    Returns
    -------
    ndarray of shape (SETS, 2)
        Over the draws whose code belongs to each set.
    """
    n = max(2, n_samples // SETS)
    n_codes = max(n, math.ceil(n_codes / SETS))  # of a set
    sets = [model.draw_codes(n_codes, generator) for _ in range(SETS)]
    p = model.likelihood(torch.cat([codes[:n] for codes in sets]))
    x = draw(p, (), generator, reparametrised=False)
    log_marginals, log_lik = [], []
    for own, codes in zip(x.split(n), sets, strict=True):
        log_marginals.append(_log_marginals(model, x, codes))
        on_set = integrate(model, own, codes, _log_masses(codes))
        # of log p(x|z0), given x and the set that z0 is one of
        log_lik.append(on_set.information + on_set.log_marginal)
    log_all, log_others = _both_sides(torch.stack(log_marginals))
    log_lik0 = torch.stack(log_lik)  # (SETS, n)
    index = torch.arange(SETS, device=x.device)
    lower = log_lik0 - log_all.unflatten(0, (SETS, n))
    upper = log_lik0 - log_others.unflatten(1, (SETS, n))[index, index]
    return torch.stack([lower.mean(1), upper.mean(1)], -1).double().cpu().numpy()


@torch.no_grad()
def enumerated_means(
    model: LatentVariableModel,
    outcomes: Tensor,
    n_codes: int,
    generator: torch.Generator,
) -> np.ndarray:
    """Means of both integrands, summed over all outcomes.

    Parameters
    ----------
    model : LatentVariableModel
        The model.
    outcomes : Tensor of shape (S, D)
        Every value of x.
    n_codes : int
        Codes that stand for the prior, about.
    generator : torch.Generator
        Source of all draws.

    Returns
    -------
    ndarray of shape (SETS, 2)
        Over each set's codes.
    """
    sums = []
    for _ in range(SETS):
        codes = model.draw_codes(math.ceil(n_codes / SETS), generator)
        sums.append(sum_over_outcomes(model, outcomes, codes, _log_masses(codes)))
    log_marginals, negentropies = (torch.stack(of) for of in zip(*sums, strict=True))
    log_all, log_others = _both_sides(log_marginals)
    p = log_marginals.exp()
    sides = [negentropies - (p * log_p).sum(1) for log_p in (log_all, log_others)]
    return torch.stack(sides, -1).double().cpu().numpy()
