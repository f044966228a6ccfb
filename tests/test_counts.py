"""Counts: probabilities against scipy's, draws, modes, refusals, and fits."""

import pickle

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from scipy import stats

from sklearn_mae.families.counts import (
    IndependentNegativeBinomial,
    IndependentPoisson,
    NegativeBinomial,
    Poisson,
)
from sklearn_mae.families.table import Table
from tests.statistical import assert_mean_equal
from tests.toy_models import generator

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

rng = np.random.default_rng(0)
RATES = np.exp(1 + 0.6 * rng.normal(size=(80, 1)) * [[1, -1, 0.5]])
X = rng.poisson(RATES).astype(float)
MEANS = (1e-3, 0.3, 3.0, 40.0, 1e4, 1e6)
NAMES = ("poisson", "negative_binomial")
every_family = pytest.mark.parametrize("family", [Poisson, NegativeBinomial])
every_precision = pytest.mark.parametrize(
    ("dtype", "tol"), [(torch.float64, 1e-8), (torch.float32, 1e-3)]
)
every_name = pytest.mark.parametrize("likelihood", NAMES)


def around(mean):
    """Counts near a mean and far from it."""
    spread = np.sqrt(mean)
    near = np.floor([mean - 3 * spread, mean, mean + 3 * spread, 1.01 * mean + 1])
    return np.unique(np.r_[0, 1, 2, 17, near.clip(0)])


def assert_log_prob(p, x, expected, dtype, tolerance):
    found = p.log_prob(torch.tensor(x, dtype=dtype)[:, None])
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("mean", MEANS)
@pytest.mark.parametrize(
    ("dtype", "tol"), [(torch.float64, 1e-8), (torch.float32, 1e-3)]
)
def test_poisson_against_scipy(mean, dtype, tol):
    p = IndependentPoisson(torch.full((1, 1), np.log(mean), dtype=dtype))
    x = around(mean)

    assert_log_prob(p, x, stats.poisson.logpmf(x, mean), dtype, tol)


@pytest.mark.parametrize("mean", MEANS)
@pytest.mark.parametrize("r", [0.05, 1.0, 7.0, 300.0, 1e5])
@pytest.mark.parametrize(
    ("dtype", "tol"), [(torch.float64, 1e-8), (torch.float32, 1e-3)]
)
def test_negative_binomial_against_scipy(mean, r, dtype, tol):
    log_mean = torch.full((1, 1), np.log(mean), dtype=dtype)
    p = IndependentNegativeBinomial(log_mean, torch.tensor(np.log(r), dtype=dtype))
    x = around(mean)

    assert_log_prob(p, x, stats.nbinom.logpmf(x, r, r / (r + mean)), dtype, tol)


def test_negative_binomial_of_a_large_r_is_poisson():
    log_mean = torch.tensor([[1.0, 3.0]]).double()
    p = IndependentNegativeBinomial(log_mean, torch.tensor(np.log(1e9)).double())
    x = torch.arange(50).double()[:, None].expand(-1, 2)

    expected = IndependentPoisson(log_mean).log_prob(x)
    torch.testing.assert_close(p.log_prob(x), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("r", [0.3, 1.0, 4.0, 50.0])
@pytest.mark.parametrize("mean", [0.2, 3.7, 20.0])
def test_modes_are_the_most_probable_counts(mean, r):
    log_mean = torch.full((1, 1), np.log(mean)).double()
    x = torch.arange(200).double()[:, None]
    for p in (
        IndependentPoisson(log_mean),
        IndependentNegativeBinomial(log_mean, torch.tensor(np.log(r)).double()),
    ):
        assert p.mode.item() == p.log_prob(x).argmax().item()


@pytest.mark.parametrize("mean", [0.05, 3.0, 500.0, 1e6])
def test_draws_have_the_moments(mean):
    log_mean = torch.full((1,), np.log(mean)).double()
    for p in (
        IndependentPoisson(log_mean),
        IndependentNegativeBinomial(log_mean, torch.tensor(np.log(3.0)).double()),
    ):
        x = p.sample((20_000,), generator())
        scale = float(p.variance.sqrt())

        assert torch.equal(x, x.round())
        assert_mean_equal(x, mean, resolution=0.1 * scale)


def test_a_diverged_model_s_draws_are_not_a_number():
    nan = torch.full((2,), torch.nan)

    assert IndependentPoisson(nan).sample((3,), generator()).isnan().all()
    p = IndependentNegativeBinomial(nan, torch.zeros(2))
    assert p.sample((3,), generator()).isnan().all()


@every_family
@pytest.mark.parametrize("wrong", [-1.0, 0.5, 2.0**53])
def test_no_count(family, wrong):
    bad = X.copy()
    bad[3, 1] = wrong
    message = r"values that are no counts: column\(s\) b, for example .*non-negative"

    with pytest.raises(ValueError, match=message):
        Table(family()).fit(bad, list("abc"))
    with pytest.raises(ValueError, match=message):
        Table(family()).fit(X, list("abc")).transform(bad)
    if wrong < 0:  # scikit-learn looks for these words
        with pytest.raises(ValueError, match=r"^Negative values in data"):
            Table(family()).fit(bad)


@every_family
def test_counts_come_back(family):
    padded = np.insert(X, 1, 7.0, axis=1)
    table = Table(family()).fit(padded)

    assert_array_equal(table.inverse_transform(table.transform(padded)), padded)
    assert table.n_varying == 3
    assert table.log_volume == 0


@every_name
def test_a_fit(small, likelihood):
    mae = small(likelihood=likelihood, M=0.5, max_epochs=20).fit(X)
    Z = mae.transform(X)
    decoded, drawn = mae.inverse_transform(Z), mae.sample(500, random_state=0)

    assert np.isfinite(Z).all()
    for counts in (decoded, drawn):
        assert (counts >= 0).all()
        assert_array_equal(counts, np.floor(counts))
    assert np.isfinite(mae.score_samples(X)).all()
    assert (mae.conditional_log_prob(X, Z) <= 0).all()
    # columns keep their means, give or take what sampling does
    error = 5 * (drawn.std(axis=0) / 500**0.5 + X.std(axis=0) / 80**0.5)
    assert (abs(drawn.mean(axis=0) - X.mean(axis=0)) < error).all()
    twin = pickle.loads(pickle.dumps(mae))
    assert_array_equal(twin.transform(X), Z)
    assert_array_equal(twin.sample(5, random_state=1), mae.sample(5, random_state=1))
    assert_array_equal(mae.transform(X.astype(np.float32)), Z.astype(np.float32))


@every_name
def test_huge_counts(small, likelihood):
    huge = np.floor(X * 1e9)
    mae = small(likelihood=likelihood, M=0.5).fit(huge)

    assert np.isfinite(mae.score_samples(huge)).all()
    assert np.isfinite(mae.sample(5, random_state=0)).all()


def test_overdispersed_columns_start_at_their_own_r():
    x = np.random.default_rng(1).negative_binomial(2, 0.25, size=(20_000, 1))
    family = Table(NegativeBinomial()).fit(x.astype(float)).family

    # mean 6, variance 24: r = 36 / 18
    r = family.constants(0.01)["first_log_r"].exp().item()
    assert r == pytest.approx(2.0, rel=0.1)
