"""Constraints: what each adds to a step, and how it is steered.

All have one signature: ``term(step)`` returns what a constraint adds to the loss of a
step, ``update(estimate)`` takes the step's estimate, ``calibrate`` corrects what is
estimated, ``state_dict`` and ``load_state_dict`` carry it over to the next fit.

``Rate`` holds the encoder's joint: down through the rate R, up through -D.
``Information`` holds the model's: down through the upper bound, up through the lower
one or the infomax bound. ``Paper`` is Algorithm 1 to the letter: the infomax bound
under the sign rule.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from sklearn_mae.families import Schedule
from sklearn_mae.information import (
    correction,
    infomax,
    sandwich,
    training_bias,
    weigh,
)
from sklearn_mae.model import DiagonalNormal, LatentVariableModel, draw
from sklearn_mae.training.penalty import DualAscent, SignRule

__all__ = [
    "Calibrated",
    "Constraint",
    "EnumeratedInformation",
    "Information",
    "Paper",
    "Rate",
    "Step",
    "Term",
    "drawn",
]


class Step(NamedTuple):
    """What a step has when constraints are asked.

    ``distortion`` and ``rate`` are the batch's means; ``x`` and ``z`` (k, n, d) its
    rows and the draws of their codes.
    """

    model: LatentVariableModel
    number: int
    n_rows: int
    distortion: Tensor
    rate: Tensor
    generator: torch.Generator
    x: Any = None
    z: Any = None


class Term(NamedTuple):
    """What a constraint adds to a step.

    ``penalty`` joins the loss. ``estimate`` is of what the constraint holds.
    ``objective`` is what r_omega maximises. ``figures`` are recorded. ``clip`` is the
    largest norm of the penalty's gradient, see ``Schedule``.
    """

    penalty: Tensor
    estimate: Tensor
    objective: Tensor | None = None
    figures: dict[str, Tensor] = {}  # noqa: RUF012
    clip: float | None = None


class Constraint:
    """A target that one information must equal, M or another.

    Parameters
    ----------
    penalty : DualAscent or SignRule
        Holds the multiplier.
    """

    name = ""
    # whether it is M that the information must equal
    holds_M = True

    def __init__(self, penalty):
        self.penalty = penalty

    def term(self, step: Step) -> Term | None:
        """Return the step's term, its weight from earlier estimates; None: no turn."""
        raise NotImplementedError

    def update(self, estimate: float) -> None:
        """Move the multiplier by a step's estimate."""
        self.penalty.update(estimate)

    def calibrate(
        self, model: LatentVariableModel, progress: float, generator: torch.Generator
    ) -> None:
        """Correct the estimate; ``progress`` through the calibrations from 0 to 1."""

    @property
    def at_bound(self) -> bool:
        """Whether the multiplier is as large as it may be."""
        return abs(self.penalty.multiplier) >= self.penalty.C

    def state_dict(self) -> dict[str, float]:
        """Return what the next fit goes on from."""
        return {"multiplier": self.penalty.multiplier}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Go on from an earlier fit's state; an empty one: from the start."""
        self.penalty.start_from(state.get("multiplier", 0.0))


class Calibrated(Constraint):
    """A constraint whose estimate in training is corrected by calibrations.

    Parameters
    ----------
    penalty : DualAscent
        Holds the multiplier.
    """

    def __init__(self, penalty):
        super().__init__(penalty)
        # what the training estimate overstates
        self.offset = 0.0

    def update(self, estimate: float) -> None:
        """Move the multiplier by this step's estimate."""
        super().update(estimate - self.offset)

    def state_dict(self) -> dict[str, float]:
        """Return multiplier and offset."""
        return {**super().state_dict(), "offset": self.offset}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Take over multiplier and offset."""
        super().load_state_dict(state)
        self.offset = state.get("offset", 0.0)


class Rate(Constraint):
    """Constraint on the encoder's joint: R = M, down through R and up through -D.

    Rewarding R itself would diverge: that is a negative beta.
    """

    name = "rate"

    def term(self, step: Step) -> Term:
        """Return the step's term from the batch's mean distortion and rate."""
        weight = self.penalty.weight
        side = step.rate if weight > 0 else -step.distortion
        return Term(weight * side, step.rate)


def drawn(
    model: LatentVariableModel, n: int, generator: torch.Generator
) -> tuple[Distribution, Tensor]:
    """Draw n codes and a row from each: r_omega of the rows, and the codes (n, d)."""
    z0 = model.stratified_codes(n, generator)
    with torch.no_grad():
        x = draw(model.rows(z0, generator), (), generator)
    return model.r(x), z0


class _Bounds(NamedTuple):
    """Means over draws: bounds, what r_omega maximises, what makes I less noisy."""

    lower: Tensor
    upper: Tensor
    objective: Tensor
    correction: Tensor


class Information(Calibrated):
    """Constraint on the model's information through both bounds.

    Training estimates overstate it: K is finite, and r_omega lags.

    Parameters
    ----------
    penalty : DualAscent
        Holds the multiplier.
    strategy : object
        Gradient strategy (``gradients.py``).
    schedule : Schedule
        Of the family of rows. A term comes every ``period`` steps, with so much more
        weight.
    """

    name = "model"
    n_samples = 64
    n_proposals = 8
    # beyond this gap between its bounds, in nats, an estimate is too vague to steer by
    widest_gap = 1.0

    penalty: DualAscent

    def __init__(self, penalty: DualAscent, strategy, schedule: Schedule):
        super().__init__(penalty)
        self.strategy = strategy
        self.schedule = schedule

    def term(self, step: Step) -> Term | None:
        """Return the step's term, its weight from earlier estimates."""
        if step.number % self.schedule.period:
            return None
        model, generator = step.model, step.generator
        if self.penalty.ignores_estimates:
            return self._learn(model, generator)
        weight = self.penalty.weight
        if weight <= 0 and self.schedule.upwards == "infomax":
            return self._raise(model, weight, generator)
        bounds = self._bounds(model, generator)
        side = bounds.upper if weight > 0 else bounds.lower
        estimate = self._middle(bounds.lower, bounds.upper) + bounds.correction
        return self._term(weight, side, estimate, bounds)

    def _term(self, weight, side: Tensor, estimate: Tensor, bounds: _Bounds) -> Term:
        figures = {
            "information_lower": bounds.lower,
            "information_upper": bounds.upper,
        }
        penalty = self.schedule.period * weight * side
        clip = self.schedule.clip
        return Term(penalty, estimate, bounds.objective, figures, clip)

    def information(
        self, model: LatentVariableModel, generator: torch.Generator
    ) -> Tensor:
        """Estimate of I to take the gradient of: the middle of the bounds."""
        bounds = self._bounds(model, generator)
        return self._middle(bounds.lower, bounds.upper)

    def _middle(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Middle of the two bounds, the upper one cut off where it is vague.

        r_omega may lag far behind on tables of many columns. The upper bound is then
        many nats too high and noisy. It is cut off once the offset makes up for that.
        """
        if self.offset == 0:  # not calibrated yet
            return 0.5 * (lower + upper)
        widest = self.schedule.widest_training_gap
        return 0.5 * (lower + upper.clamp_max(lower + widest))

    def _bounds(self, model, generator) -> _Bounds:
        z0 = model.stratified_codes(self.n_samples, generator)

        def bounds(x, log_lik):
            r = model.r(x)
            lower, upper, change = self._sandwich(model, x, z0, log_lik, r, generator)
            return lower, upper, model.posterior.objective(r, z0), change

        p = model.rows(z0, generator)
        values = self.strategy.expectation(p, bounds, generator)
        return _Bounds(*(value.mean() for value in values))

    def _sandwich(self, model, x, z0, log_lik, r, generator) -> tuple[Tensor, ...]:
        """Lower and upper bound of each draw, and a less noisy middle's change."""
        weighted = weigh(model, x, z0, log_lik, r, self.n_proposals, generator)
        return *sandwich(weighted), correction(weighted, model.prior)

    def _raise(self, model, weight, generator) -> Term:
        """Return a term through the infomax bound.

        It needs no proposals and so serves twice the draws in less time.
        """
        # two sets of draws, each stratified; the first serves the estimate
        z0 = torch.cat(
            [model.stratified_codes(self.n_samples, generator) for _ in range(2)]
        )
        few = slice(self.n_samples)
        estimates = []

        def bounds(x, log_lik):
            r = model.r(x)
            some = x[few], z0[few], log_lik[few]
            proposal = DiagonalNormal(r.loc[few], r.log_scale[few])
            with torch.no_grad():
                estimates.extend(self._sandwich(model, *some, proposal, generator))
            # credit needs a density's ratio; its mean is the infomax bound
            log_ratio = r.log_prob(z0) - model.prior.log_prob(z0)
            return log_ratio, model.posterior.objective(r, z0)

        p = model.rows(z0, generator)
        values = self.strategy.expectation(p, bounds, generator)
        infomax_bound, objective = (value.mean() for value in values)
        lower, upper, change = (value.mean() for value in estimates)
        means = _Bounds(lower, upper, objective, change)
        estimate = 0.5 * (lower + upper) + change
        return self._term(weight, infomax_bound, estimate, means)

    def _learn(self, model, generator) -> Term:
        """Return a term that teaches r_omega alone; its one bound is the infomax."""
        r, z0 = drawn(model, self.n_samples, generator)
        lower = infomax(r, z0, model.prior).mean().detach()
        objective = model.posterior.objective(r, z0).mean()
        figures = {"information_lower": lower}
        return Term(torch.zeros_like(lower), lower, objective, figures)

    def calibrate(
        self, model: LatentVariableModel, progress: float, generator: torch.Generator
    ) -> None:
        """Correct the estimate against a small certificate."""
        first, last = self.schedule.calibration_samples
        n_samples = round(first * (last / first) ** progress)
        widest = self.schedule.widest_training_gap
        bias, gap = training_bias(model, n_samples, self.n_proposals, generator, widest)
        if gap < self.widest_gap:  # nor where it is NaN
            self.offset += 0.5 * (bias - self.offset)


class EnumeratedInformation(Information):
    """The same for a code of one component and outcomes of x that can be listed.

    Codes stratified over one axis are the midpoint rule: their mean of p(x|z) *is* p(x)
    but for a term of second order in the strata's width, and a sum over x is exact. So
    there is one value instead of two bounds and nothing to calibrate. (r_omega, one
    bump for a category that several stretches of z may decode to, would be a poor
    proposal.)
    """

    n_samples = 256

    def _bounds(self, model, generator) -> _Bounds:
        """One value for both bounds."""
        z0 = model.stratified_codes(self.n_samples, generator)

        def densities(x, log_prob):
            log_marginal = torch.logsumexp(log_prob, -1, keepdim=True)
            information = log_prob - log_marginal + math.log(self.n_samples)
            return information, model.posterior.objective(model.r(x), z0)

        p = model.rows(z0, generator)
        values = self.strategy.expectation(p, densities, generator)
        information, objective = (value.mean() for value in values)
        zero = torch.zeros_like(information)
        return _Bounds(information, information, objective, zero)

    def calibrate(
        self, model: LatentVariableModel, progress: float, generator: torch.Generator
    ) -> None:
        """There is nothing to correct."""


class Paper(Constraint):
    """The paper's constraint: infomax bound and sign rule (Algorithm 1).

    Parameters
    ----------
    penalty : SignRule
        Holds the multiplier.
    strategy : object
        Gradient strategy (``gradients.py``).
    """

    name = "model"

    penalty: SignRule

    def __init__(self, penalty: SignRule, strategy):
        super().__init__(penalty)
        self.strategy = strategy

    def term(self, step: Step) -> Term:
        """Lines 14 to 17 for the model, 8 and 9 for r_omega."""
        model, generator = step.model, step.generator

        def estimate():
            z0 = model.stratified_codes(step.n_rows, generator)

            def bound(x, log_lik):
                return (infomax(model.r(x), z0, model.prior),)

            p = model.rows(z0, generator)
            (values,) = self.strategy.expectation(p, bound, generator)
            return values.mean()

        with torch.no_grad():
            m = estimate()  # lines 15 and 16: draws of their own
        self.penalty.update(float(m))
        bound = estimate()  # line 14, and line 8: B fresh draws
        figures = {"information_lower": m}
        return Term(self.penalty.weight * bound, m, bound, figures)

    def update(self, estimate: float) -> None:
        """The sign was taken before the step."""

    @property
    def at_bound(self) -> bool:
        """The sign rule knows no other place."""
        return False

    def state_dict(self) -> dict[str, float]:
        """Nothing lasts."""
        return {}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Nothing lasts."""
