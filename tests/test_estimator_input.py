"""What MutualAutoencoder says to bad input, and to the tables people try first."""

import re
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from scipy import sparse
from sklearn import datasets
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.utils._param_validation import InvalidParameterError

from sklearn_mae import MutualAutoencoder
from sklearn_mae.estimator import fitting, parts
from sklearn_mae.estimator.parts import resolve_device

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

rng = np.random.default_rng(0)
X = rng.normal(size=(30, 3))
BITS = (X > 0).astype(float)
TAKE_ROWS = (
    "transform",
    "reconstruct",
    "sample_posterior",
    "score_samples",
    "score",
    "log_likelihood",
    "rate",
    "distortion",
)


def put(value, X=X, column=1):
    X = np.array(X, dtype=object if isinstance(value, str) else None)
    X[3, column] = value
    return X


@pytest.fixture(scope="module")
def mae(small):
    return small().fit(X)


# --- values ---------------------------------------------------------------------------

BAD_TABLES = {
    "inf": (put(np.inf), "Input X contains infinity or a value too large for"),
    "text": (put("x"), "x"),
    "complex": (X + 1j, "Complex data not supported"),
    "vector": (X[0], "Expected 2D array, got 1D array instead"),
    "cube": (X[None], "Found array with dim 3"),
    "no rows": (X[:0], "Found array with 0 sample(s)"),
    "no columns": (X[:, :0], "0 feature(s) (shape=(30, 0)) while a minimum of 1"),
}


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli", "categorical"])
@pytest.mark.parametrize("what", BAD_TABLES)
def test_bad_tables_are_refused_by_fit(small, what, likelihood):
    table, message = BAD_TABLES[what]

    with pytest.raises((ValueError, TypeError), match=re.escape(message)):
        small(likelihood=likelihood).fit(table)


@pytest.mark.parametrize("method", TAKE_ROWS)
@pytest.mark.parametrize("what", BAD_TABLES)
def test_bad_tables_are_refused_by_every_method(mae, what, method):
    table, message = BAD_TABLES[what]
    if what == "no columns":
        message = "X has 0 features, but MutualAutoencoder is expecting 3 features"
        message = f"{message}|{re.escape(BAD_TABLES[what][1])}"
    else:
        message = re.escape(message)

    with pytest.raises((ValueError, TypeError), match=message):
        getattr(mae, method)(table)


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
def test_columns_of_a_frame_are_named(small, frame):
    table = {"age": X[:, 0], "pay": put(np.nan)[:, 1], "note": [0.0] * 30}

    table["pay"][4] = np.inf
    with pytest.raises(ValueError, match=r"infinity .* column\(s\) pay. Clip"):
        small().fit(frame(table))
    table["note"] = ["x"] * 30
    with pytest.raises(TypeError, match=r"'note'.*'x'"):
        small(likelihood="gaussian").fit(frame(table))


@pytest.mark.parametrize(
    ("likelihood", "column", "message"),
    [
        (
            "bernoulli",
            BITS[:, 0] * 2,
            r"X holds values outside \[0, 1\].*column\(s\) b",
        ),
        ("categorical", BITS[:, 0] - 1, r"Negative values in data: .*column\(s\) b"),
        ("categorical", BITS[:, 0] / 2, r"X holds values that are no categories.*\) b"),
        ("gaussian", BITS[:, 0] * 1e-200, r"standard deviation of column\(s\) b of X"),
    ],
)
def test_columns_that_the_likelihood_cannot_hold_are_named(
    small, likelihood, column, message
):
    table = pd.DataFrame({"a": BITS[:, 1], "b": column})

    with pytest.raises(ValueError, match=message):
        small(likelihood=likelihood).fit(table)


@pytest.mark.parametrize("likelihood", ["bernoulli", "categorical"])
@pytest.mark.parametrize("method", TAKE_ROWS)
def test_new_rows_that_the_likelihood_cannot_hold(small, likelihood, method):
    mae = small(likelihood=likelihood).fit(BITS)

    with pytest.raises(ValueError, match=r"column\(s\) 2, for example -3"):
        getattr(mae, method)(put(-3.0, BITS, 2))


def test_unseen_categories(small):
    table = pd.DataFrame({"a": [0, 1, 5] * 5, "b": [1, 2, 2] * 5})
    mae = small(likelihood="categorical").fit(table)

    message = r"not seen in fit. They count as missing: column a: 3, 9. Map them"
    with pytest.warns(UserWarning, match=message) as caught:
        found = mae.transform(pd.DataFrame({"a": [9, 3], "b": [1, 1]}))
    assert len(caught) == 1
    missing = mae.transform(pd.DataFrame({"a": [np.nan] * 2, "b": [1, 1]}))
    np.testing.assert_array_equal(found, missing)


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli", "categorical"])
def test_one_row(small, likelihood):
    with pytest.raises(ValueError, match=r"n_samples=1, one row.* Pass more rows"):
        small(likelihood=likelihood).fit(BITS[:1])


@pytest.mark.usefixtures("whole_fits")
@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli", "categorical"])
@pytest.mark.parametrize("encoder", ["gaussian", "resampling"])
@pytest.mark.parametrize("constraint", ["both", "paper"])
def test_two_rows_and_one_column(small, likelihood, encoder, constraint):
    mae = small(likelihood=likelihood, encoder=encoder, constraint=constraint)

    Z = mae.fit([[0], [1]]).transform([[0], [1], [1]])

    assert Z.shape == (3, 8)
    assert np.isfinite(Z).all()


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli", "categorical"])
def test_all_columns_constant(small, likelihood):
    with pytest.raises(ValueError, match="All 2 columns of X are constant: there is"):
        small(likelihood=likelihood).fit(np.ones((9, 2)))


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli", "categorical"])
def test_some_columns_constant(small, likelihood):
    table = np.insert(BITS, 1, 1.0, axis=1)

    mae = small(likelihood=likelihood).fit(table)

    assert (mae.reconstruct(table)[:, 1] == 1).all()


# --- shapes ---------------------------------------------------------------------------


@pytest.mark.parametrize("method", TAKE_ROWS)
def test_wrong_width(mae, method):
    message = "X has 2 features, but MutualAutoencoder is expecting 3 features as input"

    with pytest.raises(ValueError, match=message):
        getattr(mae, method)(X[:, :2])


def test_wrong_names_come_before_missing_values(small):
    frame = pd.DataFrame(X, columns=list("abc"))
    mae = small().fit(frame)

    with pytest.raises(ValueError, match="feature names should match those that were"):
        mae.transform(pd.DataFrame(frame, columns=list("abd")))  # d is all missing


@pytest.mark.parametrize(
    "call",
    [
        lambda mae, Z: mae.inverse_transform(Z),
        lambda mae, Z: mae.conditional_log_prob(X, Z),
        lambda mae, Z: mae.posterior_log_prob(X, Z),
    ],
    ids=["inverse_transform", "conditional_log_prob", "posterior_log_prob"],
)
@pytest.mark.parametrize(
    ("Z", "message"),
    [
        (np.ones((30, 3)), "Codes have 3 columns, but .* fitted with n_components=8"),
        (np.full((30, 8), np.nan), "Input Z contains NaN"),
        (np.ones(8), "Expected 2D array"),
        (sparse.csr_array(np.ones((30, 8))), "Sparse data was passed"),
    ],
    ids=["wide", "NaN", "vector", "sparse"],
)
def test_wrong_codes(mae, call, Z, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call(mae, Z)


@pytest.mark.parametrize("method", ["conditional_log_prob", "posterior_log_prob"])
def test_one_code_for_each_row(mae, method):
    with pytest.raises(
        ValueError, match=r"X has 30 rows and Z 4; pass one code for each"
    ):
        getattr(mae, method)(X, np.ones((4, 8)))


def test_encoder_information_needs_two_rows(mae):
    with pytest.raises(ValueError, match=r"n_samples=1: .* Pass at least 2 rows"):
        mae.encoder_mutual_info(X[:1])


def test_tables_to_interpolate_between_are_of_equal_length(mae):
    with pytest.raises(ValueError, match="X_a has 30 rows and X_b 4; interpolate goes"):
        mae.interpolate(X, X[:4])


@pytest.mark.parametrize(
    ("call", "name", "least"),
    [
        (lambda mae, n: mae.sample(n), "n_samples", 1),
        (lambda mae, n: mae.sample_posterior(X, n), "n_samples", 1),
        (lambda mae, n: mae.reconstruct(X, n), "n_samples", 1),
        (lambda mae, n: mae.interpolate(X, X, n), "n_steps", 2),
        (lambda mae, n: mae.log_likelihood(X, n), "n_importance", 1),
        (lambda mae, n: mae.mutual_info(n), "n_samples", 10),
    ],
    ids=["sample", "posterior", "reconstruct", "interpolate", "likelihood", "info"],
)
@pytest.mark.parametrize("wrong", [0, -1, 2.5, "3"])
def test_wrong_counts(mae, call, name, least, wrong):
    message = f"{name}={wrong!r} is not an integer of at least {least}"

    with pytest.raises(ValueError, match=re.escape(message)):
        call(mae, wrong)


@pytest.mark.parametrize("tol", [0, -0.1, "small", np.nan])
def test_wrong_tolerance(mae, tol):
    with pytest.raises(ValueError, match=f"tol={tol!r} is not a positive number of na"):
        mae.mutual_info(tol=tol)


@pytest.mark.parametrize(
    "call",
    [
        *[
            lambda mae, method=method: getattr(mae, method)(X)
            for method in (*TAKE_ROWS, "inverse_transform")
        ],
        lambda mae: mae.conditional_log_prob(X, X),
        lambda mae: mae.posterior_log_prob(X, X),
        lambda mae: mae.interpolate(X, X),
        lambda mae: mae.sample(),
        lambda mae: mae.mutual_info(),
        lambda mae: mae.get_feature_names_out(),
    ],
)
def test_not_fitted(call):
    with pytest.raises(NotFittedError, match="This MutualAutoencoder instance is not"):
        call(MutualAutoencoder())


# --- parameters -----------------------------------------------------------------------

WRONG_PARAMETERS = [
    ("M", -1.0),
    ("M", np.nan),
    ("M", np.inf),
    ("M", "three"),
    ("C", 0),
    ("C", -1.0),
    ("C", np.inf),
    ("n_components", 0),
    ("n_components", 2.5),
    ("encoder", "flow"),
    ("encoder", None),
    ("n_resamples", 0),
    ("likelihood", "normal"),
    ("constraint", "none"),
    ("constraint", None),
    ("mi_gradient", "pathwise"),
    ("codes", "mode"),
    ("hidden_layer_sizes", 16),
    ("activation", "swish"),
    ("min_scale", 0.0),
    ("max_epochs", 0),
    ("max_epochs", "all"),
    ("batch_size", 0),
    ("batch_size", 1.5),
    ("lr", 0.0),
    ("lr", np.inf),
    ("callbacks", "stop"),
    ("device", 0),
    ("warm_start", "yes"),
    ("verbose", -1),
    ("random_state", -1),
    ("random_state", "seed"),
]


@pytest.mark.parametrize(("name", "value"), WRONG_PARAMETERS)
def test_wrong_parameters(name, value):
    message = f"The '{name}' parameter of MutualAutoencoder must be"

    with pytest.raises(InvalidParameterError, match=message):
        MutualAutoencoder(**{name: value}).fit(X)


@pytest.mark.parametrize("sizes", ["16", (16, 0), (-3,), (2.5,), [[16]], (None,)])
def test_wrong_layers(small, sizes):
    if sizes == "16":
        message = "The 'hidden_layer_sizes' parameter of MutualAutoencoder must be"
    else:
        message = re.escape(f"hidden_layer_sizes={sizes!r} is not a sequence of positi")
    with pytest.raises(ValueError, match=message):
        small(hidden_layer_sizes=sizes).fit(X)


@pytest.mark.parametrize("sizes", [(), [16], (8, 8), np.array([8, 4])], ids=repr)
def test_layers(small, sizes):
    assert small(hidden_layer_sizes=sizes).fit(X).transform(X).shape == (30, 8)


@pytest.mark.parametrize("activation", ["silu", "relu", "tanh", "gelu"])
def test_activations(small, activation):
    assert np.isfinite(small(activation=activation).fit(X).score(X))


@pytest.mark.parametrize("device", ["nowhere", "cuda:999"])
def test_unknown_devices(small, device):
    message = f"device='{device}' is not available to torch here .*Available: .'cpu'"

    with pytest.raises(ValueError, match=message):
        small(device=device).fit(X)


def device_of(monkeypatch, cuda, n_parameters, batch_size="auto", device="auto"):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    mae = MutualAutoencoder(device=device, batch_size=batch_size)
    model = torch.nn.Linear(n_parameters, 1, bias=False)
    return resolve_device(mae, model, 10_000)


def test_auto_takes_a_gpu_where_a_step_is_large(monkeypatch):
    # batches of 128 rows
    assert device_of(monkeypatch, True, 80_000) == "cpu"
    assert device_of(monkeypatch, True, 800_000) == "cuda"
    assert device_of(monkeypatch, True, 80_000, batch_size=2_000) == "cuda"
    assert device_of(monkeypatch, False, 800_000) == "cpu"
    assert device_of(monkeypatch, True, 800_000, device="cpu") == "cpu"
    assert device_of(monkeypatch, False, 1, device="cuda:1") == "cuda:1"


def test_fit_says_which_device_auto_was(small, monkeypatch):
    tried = []

    def torch_device(name):
        tried.append(name)
        return torch.device("cpu")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(fitting, "torch_device", torch_device)
    mae = small(device="auto").fit(X)
    assert mae.net_.device == "cpu"
    assert mae.device == "auto"
    monkeypatch.setattr(parts, "GPU_PAYS", 1)
    mae.fit(X)

    assert tried == ["cpu", "cuda"]


@pytest.mark.usefixtures("whole_fits")
@pytest.mark.parametrize("likelihood", ["bernoulli", "categorical"])
def test_more_information_than_there_is(small, likelihood):
    mae = small(M=50.0, likelihood=likelihood)

    with pytest.warns(
        ConvergenceWarning, match="8 possible outcomes .* 2.08 nats: low"
    ):
        mae.fit(BITS)

    assert mae.mutual_info_ < np.log(8)


def test_parameters_are_checked_before_the_data():
    with pytest.raises(InvalidParameterError):
        MutualAutoencoder(M=-1).fit("no table")


# --- the first ten minutes ------------------------------------------------------------


def synthetic():
    factors = rng.normal(size=(500, 5))
    return factors @ rng.normal(size=(5, 50)) + rng.normal(size=(500, 50))


def with_id_and_constant():
    frame = datasets.load_wine(as_frame=True).data
    return frame.assign(id=np.arange(len(frame)) + 10**9, year=2024)


FIRST_TABLES = {
    "iris": lambda: datasets.load_iris().data,
    "wine": lambda: datasets.load_wine().data,
    "breast_cancer": lambda: datasets.load_breast_cancer().data,
    "digits": lambda: datasets.load_digits().data[:500],
    "synthetic": synthetic,
    "id and constant": with_id_and_constant,
    "booleans": lambda: datasets.load_iris().data > 2,
    "frame": lambda: datasets.load_iris(as_frame=True).data.astype("Float64"),
}


@pytest.mark.usefixtures("whole_fits")
@pytest.mark.parametrize("M", [3.0, None])
@pytest.mark.parametrize("name", FIRST_TABLES)
def test_first_tables(small, name, M):
    table = FIRST_TABLES[name]()

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        mae = small(M=M).fit(table)
        Z = mae.transform(table)
        figures = [
            mae.score(table),
            mae.log_likelihood(table).mean(),
            mae.rate(table).mean(),
            mae.mutual_info_,
            *mae.mutual_info_interval_,
        ]

    caught = [w for w in caught if "torch.jit" not in str(w.message)]
    assert [w.category for w in caught] == [ConvergenceWarning] * (M is not None)
    assert Z.shape == (len(table), 8)
    assert np.isfinite(Z).all()
    assert np.isfinite(figures).all()
    assert np.isfinite(np.asarray(mae.reconstruct(table), dtype=float)).all()


def test_a_frame_with_text_and_missing_values(small):
    frame = datasets.load_iris(as_frame=True).data
    frame.iloc[3, 1] = np.nan
    frame["species"] = datasets.load_iris().target_names[datasets.load_iris().target]
    mae = small().fit(frame)
    back = mae.reconstruct(frame)

    pd.testing.assert_series_equal(back.dtypes, frame.dtypes)
    pd.testing.assert_index_equal(back.index, frame.index)
    assert set(back["species"]) <= set(frame["species"])
    assert np.isfinite(mae.transform(frame)).all()
