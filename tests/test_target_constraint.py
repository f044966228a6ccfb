"""The constraint on I(z; y): its estimate, its gradient, its bias, its state."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

from sklearn_mae.model import DiagonalNormal, Rows
from sklearn_mae.training import TargetInformation, targets
from sklearn_mae.training.constraints import Step
from sklearn_mae.training.penalty import Constant, DualAscent
from tests.statistical import assert_mean_equal
from tests.toy_models import generator


class Shift:
    """An encoder of one parameter: z ~ N(s x, scale^2)."""

    def __init__(self, s, scale=1.0):
        self.s = torch.tensor(s, requires_grad=True)
        self.log_scale = torch.tensor([math.log(scale)])

    def q(self, x):
        return DiagonalNormal(self.s * Rows.of(x).values, self.log_scale)

    def at_once(self, most):
        return most


def truth_of(means, scale=1.0):
    """I(z; y) of equally likely N(mean, scale^2)."""
    z = np.linspace(min(means) - 9 * scale, max(means) + 9 * scale, 20_001)
    p = np.array([norm.pdf(z, mean, scale) for mean in means])
    ratio = np.log(np.maximum(p, 1e-300)) - np.log(np.maximum(p.mean(0), 1e-300))
    return float((p * ratio).mean(0).sum() * (z[1] - z[0]))


def made(values, n, noise=0.0, seed=0):
    """Return rows x = value of the class + noise, and their classes."""
    labels = torch.arange(len(values)).repeat(n)
    x = torch.tensor(values)[labels].unsqueeze(1)
    return x + noise * torch.randn(x.shape, generator=generator(seed)), labels


def build(x, labels, penalty=None):
    k = int(labels.max()) + 1
    penalty = Constant(1.0) if penalty is None else penalty
    return TargetInformation(penalty, Rows(x), labels, torch.full((k,), 1 / k), 1, 0)


def step_of(model, x, labels, number=0, seed=1):
    given = torch.eye(int(labels.max()) + 1)[labels]
    z = model.q(x).rsample((1,), generator(seed))
    return Step(
        model, number, len(x), None, None, generator(2), Rows(x, None, given), z
    )


@pytest.mark.parametrize("values", [(-1.0, 1.0), (-2.0, -1.0, 0.0, 1.0, 2.0, 3.0)])
def test_estimate_is_the_information(values):
    # (more than four classes: what stands for all codes has fewer rows)
    x, labels = made(values, 3000)
    constraint, model = build(x, labels), Shift(0.8)
    term = constraint.term(step_of(model, x, labels))
    samples = constraint.bank.compared(model.q(x).sample((), generator(5)), labels)

    truth = truth_of(0.8 * np.array(values))
    assert_mean_equal(samples.detach(), truth, resolution=0.06)
    assert float(term.estimate.detach()) == pytest.approx(truth, abs=0.06)


def test_gradient_is_that_of_the_information():
    x, labels = made((-1.0, 1.0), 20_000)
    step = 1e-3
    slope = (
        truth_of([-0.7 - step, 0.7 + step]) - truth_of([-0.7 + step, 0.7 - step])
    ) / (2 * step)
    found = []
    for seed in range(25):
        constraint, model = build(x, labels), Shift(0.7)
        some = torch.randperm(len(x), generator=generator(seed))[:1000]
        term = constraint.term(step_of(model, x[some], labels[some], seed=seed))
        term.penalty.backward()
        found.append(float(model.s.grad) / constraint.period)

    assert_mean_equal(found, slope, resolution=0.1)


def test_codes_far_from_their_class_gain_nothing_by_going_farther():
    # narrow codes: each row's own class has none near it, log q(z|y) is -20,000
    x, labels = made((-1.0, 1.0), 500)
    constraint, model = build(x, 1 - labels), Shift(1.0, scale=0.01)
    constraint.bank.refill(model, constraint.rows, generator(0))
    z = model.q(x).rsample((), generator(1))
    values = constraint.bank.compared(z, labels)
    values.mean().backward()

    assert values.tolist() == [targets.LOWEST] * len(x)
    assert float(model.s.grad) == 0


def test_up_it_goes_through_the_classifier():
    x, labels = made((-1.0, 1.0), 500)
    penalty = DualAscent(10.0, 0.5)
    penalty.start_from(-1.0)
    constraint, model = build(x, labels, penalty), Shift(0.5)
    for number in range(0, 400, 2):
        term = constraint.term(step_of(model, x, labels, number, seed=number))
    weights = [p.clone() for p in constraint.head.parameters()]

    # what falls is -E log c(y|z), about H(y) less the information
    left = math.log(2) - truth_of([-0.5, 0.5])
    found = float(term.penalty.detach()) / constraint.period
    assert found == pytest.approx(left, abs=0.1)
    term.penalty.backward()
    assert float(model.s.grad) < 0
    assert all(
        torch.equal(a, b)
        for a, b in zip(weights, constraint.head.parameters(), strict=True)
    )


def test_calibration_takes_the_banks_bias_away(monkeypatch):
    # narrow codes and a bank of few rows: the estimate is off
    monkeypatch.setattr(targets, "BANK", 50)
    monkeypatch.setattr(targets, "COMPARED", 2000)
    monkeypatch.setattr(targets, "CALIBRATED", 300)
    x, labels = made((-0.5, 0.5), 1000, noise=1.0)
    order = torch.randperm(len(x), generator=generator(3))
    x, labels = x[order], labels[order]
    constraint, model = build(x, labels, DualAscent(10.0, 0.1)), Shift(1.0, scale=0.02)
    estimates = []
    for seed in range(20):
        constraint.calibrate(model, 0.5, generator(seed))
        step = step_of(model, x[:200], labels[:200], seed=seed)
        constraint.bank.refill(model, constraint.rows, generator(100 + seed))
        estimate = constraint.bank.compared(step.z[0].detach(), labels[:200])
        estimates.append(float(estimate.mean()))

    truth = truth_of([-0.5, 0.5])
    off, mended = (
        np.mean(estimates) - truth,
        np.mean(estimates) - constraint.offset - truth,
    )
    assert abs(off) > 0.05
    assert abs(mended) < 0.5 * abs(off)


def test_no_turn_between_its_steps():
    x, labels = made((-1.0, 1.0), 10)

    assert build(x, labels).term(step_of(Shift(1.0), x, labels, number=1)) is None


def test_a_class_without_rows_is_left_out():
    # of a fit that goes on from one that had it
    x, labels = made((-1.0, 1.0), 100)
    shares = torch.tensor([0.4, 0.4, 0.2])
    constraint = TargetInformation(Constant(1.0), Rows(x), labels, shares, 1, 0)

    assert torch.isfinite(constraint.term(step_of(Shift(1.0), x, labels)).estimate)


def test_state():
    x, labels = made((-1.0, 1.0), 10)
    constraint = build(x, labels, DualAscent(10.0, 0.3))
    constraint.load_state_dict({"multiplier": 2.0, "offset": 0.1})

    assert constraint.state_dict() == {"multiplier": 2.0, "offset": 0.1}
    assert not constraint.at_bound
    constraint.load_state_dict({"multiplier": 20.0})
    assert constraint.at_bound


def test_for_no_information_the_multiplier_is_the_bound():
    x, labels = made((-1.0, 1.0), 10)
    constraint = build(x, labels, Constant(7.0))
    constraint.load_state_dict({"multiplier": 2.0})
    constraint.update(1.0)

    assert constraint.penalty.weight == 7.0
    assert constraint.head is None
    assert not constraint.at_bound  # which is no sign of trouble here
