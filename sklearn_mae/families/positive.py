"""Columns of positive numbers whose logarithm has a normal distribution given z."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from sklearn_mae.families.gaussian import Gaussian, shown
from sklearn_mae.model import DiagonalNormal

__all__ = ["LogNormal"]


class LogNormal(Gaussian):
    """Lognormal columns, each with a standard deviation of its logarithm.

    The model sees standardised logarithms; means and scales are those of logarithms.
    """

    def check(self, X: np.ndarray, names: Callable) -> None:
        """Refuse what has no logarithm."""
        wrong = X <= 0
        if wrong.any():
            raise ValueError(
                "X holds values that are not positive, which likelihood='lognormal' "
                f"needs: column(s) {names(wrong.any(axis=0))}, for example "
                f"{shown(X[wrong][0])}. Use likelihood='gaussian' for these columns."
            )

    def varies(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Which columns' logarithms spread wider than rounding."""
        return super().varies(np.log(low), np.log(high)) & super().varies(low, high)

    def fit(self, X: np.ndarray, names: Callable) -> "LogNormal":
        """Learn means and scales of logarithms."""
        super().fit(np.log(X), names)
        return self

    def standardised(self, X: np.ndarray) -> np.ndarray:
        """Standardise logarithms."""
        return super().standardised(np.log(X))

    def key(self, X: np.ndarray) -> np.ndarray:
        """Standardise logarithms, of what float32 takes for 0 those of the least."""
        return self.standardised(np.maximum(X, np.finfo(np.float64).tiny))

    def decode(self, Y: np.ndarray) -> np.ndarray:
        """Undo that; what float64 cannot hold is infinite."""
        with np.errstate(over="ignore"):
            return np.exp(super().decode(Y))

    def log_volume(self, Y: np.ndarray) -> np.ndarray:
        """Logarithms of the scales, and of the values themselves."""
        return super().log_volume(Y) + super().decode(Y)

    def point(self, p: DiagonalNormal) -> Tensor:
        """What stands for the mean, which is above the median."""
        return self._mean_of(p)

    def expected(self, p: DiagonalNormal, weights: Tensor) -> Tensor:
        """What stands for the mean of a mixture."""
        scale = torch.as_tensor(self.scale_).to(p.loc)
        log_weights = weights.log().unsqueeze(-1)
        return torch.logsumexp(scale * self._mean_of(p) + log_weights, 0) / scale

    def _mean_of(self, p: DiagonalNormal) -> Tensor:
        scale = torch.as_tensor(self.scale_).to(p.loc)
        return p.loc + 0.5 * scale * torch.exp(2 * p.log_scale)
