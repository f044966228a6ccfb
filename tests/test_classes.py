"""The prior with classes in it: what it promises, against sums over a lattice."""

import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from sklearn_mae.information import information_of_model
from sklearn_mae.model import (
    BlockPrior,
    ClassNormals,
    DiagonalNormal,
    StandardNormal,
    class_means,
)
from sklearn_mae.model.classes import class_directions
from tests.statistical import assert_mean_equal
from tests.toy_models import LinearGaussian, generator

LIKE = torch.zeros(0).double()
UNEQUAL = np.array([0.2, 0.3, 0.5])


def entropy_of(shares):
    return float(-(shares * np.log(shares)).sum())


def build(shares=UNEQUAL, d=2, part=0.5):
    means = class_means(shares, d, part * entropy_of(shares))
    return ClassNormals(torch.as_tensor(means), torch.as_tensor(shares))


@pytest.mark.parametrize("part", [0.1, 0.5, 0.95])
@pytest.mark.parametrize(
    ("shares", "d"),
    [
        (np.array([0.5, 0.5]), 1),
        (np.array([0.9, 0.1]), 1),
        (UNEQUAL, 1),
        (UNEQUAL, 2),
        (np.full(5, 0.2), 2),
    ],
)
def test_the_block_holds_what_was_asked_for(shares, d, part):
    prior = build(shares, d, part)
    n = 2001 if d == 1 else 401
    points, log_mass, log_cell = prior.lattice(n, LIKE, generator())
    mass, log_class = log_mass.exp(), prior.log_class(points)
    information = entropy_of(shares) + mass @ (log_class.exp() * log_class).sum(-1)

    assert float(information) == pytest.approx(part * entropy_of(shares), abs=1e-3)
    assert prior.information == pytest.approx(float(information), abs=1e-3)
    # log p is normalised, and its entropy is what is said
    assert float((prior.log_prob(points) + log_cell).exp().sum()) == pytest.approx(1)
    assert -float(mass @ prior.log_prob(points)) == pytest.approx(
        prior.entropy, abs=1e-3
    )
    assert_close(
        mass @ prior.moments(points), torch.zeros(2 * d).double(), atol=1e-6, rtol=0
    )


def test_all_of_H_y_can_be_asked_for():
    assert build(part=1.0).information == pytest.approx(entropy_of(UNEQUAL))


def test_nothing_asked_for_is_one_normal():
    prior, z = build(part=0.0), StandardNormal(2).draw(5, LIKE, generator())

    assert_close(prior.log_prob(z), StandardNormal(2).log_prob(z))


@pytest.mark.parametrize(("k", "d"), [(2, 1), (4, 3), (4, 6), (10, 9)])
def test_directions_are_a_simplex_where_there_is_room(k, d):
    e = class_directions(k, d)

    assert e.shape == (k, d)
    assert e @ e.T == pytest.approx((k * np.eye(k) - 1) / (k - 1))


@pytest.mark.parametrize(
    ("k", "d", "apart"), [(4, 2, 2**0.5), (6, 3, 2**0.5), (3, 1, 1)]
)
def test_directions_are_far_apart_where_there_is_none(k, d, apart):
    # the best there is: a square, an octahedron, and points on a line
    e = class_directions(k, d)
    gaps = np.linalg.norm(e[:, None] - e, axis=-1) + 9 * np.eye(k)

    assert gaps.min() == pytest.approx(apart, abs=0.02)


@pytest.mark.parametrize("method", ["draw", "stratified"])
def test_draws_are_of_the_prior(method):
    prior = build()
    z = getattr(prior, method)(20_000, LIKE, generator())

    assert_mean_equal(prior.moments(z), 0.0, resolution=0.1)
    assert_mean_equal(-prior.log_prob(z), prior.entropy, resolution=0.1)
    # (of whom a code is, Bayes' rule says without bias)
    assert_mean_equal(prior.log_class(z).exp(), UNEQUAL, resolution=0.03)


def test_strata_hold_the_classes_frequencies():
    prior = build(part=1.0)
    labels = prior.log_class(prior.stratified(1000, LIKE, generator())).argmax(-1)

    assert labels.bincount().tolist() == pytest.approx([200, 300, 500], abs=1.5)


def test_controls_have_mean_zero():
    prior = BlockPrior([build(), StandardNormal(1)])
    z = prior.draw(20_000, LIKE, generator()).unsqueeze(0)

    controls = prior.controls(torch.ones(1, 20_000).double(), z)
    assert_mean_equal(controls, 0.0, resolution=0.15)


def test_divergence_is_that_of_draws():
    prior = BlockPrior([build(), StandardNormal(1)])
    q = DiagonalNormal(
        prior.draw(2, LIKE, generator()), torch.full((3,), -0.7).double()
    )
    z = q.rsample((40_000,), generator())
    estimates = q.log_prob(z) - prior.log_prob(z)

    for i in range(2):
        found = float(prior.kl(q, z)[i])
        assert_mean_equal(estimates[:, i], found, resolution=0.1)
    # of one draw, too, it is an unbiased estimate
    one = torch.stack([prior.kl(q, some[None]) for some in z[:4000]])
    assert_mean_equal(one[:, 0], float(prior.kl(q, z)[0]), resolution=0.1)


def test_precision_is_minus_the_hessian_where_that_is_positive():
    prior = build(part=0.2)
    z = prior.draw(4, LIKE, generator())
    hessians = [torch.autograd.functional.hessian(prior.log_prob, row) for row in z]

    assert_close(prior.precision(z), -torch.stack(hessians))


def test_precision_between_classes_is_positive():
    prior = build(d=2, part=0.99)
    z = prior.means[:1].lerp(
        prior.means[1:2], torch.linspace(0, 1, 21).double()[:, None]
    )

    exact = [torch.autograd.functional.hessian(prior.log_prob, row) for row in z]
    assert min(float(torch.linalg.eigvalsh(-h).min()) for h in exact) < 0
    assert float(torch.linalg.eigvalsh(prior.precision(z)).min()) > 0


def test_wide_covers_it():
    prior = build(d=2, part=0.95)
    points, _, _ = prior.lattice(101, LIKE, generator())
    ratio = prior.log_prob(points) - prior.wide(points).log_prob(points)

    assert float(ratio.max()) < 3


def test_single_precision():
    prior = build()
    z = prior.draw(9, torch.zeros(0), generator())

    assert z.dtype == prior.log_prob(z).dtype == prior.moments(z).dtype == torch.float32
    assert_close(
        prior.log_prob(z).double(), prior.log_prob(z.double()), atol=1e-5, rtol=0
    )


def test_the_certificate_of_a_model_with_such_a_prior():
    # x = z + noise, z in two far classes: log 2 nats more than of one of them
    model = LinearGaussian(1, 1)
    near = model.information
    shares = np.array([0.5, 0.5])
    means = torch.tensor([[-40.0], [40.0]]).double()
    model.prior = ClassNormals(means, torch.as_tensor(shares))
    low, high = information_of_model(model, 2_000, 0.1, generator()).interval

    assert low <= near + math.log(2) <= high
    assert high - low < 0.1
