"""Likelihoods that a user supplies: one event of columns, and a point for each code."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import (
    ExpTransform,
    Independent,
    Laplace,
    Normal,
    TransformedDistribution,
)
from torch.testing import assert_close

from sklearn_mae.families.user import N_DRAWS, UserLikelihood
from tests.toy_models import generator

SCALE = 0.25


def codes(*shape, seed=0):
    shape = (*shape, 2)
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


class LaplaceColumns(nn.Module):
    def __init__(self, wrapped):
        super().__init__()
        self.wrapped = wrapped

    def forward(self, z):
        p = Laplace(z, 1.0)
        return Independent(p, 1) if self.wrapped else p


class LogNormalColumns(nn.Module):
    """A flow of one step: torch knows densities and draws of it, and no mean."""

    def __init__(self, n_features, n_components, wrapped=False):
        super().__init__()
        self.network = nn.Linear(n_components, n_features)
        self.wrapped = wrapped

    def forward(self, z):
        loc = self.network(z)
        normal = Normal(loc, torch.full_like(loc, SCALE))
        if self.wrapped:
            normal = Independent(normal, 1)
        return TransformedDistribution(normal, [ExpTransform()])


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_user_s_distribution_becomes_one_event(wrapped):
    likelihood = UserLikelihood(LaplaceColumns(wrapped), 2)
    z, x = codes(4), codes(4, seed=1)

    assert likelihood(z).event_shape == (2,)
    assert_close(likelihood(z).log_prob(x), Laplace(z, 1.0).log_prob(x).sum(-1))
    assert_close(likelihood.decode(z), z)
    assert likelihood.outcomes() is None
    assert likelihood.fisher_information(z) is None


def flow(wrapped=False):
    module = LogNormalColumns(3, 2, wrapped).double()
    with torch.no_grad():
        module.network.weight.copy_(torch.tensor([[0.5, -1], [1, 0], [0.3, 0.7]]))
        module.network.bias.zero_()
    return UserLikelihood(module, 3)


@pytest.mark.parametrize("wrapped", [False, True])
@torch.no_grad()
def test_without_a_closed_mean_the_point_is_that_of_draws(wrapped):
    likelihood, z = flow(wrapped), codes(40)
    with pytest.raises(NotImplementedError):
        _ = likelihood(z).mean
    mean = (likelihood.module.network(z) + SCALE**2 / 2).exp()
    # rows share their noise: the three columns' means are as far off in each of them;
    # false alarm at five standard errors: two in a million
    error = mean * math.sqrt(math.expm1(SCALE**2) / N_DRAWS)
    found = likelihood.decode(z)

    assert N_DRAWS == 256
    assert (abs(found - mean) < 5 * error).all()
    assert (found != mean).all()


@torch.no_grad()
def test_the_point_of_draws_is_a_row_s_own():
    """Alone, among others, in another order, on another axis, a second time."""
    likelihood, z = flow(), codes(6)
    before = torch.get_rng_state()
    found = likelihood.decode(z)

    for i in range(6):
        assert torch.equal(likelihood.decode(z[i : i + 1])[0], found[i])
    assert torch.equal(likelihood.decode(z.flip(0)), found.flip(0))
    assert torch.equal(
        likelihood.decode(z.unflatten(0, (2, 3))), found.unflatten(0, (2, 3))
    )
    assert torch.equal(likelihood.decode(z), found)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_failure_of_the_module_is_no_missing_mean():
    class Broken(nn.Module):
        def forward(self, z):
            raise NotImplementedError("not yet written")

    with pytest.raises(NotImplementedError, match="not yet written"):
        UserLikelihood(Broken(), 2).decode(codes(3))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_flow_fits_encodes_draws_and_decodes(small):
    X = np.exp(np.random.default_rng(0).normal(size=(60, 3)))
    mae = small(likelihood=LogNormalColumns, M=0.5, n_components=2).fit(X)
    Z = mae.transform(X)
    decoded = mae.inverse_transform(Z)

    assert Z.shape == (60, 2)
    assert mae.sample(7, random_state=0).shape == (7, 3)
    assert decoded.shape == (60, 3)
    assert np.isfinite(decoded).all()
    assert (decoded > 0).all()
    np.testing.assert_array_equal(mae.inverse_transform(Z[4:5]), decoded[4:5])
    np.testing.assert_array_equal(mae.reconstruct(X), decoded)
    assert mae.reconstruct(X, 2, random_state=0).shape == (2, 60, 3)
