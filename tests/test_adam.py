"""Adam is torch's, without its compiler."""

import subprocess
import sys

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


def steps(kind, **options):
    parameters = [torch.ones(3, requires_grad=True), torch.ones(2, 2).requires_grad_()]
    optimizer, g = kind(parameters, lr=0.1, **options), generator()
    for _ in range(5):
        optimizer.zero_grad()
        loss = sum((p * torch.randn(p.shape, generator=g)).sum() for p in parameters)
        loss.backward()
        optimizer.step()
    return parameters, optimizer


def test_steps_are_those_of_torch():
    for options in ({"fused": True}, {"fused": False}):
        ours, optimizer = steps(Adam, **options)
        theirs, other = steps(torch.optim.Adam, **options)
        for one, two in zip(ours, theirs, strict=True):
            assert_close(one, two, rtol=0, atol=0)
        assert len(optimizer.state) == len(other.state) == 2
        assert isinstance(optimizer, torch.optim.Optimizer)


def test_zero_grad_lets_go():
    parameters, optimizer = steps(Adam)

    optimizer.zero_grad()

    assert [p.grad for p in parameters] == [None, None]


def test_a_fit_imports_no_compiler():
    run = subprocess.run(
        [sys.executable, "-c", FIT], capture_output=True, text=True, check=True
    )

    assert run.stdout.strip() == "False"
