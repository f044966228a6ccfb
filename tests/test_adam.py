"""Adam is torch's, without its compiler."""

import subprocess
import sys

import pytest
import torch
from torch.testing import assert_close

from sklearn_mae.training.adam import Adam
from tests.toy_models import generator

FIT = """
import sys, warnings
import numpy as np
from sklearn_mae import MutualAutoencoder
warnings.simplefilter("ignore")
X = np.random.default_rng(0).normal(size=(40, 3))
MutualAutoencoder(max_epochs=1, hidden_layer_sizes=(4,)).fit(X).transform(X)
print("torch._dynamo" in sys.modules)
"""


def steps(kind, frozen=(), dtype=torch.float32, **options):
    """Take five steps; in those of ``frozen`` the second parameter has no gradient."""
    parameters = [torch.ones(3), torch.ones(2, 2, dtype=dtype)]
    parameters = [parameter.requires_grad_() for parameter in parameters]
    optimizer, g = kind(parameters, lr=0.1, **options), generator()
    for i in range(5):
        optimizer.zero_grad()
        moved = parameters[:1] if i in frozen else parameters
        loss = sum((p * torch.randn(p.shape, generator=g)).sum() for p in moved)
        loss.backward()
        optimizer.param_groups[0]["lr"] = 0.1 / (1 + i)
        optimizer.step()
    return parameters, optimizer


@pytest.mark.parametrize(
    "options",
    [
        {"fused": True},
        {"fused": False},
        {"fused": True, "frozen": (0, 3)},
        {"fused": True, "frozen": range(5)},
        {"fused": True, "dtype": torch.float64},
        {"fused": True, "betas": (0.5, 0.6), "eps": 0.1, "weight_decay": 0.1},
        {"fused": True, "amsgrad": True},
        {"fused": True, "maximize": True},
        {"fused": True, "weight_decay": 0.1, "decoupled_weight_decay": True},
    ],
)
def test_steps_are_those_of_torch(options):
    ours, optimizer = steps(Adam, **options)
    theirs, other = steps(torch.optim.Adam, **options)

    for one, two in zip(ours, theirs, strict=True):
        assert_close(one, two, rtol=0, atol=0)
        assert optimizer.state[one].keys() == other.state[two].keys()
        for name, value in optimizer.state[one].items():
            assert_close(value, other.state[two][name], rtol=0, atol=0)
    assert isinstance(optimizer, torch.optim.Optimizer)


@pytest.mark.parametrize("frozen", [(), (0, 3), range(5)])
def test_groups_have_rates_of_their_own(frozen):
    def trained(kind):
        parameters = [torch.ones(3), torch.ones(2, 2), torch.ones(2)]
        parameters = [parameter.requires_grad_() for parameter in parameters]
        groups = [{"params": parameters[:2]}, {"params": parameters[2:], "lr": 1.0}]
        optimizer, g = kind(groups, lr=0.1, fused=True), generator()
        for i in range(5):
            optimizer.zero_grad()
            moved = parameters[:2] if i in frozen else parameters
            sum((p * torch.randn(p.shape, generator=g)).sum() for p in moved).backward()
            optimizer.step()
        return parameters

    for one, two in zip(trained(Adam), trained(torch.optim.Adam), strict=True):
        assert_close(one, two, rtol=0, atol=0)


def test_a_closure_is_called():
    parameter = torch.ones(3, requires_grad=True)
    optimizer = Adam([parameter], lr=0.1, fused=True)

    def closure():
        optimizer.zero_grad()
        loss = parameter.square().sum()
        loss.backward()
        return loss

    losses = [optimizer.step(closure).item() for _ in range(3)]

    assert losses[0] == 3 > losses[1] > losses[2]


def test_zero_grad_lets_go():
    parameters, optimizer = steps(Adam)

    optimizer.zero_grad()

    assert [p.grad for p in parameters] == [None, None]


def test_a_fit_imports_no_compiler():
    run = subprocess.run(
        [sys.executable, "-c", FIT], capture_output=True, text=True, check=True
    )

    assert run.stdout.strip() == "False"
