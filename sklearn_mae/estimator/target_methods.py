"""What codes tell about y: the methods that ask for it, and what ``fit`` says of it."""

from __future__ import annotations

import math
import warnings

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import Bunch
from sklearn.utils.metaestimators import available_if

from sklearn_mae.estimator.arguments import to_numpy
from sklearn_mae.estimator.fitted import Fitted, at_once
from sklearn_mae.estimator.sparse import block_by_block
from sklearn_mae.estimator.tables import rows_of_transform
from sklearn_mae.estimator.targets import FEWEST_ROWS, some_labels, target_nats
from sklearn_mae.information import LabelInformation, hits

__all__ = ["TargetMixin", "target_complaints", "warn_of_mean_codes"]

# how far I(z; y) may be from M_target, in nats and as a part of it
TOLERANCE, RELATIVE_TOLERANCE = 0.02, 0.02


def target_complaints(params, fitted: Fitted) -> list[str]:
    """Say where I(z; y) is not known, or not M_target.

    Parameters
    ----------
    params : MutualAutoencoder
        Parameters, "auto" resolved.
    fitted : Fitted
        What was reached.

    Returns
    -------
    list of str
        One sentence or several for each that was missed.
    """
    if fitted.target is None:
        return []
    nats = target_nats(params, fitted.target)
    intervals = fitted.target_mutual_info_interval_
    if not isinstance(intervals, dict):
        intervals = {"z": intervals}
    if math.isnan(intervals[next(iter(intervals))][0]):
        return [UNKNOWN]
    asked = {"rest": 0.0}
    complaints = [
        _complaint(name, asked.get(name, nats), interval)
        for name, interval in intervals.items()
    ]
    return [complaint for complaint in complaints if complaint is not None]


def warn_of_mean_codes(params, fitted: Fitted) -> None:
    """Say that means of codes are not certified, where draws are.

    Parameters
    ----------
    params : MutualAutoencoder
        Parameters, "auto" resolved.
    fitted : Fitted
        What was learned.
    """
    if fitted.told and params.codes == "mean":
        warnings.warn(
            "codes='mean' with target='condition': a posterior mean is no draw, its "
            "decimals may tell all about y, and nothing bounds what they tell. Only "
            "draws are certified: use codes='sample', or 'auto'.",
            UserWarning,
            stacklevel=4,
        )


UNKNOWN = (
    "target_mutual_info_ is NaN: the bracket of I(z; y) needs labelled rows held out "
    f"from training, and a class of y has fewer than {FEWEST_ROWS} rows. Pass rows "
    "that fit has not seen to target_mutual_info(X, y): whether I(z; y) is M_target "
    "is not known before."
)


def _complaint(name: str, nats: float, interval) -> str | None:
    """Say that a block of the code does not hold what it was to; None if it does."""
    low, high = interval
    tolerance = max(TOLERANCE, RELATIVE_TOLERANCE * nats)
    hit = hits((low, high), nats, tolerance)
    if hit:
        return None
    asked = f"M_target={nats:g} nats about y were asked for"
    what = "I(z; y)" if name == "z" else f"I({name}; y)"
    if name == "rest":
        asked = "A second block that knows nothing of y was asked for"
    if hit is None:
        return (
            f"{asked} and it is not decided whether {what} is that: it lies in "
            f"[{low:.3f}, {high:.3f}], of which a part is within {tolerance:g} nats of "
            "it. More labelled rows, or a smaller M, make the bracket narrower."
        )
    if low > nats:
        causes = (
            "too few steps to forget y (raise max_epochs), a multiplier bound too low "
            "(raise C)"
        )
    else:
        causes = (
            "x tells less of y than that, M leaves no room for it, too few steps "
            "(raise max_epochs), a multiplier bound too low (raise C)"
        )
    return (
        f"{asked} and {what} lies in [{low:.3f}, {high:.3f}]. Possible causes: "
        f"{causes}."
    )


def _has_classes_in_its_code(estimator) -> bool:
    """Whether the fit, or one to come, has a first block about labels."""
    fitted = estimator._fitted
    if fitted is None:
        return estimator.target == "code"
    return fitted.target is not None and fitted.target.kind == "code"


class TargetMixin:
    """Methods about y."""

    _fitted: Fitted

    @at_once
    def target_mutual_info(self, X: ArrayLike, y: ArrayLike | None = None) -> Bunch:
        """Bracket I(z; y), what codes drawn for rows tell about their labels.

        From the encoder's own density, so that no adversary is needed: whatever reads
        one draw of each row learns no more than the upper end. It holds for rows that
        are independent and that ``fit`` has not been trained on; of those that it has,
        the codes may tell more or less. Every row meets every code: time grows with
        the square of n.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows, at least two of each class in `y`.
        y : array-like of shape (n_samples,)
            Their labels. With ``target="code"`` unlabelled rows are left out.

        Returns
        -------
        Bunch
            For each block of the code, of which ``target="condition"`` has one, ``z``,
            and ``target="code"`` two, ``target`` and ``rest``, a Bunch of ``interval``,
            the ends of the bracket, 3 standard errors out and farther by Bonferroni's
            rule over the bounds that are intersected;
            ``estimate``, their midpoint; ``lower``, ``upper``, ``lower_se``,
            ``upper_se``, the bounds that decide the ends; ``entropy``, H(y) of these
            rows; ``rate``; all in nats; ``accuracy_cap``, above which no adversary can
            tell y from one draw a row at these class frequencies (Fano's inequality);
            ``n_samples``; ``sharp``, whether the rate is at most log(rows of the
            rarest class) - 4; ``method``.

        Raises
        ------
        ValueError
            If there is no `target`, a class is not known or has a single row.

        Warns
        -----
        UserWarning
            If the bracket is wide because the rate is too high for so few rows, or if
            all rows are of one class.
        """
        fitted = self._fitted
        if fitted.target is None:
            raise ValueError(
                "target_mutual_info is for a MutualAutoencoder with a target, and this "
                "one was fitted with target=None. Fit it with target='condition' or "
                "'code'."
            )
        if y is None:
            raise ValueError("y is None. Pass y=, a label for each row.")
        rows, labels = rows_of_transform(self, X), y
        if fitted.target.kind == "code":
            labels, labelled = some_labels(y, len(rows))
            if not labelled.any():
                raise ValueError(
                    f"y labels none of {len(rows)} rows: -1, NaN and None stand for "
                    "rows without a label. Pass rows that have one."
                )
            rows = rows[labelled]
        index = fitted.target.index(labels, len(rows))
        counts = np.bincount(index)
        if (counts == 1).any():
            label = fitted.target.classes_[int(np.flatnonzero(counts == 1)[0])]
            raise ValueError(
                f"y holds a single row of class {label.item()!r}; what a code tells of "
                "a class needs two rows of it. Pass more rows, or leave it out."
            )
        if (counts > 0).sum() == 1:
            warnings.warn(
                f"All {len(index)} labelled rows are of class "
                f"{fitted.target.classes_[index[0]].item()!r}: I(z; y) is 0 whatever "
                "the codes hold. Pass rows of several classes.",
                UserWarning,
                stacklevel=3,
            )
        found = fitted.about_labels(rows, index)
        for name, of_block in found.items():
            _warn_if_wide(name, of_block)
        return Bunch(**{name: Bunch(**part.as_dict()) for name, part in found.items()})

    @available_if(_has_classes_in_its_code)
    @at_once
    @block_by_block()
    def predict_proba_target(self, X: ArrayLike) -> np.ndarray:
        """Probabilities of labels, from the first block of the codes of rows.

        E p(y|a) over the block's distribution given the row, p(y|a) by Bayes' rule from
        the prior p(a|y). A pure function of the fitted state and each row.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            In the order of `classes_`.

        Raises
        ------
        AttributeError
            If there is no ``target="code"``.
        """
        X = rows_of_transform(self, X)
        return to_numpy(self._fitted.class_probabilities(self._fitted.seen(X)))


def _warn_if_wide(name: str, found: LabelInformation) -> None:
    width = found.high - found.low
    if not found.sharp and width > 2 * TOLERANCE:
        warnings.warn(
            f"The bracket of I({name}; y) is {width:.3g} nats wide: the codes' rate, "
            f"{found.rate:.3g} nats, is above log(rows of the rarest class) - 4 = "
            f"{math.log(found.n_rarest) - 4:.3g}. Pass more rows, or lower M.",
            UserWarning,
            stacklevel=4,
        )
