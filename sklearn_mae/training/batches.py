"""Rows of a fit, and the batches that they are handed out in."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset

from sklearn_mae.model import Rows

__all__ = ["Batches", "TrainingRows"]


class TrainingRows(Dataset):
    """Rows, handed out in batches rather than one by one.

    Parameters
    ----------
    x : Rows, Tensor or object
        The rows, or what has their number for its length and a ``take`` as theirs.
    lengths : array-like of shape (n,) or None
        Of the rows, where a batch costs what its longest row does.
    """

    def __init__(self, x, lengths=None):
        self.x = Rows.of(x) if isinstance(x, Tensor) else x
        self.lengths = None if lengths is None else torch.as_tensor(lengths)

    def __len__(self):
        return len(self.x)


class Batches:
    """Shuffled batches of nearly equal size, at most ``batch_size`` rows each.

    Where rows have lengths, those of a few batches that follow each other are dealt
    out by length, and these batches are shuffled: each row of a batch costs as much as
    its longest. Which rows meet in these few batches is drawn anew in each epoch.

    A data loader that collates single rows takes longer than the step of a small
    network, and draws from torch's global generator.
    """

    # batches that exchange rows: many leave few pads, and few mix rows well
    pooled = 8

    def __init__(
        self, dataset: TrainingRows, batch_size: int, generator: torch.Generator
    ):
        self.x, self.lengths, self.generator = dataset.x, dataset.lengths, generator
        self.n_batches = -(-len(dataset) // batch_size)

    def __len__(self):
        return self.n_batches

    def __iter__(self):
        batches = self._permutation(len(self.x)).tensor_split(self.n_batches)
        for first in range(0, len(batches), self.pooled):
            some = batches[first : first + self.pooled]
            for rows in some if self.lengths is None else self._by_length(some):
                yield self.x.take(rows)

    def _by_length(self, batches: Sequence[Tensor]) -> list[Tensor]:
        """Deal out the rows of batches anew: those of one batch are about as long."""
        rows = torch.cat(list(batches))
        rows = rows[self.lengths.to(rows.device)[rows].argsort(stable=True)]
        batches = rows.split([len(batch) for batch in batches])
        return [batches[i] for i in self._permutation(len(batches)).tolist()]

    def _permutation(self, n: int) -> Tensor:
        return torch.randperm(n, generator=self.generator, device=self.generator.device)
