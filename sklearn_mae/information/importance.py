"""Brackets of I(x, z) from importance weights: every draw of x has its own proposals.

The proposals come from a mixture around each x (``proposals.py``), either as they are
or annealed towards the posterior (``annealing.py``). The draws that are reported were
made after the numbers of draws and of proposals were final.
"""

import math
from dataclasses import dataclass
from typing import Self

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
from sklearn_mae.information.bracket import Bracket
from sklearn_mae.information.proposals import local_proposal
from sklearn_mae.information.quadrature import DECODED_AT_ONCE
from sklearn_mae.information.regression import regressed_mean
from sklearn_mae.model import LatentVariableModel, draw

__all__ = ["AnnealedProposals", "PlainProposals", "estimate_sandwich"]

# Plain proposals whose weights are held at once. Annealed ones need gradients: as many
# of them are held as an integral decodes at once.
WEIGHED_AT_ONCE = 32_768


@torch.no_grad()
def estimate_sandwich(
    model: LatentVariableModel,
    n_samples: int,
    n_proposals: int,
    generator: torch.Generator,
    step_sizes: Tensor | None = None,
) -> Bracket:
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
        Anneals the proposals through T temperatures (``annealing.py``).

    Returns
    -------
    Bracket
        Of I(x, z), in nats; NaN where the model diverged.
    """
    values, controls = [], []
    took = {"n_samples": n_samples, "n_proposals": n_proposals}
    at_once = WEIGHED_AT_ONCE
    if step_sizes is not None:
        at_once, took["n_temperatures"] = DECODED_AT_ONCE, len(step_sizes)
    rows = model.at_once(max(1, at_once // n_proposals))
    most = model.likelihood.cost.rows_with_gradients
    if most is not None:
        rows = min(rows, most)
    codes = model.independent_codes(n_samples, generator)
    for z0 in codes.split(rows):
        p = model.rows(z0, generator)
        x = draw(p, (), generator, reparametrised=False)
        joint = model, x, z0, p.log_prob(x), local_proposal(model, x), n_proposals
        if step_sizes is None:
            weighted = around = weigh(*joint, generator)
        else:
            weighted, around = weigh_chains(*joint, step_sizes, generator)
        values.append(torch.stack(sandwich(weighted)) + correction(around, model.prior))
        controls.append(control_variates(around, model.prior))
    both = torch.cat(values, 1).double().cpu().numpy()
    regressors = torch.cat(controls).double().cpu().numpy()
    estimates = [regressed_mean(values, regressors) for values in both]
    (lower, lower_se), (upper, upper_se) = estimates
    return Bracket(lower, upper, lower_se, upper_se, "sandwich", took)


class PlainProposals:
    """Proposals as they are: pilot runs double draws or proposals, whichever is short.

    Parameters
    ----------
    model : LatentVariableModel
        The model.
    n_samples : int
        Joint draws to begin with.
    tol : float
        Width of the interval to reach, in nats.
    budget : int
        Decodes that pilot runs and the final run may take.
    n_proposals : int
        Proposals of the first pilot run.

    Attributes
    ----------
    gap, noise : float
        What the last pilot run says of the final run: the distance of the bounds, and
        four standard errors, in nats.
    left : int
        Decodes that are left of the budget.
    """

    # Draws of a pilot run, at most: it need only say which of gap and noise is larger.
    PILOT_SAMPLES = 500
    # Share of the tolerance that a pilot run must promise: the final run's noise may
    # come out larger.
    ENOUGH = 0.9

    def __init__(
        self,
        model: LatentVariableModel,
        n_samples: int,
        tol: float,
        budget: int,
        n_proposals: int = 64,
    ):
        self.tol, self.left = tol, budget
        # of a draw besides its proposals: two Jacobians, the climb to the mode
        self._price = 6 * model.n_components + 16
        self.n_samples, self.n_proposals = n_samples, n_proposals
        self.n_pilot = min(n_samples, self.PILOT_SAMPLES)
        self.gap = self.noise = 0.0
        self._gap_before = math.nan

    def affords(self, model: LatentVariableModel) -> bool:
        """Any model; what is too costly for the budget gets a wide interval."""
        return True

    def cost(self, n_samples: int) -> int:
        """Decodes of a run of so many draws, with the proposals that each has now."""
        return n_samples * (self._price + self.n_proposals)

    def grow(
        self,
        model: LatentVariableModel,
        generator: torch.Generator,
        satisfied: float = math.inf,
    ) -> float | None:
        """Run pilots until they promise the tolerance, or the budget ends.

        Parameters
        ----------
        model : LatentVariableModel
            The model.
        generator : torch.Generator
            Source of all draws.
        satisfied : float
            Largest gap in nats at which to go on: the gap foreseen for the whole
            budget.

        Returns
        -------
        float or None
            The gap foreseen, where it is above ``satisfied``: growth has stopped
            early, and may be called again. None where the sizes are final.
        """
        # a pilot is worth its draws where what it may ask for can still be paid
        while self.cost(self.n_pilot) + self.cost(2 * self.n_samples) <= self.left:
            pilot = estimate_sandwich(model, self.n_pilot, self.n_proposals, generator)
            self.left -= self.cost(self.n_pilot)
            noise = 2 * (pilot.lower_se + pilot.upper_se)
            self.gap = pilot.upper - pilot.lower
            self.noise = noise * (self.n_pilot / self.n_samples) ** 0.5
            if self.gap + self.noise <= self.ENOUGH * self.tol:
                return None
            if self.gap <= self.noise:
                self.n_samples *= 2
                continue
            self.n_proposals *= 2
            # each doubling that can be paid is taken to do what the last one did
            doublings = math.log2(self.left / self.cost(self.n_samples))
            foreseen = self.gap * (self.gap / self._gap_before) ** doublings
            self._gap_before = self.gap
            if foreseen > satisfied:
                return foreseen
        # all that is left goes to the larger of gap and noise
        if self.gap > self.noise:
            affordable = self.left // self.n_samples - self._price
            self.n_proposals = max(self.n_proposals, affordable)
        elif self.noise > 0:
            self.n_samples = max(self.n_samples, self.left // self.cost(1))
        return None

    def bracket(
        self, model: LatentVariableModel, generator: torch.Generator
    ) -> Bracket:
        """Bracket I(x, z) with the sizes reached, from fresh draws."""
        return estimate_sandwich(model, self.n_samples, self.n_proposals, generator)


@dataclass(frozen=True)
class AnnealedProposals:
    """Proposals annealed towards the posterior, for posteriors far from plain ones.

    Parameters
    ----------
    n_samples : int
        Joint draws.
    step_sizes : Tensor of shape (T,)
        Of the temperatures.
    width : float
        Width of the interval that the pilot run promises, in nats.
    spent : int
        Decodes of the pilot run.
    """

    n_samples: int
    step_sizes: Tensor
    width: float
    spent: int

    # Chains for each draw. What the budget has left goes into temperatures.
    CHAINS = 4
    # Draws of the pilot run: few, for each costs gradients at every temperature.
    PILOT_SAMPLES = 100
    # Draws of the final run: half of the pilot's, doubled at most six times.
    SIZES = tuple(50 * 2**i for i in range(7))
    # Decodes of a draw at one temperature: all chains, that of z0, and one that stays;
    # a gradient costs as much as two decodes more.
    PRICE = 3 * N_LEAPFROG * (CHAINS + 2)

    @classmethod
    def affords(cls, model: LatentVariableModel) -> bool:
        """Any model."""
        return True

    @classmethod
    def plan(
        cls,
        model: LatentVariableModel,
        gap: float,
        generator: torch.Generator,
        pilots: int,
        budget: int,
    ) -> Self | None:
        """Choose draws and temperatures by a pilot run.

        Parameters
        ----------
        model : LatentVariableModel
            The model.
        gap : float
            Of plain proposals, in nats. Annealing that reaches no smaller one promises
            an infinite width.
        generator : torch.Generator
            Source of all draws.
        pilots, budget : int
            Decodes that the pilot run may take, and it and the final run together.

        Returns
        -------
        AnnealedProposals or None
            None where ``pilots`` is too small for a pilot run.
        """
        n, cost = cls.PILOT_SAMPLES, cls.PRICE
        t = pilots // (cost * (n + TUNED_ON))
        if t < 2:
            return None
        step_sizes = tuned_step_sizes(model, t, generator)
        pilot = estimate_sandwich(model, n, cls.CHAINS, generator, step_sizes)
        spent = t * cost * (n + TUNED_ON)
        left = budget - spent
        reached = pilot.upper - pilot.lower
        noise = pilot.width - reached

        def width(n_final):
            """Promise: the gap falls with the temperatures that the rest can buy."""
            return reached * t * n_final * cost / left + noise * (n / n_final) ** 0.5

        n_final = min(cls.SIZES, key=width)
        n_temperatures = max(2, left // (cost * n_final))
        at = torch.arange(n_temperatures, device=step_sizes.device) * t
        promised = width(n_final) if reached < gap else math.inf
        return cls(n_final, step_sizes[at // n_temperatures], promised, spent)

    def bracket(
        self, model: LatentVariableModel, generator: torch.Generator
    ) -> Bracket:
        """Bracket I(x, z) from fresh draws."""
        return estimate_sandwich(
            model, self.n_samples, self.CHAINS, generator, self.step_sizes
        )
