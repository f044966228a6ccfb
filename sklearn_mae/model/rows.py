"""Rows as they travel: values, which of them are observed, and what is given.

What is said of x everywhere else holds of its observed entries x_o: p(x|z) is
p(x_o|z, g), with g what the decoder is given besides the code. A row of the model is
drawn whole; which of its entries are observed, and what is given, is drawn from the
rows of ``fit``. Where all is observed and nothing given, a row is its values.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from sklearn_mae.model.distributions import PrivateDistribution, draw

__all__ = ["Pool", "RowDistribution", "Rows"]


@dataclass(frozen=True)
class Rows:
    """Rows, of arrays or of tensors, that are indexed and broadcast as one.

    Parameters
    ----------
    values : Tensor or ndarray of shape (..., D)
        Entries as the model sees them; those that are not observed are of no account.
    observed : Tensor or ndarray of shape (..., D), bool, or None
        Which entries there are. None: all.
    given : Tensor or ndarray of shape (..., G) or None
        What the decoder is given besides the code.
    """

    values: Any
    observed: Any = None
    given: Any = None

    @classmethod
    def of(cls, x) -> "Rows":
        """Return rows; values alone are rows of which all is observed."""
        return x if isinstance(x, cls) else cls(x)

    def map(self, function: Callable) -> "Rows":
        """Apply a function to each of the fields that there are."""
        fields = (self.values, self.observed, self.given)
        return Rows(*(None if field is None else function(field) for field in fields))

    def __len__(self):
        return len(self.values)

    def __getitem__(self, index) -> "Rows":
        return self.map(lambda field: field[index])

    def take(self, index: Tensor) -> "Rows":
        """Return rows of tensors by their numbers."""
        return self.map(lambda field: field.index_select(0, index))

    def split(self, size: int) -> list["Rows"]:
        """Split into chunks of at most so many rows."""
        return [self[i : i + size] for i in range(0, len(self), size)]

    def unsqueeze(self, dim: int) -> "Rows":
        """Insert an axis before the last one."""
        return self.map(lambda field: field.unsqueeze(dim))

    def complete(self) -> "Rows":
        """Return the same rows as rows of which all is observed."""
        return Rows(self.values, None, self.given)

    def without_given(self) -> "Rows":
        """Return the same rows, nothing given."""
        return Rows(self.values, self.observed)

    def to(self, dtype: torch.dtype) -> "Rows":
        """Convert numbers to a floating type; indices and marks stay."""
        return self.map(
            lambda field: field.to(dtype) if field.is_floating_point() else field
        )

    def contiguous(self) -> "Rows":
        """Lay the entries of a row side by side."""
        return self.map(lambda field: field.contiguous())

    @property
    def shape(self):
        """Shape of the values."""
        return self.values.shape

    @property
    def context(self) -> dict[str, Any]:
        """All but the values, by name, as far as there is any."""
        fields = {"observed": self.observed, "given": self.given}
        return {name: field for name, field in fields.items() if field is not None}

    def log_prob(self, p: Distribution) -> Tensor:
        """Log-probability of the observed entries under p(x|z, g)."""
        if self.observed is None:
            return p.log_prob(self.values)
        pattern: Any = p.of_pattern(self.observed)  # type: ignore[attr-defined]
        entries = pattern.entry_log_prob(self.values)
        return torch.where(self.observed, entries, 0.0).sum(-1)


class Pool(nn.Module):
    """Marks of observed entries, and what is given, of the rows of ``fit``.

    Parameters
    ----------
    observed : Tensor of shape (N, D), bool, or None
        Which entries there are. None: all.
    given : Tensor of shape (N, G) or None
        What the decoder is given.
    counts : Tensor of shape (N,), int64, or None
        In how many rows each is found. None: in one.
    """

    observed: Tensor | None
    given: Tensor | None
    ends: Tensor | None

    def __init__(
        self,
        observed: Tensor | None = None,
        given: Tensor | None = None,
        counts: Tensor | None = None,
    ):
        super().__init__()
        ends = None if counts is None else counts.cumsum(0)
        self.register_buffer("ends", ends, persistent=False)
        self.register_buffer("observed", observed, persistent=False)
        self.register_buffer("given", given, persistent=False)

    def patterns(self) -> tuple[Tensor, list[float]]:
        """Return the different patterns of observed entries, and their shares."""
        assert self.observed is not None
        patterns, index = self.observed.unique(dim=0, return_inverse=True)
        counts = index.new_zeros(len(patterns))
        if self.ends is None:
            each = torch.ones_like(index)
        else:
            each = self.ends.diff(prepend=self.ends.new_zeros(1))
        counts.index_add_(0, index, each)
        return patterns, (counts / counts.sum()).tolist()

    def draw(self, n: int, generator: torch.Generator) -> dict[str, Tensor | None]:
        """Draw those of n rows, with replacement."""
        fields = {"observed": self.observed, "given": self.given}
        lengths = [len(field) for field in fields.values() if field is not None]
        if not lengths:
            return fields
        size = lengths[0] if self.ends is None else int(self.ends[-1])
        device = generator.device
        index = torch.randint(size, (n,), generator=generator, device=device)
        if self.ends is not None:
            index = torch.searchsorted(self.ends, index, right=True)
        return {
            name: None if field is None else field[index]
            for name, field in fields.items()
        }


class RowDistribution(PrivateDistribution):
    """p(x|z, g) as a distribution over ``Rows``.

    Parameters
    ----------
    base : Distribution
        Over values, of batch shape (n,).
    observed, given : Tensor or None
        Of each of the n rows.
    """

    def __init__(self, base: Distribution, observed=None, given=None):
        if observed is not None:
            base = base.of_pattern(observed)  # type: ignore[attr-defined]
        self.base, self.observed, self.given = base, observed, given
        self.has_rsample = base.has_rsample
        self.partly_reparametrised = getattr(base, "partly_reparametrised", False)
        super().__init__(base.batch_shape, base.event_shape)

    def sample(self, sample_shape=(), generator=None):
        """Draw without a gradient."""
        return self._drawn(sample_shape, generator, reparametrised=False)

    def rsample(self, sample_shape=(), generator=None):
        """Reparametrised draw."""
        return self._drawn(sample_shape, generator, reparametrised=True)

    def _drawn(self, sample_shape, generator, reparametrised) -> Rows:
        values = draw(self.base, sample_shape, generator, reparametrised)
        return Rows(values, self.observed, self.given)

    def log_prob(self, x):
        """Log-probability of observed entries."""
        return x.log_prob(self.base)

    def log_prob_without_path(self, x: Rows) -> Tensor:
        """Log-probability of observed entries that ``rsample`` has no gradient for."""
        base: Any = self.base
        return base.log_prob_without_path(x.values, x.observed)
