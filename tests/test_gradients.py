"""Gradients of E f(x) with f itself a function of theta, against exact ones."""

import itertools

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from sklearn_mae import gradients as gradients_module
from sklearn_mae.families.bernoulli import IndependentBernoulli
from sklearn_mae.families.categorical import IndependentCategorical
from sklearn_mae.families.lstm import (
    FilteredNormal,
    SequenceFilter,
    SequenceLikelihood,
    SequenceReader,
)
from sklearn_mae.gradients import Enumeration, PerEntry, Reinforce, Reparametrised
from sklearn_mae.information import Weighted, sandwich
from sklearn_mae.model import (
    DiagonalNormal,
    PrivateDistribution,
    RowDistribution,
    Rows,
    StandardNormal,
    draw,
    private_random,
)
from tests.statistical import assert_mean_equal, assert_mean_positive
from tests.toy_models import generator, with_places

PRIOR = StandardNormal(2)
BITS = torch.tensor(list(itertools.product([0.0, 1.0], repeat=3))).double()


def some_logits():
    return torch.randn(2, 3, generator=generator(1), dtype=torch.float64)


def integrands(theta, offset=0.0):
    """Two functions of x, theta and log p(x), as the bounds are."""

    def f(x, log_prob):
        one = (x * theta).sum(-1) ** 2 + log_prob + offset
        two = torch.exp(0.3 * (x * theta.sin()).sum(-1)) * log_prob
        return one, two

    return f


def exact_expectation(logits, f):
    """Sum over three bits, outcome by outcome."""
    total = [0.0, 0.0]
    for bits in itertools.product([0.0, 1.0], repeat=3):
        x = torch.tensor(bits).double()
        p1 = torch.sigmoid(logits)
        probability = torch.where(x == 1, p1, 1 - p1).prod(-1)
        for i, values in enumerate(f(x.expand_as(logits), probability.log())):
            total[i] = total[i] + probability * values
    return total


def gradients(values, *parameters):
    return torch.autograd.grad(sum(value.mean() for value in values), parameters)


def test_enumeration_is_exact():
    logits = some_logits().requires_grad_()
    theta = torch.tensor([0.5, -1.0, 2.0]).double().requires_grad_()
    f = integrands(theta)
    values = Enumeration(BITS).expectation(IndependentBernoulli(logits), f, generator())
    expected = exact_expectation(logits, f)

    for value, truth in zip(values, expected, strict=True):
        assert value.shape == (2,)
        assert_close(value, truth)
    assert_close(gradients(values, logits, theta), gradients(expected, logits, theta))


def test_enumeration_of_ragged_categories_adds_nothing_impossible():
    """A finite log-probability of -1e30 must not leak into a sum or a gradient."""
    raw = torch.randn(4, 1, 3, generator=generator(), dtype=torch.float64)
    raw = raw.requires_grad_()
    padded = torch.cat([raw, torch.full_like(raw[..., :1], -1e30)], -1)
    p = IndependentCategorical(torch.log_softmax(padded, -1))
    outcomes = torch.arange(3)[:, None]
    (value,) = Enumeration(outcomes).expectation(
        p, lambda x, log_prob: (x.squeeze(-1) * log_prob,), generator()
    )
    log_probs = torch.log_softmax(raw[:, 0], -1)
    truth = (log_probs.exp() * torch.arange(3) * log_probs).sum(-1)

    assert_close(value, truth)
    (gradient,) = torch.autograd.grad(value.sum(), raw)
    (expected,) = torch.autograd.grad(truth.sum(), raw)
    assert_close(gradient, expected)


def reinforce_gradients(leave_one_out, n_repeats, n=6, offset=0.0):
    """Independent estimates of the gradient in logits and theta, as one row each."""
    strategy, g, rows = Reinforce(leave_one_out), generator(7), []
    for _ in range(n_repeats):
        shared = some_logits().requires_grad_()
        theta = torch.tensor([0.5, -1.0, 2.0]).double().requires_grad_()
        logits = shared.repeat(n // 2, 1)
        values = strategy.expectation(
            IndependentBernoulli(logits), integrands(theta, offset), g
        )
        parts = gradients(values, shared, theta)
        rows.append(torch.cat([part.flatten() for part in parts]))
    return torch.stack(rows)


def exact_gradient(offset=0.0):
    logits = some_logits().requires_grad_()
    theta = torch.tensor([0.5, -1.0, 2.0]).double().requires_grad_()
    values = exact_expectation(logits, integrands(theta, offset))
    return torch.cat([part.flatten() for part in gradients(values, logits, theta)])


@pytest.mark.parametrize("leave_one_out", [False, True])
def test_reinforce_is_unbiased(leave_one_out):
    samples = reinforce_gradients(leave_one_out, n_repeats=2500)
    exact = exact_gradient()

    # every part of the gradient is far larger than what the test can see
    assert exact.abs().max() > 0.5
    assert_mean_equal(samples, exact.numpy(), resolution=0.25)


def test_reinforce_of_a_single_sample_is_unbiased():
    """There are no others whose mean could be subtracted."""
    g, samples = generator(7), []
    for _ in range(2500):
        logits = some_logits()[:1].requires_grad_()
        values = Reinforce().expectation(
            IndependentBernoulli(logits), lambda x, log_prob: (x.sum(-1),), g
        )
        samples.append(torch.autograd.grad(values[0].sum(), logits)[0])
    p = some_logits()[:1].sigmoid()

    assert_mean_equal(torch.stack(samples), (p * (1 - p)).numpy(), resolution=0.25)


def test_leaving_one_out_spares_noise():
    """A constant added to the reward costs nothing."""
    exact = exact_gradient(offset=10.0)
    plain = reinforce_gradients(False, 400, offset=10.0) - exact
    better = reinforce_gradients(True, 400, offset=10.0) - exact

    assert_mean_positive(0.2 * plain[:, :6] ** 2 - better[:, :6] ** 2)


# A normal x, whose moments are known


def squared(theta, log_scale):
    """f = (theta x)^2 + log p(x): its mean is known."""
    return lambda x, log_prob: ((theta * x).square().sum(-1) + log_prob,)


def normal_parameters():
    loc = torch.tensor([0.7, -0.4]).double().requires_grad_()
    log_scale = torch.tensor([-0.5, 0.2]).double().requires_grad_()
    theta = torch.tensor([1.5, 0.8]).double().requires_grad_()
    return loc, log_scale, theta


@pytest.mark.parametrize(
    ("strategy", "resolution"),
    [(Reparametrised(), 0.3), (Reinforce(False), 0.9), (Reinforce(True), 0.9)],
    ids=["reparametrised", "reinforce", "leave one out"],
)
def test_gradient_of_a_normal_expectation(strategy, resolution):
    loc, log_scale, theta = parameters = normal_parameters()
    second_moment = loc.square() + (2 * log_scale).exp()
    truth = (theta.square() * second_moment).sum() - log_scale.sum()
    exact = torch.cat(torch.autograd.grad(truth, parameters))

    g, samples, values = generator(3), [], []
    for _ in range(1500):
        p = DiagonalNormal(loc.expand(8, 2), log_scale)
        (value,) = strategy.expectation(p, squared(theta, log_scale), g)
        values.append(value.mean().item())
        samples.append(torch.cat(torch.autograd.grad(value.mean(), parameters)))

    assert_mean_equal(torch.stack(samples), exact.numpy(), resolution=resolution)
    constant = torch.log(torch.tensor(2 * torch.pi)) + 1
    assert_mean_equal(values, float(truth.detach() - constant), resolution=0.5)


def test_strategies_return_the_same_value():
    """Same generator, same draws; only the gradient is another."""
    loc, log_scale, theta = normal_parameters()
    p = DiagonalNormal(loc.expand(8, 2), log_scale)
    f = squared(theta, log_scale)
    x = p.sample((), generator(2))
    (plain,) = f(x, p.log_prob(x))

    for strategy in (Reparametrised(), Reinforce(False), Reinforce(True)):
        (value,) = strategy.expectation(p, f, generator(2))
        assert_close(value, plain, rtol=0, atol=0)


def test_reinforce_does_not_differentiate_draws():
    loc, log_scale, _ = normal_parameters()
    seen = []

    def f(x, log_prob):
        seen.append(x.requires_grad)
        return (x.sum(-1),)

    p = DiagonalNormal(loc.expand(8, 2), log_scale)
    Reinforce().expectation(p, f, generator())
    Reparametrised().expectation(p, f, generator())

    assert seen == [False, True]


# Sequences of three symbols: per-token credit against the sum over all rows


def grammar(right=True):
    """Likelihood and filter; a wrong filter is far from all that could be known."""
    with private_random(3):
        likelihood = with_places(SequenceLikelihood(5, 3, (3, 4), 2))
        posterior = SequenceFilter(with_places(SequenceReader(5, 3, (3, 4), 4)))
    with torch.no_grad():
        for parameter in likelihood.parameters():
            parameter.mul_(3)
        likelihood.output.bias[1] -= 1  # the end comes later
        if not right:
            posterior.prefix_output.bias += 1.5
            posterior.prefix_output.weight *= -5
    return likelihood.double(), posterior.double()


def some_codes(n, seed=1):
    return torch.randn(n, 2, generator=generator(seed), dtype=torch.float64)


def bounds(likelihood, posterior, z0):
    """Integrands of both bounds, K = 2, their proposals a function of x."""
    noise = some_codes(2, seed=5)

    def f(x, log_lik0):
        r = posterior(x)
        z = torch.stack([r.transport(e) for e in noise])
        log_lik = likelihood(z).log_prob(x)
        log_w = log_lik + PRIOR.log_prob(z) - r.log_prob(z)
        log_q0 = r.log_prob(z0)
        log_w0 = log_lik0 + PRIOR.log_prob(z0) - log_q0
        return sandwich(Weighted(z, log_lik, log_w, z0, log_lik0, log_w0, log_q0))

    return f


def flat_gradients(values, parameters):
    """Of the mean of each bound, one row of numbers for each."""
    return torch.stack(
        [
            nn.utils.parameters_to_vector(
                torch.autograd.grad(
                    value.mean(),
                    parameters,
                    retain_graph=True,
                    materialize_grads=True,  # prefixes are for the credit alone
                )
            )
            for value in values
        ]
    ).detach()


def both_gradients(strategy, likelihood, posterior, z0, g=None):
    f, p = bounds(likelihood, posterior, z0), likelihood(z0)
    if isinstance(strategy, PerEntry):
        f, p = of_values(f), RowDistribution(p)
    values = strategy.expectation(p, f, g)
    return flat_gradients(values, [*likelihood.parameters(), *posterior.parameters()])


def of_values(f):
    """Let a function of values take rows."""
    return lambda x, log_prob: f(x.values, log_prob)


every_filter = pytest.mark.parametrize(
    "right", [True, False], ids=["filter", "wrong filter"]
)


@every_filter
@pytest.mark.parametrize("n", [1, 2])
def test_per_token_credit_has_the_exact_expectation(monkeypatch, n, right):
    """Over every way in which one or two rows can be drawn: no noise.

    Where only one row is so long there are no others whose mean could be subtracted.
    """
    likelihood, posterior = grammar(right)
    z0, outcomes = some_codes(n), likelihood.outcomes()
    exact = both_gradients(Enumeration(outcomes), likelihood, posterior, z0)
    probability = likelihood(z0).log_prob(outcomes.unsqueeze(1)).exp().detach()
    total = torch.zeros_like(exact)
    for drawn in itertools.product(range(len(outcomes)), repeat=n):
        x = outcomes[list(drawn)]
        rows = Rows(x)
        monkeypatch.setattr(gradients_module, "draw", lambda *_, rows=rows, **__: rows)
        found = both_gradients(PerEntry(posterior, PRIOR), likelihood, posterior, z0)
        total += probability[list(drawn), range(n)].prod() * found

    assert_close(total, exact, rtol=0, atol=1e-10)
    assert exact.abs().max() > 0.05


@every_filter
def test_per_token_credit_is_unbiased(right):
    """With draws of its own; false alarm: one in a million for all entries."""
    likelihood, posterior = grammar(right)
    z0, g = some_codes(6).repeat(10, 1), generator(7)
    strategy = Enumeration(likelihood.outcomes())
    exact = both_gradients(strategy, likelihood, posterior, z0)
    strategy = PerEntry(posterior, PRIOR)
    samples = torch.stack(
        [both_gradients(strategy, likelihood, posterior, z0, g) for _ in range(150)]
    )

    assert exact.abs().max() > 0.5
    assert_mean_equal(samples, exact.numpy(), resolution=0.15)


@every_filter
def test_per_token_credit_changes_no_value(right):
    likelihood, posterior = grammar(right)
    z0 = some_codes(9)
    f, p = bounds(likelihood, posterior, z0), likelihood(z0)
    x = draw(p, (), generator(2))
    strategy = PerEntry(posterior, PRIOR)
    values = strategy.expectation(RowDistribution(p), of_values(f), generator(2))

    for value, plain in zip(values, f(x, p.log_prob(x)), strict=True):
        assert_close(value, plain, rtol=1e-12, atol=1e-12)


class FirstTokenTells(PrivateDistribution):
    """One token that depends on z, four that are noise; none is an end."""

    has_rsample = False

    def __init__(self, z, first, later):
        self.z, self.first, self.later = z, first, later
        super().__init__(z.shape[:-1], torch.Size([5]))

    def inside(self, value):
        return torch.ones_like(value, dtype=torch.bool)

    def entry_log_prob(self, value):
        log_probs = torch.stack(
            [self.z * self.first, *[self.later.expand(len(self.z), 3)] * 4], 1
        ).log_softmax(-1)
        return log_probs.gather(-1, value.unsqueeze(-1) - 3).squeeze(-1)

    def log_prob(self, value):
        return self.entry_log_prob(value).sum(-1)

    def sample(self, sample_shape=(), generator=None):
        logits = torch.stack(
            [self.z * self.first, *[self.later.expand(len(self.z), 3)] * 4], 1
        )
        u = torch.rand(logits.shape, generator=generator, dtype=logits.dtype)
        return 3 + (logits - (-u.log()).log()).argmax(-1)  # Gumbel's maximum


def known_from_the_first(x):
    """Filter that knows as much after one token as after all."""
    loc = (x[:, :1] - 4.0).double()
    prefixes = DiagonalNormal(loc.unsqueeze(1).expand(-1, 5, 1), loc.new_zeros(1))
    whole = DiagonalNormal(loc, loc.new_zeros(1))
    return FilteredNormal(whole, prefixes, x != 0)


def test_per_token_credit_spares_noise():
    """Tokens that tell nothing new are credited with nothing, one by one."""
    first = torch.tensor([-2.0, 0.0, 2.0]).double().requires_grad_()
    later = torch.tensor([0.3, 0.0, -0.1]).double().requires_grad_()
    found = {}
    for strategy in (Reinforce(), PerEntry(known_from_the_first, PRIOR)):
        g, samples = generator(3), []
        for _ in range(200):
            p = FirstTokenTells(some_codes(8, seed=4)[:, :1], first, later)

            def told(x, log_prob, z=p.z):
                r = known_from_the_first(x.values)
                return (r.log_prob(z) - PRIOR.log_prob(z),)

            p = RowDistribution(p)

            (value,) = strategy.expectation(p, told, g)
            slopes = torch.autograd.grad(value.mean(), (first, later))
            samples.append(torch.cat(slopes))
        found[type(strategy)] = torch.stack(samples)
    plain, credited = found[Reinforce], found[PerEntry]

    # the same draws: what the first token is credited with is the same
    assert_close(credited[:, :3], plain[:, :3])
    assert credited[:, 3:].abs().max() < 1e-12
    assert (plain[:, 3:].std(0) > 0.1).all()
    assert_mean_equal(plain[:, 3:], 0.0, resolution=0.3)
