"""What the networks see of a row, column after column."""

import numpy as np
import torch
from torch import Tensor, nn

from sklearn_mae.families.autoregressive.grids import N_QUANTILES, Grids

__all__ = ["Inputs", "indicators"]

# a number is cut off here, in standard deviations; soft bins are at least so wide
FARTHEST, NARROWEST_BIN = 8.0, 0.02


class Inputs(nn.Module):
    """Numbers for each column: a value and soft bins, or one indicator per category.

    Soft bins, tanh((x - knot) / width) at the column's quantiles, tell a network where
    in its range a number lies. Of a missing entry all are 0; columns that missed some
    in ``fit`` have a mark, which is 1 then.

    Parameters
    ----------
    grids : Grids
        Of the columns.
    numeric : ndarray of shape (m,), bool
        Which of them are numbers.
    marked : ndarray of shape (m,), bool
        Which have marks.
    """

    knots: Tensor
    widths: Tensor
    order: Tensor
    column_of: Tensor
    numbers: Tensor
    of_marks: Tensor
    marks: Tensor

    def __init__(self, grids: Grids, numeric: np.ndarray, marked: np.ndarray):
        super().__init__()
        self.numeric = [int(j) for j in np.flatnonzero(numeric)]
        self.category = [int(j) for j in np.flatnonzero(~numeric)]
        self.marked = [int(j) for j in np.flatnonzero(marked)]
        self.n_columns = m = len(numeric)
        knots = torch.as_tensor(grids.quantiles_)
        self.register_buffer("knots", knots, persistent=False)
        widths = torch.as_tensor(np.gradient(grids.quantiles_, axis=1))
        widths = widths.clamp_min(NARROWEST_BIN)
        self.register_buffer("widths", widths, persistent=False)
        self.cardinalities = [
            1 + N_QUANTILES if numeric[j] else len(grids.values_[j]) for j in range(m)
        ]
        columns = np.arange(m)
        # as ``forward`` makes them: numbers, then categories, then marks
        of_input = np.concatenate(
            [
                np.repeat(columns[some], np.array(self.cardinalities)[some])
                for some in (numeric, ~numeric)
            ]
            + [columns[marked]]
        )
        order = np.argsort(of_input, kind="stable")
        self.register_buffer("order", torch.as_tensor(order), persistent=False)
        column_of = torch.as_tensor(of_input[order])
        self.register_buffer("column_of", column_of, persistent=False)
        self.n_inputs = len(order)
        # of each column, the first of its inputs and the first after them
        self.ends = np.searchsorted(of_input[order], np.arange(m + 1)).tolist()
        for name, of in (
            ("numbers", self.numeric),
            ("of_marks", self.marked),
            ("marks", [self.ends[j + 1] - 1 for j in self.marked]),
        ):
            index = torch.tensor(of, dtype=torch.int64)
            self.register_buffer(name, index, persistent=False)

    def forward(self, values: Tensor, observed: Tensor | None = None) -> Tensor:
        """Return the inputs of whole rows (..., m), shape (..., n_inputs)."""
        values = values.to(self.knots.dtype)
        parts = []
        if self.numeric:
            some = values.index_select(-1, self.numbers)
            parts.append(_of_numbers(some, *self._bins(self.numbers)).flatten(-2))
        parts += [
            indicators(values[..., j], self.cardinalities[j]) for j in self.category
        ]
        if self.marked:
            parts.append(values.new_zeros((*values.shape[:-1], len(self.marked))))
        inputs = torch.cat(parts, -1).index_select(-1, self.order)
        if observed is None:
            return inputs
        inputs = torch.where(observed.index_select(-1, self.column_of), inputs, 0.0)
        if self.marked:
            missing = ~observed.index_select(-1, self.of_marks)
            inputs = inputs.index_add(-1, self.marks, missing.to(inputs.dtype))
        return inputs

    def _bins(self, columns: Tensor) -> tuple[Tensor, Tensor]:
        return self.knots.index_select(0, columns), self.widths.index_select(0, columns)

    def column(self, j: int, values: Tensor, observed: Tensor | None = None) -> Tensor:
        """Return the inputs of one column (n,), shape (n, inputs of the column)."""
        if j in self.numeric:
            inputs = _of_numbers(values, self.knots[j], self.widths[j])
        else:
            inputs = indicators(values, self.cardinalities[j])
        there = values.new_ones(len(values), dtype=torch.bool)
        there = there if observed is None else observed
        inputs = torch.where(there.unsqueeze(-1), inputs, 0.0)
        if j in self.marked:
            inputs = torch.cat([inputs, (~there).to(inputs.dtype).unsqueeze(-1)], -1)
        return inputs


def _of_numbers(values: Tensor, knots: Tensor, widths: Tensor) -> Tensor:
    values = values.clamp(-FARTHEST, FARTHEST).unsqueeze(-1)
    return torch.cat([values, torch.tanh((values - knots) / widths)], -1)


def indicators(values: Tensor, n: int) -> Tensor:
    """Return an indicator of each of n categories, shape (..., n)."""
    levels = torch.arange(n, device=values.device)
    return (values.unsqueeze(-1) == levels).to(values.dtype)
