"""What a kind of data declares: the two seams that everything else stands on.

A **column family** is one kind of column. It has no network. It says how a column is
checked, encoded and decoded, what the encoder sees of it, how many numbers the decoder
gives for it, and which distribution p(x_j|z) these numbers make.

A **row family** is one kind of row: it says what the model sees of X, and builds the
networks. ``Table`` joins column families; rows of words, and likelihoods that a user
supplies, are row families of their own.

Nothing outside this folder asks which family it deals with. All members have defaults
or raise with the name of what is missing. Shapes: n rows, D columns that the model
sees, codes of d components; log-probabilities in nats.
"""

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from itertools import chain
from typing import NamedTuple, Self

import numpy as np
from torch import Tensor, nn
from torch.distributions import Distribution

from sklearn_mae.gradients import Reinforce
from sklearn_mae.model import Cost, LatentVariableModel, Pool, Rows

__all__ = [
    "NEEDS_NO_CODE",
    "ColumnFamily",
    "FisherTerm",
    "Likelihood",
    "Networks",
    "RowFamily",
    "Schedule",
    "Structure",
]

# Numbers of p(x|z) up to which as many codes are decoded in one call as callers ask,
# and those of all codes beyond: 4 MB in float64, of which a log-density takes ten.
NARROW, NUMBERS_AT_ONCE = 512, 1 << 19
# components about a label, where their number is not said
MOST_AUTO = 16
# likelihood, encoder, posterior and features
Networks = tuple[nn.Module, nn.Module, nn.Module, nn.Module]


@dataclass(frozen=True)
class Structure:
    """The parameters that the shape of the networks depends on, as ``fit`` found them.

    ``n_components`` counts all of a code, a first block of ``n_target_components``
    included.
    """

    n_components: int
    encoder: str | Callable
    likelihood: str | tuple[str, ...] | Callable
    hidden_layer_sizes: tuple[int, ...]
    activation: str
    min_scale: float
    target: str | None = None
    n_classes: int = 0
    n_target_components: int = 0

    @classmethod
    def of(cls, params, n_classes: int = 0) -> "Structure":
        """Return that of an estimator's parameters, and of its target's classes."""
        target, n_first = getattr(params, "target", None), 0
        if target == "code":
            n_first = params.n_target_components
            n_first = min(n_classes - 1, MOST_AUTO) if n_first is None else int(n_first)
        return cls(
            n_components=int(params.n_components) + n_first,
            encoder=params.encoder,
            likelihood=params.likelihood,
            hidden_layer_sizes=tuple(params.hidden_layer_sizes),
            activation=params.activation,
            min_scale=float(params.min_scale),
            target=target,
            n_classes=n_classes,
            n_target_components=n_first,
        )

    @property
    def n_given(self) -> int:
        """Numbers that decoder and posterior are given besides code and rows."""
        return self.n_classes if self.target == "condition" else 0

    @property
    def n_decoded(self) -> int:
        """Numbers that a decoder takes: the code, and what is given behind it."""
        return self.n_components + self.n_given

    @property
    def user_supplied(self) -> list[str]:
        """Names of the parts that are modules of the user's own."""
        names = ("encoder", "likelihood")
        return [name for name in names if callable(getattr(self, name))]

    def check_same(self, now: "Structure") -> None:
        """Refuse to go on with these networks under other parameters."""
        names = [field.name for field in fields(self)]
        changed = [
            f"{name} (was {getattr(self, name)!r}, now {getattr(now, name)!r})"
            for name in names
            if getattr(self, name) != getattr(now, name)
        ]
        if changed:
            raise ValueError(
                f"warm_start=True goes on from fitted weights, but {', '.join(changed)}"
                " changed since. Set it back, or warm_start=False to start anew."
            )


def _missing(owner, name: str) -> NotImplementedError:
    return NotImplementedError(
        f"{type(owner).__name__} does not declare {name!r}: see the base class in "
        "sklearn_mae/families/base.py."
    )


class FisherTerm(NamedTuple):
    """A term (w d eta/dz)'(w d eta/dz) of a Fisher information.

    ``weight`` and ``parameter``, w and eta, have shape (..., m, r): of m columns, r
    numbers each. ``columns`` are their positions in the table; None: these are all.
    """

    weight: Tensor
    parameter: Tensor
    columns: Tensor | None = None


class ColumnFamily:
    """One kind of column: from entries to what the model sees, and to p(x_j|z).

    An instance stands for the columns of this kind in one table. ``fit`` learns about
    them; attributes that it sets end with an underscore and are saved.

    Attributes
    ----------
    discrete : bool
        Whether p(x_j|z) is a probability, not a density.
    indices : bool
        Whether the model sees int64.
    kind : {"numeric", "category"}
        What a column of a data frame must be: numbers, or anything that can be told
        apart, too.
    state : tuple of str
        Names of the attributes that ``fit`` sets: an array or a list each, with an
        element for each column.
    """

    discrete: bool | None = False
    indices = False
    kind = "numeric"
    state: tuple[str, ...] = ()

    @property
    def n_columns(self) -> int:
        """Number m of columns."""
        raise _missing(self, "n_columns")

    # -- entries of X ----------------------------------------------------------------

    def check(self, X: np.ndarray, names: Callable) -> None:
        """Refuse entries of X (n, m), float64, that such a column cannot hold.

        ``names(which)`` writes the names of the columns of a boolean mask (m,) or of
        positions. Entries that are missing are NaN, here and in ``fit``.
        """

    def restricted(self, varying: np.ndarray) -> "ColumnFamily":
        """Return the family of those of its columns that vary, not yet fitted."""
        return self

    def unknown(self, X: np.ndarray) -> np.ndarray | None:
        """Which entries fit has not seen and cannot be placed; None: there are none."""
        return None

    def varies(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Which columns vary, from their smallest and largest entries."""
        return high > low

    def fit(self, X: np.ndarray, names: Callable) -> "ColumnFamily":
        """Learn from checked columns that vary, shape (n, m)."""
        return self

    def extended(self, others: Sequence["ColumnFamily"]) -> Self:
        """Return the fitted family of its columns and those of others, in order."""
        whole = copy.copy(self)
        for name in self.state:
            each = [getattr(family, name) for family in (self, *others)]
            lists = isinstance(each[0], list)
            joined = list(chain(*each)) if lists else np.concatenate(each)
            setattr(whole, name, joined)
        return whole

    def part(self, columns: np.ndarray) -> "ColumnFamily":
        """Return the fitted family of some of its columns, by their positions."""
        some = copy.copy(self)
        for name in self.state:
            value = getattr(self, name)
            lists = isinstance(value, list)
            picked = [value[j] for j in columns] if lists else value[columns]
            setattr(some, name, picked)
        return some

    def encode(self, X: np.ndarray, names: Callable) -> np.ndarray:
        """Take checked entries to what the model sees, shape (n, m)."""
        return X

    def decode(self, Y: np.ndarray) -> np.ndarray:
        """Take what the model sees, shape (..., m), back to entries of X."""
        return Y

    def key(self, X: np.ndarray) -> np.ndarray:
        """Take entries to what a row's noise may depend on: free of their units."""
        return X

    def standardised(self, X: np.ndarray) -> np.ndarray:
        """Take entries to multiples of fit's scales, NaN where there are no units."""
        return np.full(X.shape, np.nan)

    def misfit(self, values: np.ndarray, names: Callable) -> str | None:
        """Say why codes of rows, as the model sees them, may know more than needed."""
        return None

    def log_volume(self, Y: np.ndarray) -> np.ndarray:
        """What to subtract from log-densities of entries Y (n, m) to have X's units.

        In nats, of a shape that broadcasts to that of Y; Y as the model sees it.
        """
        return np.zeros(self.n_columns)

    def largest(self) -> np.ndarray:
        """Largest category of each column, NaN where columns hold no categories."""
        return np.full(self.n_columns, np.nan)

    def write(self) -> dict:
        """Return what ``fit`` learned."""
        return {name: getattr(self, name) for name in self.state}

    def read(self, state: dict, m: int) -> None:
        """Set the attributes of m columns from what ``write`` returned."""
        raise _missing(self, "read")

    def describe(self, tags) -> None:
        """Say in scikit-learn's input tags what entries may be."""

    # -- networks --------------------------------------------------------------------

    def features(self) -> nn.Module:
        """Return the module from what the model sees to what the encoder sees."""
        raise _missing(self, "features")

    def input_columns(self) -> np.ndarray:
        """Column of each of the numbers that the encoder sees, in their order."""
        return np.arange(self.n_columns)

    @property
    def n_inputs(self) -> int:
        """Numbers that the encoder sees."""
        return len(self.input_columns())

    @property
    def n_outputs(self) -> int:
        """Numbers that the decoder gives."""
        raise _missing(self, "n_outputs")

    def encoder_network(self, n_components: int) -> nn.Module | None:
        """Return a network from features to 2 d numbers; None: a usual one will do."""
        return None

    def constants(self, min_scale) -> dict[str, Tensor]:
        """Tensors that ``distribution`` reads: they move with the networks.

        ``min_scale`` is the estimator's, or one for each column.
        """
        return {}

    def shared(self) -> dict[str, Tensor]:
        """Start of the parameters of ``distribution`` that do not depend on z."""
        return {}

    def distribution(self, outputs: Tensor, given: dict[str, Tensor]) -> Distribution:
        """Return p(x|z) of all columns from the decoder's outputs (..., n_outputs).

        It has ``entry_log_prob(x)`` of shape (..., m), whose sum is ``log_prob(x)``.
        ``given`` holds ``constants`` and ``shared``.
        """
        raise _missing(self, "distribution")

    def point(self, p) -> Tensor:
        """Return the one value that stands for p, shape (..., m): its mean."""
        return p.mean

    def expected(self, p, weights: Tensor) -> Tensor:
        """Return the one value that stands for a mixture of p (S, n, m): its mean.

        ``weights`` (S, n) are its shares.
        """
        return (weights.unsqueeze(-1) * p.mean).sum(0)

    def outcomes(self) -> list[int] | None:
        """Number of values 0, 1, .. of each column; None if they cannot be listed."""
        return None

    def fisher_terms(self, p) -> list[FisherTerm] | None:
        """Return the terms of the Fisher information about z; None: not known."""
        return None


class Likelihood(nn.Module):
    """p_theta(x|z), decoder included, and what the rest has to know about it.

    Attributes
    ----------
    n_features : int
        Number of columns D.
    cost : Cost
        What decoding costs.
    repeatable : bool
        Whether decoding a code again gives the same: dropout would not.
    sequential : bool
        Whether entries depend on those before them given z. Then missing ones are drawn
        by ``filled``, and ``points`` takes the place of ``expected``.
    """

    n_features: int
    cost = Cost()
    repeatable = False
    sequential = False

    @property
    def n_numbers(self) -> int:
        """Numbers that p(x|z) holds for each code."""
        return self.n_features

    def at_once(self, most: int) -> int:
        """How many codes to decode in one call: fewer where a row has many numbers."""
        if self.n_numbers <= NARROW:
            return most
        return max(1, min(most, NUMBERS_AT_ONCE // self.n_numbers))

    def shared_parameters(self) -> list[nn.Parameter]:
        """Return parameters that are numbers of p(x|z) themselves, for every z."""
        return []

    def parameters_when_held(self) -> list[nn.Parameter]:
        """Return those that a code comes in through, and levels of outputs.

        Where ``Schedule.alone`` is they learn on, when all others would go on to learn
        rows by heart.
        """
        return []

    def outcomes(self) -> Tensor | None:
        """Every value of x, shape (S, D); None where they cannot be listed."""
        return None

    def decode(self, z: Tensor, given: Tensor | None = None) -> Tensor:
        """Return the value that stands for p(x|z), shape (..., D).

        Where rows are given something, None stands for a usual value of it.
        """
        raise _missing(self, "decode")

    def expected(
        self, z: Tensor, weights: Tensor, given: Tensor | None = None
    ) -> Tensor:
        """Return the value that stands for a mixture over codes (S, n, d), (n, D).

        ``weights`` (S, n) are its shares; ``given`` (n, G) is of each row.
        """
        raise _missing(self, "expected")

    def fisher_information(self, z: Tensor, x: Rows | None = None) -> Tensor | None:
        """Of rows x about z, shape (n, d, d), in float64; None where unknown."""
        return None

    def log_prob_alone(self, x: Rows) -> Tensor:
        """Log-probability of rows without a code, (n,), where ``Schedule.alone`` is.

        The parameters that a code comes in through are left as they are.
        """
        raise _missing(self, "log_prob_alone")

    def filled(self, x: Rows, z: Tensor, seed: int):
        """Draw what is missing of rows given codes (S, n, d), where ``sequential``.

        Returns ``values`` (S, n, D), floats, and ``log_lik`` (S, n), of the observed
        entries given all entries before them.
        """
        raise _missing(self, "filled")

    def points(self, values: Tensor, weights: Tensor) -> Tensor:
        """Return rows (n, D) that stand for drawn ones (S, n, D), weights (S, n)."""
        raise _missing(self, "points")

    def score_gradient(self, model: LatentVariableModel, plain: bool):
        """Return the strategy for draws without a pathwise gradient.

        ``plain``: as the paper has it, without a baseline.
        """
        return Reinforce(leave_one_out=not plain)


@dataclass(frozen=True)
class Schedule:
    """How training goes, and how the model's information is steered in it.

    Attributes
    ----------
    batch_size : int
        Of ``batch_size="auto"``.
    n_steps : int
        Of ``max_epochs="auto"``, about.
    period : int
        Steps of the optimiser between two terms.
    calibration_samples : tuple of int
        Joint draws of the first and of the last calibration.
    widest_training_gap : float
        Nats above the lower bound at which the upper one is cut off.
    waiting : float
        Part of the steps for which the model's multiplier may wait.
    stops_waiting_near : float or None
        Part of M at which I ends the waiting. None: nothing does, and r_omega alone
        learns meanwhile.
    upwards : {"lower", "infomax"}
        The bound that I is raised through.
    integral_gain, proportional_gain, growth : float
        Of the multiplier's dual ascent; see ``DualAscent``.
    late : float or None
        By how much the integral gains of both multipliers are larger at half of the
        steps; see ``DualAscent``.
    alone : float
        How long a decoder that can model x without z learns it before the first step,
        as a part of the steps. 0: not at all.
    clip : float or None
        Largest norm of the gradient of the model's constraint, as a part of the usual
        norm of all other terms'. None: it is not cut off.
    """

    batch_size: int = 128
    n_steps: int = 2_000
    period: int = 4
    calibration_samples: tuple[int, int] = (200, 400)
    widest_training_gap: float = 2.0
    waiting: float = 0.1
    stops_waiting_near: float | None = 0.5
    upwards: str = "lower"
    integral_gain: float = 0.03
    proportional_gain: float = 2.0
    growth: float = 1.0
    late: float | None = 6.0
    alone: float = 0.0
    clip: float | None = None


# A decoder that can model x without z learns that first (``alone``). From then on it
# has to be made to use the code: the constraint's gradient, far noisier than the
# likelihood's, is clipped apart, or Adam's normaliser would be its own.
NEEDS_NO_CODE = Schedule(
    batch_size=256,
    calibration_samples=(100, 200),
    alone=0.5,
    clip=0.2,
    proportional_gain=0.3,
    growth=0.0,
    late=None,
)


class RowFamily:
    """One kind of row: from X to what the model sees, and the networks.

    Attributes
    ----------
    discrete : bool or None
        Whether log-likelihoods are of probabilities; None: nobody knows.
    holes : bool
        Whether entries may be missing.
    schedule : Schedule
        How training steers the model's information by sampled gradients. (A sum over
        all outcomes has no noise, and the usual schedule.)
    """

    discrete: bool | None = False
    holes = False
    schedule = Schedule()

    def text_problem(self, X) -> str | None:
        """Say what to do with texts that were given for rows."""
        raise _missing(self, "text_problem")

    def doubt(self, X: np.ndarray, likelihood) -> str | None:
        """Say of rows of fit that they look like another kind; None if they do not."""
        return None

    def misfit(self, rows: Rows) -> str | None:
        """Say why codes of rows, as the model sees them, may know more than M."""
        return None

    def again(self, X: np.ndarray) -> "RowFamily":
        """Return the family for checked rows that go on from its fit.

        It refuses rows, or warns of them, that it was not fitted for.
        """
        return self

    def fit(
        self, X: np.ndarray, names: Iterable | None = None, y: object = None
    ) -> "RowFamily":
        """Learn from a checked table of shape (n, n_features_in).

        ``y`` is what the user's ``fit`` got; a family may ignore it.
        """
        raise _missing(self, "fit")

    @property
    def n_varying(self) -> int:
        """Number of columns that the model sees."""
        raise _missing(self, "n_varying")

    def log_volume(self, rows: Rows) -> np.ndarray:
        """What to subtract from rows' log-densities to have X's units, (n,), in nats.

        ``rows`` are of arrays, as ``rows`` returns them.
        """
        return np.zeros(len(rows))

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Take rows to what the model sees, shape (n, n_varying)."""
        raise _missing(self, "transform")

    def keys(self, X: np.ndarray) -> np.ndarray:
        """Take checked rows to what their noise may depend on, for ``row_noise``."""
        raise _missing(self, "keys")

    def inverse_transform(self, Y: np.ndarray) -> np.ndarray:
        """Take what the model sees, shape (..., n_varying), back to rows of X."""
        raise _missing(self, "inverse_transform")

    def rows(self, X: np.ndarray, warn: bool = True) -> Rows:
        """Take rows to what travels: what the model sees, and its context.

        ``warn``: of missing entries that were there, where ``holes`` are.
        """
        return Rows(self.transform(X))

    def observed(self, X: np.ndarray) -> np.ndarray:
        """Which entries of checked rows there are, shape (n, n_features_in)."""
        return np.ones(X.shape, dtype=bool)

    def unforeseen(self, X: np.ndarray) -> list[str]:
        """Return names of columns of checked rows with holes that fit's had not."""
        return []

    def table(self, rows: Rows) -> np.ndarray:
        """Take rows of the model, of any leading shape, back to rows of X."""
        return self.inverse_transform(rows.values)

    def lengths(self, rows: Rows) -> np.ndarray | None:
        """Return the lengths of rows of arrays, (n,); None: all cost the same.

        What a batch of rows with lengths costs is a matter of its longest.
        """
        return None

    def pool(self) -> Pool | None:
        """Return the contexts of the rows of fit; None where there are none."""
        return None

    def patterns_of(self, X) -> tuple[np.ndarray | None, np.ndarray]:
        """Return the patterns of observed entries of checked rows, and their counts.

        None for the patterns where no entry may be missing: then there is one count.
        """
        return None, np.array([len(X)])

    def describe(self, tags) -> None:
        """Say in scikit-learn's input tags what entries may be.

        Holes are let in by ``allow_nan``.
        """

    def networks(self, structure: Structure) -> Networks:
        """Build likelihood, encoder, posterior and features."""
        raise _missing(self, "networks")

    def largest_layers(self, structure: Structure) -> list[int]:
        """Sizes that the weights of such networks together are not below."""
        return []

    def largest(self, n_features: int) -> np.ndarray:
        """Largest category of each column of X, NaN where there are none."""
        return np.full(n_features, np.nan)

    def write(self) -> dict:
        """Return what ``fit`` learned as arrays and plain values."""
        raise _missing(self, "write")

    def read(self, state: dict, structure: Structure, n_features: int) -> "RowFamily":
        """Take over what ``write`` returned, each entry checked."""
        raise _missing(self, "read")
