"""Bounds on I(x, z) from codes that all rows share: no r_omega, and no gradients.

Sets of codes stand for the prior. The code z0 that x comes from is one of them. With
p_A(x) the mean of p(x|z) over all sets and p_B(x) over all but that of z0,

    E[log p(x|z0) - log p_A(x)]  <=  I  <=  E[log p(x|z0) - log p_B(x)]:

The first is the information that x has about which of the codes it came from: no more
than the information about z0 itself. The second is Jensen's inequality, for p_B(x) is
an unbiased estimate of p(x). Both hold for every decoder and any number of codes. The
gap is about exp(I) / codes. It depends on how much x says about z, not on how many
modes, kinks or jumps p(z|x) has.
"""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from sklearn_mae.information.bracket import Bracket
from sklearn_mae.information.quadrature import (
    DECODED_AT_ONCE,
    NUMBERS_AT_ONCE,
    NUMBERS_ON_GRIDS,
    integrate,
    sum_over_outcomes,
)
from sklearn_mae.model import LatentVariableModel, Rows, draw

__all__ = [
    "SETS",
    "EnumerationOnSharedCodes",
    "SharedCodes",
    "bracket_of_means",
    "enumerated_means",
    "row_means",
]

# Sets of codes. Their results are independent but for the codes that all of them use
# to estimate log p(x).
SETS = 25
# Rows (or outcomes) times codes times columns of a pilot run.
NUMBERS_OF_PILOT = 3e7


def bracket_of_means(means: np.ndarray, method: str, **took: int) -> Bracket:
    """Bounds and standard errors from the means of both integrands over each set.

    Parameters
    ----------
    means : ndarray of shape (SETS, 2)
        Of the lower and of the upper bound's integrand.
    method : str
        Name of the method.
    **took : int
        What it took.

    Returns
    -------
    Bracket
        Of I(x, z), in nats.
    """
    lower, upper = (float(mean) for mean in means.mean(0))
    # the spread of so few means is known to 14 %: the errors are stated larger by that
    unsure = 1 + (2 * (len(means) - 1)) ** -0.5
    errors = unsure * means.std(0, ddof=1) / len(means) ** 0.5
    lower_se, upper_se = (float(se) for se in errors)
    return Bracket(lower, upper, lower_se, upper_se, method, took)


def _log_masses(codes):
    return codes.new_full((len(codes),), -math.log(len(codes)))


def _log_marginals(model, x, codes):
    """Log of the mean over the codes of p(x|z), for each row."""
    sums = []
    for z in codes.split(model.at_once(DECODED_AT_ONCE)):
        p = model.p(z)
        rows = x.split(max(1, NUMBERS_AT_ONCE // (len(z) * x.shape[-1])))
        sums.append(
            torch.cat([torch.logsumexp(i.unsqueeze(1).log_prob(p), -1) for i in rows])
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
        Codes that stand for the prior, about; no fewer than draws are used.
    generator : torch.Generator
        Source of all draws.

    Returns
    -------
    ndarray of shape (SETS, 2)
        Over the draws whose code belongs to each set.
    """
    n = max(2, n_samples // SETS)
    n_codes = max(n, math.ceil(n_codes / SETS))  # of a set
    sets = [model.stratified_codes(n_codes, generator) for _ in range(SETS)]
    p = model.rows(torch.cat([codes[:n] for codes in sets]), generator)
    x = draw(p, (), generator, reparametrised=False)
    log_marginals, log_lik = [], []
    for own, codes in zip(x.split(n), sets, strict=True):
        log_marginals.append(_log_marginals(model, x, codes))
        on_set = integrate(model, own, codes, _log_masses(codes))
        # of log p(x|z0), given x and the set that z0 is one of
        log_lik.append(on_set.information + on_set.log_marginal)
    log_all, log_others = _both_sides(torch.stack(log_marginals))
    log_lik0 = torch.stack(log_lik)  # (SETS, n)
    index = torch.arange(SETS, device=log_lik0.device)
    lower = log_lik0 - log_all.unflatten(0, (SETS, n))
    upper = log_lik0 - log_others.unflatten(1, (SETS, n))[index, index]
    return torch.stack([lower.mean(1), upper.mean(1)], -1).double().cpu().numpy()


@torch.no_grad()
def enumerated_means(
    model: LatentVariableModel,
    outcomes: Rows,
    n_codes: int,
    generator: torch.Generator,
) -> np.ndarray:
    """Means of both integrands, summed over all outcomes.

    Parameters
    ----------
    model : LatentVariableModel
        The model.
    outcomes : Rows of shape (S, D)
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
        codes = model.stratified_codes(math.ceil(n_codes / SETS), generator)
        sums.append(sum_over_outcomes(model, outcomes, codes, _log_masses(codes)))
    log_marginals, negentropies = (torch.stack(of) for of in zip(*sums, strict=True))
    log_all, log_others = _both_sides(log_marginals)
    p = log_marginals.exp()
    sides = [negentropies - (p * log_p).sum(1) for log_p in (log_all, log_others)]
    return torch.stack(sides, -1).double().cpu().numpy()


@dataclass(frozen=True)
class EnumerationOnSharedCodes:
    """Sum over the outcomes of x, with codes that all of them share.

    Parameters
    ----------
    tol : float
        Codes are multiplied until the interval is no wider than this, in nats.
    """

    tol: float

    # Codes of the first attempt, at most, and by what they are multiplied.
    FIRST_CODES, GROWTH = 50_000, 4

    def affords(self, model: LatentVariableModel) -> bool:
        """Models whose outcomes can be listed, and that decode many codes."""
        return model.many_codes and model.outcomes() is not None

    def bracket(
        self, model: LatentVariableModel, generator: torch.Generator
    ) -> Bracket | None:
        """Bracket I(x, z); None where the outcomes are too many, or NaN."""
        outcomes = model.outcomes()
        assert outcomes is not None  # for so much ``affords`` vouches
        most = int(NUMBERS_ON_GRIDS / outcomes.shape.numel())
        # the gap is at most the number of outcomes by the number of codes
        if len(outcomes) > self.tol * most:
            return None
        n_codes = min(self.FIRST_CODES, int(NUMBERS_OF_PILOT / outcomes.shape.numel()))
        while True:
            found = bracket_of_means(
                enumerated_means(model, outcomes, n_codes, generator),
                "enumeration",
                n_outcomes=len(outcomes),
                n_codes=n_codes,
            )
            if math.isnan(found.width):
                return None
            if found.width <= self.tol or self.GROWTH * n_codes > most:
                return found
            n_codes *= self.GROWTH


@dataclass(frozen=True)
class SharedCodes:
    """Draws of x with codes that all of them share.

    Parameters
    ----------
    n_samples, n_codes : int
        Joint draws, and codes that stand for the prior.
    width : float
        Width of the interval that the pilot run promises, in nats.
    spent : int
        Codes that the pilot run decoded.
    """

    n_samples: int
    n_codes: int
    width: float
    spent: int

    # Joint draws of the pilot run.
    PILOT_SAMPLES = 400
    # Rows times codes times columns of the final run.
    NUMBERS = 3e8
    # Share of the tolerance that a pilot run must promise: its gap and its noise are
    # extrapolated.
    ENOUGH = 0.8

    @classmethod
    def affords(cls, model: LatentVariableModel) -> bool:
        """Models that decode many codes."""
        return model.many_codes

    @classmethod
    def plan(
        cls,
        model: LatentVariableModel,
        tol: float,
        generator: torch.Generator,
        pilots: int,
        budget: int,
    ) -> Self | None:
        """Choose draws and codes by a pilot run.

        A row's own code is one of those that all rows share: there are at least as
        many codes as rows.

        Parameters
        ----------
        model : LatentVariableModel
            The model.
        tol : float
            Width of the interval to reach, in nats.
        generator : torch.Generator
            Source of all draws.
        pilots, budget : int
            Codes that the pilot run may decode, and it and the final run together.

        Returns
        -------
        SharedCodes or None
            None where the columns are too many for a pilot run.
        """

        def codes(n_samples, numbers, affordable):
            """As many as may be decoded, and compared with all columns of all rows."""
            return int(min(affordable, numbers / (n_samples * n_columns)))

        z, pilot_samples = model.independent_codes(1, generator), cls.PILOT_SAMPLES
        n_columns = draw(model.rows(z, generator), (), generator).shape.numel()
        # each set is decoded twice, the second time for the rows that are its own
        n_pilot = codes(pilot_samples, NUMBERS_OF_PILOT, pilots // 2)
        if n_pilot < pilot_samples:
            return None
        pilot = cls(pilot_samples, n_pilot, math.nan, 0).bracket(model, generator)
        spent = 2 * n_pilot
        affordable = (budget - spent) // 2
        gap = max(0.0, pilot.upper - pilot.lower)
        noise = pilot.width - gap

        def width(n, m):
            """Promise of n draws, m codes: the larger the gap, the slower it falls."""
            closed = (n_pilot / m) ** (1 / (1 + 0.5 * gap))
            return gap * closed + noise * (pilot_samples / n) ** 0.5

        sizes = []
        for i in range(8):
            n = pilot_samples // 2 * 2**i
            for j in range(5):
                sizes.append((n, codes(n, cls.NUMBERS / 2**j, affordable)))
        sizes = [(n, m) for n, m in sizes if n <= m]
        enough = [size for size in sizes if width(*size) <= cls.ENOUGH * tol]
        if enough:
            least = min(n * m for n, m in enough)
            sizes = [(n, m) for n, m in enough if n * m < 1.5 * least]
        n, m = min(sizes, key=lambda size: width(*size))
        return cls(n, m, width(n, m), spent)

    def bracket(
        self, model: LatentVariableModel, generator: torch.Generator
    ) -> Bracket:
        """Bracket I(x, z) from fresh draws."""
        return bracket_of_means(
            row_means(model, self.n_samples, self.n_codes, generator),
            "sandwich",
            n_samples=self.n_samples,
            n_codes=self.n_codes,
        )
