"""Noise that belongs to a row: a pure function of its values and a seed. No torch."""

import numpy as np
from scipy.special import ndtri

__all__ = ["row_noise", "with_occurrence"]


def row_noise(X: np.ndarray, seed: int, n_columns: int) -> np.ndarray:
    """Standard normal noise that is a pure function of a row's values and a seed.

    Equal rows have equal noise, wherever they stand in the table and in whichever
    float type they come.

    Parameters
    ----------
    X : ndarray of shape (n, D)
        Rows.
    seed : int
        Seed.
    n_columns : int
        How many numbers to make for each row.

    Returns
    -------
    ndarray of shape (n, n_columns)
        The noise.
    """
    # + 0.0 turns -0.0 into 0.0
    with np.errstate(over="ignore"):
        bits = (np.asarray(X, dtype=np.float32) + np.float32(0.0)).view(np.uint32)
        state = np.full(len(X), seed, dtype=np.uint64)
        for column in np.ascontiguousarray(bits.T):
            state = _mix(state ^ column.astype(np.uint64))
        counters = np.arange(1, n_columns + 1, dtype=np.uint64)
        mixed = _mix(state[:, None] + counters * np.uint64(0x9E3779B97F4A7C15))
    return ndtri(((mixed >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53)


def with_occurrence(X: np.ndarray) -> np.ndarray:
    """Add a column that tells equal rows apart: 0 for the first of them, 1, 2, ...

    Parameters
    ----------
    X : ndarray of shape (n, D)
        Rows.

    Returns
    -------
    ndarray of shape (n, D + 1)
        All different, for ``row_noise``.
    """
    _, group, counts = np.unique(
        X.astype(np.float32), axis=0, return_inverse=True, return_counts=True
    )
    order = np.argsort(group.reshape(-1), kind="stable")
    starts = np.repeat(np.cumsum(counts) - counts, counts)
    occurrence = np.empty(len(X))
    occurrence[order] = np.arange(len(X)) - starts
    return np.column_stack([X, occurrence])


def _mix(state: np.ndarray) -> np.ndarray:
    """One round of splitmix64 (Steele, Lea and Flood 2014)."""
    state = state + np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
