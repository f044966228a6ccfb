"""Models over a range of M, and a report of one model.

Notation: model information I_p(x, z), information of the codes I_q(x, z), rate R and
distortion D = -E log p(x|z), all in nats. Rate against distortion over M is the
rate-distortion curve of the data under the decoder.
"""

from __future__ import annotations

import copy
import math
import reprlib
import warnings
from collections.abc import Iterable
from numbers import Real
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import Bunch, check_random_state
from sklearn.utils._optional_dependencies import check_pandas_support
from sklearn.utils.validation import check_is_fitted

from sklearn_mae.estimator import MutualAutoencoder
from sklearn_mae.estimator.arguments import check_parameters, plain_parameters
from sklearn_mae.estimator.parts import resolve_lengths
from sklearn_mae.estimator.pipelines import autoencoder_in, rows_before
from sklearn_mae.parameters import Number, plain_number

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["InformationReport", "information_path", "information_report"]

# Lengths of the fits of a path, as fractions of a single fit's. The middle target is
# fitted twice. Longer fits overfit at large M, shorter ones underfit the middle target.
FIRST_FRACTION, SECOND_FRACTION = 0.6, 0.25
# the other targets: divided by the number of targets, and at most
WARM_TOTAL, MAX_WARM_FRACTION = 1.2, 0.5
TARGET_RANGE = Number(Real, 0, None, closed="left")


def information_path(
    estimator: BaseEstimator,
    X: ArrayLike,
    Ms: Iterable[float | None],
    *,
    y: ArrayLike | None = None,
    X_test: ArrayLike | None = None,
    y_test: ArrayLike | None = None,
    random_state: int | np.random.RandomState | None = 0,
) -> Bunch:
    """Fit models over a range of M, each warm-started from its neighbour.

    Like ``lasso_path``, but from the middle target, which is fitted from scratch for
    0.6 of a single fit's epochs. The larger targets follow in increasing order; then
    the middle model is trained for another 0.25, and the smaller targets follow in
    decreasing order. Each of n targets but the middle one takes min(1.2 / n, 0.5) of a
    single fit's epochs. Fits so short get brackets of 500 draws; where one does not
    decide, ``mutual_info(tol=...)`` of that estimator gives a finer one.

    Parameters
    ----------
    estimator : MutualAutoencoder, Pipeline or search
        Gives the parameters; it is cloned, not fitted. In a Pipeline, rows go through
        the steps before it, which must be fitted.
    X : array-like of shape (n_samples, n_features)
        Rows.
    Ms : iterable of shape (n_points,)
        Targets in nats. They are sorted. None stands for a model without the
        constraint, fitted from scratch, for comparison.
    y : array-like of shape (n_samples,) or None, default=None
        Labels of X, where `estimator` has a `target`.
    X_test : array-like of shape (n_test, n_features) or None, default=None
        Held-out rows for rate, distortion and likelihoods. None: a third of X is held
        out.
    y_test : array-like of shape (n_test,) or None, default=None
        Labels of X_test.
    random_state : int, RandomState instance or None, default=0
        Chooses that third.

    Returns
    -------
    Bunch
        Arrays with one entry for each target, in nats: ``M`` (NaN for None),
        ``information`` with ``information_low`` and ``information_high`` (the bracket,
        two standard errors included), ``rate``, ``distortion``, ``elbo`` and
        ``log_likelihood`` (means over held-out rows); ``estimators``, the fitted
        models.

    Raises
    ------
    ValueError
        If `Ms` is empty or holds anything but numbers of at least 0 and None, or the
        estimator has a `target` and labels of rows are not given.

    Warns
    -----
    ConvergenceWarning
        Once, if targets were missed or not decided, or if the held-out log-likelihood
        at some is below that of the model without the constraint. It names these
        targets.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_mae import MutualAutoencoder, information_path
    >>> X, _ = load_iris(return_X_y=True)
    >>> mae = MutualAutoencoder(
    ...     n_components=3, hidden_layer_sizes=(16,), max_epochs=700, lr=5e-3,
    ...     random_state=0,
    ... )
    >>> path = information_path(mae, X, [1.0, 1.5])
    >>> path.information.round(1)
    array([1. , 1.5])
    """
    before, estimator = autoencoder_in(estimator, "information_path")
    targets = sorted(_checked_targets(Ms), key=lambda M: (M is None, M))
    train = rows_before(before, X)
    if X_test is None:
        options = {
            "test_size": 1 / 3,
            "random_state": check_random_state(random_state),
        }
        if y is None:
            train, test = train_test_split(train, **options)
        else:
            # (as strings, which sort also where labels are missing)
            labels = [str(label) for label in np.asarray(y, dtype=object).ravel()]
            if estimator.target is not None and _in_both_parts(labels):
                options["stratify"] = labels
            train, test, y, y_test = train_test_split(train, y, **options)
    else:
        test = rows_before(before, X_test)
        if estimator.target == "condition" and y_test is None:
            raise ValueError(
                "y_test is None, and with target='condition' log p(x) of "
                "X_test needs labels. Pass y_test, a label for each of its rows."
            )
    estimator._validate_params()
    _, n_epochs = resolve_lengths(
        SimpleNamespace(**plain_parameters(estimator)), len(train)
    )
    original = {name: getattr(estimator, name) for name in ("warm_start", "max_epochs")}
    fits: dict[int, MutualAutoencoder] = {}
    warned: dict[int, list[str]] = {}
    for i, start, fraction in _fit_order(targets):
        cold = start is None
        model = clone(estimator) if cold else copy.deepcopy(fits[start])
        model.set_params(M=targets[i], warm_start=not cold)
        if fraction < 1:
            model.set_params(max_epochs=math.ceil(fraction * n_epochs))
        warned.pop(i, None)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model.fit(train, y)
        for warning in caught:
            if issubclass(warning.category, ConvergenceWarning):
                warned.setdefault(i, []).extend(str(warning.message).splitlines())
            else:
                warnings.warn_explicit(
                    warning.message, warning.category, warning.filename, warning.lineno
                )
        fits[i] = model.set_params(**original)
    models = [fits[i] for i in range(len(targets))]
    log_likelihoods = [model.log_likelihood(test, y=y_test) for model in models]
    rows = [
        _figures(model, test, y_test, values)
        for model, values in zip(models, log_likelihoods, strict=True)
    ]
    path = Bunch(
        **{name: np.array([row[name] for row in rows]) for name in rows[0]},
        estimators=models,
    )
    missed = [(targets[i], message) for i in sorted(warned) for message in warned[i]]
    message = _warning_message(path.M, missed, log_likelihoods)
    if message:
        warnings.warn(message, ConvergenceWarning, stacklevel=2)
    return path


def _fit_order(targets):
    """Yield of each fit: target's index, index of the fit it starts from, length.

    Targets are sorted, None last. A start of None is a fit from scratch. The length is
    a fraction of a single fit's.
    """
    n = sum(M is not None for M in targets)
    middle = n // 2
    if n == 1:
        yield middle, None, 1.0
    elif n > 1:
        warm = min(WARM_TOTAL / n, MAX_WARM_FRACTION)
        yield middle, None, FIRST_FRACTION
        yield from ((i, i - 1, warm) for i in range(middle + 1, n))
        yield middle, middle, SECOND_FRACTION
        yield from ((i, i + 1, warm) for i in reversed(range(middle)))
    yield from ((i, None, 1.0) for i in range(n, len(targets)))


def _checked_targets(Ms):
    try:
        targets = list(Ms)
    except TypeError as error:
        raise ValueError(
            f"Ms={Ms!r} is one target; a path has several. Pass for example [1, 3, 9]."
        ) from error
    for M in targets:
        if M is not None and not TARGET_RANGE.is_satisfied_by(M):
            raise ValueError(
                f"Ms holds {M!r}; targets are numbers of nats of at least 0, or None "
                "for a model without the constraint. Pass for example [1, 3, 9]."
            )
    if not targets:
        raise ValueError("Ms is empty. Pass at least one target, for example [1, 3].")
    return [plain_number(M) for M in targets]


def _in_both_parts(y) -> bool:
    """Whether each class has rows enough for a training and a test part."""
    counts = np.unique(np.asarray(y), return_counts=True)[1]
    # (train_test_split needs a row of each class in the smaller part)
    return bool(counts.min() >= 2) and len(counts) <= counts.sum() // 3


def _figures(model, X_test, y_test, log_likelihoods):
    low, high = model.mutual_info_interval_
    elbo = float(model.score_samples(X_test, y_test).mean())
    rate = float(model.rate(X_test).mean())
    return {
        "M": np.nan if model.M is None else float(model.M),
        "information": model.mutual_info_,
        "information_low": low,
        "information_high": high,
        "rate": rate,
        "distortion": -elbo - rate,
        "elbo": elbo,
        "log_likelihood": float(log_likelihoods.mean()),
    }


def _warning_message(M, missed, log_likelihoods):
    parts = []
    # what several fits say alike, as that labelled rows are few, hides nothing else
    of_message: dict[str, list] = {}
    for target, message in missed:
        of_message.setdefault(message, []).append(target)
    own = [(some[0], message) for message, some in of_message.items() if len(some) == 1]
    if own:
        first, message = own[0]
        listed = _listed(dict(own))
        parts.append(f"fit warned at M = {listed}; at {_listed([first])}: {message}")
    for message, some in of_message.items():
        if len(some) > 1:
            parts.append(f"fit warned at M = {_listed(some)}: {message}")
    for unconstrained in np.flatnonzero(np.isnan(M)):
        worse = [
            f"{target:g}"
            for target, values in zip(M, log_likelihoods, strict=True)
            if _is_below(values, log_likelihoods[unconstrained])
        ]
        if worse:
            parts.append(
                f"At M = {', '.join(worse)} the held-out log-likelihood is below that "
                "of the model without the constraint."
            )
    return f"information_path: {' '.join(parts)}" if parts else ""


def _listed(targets) -> str:
    return ", ".join("None" if M is None else f"{M:g}" for M in targets)


def _is_below(values, others):
    """Whether one mean is below the other by two standard errors of paired rows."""
    difference = values - others
    return difference.mean() < -2 * difference.std() / len(difference) ** 0.5


class InformationReport:
    """Table of a fitted model's figures on some rows, and their meaning, to print.

    Parameters
    ----------
    rows : list of tuple
        One for each figure: name, value, low end, high end, meaning.

    See Also
    --------
    information_report : Computes the figures.

    Examples
    --------
    >>> from sklearn_mae import InformationReport
    >>> print(InformationReport([("I_p(x, z)", 3.0, 2.97, 3.02, "of the model")]))
    figure     value   low  high  meaning
    I_p(x, z)   3.00  2.97  3.02  of the model
    """

    columns = ("figure", "value", "low", "high", "meaning")

    def __init__(self, rows: list[tuple]) -> None:
        self.rows = rows

    def to_frame(self) -> DataFrame:
        """Return the report as a DataFrame.

        Returns
        -------
        pandas.DataFrame
            One row for each figure.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        pandas = check_pandas_support("InformationReport.to_frame")
        return pandas.DataFrame(self.rows, columns=self.columns).set_index("figure")

    def __repr__(self):
        table = [self.columns]
        for name, *values, meaning in self.rows:
            cells = ["" if np.isnan(value) else f"{value:.2f}" for value in values]
            table.append((name, *cells, meaning))
        widths = [max(len(row[i]) for row in table) for i in range(4)]
        lines = []
        for name, *cells, meaning in table:
            aligned = [f"{c:>{w}}" for c, w in zip(cells, widths[1:], strict=True)]
            lines.append("  ".join([f"{name:{widths[0]}}", *aligned, meaning]))
        return "\n".join(lines)


def _shown(likelihood) -> str:
    """Write what the columns were taken for."""
    if isinstance(likelihood, list):
        parts = (f"{name}: {', '.join(map(str, some))}" for name, some in likelihood)
        return "; ".join(parts)
    return likelihood if isinstance(likelihood, str) else reprlib.repr(likelihood)


def _about_labels(estimator, X, y) -> list[tuple]:
    """Rows of the report on what codes tell of labels."""
    if y is not None:
        found = estimator.target_mutual_info(X, y)
        meaning = "of the codes drawn for these rows, and their labels"
        return [
            (f"I_q({block}; y)", part.estimate, *part.interval, meaning)
            for block, part in found.items()
        ]
    middles = estimator.target_mutual_info_
    ends = estimator.target_mutual_info_interval_
    if not isinstance(middles, dict):
        middles, ends = {"z": middles}, {"z": ends}
    meaning = "of codes and labels of rows that fit held out"
    if np.isnan(list(middles.values())).any():
        meaning = "not known: fit held out no labelled rows, and y is None"
    return [
        (f"I_q({block}; y)", middle, *ends[block], meaning)
        for block, middle in middles.items()
    ]


def information_report(
    estimator: BaseEstimator, X: ArrayLike, y: ArrayLike | None = None
) -> InformationReport:
    """Report the information of a fitted model, and of its codes for rows.

    Parameters
    ----------
    estimator : MutualAutoencoder, Pipeline or search
        Fitted; see :func:`~sklearn_mae.information_scorer`. The figures are of the
        autoencoder's input.
    X : array-like of shape (n_samples, n_features)
        Rows, as `estimator` takes them, preferably held out.
    y : array-like of shape (n_samples,) or None, default=None
        Their labels, where `estimator` has a `target`: then what codes tell of labels
        is that of these rows, else that of the rows which ``fit`` held out.

    Returns
    -------
    InformationReport
        Prints as a table; ``to_frame()`` makes it a DataFrame.

    Raises
    ------
    NotFittedError
        If `estimator` is not fitted.
    ValueError
        If the decoder sees labels and `y` is not given.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_mae import MutualAutoencoder, information_report
    >>> X, _ = load_iris(return_X_y=True)
    >>> mae = MutualAutoencoder(
    ...     M=1, n_components=3, hidden_layer_sizes=(16,), max_epochs=20,
    ...     random_state=0,
    ... )
    >>> report = information_report(mae.fit(X), X)
    >>> list(report.to_frame().columns)
    ['value', 'low', 'high', 'meaning']
    """
    before, estimator = autoencoder_in(estimator, "information_report")
    check_is_fitted(estimator)
    check_parameters(estimator, "M")
    X = rows_before(before, X)
    scored, (n, n_columns) = estimator._entries(X)
    of = "" if scored == n * n_columns else f", of {scored / n:.3g} entries in a row"
    # what the decoder sees is given
    given = "|y" if estimator.target == "condition" else ""
    low, high = estimator.mutual_info_interval_
    codes = estimator.encoder_mutual_info(X)
    figures = {
        "rate R": (estimator.rate(X), "what the codes cost; at least I_q"),
        "distortion D": (estimator.distortion(X, y), "what they leave unexplained"),
        "bound": (estimator.score_samples(X, y), f"on log p(x{given}): -(D + R){of}"),
        f"log p(x{given})": (
            estimator.log_likelihood(X, y=y),
            f"by importance weighting{of}",
        ),
    }
    rows = []
    if estimator.M is not None:
        rows.append(("M", float(estimator.M), np.nan, np.nan, "nats asked for"))
    rows.append(
        (f"I_p(x, z{given})", estimator.mutual_info_, low, high, "of the model")
    )
    capped = ""
    if codes.capped:
        capped = f"; {codes.n_samples} rows confirm log n = "
        capped += f"{np.log(codes.n_samples):.2f} at most"
    rows.append(
        (
            "I_q(x, z)",
            codes.estimate,
            codes.lower - 2 * codes.lower_se,
            codes.upper + 2 * codes.upper_se,
            "of the codes drawn for these rows" + capped,
        )
    )
    if hasattr(estimator, "target_mutual_info_"):
        rows += _about_labels(estimator, X, y)
    for name, (values, meaning) in figures.items():
        mean, se = float(values.mean()), float(values.std() / len(values) ** 0.5)
        rows.append((name, mean, mean - 2 * se, mean + 2 * se, meaning))
    rows.append(
        (
            "KL(q(z), p(z))",
            np.nan,
            *codes.mismatch,
            "how far codes are from the prior",
        )
    )
    rows.append(("likelihood", np.nan, np.nan, np.nan, _shown(estimator.likelihood_)))
    return InformationReport(rows)
