"""The exact penalty C |I - M| as a weight on the gradient of I (paper, section 5.1).

    C |I - M|  =  max over |lambda| <= C of  lambda (I - M)            (eq. 6)

Each rule holds the multiplier lambda of one constraint. ``weight`` is what the next
gradient step multiplies I with: positive where I must fall, negative where it must
rise. Plain floats; nothing here knows what I is or how it was estimated.
"""

__all__ = ["Constant", "DualAscent", "SignRule"]

# below it, in nats, gains no longer grow as M falls
LEAST_M = 0.5


class Constant:
    """A multiplier that stays C, for a target of 0.

    No information is below 0: the exact penalty C |I - 0| is C I itself.
    """

    def __init__(self, C: float):
        self.C, self.M = C, 0.0
        # (a fit that goes on with another target starts its multiplier at 0)
        self.multiplier, self.weight = 0.0, C

    def start_from(self, multiplier: float) -> None:
        """It has nowhere else to start from."""

    def update(self, estimate: float) -> None:
        """No estimate moves it."""


class SignRule:
    """The paper's rule, Algorithm 1, line 17: lambda = C sign(I_hat - M)."""

    def __init__(self, C: float, M: float):
        self.C, self.M = C, M
        self.multiplier = 0.0

    def update(self, estimate: float) -> None:
        """Take a new estimate of I, in nats."""
        error = estimate - self.M
        self.multiplier = self.C * ((error > 0) - (error < 0))

    @property
    def weight(self) -> float:
        """Multiplier of the gradient of I."""
        return self.multiplier


class DualAscent:
    """Projected dual ascent with a proportional term (augmented Lagrangian, PI).

    The sign of a noisy estimate is biased and oscillates; an update that is linear in
    the estimate is not, and solves for the multiplier. The proportional part acts on
    the estimate handed over *before* the weight is used: an estimate from the same
    draws as the gradient would add half the gradient of its own variance.

    The multiplier is the slope of the distortion in I, and the larger it is the less I
    answers to a change of it. So both gains grow with it. With the proportional gain at
    least the multiplier over M, the weight falls to zero as I does: else a large
    multiplier would go on pushing once I is below M, and the code would collapse.

    Parameters
    ----------
    C : float
        Bound on the multiplier.
    M : float
        Target, in nats.
    patience : int
        Number of updates for which the rule may wait. While the information still
        grows from zero an integrating multiplier would run to its bound (wind-up) and
        wreck the likelihood.
    period : int
        Steps of the optimiser between two updates.
    integral_gain, proportional_gain : float
        Of the multiplier and of the weight, for each nat of error.
    growth : float
        How strongly both gains grow with the multiplier; 0: not at all.
    n_updates : int or None
        Number of updates of the fit, for ``late``.
    late : float or None
        By how much the integral gain is larger from half of the updates on. While the
        decoder still chooses what codes are to tell, a multiplier that answers fast
        keeps it from choosing well. From there the gain falls to zero with the learning
        rate: else the multiplier would oscillate. None: the gain stays what it is.
    stops_waiting_near : float or None
        Part of M at which an estimate ends the waiting of the integral. None: the rule
        ignores all estimates while it waits, for all of its patience.
    """

    # of the running mean that the proportional part acts on, for each step
    forgetting = 0.97
    # the integral gain is multiplied by this part of the multiplier, where that is
    # above 1; the proportional one is at least so many times the multiplier over M
    integral_growth = 0.2
    proportional_growth = 1.0

    def __init__(
        self,
        C: float,
        M: float,
        *,
        patience: int = 0,
        period: int = 1,
        integral_gain: float = 0.03,
        proportional_gain: float = 2.0,
        growth: float = 1.0,
        n_updates: int | None = None,
        late: float | None = None,
        stops_waiting_near: float | None = 0.5,
    ):
        self.C, self.M = C, M
        self.multiplier = 0.0
        self.error = 0.0
        self._kept = self.forgetting**period
        self._patience = patience
        # the noise of an estimate grows with the information it estimates
        self._integral = period * integral_gain / max(1.0, M) ** 0.5
        self._proportional = proportional_gain
        self._integral_growth = growth * self.integral_growth
        self._growth = growth * self.proportional_growth / max(LEAST_M, M)
        self._late, self._n_updates = late, n_updates
        self._updates = 0
        self._near = stops_waiting_near

    def start_from(self, multiplier: float) -> None:
        """Go on from an earlier multiplier; one that has moved does not wait."""
        self.multiplier = self._clip(multiplier)
        if multiplier:
            self._patience = 0

    @property
    def ignores_estimates(self) -> bool:
        """Whether the rule still waits, whatever is estimated."""
        return self._near is None and self._patience > 0

    def _clip(self, value: float) -> float:
        return min(max(value, -self.C), self.C)

    def update(self, estimate: float) -> None:
        """Take a new estimate of I, in nats."""
        self._updates += 1
        if self.ignores_estimates:
            self._patience -= 1
            return
        error = estimate - self.M
        self.error += (1 - self._kept) * (error - self.error)
        if self._near is not None and estimate >= self._near * self.M:
            self._patience = 0
        if self._patience > 0:
            self._patience -= 1
            return
        growth = max(1.0, self._integral_growth * abs(self.multiplier))
        gain = self._pace() * growth * self._integral
        self.multiplier = self._clip(self.multiplier + gain * error)

    def _pace(self) -> float:
        """By how much the integral gain is larger now."""
        if self._late is None or not self._n_updates:
            return 1.0
        remaining = max(0.0, 1 - self._updates / self._n_updates)
        return 1.0 if remaining > 0.5 else 2 * remaining * self._late

    @property
    def weight(self) -> float:
        """Multiplier of the gradient of I."""
        gain = max(self._proportional, self._growth * abs(self.multiplier))
        return self._clip(self.multiplier + gain * self.error)
