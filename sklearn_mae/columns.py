"""What ``fit`` learned about the columns of X, and the way there and back.

The model sees only columns that vary: continuous ones standardised, binary ones as
they are, categories as indices 0, 1, ... Constant columns are put back on the way
out, whatever a new row holds in them. Of sequences it sees the words that training
rows hold, and as many columns as the longest of them takes. No torch.
"""

import datetime
import reprlib
import warnings
from collections.abc import Iterable

import numpy as np
from scipy.special import ndtri

__all__ = [
    "Columns",
    "Sequences",
    "look_like_sequences",
    "row_noise",
    "table_problem",
    "with_occurrence",
]

KINDS = ("continuous", "binary", "categorical")
# from here on a float64 does not hold every integer, and codes would be merged
TOO_LARGE = 2**53
# in standard deviations: with gains of networks and small noises on top, the squares of
# figures still are within the range of float64
MAX_DISTANCE = 1e100


class Columns:
    """Columns of the training table.

    Parameters
    ----------
    kind : {"continuous", "binary", "categorical"}
        What the columns hold.
    standardise : bool
        Whether the model sees continuous columns standardised or as they are.

    Attributes
    ----------
    names_ : list of n_features_in str
        For messages.
    varying_ : ndarray of shape (n_features_in,), bool
        Columns that the model sees.
    mean_, scale_ : ndarray of shape (n_varying,)
        Of the varying columns.
    support_ : ndarray of shape (n_varying,)
        Number of rows that each varying column's variance rests on: n / kurtosis. Of a
        column that is 0 but for m equal entries about m.
    categories_ : list of n_varying ndarrays of shape (n_categories,)
        Sorted categories of each varying column; empty unless categorical.
    log_volume_ : float
        What to subtract from a log-density of what the model sees to have it in the
        units of X, in nats: the sum of the logarithms of the scales.
    """

    def __init__(self, kind: str, standardise: bool = True):
        self.kind = kind
        self.standardise = standardise and kind == "continuous"

    def fit(self, X: np.ndarray, names: Iterable | None = None) -> "Columns":
        """Learn from a checked table of shape (n, n_features_in).

        Messages call the columns by `names`, or by their positions.
        """
        names = range(X.shape[1]) if names is None else names
        self.names_ = [str(name) for name in names]
        self.varying_ = np.ones(X.shape[1], dtype=bool)
        X = self._values(X)
        low, high = X.min(axis=0), X.max(axis=0)
        # a spread that is only the rounding of measurements is no spread
        rounding = 10 * np.finfo(np.float64).eps * np.maximum(abs(low), abs(high))
        rounding *= self.kind == "continuous"
        with np.errstate(over="ignore"):
            self.varying_ = high - low > rounding
            self.constants_ = X[0].copy()
            varying = X[:, self.varying_]
            self.mean_, self.scale_ = varying.mean(axis=0), varying.std(axis=0)
        if not self.varying_.any():
            raise ValueError(
                f"All {X.shape[1]} columns of X are constant: there is nothing to "
                "encode. Pass at least one column that varies."
            )
        bad = ~(np.isfinite(self.mean_) & np.isfinite(self.scale_) & (self.scale_ > 0))
        if bad.any():
            raise ValueError(
                f"The standard deviation of column(s) {self._names(bad)} of X leaves "
                "the range of float64. Rescale them, for example by a power of ten."
            )
        standardised = (varying - self.mean_) / self.scale_
        self.support_ = 1 / (standardised**4).mean(axis=0) * len(X)
        self.categories_ = (
            [np.unique(column) for column in varying.T]
            if self.kind == "categorical"
            else []
        )
        self.log_volume_ = float(np.log(self.scale_).sum()) if self.standardise else 0.0
        return self

    @property
    def n_varying(self) -> int:
        """Number of columns that the model sees."""
        return int(self.varying_.sum())

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Take rows to what the model sees, float64 or int64 of shape (n, n_varying).

        Raises
        ------
        ValueError
            If an entry is none of the values that its kind of column can hold.
        """
        X = self._values(X)
        if self.kind == "categorical":
            return self._indices(X)
        if self.kind == "continuous":
            self._check_distance(X)
        return (X - self.mean_) / self.scale_ if self.standardise else X

    def keys(self, X: np.ndarray) -> np.ndarray:
        """Take rows to what their noise may hang on, for ``row_noise``.

        Free of the columns' units and of constant ones; the same for a float32 copy.
        """
        with np.errstate(over="ignore"):
            X = X[:, self.varying_].astype(np.float32).astype(np.float64)
        return (X - self.mean_) / self.scale_ if self.standardise else X

    def inverse_transform(self, Y: np.ndarray) -> np.ndarray:
        """Take what the model sees, shape (..., n_varying), back to columns of X."""
        if self.kind == "categorical":
            pairs = zip(self.categories_, np.moveaxis(Y, -1, 0), strict=True)
            Y = np.stack([known[index] for known, index in pairs], axis=-1)
        elif self.standardise:
            Y = Y * self.scale_ + self.mean_
        X = np.empty((*Y.shape[:-1], len(self.varying_)), dtype=np.float64)
        X[...] = self.constants_
        X[..., self.varying_] = Y
        return X

    def _check_distance(self, X: np.ndarray) -> None:
        """Refuse rows whose figures would leave float64, as squares of them do."""
        with np.errstate(over="ignore"):
            far = abs((X - self.mean_) / self.scale_) > MAX_DISTANCE
        if far.any():
            row, column = np.argwhere(far)[0]
            raise ValueError(
                f"X holds {_shown(X[row, column])} in row {row}, column(s) "
                f"{self._names([column])}, more than {MAX_DISTANCE:g} standard "
                f"deviations ({self.scale_[column]:g}) from the mean of fit's rows "
                f"({self.mean_[column]:g}): figures leave the range of float64. Clip "
                "or transform such values, or drop those rows."
            )

    def _values(self, X: np.ndarray) -> np.ndarray:
        """Varying columns of X, each entry one that its kind of column can hold."""
        X = np.asarray(X, dtype=np.float64)[:, self.varying_]
        negative = ""
        if self.kind == "binary":
            wrong = (X < 0) | (X > 1)
            problem = "holds values outside [0, 1], which likelihood='bernoulli' needs"
            advice = (
                "Scale the columns with sklearn.preprocessing.MinMaxScaler(clip=True) "
                "or use likelihood='gaussian'."
            )
        elif self.kind == "categorical":
            # (from 2^53 on a float holds no longer every integer)
            wrong = (X < 0) | (X != np.floor(X)) | (X >= TOO_LARGE)
            # scikit-learn's wording
            negative = "Negative values in data: " if (X < 0).any() else ""
            problem = (
                "holds values that are no categories: likelihood='categorical' needs "
                "non-negative integers below 2**53, for float64 to tell them apart"
            )
            advice = (
                "Encode the columns with sklearn.preprocessing.OrdinalEncoder or use "
                "likelihood='gaussian'."
            )
        else:
            return X
        if wrong.any():
            names = self._names(wrong.any(axis=0))
            raise ValueError(
                f"{negative}X {problem}: column(s) {names}, for example "
                f"{_shown(X[wrong][0])}. {advice}"
            )
        return X

    def _names(self, which) -> str:
        """Names of those of the varying columns."""
        return ", ".join(self.names_[j] for j in np.flatnonzero(self.varying_)[which])

    def _indices(self, X: np.ndarray) -> np.ndarray:
        indices = np.empty(X.shape, dtype=np.int64)
        pairs = zip(X.T, self.categories_, strict=True)
        for j, (column, known) in enumerate(pairs):
            index = np.searchsorted(known, column).clip(max=len(known) - 1)
            unseen = known[index] != column
            if unseen.any():
                values = np.unique(column[unseen]).astype(int).tolist()
                raise ValueError(
                    f"Column {self._names([j])} of X holds categories that were not "
                    f"seen in fit: {values[:5]}. Known are "
                    f"{known.astype(int).tolist()[:20]}. Map unseen categories to a "
                    "known one, or fit on rows that hold them."
                )
            indices[:, j] = index
        return indices


def _shown(value) -> str:
    """Write a number with as many digits as it takes to see why it is refused."""
    return f"{value:g}" if float(f"{value:g}") == value else repr(float(value))


# marks of a sequence, as ``SequenceVectorizer`` sets them
PAD, UNKNOWN, END = 0, 1, 2


class Sequences:
    """Rows of word ids: words, one end mark (2), then pads (0).

    It takes the place of ``Columns``.

    Attributes
    ----------
    words_ : ndarray of shape (n_words,), int64
        Ids that training rows hold and the marks, sorted; the model sees their
        positions. Any other id is to it what the unknown word (1) is.
    length_ : int
        Columns of the longest training row, the end mark included.
    log_volume_ : float
        0: probabilities have no unit.
    """

    log_volume_ = 0.0

    def fit(self, X: np.ndarray, names: Iterable | None = None) -> "Sequences":
        """Learn from a checked table of shape (n, n_features_in)."""
        self.n_columns_ = X.shape[1]
        ids = self._checked(X)
        self.length_ = int((ids != PAD).any(axis=0).sum())
        self.words_ = np.union1d(ids, [PAD, UNKNOWN, END])
        if (ids == ids[0]).all():
            raise ValueError(
                f"All {len(X)} rows of X are the same sequence: there is nothing to "
                "encode. Pass at least one row that differs."
            )
        return self

    @property
    def n_varying(self) -> int:
        """Number of columns that the model sees."""
        return self.length_

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Take rows to what the model sees, int64 of shape (n, length_).

        Raises
        ------
        ValueError
            If a row is no sequence.
        """
        ids = self._checked(X)
        return self._cut(ids, warn=True)

    def keys(self, X: np.ndarray) -> np.ndarray:
        """Take checked rows to what their noise may hang on, for ``row_noise``."""
        return self._cut(X.astype(np.int64), warn=False)

    def inverse_transform(self, Y: np.ndarray) -> np.ndarray:
        """Take what the model sees, shape (..., length_), back to ids."""
        X = np.full((*Y.shape[:-1], self.n_columns_), PAD, dtype=np.int64)
        X[..., : self.length_] = self.words_[Y]
        return X

    def _cut(self, ids: np.ndarray, warn: bool) -> np.ndarray:
        longer = (ids[:, self.length_ :] != PAD).any(axis=1)
        if warn and longer.any():
            warnings.warn(
                f"{longer.sum()} of {len(ids)} rows of X are longer than all rows of "
                f"fit and were cut to {self.length_} columns, end mark included: their "
                "figures are those of the cut rows. Fit on rows that are as long.",
                UserWarning,
                stacklevel=2,
            )
        ids = ids[:, : self.length_].copy()
        ids[longer, -1] = END
        index = np.searchsorted(self.words_, ids).clip(max=len(self.words_) - 1)
        return np.where(self.words_[index] == ids, index, UNKNOWN)

    def _checked(self, X: np.ndarray) -> np.ndarray:
        wrong = (X < 0) | (X != np.floor(X)) | (X >= TOO_LARGE)
        if wrong.any():
            raise ValueError(
                f"X holds {_shown(X[wrong][0])} in row {np.argwhere(wrong)[0, 0]}; "
                "likelihood='sequence' takes word ids, integers of at least 0. Let "
                "SequenceVectorizer make them from texts."
            )
        ids = X.astype(np.int64)
        good = _are_sequences(ids)
        if not good.all():
            row = np.flatnonzero(~good)[0]
            raise ValueError(
                f"Row {row} of X, {ids[row].tolist()}, is no sequence: "
                "likelihood='sequence' takes rows of word ids (1 for an unknown word, "
                "3 and above for the others), one end mark 2, then pads 0. Let "
                "SequenceVectorizer make them from texts."
            )
        return ids


def _are_sequences(X: np.ndarray) -> np.ndarray:
    """Which rows hold one end mark, and pads just where it has passed."""
    ends = (X == END).cumsum(axis=1)
    passed = np.pad(ends[:, :-1], ((0, 0), (1, 0))) > 0
    return (ends[:, -1] == 1) & ((X == PAD) == passed).all(axis=1)


def look_like_sequences(X: np.ndarray) -> bool:
    """Whether all rows are sequences, of several lengths: no table of numbers is."""
    lengths = np.unique((X == END).argmax(axis=1))
    return len(lengths) > 1 and bool(
        (X >= 0).all() and (X == np.floor(X)).all() and _are_sequences(X).all()
    )


def table_problem(X) -> TypeError | ValueError | None:
    """Return what to raise of columns that hold what no model takes, or None.

    scikit-learn's own check stops at the first entry and names no column.
    """
    columns = _named_columns(X)
    for is_bad, error, message in PROBLEMS:
        bad = [
            (name, values[found])
            for name, values in columns
            if (found := is_bad(values)) is not None
        ]
        if bad:
            names, values = zip(*bad, strict=True)
            example = f"{reprlib.repr(values[0])} of type {type(values[0]).__name__}"
            return error(message.format(", ".join(names), example))
    return None


def _named_columns(X) -> list[tuple[str, np.ndarray]]:
    if hasattr(X, "iloc"):  # pandas: names may be of any kind
        columns = (X.iloc[:, j] for j in range(X.shape[1])) if X.ndim == 2 else ()
        return [(str(column.name), np.asarray(column)) for column in columns]
    if hasattr(X, "columns") and hasattr(X, "dtypes"):  # polars
        return [(str(name), np.asarray(X[name])) for name in X.columns]
    if hasattr(X, "column_names") and hasattr(X, "column"):  # pyarrow
        names = enumerate(X.column_names)
        return [(str(name), np.asarray(X.column(j))) for j, name in names]
    if isinstance(X, list | tuple):
        try:
            X = np.asarray(X, dtype=object)
        except ValueError:  # of unequal depth
            return []
    if not isinstance(X, np.ndarray) or X.ndim != 2:
        return []
    if X.dtype in (np.float32, np.float64) and np.isfinite(X).all():
        return []
    return [(str(j), column) for j, column in enumerate(X.T)]


def _first(column: np.ndarray, is_bad) -> int | None:
    """Return the place of the first of the entries that is bad, None if none is."""
    return next((i for i, value in enumerate(column) if is_bad(value)), None)


def _first_string(column: np.ndarray) -> int | None:
    if column.dtype.kind not in "USTO":
        return None
    return _first(column, lambda value: isinstance(value, str | bytes))


def _first_date(column: np.ndarray) -> int | None:
    if column.dtype.kind in "mM":
        return 0 if len(column) else None
    # (the last is how a pandas Period is known)
    kinds = (datetime.date, datetime.time, datetime.timedelta)
    return _first_object(
        column, lambda value: isinstance(value, kinds) or hasattr(value, "to_timestamp")
    )


def _first_other(column: np.ndarray) -> int | None:
    if column.ndim > 1 or column.dtype.kind == "V":  # cells of several values
        return 0 if len(column) else None
    return _first_object(
        column, lambda value: not _is_missing(value) and _as_float(value) is None
    )


def _first_missing(column: np.ndarray) -> int | None:
    if column.dtype.kind == "f":
        missing = np.isnan(column)
        return int(missing.argmax()) if missing.any() else None
    return _first_object(column, _is_missing)


def _first_infinity(column: np.ndarray) -> int | None:
    if column.dtype.kind == "f":
        with np.errstate(over="ignore"):
            infinite = np.isinf(column.astype(np.float64))
        return int(infinite.argmax()) if infinite.any() else None
    return _first_object(column, lambda value: _as_float(value) in (-np.inf, np.inf))


def _first_object(column: np.ndarray, is_bad) -> int | None:
    return _first(column, is_bad) if column.dtype.kind == "O" else None


def _is_missing(value) -> bool:
    if value is None or value is np.ma.masked:
        return True
    if hasattr(value, "__len__"):
        return False
    try:
        return bool(value != value)
    except (ArithmeticError, TypeError):  # pandas.NA, and a signalling NaN
        return True


def _as_float(value) -> float | None:
    """Return an entry as a float, infinite if it is too large; None if it is none."""
    try:
        return float(value)
    except OverflowError:
        return np.inf
    except (TypeError, ValueError):
        return None


PROBLEMS = (
    (
        _first_string,
        ValueError,
        "could not convert string to float: column(s) {} of X hold text. Encode them, "
        "for example with sklearn.preprocessing.OneHotEncoder in a ColumnTransformer "
        "(OrdinalEncoder for likelihood='categorical'), or drop them.",
    ),
    (
        _first_date,
        ValueError,
        "could not convert dates to float: column(s) {} of X hold dates or durations. "
        "Turn them into numbers, for example of days, or drop them.",
    ),
    (
        _first_other,
        TypeError,
        "argument must be a string or a real number: column(s) {} of X hold what is "
        "neither, such as {}. Turn them into numbers or drop those columns.",
    ),
    (
        _first_missing,
        ValueError,
        "Input X contains NaN. Column(s) {} hold missing values, which "
        "MutualAutoencoder does not take. Fill them, for example with "
        "sklearn.impute.SimpleImputer in a Pipeline, or drop those rows.",
    ),
    (
        _first_infinity,
        ValueError,
        "Input X contains infinity or a value too large for dtype('float64') in "
        "column(s) {}. Clip or transform them, or drop those rows.",
    ),
)


def row_noise(X: np.ndarray, seed: int, n_columns: int) -> np.ndarray:
    """Standard normal noise that is a pure function of a row's values and a seed.

    Equal rows have equal noise, wherever they stand in the table and in whichever
    float type they come.

    Parameters
    ----------
    X : ndarray of shape (n, D)
        Rows.
    seed : int
        Seed.
    n_columns : int
        How many numbers to make for each row.

    Returns
    -------
    ndarray of shape (n, n_columns)
        The noise.
    """
    # + 0.0 turns -0.0 into 0.0
    with np.errstate(over="ignore"):
        bits = (np.asarray(X, dtype=np.float32) + np.float32(0.0)).view(np.uint32)
        state = np.full(len(X), seed, dtype=np.uint64)
        for column in np.ascontiguousarray(bits.T):
            state = _mix(state ^ column.astype(np.uint64))
        counters = np.arange(1, n_columns + 1, dtype=np.uint64)
        mixed = _mix(state[:, None] + counters * np.uint64(0x9E3779B97F4A7C15))
    return ndtri(((mixed >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53)


def with_occurrence(X: np.ndarray) -> np.ndarray:
    """Add a column that tells equal rows apart: 0 for the first of them, 1, 2, ...

    Parameters
    ----------
    X : ndarray of shape (n, D)
        Rows.

    Returns
    -------
    ndarray of shape (n, D + 1)
        All different, for ``row_noise``.
    """
    _, group, counts = np.unique(
        X.astype(np.float32), axis=0, return_inverse=True, return_counts=True
    )
    order = np.argsort(group.reshape(-1), kind="stable")
    starts = np.repeat(np.cumsum(counts) - counts, counts)
    occurrence = np.empty(len(X))
    occurrence[order] = np.arange(len(X)) - starts
    return np.column_stack([X, occurrence])


def _mix(state: np.ndarray) -> np.ndarray:
    """One round of splitmix64 (Steele, Lea and Flood 2014)."""
    state = state + np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
