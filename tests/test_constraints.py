"""What each constraint adds to a step, and what steers it."""

import math
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from sklearn_mae.families import Schedule
from sklearn_mae.families.sequences import Sequences
from sklearn_mae.gradients import Enumeration, PerEntry, Reinforce, Reparametrised
from sklearn_mae.information import infomax, training_bias
from sklearn_mae.model import StandardNormal
from sklearn_mae.training import (
    EnumeratedInformation,
    Information,
    Paper,
    Rate,
    TrainingRows,
)
from sklearn_mae.training import constraints as constraints_module
from sklearn_mae.training.constraints import Step
from sklearn_mae.training.landing import refine_posterior
from sklearn_mae.training.penalty import DualAscent, SignRule
from tests.statistical import assert_mean_equal
from tests.toy_models import LinearGaussian, generator, random_model
from tests.toy_nets import (
    build,
    drawn_rows,
    moved,
    paper,
    parameters,
    rate,
    sequences,
    table,
    two_sided,
)


class Weighted(NamedTuple):
    """A penalty with a fixed weight."""

    weight: float
    multiplier: float = 0.0
    ignores_estimates: bool = False


def fixed(weight):
    """A constraint whose penalty has a fixed weight."""
    return Information(Weighted(weight), Reparametrised(), Schedule())


def step(model, number=0, n_rows=20, seed=0):
    """What a constraint on the model's information is asked with."""
    return Step(model, number, n_rows, None, None, generator(seed))


def bounds_of(term):
    return [term.figures[f"information_{side}"] for side in ("lower", "upper")]


# Information


@pytest.mark.parametrize("weight", [2.0, -2.0, 0.0])
def test_two_sided_term_goes_down_the_upper_and_up_the_lower_bound(weight):
    model = LinearGaussian(2, 3, shift=0.5, widening=1.3)
    constraint = fixed(weight)
    term = constraint.term(step(model))

    lower, upper = bounds_of(term)
    side = upper if weight > 0 else lower
    assert lower < upper
    assert_close(term.penalty, constraint.schedule.period * weight * side)
    assert term.objective + StandardNormal(2).entropy < upper
    slope = torch.autograd.grad(term.penalty, model.likelihood.decoder.weight)[0]
    assert (slope == 0).all() == (weight == 0)


@pytest.mark.parametrize("period", [1, 3, 8])
def test_a_term_comes_every_so_many_steps(period):
    """With so much more weight."""
    model = LinearGaussian(2, 3, shift=0.5, widening=1.3)
    constraint = Information(Weighted(2.0), Reparametrised(), Schedule(period=period))
    terms = [constraint.term(step(model, number)) for number in range(17)]

    for number, term in enumerate(terms):
        if number % period:
            assert term is None
        else:
            _, upper = bounds_of(term)
            assert_close(term.penalty, 2.0 * period * upper)


def test_two_sided_objective_is_the_infomax_bound():
    """But for the entropy of the prior, which is constant."""
    model = LinearGaussian(2, 3, shift=0.5, widening=1.3)
    constraint = fixed(1.0)
    terms = [
        constraint.term(step(model, seed=seed)).objective.item()
        + StandardNormal(2).entropy
        for seed in range(200)
    ]
    truth = model.information - model.reverse_divergence
    se = np.std(terms) / 200**0.5

    assert abs(np.mean(terms) - truth) < 5 * se < 0.3


def test_two_sided_estimate_is_a_quieter_midpoint():
    model = LinearGaussian(2, 3, shift=0.5, widening=1.3)
    constraint = fixed(1.0)
    with torch.no_grad():
        terms = [constraint.term(step(model, seed=seed)) for seed in range(200)]
    estimates, midpoints = np.array(
        [(float(t.estimate), 0.5 * float(sum(bounds_of(t)))) for t in terms]
    ).T

    assert_mean_equal(estimates - midpoints, 0.0, resolution=0.1)
    assert estimates.std() < 0.7 * midpoints.std()


def test_two_sided_hands_the_penalty_the_corrected_estimate():
    told = []

    class Penalty:
        def update(self, estimate):
            told.append(estimate)

    constraint = Information(Penalty(), Reparametrised(), Schedule())
    constraint.update(1.5)
    constraint.offset = 0.25
    constraint.update(3.0)

    assert told == [1.5, 2.75]


def test_calibration_moves_the_offset_towards_the_bias():
    model = LinearGaussian(2, 3, shift=1.0, widening=0.7)
    constraint, offsets = two_sided(calibration_samples=(500, 500)), []
    for seed in range(8):
        constraint.calibrate(model, 1.0, generator(seed))
        offsets.append(constraint.offset)
    biases = [
        training_bias(model, 500, constraint.n_proposals, generator(100 + seed))[0]
        for seed in range(20)
    ]

    assert abs(np.mean(biases)) > 0.02
    assert offsets[0] == pytest.approx(0.5 * np.mean(biases), abs=5 * np.std(biases))
    assert offsets[-1] == pytest.approx(np.mean(biases), abs=5 * np.std(biases))


def test_calibrations_grow_with_the_progress(monkeypatch):
    sizes = []

    def bias(model, n_samples, n_proposals, generator, widest):
        sizes.append(n_samples)
        return 0.0, 0.0

    monkeypatch.setattr(constraints_module, "training_bias", bias)
    constraint = two_sided()
    for progress in (0.0, 0.5, 1.0):
        constraint.calibrate(None, progress, None)

    first, last = constraint.schedule.calibration_samples
    assert sizes == [first, round((first * last) ** 0.5), last]


def test_a_vague_upper_bound_is_cut_off_from_the_estimate():
    constraint = two_sided()
    lower = torch.tensor(2.0)

    assert constraint._middle(lower, lower + 6) == 5  # no offset makes up for it yet
    constraint.offset = 0.3
    for gap, middle in ((0.5, 2.25), (2.0, 3.0), (6.0, 3.0), (np.inf, 3.0)):
        assert constraint._middle(lower, lower + gap) == middle
    # sequences do without it
    constraint = of_sequences(sequences())
    constraint.offset = 0.3
    assert constraint._middle(lower, lower + 6) == 5


def test_the_bias_of_a_cut_estimate_is_that_of_the_lower_bound():
    model = random_model("gaussian", 3, 2)
    whole, _ = training_bias(model, 200, 4, generator())
    cut, gap = training_bias(model, 200, 4, generator(), widest=0.0)
    half, _ = training_bias(model, 200, 4, generator(), widest=1e-3)

    assert cut < half < whole
    assert half - cut == pytest.approx(0.5e-3, abs=1e-6)
    assert np.isfinite(gap)


def test_calibration_ignores_what_is_vague(monkeypatch):
    constraint = two_sided()
    for gap in (constraint.widest_gap, np.nan):
        monkeypatch.setattr(
            constraints_module, "training_bias", lambda *_, g=gap: (7.0, g)
        )
        constraint.calibrate(None, 1.0, None)

    assert constraint.offset == 0


@pytest.mark.parametrize("kind", [two_sided, rate])
def test_the_next_fit_goes_on_from_a_constraint_s_state(kind):
    constraint, next_one, anew = kind(C=1.0), kind(C=1.0), kind(C=1.0)
    for one in (constraint, next_one):
        assert all(value == 0.0 for value in one.state_dict().values())
    constraint.penalty.multiplier = 0.75
    constraint.offset = 0.25
    state = constraint.state_dict()
    next_one.load_state_dict(state)
    anew.load_state_dict({})

    offset = {"offset": 0.25} if kind is two_sided else {}
    assert state == next_one.state_dict() == {"multiplier": 0.75, **offset}
    assert next_one.penalty.weight == 0.75
    assert anew.penalty.weight == 0.0
    # a smaller C holds for what went before, too
    smaller = kind(C=0.5)
    smaller.load_state_dict(state)
    assert smaller.penalty.multiplier == 0.5
    assert smaller.at_bound
    assert not next_one.at_bound


def test_the_paper_s_rule_keeps_nothing():
    """Its multiplier, the sign of one estimate, is the same again at the first step."""
    constraint = paper()
    constraint.penalty.update(3.0)
    fresh = paper()
    fresh.load_state_dict({"multiplier": 10.0})

    assert constraint.state_dict() == {}
    assert fresh.penalty.multiplier == 0
    assert not constraint.at_bound


# Outcomes that can be listed


def test_listed_outcomes_are_summed_over_the_midpoint_rule():
    """Value and gradient are those of the sums over a fine grid, up to n^-2."""
    model = random_model("categorical", [5], 1)
    outcomes = model.outcomes()
    penalty = DualAscent(10.0, 1.0)
    penalty.start_from(1.0)
    constraint = EnumeratedInformation(penalty, Enumeration(outcomes), Schedule())
    term = constraint.term(step(model))

    z = torch.linspace(-8, 8, 4001, dtype=torch.float64).unsqueeze(1)
    mass = torch.softmax(-0.5 * z.square().squeeze(1), 0)
    log_prob = model.likelihood(z).log_prob(outcomes.values.unsqueeze(1))
    marginal = (mass * log_prob.exp()).sum(1, keepdim=True)
    exact = (mass * log_prob.exp() * (log_prob - marginal.log())).sum()
    theta = list(model.likelihood.parameters())

    assert_close(term.estimate, exact, rtol=0, atol=1e-3)
    assert bounds_of(term) == [term.estimate, term.estimate]
    for found, expected in zip(
        torch.autograd.grad(term.penalty, theta),
        torch.autograd.grad(constraint.schedule.period * exact, theta),
        strict=True,
    ):
        scale = float(expected.abs().max())
        assert_close(found, expected, rtol=0, atol=0.02 * scale)
    before = constraint.offset
    constraint.calibrate(model, 1.0, generator())
    assert constraint.offset == before == 0


# Sequences


def slow_ascent(patience=0):
    """The multiplier's rule as ``fit`` builds it for sequences."""
    schedule = Sequences.schedule
    return DualAscent(
        10.0,
        1.0,
        patience=patience,
        period=schedule.period,
        integral_gain=schedule.integral_gain,
        proportional_gain=schedule.proportional_gain,
        growth=schedule.growth,
        stops_waiting_near=schedule.stops_waiting_near,
    )


def of_sequences(model, weight=None, strategy=None):
    penalty = slow_ascent() if weight is None else Weighted(weight)
    strategy = PerEntry(model.posterior, model.prior) if strategy is None else strategy
    return Information(penalty, strategy, Sequences.schedule)


def test_sequences_go_down_the_upper_bound():
    model = sequences()
    constraint = of_sequences(model, 2.0)
    term = constraint.term(step(model))

    lower, upper = bounds_of(term)
    assert lower < upper
    assert_close(term.penalty, constraint.schedule.period * 2.0 * upper)
    slope = torch.autograd.grad(term.penalty, model.likelihood.output.weight)[0]
    assert (slope != 0).any()


class Kept(PerEntry):
    """Per-token credit that keeps what it was asked for."""

    def expectation(self, p, f, generator):
        def keeping(x, log_prob):
            self.x, self.z0, self.integrands = x, p.base.z, f(x, log_prob)
            return self.integrands

        return super().expectation(p, keeping, generator)


def test_sequences_go_up_by_what_the_filter_is_told():
    model = sequences()
    strategy = Kept(model.posterior, model.prior)
    constraint = of_sequences(model, -2.0, strategy)
    term = constraint.term(step(model))

    told, objective = strategy.integrands
    z0, r = strategy.z0, model.r(strategy.x)
    # a ratio of densities, of which credit can take off that of a prefix
    assert_close(told, r.log_prob(z0) - model.prior.log_prob(z0))
    assert_close(term.penalty, constraint.schedule.period * -2.0 * told.mean())
    assert_close(objective, model.posterior.objective(r, z0))
    assert_close(term.objective, objective.mean())
    assert len(z0) == 2 * constraint.n_samples
    lower, upper = bounds_of(term)
    assert lower < upper
    assert not term.estimate.requires_grad
    slope = torch.autograd.grad(term.penalty, model.likelihood.output.weight)[0]
    assert (slope != 0).any()


def test_sequences_only_train_their_filter_while_they_wait():
    model = sequences()
    constraint = of_sequences(model)
    constraint.penalty = slow_ascent(patience=1)
    term = constraint.term(step(model))

    assert term.penalty == 0
    assert not term.penalty.requires_grad
    # an upper one needs proposals, whose decoding would cost twice as much
    assert term.figures == {"information_lower": term.estimate}
    with torch.no_grad():
        lower = [constraint.term(step(model, seed=s)).estimate for s in range(300)]
        z0 = model.stratified_codes(20_000, generator(1_000))
        told = infomax(
            model.r(model.likelihood(z0).sample((), generator())), z0, model.prior
        )
    assert_mean_equal(np.array(lower), float(told.mean()), resolution=0.1)
    slope = torch.autograd.grad(term.objective, model.posterior.prefix_output.weight)[0]
    assert (slope != 0).any()

    constraint.update(50.0)
    _, upper = bounds_of(constraint.term(step(model)))
    assert torch.isfinite(upper)


def test_sequences_land_along_the_sandwich():
    """Infomax, a lower bound, would be the wrong way down."""
    model = sequences()
    for weight in (2.0, -2.0):
        constraint = of_sequences(model, weight)
        middle = constraint.information(model, generator())
        lower, upper = bounds_of(of_sequences(model, 2.0).term(step(model)))
        assert_close(middle, 0.5 * (lower + upper))
        assert middle.requires_grad


@pytest.mark.parametrize("weight", [1.0, 0.0, -1.0])
def test_sequences_estimate_is_a_quieter_midpoint(weight):
    model = sequences()
    constraint = of_sequences(model, weight)
    with torch.no_grad():
        terms = [constraint.term(step(model, seed=seed)) for seed in range(30)]
    bounds = np.array([[float(bound) for bound in bounds_of(t)] for t in terms])
    estimates = np.array([float(term.estimate) for term in terms])
    midpoints = bounds.mean(axis=1)
    with torch.no_grad():
        z, x = model.stratified_codes(4_000, generator()), model.likelihood.outcomes()
        log_prob = model.likelihood(z).log_prob(x.unsqueeze(1))
    log_marginal = torch.logsumexp(log_prob, 1, keepdim=True) - math.log(len(z))
    exact = (log_prob.exp() * (log_prob - log_marginal)).sum(0).mean()

    assert_mean_equal(estimates - midpoints, 0.0, resolution=0.2)
    assert estimates.std() < midpoints.std()
    lower, upper = bounds.mean(axis=0)
    assert lower < exact < upper
    assert exact > 0.3


def test_sequences_are_calibrated_against_fewer_draws(monkeypatch):
    sizes = []

    def bias(model, n_samples, n_proposals, generator, widest):
        sizes.append(n_samples)
        return 0.5, 0.0

    monkeypatch.setattr(constraints_module, "training_bias", bias)
    constraint = of_sequences(sequences())
    for progress in (0.0, 1.0):
        constraint.calibrate(None, progress, None)

    assert sizes == list(Sequences.schedule.calibration_samples)
    assert sizes[1] < Schedule().calibration_samples[0]
    assert constraint.offset == 0.5 * (0.5 + 0.25)


def test_sequences_calibration_corrects_the_estimate():
    model, biases = sequences(), []
    with torch.no_grad():
        model.posterior.reader.output.weight *= 8
    constraint = of_sequences(model)
    for seed in range(6):
        constraint.calibrate(model, 1.0, generator(seed))
    for seed in range(20):
        bias, gap = training_bias(
            model, 128, constraint.n_proposals, generator(100 + seed)
        )
        biases.append(bias)
        assert gap < constraint.widest_gap

    assert abs(np.mean(biases)) > 3 * np.std(biases) / 20**0.5
    assert constraint.offset == pytest.approx(np.mean(biases), abs=5 * np.std(biases))


def test_what_the_posterior_learns_from():
    """A filter learns from its prefixes, too; others from their infomax bound."""
    model, z0 = sequences(), table(40, 2)
    r = model.r(drawn_rows(model))
    whole = infomax(r, z0, model.prior) - StandardNormal(2).entropy
    partial = r.prefixes.log_prob(z0.unsqueeze(1)).masked_fill(~r.inside, torch.nan)

    objective = model.posterior.objective(r, z0)
    assert_close(objective, whole + partial.nanmean(1))
    assert not torch.equal(objective, whole)
    model = random_model("gaussian", 3, 2)
    r = model.r(table(40))
    objective = model.posterior.objective(r, z0)
    assert_close(objective, infomax(r, z0, model.prior) - StandardNormal(2).entropy)


def heads_that_moved(before, model):
    return {
        name
        for name, value in model.named_parameters()
        if "prefix_output" in name and not torch.equal(value, before[name])
    }


def test_prefixes_learn_in_training_and_refinement():
    model = sequences()
    heads = {"posterior.prefix_output.weight", "posterior.prefix_output.bias"}
    x, before = drawn_rows(model), parameters(model)
    net = build(of_sequences(model), model=model)
    net.partial_fit(TrainingRows(x))
    between = parameters(model)
    refine_posterior(net, 2)

    assert moved(before, model) == {"likelihood", "encoder", "posterior"}
    assert heads_that_moved(before, model) == heads
    assert heads_that_moved(between, model) == heads


def test_paper_trains_no_prefixes():
    model = sequences()
    x, before = drawn_rows(model), parameters(model)
    constraint = Paper(SignRule(1.0, 1.0), Reinforce(leave_one_out=False))
    build(constraint, model=model).partial_fit(TrainingRows(x))

    assert moved(before, model) == {"likelihood", "encoder", "posterior"}
    assert not heads_that_moved(before, model)


def test_sequences_wait_long_and_then_answer_slowly():
    """The first steps' bounds may be far from the truth, whatever they say."""
    schedule, usual = Sequences.schedule, Schedule()
    slow, quick = slow_ascent(), DualAscent(10.0, 1.0, period=schedule.period)
    for penalty in (slow, quick):
        penalty.update(1.5)

    assert schedule.waiting == 0.7 > usual.waiting
    assert slow_ascent(patience=1).ignores_estimates
    assert 0 < slow.multiplier < 0.2 * quick.multiplier
    assert slow.weight < quick.weight


# Paper and rate


def test_paper_s_sign_comes_from_draws_of_its_own():
    model = LinearGaussian(2, 3, shift=0.5)
    for M, weight in ((0.1, 4.0), (5.0, -4.0)):
        constraint = paper(M=M, C=4.0)
        term = constraint.term(step(model, n_rows=200))
        assert constraint.penalty.weight == weight
        assert_close(term.penalty, weight * term.objective)
        assert term.estimate != term.objective  # the estimate m, not the bound
        assert not term.estimate.requires_grad
        assert term.figures == {"information_lower": term.estimate}


@pytest.mark.parametrize(
    ("weight", "expected"), [(2.0, 2.0 * 3.0), (-2.0, 2.0 * 50.0), (0.0, 0.0)]
)
def test_rate_goes_down_by_itself_and_up_by_the_distortion(weight, expected):
    rated = torch.tensor(3.0, requires_grad=True)
    distortion = torch.tensor(50.0, requires_grad=True)
    of_batch = Step(None, 0, 20, distortion, rated, None)
    term = Rate(Weighted(weight)).term(of_batch)

    assert term.penalty.item() == expected
    assert term.estimate is rated
    assert term.objective is None  # it teaches r_omega nothing
    assert not term.figures
    # never by rewarding the rate: that would diverge
    slopes = torch.autograd.grad(term.penalty, (distortion, rated), allow_unused=True)
    assert all(slope is None or slope >= 0 for slope in slopes)


@pytest.mark.parametrize("M", [0.3, 2.0])
def test_training_reaches_the_rate_asked_for(M):
    """End to end, on a table whose rate left alone is 1.2."""
    z = table(200, 1, seed=3)
    x = torch.cat([z, -z, 0.5 * z], 1) + 0.5 * table(200, 3, seed=4)
    model = random_model("gaussian", 3, 2)
    net = build(rate(M, C=10.0), model=model, max_epochs=100)
    net.partial_fit(TrainingRows(x))

    assert np.mean(net.history[-20:, "rate"]) == pytest.approx(M, abs=0.1)
