"""MutualAutoencoder's members: shapes, units, seeds."""

import copy
import dataclasses
import pickle
import random
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from joblib import Parallel, delayed, parallel_config
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder, StandardScaler
from torch import nn
from torch.distributions import Independent, Normal

from sklearn_mae import MutualAutoencoder
from sklearn_mae.information import Bracket
from sklearn_mae.training import certification

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

rng = np.random.default_rng(0)
FACTORS = rng.normal(size=(60, 2))
NUMBERS = FACTORS @ rng.normal(size=(2, 4)) + 0.3 * rng.normal(size=(60, 4))
BITS = (NUMBERS[:, :3] > 0).astype(float)
# gaps between the codes, unequal numbers of them
CATEGORIES = np.column_stack(
    [
        np.array(codes)[np.digitize(NUMBERS[:, j], [-0.5, 0.5])]
        for j, codes in enumerate([[0, 1, 2], [3, 7, 40], [5, 9, 5]])
    ]
).astype(float)
COUNTS = np.floor(np.exp(1 + NUMBERS[:, :3]))
TABLES = {
    "gaussian": NUMBERS * [1.0, 100.0, 0.01, 1.0] + [0.0, 5.0, 0.0, -3.0],
    "isotropic": NUMBERS * [1.0, 10.0, 0.1, 1.0],
    "heteroscedastic": NUMBERS,
    "bernoulli": BITS,
    "categorical": CATEGORIES,
    "poisson": COUNTS,
    "negative_binomial": COUNTS,
}
every_likelihood = pytest.mark.parametrize("likelihood", TABLES)
ENCODERS = ("gaussian", "resampling")


@pytest.fixture(scope="module")
def fitted(small):
    """Return a function that gives a fit, made once, for one of the tables."""
    kept = {}

    def get(likelihood="gaussian", encoder="resampling"):
        key = likelihood, encoder
        if key not in kept:
            mae = small(likelihood=likelihood, encoder=encoder)
            kept[key] = mae.fit(TABLES[likelihood])
        return kept[key]

    return get


# --- shapes, types and how the figures hang together ----------------------------------


@pytest.mark.parametrize("encoder", ENCODERS)
@every_likelihood
def test_shapes_and_types(fitted, likelihood, encoder):
    mae, X = fitted(likelihood, encoder), TABLES[likelihood]
    n, D = X.shape
    Z = mae.transform(X)
    codes_drawn = mae.sample(5, random_state=0, return_codes=True)
    shapes = {
        (n, 8): [Z, mae.set_output().transform(X)],
        (3, n, 8): [mae.sample_posterior(X, 3, random_state=0)],
        (n, D): [mae.inverse_transform(Z), mae.reconstruct(X)],
        (3, n, D): [mae.reconstruct(X, 3, random_state=0)],
        (4, n, D): [mae.interpolate(X, X[::-1], n_steps=4)],
        (5, D): [mae.sample(5, random_state=0), codes_drawn[0]],
        (1, D): [mae.sample(random_state=0)],
        (5, 8): [codes_drawn[1]],
        (n,): [
            mae.score_samples(X),
            mae.log_likelihood(X, n_importance=16),
            mae.conditional_log_prob(X, Z),
            mae.posterior_log_prob(X, Z),
            mae.rate(X),
            mae.distortion(X),
        ],
    }
    for shape, arrays in shapes.items():
        for array in arrays:
            assert type(array) is np.ndarray
            assert array.shape == shape
            assert array.dtype == np.float64
            assert np.isfinite(array).all()
    assert type(mae.score(X)) is float


@pytest.mark.parametrize("encoder", ENCODERS)
@every_likelihood
def test_float32_stays_float32(fitted, likelihood, encoder):
    mae, X = fitted(likelihood, encoder), TABLES[likelihood].astype(np.float32)
    Z = mae.transform(X)

    for array in (
        Z,
        mae.inverse_transform(Z),
        mae.reconstruct(X),
        mae.reconstruct(X, 2, random_state=0),
        mae.interpolate(X, X),
        mae.sample_posterior(X, random_state=0),
    ):
        assert array.dtype == np.float32
    # figures do not depend on the type
    assert mae.score_samples(X).dtype == np.float64
    np.testing.assert_allclose(
        mae.score_samples(X), mae.score_samples(TABLES[likelihood]), rtol=1e-3
    )


@pytest.mark.parametrize("encoder", ENCODERS)
@every_likelihood
def test_figures_hang_together(fitted, likelihood, encoder):
    mae, X = fitted(likelihood, encoder), TABLES[likelihood]
    Z = mae.transform(X)
    bound = mae.score_samples(X)

    np.testing.assert_allclose(bound, -(mae.rate(X) + mae.distortion(X)), rtol=1e-12)
    assert mae.score(X) == pytest.approx(bound.mean(), rel=1e-12)
    assert mae.log_likelihood(X).mean() > mae.score(X)
    np.testing.assert_array_equal(mae.reconstruct(X), mae.inverse_transform(Z))
    between = mae.interpolate(X[:5], X[5:10], n_steps=3)
    np.testing.assert_allclose(between[0], mae.reconstruct(X[:5]), rtol=1e-9)
    np.testing.assert_allclose(between[2], mae.reconstruct(X[5:10]), rtol=1e-9)
    middle = mae.inverse_transform((Z[:5] + Z[5:10]) / 2)
    np.testing.assert_allclose(between[1], middle, rtol=1e-9)


@pytest.mark.parametrize("encoder", ENCODERS)
@every_likelihood
def test_distortion_is_the_mean_over_codes(fitted, likelihood, encoder):
    mae, X = fitted(likelihood, encoder), TABLES[likelihood]
    draws = mae.sample_posterior(X, 100, random_state=0)

    rows = np.tile(X, (100, 1))
    log_probs = mae.conditional_log_prob(rows, draws.reshape(len(rows), -1))
    log_probs = log_probs.reshape(100, -1)

    # 100 draws here and at least 16 in distortion, the rows' own; false alarm: one in a
    # million
    error = (mae.distortion(X) + log_probs.mean(axis=0)).mean()
    std = log_probs.std(axis=0, ddof=1)
    se = np.linalg.norm(std) / len(X) * np.sqrt(1 / 100 + 1 / 16)
    assert abs(error) < 4.9 * se


@every_likelihood
def test_mean_codes_are_means_of_draws(fitted, likelihood):
    mae, X = fitted(likelihood), TABLES[likelihood]
    draws = mae.sample_posterior(X, 400, random_state=0)

    errors = mae.transform(X) - draws.mean(axis=0)

    # fixed draws inside transform, the same for all rows: 10 groups, dealt several
    # times
    se = draws.std(axis=0, ddof=1) * np.sqrt(1 / 400 + 1 / 10)
    assert np.abs(errors / se).max() < 5


@every_likelihood
def test_log_likelihood_is_the_integral(small, likelihood):
    X = TABLES[likelihood]
    # (a rate at which the encoder keeps up: its draws are what is averaged over)
    mae = small(lr=1e-3, likelihood=likelihood, n_components=1, max_epochs=100).fit(X)
    grid = np.linspace(-8, 8, 801)
    log_mass = -0.5 * grid**2 - np.log(np.exp(-0.5 * grid**2).sum())

    rows = [
        mae.conditional_log_prob(np.tile(row, (len(grid), 1)), grid[:, None])
        for row in X[:10]
    ]

    expected = np.logaddexp.reduce(np.array(rows) + log_mass, axis=1)
    estimate = mae.log_likelihood(X[:10], n_importance=4096)
    np.testing.assert_allclose(estimate, expected, atol=0.01)


@pytest.mark.parametrize("encoder", ENCODERS)
@every_likelihood
def test_posterior_density_is_that_of_the_draws(small, likelihood, encoder):
    X = TABLES[likelihood]
    mae = small(
        likelihood=likelihood, encoder=encoder, n_components=1, max_epochs=100
    ).fit(X)
    grid = np.linspace(-8, 8, 1_601)
    rows = np.repeat(X[:4], len(grid), axis=0)

    log_q = mae.posterior_log_prob(rows, np.tile(grid, 4)[:, None]).reshape(4, -1)

    mass = np.exp(log_q) * (grid[1] - grid[0])
    np.testing.assert_allclose(mass.sum(axis=1), 1, atol=0.03)
    draws = mae.sample_posterior(X[:4], 2_000, random_state=0)[..., 0]
    for moment in (1, 2):
        powers = draws**moment
        expected = (mass * grid**moment).sum(axis=1) / mass.sum(axis=1)
        # 2,000 draws here, at least 128 groups of other draws there; eight comparisons
        # for each case, false alarm: one in a hundred thousand
        se = powers.std(axis=0, ddof=1) * np.sqrt(1 / 2_000 + 1 / 128)
        assert np.all(np.abs(powers.mean(axis=0) - expected) < 5 * se)


def test_bounds_grow_towards_the_log_likelihood(fitted):
    mae, X = fitted(encoder="gaussian"), TABLES["gaussian"]

    means = [mae.log_likelihood(X, k).mean() for k in (1, 8, 64)]

    assert np.all(np.diff(means) > 0)


@pytest.mark.parametrize("encoder", ENCODERS)
@every_likelihood
def test_encoder_information_is_bracketed(small, likelihood, encoder):
    X = TABLES[likelihood]
    mae = small(likelihood=likelihood, encoder=encoder, max_epochs=100).fit(X)

    found = mae.encoder_mutual_info(X)

    assert 0 <= found.lower <= found.estimate <= found.upper
    assert found.lower <= np.log(len(X))
    # equal rows have one draw there and each its own here
    slack = 5 * (found.lower_se + found.upper_se)
    assert found.upper <= mae.rate(X).mean() + slack
    assert found.method == "contrastive"
    assert found.n_samples == len(X)
    low, high = found.mismatch
    assert 0 <= low <= high
    assert found == mae.encoder_mutual_info(X)  # no draw but the rows' own


def test_encoder_information_counts_equal_rows_one_by_one(small):
    """Ten categories in 600 rows are 600 draws: the error is as small as it says."""
    X = np.tile(np.arange(10.0), 60)[:, None]
    mae = small(
        M=1.0,
        likelihood="categorical",
        n_components=1,
        encoder="gaussian",
        max_epochs=200,
    ).fit(X)
    lower, errors = [], []
    for seed in range(40):
        # of the rows' draws
        mae._fitted = dataclasses.replace(mae._fitted, seed=seed)
        found = mae.encoder_mutual_info(X)
        lower.append(found.lower)
        errors.append(found.lower_se)

    # which rows there are does not vary here: the spread is below the standard error;
    # with one draw for each category it was seven times as large
    assert np.std(lower, ddof=1) < 1.5 * np.mean(errors)


def test_encoder_information_says_when_rows_are_too_few(small):
    mae = small(M=2.0, max_epochs=300).fit(NUMBERS)

    rates = mae.rate(NUMBERS)
    costly = NUMBERS[np.argsort(rates)[-2:]]

    assert np.sort(rates)[-2:].mean() > 1.2 * np.log(2)
    assert mae.encoder_mutual_info(costly).capped
    assert not mae.encoder_mutual_info(NUMBERS).capped


# --- units ----------------------------------------------------------------------------


@pytest.mark.parametrize("likelihood", ["gaussian", "isotropic", "heteroscedastic"])
def test_density_integrates_to_one_in_the_users_units(small, likelihood):
    x = 1000 + 50 * rng.normal(size=(40, 1))
    mae = small(likelihood=likelihood).fit(x)
    grid = np.linspace(0, 2000, 20_001)[:, None]

    density = np.exp(mae.conditional_log_prob(grid, np.full((len(grid), 8), 0.3)))

    assert density.sum() * 0.1 == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("likelihood", ["bernoulli", "categorical"])
def test_probabilities_sum_to_one(fitted, likelihood):
    X = TABLES[likelihood]
    axes = [np.unique(column) for column in X.T]
    outcomes = np.stack(np.meshgrid(*axes), -1).reshape(-1, X.shape[1])

    log_probs = fitted(likelihood).conditional_log_prob(
        outcomes, np.full((len(outcomes), 8), 0.3)
    )

    assert np.exp(log_probs).sum() == pytest.approx(1, abs=1e-9)


@pytest.mark.usefixtures("whole_fits")
@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("likelihood", ["gaussian", "heteroscedastic"])
def test_figures_follow_the_units_of_the_columns(small, likelihood, encoder):
    X = TABLES[likelihood]
    scales = 2.0 ** np.array([3, -5, 0, 10])  # exact, so that training is the same
    one = small(likelihood=likelihood, encoder=encoder).fit(X)
    other = small(likelihood=likelihood, encoder=encoder).fit(X * scales)
    shift = np.log(scales).sum()
    Z = one.transform(X)

    np.testing.assert_array_equal(other.transform(X * scales), Z)
    np.testing.assert_array_equal(other.rate(X * scales), one.rate(X))
    assert other.mutual_info_ == one.mutual_info_
    close = {"rtol": 0, "atol": 1e-9}
    for method in ("score_samples", "log_likelihood"):
        before, after = getattr(one, method)(X), getattr(other, method)(X * scales)
        np.testing.assert_allclose(after, before - shift, **close)
    np.testing.assert_allclose(
        other.conditional_log_prob(X * scales, Z),
        one.conditional_log_prob(X, Z) - shift,
        **close,
    )
    np.testing.assert_allclose(
        other.distortion(X * scales), one.distortion(X) + shift, **close
    )
    for name, sign in {"elbo": -1, "distortion": 1, "rate": 0, "loss": 1}.items():
        np.testing.assert_allclose(
            other.history_[name], one.history_[name] + sign * shift, **close
        )


@every_likelihood
def test_constant_columns_add_nothing(small, fitted, likelihood):
    X = TABLES[likelihood]
    padded = np.insert(X, [0, 2], 1.0, axis=1)
    new = np.insert(X, [0, 2], [0.5, 123.0], axis=1)
    plain, mae = fitted(likelihood), small(likelihood=likelihood).fit(padded)
    Z = mae.transform(padded)

    for rows in (padded, new):
        np.testing.assert_array_equal(mae.transform(rows), plain.transform(X))
        for method in ("score_samples", "log_likelihood", "rate", "distortion"):
            np.testing.assert_array_equal(
                getattr(mae, method)(rows), getattr(plain, method)(X)
            )
        np.testing.assert_array_equal(
            mae.conditional_log_prob(rows, Z), plain.conditional_log_prob(X, Z)
        )
    for restored in (
        mae.inverse_transform(Z),
        mae.reconstruct(new),
        mae.sample(7, random_state=0),
        mae.interpolate(new, new)[0],
    ):
        assert restored.shape[1] == padded.shape[1]
        np.testing.assert_array_equal(restored[:, [0, 3]], 1.0)
    assert mae.n_features_in_ == padded.shape[1]


# --- decoding -------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int32])
def test_categories_come_back_as_given(small, dtype):
    X = CATEGORIES.astype(dtype)
    mae = small(likelihood="categorical", M=None, max_epochs=200, lr=0.02).fit(X)

    for decoded in (mae.reconstruct(X), mae.sample(50, random_state=0)):
        for column, known in zip(decoded.T, X.T, strict=True):
            assert set(column) <= set(known)
    agreement = (mae.reconstruct(X) == X).mean()
    assert agreement > 0.8  # by chance 0.4


def test_decoded_bits_are_means(fitted):
    decoded = fitted("bernoulli").reconstruct(BITS)
    drawn = fitted("bernoulli").sample(50, random_state=0)

    assert ((decoded > 0) & (decoded < 1)).all()
    assert set(drawn.ravel()) == {0, 1}


def test_shades_between_zero_and_one(small):
    shades = 1 / (1 + np.exp(-NUMBERS))
    mae = small(likelihood="bernoulli").fit(shades)

    assert np.isfinite(mae.score_samples(shades)).all()


def test_samples_resemble_the_data(small):
    X = TABLES["gaussian"]
    mae = small(M=None, max_epochs=300).fit(X)

    drawn = mae.sample(4000, random_state=0)

    np.testing.assert_allclose(drawn.mean(0), X.mean(0), atol=0.3 * X.std(0).max())
    assert np.abs((drawn.mean(0) - X.mean(0)) / X.std(0)).max() < 0.3
    ratio = drawn.std(0) / X.std(0)
    assert (ratio > 0.7).all()
    assert (ratio < 1.4).all()


@pytest.mark.usefixtures("whole_fits")
def test_samples_and_their_codes_are_joint(small):
    X = TABLES["gaussian"]
    mae = small(M=None, n_components=2, max_epochs=300).fit(X)
    drawn, Z = mae.sample(2000, random_state=0, return_codes=True)
    log_p = mae.log_likelihood(drawn, n_importance=256)

    density = mae.conditional_log_prob(drawn, Z) - log_p
    shuffled = mae.conditional_log_prob(drawn, np.roll(Z, 1, axis=0)) - log_p

    # its mean is I(x, z); false alarm: one in a million (and the importance sampler's
    # bias, upwards)
    se = density.std(ddof=1) / 2000**0.5
    assert abs(density.mean() - mae.mutual_info_) < 4.9 * se + 0.02
    assert shuffled.mean() < 0 < density.mean()


def test_more_codes_of_a_seed_extend_the_fewer(fitted):
    mae = fitted()

    np.testing.assert_array_equal(
        mae.sample_posterior(NUMBERS, 2, random_state=5),
        mae.sample_posterior(NUMBERS, 4, random_state=5)[:2],
    )


# --- codes="sample" -------------------------------------------------------------------


@pytest.mark.parametrize("encoder", ENCODERS)
@every_likelihood
def test_sampled_codes_belong_to_the_row(fitted, likelihood, encoder):
    mae, X = copy.deepcopy(fitted(likelihood, encoder)), TABLES[likelihood]
    mae.set_params(codes="sample")
    Z = mae.transform(X)
    order = rng.permutation(len(X))

    assert not np.allclose(Z, fitted(likelihood, encoder).transform(X))
    np.testing.assert_array_equal(mae.transform(X), Z)
    np.testing.assert_allclose(mae.transform(X[order]), Z[order], atol=1e-12)
    np.testing.assert_allclose(mae.transform(X[7:9]), Z[7:9], atol=1e-12)
    np.testing.assert_allclose(
        mae.transform(np.vstack([X, X]))[len(X) :], Z, atol=1e-12
    )


@pytest.mark.parametrize("encoder", ENCODERS)
def test_sampled_codes_of_a_float32_copy(small, encoder):
    mae = small(codes="sample", encoder=encoder).fit(NUMBERS)
    copied = NUMBERS.astype(np.float32)

    # the noise is the same, the encoder sees the rounded row
    np.testing.assert_allclose(
        mae.transform(copied), mae.transform(NUMBERS), atol=1e-5, rtol=1e-5
    )
    np.testing.assert_array_equal(
        mae.transform(copied),
        mae.transform(copied.astype(np.float64)).astype(np.float32),
    )


@pytest.mark.parametrize("encoder", ENCODERS)
def test_sampled_codes_are_draws_from_the_posterior(small, encoder):
    X = rng.normal(size=(1000, 3))
    mae = small(codes="sample", encoder=encoder, max_epochs=1, batch_size=1000)
    Z = mae.fit(X).transform(X)

    draws = mae.sample_posterior(X, 99, random_state=0)

    # ranks among draws are uniform on 0..99; false alarm: one in a million
    ranks = (draws < Z).sum(axis=0).ravel() / 99
    assert abs(ranks.mean() - 0.5) < 4.9 * np.sqrt(1 / 12 / ranks.size)
    assert abs(ranks.var() - 1 / 12) < 0.01


def test_sampled_codes_depend_on_the_seed(small):
    one, other = (
        small(codes="sample", random_state=seed, lr=1e-9)
        .fit(NUMBERS)
        .transform(NUMBERS)
        for seed in (0, 1)
    )

    assert not np.isclose(one, other).any()


# --- random_state ---------------------------------------------------------------------


class GlobalStates:
    """States of the generators that are not ours to touch."""

    def __init__(self):
        self.python = random.getstate()
        self.numpy = np.random.get_state(legacy=False)
        self.torch = torch.get_rng_state()

    def __eq__(self, other):
        return (
            self.python == other.python
            and repr(self.numpy) == repr(other.numpy)
            and torch.equal(self.torch, other.torch)
        )


@pytest.fixture
def numpy_seed():
    """Seed numpy's global generator, and put its state back."""
    before = np.random.get_state()
    yield np.random.seed
    np.random.set_state(before)


def use_everything(mae, X, random_state):
    mae.fit(X)
    Z = mae.transform(X)
    mae.inverse_transform(Z)
    mae.score(X)
    mae.log_likelihood(X)
    mae.conditional_log_prob(X, Z)
    mae.interpolate(X, X)
    mae.mutual_info()
    mae.mutual_info(100, 9.0, random_state=random_state)
    mae.sample(3, random_state=random_state)
    mae.sample_posterior(X, random_state=random_state)
    mae.reconstruct(X, 2, random_state=random_state)


@pytest.mark.usefixtures("whole_fits")
@pytest.mark.parametrize("constraint", ["both", "paper"])
@every_likelihood
def test_global_generators_are_left_alone(small, likelihood, constraint):
    before = GlobalStates()

    use_everything(
        small(likelihood=likelihood, constraint=constraint), TABLES[likelihood], 0
    )

    assert before == GlobalStates()


@pytest.mark.usefixtures("whole_fits")
def test_none_takes_one_number_from_numpy_alone(small, numpy_seed):
    numpy_seed(3)
    before = GlobalStates()
    mae = small(random_state=None).fit(NUMBERS)
    after = GlobalStates()

    numpy_seed(3)
    np.random.randint(np.iinfo(np.int32).max)
    expected = GlobalStates()
    assert after == expected
    assert not after == before
    numpy_seed(3)
    same = small(random_state=None).fit(NUMBERS)
    other = small(random_state=None).fit(NUMBERS)
    np.testing.assert_array_equal(same.transform(NUMBERS), mae.transform(NUMBERS))
    assert not np.isclose(other.transform(NUMBERS), mae.transform(NUMBERS)).any()


def test_random_state_instance(small):
    state = np.random.RandomState(3)
    one = small(random_state=state).fit(NUMBERS).transform(NUMBERS)
    two = small(random_state=state).fit(NUMBERS).transform(NUMBERS)
    again = small(random_state=np.random.RandomState(3)).fit(NUMBERS).transform(NUMBERS)

    assert not np.isclose(one, two).any()
    np.testing.assert_array_equal(one, again)


@pytest.mark.parametrize(
    "draw",
    [
        lambda mae, seed: mae.sample(4, random_state=seed),
        lambda mae, seed: mae.sample_posterior(NUMBERS, random_state=seed),
        lambda mae, seed: mae.reconstruct(NUMBERS, 2, random_state=seed),
    ],
    ids=["sample", "sample_posterior", "reconstruct"],
)
def test_random_state_of_draws(small, numpy_seed, draw):
    mae = small().fit(NUMBERS)

    np.testing.assert_array_equal(draw(mae, 5), draw(mae, 5))
    assert not np.array_equal(draw(mae, 5), draw(mae, 6))
    numpy_seed(0)
    one, two = draw(mae, None), draw(mae, None)
    assert not np.array_equal(one, two)
    numpy_seed(0)
    np.testing.assert_array_equal(draw(mae, None), one)


def test_random_state_of_mutual_info(fitted):
    mae = fitted()

    assert mae.mutual_info(n_samples=100, tol=9.0) == mae.mutual_info(100, 9.0)
    assert mae.mutual_info(100, 9.0, random_state=1) != mae.mutual_info(100, 9.0)
    assert mae.mutual_info(100, 9.0, random_state=1) == mae.mutual_info(100, 9.0, 1)


# --- bit-equal fits, wherever they run ------------------------------------------------


class Encoder(nn.Module):
    """With dropout, which draws from torch's global generator."""

    def __init__(self, n_features, n_components):
        super().__init__()
        self.mean = nn.Sequential(nn.Dropout(0.2), nn.Linear(n_features, n_components))
        self.log_scale = nn.Parameter(torch.zeros(n_components))

    def forward(self, x):
        return Independent(Normal(self.mean(x), self.log_scale.exp()), 1)


def weights(mae):
    return {name: w.numpy() for name, w in mae.net_.module_.state_dict().items()}


def assert_same_fit(one, other):
    assert one.mutual_info_ == other.mutual_info_
    ours, theirs = weights(one), weights(other)
    assert ours.keys() == theirs.keys()
    for name, values in ours.items():
        np.testing.assert_array_equal(values, theirs[name])
    for name, values in one.history_.items():
        np.testing.assert_array_equal(values, other.history_[name])


@pytest.mark.usefixtures("whole_fits")
@pytest.mark.parametrize("encoder", ["resampling", Encoder])
@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_fits_in_threads_equal_sequential_ones(small, likelihood, encoder):
    def fit(seed):
        mae = small(likelihood=likelihood, encoder=encoder, random_state=seed)
        return mae.fit(TABLES[likelihood])

    seeds = [0, 1, 2, 0]
    sequential = [fit(seed) for seed in seeds]
    parallel = Parallel(n_jobs=4, prefer="threads")(delayed(fit)(s) for s in seeds)

    for one, other in zip(sequential, parallel, strict=True):
        assert_same_fit(one, other)
    assert sequential[0].mutual_info_ != sequential[1].mutual_info_


def test_methods_in_threads_equal_sequential_ones(fitted):
    mae, X = fitted(), TABLES["gaussian"]

    def figures(seed):
        return mae.log_likelihood(X).sum(), mae.sample(9, random_state=seed).sum()

    sequential = [figures(seed) for seed in range(8)]
    parallel = Parallel(n_jobs=4, prefer="threads")(
        delayed(figures)(seed) for seed in range(8)
    )

    assert sequential == parallel


@pytest.mark.usefixtures("whole_fits")
def test_fit_does_not_write_to_the_data(small):
    X = NUMBERS.copy()
    X.setflags(write=False)

    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.simplefilter("ignore", ConvergenceWarning)
        use_everything(small(), X, 0)

    np.testing.assert_array_equal(X, NUMBERS)


@pytest.mark.parametrize(
    "layout",
    [np.asfortranarray, lambda X: X[::-1][::-1], lambda X: X.tolist(), torch.tensor],
    ids=["fortran", "negative strides", "lists", "tensor"],
)
def test_layout_does_not_matter(small, fitted, layout):
    X = TABLES["gaussian"]

    mae = small().fit(layout(X))

    assert_same_fit(mae, fitted())
    np.testing.assert_array_equal(mae.transform(layout(X)), fitted().transform(X))


def test_tensor_with_a_gradient(fitted):
    X = torch.tensor(TABLES["gaussian"], requires_grad=True)

    Z = fitted().transform(X)

    assert isinstance(Z, np.ndarray)


# --- in scikit-learn's company --------------------------------------------------------


def test_pandas(small):
    X = pd.DataFrame(NUMBERS, columns=list("abcd"), index=np.arange(60) * 2)

    Z = small().set_output(transform="pandas").fit(X).transform(X)

    assert list(Z.columns) == [f"mutualautoencoder{j}" for j in range(8)]
    assert (Z.index == X.index).all()


def test_polars(small):
    X = pl.DataFrame(NUMBERS, schema=list("abcd"))
    mae = small().set_output(transform="polars")

    Z = mae.fit_transform(X)

    assert isinstance(Z, pl.DataFrame)
    assert Z.columns == list(mae.get_feature_names_out())
    np.testing.assert_array_equal(mae.feature_names_in_, list("abcd"))


def test_feature_names_are_those_of_the_fit(small):
    mae = small(n_components=2).fit(NUMBERS).set_params(n_components=5)

    names = ["mutualautoencoder0", "mutualautoencoder1"]
    assert list(mae.get_feature_names_out()) == names
    assert mae.transform(NUMBERS).shape == (60, 2)


def test_parameters_set_after_the_fit_do_not_change_it(fitted):
    mae = copy.deepcopy(fitted())

    mae.set_params(likelihood="categorical", encoder="gaussian", n_resamples=50, M=1)

    np.testing.assert_array_equal(
        mae.transform(TABLES["gaussian"]), fitted().transform(TABLES["gaussian"])
    )


def test_repr_costs_nothing(small):
    mae = small().fit(NUMBERS)

    assert "MutualAutoencoder" in repr(mae)
    assert "MutualAutoencoder" in mae._repr_html_()


def test_pipeline_there_and_back(small, fitted):
    X = TABLES["gaussian"]
    pipeline = make_pipeline(StandardScaler(), small()).fit(X)

    Z = pipeline.transform(X)

    np.testing.assert_allclose(Z, fitted().transform(X), rtol=1e-3, atol=1e-3)
    back = pipeline.inverse_transform(Z)
    np.testing.assert_allclose(
        back, fitted().reconstruct(X), rtol=1e-3, atol=1e-3 * X.std()
    )
    assert pipeline.get_feature_names_out()[0] == "mutualautoencoder0"
    assert pipeline.score(X) == pytest.approx(pipeline.score_samples(X).mean())


def test_pipeline_with_a_classifier(small):
    y = (FACTORS[:, 0] > 0).astype(int)
    pipeline = make_pipeline(
        StandardScaler(), small(max_epochs=300), LogisticRegression()
    )

    assert pipeline.fit(NUMBERS, y).score(NUMBERS, y) > 0.8


def test_pipeline_with_an_ordinal_encoder(small):
    X = np.array([["red", "S"], ["green", "M"], ["red", "L"], ["blue", "M"]] * 5)
    pipeline = make_pipeline(OrdinalEncoder(), small(likelihood="categorical"))

    back = pipeline.fit(X).inverse_transform(pipeline.transform(X))

    assert set(back[:, 0]) <= {"red", "green", "blue"}
    assert set(back[:, 1]) <= {"S", "M", "L"}


@pytest.mark.usefixtures("whole_fits")
@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_supervised_search_equals_the_sequential_one(small, backend):
    y = (FACTORS[:, 0] > 0).astype(int)

    def scores():
        search = GridSearchCV(
            make_pipeline(StandardScaler(), small(), LogisticRegression()),
            {"mutualautoencoder__M": [1, 4, None]},
            cv=2,
        )
        results = search.fit(NUMBERS, y).cv_results_
        return results["split0_test_score"], results["split1_test_score"]

    sequential = scores()
    with parallel_config(backend, n_jobs=2):
        parallel = scores()

    np.testing.assert_array_equal(sequential, parallel)


def test_default_score_of_a_search_is_the_bound(small):
    search = GridSearchCV(small(), {"M": [1, 4]}, cv=2).fit(NUMBERS)

    assert search.best_score_ == max(search.cv_results_["mean_test_score"])
    assert search.score(NUMBERS) == search.best_estimator_.score(NUMBERS)


def test_positional_parameter_is_the_target():
    assert MutualAutoencoder(9).M == 9


# --- subclasses -----------------------------------------------------------------------


class Narrow(MutualAutoencoder):
    """It has one parameter, as a subclass of scikit-learn's may."""

    def __init__(self, M=0.5):
        super().__init__(
            M, n_components=np.int64(2), hidden_layer_sizes=(8,), max_epochs=1
        )


class Named(MutualAutoencoder):
    """It sets fitted names on its own."""

    def fit(self, X, y=None):
        self.n_features_in_ = X.shape[1]
        return super().fit(X, y)


def test_a_subclass_may_have_fewer_parameters():
    X = np.random.default_rng(0).normal(size=(30, 3))
    mae = clone(Narrow(M=0.7)).fit(X)

    assert mae.M == 0.7
    assert mae.transform(X).shape == (30, 2)
    assert pickle.loads(pickle.dumps(mae)).M == 0.7


def test_what_a_subclass_sets_does_not_hide_the_record():
    X = np.random.default_rng(0).normal(size=(30, 3))
    mae = Named(M=0.5, n_components=2, hidden_layer_sizes=(8,), max_epochs=1).fit(X)
    mae.fit(X[:, :2])

    assert mae.n_features_in_ == 2
    mae.n_features_in_ = 9  # by whatever means
    loaded = pickle.loads(pickle.dumps(mae))
    loaded.fit(X)
    assert loaded.n_features_in_ == 3


@pytest.mark.usefixtures("whole_fits")
@pytest.mark.parametrize("M", [None, 0, 3.0])
def test_a_certificate_that_is_no_number_is_a_diverged_fit(monkeypatch, M):
    X = np.random.default_rng(0).normal(size=(30, 3))
    mae = MutualAutoencoder(M=M, n_components=3, hidden_layer_sizes=(8,), max_epochs=1)
    before = mae.fit(X).mutual_info_
    nan = Bracket(np.nan, np.nan, np.nan, np.nan, "sandwich")

    monkeypatch.setattr(certification, "information_of_model", lambda *_, **__: nan)
    with pytest.raises(ValueError, match=r"diverged by its end \(mutual_info_ is nan"):
        mae.fit(X)
    assert mae.mutual_info_ == before
