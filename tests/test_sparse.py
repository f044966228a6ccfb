"""Sparse tables: as good as the arrays they stand for, and never all dense."""

import pickle
import re
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from sklearn_mae import MutualAutoencoder, information_scorer
from sklearn_mae.columns import blocks, canonical, column_blocks, row_blocks
from sklearn_mae.families import Likelihood, base, counts, row_family
from sklearn_mae.information import training_bias
from sklearn_mae.model import LatentVariableModel

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

N, D = 40, 6


def made(seed=0):
    """Return counts, most of them 0."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(N, 1))
    return rng.poisson(np.exp(z - 0.7), size=(N, D)).astype(float)


X = made()
PAIRS = [("poisson", [0, 1]), ("categorical", [2, 3, 4])]
TABLES = {
    "auto": X,
    "gaussian": X,
    "isotropic": X,
    "heteroscedastic": X,
    "lognormal": X + 1,
    "student_t": X,
    "bernoulli": np.minimum(X, 1),
    "categorical": X,
    "poisson": X,
    "negative_binomial": X,
    "pairs": X,
}
FORMATS = ["csr", "csc", "coo", "lil", "dok", "bsr", "dia"]


def build(likelihood="poisson", **params):
    settings = {"M": None, "n_components": 2, "hidden_layer_sizes": (8,)}
    settings |= {"random_state": 0, "max_epochs": 2, "batch_size": 16}
    likelihood = PAIRS if likelihood == "pairs" else likelihood
    return MutualAutoencoder(likelihood=likelihood, **{**settings, **params})


@pytest.fixture(scope="module")
def mae():
    return build().fit(X)


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of 4 rows, or of one column."""
    monkeypatch.setattr(blocks, "NUMBERS_AT_ONCE", 4 * D)


# --- blocks ---------------------------------------------------------------------------


def test_blocks_of_rows_are_the_rows(small_blocks):
    found = list(row_blocks(sparse.coo_array(X)))

    assert {block.shape for block in found} == {(4, D)}
    assert np.array_equal(np.concatenate(found), X)


def test_blocks_of_columns_are_the_columns(monkeypatch):
    monkeypatch.setattr(blocks, "NUMBERS_AT_ONCE", 4 * N)
    found = list(column_blocks(sparse.csr_array(X)))

    assert [block.shape for _, block in found] == [(N, 4), (N, 2)]
    for positions, block in found:
        assert np.array_equal(block, X[:, positions])


def test_an_array_is_one_block_and_is_not_copied():
    assert next(row_blocks(X)) is X
    assert next(column_blocks(X))[1] is X


def test_entries_given_twice_are_added_up_and_the_users_matrix_stays():
    twice = sparse.csr_array(([1.0, 2.0], [1, 1], [0, 2]), shape=(1, 3))

    assert canonical(twice).toarray().tolist() == [[0.0, 3.0, 0.0]]
    assert twice.nnz == 2


# --- fit ------------------------------------------------------------------------------


@pytest.mark.parametrize("likelihood", TABLES)
def test_fit_is_that_of_the_array(likelihood):
    table, M = TABLES[likelihood], 1.0 if likelihood in ("auto", "poisson") else None
    dense = build(likelihood, M=M).fit(table)
    found = build(likelihood, M=M).fit(sparse.csc_matrix(table))

    for name, values in dense.history_.items():
        assert np.array_equal(found.history_[name], values, equal_nan=True), name
    assert found.mutual_info_interval_ == dense.mutual_info_interval_
    assert found.rate_ == dense.rate_
    assert found.likelihood_ == dense.likelihood_


@pytest.mark.parametrize("likelihood", TABLES)
def test_columns_are_learned_of_in_blocks(likelihood, small_blocks):
    """Bit for bit, for each column is learned of alone."""
    table = TABLES[likelihood]
    names = tuple("ab"[j % 2] for j in range(D))
    kinds = {"a": "categorical", "b": "gaussian"}
    kind = tuple(kinds[name] for name in names) if likelihood == "pairs" else likelihood
    dense, found = row_family(kind), row_family(kind)
    if likelihood == "auto":
        dense, found = row_family("gaussian"), row_family("gaussian")
    dense.fit(table)
    found.fit(sparse.csr_array(table))

    assert pickle.dumps(found.write()) == pickle.dumps(dense.write())


def test_missing_entries_stand_in_the_data(small_blocks):
    holes = X.copy()
    holes[3, 2] = holes[5, 0] = holes[6, 0] = np.nan
    dense, found = row_family("poisson").fit(holes), row_family("poisson")
    found.fit(sparse.csr_array(holes))

    assert pickle.dumps(found.write()) == pickle.dumps(dense.write())


def test_fit_in_blocks_comes_to_the_same(small_blocks):
    """All but figures that are means over some rows."""
    dense, found = build().fit(X), build().fit(sparse.csr_array(X))

    assert found.mutual_info_ == dense.mutual_info_
    assert found.rate_ == pytest.approx(dense.rate_, rel=1e-12)
    assert np.array_equal(found.history_["loss"], dense.history_["loss"])


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("container", ["array", "matrix"])
def test_all_formats_are_taken(mae, kind, container):
    table = getattr(sparse, f"{kind}_{container}")(X)

    assert np.array_equal(mae.transform(table), mae.transform(X))


def test_indices_may_be_of_64_bits_and_zeros_be_stored(mae):
    table = sparse.csr_array(X)
    table.data[0] = 0.0
    expected = mae.transform(table.toarray())
    table.indices = table.indices.astype(np.int64)
    table.indptr = table.indptr.astype(np.int64)

    assert np.array_equal(mae.transform(table), expected)


@pytest.mark.parametrize("dtype", [bool, np.int8, np.int64, np.float32])
def test_types_of_entries(dtype):
    table = np.minimum(X, 1).astype(dtype)
    found = build("auto").fit(sparse.csr_array(table))

    assert found.likelihood_ == "gaussian"
    single = dtype == np.float32
    expected = np.float32 if single else np.float64
    assert found.transform(sparse.csr_array(table)).dtype == expected
    assert found.reconstruct(sparse.csr_array(table)).dtype == expected


def test_fit_leaves_the_table_as_it_is():
    table = sparse.csr_array(X)
    before = table.copy()
    build().fit(table)

    assert (table != before).nnz == 0
    assert table.data.tobytes() == before.data.tobytes()


def test_warm_start_goes_on_from_sparse_rows(small_blocks):
    mae = build(warm_start=True).fit(sparse.csr_array(X))
    mae.fit(sparse.csr_array(X))

    assert mae.n_iter_ == 4
    with pytest.warns(UserWarning, match="columns? ?.*seem to be in other units"):
        mae.fit(sparse.csr_array(1000 * X + 1000))


def test_what_comes_before():
    texts = ["a b b", "b c", "c c a", "a", "b b c", "c a a a"] * 5
    counts = make_pipeline(
        CountVectorizer(token_pattern=r"\w"), build("negative_binomial")
    )
    assert counts.fit_transform(texts).shape == (30, 2)
    encoded = make_pipeline(OneHotEncoder(), build("bernoulli"))
    assert encoded.fit_transform([[text] for text in texts]).shape == (30, 2)


# --- methods --------------------------------------------------------------------------

METHODS = {
    "transform": {},
    "score_samples": {},
    "score": {},
    "rate": {},
    "distortion": {},
    "log_likelihood": {"n_importance": 8},
    "reconstruct": {},
    "impute": {},
    "encoder_mutual_info": {},
}


@pytest.mark.parametrize("codes", ["mean", "sample"])
@pytest.mark.parametrize("method", METHODS)
def test_figures_are_those_of_the_array(mae, method, codes, small_blocks):
    mae = pickle.loads(pickle.dumps(mae)).set_params(codes=codes)
    expected = getattr(mae, method)(X, **METHODS[method])
    found = getattr(mae, method)(sparse.csr_array(X), **METHODS[method])

    if method == "encoder_mutual_info":
        assert found == expected
    elif method == "log_likelihood":  # not padded: rounded by its rows
        np.testing.assert_allclose(found, expected, rtol=1e-12)
    else:
        assert np.array_equal(found, expected)


@pytest.mark.parametrize("method", ["conditional_log_prob", "posterior_log_prob"])
def test_codes_go_with_their_rows(mae, method, small_blocks):
    Z = np.random.default_rng(1).normal(size=(N, 2))
    expected = getattr(mae, method)(X, Z)

    for given in (Z, Z.tolist()):
        found = getattr(mae, method)(sparse.csc_array(X), Z=given)
        np.testing.assert_allclose(found, expected, rtol=1e-12)
    with pytest.raises(ValueError, match="X has 40 rows and Z 39"):
        getattr(mae, method)(sparse.csc_array(X), Z[:-1])


def test_draws_of_one_block_are_those_of_the_array(mae):
    expected = mae.sample_posterior(X, 3, random_state=0)
    found = mae.sample_posterior(sparse.csr_array(X), 3, random_state=0)

    assert np.array_equal(found, expected)


def test_each_block_has_draws_of_its_own(mae, small_blocks):
    rows = sparse.csr_array(np.repeat(X[:1], 8, axis=0))
    first, again = (mae.sample_posterior(rows, 2, random_state=0) for _ in range(2))

    assert first.shape == (2, 8, 2)
    assert np.array_equal(first, again)
    assert len(np.unique(first[:, :, 0])) == 16


def test_other_methods(mae, small_blocks):
    table = sparse.csr_array(X)

    drawn = mae.reconstruct(table, n_samples=2, random_state=0)
    assert np.array_equal(drawn, mae.reconstruct(X, n_samples=2, random_state=0))
    way = mae.interpolate(table, table[::-1], n_steps=3)
    assert np.array_equal(way, mae.interpolate(X, X[::-1], n_steps=3))
    assert information_scorer(mae, table)["elbo"] == mae.score(X)
    given = mae.sample(2, given=table[:1], random_state=0)
    assert np.array_equal(given, X[[0, 0]])
    transformed = mae.set_output(transform="pandas").transform(table)
    mae.set_output(transform="default")
    assert isinstance(transformed, pd.DataFrame)


def test_estimator_fitted_to_a_frame_takes_sparse_rows(small_blocks):
    mae = build("gaussian").fit(pd.DataFrame(X))

    assert np.array_equal(mae.transform(sparse.csr_array(X)), mae.transform(X))


# --- refusals -------------------------------------------------------------------------


def put(value):
    table = X.copy()
    table[30, 4] = value
    return sparse.csr_array(table)


REFUSED = {
    "inf": (put(np.inf), r"infinity or a value too large .* in column\(s\) 4\. Clip"),
    "fraction": (put(0.5), r"no counts: .*column\(s\) 4, for example 0\.5"),
    "width": (sparse.csr_array(X[:, :3]), "3 features, but .* is expecting 6"),
    "no rows": (sparse.csr_array(X[:0]), r"0 sample\(s\)"),
    "complex": (sparse.csr_array(X + 1j), "Complex data not supported"),
}


@pytest.mark.parametrize("what", REFUSED)
@pytest.mark.parametrize("method", ["transform", "score", "reconstruct"])
def test_bad_rows_are_refused(mae, what, method, small_blocks):
    table, message = REFUSED[what]

    with pytest.raises(ValueError, match=message):
        getattr(mae, method)(table)


@pytest.mark.parametrize("what", ["inf", "fraction", "no rows", "complex"])
def test_bad_rows_are_refused_by_fit(what, small_blocks):
    table, message = REFUSED[what]

    with pytest.raises(ValueError, match=message):
        build().fit(table)


def test_a_row_of_a_later_block_is_told(small_blocks):
    mae = build("gaussian").fit(X)

    with pytest.raises(ValueError, match="in row 2, ") as refused:
        mae.transform(put(1e200))
    assert refused.value.__notes__ == ["(Rows are counted from row 28 of X.)"]


@pytest.mark.parametrize("likelihood", ["sequence", lambda n, d: torch.nn.Identity()])
def test_where_sparse_rows_are_refused(likelihood):
    with pytest.raises(TypeError, match=re.escape("Use '.toarray()'")):
        MutualAutoencoder(likelihood=likelihood).fit(sparse.csr_array(X))


@pytest.mark.parametrize("likelihood", [*TABLES, "sequence"])
def test_tag(likelihood):
    tags = build(likelihood).__sklearn_tags__().input_tags

    assert tags.sparse == (likelihood != "sequence")


# --- what M may blame -----------------------------------------------------------------


def test_number_of_different_rows():
    table = np.repeat(X[:3], 10, axis=0)
    with pytest.warns(UserWarning, match=r"X holds 3 different rows, 1\.1 nats"):
        build(M=5.0).fit(sparse.csr_array(table))


def test_misfit_of_columns_that_are_zero_in_some_rows():
    values = np.zeros((6, 2))
    values[0, 1] = 9.0
    family = row_family("poisson").fit(np.vstack([values, np.ones((1, 2))])).family
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = family.misfit(values, str)

    assert "up to 7.5 times" in found


# --- wide rows ------------------------------------------------------------------------


@pytest.fixture
def wide(monkeypatch):
    """Return a function that sets the numbers decoded at once; all rows are wide."""
    monkeypatch.setattr(base, "NARROW", 0)
    return lambda numbers: monkeypatch.setattr(base, "NUMBERS_AT_ONCE", numbers)


def model_of(likelihood="poisson"):
    mae = build(likelihood).fit(X)
    return mae.net_.module_.double()


def test_few_codes_are_decoded_at_once_where_rows_are_wide():
    class Wide(Likelihood):
        n_features = 20_000

    assert Wide().at_once(4_096) == 26
    Wide.n_features = 512
    assert Wide().at_once(10**6) == 10**6
    Wide.n_features = 10**9
    assert Wide().at_once(4_096) == 1


@pytest.mark.parametrize("codes", [2 * N, N // 3], ids=["draws", "rows"])
@pytest.mark.parametrize("likelihood", ["poisson", "negative_binomial", "categorical"])
def test_chunks_change_no_value_and_no_gradient(likelihood, codes, wide):
    model = model_of(likelihood)
    x = row_family(likelihood).fit(X).rows(X).map(torch.as_tensor)
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(2, 5, N, 2, dtype=torch.float64, generator=generator)
    parameters = list(model.likelihood.parameters())

    def both():
        log_lik = model.log_lik(x, z)
        return log_lik, torch.autograd.grad(log_lik.square().sum(), parameters)

    wide(10**9)
    values, gradients = both()
    fisher = model.likelihood.fisher_information(z[0, 0])
    wide(codes * model.likelihood.n_numbers)
    found, found_gradients = both()
    with torch.no_grad():
        assert torch.equal(found, model.log_lik(x, z))
    torch.testing.assert_close(found, values, rtol=1e-12, atol=0)
    for one, other in zip(found_gradients, gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)
    wide(5 * model.likelihood.n_numbers)
    found = model.likelihood.fisher_information(z[0, 0])
    torch.testing.assert_close(found, fisher, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("codes", [2 * N, N // 3], ids=["draws", "rows"])
def test_what_may_not_be_decoded_again_is_decoded_once(codes, wide, monkeypatch):
    """Dropout would differ, and statistics of a batch would be those of its parts."""
    model, calls = model_of(), []
    x = row_family("poisson").fit(X).rows(X).map(torch.as_tensor)
    z = torch.zeros(2, 5, N, 2, dtype=torch.float64)
    model.likelihood.decoder.register_forward_pre_hook(lambda *_: calls.append(1))
    monkeypatch.setattr(model.likelihood, "repeatable", False)
    wide(codes * model.likelihood.n_numbers)

    model.log_lik(x, z)
    assert len(calls) == 1
    with torch.no_grad():
        model.log_lik(x, z)
    assert len(calls) > 2


def test_chunks_of_the_calibration(wide, monkeypatch):
    """Fewer draws at once are as many draws."""
    model, seen = model_of(), []
    independent = LatentVariableModel.independent_codes

    def counted(self, n, generator):
        seen.append(n)
        return independent(self, n, generator)

    monkeypatch.setattr(LatentVariableModel, "independent_codes", counted)
    wide(8 * model.likelihood.n_numbers)
    bias, gap = training_bias(model, 20, 4, torch.Generator().manual_seed(0))

    assert seen == [8, 8, 4]
    assert np.isfinite([bias, gap]).all()


@pytest.mark.parametrize(
    "kind", [counts.IndependentPoisson, counts.IndependentNegativeBinomial]
)
def test_few_counts_of_wide_rows(kind, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    shape = 3, 5, counts.WIDE
    log_rate = torch.randn(shape, dtype=torch.float64, generator=generator) - 2
    log_rate[0, 0, :3] = 12.0
    log_rate.requires_grad_()
    log_size = torch.randn(shape[2:], dtype=torch.float64, generator=generator)
    given = [log_rate] if kind is counts.IndependentPoisson else [log_rate, log_size]
    x = torch.poisson(torch.full(shape[1:], 0.1, dtype=torch.float64), generator)
    x[0, 0] = 160_000.0

    def both():
        log_prob = kind(*given).log_prob(x)
        return log_prob, torch.autograd.grad(log_prob.sum(), log_rate)[0]

    found, expected = both(), kind(*given).entry_log_prob(x).sum(-1)
    monkeypatch.setattr(counts, "FEW", 0.0)
    usual = both()
    assert torch.equal(usual[0], expected)
    torch.testing.assert_close(found[0], usual[0], rtol=1e-12, atol=0)
    torch.testing.assert_close(found[1], usual[1], rtol=1e-12, atol=1e-14)


def test_fit_of_wide_rows(wide, monkeypatch):
    """In chunks everywhere; what is random differs, and M is held as before."""
    wide(64 * D)
    monkeypatch.setattr(blocks, "NUMBERS_AT_ONCE", 16 * D)
    mae = build(M=1.0, n_components=3).fit(sparse.csr_array(X))

    low, high = mae.mutual_info_interval_
    assert 0 <= low <= mae.mutual_info_ <= high
    assert np.isfinite(mae.score(sparse.csr_array(X)))
    assert mae.impute(sparse.csr_array(X), n_samples=2).shape == (2, N, D)
