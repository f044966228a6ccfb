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
from sklearn_mae.training import FirstBlock, FirstRate, SecondBlock, class_prior
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
    return kind(penalty, *made(labelled=labelled), shares, block)


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
    # (the first block tells with certainty whose an unlabelled row is)
    model = TwoBlocks(3.0, 1.0)
    constraint = build(SecondBlock, Constant(1.0), labelled)
    mean, se = mean_estimate(constraint, model)

    assert abs(mean - NATS) < 5 * se
    assert se < 0.03
    # every row has a class in the bank
    assert (constraint._classes == torch.arange(2).repeat(500)).all()


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
    model = TwoBlocks(0.2, 0.0)
    constraint = build(FirstBlock, DualAscent(10.0, NATS), labelled=0.25)
    term = constraint.term(step_of(model))

    share = len(constraint.labelled) / 1000
    told = float(term.estimate.detach()) - math.log(2)
    assert float(term.penalty.detach()) == pytest.approx(-2 * share * told)


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


def test_many_unlabelled_rows_are_guessed_in_part(monkeypatch):
    from sklearn_mae.training import blocks

    monkeypatch.setattr(blocks, "GUESSED", 50)
    constraint = build(SecondBlock, Constant(1.0), labelled=0.1)
    n_labelled = int((constraint.labels >= 0).sum())
    constraint.term(step_of(TwoBlocks(3.0, 1.0)))

    assert int((constraint._classes >= 0).sum()) == n_labelled + 50
