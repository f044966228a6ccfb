"""The bracket of I(z; y) beside known truth, and the cap on accuracies."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import binom, norm
from torch.distributions import Independent, Normal
from torch.testing import assert_close

from sklearn_mae.information import (
    encoded,
    information_about_labels,
    joined,
    midpoint_about_labels,
    paired_log_prob,
)
from sklearn_mae.information import labels as module
from sklearn_mae.information.labels import accuracy_cap
from sklearn_mae.model import DiagonalNormal
from tests.toy_models import generator


def two_classes(n, rate, apart, d=3, seed=0):
    """An encoder of n rows a class whose first code component is N(+-apart, ..)."""
    rng = np.random.default_rng(seed)
    scale = math.exp(-rate / d)
    y = np.repeat([0, 1], n)
    centres = math.sqrt(1 - scale**2) * rng.normal(size=(2 * n, d))
    spread = math.sqrt(1 - scale**2 - apart**2)
    centres[:, 0] = apart * (2 * y - 1) + spread * rng.normal(size=2 * n)
    log_scale = torch.full((d,), math.log(scale), dtype=torch.float64)
    return DiagonalNormal(torch.as_tensor(centres), log_scale), torch.as_tensor(y)


def truth_of(apart):
    """I(z; y) of two equally likely N(+-apart, 1 - apart^2)."""
    scale = math.sqrt(1 - apart**2)
    z = np.linspace(-12, 12, 40_001)
    p = norm.pdf(z, apart, scale)
    both = 0.5 * (p + norm.pdf(z, -apart, scale))
    return float(
        (p * np.log(p / both, where=p > 0, out=np.zeros_like(p))).sum() * 24e0 / 40_000
    )


def bracket(q, y, seed=0, **params):
    z = q.sample(generator=generator(seed))
    log_prior = Normal(0.0, 1.0).log_prob(z).sum(-1)
    rates = 0.5 * (q.loc.square() + (2 * q.log_scale).exp() - 1).sum(-1)
    return information_about_labels(
        q, z, y, log_prior, rates - q.log_scale.sum(-1), **params
    )


def test_paired_log_prob_is_each_rows_density():
    q, _ = two_classes(5, 2.0, 0.3)
    z = q.sample(generator=generator())

    found = paired_log_prob(q, z[:4])

    assert found.shape == (4, 10)
    assert_close(found, q.log_prob(z[:4].unsqueeze(1)))


def test_paired_log_prob_of_any_distribution():
    q, _ = two_classes(5, 2.0, 0.3)
    other = Independent(Normal(q.loc, q.log_scale.exp().expand_as(q.loc)), 1)
    z = q.sample(generator=generator())

    assert_close(paired_log_prob(other, z), paired_log_prob(q, z))


@pytest.mark.parametrize("normal", [True, False])
def test_distributions_of_blocks_are_those_of_all_rows(normal):
    q, _ = two_classes(6, 2.0, 0.3)
    parts = [DiagonalNormal(q.loc[i : i + 4], q.log_scale) for i in (0, 4, 8)]
    if not normal:
        parts = [
            Independent(Normal(p.loc, p.log_scale.exp().expand_as(p.loc)), 1)
            for p in parts
        ]
    whole = joined(parts)
    z = q.sample(generator=generator())

    assert whole.batch_shape == (12,)
    assert_close(paired_log_prob(whole, z), paired_log_prob(q, z))
    assert_close(whole.log_prob(z), q.log_prob(z))


def test_sums_over_blocks_are_those_of_one_block(monkeypatch):
    q, y = two_classes(40, 2.0, 0.3)
    whole = bracket(q, y)
    middle = midpoint_about_labels(q, q.loc, y)
    monkeypatch.setattr(module, "PAIRED_AT_ONCE", 7 * 80)

    assert bracket(q, y) == pytest.approx(whole)
    assert_close(midpoint_about_labels(q, q.loc, y), middle)


def test_rows_are_encoded_some_at_a_time(monkeypatch):
    class Model:
        def q(self, x):
            return DiagonalNormal(x, torch.zeros(2))

        def at_once(self, most):
            return most

    monkeypatch.setattr(module, "ENCODED_AT_ONCE", 3)
    x = torch.arange(16.0).reshape(8, 2)
    q = encoded(Model(), lambda index: x[index], torch.tensor([7, 1, 2, 5]))

    assert_close(q.loc, x[[7, 1, 2, 5]])


@pytest.mark.parametrize("apart", [0.0, 0.3, 0.6])
def test_brackets_hold_the_truth(apart):
    # an end that misses in 0.00135 of the cases, as it must at most, lets more than one
    # of 30 brackets miss with probability 3e-3
    truth, n = truth_of(apart), 30
    found = [bracket(*two_classes(150, 2.0, apart, seed=i), seed=i) for i in range(n)]
    covered = sum(one.low <= truth <= one.high for one in found)

    assert binom.cdf(covered, n, 1 - 2 * norm.sf(module.ENDS)) > 1e-3
    # neither is it wide
    assert np.median([one.high - one.low for one in found]) < 0.4


def test_more_rows_make_it_narrower():
    few, many = (bracket(*two_classes(n, 2.0, 0.0)) for n in (100, 1500))

    assert many.high - many.low < 0.3 * (few.high - few.low)
    assert many.sharp
    assert not few.sharp


def test_a_bracket_of_a_high_rate_is_that_of_entropy_and_classifier():
    # every row is told from every other: densities know nothing of other rows
    q, y = two_classes(200, 30.0, 0.9)
    found = bracket(q, y)

    assert found.high == pytest.approx(math.log(2), abs=0.01)
    assert 0.5 * truth_of(0.9) < found.low < math.log(2)


def test_standard_errors_are_those_of_repeats():
    found = [bracket(*two_classes(200, 1.5, 0.5, seed=i), seed=i) for i in range(60)]
    for name in ("lower", "upper"):
        spread = np.std([getattr(one, name) for one in found], ddof=1)
        said = np.mean([getattr(one, f"{name}_se") for one in found])
        # a standard deviation of 60 values is off by a third once in 10,000
        assert 0.67 < said / spread < 1.5, name


def test_midpoint_is_near_the_truth():
    q, y = two_classes(2000, 1.5, 0.5)
    order = torch.randperm(4000, generator=generator())
    q = DiagonalNormal(q.loc[order], q.log_scale)
    z = q.sample(generator=generator(1))

    found = float(midpoint_about_labels(q, z, y[order]))

    assert found == pytest.approx(truth_of(0.5), abs=0.03)


def entropy_of(p):
    return -p * np.log(p) - (1 - p) * np.log(1 - p)


@pytest.mark.parametrize("share", [0.5, 0.675, 0.9])
@pytest.mark.parametrize("nats", [0.0, 0.01, 0.1, 0.3])
def test_cap_of_two_classes_is_fanos(share, nats):
    shares = np.array([1 - share, share])
    errors = np.linspace(1e-9, 1 - share, 200_001)
    left = entropy_of(share) - nats
    error = errors[np.searchsorted(entropy_of(errors), left)] if left > 0 else 0.0

    assert accuracy_cap(shares, nats) == pytest.approx(1 - error, abs=2e-3)


def test_cap_without_information_is_the_largest_class():
    shares = np.array([0.5, 0.3, 0.2])

    assert accuracy_cap(shares, 0.0) == pytest.approx(0.5, abs=1e-3)
    assert accuracy_cap(shares, 2.0) == 1.0
    # Fano's inequality of three classes, h(e) + e log 2 >= H - I, is weaker
    assert 0.5 < accuracy_cap(shares, 0.05) < 0.66


def test_no_guess_passes_the_cap():
    # guesses by a noisy channel of known information
    rng = np.random.default_rng(0)
    for _ in range(50):
        p = rng.dirichlet(np.ones(4))
        channel = rng.dirichlet(0.5 * np.ones(4), size=4)
        joint = p[:, None] * channel
        independent = np.outer(p, joint.sum(0))
        nats = (joint * np.log(joint / independent)).sum()
        assert np.trace(joint) <= accuracy_cap(p, nats) + 1e-9
