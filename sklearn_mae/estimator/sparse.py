"""Sparse tables: rows that stay sparse but for those that are worked on."""

import functools
import inspect
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from sklearn.utils import InputTags
from torch import Tensor

from sklearn_mae.columns import canonical, dense, is_sparse, row_blocks, rows_at_once
from sklearn_mae.estimator.arguments import (
    as_tensor,
    check_pair,
    checked_codes,
    seed_from,
)
from sklearn_mae.estimator.targets import all_labels
from sklearn_mae.families import RowFamily
from sklearn_mae.model import Rows

__all__ = ["SparseRows", "block_by_block", "takes_sparse"]


def takes_sparse(family: RowFamily) -> bool:
    """Whether rows may be sparse."""
    tags = InputTags()
    family.describe(tags)
    return tags.sparse


class SparseRows:
    """Rows to train on, of a sparse table.

    Parameters
    ----------
    family : RowFamily
        Fitted.
    X : csr_array of shape (n, n_features_in)
        Checked rows.
    device : torch.device
        Of what is handed out.
    given : ndarray of shape (n, G) or None
        What the decoder is given with them.
    """

    def __init__(self, family, X, device: torch.device, given=None):
        self.family, self.X, self.device, self.given = family, X, device, given

    def _rows(self, index, warn=True) -> Rows:
        rows = self.family.rows(dense(self.X[index]), warn=warn)
        return rows if self.given is None else replace(rows, given=self.given[index])

    def __len__(self):
        return self.X.shape[0]

    def take(self, index: Tensor) -> Rows:
        """Return rows by their numbers, as the model sees them, in single precision."""
        rows = self._rows(index.cpu().numpy(), warn=False)
        rows = rows.map(lambda field: as_tensor(field, torch.float32, self.device))
        return rows.contiguous()  # as batches of an array are

    def some(self, seed: int) -> Rows:
        """Return as many rows as are worked on at once: all where they are few."""
        n, most = self.X.shape[0], rows_at_once(self.X.shape[1])
        index: Any = slice(None)
        if n > most:
            index = np.random.default_rng(seed).choice(n, most, replace=False)
        return self._rows(index)

    def counts(self) -> np.ndarray:
        """How often each of the different rows is found."""
        X = self.X.copy()
        X.eliminate_zeros()
        ends = zip(X.indptr[:-1], X.indptr[1:], strict=True)
        rows = ((X.indices[i:j].tobytes(), X.data[i:j].tobytes()) for i, j in ends)
        return np.array(list(Counter(rows).values()))


def block_by_block(axis: int = 0) -> Callable:
    """Let a method whose figures belong to single rows take sparse rows in blocks.

    Each block is dense, results are joined along ``axis``. Where there is more than
    one block, each has random draws of its own.
    """

    def decorate(method):
        signature = inspect.signature(method)

        @functools.wraps(method)
        def run(self, X, *args, **params):
            if not is_sparse(X) or not takes_sparse(self._fitted.family):
                return method(self, X, *args, **params)
            X, given = canonical(X), signature.bind(self, X, *args, **params).arguments
            Z, y = given.get("Z"), given.get("y")
            if Z is not None:
                Z = checked_codes(Z, self._fitted._n_features_out)
                check_pair(X, Z)
            if y is not None and self._fitted.told:
                y = all_labels(y, X.shape[0])
            if X.shape[0] > rows_at_once(X.shape[1]) and "random_state" in given:
                seed = seed_from(given["random_state"])
                given["random_state"] = np.random.RandomState(seed)
            found, start = [], 0
            for block in row_blocks(X):
                given["X"], stop = block, start + len(block)
                if Z is not None:
                    given["Z"] = Z[start:stop]
                if y is not None:
                    given["y"] = y[start:stop]
                try:
                    found.append(method(**given))
                except ValueError as error:
                    if start:
                        error.add_note(f"(Rows are counted from row {start} of X.)")
                    raise
                start = stop
            return found[0] if len(found) == 1 else np.concatenate(found, axis=axis)

        return run

    return decorate
