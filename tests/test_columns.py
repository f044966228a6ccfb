"""Columns of a table: their kinds, the way to float64, the table as it was."""

import copy
import datetime
import decimal
import fractions
import json
import re
import subprocess
import sys
import warnings
from pathlib import Path

import hypothesis
import numpy as np
import pandas as pd
import pandas.testing
import polars as pl
import polars.testing
import pyarrow as pa
import pytest
from hypothesis import strategies as st

from sklearn_mae.columns import Columns
from sklearn_mae.columns.cells import decimals_of, rounded

ROOT = Path(__file__).parents[1]
NAN = np.nan


def frame_of_pandas():
    """Return a column of each type that comes back as it was."""
    ordered = pd.CategoricalDtype(["low", "high", "never"], ordered=True)
    return pd.DataFrame(
        {
            "int64": [3, 1, 2],
            "uint8": np.array([255, 0, 7], np.uint8),
            "Int64": pd.array([5, None, -1], dtype="Int64"),
            "float64": [1.25, NAN, -3.5],
            "float32": np.array([0.1, 0.25, NAN], np.float32),
            "float16": np.array([0.1, 0.2, 0.3], np.float16),
            "Float64": pd.array([1.5, None, 2.0], dtype="Float64"),
            "bool": [True, False, True],
            "boolean": pd.array([True, None, False], dtype="boolean"),
            "str": pd.Series(["b", None, "a"], dtype="str"),
            "string": pd.array(["b", None, "a"], dtype="string"),
            "python": pd.array(["b", None, "a"], dtype="string[python]"),
            "category": pd.Categorical(["y", None, "x"], ["z", "y", "x"]),
            "ordered": pd.Categorical(["high", "low", None], dtype=ordered),
            "numbers": pd.Categorical([3, 1, 3]),
            "object": pd.Series(["b", None, "a"], dtype=object),
            "objects": pd.Series([True, NAN, False], dtype=object),
            "integers": pd.Series([3, None, 4], dtype=object),
            "floats": pd.Series([1.5, 2, NAN], dtype=object),
            "nothing": pd.Series([None, None, None], dtype=object),
            "arrow int": pd.array([1, None, 2], dtype="int64[pyarrow]"),
            "arrow float": pd.array([0.1, None, 2], dtype="float[pyarrow]"),
            "arrow bool": pd.array([True, None, False], dtype="bool[pyarrow]"),
            "arrow str": pd.array(["b", None, "a"], pd.ArrowDtype(pa.string())),
        },
        index=pd.Index(["i", "j", "k"], name="row"),
    )


def frame_of_polars():
    return pl.DataFrame(
        {
            "int": [3, None, 2],
            "u8": pl.Series([255, 0, 7], dtype=pl.UInt8),
            "i128": pl.Series([1, 2, 3], dtype=pl.Int128),
            "float": [1.25, None, -3.5],
            "f32": pl.Series([0.1, 0.25, None], dtype=pl.Float32),
            "decimal": pl.Series(["1.50", None, "-2.25"]).cast(pl.Decimal(10, 2)),
            "str": ["b", None, "a"],
            "bool": [True, None, False],
            "cat": pl.Series(["y", None, "x"], dtype=pl.Categorical),
            "enum": pl.Series(["y", None, "x"], dtype=pl.Enum(["z", "y", "x"])),
        }
    )


def frame_of_pyarrow():
    codes = pa.array([1, None, 2], pa.int8())
    return pa.table(
        {
            "int": pa.array([3, None, 2]),
            "u8": pa.array([255, 0, 7], pa.uint8()),
            "float": pa.array([1.25, None, -3.5]),
            "f32": pa.array([0.1, 0.25, None], pa.float32()),
            "f16": pa.array(np.array([0.1, 0.25, 3], np.float16)),
            "decimal": pa.array([decimal.Decimal("1.50"), None, None]),
            "str": pa.array(["b", None, "a"]),
            "large": pa.array(["b", None, "a"], pa.large_string()),
            "bool": pa.array([True, None, False]),
            "dictionary": pa.array(["y", None, "x"]).dictionary_encode(),
            "ordered": pa.DictionaryArray.from_arrays(
                codes, pa.array(["z", "y", "x"], pa.large_string()), ordered=True
            ),
            "numbers": pa.array([5, None, 3]).dictionary_encode(),
        }
    )


def pyarrow_equal(found, wanted):
    assert found.schema.equals(wanted.schema)
    assert found.equals(wanted)


FRAMES = {
    "pandas": (frame_of_pandas, pd.testing.assert_frame_equal),
    "polars": (frame_of_polars, pl.testing.assert_frame_equal),
    "pyarrow": (frame_of_pyarrow, pyarrow_equal),
}
every_library = pytest.mark.parametrize(
    ("make", "assert_equal"), FRAMES.values(), ids=FRAMES
)


def column(values, **kwargs):
    """Return a pandas frame of one column."""
    return pd.DataFrame({"a": pd.Series(values, **kwargs)})


def mixed():
    """Return rows of all kinds, in every container."""
    rows = [[1.5, 3, "u", True], [NAN, 1, None, False], [-2.0, 2, "v", True]]
    names = ["x", "k", "s", "b"]
    frame = pd.DataFrame(rows, columns=names)
    return {
        "pandas": frame,
        "pandas nullable": frame.convert_dtypes(),
        "pandas category": frame.astype({"s": "category"}),
        "pandas objects": frame.astype(object),
        "polars": pl.DataFrame(rows, schema=names, orient="row"),
        "pyarrow": pa.Table.from_pandas(frame),
        "array": np.array(rows, dtype=object),
        "list": rows,
        "tuples": tuple(map(tuple, rows)),
    }


MIXED = np.array([[1.5, 3, 0, 1], [NAN, 1, NAN, 0], [-2, 2, 1, 1]])
containers = pytest.mark.parametrize("container", mixed())


def round_trip(X, **kwargs):
    columns = Columns().fit(X)
    return columns.decode(columns.encode(X), **kwargs)


# --- kinds ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "kind", "outcomes"),
    [
        (pd.Series([1, 2]), "numeric", None),
        (pd.Series([1.0, NAN]), "numeric", None),
        (pd.Series([1, None], dtype="Int8"), "numeric", None),
        (pd.Series([True, False]), "category", [False, True]),
        (pd.Series([True, None], dtype="boolean"), "category", [True]),
        (pd.Series(["b", "a", "b"]), "category", ["a", "b"]),
        (pd.Series(["2", "10"]), "category", ["10", "2"]),
        (pd.Series(["b", None], dtype=object), "category", ["b"]),
        (pd.Series([True, NAN], dtype=object), "category", [True]),
        (pd.Series([np.str_("b"), np.str_("a")], dtype=object), "category", ["a", "b"]),
        (pd.Series([1, 2.5, pd.NA, None, pd.NaT], dtype=object), "numeric", None),
        (
            pd.Series([decimal.Decimal("1.5"), fractions.Fraction(1, 4)]),
            "numeric",
            None,
        ),
        (pd.Series([None, NAN], dtype=object), "numeric", None),
        (pd.Series([None, None], dtype="string"), "category", []),
        (pd.Series([None, None], dtype="boolean"), "category", []),
        (
            pd.Series(pd.Categorical(["b", "a"], ["c", "b", "a"])),
            "category",
            ["b", "a"],
        ),
        (pd.Series(pd.Categorical([3, 1])), "category", [1, 3]),
        (pd.Series(pd.Categorical([None], ["a"])), "category", []),
        (pd.Series(pd.arrays.SparseArray([0.0, 1.0])), "numeric", None),
        (pl.Series(["b", "a"], dtype=pl.Categorical), "category", ["a", "b"]),
        (pl.Series(["b", "a"], dtype=pl.Enum(["b", "c", "a"])), "category", ["b", "a"]),
        (pl.Series([None, None]), "numeric", None),
        (pl.Series([None], dtype=pl.String), "category", []),
    ],
)
def test_kinds(values, kind, outcomes):
    columns = Columns().fit(values.to_frame("a"))

    assert columns.kinds_ == [kind]
    assert columns.names_ == ["a"]
    (found,) = columns.categories_
    if outcomes is None:
        assert found is None
    else:
        assert found.dtype == object
        assert found.tolist() == outcomes
        assert {type(each) for each in found} <= {str, bool, int}


@containers
def test_kinds_are_those_of_the_values(container):
    columns = Columns().fit(mixed()[container])

    assert columns.kinds_ == ["numeric", "numeric", "category", "category"]
    assert [None if c is None else c.tolist() for c in columns.categories_] == [
        None,
        None,
        ["u", "v"],
        [False, True],
    ]
    numbered = container in ("array", "list", "tuples")
    names = ["0", "1", "2", "3"] if numbered else ["x", "k", "s", "b"]
    assert columns.names_ == names


@pytest.mark.parametrize(
    ("X", "kind"),
    [
        (np.ones((2, 1)), "numeric"),
        (np.ones((2, 1), np.float16), "numeric"),
        (np.ones((2, 1), np.uint8), "numeric"),
        (np.ones((2, 1), bool), "category"),
        (np.array([["1"], ["2"]]), "category"),
        ([[1], [2.5]], "numeric"),
        ([np.ones(1), np.ones(1)], "numeric"),
        ([[True], [None]], "category"),
        ([[decimal.Decimal("sNaN")], [np.int8(3)]], "numeric"),
    ],
    ids=str,
)
def test_kinds_of_arrays(X, kind):
    assert Columns().fit(X).kinds_ == [kind]


def test_wanted_overrides():
    X = pd.DataFrame({"b": [True, False], "k": [0, 1], "s": ["u", "v"], "f": [1.0, 2]})
    columns = Columns().fit(X, ["numeric", "category", "category", None])

    assert columns.kinds_ == ["numeric", "numeric", "category", "numeric"]
    np.testing.assert_array_equal(columns.encode(X), [[1, 0, 0, 1], [0, 1, 1, 2]])
    pd.testing.assert_frame_equal(columns.decode(columns.encode(X)), X)
    drawn = columns.decode(np.array([[0.7, 0.2, 1, 1.4], [-3, 9, NAN, 2]]))
    pd.testing.assert_frame_equal(
        drawn,
        pd.DataFrame(
            {"b": [True, False], "k": [0, 9], "s": ["v", None], "f": [1.0, 2]}
        ),
    )


def test_wanted_numbers_of_categories_and_objects():
    X = pd.DataFrame(
        {"c": pd.Categorical([3, 1]), "o": pd.Series([True, 2], dtype="O")}
    )
    columns = Columns().fit(X, ["numeric", "numeric"])

    assert columns.kinds_ == ["numeric", "numeric"]
    np.testing.assert_array_equal(columns.encode(X), [[3, 1], [1, 2]])


# --- what is refused ------------------------------------------------------------------

DATE = datetime.date(2020, 1, 31)
MIXED_TYPES = "A column holds numbers, or strings, or booleans"
NEITHER = "argument must be a string, a boolean or a real number. Turn dates into"
REFUSED = {
    "text and numbers": (
        column(["u", 3], dtype=object),
        "'u' of type str",
        MIXED_TYPES,
    ),
    "booleans and numbers": (column([True, 3]), "True of type bool", MIXED_TYPES),
    "booleans and text": ([["u"], [False]], "'u' of type str", MIXED_TYPES),
    "category of both": (
        column(pd.Categorical(["u"], ["u", 3])),
        "'u' of type str",
        MIXED_TYPES,
    ),
    "date": (column([None, DATE]), "datetime.date(2020, 1, 31) of type date", NEITHER),
    "list": (column([[1], [2]]), "[1] of type list", NEITHER),
    "dict": ([[{"a": 1}]], "{'a': 1} of type dict", NEITHER),
    "complex": (column([1j, 2]), "1j of type complex", NEITHER),
    "bytes": (np.array([[b"a"]]), "b'a' of type bytes", NEITHER),
    "numpy's duration": (
        np.array([[np.timedelta64(1, "D")]], dtype=object),
        "of type timedelta64",
        NEITHER,
    ),
    "period": (column(pd.period_range("2020", periods=1)), "of type Period", NEITHER),
    "interval": (column(pd.cut([1.0, 2.0], 2)), "of type Interval", NEITHER),
    "struct": (pl.DataFrame({"a": [{"b": 1}]}), "of type dict", NEITHER),
    "array": (np.array([["2020"]], "datetime64[D]"), "of type date", NEITHER),
    "datetimes": (
        column(pd.to_datetime(["2020-01-31"])),
        "of type Timestamp, a column of type Datetime",
        "dates and durations are not modelled. Turn them into numbers",
    ),
    "no datetimes": (
        column(pd.to_datetime([None])),
        "a column of type Datetime",
        "dates and durations are not modelled",
    ),
    "durations": (
        pl.DataFrame({"a": [datetime.timedelta(1)]}),
        "a column of type Duration",
        "dates and durations are not modelled",
    ),
    "arrow's dates": (
        pa.table({"a": [DATE]}),
        "a column of type Date",
        "dates and durations are not modelled",
    ),
}


@pytest.mark.parametrize(("X", "value", "advice"), REFUSED.values(), ids=REFUSED)
def test_what_is_neither_is_refused(X, value, advice):
    with pytest.raises(TypeError, match=r"Column ('a'|0) of X holds ") as raised:
        Columns().fit(X)

    assert value in str(raised.value)
    assert advice in str(raised.value)


def test_text_is_no_number():
    X = pd.DataFrame({"k": [1], "a": ["12"]})
    with pytest.raises(
        TypeError,
        match=r"Column 'a' of X holds '12' of type str, but is to be modelled as "
        r"numbers, and strings are never read as numbers\. Convert the column",
    ):
        Columns().fit(X, [None, "numeric"])


class Broken:
    def __float__(self):
        raise ValueError("no value")


def test_numbers_that_have_no_value_are_refused():
    message = "of type Broken, which is no number: no value. Convert or drop it."
    with pytest.raises(TypeError, match=re.escape(message)):
        Columns().fit(np.array([[1], [Broken()]], dtype=object)).encode([[Broken()]])


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.ones(3), "Expected 2D array, got 1D array instead"),
        ([[[1], [2]]], "Expected 2D array, got 3D array instead"),
        ([], "Expected 2D array, got 1D array instead"),
        (np.ones((2, 1), complex), "Complex data not supported: X is an array of com"),
    ],
    ids=["1", "3", "empty", "complex"],
)
def test_what_is_no_table_is_refused(X, message):
    with pytest.raises(ValueError, match=message):
        Columns().fit(X)
    with pytest.raises(ValueError, match=message):
        Columns().fit(np.ones((2, 1))).encode(X)


def test_a_failed_fit_changes_nothing():
    columns = Columns().fit(column([1, 2]))
    before = copy.deepcopy(vars(columns))

    with pytest.raises(TypeError):
        columns.fit(column([True, 3]))

    assert vars(columns) == before


# --- encode ---------------------------------------------------------------------------


@containers
def test_equal_rows_are_equal_in_every_container(container):
    columns = Columns().fit(mixed()[container])

    for other, X in mixed().items():
        found = columns.encode(X)
        assert found.dtype == np.float64
        assert found.flags.c_contiguous
        # bit by bit
        assert found.tobytes() == (MIXED + 0).tobytes(), other


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int8, np.uint64, bool])
def test_types_of_numbers_are_one(dtype):
    X = np.array([[0, 1], [1, 0]], dtype)
    columns = Columns().fit(np.eye(2))

    for same in (X, X.astype(object), X.tolist(), pd.DataFrame(X), pl.DataFrame(X)):
        np.testing.assert_array_equal(columns.encode(same), [[0, 1], [1, 0]])


def test_single_precision_is_kept():
    X = np.array([[0.1], [np.pi]], np.float32)
    columns = Columns().fit(X)

    for same in (X, pd.DataFrame(X), pl.DataFrame(X), X.astype(object)):
        np.testing.assert_array_equal(columns.encode(same), X.astype(np.float64))


def test_infinity_and_what_is_too_large_are_passed_on():
    X = np.array([[np.inf], [-(10**400)], [10**400], [None]], dtype=object)
    wanted = [[np.inf], [-np.inf], [np.inf], [NAN]]

    np.testing.assert_array_equal(Columns().fit(X).encode(X), wanted)
    X = np.array([["1e4000"]]).astype(np.longdouble)
    assert Columns().fit(X).encode(X) == np.inf
    X = column([-np.inf, 1.5])
    np.testing.assert_array_equal(Columns().fit(X).encode(X), X)


@pytest.mark.parametrize("hole", [None, NAN, pd.NA, pd.NaT, np.float32(NAN)], ids=str)
@pytest.mark.parametrize("value", [2, "u", True], ids=str)
def test_what_is_missing(value, hole):
    X = np.array([[value], [hole]], dtype=object)
    first = 2.0 if value == 2 else 0.0
    for same in (X, X.tolist(), pd.DataFrame(X), column([value, hole], dtype=object)):
        columns = Columns().fit(same)
        assert columns.kinds_ == ["numeric" if value == 2 else "category"]
        np.testing.assert_array_equal(columns.encode(same), [[first], [NAN]])


def test_every_nan_is_the_same():
    odd = np.array([[0x7FF0_0000_0000_07A2], [1]], np.uint64).view(np.float64)
    columns = Columns().fit(odd)
    for same in (odd, pd.DataFrame(odd), odd.astype(object)):
        found = columns.encode(same)
        assert found[:1].tobytes() == np.array([NAN]).tobytes()
    assert odd.view(np.uint64)[0, 0] == 0x7FF0_0000_0000_07A2  # the user's, as it was


def test_holes_where_fit_saw_none():
    columns = Columns().fit(
        pd.DataFrame({"k": [1, 2], "s": ["u", "v"], "b": [True] * 2})
    )
    holes = pl.DataFrame({"k": [None], "s": [None], "b": [None]})

    for X in (holes, holes.to_pandas(), np.full((1, 3), NAN), [[None] * 3]):
        assert np.isnan(columns.encode(X)).all()


def test_unseen_categories_are_missing_with_one_warning():
    X = pd.DataFrame({"s": list("ab"), "k": [1, 2], "t": ["x", "y"], "n": [3, 4]})
    X = X.astype({"n": "category"})
    columns = Columns().fit(X)
    new = pd.DataFrame(
        {"s": list("cdefghbc"), "k": [3] * 8, "t": [*"xyxyxyxz"], "n": [3, 9] * 4}
    )

    with pytest.warns(UserWarning, match="which count as missing") as record:
        found = columns.encode(new)

    assert len(record) == 1
    message = str(record[0].message)
    assert "'s' ('c', 'd', 'e', 'f', 'g' and 1 more), 't' ('z'), 'n' (9.0)" in message
    np.testing.assert_array_equal(found[:, 0], [NAN] * 6 + [1, NAN])
    np.testing.assert_array_equal(found[:, 1], 3)
    np.testing.assert_array_equal(found[:, 2], [0, 1, 0, 1, 0, 1, 0, NAN])
    np.testing.assert_array_equal(found[:, 3], [0, NAN] * 4)


def test_a_declared_category_that_fit_did_not_see_is_unseen():
    dtype = pd.CategoricalDtype(["z", "y", "x"])
    columns = Columns().fit(column(["x", "y"], dtype=dtype))

    assert columns.categories_[0].tolist() == ["y", "x"]
    with pytest.warns(UserWarning, match=r"Columns: 'a' \('z'\)"):
        found = columns.encode(column(["x", "z", "y"], dtype=dtype))
    np.testing.assert_array_equal(found.T, [[1, NAN, 0]])


@pytest.mark.parametrize("empty", [column([None] * 2, dtype=object), column([NAN] * 2)])
def test_what_a_column_without_values_gets_is_missing(empty):
    """A fold may hold none of the values of a column."""
    columns = Columns().fit(empty)

    with pytest.warns(UserWarning, match=r"Columns: 'a' \('v', 'u'\)"):
        found = columns.encode(column(["v", "u", None]))
    assert np.isnan(found).all()
    assert columns.encode(column([3])) == 3
    typed = Columns().fit(empty.astype("string"))
    with pytest.warns(UserWarning, match=r"Columns: 'a' \('v'\)"):
        assert np.isnan(typed.encode([["v"]])).all()


def test_zero_and_one_are_booleans():
    columns = Columns().fit(column([False, True]))

    for X in ([[0], [1]], np.array([[0.0], [1.0]]), [[False], [True]], [[0.0], [True]]):
        np.testing.assert_array_equal(columns.encode(X), [[0], [1]])
    only = Columns().fit(column([False]))
    with pytest.warns(UserWarning, match=r"'a' \(1\)"):
        np.testing.assert_array_equal(only.encode([[0], [1]]), [[0], [NAN]])


def test_numbers_and_booleans_find_numbered_categories():
    columns = Columns().fit(column(pd.Categorical([1, 4, 0])))

    for X in ([[4], [1]], [[4.0], [True]], np.array([[4.0], [1.0]])):
        np.testing.assert_array_equal(columns.encode(X), [[2], [1]])


@pytest.mark.parametrize(
    ("fitted", "X", "message"),
    [
        ([1, 2], [["12"]], "'12' of type str, but is numeric since fit, and strings"),
        ([1, 2], [[DATE]], "of type date; argument must be a string, a boolean or"),
        (["u", "v"], [[3]], "3 of type int, but held strings in fit, such as 'u', 'v'"),
        (["u"], np.array([[2.5]]), "2.5 of type float, but held strings in fit"),
        (["u"], [[True]], "True of type bool, but held strings in fit, such as 'u'"),
        ([False, True], [["True"]], "of type str, but held booleans in fit, such as F"),
        ([False, True], [[1], [2]], "2 of type int, but held booleans in fit"),
        ([True], np.array([[1.5]]), "1.5 of type float, but held booleans in fit"),
        (pd.Categorical([1, 3]), [["1"]], "'1' of type str, but held numbers in fit"),
    ],
)
def test_other_sorts_of_entries_are_refused(fitted, X, message):
    columns = Columns().fit(column(fitted))

    with pytest.raises(TypeError) as raised:
        columns.encode(X)

    assert "Column 'a' of X holds " in str(raised.value)
    assert message in str(raised.value)


def test_another_number_of_columns_is_refused():
    columns = Columns().fit(mixed()["pandas"])

    with pytest.raises(
        ValueError, match=r"X has 2 features, but \w+ is expecting 4 features as input"
    ):
        columns.encode([["u", 3]])
    with pytest.raises(ValueError, match="X has 3 features, but"):
        Columns().fit(np.eye(2)).encode(np.eye(3))


def test_the_users_table_is_not_changed():
    for make, assert_equal in FRAMES.values():
        X = make()
        columns = Columns().fit(X)
        columns.decode(columns.encode(X))
        assert_equal(X, make())
    X = np.array([[1.5, NAN]])
    Columns().fit(X).encode(X)
    np.testing.assert_array_equal(X, [[1.5, NAN]])


def test_warnings_are_only_ours():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for make, _ in FRAMES.values():
            round_trip(make())
            round_trip(make(), round=False)
        round_trip(column([1e300, -1e308, 1e-300]))


# --- decode ---------------------------------------------------------------------------


@every_library
def test_a_frame_comes_back_as_it_was(make, assert_equal):
    X = make()

    kwargs = {"index": X.index} if isinstance(X, pd.DataFrame) else {}
    assert_equal(round_trip(X, **kwargs), X)


@every_library
def test_a_saved_frame_comes_back_as_it_was(make, assert_equal):
    X = make()
    columns = Columns().fit(X)
    again = Columns.read(copy.deepcopy(columns.write()), len(columns.names_))

    values = columns.encode(X)
    np.testing.assert_array_equal(again.encode(X), values)
    assert_equal(again.decode(values), columns.decode(values))
    assert again.names_ == columns.names_
    assert again.kinds_ == columns.kinds_
    assert_lists_of_arrays_equal(again.categories_, columns.categories_)


def assert_lists_of_arrays_equal(found, wanted):
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        if one is None or other is None:
            assert one is other
        else:
            assert one.tolist() == other.tolist()
            assert list(map(type, one)) == list(map(type, other))


def test_the_index_is_put_back():
    X = column([1.5, 2.5]).set_axis(pd.date_range("2020", periods=2), axis=0)

    pd.testing.assert_frame_equal(round_trip(X, index=X.index), X)
    pd.testing.assert_index_equal(round_trip(X).index, pd.RangeIndex(2))


@pytest.mark.parametrize(
    "labels", [[7, 3], [0, 1], ["b", "a"], [("u", 1), ("u", 2)]], ids=str
)
def test_labels_are_kept(labels):
    X = pd.DataFrame([[1, 2], [3, 4]], columns=labels)
    columns = Columns().fit(X)
    found = columns.decode(columns.encode(X))

    pd.testing.assert_frame_equal(found, X)
    assert columns.names_ == list(map(str, X.columns))
    # what is no plain value is saved as text
    again = Columns.read(columns.write(), 2).decode(columns.encode(X))
    plain = [x if type(x) in (str, int) else str(x) for x in X.columns.tolist()]
    assert again.columns.tolist() == plain


def test_other_types_come_back_as_plain_ones():
    arrow = pa.dictionary(pa.int32(), pa.string())
    X = pd.DataFrame(
        {
            "sparse": pd.arrays.SparseArray([0.0, 1.5]),
            "decimal": pd.array(
                [decimal.Decimal("1.5"), None], pd.ArrowDtype(pa.decimal128(5, 2))
            ),
            "dictionary": pd.array(["u", None], pd.ArrowDtype(arrow)),
        }
    )
    wanted = pd.DataFrame(
        {
            "sparse": [0.0, 1.5],
            "decimal": [1.5, NAN],
            "dictionary": pd.Series(["u", None], dtype=object),
        }
    )
    columns = Columns().fit(X)

    pd.testing.assert_frame_equal(columns.decode(columns.encode(X)), wanted)
    Columns.read(columns.write(), 3)
    assert round_trip(pl.DataFrame({"a": [None, None]})).schema == {"a": pl.Float64}
    assert round_trip(pa.table({"a": pa.nulls(2)})).schema.types == [pa.float64()]


def test_named_categories_of_polars_are_global_again():
    """A registry of categories is no plain value."""
    dtype = pl.Categorical(pl.Categories("mine"))
    found = round_trip(pl.DataFrame({"a": pl.Series(["u"], dtype=dtype)}))

    assert found.schema["a"] == pl.Categorical()
    assert found["a"].to_list() == ["u"]


def test_dictionaries_of_pyarrow_are_joined():
    one = pa.array(["v", "u"]).dictionary_encode()
    two = pa.DictionaryArray.from_arrays(
        pa.array([1, 0, 2], pa.int32()), pa.array(["w", None, "w"])
    )
    X = pa.table({"a": pa.chunked_array([one, two])})
    columns = Columns().fit(X)

    assert columns.categories_[0].tolist() == ["v", "u", "w"]
    found = columns.decode(columns.encode(X))
    assert found.schema.equals(X.schema)
    assert found["a"].to_pylist() == ["v", "u", None, "w", "w"]


def test_objects_of_polars_come_back():
    found = round_trip(pl.DataFrame({"a": pl.Series(["b", None], dtype=pl.Object)}))

    assert found.schema == {"a": pl.Object}
    assert found["a"].to_list() == ["b", None]


@pytest.mark.parametrize(
    ("values", "decimals"),
    [
        ([1.0, -3.0, NAN], 0),
        ([0.5, 2.0], 1),
        ([0.1 + 0.2, 0.3], None),
        ([0.285, 1.005], 3),
        ([1e-14], 14),
        ([1e-15], None),
        ([1e300, np.inf, 0.5], 1),
        ([np.pi] * 3, None),
        ([2.0**60], 0),
        ([], 0),
        ([*np.arange(200.0), 0.25], 2),
    ],
)
def test_decimals(values, decimals):
    assert decimals_of(np.array(values, float)) == decimals


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_decimals_of_every_precision(dtype):
    values = np.array([0.1, 2.3, 0.7], dtype).astype(np.float64)

    assert decimals_of(values, dtype) == 1
    assert (decimals_of(values) == 1) is (dtype == np.float64)


def test_rounding_leaves_what_is_too_large():
    np.testing.assert_array_equal(rounded(np.array([1e308, NAN]), 3), [1e308, NAN])


def test_numbers_get_the_decimals_of_fit():
    X = pd.DataFrame(
        {
            "price": [1.25, 3.5],
            "narrow": np.array([0.1, 0.2], np.float32),
            "count": [1, 2],
            "Int8": pd.array([1, None], dtype="Int8"),
            "u64": np.array([1, 2], np.uint64),
            "free": [np.pi, np.e],
            "object": pd.Series([1, 2], dtype=object),
        }
    )
    columns = Columns().fit(X)
    raw = np.array([1.23456, 0.16, 2.6, 300.0, -5.0, 0.123456789, 3.7])
    values = np.array([raw, -raw])

    wanted = {
        "price": [1.23, -1.23],
        "narrow": np.array([0.2, -0.2], np.float32),
        "count": [3, -3],
        "Int8": pd.array([127, -128], dtype="Int8"),
        "u64": np.array([0, 5], np.uint64),
        "free": [0.123456789, -0.123456789],
        "object": pd.Series([4, -4], dtype=object),
    }
    pd.testing.assert_frame_equal(
        columns.decode(values), pd.DataFrame(wanted), check_exact=True
    )
    unrounded = columns.decode(values, round=False)
    dtypes = {"narrow": np.float32, "Int8": "Float64"}
    pd.testing.assert_frame_equal(
        unrounded, pd.DataFrame(values, columns=X.columns).astype(dtypes)
    )


def test_numbers_of_polars_and_pyarrow_get_their_decimals():
    X = frame_of_polars().select("u8", "float", "f32", "i128", "decimal")
    columns = Columns().fit(X)
    values = np.array([[300.0, 1.23456, 0.123, -2.6, 1e20], [NAN] * 5])

    found = columns.decode(values)
    assert found.schema == X.schema
    assert found.row(0) == (
        255,
        1.23,
        pytest.approx(0.12),
        -3,
        decimal.Decimal("99999999.99"),
    )
    assert found.row(1) == (None,) * 5
    raw = columns.decode(values, round=False)
    assert raw.dtypes == [pl.Float64, pl.Float64, pl.Float32, pl.Float64, pl.Float64]
    assert raw["u8"].to_list() == [300.0, None]

    X = frame_of_pyarrow().select(["u8", "float", "decimal"])
    columns = Columns().fit(X)
    values = np.array([[300.0, 1.23456, 1e20], [NAN] * 3])
    found = columns.decode(values)
    assert found.schema.equals(X.schema)
    assert found.to_pylist()[0] == {
        "u8": 255,
        "float": 1.23,
        "decimal": decimal.Decimal("9.99"),
    }
    assert found.to_pylist()[1] == dict.fromkeys(X.column_names)
    raw = columns.decode(values, round=False)
    assert raw.schema.types == [pa.float64()] * 3
    assert raw["u8"].to_pylist() == [300.0, None]


@pytest.mark.parametrize("dtype", ["int64", "uint64", "Int64", "int64[pyarrow]"])
def test_the_largest_integers_are_clipped(dtype):
    columns = Columns().fit(column([1, 2], dtype=dtype))

    found = columns.decode(np.array([[1e30], [-1e30], [np.inf]]))["a"]
    assert found.dtype == dtype
    assert found[0] == found[2] > 2**62
    assert found[1] == (0 if dtype == "uint64" else -(2**63))


def test_holes_take_what_the_type_has_for_them():
    X = pd.DataFrame(
        {
            "int": [1, 2],
            "Int": pd.array([1, 2], dtype="Int64"),
            "bool": [True, False],
            "boolean": pd.array([True, False], dtype="boolean"),
            "arrow": pd.array([1, 2], dtype="int8[pyarrow]"),
            "category": pd.Categorical(["u", "v"]),
            "object": pd.Series(["u", "v"], dtype=object),
            "integers": pd.Series([1, 2], dtype=object),
        }
    )
    values = Columns().fit(X).encode(X)
    values[1] = NAN
    found = Columns().fit(X).decode(values)

    wanted = pd.DataFrame(
        {
            "int": [1.0, NAN],
            "Int": pd.array([1, None], dtype="Int64"),
            "bool": pd.Series([True, NAN], dtype=object),
            "boolean": pd.array([True, None], dtype="boolean"),
            "arrow": pd.array([1, None], dtype="int8[pyarrow]"),
            "category": pd.Categorical(["u", None], ["u", "v"]),
            "object": pd.Series(["u", NAN], dtype=object),
            "integers": pd.Series([1, NAN], dtype=object),
        }
    )
    pd.testing.assert_frame_equal(found, wanted)
    columns = Columns().fit(X[["bool"]], ["numeric"])
    pd.testing.assert_frame_equal(columns.decode(values[:, 2:3]), wanted[["bool"]])


@pytest.mark.parametrize(
    "X", [[[1, 2.34], [3, 4]], np.array([[1, None]], object), np.eye(2, dtype=int)]
)
def test_numbers_of_an_array_come_back_as_they_are(X):
    columns = Columns().fit(X)
    values = np.array([[0.123456789, NAN], [1.0, 2.0]])

    for shape in ((2, 2), (1, 2, 2), (2, 1, 1, 2)):
        found = columns.decode(values.reshape(shape))
        assert found.dtype == np.float64
        np.testing.assert_array_equal(found, values.reshape(shape))


def test_objects_come_back_as_objects():
    X = np.array([[1.25, "u", True], [2, None, False]], dtype=object)
    columns = Columns().fit(X)
    values = np.array([[[0.12345, 0, 1], [NAN, NAN, NAN]]])

    for state in (columns, Columns.read(columns.write(), 3)):
        found = state.decode(values)
        assert found.shape == (1, 2, 3)
        assert found.dtype == object
        assert found[0, 0].tolist() == [0.12345, "u", True]
        assert np.isnan(found[0, 1, 0])
        assert found[0, 1, 1] is None
        assert np.isnan(found[0, 1, 2])


def test_booleans_come_back_as_booleans():
    X = np.array([[True, False], [False, True]])
    columns = Columns().fit(X)

    found = columns.decode(columns.encode(X))
    assert found.dtype == bool
    np.testing.assert_array_equal(found, X)
    assert columns.decode(np.array([[NAN, 1.0]])).dtype == object
    as_numbers = Columns().fit(X, ["numeric"] * 2)
    assert as_numbers.decode(columns.encode(X)).dtype == np.float64


@every_library
def test_leading_axes_are_lists(make, assert_equal):
    X = make()
    columns = Columns().fit(X)
    values = columns.encode(X)
    kwargs = {"index": X.index} if isinstance(X, pd.DataFrame) else {}

    found = columns.decode(np.stack([values, values]), **kwargs)

    assert len(found) == 2
    for frame in found:
        assert_equal(frame, X)
    ((frame,),) = columns.decode(values[None, None], **kwargs)
    assert_equal(frame, X)


# --- saving ---------------------------------------------------------------------------


@pytest.mark.parametrize("container", [*FRAMES, "objects", "numbers"])
def test_what_is_written_is_plain(container):
    X = {"objects": [["u", True, 1]], "numbers": np.eye(2)}.get(container)
    X = FRAMES[container][0]() if X is None else X

    json.dumps(Columns().fit(X).write())


def tampered():
    """Yield states that nobody wrote, with the name of the entry."""
    X = pd.DataFrame(
        {
            "k": [1, 2],
            "s": pd.Categorical(["u", "v"], ["w", "v", "u"]),
            "b": [True, False],
        }
    )
    good = Columns().fit(X).write()
    Columns.read(good, 3)
    yield [good], "table"
    yield {**good, "more": 1}, "table"
    yield {"columns": good["columns"]}, "table"
    yield {**good, "container": "os"}, "container"
    yield {**good, "container": ["pandas"]}, "container"
    yield {**good, "container": "array"}, "label"
    yield {**good, "container": "polars"}, "dtype"
    yield {**good, "columns": tuple(good["columns"])}, "columns"
    yield {**good, "columns": good["columns"][:2]}, "columns"
    yield {**good, "columns": [*good["columns"][:2], None]}, "columns"
    for j, entry, value, name in (
        (0, "label", "s", "label"),
        (0, "label", None, "label"),
        (0, "label", True, "label"),
        (0, "kind", "text", "kind"),
        (0, "kind", None, "kind"),
        (0, "kind", "category", "decimals"),
        (0, "dtype", "string[python]", "dtype"),
        (0, "dtype", "O8", "dtype"),
        (0, "dtype", "int64\n", "dtype"),
        (0, "dtype", 3, "dtype"),
        (0, "categories", [], "categories"),
        (0, "declared", [], "declared"),
        (0, "decimals", -1, "decimals"),
        (0, "decimals", 15, "decimals"),
        (0, "decimals", 1.0, "decimals"),
        (0, "decimals", True, "decimals"),
        (0, "hole", 0.0, "hole"),
        (0, "hole", "NaN", "hole"),
        (0, "empty", None, "empty"),
        (0, "seen", [1.0], "seen"),
        (0, "seen", [2.0, 1.0], "seen"),
        (0, "seen", [float("nan"), 1.0], "seen"),
        (0, "seen", ["0", "1"], "seen"),
        (1, "seen", [0.0, 1.0], "seen"),
        (1, "kind", "numeric", "categories"),
        (1, "categories", None, "categories"),
        (1, "categories", ["u", "u"], "categories"),
        (1, "categories", ["u", 3], "categories"),
        (1, "categories", ["x"], "declared"),
        (1, "categories", [["u"]], "categories"),
        (1, "declared", None, "dtype"),
        (1, "declared", ["u"], "declared"),
        (1, "declared", "uvw", "declared"),
        (1, "dtype", "category[category]", "dtype"),
        (1, "dtype", "str[python]", "dtype"),
        (2, "categories", (False, True), "categories"),
        (2, "declared", [False, True], "dtype"),
        (2, "decimals", 1, "decimals"),
        (2, "dtype", "Int64", "dtype"),
        (2, "dtype", "str[python]", "dtype"),
        (1, "dtype", "category[int64]", "dtype"),
        (1, "dtype", "ordered[bool]", "dtype"),
        (1, "declared", [1, 2], "declared"),
    ):
        columns = copy.deepcopy(good["columns"])
        columns[j][entry] = value
        yield {**good, "columns": columns}, name
    columns = copy.deepcopy(good["columns"])
    del columns[0]["hole"]
    yield {**good, "columns": columns}, "columns"
    array = Columns().fit([["u", 1.5, True]]).write()
    for entry, value in (("dtype", "str[python]"), ("declared", ["u"]), ("label", 1)):
        columns = copy.deepcopy(array["columns"])
        columns[0][entry] = value
        name = "dtype" if entry == "declared" else entry
        yield {**array, "columns": columns}, name
    frame = Columns().fit(pl.DataFrame({"a": [1], "b": [2], "c": [3]})).write()
    columns = copy.deepcopy(frame["columns"])
    columns[0]["label"] = 3
    yield {**frame, "columns": columns}, "label"


@pytest.mark.parametrize(("state", "name"), list(tampered()))
def test_tampered_states_are_refused(state, name):
    with pytest.raises(ValueError, match=rf"its entry '{name}' is .* do not use it\."):
        Columns.read(state, 3)


WITHOUT = """
import json, sys
import numpy as np

for name in ("pandas", "polars", "pyarrow"):
    sys.modules[name] = None
from sklearn_mae.columns import Columns

for name, state in json.load(sys.stdin).items():
    columns = Columns.read(state, 2)
    values = columns.encode([[1.5, "u"]])
    try:
        columns.decode(values)
    except ImportError as error:
        print(name, values.tolist(), error)
"""


def test_libraries_are_needed_for_their_frames_only():
    frame = pd.DataFrame({"x": [1.5, 2], "s": ["u", "v"]})
    tables = {
        "pandas": frame,
        "polars": pl.from_pandas(frame),
        "pyarrow": pa.table({"x": [1.5, 2], "s": ["u", "v"]}),
    }
    states = {name: Columns().fit(table).write() for name, table in tables.items()}

    run = subprocess.run(
        [sys.executable, "-c", WITHOUT],
        input=json.dumps(states),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    assert len(lines) == 3
    for name, line in zip(tables, lines, strict=True):
        assert line.startswith(f"{name} [[1.5, 0.0]] This estimator was fitted on a ")
        assert re.search(rf"Install it: pip install {name}\.$", line)


# --- any table ------------------------------------------------------------------------

PANDAS = {
    "int64": st.integers(-(2**53), 2**53),
    "uint8": st.integers(0, 255),
    "Int16": st.none() | st.integers(-(2**15), 2**15 - 1),
    "float64": st.floats(allow_infinity=False),
    "float32": st.floats(width=32, allow_infinity=False),
    "Float64": st.none() | st.floats(allow_nan=False, allow_infinity=False),
    "bool": st.booleans(),
    "boolean": st.none() | st.booleans(),
    "string": st.none() | st.text(max_size=3),
    "str": st.none() | st.text(max_size=3),
    "category": st.none() | st.text(max_size=3),
}


@st.composite
def tables(draw):
    n = draw(st.integers(1, 4))
    dtypes = draw(st.lists(st.sampled_from(sorted(PANDAS)), min_size=1, max_size=4))
    return pd.DataFrame(
        {
            f"{j} {dtype}": pd.Series(
                draw(st.lists(PANDAS[dtype], min_size=n, max_size=n)), dtype=dtype
            )
            for j, dtype in enumerate(dtypes)
        }
    )


@hypothesis.settings(deadline=None, max_examples=60, derandomize=True)
@hypothesis.given(tables())
def test_any_table_comes_back(X):
    columns = Columns().fit(X)
    values = columns.encode(X)

    pd.testing.assert_frame_equal(columns.decode(values), X, check_exact=True)
    again = Columns.read(columns.write(), X.shape[1])
    pd.testing.assert_frame_equal(again.decode(values), X, check_exact=True)
    # the same rows without their types
    np.testing.assert_array_equal(columns.encode(X.astype(object)), values)
    np.testing.assert_array_equal(columns.encode(X.to_numpy(dtype=object)), values)


def test_a_large_table_takes_no_loop_over_numbers():
    """10 million numbers: a Python loop would take minutes."""
    X = np.zeros((100_000, 100), np.float32)
    columns = Columns().fit(X)

    assert columns.encode(X).shape == X.shape
    assert columns.decode(columns.encode(X)).shape == X.shape
