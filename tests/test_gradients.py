"""Gradients of E f(x) with f itself a function of theta, against exact ones."""

import itertools

import pytest
import torch
from torch.testing import assert_close

from sklearn_mae.gradients import Enumeration, Reinforce, Reparametrised
from sklearn_mae.likelihoods import IndependentBernoulli, IndependentCategorical
from sklearn_mae.model import DiagonalNormal
from tests.statistical import assert_mean_equal, assert_mean_positive
from tests.toy_models import generator

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
