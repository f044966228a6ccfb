"""Tables that hold what no model takes, and what is said of them."""

import datetime
import re

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import sparse

from sklearn_mae.estimator.problems import table_problem

rng = np.random.default_rng(0)
NUMBERS = rng.normal(size=(50, 3)) * [1e-6, 1.0, 1e6] + [1.0, 0.0, -1e7]


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
