"""The MutualAutoencoder inside a Pipeline or a search, and the rows that it sees."""

import copy

from sklearn.model_selection._search import BaseSearchCV
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from sklearn_mae.estimator.mutual_autoencoder import MutualAutoencoder

__all__ = ["autoencoder_in", "rows_before"]


def autoencoder_in(estimator, caller: str) -> tuple[list, MutualAutoencoder]:
    """Return the steps before the last MutualAutoencoder, and that one.

    Parameters
    ----------
    estimator : MutualAutoencoder, Pipeline or search
        Pipelines may hold Pipelines; of a search it is the best estimator.
    caller : str
        Who asks, for the message.

    Raises
    ------
    TypeError
        If there is no MutualAutoencoder.
    NotFittedError
        If a search is not fitted.
    """
    if isinstance(estimator, BaseSearchCV):
        check_is_fitted(estimator, "best_estimator_")
    steps = list(_steps(estimator))
    where = [i for i, step in enumerate(steps) if isinstance(step, MutualAutoencoder)]
    if not where:
        raise TypeError(
            f"{caller} needs a MutualAutoencoder, alone, as a step of a Pipeline or in "
            f"a search. Got {estimator!r}."
        )
    # a copy: a fit that ends meanwhile must not mix its figures with the earlier one's
    return steps[: where[-1]], copy.copy(steps[where[-1]])


def rows_before(before: list, X):
    """Take rows through fitted steps, as a Pipeline does after it was fitted."""
    for step in before:
        X = step.transform(X)
    return X


def _steps(estimator):
    """Yield the steps that rows pass when a fitted estimator is used."""
    # (one without a best estimator may stand behind the autoencoder)
    if isinstance(estimator, BaseSearchCV) and hasattr(estimator, "best_estimator_"):
        estimator = estimator.best_estimator_
    if isinstance(estimator, Pipeline):
        for _, step in estimator.steps:
            yield from _steps(step)
    # strings and None pass rows through; samplers, as those of imbalanced-learn, work
    # in fit alone
    elif not (
        estimator is None
        or isinstance(estimator, str)
        or hasattr(estimator, "fit_resample")
    ):
        yield estimator
