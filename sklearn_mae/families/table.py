"""Tables: rows whose columns are independent given z.

Entries may be missing. Then M is I(x_o; z | o), x_o the observed entries of a row of
the model and o their pattern, drawn from those of the rows of ``fit``.
"""

import copy
import itertools
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from sklearn_mae.columns import column_blocks, is_sparse
from sklearn_mae.encoders import GaussianEncoder, Posterior, UserEncoder
from sklearn_mae.families.base import (
    ColumnFamily,
    Likelihood,
    Networks,
    RowFamily,
    Structure,
)
from sklearn_mae.families.gaussian import shown
from sklearn_mae.families.joined import fitted, read_family, settled
from sklearn_mae.families.modules import call_factory
from sklearn_mae.families.texts import look_like_sequences, text_problem
from sklearn_mae.gradients import PartlyReparametrised, Reinforce
from sklearn_mae.model import MAX_OUTCOMES, LatentVariableModel, Pool, Rows, mlp
from sklearn_mae.records import array, entries, names, need

__all__ = ["Table", "TableLikelihood", "all_rows"]

# attributes of a table's own that are saved
STATE = ("names_", "varying_", "usual_", "patterns_", "counts_", "marked_")
# what noise depends on where an entry is missing: none that is there is so far out
MISSING_KEY = 1e30
# rows that go on from a fit have means and standard deviations so many of fit's away,
# at most: else they may be in other units
FAR_MEAN, FAR_SPREAD, FARTHEST = 5.0, 10.0, 100.0


def _jacobian(function, z: Tensor) -> Tensor:
    """Jacobian of a row-wise function at codes (n, d): shape (n, m, d).

    By two reverse passes, of which the second differentiates the first by its seed:
    torch's forward mode keeps its state in a global and fails in concurrent threads.
    """
    n, d = z.shape
    with torch.enable_grad():
        z = z.detach().repeat(d, 1).requires_grad_()
        values = function(z)
        seed = torch.zeros_like(values, requires_grad=True)
        # (sums with their seeds: a gradient seeded by a tensor imports sympy)
        (pulled,) = torch.autograd.grad((values * seed).sum(), z, create_graph=True)
        directions = torch.eye(d, dtype=z.dtype, device=z.device)
        directions = directions.repeat_interleave(n, 0)
        (columns,) = torch.autograd.grad((pulled * directions).sum(), seed)
    return columns.unflatten(0, (d, n)).movedim(0, -1)


def _gram(whitened: Tensor) -> Tensor:
    """J'J of J (n, m, d), in double precision: squares of small noises are large."""
    whitened = whitened.double()
    return whitened.mT @ whitened


def all_rows(cardinalities: Sequence[int]) -> Tensor | None:
    """Every row of indices, shape (S, D); None above the limit."""
    if math.prod(cardinalities) > MAX_OUTCOMES:
        return None
    axes = [torch.arange(c) for c in cardinalities]
    return torch.cartesian_prod(*axes).reshape(-1, len(cardinalities))


def _patterns(X) -> tuple[np.ndarray, np.ndarray]:
    """Patterns of the observed entries of rows, sorted, and how often each is found."""
    if not is_sparse(X):
        return np.unique(~np.isnan(X), axis=0, return_counts=True)
    X = X.tocoo()
    missing = np.isnan(X.data)
    rows, places = np.unique(X.row[missing], return_inverse=True)
    observed = np.ones((len(rows), X.shape[1]), dtype=bool)
    observed[places, X.col[missing]] = False
    patterns, counts = np.unique(observed, axis=0, return_counts=True)
    complete = X.shape[0] - len(rows)
    if complete:  # all there is: the last one
        patterns = np.append(patterns, np.ones((1, X.shape[1]), dtype=bool), axis=0)
        counts = np.append(counts, complete)
    return patterns, counts


class TableFeatures(nn.Module):
    """What the encoder sees of rows: features, 0 of missing entries, and marks of them.

    Parameters
    ----------
    family : ColumnFamily
        Fitted.
    marked : ndarray of shape (m,), bool
        Columns whose missing entries are marked, by a 1 each.
    """

    columns: Tensor
    marked: Tensor

    def __init__(self, family: ColumnFamily, marked: np.ndarray):
        super().__init__()
        self.features = family.features()
        columns = torch.as_tensor(family.input_columns())
        self.register_buffer("columns", columns, persistent=False)
        marked_columns = torch.as_tensor(np.flatnonzero(marked))
        self.register_buffer("marked", marked_columns, persistent=False)

    def forward(self, values: Tensor, observed: Tensor | None = None) -> Tensor:
        """Return features of shape (..., n_inputs and marks)."""
        seen = self.features(values)
        if observed is not None:
            there = observed.index_select(-1, self.columns)
            seen = torch.where(there, seen, 0.0)
        if not len(self.marked):
            return seen
        if observed is None:
            marks = seen.new_zeros((*seen.shape[:-1], len(self.marked)))
        else:
            marks = (~observed.index_select(-1, self.marked)).to(seen.dtype)
        return torch.cat([seen, marks], -1)


class TableLikelihood(Likelihood):
    """p(x|z) of independent columns, from one decoder.

    Parameters
    ----------
    family : ColumnFamily
        Fitted.
    decoder : nn.Module
        From codes to ``family.n_outputs`` numbers.
    min_scale : float or array-like of shape (D,)
        Floor of standard deviations, see ``MutualAutoencoder``.
    """

    repeatable = True

    def __init__(self, family: ColumnFamily, decoder: nn.Module, min_scale=0.01):
        super().__init__()
        self.family = family
        self.decoder = decoder
        self.n_features = family.n_columns
        constants, shared = family.constants(min_scale), family.shared()
        self._constants, self._shared = tuple(constants), tuple(shared)
        for name, value in constants.items():
            self.register_buffer(name, value, persistent=False)
        for name, value in shared.items():
            self.register_parameter(name, nn.Parameter(value))

    @property
    def n_numbers(self) -> int:
        """Numbers that p(x|z) holds for each code."""
        return max(self.n_features, self.family.n_outputs)

    def forward(self, z: Tensor, given: Tensor | None = None) -> Distribution:
        """Return p(x|z)."""
        names = *self._constants, *self._shared
        tensors = {name: getattr(self, name) for name in names}
        return self.family.distribution(self.decoder(z), tensors)

    def shared_parameters(self) -> list[nn.Parameter]:
        """Those of the columns, as of noise scales."""
        return [getattr(self, name) for name in self._shared]

    def outcomes(self) -> Tensor | None:
        """All rows, or None where they are too many or cannot be listed."""
        cardinalities = self.family.outcomes()
        rows = None if cardinalities is None else all_rows(cardinalities)
        if rows is None:
            return None
        # (a decoder may have no parameters)
        reference = next(itertools.chain(self.parameters(), self.buffers()))
        rows = rows.to(reference.device)
        return rows if self.family.indices else rows.to(reference.dtype)

    def decode(self, z: Tensor, given: Tensor | None = None) -> Tensor:
        """Return each column's point."""
        return self.family.point(self(z))

    def expected(
        self, z: Tensor, weights: Tensor, given: Tensor | None = None
    ) -> Tensor:
        """Return the value that stands for a mixture over codes (S, n, d), (n, D)."""
        return self.family.expected(self(z), weights)

    def score_gradient(self, model: LatentVariableModel, plain: bool):
        """Return the strategy for draws that have no path, or no path throughout."""
        p = model.p(model.reference.new_zeros(1, model.n_components))
        if getattr(p, "partly_reparametrised", False):
            return PartlyReparametrised(leave_one_out=not plain)
        return Reinforce(leave_one_out=not plain)

    def fisher_information(self, z: Tensor, x: Rows | None = None) -> Tensor | None:
        """Of the observed entries of x about z, shape (n, d, d), in float64."""
        observed = None if x is None else Rows.of(x).observed
        # a Jacobian takes d times the numbers of p(x|z)
        rows = max(1, self.at_once(len(z) * z.shape[-1]) // z.shape[-1])
        found = []
        for i in range(0, len(z), rows):
            there = None if observed is None else observed[i : i + rows]
            some = self._fisher_information(z[i : i + rows], there)
            if some is None:
                return None
            found.append(some)
        return torch.cat(found)

    def _fisher_information(self, z: Tensor, observed: Tensor | None) -> Tensor | None:
        terms = self.family.fisher_terms(self(z))
        if terms is None:
            return None
        weights = []
        for weight, _, columns in terms:
            if observed is not None:
                there = observed
                if columns is not None:
                    there = there.index_select(-1, columns)
                weight = weight * there.unsqueeze(-1)
            weights.append(weight.flatten(-2))

        def parameters(z):
            terms = self.family.fisher_terms(self(z))
            return torch.cat([term.parameter.flatten(-2) for term in terms], -1)

        jacobian = _jacobian(parameters, z)
        return _gram(torch.cat(weights, -1).unsqueeze(-1) * jacobian)


class Table(RowFamily):
    """A table. The model sees the columns that vary, in their family's encoding.

    Constant columns are put back on the way out, whatever a new row holds in them.
    Missing entries are NaN. A category that fit has not seen counts as missing.

    Parameters
    ----------
    family : ColumnFamily
        Of all columns, not yet fitted.

    Attributes
    ----------
    names_ : list of n_features_in str
        For messages.
    varying_ : ndarray of shape (n_features_in,), bool
        Columns that the model sees.
    usual_ : ndarray of shape (n_features_in,)
        An entry of each column: the value of constant ones, what stands in the place of
        missing entries of others; NaN where all are missing.
    patterns_ : ndarray of shape (P, n_varying), bool
        Patterns of the observed entries of rows.
    counts_ : ndarray of shape (P,), int64
        In how many rows each is found.
    marked_ : ndarray of shape (n_varying,), bool
        Columns whose missing entries the encoder sees marks of: those that missed some
        in the first fit.
    """

    # whether each column is known by itself: entries may be missing, tables sparse
    holes = True

    def __init__(self, family: ColumnFamily):
        self.family = family

    @property
    def discrete(self) -> bool | None:  # type: ignore[override]
        """Whether the family is."""
        return self.family.discrete

    def text_problem(self, X) -> str | None:
        """Say what to do with texts in the place of rows."""
        return text_problem(X)

    def doubt(self, X, likelihood) -> str | None:
        """Say so where rows of words are about to be taken for something else."""
        if is_sparse(X) or not look_like_sequences(X):
            return None
        return (
            "The rows of X look like word numbers of SequenceVectorizer, and "
            f"likelihood={likelihood!r} takes them for numbers or categories. For "
            "texts set likelihood='sequence'."
        )

    def fit(self, X, names: Iterable | None = None, y: object = None) -> "Table":
        """Learn from a checked table of shape (n, n_features_in), or a sparse one.

        Messages call the columns by `names`, or by their positions.
        """
        names = range(X.shape[1]) if names is None else names
        self.names_ = [str(name) for name in names]
        self.varying_ = np.ones(X.shape[1], dtype=bool)
        X = self._varying(X)
        low, high = np.empty((2, X.shape[1]))
        for positions, block, named in self._by_columns(X):
            among = np.isin(np.arange(X.shape[1]), positions)
            self.family.restricted(among).check(block, named)
            # (of a column of NaN alone they are NaN, without a warning)
            low[positions] = np.fmin.reduce(block, axis=0)
            high[positions] = np.fmax.reduce(block, axis=0)
        varying = self.family.varies(low, high)
        if not varying.any():
            raise ValueError(
                f"All {X.shape[1]} columns of X are constant: there is nothing to "
                "encode. Pass at least one column that varies."
            )
        empty = np.isnan(low)
        if empty.any():
            warnings.warn(
                f"All entries of column(s) {self._names(empty)} of X are missing. They "
                "are left out as if constant.",
                UserWarning,
                stacklevel=2,
            )
        self.usual_ = low
        self.varying_, X = varying, X[:, varying]
        self.family = fitted(
            settled(self.family.restricted(varying), X), X, self._names
        )
        self.patterns_, self.counts_ = _patterns(X)
        self.marked_ = np.asarray(~self.patterns_.all(axis=0))
        return self

    def misfit(self, rows: Rows) -> str | None:
        """Say what the columns' family does."""
        rows = rows.map(lambda field: torch.as_tensor(field).numpy(force=True))
        values = rows.values
        if rows.observed is not None:
            values = np.where(rows.observed, values, np.nan)
        return self.family.misfit(values, self._names)

    def again(self, X) -> "Table":
        """Return the table for rows that go on from its fit, with their own patterns.

        Scales and noises are those of the first fit: columns in other units bring a
        warning.
        """
        X = self._varying(X)
        means, spreads = np.full((2, X.shape[1]), np.nan)
        for positions, block, named in self._by_columns(X):
            family = self.family.part(positions)
            family.check(block, named)
            with np.errstate(all="ignore"):
                # (clipped: of heavy tails only the middle is in units of a scale)
                distances = family.standardised(block).clip(-FARTHEST, FARTHEST)
                some = ~np.isnan(distances).all(axis=0)  # others have no units
                of_some = distances[:, some]
                means[positions[some]] = abs(np.nanmean(of_some, axis=0))
                spreads[positions[some]] = np.nanstd(of_some, axis=0)
        units = ~np.isnan(means)
        far = units & ~((means <= FAR_MEAN) & (spreads <= FAR_SPREAD))
        if units.any() and (spreads[units] < 1 / FAR_SPREAD).all():
            far = units
        if far.any():
            warnings.warn(
                "warm_start=True keeps the scales of the first fit, and column(s) "
                f"{self._names(far)} of X seem to be in other units: in standard "
                f"deviations of the first fit's rows, their means are up to "
                f"{means[far].max():.3g} from those, and their own standard deviations "
                f"{spreads[far].min():.3g} to {spreads[far].max():.3g}. Pass rows in "
                "the units of the first fit, or set warm_start=False to start anew.",
                UserWarning,
                stacklevel=2,
            )
        twin = copy.copy(self)
        twin.patterns_, twin.counts_ = self._patterns(X)
        return twin

    def patterns_of(self, X) -> tuple[np.ndarray, np.ndarray]:
        """Return the patterns of the observed entries of checked rows, their counts."""
        return self._patterns(self._varying(X))

    def _patterns(self, X) -> tuple[np.ndarray, np.ndarray]:
        return _patterns(X if is_sparse(X) else self._known(X))

    @property
    def n_varying(self) -> int:
        """Number of columns that the model sees."""
        return int(self.varying_.sum())

    def log_volume(self, rows: Rows) -> np.ndarray:
        """What to subtract from rows' log-densities to have X's units, (n,)."""
        each = self.family.log_volume(rows.values)
        each = np.broadcast_to(each, rows.values.shape)
        if rows.observed is not None:
            each = np.where(rows.observed, each, 0.0)
        return each.sum(axis=-1)

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Take rows to what the model sees, float64 or int64 of shape (n, n_varying).

        Raises
        ------
        ValueError
            If an entry is none of the values that its kind of column can hold.
        """
        return self.rows(X).values

    def rows(self, X: np.ndarray, warn: bool = True) -> Rows:
        """Take rows to what travels: what the model sees, and which entries it does.

        ``warn``: of categories that fit has not seen.
        """
        X = self._known(self._checked(X), warn)
        observed = ~np.isnan(X)
        filled = np.where(observed, X, self.usual_[self.varying_])
        values = self.family.encode(filled, self._names)
        return Rows(values, None if observed.all() else observed)

    def observed(self, X: np.ndarray) -> np.ndarray:
        """Which entries of checked rows there are, shape (n, n_features_in)."""
        there = ~np.isnan(X)
        varying = X[:, self.varying_].astype(np.float64)
        there[:, self.varying_] = ~np.isnan(self._known(varying))
        return there

    def unforeseen(self, X: np.ndarray) -> list[str]:
        """Return names of columns of checked rows with holes that fit's had not."""
        missing = ~self.observed(X)[:, self.varying_].all(axis=0)
        places = np.flatnonzero(self.varying_)[missing & ~self.marked_]
        return [self.names_[j] for j in places]

    def pool(self) -> Pool | None:
        """Return the patterns of the rows of fit; None where nothing was missing."""
        if self.patterns_.all():
            return None
        counts = torch.as_tensor(self.counts_)
        return Pool(torch.as_tensor(self.patterns_), counts=counts)

    def keys(self, X: np.ndarray) -> np.ndarray:
        """Take rows to what their noise may depend on, for ``row_noise``.

        Free of the columns' units and of constant ones; the same for a float32 copy.
        """
        X = X[:, self.varying_]
        observed = ~np.isnan(self._known(X.astype(np.float64)))
        with np.errstate(over="ignore"):
            X = X.astype(np.float32).astype(np.float64)
        keys = self.family.key(np.where(observed, X, self.usual_[self.varying_]))
        return np.where(observed, keys, MISSING_KEY)

    def inverse_transform(self, Y: np.ndarray) -> np.ndarray:
        """Take what the model sees, shape (..., n_varying), back to columns of X."""
        Y = self.family.decode(Y)
        X = np.empty((*Y.shape[:-1], len(self.varying_)), dtype=np.float64)
        X[...] = self.usual_
        X[..., self.varying_] = Y
        return X

    def _varying(self, X):
        """Varying columns of X in float64; of sparse rows in CSC, to be cut quickly."""
        if is_sparse(X):
            X = X.astype(np.float64, copy=False).tocsc()
            return X if self.varying_.all() else X[:, self.varying_]
        return np.asarray(X, dtype=np.float64)[:, self.varying_]

    def _by_columns(self, X) -> Iterator[tuple[np.ndarray, np.ndarray, Callable]]:
        """Yield blocks of the varying columns X: positions, entries, and their names.

        An array is one block.
        """
        for positions, block in column_blocks(X):

            def named(which, positions=positions):
                return self._names(positions[which])

            yield positions, block, named

    def _checked(self, X: np.ndarray) -> np.ndarray:
        """Varying columns of X, each entry one that its kind of column can hold."""
        X = self._varying(X)
        self.family.check(X, self._names)
        return X

    def _known(self, X: np.ndarray, warn: bool = False) -> np.ndarray:
        """Varying columns of X, categories that fit has not seen as missing."""
        unknown = self.family.unknown(X)
        if unknown is None or not unknown.any():
            return X
        if warn:
            columns = np.flatnonzero(unknown.any(axis=0))
            values = [np.unique(X[unknown[:, j], j])[:5] for j in columns]
            found = "; ".join(
                f"column {self._names([j])}: {', '.join(map(shown, some))}"
                for j, some in zip(columns, values, strict=True)
            )
            warnings.warn(
                "X holds categories that were not seen in fit. They count as missing: "
                f"{found}. Map them to known ones, or fit on rows that hold them.",
                UserWarning,
                stacklevel=2,
            )
        return np.where(unknown, np.nan, X)

    def _names(self, which) -> str:
        """Names of those of the varying columns."""
        return ", ".join(self.names_[j] for j in np.flatnonzero(self.varying_)[which])

    def describe(self, tags) -> None:
        """Say in scikit-learn's input tags what entries may be."""
        tags.allow_nan = tags.sparse = self.holes
        self.family.describe(tags)

    def likelihood(self, structure: Structure) -> nn.Module:
        """Build p(x|z)."""
        sizes, activation = structure.hidden_layer_sizes, structure.activation
        n_outputs = self.family.n_outputs
        decoder = mlp(structure.n_decoded, sizes, n_outputs, activation)
        return TableLikelihood(self.family, decoder, structure.min_scale)

    def networks(self, structure: Structure) -> Networks:
        """Build likelihood, encoder, posterior and features."""
        d = structure.n_components
        marked = self.marked_
        if marked.any() and self.family.encoder_network(d) is not None:
            # what such a network says of no features at all is the prior
            marked = np.zeros_like(marked)
        n_inputs = self.family.n_inputs + int(marked.sum())

        def gaussian(kind, n_given=0):
            sizes, activation = structure.hidden_layer_sizes, structure.activation
            # (such a network has no place for what is given)
            network = None if n_given else self.family.encoder_network(d)
            if network is None:
                network = mlp(n_inputs + n_given, sizes, 2 * d, activation)
            return kind(network)

        likelihood = self.likelihood(structure)
        encoder: nn.Module
        if callable(structure.encoder):
            module = call_factory("encoder", structure.encoder, n_inputs, d)
            encoder = UserEncoder(module)
        else:
            encoder = gaussian(GaussianEncoder)
        posterior = gaussian(Posterior, structure.n_given)
        features = TableFeatures(self.family, marked)
        return likelihood, encoder, posterior, features

    def largest_layers(self, structure: Structure) -> list[int]:
        """Of the first layer, and of the way from it to the last."""
        sizes, d = structure.hidden_layer_sizes, structure.n_components
        return (
            [self.n_varying * sizes[0], d * min(sizes[0], sizes[-1])] if sizes else []
        )

    def largest(self, n_features: int) -> np.ndarray:
        """Largest category of each column of X, NaN where there are none."""
        largest = np.full(n_features, np.nan)
        largest[self.varying_] = self.family.largest()
        return largest

    def write(self) -> dict:
        """Return what ``fit`` learned as arrays and plain values."""
        own = {name: getattr(self, name) for name in STATE}
        return {**own, "family": self.family.write()}

    def read(self, state: dict, structure: Structure, n_features: int) -> "Table":
        """Take over what ``write`` returned, each entry checked."""
        state = entries(state, (*STATE, "family"), "columns")
        self.names_ = names(state["names_"], n_features, "names_")
        shape = (n_features,)
        self.varying_ = array(state["varying_"], np.bool_, shape, "varying_")
        need(bool(self.varying_.any()), "varying_", self.varying_)
        self.usual_ = array(state["usual_"], np.float64, shape, "usual_", missing=True)
        need(not np.isnan(self.usual_[self.varying_]).any(), "usual_", state["usual_"])
        patterns = state["patterns_"]
        good = isinstance(patterns, np.ndarray) and patterns.ndim == 2
        need(good and len(patterns) > 0, "patterns_", patterns)
        n = len(patterns)
        of_patterns = (n, self.n_varying)
        self.patterns_ = array(patterns, np.bool_, of_patterns, "patterns_")
        counts = array(state["counts_"], np.int64, (n,), "counts_")
        need(bool((counts > 0).all()) and counts.sum() > 0, "counts_", counts)
        self.marked_ = array(state["marked_"], np.bool_, (self.n_varying,), "marked_")
        self.counts_ = counts
        self.family = read_family(
            state["family"], self.family.restricted(self.varying_), self.n_varying
        )
        return self
