"""Tables: rows whose columns are independent given z, all of one family."""

import itertools
import math
import warnings
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from sklearn_mae.encoders import GaussianEncoder, Posterior, UserEncoder
from sklearn_mae.families.base import (
    ColumnFamily,
    Likelihood,
    Networks,
    RowFamily,
    Structure,
)
from sklearn_mae.families.modules import call_factory
from sklearn_mae.families.texts import look_like_sequences, text_problem
from sklearn_mae.model import MAX_OUTCOMES, Rows, mlp
from sklearn_mae.records import array, entries, names, need

__all__ = ["Table", "TableLikelihood"]

# rows that go on from a fit have means and standard deviations so many of fit's away,
# at most: else they may be in other units
FAR_MEAN, FAR_SPREAD = 5.0, 10.0


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


def _all_rows(cardinalities: Sequence[int]) -> Tensor | None:
    """Every row of indices, shape (S, D); None above the limit."""
    if math.prod(cardinalities) > MAX_OUTCOMES:
        return None
    axes = [torch.arange(c) for c in cardinalities]
    return torch.cartesian_prod(*axes).reshape(-1, len(cardinalities))


class TableLikelihood(Likelihood):
    """p(x|z) of columns of one family, from one decoder.

    Parameters
    ----------
    family : ColumnFamily
        Fitted.
    decoder : nn.Module
        From codes to ``family.n_outputs`` numbers.
    min_scale : float or array-like of shape (D,)
        Floor of standard deviations, see ``MutualAutoencoder``.
    """

    # Adam moves every parameter by about its rate in a step. A decoder's weights move
    # its outputs by many times that: parameters that are outputs must keep up.
    speed = 10.0

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
            self.register_parameter(name, nn.Parameter(value / self.speed))

    def forward(self, z: Tensor, given: Tensor | None = None) -> Distribution:
        """Return p(x|z)."""
        tensors = {name: getattr(self, name) for name in self._constants}
        for name in self._shared:
            tensors[name] = self.speed * getattr(self, name)
        return self.family.distribution(self.decoder(z), tensors)

    def outcomes(self) -> Tensor | None:
        """All rows, or None where they are too many or cannot be listed."""
        cardinalities = self.family.outcomes()
        rows = None if cardinalities is None else _all_rows(cardinalities)
        if rows is None:
            return None
        # (a decoder may have no parameters)
        reference = next(itertools.chain(self.parameters(), self.buffers()))
        rows = rows.to(reference.device)
        return rows if self.family.indices else rows.to(reference.dtype)

    def decode(self, z: Tensor, given: Tensor | None = None) -> Tensor:
        """Return each column's point."""
        return self.family.point(self(z))

    def fisher_information(self, z: Tensor, x: Rows | None = None) -> Tensor | None:
        """Of x about z, shape (n, d, d), in float64; the same for every x."""
        terms = self.family.fisher_terms(self(z))
        if terms is None:
            return None
        grams = []
        for i, (weight, _) in enumerate(terms):

            def eta(z, i=i):
                return self.family.fisher_terms(self(z))[i][1]

            grams.append(_gram(weight.unsqueeze(-1) * _jacobian(eta, z)))
        return sum(grams[1:], grams[0])


class Table(RowFamily):
    """A table. The model sees the columns that vary, in their family's encoding.

    Constant columns are put back on the way out, whatever a new row holds in them.

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
    constants_ : ndarray of shape (n_features_in,)
        The first row.
    """

    def __init__(self, family: ColumnFamily):
        self.family = family

    @property
    def discrete(self) -> bool:  # type: ignore[override]
        """Whether the family is."""
        return self.family.discrete

    def text_problem(self, X) -> str | None:
        """Say what to do with texts in the place of rows."""
        return text_problem(X)

    def doubt(self, X: np.ndarray, likelihood) -> str | None:
        """Say so where rows of words are about to be taken for something else."""
        if not look_like_sequences(X):
            return None
        return (
            "The rows of X look like word numbers of SequenceVectorizer, and "
            f"likelihood={likelihood!r} takes them for numbers or categories. For "
            "texts set likelihood='sequence'."
        )

    def fit(
        self, X: np.ndarray, names: Iterable | None = None, y: object = None
    ) -> "Table":
        """Learn from a checked table of shape (n, n_features_in).

        Messages call the columns by `names`, or by their positions.
        """
        names = range(X.shape[1]) if names is None else names
        self.names_ = [str(name) for name in names]
        self.varying_ = np.ones(X.shape[1], dtype=bool)
        X = self._checked(X)
        self.varying_ = self.family.varies(X.min(axis=0), X.max(axis=0))
        self.constants_ = X[0].copy()
        if not self.varying_.any():
            raise ValueError(
                f"All {X.shape[1]} columns of X are constant: there is nothing to "
                "encode. Pass at least one column that varies."
            )
        self.family.fit(X[:, self.varying_], self._names)
        return self

    def misfit(self, values: Tensor) -> str | None:
        """Say what the columns' family does."""
        return self.family.misfit(values.numpy(force=True), self._names)

    def check_again(self, X: np.ndarray) -> None:
        """Warn of columns in other units than fit's: scales and noises are those."""
        with np.errstate(all="ignore"):
            distances = self.family.standardised(self._checked(X))
            if distances is None:
                return
            means, spreads = abs(distances.mean(axis=0)), distances.std(axis=0)
        far = ~((means <= FAR_MEAN) & (spreads <= FAR_SPREAD))
        if (spreads < 1 / FAR_SPREAD).all():
            far[:] = True
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

    @property
    def n_varying(self) -> int:
        """Number of columns that the model sees."""
        return int(self.varying_.sum())

    @property
    def log_volume(self) -> float:
        """What to subtract from log-densities to have them in X's units, in nats."""
        return self.family.log_volume

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Take rows to what the model sees, float64 or int64 of shape (n, n_varying).

        Raises
        ------
        ValueError
            If an entry is none of the values that its kind of column can hold.
        """
        return self.family.encode(self._checked(X), self._names)

    def keys(self, X: np.ndarray) -> np.ndarray:
        """Take rows to what their noise may hang on, for ``row_noise``.

        Free of the columns' units and of constant ones; the same for a float32 copy.
        """
        with np.errstate(over="ignore"):
            X = X[:, self.varying_].astype(np.float32).astype(np.float64)
        return self.family.key(X)

    def inverse_transform(self, Y: np.ndarray) -> np.ndarray:
        """Take what the model sees, shape (..., n_varying), back to columns of X."""
        Y = self.family.decode(Y)
        X = np.empty((*Y.shape[:-1], len(self.varying_)), dtype=np.float64)
        X[...] = self.constants_
        X[..., self.varying_] = Y
        return X

    def _checked(self, X: np.ndarray) -> np.ndarray:
        """Varying columns of X, each entry one that its kind of column can hold."""
        X = np.asarray(X, dtype=np.float64)[:, self.varying_]
        self.family.check(X, self._names)
        return X

    def _names(self, which) -> str:
        """Names of those of the varying columns."""
        return ", ".join(self.names_[j] for j in np.flatnonzero(self.varying_)[which])

    def describe(self, tags) -> None:
        """Say in scikit-learn's input tags what entries may be."""
        self.family.describe(tags)

    def likelihood(self, structure: Structure) -> nn.Module:
        """Build p(x|z)."""
        sizes, activation = structure.hidden_layer_sizes, structure.activation
        n_outputs = self.family.n_outputs
        decoder = mlp(structure.n_components, sizes, n_outputs, activation)
        return TableLikelihood(self.family, decoder, structure.min_scale)

    def networks(self, structure: Structure) -> Networks:
        """Build likelihood, encoder, posterior and features."""
        n_inputs, d = self.family.n_inputs, structure.n_components

        def gaussian(kind):
            sizes, activation = structure.hidden_layer_sizes, structure.activation
            network = self.family.encoder_network(d)
            if network is None:
                network = mlp(n_inputs, sizes, 2 * d, activation)
            return kind(network)

        likelihood = self.likelihood(structure)
        encoder: nn.Module
        if callable(structure.encoder):
            module = call_factory("encoder", structure.encoder, n_inputs, d)
            encoder = UserEncoder(module)
        else:
            encoder = gaussian(GaussianEncoder)
        posterior = gaussian(Posterior)
        return likelihood, encoder, posterior, self.family.features()

    def largest_layers(self, structure: Structure) -> list[int]:
        """Of the first layer, and of the way from it to the last."""
        sizes, d = structure.hidden_layer_sizes, structure.n_components
        return (
            [self.n_varying * sizes[0], d * min(sizes[0], sizes[-1])] if sizes else []
        )

    def write(self) -> dict:
        """Return what ``fit`` learned as arrays and plain values."""
        of_family = {name: getattr(self.family, name) for name in self.family.state}
        own = {"names_": self.names_, "varying_": self.varying_}
        return {**own, "constants_": self.constants_, **of_family}

    def read(self, state: dict, structure: Structure, n_features: int) -> "Table":
        """Take over what ``write`` returned, each entry checked."""
        keys = ("names_", "varying_", "constants_", *self.family.state)
        state = entries(state, keys, "columns")
        self.names_ = names(state["names_"], n_features, "names_")
        shape = (n_features,)
        self.varying_ = array(state["varying_"], np.bool_, shape, "varying_")
        need(bool(self.varying_.any()), "varying_", self.varying_)
        self.constants_ = array(state["constants_"], np.float64, shape, "constants_")
        self.family.read(state, self.n_varying)
        return self
