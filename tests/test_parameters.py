"""Numbers as parameters: numpy's are taken as Python's own, booleans are none."""

from fractions import Fraction
from numbers import Integral, Real

import numpy as np
import pytest
from sklearn.utils._param_validation import InvalidParameterError, RealNotInt

from sklearn_mae import MutualAutoencoder, SequenceVectorizer
from sklearn_mae.parameters import Number, OneOf, plain_number

SIZE = Number(Integral, 1, None, closed="left")
LENGTH = Number(Real, 0, None, closed="left")
SHARE = Number(RealNotInt, 0, 1, closed="both")


@pytest.mark.parametrize("kind", [int, np.int64, np.uint8])
def test_integers(kind):
    assert SIZE.is_satisfied_by(kind(3))
    assert LENGTH.is_satisfied_by(kind(3))
    assert not SHARE.is_satisfied_by(kind(1))
    assert not SIZE.is_satisfied_by(kind(0))


@pytest.mark.parametrize("kind", [float, np.float32, np.float64, Fraction])
def test_real_numbers(kind):
    assert LENGTH.is_satisfied_by(kind(0.5))
    assert SHARE.is_satisfied_by(kind(0.5))
    assert not SHARE.is_satisfied_by(kind(1.5))
    assert not SIZE.is_satisfied_by(kind(2))


@pytest.mark.parametrize("value", [True, np.False_, np.inf, np.nan, 10**400, "1", None])
def test_what_is_no_number(value):
    for interval in (SIZE, LENGTH, SHARE):
        assert not interval.is_satisfied_by(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(np.uint8(3), 3), (np.float32(0.5), 0.5), (np.True_, True), ("a", "a")],
)
def test_plain_numbers(value, expected):
    found = plain_number(value)

    assert found == expected
    assert type(found) is type(expected)


def test_names_are_listed_in_their_order():
    names = OneOf("one", "two", "three", "four", "five")

    assert str(names) == "a str among {'one', 'two', 'three', 'four', 'five'}"
    assert names.is_satisfied_by("two")
    for wrong in ("six", 1, None, ["one"]):
        assert not names.is_satisfied_by(wrong)


DEFAULT_FIRST = ("encoder", "likelihood", "constraint", "mi_gradient", "codes")


@pytest.mark.parametrize("name", [*DEFAULT_FIRST, "activation"])
def test_messages_list_names_as_the_documentation_does(name):
    with pytest.raises(InvalidParameterError) as caught:
        MutualAutoencoder(**{name: "foo"}).fit([[1.0], [2.0]])

    listed = str(caught.value).partition("{")[2].partition("}")[0]
    documented = MutualAutoencoder.__doc__.partition(f"    {name} : ")[2]
    documented = documented.partition("{")[2].partition("}")[0]
    assert listed.replace("'", '"') == " ".join(documented.split())
    assert listed.startswith(repr(MutualAutoencoder().get_params()[name]))


@pytest.mark.parametrize("value", [True, np.True_])
@pytest.mark.parametrize(
    ("estimator", "name"),
    [
        (MutualAutoencoder(), "n_components"),
        (MutualAutoencoder(), "M"),
        (SequenceVectorizer(), "max_length"),
        (SequenceVectorizer(), "min_df"),
    ],
    ids=repr,
)
def test_estimators_take_no_boolean_for_a_number(estimator, name, value):
    with pytest.raises(InvalidParameterError, match=f"The '{name}' parameter of "):
        estimator.set_params(**{name: value}).fit(["a b", "b c"])
