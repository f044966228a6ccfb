"""Integrals over z in one or two dimensions, by lattices that are shifted at random.

A sum over a lattice with a random shift is an unbiased estimate of p(x), however fast
the decoder oscillates. So lattices with shifts and steps of their own agree where they
resolve the decoder, and differ where they do not: grids that share their points could
meet a period at the same phase and agree on what is wrong.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from sklearn_mae.information.bracket import Bracket
from sklearn_mae.information.regression import regressed_mean
from sklearn_mae.model import LatentVariableModel, Rows, draw

__all__ = [
    "DECODED_AT_ONCE",
    "NUMBERS_AT_ONCE",
    "NUMBERS_ON_GRIDS",
    "EnumerationOnLattices",
    "Grid",
    "Posteriors",
    "enumerate_on_lattices",
    "integrate",
    "posteriors_on_lattices",
    "sum_over_outcomes",
]

# While integrating: codes decoded in one call, and numbers held at once.
DECODED_AT_ONCE = 4_096
NUMBERS_AT_ONCE = 4_000_000
# Rows times points times columns of the finest affordable lattice.
NUMBERS_ON_GRIDS = 1e9
# Points of the finest lattice over which outcomes are summed.
POINTS = 1 << 20
# Growth of the points along an axis, from one lattice to the next. The golden ratio is
# the hardest to approximate by fractions: no two lattices share a period.
GROWTH = (1 + 5**0.5) / 2
# Beyond this share of the affordable numbers, lattices that are no further apart than
# ASYMPTOTIC must be seen to converge. Two lattices further a third of a jump's error is
# left, and a seventh of a kink's: where more than JUMP is left, it jumps.
PATIENCE, ASYMPTOTIC, JUMP = 0.05, 0.3, 0.25
# Agreement in nats of log p(x) and of a row's information; of a sum over outcomes.
AGREED, SUMS_AGREED = 1e-4, 1e-5
# Double precision can add a lattice's log-masses to log-densities up to this size.
LARGEST = 1e10


class Posteriors(NamedTuple):
    """Of each row KL(p(z|x) || p(z)), the prior's moments given it, and log p(x)."""

    information: Tensor
    moments: Tensor
    log_marginal: Tensor


@torch.no_grad()
def integrate(
    model: LatentVariableModel, x: Rows, points: Tensor, log_mass: Tensor
) -> Posteriors:
    """Replace the prior by masses on points.

    Parameters
    ----------
    model : LatentVariableModel
        The model.
    x : Rows of shape (n, D)
        Rows.
    points : Tensor of shape (m, d)
        Codes.
    log_mass : Tensor of shape (m,)
        Logarithms of their masses.

    Returns
    -------
    Posteriors
        Of each row.
    """
    log_marginal = points.new_full((len(x),), -math.inf)
    means = points.new_zeros((len(x), 1 + 2 * points.shape[-1]))
    at_once = model.at_once(DECODED_AT_ONCE)
    for z, mass in zip(points.split(at_once), log_mass.split(at_once), strict=True):
        p = model.p(z)
        moments = model.prior.moments(z)
        rows = max(1, NUMBERS_AT_ONCE // (len(z) * x.shape[-1]))
        for start in range(0, len(x), rows):
            i = slice(start, start + rows)
            log_lik = x[i].unsqueeze(1).log_prob(p)
            log_sum = torch.logsumexp(log_lik + mass, -1)
            total = torch.logaddexp(log_marginal[i], log_sum)
            weights = (log_lik + mass - total.unsqueeze(-1)).exp()
            kept = (log_marginal[i] - total).exp().unsqueeze(-1)
            added = [(weights * log_lik).sum(-1, keepdim=True), weights @ moments]
            means[i] = kept * means[i] + torch.cat(added, -1)
            log_marginal[i] = total
    return Posteriors(means[:, 0] - log_marginal, means[:, 1:], log_marginal)


def posteriors_on_lattices(
    model: LatentVariableModel,
    x: Rows,
    z0: Tensor,
    log_lik0: Tensor,
    generator: torch.Generator,
    affordable: float = NUMBERS_ON_GRIDS,
) -> Posteriors | None:
    """Integrate over z for each row, on finer lattices until two agree on all rows.

    Parameters
    ----------
    model : LatentVariableModel
        The model, in float64, of one or two dimensions.
    x : Rows of shape (n, D)
        Draws of the model.
    z0 : Tensor of shape (n, d)
        The codes that they were drawn from. A lattice resolves a row's posterior only
        if it gives the row at least as much as the cell of its own code would.
    log_lik0 : Tensor of shape (n,)
        log p(x|z0).
    generator : torch.Generator
        For the shifts.
    affordable : float
        Rows times points times columns of the finest lattice.

    Returns
    -------
    Posteriors or None
        None where no affordable lattice is fine enough.
    """
    d = model.n_components
    before, n, apart = None, 601 if d == 1 else 71, [math.inf] * 2
    if round(GROWTH * n) ** d * x.shape.numel() > affordable:
        return None  # no second lattice to agree with the first
    log_density0 = log_lik0 + model.prior.log_prob(z0)
    while n**d * x.shape.numel() <= affordable:
        points, log_mass, log_cell = model.prior.lattice(n, model.reference, generator)
        now = integrate(model, x, points, log_mass)
        if now.information.isnan().any():
            return None  # a diverged model: no lattice will do
        if float(now.log_marginal.abs().max()) > LARGEST:
            return None  # rounding loses the prior's masses: all lattices would agree
        if before is not None:
            pairs = zip(now, before, strict=True)
            apart.append(max(float((one - other).abs().max()) for one, other in pairs))
            own = log_density0 + log_cell
            if apart[-1] < AGREED and bool((own <= now.log_marginal).all()):
                return now
        before, n = now, round(GROWTH * n)
        if n**d * x.shape.numel() > PATIENCE * affordable and apart[-1] < ASYMPTOTIC:
            now_apart, then_apart = apart[-1], apart[-3]
            if now_apart > JUMP * then_apart or now_apart**2 > AGREED * then_apart:
                return None
    return None


@torch.no_grad()
def sum_over_outcomes(
    model: LatentVariableModel, outcomes: Rows, points: Tensor, log_mass: Tensor
) -> tuple[Tensor, Tensor]:
    """Replace the prior by masses on points, and sum over all outcomes.

    Parameters
    ----------
    model : LatentVariableModel
        The model.
    outcomes : Rows of shape (S, D)
        Every value of x.
    points : Tensor of shape (m, d)
        Codes.
    log_mass : Tensor of shape (m,)
        Logarithms of their masses.

    Returns
    -------
    log_marginal : Tensor of shape (S,)
        log p(x).
    negentropy : Tensor
        -H(x|z), a scalar.
    """
    rows = max(1, min(DECODED_AT_ONCE, NUMBERS_AT_ONCE // outcomes.shape.numel()))
    log_marginal, negentropy = [], log_mass.new_zeros(())
    for z, mass in zip(points.split(rows), log_mass.split(rows), strict=True):
        log_prob = outcomes.unsqueeze(1).log_prob(model.p(z))  # (S, rows)
        log_marginal.append(torch.logsumexp(log_prob + mass, -1))
        negentropy = negentropy + (mass.exp() * log_prob.exp() * log_prob).sum()
    return torch.logsumexp(torch.stack(log_marginal), 0), negentropy


def enumerate_on_lattices(
    model: LatentVariableModel, outcomes: Rows, generator: torch.Generator
) -> float | None:
    """Sum over outcomes on three lattices, finer until they agree on every outcome.

    Parameters
    ----------
    model : LatentVariableModel
        The model, of one or two dimensions.
    outcomes : Rows of shape (S, D)
        Every value of x.
    generator : torch.Generator
        For the shifts.

    Returns
    -------
    float or None
        I(x, z) in nats; None where no affordable lattice is fine enough.
    """
    d = model.n_components
    n = 211 if d == 1 else 33
    while True:
        sizes = [n, round(1.2 * n), round(1.44 * n)]
        if sizes[-1] ** d > min(POINTS, NUMBERS_ON_GRIDS / outcomes.shape.numel()):
            return None
        marginals, informations = [], []
        for size in sizes:
            points, masses, _ = model.prior.lattice(size, model.reference, generator)
            log_marginal, negentropy = sum_over_outcomes(
                model, outcomes, points, masses
            )
            marginals.append(log_marginal.exp())
            informations.append(negentropy - marginals[-1] @ log_marginal)
            if informations[-1].isnan():
                return None  # a diverged model: no lattice will do
        if max(_spread(marginals), _spread(informations)) < SUMS_AGREED:
            return float(informations[-1])
        n = round(1.44 * GROWTH * n)


def _spread(values: list[Tensor]) -> float:
    stacked = torch.stack(values)
    return float((stacked.amax(0) - stacked.amin(0)).max())


def _has_grid(model: LatentVariableModel) -> bool:
    return model.n_components <= 2 and model.many_codes


class EnumerationOnLattices:
    """Sum over the outcomes of x, and over z on lattices: exact where they agree."""

    def affords(self, model: LatentVariableModel) -> bool:
        """Models of one or two dimensions whose outcomes can be listed."""
        return _has_grid(model) and model.outcomes() is not None

    def bracket(
        self, model: LatentVariableModel, generator: torch.Generator
    ) -> Bracket | None:
        """Bracket I(x, z); None where no affordable lattice is fine enough."""
        outcomes = model.outcomes()
        assert outcomes is not None  # for so much ``affords`` vouches
        information = enumerate_on_lattices(model, outcomes, generator)
        if information is None:
            return None
        # what is left of rounding must not make an information negative
        information = max(information, 0.0)
        n_outcomes = len(outcomes)
        return Bracket.around(information, 0.0, "enumeration", n_outcomes=n_outcomes)


class Grid:
    """Mean of KL(p(z|x) || p(z)) on a grid over z, for draws of x.

    Parameters
    ----------
    n_samples : int
        Draws to begin with.
    tol : float
        Draws double until four standard errors are no more than this, in nats.
    affordable : float
        Rows times points times columns of the finest lattice.
    """

    # Rows of a first attempt: it finds out cheaply that posteriors are too narrow.
    FEW = 40
    # Draws double no further than to this many, or just above.
    MANY = 64_000

    def __init__(
        self, n_samples: int, tol: float, affordable: float = NUMBERS_ON_GRIDS
    ):
        self.n_samples, self.tol, self.affordable = n_samples, tol, affordable

    def affords(self, model: LatentVariableModel) -> bool:
        """Models of one or two dimensions whose outcomes cannot be listed."""
        return _has_grid(model) and model.outcomes() is None

    @torch.no_grad()
    def bracket(
        self, model: LatentVariableModel, generator: torch.Generator
    ) -> Bracket | None:
        """Bracket I(x, z); None where no affordable grid is fine enough."""
        n_samples = self.n_samples
        if model.at_once(n_samples) < n_samples:
            return None  # no lattice is affordable for rows of so many numbers
        while True:
            # strata of z reduce the noise; the standard error does not count on that
            z0 = model.stratified_codes(n_samples, generator)
            p = model.rows(z0, generator)
            x = draw(p, (), generator, reparametrised=False)
            log_lik, few = p.log_prob(x), slice(self.FEW)
            if n_samples > self.FEW:
                share = self.affordable * self.FEW / n_samples
                joint = x[few], z0[few], log_lik[few]
                if posteriors_on_lattices(model, *joint, generator, share) is None:
                    return None
            on_grid = posteriors_on_lattices(
                model, x, z0, log_lik, generator, self.affordable
            )
            if on_grid is None:
                return None
            information, moments = on_grid.information, on_grid.moments
            mean, se = regressed_mean(information.cpu().numpy(), moments.cpu().numpy())
            if 4 * se <= self.tol or n_samples >= self.MANY:
                return Bracket.around(mean, se, "grid", n_samples=n_samples)
            n_samples *= 2
