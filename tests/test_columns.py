"""Columns: the way there and back, messages, row-keyed noise."""

import datetime
import re
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import sparse, stats

from sklearn_mae import columns as columns_module
from sklearn_mae import text
from sklearn_mae.columns import (
    Columns,
    Sequences,
    row_noise,
    table_problem,
    with_occurrence,
)

rng = np.random.default_rng(0)
NUMBERS = rng.normal(size=(50, 3)) * [1e-6, 1.0, 1e6] + [1.0, 0.0, -1e7]
BITS = (rng.random((50, 3)) < 0.4).astype(float)
CATEGORIES = rng.choice([0, 3, 7, 1000], size=(50, 3)).astype(float)
TABLES = {"continuous": NUMBERS, "binary": BITS, "categorical": CATEGORIES}
every_kind = pytest.mark.parametrize("kind", TABLES)


def with_constant(X, value):
    return np.insert(X, 1, value, axis=1)


# --- there and back -------------------------------------------------------------------


@every_kind
@pytest.mark.parametrize("standardise", [True, False])
def test_inverse_undoes_transform(kind, standardise):
    X = TABLES[kind]
    columns = Columns(kind, standardise).fit(X)

    back = columns.inverse_transform(columns.transform(X))

    np.testing.assert_allclose(back, X, rtol=1e-12)


def test_continuous_columns_are_standardised():
    Y = Columns("continuous").fit(NUMBERS).transform(NUMBERS)

    np.testing.assert_allclose(Y.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(Y.std(axis=0), 1, rtol=1e-12)


def test_log_volume_is_that_of_the_scaling():
    columns = Columns("continuous").fit(NUMBERS)

    expected = np.log(NUMBERS.std(axis=0)).sum()
    assert columns.log_volume_ == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("kind", "standardise"),
    [("continuous", False), ("binary", True), ("categorical", True)],
)
def test_log_volume_is_zero_where_nothing_is_scaled(kind, standardise):
    assert Columns(kind, standardise).fit(TABLES[kind]).log_volume_ == 0


def test_categories_become_indices():
    columns = Columns("categorical").fit(np.array([[7.0, 2.0], [0.0, 5.0], [3.0, 2.0]]))

    Y = columns.transform(np.array([[3.0, 5.0], [7.0, 2.0]]))

    assert Y.dtype == np.int64
    np.testing.assert_array_equal(Y, [[1, 1], [2, 0]])


def test_inverse_takes_leading_axes():
    columns = Columns("categorical").fit(with_constant(CATEGORIES, 9))
    Y = columns.transform(with_constant(CATEGORIES, 9))

    X = columns.inverse_transform(np.stack([Y, Y[::-1]]))

    assert X.shape == (2, 50, 4)
    np.testing.assert_array_equal(X[0], with_constant(CATEGORIES, 9))
    np.testing.assert_array_equal(X[1], X[0, ::-1])


# --- constant columns -----------------------------------------------------------------


@every_kind
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_constant_columns_are_left_out_and_put_back(kind, value):
    X = TABLES[kind]
    columns = Columns(kind).fit(with_constant(X, value))

    assert columns.n_varying == 3
    np.testing.assert_array_equal(
        columns.transform(with_constant(X, value)), Columns(kind).fit(X).transform(X)
    )
    back = columns.inverse_transform(columns.transform(with_constant(X, value)))
    np.testing.assert_array_equal(back[:, 1], value)


@every_kind
@pytest.mark.parametrize("value", [-3.0, 0.5, 1e300])
def test_new_rows_may_hold_anything_in_a_constant_column(kind, value):
    X = TABLES[kind]
    columns = Columns(kind).fit(with_constant(X, 1.0))

    np.testing.assert_array_equal(
        columns.transform(with_constant(X, value)),
        columns.transform(with_constant(X, 1.0)),
    )


def test_constant_columns_add_nothing_to_the_log_volume():
    plain = Columns("continuous").fit(NUMBERS)
    padded = Columns("continuous").fit(with_constant(NUMBERS, 12345.6))

    assert padded.log_volume_ == plain.log_volume_


def test_a_spread_that_is_rounding_is_none():
    third = np.where(np.arange(50) % 2, 0.1 + 0.2, 0.3) * 1e9

    columns = Columns("continuous").fit(with_constant(NUMBERS, third))

    assert not columns.varying_[1]


@every_kind
def test_all_columns_constant(kind):
    with pytest.raises(ValueError, match="All 2 columns of X are constant"):
        Columns(kind).fit(np.ones((5, 2)))


@pytest.mark.parametrize(
    "column", [np.array([-1e308, 1e308, 0]), np.array([0, 1e-200, 2e-200])]
)
def test_scale_out_of_range(column):
    X = np.column_stack([[1.0, 2.0, 3.0], column])

    with pytest.raises(ValueError, match=r"column\(s\) 1 of X leaves the range"):
        Columns("continuous").fit(X)


# --- values that a kind of column cannot hold -----------------------------------------


@pytest.mark.parametrize("wrong", [-0.1, 1.5])
def test_outside_the_unit_interval(wrong):
    X = BITS.copy()
    X[4, 2] = wrong
    message = rf"X holds values outside \[0, 1\].*column\(s\) 2, for example {wrong}"

    with pytest.raises(ValueError, match=message):
        Columns("binary").fit(X)
    with pytest.raises(ValueError, match=message):
        Columns("binary").fit(BITS).transform(X)


def test_between_zero_and_one_is_allowed():
    X = rng.random((20, 2))

    np.testing.assert_array_equal(Columns("binary").fit(X).transform(X), X)


@pytest.mark.parametrize(
    ("wrong", "start"), [(-1.0, "Negative values in data: X holds"), (2.5, "X holds")]
)
def test_no_category(wrong, start):
    X = CATEGORIES.copy()
    X[4, 0] = wrong
    message = rf"^{start} values that are no categories.*column\(s\) 0, .* {wrong:g}\."

    with pytest.raises(ValueError, match=message):
        Columns("categorical").fit(X)
    with pytest.raises(ValueError, match=message):
        Columns("categorical").fit(CATEGORIES).transform(X)


def test_unseen_categories():
    columns = Columns("categorical").fit(CATEGORIES, ["colour", "size", "shape"])
    X = CATEGORIES.copy()
    X[:2, 1] = 5, 2000

    message = (
        r"Column size .* not seen in fit: \[5, 2000\]. Known are \[0, 3, 7, 1000\]"
    )
    with pytest.raises(ValueError, match=message):
        columns.transform(X)


def test_messages_name_columns_past_constant_ones():
    columns = Columns("categorical").fit(with_constant(CATEGORIES, 1), list("abcd"))
    X = with_constant(CATEGORIES, 1)
    X[0, 2] = 5

    with pytest.raises(ValueError, match="Column c of X"):
        columns.transform(X)


# --- sequences ------------------------------------------------------------------------

# ids with gaps, the longest of three words, two columns that nobody needs
SENTENCES = np.array(
    [
        [7, 3, 2, 0, 0, 0],
        [2, 0, 0, 0, 0, 0],
        [3, 1, 900, 2, 0, 0],
        [7, 3, 2, 0, 0, 0],
    ],
    dtype=float,
)


def padded(X, n=3):
    return np.pad(X, ((0, 0), (0, n)))


def test_marks_are_the_vectorizer_s():
    for name in ("PAD", "UNKNOWN", "END"):
        assert getattr(columns_module, name) == getattr(text, name)


def test_the_model_sees_positions_among_the_known_words():
    columns = Sequences().fit(SENTENCES)
    Y = columns.transform(SENTENCES)

    assert Y.dtype == np.int64
    np.testing.assert_array_equal(columns.words_, [0, 1, 2, 3, 7, 900])
    np.testing.assert_array_equal(
        Y, [[4, 3, 2, 0], [2, 0, 0, 0], [3, 1, 5, 2], [4, 3, 2, 0]]
    )
    assert columns.n_varying == columns.length_ == 4
    assert columns.log_volume_ == 0


def test_marks_are_known_though_no_row_holds_them():
    X = np.array([[3, 4, 2], [4, 4, 2]])

    np.testing.assert_array_equal(Sequences().fit(X).words_, [0, 1, 2, 3, 4])


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_inverse_undoes_transform_of_sequences(dtype):
    X = SENTENCES.astype(dtype)
    columns = Sequences().fit(X)
    back = columns.inverse_transform(columns.transform(X))

    assert back.dtype == np.int64
    np.testing.assert_array_equal(back, X)
    Y = columns.transform(X)
    both = columns.inverse_transform(np.stack([Y, Y[::-1]]))
    np.testing.assert_array_equal(both, [X, X[::-1]])


@pytest.mark.parametrize("n", [0, 1, 10])
def test_columns_of_pads_change_nothing(n):
    tight = SENTENCES[:, :4]
    plain, wide = Sequences().fit(tight), Sequences().fit(padded(tight, n))

    assert wide.length_ == plain.length_
    np.testing.assert_array_equal(wide.words_, plain.words_)
    for method in ("transform", "keys"):
        np.testing.assert_array_equal(
            getattr(wide, method)(padded(tight, n)), getattr(plain, method)(tight)
        )
    back = wide.inverse_transform(plain.transform(tight))
    np.testing.assert_array_equal(back, padded(tight, n))


@pytest.mark.filterwarnings("error")
def test_unseen_words_are_unknown():
    columns = Sequences().fit(SENTENCES)
    X = np.array([[4, 7, 2, 0, 0, 0], [1000, 899, 1, 2, 0, 0.0]])

    np.testing.assert_array_equal(columns.transform(X), [[1, 4, 2, 0], [1, 1, 1, 2]])
    np.testing.assert_array_equal(columns.keys(X), columns.transform(X))


def test_longer_rows_are_cut_with_a_warning():
    columns = Sequences().fit(SENTENCES)
    X = np.array(
        [[3, 3, 3, 3, 2, 0], [7, 7, 7, 2, 0, 0], [3, 7, 3, 7, 3, 2.0], SENTENCES[0]]
    )
    with pytest.warns(UserWarning, match="2 of 4 rows of X are longer .* 4 columns"):
        Y = columns.transform(X)

    np.testing.assert_array_equal(
        Y, [[3, 3, 3, 2], [4, 4, 4, 2], [3, 4, 3, 2], [4, 3, 2, 0]]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of one call there is one warning
        np.testing.assert_array_equal(columns.keys(X), Y)
    assert X[0, 3] == 3


def with_row(row):
    return np.array([[3, 2, 0, 0], row, [4, 2, 0, 0]], dtype=float)


@pytest.mark.parametrize("wrong", [-3, 2.5, 1e300])
def test_no_word_id(wrong):
    X = with_row([3, wrong, 2, 0])
    shown = re.escape(f"{wrong:g}")
    message = rf"X holds {shown} in row 1; likelihood='sequence' .*SequenceVectorizer"

    with pytest.raises(ValueError, match=message):
        Sequences().fit(X)
    with pytest.raises(ValueError, match=message):
        Sequences().fit(SENTENCES[:, :4]).transform(X)


@pytest.mark.parametrize(
    "row",
    [
        [3, 4, 3, 4],
        [3, 4, 0, 0],
        [0, 0, 0, 0],
        [2, 3, 0, 0],
        [3, 2, 4, 2],
        [3, 2, 2, 0],
        [0, 3, 2, 0],
        [3, 0, 2, 0],
        [0, 0, 0, 2],
        [3, 2, 0, 4],
        [0, 2, 5, 0],
    ],
    ids=[
        "no end",
        "pads for an end",
        "nothing",
        "a word after the end",
        "two ends",
        "two ends together",
        "a pad first",
        "a pad between",
        "pads before the end",
        "a word after pads",
        "the end in the right place",
    ],
)
def test_no_sequence(row):
    X = with_row(row)
    message = (
        rf"Row 1 of X, {re.escape(str(row))}, is no sequence: .*SequenceVectorizer"
    )

    with pytest.raises(ValueError, match=message):
        Sequences().fit(X)
    with pytest.raises(ValueError, match=message):
        Sequences().fit(SENTENCES[:, :4]).transform(X)


def test_all_rows_the_same_sequence():
    with pytest.raises(ValueError, match="All 5 rows of X are the same sequence"):
        Sequences().fit(np.tile(SENTENCES[:1], (5, 1)))


# --- tables with what no model takes --------------------------------------------------


def frame(column):
    return {"a": [1.0, 2.0, 3.0], "b": column, "c": [0, 1, 0]}


TEXT = r"could not convert string to float: column\(s\) {} of X hold text"
MISSING = r"Input X contains NaN. Column\(s\) {} hold missing values"
INFINITE = r"Input X contains infinity .* in column\(s\) {}\."
DATES = r"column\(s\) {} of X hold dates"


PANDAS = [
    (["x", "y", "z"], TEXT),
    (["x", None, "z"], TEXT),
    (pd.Categorical(["x", "y", "x"]), TEXT),
    (np.array([1, "y", 2.0], dtype=object), TEXT),
    ([1.0, np.nan, 2.0], MISSING),
    ([1, None, 2], MISSING),
    (np.array([1, None, 2], dtype=object), MISSING),
    (pd.array([1.0, None, 2.0], dtype="Float64"), MISSING),
    (pd.array([True, None, False], dtype="boolean"), MISSING),
    ([1.0, np.inf, 2.0], INFINITE),
    (pd.date_range("2020", periods=3), DATES),
    (pd.to_timedelta([1, 2, 3], unit="s"), DATES),
]
POLARS = [
    (["x", None, "z"], TEXT),
    (pl.Series(["x", "y", "x"], dtype=pl.Categorical), TEXT),
    ([1.0, None, 2.0], MISSING),
    ([1.0, float("nan"), 2.0], MISSING),
    ([1, None, 2], MISSING),
    ([1.0, float("-inf"), 2.0], INFINITE),
    ([datetime.date(2020, 1, day) for day in (1, 2, 3)], DATES),
]


@pytest.mark.parametrize(
    ("X", "message"),
    [(pd.DataFrame(frame(column)), message) for column, message in PANDAS]
    + [(pl.DataFrame(frame(column)), message) for column, message in POLARS],
)
def test_problems_of_a_frame_are_named(X, message):
    assert re.search(message.format("b"), str(table_problem(X)))


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ([[1.0, "x"], [2.0, "y"]], TEXT.format("1")),
        ([["1", "x"], ["2", "y"]], TEXT.format("0, 1")),
        (np.array([["1", "2"], ["3", "4"]]), TEXT.format("0, 1")),
        (np.array([[b"1", b"2"], [b"3", b"4"]]), TEXT.format("0, 1")),
        ([[1.0, None], [2.0, 3.0]], MISSING.format("1")),
        ((np.array([1.0, np.nan]), [2.0, 3.0]), MISSING.format("1")),
        (np.array([[np.nan, 1.0], [2.0, np.nan]], np.float32), MISSING.format("0, 1")),
        (np.array([[1.0, 1.0], [2.0, -np.inf]]), INFINITE.format("1")),
        (np.zeros((2, 2), "datetime64[s]"), DATES.format("0, 1")),
    ],
)
def test_problems_of_an_array_are_numbered(X, message):
    assert re.search(message, str(table_problem(X)))


def test_text_is_named_before_missing_values():
    X = pd.DataFrame({"a": [np.nan, 1.0], "b": ["x", "y"]})

    assert re.search(TEXT.format("b"), str(table_problem(X)))


@pytest.mark.parametrize(
    "X",
    [
        NUMBERS,
        NUMBERS.tolist(),
        NUMBERS > 0,
        NUMBERS.astype(object),
        pd.DataFrame(NUMBERS),
        pd.DataFrame({"a": pd.array([1, 2], dtype="Int64"), "b": [True, False]}),
        pl.DataFrame(frame([1, 2, 3])),
        # left to scikit-learn
        sparse.csr_array(NUMBERS),
        NUMBERS[0],
        [1.0, np.nan],
        [[1.0], [1.0, 2.0]],
        "text",
        None,
    ],
    ids=lambda X: type(X).__name__,
)
def test_nothing_to_say(X):
    assert table_problem(X) is None


# --- row-keyed noise ------------------------------------------------------------------


def test_noise_is_standard_normal():
    noise = row_noise(rng.normal(size=(20_000, 3)), 0, 4)

    # false alarms: one in a million for each of the columns and pairs
    for column in noise.T:
        assert stats.kstest(column, "norm").pvalue > 1e-6
    correlations = np.corrcoef(noise.T)[np.triu_indices(4, 1)]
    assert np.abs(correlations).max() < 4.9 / 20_000**0.5


def test_noise_of_neighbouring_rows_is_independent():
    grid = np.arange(20_000.0)[:, None]
    noise = row_noise(grid, 0, 1)[:, 0]

    assert stats.kstest(noise, "norm").pvalue > 1e-6
    assert abs(np.corrcoef(noise[:-1], noise[1:])[0, 1]) < 4.9 / 20_000**0.5


def test_noise_belongs_to_the_row():
    noise = row_noise(NUMBERS, 7, 3)
    order = rng.permutation(len(NUMBERS))

    np.testing.assert_array_equal(row_noise(NUMBERS[order], 7, 3), noise[order])
    np.testing.assert_array_equal(row_noise(NUMBERS[3:4], 7, 3), noise[3:4])


def test_noise_depends_on_every_column_and_on_their_order():
    row = np.array([[1.0, 2.0, 3.0]])
    others = np.vstack([row + np.eye(3) * 1e-3, row[:, ::-1], row[:, [1, 0, 2]]])

    noise = row_noise(np.vstack([row, others]), 0, 1)

    assert len(np.unique(noise)) == len(noise)


def test_noise_depends_on_the_seed():
    assert not np.isclose(row_noise(NUMBERS, 0, 2), row_noise(NUMBERS, 1, 2)).any()


def test_noise_does_not_depend_on_the_type_or_layout():
    X = NUMBERS.astype(np.float32)
    noise = row_noise(X, 0, 2)

    for same in (X.astype(np.float64), np.asfortranarray(X), np.repeat(X, 2, 0)[::2]):
        np.testing.assert_array_equal(row_noise(same, 0, 2), noise)


def test_zero_has_no_sign():
    np.testing.assert_array_equal(
        row_noise(np.array([[0.0]]), 0, 2), row_noise(np.array([[-0.0]]), 0, 2)
    )


def test_more_noise_begins_with_the_same():
    np.testing.assert_array_equal(
        row_noise(NUMBERS, 0, 5)[:, :2], row_noise(NUMBERS, 0, 2)
    )


@pytest.mark.filterwarnings("error")
def test_noise_of_huge_values_is_finite():
    assert np.isfinite(row_noise(np.array([[1e300, -1e300]]), 0, 100)).all()


@pytest.mark.parametrize("kind", ["continuous", "binary", "categorical"])
def test_keys_know_neither_units_nor_constants_nor_types(kind):
    X = TABLES[kind]
    keys = Columns(kind).fit(X).keys(X)
    padded = Columns(kind).fit(with_constant(X, 1.0))

    np.testing.assert_array_equal(padded.keys(with_constant(X, 1e300)), keys)
    np.testing.assert_array_equal(Columns(kind).fit(X).keys(X.astype(np.float32)), keys)
    if kind == "continuous":
        scaled = X * [2.0**7, 0.5, 2.0**-20]
        np.testing.assert_array_equal(Columns(kind).fit(scaled).keys(scaled), keys)


def test_keys_of_large_categories():
    X = np.array([[2.0**40], [2.0**40 + 1], [0.0]])

    assert np.isfinite(Columns("categorical").fit(X).keys(X)).all()


def test_occurrences_tell_equal_rows_apart():
    X = np.array([[1.0, 2.0], [0.0, 0.0], [1.0, 2.0], [1.0, 2.0], [0.0, 0.0]])

    numbered = with_occurrence(X)

    np.testing.assert_array_equal(numbered[:, :2], X)
    np.testing.assert_array_equal(numbered[:, 2], [0, 0, 1, 2, 1])
    assert len(np.unique(row_noise(numbered, 0, 1))) == len(X)


# --- what a column's variance rests on ------------------------------------------------


@pytest.mark.parametrize("m", [1, 5, 50])
def test_support_is_the_number_of_rows_that_differ(m):
    column = np.zeros(10_000)
    column[:m] = 7.0
    columns = Columns("continuous").fit(column[:, np.newaxis])

    assert columns.support_ == pytest.approx([m], rel=0.03)


def test_support_of_normal_columns_is_a_third_of_the_rows():
    n = 20_000
    X = np.random.default_rng(0).normal(loc=3, scale=0.2, size=(n, 4))

    # five standard errors of the fourth moment of a normal: var z^4 = 96
    error = 5 * np.sqrt(96 / n) / 3
    assert Columns("continuous").fit(X).support_ == pytest.approx(
        [n / 3] * 4, rel=error
    )
