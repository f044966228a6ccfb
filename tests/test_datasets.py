"""Every truth the generators state, against an independent computation.

Statistical checks take their tolerance from a standard error: 5 of them, one false
alarm in 1.7 million for each figure compared. The seeds are fixed: a check that holds
once holds for good.
"""

import itertools
import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import multivariate_normal

from sklearn_mae.datasets import (
    make_binary_prototypes,
    make_linear_gaussian,
    make_split_normal,
    make_uniform_categories,
    split_normal_correlation,
)

GENERATORS = [
    make_binary_prototypes,
    make_linear_gaussian,
    make_split_normal,
    make_uniform_categories,
]

every_generator = pytest.mark.parametrize("make", GENERATORS)


def binary_entropy(p):
    return -p * np.log(p) - (1 - p) * np.log(1 - p)


@every_generator
def test_same_seed_same_bunch(make):
    one, two, other = (make(50, random_state=seed) for seed in (0, 0, 1))
    for name, value in one.items():
        if not callable(value):
            assert_array_equal(value, two[name], err_msg=name)
    assert (one.data != other.data).any()


@every_generator
def test_a_seed_leaves_the_global_generator_alone(make):
    before = np.random.get_state()[1].copy()
    make(50, random_state=0)
    assert_array_equal(np.random.get_state()[1], before)


@every_generator
def test_likelihood_is_per_row_and_survives_pickling(make):
    bunch = make(50, random_state=0)
    log_likelihood = bunch.log_likelihood(bunch.data)
    assert log_likelihood.shape == (50,)
    copy = pickle.loads(pickle.dumps(bunch))
    assert_array_equal(copy.log_likelihood(copy.data), log_likelihood)


@every_generator
def test_likelihood_refuses_other_widths(make):
    bunch = make(5, random_state=0)
    n_features = bunch.data.shape[1]
    with pytest.raises(ValueError, match=f"X has 11 features, .* has {n_features}"):
        bunch.log_likelihood(np.zeros((3, 11)))


@every_generator
def test_entropy_is_the_expected_surprise(make):
    bunch = make(20_000, random_state=0)
    surprise = -bunch.log_likelihood(bunch.data)
    standard_error = surprise.std() / np.sqrt(len(surprise))
    assert abs(surprise.mean() - bunch.entropy) <= 5 * standard_error + 1e-12


@every_generator
@pytest.mark.parametrize("n_samples", [0, -3, 2.5, None])
def test_bad_n_samples(make, n_samples):
    message = rf"'n_samples' parameter of {make.__name__} .* Got {n_samples} instead"
    with pytest.raises(ValueError, match=message):
        make(n_samples)


@pytest.mark.parametrize(
    ("make", "arguments", "message"),
    [
        (make_uniform_categories, {"n_categories": 0}, r"n_categories.*\[1, inf\)"),
        (make_linear_gaussian, {"n_features": 0}, r"n_features.*\[1, inf\)"),
        (make_linear_gaussian, {"n_components": 1.5}, r"n_components.*Got 1.5"),
        (make_linear_gaussian, {"noise_scale": 0}, r"noise_scale.*\(0.0, inf\)"),
        (make_linear_gaussian, {"noise_scale": np.inf}, r"noise_scale.*Got inf"),
        (make_linear_gaussian, {"information": -1.0}, r"information.*\[0.0, inf\)"),
        (make_linear_gaussian, {"information": np.nan}, r"information.*Got nan"),
        (make_binary_prototypes, {"n_features": 13}, r"n_features.*\[1, 12\].*Got 13"),
        (make_binary_prototypes, {"n_classes": 0}, r"n_classes.*\[1, inf\)"),
        (
            make_binary_prototypes,
            {"n_features": 2, "n_classes": 5},
            r"n_classes must be at most 2\*\*n_features = 4, .* Got 5",
        ),
        (
            make_binary_prototypes,
            {"flip_probability": 0.6},
            r"flip_probability.*\[0.0, 0.5\].*Got 0.6",
        ),
    ],
)
def test_bad_arguments(make, arguments, message):
    with pytest.raises(ValueError, match=message):
        make(10, **arguments)


# Splitting the normal


@pytest.mark.parametrize("information", [0.0, 1e-9, 0.4, 3.0])
def test_correlation_carries_the_information(information):
    rho = split_normal_correlation(information)
    log_det = np.linalg.slogdet([[1.0, rho], [rho, 1.0]])[1]
    assert_allclose(-0.5 * log_det, information, rtol=1e-6)


def test_correlation_limits_and_arrays():
    assert_array_equal(split_normal_correlation([[0.0, np.inf]]), [[0.0, 1.0]])
    assert make_split_normal(1).correlation is split_normal_correlation


@pytest.mark.parametrize("information", [-0.1, np.nan, [1.0, -2.0]])
def test_correlation_refuses_what_is_no_information(information):
    with pytest.raises(ValueError, match=r"information must be at least 0 .* Got "):
        split_normal_correlation(information)


def test_split_normal_is_standard():
    bunch = make_split_normal(20_000, random_state=0)
    truth = multivariate_normal([0.0], [[1.0]])
    assert_allclose(bunch.entropy, truth.entropy())
    assert_allclose(bunch.log_likelihood(bunch.data), truth.logpdf(bunch.data))
    n = len(bunch.data)
    assert abs(bunch.data.mean()) <= 5 / np.sqrt(n)
    assert abs((bunch.data**2).mean() - 1) <= 5 * np.sqrt(2 / n)


# Uniform categories


@pytest.mark.parametrize(("n_samples", "n_categories"), [(60, 10), (25, 10), (3, 7)])
def test_categories_are_balanced(n_samples, n_categories):
    bunch = make_uniform_categories(
        n_samples, n_categories=n_categories, random_state=0
    )
    counts = np.bincount(bunch.data[:, 0], minlength=n_categories)
    assert bunch.data.shape == (n_samples, 1)
    assert len(counts) == n_categories
    assert counts.sum() == n_samples
    assert np.ptp(counts) == (n_samples % n_categories > 0)


def test_the_remainder_goes_to_random_categories():
    extra = [make_uniform_categories(1, random_state=i).data[0, 0] for i in range(300)]
    # a category is never drawn with probability 0.9 ** 300 = 2e-14
    assert set(extra) == set(range(10))


def test_the_deck_is_shuffled():
    rounds = make_uniform_categories(200, random_state=0).data.reshape(20, 10)
    # a round of ten holds every category with probability 4e-4
    assert not any(len(set(dealt)) == 10 for dealt in rounds.tolist())


def test_uniform_entropy_and_support():
    bunch = make_uniform_categories(20, n_categories=4, random_state=0)
    assert_allclose(bunch.entropy, -4 * (0.25 * np.log(0.25)))
    assert_allclose(
        bunch.log_likelihood([[0], [3], [4], [-1], [0.5]]),
        [np.log(0.25), np.log(0.25), -np.inf, -np.inf, -np.inf],
    )


# Linear Gaussian


@pytest.mark.parametrize(("n_features", "n_components"), [(6, 2), (1, 1), (3, 5)])
@pytest.mark.parametrize("information", [None, 0.0, 2.5])
def test_linear_gaussian_against_its_covariance(n_features, n_components, information):
    bunch = make_linear_gaussian(
        20,
        n_features=n_features,
        n_components=n_components,
        noise_scale=0.7,
        information=information,
        random_state=0,
    )
    W, eye = bunch.weights, np.eye
    covariance = W @ W.T + 0.7**2 * eye(n_features)
    x = multivariate_normal(bunch.mean, covariance)
    z = multivariate_normal(np.zeros(n_components), eye(n_components))
    both = multivariate_normal(
        cov=np.block([[covariance, W], [W.T, eye(n_components)]])
    )
    assert_allclose(bunch.entropy, x.entropy())
    assert_allclose(
        bunch.information, x.entropy() + z.entropy() - both.entropy(), atol=1e-12
    )
    assert_allclose(bunch.log_likelihood(bunch.data), x.logpdf(bunch.data))


@pytest.mark.parametrize("information", [0.0, 1e-6, 0.5, 3.0, 12.0, 40.0])
@pytest.mark.parametrize("n_components", [1, 2, 12])
def test_weights_are_rescaled_to_the_information(information, n_components):
    arguments = dict(n_components=n_components, noise_scale=0.3, random_state=1)
    bunch = make_linear_gaussian(5, information=information, **arguments)
    precision = np.eye(n_components) + bunch.weights.T @ bunch.weights / 0.3**2
    assert_allclose(bunch.information, information, rtol=1e-12)
    assert_allclose(
        0.5 * np.linalg.slogdet(precision)[1], information, rtol=1e-9, atol=1e-12
    )
    as_drawn = make_linear_gaussian(5, **arguments).weights
    ratio = bunch.weights / as_drawn
    assert_allclose(ratio, ratio[0, 0])
    assert np.isfinite(bunch.log_likelihood(bunch.data)).all()


def test_codes_are_standard_normal_and_leave_the_noise():
    bunch = make_linear_gaussian(
        5000, n_features=4, n_components=3, noise_scale=0.5, random_state=0
    )
    assert bunch.codes.shape == (5000, 3)
    noise = (bunch.data - bunch.mean - bunch.codes @ bunch.weights.T) / 0.5
    standard = np.hstack([bunch.codes, noise])
    errors = standard.T @ standard / 5000 - np.eye(7)
    # of 28 entries, the diagonal ones with variance 2 / n: 5 standard errors of those
    assert np.abs(errors).max() <= 5 * np.sqrt(2 / 5000)


# Binary prototypes


def test_prototypes_against_brute_force():
    flip = 0.2
    bunch = make_binary_prototypes(
        10, n_features=4, n_classes=3, flip_probability=flip, random_state=0
    )
    entropy = 0.0
    for i, x in enumerate(itertools.product([0, 1], repeat=4)):
        q = 0.0
        for prototype in bunch.prototypes:
            flips = np.sum(np.not_equal(x, prototype))
            q += flip**flips * (1 - flip) ** (4 - flips) / 3
        entropy -= q * np.log(q)
        assert_array_equal(bunch.outcomes[i], x)
        assert_allclose(bunch.probabilities[i], q)
    assert_allclose(bunch.entropy, entropy)
    assert_allclose(bunch.information, entropy - 4 * binary_entropy(flip))
    assert_allclose(
        bunch.log_likelihood(bunch.outcomes), np.log(bunch.probabilities), rtol=1e-12
    )


@pytest.mark.parametrize("flip", [0.01, 0.11, 0.3])
def test_one_column_is_the_binary_symmetric_channel(flip):
    bunch = make_binary_prototypes(
        10, n_features=1, n_classes=2, flip_probability=flip, random_state=0
    )
    assert_allclose(bunch.information, np.log(2) - binary_entropy(flip))


def test_information_from_all_of_the_class_to_nothing():
    clean = make_binary_prototypes(300, flip_probability=0, random_state=0)
    assert_allclose(clean.information, np.log(4))
    assert_allclose(clean.entropy, np.log(4))
    assert_array_equal(clean.data, clean.prototypes[clean.codes])
    noise = make_binary_prototypes(10, flip_probability=0.5, random_state=0)
    alone = make_binary_prototypes(10, n_classes=1, random_state=0)
    for bunch in (noise, alone):
        assert 0 <= bunch.information < 1e-12


def test_prototypes_are_distinct():
    bunch = make_binary_prototypes(5, n_features=3, n_classes=8, random_state=0)
    assert len(np.unique(bunch.prototypes, axis=0)) == 8
    assert_allclose(bunch.probabilities, 1 / 8)


def test_codes_and_flips_have_their_frequencies():
    n = 20_000
    bunch = make_binary_prototypes(n, random_state=0)
    flips = bunch.data != bunch.prototypes[bunch.codes]
    assert np.issubdtype(bunch.data.dtype, np.integer)
    assert np.abs(flips.mean(0) - 0.1).max() <= 5 * np.sqrt(0.1 * 0.9 / n)
    frequencies = np.bincount(bunch.codes) / n
    assert np.abs(frequencies - 0.25).max() <= 5 * np.sqrt(0.25 * 0.75 / n)


def test_rows_that_are_not_binary_are_outside_the_support():
    bunch = make_binary_prototypes(5, n_features=2, n_classes=2, random_state=0)
    log_likelihood = bunch.log_likelihood([[0, 2], [0.5, 1], [-1, 0], [1, 1]])
    assert_array_equal(np.isfinite(log_likelihood), [False, False, False, True])
