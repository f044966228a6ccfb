"""The prior: one of blocks is the normal that it is made of."""

import pytest
import torch
from torch.distributions import Independent, Normal
from torch.testing import assert_close

from sklearn_mae.information import information_of_model
from sklearn_mae.model import BlockPrior, DiagonalNormal, Prior, StandardNormal
from tests.statistical import assert_mean_equal
from tests.toy_models import LinearGaussian, generator

WHOLE = StandardNormal(3)
BLOCKS = BlockPrior([StandardNormal(1), StandardNormal(2)])
LIKE = torch.zeros(0).double()
every_prior = pytest.mark.parametrize("prior", [WHOLE, BLOCKS], ids=["whole", "blocks"])


def codes(n=6, seed=0):
    return WHOLE.draw(n, LIKE, generator(seed))


def test_blocks_have_the_density_of_the_whole():
    z = codes()

    assert BLOCKS.n_components == 3
    assert BLOCKS.entropy == pytest.approx(WHOLE.entropy)
    assert_close(BLOCKS.log_prob(z), WHOLE.log_prob(z))
    assert_close(BLOCKS.precision(z), WHOLE.precision(z))
    assert_close(BLOCKS.wide(z).log_prob(z), WHOLE.log_prob(z))
    assert_close(WHOLE.wide(z).log_prob(z), WHOLE.log_prob(z))


@every_prior
@pytest.mark.parametrize("method", ["draw", "stratified"])
def test_draws_have_its_moments(prior, method):
    z = getattr(prior, method)(20_000, LIKE, generator())

    assert z.shape == (20_000, 3)
    # of strata the standard error is below that of independent draws
    assert_mean_equal(prior.moments(z), 0.0, resolution=0.1)
    assert_mean_equal(-prior.log_prob(z), prior.entropy, resolution=0.1)


def test_divergence_from_draws_is_the_closed_form():
    q = DiagonalNormal(codes(2), torch.full((3,), -0.7).double())
    z = q.rsample((40_000,), generator())

    assert_close(BLOCKS.kl(q, z), WHOLE.kl(q, z))
    estimates = q.log_prob(z) - BLOCKS.log_prob(z)
    # (of any distribution: by its draws)
    other = Independent(Normal(q.loc, q.log_scale.exp()), 1)
    assert_close(BLOCKS.kl(other, z), estimates.mean(-2))
    for i in range(2):
        assert_mean_equal(estimates[:, i], float(WHOLE.kl(q, z)[i]), resolution=0.1)


@every_prior
def test_a_lattice_s_masses_are_the_prior_s(prior):
    points, log_mass, log_cell = prior.lattice(24, LIKE, generator())

    assert points.shape == (24**3, 3)
    assert_close(log_mass.exp().sum(), torch.ones(()).double())
    # a mass is the density times the cell
    assert_close(log_mass, prior.log_prob(points) + log_cell, rtol=0, atol=1e-6)


def test_controls_of_blocks_have_mean_zero():
    z = BLOCKS.draw(20_000, LIKE, generator()).unsqueeze(0)
    controls = BLOCKS.controls(torch.ones(1, 20_000).double(), z)

    assert_mean_equal(controls, 0.0, resolution=0.15)


def test_a_model_with_a_prior_of_two_blocks():
    model = LinearGaussian(3, 5)
    model.prior = BLOCKS
    low, high = information_of_model(model, 2_000, 0.1, generator()).interval

    assert low <= model.information <= high
    assert high - low < 0.1


@pytest.mark.parametrize("name", ["log_prob", "wide", "precision", "moments"])
def test_what_a_prior_lacks_is_named(name):
    with pytest.raises(NotImplementedError, match=f"does not declare '{name}'"):
        getattr(Prior(2), name)(codes())
