"""The bracket of an information, and what a method that finds one must offer."""

from dataclasses import dataclass, field
from typing import Protocol, Self

import torch

from sklearn_mae.model import LatentVariableModel

__all__ = ["Bracket", "Method", "Plan", "hits"]


@dataclass(frozen=True)
class Bracket:
    """Estimates of a lower and an upper bound on an information, in nats.

    Parameters
    ----------
    lower, upper : float
        The estimates. Noise may put the lower one above the upper one.
    lower_se, upper_se : float
        Their standard errors.
    method : str
        How they were found: "enumeration", "grid", "sandwich" or "contrastive".
    took : dict of str to int
        What that took, where it applies: ``n_samples``, ``n_proposals``,
        ``n_outcomes``, ``n_codes``, ``n_temperatures``.
    """

    lower: float
    upper: float
    lower_se: float
    upper_se: float
    method: str
    took: dict[str, int] = field(default_factory=dict)

    @classmethod
    def around(cls, value: float, se: float, method: str, **took: int) -> Self:
        """Return the bracket of an estimate that is both bounds."""
        return cls(value, value, se, se, method, took)

    @property
    def estimate(self) -> float:
        """Midpoint."""
        return 0.5 * (self.lower + self.upper)

    @property
    def interval(self) -> tuple[float, float]:
        """Both bounds, two standard errors further out."""
        return self.lower - 2 * self.lower_se, self.upper + 2 * self.upper_se

    @property
    def width(self) -> float:
        """Width of the interval; NaN where the model diverged."""
        return self.upper - self.lower + 2 * (self.lower_se + self.upper_se)

    def as_dict(self) -> dict:
        """Return what public methods report: the estimate, all fields, what it took."""
        return {
            "estimate": self.estimate,
            "lower": self.lower,
            "upper": self.upper,
            "lower_se": self.lower_se,
            "upper_se": self.upper_se,
            "method": self.method,
            **self.took,
        }


def hits(interval: tuple[float, float], M: float, tolerance: float) -> bool | None:
    """Whether an information is within a tolerance of M, as far as its interval tells.

    Parameters
    ----------
    interval : tuple of (float, float)
        Where the information lies, in nats. What is below 0 counts as 0.
    M, tolerance : float
        In nats.

    Returns
    -------
    bool or None
        Whether all of the interval is; False where none of it is. None: not decided.
    """
    low, high = (max(0.0, end) for end in interval)
    if max(M - low, high - M) <= tolerance:
        return True
    return None if max(low - M, M - high) <= tolerance else False


class Method(Protocol):
    """One way to bracket the information of a model."""

    def affords(self, model: LatentVariableModel) -> bool:
        """Whether the method can be tried at all."""

    def bracket(
        self, model: LatentVariableModel, generator: torch.Generator
    ) -> Bracket | None:
        """Bracket I(x, z); None hands over to the next method."""


class Plan(Method, Protocol):
    """A method whose sizes a pilot run has chosen."""

    @property
    def width(self) -> float:
        """Width of the interval that the pilot run promises, in nats."""

    @property
    def spent(self) -> int:
        """Codes that the pilot run decoded."""

    def bracket(
        self, model: LatentVariableModel, generator: torch.Generator
    ) -> Bracket:
        """Bracket I(x, z) from fresh draws."""
