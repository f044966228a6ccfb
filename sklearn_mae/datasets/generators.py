"""Vectors and categories whose entropy, likelihood and information are known.

Each generator returns a Bunch as the package ``sklearn_mae.datasets`` describes it.
"""

from __future__ import annotations

from functools import partial
from numbers import Integral, Real

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.spatial.distance import cdist
from scipy.special import entr, logsumexp, rel_entr, xlog1py, xlogy
from scipy.stats import norm
from sklearn.utils import Bunch, check_array, check_random_state
from sklearn.utils._param_validation import validate_params

from sklearn_mae.parameters import Number

__all__ = [
    "make_binary_prototypes",
    "make_linear_gaussian",
    "make_split_normal",
    "make_uniform_categories",
    "split_normal_correlation",
]

_MAX_BINARY_FEATURES = 12  # 4,096 outcomes: quick to sum, even with as many classes

_POSITIVE_INT = [Number(Integral, 1, None, closed="left")]


def _checked_rows(X: ArrayLike, n_features: int) -> np.ndarray:
    rows: np.ndarray = check_array(X, input_name="X")
    if rows.shape[1] != n_features:
        raise ValueError(
            f"X has {rows.shape[1]} features, but the data set has {n_features}."
        )
    return rows


def split_normal_correlation(information: ArrayLike) -> np.ndarray | float:
    r"""Return the correlation at which a split standard normal has a given I(x, z).

    With z ~ N(0, 1) the mixture of :math:`p(x|z) = N(\rho z, 1 - \rho^2)` over z is the
    standard normal for every :math:`\rho`, and :math:`I(x, z) = -\frac12 \log(1 -
    \rho^2)`. So :math:`\rho = \sqrt{1 - e^{-2 I}}`.

    Parameters
    ----------
    information : float or array-like
        I(x, z) in nats, at least 0.

    Returns
    -------
    correlation : float or ndarray
        Correlation of x and z, in [0, 1].

    Raises
    ------
    ValueError
        If any ``information`` is negative or not a number.

    Examples
    --------
    >>> from sklearn_mae.datasets import split_normal_correlation
    >>> split_normal_correlation([0.0, 0.5, 1.0]).round(4)
    array([0.    , 0.7951, 0.9299])
    """
    nats = np.asarray(information, dtype=float)
    if not np.all(nats >= 0):
        raise ValueError(
            f"information must be at least 0 (in nats). Got {information!r} instead."
        )
    return np.sqrt(-np.expm1(-2 * nats))


def _split_normal_log_likelihood(X: ArrayLike) -> np.ndarray:
    return norm.logpdf(_checked_rows(X, 1)[:, 0])


@validate_params(
    {"n_samples": _POSITIVE_INT, "random_state": ["random_state"]},
    prefer_skip_nested_validation=True,
)
def make_split_normal(
    n_samples: int = 2000, *, random_state: int | np.random.RandomState | None = None
) -> Bunch:
    r"""Draw from the standard normal, which is a mixture for every I(x, z).

    :math:`p(x|z) = N(\rho z, 1 - \rho^2)` models x ~ N(0, 1) equally well for every
    correlation, so maximum likelihood does not determine I(x, z).

    Parameters
    ----------
    n_samples : int, default=2000
        Number of rows.
    random_state : int, RandomState instance or None, default=None
        Source of the draws; an int makes them reproducible.

    Returns
    -------
    bunch : :class:`~sklearn.utils.Bunch`
        data : ndarray of shape (n_samples, 1)
            Independent draws.
        entropy : float
            :math:`\frac12 \log(2 \pi e)`, 1.418939 nats.
        log_likelihood : callable
            log q(x) of each row of X, ndarray of shape (n,).
        correlation : callable
            :func:`split_normal_correlation`, from I(x, z) to the correlation.

    Raises
    ------
    ValueError
        If an argument is out of its range.

    References
    ----------
    Phuong, Welling, Kushman, Tomioka and Nowozin, "The Mutual Autoencoder:
    Controlling Information in Latent Code Representations", 2018, section 7.1.

    Examples
    --------
    >>> from sklearn_mae.datasets import make_split_normal
    >>> bunch = make_split_normal(500, random_state=0)
    >>> bunch.data.shape
    (500, 1)
    >>> round(bunch.entropy, 6)
    1.418939
    """
    rng = check_random_state(random_state)
    return Bunch(
        data=rng.standard_normal((n_samples, 1)),
        entropy=0.5 * float(np.log(2 * np.pi * np.e)),
        log_likelihood=_split_normal_log_likelihood,
        correlation=split_normal_correlation,
    )


def _uniform_log_likelihood(X: ArrayLike, *, n_categories: int) -> np.ndarray:
    x = _checked_rows(X, 1)[:, 0]
    return np.where(np.isin(x, np.arange(n_categories)), -np.log(n_categories), -np.inf)


@validate_params(
    {
        "n_samples": _POSITIVE_INT,
        "n_categories": _POSITIVE_INT,
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def make_uniform_categories(
    n_samples: int = 2000,
    *,
    n_categories: int = 10,
    random_state: int | np.random.RandomState | None = None,
) -> Bunch:
    """Draw from the uniform distribution over categories, with balanced counts.

    Every category has ``n_samples // n_categories`` rows; the remainder goes to
    categories chosen at random, one row each. Without a remainder the empirical
    distribution is q(x) itself, so that a model's optimum has no sampling error. The
    rows are shuffled: each is uniform, but they are not independent.

    Parameters
    ----------
    n_samples : int, default=2000
        Number of rows.
    n_categories : int, default=10
        Number of categories.
    random_state : int, RandomState instance or None, default=None
        Source of the shuffle; an int makes it reproducible.

    Returns
    -------
    bunch : :class:`~sklearn.utils.Bunch`
        data : ndarray of int of shape (n_samples, 1)
            Categories 0 to ``n_categories - 1``.
        entropy : float
            log(n_categories), in nats; no code can carry more information.
        log_likelihood : callable
            log q(x) of each row of X, ndarray of shape (n,).

    Raises
    ------
    ValueError
        If an argument is out of its range.

    References
    ----------
    Phuong, Welling, Kushman, Tomioka and Nowozin, "The Mutual Autoencoder:
    Controlling Information in Latent Code Representations", 2018, section 7.2.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_mae.datasets import make_uniform_categories
    >>> bunch = make_uniform_categories(500, random_state=0)
    >>> np.bincount(bunch.data[:, 0])
    array([50, 50, 50, 50, 50, 50, 50, 50, 50, 50])
    >>> round(bunch.entropy, 6)
    2.302585
    """
    rng = check_random_state(random_state)
    balanced = rng.permutation(n_categories)[np.arange(n_samples) % n_categories]
    return Bunch(
        data=rng.permutation(balanced)[:, np.newaxis],
        entropy=float(np.log(n_categories)),
        log_likelihood=partial(_uniform_log_likelihood, n_categories=n_categories),
    )


def _channel_information(log_snr: np.ndarray) -> float:
    """Information of parallel Gaussian channels from their signal-to-noise ratios."""
    return 0.5 * float(np.logaddexp(0, log_snr).sum())


def _log_gain(information: float, log_snr: np.ndarray) -> float:
    """Return the term to add to every log_snr for the channels' information."""
    if information == 0:
        return -np.inf
    # the root is between those of n channels like the best, and of the best alone
    nats = 2 * information / np.array([len(log_snr), 1])
    low, high = nats + np.log(-np.expm1(-nats)) - log_snr.max()
    return brentq(
        lambda log_gain: _channel_information(log_gain + log_snr) - information,
        low - 1,
        high + 1,
        xtol=1e-14,
    )


def _gaussian_log_likelihood(
    X: ArrayLike,
    *,
    mean: np.ndarray,
    axes: np.ndarray,
    singular_values: np.ndarray,
    noise_scale: float,
) -> np.ndarray:
    """Log-density of N(mean, axes diag(singular_values^2) axes^T + noise_scale^2 I)."""
    n_features, n_axes = axes.shape
    x = _checked_rows(X, n_features) - mean
    along = x @ axes
    across = x - along @ axes.T
    scales = np.hypot(singular_values, noise_scale)
    return norm.logpdf(along, scale=scales).sum(1) - (
        0.5 * np.sum((across / noise_scale) ** 2, 1)
        + (n_features - n_axes) * np.log(np.sqrt(2 * np.pi) * noise_scale)
    )


@validate_params(
    {
        "n_samples": _POSITIVE_INT,
        "n_features": _POSITIVE_INT,
        "n_components": _POSITIVE_INT,
        "noise_scale": [Number(Real, 0, np.inf, closed="neither")],
        "information": [Number(Real, 0, np.inf, closed="left"), None],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def make_linear_gaussian(
    n_samples: int = 2000,
    *,
    n_features: int = 10,
    n_components: int = 2,
    noise_scale: float = 1.0,
    information: float | None = None,
    random_state: int | np.random.RandomState | None = None,
) -> Bunch:
    r"""Draw from probabilistic PCA, x = W z + mean + noise.

    The code z ~ N(0, I), the noise ~ N(0, noise_scale^2 I); the entries of W and of the
    mean are standard normal before W is rescaled. Then

    .. math::
        I(x, z) = \tfrac12 \log\det(I + W^T W / \sigma^2), \qquad
        H(x) = \tfrac{D}{2} \log(2 \pi e \sigma^2) + I(x, z).

    Parameters
    ----------
    n_samples : int, default=2000
        Number of rows.
    n_features : int, default=10
        Number of columns, D.
    n_components : int, default=2
        Dimension of the code; may exceed ``n_features``.
    noise_scale : float, default=1.0
        Standard deviation of the noise, :math:`\sigma`.
    information : float or None, default=None
        I(x, z) in nats, reached by a factor of W; None leaves W as drawn.
    random_state : int, RandomState instance or None, default=None
        Source of W, the mean and the draws; an int makes them reproducible.

    Returns
    -------
    bunch : :class:`~sklearn.utils.Bunch`
        data : ndarray of shape (n_samples, n_features)
            Independent draws of x.
        codes : ndarray of shape (n_samples, n_components)
            The z of each row.
        weights : ndarray of shape (n_features, n_components)
            W.
        mean : ndarray of shape (n_features,)
            Mean of x.
        noise_scale : float
            As given.
        information : float
            I(x, z), in nats.
        entropy : float
            Differential entropy H(x), in nats.
        log_likelihood : callable
            log q(x) of each row of X, ndarray of shape (n,).

    Raises
    ------
    ValueError
        If an argument is out of its range.

    References
    ----------
    Tipping and Bishop, "Probabilistic principal component analysis", Journal of the
    Royal Statistical Society B 61(3), 1999.

    Examples
    --------
    >>> from sklearn_mae.datasets import make_linear_gaussian
    >>> bunch = make_linear_gaussian(500, information=3.0, random_state=0)
    >>> bunch.data.shape, bunch.codes.shape
    ((500, 10), (500, 2))
    >>> round(bunch.information, 9)
    3.0
    >>> bunch.log_likelihood(bunch.data).shape
    (500,)
    """
    rng = check_random_state(random_state)
    weights = rng.standard_normal((n_features, n_components))
    mean = rng.standard_normal(n_features)
    codes = rng.standard_normal((n_samples, n_components))
    noise = noise_scale * rng.standard_normal((n_samples, n_features))

    axes, singular_values, _ = np.linalg.svd(weights, full_matrices=False)
    log_snr = 2 * np.log(singular_values / noise_scale)
    if information is not None:
        log_gain = _log_gain(information, log_snr)
        weights, singular_values = (
            a * np.exp(log_gain / 2) for a in (weights, singular_values)
        )
        log_snr = log_snr + log_gain
    total = _channel_information(log_snr)
    return Bunch(
        data=codes @ weights.T + mean + noise,
        codes=codes,
        weights=weights,
        mean=mean,
        noise_scale=noise_scale,
        information=total,
        entropy=n_features * float(norm.entropy(scale=noise_scale)) + total,
        log_likelihood=partial(
            _gaussian_log_likelihood,
            mean=mean,
            axes=axes,
            singular_values=singular_values,
            noise_scale=noise_scale,
        ),
    )


def _binary_digits(numbers: np.ndarray, n_digits: int) -> np.ndarray:
    return numbers[:, np.newaxis] >> np.arange(n_digits)[::-1] & 1


def _log_conditionals(
    X: np.ndarray, prototypes: np.ndarray, flip_probability: float
) -> np.ndarray:
    """Log-probability of each row under each prototype, (n, n_classes)."""
    flips = cdist(X, prototypes, "cityblock")
    kept = prototypes.shape[1] - flips
    return xlogy(flips, flip_probability) + xlog1py(kept, -flip_probability)


def _prototypes_log_likelihood(
    X: ArrayLike, *, prototypes: np.ndarray, flip_probability: float
) -> np.ndarray:
    x = _checked_rows(X, prototypes.shape[1])
    log_conditionals = _log_conditionals(x, prototypes, flip_probability)
    log_q = logsumexp(log_conditionals, axis=1) - np.log(len(prototypes))
    return np.where(np.isin(x, (0, 1)).all(1), log_q, -np.inf)


@validate_params(
    {
        "n_samples": _POSITIVE_INT,
        "n_features": [Number(Integral, 1, _MAX_BINARY_FEATURES, closed="both")],
        "n_classes": _POSITIVE_INT,
        "flip_probability": [Number(Real, 0, 0.5, closed="both")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def make_binary_prototypes(
    n_samples: int = 2000,
    *,
    n_features: int = 8,
    n_classes: int = 4,
    flip_probability: float = 0.1,
    random_state: int | np.random.RandomState | None = None,
) -> Bunch:
    """Draw binary rows, noisy copies of a few prototypes.

    A class is drawn uniformly, and each column of its prototype is flipped
    independently with ``flip_probability``. Entropy and information are sums over all
    outcomes. The information falls from log(n_classes) without flips to 0 at a
    probability of 0.5.

    Parameters
    ----------
    n_samples : int, default=2000
        Number of rows.
    n_features : int, default=8
        Number of columns, at most 12.
    n_classes : int, default=4
        Number of prototypes, at most ``2**n_features``.
    flip_probability : float, default=0.1
        Probability of a flip, in [0, 0.5].
    random_state : int, RandomState instance or None, default=None
        Source of the prototypes and the draws; an int makes them reproducible.

    Returns
    -------
    bunch : :class:`~sklearn.utils.Bunch`
        data : ndarray of int of shape (n_samples, n_features)
            Independent draws of x, zeros and ones.
        codes : ndarray of int of shape (n_samples,)
            Hidden class of each row.
        prototypes : ndarray of int of shape (n_classes, n_features)
            The prototypes, all different.
        flip_probability : float
            As given.
        outcomes : ndarray of int of shape (2**n_features, n_features)
            Every value of x, in the order of binary numbers.
        probabilities : ndarray of shape (2**n_features,)
            q(x) of each outcome.
        information : float
            I(x, class), in nats.
        entropy : float
            H(x), in nats.
        log_likelihood : callable
            log q(x) of each row of X, ndarray of shape (n,).

    Raises
    ------
    ValueError
        If an argument is out of its range, or there are fewer than ``n_classes``
        different prototypes.

    Examples
    --------
    >>> from sklearn_mae.datasets import make_binary_prototypes
    >>> bunch = make_binary_prototypes(500, flip_probability=0.0, random_state=0)
    >>> bunch.data.shape, bunch.outcomes.shape
    ((500, 8), (256, 8))
    >>> round(bunch.information, 6)  # log 4
    1.386294
    """
    n_outcomes = 2**n_features
    if n_classes > n_outcomes:
        raise ValueError(
            f"n_classes must be at most 2**n_features = {n_outcomes}, the number of "
            f"different prototypes. Got {n_classes} instead."
        )
    rng = check_random_state(random_state)
    outcomes = _binary_digits(np.arange(n_outcomes), n_features)
    prototypes = outcomes[rng.permutation(n_outcomes)[:n_classes]]
    codes = rng.randint(n_classes, size=n_samples)
    flips = rng.random_sample((n_samples, n_features)) < flip_probability

    conditionals = np.exp(_log_conditionals(outcomes, prototypes, flip_probability))
    probabilities = conditionals.mean(1)
    divergences = rel_entr(conditionals, probabilities[:, np.newaxis])
    return Bunch(
        data=prototypes[codes] ^ flips,
        codes=codes,
        prototypes=prototypes,
        flip_probability=flip_probability,
        outcomes=outcomes,
        probabilities=probabilities,
        information=max(float(divergences.sum()) / n_classes, 0.0),
        entropy=float(entr(probabilities).sum()),
        log_likelihood=partial(
            _prototypes_log_likelihood,
            prototypes=prototypes,
            flip_probability=flip_probability,
        ),
    )
