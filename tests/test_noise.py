"""Noise that belongs to a row."""

import numpy as np
import pytest
from scipy import stats

from sklearn_mae.noise import row_noise, with_occurrence

rng = np.random.default_rng(0)
NUMBERS = rng.normal(size=(50, 3)) * [1e-6, 1.0, 1e6] + [1.0, 0.0, -1e7]


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


def test_occurrences_tell_equal_rows_apart():
    X = np.array([[1.0, 2.0], [0.0, 0.0], [1.0, 2.0], [1.0, 2.0], [0.0, 0.0]])

    numbered = with_occurrence(X)

    np.testing.assert_array_equal(numbered[:, :2], X)
    np.testing.assert_array_equal(numbered[:, 2], [0, 0, 1, 2, 1])
    assert len(np.unique(row_noise(numbered, 0, 1))) == len(X)
