"""Tables of one family of columns: the way there and back, messages, keys."""

import numpy as np
import pytest

from sklearn_mae.families.bernoulli import Bernoulli
from sklearn_mae.families.categorical import Categorical
from sklearn_mae.families.gaussian import Continuous, Gaussian
from sklearn_mae.families.table import Table
from sklearn_mae.families.user import UserTable

rng = np.random.default_rng(0)
NUMBERS = rng.normal(size=(50, 3)) * [1e-6, 1.0, 1e6] + [1.0, 0.0, -1e7]
BITS = (rng.random((50, 3)) < 0.4).astype(float)
CATEGORIES = rng.choice([0, 3, 7, 1000], size=(50, 3)).astype(float)
TABLES = {
    Gaussian: NUMBERS,
    Continuous: NUMBERS,
    Bernoulli: BITS,
    Categorical: CATEGORIES,
}
every_family = pytest.mark.parametrize(
    "family", TABLES, ids=[family.__name__ for family in TABLES]
)


def with_constant(X, value):
    return np.insert(X, 1, value, axis=1)


# --- there and back -------------------------------------------------------------------


@every_family
def test_inverse_undoes_transform(family):
    X = TABLES[family]
    table = Table(family()).fit(X)

    back = table.inverse_transform(table.transform(X))

    np.testing.assert_allclose(back, X, rtol=1e-12)


def test_continuous_columns_are_standardised():
    Y = Table(Gaussian()).fit(NUMBERS).transform(NUMBERS)

    np.testing.assert_allclose(Y.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(Y.std(axis=0), 1, rtol=1e-12)


def test_log_volume_is_that_of_the_scaling():
    table = Table(Gaussian()).fit(NUMBERS)

    expected = np.log(NUMBERS.std(axis=0)).sum()
    log_volumes = table.log_volume(table.rows(NUMBERS))
    assert log_volumes == pytest.approx(np.full(50, expected), rel=1e-12)


@pytest.mark.parametrize("family", [Continuous, Bernoulli, Categorical])
def test_log_volume_is_zero_where_nothing_is_scaled(family):
    table = Table(family()).fit(TABLES[family])

    assert not table.log_volume(table.rows(TABLES[family])).any()


def test_a_user_s_likelihood_has_the_columns_as_they_are():
    table = UserTable().fit(NUMBERS)

    assert type(table.family) is Continuous
    np.testing.assert_array_equal(table.transform(NUMBERS), NUMBERS)


def test_categories_become_indices():
    table = Table(Categorical()).fit(np.array([[7.0, 2.0], [0.0, 5.0], [3.0, 2.0]]))

    Y = table.transform(np.array([[3.0, 5.0], [7.0, 2.0]]))

    assert Y.dtype == np.int64
    np.testing.assert_array_equal(Y, [[1, 1], [2, 0]])


def test_inverse_takes_leading_axes():
    table = Table(Categorical()).fit(with_constant(CATEGORIES, 9))
    Y = table.transform(with_constant(CATEGORIES, 9))

    X = table.inverse_transform(np.stack([Y, Y[::-1]]))

    assert X.shape == (2, 50, 4)
    np.testing.assert_array_equal(X[0], with_constant(CATEGORIES, 9))
    np.testing.assert_array_equal(X[1], X[0, ::-1])


# --- constant columns -----------------------------------------------------------------


@every_family
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_constant_columns_are_left_out_and_put_back(family, value):
    X = TABLES[family]
    table = Table(family()).fit(with_constant(X, value))

    assert table.n_varying == 3
    np.testing.assert_array_equal(
        table.transform(with_constant(X, value)), Table(family()).fit(X).transform(X)
    )
    back = table.inverse_transform(table.transform(with_constant(X, value)))
    np.testing.assert_array_equal(back[:, 1], value)


@every_family
@pytest.mark.parametrize("value", [-3.0, 0.5, 1e300])
def test_new_rows_may_hold_anything_in_a_constant_column(family, value):
    X = TABLES[family]
    table = Table(family()).fit(with_constant(X, 1.0))

    np.testing.assert_array_equal(
        table.transform(with_constant(X, value)),
        table.transform(with_constant(X, 1.0)),
    )


def test_constant_columns_add_nothing_to_the_log_volume():
    plain = Table(Gaussian()).fit(NUMBERS)
    padded = Table(Gaussian()).fit(with_constant(NUMBERS, 12345.6))

    rows = plain.rows(NUMBERS)
    np.testing.assert_array_equal(padded.log_volume(rows), plain.log_volume(rows))


def test_a_spread_that_is_rounding_is_none():
    third = np.where(np.arange(50) % 2, 0.1 + 0.2, 0.3) * 1e9

    table = Table(Gaussian()).fit(with_constant(NUMBERS, third))

    assert not table.varying_[1]


@every_family
def test_all_columns_constant(family):
    with pytest.raises(ValueError, match="All 2 columns of X are constant"):
        Table(family()).fit(np.ones((5, 2)))


@pytest.mark.parametrize(
    "column", [np.array([-1e308, 1e308, 0]), np.array([0, 1e-200, 2e-200])]
)
def test_scale_out_of_range(column):
    X = np.column_stack([[1.0, 2.0, 3.0], column])

    with pytest.raises(ValueError, match=r"column\(s\) 1 of X leaves the range"):
        Table(Gaussian()).fit(X)


# --- values that a kind of column cannot hold -----------------------------------------


@pytest.mark.parametrize("wrong", [-0.1, 1.5])
def test_outside_the_unit_interval(wrong):
    X = BITS.copy()
    X[4, 2] = wrong
    message = rf"X holds values outside \[0, 1\].*column\(s\) 2, for example {wrong}"

    with pytest.raises(ValueError, match=message):
        Table(Bernoulli()).fit(X)
    with pytest.raises(ValueError, match=message):
        Table(Bernoulli()).fit(BITS).transform(X)


def test_between_zero_and_one_is_allowed():
    X = rng.random((20, 2))

    np.testing.assert_array_equal(Table(Bernoulli()).fit(X).transform(X), X)


@pytest.mark.parametrize(
    ("wrong", "start"), [(-1.0, "Negative values in data: X holds"), (2.5, "X holds")]
)
def test_no_category(wrong, start):
    X = CATEGORIES.copy()
    X[4, 0] = wrong
    message = rf"^{start} values that are no categories.*column\(s\) 0, .* {wrong:g}\."

    with pytest.raises(ValueError, match=message):
        Table(Categorical()).fit(X)
    with pytest.raises(ValueError, match=message):
        Table(Categorical()).fit(CATEGORIES).transform(X)


def test_unseen_categories():
    table = Table(Categorical()).fit(CATEGORIES, ["colour", "size", "shape"])
    X = CATEGORIES.copy()
    X[:2, 1] = 5, 2000

    message = "not seen in fit. They count as missing: column size: 5, 2000. Map them"
    with pytest.warns(UserWarning, match=message) as caught:
        rows = table.rows(X)
    assert len(caught) == 1
    np.testing.assert_array_equal(~rows.observed, X != CATEGORIES)
    holes = np.where(rows.observed, X, np.nan)
    np.testing.assert_array_equal(table.rows(holes).observed, rows.observed)
    np.testing.assert_array_equal(table.keys(X), table.keys(holes))


def test_messages_name_columns_past_constant_ones():
    table = Table(Categorical()).fit(with_constant(CATEGORIES, 1), list("abcd"))
    X = with_constant(CATEGORIES, 1)
    X[0, 2] = 5

    with pytest.warns(UserWarning, match="column c: 5"):
        table.transform(X)


# --- what a row's noise may depend on -------------------------------------------------


@every_family
def test_keys_know_neither_units_nor_constants_nor_types(family):
    X = TABLES[family]
    keys = Table(family()).fit(X).keys(X)
    padded = Table(family()).fit(with_constant(X, 1.0))

    np.testing.assert_array_equal(padded.keys(with_constant(X, 1e300)), keys)
    np.testing.assert_array_equal(
        Table(family()).fit(X).keys(X.astype(np.float32)), keys
    )
    if family is Gaussian:
        scaled = X * [2.0**7, 0.5, 2.0**-20]
        np.testing.assert_array_equal(Table(family()).fit(scaled).keys(scaled), keys)


def test_keys_of_large_categories():
    X = np.array([[2.0**40], [2.0**40 + 1], [0.0]])

    assert np.isfinite(Table(Categorical()).fit(X).keys(X)).all()


# --- what a column's variance rests on ------------------------------------------------


@pytest.mark.parametrize("m", [1, 5, 50])
def test_support_is_the_number_of_rows_that_differ(m):
    column = np.zeros(10_000)
    column[:m] = 7.0
    table = Table(Gaussian()).fit(column[:, np.newaxis])

    assert table.family.support_ == pytest.approx([m], rel=0.03)


def test_support_of_normal_columns_is_a_third_of_the_rows():
    n = 20_000
    X = np.random.default_rng(0).normal(loc=3, scale=0.2, size=(n, 4))

    # five standard errors of the fourth moment of a normal: var z^4 = 96
    error = 5 * np.sqrt(96 / n) / 3
    assert Table(Gaussian()).fit(X).family.support_ == pytest.approx(
        [n / 3] * 4, rel=error
    )
