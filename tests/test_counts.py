"""Counts: probabilities against scipy's, draws, modes, refusals, fits, known truth."""

import math
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from torch.testing import assert_close

from sklearn_mae import MutualAutoencoder
from sklearn_mae.families.counts import (
    BEYOND,
    LARGEST,
    LEAST_EXCESS,
    NORMAL_FROM,
    STIRLING_FROM,
    IndependentNegativeBinomial,
    IndependentPoisson,
    NegativeBinomial,
    Poisson,
    _stirling,
)
from sklearn_mae.families.standard import standard_likelihood, standard_model
from sklearn_mae.families.table import TableLikelihood
from sklearn_mae.information import information_of_model
from sklearn_mae.model import mlp, private_random
from tests.statistical import assert_mean_equal
from tests.toy_models import generator

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

NAMES = ("poisson", "negative_binomial")
every_family = pytest.mark.parametrize("name", NAMES)
RATES = (1e-9, 1e-3, 0.5, 3.0, 14.7, 1e3, 1e6, 1e9)
SIZES = (1e-3, 0.3, 1.0, 5.0, 40.0, 1e3)
X_WIDE = np.array([0, 1, 2, 3, 7, 14, 15, 16, 40, 1e3, 1e6, 1e9])
rng = np.random.default_rng(0)
CODES = rng.normal(size=(60, 2))
COUNTS = rng.poisson(np.exp(CODES @ [[1.0, 0.3, -0.5], [0.0, 0.8, 0.5]])).astype(float)


def column(values, dtype=torch.float64):
    return torch.as_tensor(np.asarray(values), dtype=dtype).unsqueeze(-1)


def poisson(rate, dtype=torch.float64):
    return IndependentPoisson(torch.tensor([math.log(rate)], dtype=dtype))


def negative_binomial(rate, size, dtype=torch.float64):
    logs = torch.tensor([[math.log(rate)], [math.log(size)]], dtype=dtype)
    return IndependentNegativeBinomial(*logs)


def theirs(rate, size=None):
    """The same distribution in scipy."""
    if size is None:
        return stats.poisson(rate)
    return stats.nbinom(size, size / (size + rate))


def ours(rate, size=None, dtype=torch.float64):
    return (
        poisson(rate, dtype) if size is None else negative_binomial(rate, size, dtype)
    )


# Log-probabilities


@pytest.mark.parametrize("size", [None, *SIZES])
@pytest.mark.parametrize("rate", RATES)
def test_log_prob_against_scipy(rate, size):
    expected = theirs(rate, size).logpmf(X_WIDE)
    found = ours(rate, size).log_prob(column(X_WIDE)).numpy()

    # scipy subtracts numbers of this size, and knows rates by 1 - r / (r + mu)
    largest = (X_WIDE + rate + (size or 0)) * np.log(X_WIDE + rate + 1e3)
    if size is not None:
        largest = largest + X_WIDE * size / rate
    np.testing.assert_array_less(abs(found - expected), 1e-14 * largest + 1e-11)


@pytest.mark.parametrize("a", [1e-6, 0.1, 1.0, 2.5, 14.9, 15.0, 15.1, 100.0])
def test_stirling_s_series(a):
    expected = math.lgamma(a) - (a - 0.5) * math.log(a) + a - math.log(math.tau) / 2
    assert _stirling(torch.tensor(a, dtype=torch.float64)).item() == pytest.approx(
        expected, abs=2e-13
    )


def test_stirling_s_gradient_goes_on_where_the_series_begins():
    near = STIRLING_FROM + torch.tensor([-1e-9, 1e-9], dtype=torch.float64)
    near.requires_grad_()
    (slope,) = torch.autograd.grad(_stirling(near).sum(), near)

    assert_close(slope[0], slope[1], rtol=1e-7, atol=0)


@pytest.mark.parametrize("x", [0.0, 1.0, 10.0, 1e6, 1e12])
def test_a_large_size_is_poisson(x):
    """As far as it is: deviances differ by (x - mu)^2 / 2 r."""
    rate = 1.01 * x + 1
    p = negative_binomial(rate, LARGEST)
    bound = (x - rate) ** 2 / LARGEST + (x + 1) / LARGEST
    difference = p.log_prob(column(x)) - poisson(rate).log_prob(column(x))

    assert abs(difference.item()) <= bound + 1e-13 * (1 + 40 * x)


@pytest.mark.parametrize("size", [None, 0.3, 5.0, 1e6])
def test_single_precision_loses_no_more_than_the_rate_s_digits(size):
    """A count of a million has a log-probability that training can use."""
    x = column([1e6, 1.002e6])
    found = ours(1e6, size, torch.float32).log_prob(x.float())

    assert found.dtype == torch.float32
    # at two standard deviations a rate's seventh digit counts twice over
    assert_close(found.double(), ours(1e6, size).log_prob(x), rtol=0, atol=5e-3)


@pytest.mark.parametrize("size", [None, 0.2, 3.0])
@pytest.mark.parametrize("rate", [0.01, 4.0, 30.0])
def test_probabilities_add_up(rate, size):
    x = column(np.arange(20_000))

    total = ours(rate, size).log_prob(x).exp().sum()
    assert total.item() == pytest.approx(1, abs=1e-10)


@pytest.mark.parametrize("size", [None, 0.2, 3.0])
@pytest.mark.parametrize("x", [0.0, 1.0, 15.0, 400.0])
def test_gradients(x, size):
    logs = [torch.tensor([0.7]).double().requires_grad_()]
    if size is not None:
        logs.append(torch.tensor([math.log(size)]).double().requires_grad_())
    kind = IndependentPoisson if size is None else IndependentNegativeBinomial

    def log_prob(*logs):
        return kind(*logs).log_prob(column(x).squeeze(-1))

    assert torch.autograd.gradcheck(log_prob, logs)


@pytest.mark.parametrize("extreme", [-1e6, -50.0, 0.0, 50.0, 1e6])
@every_family
def test_what_a_decoder_says_far_out_is_finite(name, extreme):
    """And so are gradients, which lead back."""
    family = standard_likelihood(name, torch.nn.Identity(), 1).family
    outputs = torch.full((4, 1), extreme, requires_grad=True)
    given = {**family.constants(0.01), "log_size": torch.tensor([extreme])}
    x = column([0.0, 1.0, 1e6, LARGEST], torch.float32)
    p = family.distribution(outputs, given)
    log_prob = p.log_prob(x)
    (slope,) = torch.autograd.grad(log_prob.sum(), outputs)

    assert log_prob.isfinite().all()
    assert slope.isfinite().all()
    assert (log_prob <= 0).all()
    assert p.mean.isfinite().all()
    draws = p.sample((20,), generator())
    assert ((draws >= 0) & (draws <= LARGEST)).all()
    ((weight, eta, _),) = family.fisher_terms(p)
    assert weight.isfinite().all()
    assert eta.isfinite().all()
    if extreme == 50 and name == "poisson":
        assert (slope[:3] < 0).all()


# Points


@pytest.mark.parametrize("size", [None, 0.5, 1.0, 1.5, 7.0])
@pytest.mark.parametrize("rate", [0.2, 0.999, 1.7, 6.3, 52.8])
def test_mode_is_the_most_probable_count(rate, size):
    x = column(np.arange(300))
    p = ours(rate, size)

    assert p.mode.item() == p.log_prob(x).argmax().item()


def test_of_two_modes_the_larger_one():
    rate = torch.tensor([4.0], dtype=torch.float64)
    p = IndependentPoisson(rate.log())
    both = p.log_prob(column([3.0, 4.0]))

    assert_close(both[0], both[1])
    assert p.mode.item() == 4


# Draws


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [None, 0.3, 1.0, 12.0])
@pytest.mark.parametrize("rate", [0.05, 2.0, 40.0])
def test_draws_have_the_probabilities(rate, size, dtype):
    n, most = 100_000, 40
    x = ours(rate, size, dtype).sample((n,), generator()).double()
    exact = theirs(rate, size)
    below = (x <= torch.arange(most)).double()

    assert x.shape == (n, 1)
    assert_close(x, x.floor())
    # each value's share; (assert_mean_equal would need some of each)
    share, p = below.mean(0).numpy(), exact.cdf(np.arange(most))
    tolerance = 6 * np.sqrt(p * (1 - p) / n) + 5 / n
    assert (abs(share - p) <= tolerance).all()
    spread = exact.std()
    assert_mean_equal(x, rate, resolution=0.06 * spread + 0.01)
    if size is None or size >= 1:
        squares = (x - rate) ** 2
        assert_mean_equal(squares, exact.var(), resolution=0.2 * spread**2 + 0.01)


@pytest.mark.parametrize("rate", [NORMAL_FROM * 0.9, NORMAL_FROM * 1.1, 1e14])
def test_draws_of_large_rates(rate):
    x = poisson(rate).sample((20_000,), generator()).squeeze(-1)
    standardised = (x - rate) / rate**0.5

    assert_close(x, x.round(), rtol=0, atol=0)
    assert_mean_equal(standardised, 0.0, resolution=0.05)
    assert_mean_equal(standardised**2, 1.0, resolution=0.08)
    assert stats.kstest(standardised.numpy(), "norm").pvalue > 1e-6


def test_draws_of_a_large_size_are_poisson():
    x = negative_binomial(3.0, 1e15).sample((100_000,), generator()).squeeze(-1)

    assert_mean_equal(x, 3.0, resolution=0.05)
    assert_mean_equal((x - 3) ** 2, 3.0, resolution=0.12)


@pytest.mark.parametrize("size", [None, 0.5])
def test_draws_hang_on_the_generator_alone(size):
    p = ours(5.0, size)
    before = torch.get_rng_state()
    first, second = (p.sample((50,), generator(3)) for _ in range(2))

    assert torch.equal(first, second)
    assert not torch.equal(first, p.sample((50,), generator(4)))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3)])
@every_family
def test_shapes_of_draws(name, shape):
    likelihood = standard_likelihood(name, torch.nn.Linear(2, 4), 4)
    p = likelihood(torch.zeros(5, 2))

    assert p.sample(shape, generator()).shape == (*shape, 5, 4)
    assert not p.sample(shape, generator()).requires_grad


@pytest.mark.parametrize("size", [None, 0.5, math.nan])
def test_a_diverged_model_s_draws_do_not_raise(size):
    nan = torch.tensor([math.nan])
    logs = (nan,) if size is None else (nan, torch.tensor([size]))
    kind = IndependentPoisson if size is None else IndependentNegativeBinomial
    p = kind(*logs)
    x = p.sample((10,), generator())

    assert (x == 0).all()
    assert p.log_prob(x).isnan().all()


# The family


@every_family
def test_fisher_information_is_that_of_the_log_rate(name):
    family = standard_likelihood(name, torch.nn.Identity(), 1).family
    eta = torch.full((40_000, 1), 0.8, dtype=torch.float64, requires_grad=True)
    given = {**family.constants(0.01), "log_size": torch.tensor([0.4])}
    p = family.distribution(eta, given)
    x = p.sample((), generator())
    (score,) = torch.autograd.grad(p.log_prob(x).sum(), eta)
    ((weight, _, _),) = family.fisher_terms(p)

    exact = float(weight[0].detach() ** 2)
    assert_mean_equal(score, 0.0, resolution=0.05)
    assert_mean_equal(score**2, exact, resolution=0.1 * exact)


@pytest.mark.parametrize("outputs", [-50.0, 0.0, 3.0, 50.0, 1e6])
@pytest.mark.parametrize("kind", [Poisson, NegativeBinomial])
def test_no_mean_is_far_beyond_the_largest_count(kind, outputs):
    """Such means drove training apart: nothing held codes that no row has."""
    family = kind().fit(COUNTS, str)
    given = {**family.constants(0.01), **family.shared()}
    outputs = torch.full((1, 3), outputs, requires_grad=True)
    p = family.distribution(outputs, given)
    (slope,) = torch.autograd.grad(p.log_rate.sum(), outputs)

    assert (p.mean.detach().numpy() <= BEYOND * COUNTS.max(0) * (1 + 1e-5)).all()
    assert (slope >= 0).all()
    if abs(outputs.detach()).max() <= 3:  # a rate that went too far comes back
        assert (slope > 0.1).all()


@pytest.mark.parametrize("kind", [Poisson, NegativeBinomial])
def test_the_mean_of_counts_as_large_as_numbers_go(kind):
    family = kind().fit(np.array([[LARGEST], [LARGEST - 2.0**31]]), str)
    given = {**family.constants(0.01), **family.shared()}
    p = family.distribution(torch.zeros(1, 1).double(), given)

    assert p.mean.item() == pytest.approx(LARGEST, rel=0.11)


@pytest.mark.parametrize("kind", [Poisson, NegativeBinomial])
def test_a_decoder_that_says_nothing_gives_the_columns_moments(kind):
    X = stats.nbinom(2, 2 / (2 + np.array([3.0, 50.0]))).rvs((4000, 2), random_state=0)
    likelihood = TableLikelihood(kind().fit(X.astype(float), str), torch.nn.Identity())
    p = likelihood.double()(torch.zeros(1, 2).double())

    assert_close(p.mean[0].detach().numpy(), X.mean(0))
    if kind is NegativeBinomial:
        assert_close(p.variance[0].detach().numpy(), X.var(0), rtol=1e-6, atol=0)


def test_a_column_that_varies_no_more_than_poisson_starts_from_a_finite_size():
    X = np.array([[4.0], [5.0], [4.0], [5.0]])
    family = NegativeBinomial().fit(X, str)

    assert family.size_ == pytest.approx(4.5 / LEAST_EXCESS)


@every_family
def test_features_are_standardised_logarithms(name):
    family = {"poisson": Poisson, "negative_binomial": NegativeBinomial}[name]()
    features = family.fit(COUNTS, str).features()(torch.as_tensor(COUNTS))

    assert_close(features.mean(0), torch.zeros(3).double(), rtol=0, atol=1e-12)
    assert_close(features.std(0, correction=0), torch.ones(3).double())


@every_family
def test_what_it_declares(name, small):
    mae = small(likelihood=name)
    likelihood = standard_likelihood(name, torch.nn.Linear(1, 2), 2)

    assert mae.__sklearn_tags__().input_tags.positive_only
    assert likelihood.family.discrete
    assert likelihood.outcomes() is None


# Refusals


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            -1.0,
            r"Negative values in data: X holds .* no counts.*\) b, for example -1\.",
        ),
        (2.5, r"^X holds values that are no counts.*\) b, for example 2\.5\. Round"),
        (2.0**53, r"below 2\*\*53, for float64 .*\) b, for example 9007199254740992\."),
    ],
)
@every_family
def test_what_is_no_count(small, name, value, message):
    table = pd.DataFrame({"a": COUNTS[:, 0], "b": COUNTS[:, 1]})
    mae = small(likelihood=name).fit(table)
    wrong = table.copy()
    wrong.loc[3, "b"] = value

    for take in (small(likelihood=name).fit, mae.transform, mae.score):
        with pytest.raises(ValueError, match=message):
            take(wrong)
    assert np.isfinite(mae.transform(table)).all()


@pytest.mark.parametrize("gradient", ["reparametrised", "enumeration"])
@every_family
def test_gradients_that_counts_do_not_have(small, name, gradient):
    with pytest.raises(ValueError, match=f"likelihood='{name}'"):
        small(likelihood=name, mi_gradient=gradient).fit(COUNTS)


# Fits


@every_family
def test_figures_of_a_fit(small, name):
    mae = small(likelihood=name, n_components=2).fit(COUNTS)
    X, Z = mae.sample(200, random_state=0, return_codes=True)
    decoded = mae.inverse_transform(Z)

    for rows in (X, decoded, mae.reconstruct(COUNTS)):
        assert (rows >= 0).all()
        assert_close(rows, np.floor(rows))
    # probabilities
    assert (mae.conditional_log_prob(X, Z) < 0).all()
    assert (mae.log_likelihood(COUNTS) < 0).all()
    assert mae.transform(X).shape == (200, 2)


@every_family
def test_the_same_seed_gives_the_same_fit(small, name):
    one, two = (small(likelihood=name).fit(COUNTS) for _ in range(2))

    assert_close(one.transform(COUNTS), two.transform(COUNTS), rtol=0, atol=0)
    assert one.mutual_info_ == two.mutual_info_
    assert_close(one.sample(9, 0), two.sample(9, 0), rtol=0, atol=0)


@every_family
def test_single_precision_rows(small, name):
    mae = small(likelihood=name).fit(COUNTS.astype(np.float32))

    for rows in (mae.transform(COUNTS.astype(np.float32)), mae.reconstruct(COUNTS)):
        assert rows.dtype in (np.float32, np.float64)
    assert mae.transform(COUNTS.astype(np.float32)).dtype == np.float32
    assert_close(
        mae.transform(COUNTS.astype(np.float32)).astype(float),
        mae.transform(COUNTS),
        rtol=1e-5,
        atol=1e-5,
    )


@every_family
def test_pickled(small, name):
    mae = small(likelihood=name).fit(COUNTS)
    twin = pickle.loads(pickle.dumps(mae))

    assert_close(twin.transform(COUNTS), mae.transform(COUNTS), rtol=0, atol=0)
    assert_close(twin.score_samples(COUNTS), mae.score_samples(COUNTS), rtol=0, atol=0)
    assert_close(twin.sample(5, 0), mae.sample(5, 0), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("poisson", "rate_"),
        ("poisson", "largest_"),
        ("negative_binomial", "rate_"),
        ("negative_binomial", "size_"),
    ],
)
@pytest.mark.parametrize("wrong", [np.zeros(3), np.ones(2), np.full(3, np.nan), None])
def test_damaged_files(small, name, entry, wrong):
    mae = small(likelihood=name).fit(COUNTS)
    state = mae.__getstate__()
    columns = state["_fitted"]["family"]["family"]
    assert entry in columns
    columns[entry] = wrong

    with pytest.raises(ValueError, match=f"its entry '{entry}' is"):
        MutualAutoencoder().__setstate__(state)


@every_family
def test_constant_columns(small, name):
    X = np.column_stack([np.full(60, 7.0), COUNTS, np.zeros(60)])
    mae = small(likelihood=name).fit(X)

    assert (mae.sample(5, 0)[:, [0, 4]] == [7, 0]).all()
    assert_close(
        mae.score_samples(X), small(likelihood=name).fit(COUNTS).score_samples(COUNTS)
    )


@pytest.mark.usefixtures("whole_fits")
@pytest.mark.parametrize("scale", [1e6, 1e12])
@every_family
def test_huge_counts(small, name, scale):
    X = np.floor(scale * np.exp(CODES))
    mae = small(likelihood=name, max_epochs=20).fit(X)

    assert np.isfinite(mae.score_samples(X)).all()
    assert np.isfinite(mae.transform(X)).all()
    assert np.isfinite(mae.transform(X * 0 + LARGEST)).all()
    drawn = mae.sample(50, 0)
    assert (drawn <= LARGEST).all()
    assert np.isfinite(mae.transform(drawn)).all()


@pytest.mark.usefixtures("whole_fits")
@every_family
def test_rare_counts(small, name):
    X = np.zeros((60, 2))
    X[0, 0] = X[1, 1] = 1
    mae = small(likelihood=name).fit(X)

    assert np.isfinite(mae.score_samples(X)).all()
    assert (mae.inverse_transform(mae.transform(X)) >= 0).all()


def test_counts_that_logarithms_do_not_tell_apart_are_constant(small):
    X = np.column_stack([2.0**52 + np.arange(60) % 2, COUNTS])
    mae = small(likelihood="poisson").fit(X)

    assert (mae.sample(3, 0)[:, 0] == X[0, 0]).all()


@every_family
def test_warm_start(small, name):
    mae = small(M=None, likelihood=name, warm_start=True).fit(COUNTS)
    first = mae.score(COUNTS)
    mae.set_params(max_epochs=150).fit(COUNTS)

    assert mae.n_iter_ == 153
    assert mae.score(COUNTS) > first + 0.05


# Known truth


@pytest.mark.usefixtures("whole_fits")
def test_size_is_found():
    """Without a code to tell, r is that of the data."""
    X = stats.nbinom(2, 2 / (2 + 6.0)).rvs((800, 2), random_state=1).astype(float)
    mae = MutualAutoencoder(
        M=None,
        likelihood="negative_binomial",
        n_components=1,
        hidden_layer_sizes=(4,),
        max_epochs=60,
        random_state=0,
    ).fit(X)
    likelihood = mae.net_.module_.likelihood
    size = likelihood.log_size.detach().exp().numpy()

    def log_prob(r):
        return theirs(6.0, r).logpmf(X)

    curvature = (2 * log_prob(2.0) - log_prob(2.02) - log_prob(1.98)) / 0.02**2
    standard_error = curvature.sum(0) ** -0.5
    assert (standard_error < 0.2).all()
    assert (abs(size - 2) < 6 * standard_error).all()
    # a fit is likelier than the truth by half a nat for each parameter, over all rows
    gain = (mae.log_likelihood(X) - log_prob(2.0).sum(1)).mean()
    assert -0.01 < gain < 0.05


def test_information_of_counts_is_bracketed_around_the_exact_one():
    """A made model: x | z of a given rate, z standard normal."""
    with private_random(0):
        decoder = mlp(1, (), 1, "tanh")
    with torch.no_grad():
        decoder[0].weight.fill_(0.9)
        decoder[0].bias.fill_(1.2)
    for name, size in zip(NAMES, (None, 1.0), strict=True):
        likelihood = standard_likelihood(name, decoder, 1)
        model = standard_model(likelihood, 1, 1).double()
        z, weights = np.polynomial.hermite_e.hermegauss(120)
        weights = weights / weights.sum()
        p = theirs(np.exp(1.2 + 0.9 * z)[:, None], size).pmf(np.arange(4000))
        marginal = weights @ p
        of_z = -(p * np.log(np.maximum(p, 1e-300))).sum(1)
        of_x = -(marginal * np.log(np.maximum(marginal, 1e-300))).sum()
        exact = of_x - weights @ of_z

        found = information_of_model(model, 2000, 0.02, generator())
        error = max(found.lower_se, found.upper_se)
        assert found.lower - 6 * error <= exact <= found.upper + 6 * error
        assert found.upper - found.lower + 4 * error < 0.1
