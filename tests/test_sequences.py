"""Rows of word ids: the way there and back, cuts, messages."""

import re
import warnings

import numpy as np
import pytest

from sklearn_mae import text
from sklearn_mae.families import sequences
from sklearn_mae.families.sequences import Sequences

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
        assert getattr(sequences, name) == getattr(text, name)


def test_the_model_sees_positions_among_the_known_words():
    rows = Sequences().fit(SENTENCES)
    Y = rows.transform(SENTENCES)

    assert Y.dtype == np.int64
    np.testing.assert_array_equal(rows.words_, [0, 1, 2, 3, 7, 900])
    np.testing.assert_array_equal(
        Y, [[4, 3, 2, 0], [2, 0, 0, 0], [3, 1, 5, 2], [4, 3, 2, 0]]
    )
    assert rows.n_varying == rows.length_ == 4
    assert not rows.log_volume(rows.rows(SENTENCES)).any()


def test_marks_are_known_though_no_row_holds_them():
    X = np.array([[3, 4, 2], [4, 4, 2]])

    np.testing.assert_array_equal(Sequences().fit(X).words_, [0, 1, 2, 3, 4])


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_inverse_undoes_transform_of_sequences(dtype):
    X = SENTENCES.astype(dtype)
    rows = Sequences().fit(X)
    back = rows.inverse_transform(rows.transform(X))

    assert back.dtype == np.int64
    np.testing.assert_array_equal(back, X)
    Y = rows.transform(X)
    both = rows.inverse_transform(np.stack([Y, Y[::-1]]))
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


def test_lengths_count_the_end_mark_and_no_pads():
    X = np.array([[3, 4, 2, 0], [2, 0, 0, 0], [3, 3, 4, 2]])
    family = Sequences().fit(X)

    assert family.lengths(family.rows(X)).tolist() == [3, 1, 4]


def test_unseen_words_are_unknown_with_a_warning():
    rows = Sequences().fit(SENTENCES)
    X = np.array([[4, 7, 2, 0, 0, 0], [1000, 899, 1, 2, 0, 0.0]])

    message = r"X holds 3 word numbers that .* for example 4: .* Known are 3 of the num"
    with pytest.warns(UserWarning, match=message):
        Y = rows.transform(X)
    np.testing.assert_array_equal(Y, [[1, 4, 2, 0], [1, 1, 1, 2]])
    np.testing.assert_array_equal(rows.keys(X), Y)


def test_a_fit_does_not_go_on_with_other_words():
    rows = Sequences().fit(SENTENCES)
    rows.again(np.array([[7, 1, 3, 2, 0, 0.0]]))

    message = r"X holds 1 word numbers .* example 8, .* 3 of the numbers 3 to 900\. "
    with pytest.raises(ValueError, match=message):
        rows.again(np.array([[7, 8, 3, 2, 0, 0.0]]))


def test_longer_rows_are_cut_with_a_warning():
    rows = Sequences().fit(SENTENCES)
    X = np.array(
        [[3, 3, 3, 3, 2, 0], [7, 7, 7, 2, 0, 0], [3, 7, 3, 7, 3, 2.0], SENTENCES[0]]
    )
    with pytest.warns(UserWarning, match="2 of 4 rows of X are longer .* 4 columns"):
        Y = rows.transform(X)

    np.testing.assert_array_equal(
        Y, [[3, 3, 3, 2], [4, 4, 4, 2], [3, 4, 3, 2], [4, 3, 2, 0]]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of one call there is one warning
        np.testing.assert_array_equal(rows.keys(X), Y)
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
