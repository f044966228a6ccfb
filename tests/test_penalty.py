"""The exact penalty on scripted estimates."""

import math

import pytest

from sklearn_mae.training.penalty import DualAscent, SignRule


class Ascent(DualAscent):
    """Round gains; the proportional part acts on the last error alone."""

    forgetting = 0.0

    def __init__(self, C, M, **options):
        round_gains = {"integral_gain": 0.5, "proportional_gain": 2.0}
        super().__init__(C, M, **{**round_gains, **options})


def started(ascent, multiplier):
    ascent.start_from(multiplier)
    return ascent


def weights(penalty, estimates):
    found = []
    for estimate in estimates:
        penalty.update(estimate)
        found.append(penalty.weight)
    return found


def test_sign_rule():
    rule = SignRule(C=3.0, M=1.0)

    assert rule.weight == 0
    assert weights(rule, [0.2, 1.5, 1.0, 100.0, -2.0]) == [-3, 3, 0, 3, -3]
    assert rule.multiplier == -3


def test_integral_adds_up_the_errors():
    ascent = Ascent(C=10.0, M=1.0)
    multipliers = []
    for estimate in (1.5, 2.0, 1.0, 0.6):
        ascent.update(estimate)
        multipliers.append(ascent.multiplier)

    assert multipliers == pytest.approx([0.25, 0.75, 0.75, 0.55])


def test_late_errors_add_up_faster_and_the_last_one_not():
    ascent = Ascent(C=10.0, M=1.0, n_updates=4, late=3.0)
    multipliers = []
    for estimate in (1.5, 2.0, 2.0, 5.0, 5.0):
        ascent.update(estimate)
        multipliers.append(ascent.multiplier)

    # gains of 1, then 3 at the half, 1.5 and 0
    assert multipliers == pytest.approx([0.25, 1.75, 2.5, 2.5, 2.5])


def test_a_fit_without_a_turn_has_no_late_part():
    ascent = Ascent(C=10.0, M=1.0, n_updates=0, late=3.0)
    ascent.update(1.5)

    assert ascent.multiplier == pytest.approx(0.25)


def test_updates_that_wait_count_as_early_ones():
    patient = {"patience": 2, "stops_waiting_near": None}
    ascent = Ascent(C=10.0, M=1.0, n_updates=6, late=3.0, **patient)
    for _ in range(3):
        ascent.update(1.5)

    assert ascent.multiplier == pytest.approx(0.75)


def test_weight_adds_the_last_error():
    ascent = Ascent(C=10.0, M=1.0)

    # integral + 2 * error
    assert weights(ascent, [1.5, 1.0]) == pytest.approx([0.25 + 1.0, 0.25])
    assert started(Ascent(C=10.0, M=1.0), 0.7).weight == pytest.approx(0.7)


def test_weight_adds_a_running_mean_of_the_errors():
    """Noise would pass through the weight into the gradient otherwise."""

    class Slow(Ascent):
        forgetting = 0.5

    slow = Slow(C=10.0, M=1.0, integral_gain=0.0)
    assert weights(slow, [2.0, 2.0, 1.0]) == pytest.approx([1, 1.5, 0.75])
    # what a period skips is forgotten, too
    slow = Slow(C=10.0, M=1.0, integral_gain=0.0, period=2)
    assert weights(slow, [2.0]) == pytest.approx([1.5])


def test_weight_pushes_down_from_above_and_up_from_below():
    assert weights(Ascent(C=10.0, M=2.0), [2.5])[0] > 0
    assert weights(Ascent(C=10.0, M=2.0), [1.5])[0] < 0


@pytest.mark.parametrize("sign", [1, -1])
def test_multiplier_and_weight_are_clipped(sign):
    ascent = Ascent(C=0.75, M=1.0)

    # the weight is clipped as a whole: its parts alone do not show it
    assert weights(ascent, [1 + sign * 0.5]) == [sign * 0.75]
    assert ascent.multiplier == pytest.approx(sign * 0.25)
    assert weights(ascent, [1 + sign * 100.0] * 3) == [sign * 0.75] * 3
    assert ascent.multiplier == sign * 0.75
    # and the integral does not remember what was cut off
    assert weights(ascent, [1 - sign * 0.5])[0] == pytest.approx(sign * (0.5 - 1.0))
    assert ascent.multiplier == pytest.approx(sign * 0.5)


def test_first_multiplier_is_clipped():
    assert started(Ascent(C=2.0, M=1.0), 5.0).multiplier == 2
    assert started(Ascent(C=2.0, M=1.0), -5.0).multiplier == -2


def test_gain_falls_with_the_noise_of_large_information():
    def first_step(M):
        ascent = Ascent(C=10.0, M=M)
        ascent.update(M + 1)
        return ascent.multiplier

    assert first_step(0.0) == first_step(0.3) == first_step(1.0) == 0.5
    assert first_step(9.0) == pytest.approx(0.5 / math.sqrt(9))


def test_gain_is_per_step_of_the_optimiser():
    often, seldom = Ascent(C=10.0, M=1.0), Ascent(C=10.0, M=1.0, period=3)
    for _ in range(3):
        often.update(1.2)
    seldom.update(1.2)

    assert seldom.multiplier == pytest.approx(often.multiplier)
    # the proportional part has no time in it
    assert seldom.weight == pytest.approx(often.weight)


def test_integral_waits_until_the_information_has_grown():
    ascent = Ascent(C=10.0, M=2.0, patience=100)
    growing = weights(ascent, [0.1, 0.5, 0.9])

    assert ascent.multiplier == 0
    # the proportional part does not wait
    assert growing == pytest.approx([2 * (0.1 - 2), 2 * (0.5 - 2), 2 * (0.9 - 2)])
    ascent.update(1.0)
    assert ascent.multiplier < 0
    moved = ascent.multiplier
    ascent.update(0.2)  # once near, it never waits again
    assert ascent.multiplier < moved


def test_patience_ends():
    ascent = Ascent(C=10.0, M=2.0, patience=3)
    multipliers = []
    for _ in range(5):
        ascent.update(0.5)
        multipliers.append(ascent.multiplier)

    assert multipliers[:3] == [0, 0, 0]
    assert multipliers[4] < multipliers[3] < 0


def test_without_patience_it_starts_at_once():
    ascent = Ascent(C=10.0, M=2.0)
    ascent.update(0.0)

    assert ascent.multiplier < 0


@pytest.mark.parametrize("near", [0.5, None])
def test_a_multiplier_that_has_moved_does_not_wait(near):
    patient = {"patience": 100, "stops_waiting_near": near}
    moved = started(Ascent(C=10.0, M=2.0, **patient), -0.5)
    anew = started(Ascent(C=10.0, M=2.0, **patient), 0.0)
    for ascent in (moved, anew):
        ascent.update(0.0)

    assert moved.multiplier < -0.5
    assert anew.multiplier == 0


@pytest.mark.parametrize("estimate", [-20.0, 0.0, 50.0])
def test_a_rule_may_ignore_all_estimates_while_it_waits(estimate):
    """The first steps' bounds may be far from the truth."""
    all_of_it, until_near, fresh = (
        DualAscent(C=10.0, M=1.0, patience=patience, period=8, stops_waiting_near=near)
        for near, patience in ((None, 3), (0.5, 3), (None, 0))
    )
    assert not until_near.ignores_estimates
    for _ in range(3):
        assert all_of_it.ignores_estimates
        for penalty in (all_of_it, until_near):
            penalty.update(estimate)
        assert until_near.weight != 0
        assert all_of_it.weight == 0
    assert not all_of_it.ignores_estimates
    for _ in range(2):
        for penalty in (all_of_it, fresh):
            penalty.update(1.5)
        assert all_of_it.multiplier == fresh.multiplier > 0
        assert all_of_it.weight == fresh.weight


def test_ascent_solves_for_the_multiplier():
    """Closed loop: the information that a weight w leaves is 3 - 2 w."""
    ascent = DualAscent(C=10.0, M=1.0)
    for _ in range(3000):
        ascent.update(3 - 2 * ascent.weight)

    assert ascent.weight == pytest.approx(1.0, abs=1e-3)
    assert ascent.multiplier == pytest.approx(1.0, abs=1e-3)


def test_an_information_out_of_reach_ends_at_the_bound():
    ascent = DualAscent(C=0.5, M=1.0)
    for _ in range(3000):
        ascent.update(3 - 2 * ascent.weight)

    assert ascent.multiplier == 0.5


def test_numbers_stay_plain():
    rule, ascent = SignRule(C=1.0, M=1.0), DualAscent(C=1.0, M=1.0)
    rule.update(2.0)
    ascent.update(2.0)

    assert type(rule.weight) is type(ascent.weight) is float


def test_gains_grow_with_the_multiplier():
    class Growing(Ascent):
        integral_growth = 0.2
        proportional_growth = 1.0

    ascent = started(Growing(C=100.0, M=4.0), 20.0)
    ascent.update(4.5)
    assert ascent.multiplier == pytest.approx(20 + 0.2 * 20 * 0.5 / math.sqrt(4) * 0.5)
    assert ascent.weight == pytest.approx(ascent.multiplier * (1 + 0.5 / 4))
    # a small multiplier leaves them as they are
    ascent = started(Growing(C=100.0, M=4.0), 4.0)
    ascent.update(4.5)
    assert ascent.multiplier == pytest.approx(4 + 0.5 / math.sqrt(4) * 0.5)
    assert ascent.weight == pytest.approx(ascent.multiplier + 2 * 0.5)
    # nor do they grow where they are not to
    ascent = started(Growing(C=100.0, M=4.0, growth=0.0), 20.0)
    ascent.update(4.5)
    assert ascent.multiplier == pytest.approx(20 + 0.5 / math.sqrt(4) * 0.5)
    assert ascent.weight == pytest.approx(ascent.multiplier + 2 * 0.5)


@pytest.mark.parametrize("M", [0.5, 1.0, 6.0])
@pytest.mark.parametrize("multiplier", [5.0, 50.0, -50.0])
def test_a_large_multiplier_does_not_push_beyond_zero(M, multiplier):
    """Where nothing is left of I, nothing pushes down; from twice M nothing up."""
    ascent = started(DualAscent(C=1000.0, M=M), multiplier)
    ascent.error = -M if multiplier > 0 else M

    assert ascent.weight * multiplier <= 1e-9


def test_ascent_solves_for_a_large_multiplier():
    """Closed loop: the multiplier is the slope of a distortion 40 exp(-I)."""
    ascent = DualAscent(C=100.0, M=1.0)
    information = 2.0
    for _ in range(4000):
        ascent.update(information)
        slope = 40 * math.exp(-information)
        information = max(0.0, information + 1e-3 * (slope - ascent.weight))

    assert information == pytest.approx(1.0, abs=0.02)
    assert ascent.multiplier == pytest.approx(40 / math.e, rel=0.02)
