"""The certificate: a bracket of I(x, z), by the first method that can give one.

Exact methods come first. Each reports what it is sure to resolve and hands over what it
does not. The last one, the sandwich, takes any model. It chooses the proposals and
their number by pilot runs, and reports fresh draws.
"""

import math
from collections.abc import Sequence

import torch

from sklearn_mae.information.bracket import Bracket, Method, Plan
from sklearn_mae.information.importance import AnnealedProposals, PlainProposals
from sklearn_mae.information.quadrature import (
    NUMBERS_ON_GRIDS,
    EnumerationOnLattices,
    Grid,
)
from sklearn_mae.information.shared_codes import (
    EnumerationOnSharedCodes,
    SharedCodes,
)
from sklearn_mae.model import LatentVariableModel, in_single_precision

__all__ = ["Sandwich", "information_of_model"]

# patterns of observed entries, times outcomes: each pattern is a sum of its own
MAX_OUTCOMES_OF_PATTERNS = 2_000


def information_of_model(
    model: LatentVariableModel,
    n_samples: int,
    tol: float,
    generator: torch.Generator,
    budget: int = 2_000_000,
    n_proposals: int = 64,
    single: bool = False,
    affordable: float = NUMBERS_ON_GRIDS,
) -> Bracket:
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
        Codes that the sandwich may decode to come nearer to ``tol``. A gradient counts
        as the decodes that it costs.
    n_proposals : int
        Proposals of the sandwich for each draw to begin with.
    single : bool
        Whether the sandwich may compute in single precision where that changes
        log-densities by less than a thousandth of a nat, in the mean of 200 draws.
    affordable : float
        Rows times points times columns of the finest grid.

    Returns
    -------
    Bracket
        The bracket. Its bounds are NaN where the model diverged.
    """
    sums: tuple[Method, ...] = EnumerationOnLattices(), EnumerationOnSharedCodes(tol)
    if _few_patterns(model):
        found = _over_patterns(sums, model, generator)
    else:
        found = _first(sums, model, generator)
    if found is None:
        found = _first([Grid(n_samples, tol, affordable)], model, generator)
    if found is not None:
        return found
    if single:
        model = in_single_precision(model, generator) or model
    return Sandwich(n_samples, tol, budget, n_proposals).bracket(model, generator)


def _first(
    methods: Sequence[Method], model: LatentVariableModel, generator: torch.Generator
) -> Bracket | None:
    """Return the bracket of the first of the methods that can give one."""
    for method in methods:
        if method.affords(model):
            found = method.bracket(model, generator)
            if found is not None:
                return found
    return None


def _few_patterns(model: LatentVariableModel) -> bool:
    """Whether rows can be listed once it is known which entries are observed."""
    outcomes = model.likelihood.outcomes()
    if model.pool.observed is None or outcomes is None:
        return False
    patterns, _ = model.pool.patterns()
    return len(patterns) * len(outcomes) <= MAX_OUTCOMES_OF_PATTERNS


def _over_patterns(
    methods: Sequence[Method], model: LatentVariableModel, generator: torch.Generator
) -> Bracket | None:
    """Return the mean of I(x_o, z) over patterns of observed entries, by sums over x_o.

    None where one of them has none.
    """
    shares, found = [], []
    for share, of_pattern in model.of_each_pattern():
        bracket = _first(methods, of_pattern, generator)
        if bracket is None:
            return None
        shares.append(share)
        found.append(bracket)
    pairs = list(zip(shares, found, strict=True))
    return Bracket(
        sum(share * one.lower for share, one in pairs),
        sum(share * one.upper for share, one in pairs),
        math.hypot(*(share * one.lower_se for share, one in pairs)),
        math.hypot(*(share * one.upper_se for share, one in pairs)),
        found[0].method,
        {"n_outcomes": max(one.took["n_outcomes"] for one in found)},
    )


class Sandwich:
    """Bounds from below and above, by the codes that promise the narrowest bracket.

    Plain proposals come first. Where they will not reach the tolerance, codes that all
    rows share and annealed proposals compete with them by the width that a pilot run
    of each promises.

    Parameters
    ----------
    n_samples : int
        Joint draws to begin with.
    tol : float
        Width of the interval to reach, in nats.
    budget : int
        Codes to decode.
    n_proposals : int
        Proposals for each draw to begin with.
    """

    # Pilot runs of the alternatives together, and that of shared codes alone, may spend
    # one part in so many of what is left: most of it is for the final run.
    PILOTS, PILOT_OF_SHARED_CODES = 3, 3

    def __init__(self, n_samples: int, tol: float, budget: int, n_proposals: int = 64):
        self.n_samples, self.tol, self.budget = n_samples, tol, budget
        self.n_proposals = n_proposals

    def affords(self, model: LatentVariableModel) -> bool:
        """Any model; where the budget is too small the interval is wide."""
        return True

    def bracket(
        self, model: LatentVariableModel, generator: torch.Generator
    ) -> Bracket:
        """Bracket I(x, z) of the model."""
        plain = PlainProposals(
            model, self.n_samples, self.tol, self.budget, self.n_proposals
        )
        foreseen = plain.grow(model, generator, satisfied=self.tol)
        other = None
        if foreseen is not None:
            # what plain proposals need to report at least
            spare, final = plain.cost(plain.n_pilot), plain.cost(plain.n_samples)
            pilots = min(plain.left // self.PILOTS, plain.left - final)
            plans = self.plans(model, plain.gap, generator, pilots, plain.left - spare)
            plain.left -= sum(plan.spent for plan in plans)
            best = min(plans, key=lambda plan: plan.width, default=None)
            if best is not None and best.width < foreseen + plain.noise:
                other = best.bracket(model, generator)
                if other.width <= max(self.tol, plain.gap + plain.noise):
                    return other
                # the promise was not kept, and all but the spare is spent
                plain.n_samples = plain.n_pilot
            else:
                plain.grow(model, generator)
        found = plain.bracket(model, generator)
        if other is None or math.isnan(other.width) or found.width <= other.width:
            return found
        return other

    def plans(
        self,
        model: LatentVariableModel,
        gap: float,
        generator: torch.Generator,
        pilots: int,
        budget: int,
    ) -> list[Plan]:
        """Plan what may reach a narrower bracket than plain proposals.

        Parameters
        ----------
        model : LatentVariableModel
            The model.
        gap : float
            Of plain proposals, in nats.
        generator : torch.Generator
            Source of all draws.
        pilots, budget : int
            Decodes that all pilot runs may take together, and that each plan may take,
            the pilot runs before its final run included.

        Returns
        -------
        list of Plan
            None, one or two of them.
        """
        plans: list[Plan] = []
        if SharedCodes.affords(model):
            share = pilots // self.PILOT_OF_SHARED_CODES
            shared = SharedCodes.plan(model, self.tol, generator, share, budget)
            if shared is not None:
                plans.append(shared)
                if shared.width <= self.tol:
                    return plans
                pilots, budget = pilots - shared.spent, budget - shared.spent
        if AnnealedProposals.affords(model):
            annealed = AnnealedProposals.plan(model, gap, generator, pilots, budget)
            if annealed is not None:
                plans.append(annealed)
        return plans
