"""What a constraint adds to a step: a term of the loss, and estimates to steer by.

``Paper`` is Algorithm 1 to the letter: the infomax bound under the sign rule.
``TwoSided`` goes through the upper bound where I must fall and through the lower one
where it must rise (for sequences through the infomax bound). ``Rate`` is the same for
the encoder's joint: down through the rate R, up through -D.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from sklearn_mae.information import (
    correction,
    infomax,
    sandwich,
    training_bias,
    weigh,
)
from sklearn_mae.model import DiagonalNormal, LatentVariableModel, draw, log_prior
from sklearn_mae.penalty import DualAscent, SignRule, SlowAscent

__all__ = [
    "Listed",
    "Paper",
    "Rate",
    "TwoSided",
    "TwoSidedSequences",
    "drawn",
]


class Term(NamedTuple):
    """What a constraint on the model's information adds to a step.

    ``objective`` is what r_omega maximises; there need not be an ``upper`` bound.
    """

    penalty: Tensor
    objective: Tensor
    estimate: Tensor
    lower: Tensor
    upper: Tensor | None


def drawn(
    model: LatentVariableModel, n: int, generator: torch.Generator
) -> tuple[Distribution, Tensor]:
    """Draw n codes and a row from each: r_omega of the rows, and the codes (n, d)."""
    z0 = model.draw_codes(n, generator)
    with torch.no_grad():
        x = draw(model.likelihood(z0), (), generator)
    return model.r(x), z0


class TwoSided:
    """Constraint on the model's information through both bounds.

    Parameters
    ----------
    penalty : DualAscent
        Holds the multiplier.
    strategy : object
        Gradient strategy (``gradients.py``).
    """

    # every so many steps, with so much more weight: the step of a small network is
    # dominated by the number of its operations, not by their size
    period = 4
    n_samples = 64
    n_proposals = 8
    # for the first and for the last calibration
    calibration_samples = (200, 400)
    # beyond this gap between its bounds, in nats, an estimate is too vague to steer by
    widest_gap = 1.0
    # r_omega may lag far behind on tables of many columns. The upper bound is then many
    # nats too high and noisy. Once the offset makes up for it, the upper bound counts
    # as no more than this above the lower one
    widest_training_gap = 2.0
    # how its multiplier moves, and for which part of a fit it may wait
    ascent = DualAscent
    waiting = 0.1

    def __init__(self, penalty: DualAscent, strategy):
        self.penalty = penalty
        self.strategy = strategy
        # what the training estimate overstates, because K is finite and r_omega lags
        self.offset = 0.0

    def term(
        self, model: LatentVariableModel, batch: int, generator: torch.Generator
    ) -> Term:
        """Return the step's term, its weight from earlier estimates."""
        lower, upper, objective, quieter = self._bounds(model, generator)
        weight = self.penalty.weight
        side = upper if weight > 0 else lower
        penalty = self.period * weight * side
        estimate = self._middle(lower, upper) + quieter
        return Term(penalty, objective, estimate, lower, upper)

    def information(
        self, model: LatentVariableModel, generator: torch.Generator
    ) -> Tensor:
        """Estimate of I to take the gradient of: the middle of the bounds."""
        lower, upper, *_ = self._bounds(model, generator)
        return self._middle(lower, upper)

    def _middle(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Middle of the two bounds, the upper one cut off where it is vague."""
        if self.offset == 0:  # not calibrated yet
            return 0.5 * (lower + upper)
        return 0.5 * (lower + upper.clamp_max(lower + self.widest_training_gap))

    def _bounds(self, model, generator) -> tuple[Tensor, ...]:
        """Lower, upper bound, what r_omega maximises, and a quieter middle's change."""
        z0 = model.draw_codes(self.n_samples, generator)

        def bounds(x, log_lik):
            r = model.r(x)
            lower, upper, quieter = self._sandwich(model, x, z0, log_lik, r, generator)
            return lower, upper, model.posterior.objective(r, z0), quieter

        p = model.likelihood(z0)
        values = self.strategy.expectation(p, bounds, generator)
        return tuple(value.mean() for value in values)

    def _sandwich(self, model, x, z0, log_lik, r, generator) -> tuple[Tensor, ...]:
        """Lower and upper bound of each draw, and a quieter middle's change."""
        weighted = weigh(model, x, z0, log_lik, r, self.n_proposals, generator)
        return *sandwich(weighted), correction(weighted)

    def update(self, estimate: float) -> None:
        """Move the multiplier by this step's estimate."""
        self.penalty.update(estimate - self.offset)

    def calibrate(self, model: LatentVariableModel, progress: float, generator) -> None:
        """Correct the estimate against a small certificate.

        Parameters
        ----------
        model : LatentVariableModel
            The model.
        progress : float
            How far the calibrations have come, from 0 to 1.
        generator : torch.Generator
            Source of all draws.
        """
        first, last = self.calibration_samples
        n_samples = round(first * (last / first) ** progress)
        bias, gap = training_bias(
            model, n_samples, self.n_proposals, generator, self.widest_training_gap
        )
        if gap < self.widest_gap:  # nor where it is NaN
            self.offset += 0.5 * (bias - self.offset)


class TwoSidedSequences(TwoSided):
    """The same for sequences, whose gradient is REINFORCE's.

    What starts the learning is the constraint on the encoder's rate; this one gives I
    time to follow. Upwards it goes through the infomax bound, which needs no proposals
    and so serves twice the draws in less time.
    """

    penalty: SlowAscent
    # a step of the LSTMs is dominated by their sizes: seldom is cheap
    period = 8
    calibration_samples = (64, 128)
    ascent = SlowAscent
    waiting = 0.7
    widest_training_gap = math.inf

    def term(
        self, model: LatentVariableModel, batch: int, generator: torch.Generator
    ) -> Term:
        """Return the step's term, its weight from earlier estimates."""
        if self.penalty.waits:
            return self._learn(model, generator)
        weight = self.penalty.weight
        if weight > 0:
            return super().term(model, batch, generator)
        # two sets of draws, each stratified; the first serves the estimate
        z0 = torch.cat([model.draw_codes(self.n_samples, generator) for _ in range(2)])
        few = slice(self.n_samples)
        estimates = []

        def bounds(x, log_lik):
            r = model.r(x)
            some = x[few], z0[few], log_lik[few]
            proposal = DiagonalNormal(r.loc[few], r.log_scale[few])
            with torch.no_grad():
                estimates.extend(self._sandwich(model, *some, proposal, generator))
            # credit needs a density's ratio; its mean is the infomax bound
            told = r.log_prob(z0) - log_prior(z0)
            return told, model.posterior.objective(r, z0)

        values = self.strategy.expectation(model.likelihood(z0), bounds, generator)
        told, objective = (value.mean() for value in values)
        lower, upper, quieter = (value.mean() for value in estimates)
        estimate = 0.5 * (lower + upper) + quieter
        return Term(self.period * weight * told, objective, estimate, lower, upper)

    def _learn(self, model, generator) -> Term:
        """Return a term that teaches r_omega alone; its one bound is the infomax."""
        r, z0 = drawn(model, self.n_samples, generator)
        lower = infomax(r, z0).mean().detach()
        objective = model.posterior.objective(r, z0).mean()
        return Term(torch.zeros_like(lower), objective, lower, lower, None)


class Listed(TwoSided):
    """The same for a code of one component and outcomes of x that can be listed.

    Codes stratified over one axis are the midpoint rule: their mean of p(x|z) *is* p(x)
    but for a term of second order in the strata's width, and a sum over x is exact. So
    there is one value instead of two bounds and nothing to calibrate. (r_omega, one
    bump for a category that several stretches of z may decode to, would be a poor
    proposal.)
    """

    n_samples = 256

    def _bounds(self, model, generator) -> tuple[Tensor, ...]:
        """One value for both bounds."""
        z0 = model.draw_codes(self.n_samples, generator)

        def densities(x, log_prob):
            log_marginal = torch.logsumexp(log_prob, -1, keepdim=True)
            information = log_prob - log_marginal + math.log(self.n_samples)
            return information, model.posterior.objective(model.r(x), z0)

        p = model.likelihood(z0)
        values = self.strategy.expectation(p, densities, generator)
        information, objective = (value.mean() for value in values)
        return information, information, objective, torch.zeros_like(information)

    def calibrate(self, model: LatentVariableModel, progress: float, generator) -> None:
        """There is nothing to correct."""


class Paper:
    """The paper's constraint: infomax bound and sign rule (Algorithm 1).

    Parameters
    ----------
    penalty : SignRule
        Holds the multiplier.
    strategy : object
        Gradient strategy (``gradients.py``).
    """

    period = 1

    def __init__(self, penalty: SignRule, strategy):
        self.penalty = penalty
        self.strategy = strategy

    def term(
        self, model: LatentVariableModel, batch: int, generator: torch.Generator
    ) -> Term:
        """Lines 14 to 17 for the model, 8 and 9 for r_omega."""

        def estimate():
            z0 = model.draw_codes(batch, generator)

            def bound(x, log_lik):
                return (infomax(model.r(x), z0),)

            p = model.likelihood(z0)
            (values,) = self.strategy.expectation(p, bound, generator)
            return values.mean()

        with torch.no_grad():
            m = estimate()  # lines 15 and 16: draws of their own
        self.penalty.update(float(m))
        bound = estimate()  # line 14, and line 8: B fresh draws
        return Term(self.penalty.weight * bound, bound, m, m, None)

    def update(self, estimate: float) -> None:
        """The sign was taken before the step."""

    def calibrate(self, model: LatentVariableModel, progress: float, generator) -> None:
        """The paper has no calibration."""


class Rate:
    """Constraint on the encoder's joint: R = M, down through R and up through -D.

    Rewarding R itself would diverge: that is a negative beta.

    Parameters
    ----------
    penalty : DualAscent
        Holds the multiplier.
    """

    def __init__(self, penalty: DualAscent):
        self.penalty = penalty

    def term(self, distortion: Tensor, rate: Tensor) -> Tensor:
        """Return the step's term from the batch's mean distortion and rate."""
        weight = self.penalty.weight
        return weight * rate if weight > 0 else -weight * distortion
