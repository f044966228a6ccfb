"""Texts and rows of word ids in the place of a table: how they are recognised."""

import numpy as np

from sklearn_mae.text import END, PAD

__all__ = ["are_sequences", "look_like_sequences", "text_problem"]


def are_sequences(X: np.ndarray) -> np.ndarray:
    """Which rows hold one end mark, and pads just where it has passed."""
    ends = (X == END).cumsum(axis=1)
    passed = np.pad(ends[:, :-1], ((0, 0), (1, 0))) > 0
    return (ends[:, -1] == 1) & ((X == PAD) == passed).all(axis=1)


def look_like_sequences(X: np.ndarray) -> bool:
    """Whether all rows are sequences, of several lengths: no table of numbers is."""
    lengths = np.unique((X == END).argmax(axis=1))
    return len(lengths) > 1 and bool(
        (X >= 0).all() and (X == np.floor(X)).all() and are_sequences(X).all()
    )


def text_problem(X, in_tables: bool = False) -> str | None:
    """Say what to do with texts, or return None for anything else.

    Texts in the cells of a table, or words in lists, count only if asked for.
    """
    if in_tables and hasattr(X, "to_numpy"):
        X = X.to_numpy()
    if in_tables and isinstance(X, np.ndarray):
        X = X.ravel()
    if in_tables and isinstance(X, list | tuple):
        X = [cell for row in X for cell in (row if isinstance(row, list) else [row])]
    rows = [X] if isinstance(X, str | bytes) else X
    if not isinstance(rows, list | tuple) and getattr(X, "ndim", None) != 1:
        return None
    if not any(isinstance(row, str | bytes) for row in rows):
        return None
    return (
        "X holds texts, and MutualAutoencoder takes numbers. Put "
        "SequenceVectorizer() in front, as in make_pipeline(SequenceVectorizer(), "
        "MutualAutoencoder(likelihood='sequence')), and give that the texts, one by "
        "one: a list, or one column of a frame. If it stands there already, this step "
        "of the pipeline takes pipeline[:-1].transform(texts)."
    )
