"""Tables whose columns depend on each other given z."""

import warnings
from collections.abc import Iterable

import numpy as np
from torch import nn

from sklearn_mae.encoders import GaussianEncoder, Posterior, UserEncoder
from sklearn_mae.families.autoregressive.cells import SAME, Cells
from sklearn_mae.families.autoregressive.grids import Grids
from sklearn_mae.families.autoregressive.inputs import Inputs
from sklearn_mae.families.autoregressive.likelihood import AutoregressiveLikelihood
from sklearn_mae.families.autoregressive.networks import (
    ColumnNetworks,
    FilteringPosterior,
)
from sklearn_mae.families.base import NEEDS_NO_CODE, Networks, Structure
from sklearn_mae.families.gaussian import LEAST_NOISE
from sklearn_mae.families.modules import call_factory
from sklearn_mae.families.table import Table
from sklearn_mae.model import Rows, mlp

__all__ = ["AutoregressiveTable"]

# of a normal column: floors of scales rest on as many rows as its would
KURTOSIS = 3


class AutoregressiveTable(Table):
    """A table under p(x|z) = prod_j p(x_j | x_<j, z).

    Entries between the points of a column's grid count as the nearest point.

    Attributes
    ----------
    grids_ : Grids
        What numbers may be.
    """

    schedule = NEEDS_NO_CODE

    def fit(self, X, names: Iterable | None = None, y: object = None):
        """Learn from a checked table of shape (n, n_features_in)."""
        super().fit(X, names, y)
        varying = self._known(self._varying(X))
        self.grids_ = Grids.fit(
            varying,
            X.dtype,
            lambda entries: self.family.encode(entries, self._names),
            self._numeric,
            self._scale,
        )
        return self

    @property
    def _numeric(self) -> np.ndarray:
        """Which columns hold numbers."""
        return np.isnan(self.family.largest())

    @property
    def _scale(self) -> np.ndarray:
        """Units of X that the model's units are, 1 of categories."""
        usual = self.family.encode(self.usual_[self.varying_][None], self._names)
        return np.exp(np.broadcast_to(self.family.log_volume(usual), usual.shape)[0])

    def log_volume(self, rows: Rows) -> np.ndarray:
        """What to subtract from rows' log-densities to have X's units, (n,)."""
        return super().log_volume(self._with_units(rows))

    def _with_units(self, rows: Rows) -> Rows:
        """Mark values off grids that have a mass of their own: a mass has no units."""
        observed = np.ones(rows.values.shape, dtype=bool)
        if rows.observed is not None:
            observed = np.array(rows.observed)
        for j in np.flatnonzero(self._numeric & (self.grids_.step_ == 0)):
            values = self.grids_.values_[j]
            if len(values):
                observed[..., j] &= ~np.isin(rows.values[..., j], values)
        return Rows(rows.values, observed)

    def rows(self, X: np.ndarray, warn: bool = True) -> Rows:
        """Take rows to what travels.

        ``warn``: of categories that fit has not seen, and of entries off the grids.
        """
        off = np.zeros(len(self.varying_), dtype=bool)
        off[self.varying_] = self.grids_.off(self._varying(X))
        if warn and off.any():
            named = [self.names_[j] for j in np.flatnonzero(off)]
            steps = self.grids_.step_[off[self.varying_]]
            warnings.warn(
                f"Column(s) {', '.join(named)} of X hold entries between the points "
                "that all rows of fit lie on, multiples of "
                f"{', '.join(f'{step:g}' for step in steps)}: likelihood="
                "'autoregressive' takes them for the nearest. Round them, or fit on "
                "rows that hold such entries.",
                UserWarning,
                stacklevel=2,
            )
        return super().rows(X, warn)

    def _checked(self, X: np.ndarray) -> np.ndarray:
        """Varying columns of X, on their grids and frequent values."""
        return self._snapped(self.grids_.rounded(super()._checked(X)))

    def _snapped(self, X: np.ndarray) -> np.ndarray:
        """Return X with what is a frequent value but for rounding put onto it."""
        for j in np.flatnonzero(self._numeric & (self.grids_.step_ == 0)):
            values = self.grids_.frequent_[j]
            if len(values):
                within = SAME * (1 + abs(self.grids_.values_[j])) * self._scale[j]
                distances = abs(X[..., j, None] - values)
                which = distances.argmin(-1)
                near = distances.min(-1) <= within[which]  # nor where it is NaN
                X[..., j] = np.where(near, values[which], X[..., j])
        return X

    def inverse_transform(self, Y: np.ndarray) -> np.ndarray:
        """Take what the model sees, shape (..., n_varying), back to columns of X."""
        X = super().inverse_transform(Y)
        settled = self.grids_.settled(X[..., self.varying_])
        X[..., self.varying_] = self._snapped(settled)
        return X

    def describe(self, tags) -> None:
        """Tables of numbers and categories, dense ones."""
        super().describe(tags)
        tags.sparse = False

    def networks(self, structure: Structure) -> Networks:
        """Build likelihood, encoder, posterior and features."""
        sizes, d = structure.hidden_layer_sizes, structure.n_components
        if not sizes:
            raise ValueError(
                "hidden_layer_sizes=() has no entry; likelihood='autoregressive' needs "
                "at least one: each column's network has two layers of half as many "
                "units. Pass for example (128, 128)."
            )
        n_hidden = max(1, sizes[0] // 2)
        activation, numeric, grids = structure.activation, self._numeric, self.grids_

        def inputs():
            return Inputs(grids, numeric, self.marked_)

        cells = self._cells(structure.min_scale)
        likelihood = AutoregressiveLikelihood(
            inputs(),
            cells,
            n_hidden,
            structure.n_decoded,
            activation,
            self.family.indices,
        )
        features = inputs()
        n_inputs, n_given = features.n_inputs, structure.n_given
        encoder: nn.Module
        if callable(structure.encoder):
            module = call_factory("encoder", structure.encoder, n_inputs, d)
            encoder = UserEncoder(module)
        else:
            encoder = GaussianEncoder(mlp(n_inputs, sizes, 2 * d, activation))

        def network():
            return mlp(n_inputs + n_given, sizes, 2 * d, activation)

        posterior: nn.Module
        if all(cells.path):
            posterior = Posterior(network())
        else:
            prefixes = ColumnNetworks(
                features, 0, 2 * d, n_hidden, activation, own=True
            )
            posterior = FilteringPosterior(network(), prefixes, n_given, 2 * d)
        return likelihood, encoder, posterior, features

    def _cells(self, min_scale: float) -> Cells:
        numeric, grids, scale = self._numeric, self.grids_, self._scale
        cell = grids.step_ / scale
        usual = np.where(cell > 0, grids.start_, self.usual_[self.varying_])
        start = self.family.encode(usual[None], self._names)[0]
        most, rows = LEAST_NOISE
        floor = np.maximum(min_scale, most / (rows + grids.counts_ / KURTOSIS))
        return Cells(grids, numeric, cell, np.where(cell > 0, start, 0.0), floor)

    def largest_layers(self, structure: Structure) -> list[int]:
        """Of the columns' second layers."""
        half = max(1, structure.hidden_layer_sizes[0] // 2)
        return [self.n_varying * half * half] if structure.hidden_layer_sizes else []

    def write(self) -> dict:
        """Return what ``fit`` learned as arrays and plain values."""
        return {**super().write(), "grids": self.grids_.write()}

    def read(self, state: dict, structure: Structure, n_features: int):
        """Take over what ``write`` returned, each entry checked."""
        rest = dict(state) if type(state) is dict else {}
        grids = rest.pop("grids", None)
        super().read(rest, structure, n_features)
        self.grids_ = Grids.read(grids, self.n_varying)
        return self
