"""One training step after another: who moves, by which gradient, and what is told."""

import math
import pickle

import numpy as np
import pytest
import skorch.history
import torch
from skorch.callbacks import Callback, EarlyStopping, PassthroughScoring
from torch import nn
from torch.testing import assert_close

from sklearn_mae.encoders import Amortised, Resampling, UserEncoder
from sklearn_mae.families import Schedule
from sklearn_mae.gradients import Enumeration, Reinforce
from sklearn_mae.model import DiagonalNormal
from sklearn_mae.training import FIGURES, Batches, Constraint, Information, TrainingRows
from sklearn_mae.training.constraints import Term
from sklearn_mae.training.landing import refine_posterior
from sklearn_mae.training.penalty import DualAscent, SignRule
from tests.toy_models import generator, random_model
from tests.toy_nets import build, moved, paper, parameters, rate, table, two_sided

every_kind = pytest.mark.parametrize("kinds", [(), (two_sided,), (paper,)])


def made(kinds):
    return [kind() for kind in kinds]


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
    batches = Batches(TrainingRows(x), batch_size, generator())
    drawn = list(batches)

    assert [len(batch) for batch in drawn] == sizes
    assert len(batches) == len(sizes)
    assert torch.cat(
        [batch.values for batch in drawn]
    ).flatten().sort().values.tolist() == list(range(n))


def test_batches_are_shuffled_privately():
    x = torch.arange(50).unsqueeze(1)
    before = torch.get_rng_state()
    batches = Batches(TrainingRows(x), 50, generator())
    (one,), (two,) = list(batches), list(batches)
    (again,) = Batches(TrainingRows(x), 50, generator())

    assert not torch.equal(one.values, two.values)
    assert torch.equal(one.values, again.values)
    assert torch.equal(torch.get_rng_state(), before)


def batches_of(n, lengths, batch_size, seed=0):
    """Return the numbers of the rows of each batch of an epoch."""
    rows = TrainingRows(torch.arange(n).unsqueeze(1), lengths)
    batches = Batches(rows, batch_size, torch.Generator().manual_seed(seed))
    return [batch.values.flatten() for batch in batches]


def test_rows_of_a_batch_are_about_as_long():
    lengths = np.random.default_rng(0).integers(1, 20, 500)
    batches = batches_of(500, lengths, 16)

    # those of uniform lengths spread over all of them, were they not dealt out
    longest = [lengths[batch].max() for batch in batches]
    places = sum(top * len(batch) for top, batch in zip(longest, batches, strict=True))
    assert sorted(map(len, batches)) == [15] * 12 + [16] * 20
    assert sorted(torch.cat(batches).tolist()) == list(range(500))
    assert lengths.sum() > 0.85 * places
    random = batches_of(500, None, 16)
    assert lengths.sum() < 0.6 * sum(lengths[rows].max() * len(rows) for rows in random)
    # long ones do not come last
    assert longest != sorted(longest)


def test_rows_with_lengths_meet_others_in_each_epoch():
    lengths = np.arange(400) % 7
    x = torch.arange(400).unsqueeze(1)
    rows = TrainingRows(x, lengths)
    batches = Batches(rows, 20, generator())

    met = [
        {frozenset(batch.values.flatten().tolist()) for batch in batches}
        for _ in range(2)
    ]

    assert not met[0] & met[1]


def test_lengths_that_are_all_the_same_change_no_pool():
    # the rows of a pool are those that follow each other without lengths
    pooled = Batches.pooled * 10
    plain = torch.cat(batches_of(400, None, 10, seed=3)[: Batches.pooled])
    dealt = torch.cat(batches_of(400, np.ones(400), 10, seed=3)[: Batches.pooled])

    assert len(plain) == pooled
    assert set(plain.tolist()) == set(dealt.tolist())


# A step without a constraint is a VAE's


def hand_written_vae(model, x, n_epochs, batch_size, lr, seed):
    """Train encoder and likelihood as a textbook does; return each epoch's loss."""
    g = generator(seed)
    encoder, decoder = model.encoder.network, model.likelihood.decoder
    raw = model.likelihood.raw_log_scale
    networks = torch.optim.Adam([*decoder.parameters(), *encoder.parameters()], lr=lr)
    scales = torch.optim.Adam([raw], lr=lr)
    n_batches = math.ceil(len(x) / batch_size)
    n_steps, step, losses = n_epochs * n_batches, 0, []
    for _ in range(n_epochs):
        order, epoch = torch.randperm(len(x), generator=g), []
        for rows in order.tensor_split(n_batches):
            batch = x[rows]
            rate = lr * min(1, 2 * (1 - step / n_steps) + 1e-3)
            networks.param_groups[0]["lr"] = rate
            scales.param_groups[0]["lr"] = 10 * rate if step >= n_steps / 2 else rate
            mean, log_scale = encoder(batch).chunk(2, -1)
            noise = torch.randn(1, *mean.shape, generator=g, dtype=x.dtype)[0]
            z = mean + log_scale.exp() * noise
            # exp of floor + softplus
            sigma = 0.01 * (1 + torch.exp(raw) / 0.01)
            e = (batch - decoder(z)) / sigma
            log_lik = -0.5 * e**2 - sigma.log() - 0.5 * math.log(2 * math.pi)
            kl = 0.5 * (mean**2 + (2 * log_scale).exp() - 1) - log_scale
            loss = (kl.sum(-1) - log_lik.sum(-1)).mean()
            for optimiser in (networks, scales):
                optimiser.zero_grad()
            loss.backward()
            for optimiser in (networks, scales):
                optimiser.step()
            epoch.append(loss.item())
            step += 1
        losses.append(np.mean(epoch))
    return losses


def test_without_constraint_it_is_a_vae_step_for_step():
    x, ours, theirs = table(), random_model("gaussian", 3, 2), None
    theirs = random_model("gaussian", 3, 2)
    start = parameters(ours)
    net = build(model=ours, max_epochs=7, seed=5).partial_fit(TrainingRows(x))
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
    net.partial_fit(TrainingRows(x))

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


@every_kind
@pytest.mark.parametrize("others", [(), (rate,)])
def test_who_moves_in_training(kinds, others):
    model = random_model("gaussian", 3, 2)
    before = parameters(model)
    net = build(*made(others + kinds), model=model)
    net.partial_fit(TrainingRows(table()))

    everyone = {"likelihood", "encoder"} | ({"posterior"} if kinds else set())
    assert moved(before, model) == everyone


class Scripted(Constraint):
    """A constraint whose term is written down."""

    def __init__(self, term, name="model"):
        super().__init__(SignRule(0.0, 0.0))
        self.written, self.name = term, name

    def term(self, step):
        return self.written(step.model)


def one_step(net, x):
    """Train for one batch of all rows."""
    net.partial_fit(TrainingRows(x))
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
        return Term(penalty, zero, objective)

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


def test_what_constraints_add_is_summed():
    x = table(20)

    def term(model, penalised, learnt):
        fit = model.r(table(20)).log_prob(table(20, 2)).mean()
        likely = model.likelihood(table(20, 2)).log_prob(table(20)).mean()
        objective = learnt * fit if learnt else None
        return Term(penalised * likely, likely, objective)

    def trained(*terms):
        model = random_model("gaussian", 3, 2)
        constraints = [Scripted(term, str(i)) for i, term in enumerate(terms)]
        one_step(build(*constraints, model=model, max_epochs=1, batch_size=20), x)
        parts = (model.posterior, model.likelihood)
        return [parameter.grad for part in parts for parameter in part.parameters()]

    several = trained(
        lambda model: term(model, 5.0, 2.0),
        lambda model: None,
        lambda model: term(model, 1.0, None),
        lambda model: term(model, 1.0, 1.0),
    )
    for found, expected in zip(
        several, trained(lambda model: term(model, 7.0, 3.0)), strict=True
    ):
        assert_close(found, expected)


@pytest.mark.parametrize(("size", "clip"), [(1e-3, 2.0), (1e6, 2.0), (1e6, 0.5)])
def test_a_penalty_may_be_clipped_apart(size, clip):
    """A part of the others' norm at most, in its own direction."""
    x = table(20)

    def gradients(*terms):
        model = random_model("gaussian", 3, 2)
        constraints = [Scripted(term, str(i)) for i, term in enumerate(terms)]
        one_step(build(*constraints, model=model, max_epochs=1, batch_size=20), x)
        grads = [parameter.grad for parameter in model.likelihood.parameters()]
        grads += [parameter.grad for parameter in model.encoder.parameters()]
        return torch.cat([grad.flatten() for grad in grads])

    def penalty(model):
        return size * model.likelihood(table(20, 2)).log_prob(table(20)).mean()

    usual = gradients()
    whole = gradients(lambda model: Term(penalty(model), x.mean())) - usual
    found = gradients(lambda model: Term(penalty(model), x.mean(), clip=clip)) - usual

    most = clip * usual.norm()
    expected = whole * (most / whole.norm()).clamp_max(1.0)
    assert_close(found, expected, rtol=1e-6, atol=1e-9)
    assert (whole.norm() > most) == (size > 1)


def test_posterior_learns_twice_as_fast():
    net = build(two_sided(), max_epochs=1, batch_size=50)
    net.partial_fit(TrainingRows(table()))
    (theta, _), (omega,) = (
        optimiser.param_groups
        for optimiser in (net.optimizer_, net.optimizer_posterior_)
    )

    assert omega["lr"] == net.posterior_speed * theta["lr"]


def test_constraint_acts_every_so_many_steps():
    """Between them r rests and the loss has no penalty."""
    constraint, seen = two_sided(period=3), []
    plain = constraint.term

    def term(step):
        found = plain(step)
        assert step.number == net.step_
        if found is not None:
            seen.append(step.number)
        return found

    constraint.term = term
    net = build(constraint, batch_size=10, max_epochs=2)  # 10 steps
    net.partial_fit(TrainingRows(table()))

    assert seen == [0, 3, 6, 9]
    resting = []

    class Watch(Callback):
        def on_batch_begin(self, net, **kwargs):
            self.before = parameters(net.module_)

        def on_batch_end(self, net, **kwargs):
            resting.append("posterior" not in moved(self.before, net.module_))

    build(
        two_sided(period=3), batch_size=10, max_epochs=1, callbacks=[Watch()]
    ).partial_fit(TrainingRows(table()))
    assert resting == [False, True, True, False, True]


# What is told


def test_history_has_the_figures():
    net = build(rate(), two_sided(), max_epochs=4)
    net.partial_fit(TrainingRows(table()))

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
    elbo, distortion, mean_rate = (
        np.array(net.history[:, name]) for name in ("elbo", "distortion", "rate")
    )
    np.testing.assert_allclose(elbo, -(distortion + mean_rate), rtol=1e-9)


@pytest.mark.parametrize(
    ("kinds", "unused"),
    [
        ((), FIGURES[4:]),
        ((rate,), FIGURES[4:7]),
        ((paper,), ("information_upper", "multiplier_rate")),
        ((two_sided,), ("multiplier_rate",)),
    ],
)
def test_unused_figures_are_nan(kinds, unused):
    net = build(*made(kinds)).partial_fit(TrainingRows(table()))

    for name in FIGURES:
        assert np.isnan(net.history[:, name]).all() == (name in unused), name


def test_loss_without_constraint_is_minus_the_bound():
    net = build().partial_fit(TrainingRows(table()))

    assert net.history[:, "loss"] == [-value for value in net.history[:, "elbo"]]


def test_figures_are_in_the_units_of_the_data():
    plain = build().partial_fit(TrainingRows(table()))
    shifted = build(log_volume=2.5).partial_fit(TrainingRows(table()))

    for name, shift in (
        ("loss", 2.5),
        ("elbo", -2.5),
        ("distortion", 2.5),
        ("rate", 0),
    ):
        np.testing.assert_allclose(
            shifted.history[:, name], np.add(plain.history[:, name], shift)
        )


def test_train_loss_is_skorchs():
    """The mean over rows, and whether it is the lowest so far, to the bit."""
    found = []

    class Watch(PassthroughScoring):
        def on_epoch_end(self, net, **kwargs):
            ours = [net.history[-1, name] for name in ("train_loss", "train_loss_best")]
            super().on_epoch_end(net, **kwargs)
            theirs = [
                net.history[-1, name] for name in ("train_loss", "train_loss_best")
            ]
            found.append((ours, theirs))

    watch = Watch("train_loss", on_train=True)
    net = build(max_epochs=6, batch_size=4, lr=0.3, callbacks=[watch])
    net.partial_fit(TrainingRows(table()))

    assert len(found) == 6
    for ours, theirs in found:
        assert ours == theirs
    assert {best for (_, best), _ in found} == {True, False}


def test_history_is_looked_up_as_skorchs():
    net = build(max_epochs=4, batch_size=20).partial_fit(TrainingRows(table()))
    theirs = skorch.history.History(list(net.history))

    for index in (0, -1, slice(1, 3), (-1, "loss"), np.s_[:, ("loss", "rate")]):
        assert net.history[index] == theirs[index]
    assert (
        net.history[-1, "batches", :, "train_loss"]
        == (theirs[-1, "batches", :, "train_loss"])
    )
    with pytest.raises(IndexError):
        net.history[4]


def test_training_goes_on_in_training_mode():
    """Whatever part a callback left in evaluation mode."""
    modes = []

    class Watch(Callback):
        def on_batch_begin(self, net, **kwargs):
            modes.append(all(module.training for module in net.module_.modules()))

        def on_epoch_end(self, net, **kwargs):
            net.module_.encoder.eval()

    build(batch_size=50, callbacks=[Watch()]).partial_fit(TrainingRows(table()))

    assert modes == [True] * 3


def test_history_holds_no_old_batches():
    """They would grow with the number of steps."""
    net = build(max_epochs=5)
    net.partial_fit(TrainingRows(table()))
    net.release()

    assert not any(epoch["batches"] for epoch in net.history)


def test_learning_rate_is_constant_then_falls_to_zero():
    rates = []

    class Watch(Callback):
        def on_grad_computed(self, net, named_parameters, **kwargs):
            rates.append(net.optimizer_.param_groups[0]["lr"])

    net = build(max_epochs=10, batch_size=25, lr=0.1, callbacks=[Watch()])
    net.partial_fit(TrainingRows(table()))

    assert len(rates) == net.n_steps_ == 20
    assert rates[:10] == [0.1] * 10
    steps = np.diff(rates[11:])
    np.testing.assert_allclose(steps, -0.1 / 10, rtol=1e-6)
    assert 0 < rates[-1] < 0.011


@every_kind
def test_same_generator_same_training(kinds):
    def fit(seed):
        model = random_model("gaussian", 3, 2)
        net = build(*made(kinds), model=model, seed=seed)
        net.partial_fit(TrainingRows(table()))
        return parameters(model)

    one, two, other = fit(5), fit(5), fit(6)
    for name, value in one.items():
        assert torch.equal(value, two[name]), name
    assert not torch.equal(
        one["encoder.network.0.bias"], other["encoder.network.0.bias"]
    )


def test_training_leaves_global_generators_alone():
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    build(rate(), two_sided()).partial_fit(TrainingRows(table()))

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


def test_a_user_s_module_draws_privately_and_repeatably():
    def fit():
        model = random_model("gaussian", 3, 2)
        torch.manual_seed(0)
        model.encoder = UserEncoder(Dropping().double())
        build(model=model, user_supplied=True).partial_fit(TrainingRows(table()))
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
@every_kind
def test_divergence_is_a_value_error_that_names_lr(kinds, batch_size):
    """Also where calibrations meet a model that has just diverged."""
    net = build(*made(kinds), lr=1e200, batch_size=batch_size)

    with pytest.raises(ValueError, match=r"diverged in epoch \d+ .*lr=1e\+200"):
        net.partial_fit(TrainingRows(table()))


@pytest.mark.parametrize("strategy", ["enumeration", "reinforce"])
@pytest.mark.parametrize(
    ("kind", "columns"), [("bernoulli", 3), ("categorical", (2, 3, 2))]
)
def test_divergence_of_discrete_columns(kind, columns, strategy):
    """No draw, index or probability of a NaN model may raise something else."""
    model = random_model(kind, columns, 3)
    if strategy == "enumeration":
        strategy = Enumeration(model.outcomes())
    else:
        strategy = Reinforce()
    constraint = Information(DualAscent(10.0, 1.0), strategy, Schedule())
    net = build(constraint, model=model, lr=1e200, batch_size=5)
    with torch.no_grad():
        x = model.likelihood(table(50, 3)).sample((), generator())

    with pytest.raises(ValueError, match="diverged in epoch"):
        net.partial_fit(TrainingRows(x))


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
    net.partial_fit(TrainingRows(table()))

    finished = [epoch for epoch in net.history if "loss" in epoch]
    assert len(finished) == (3 if method == "on_epoch_end" else 2)
    net.release()


def test_an_interrupt_after_the_last_epoch_is_no_error():
    net = build(callbacks=[Stopper("on_train_end")]).partial_fit(TrainingRows(table()))

    assert len(net.history) == 3


def test_early_stopping_may_watch_any_figure():
    stopping = EarlyStopping(
        monitor="rate", patience=2, lower_is_better=False, sink=len
    )
    net = build(max_epochs=500, lr=1e-4, callbacks=[stopping])
    net.partial_fit(TrainingRows(table()))

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
        net.partial_fit(TrainingRows(table()))


def test_a_callback_s_other_errors_pass_on():
    net = build(max_epochs=10, callbacks=[Stopper("on_epoch_end", ZeroDivisionError)])

    with pytest.raises(ZeroDivisionError):
        net.partial_fit(TrainingRows(table()))


def test_a_released_net_can_be_pickled():
    net = build(rate(), two_sided())
    net.partial_fit(TrainingRows(table()))
    refine_posterior(net, 2)
    net.release()
    assert not net.constraints
    twin = pickle.loads(pickle.dumps(net))

    assert not twin.module_.training
    x = table(4)
    assert_close(twin.module_.q(x).loc, net.module_.q(x).loc, rtol=0, atol=0)
    assert twin.history[:, "loss"] == net.history[:, "loss"]
