"""From codes and known entries to rows: the methods that return rows of data."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from sklearn_mae.estimator.arguments import (
    as_type,
    check_count,
    checked_codes,
    to_numpy,
)
from sklearn_mae.estimator.fitted import Fitted, at_once
from sklearn_mae.estimator.tables import (
    check_fills,
    index_of,
    row_given,
    rows_of_transform,
)
from sklearn_mae.imputation import (
    conditional_draws,
    conditional_means,
    log_prob_of_observed,
)
from sklearn_mae.model import Rows

__all__ = ["GeneratorMixin"]

# weighted codes behind a class's p(x_o|y)
N_IMPORTANCE = 256


class GeneratorMixin:
    """Methods that return rows of data, as ``fit`` got its rows."""

    _fitted: Fitted

    @at_once
    def inverse_transform(
        self, X: ArrayLike, round: bool = True, y: ArrayLike | None = None
    ) -> Any:
        """Decode codes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_components)
            Codes.
        round : bool, default=True
            Whether numbers in data frames get the decimals that ``fit`` saw, stay in
            the range that it saw, and integers get their type. Arrays are never
            rounded.
        y : array-like of shape (n_samples,), or a label, optional
            Labels of the rows, where the decoder sees them (``target="condition"``).

        Returns
        -------
        ndarray or data frame of shape (n_samples, n_features)
            As ``fit`` got its rows: an array (of sparse rows, too), or a frame of the
            same library, columns and types. Means of continuous and binary columns,
            most probable values of categories and counts, the most probable next word,
            one after the other, of sequences; constant columns as they were in ``fit``.
            Of ``likelihood="autoregressive"``, and of a callable whose Distribution
            has no closed mean, means and most probable categories over seeded draws, 32
            and 256 of them.

        Raises
        ------
        ValueError
            If codes do not have `n_components` columns, or the decoder sees labels and
            `y` is not given.
        """
        index = index_of(X)
        Z = checked_codes(X, self._fitted._n_features_out)
        given = self._given(y, len(Z))
        rows = self._decoded(self._fitted.tensor(Z), Z.dtype, given)
        return self._fitted.as_given(rows, round, index)

    @at_once
    def reconstruct(
        self,
        X: ArrayLike,
        n_samples: int | None = None,
        random_state: int | np.random.RandomState | None = None,
        round: bool = True,
        y: ArrayLike | None = None,
    ) -> Any:
        """Encode rows and decode their codes.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_rows, n_features)
            Rows.
        n_samples : int or None, default=None
            Number of draws from each row's posterior. None: its mean.
        random_state : int, RandomState instance or None, default=None
            Of the draws.
        round : bool, default=True
            As in :meth:`inverse_transform`.
        y : array-like of shape (n_rows,), or a label, optional
            Labels of the rows, where the decoder sees them (``target="condition"``).

        Returns
        -------
        ndarray of shape (n_rows, n_features) or (n_samples, n_rows, n_features)
            Reconstructions, all entries of them: what was missing, too. As ``fit`` got
            its rows: where that was a data frame, a frame or a list of them; of sparse
            rows arrays.

        Raises
        ------
        ValueError
            If `n_samples` is below 1, or the decoder sees labels and `y` is not given.
        """
        index = index_of(X)
        X = rows_of_transform(self, X)
        x = self._fitted.labelled(X, y)
        if n_samples is None:
            z = self._fitted.codes.mean_codes(x)
        else:
            z = self._fitted.drawn_codes(x, n_samples, random_state)
        rows = self._decoded(z, X.dtype, x.given)
        return self._fitted.as_given(rows, round, index)

    @at_once
    def interpolate(
        self,
        X_a: ArrayLike,
        X_b: ArrayLike,
        n_steps: int = 10,
        round: bool = True,
        y: ArrayLike | None = None,
    ) -> Any:
        """Decode the way between the codes of two tables, row by row.

        Parameters
        ----------
        X_a, X_b : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows to start from and rows to arrive at.
        n_steps : int, default=10
            Number of points, both ends included.
        round : bool, default=True
            As in :meth:`inverse_transform`.
        y : array-like of shape (n_samples,), or a label, optional
            Labels that the rows on the way have, where the decoder sees
            them (``target="condition"``).

        Returns
        -------
        ndarray of shape (n_steps, n_samples, n_features)
            Decoded points on the lines between mean codes; a list of data frames where
            ``fit`` got one.

        Raises
        ------
        ValueError
            If X_a and X_b differ in length, `n_steps` is below 2, or the decoder sees
            labels and `y` is not given.
        """
        index = index_of(X_a)
        X_a, X_b = rows_of_transform(self, X_a), rows_of_transform(self, X_b)
        n_steps = check_count("n_steps", n_steps, 2)
        if len(X_a) != len(X_b):
            raise ValueError(
                f"X_a has {len(X_a)} rows and X_b {len(X_b)}; interpolate goes from "
                "each row of X_a to the same row of X_b. Pass tables of equal length."
            )
        codes = self._fitted.codes
        a, b = self._fitted.labelled(X_a, y), self._fitted.seen(X_b)
        ends = codes.mean_codes(a), codes.mean_codes(b)
        t = torch.linspace(0, 1, n_steps, dtype=ends[0].dtype, device=ends[0].device)
        z = torch.lerp(ends[0], ends[1], t[:, None, None])
        rows = self._decoded(z, X_a.dtype, a.given)
        return self._fitted.as_given(rows, round, index)

    @at_once
    def sample(
        self,
        n_samples: int = 1,
        random_state: int | np.random.RandomState | None = None,
        return_codes: bool = False,
        given: Any = None,
        round: bool = True,
        y: ArrayLike | None = None,
    ) -> Any:
        """Draw rows from the model.

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows.
        random_state : int, RandomState instance or None, default=None
            Of the draws. None takes a fresh seed from numpy's global state.
        return_codes : bool, default=False
            Whether to return the codes z that the rows were drawn from, too.
        given : mapping, row of a data frame or None, default=None
            Known entries of a table's rows by their columns: the labels of the frame
            that ``fit`` got, positions in an array. A row without names holds all
            columns, NaN where nothing is known. Codes are drawn from the model's
            posterior given these entries, then the other entries given the codes.
        round : bool, default=True
            As in :meth:`inverse_transform`.
        y : array-like of shape (n_samples,), or a label, optional
            Labels of the rows, where the decoder sees them (``target="condition"``).
            None: drawn, with the frequencies of ``fit``, and given the known entries.

        Returns
        -------
        X : ndarray or data frame of shape (n_samples, n_features)
            Rows from p(x), or from p(x | given), whole ones. As ``fit`` got its rows.
        Z : ndarray of shape (n_samples, n_components)
            Their codes: (X, Z) are joint draws. Only if `return_codes`.

        Raises
        ------
        ValueError or TypeError
            If `given` names a column that is not there, holds no entry, one of another
            sort than in ``fit``, a category that ``fit`` has not seen or more than one
            row, or rows are no tables.
        """
        n_samples = check_count("n_samples", n_samples, 1)
        fitted = self._fitted
        generator = fitted.generator(random_state)
        if given is None:
            labels = None if y is None else self._given(y, n_samples)
            x, z = fitted.evaluation.sample(n_samples, generator, labels)
            X = fitted.table(x)
            X = fitted.as_given(as_type(X, X.dtype), round)
        else:
            check_fills(fitted, "sample(given=...)")
            known = row_given(self, given)
            there = fitted.family.observed(known)
            if not there.any():
                raise ValueError(
                    f"given={given!r} holds no entry that fit knows. Pass at least one."
                )
            values, z = self._given_entries(known, y, n_samples, generator)
            X = fitted.table(Rows(values))
            X = fitted.filled(known, there, as_type(X, X.dtype), round)
        return (X, to_numpy(z)) if return_codes else X

    @at_once
    def impute(
        self,
        X: ArrayLike,
        n_samples: int | None = None,
        random_state: int | np.random.RandomState | None = None,
        round: bool = True,
        y: ArrayLike | None = None,
    ) -> Any:
        """Fill missing entries of a table.

        From the model's posterior given a row's observed entries: codes from a mixture
        s(z) around its mode, weighted by p(z) p(x_o|z) / s(z). The encoder, which may
        not know a row's pattern, has no say. Entries are taken to be missing at random:
        whether one is missing may depend on what is observed, not on its own value. A
        category that fit has not seen counts as missing, and is replaced. Of a column
        whose entries were all missing in ``fit`` nothing is known: its holes stay.
        Numbers pass through float64, which tells integers up to 2**53 apart: make
        strings of larger ones. With ``likelihood="autoregressive"`` missing entries are
        drawn in the order of the columns, and draws weighted by the observed entries
        after them.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.
        n_samples : int or None, default=None
            Number of draws, for multiple imputation. None: the conditional mean of a
            number, rounded for a count, and the most probable category.
        random_state : int, RandomState instance or None, default=None
            Of the draws. None takes a fresh seed from numpy's global state.
        round : bool, default=True
            As in :meth:`inverse_transform`.
        y : array-like of shape (n_samples,), or a label, optional
            Labels of the rows, where the decoder sees them (``target="condition"``).

        Returns
        -------
        ndarray or data frame of shape (n_samples, n_features)
            Rows without missing entries, as ``fit`` got its rows; of draws an array of
            shape (draws, n_samples, n_features) or a list of frames.

        Raises
        ------
        ValueError
            If rows are no tables, or `likelihood` is a callable.

        Warns
        -----
        UserWarning
            If rows rest on fewer than 10 effective draws of 1,024, with
            ``likelihood="autoregressive"``.

        Notes
        -----
        With ``likelihood="autoregressive"`` draws are chosen among 1,024 weighted ones,
        256 at a time: where few of them have much weight, some are drawn twice, and
        means of columns with heavy tails are noisy. A row takes about a tenth of a
        second. To fill holes prefer the other likelihoods.
        """
        fitted = self._fitted
        check_fills(fitted, "impute")
        index = index_of(X)
        X = rows_of_transform(self, X, fills=True)
        seen, there = fitted.labelled(X, y), fitted.family.observed(X)
        rows = np.flatnonzero(~there.all(axis=1))
        some = seen[rows]
        if n_samples is None:
            shape = X.shape
        else:
            n_samples = check_count("n_samples", n_samples, 1)
            shape = n_samples, *X.shape
        others = np.broadcast_to(X, shape).copy()
        if len(rows):
            if n_samples is None:
                keys = fitted.noise_of(X[rows], fitted.evaluation)
                values = conditional_means(fitted.evaluation, some, keys)
            else:
                values, _ = conditional_draws(
                    fitted.evaluation, some, n_samples, fitted.generator(random_state)
                )
            others[..., rows, :] = fitted.table(Rows(values))
        return fitted.filled(X, there, others, round, index)

    def _given(self, y, n: int) -> torch.Tensor | None:
        """Return what the decoder is given for the labels of n rows."""
        self._fitted.check_told(y)
        rows = self._fitted.with_labels(Rows(np.empty((n, 0))), y)
        return None if rows.given is None else self._fitted.tensor(rows.given)

    def _given_entries(self, known: np.ndarray, y, n: int, generator):
        """Draw n rows and codes given the known entries of one row, and labels."""
        fitted = self._fitted
        x = fitted.seen(known)
        target = fitted.target
        fitted.check_told(y)
        if target is None or not target.told:
            values, z = conditional_draws(fitted.evaluation, x, n, generator)
            return values[:, 0], z[:, 0]
        if y is None:
            labels = self._labels_given(x, target, n, generator)
        else:
            labels = target.index(y, n)
        values = z = torch.empty(0)
        for label in np.unique(labels):
            own = np.flatnonzero(labels == label)
            one_hot = np.eye(target.n_classes)[[label]]
            some = replace(x, given=fitted.tensor(one_hot))
            found = conditional_draws(fitted.evaluation, some, len(own), generator)
            if not len(values):
                values, z = (part.new_empty(n, part.shape[-1]) for part in found)
            values[own], z[own] = found[0][:, 0], found[1][:, 0]
        return values, z

    def _labels_given(self, x: Rows, target, n: int, generator) -> np.ndarray:
        """Draw n classes given the known entries of one row: p(y) p(x_o|y)."""
        fitted = self._fitted
        index = torch.zeros(target.n_classes, dtype=torch.int64)
        x = x.take(index.to(generator.device))
        x = replace(x, given=fitted.tensor(np.eye(target.n_classes)))
        log_p = log_prob_of_observed(fitted.evaluation, x, N_IMPORTANCE)
        shares = torch.softmax(log_p + fitted.tensor(target.shares).log(), 0)
        return to_numpy(torch.multinomial(shares, n, True, generator=generator))

    def _decoded(self, z, dtype, given=None):
        values = self._fitted.evaluation.decode(z, given)
        X = self._fitted.table(Rows(values, given=given))
        return X if X.dtype == np.int64 else as_type(X, dtype)
