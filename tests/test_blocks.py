"""The constraints on a code of two blocks: what they estimate, which way they push."""

import math

import numpy as np
import pytest
import torch

from sklearn_mae.model import (
    BlockPrior,
    ClassNormals,
    DiagonalNormal,
    Rows,
    StandardNormal,
    class_means,
)
from sklearn_mae.training import (
    FirstBlock,
    FirstRate,
    Guesses,
    SecondBlock,
    class_prior,
)
from sklearn_mae.training.constraints import Step
from sklearn_mae.training.penalty import Constant, DualAscent
from tests.toy_models import generator

SHARES = torch.tensor([0.5, 0.5])
NATS = 0.4


class TwoBlocks:
    """An encoder of two parameters: a ~ N(s x, 1), b ~ N(t x, 1), x the mean m_y."""

    def __init__(self, s, t):
        self.s = torch.tensor(s, requires_grad=True)
        self.t = torch.tensor(t, requires_grad=True)
        means = torch.as_tensor(class_means(SHARES.double().numpy(), 1, NATS))
        classes = ClassNormals(means, SHARES)
        self.prior = BlockPrior([classes, StandardNormal(1)])

    def q(self, x):
        values = Rows.of(x).values
        loc = torch.cat([self.s * values, self.t * values], -1)
        return DiagonalNormal(loc, torch.zeros(2))

    def seen(self, x):
        return Rows.of(x).values

    def at_once(self, most):
        return most


def made(n=500, labelled=1.0):
    model = TwoBlocks(1.0, 1.0)
    labels = torch.arange(2).repeat(n)
    x = class_prior(model).means.float()[labels]
    known = labels.clone()
    known[torch.rand(len(labels), generator=generator(1)) > labelled] = -1
    return Rows(x), known


def build(kind, penalty, labelled=1.0, shares=SHARES):
    block = slice(1, None) if kind is SecondBlock else slice(None, 1)
    x, labels = made(labelled=labelled)
    if kind is FirstRate:
        return kind(penalty, x, labels, shares, block)
    guesses = Guesses(x, labels, len(shares), generator())
    guesses.refresh(TwoBlocks(3.0, 1.0))  # with certainty
    return kind(penalty, x, labels, shares, block, guesses)


def step_of(model, number=0, seed=1):
    return Step(model, number, 10, None, None, generator(seed))


def mean_estimate(constraint, model, n=40):
    found = [
        float(constraint.term(step_of(model, 0, seed)).estimate.detach())
        for seed in range(n)
    ]
    return np.mean(found), np.std(found, ddof=1) / n**0.5


@pytest.mark.parametrize("labelled", [1.0, 0.1])
def test_where_a_is_as_the_prior_says_both_bounds_meet(labelled):
    model = TwoBlocks(1.0, 0.0)
    for kind in (FirstBlock, FirstRate):
        constraint = build(kind, DualAscent(10.0, NATS), labelled)
        mean, se = mean_estimate(constraint, model)

        # five standard errors of forty terms: one false alarm in 50,000
        assert abs(mean - NATS) < 5 * se
        assert se < 0.02


def test_one_bound_is_above_the_other_elsewhere():
    model = TwoBlocks(1.5, 0.0)
    first, _ = mean_estimate(build(FirstBlock, DualAscent(10.0, NATS)), model)
    rate, _ = mean_estimate(build(FirstRate, DualAscent(10.0, NATS)), model)

    assert first < rate


@pytest.mark.parametrize("labelled", [1.0, 0.1])
def test_the_second_block_s_information_is_estimated(labelled):
    model = TwoBlocks(1.0, 1.0)
    constraint = build(SecondBlock, Constant(1.0), labelled)
    mean, se = mean_estimate(constraint, model)

    assert abs(mean - NATS) < 5 * se
    assert se < 0.03


def test_which_way_they_push():
    model = TwoBlocks(0.5, 0.5)
    up = DualAscent(10.0, NATS)
    up.start_from(-3.0)
    build(FirstBlock, up).term(step_of(model)).penalty.backward()
    assert float(model.s.grad) < 0
    assert model.t.grad is None or float(model.t.grad) == 0

    model = TwoBlocks(1.5, 0.5)
    down = DualAscent(10.0, NATS)
    down.start_from(3.0)
    build(FirstRate, down).term(step_of(model)).penalty.backward()
    assert float(model.s.grad) > 0

    model = TwoBlocks(1.0, 0.5)
    build(SecondBlock, Constant(3.0)).term(step_of(model)).penalty.backward()
    assert float(model.t.grad) > 0
    assert model.s.grad is None or float(model.s.grad) == 0


def test_labels_are_learned_without_a_multiplier():
    constraint = build(FirstBlock, DualAscent(10.0, NATS))
    term = constraint.term(step_of(TwoBlocks(0.2, 0.0)))

    told = float(term.estimate.detach()) - math.log(2)
    assert float(term.penalty.detach()) == pytest.approx(-2 * told)


def test_guesses_are_learned_as_far_as_they_are_certain():
    constraint = build(FirstBlock, DualAscent(10.0, NATS), labelled=0.25)
    share = len(constraint.labelled) / 1000
    found = []
    for certain in (True, False):
        if not certain:
            constraint.guesses.probabilities.fill_(0.5)
        constraint._terms = 1  # no new guesses
        term = constraint.term(step_of(TwoBlocks(0.2, 0.0)))
        told = float(term.estimate.detach()) - math.log(2)
        found.append(-float(term.penalty.detach()) / (2 * share * told))

    # of as many guesses as labels, or of none
    assert found[0] == pytest.approx(2, abs=0.1)
    assert found[1] == pytest.approx(1)


@pytest.mark.parametrize(
    ("kind", "wrong"), [(FirstBlock, NATS + 1), (FirstRate, NATS - 1)]
)
def test_none_pushes_the_other_way(kind, wrong):
    constraint = build(kind, DualAscent(10.0, NATS))
    for _ in range(20):
        constraint.update(wrong)

    assert constraint.penalty.multiplier == 0
    assert not constraint.at_bound


def test_no_turn_between_its_steps():
    for kind in (FirstBlock, FirstRate):
        assert build(kind, DualAscent(1.0, NATS)).term(step_of(None, 1)) is None
    second = build(SecondBlock, Constant(1.0))
    assert second.term(step_of(None, 1)) is None
    assert not second.at_bound
