"""Categorical columns."""

import warnings
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from sklearn_mae.encoders import CategoryTable, OneHot
from sklearn_mae.families.base import ColumnFamily, FisherTerm
from sklearn_mae.families.gaussian import shown
from sklearn_mae.model import PrivateDistribution
from sklearn_mae.records import increasing, need

__all__ = [
    "IMPOSSIBLE",
    "TOO_LARGE",
    "Categorical",
    "IndependentCategorical",
    "no_whole_numbers",
]

# from here on a float64 does not hold every integer, and codes would be merged
TOO_LARGE = 2**53
# categories that are worth a word: more than one for so many of a column's entries
FEW_CATEGORIES, MOST_CATEGORIES = 50, 0.5
# finite, so that 0 * log 0 is 0 in sums over outcomes
IMPOSSIBLE = -1e30


def no_whole_numbers(X: np.ndarray) -> np.ndarray:
    """Which entries are no integers of at least 0 that float64 tells apart.

    Entries that are missing, NaN, are not among them.
    """
    return (X < 0) | ((X != np.floor(X)) & ~np.isnan(X)) | (X >= TOO_LARGE)


class IndependentCategorical(PrivateDistribution):
    """Independent categorical columns; outcomes are indices 0 .. c_j - 1."""

    has_rsample = False

    def __init__(self, log_probs):
        self.log_probs = log_probs  # (..., m, max_j c_j)
        super().__init__(log_probs.shape[:-2], log_probs.shape[-2:-1])

    @property
    def mode(self):
        """Most probable category of each column."""
        return self.log_probs.argmax(-1)

    def entry_log_prob(self, value):
        """Log-probability of each entry."""
        value, _ = torch.broadcast_tensors(value, self.log_probs[..., 0])
        log_probs = self.log_probs.expand(*value.shape, -1)
        return log_probs.gather(-1, value.unsqueeze(-1)).squeeze(-1)

    def log_prob(self, value):
        """Log-probability, summed over the columns."""
        return self.entry_log_prob(value).sum(-1)

    def entropy(self):
        """Entropy in nats."""
        return -(self.log_probs.exp() * self.log_probs).sum((-2, -1))

    def sample(self, sample_shape=(), generator=None):
        """Draw indices."""
        log_probs = self.log_probs.detach().expand(*sample_shape, *self.log_probs.shape)
        u = torch.rand(
            log_probs.shape[:-1],
            generator=generator,
            dtype=log_probs.dtype,
            device=log_probs.device,
        )
        below = log_probs.exp().cumsum(-1) < u.unsqueeze(-1)
        # rounding may leave the last cumulated probability just below u
        last = (log_probs > IMPOSSIBLE / 2).sum(-1) - 1
        # and a diverged model, all NaN, has none
        return torch.minimum(below.sum(-1), last.clamp_min(0))


class Categorical(ColumnFamily):
    """Columns of categories, non-negative integers; each has its own number of them.

    The model sees indices 0, 1, ... of the sorted categories.

    Attributes
    ----------
    categories_ : list of m ndarrays of shape (c_j,)
        Sorted categories of each column.
    """

    discrete = True
    indices = True
    kind = "category"
    state = ("categories_",)

    def check(self, X: np.ndarray, names: Callable) -> None:
        """Refuse what is no non-negative integer."""
        wrong = no_whole_numbers(X)
        if wrong.any():
            # scikit-learn's wording
            negative = "Negative values in data: " if (X < 0).any() else ""
            raise ValueError(
                f"{negative}X holds values that are no categories: "
                "likelihood='categorical' needs non-negative integers below 2**53, "
                f"for float64 to tell them apart: column(s) "
                f"{names(wrong.any(axis=0))}, for example {shown(X[wrong][0])}. Encode "
                "the columns with sklearn.preprocessing.OrdinalEncoder or use "
                "likelihood='gaussian'."
            )

    def fit(self, X: np.ndarray, names: Callable) -> "Categorical":
        """Learn the categories."""
        self.categories_ = [np.unique(column[~np.isnan(column)]) for column in X.T]
        many = np.array(self.outcomes()) > np.maximum(
            FEW_CATEGORIES, MOST_CATEGORIES * (~np.isnan(X)).sum(axis=0)
        )
        if many.any():
            warnings.warn(
                f"Column(s) {names(many)} of X hold another category in most rows, as "
                "names, numbers of cases or texts do: they tell nothing of other rows. "
                "Drop them, or make numbers of them; for texts see SequenceVectorizer.",
                UserWarning,
                stacklevel=2,
            )
        return self

    def unknown(self, X: np.ndarray) -> np.ndarray:
        """Which entries are categories that fit has not seen."""
        columns = zip(X.T, self.categories_, strict=True)
        seen = [np.isin(column, known) for column, known in columns]
        return ~np.stack(seen, axis=1) & ~np.isnan(X)

    def encode(self, X: np.ndarray, names: Callable) -> np.ndarray:
        """Take categories to indices."""
        columns = zip(self.categories_, X.T, strict=True)
        indices = [np.searchsorted(known, column) for known, column in columns]
        return np.stack(indices, axis=1)

    def decode(self, Y: np.ndarray) -> np.ndarray:
        """Take indices to categories."""
        pairs = zip(self.categories_, np.moveaxis(Y, -1, 0), strict=True)
        return np.stack([known[index] for known, index in pairs], axis=-1)

    def largest(self) -> np.ndarray:
        """Largest category of each column."""
        return np.array([known[-1] for known in self.categories_])

    def read(self, state: dict, m: int) -> None:
        """Set the categories."""
        known = state["categories_"]
        need(type(known) is list and len(known) == m, "categories_", known)
        self.categories_ = [increasing(of, np.float64, "categories_") for of in known]

    def describe(self, tags) -> None:
        """Tables of categories."""
        tags.categorical = tags.positive_only = True

    @property
    def n_columns(self) -> int:
        """Number of columns."""
        return len(self.categories_)

    def outcomes(self) -> list[int]:
        """Number of categories of each column."""
        return [len(known) for known in self.categories_]

    def features(self) -> nn.Module:
        """One indicator for each category."""
        return OneHot(self.outcomes())

    def input_columns(self) -> np.ndarray:
        """One for each category."""
        return np.repeat(np.arange(self.n_columns), self.outcomes())

    @property
    def n_outputs(self) -> int:
        """A logit for each category."""
        return sum(self.outcomes())

    def encoder_network(self, n_components: int) -> nn.Module | None:
        """One free Gaussian for each category of a single column (paper, 7.2)."""
        if len(self.categories_) > 1:
            return None
        return CategoryTable(self.n_inputs, n_components)

    def constants(self, min_scale) -> dict[str, Tensor]:
        """Which of the (m, largest c_j) categories there are."""
        counts = self.outcomes()
        cardinality = torch.tensor(counts).unsqueeze(-1)
        return {"exists": torch.arange(max(counts)) < cardinality}

    def distribution(
        self, outputs: Tensor, given: dict[str, Tensor]
    ) -> IndependentCategorical:
        """Return categorical distributions of logits, one column after the other."""
        exists = given["exists"]
        shape = (*outputs.shape[:-1], *exists.shape)
        if exists.numel() > outputs.shape[-1]:  # of unequal numbers of categories
            padded = outputs.new_full(shape, IMPOSSIBLE)
            padded[..., exists] = outputs
        else:
            padded = outputs.reshape(shape)
        return IndependentCategorical(log_softmax(padded, -1))

    def point(self, p: IndependentCategorical) -> Tensor:
        """Most probable categories."""
        return p.mode

    def expected(self, p: IndependentCategorical, weights: Tensor) -> Tensor:
        """Most probable categories."""
        return torch.einsum("sn,snmc->nmc", weights, p.log_probs.exp()).argmax(-1)

    def fisher_terms(self, p: IndependentCategorical) -> list[FisherTerm]:
        """Of the log-probabilities."""
        return [FisherTerm((0.5 * p.log_probs).exp(), p.log_probs)]
