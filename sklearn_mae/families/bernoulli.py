"""Binary columns."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus

from sklearn_mae.families.base import FisherTerm
from sklearn_mae.families.gaussian import Numeric, shown
from sklearn_mae.model import PrivateDistribution

__all__ = ["Bernoulli", "IndependentBernoulli"]


class IndependentBernoulli(PrivateDistribution):
    """Independent binary columns; a value between 0 and 1 counts in proportion."""

    has_rsample = False

    def __init__(self, logits):
        self.logits = logits
        super().__init__(logits.shape[:-1], logits.shape[-1:])

    @property
    def mean(self):
        """Probabilities of a one."""
        return self.logits.sigmoid()

    def entry_log_prob(self, value):
        """Log-probability of each entry."""
        return value * self.logits - softplus(self.logits)

    def log_prob(self, value):
        """Log-probability, summed over the columns."""
        return (value * self.logits).sum(-1) - softplus(self.logits).sum(-1)

    def entropy(self):
        """Entropy in nats."""
        return (softplus(self.logits) - self.logits * self.mean).sum(-1)

    def sample(self, sample_shape=(), generator=None):
        """Draw zeros and ones."""
        p = self.mean.detach().expand(*sample_shape, *self.logits.shape)
        u = torch.empty_like(p, memory_format=torch.contiguous_format)
        # not torch.bernoulli: a diverged model's NaN is to be reported, not to raise
        return (u.uniform_(generator=generator) < p).to(p)


class Bernoulli(Numeric):
    """Columns of values in [0, 1]."""

    discrete = True

    def check(self, X: np.ndarray, names: Callable) -> None:
        """Refuse what is outside."""
        wrong = (X < 0) | (X > 1)
        if wrong.any():
            raise ValueError(
                "X holds values outside [0, 1], which likelihood='bernoulli' needs: "
                f"column(s) {names(wrong.any(axis=0))}, for example "
                f"{shown(X[wrong][0])}. Scale the columns with "
                "sklearn.preprocessing.MinMaxScaler(clip=True) or use "
                "likelihood='gaussian'."
            )

    def standardised(self, X: np.ndarray) -> np.ndarray:
        """There are no units."""
        return np.full(X.shape, np.nan)

    def distribution(
        self, outputs: Tensor, given: dict[str, Tensor]
    ) -> IndependentBernoulli:
        """Return Bernoulli distributions of such logits."""
        return IndependentBernoulli(outputs)

    def outcomes(self) -> list[int]:
        """Two for each column."""
        return [2] * len(self.mean_)

    def fisher_terms(self, p: IndependentBernoulli) -> list[FisherTerm]:
        """Of the logits."""
        mean = p.mean
        root = (mean * (1 - mean)).sqrt()
        return [FisherTerm(root.unsqueeze(-1), p.logits.unsqueeze(-1))]
