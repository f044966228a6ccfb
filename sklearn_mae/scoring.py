"""A scorer for cross-validation and searches."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from sklearn_mae.estimator.arguments import check_parameters
from sklearn_mae.estimator.pipelines import autoencoder_in, rows_before
from sklearn_mae.parameters import plain_number

__all__ = ["information_scorer"]


def information_scorer(
    estimator: BaseEstimator, X: ArrayLike, y: ArrayLike | None = None
) -> dict[str, float]:
    """Score a fitted MutualAutoencoder, alone or in a Pipeline, by all its figures.

    It is for ``scoring=`` of ``cross_validate``, ``GridSearchCV`` and similar. All
    figures are in nats, in the units of the autoencoder's input. Choose M or the
    encoder by ``log_likelihood`` (``refit="log_likelihood"``). The scores are
    deterministic: ``information`` is the estimate of ``fit``.

    Parameters
    ----------
    estimator : MutualAutoencoder, Pipeline or search
        Fitted. In a Pipeline, X goes through the steps before its last
        MutualAutoencoder; samplers of imbalanced-learn are skipped, as the Pipeline
        itself skips them. Later steps are ignored. Of a search, such as
        ``GridSearchCV``, the best estimator is scored.
    X : array-like of shape (n_samples, n_features)
        Rows, as `estimator` takes them.
    y : array-like of shape (n_samples,), optional
        Labels, where the decoder sees them (``target="condition"``); else ignored.

    Returns
    -------
    dict of str to float
        Means over the rows: ``elbo`` (the encoder's bound, as ``score`` gives it),
        ``log_likelihood``, ``rate``, ``distortion``. Of the model: ``information``
        (``mutual_info_``) and ``information_error``, which is -abs(information - M),
        NaN for ``M=None``. ``n_entries`` is the mean number of entries scored in a row:
        of missing ones nothing is, and figures of different entries do not compare.

    Raises
    ------
    TypeError
        If there is no MutualAutoencoder in `estimator`.
    NotFittedError
        If it is not fitted.
    ValueError
        If its M was set to no number of nats since.

    Warns
    -----
    RuntimeWarning
        If figures cannot be computed for X, or are not finite. They are NaN then,
        because an exception would end the whole search.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.model_selection import cross_validate
    >>> from sklearn_mae import MutualAutoencoder, information_scorer
    >>> X, _ = load_iris(return_X_y=True)
    >>> mae = MutualAutoencoder(
    ...     M=None, n_components=3, hidden_layer_sizes=(16,), max_epochs=20,
    ...     random_state=0,
    ... )
    >>> results = cross_validate(mae, X, scoring=information_scorer, cv=2)
    >>> results["test_log_likelihood"].shape
    (2,)
    """
    before, mae = autoencoder_in(estimator, "information_scorer")
    check_is_fitted(mae)
    check_parameters(mae, "M")
    M, information = plain_number(mae.M), mae.mutual_info_
    scores = {
        "elbo": np.nan,
        "log_likelihood": np.nan,
        "information": information,
        "information_error": np.nan if M is None else -abs(information - M),
        "rate": np.nan,
        "distortion": np.nan,
        "n_entries": np.nan,
    }
    try:
        with np.errstate(all="ignore"):
            X = rows_before(before, X)
            scored, (n, _) = mae._entries(X)
            if not scored:
                raise ValueError("no entry of X is observed")
            elbo = float(mae.score_samples(X, y).mean())
            rate = float(mae.rate(X).mean())
            figures = {
                "elbo": elbo,
                "log_likelihood": float(mae.log_likelihood(X, y=y).mean()),
                "rate": rate,
                "distortion": -elbo - rate,
                "n_entries": scored / n,
            }
    except Exception as error:
        problem = f"{type(error).__name__}: {error}"
    else:
        wrong = [name for name, value in figures.items() if not np.isfinite(value)]
        problem = f"{', '.join(wrong)} not finite" if wrong else ""
        scores |= {k: v for k, v in figures.items() if k not in wrong}
    if problem:
        warnings.warn(
            f"information_scorer gives NaN for what it could not compute: {problem}",
            RuntimeWarning,
            stacklevel=2,
        )
    return scores
