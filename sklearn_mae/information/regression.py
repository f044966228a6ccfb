"""Means whose noise regression on control variates reduces."""

import math

import numpy as np

__all__ = ["regressed_mean"]

# A coefficient that fewer samples support adds more noise than it removes.
SAMPLES_PER_CONTROL = 20
# Controls, or combinations of them, that spread less are left out. The scale of a
# control is 1: so small a spread is rounding, or a grid's error, and its mean is not 0.
SPREAD = 0.01


def regressed_mean(
    values: np.ndarray, controls: np.ndarray, n_folds: int = 5
) -> tuple[float, float]:
    """Mean of values with regressed control variates, and its standard error.

    The coefficients for a fold come from the other folds. Coefficients from the same
    samples would bias the mean and make the standard error too small.

    Parameters
    ----------
    values : ndarray of shape (n,)
        Samples.
    controls : ndarray of shape (n, c)
        Control variates of mean zero and a scale of about 1, the most useful first. At
        most one for every 20 samples is used, and none that hardly varies.
    n_folds : int
        Number of folds.

    Returns
    -------
    mean, standard_error : float
        In the units of ``values``; NaN where a sample is not finite.
    """
    values, controls = np.asarray(values, float), np.asarray(controls, float)
    if not (np.isfinite(values).all() and np.isfinite(controls).all()):
        return math.nan, math.nan
    controls = controls[:, : len(values) // SAMPLES_PER_CONTROL]
    residuals = np.empty_like(values)
    fold = np.arange(len(values)) % n_folds
    for k in range(n_folds):
        inside, outside = fold == k, fold != k
        design = controls[outside] - controls[outside].mean(0)
        centred = values[outside] - values[outside].mean()
        left, sizes, right = np.linalg.svd(design, full_matrices=False)
        varies = sizes > SPREAD * len(design) ** 0.5
        along = left[:, varies].T @ centred / sizes[varies]
        coefficients = along @ right[varies]
        residuals[inside] = values[inside] - controls[inside] @ coefficients
    return float(residuals.mean()), float(residuals.std(ddof=1) / len(values) ** 0.5)
