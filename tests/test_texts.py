"""Texts and rows of word ids in the place of a table: what is taken for which."""

import numpy as np
import pandas as pd
import pytest

from sklearn_mae.families.texts import (
    are_sequences,
    look_like_sequences,
    text_problem,
)

SENTENCES = np.array([[7, 3, 2, 0], [2, 0, 0, 0], [3, 1, 9, 2]])


@pytest.mark.parametrize("X", ["one text", b"bytes", [b"bytes"], np.array(["a", "b"])])
def test_what_counts_as_text(X):
    assert "SequenceVectorizer" in text_problem(X)


@pytest.mark.parametrize(
    "X",
    [
        pd.DataFrame({"text": ["a", "b"]}),
        np.array([["a"], ["b"]]),
        [["a", "word"], ["b"]],
    ],
    ids=["frame", "table", "lists of words"],
)
def test_texts_in_cells_count_if_asked_for(X):
    assert text_problem(X) is None
    assert "SequenceVectorizer" in text_problem(X, in_tables=True)


@pytest.mark.parametrize(
    "X", [[[1.0], [2.0]], np.eye(2), np.array(1.0), {"a": [1]}, 3, None, iter("ab")]
)
def test_what_is_no_text(X):
    assert text_problem(X) is None
    assert text_problem(X, in_tables=True) is None


def test_sequences_are_words_then_one_end_then_pads():
    rows = np.array(
        [*SENTENCES, [3, 4, 5, 6], [2, 3, 0, 0], [0, 3, 2, 0], [2, 2, 0, 0]]
    )

    assert are_sequences(rows).tolist() == [True] * 3 + [False] * 4


@pytest.mark.parametrize("dtype", [np.int64, np.float32, np.float64])
def test_sequences_of_several_lengths_look_like_some(dtype):
    assert look_like_sequences(SENTENCES.astype(dtype))


@pytest.mark.parametrize(
    "X",
    [
        SENTENCES[:1],
        np.array([[3, 4, 2], [5, 3, 2]]),
        SENTENCES + 0.5,
        -SENTENCES,
        np.vstack([SENTENCES, [3, 4, 5, 6]]),
        np.array([[0.0, 1.0], [1.0, 0.0]]),
    ],
    ids=["one", "one length", "fractions", "negative", "one without an end", "bits"],
)
def test_other_tables_do_not(X):
    assert not look_like_sequences(X)
