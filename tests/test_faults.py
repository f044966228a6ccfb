"""Inputs that once ended in a silent wrong result or in another package's error.

Every method must be right, or refuse them by a message of the package's own.
"""

import datetime
import functools
import pickle
import re
import types
from collections import deque
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from numpy.testing import assert_array_equal
from skorch.callbacks import Callback
from torch import nn
from torch.distributions import Cauchy, Independent, LogNormal, Normal

from sklearn_mae import (
    MutualAutoencoder,
    SequenceVectorizer,
    information_path,
    information_report,
    information_scorer,
)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

rng = np.random.default_rng(0)
X = rng.normal(size=(40, 4))
Z = rng.normal(size=(40, 3))
BITS = (X > 0).astype(float)
ROWS = {
    "transform": lambda mae, X: mae.transform(X),
    "reconstruct": lambda mae, X: mae.reconstruct(X),
    "reconstruct, drawn": lambda mae, X: mae.reconstruct(X, 2, random_state=0),
    "interpolate": lambda mae, X: mae.interpolate(X, X, 3),
    "sample_posterior": lambda mae, X: mae.sample_posterior(X, random_state=0),
    "score_samples": lambda mae, X: mae.score_samples(X),
    "score": lambda mae, X: mae.score(X),
    "rate": lambda mae, X: mae.rate(X),
    "distortion": lambda mae, X: mae.distortion(X),
    "log_likelihood": lambda mae, X: mae.log_likelihood(X),
    "encoder_mutual_info": lambda mae, X: mae.encoder_mutual_info(X).estimate,
    "conditional_log_prob": lambda mae, X: mae.conditional_log_prob(X, Z[: len(X)]),
    "posterior_log_prob": lambda mae, X: mae.posterior_log_prob(X, Z[: len(X)]),
}
CODES = {
    "inverse_transform": lambda mae, Z: mae.inverse_transform(Z),
    "conditional_log_prob": lambda mae, Z: mae.conditional_log_prob(X, Z),
    "posterior_log_prob": lambda mae, Z: mae.posterior_log_prob(X, Z),
}
every_method_of_rows = pytest.mark.parametrize("method", ROWS.values(), ids=ROWS)
every_method_of_codes = pytest.mark.parametrize("method", CODES.values(), ids=CODES)


@pytest.fixture(scope="module")
def build(small):
    return lambda **params: small(**{"n_components": 3, **params})


@pytest.fixture(scope="module")
def mae(build):
    return build().fit(X)


def put(value, X=X, dtype=None):
    X = X.astype(object if dtype is None else dtype)
    X[3, 1] = value
    return X


def frame(column):
    return pd.DataFrame({"a": X[:3, 0], "b": column, "c": X[:3, 1]})


# --- containers -----------------------------------------------------------------------


def masked(X=X):
    mask = np.zeros(X.shape, bool)
    mask[3, 1] = True
    return np.ma.array(X, mask=mask)


OTHERS = r"Column '?{}'? of X holds .* argument must be a string, a boolean or a real"
DATES = rf"Column 'b' .* dates and durations are not modelled|{OTHERS.format('b')}"
NO_TABLE = "X is no table but .* of type {}.*Pass an array, a data frame or a list of"
DAYS = [datetime.date(2020, 1, day) for day in (1, 2, 3)]
REFUSED = {
    "two columns of a name": (
        pd.DataFrame(X, columns=list("abac")),
        "X has several columns of the same name: a. Rename or drop them",
    ),
    "two columns of a name, NaN": (
        pd.DataFrame(put(np.nan), columns=list("abab")),
        "X has several columns of the same name: a, b. Rename",
    ),
    "two columns of a number": (
        pd.DataFrame(X, columns=[0, 1, 0, 2]),
        "X has several columns of the same name: 0. Rename",
    ),
    "two arrow columns of a name": (
        pa.table([pa.array(column) for column in X.T], names=list("abbc")),
        "X has several columns of the same name: b. Rename",
    ),
    "dates with a zone": (frame(pd.date_range("2020", periods=3, tz="UTC")), DATES),
    "dates": (frame(pd.date_range("2020", periods=3)), DATES),
    "durations": (frame(pd.to_timedelta([1, 2, 3], unit="s")), DATES),
    "periods": (frame(pd.period_range("2020", periods=3, freq="M")), DATES),
    "python dates": (frame(DAYS), DATES),
    "python times": (frame([datetime.time(1), datetime.time(2), None]), DATES),
    "python durations": (
        frame(pd.Series([datetime.timedelta(1)] * 3, dtype=object)),
        DATES,
    ),
    "polars dates": (pl.DataFrame({"a": [1.0, 2, 3], "b": DAYS}), DATES),
    "python dates in an array": (
        put(DAYS[0]),
        OTHERS.format("1"),
    ),
    "intervals": (frame(pd.interval_range(0, 3)), OTHERS.format("b")),
    "polars lists": (
        pl.DataFrame({"a": [1.0, 2.0], "b": [[1], [2, 3]]}),
        OTHERS.format("b"),
    ),
    "polars arrays": (
        pl.DataFrame({"b": [[1, 2], [3, 4]]}, schema={"b": pl.Array(pl.Int64, 2)}),
        OTHERS.format("b"),
    ),
    "polars LazyFrame": (
        pl.DataFrame(X).lazy(),
        r"of type LazyFrame, whose rows are not computed yet: call its collect\(\)",
    ),
    "sparse tensor": (
        torch.tensor(X).to_sparse(),
        r"Sparse data was passed for X, a tensor .* Use X.to_dense\(\)",
    ),
    "compressed sparse tensor": (
        torch.tensor(X).to_sparse_csr(),
        "Sparse data was passed for X, a tensor of layout torch.sparse_csr",
    ),
    "tensor without values": (
        torch.empty(40, 4, device="meta"),
        "X is a tensor on the device 'meta', which holds no values",
    ),
    "complex tensor": (torch.tensor(X + 1j), "Complex data not supported"),
    "conjugate tensor": (torch.tensor(X + 1j).conj(), "Complex data not supported"),
    "generator": (
        (row for row in X),
        NO_TABLE.format("generator, which can be read once only: make a list of it"),
    ),
    "iterator": (iter(X.tolist()), NO_TABLE.format("list_iterator")),
    "zip": (zip(X[0], X[1], strict=True), NO_TABLE.format("zip")),
    "dict": (
        {"a": [1.0, 2.0]},
        NO_TABLE.format(
            "dict: make columns of its entries, for example by pandas.Data"
        ),
    ),
    "set": ({1.0, 2.0}, NO_TABLE.format("set")),
    "None": (None, NO_TABLE.format("NoneType")),
    "object": (object(), NO_TABLE.format("object")),
    "namespace": (types.SimpleNamespace(a=1), NO_TABLE.format("SimpleNamespace")),
    "function": (lambda: X, NO_TABLE.format("function")),
    "None in an array": (np.array(None), NO_TABLE.format("NoneType")),
    "ragged lists": (
        [[1.0, 2.0], [3.0]],
        "The rows of X are not of one length: row 0 has 2 entries and row 1 has 1",
    ),
    "ragged arrays": (
        [np.ones(2), np.ones(2), np.ones(3)],
        "rows of X are not of one length: row 0 has 2 entries and row 2 has 3 entries",
    ),
    "ragged rows in an array": (
        np.array([[1.0, 2.0], [3.0]], dtype=object),
        "The rows of X are not of one length",
    ),
    "number among rows": (
        [[1.0, 2.0], 3.0],
        "are not of one length: row 0 has 2 entries and row 1 is 3.0",
    ),
    "ragged cells": (
        [[1.0, [2.0]], [3.0, 4.0]],
        r"column\(s\) 1 of X hold what is neither, such as \[2.0\] of type list",
    ),
    "list of dicts": ([{"a": 1.0}], r"Row 0 of X is \{'a': 1.0\} of type dict, and no"),
    "list of sets": (
        [{1.0}, {2.0}],
        "Row 0 of X is {1.0} of type set, and no sequence",
    ),
    "list of None": ([None, None], "Row 0 of X is None of type NoneType, and no seq"),
    "list of objects": ([object()], "Row 0 of X is .* of type object, and no sequence"),
    "structured array": (
        np.ones(4, dtype=[("a", float), ("b", float)]),
        "X is no table but .*with the fields a, b: make columns .*structured_to_unstr",
    ),
    "masked structured array": (
        np.ma.array(np.ones(4, dtype=[("a", float), ("b", float)])),
        "with the fields a, b: make columns of them",
    ),
    "records": (np.rec.array([(1.0, 2.0)], names="a,b"), "with the fields a, b: make"),
    "bytes as cells": (
        np.zeros((4, 2), "V3"),
        r"column\(s\) 0, 1 of X hold what is neither, such as .* of type void",
    ),
    "dict as cell": (
        put({"foo": "bar"}),
        r"Column 1 of X holds \{'foo': 'bar'\} of type dict; argument must be a string",
    ),
    "list as cell": (put([1.0, 2.0]), OTHERS.format("1")),
    "complex number as cell": (
        put(1j),
        r"Column 1 of X holds 1j of type complex; argument must be a string",
    ),
    "object as cell": (put(object()), OTHERS.format("1")),
    "huge integer": (put(10**400), r"contains infinity or a value too large .*s\) 1\."),
    "huge integer in lists": (
        [[1, 10**400], [2, 3]],
        r"Input X contains infinity or a value too large .*column\(s\) 1\.",
    ),
    "huge long double": (
        put(np.longdouble("1e400"), dtype=np.longdouble),
        r"Input X contains infinity or a value too large .*column\(s\) 1\.",
    ),
    "huge decimal": (put(Decimal("1e400")), r"infinity or a value too large .*\) 1\."),
}
every_refused = pytest.mark.parametrize(
    ("table", "message"), REFUSED.values(), ids=REFUSED
)


@every_refused
def test_tables_that_fit_refuses(build, table, message):
    with pytest.raises((TypeError, ValueError), match=message):
        build().fit(table)


@pytest.mark.parametrize("name", ["dict", "huge integer", "ragged lists"])
@every_method_of_rows
def test_tables_that_every_method_refuses(mae, method, name):
    table, message = REFUSED[name]
    if name == "ragged lists":
        table = [[1.0, 2.0, 3.0, 4.0], [3.0]]
        message = "rows of X are not of one length: row 0 has 4 entries"

    with pytest.raises((TypeError, ValueError), match=message):
        method(mae, table)


MISSING = {
    "masked array": masked(),
    "masked objects": masked(X.astype(object)),
    "list of masked rows": list(masked()),
    "None": put(None),
    "pandas.NA": put(pd.NA),
    "signalling NaN": put(Decimal("sNaN")),
    "arrow null": pa.table(
        [
            pa.array([None if x is pd.NA else x for x in column])
            for column in put(pd.NA).T
        ],
        names=list("abcd"),
    ),
    "polars null": pl.DataFrame(put(None).tolist(), schema=list("abcd"), orient="row"),
}


@pytest.mark.parametrize("table", MISSING.values(), ids=MISSING)
def test_missing_entries_of_every_kind_mean_the_same(build, table):
    holes = put(np.nan, dtype=np.float64)

    assert_array_equal(
        build().fit(table).transform(table), build().fit(holes).transform(holes)
    )


def test_new_columns_of_one_name(build):
    mae = build().fit(pd.DataFrame(X, columns=list("abcd")))

    with pytest.raises(ValueError, match="X has several columns of the same name: a"):
        mae.transform(pd.DataFrame(X, columns=list("abca")))


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (masked(Z), "Input Z contains NaN"),
        (object(), "Z is no table but <object"),
        ({"a": 1}, "Z is no table but .*of type dict"),
        ([[1.0, 2.0, 3.0], [1.0]], "The rows of Z are not of one length"),
        (torch.tensor(Z).to_sparse(), "Sparse data was passed for Z"),
        (torch.empty(40, 3, device="meta"), "Z is a tensor on the device 'meta'"),
    ],
    ids=["masked", "object", "dict", "ragged", "sparse", "meta"],
)
@every_method_of_codes
def test_codes_that_every_method_refuses(mae, method, codes, message):
    with pytest.raises((TypeError, ValueError), match=message):
        method(mae, codes)


TABLES = {
    "masked array without a mask": np.ma.array(X),
    "masked array that masks nothing": np.ma.array(X, mask=np.zeros(X.shape, bool)),
    "objects": X.astype(object),
    "decimals": np.array([[Decimal(x) for x in row] for row in X.tolist()]),
    "list of tensors": list(torch.tensor(X)),
    "list of tensors with gradients": list(torch.tensor(X, requires_grad=True)),
    "tensor with gradients": torch.tensor(X, requires_grad=True),
    "parameter": nn.Parameter(torch.tensor(X)),
    "negative view": torch._neg_view(torch.tensor(-X)),
    "imaginary part": torch.tensor(1j * X).conj().imag.neg(),
    "deque": deque(X.tolist()),
    "arrow table": pa.table([pa.array(column) for column in X.T], names=list("abcd")),
    "polars": pl.DataFrame(X),
    "read-only": np.broadcast_to(X, X.shape),
}


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_tables_of_every_kind_mean_the_same(build, mae, table):
    expected = mae.transform(X)

    assert_array_equal(build().fit(table).transform(table), expected)


@pytest.mark.parametrize(
    "dtype",
    [torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.int8, torch.bool],
)
def test_tensors_of_every_type(build, dtype):
    table = torch.tensor(X.clip(0)).to(dtype)
    if dtype == torch.bool:  # categories
        values = table.numpy()
    else:
        kind = torch.float32 if dtype.is_floating_point else torch.float64
        values = table.to(kind).numpy()

    assert_array_equal(
        build().fit(table).transform(table), build().fit(values).transform(values)
    )


def test_quantized_tensors(mae):
    table = torch.quantize_per_tensor(torch.tensor(X).float(), 0.1, 0, torch.qint8)

    assert_array_equal(mae.transform(table), mae.transform(table.dequantize().numpy()))


# --- values ---------------------------------------------------------------------------


@pytest.mark.parametrize("value", [1e101, 1e154, -1e200, 1e300, 1.7e308])
@every_method_of_rows
def test_values_whose_figures_leave_float64(mae, method, value):
    message = rf"X holds {re.escape(repr(value))} in row 3, column\(s\) 1, more than"

    with pytest.raises(ValueError, match=message):
        method(mae, put(value, dtype=float))


@pytest.mark.parametrize("params", [{}, {"encoder": "gaussian"}, {"codes": "sample"}])
@pytest.mark.parametrize("likelihood", ["gaussian", "heteroscedastic"])
@pytest.mark.parametrize("value", [1e20, -1e99])
def test_values_far_from_those_of_fit(build, likelihood, params, value):
    mae = build(likelihood=likelihood, **params).fit(X)
    table = put(value, dtype=float)
    others = np.arange(len(X)) != 3

    for name, method in ROWS.items():
        figures = method(mae, table)
        assert np.isfinite(figures).all()
        if name in ("transform", "score_samples", "rate", "log_likelihood"):
            assert_array_equal(figures[others], method(mae, X)[others])


@pytest.mark.parametrize("likelihood", ["bernoulli", "categorical"])
def test_values_that_no_category_has(build, likelihood):
    mae = build(likelihood=likelihood).fit(BITS)

    with pytest.raises(ValueError, match=r"column\(s\) 1, for example 1e\+300"):
        mae.transform(put(1e300, BITS, float))


def test_results_that_do_not_fit_the_type_of_the_rows(build):
    mae = build().fit(1e-30 * X)
    table = put(1e30, 1e-30 * X, np.float32)

    assert np.isfinite(mae.transform(table.astype(float))).all()
    with pytest.raises(ValueError, match="Results of row 3 leave the range of float32"):
        mae.transform(table)


@pytest.mark.parametrize("value", [1e101, -1e300])
@every_method_of_codes
def test_codes_whose_figures_leave_float64(mae, method, value):
    codes = put(value, Z, float)
    message = rf"Z holds {re.escape(repr(value))} in row 3, column 1\. Codes are about"

    with pytest.raises(ValueError, match=message):
        method(mae, codes)


@every_method_of_codes
def test_codes_far_from_the_prior(mae, method):
    assert np.isfinite(method(mae, put(1e99, Z, float))).all()


@pytest.mark.usefixtures("whole_fits")
def test_decoded_values_that_leave_float64(build):
    mae = build(likelihood=lambda D, d: Noisy(D, d, kind=LogNormal)).fit(np.exp(X))

    for codes in (1e4 * Z, -1e4 * Z):
        with pytest.raises(ValueError, match=r"Results of row 0 leave the range of fl"):
            mae.inverse_transform(codes)


def test_what_a_likelihood_does_not_take_is_shown_in_full(build):
    message = r"outside \[0, 1\].* column\(s\) 1, for example 1\.0000001\. Scale"

    with pytest.raises(ValueError, match=message):
        build(likelihood="bernoulli").fit(put(1.0000001, BITS, float))
    with pytest.raises(ValueError, match="for example -1e-09"):
        build(likelihood="bernoulli").fit(put(-1e-9, BITS, float))


@pytest.mark.parametrize("code", [2**53, 2**53 + 1, 2**60, 1e300])
def test_categories_that_float64_does_not_tell_apart(build, code):
    message = r"below 2\*\*53, for float64 to tell them apart: column\(s\) 1, for exa"
    table = put(code, BITS, float if isinstance(code, float) else np.int64)

    with pytest.raises(ValueError, match=message):
        build(likelihood="categorical").fit(table)
    with pytest.raises(ValueError, match=message):
        build(likelihood="categorical").fit(BITS).transform(table)


@pytest.mark.usefixtures("whole_fits")
def test_large_categories(build):
    table = np.where(BITS > 0, 2**53 - 1, 2**53 - 2)

    back = build(likelihood="categorical").fit(table).reconstruct(table)

    assert {int(value) for value in np.unique(back)} <= {2**53 - 1, 2**53 - 2}


# --- numbers as parameters and arguments ----------------------------------------------

COUNTS = {
    "n_components": 3,
    "n_resamples": 3,
    "max_epochs": 2,
    "batch_size": 20,
    "M": 2,
    "C": 5,
    "lr": 1,
    "min_scale": 1,
}


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint8])
@pytest.mark.parametrize("name", COUNTS)
def test_integers_of_numpy_are_integers(build, kind, name):
    value = COUNTS[name]
    extra = {"lr": 1e-3, "n_resamples": 2} | {name: value}
    expected = build(**extra).fit(X)

    found = build(**extra | {name: kind(value)}).fit(X)

    assert type(found.get_params()[name]) is kind
    for method in ("transform", "log_likelihood", "rate"):
        assert_array_equal(getattr(found, method)(X), getattr(expected, method)(X))
    assert_array_equal(found.sample(3, random_state=0), expected.sample(3, 0))
    assert found.mutual_info_ == expected.mutual_info_


@pytest.mark.parametrize("name", ["batch_size", "n_resamples"])
def test_small_integers_of_numpy_do_not_overflow(build, name):
    # 128 + 128 is 0 there
    params = {"max_epochs": 3, name: 128}
    table = np.tile(X[:, :2], (8, 1)) if name == "batch_size" else X[:, :2]
    expected = build(**params).fit(table)

    found = build(**{name: np.uint8(value) for name, value in params.items()}).fit(
        table
    )

    assert_array_equal(found.transform(table), expected.transform(table))
    assert found.n_iter_ == 3


@pytest.mark.parametrize(
    "value", [Fraction(1, 2), np.float32(0.5), np.float16(0.5), np.longdouble(0.5)]
)
@pytest.mark.parametrize("name", ["M", "C", "lr", "min_scale"])
def test_real_numbers_of_every_type(build, name, value):
    found = build(**{name: value}).fit(X)

    assert found.get_params()[name] is value
    assert_array_equal(found.transform(X), build(**{name: 0.5}).fit(X).transform(X))


NO_NUMBERS = [
    True,
    np.bool_(True),
    np.array(1),
    torch.tensor(1),
    Decimal(1),
    "1",
    10**400,
]


@pytest.mark.parametrize("value", NO_NUMBERS, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("name", COUNTS)
def test_what_is_no_number_is_refused_by_name(build, name, value):
    with pytest.raises(ValueError, match=f"The '{name}' parameter of MutualAutoenc"):
        build(**{name: value}).fit(X)


@pytest.mark.parametrize("sizes", [(True,), (np.bool_(True), 8), [8, 10.5], (np.inf,)])
def test_what_is_no_size_is_refused_by_name(build, sizes):
    with pytest.raises(ValueError, match=r"hidden_layer_sizes=.* is not a sequence of"):
        build(hidden_layer_sizes=sizes).fit(X)


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint8])
def test_sizes_of_numpy(build, kind):
    found = build(hidden_layer_sizes=(kind(200), kind(100))).fit(X)

    expected = build(hidden_layer_sizes=(200, 100)).fit(X)
    assert_array_equal(found.transform(X), expected.transform(X))


@pytest.mark.parametrize("name", ["warm_start", "verbose"])
@pytest.mark.parametrize("value", [True, np.bool_(True)])
def test_parameters_that_are_booleans(build, name, value):
    assert build(**{name: value}).fit(X).fit(X).n_iter_ == 3 * (1 + (name != "verbose"))


ARGUMENTS = {
    "sample": ("n_samples", lambda mae, n: mae.sample(n, random_state=0)),
    "sample_posterior": (
        "n_samples",
        lambda mae, n: mae.sample_posterior(X, n, random_state=0),
    ),
    "reconstruct": ("n_samples", lambda mae, n: mae.reconstruct(X, n, random_state=0)),
    "interpolate": ("n_steps", lambda mae, n: mae.interpolate(X, X, n)),
    "log_likelihood": ("n_importance", lambda mae, n: mae.log_likelihood(X, n)),
    "mutual_info": ("n_samples", lambda mae, n: mae.mutual_info(n).estimate),
    "tol": ("tol", lambda mae, tol: mae.mutual_info(50, tol=tol).estimate),
}
every_argument = pytest.mark.parametrize(
    ("name", "call"), ARGUMENTS.values(), ids=ARGUMENTS
)


@every_argument
@pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint8])
def test_integers_of_numpy_are_integers_for_methods(mae, name, call, kind):
    assert_array_equal(call(mae, kind(130)), call(mae, 130))


@every_argument
@pytest.mark.parametrize("value", [True, np.bool_(True), Decimal(20), np.array(20)])
def test_what_is_no_number_is_refused_by_methods(mae, name, call, value):
    with pytest.raises(ValueError, match=re.escape(f"{name}={value!r} is no")):
        call(mae, value)


@pytest.mark.parametrize("call", [ARGUMENTS[key] for key in ARGUMENTS if key != "tol"])
def test_counts_that_no_memory_holds(mae, call):
    name, call = call

    with pytest.raises(ValueError, match=f"{name}={10**30} is more than any memory"):
        call(mae, 10**30)


@pytest.mark.parametrize("tol", [np.float32(0.5), Fraction(1, 2)])
def test_tolerances(mae, tol):
    assert mae.mutual_info(50, tol=tol) == mae.mutual_info(50, tol=0.5)


# --- sizes ----------------------------------------------------------------------------

# more bytes than a process has addresses for: 2**40 numbers for each of 64
HUGE = 2**40


def test_networks_that_no_memory_holds(build):
    mae = build(n_components=64).fit(X)
    before = mae.transform(X)

    message = (
        r"no memory for .* n_components=64, .*hidden_layer_sizes=\(1099511627776,\)"
    )
    with pytest.raises(MemoryError, match=message):
        mae.set_params(hidden_layer_sizes=(HUGE,)).fit(X)
    np.testing.assert_array_equal(mae.transform(X), before)


def test_draws_that_no_memory_holds(build):
    mae = build(n_components=64).fit(X)

    with pytest.raises(MemoryError, match="Lower them, the number of draws asked for"):
        mae.sample(HUGE)


def test_other_errors_of_a_module_are_not_taken_for_those_of_memory(build):
    def encoder(n_features, n_components):
        raise RuntimeError("my own")

    with pytest.raises(ValueError, match=r"failed when called .* RuntimeError: my own"):
        build(encoder=encoder).fit(X)


@pytest.mark.parametrize(
    "params",
    [
        {"n_components": 10**4},
        {"n_components": 2, "n_resamples": 10_601},
        {"n_components": 21_202, "encoder": "gaussian"},
    ],
)
def test_codes_beyond_all_quasi_random_draws(build, params):
    message = rf"n_components={params['n_components']} times .* have 21201 dimensions"

    with pytest.raises(ValueError, match=message):
        build(**params).fit(X)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_components", 10**30),
        ("n_resamples", 10**30),
        ("hidden_layer_sizes", (8, 10**30)),
    ],
)
def test_sizes_beyond_all_memory(build, name, value):
    with pytest.raises(ValueError, match=f"^{name}.*={10**30} is more than any memory"):
        build(**{name: value}).fit(X)


# --- parameters that are set after a fit ----------------------------------------------

# what fit would refuse
WRONG = {
    "M": "three",
    "C": -1,
    "n_components": 0,
    "encoder": "foo",
    "n_resamples": 0,
    "likelihood": "foo",
    "constraint": "foo",
    "mi_gradient": "foo",
    "hidden_layer_sizes": 3,
    "activation": "foo",
    "min_scale": 2,
    "max_epochs": 0,
    "batch_size": 0,
    "lr": -1,
    "callbacks": "foo",
    "device": "nowhere",
    "warm_start": "yes",
    "verbose": "foo",
    "random_state": "foo",
}


@pytest.mark.parametrize("name", WRONG)
def test_methods_read_the_fit_and_no_parameter(build, name):
    mae = build().fit(X)
    expected = [mae.transform(X), mae.rate(X), mae.mutual_info(20).estimate]
    names = mae.get_feature_names_out()

    mae.set_params(**{name: WRONG[name]})

    found = [mae.transform(X), mae.rate(X), mae.mutual_info(20).estimate]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    assert_array_equal(mae.get_feature_names_out(), names)
    with pytest.raises((ValueError, TypeError), match=name):
        mae.fit(X)


@pytest.mark.parametrize("wrong", ["foo", None, 1, ["mean"]])
def test_the_codes_asked_for_are_checked(build, wrong):
    mae = build().fit(X).set_params(codes=wrong)

    message = "The 'codes' parameter of MutualAutoencoder must be a str among"
    with pytest.raises(ValueError, match=message):
        mae.transform(X)
    assert mae.reconstruct(X).shape == X.shape


@pytest.mark.parametrize("use", [information_scorer, information_report])
@pytest.mark.parametrize("wrong", ["three", -1.0, True])
def test_the_target_that_figures_are_compared_with_is_checked(build, use, wrong):
    mae = build().fit(X).set_params(M=wrong)

    with pytest.raises(ValueError, match="The 'M' parameter of MutualAutoencoder must"):
        use(mae, X)


@pytest.mark.parametrize(
    "seed", [np.bool_(True), 1.5, "1", -1, np.random.default_rng(0)]
)
def test_sources_of_random_numbers(mae, seed):
    with pytest.raises(ValueError, match=r"random_state=.* is no source of random num"):
        mae.sample(random_state=seed)


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint8])
def test_seeds_of_numpy(build, mae, kind):
    assert_array_equal(
        build(random_state=kind(0)).fit(X).transform(X), mae.transform(X)
    )
    assert_array_equal(mae.sample(random_state=kind(7)), mae.sample(random_state=7))


def test_targets_of_a_path(build):
    Ms = [np.uint8(1), Fraction(1, 2), np.float32(2.0)]

    path = information_path(build(max_epochs=np.int32(3)), X, Ms)

    assert path.M.tolist() == [0.5, 1.0, 2.0]
    for wrong in (True, np.bool_(True), Decimal(1), 10**400):
        with pytest.raises(ValueError, match=r"Ms holds .*targets are numbers of nats"):
            information_path(build(), X, [1.0, wrong])


@pytest.mark.parametrize("value", [1e30, 1.5])
def test_floors_above_the_columns_spread(build, value):
    message = r"The 'min_scale' parameter .* range \(0.0, 1.0\]. Got"

    with pytest.raises(ValueError, match=message):
        build(min_scale=value).fit(X)


@pytest.mark.usefixtures("whole_fits")
@pytest.mark.parametrize("value", [1, 1e-30, 5e-324])
def test_floors(build, value):
    mae = build(min_scale=value).fit(X)

    assert np.isfinite([mae.mutual_info_, mae.score(X)]).all()


# --- callables ------------------------------------------------------------------------


class Noisy(nn.Module):
    """A likelihood that gives NaN where it is told to."""

    def __init__(self, D, d, where=lambda z: z > np.inf, kind=Normal):
        super().__init__()
        self.linear, self.where, self.kind = nn.Linear(d, D), where, kind

    def forward(self, z):
        nan = torch.where(self.where(z).any(-1, keepdim=True), torch.nan, 1.0)
        return Independent(
            self.kind(self.linear(z) * nan, torch.ones(()), validate_args=False), 1
        )


def turned(D, d):
    return Noisy(d, D)


@pytest.mark.parametrize("name", ["encoder", "likelihood"])
@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (lambda: None, r"is called as .*\(4, 3\), which it does not take: too many"),
        (lambda n: None, r"does not take: too many .*\(n_features, n_components\) ->"),
        (lambda a, b, c: None, "which it does not take: missing a required argument"),
        (lambda *, n_features, n_components: None, "which it does not take: too many"),
        (lambda n, d: nn.Linear(n, "d"), r"failed when called as .*\(4, 3\): TypeErr"),
        (lambda n, d: [][0], r"failed when called as .*IndexError: list index"),
        (lambda n, d: None, "returned NoneType; it must return an nn.Module"),
    ],
)
def test_factories(build, name, factory, message):
    with pytest.raises((TypeError, ValueError), match=f"{name}=?.*{message}"):
        build(**{name: factory}).fit(X)


def test_a_likelihood_that_gives_NaN(build):
    factory = lambda D, d: Noisy(D, d, lambda z: z > -np.inf)

    with pytest.raises(ValueError, match=r"Distribution of the likelihood.* gives NaN"):
        build(likelihood=factory).fit(X)


@pytest.mark.usefixtures("whole_fits")
def test_a_likelihood_that_gives_NaN_far_out(build):
    mae = build(likelihood=lambda D, d: Noisy(D, d, lambda z: z > 100)).fit(X)
    codes = put(101.0, Z, float)

    for method in (CODES["inverse_transform"], CODES["conditional_log_prob"]):
        assert np.isfinite(method(mae, Z)).all()
        with pytest.raises(ValueError, match="Figures of row 3 are not a number"):
            method(mae, codes)


@pytest.mark.usefixtures("whole_fits")
def test_a_likelihood_without_a_mean(build):
    mae = build(likelihood=lambda D, d: Noisy(D, d, kind=Cauchy)).fit(X)

    assert np.isfinite(mae.conditional_log_prob(X, Z)).all()
    with pytest.raises(ValueError, match="Figures of row 0 are not a number"):
        mae.inverse_transform(Z)


# --- what training and callbacks may leave --------------------------------------------


class Break(Callback):
    def on_train_end(self, net, **kwargs):
        with torch.no_grad():
            next(net.module_.likelihood.parameters()).fill_(torch.nan)


@pytest.mark.usefixtures("whole_fits")
@pytest.mark.parametrize("M", [None, 3.0])
def test_a_callback_that_breaks_the_model(build, M):
    mae = build(M=M).fit(X)
    before = mae.transform(X)

    with pytest.raises(
        ValueError, match=r"Training diverged by its end .*is not finite"
    ):
        mae.set_params(callbacks=[Break()]).fit(X)

    assert_array_equal(mae.transform(X), before)


class BreakAtOnce(Break):
    def on_grad_computed(self, net, **kwargs):
        self.on_train_end(net)


def test_a_user_s_module_that_breaks_within_an_epoch(build):
    """torch's Distributions refuse NaN; what fit says is what to do."""

    class Validated(nn.Linear):
        def forward(self, z):
            loc = super().forward(z)
            return Normal(loc, torch.ones_like(loc))

    likelihood = lambda n_features, n_components: Validated(n_components, n_features)
    mae = build(likelihood=likelihood, batch_size=8, callbacks=[BreakAtOnce()])

    with pytest.raises(ValueError, match=r"Training diverged in epoch 1 \(likelihood"):
        mae.fit(X)


@pytest.mark.usefixtures("whole_fits")
@pytest.mark.parametrize("warm_start", [False, True])
@pytest.mark.parametrize("lr", [100.0, 1e3, 1e6])
@pytest.mark.parametrize("M", [None, 3.0])
def test_rates_that_are_too_high(build, M, lr, warm_start):
    mae = build(M=M, warm_start=warm_start).fit(X)
    before = mae.transform(X)

    problem = None
    try:
        mae.set_params(lr=lr, max_epochs=1).fit(X)
    except ValueError as error:
        problem = str(error)
    if problem is not None:
        assert re.search("raining diverged.* smaller lr", problem)
        assert_array_equal(mae.transform(X), before)
    for method in ROWS.values():
        assert np.isfinite(method(mae, X)).all()
    assert np.isfinite(mae.inverse_transform(mae.transform(X))).all()
    assert not np.isnan(mae.mutual_info_)


# --- torch as the user has set it -----------------------------------------------------


class Setting:
    """Set something of torch for a block."""

    def __init__(self, before, set_, value):
        self.before, self.set, self.value = before, set_, value

    def __enter__(self):
        self.old = self.before()
        self.set(self.value)

    def __exit__(self, *args):
        still = self.before()
        self.set(self.old)
        assert still == self.value, "left as it was found"


def default_dtype(dtype):
    return Setting(torch.get_default_dtype, torch.set_default_dtype, dtype)


def default_device(name):
    device = torch.device(name)
    set_ = lambda d: torch.set_default_device(None if d.type == "cpu" else d)
    return Setting(torch.get_default_device, set_, device)


SETTINGS = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "half": lambda: default_dtype(torch.float16),
    "bfloat16": lambda: default_dtype(torch.bfloat16),
    "float64": lambda: default_dtype(torch.float64),
    "meta": lambda: default_device("meta"),
    "cuda": lambda: default_device("cuda:0"),
    "device context": lambda: torch.device("meta"),
    "numpy raises": lambda: np.errstate(all="raise"),
}
every_setting = pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
KINDS = {
    "gaussian": ({}, X),
    "gaussian encoder": ({"encoder": "gaussian", "codes": "sample"}, X),
    "one component": ({"n_components": 1}, X),
    "bernoulli": ({"likelihood": "bernoulli"}, BITS),
    "categorical": ({"likelihood": "categorical"}, BITS),
    "one category": (
        {"likelihood": "categorical", "M": 0.5, "n_components": 1},
        BITS[:, :1],
    ),
    "paper": ({"constraint": "paper"}, X),
    "callables": (
        {"likelihood": Noisy, "encoder": turned},
        X,
    ),
    "sequence": (
        {"likelihood": "sequence", "hidden_layer_sizes": (8, 8), "n_components": 2},
        np.array([[3, 4, 2, 0], [4, 3, 3, 2], [3, 2, 0, 0], [4, 4, 2, 0]] * 5),
    ),
}


def figures_of(mae, X):
    codes = mae.transform(X)
    yield codes
    for name in ROWS:
        if name == "encoder_mutual_info" or name.endswith("log_prob"):
            continue
        yield ROWS[name](mae, X)
    yield mae.encoder_mutual_info(X).estimate
    yield mae.conditional_log_prob(X, codes)
    yield mae.posterior_log_prob(X, codes)
    yield mae.inverse_transform(codes)
    yield mae.sample(3, random_state=0)
    yield mae.mutual_info_
    yield mae.mutual_info(20).estimate


@pytest.fixture(scope="module")
def plain(build):
    @functools.cache
    def fitted(kind):
        params, X = KINDS[kind]
        mae = build(**params).fit(X)
        return mae, list(figures_of(mae, X))

    return fitted


@pytest.mark.usefixtures("whole_fits")
@pytest.mark.parametrize(
    ("kind", "setting"),
    [("gaussian", setting) for setting in SETTINGS]
    + [(kind, "half") for kind in KINDS if kind != "gaussian"]
    + [("callables", "float64"), ("callables", "meta"), ("sequence", "inference_mode")]
    + [("one component", "inference_mode"), ("categorical", "meta")],
)
def test_settings_of_torch_change_nothing(build, plain, kind, setting):
    params, X = KINDS[kind]
    expected = plain(kind)[1]

    with SETTINGS[setting]():
        mae = build(**params).fit(X)
        within = list(figures_of(mae, X))
    outside = list(figures_of(mae, X))

    for one, other, each in zip(expected, within, outside, strict=True):
        assert_array_equal(one, other)
        assert_array_equal(one, each)


@pytest.mark.usefixtures("whole_fits")
@every_setting
def test_methods_of_a_model_fitted_elsewhere(plain, setting):
    mae, expected = plain("gaussian")

    with setting():
        found = list(figures_of(mae, X))

    for one, other in zip(expected, found, strict=True):
        assert_array_equal(one, other)


@pytest.mark.usefixtures("whole_fits")
@every_setting
@pytest.mark.parametrize("kind", ["gaussian", "callables"])
def test_saving_under_settings_of_torch(plain, kind, setting):
    mae, expected = plain(kind)
    rows = KINDS[kind][1]

    with setting():
        within = pickle.loads(pickle.dumps(mae))
    loaded = pickle.loads(pickle.dumps(mae))
    with setting():
        other = pickle.loads(pickle.dumps(within))

    for twin in (within, loaded, other):
        assert_array_equal(twin.transform(rows), expected[0])


@pytest.fixture(scope="module")
def gone_on(build):
    return build(warm_start=True).fit(X).fit(X).transform(X)


@every_setting
def test_warm_starts_under_settings_of_torch(build, gone_on, setting):

    with setting():
        mae = build(warm_start=True).fit(X)
    with setting():
        mae.fit(X)

    assert_array_equal(mae.transform(X), gone_on)


# --- texts ----------------------------------------------------------------------------

TEXTS = ["a cat", "a dog sings"]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (
            {"tokenizer": lambda text: None},
            r"tokenizer must give words.* None of type NoneType for the text 'a cat",
        ),
        (
            {"tokenizer": lambda text: 3},
            "tokenizer must give words.* gave 3 of type int",
        ),
        ({"tokenizer": lambda text: [1]}, "tokenizer must give words of type str"),
        (
            {"preprocessor": lambda text: None},
            "preprocessor must give a text, a str. It gave None of type NoneType for",
        ),
        ({"preprocessor": str.encode}, "preprocessor must give a text.* b'a cat' of"),
        ({"max_length": True}, "The 'max_length' parameter of SequenceVectorizer must"),
        ({"min_df": True}, "The 'min_df' parameter of SequenceVectorizer must be"),
        ({"max_df": True}, "The 'max_df' parameter of SequenceVectorizer must be"),
        ({"max_features": np.True_}, "The 'max_features' parameter of SequenceVec"),
    ],
)
def test_parameters_of_the_vectorizer(params, message):
    with pytest.raises((TypeError, ValueError), match=message):
        SequenceVectorizer(**params).fit(TEXTS)


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint8])
def test_integers_of_numpy_for_the_vectorizer(kind):
    texts = TEXTS * 150

    found = SequenceVectorizer(
        max_length=kind(3), min_df=kind(200), max_features=kind(2)
    )
    expected = SequenceVectorizer(max_length=3, min_df=200, max_features=2)
    with pytest.warns(UserWarning, match="longer than 2 words"):
        assert_array_equal(found.fit_transform(texts), expected.fit_transform(texts))


def test_estimators_are_what_they_were_given():
    """The parameters stay as given, so that clones and searches know them."""
    mae = MutualAutoencoder(M=np.float32(1), n_components=np.int64(2))

    mae.set_params(max_epochs=1, hidden_layer_sizes=np.array([8])).fit(X)

    assert type(mae.M) is np.float32
    assert type(mae.n_components) is np.int64
    assert isinstance(mae.hidden_layer_sizes, np.ndarray)
