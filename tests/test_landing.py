"""The end of a fit: I landed on M, r_omega trained on, and the certificate."""

import math

import pytest
import torch

from sklearn_mae.information import (
    Bracket,
    information_of_model,
)
from sklearn_mae.model import Cost
from sklearn_mae.training import (
    Information,
    ProgressBar,
    TrainingRows,
    certification,
    certify,
    landing,
    settle,
)
from sklearn_mae.training.landing import land, refine_posterior
from tests.toy_models import LinearGaussian, generator, random_model
from tests.toy_nets import build, moved, paper, parameters, rate, table, two_sided

# Landing


def trained_near(M, constraint=None, **options):
    """A net whose constraint asks for M, and a measure of its exact information."""
    model = random_model("gaussian", 3, 1)
    net = build(constraint or two_sided(M), model=model, max_epochs=1, **options)
    net.partial_fit(TrainingRows(table(40)))
    net.calls = 0

    def measure():
        net.calls += 1
        found = information_of_model(model, 4_000, 1e9, generator(1), budget=0)
        return found.estimate, 0.0

    return net, measure


@pytest.mark.parametrize("by", [-0.05, 0.05])
def test_landing_brings_the_information_onto_M(by):
    net, measure = trained_near(1.0)
    information, _ = measure()
    (constraint,) = net.constraints
    constraint.penalty.M = information + by
    before = parameters(net.module_)

    land(net, constraint, measure)

    assert abs(measure()[0] - constraint.penalty.M) < 0.1 * abs(by)
    assert moved(before, net.module_) == {"likelihood"}


def test_landing_stops_where_noise_begins():
    net, measure = trained_near(1.0)
    information, _ = measure()
    (constraint,) = net.constraints
    constraint.penalty.M = information + 0.05
    before = parameters(net.module_)

    land(net, constraint, lambda: (information, 0.06))

    assert not moved(before, net.module_)


def test_landing_takes_back_steps_that_did_not_help():
    """A gradient may be noise: some more are tried."""
    net, _ = trained_near(1.0)
    failed = [(0.8, 0.0)] * len(landing.PARTS) * landing.N_FAILURES
    readings = iter([(0.9, 0.0), *failed])
    before = parameters(net.module_)

    land(net, net.constraints[0], lambda: next(readings))

    assert not moved(before, net.module_)
    assert next(readings, None) is None


def test_landing_goes_on_from_other_draws_after_a_step_that_did_not_help(monkeypatch):
    net, _ = trained_near(1.0)
    directions, ascend = [], landing._ascent

    def ascent(*given):
        found = ascend(*given)
        directions.append(found[0])
        return found

    monkeypatch.setattr(landing, "_ascent", ascent)
    failed = [(0.8, 0.0)] * len(landing.PARTS)
    readings = iter([(0.9, 0.0), *failed, (1.0, 0.0)])
    before = parameters(net.module_)

    land(net, net.constraints[0], lambda: next(readings))

    assert moved(before, net.module_) == {"likelihood"}
    assert len(directions) == 2
    assert not all(map(torch.equal, *directions))


def test_landing_tries_a_part_of_a_step_that_did_not_help():
    net, _ = trained_near(1.0)
    readings = iter([(0.9, 0.0), (1.2, 0.0), (1.0, 0.0)])
    before = parameters(net.module_)

    land(net, net.constraints[0], lambda: next(readings))

    assert moved(before, net.module_) == {"likelihood"}
    assert next(readings, None) is None


@pytest.mark.parametrize("reading", [math.nan, math.inf, -math.inf])
def test_landing_of_a_model_without_information_keeps_its_weights(reading):
    net, _ = trained_near(1.0)
    failed = [(reading, 0.0)] * len(landing.PARTS) * landing.N_FAILURES
    readings = iter([(0.9, 0.0), *failed])
    before = parameters(net.module_)

    land(net, net.constraints[0], lambda: next(readings))

    assert not moved(before, net.module_)


@pytest.mark.parametrize(
    ("M", "missing"),
    [(0.2, 0.11), (0.5, 0.11), (1.0, 0.21), (2.0, 0.41), (3.0, 0.51), (9.0, 0.91)],
)
@pytest.mark.parametrize("sign", [1, -1])
def test_landing_leaves_alone_what_training_left_far_off(M, missing, sign):
    net, _ = trained_near(1.0)
    net.constraints[0].penalty.M = M
    missing = sign * missing
    before = parameters(net.module_)
    readings = iter([(M - missing, 0.0)])

    land(net, net.constraints[0], lambda: next(readings))

    assert not moved(before, net.module_)


def test_landing_goes_no_further_than_some_steps_of_the_optimiser(monkeypatch):
    net, _ = trained_near(1.0)
    (constraint,) = net.constraints
    state = net.optimizer_.state
    before = parameters(net.module_.likelihood)
    ascend = landing._ascent
    monkeypatch.setattr(landing, "_ascent", lambda *given: (ascend(*given)[0], 1e-9))
    readings = iter([(0.9, 0.0), (1.0, 0.0)])
    gradient, _ = ascend(net, constraint, list(net.module_.likelihood.parameters()))

    land(net, constraint, lambda: next(readings))

    longest = landing.LONGEST * net.lr
    for (name, value), direction in zip(
        net.module_.likelihood.named_parameters(), gradient, strict=True
    ):
        assert value in state
        # other draws than those of the step, so not the same direction: the same size
        assert (value - before[name]).norm() < 3 * longest * direction.norm()


def test_landing_respects_C():
    net, measure = trained_near(1.0, two_sided(C=2.0))
    (constraint,) = net.constraints
    constraint.penalty.multiplier = 2.0
    before = parameters(net.module_)

    land(net, constraint, measure)

    assert not moved(before, net.module_)
    assert net.calls == 0


def test_an_untrained_net_does_not_land():
    constraint = two_sided()
    net = build(constraint, model=random_model("gaussian", 3, 1))
    net.step_ = 0  # a callback ended the training at once
    before = parameters(net.module_)

    land(net, constraint, lambda: pytest.fail("there is nothing to measure"))

    assert not moved(before, net.module_)


# The posterior's last training


def test_refinement_moves_the_posterior_alone_and_improves_it():
    model = LinearGaussian(2, 3, shift=1.0, widening=2.0)
    before = parameters(model)
    net = build(model=model)

    def bound():
        z0, x, _ = model.joint_draws(5000)
        return float((model.prior.entropy + model.r(x).log_prob(z0)).mean())

    start = bound()
    refine_posterior(net, 300)

    assert moved(before, model) == {"posterior"}
    # what is left of the divergence it started with
    assert model.information - bound() < 0.3 * (model.information - start)


# What follows the training


def settled(net, seed=1):
    with ProgressBar(disable=True) as progress:
        settle(net, seed, progress)
    return net


@pytest.mark.parametrize(
    ("kind", "parts"),
    [
        (two_sided, {"likelihood", "posterior"}),
        (paper, {"posterior"}),
        (rate, {"posterior"}),
    ],
)
def test_information_alone_lands_on_M(kind, parts):
    """The paper's rule ends where it ends, and so does the rate."""
    net, measure = trained_near(1.0, kind())
    (constraint,) = net.constraints
    information, _ = measure()
    constraint.penalty.M = information + 0.05
    before = parameters(net.module_)

    settled(net)

    assert moved(before, net.module_) == parts
    missing = constraint.penalty.M - measure()[0]
    if kind is two_sided:
        assert abs(missing) < 0.01
    else:
        assert missing == pytest.approx(0.05)


def test_landing_measures_by_the_same_draws_and_not_by_vague_ones(monkeypatch):
    net, _ = trained_near(1.0)
    found, measures, calls = Bracket(0.9, 1.1, 0.01, 0.03, "sandwich"), [], []

    def bracket(
        model, n_samples, tol, generator, budget, n_proposals, single, affordable
    ):
        calls.append((n_samples, tol, budget, generator.initial_seed(), n_proposals))
        assert single
        assert affordable == certification.AFFORDABLE
        assert next(model.parameters()).dtype == torch.float64
        return found

    keep = lambda net, constraint, measure: measures.append(measure)
    monkeypatch.setattr(certification, "information_of_model", bracket)
    monkeypatch.setattr(certification, "land", keep)
    settled(net, seed=7)
    (measure,) = measures

    assert measure() == measure() == (found.estimate, 0.03)
    assert calls == [calls[0]] * 2
    assert calls[0][1:] == (math.inf, 0, 7, 128)
    found = Bracket(0.0, Information.widest_gap + 0.01, 0.01, 0.03, "sandwich")
    vague, _ = measure()
    assert math.isnan(vague)


@pytest.mark.parametrize("constrained", [True, False])
@pytest.mark.parametrize("refinement", [1.0, 0.01])
def test_the_posterior_trains_longer_where_information_is_only_measured(
    monkeypatch, constrained, refinement
):
    """But never for longer than the fit."""
    refined = []
    monkeypatch.setattr(
        certification, "refine_posterior", lambda net, n_steps: refined.append(n_steps)
    )
    monkeypatch.setattr(certification, "land", lambda *given: None)
    net = build(*[two_sided()] * constrained).partial_fit(TrainingRows(table()))
    net.module_.likelihood.cost = Cost(refinement=refinement)
    for net.step_ in (10, 10_000):
        settled(net)

    most = 200 if constrained else 2_000
    assert refined == [min(10, most * refinement), most * refinement]


@pytest.mark.parametrize(
    ("n_steps", "cost", "n_samples", "budget"),
    [
        (10, Cost(), 500, 32_000),  # a first look
        (499, Cost(fit_samples=70), 70, 249_500),
        (500, Cost(), 2_000, 250_000),
        (100_000, Cost(), 2_000, 3_000_000),
        (100_000, Cost(fit_budget=40_000, fit_samples=70), 70, 40_000),
    ],
)
def test_the_certificate_is_worth_a_part_of_the_fit(
    monkeypatch, n_steps, cost, n_samples, budget
):
    calls, found = [], Bracket(0.5, 0.6, 0.01, 0.01, "sandwich")

    def bracket(model, n_samples, tol, generator, budget, single, affordable):
        assert affordable == certification.AFFORDABLE
        calls.append((n_samples, tol, generator.initial_seed(), budget, single))
        return found

    monkeypatch.setattr(certification, "information_of_model", bracket)
    net = build()
    net.module_.likelihood.cost, net.step_ = cost, n_steps

    assert certify(net, 7) is found
    assert calls == [(n_samples, 0.05, 7, budget, True)]


@pytest.mark.parametrize(
    ("M", "low", "high", "decided"),
    [
        (1.0, 0.95, 1.05, True),  # within 0.05 of M
        (1.0, 0.94, 1.05, False),
        (1.0, 0.90, 0.96, False),  # a part is
        (0.0, -0.20, 0.04, True),  # below 0 is 0
        (1.0, 0.80, 0.94, True),  # none is
        (10.0, 9.80, 10.20, True),  # within 2 %
        (10.0, 9.80, 10.21, False),
    ],
)
def test_a_finer_certificate_decides_where_the_first_does_not(
    monkeypatch, M, low, high, decided
):
    found = [
        Bracket(low + 1e-9, high - 1e-9, 0.0, 0.0, "sandwich"),
        Bracket(M, M, 0.0, 0.0, "sandwich"),
    ]
    widths, budgets = [], []

    def bracket(model, n_samples, tol, generator, budget, single, affordable):
        assert affordable == certification.AFFORDABLE
        widths.append(tol)
        budgets.append(budget)
        return found[len(widths) - 1]

    monkeypatch.setattr(certification, "information_of_model", bracket)
    net = build(two_sided(M))
    net.step_ = 1_000

    assert certify(net, 7) is found[not decided]
    width = max(0.05, 0.015 * M)
    assert widths == [width, width / 4][: 2 - decided]
    assert budgets == [500_000, 2_000_000][: 2 - decided]


def test_the_certificate_holds_the_truth():
    model = LinearGaussian(2, 3, shift=0.5, widening=1.3)
    net = build(model=model.float())
    net.step_ = 1_000
    before = parameters(net.module_)
    low, high = certify(net, 1).interval

    rounding = 1e-6  # of the weights in single precision
    assert low - rounding < model.information < high + rounding
    assert high - low < 0.1
    assert not moved(before, net.module_)
    assert net.module_.reference.dtype == torch.float32
