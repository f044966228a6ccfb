"""p(x_j | x_<j, z): masses of single values, and a mixture of logistics.

Each column has weights for its values of a mass of their own, and for the logistics of
a number. On a grid an entry has the mass of its cell, divided by the cell's width: the
density of a row that is spread over its cells. Without a grid a value of a mass of its
own has that mass, and any other entry a density.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, softplus

from sklearn_mae.families.autoregressive.grids import Grids
from sklearn_mae.families.categorical import IMPOSSIBLE

__all__ = ["SAME", "Cells"]

# logistics for each number, and where all numbers hold levels alone
N_LOGISTICS, N_OF_LEVELS = 20, 1
# scales to begin with, and the least: so much of the Gaussian floor, or on a grid of a
# cell, in the middle of which it leaves 1.3 % outside
FIRST_SCALE, PART_OF_FLOOR, PART_OF_CELL = 0.3, 0.1, 0.1
# an entry is a value of a mass of its own if it is so near: relative to 1 and to itself
SAME = 1e-6
# half of a cell's width, in scales, that no grid counts as (the most there is, with the
# least scale, is 5)
TINY = 1e-4
# of an implicit gradient: rounding leaves densities of 0
LEAST_DENSITY = 1e-6


class Cells(nn.Module):
    """What the outputs of the columns' networks mean.

    Parameters
    ----------
    grids : Grids
        Of the columns.
    numeric : ndarray of shape (m,), bool
        Which hold numbers.
    cell, start : ndarray of shape (m,)
        Width of the grids' cells and a point of each, as the model sees them; a width
        of 0: there is no grid.
    floor : ndarray of shape (m,)
        Of Gaussian standard deviations.
    """

    values: Tensor
    exists: Tensor
    near: Tensor
    cell: Tensor
    start: Tensor
    floor: Tensor
    numbers: Tensor

    def __init__(self, grids: Grids, numeric, cell, start, floor):
        super().__init__()
        self.n_columns = m = len(numeric)
        self.n_values = a = max(1, *(len(values) for values in grids.values_))
        some = bool((numeric & ~grids.whole_).any())
        self.n_logistics = k = (N_LOGISTICS if some else N_OF_LEVELS) * numeric.any()
        self.n_outputs = a + 3 * k
        values, exists = np.zeros((m, a)), np.zeros((m, a + k), dtype=bool)
        weights = np.zeros((m, a + k))
        for j, own in enumerate(grids.values_):
            values[j, : len(own)], exists[j, : len(own)] = own, True
            exists[j, a:] = numeric[j]
            weights[j, : len(own)] = np.log(grids.shares_[j])
            rest = max(1e-3, 1 - grids.shares_[j].sum())
            weights[j, a:] = np.log(rest / max(1, k))
        width = cell[:, None]
        near = np.where(width > 0, width / 2, SAME * (1 + abs(values)))
        near = np.where(numeric[:, None], near, 0.5)  # indices
        # on a grid nothing is told apart below a cell, which bounds densities, too
        floor = np.where(cell > 0, PART_OF_CELL * cell, PART_OF_FLOOR * floor)
        for name, array in {
            "values": values,
            "exists": exists,
            "near": near,
            "cell": cell,
            "start": start,
            "floor": floor,
            "numbers": np.flatnonzero(numeric),
        }.items():
            tensor = torch.as_tensor(np.asarray(array))
            self.register_buffer(name, tensor, persistent=False)
        self.numeric, self.on_grid = numeric.tolist(), (cell > 0).tolist()
        has_values = np.array([len(own) > 0 for own in grids.values_])
        path = numeric & (cell == 0) & ~has_values
        # whether a draw of a column has a path: it is continuous
        self.path = path.tolist()
        self.register_buffer("has_path", torch.as_tensor(path), persistent=False)
        # outputs to begin with: the columns' own weights, spread and quantiles
        quantiles = np.stack(
            [
                np.interp(np.linspace(0, 1, max(1, k)), np.linspace(0, 1, len(q)), q)
                for q in grids.quantiles_
            ]
        )
        scale = np.full((m, k), np.log(np.expm1(FIRST_SCALE)))
        first = np.concatenate([weights, quantiles[:, :k], scale], 1)
        self.first_outputs = torch.as_tensor(first, dtype=torch.float32).unsqueeze(1)

    def log_probs(self, outputs: Tensor, x: Tensor, j: int | None = None) -> Tensor:
        """Log-probabilities of entries x (m, ...) from outputs (m, ..., n_outputs).

        Of column j alone where one is given: shapes (1, ...).
        """
        columns = slice(None) if j is None else slice(j, j + 1)
        extra, a = (1,) * (x.dim() - 1), self.n_values

        def each(constant):  # of the columns, to be broadcast
            return constant[columns].view(len(x), *extra, *constant.shape[1:])

        exists = each(self.exists)
        logits = torch.where(exists, outputs[..., : exists.shape[-1]], IMPOSSIBLE)
        log_w = log_softmax(logits, -1)
        hit = (x.unsqueeze(-1) - each(self.values)).abs() <= each(self.near)
        of_value = torch.where(hit & exists[..., :a], log_w[..., :a], IMPOSSIBLE)
        of_value = of_value.amax(-1)
        numbers = self.numbers if j is None else self.numbers[: self.numeric[j]] * 0
        if not len(numbers):
            return of_value

        def numeric(tensor):
            if len(numbers) == len(tensor):
                return tensor
            return tensor.index_select(0, numbers)

        cell = numeric(each(self.cell))
        mixed = self._mixtures(
            numeric(outputs),
            numeric(log_w)[..., a:],
            numeric(x),
            numeric(each(self.floor)).unsqueeze(-1),
            cell.unsqueeze(-1),
        )
        single = numeric(of_value)
        log_cell = torch.where(cell > 0, cell, 1.0).log()
        found = torch.where(
            cell > 0,
            torch.logsumexp(torch.stack([single - log_cell, mixed]), 0),
            torch.where(single > IMPOSSIBLE / 2, single, mixed),
        )
        if len(numbers) == len(x):
            return found
        return of_value.index_copy(0, numbers, found)

    def _logistics(self, outputs: Tensor, floor: Tensor) -> tuple[Tensor, Tensor]:
        """Places and scales."""
        loc, raw = outputs[..., self.n_values + self.n_logistics :].chunk(2, -1)
        return loc, softplus(raw) + floor

    def _mixtures(self, outputs, log_w, x, floor, cell) -> Tensor:
        """Log of the mixtures' mass in the cell of x, divided by its width.

        The mass of a logistic between c - h and c + h, in its scales, is sinh h /
        (cosh c + cosh h). A cell so narrow that h is tiny makes that the density: none
        is narrower.
        """
        loc, scale = self._logistics(outputs, floor)
        c, h = (
            (x.unsqueeze(-1) - loc).abs() / scale,
            (0.5 * cell / scale).clamp_min(TINY),
        )
        e = torch.exp(-c)
        mass = torch.sinh(h) / (h * scale * (1 + e * e + 2 * torch.cosh(h) * e))
        return torch.logsumexp(log_w + mass.log() - c, -1)

    def column(self, j: int, outputs: Tensor) -> "Column":
        """Return the distribution of column j from its outputs (N, n_outputs)."""
        return Column(self, j, outputs)


class Column:
    """Distribution of one column given those before it, for N rows.

    Parameters
    ----------
    cells : Cells
        Of all columns.
    j : int
        Which column.
    outputs : Tensor of shape (N, n_outputs)
        Of its network.
    """

    def __init__(self, cells: Cells, j: int, outputs: Tensor):
        self.cells, self.j, self.outputs = cells, j, outputs
        exists = cells.exists[j]
        logits = torch.where(exists, outputs[..., : len(exists)], IMPOSSIBLE)
        self.weights = log_softmax(logits, -1).exp()
        if cells.numeric[j]:
            self.loc, self.scale = cells._logistics(outputs, cells.floor[j])

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-probabilities of entries (N,)."""
        outputs, x = self.outputs.unsqueeze(0), x.unsqueeze(0)
        return self.cells.log_probs(outputs, x, self.j)[0]

    @property
    def mean(self) -> Tensor:
        """Means of a number, (N,); probabilities of categories, (N, n_values)."""
        cells, a = self.cells, self.cells.n_values
        if not cells.numeric[self.j]:
            return self.weights[..., :a]
        values = cells.values[self.j].expand(len(self.loc), -1)
        return (self.weights * torch.cat([values, self.loc], -1)).sum(-1)

    @torch.no_grad()
    def draw(self, u: Tensor) -> Tensor:
        """Draw entries (N,) by uniform noise (2, N, 1): on a grid if there is one."""
        cells, j, a = self.cells, self.j, self.cells.n_values
        weights = self.weights
        chosen = (weights.cumsum(-1) < u[0]).sum(-1, keepdim=True)
        # rounding may leave the last cumulated weight below u
        chosen = chosen.clamp_max(int(cells.exists[j].nonzero()[-1]))
        x = cells.values[j].expand(len(weights), -1).gather(-1, chosen.clamp_max(a - 1))
        if not cells.numeric[j]:
            return x[:, 0]
        k = (chosen - a).clamp_min(0)
        tiny = torch.finfo(u.dtype).eps
        spread = torch.logit(u[1].clamp(tiny, 1 - tiny))
        drawn = self.loc.gather(-1, k) + self.scale.gather(-1, k) * spread
        if cells.on_grid[j]:
            start, cell = cells.start[j], cells.cell[j]
            drawn = start + ((drawn - start) / cell).round() * cell
        return torch.where(chosen < a, x, drawn)[:, 0]

    def with_path(self, x: Tensor) -> Tensor:
        """Return draws (N,) of a continuous column with their implicit gradient.

        F(x) stays what it is while the distribution function F moves: dx = -dF / p. No
        inverse of F is needed.
        """
        weights = self.weights[..., self.cells.n_values :]
        e = (x.unsqueeze(-1) - self.loc) / self.scale
        below = (weights * torch.sigmoid(e)).sum(-1)
        with torch.no_grad():
            p = (weights / self.scale * torch.sigmoid(e) * torch.sigmoid(-e)).sum(-1)
        return x - (below - below.detach()) / p.clamp_min(LEAST_DENSITY)
