"""Columns of several families in one table, and categories at the cost of their number.

A row is a draw from each column's own distribution given z, whatever family it is of.
The model sees the columns in the order of the table, as floats where any of them is
no index of a category.
"""

import copy
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from sklearn_mae.columns import column_blocks
from sklearn_mae.families.base import ColumnFamily, FisherTerm
from sklearn_mae.families.categorical import Categorical
from sklearn_mae.families.registry import COLUMN_FAMILIES
from sklearn_mae.model import PrivateDistribution, draw
from sklearn_mae.records import entries, need

__all__ = ["Joined", "JoinedColumns", "fitted", "read_family", "settled"]


# outputs of the decoder that categorical columns may be padded by: a part more costs as
# much time as some hundreds of them
PADDING = 512


class JoinedColumns(PrivateDistribution):
    """Independent columns of several distributions.

    Parameters
    ----------
    parts : list of (Distribution, Tensor)
        Distributions over some of the columns, and their positions.
    indices : list of bool
        Whether a part's values are indices.
    """

    def __init__(self, parts: list[tuple[Distribution, Tensor]], indices: list[bool]):
        self.parts, self.indices = parts, indices
        self.has_rsample = all(p.has_rsample for p, _ in parts)
        self.partly_reparametrised = any(p.has_rsample for p, _ in parts)
        positions = torch.cat([positions for _, positions in parts])
        self._order = positions.argsort()
        super().__init__(parts[0][0].batch_shape, positions.shape)

    def values_of(self, value: Tensor, i: int) -> Tensor:
        """Return the values of a part."""
        some = value.index_select(-1, self.parts[i][1])
        return some.long() if self.indices[i] else some

    def ordered(self, values: list[Tensor]) -> Tensor:
        """Join the parts' values, floats if any of them is."""
        floats = [some.dtype for some in values if some.is_floating_point()]
        if floats:
            values = [some.to(floats[0]) for some in values]
        return torch.cat(values, -1).index_select(-1, self._order)

    def entry_log_prob(self, value):
        """Log-probability of each entry."""
        each = [
            p.entry_log_prob(self.values_of(value, i))
            for i, (p, _) in enumerate(self.parts)
        ]
        return self.ordered(each)

    def log_prob(self, value):
        """Log-probability, summed over the columns."""
        each = [
            p.log_prob(self.values_of(value, i)) for i, (p, _) in enumerate(self.parts)
        ]
        return sum(each[1:], each[0])

    def sample(self, sample_shape=(), generator=None):
        """Draw without a gradient."""
        return self._drawn(sample_shape, generator, reparametrised=False)

    def rsample(self, sample_shape=(), generator=None):
        """Draw, reparametrised as far as the parts can be."""
        return self._drawn(sample_shape, generator, reparametrised=True)

    def _drawn(self, sample_shape, generator, reparametrised) -> Tensor:
        values = [
            draw(p, sample_shape, generator, reparametrised) for p, _ in self.parts
        ]
        return self.ordered(values)

    def log_prob_without_path(self, value: Tensor, observed: Tensor | None) -> Tensor:
        """Log-probability of observed entries that ``rsample`` has no gradient for."""
        total = value.new_zeros(())
        for i, (p, positions) in enumerate(self.parts):
            if p.has_rsample:
                continue
            each = p.entry_log_prob(self.values_of(value, i))  # type: ignore[attr-defined]
            if observed is not None:
                each = torch.where(observed.index_select(-1, positions), each, 0.0)
            total = total + each.sum(-1)
        return total


class JoinedFeatures(nn.Module):
    """Features of all columns, part by part.

    Parameters
    ----------
    parts : list of nn.Module
        Features of each part.
    positions : list of ndarray
        The columns of each part.
    indices : list of bool
        Whether a part's values are indices.
    """

    def __init__(self, parts, positions, indices):
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.indices = indices
        for i, some in enumerate(positions):
            self.register_buffer(f"of_{i}", torch.as_tensor(some), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return features of shape (..., n_inputs)."""
        seen = []
        for i, part in enumerate(self.parts):
            some = x.index_select(-1, getattr(self, f"of_{i}"))
            seen.append(part(some.long() if self.indices[i] else some))
        return torch.cat(seen, -1)


def _size_classes(X) -> list[int]:
    """Classes of columns that may be padded to one number of categories.

    Binary digits of the numbers of categories; one class where padding costs little.
    """
    columns = (column for _, block in column_blocks(X) for column in block.T)
    numbers = [len(np.unique(column[~np.isnan(column)])) for column in columns]
    if len(numbers) * max(numbers) - sum(numbers) <= PADDING:
        return [0] * len(numbers)
    return [max(0, math.ceil(math.log2(max(1, n)))) for n in numbers]


def fitted(family: ColumnFamily, X, names: Callable) -> ColumnFamily:
    """Fit a family to checked columns that vary, of an array or of a sparse table.

    Columns of a sparse table are learned of block by block, and the blocks joined by
    ``extended``.
    """
    if isinstance(family, Joined):
        return family.fit(X, names)
    families = []
    for positions, block in column_blocks(X):

        def named(which, positions=positions):
            return names(positions[which])

        families.append(copy.copy(family).fit(block, named))
    first, *others = families
    return first.extended(others) if others else first


class Joined(ColumnFamily):
    """Columns of several families.

    Where categorical columns differ much in their numbers of categories, those are
    together whose numbers are within a factor of two: a column of few would else cost
    as much as one of many.

    Parameters
    ----------
    likelihoods : sequence of str
        The name of each column's family.

    Attributes
    ----------
    parts_ : list of (str, ColumnFamily, ndarray)
        Name, fitted family and positions of the columns of each part.
    """

    def __init__(self, likelihoods: Sequence[str]):
        self.likelihoods = list(likelihoods)
        names = np.array(self.likelihoods)
        self.parts_: list[tuple[str, ColumnFamily, np.ndarray]] = [
            (name, COLUMN_FAMILIES[name](), np.flatnonzero(names == name))
            for name in dict.fromkeys(self.likelihoods)
        ]

    def restricted(self, varying: np.ndarray) -> "Joined":
        """Return the same of some of the columns."""
        return Joined([self.likelihoods[j] for j in np.flatnonzero(varying)])

    @property
    def families(self) -> list[ColumnFamily]:
        """Of the parts."""
        return [family for _, family, _ in self.parts_]

    @property
    def indices(self) -> bool:  # type: ignore[override]
        """Whether all parts are."""
        return all(family.indices for family in self.families)

    @property
    def discrete(self) -> bool | None:  # type: ignore[override]
        """Whether all parts are; None where some are and some are not."""
        found = {family.discrete for family in self.families}
        return found.pop() if len(found) == 1 else None

    @property
    def n_columns(self) -> int:
        """Number of columns."""
        return len(self.likelihoods)

    def _each(self, X: np.ndarray, function: Callable, names: Callable | None = None):
        """Apply a function of family, columns and names to each part, in order."""
        found = []
        for _, family, positions in self.parts_:

            def named(which, positions=positions):
                return names(positions[which]) if names is not None else ""

            found.append(function(family, X[..., positions], named))
        return found

    def _joined(self, values: list[np.ndarray], dtype=np.float64) -> np.ndarray:
        """Put the parts' columns to their places."""
        shape = np.broadcast_shapes(*(some.shape[:-1] for some in values))
        whole = np.empty((*shape, self.n_columns), dtype=dtype)
        for (_, _, positions), some in zip(self.parts_, values, strict=True):
            whole[..., positions] = some
        return whole

    def check(self, X: np.ndarray, names: Callable) -> None:
        """Refuse what the columns' families do."""
        self._each(X, lambda family, some, names: family.check(some, names), names)

    def unknown(self, X: np.ndarray) -> np.ndarray:
        """Which entries their families cannot place."""

        def unknown(family, some, _):
            found = family.unknown(some)
            return np.zeros(some.shape, dtype=bool) if found is None else found

        return self._joined(self._each(X, unknown), bool)

    def varies(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Which columns vary, as their families see it."""
        each = [
            family.varies(low[positions], high[positions])
            for _, family, positions in self.parts_
        ]
        return self._joined(each, bool)

    def fit(self, X, names: Callable) -> "Joined":
        """Fit all families."""
        sizes = np.zeros(self.n_columns, dtype=int)
        categories = np.array(self.likelihoods) == "categorical"
        if categories.any():
            sizes[categories] = _size_classes(X[:, categories])
        groups: dict[tuple[str, int], list[int]] = {}
        for j, (name, size) in enumerate(zip(self.likelihoods, sizes, strict=True)):
            groups.setdefault((name, size), []).append(j)
        self.parts_ = []
        for (name, _), columns in groups.items():
            positions = np.array(columns)

            def named(which, positions=positions):
                return names(positions[which])

            family = fitted(COLUMN_FAMILIES[name](), X[:, positions], named)
            self.parts_.append((name, family, positions))
        return self

    def part(self, columns: np.ndarray) -> "Joined":
        """Return the fitted family of some of its columns."""
        some = Joined([self.likelihoods[j] for j in columns])
        place = np.full(self.n_columns, -1)
        place[columns] = np.arange(len(columns))
        some.parts_ = []
        for name, family, positions in self.parts_:
            inside = np.flatnonzero(place[positions] >= 0)
            if len(inside):
                found = name, family.part(inside), place[positions[inside]]
                some.parts_.append(found)
        return some

    def encode(self, X: np.ndarray, names: Callable) -> np.ndarray:
        """Take entries to what the model sees."""
        each = self._each(
            X, lambda family, some, names: family.encode(some, names), names
        )
        return self._joined(each, np.int64 if self.indices else np.float64)

    def decode(self, Y: np.ndarray) -> np.ndarray:
        """Undo that."""

        def decode(family, some, _):
            return family.decode(some.astype(np.int64) if family.indices else some)

        return self._joined(self._each(Y, decode))

    def key(self, X: np.ndarray) -> np.ndarray:
        """Take entries to what noise may depend on."""
        return self._joined(self._each(X, lambda family, some, _: family.key(some)))

    def standardised(self, X: np.ndarray) -> np.ndarray:
        """Take entries to multiples of fit's scales, NaN where there are none."""
        return self._joined(
            self._each(X, lambda family, some, _: family.standardised(some))
        )

    def misfit(self, values: np.ndarray, names: Callable) -> str | None:
        """Say what the first family says."""
        each = self._each(
            values, lambda family, some, names: family.misfit(some, names), names
        )
        return next((message for message in each if message is not None), None)

    def log_volume(self, Y: np.ndarray) -> np.ndarray:
        """What to subtract from log-densities of entries."""
        return self._joined(
            self._each(Y, lambda family, some, _: family.log_volume(some))
        )

    def largest(self) -> np.ndarray:
        """Largest category of each column."""
        return self._joined([family.largest() for family in self.families])

    def write(self) -> dict:
        """Return what the families learned, with their columns."""
        return {
            "parts": [
                {"name": name, "columns": positions.tolist(), **family.write()}
                for name, family, positions in self.parts_
            ]
        }

    def read(self, state: dict, m: int) -> None:
        """Set the families."""
        parts = entries(state, ["parts"], "family")["parts"]
        need(type(parts) is list and len(parts) > 0, "parts", parts)
        self.parts_, found = [], {}
        for part in parts:
            need(type(part) is dict and "name" in part, "parts", part)
            name, columns = part["name"], part.get("columns")
            need(type(name) is str and name in COLUMN_FAMILIES, "name", name)
            family = COLUMN_FAMILIES[name]()
            part = entries(part, ["name", "columns", *family.state], "parts")
            good = type(columns) is list and len(columns) > 0
            need(good and all(type(j) is int for j in columns), "columns", columns)
            for j in columns:
                need(0 <= j < m and j not in found, "columns", columns)
                found[j] = name
            family.read(part, len(columns))
            self.parts_.append((name, family, np.array(columns)))
        need(len(found) == m, "parts", parts)
        self.likelihoods = [found[j] for j in range(m)]

    def describe(self, tags) -> None:
        """Tables of all kinds of columns."""
        tags.string = True

    # -- networks --------------------------------------------------------------------

    def features(self) -> nn.Module:
        """Join the families' features."""
        positions = [positions for _, _, positions in self.parts_]
        parts = [family.features() for family in self.families]
        return JoinedFeatures(
            parts, positions, [family.indices for family in self.families]
        )

    def input_columns(self) -> np.ndarray:
        """Column of each of the numbers that the encoder sees."""
        return np.concatenate(
            [positions[family.input_columns()] for _, family, positions in self.parts_]
        )

    @property
    def n_outputs(self) -> int:
        """Numbers that the decoder gives."""
        return sum(family.n_outputs for family in self.families)

    def constants(self, min_scale) -> dict[str, Tensor]:
        """Those of the parts, and their columns."""
        found = {}
        for i, (_, family, positions) in enumerate(self.parts_):
            found[f"columns_{i}"] = torch.as_tensor(positions)
            for name, value in family.constants(min_scale).items():
                found[f"{name}_{i}"] = value
        return found

    def shared(self) -> dict[str, Tensor]:
        """Those of the parts."""
        return {
            f"{name}_{i}": value
            for i, family in enumerate(self.families)
            for name, value in family.shared().items()
        }

    def distribution(self, outputs: Tensor, given: dict[str, Tensor]) -> JoinedColumns:
        """Return the parts' distributions as one."""
        each = outputs.split([family.n_outputs for family in self.families], -1)
        parts = []
        for i, (family, some) in enumerate(zip(self.families, each, strict=True)):
            of_part = {
                name.removesuffix(f"_{i}"): value
                for name, value in given.items()
                if name.endswith(f"_{i}")
            }
            p = family.distribution(some, of_part)
            parts.append((p, of_part["columns"]))
        return JoinedColumns(parts, [family.indices for family in self.families])

    def point(self, p: JoinedColumns) -> Tensor:
        """Return the families' points."""
        pairs = zip(self.families, p.parts, strict=True)
        return p.ordered([family.point(part) for family, (part, _) in pairs])

    def expected(self, p: JoinedColumns, weights: Tensor) -> Tensor:
        """Return what stands for a mixture in the families' eyes."""
        pairs = zip(self.families, p.parts, strict=True)
        return p.ordered(
            [family.expected(part, weights) for family, (part, _) in pairs]
        )

    def fisher_terms(self, p: JoinedColumns) -> list[FisherTerm] | None:
        """Return the parts' terms, if all are known."""
        found = []
        for family, (part, columns) in zip(self.families, p.parts, strict=True):
            terms = family.fisher_terms(part)
            if terms is None:
                return None
            found += [term._replace(columns=columns) for term in terms]
        return found

    def outcomes(self) -> list[int] | None:
        """Number of values of each column, where all can be listed."""
        each = [family.outcomes() for family in self.families]
        if any(outcomes is None for outcomes in each):
            return None
        found = [np.array(outcomes) for outcomes in each]
        return self._joined(found, np.int64).tolist()


def settled(family: ColumnFamily, X) -> ColumnFamily:
    """Return the family that serves such varying columns best, not yet fitted.

    One family is simpler than a join of one; categories of very different numbers are
    cheaper joined.
    """
    if isinstance(family, Joined) and len(family.parts_) == 1:
        family = COLUMN_FAMILIES[family.likelihoods[0]]()
    if isinstance(family, Categorical):
        if len(set(_size_classes(X))) > 1:
            return Joined(["categorical"] * X.shape[1])
    return family


def read_family(state: dict, wanted: ColumnFamily, m: int) -> ColumnFamily:
    """Return a settled family of m columns from a saved state, each entry checked.

    Parameters
    ----------
    state : dict
        What its ``write`` returned.
    wanted : ColumnFamily
        What it was settled from.
    m : int
        Number of columns.
    """
    need(type(state) is dict, "family", state)
    if isinstance(wanted, Joined):
        names = wanted.likelihoods
    else:
        names = [
            name for name, kind in COLUMN_FAMILIES.items() if type(wanted) is kind
        ] * m
    if "parts" in state:
        family: ColumnFamily = Joined([])
    else:
        need(len(set(names)) <= 1, "family", state)
        family = COLUMN_FAMILIES[names[0]]() if names else wanted
        entries(state, family.state, "family")
    family.read(state, m)
    if isinstance(family, Joined):
        need(family.likelihoods == names, "family", state)
    return family
