"""One small network for each column, all of them one batched product."""

import math

import torch
from torch import Tensor, nn

from sklearn_mae.encoders import Posterior
from sklearn_mae.families.autoregressive.inputs import Inputs
from sklearn_mae.families.filtering import FilteredNormal, filter_objective
from sklearn_mae.model import ACTIVATIONS, DiagonalNormal, normal_of

__all__ = ["ColumnNetworks", "FilteringPosterior"]


def _uniform(bound: float, *shape: int) -> nn.Parameter:
    return nn.Parameter((torch.rand(shape) * 2 - 1) * bound)


class ColumnNetworks(nn.Module):
    """A network of two layers for each column, which sees the columns before it.

    Column j's outputs are ``n_outputs`` numbers. A linear map of the numbers before it
    goes straight to them: one column may be nearly linear in another.

    Parameters
    ----------
    inputs : Inputs
        What is seen of a row.
    n_code : int
        Numbers that each network gets besides, whose weights begin at zero.
    n_outputs : int
        Numbers that each network gives.
    n_hidden : int
        Units of both layers.
    activation : str
        Of both.
    own : bool
        Whether a network sees its own column, too.
    """

    mask: Tensor
    direct_mask: Tensor
    numbers: Tensor

    def __init__(
        self,
        inputs: Inputs,
        n_code: int,
        n_outputs: int,
        n_hidden: int,
        activation: str,
        own: bool = False,
    ):
        super().__init__()
        m, n_inputs, numbers = inputs.n_columns, inputs.n_inputs, inputs.numbers
        # a number is the first of its column's inputs
        first = torch.tensor(inputs.ends)[numbers]
        self.register_buffer("numbers", first, persistent=False)
        self.n_numbers = [int((numbers < j).sum()) for j in range(m)]
        columns = torch.arange(m).unsqueeze(1) + own
        mask = (inputs.column_of < columns).unsqueeze(-1).double()
        self.register_buffer("mask", mask, persistent=False)
        direct_mask = (numbers < columns).unsqueeze(-1).double()
        self.register_buffer("direct_mask", direct_mask, persistent=False)
        self.activation, self.n_hidden = ACTIVATIONS[activation](), n_hidden
        fan = (mask.sum(1, keepdim=True) + n_code + 1).float()
        self.rows = nn.Parameter(torch.randn(m, n_inputs, n_hidden) / fan.sqrt())
        self.rows_bias = _uniform(0.5, m, 1, n_hidden)
        if n_code:
            self.codes = nn.Parameter(torch.zeros(m, n_code, n_hidden))
        self.hidden = _uniform(math.sqrt(3 / n_hidden), m, n_hidden, n_hidden)
        self.hidden_bias = _uniform(0.1, m, 1, n_hidden)
        self.output = _uniform(0.5 / math.sqrt(n_hidden), m, n_hidden, n_outputs)
        self.output_bias = nn.Parameter(torch.zeros(m, 1, n_outputs))
        if len(numbers):
            self.direct = nn.Parameter(torch.zeros(m, len(numbers), n_outputs))

    def of_rows(self, inputs: Tensor) -> Tensor:
        """The rows' part of the first layers, (m, N, H), of inputs (N, n_inputs)."""
        return inputs @ (self.rows * self.mask) + self.rows_bias

    def of_codes(self, code: Tensor) -> Tensor:
        """The codes' part of the first layers, (m, N, H), of numbers (N, n_code)."""
        return code @ self.codes

    def straight(self, inputs: Tensor) -> Tensor:
        """What numbers in inputs (N, n_inputs) add to the outputs, (m, N, ..)."""
        if not len(self.numbers):
            return torch.zeros_like(self.output_bias)
        numbers = inputs.index_select(-1, self.numbers)
        return numbers @ (self.direct * self.direct_mask)

    def after(self, first: Tensor, j: int | None = None) -> Tensor:
        """Outputs for sums of both parts, (m, N, H); of column j for (N, H)."""
        which = slice(None) if j is None else j
        h = self.activation(first)
        h = h + self.activation(h @ self.hidden[which] + self.hidden_bias[which])
        return h @ self.output[which] + self.output_bias[which]

    def step(self, j: int, inputs: Tensor, code: Tensor | None) -> Tensor:
        """Outputs of column j, (N, n_outputs), from the inputs before it alone.

        ``code`` (m, N, H) or None is what ``of_codes`` returned.
        """
        first = inputs @ self.rows[j, : inputs.shape[-1]] + self.rows_bias[j]
        if code is not None:
            first = first + code[j]
        outputs, n = self.after(first, j), self.n_numbers[j]
        if n:
            numbers = inputs.index_select(-1, self.numbers[:n])
            outputs = outputs + numbers @ self.direct[j, :n]
        return outputs


class FilteringPosterior(Posterior):
    """r_omega(z|x) of whole rows, and of the columns up to each one.

    Parameters
    ----------
    network : nn.Module
        From inputs, and what is given behind them, to 2 d numbers.
    prefixes : ColumnNetworks
        Of 2 d outputs each, which see their own columns.
    n_given, n_outputs : int
        Numbers that are given besides rows, and 2 d.
    """

    def __init__(
        self,
        network: nn.Module,
        prefixes: ColumnNetworks,
        n_given: int,
        n_outputs: int,
    ):
        super().__init__(network)
        self.prefixes = prefixes
        if n_given:
            # what is given moves what the columns say
            self.shift = nn.Linear(n_given, n_outputs)

    def forward(self, features: Tensor, given: Tensor | None = None) -> FilteredNormal:
        """Return r(z|x), or r(z|x, g), x seen as inputs (..., n_inputs)."""
        whole = super().forward(features, given)
        flat = features.flatten(0, -2)
        outputs = self.prefixes.after(self.prefixes.of_rows(flat))
        outputs = outputs + self.prefixes.straight(flat)
        outputs = outputs.movedim(0, 1).unflatten(0, features.shape[:-1])
        if given is not None:
            outputs = outputs + self.shift(given.to(outputs)).unsqueeze(-2)
        inside = torch.ones_like(outputs[..., 0], dtype=torch.bool)
        return FilteredNormal(whole, normal_of(outputs), inside)

    def objective(self, r: DiagonalNormal, z: Tensor) -> Tensor:
        """What omega maximises: log r(z|x), plus its mean over the row's prefixes."""
        return filter_objective(r, z)  # type: ignore[arg-type]
