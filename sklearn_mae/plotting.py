"""Displays of paths over M, and of models whose code has one component.

They follow scikit-learn's convention. ``from_estimator`` computes arrays by the public
methods of a fitted :class:`~sklearn_mae.MutualAutoencoder` and plots them. The arrays
are attributes: ``plot`` plots them again, and sets ``ax_`` and ``figure_``. A display
can also be constructed from arrays alone, such as those of a closed form.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import norm
from sklearn.base import BaseEstimator
from sklearn.utils import Bunch, _safe_indexing
from sklearn.utils._optional_dependencies import (
    check_matplotlib_support,
    check_pandas_support,
)
from sklearn.utils.validation import check_is_fitted

from sklearn_mae.estimator.arguments import checked_codes
from sklearn_mae.estimator.inputs import as_table
from sklearn_mae.estimator.pipelines import autoencoder_in, rows_before
from sklearn_mae.path import information_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "CategoriesDisplay",
    "ConditionalsDisplay",
    "InformationPathDisplay",
    "PosteriorsDisplay",
]

# a standard normal has all but 1e-4 of its mass between minus this and this
PRIOR_RANGE = 4.0
NO_TARGET = (
    "The path holds no model with a target, and the one without is not drawn. Pass Ms "
    "with numbers of nats, for example [1, 3, 9]."
)
# series that a legend names, at most: there are as many colours in tab10
LEGEND = 10
# of probabilities that add up to one
ROUNDING = 1e-6


class _Display:
    """Base class of displays: sets ``ax_`` and ``figure_``."""

    def _set_axes(self, ax):
        check_matplotlib_support(f"{type(self).__name__}.plot")
        from matplotlib import pyplot

        if ax is None:
            _, ax = pyplot.subplots()
        self.ax_, self.figure_ = ax, ax.figure
        return ax

    def _plot_curves(self, ax, x, curves, labels, style):
        """Plot curves, each in its own colour and with a label."""
        own, ax = ax is None, self._set_axes(ax)
        self.lines_ = []
        for color, label, y in zip(_colors(len(curves)), labels, curves, strict=True):
            self.lines_ += ax.plot(x, y, **{"color": color, "label": label, **style})
        self._set_legend(own, len(curves))
        return ax

    def _set_legend(self, own, n, reverse=False):
        """Name n series on axes of our own: on a user's there may be no room.

        One series needs no name, and more than some cannot be told apart by colour.
        """
        if own and 1 < n <= LEGEND:
            self.ax_.legend(fontsize="small", reverse=reverse)


class InformationPathDisplay(_Display):
    """One quantity of a path against another: by default log p(x) against I(x, z).

    The default is Fig. 1 of the paper. Rate against distortion is the rate-distortion
    curve of the data under the decoder. The line joins the models in the order of the
    quantity on the x-axis; the one without a target is left out.

    Parameters
    ----------
    path : Bunch
        As :func:`~sklearn_mae.information_path` returns it.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where it was drawn.
    figure_ : matplotlib Figure
        Its figure.
    container_ : matplotlib ErrorbarContainer
        The curve; its error bars are the brackets of the information.

    See Also
    --------
    sklearn_mae.information_path : Fits the models.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_mae import MutualAutoencoder
    >>> from sklearn_mae.plotting import InformationPathDisplay
    >>> X, _ = load_iris(return_X_y=True)
    >>> mae = MutualAutoencoder(
    ...     n_components=3, hidden_layer_sizes=(16,), max_epochs=200, lr=5e-3,
    ...     random_state=0,
    ... )
    >>> display = InformationPathDisplay.from_estimator(mae, X, [1.0, 1.5])
    >>> display.ax_.get_ylabel()
    'held-out log p(x), nats'
    """

    labels = {  # noqa: RUF012
        "information": "I(x, z), nats",
        "M": "M, nats",
        "rate": "rate of new rows, nats",
        "distortion": "distortion of new rows, nats",
        "elbo": "held-out bound on log p(x), nats",
        "log_likelihood": "held-out log p(x), nats",
    }

    def __init__(self, path: Bunch) -> None:
        self.path = path

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseEstimator,
        X: ArrayLike,
        Ms: Iterable[float | None],
        *,
        X_test: ArrayLike | None = None,
        random_state: int | np.random.RandomState | None = 0,
        x: str = "information",
        y: str = "log_likelihood",
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> Self:
        """Fit models over a range of M and draw them.

        Parameters
        ----------
        estimator : MutualAutoencoder, Pipeline or search
            Gives the parameters; it is cloned, not fitted. In a Pipeline, rows go
            through the steps before it, which must be fitted. With a `target` it needs
            labels: call :func:`~sklearn_mae.information_path` with ``y=`` and plot what
            it returns, ``InformationPathDisplay(path).plot()``.
        X : array-like of shape (n_samples, n_features)
            Rows.
        Ms : iterable of shape (n_points,)
            Targets in nats.
        X_test : array-like of shape (n_test, n_features) or None, default=None
            Held-out rows; None: a third of X is held out.
        random_state : int, RandomState instance or None, default=0
            Chooses that third.
        x, y : str, default="information", "log_likelihood"
            The quantities on the axes, see :meth:`plot`.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a figure.
        **kwargs : dict
            For :meth:`plot`.

        Returns
        -------
        InformationPathDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If `estimator` has a `target`, or a quantity is none of those above.
        """
        cls._check_names(x, y)
        Ms = list(Ms) if np.iterable(Ms) else Ms
        if isinstance(Ms, list) and Ms and all(M is None for M in Ms):
            raise ValueError(NO_TARGET)  # before the fits
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        path = information_path(
            estimator, X, Ms, X_test=X_test, random_state=random_state
        )
        return cls(path).plot(ax, x=x, y=y, **kwargs)

    def plot(
        self,
        ax: Axes | None = None,
        *,
        x: str = "information",
        y: str = "log_likelihood",
        **kwargs: Any,
    ) -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a figure.
        x, y : str, default="information", "log_likelihood"
            The quantities on the axes: ``"information"``, ``"M"``, ``"rate"``,
            ``"distortion"``, ``"elbo"`` or ``"log_likelihood"``.
        **kwargs : dict
            For matplotlib's ``Axes.errorbar``.

        Returns
        -------
        InformationPathDisplay
            Itself.

        Raises
        ------
        ValueError
            If `x` or `y` is none of these, or no model has a target.
        """
        self._check_names(x, y)
        kept = np.flatnonzero(np.isfinite(self.path.M))
        if not len(kept):
            raise ValueError(NO_TARGET)
        # in the order of M, what was reached may go back and forth
        kept = kept[np.argsort(self.path[x][kept], kind="stable")]
        ax = self._set_axes(ax)
        bars = {}
        for name, value in (("xerr", x), ("yerr", y)):
            if value == "information":
                middle = self.path.information[kept]
                low = self.path.information_low[kept]
                bars[name] = [middle - low, self.path.information_high[kept] - middle]
        style = {"marker": "o", "capsize": 3, **bars, **kwargs}
        self.container_ = ax.errorbar(self.path[x][kept], self.path[y][kept], **style)
        ax.set(xlabel=self.labels[x], ylabel=self.labels[y])
        return self

    @classmethod
    def _check_names(cls, x, y):
        for name, value in (("x", x), ("y", y)):
            if value not in cls.labels:
                raise ValueError(
                    f"{name}={value!r} is unknown. Pass one of {list(cls.labels)}."
                )


class ConditionalsDisplay(_Display):
    """Curves of p(z) p(x|z) over one column x of numbers, one for each code z.

    Fig. 2a of the paper: the density of x as a mixture over z. Of counts, p(x|z) are
    probabilities.

    Parameters
    ----------
    x : ndarray of shape (n_points,)
        Points of the curves.
    z : ndarray of shape (n_codes,)
        Codes.
    density : ndarray of shape (n_codes, n_points)
        The curves: p(z) p(x|z), with x in its own units.
    counts : bool, default=False
        Whether x are counts, whose probabilities are marked by points.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where it was drawn.
    figure_ : matplotlib Figure
        Its figure.
    lines_ : list of matplotlib Line2D
        One curve for each code.

    See Also
    --------
    CategoriesDisplay : For a column of categories.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_mae.plotting import ConditionalsDisplay
    >>> x, z = np.linspace(-3, 3, 7), np.array([-1.0, 1.0])
    >>> ConditionalsDisplay(x, z, np.ones((2, 7))).density.shape
    (2, 7)
    """

    def __init__(
        self, x: np.ndarray, z: np.ndarray, density: np.ndarray, counts: bool = False
    ) -> None:
        self.x, self.z, self.density, self.counts = x, z, density, counts

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseEstimator,
        z: ArrayLike = (-2.1, -1.3, -0.4, 0.4, 1.3, 2.1),
        *,
        x: ArrayLike | None = None,
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the conditionals of a fitted model.

        Parameters
        ----------
        estimator : MutualAutoencoder, Pipeline or search
            Fitted to one column of numbers or counts with ``n_components=1``. In a
            Pipeline, x is the autoencoder's input.
        z : array-like of shape (n_codes,)
            Codes.
        x : array-like of shape (n_points,) or None, default=None
            Points of the curves. None: over the range of 1,000 draws from the model; of
            counts the whole numbers in it, at most 201 of them.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a figure, with a legend of up to ten series.
        **kwargs : dict
            For :meth:`plot`.

        Returns
        -------
        ConditionalsDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If the model has more than one component or column, or its column holds
            categories, or cannot hold `x`.
        """
        _, estimator = autoencoder_in(estimator, cls.__name__)
        _check_one_component(estimator)
        _check_one_column(estimator)
        kind = _kind_of_column(estimator)
        if kind == "categories":
            raise ValueError(
                "ConditionalsDisplay draws a column of numbers, and the likelihood of "
                f"the estimator, {_likelihood(estimator)!r}, is of a few values. Use "
                "CategoriesDisplay.from_estimator(estimator, categories)."
            )
        z = _checked_vector(z, "z")
        if x is None:
            rows = np.asarray(estimator.sample(1_000, random_state=0, round=False))
            x = np.linspace(rows.min(), rows.max(), 201)
            x = np.unique(x.round()) if kind == "counts" else x
        x = _checked_vector(x, "x")
        log_p = _conditional_log_prob(estimator, x, z, "x").T
        density = np.exp(log_p + norm.logpdf(z)[:, np.newaxis])
        return cls(x, z, density, kind == "counts").plot(ax, **kwargs)

    def plot(self, ax: Axes | None = None, **kwargs: Any) -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a figure, with a legend of up to ten series.
        **kwargs : dict
            For matplotlib's ``Axes.plot``.

        Returns
        -------
        ConditionalsDisplay
            Itself.
        """
        style = {"marker": ".", **kwargs} if self.counts else kwargs
        labels = [f"z = {z:g}" for z in self.z]
        ax = self._plot_curves(ax, self.x, self.density, labels, style)
        ax.set(xlabel="x", ylabel="p(z) p(x|z)")
        return self


class CategoriesDisplay(_Display):
    """Probabilities p(x|z) of one categorical column, stacked, over the code z.

    Fig. 2b of the paper: at each z the probabilities of the categories add up to 1.

    Parameters
    ----------
    z : ndarray of shape (n_points,)
        Codes.
    categories : ndarray of shape (n_categories,)
        Values of the column.
    probability : ndarray of shape (n_categories, n_points)
        Value of p(x|z) for each category and code.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where it was drawn.
    figure_ : matplotlib Figure
        Its figure.
    patches_ : list of matplotlib collections
        One filled area for each category.

    See Also
    --------
    ConditionalsDisplay : For a column of numbers or counts.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_mae.plotting import CategoriesDisplay
    >>> z = np.linspace(-3, 3, 7)
    >>> CategoriesDisplay(z, np.arange(2), np.full((2, 7), 0.5)).categories
    array([0, 1])
    """

    def __init__(
        self, z: np.ndarray, categories: np.ndarray, probability: np.ndarray
    ) -> None:
        self.z, self.categories, self.probability = z, categories, probability

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseEstimator,
        categories: ArrayLike,
        *,
        z: ArrayLike | None = None,
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the conditionals of a fitted model.

        Parameters
        ----------
        estimator : MutualAutoencoder, Pipeline or search
            Fitted to one column of categories with ``n_components=1``. In a Pipeline,
            categories are those of the autoencoder's input.
        categories : array-like of shape (n_categories,)
            Values of the column, in the order to stack them in. Of counts, some of
            them: their probabilities need not add up to 1.
        z : array-like of shape (n_points,) or None, default=None
            Codes; None: from -4 to 4.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a figure, with a legend of up to ten series.
        **kwargs : dict
            For :meth:`plot`.

        Returns
        -------
        CategoriesDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If the model has more than one component or column, or its column is
            continuous, or cannot hold `categories`, or these repeat a value.
        """
        _, estimator = autoencoder_in(estimator, cls.__name__)
        _check_one_component(estimator)
        _check_one_column(estimator)
        if _kind_of_column(estimator) == "numbers":
            raise ValueError(
                "CategoriesDisplay draws probabilities, and the likelihood of the "
                f"estimator, {_likelihood(estimator)!r}, gives densities. Use "
                "ConditionalsDisplay.from_estimator(estimator)."
            )
        z, categories = _codes_or_default(z), _checked_vector(categories, "categories")
        log_p = _conditional_log_prob(estimator, categories, z, "categories")
        _check_outcomes(estimator, categories)
        probability = np.exp(log_p)
        most = probability.sum(axis=0).max()
        if most > 1 + ROUNDING:
            raise ValueError(
                f"The probabilities of categories={categories.tolist()} add up to "
                f"{most:.3g} at one z. Pass each value once; if the estimator's "
                "likelihood gives densities, use ConditionalsDisplay."
            )
        return cls(z, categories, probability).plot(ax, **kwargs)

    def plot(self, ax: Axes | None = None, **kwargs: Any) -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a figure, with a legend of up to ten series.
        **kwargs : dict
            For matplotlib's ``Axes.stackplot``.

        Returns
        -------
        CategoriesDisplay
            Itself.
        """
        own, ax = ax is None, self._set_axes(ax)
        labels = [f"x = {category}" for category in self.categories]
        style = {"colors": _colors(len(labels)), "labels": labels, **kwargs}
        self.patches_ = ax.stackplot(self.z, self.probability, **style)
        self._set_legend(own, len(labels), reverse=True)
        ax.set(xlabel="z", ylabel="p(x|z)", xlim=(self.z[0], self.z[-1]), ylim=(0, 1))
        return self


class PosteriorsDisplay(_Display):
    """Posterior densities over the code z, one for each row.

    Fig. 4 of the paper: the model's posteriors p(z|x) above the encoder's, q(z|x).

    Parameters
    ----------
    z : ndarray of shape (n_points,)
        Codes.
    density : ndarray of shape (n_rows, n_points)
        Densities over z.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where it was drawn.
    figure_ : matplotlib Figure
        Its figure.
    lines_ : list of matplotlib Line2D
        One curve for each row.

    See Also
    --------
    sklearn_mae.MutualAutoencoder.posterior_log_prob : The encoder's density.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_mae.plotting import PosteriorsDisplay
    >>> z = np.linspace(-3, 3, 7)
    >>> PosteriorsDisplay(z, np.ones((1, 7))).z[0]
    np.float64(-3.0)
    """

    def __init__(self, z: np.ndarray, density: np.ndarray) -> None:
        self.z, self.density = z, density

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseEstimator,
        X: ArrayLike,
        *,
        of: str = "model",
        z: ArrayLike | None = None,
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the posteriors of rows.

        Parameters
        ----------
        estimator : MutualAutoencoder, Pipeline or search
            Fitted with ``n_components=1``. In a Pipeline, rows go through the steps
            before it.
        X : array-like of shape (n_rows, n_features)
            Rows.
        of : {"model", "encoder"}, default="model"
            ``"model"``: p(z|x), which is p(z) p(x|z) normalised over the points of `z`;
            ``"encoder"``: q(z|x).
        z : array-like of shape (n_points,) or None, default=None
            Codes, equally spaced; None: from -4 to 4.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a figure, with a legend of up to ten series.
        **kwargs : dict
            For :meth:`plot`.

        Returns
        -------
        PosteriorsDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If the model has more than one component, or `of` is neither.
        """
        before, estimator = autoencoder_in(estimator, cls.__name__)
        _check_one_component(estimator)
        z = _codes_or_default(z)
        if len(z) < 2 or not np.all(np.diff(z) > 0):
            raise ValueError(
                "z must hold at least two codes in increasing order, to integrate "
                "over. Pass for example numpy.linspace(-4, 4, 401)."
            )
        table = as_table(rows_before(before, X), "X")
        table = np.asarray(table) if isinstance(table, list) else table
        methods = {
            "model": estimator.conditional_log_prob,
            "encoder": estimator.posterior_log_prob,
        }
        if of not in methods:
            raise ValueError(f"of={of!r} is unknown. Pass one of {list(methods)}.")
        rows = _safe_indexing(table, np.repeat(np.arange(len(table)), len(z)))
        log_p = methods[of](rows, np.tile(z, len(table))[:, np.newaxis])
        log_p = log_p.reshape(len(table), len(z))
        if of == "model":
            log_p = log_p + norm.logpdf(z)
            density = np.exp(log_p - log_p.max(axis=1, keepdims=True))
            density /= np.trapezoid(density, z, axis=1)[:, np.newaxis]
        else:
            density = np.exp(log_p)
        return cls(z, density).plot(ax, **kwargs)

    def plot(self, ax: Axes | None = None, **kwargs: Any) -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a figure, with a legend of up to ten series.
        **kwargs : dict
            For matplotlib's ``Axes.plot``.

        Returns
        -------
        PosteriorsDisplay
            Itself.
        """
        labels = [f"row {i}" for i in range(len(self.density))]
        ax = self._plot_curves(ax, self.z, self.density, labels, kwargs)
        ax.set(xlabel="z", ylabel="density", xlim=(self.z[0], self.z[-1]))
        ax.set_ylim(bottom=0)
        return self


def _likelihood(estimator):
    """Return the likelihood that it was fitted with."""
    return estimator._fitted.structure.likelihood


def _kind_of_column(estimator) -> str | None:
    """Return "numbers", "categories" or "counts"; None for a user's likelihood."""
    discrete = estimator._fitted.family.discrete
    if discrete is None:
        return None
    if not discrete:
        return "numbers"
    return "counts" if estimator.net_.module_.outcomes() is None else "categories"


def _check_outcomes(estimator, categories) -> None:
    """Refuse values between a column's outcomes: they have no probability."""
    outcomes = estimator.net_.module_.outcomes()
    if outcomes is None:
        return
    known = estimator._fitted.table(outcomes)[:, 0]
    unknown = categories[~np.isin(categories, known)]
    if len(unknown):
        raise ValueError(
            f"categories={reprlib.repr(categories.tolist())} holds {unknown[0]:g}, "
            f"which is no outcome of the column. Outcomes are "
            f"{reprlib.repr(known.tolist())}: pass those."
        )


def _conditional_log_prob(estimator, values, z, name):
    """Log p(x|z) of values of one column at codes, shape (n_values, n_codes).

    Messages call the values what the caller does.
    """
    X, Z = (grid.reshape(-1, 1) for grid in np.meshgrid(values, z, indexing="ij"))
    checked_codes(Z, 1)  # what is refused after that is X
    try:
        log_p = estimator.conditional_log_prob(_with_column_names(X, estimator), Z)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{name}={reprlib.repr(values.tolist())} are no values of the column that "
            f"the estimator was fitted to: pass {name} that are. {error}"
        ) from error
    return log_p.reshape(len(values), len(z))


def _with_column_names(X, estimator):
    """Return X as a DataFrame if the estimator was fitted to a named column."""
    names = getattr(estimator, "feature_names_in_", None)
    if names is None:
        return X
    return check_pandas_support("from_estimator").DataFrame(X, columns=names)


def _colors(n):
    from matplotlib import colormaps

    # the colours of tab10 are easier to tell apart
    if n <= LEGEND:
        return colormaps["tab10"](np.arange(n))
    return colormaps["turbo"](np.linspace(0.05, 0.95, n))


def _checked_vector(values: ArrayLike, name: str) -> np.ndarray:
    values = np.asarray(values)
    if values.ndim != 1 or len(values) == 0:
        raise ValueError(
            f"{name} has shape {values.shape}; it must be one-dimensional and not "
            "empty. Pass for example numpy.linspace(-4, 4, 201)."
        )
    if values.dtype.kind not in "biuf" or not np.isfinite(values).all():
        raise ValueError(
            f"{name}={reprlib.repr(values.tolist())} holds what is no finite number. "
            "Pass numbers, for example numpy.linspace(-4, 4, 201)."
        )
    return values


def _codes_or_default(z: ArrayLike | None) -> np.ndarray:
    if z is None:
        return np.linspace(-PRIOR_RANGE, PRIOR_RANGE, 401)
    return _checked_vector(z, "z")


def _check_one_component(estimator):
    check_is_fitted(estimator)
    n_components = len(estimator.get_feature_names_out())
    if n_components != 1:
        raise ValueError(
            "This display draws a code of one component, and the estimator was fitted "
            f"with n_components={n_components}. Fit one with n_components=1."
        )


def _check_one_column(estimator):
    if estimator.n_features_in_ != 1:
        raise ValueError(
            "This display draws one column, and the estimator was fitted to "
            f"{estimator.n_features_in_}. Fit it to one column."
        )
