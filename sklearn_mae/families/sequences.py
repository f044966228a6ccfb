"""Rows of word ids, as ``SequenceVectorizer`` makes them from texts."""

import warnings
from collections.abc import Iterable

import numpy as np
from torch import nn

from sklearn_mae.encoders import GaussianEncoder, UserEncoder
from sklearn_mae.families.base import Networks, RowFamily, Schedule, Structure
from sklearn_mae.families.categorical import no_whole_numbers
from sklearn_mae.families.gaussian import shown
from sklearn_mae.families.lstm import SequenceFilter, SequenceLikelihood, SequenceReader
from sklearn_mae.families.modules import call_factory
from sklearn_mae.families.texts import are_sequences, text_problem
from sklearn_mae.model import Rows
from sklearn_mae.records import count, entries, increasing, need
from sklearn_mae.text import END, FIRST_WORD, PAD, UNKNOWN

__all__ = ["Sequences"]


class Sequences(RowFamily):
    """Rows of word ids: words, one end mark (2), then pads (0).

    The model sees the words that training rows hold, and as many columns as the longest
    of them takes.

    Attributes
    ----------
    n_columns_ : int
        Columns of X.
    words_ : ndarray of shape (n_words,), int64
        Ids that training rows hold and the marks, sorted; the model sees their
        positions. Any other id is to it what the unknown word (1) is, with a warning.
    length_ : int
        Columns of the longest training row, the end mark included.
    """

    discrete = True
    # Batches are small: long fits of large ones learn the training rows by heart.
    # A step of the LSTMs is dominated by their sizes: seldom is cheap. What starts the
    # learning is the constraint on the encoder's rate; this one gives I time to follow,
    # and then answers to what is missing more than to how long it has been missing. The
    # infomax bound needs no proposals and so serves twice the draws in less time.
    schedule = Schedule(
        batch_size=32,
        n_steps=1_500,
        period=8,
        calibration_samples=(64, 128),
        widest_training_gap=np.inf,
        waiting=0.7,
        stops_waiting_near=None,
        upwards="infomax",
        integral_gain=0.003,
        proportional_gain=0.5,
        growth=0.0,
        late=None,
    )

    def text_problem(self, X) -> str | None:
        """Say what to do with texts, in the cells of a table or in lists, too."""
        return text_problem(X, in_tables=True)

    def fit(
        self, X: np.ndarray, names: Iterable | None = None, y: object = None
    ) -> "Sequences":
        """Learn from a checked table of shape (n, n_features_in)."""
        self.n_columns_ = X.shape[1]
        ids = self._checked(X)
        self.length_ = int((ids != PAD).any(axis=0).sum())
        self.words_ = np.union1d(ids, [PAD, UNKNOWN, END])
        if (ids == ids[0]).all():
            raise ValueError(
                f"All {len(X)} rows of X are the same sequence: there is nothing to "
                "encode. Pass at least one row that differs."
            )
        return self

    def again(self, X: np.ndarray) -> "Sequences":
        """Refuse words that fit has not seen: the networks have no place for them."""
        unseen = self._unseen(self._checked(X))
        if len(unseen):
            raise ValueError(
                f"X holds {len(unseen)} word numbers that the first fit has not seen, "
                f"for example {unseen[0]}, and warm_start=True keeps the words of the "
                f"first fit: {len(self.words_) - FIRST_WORD} of the numbers 3 to "
                f"{self.words_[-1]}. A vectorizer that was fitted again numbers other "
                "words: give it vocabulary and max_length of the first. Replace single "
                "new words by 1, or set warm_start=False to start anew."
            )
        return self

    @property
    def n_varying(self) -> int:
        """Number of columns that the model sees."""
        return self.length_

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Take rows to what the model sees, int64 of shape (n, length_).

        Raises
        ------
        ValueError
            If a row is no sequence.
        """
        ids = self._checked(X)
        unseen = self._unseen(ids)
        if len(unseen):
            warnings.warn(
                f"X holds {len(unseen)} word numbers that no row of fit holds, for "
                f"example {unseen[0]}: they are taken for unknown words (1). Known are "
                f"{len(self.words_) - FIRST_WORD} of the numbers 3 to "
                f"{self.words_[-1]}. Pass rows of the vectorizer that gave the rows of "
                "fit.",
                UserWarning,
                stacklevel=2,
            )
        return self._cut(ids, warn=True)

    def keys(self, X: np.ndarray) -> np.ndarray:
        """Take checked rows to what their noise may depend on, for ``row_noise``."""
        return self._cut(X.astype(np.int64), warn=False)

    def lengths(self, rows: Rows) -> np.ndarray:
        """Return the number of tokens of each row, (n,), the end mark included."""
        return (rows.values != PAD).sum(axis=1)

    def inverse_transform(self, Y: np.ndarray) -> np.ndarray:
        """Take what the model sees, shape (..., length_), back to ids."""
        X = np.full((*Y.shape[:-1], self.n_columns_), PAD, dtype=np.int64)
        X[..., : self.length_] = self.words_[Y]
        return X

    def _unseen(self, ids: np.ndarray) -> np.ndarray:
        """Ids that the model has no place for, sorted."""
        return np.setdiff1d(ids, self.words_)

    def _cut(self, ids: np.ndarray, warn: bool) -> np.ndarray:
        longer = (ids[:, self.length_ :] != PAD).any(axis=1)
        if warn and longer.any():
            warnings.warn(
                f"{longer.sum()} of {len(ids)} rows of X are longer than all rows of "
                f"fit and were cut to {self.length_} columns, end mark included: their "
                "figures are those of the cut rows. Fit on rows that are as long.",
                UserWarning,
                stacklevel=2,
            )
        ids = ids[:, : self.length_].copy()
        ids[longer, -1] = END
        index = np.searchsorted(self.words_, ids).clip(max=len(self.words_) - 1)
        return np.where(self.words_[index] == ids, index, UNKNOWN)

    def _checked(self, X: np.ndarray) -> np.ndarray:
        wrong = no_whole_numbers(X)
        if wrong.any():
            raise ValueError(
                f"X holds {shown(X[wrong][0])} in row {np.argwhere(wrong)[0, 0]}; "
                "likelihood='sequence' takes word ids, integers of at least 0. Let "
                "SequenceVectorizer make them from texts."
            )
        ids = X.astype(np.int64)
        good = are_sequences(ids)
        if not good.all():
            row = np.flatnonzero(~good)[0]
            raise ValueError(
                f"Row {row} of X, {ids[row].tolist()}, is no sequence: "
                "likelihood='sequence' takes rows of word ids (1 for an unknown word, "
                "3 and above for the others), one end mark 2, then pads 0. Let "
                "SequenceVectorizer make them from texts."
            )
        return ids

    def networks(self, structure: Structure) -> Networks:
        """Build likelihood, encoder, posterior and features."""
        hidden, d = structure.hidden_layer_sizes, structure.n_components
        if len(hidden) < 2:
            raise ValueError(
                f"hidden_layer_sizes={hidden!r} has {len(hidden)} "
                "entry; likelihood='sequence' needs the size of the words' embeddings "
                "and of at least one LSTM layer. Pass for example (128, 128)."
            )
        n_words, length = len(self.words_), self.length_

        def reader():
            return SequenceReader(n_words, length, hidden, 2 * d)

        likelihood = SequenceLikelihood(n_words, length, hidden, structure.n_decoded)
        encoder: nn.Module
        if callable(structure.encoder):
            module = call_factory("encoder", structure.encoder, length, d)
            encoder = UserEncoder(module)
        else:
            encoder = GaussianEncoder(reader())
        posterior = SequenceFilter(reader(), structure.n_given)
        return likelihood, encoder, posterior, nn.Identity()

    def write(self) -> dict:
        """Return what ``fit`` learned as arrays and plain values."""
        return dict(vars(self))

    def read(self, state: dict, structure: Structure, n_features: int) -> "Sequences":
        """Take over what ``write`` returned, each entry checked."""
        state = entries(state, ("n_columns_", "length_", "words_"), "columns")
        self.n_columns_ = count(state["n_columns_"], "n_columns_")
        self.length_ = count(state["length_"], "length_")
        fits = self.length_ <= self.n_columns_ == n_features
        need(fits, "length_", self.length_)
        self.words_ = increasing(state["words_"], np.int64, "words_")
        need(self.words_[:3].tolist() == [PAD, UNKNOWN, END], "words_", self.words_)
        return self
