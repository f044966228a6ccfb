"""One training step after another: who moves, by which gradient, and what is told."""

import math
import pickle
from typing import NamedTuple

import numpy as np
import pytest
import torch
from sklearn_mae.net import (
    FIGURES,
    Batches,
    Listed,
    MutualAutoencoderNet,
    Paper,
    Rate,
    Rows,
    TwoSided,
    TwoSidedSequences,
)
from sklearn_mae.net import constraints as constraints_module
from sklearn_mae.net.constraints import Term, learning_objective
from sklearn_mae.penalty import DualAscent, SignRule, SlowAscent
from sklearn_mae.sequence import SequenceFilter, SequenceLikelihood, SequenceReader
from skorch.callbacks import Callback, EarlyStopping
from torch import nn
from torch.testing import assert_close

from sklearn_mae.encoders import (
    Amortised,
    ForeignEncoder,
    GaussianEncoder,
    Resampling,
)
from sklearn_mae.gradients import Enumeration, PerToken, Reinforce, Reparametrised
from sklearn_mae.information import (
    infomax,
    information_of_model,
    prior_entropy,
    training_bias,
)
from sklearn_mae.model import DiagonalNormal, LatentVariableModel, private_random
from tests.statistical import assert_mean_equal
from tests.toy_models import LinearGaussian, generator, random_model, with_places


def table(n=50, D=3, seed=0):
    return torch.randn(n, D, generator=generator(seed), dtype=torch.float64)


def build(constraint=None, rate=None, rule=None, model=None, seed=5, **options):
    options = {"max_epochs": 3, "batch_size": 20, "lr": 1e-2, **options}
    net = MutualAutoencoderNet(
        random_model("gaussian", 3, 2) if model is None else model,
        rule=rule or Amortised(),
        generator=generator(seed),
        constraint=constraint,
        rate_constraint=rate,
        device="cpu",
        verbose=0,
        **options,
    )
    return net.initialize()


def two_sided(M=1.0, C=10.0, period=1):
    constraint = TwoSided(DualAscent(C, M, period=period), Reparametrised())
    constraint.period = period
    return constraint


def paper(M=1.0, C=10.0):
    return Paper(SignRule(C, M), Reparametrised())


def parameters(model):
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def moved(before, model):
    """First parts of the names of the parameters that changed."""
    return {
        name.partition(".")[0]
        for name, value in model.named_parameters()
        if not torch.equal(value, before[name])
    }


# Batches


@pytest.mark.parametrize(
    ("n", "batch_size", "sizes"),
    [
        (50, 20, [17, 17, 16]),
        (40, 20, [20, 20]),
        (41, 20, [14, 14, 13]),
        (7, 10, [7]),
        (3, 1, [1, 1, 1]),
    ],
)
def test_batches_hold_each_row_once(n, batch_size, sizes):
    x = torch.arange(n).unsqueeze(1)
    batches = Batches(Rows(x), batch_size, generator())
    drawn = list(batches)

    assert [len(batch) for batch in drawn] == sizes
    assert len(batches) == len(sizes)
    assert torch.cat(drawn).flatten().sort().values.tolist() == list(range(n))


def test_batches_are_shuffled_privately():
    x = torch.arange(50).unsqueeze(1)
    before = torch.get_rng_state()
    batches = Batches(Rows(x), 50, generator())
    (one,), (two,) = list(batches), list(batches)
    (again,) = Batches(Rows(x), 50, generator())

    assert not torch.equal(one, two)
    assert torch.equal(one, again)
    assert torch.equal(torch.get_rng_state(), before)


# A step without a constraint is a VAE's


def hand_written_vae(model, x, n_epochs, batch_size, lr, seed):
    """Train encoder and likelihood as a textbook does; return each epoch's loss."""
    g = generator(seed)
    encoder, decoder = model.encoder.network, model.likelihood.decoder
    raw, speed = model.likelihood.raw_log_scale, model.likelihood.speed
    optimiser = torch.optim.Adam(
        [raw, *decoder.parameters(), *encoder.parameters()], lr=lr
    )
    n_batches = math.ceil(len(x) / batch_size)
    n_steps, step, losses = n_epochs * n_batches, 0, []
    for _ in range(n_epochs):
        order, epoch = torch.randperm(len(x), generator=g), []
        for rows in order.tensor_split(n_batches):
            batch = x[rows]
            for group in optimiser.param_groups:
                group["lr"] = lr * min(1, 2 * (1 - step / n_steps) + 1e-3)
            mean, log_scale = encoder(batch).chunk(2, -1)
            noise = torch.randn(1, *mean.shape, generator=g, dtype=x.dtype)[0]
            z = mean + log_scale.exp() * noise
            sigma = 0.01 * (
                1 + torch.exp(speed * raw) / 0.01
            )  # exp of floor + softplus
            e = (batch - decoder(z)) / sigma
            log_lik = -0.5 * e**2 - sigma.log() - 0.5 * math.log(2 * math.pi)
            kl = 0.5 * (mean**2 + (2 * log_scale).exp() - 1) - log_scale
            loss = (kl.sum(-1) - log_lik.sum(-1)).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            epoch.append(loss.item())
            step += 1
        losses.append(np.mean(epoch))
    return losses


def test_without_constraint_it_is_a_vae_step_for_step():
    x, ours, theirs = table(), random_model("gaussian", 3, 2), None
    theirs = random_model("gaussian", 3, 2)
    start = parameters(ours)
    net = build(model=ours, max_epochs=7, seed=5).partial_fit(Rows(x))
    losses = hand_written_vae(theirs, x, 7, 20, 1e-2, seed=5)

    assert moved(start, ours) == {"likelihood", "encoder"}
    for (name, one), other in zip(
        ours.named_parameters(), theirs.parameters(), strict=True
    ):
        assert_close(one, other, rtol=1e-8, atol=1e-10, msg=name)
    assert net.history[:, "loss"] == pytest.approx(losses, rel=1e-9)


def test_without_constraint_resampling_is_an_iwae():
    """One step down the gradient of -L_k, written out."""
    x, model = table(20), random_model("gaussian", 3, 2)
    twin = random_model("gaussian", 3, 2)
    net = build(model=model, rule=Resampling(4), max_epochs=1)
    net.partial_fit(Rows(x))

    g = generator(5)
    batch = x[torch.randperm(20, generator=g)]
    mean, log_scale = twin.encoder.network(batch).chunk(2, -1)
    noise = torch.randn(4, *mean.shape, generator=g, dtype=x.dtype)
    z = mean + log_scale.exp() * noise
    log_q = torch.distributions.Normal(mean, log_scale.exp()).log_prob(z).sum(-1)
    log_w = twin.log_joint(batch, z) - log_q
    loss = -(torch.logsumexp(log_w, 0) - math.log(4)).mean()
    theta = [*twin.likelihood.parameters(), *twin.encoder.parameters()]
    loss.backward()
    torch.optim.Adam(theta, lr=1e-2).step()

    assert net.history[-1, "loss"] == pytest.approx(loss.item())
    for one, other in zip(model.parameters(), twin.parameters(), strict=True):
        assert_close(one, other)


# Who moves


@pytest.mark.parametrize("constraint", [None, two_sided, paper])
@pytest.mark.parametrize("rate", [False, True])
def test_who_moves_in_training(constraint, rate):
    model = random_model("gaussian", 3, 2)
    before = parameters(model)
    net = build(
        None if constraint is None else constraint(),
        Rate(DualAscent(1.0, 1.0)) if rate else None,
        model=model,
    )
    net.partial_fit(Rows(table()))

    everyone = {"likelihood", "encoder"} | ({"posterior"} if constraint else set())
    assert moved(before, model) == everyone


def test_refinement_moves_the_posterior_alone_and_improves_it():
    model = LinearGaussian(2, 3, shift=1.0, widening=2.0)
    before = parameters(model)
    net = build(model=model)

    def bound():
        z0, x, _ = model.joint_draws(5000)
        return float((prior_entropy(2) + model.r(x).log_prob(z0)).mean())

    start = bound()
    net.refine_posterior(300)

    assert moved(before, model) == {"posterior"}
    # what is left of the divergence it started with
    assert model.information - bound() < 0.3 * (model.information - start)


class Scripted:
    """A constraint whose term is written down."""

    period = 1

    def __init__(self, term):
        self.written = term

    def term(self, model, batch, generator):
        return self.written(model)

    class penalty:
        multiplier = 0.0

    def update(self, estimate):
        pass

    def calibrate(self, *arguments):
        pass


def one_step(net, x):
    """Train for one batch of all rows."""
    net.partial_fit(Rows(x))
    return net


def test_each_optimiser_follows_its_own_gradient():
    """omega climbs its objective alone, theta is not told of it."""
    x, zero = table(20), torch.zeros(()).double()

    def term(model):
        codes, rows = table(20, 2), table(20)
        fit = model.r(rows).log_prob(codes).mean()
        # a penalty that would move r, and an objective that would move theta
        penalty = 100 * fit + 7 * model.likelihood(codes).log_prob(rows).mean()
        objective = fit + 100 * model.likelihood(codes).log_prob(rows).mean()
        return Term(penalty, objective, zero, zero, zero)

    model, twin = random_model("gaussian", 3, 2), random_model("gaussian", 3, 2)
    one_step(build(Scripted(term), model=model, max_epochs=1, batch_size=20), x)

    expected = term(twin)
    omega = list(twin.posterior.parameters())
    for gradient, parameter in zip(
        torch.autograd.grad(-expected.objective, omega, retain_graph=True),
        model.posterior.parameters(),
        strict=True,
    ):
        assert_close(parameter.grad, gradient)
    g = generator(5)
    batch = x[torch.randperm(20, generator=g)]
    q = twin.q(batch)
    z = q.rsample((1,), g)
    loss = -Amortised().bound(twin, batch, q, z).elbo.mean() + expected.penalty
    theta = list(twin.likelihood.parameters())
    for gradient, parameter in zip(
        torch.autograd.grad(loss, theta), model.likelihood.parameters(), strict=True
    ):
        assert_close(parameter.grad, gradient)


def test_posterior_learns_twice_as_fast():
    net = build(two_sided(), max_epochs=1, batch_size=50)
    net.partial_fit(Rows(table()))
    (theta,), (omega,) = (
        optimiser.param_groups
        for optimiser in (net.optimizer_, net.optimizer_posterior_)
    )

    assert omega["lr"] == net.posterior_speed * theta["lr"]


def test_constraint_acts_every_so_many_steps():
    """Between them r rests and the loss has no penalty."""
    constraint, seen = two_sided(period=3), []
    plain = constraint.term

    def term(*arguments):
        seen.append(net.step_)
        return plain(*arguments)

    constraint.term = term
    net = build(constraint, batch_size=10, max_epochs=2)  # 10 steps
    net.partial_fit(Rows(table()))

    assert seen == [0, 3, 6, 9]
    net = build(two_sided(period=3), max_epochs=2, batch_size=50)
    resting = []

    class Watch(Callback):
        def on_batch_begin(self, net, **kwargs):
            self.before = parameters(net.module_)

        def on_batch_end(self, net, **kwargs):
            resting.append("posterior" not in moved(self.before, net.module_))

    build(
        two_sided(period=3), batch_size=10, max_epochs=1, callbacks=[Watch()]
    ).partial_fit(Rows(table()))
    assert resting == [False, True, True, False, True]


# The constraints' terms


class Weighted(NamedTuple):
    """A penalty with a fixed weight."""

    weight: float
    multiplier: float = 0.0
    waits: bool = False


@pytest.mark.parametrize("weight", [2.0, -2.0, 0.0])
def test_two_sided_term_goes_down_the_upper_and_up_the_lower_bound(weight):
    model = LinearGaussian(2, 3, shift=0.5, widening=1.3)
    constraint = TwoSided(Weighted(weight), Reparametrised())
    term = constraint.term(model, 20, generator())

    side = term.upper if weight > 0 else term.lower
    assert term.lower < term.upper
    assert_close(term.penalty, constraint.period * weight * side)
    assert term.objective < term.upper
    slope = torch.autograd.grad(term.penalty, model.likelihood.decoder.weight)[0]
    assert (slope == 0).all() == (weight == 0)


def test_two_sided_objective_is_the_infomax_bound():
    model = LinearGaussian(2, 3, shift=0.5, widening=1.3)
    constraint = TwoSided(Weighted(1.0), Reparametrised())
    terms = [
        constraint.term(model, 1, generator(s)).objective.item() for s in range(200)
    ]
    truth = model.information - model.reverse_divergence
    se = np.std(terms) / 200**0.5

    assert abs(np.mean(terms) - truth) < 5 * se < 0.3


def test_two_sided_estimate_is_a_quieter_midpoint():
    model = LinearGaussian(2, 3, shift=0.5, widening=1.3)
    constraint = TwoSided(Weighted(1.0), Reparametrised())
    with torch.no_grad():
        terms = [constraint.term(model, 1, generator(seed)) for seed in range(200)]
    estimates, midpoints = np.array(
        [(float(t.estimate), 0.5 * float(t.lower + t.upper)) for t in terms]
    ).T

    assert_mean_equal(estimates - midpoints, 0.0, resolution=0.1)
    assert estimates.std() < 0.7 * midpoints.std()


def test_two_sided_hands_the_penalty_the_corrected_estimate():
    told = []

    class Penalty:
        def update(self, estimate):
            told.append(estimate)

    constraint = TwoSided(Penalty(), Reparametrised())
    constraint.update(1.5)
    constraint.offset = 0.25
    constraint.update(3.0)

    assert told == [1.5, 2.75]


def test_calibration_moves_the_offset_towards_the_bias():
    model = LinearGaussian(2, 3, shift=1.0, widening=0.7)
    constraint, offsets = two_sided(), []
    constraint.calibration_samples = (500, 500)
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

    first, last = constraint.calibration_samples
    assert sizes == [first, round((first * last) ** 0.5), last]


def test_a_vague_upper_bound_is_cut_off_from_the_estimate():
    constraint = two_sided()
    lower = torch.tensor(2.0)

    assert constraint._middle(lower, lower + 6) == 5  # no offset makes up for it yet
    constraint.offset = 0.3
    for gap, middle in ((0.5, 2.25), (2.0, 3.0), (6.0, 3.0), (np.inf, 3.0)):
        assert constraint._middle(lower, lower + gap) == middle
    # sequences do without it
    constraint = two_sided_sequences(sequences())
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


# Landing


def trained_near(M, constraint=None, **options):
    """A net whose constraint asks for M, and a measure of its exact information."""
    model = random_model("gaussian", 3, 1)
    net = build(constraint or two_sided(M), model=model, max_epochs=1, **options)
    net.partial_fit(Rows(table(40)))
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
    net.constraint.penalty.M = information + by
    before = parameters(net.module_)

    net.land(measure)

    assert abs(measure()[0] - net.constraint.penalty.M) < 0.1 * abs(by)
    assert moved(before, net.module_) == {"likelihood"}


def test_landing_stops_where_noise_begins():
    net, measure = trained_near(1.0)
    information, _ = measure()
    net.constraint.penalty.M = information + 0.05
    before = parameters(net.module_)

    net.land(lambda: (information, 0.06))

    assert not moved(before, net.module_)


def test_landing_takes_back_a_step_that_did_not_help():
    net, _ = trained_near(1.0)
    readings = iter([(0.9, 0.0), (0.8, 0.0)])
    before = parameters(net.module_)

    net.land(lambda: next(readings))

    assert not moved(before, net.module_)
    assert next(readings, None) is None


@pytest.mark.parametrize("reading", [math.nan, math.inf, -math.inf])
def test_landing_of_a_model_without_information_keeps_its_weights(reading):
    net, _ = trained_near(1.0)
    readings = iter([(0.9, 0.0), (reading, 0.0)])
    before = parameters(net.module_)

    net.land(lambda: next(readings))

    assert not moved(before, net.module_)


@pytest.mark.parametrize(
    ("M", "missing"),
    [(0.2, 0.11), (0.5, 0.11), (1.0, 0.21), (2.0, 0.41), (3.0, 0.51), (9.0, 0.91)],
)
@pytest.mark.parametrize("sign", [1, -1])
def test_landing_leaves_alone_what_training_left_far_off(M, missing, sign):
    net, _ = trained_near(1.0)
    net.constraint.penalty.M = M
    missing = sign * missing
    before = parameters(net.module_)
    readings = iter([(M - missing, 0.0)])

    net.land(lambda: next(readings))

    assert not moved(before, net.module_)


def test_landing_goes_no_further_than_some_steps_of_the_optimiser():
    net, _ = trained_near(1.0)
    state = net.optimizer_.state
    before = parameters(net.module_.likelihood)
    net._ascent, ascend = lambda p: (ascend(p)[0], 1e-9), net._ascent
    readings = iter([(0.9, 0.0), (1.0, 0.0)])
    gradient, _ = net._ascent(list(net.module_.likelihood.parameters()))

    net.land(lambda: next(readings))

    longest = net.longest_landing * net.lr
    for (name, value), direction in zip(
        net.module_.likelihood.named_parameters(), gradient, strict=True
    ):
        assert value in state
        # other draws than those of the step, so not the same direction: the same size
        assert (value - before[name]).norm() < 3 * longest * direction.norm()


def test_landing_respects_C_and_the_paper():
    for constraint in (two_sided(C=2.0), paper()):
        net, measure = trained_near(1.0, constraint)
        net.constraint.penalty.multiplier = 2.0
        before = parameters(net.module_)

        net.land(measure)

        assert not moved(before, net.module_)
        assert net.calls == 0


def test_listed_outcomes_are_summed_over_the_midpoint_rule():
    """Value and gradient are those of the sums over a fine grid, up to n^-2."""
    model = random_model("categorical", [5], 1)
    outcomes = model.likelihood.outcomes()
    constraint = Listed(DualAscent(10.0, 1.0, multiplier=1.0), Enumeration(outcomes))
    term = constraint.term(model, 20, generator())

    z = torch.linspace(-8, 8, 4001, dtype=torch.float64).unsqueeze(1)
    mass = torch.softmax(-0.5 * z.square().squeeze(1), 0)
    log_prob = model.likelihood(z).log_prob(outcomes.unsqueeze(1))
    marginal = (mass * log_prob.exp()).sum(1, keepdim=True)
    exact = (mass * log_prob.exp() * (log_prob - marginal.log())).sum()
    theta = list(model.likelihood.parameters())

    assert_close(term.estimate, exact, rtol=0, atol=1e-3)
    for found, expected in zip(
        torch.autograd.grad(term.penalty, theta),
        torch.autograd.grad(constraint.period * exact, theta),
        strict=True,
    ):
        scale = float(expected.abs().max())
        assert_close(found, expected, rtol=0, atol=0.02 * scale)
    before = constraint.offset
    constraint.calibrate(model, 1.0, generator())
    assert constraint.offset == before == 0


# Sequences


def sequences(seed=0):
    """Model of rows of at most three words, whose code matters, and its outcomes."""

    def reader():
        return with_places(SequenceReader(5, 4, (3, 6), 4))

    with private_random(seed):
        likelihood = with_places(SequenceLikelihood(5, 4, (3, 6), 2))
        parts = likelihood, GaussianEncoder(reader()), SequenceFilter(reader())
    with torch.no_grad():
        likelihood.recurrent.layers[0].weight_ih_l0[:, 3:] *= 10
        likelihood.output.weight *= 8
    return LatentVariableModel(*parts, nn.Identity(), 2).double()


def drawn_rows(model, n=40):
    with torch.no_grad():
        return model.likelihood(table(n, 2)).sample((), generator())


def two_sided_sequences(model, weight=None):
    penalty = SlowAscent(10.0, 1.0) if weight is None else Weighted(weight)
    return TwoSidedSequences(penalty, PerToken(model.posterior))


def test_sequences_go_down_the_upper_bound():
    model = sequences()
    constraint = two_sided_sequences(model, 2.0)
    term = constraint.term(model, 20, generator())

    assert term.lower < term.upper
    assert_close(term.penalty, constraint.period * 2.0 * term.upper)
    slope = torch.autograd.grad(term.penalty, model.likelihood.output.weight)[0]
    assert (slope != 0).any()


class Kept(PerToken):
    """Per-token credit that keeps what it was asked for."""

    def expectation(self, p, f, generator):
        def keeping(x, log_prob):
            self.x, self.z0, self.integrands = x, p.z, f(x, log_prob)
            return self.integrands

        return super().expectation(p, keeping, generator)


def test_sequences_go_up_by_what_the_filter_is_told():
    model = sequences()
    strategy = Kept(model.posterior)
    constraint = TwoSidedSequences(Weighted(-2.0), strategy)
    term = constraint.term(model, 20, generator())

    told, objective = strategy.integrands
    z0, r = strategy.z0, model.r(strategy.x)
    # a ratio of densities, of which credit can take off that of a prefix
    assert_close(told, r.log_prob(z0) - model.log_prior(z0))
    assert_close(term.penalty, constraint.period * -2.0 * told.mean())
    assert_close(term.objective, objective.mean())
    assert len(z0) == 2 * constraint.n_samples
    assert term.lower < term.upper
    assert not term.estimate.requires_grad
    slope = torch.autograd.grad(term.penalty, model.likelihood.output.weight)[0]
    assert (slope != 0).any()


def test_sequences_only_train_their_filter_while_they_wait():
    model = sequences()
    constraint = TwoSidedSequences(
        SlowAscent(10.0, 1.0, patience=1), PerToken(model.posterior)
    )
    term = constraint.term(model, 20, generator())

    assert term.penalty == 0
    assert not term.penalty.requires_grad
    assert term.upper is None  # decoding proposals would cost twice as much
    assert term.estimate == term.lower
    with torch.no_grad():
        lower = [constraint.term(model, 1, generator(s)).lower for s in range(300)]
        z0 = model.stratified_codes(20_000, generator(1_000))
        told = infomax(model.r(model.likelihood(z0).sample((), generator())), z0)
    assert_mean_equal(np.array(lower), float(told.mean()), resolution=0.1)
    slope = torch.autograd.grad(term.objective, model.posterior.prefix_output.weight)[0]
    assert (slope != 0).any()

    constraint.update(50.0)
    assert torch.isfinite(constraint.term(model, 20, generator()).upper)


def test_sequences_land_along_the_sandwich():
    """Infomax, a lower bound, would be the wrong way down."""
    model = sequences()
    for weight in (2.0, -2.0):
        constraint = two_sided_sequences(model, weight)
        middle = constraint.information(model, generator())
        term = two_sided_sequences(model, 2.0).term(model, 20, generator())
        assert_close(middle, 0.5 * (term.lower + term.upper))
        assert middle.requires_grad


@pytest.mark.parametrize("weight", [1.0, 0.0, -1.0])
def test_sequences_estimate_is_a_quieter_midpoint(weight):
    model = sequences()
    constraint = two_sided_sequences(model, weight)
    with torch.no_grad():
        terms = [constraint.term(model, 1, generator(seed)) for seed in range(30)]
    estimates, midpoints = np.array(
        [(float(t.estimate), 0.5 * float(t.lower + t.upper)) for t in terms]
    ).T
    with torch.no_grad():
        z, x = model.stratified_codes(4_000, generator()), model.likelihood.outcomes()
        log_prob = model.likelihood(z).log_prob(x.unsqueeze(1))
    log_marginal = torch.logsumexp(log_prob, 1, keepdim=True) - math.log(len(z))
    exact = (log_prob.exp() * (log_prob - log_marginal)).sum(0).mean()

    assert_mean_equal(estimates - midpoints, 0.0, resolution=0.2)
    assert estimates.std() < midpoints.std()
    assert np.mean([t.lower for t in terms]) < exact < np.mean([t.upper for t in terms])
    assert exact > 0.3


def test_sequences_are_calibrated_against_fewer_draws(monkeypatch):
    sizes = []

    def bias(model, n_samples, n_proposals, generator, widest):
        sizes.append(n_samples)
        return 0.5, 0.0

    monkeypatch.setattr(constraints_module, "training_bias", bias)
    constraint = two_sided_sequences(sequences())
    for progress in (0.0, 1.0):
        constraint.calibrate(None, progress, None)

    assert sizes == list(TwoSidedSequences.calibration_samples)
    assert sizes[1] < TwoSided.calibration_samples[0]
    assert constraint.offset == 0.5 * (0.5 + 0.25)


def test_sequences_calibration_corrects_the_estimate():
    model, biases = sequences(), []
    with torch.no_grad():
        model.posterior.reader.output.weight *= 8
    constraint = two_sided_sequences(model)
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


def test_learning_objective():
    """A filter learns from its prefixes, too; others from their infomax bound."""
    model, z0 = sequences(), table(40, 2)
    r, x = model.r, drawn_rows(model)

    assert_close(learning_objective(r(x), z0), r(x).objective(z0))
    assert not torch.equal(r(x).objective(z0), infomax(r(x), z0))
    plain = DiagonalNormal(r(x).loc, r(x).log_scale)
    assert_close(learning_objective(plain, z0), infomax(plain, z0))


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
    net = build(two_sided_sequences(model), model=model)
    net.partial_fit(Rows(x))
    between = parameters(model)
    net.refine_posterior(2)

    assert moved(before, model) == {"likelihood", "encoder", "posterior"}
    assert heads_that_moved(before, model) == heads
    assert heads_that_moved(between, model) == heads


def test_paper_trains_no_prefixes():
    model = sequences()
    x, before = drawn_rows(model), parameters(model)
    constraint = Paper(SignRule(1.0, 1.0), Reinforce(leave_one_out=False))
    build(constraint, model=model).partial_fit(Rows(x))

    assert moved(before, model) == {"likelihood", "encoder", "posterior"}
    assert not heads_that_moved(before, model)


@pytest.mark.parametrize("estimate", [-20.0, 0.0, 50.0])
def test_sequences_heed_no_estimate_while_they_wait(estimate):
    """The first steps' bounds may be far from the truth."""
    assert TwoSidedSequences.ascent is SlowAscent
    assert TwoSidedSequences.waiting == 0.7
    slow, quick, fresh = (
        kind(10.0, 1.0, patience=patience, period=8)
        for kind, patience in ((SlowAscent, 3), (DualAscent, 3), (SlowAscent, 0))
    )
    for _ in range(3):
        assert slow.waits
        for penalty in (slow, quick):
            penalty.update(estimate)
        assert quick.weight != 0
        assert slow.weight == 0
    assert not slow.waits
    for _ in range(2):
        for penalty in (slow, fresh):
            penalty.update(1.5)
        assert slow.multiplier == fresh.multiplier > 0
        assert slow.weight == fresh.weight


def test_paper_s_sign_comes_from_draws_of_its_own():
    model = LinearGaussian(2, 3, shift=0.5)
    for M, weight in ((0.1, 4.0), (5.0, -4.0)):
        constraint = paper(M=M, C=4.0)
        term = constraint.term(model, 200, generator())
        assert constraint.penalty.weight == weight
        assert_close(term.penalty, weight * term.objective)
        assert term.estimate != term.objective  # the estimate m, not the bound
        assert not term.estimate.requires_grad
        assert term.upper is None


@pytest.mark.parametrize(
    ("weight", "expected"), [(2.0, 2.0 * 3.0), (-2.0, 2.0 * 50.0), (0.0, 0.0)]
)
def test_rate_goes_down_by_itself_and_up_by_the_distortion(weight, expected):
    rate = torch.tensor(3.0, requires_grad=True)
    distortion = torch.tensor(50.0, requires_grad=True)
    term = Rate(Weighted(weight)).term(distortion, rate)

    assert term.item() == expected
    # never by rewarding the rate: that would diverge
    slopes = torch.autograd.grad(term, (distortion, rate), allow_unused=True)
    assert all(slope is None or slope >= 0 for slope in slopes)


@pytest.mark.parametrize("M", [0.3, 2.0])
def test_training_reaches_the_rate_asked_for(M):
    """End to end, on a table whose rate left alone is 1.2."""
    z = table(200, 1, seed=3)
    x = torch.cat([z, -z, 0.5 * z], 1) + 0.5 * table(200, 3, seed=4)
    rate = Rate(DualAscent(10.0, M))
    net = build(rate=rate, model=random_model("gaussian", 3, 2), max_epochs=100)
    net.partial_fit(Rows(x))

    assert np.mean(net.history[-20:, "rate"]) == pytest.approx(M, abs=0.1)


# What is told


def test_history_has_the_figures():
    net = build(two_sided(), Rate(DualAscent(1.0, 1.0)), max_epochs=4)
    net.partial_fit(Rows(table()))

    assert FIGURES == (
        "loss",
        "elbo",
        "distortion",
        "rate",
        "information_lower",
        "information_upper",
        "multiplier_model",
        "multiplier_rate",
    )
    for name in FIGURES:
        assert np.shape(net.history[:, name]) == (4,)
        assert np.isfinite(net.history[:, name]).all(), name
    elbo, distortion, rate = (
        np.array(net.history[:, name]) for name in ("elbo", "distortion", "rate")
    )
    np.testing.assert_allclose(elbo, -(distortion + rate), rtol=1e-9)


@pytest.mark.parametrize(
    ("constraint", "rate", "unused"),
    [
        (None, False, FIGURES[4:]),
        (None, True, FIGURES[4:7]),
        (paper, False, ("information_upper", "multiplier_rate")),
        (two_sided, False, ("multiplier_rate",)),
    ],
)
def test_unused_figures_are_nan(constraint, rate, unused):
    net = build(
        constraint() if constraint else None,
        Rate(DualAscent(1.0, 1.0)) if rate else None,
    )
    net.partial_fit(Rows(table()))

    for name in FIGURES:
        assert np.isnan(net.history[:, name]).all() == (name in unused), name


def test_loss_without_constraint_is_minus_the_bound():
    net = build().partial_fit(Rows(table()))

    assert net.history[:, "loss"] == [-value for value in net.history[:, "elbo"]]


def test_figures_are_in_the_units_of_the_data():
    plain = build().partial_fit(Rows(table()))
    shifted = build(log_volume=2.5).partial_fit(Rows(table()))

    for name, shift in (
        ("loss", 2.5),
        ("elbo", -2.5),
        ("distortion", 2.5),
        ("rate", 0),
    ):
        np.testing.assert_allclose(
            shifted.history[:, name], np.add(plain.history[:, name], shift)
        )


def test_history_holds_no_old_batches():
    """They would grow with the number of steps."""
    net = build(max_epochs=5)
    net.partial_fit(Rows(table()))
    net.release()

    assert not any(epoch["batches"] for epoch in net.history)


def test_learning_rate_is_constant_then_falls_to_zero():
    rates = []

    class Watch(Callback):
        def on_grad_computed(self, net, named_parameters, **kwargs):
            rates.append(net.optimizer_.param_groups[0]["lr"])

    net = build(max_epochs=10, batch_size=25, lr=0.1, callbacks=[Watch()])
    net.partial_fit(Rows(table()))

    assert len(rates) == net.n_steps_ == 20
    assert rates[:10] == [0.1] * 10
    steps = np.diff(rates[11:])
    np.testing.assert_allclose(steps, -0.1 / 10, rtol=1e-6)
    assert 0 < rates[-1] < 0.011


@pytest.mark.parametrize("constraint", [None, two_sided, paper])
def test_same_generator_same_training(constraint):
    def fit(seed):
        model = random_model("gaussian", 3, 2)
        net = build(constraint() if constraint else None, model=model, seed=seed)
        net.partial_fit(Rows(table()))
        return parameters(model)

    one, two, other = fit(5), fit(5), fit(6)
    for name, value in one.items():
        assert torch.equal(value, two[name]), name
    assert not torch.equal(
        one["encoder.network.0.bias"], other["encoder.network.0.bias"]
    )


def test_training_leaves_global_generators_alone():
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    build(two_sided(), Rate(DualAscent(1.0, 1.0))).partial_fit(Rows(table()))

    assert torch.equal(torch.get_rng_state(), torch_state)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)


class Dropping(nn.Module):
    """A user's module that draws from torch's global generator."""

    def __init__(self):
        super().__init__()
        self.network = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5))

    def forward(self, features):
        mean, log_scale = self.network(features).chunk(2, -1)
        return DiagonalNormal(mean, log_scale)


def test_a_foreign_module_draws_privately_and_repeatably():
    def fit():
        model = random_model("gaussian", 3, 2)
        torch.manual_seed(0)
        model.encoder = ForeignEncoder(Dropping().double())
        build(model=model, foreign=True).partial_fit(Rows(table()))
        return parameters(model)

    one = fit()
    state = torch.get_rng_state()
    torch.manual_seed(0)
    Dropping()
    assert torch.equal(torch.get_rng_state(), state)  # only building drew from it
    for name, value in fit().items():
        assert torch.equal(value, one[name]), name


# The end


@pytest.mark.parametrize("batch_size", [50, 1])
@pytest.mark.parametrize("constraint", [None, two_sided, paper])
def test_divergence_is_a_value_error_that_names_lr(constraint, batch_size):
    """Also where calibrations meet a model that has just diverged."""
    constraint = constraint() if constraint else None
    net = build(constraint, lr=1e200, batch_size=batch_size)

    with pytest.raises(ValueError, match=r"diverged in epoch \d+ .*lr=1e\+200"):
        net.partial_fit(Rows(table()))


@pytest.mark.parametrize("strategy", ["enumeration", "reinforce"])
@pytest.mark.parametrize(
    ("kind", "columns"), [("bernoulli", 3), ("categorical", (2, 3, 2))]
)
def test_divergence_of_discrete_columns(kind, columns, strategy):
    """No draw, index or probability of a NaN model may raise something else."""
    model = random_model(kind, columns, 3)
    if strategy == "enumeration":
        strategy = Enumeration(model.likelihood.outcomes())
    else:
        strategy = Reinforce()
    constraint = TwoSided(DualAscent(10.0, 1.0), strategy)
    net = build(constraint, model=model, lr=1e200, batch_size=5)
    with torch.no_grad():
        x = model.likelihood(table(50, 3)).sample((), generator())

    with pytest.raises(ValueError, match="diverged in epoch"):
        net.partial_fit(Rows(x))


class Stopper(Callback):
    """Interrupts at one of a callback's methods, in the third epoch."""

    def __init__(self, method, error=KeyboardInterrupt):
        self.method, self.error = method, error

    def initialize(self):
        setattr(self, self.method, self._stop)
        return self

    def _stop(self, net, **kwargs):
        if len(net.history) == 3:
            raise self.error


@pytest.mark.parametrize(
    "method", ["on_epoch_end", "on_epoch_begin", "on_batch_end", "on_grad_computed"]
)
def test_a_callback_s_interrupt_ends_the_training_normally(method):
    net = build(max_epochs=10, callbacks=[Stopper(method)])
    net.partial_fit(Rows(table()))

    finished = [epoch for epoch in net.history if "loss" in epoch]
    assert len(finished) == (3 if method == "on_epoch_end" else 2)
    net.release()


def test_an_interrupt_after_the_last_epoch_is_no_error():
    net = build(callbacks=[Stopper("on_train_end")]).partial_fit(Rows(table()))

    assert len(net.history) == 3


def test_early_stopping_may_watch_any_figure():
    stopping = EarlyStopping(
        monitor="rate", patience=2, lower_is_better=False, sink=len
    )
    net = build(max_epochs=500, lr=1e-4, callbacks=[stopping])
    net.partial_fit(Rows(table()))

    assert len(net.history) < 500


def test_another_interrupt_passes_on():
    """Ctrl-C, here while a batch is decoded."""
    model = random_model("gaussian", 3, 2)

    def interrupt(module, arguments):
        if net.step_ == 4:
            raise KeyboardInterrupt

    model.likelihood.register_forward_pre_hook(interrupt)
    net = build(model=model)

    with pytest.raises(KeyboardInterrupt):
        net.partial_fit(Rows(table()))


def test_a_callback_s_other_errors_pass_on():
    net = build(max_epochs=10, callbacks=[Stopper("on_epoch_end", ZeroDivisionError)])

    with pytest.raises(ZeroDivisionError):
        net.partial_fit(Rows(table()))


def test_a_released_net_can_be_pickled():
    net = build(two_sided(), Rate(DualAscent(1.0, 1.0)))
    net.partial_fit(Rows(table()))
    net.refine_posterior(2)
    net.release()
    twin = pickle.loads(pickle.dumps(net))

    assert not twin.module_.training
    x = table(4)
    assert_close(twin.module_.q(x).loc, net.module_.q(x).loc, rtol=0, atol=0)
    assert twin.history[:, "loss"] == net.history[:, "loss"]
