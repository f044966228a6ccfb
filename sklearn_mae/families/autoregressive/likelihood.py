"""p(x|z) = prod_j p(x_j | x_<j, z), the columns in the order of the table.

log p(x|z) is one pass through all columns' networks. A draw goes through the columns
one by one, each step running one column's network alone. Missing entries are seen as
such by the columns after them, and not scored: p(x_o|z, o) depends on the pattern o,
and is no marginal of p(x|z).
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from sklearn_mae.families.autoregressive.cells import Cells
from sklearn_mae.families.autoregressive.inputs import Inputs
from sklearn_mae.families.autoregressive.networks import ColumnNetworks
from sklearn_mae.families.base import Likelihood
from sklearn_mae.families.table import all_rows
from sklearn_mae.gradients import PerEntry, Reinforce
from sklearn_mae.model import (
    Cost,
    LatentVariableModel,
    PrivateDistribution,
    Rows,
)

__all__ = ["AutoregressiveDistribution", "AutoregressiveLikelihood", "Filled"]

# hidden units behind z besides itself
N_CODE = 32
# numbers held at once where no gradient has to be kept
NUMBERS_AT_ONCE = 4_000_000
# draws behind the value that stands for p(x|z), of so many codes in one call
N_DRAWS, DECODED_AT_ONCE = 32, 1_024


def _uniform(generator: torch.Generator, like: Tensor, *shape: int) -> Tensor:
    """Two uniform numbers for each entry of a shape."""
    shape = 2, *shape
    return torch.rand(shape, generator=generator, dtype=like.dtype, device=like.device)


class Filled(NamedTuple):
    """Rows whose missing entries were drawn, in the order of the columns.

    ``values`` (S, n, D), floats; ``log_lik`` (S, n), of the observed entries given all
    entries before them.
    """

    values: Tensor
    log_lik: Tensor


class AutoregressiveDistribution(PrivateDistribution):
    """Distribution over rows, one for each code.

    Parameters
    ----------
    likelihood : AutoregressiveLikelihood
        The decoder.
    z : Tensor of shape (..., d)
        Codes.
    observed : Tensor of shape (..., D), bool, or None
        Which entries of rows are seen. None: all.
    """

    def __init__(self, likelihood, z: Tensor, observed: Tensor | None = None):
        self.likelihood, self.z, self.observed = likelihood, z, observed
        path = likelihood.cells.path
        self.has_rsample = all(path)
        self.partly_reparametrised = any(path) and not all(path)
        super().__init__(z.shape[:-1], torch.Size([likelihood.n_features]))

    def of_pattern(self, observed: Tensor) -> "AutoregressiveDistribution":
        """Return p(x_o|z, o), o which entries of rows are seen."""
        return AutoregressiveDistribution(self.likelihood, self.z, observed)

    def inside(self, value: Tensor) -> Tensor:
        """Which entries have no path and are seen, shape (..., D), bool."""
        scored = (~self.likelihood.cells.has_path).expand(value.shape)
        return scored if self.observed is None else scored & self.observed

    def log_prob(self, value):
        """Log-probability of rows."""
        return self.entry_log_prob(value).sum(-1)

    def entry_log_prob(self, value):
        """Log p(x_j|x_<j, z) of each entry, shape (..., D); 0 where it is not seen."""
        likelihood, observed = self.likelihood, self.observed
        value = value.to(self.z.dtype)
        if observed is not None:
            observed = observed.expand(value.shape)
        found = likelihood.entry_log_probs(value, self.z, observed)
        return found if observed is None else torch.where(observed, found, 0.0)

    def sample(self, sample_shape=(), generator=None):
        """Draw without a gradient."""
        with torch.no_grad():
            return self._drawn(sample_shape, generator, reparametrised=False)

    def rsample(self, sample_shape=(), generator=None):
        """Draw; continuous entries have implicit gradients."""
        return self._drawn(sample_shape, generator, reparametrised=True)

    def _drawn(self, sample_shape, generator, reparametrised):
        shape = torch.Size((*sample_shape, *self.batch_shape))
        z = self.z.expand(*shape, -1).reshape(shape.numel(), -1)
        observed = self.observed
        if observed is not None:
            observed = observed.expand(*shape, -1).reshape(len(z), -1)
        x = self.likelihood.draw(z, generator, observed, reparametrised)
        x = x.reshape(*shape, -1)
        return x.long() if self.likelihood.indices else x


class AutoregressiveLikelihood(Likelihood):
    """A small network for each column, which sees z and the columns before it.

    z comes through itself and a hidden layer, with weights that begin at zero: the
    columns learn each other first.

    Parameters
    ----------
    inputs : Inputs
        What networks see of a row.
    cells : Cells
        What their outputs mean.
    n_hidden : int
        Units of each of a network's two layers.
    n_components : int
        Dimension d of the code.
    activation : str
        Of the layers.
    indices : bool
        Whether the model sees int64.
    """

    # each pair of a row and a code costs a pass
    cost = Cost(
        many_codes=False,
        rows_with_gradients=256,
        budget=1_000_000,
        fit_budget=500_000,
        fit_samples=1_000,
        rated_rows=1_000,
        refinement=1.0,
    )

    sequential = True

    def __init__(self, inputs, cells, n_hidden, n_components, activation, indices):
        super().__init__()
        self.inputs: Inputs = inputs
        self.cells: Cells = cells
        self.n_features, self.indices = cells.n_columns, indices
        self.code_layer = nn.Linear(n_components, N_CODE)
        n_code = n_components + N_CODE
        self.networks = ColumnNetworks(
            inputs, n_code, cells.n_outputs, n_hidden, activation
        )
        with torch.no_grad():
            self.networks.output_bias.copy_(cells.first_outputs)

    def forward(
        self, z: Tensor, given: Tensor | None = None
    ) -> AutoregressiveDistribution:
        """Return p(x|z)."""
        return AutoregressiveDistribution(self, z)

    def of_codes(self, z: Tensor) -> Tensor:
        """What networks get of codes (..., d), shape (D, ..., H)."""
        hidden = self.networks.activation(self.code_layer(z))
        code = torch.cat([z, hidden], -1)
        found = self.networks.of_codes(code.flatten(0, -2))
        return found.unflatten(1, z.shape[:-1])

    def entry_log_probs(
        self, x: Tensor, z: Tensor | None, observed: Tensor | None
    ) -> Tensor:
        """Log-probabilities of entries (..., D) at codes (..., d), broadcast.

        The rows' part of the first layer is shared by all codes of a row. ``z`` None is
        no code: the columns alone.
        """
        codes = x.shape[:-1] if z is None else z.shape[:-1]
        shape = torch.broadcast_shapes(x.shape[:-1], codes)
        numbers = self.n_features * (self.cells.n_outputs + self.networks.n_hidden)
        few = shape.numel() * numbers <= NUMBERS_AT_ONCE or max(shape, default=1) == 1
        if few or torch.is_grad_enabled():
            return self._entry_log_probs(x, z, observed, shape)
        # by halves of the longest axis, however often that takes
        axis = max(range(len(shape)), key=shape.__getitem__)
        halves = slice(None, shape[axis] // 2), slice(shape[axis] // 2, None)

        def cut(tensor, some):
            if tensor is None:
                return None
            tensor = tensor.reshape(
                (1,) * (len(shape) + 1 - tensor.dim()) + tensor.shape
            )
            whole = tensor.shape[axis] == 1
            return tensor if whole else tensor[(slice(None),) * axis + (some,)]

        parts = [
            self.entry_log_probs(*(cut(tensor, some) for tensor in (x, z, observed)))
            for some in halves
        ]
        return torch.cat(parts, axis)

    def _entry_log_probs(self, x, z, observed, shape) -> Tensor:
        n_rows, networks = x.shape[:-1], self.networks
        inputs = self.inputs(x, observed).flatten(0, -2)

        def broadcast(part, batch):
            """From (D, N, ..) of a batch to (D, *1, *batch, ..)."""
            ones = (1,) * (len(shape) - len(batch))
            return part.reshape(len(part), *ones, *batch, part.shape[-1])

        first = broadcast(networks.of_rows(inputs), n_rows)
        straight = networks.straight(inputs)
        n_straight = n_rows if straight.shape[1] == len(inputs) else ()
        straight = broadcast(straight, n_straight)
        if z is not None:
            first = first + broadcast(self.of_codes(z).flatten(1, -2), z.shape[:-1])
        first = first.expand(-1, *shape, -1)
        outputs = networks.after(first.reshape(len(first), -1, first.shape[-1]))
        outputs = outputs.reshape(len(first), *shape, -1) + straight
        entries = x.expand(*shape, -1).movedim(-1, 0)
        return self.cells.log_probs(outputs, entries).movedim(0, -1)

    def parameters_when_held(self) -> list[nn.Parameter]:
        """Those of the code's layer, and the codes' part of the columns' first ones.

        And the outputs' levels: given a code a column's spread is smaller.
        """
        return [
            *self.code_layer.parameters(),
            self.networks.codes,
            self.networks.output_bias,
        ]

    def log_prob_alone(self, x: Rows) -> Tensor:
        """Log p(x) of rows without a code."""
        values = x.values.to(self.cells.values.dtype)
        found = self.entry_log_probs(values, None, x.observed)
        if x.observed is not None:
            found = torch.where(x.observed, found, 0.0)
        return found.sum(-1)

    def columns(self, z: Tensor, fill, observed: Tensor | None = None) -> Tensor:
        """Go through the columns of rows at codes (N, d), each entry from ``fill``.

        ``fill(j, column)`` gets the column's distribution given the entries before it,
        and returns its entries (N,).
        """
        code = self.of_codes(z)
        seen, x = z.new_empty(len(z), 0), []
        for j in range(self.n_features):
            column = self.cells.column(j, self.networks.step(j, seen, code))
            entries = fill(j, column)
            x.append(entries)
            there = None if observed is None else observed[:, j]
            seen = torch.cat([seen, self.inputs.column(j, entries, there)], -1)
        return torch.stack(x, -1)

    def draw(self, z, generator, observed=None, reparametrised=False) -> Tensor:
        """Draw a row for each code (N, d), shape (N, D)."""

        def fill(j, column):
            x = column.draw(_uniform(generator, z, len(z), 1))
            return column.with_path(x) if reparametrised and self.cells.path[j] else x

        return self.columns(z, fill, observed)

    def filled(self, x: Rows, z: Tensor, seed: int) -> Filled:
        """Draw what is missing of rows (n, D) given codes (S, n, d).

        Columns see all entries before them, drawn ones, too. All rows have the same
        draws.
        """
        s, n = z.shape[:2]
        generator = torch.Generator(z.device).manual_seed(seed)
        values = x.values.to(z.dtype)
        everywhere = torch.ones_like(values, dtype=torch.bool)
        there = everywhere if x.observed is None else x.observed
        log_lik = z.new_zeros(s * n)

        def fill(j, column):
            nonlocal log_lik
            u = _uniform(generator, z, s, 1, 1).expand(2, s, n, 1).flatten(1, 2)
            known, entries = there[:, j].repeat(s), values[:, j].repeat(s)
            log_lik = log_lik + torch.where(known, column.log_prob(entries), 0.0)
            return torch.where(known, entries, column.draw(u))

        rows = self.columns(z.flatten(0, 1), fill)
        return Filled(rows.unflatten(0, (s, n)), log_lik.unflatten(0, (s, n)))

    def points(self, values: Tensor, weights: Tensor) -> Tensor:
        """Return the rows that stand for drawn ones (S, n, D) with weights (S, n).

        Means of numbers, most probable categories.
        """
        points = []
        for j, drawn in enumerate(values.unbind(-1)):
            if not self.cells.numeric[j]:
                levels = torch.arange(self.inputs.cardinalities[j], device=drawn.device)
                drawn = (drawn.unsqueeze(-1) == levels).to(weights)
            points.append(
                self._point(j, torch.einsum("sn,sn...->n...", weights, drawn))
            )
        return self._rows(points)

    def _point(self, j: int, mean: Tensor) -> Tensor:
        """Return the entries that stand for mean numbers (n,), or indicators (n, c)."""
        return mean if self.cells.numeric[j] else mean.argmax(-1).to(mean.dtype)

    def _rows(self, columns: list[Tensor]) -> Tensor:
        rows = torch.stack(columns, -1)
        return rows.long() if self.indices else rows

    def outcomes(self) -> Tensor | None:
        """All rows of categories, or None where they are too many, or numbers."""
        if any(self.cells.numeric):
            return None
        rows = all_rows(self.inputs.cardinalities)
        if rows is None:
            return None
        rows = rows.to(self.code_layer.weight.device)
        return rows if self.indices else rows.to(self.code_layer.weight)

    @torch.no_grad()
    def decode(self, z: Tensor, given: Tensor | None = None) -> Tensor:
        """Means of numbers and most probable categories, over 32 seeded draws.

        A draw is of the columns before each one; of that column itself its mean given
        them. All codes have the same draws.
        """
        flat = z.flatten(0, -2)
        parts = [self._decoded(some) for some in flat.split(DECODED_AT_ONCE)]
        return torch.cat(parts).unflatten(0, z.shape[:-1])

    def _decoded(self, z: Tensor) -> Tensor:
        n, points = len(z), []
        generator = torch.Generator(z.device).manual_seed(0)

        def fill(j, column):
            mean = column.mean.unflatten(0, (N_DRAWS, n)).mean(0)
            points.append(self._point(j, mean))
            u = _uniform(generator, z, N_DRAWS, 1, 1)
            return column.draw(u.expand(2, N_DRAWS, n, 1).flatten(1, 2))

        self.columns(z.repeat(N_DRAWS, 1), fill)
        return self._rows(points)

    def score_gradient(self, model: LatentVariableModel, plain: bool):
        """Credit each entry on its own where it has no path."""
        if plain:
            return Reinforce(leave_one_out=False)

        def posterior(values, **context):
            return model.r(Rows(values, **context))

        return PerEntry(posterior, model.prior)
