"""Values of a saved fit: each check takes what it should, and refuses the rest."""

import re

import numpy as np
import pytest

from sklearn_mae import records

WORDS = np.array([0, 1, 5])
GOOD = {
    "entries": (records.entries, {"a": 1, "b": None}, (["b", "a"],)),
    "count": (records.count, 1, ()),
    "number": (records.number, -1.5, ()),
    "names": (records.names, ["a", "b"], (2,)),
    "no names": (records.names, [], (0,)),
    "outcomes": (records.outcomes, ["b", "a"], ()),
    "boolean": (records.outcomes, [True], ()),
    "numbers": (records.outcomes, [2, 0.5], ()),
    "no outcomes": (records.outcomes, [], ()),
    "array": (records.array, np.array([[1.0, -2.0]]), (np.float64, (1, 2))),
    "bools": (records.array, np.array([True, False]), (np.bool_, (2,))),
    "positive": (records.positive, np.array([1e-300, 2.0]), ((2,),)),
    "increasing": (records.increasing, WORDS, (np.int64,)),
    "one": (records.increasing, np.array([-3.0]), (np.float64,)),
}
BAD = [
    (records.entries, {"a": 1}, (["a", "b"],)),
    (records.entries, {"a": 1, "b": 2, "c": 3}, (["a", "b"],)),
    (records.entries, ["a", "b"], (["a", "b"],)),
    (records.entries, None, ([],)),
    (records.count, 0, ()),
    (records.count, -1, ()),
    (records.count, True, ()),
    (records.count, 1.0, ()),
    (records.count, np.int64(1), ()),
    (records.count, "1", ()),
    (records.number, 1, ()),
    (records.number, np.nan, ()),
    (records.number, -np.inf, ()),
    (records.number, np.float64(1), ()),
    (records.number, None, ()),
    (records.names, ["a"], (2,)),
    (records.names, ["a", 1], (2,)),
    (records.names, ("a", "b"), (2,)),
    (records.names, "ab", (2,)),
    (records.outcomes, ["a", "a"], ()),
    (records.outcomes, ["a", 1], ()),
    (records.outcomes, [True, 2], ()),
    (records.outcomes, [1, 1.0], ()),
    (records.outcomes, [1.0, np.nan], ()),
    (records.outcomes, [np.float64(1)], ()),
    (records.outcomes, [["a"]], ()),
    (records.outcomes, ("a", "b"), ()),
    (records.outcomes, None, ()),
    (records.array, [1.0], (np.float64, (1,))),
    (records.array, np.ones(2), (np.float64, (1,))),
    (records.array, np.ones((1, 1)), (np.float64, (1,))),
    (records.array, np.ones(1, np.float32), (np.float64, (1,))),
    (records.array, np.ones(1, object), (np.float64, (1,))),
    (records.array, np.array([np.nan]), (np.float64, (1,))),
    (records.array, np.array([np.inf]), (np.float64, (1,))),
    (records.positive, np.array([1.0, 0.0]), ((2,),)),
    (records.positive, np.array([1.0, -1.0]), ((2,),)),
    (records.positive, np.array([1, 2]), ((2,),)),
    (records.positive, np.ones(3), ((2,),)),
    (records.increasing, np.array([0, 1, 1]), (np.int64,)),
    (records.increasing, WORDS[::-1], (np.int64,)),
    (records.increasing, WORDS, (np.float64,)),
    (records.increasing, WORDS[None], (np.int64,)),
    (records.increasing, np.array([], np.int64), (np.int64,)),
    (records.increasing, np.array([0.0, np.nan]), (np.float64,)),
    (records.increasing, [0, 1], (np.int64,)),
]


@pytest.mark.parametrize(("check", "value", "wanted"), GOOD.values(), ids=GOOD)
def test_what_is_as_it_was_saved_comes_back(check, value, wanted):
    found = check(value, *wanted, "entry")

    np.testing.assert_equal(found, value)
    assert type(found) is type(value)


@pytest.mark.parametrize("name", ["array", "positive", "increasing"])
def test_arrays_are_copied(name):
    """A caller who changes the file's array changes no fit."""
    check, value, wanted = GOOD[name]

    assert not np.shares_memory(check(value, *wanted, "entry"), value)


@pytest.mark.parametrize(
    ("check", "value", "wanted"),
    BAD,
    ids=[f"{i}-{check.__name__}" for i, (check, _, _) in enumerate(BAD)],
)
def test_anything_else_is_refused(check, value, wanted):
    with pytest.raises(ValueError, match=r"its entry 'scale_' is .* do not use it\."):
        check(value, *wanted, "scale_")


def test_what_is_refused_is_shown_shortened():
    records.need(True, "seed", None)

    with pytest.raises(
        ValueError, match=re.escape("'seed' is [0, 1, 2, 3, 4, 5, ...]")
    ):
        records.need(False, "seed", list(range(1000)))


def test_every_check_is_tested():
    checks = {check.__name__ for check, _, _ in GOOD.values()}
    refused = {check.__name__ for check, _, _ in BAD}

    assert checks == refused == {*records.__all__} - {"need"}
