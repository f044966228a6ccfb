"""``MutualAutoencoder``: scikit-learn's contract around the torch core."""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import Bunch

from sklearn_mae.columns import row_blocks
from sklearn_mae.estimator.arguments import (
    as_type,
    check_count,
    check_pair,
    check_parameters,
    check_tolerance,
    checked_codes,
    plain_parameters,
    to_numpy,
)
from sklearn_mae.estimator.convergence import convergence_complaint
from sklearn_mae.estimator.fitted import Fitted, at_once
from sklearn_mae.estimator.fitting import fit_record
from sklearn_mae.estimator.generation import GeneratorMixin
from sklearn_mae.estimator.likelihoods import AUTO
from sklearn_mae.estimator.memory import enough_memory
from sklearn_mae.estimator.parts import DEFAULT_LR, ENCODERS
from sklearn_mae.estimator.saving import readable_state, written_state
from sklearn_mae.estimator.sparse import block_by_block
from sklearn_mae.estimator.tables import (
    RowsOfFit,
    rows_of_fit,
    rows_of_next_fit,
    rows_of_transform,
)
from sklearn_mae.estimator.target_methods import (
    TargetMixin,
    target_complaints,
    warn_of_mean_codes,
)
from sklearn_mae.estimator.targets import TARGETS, labels_of_fit, resolve_target
from sklearn_mae.families import likelihood_names, row_family
from sklearn_mae.model import ACTIVATIONS, plain_torch
from sklearn_mae.noise import with_occurrence
from sklearn_mae.parameters import Number, OneOf
from sklearn_mae.training import ProgressBar

__all__ = ["MutualAutoencoder"]

# fitted names, read from the record
FITTED = {
    "_n_features_out",
    "classes_",
    "feature_names_in_",
    "history_",
    "likelihood_",
    "mutual_info_",
    "mutual_info_interval_",
    "n_features_in_",
    "n_iter_",
    "net_",
    "rate_",
    "target_mutual_info_",
    "target_mutual_info_interval_",
}


class MutualAutoencoder(
    GeneratorMixin,
    TargetMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    BaseEstimator,
):
    """Autoencoder whose code holds the amount of information you choose.

    A latent-variable model p(z) p(x|z) with an encoder q(z|x), fitted by maximum
    likelihood subject to I(x, z) = M nats [1]_ (eq. 4-5). A variational autoencoder
    with a powerful decoder ignores its code, one with a weak decoder stores as much
    as its weakness forces it to; here the amount is yours to set, and
    :meth:`mutual_info` brackets what was reached from both sides.

    Parameters
    ----------
    M : float or None, default=3.0
        Target for the mutual information I(x, z), in nats; with missing entries
        I(x_o; z | o), x_o the observed ones and o their pattern, as the rows of ``fit``
        have it. None: no constraint, an ordinary variational (or importance-weighted)
        autoencoder.
    C : float or "auto", default="auto"
        Constant of the exact penalty C |I - M| (eq. 6) and so the bound on its
        multipliers, in nats of log-likelihood for each nat of information; larger
        enforces M harder. ``"auto"``: the number of columns that vary, at least 10. A
        nat of code makes each column likelier by a nat at most, so that no larger
        multiplier is needed to hold information down. For ``constraint="paper"``,
        whose multiplier is always -C or C, ``"auto"`` is 10; for what codes hold
        about a `target`, 10, and 40 for the second block of ``target="code"``.
    n_components : int, default=8
        Dimension d of the code; with ``target="code"`` of its second block, and the
        code has `n_target_components` more.
    target : {"condition", "code"} or None, default=None
        What y is for. None: it is ignored. ``"condition"``: decoder and r_omega (the
        network that infers z from the model's own draws of x, eq. 7) see y, and the
        codes hold `M_target` nats about it. M is then I(x; z | y), and log p(x)
        is log p(x | y). What needs the decoder takes ``y=``. ``"code"``: a first block
        of the code is about y, and holds `M_target` nats about it; the second is to
        hold none. Labels may be few: -1, NaN and None stand for unlabelled rows. In the
        model a label gives the first block, which is normal around a place of the
        label's own, and y does not enter M, log p(x) or the rate; the decoder sees the
        code alone. The encoder never sees y.
    M_target : float or "max", default=0.0
        Information I(z; y) of codes and labels, with ``target="code"`` that of the
        first block, where it must be above 0; in nats, of codes *drawn* for rows:
        posterior means know more. ``"max"`` is 0.95 H(y), or M where that is smaller.
    n_target_components : int or None, default=None
        Dimension of the first block with ``target="code"``. None: one less than there
        are classes, which is enough for all of them to be as far from each other, and
        at most 16.
    encoder : {"auto", "resampling", "gaussian"} or callable, default="auto"
        ``"auto"``: resampling without a `target`, Gaussian with one.
        ``"gaussian"``: the code given x is normal, and training maximises the ELBO.
        ``"resampling"``: the code is one of `n_resamples` normal draws, chosen by
        importance weight [2]_, and training maximises the importance-weighted bound.
        A callable ``(n_features, n_components) -> nn.Module``: the module maps
        standardised (categorical: one-hot) columns, constant ones left out, to a
        torch Distribution over the code. Missing entries are 0, and columns that miss
        some in ``fit`` are followed by as many marks, 1 where one is missing. It also
        serves as proposal for resampling by `n_resamples` draws, unless that is 1 or
        there is a `target`. For
        sequences it sees word numbers, int64 and below the vectorizer's
        ``len(vocabulary_) + 3``; for ``likelihood="autoregressive"`` eight soft bins
        after each number, and marks beside their columns.
    n_resamples : int, default=5
        Number of draws k of the resampling encoder.
    likelihood : {"auto", "gaussian", "isotropic", "heteroscedastic", "lognormal", \
"student_t", "bernoulli", "categorical", "poisson", "negative_binomial", \
"autoregressive", "flow", "sequence"}, list of \
(likelihood, columns) pairs or callable, default="auto"
        Distribution of the columns given the code. ``"auto"`` goes by their types:
        numbers are ``"gaussian"``, strings, booleans and the categories of pandas and
        polars ``"categorical"``; columns of objects go by their values. A list names
        columns as ``ColumnTransformer`` does, by name, position, slice, mask or
        selector; those that no pair names are ``"auto"``. ``"gaussian"`` learns one
        standard deviation for each column; in ``"heteroscedastic"`` they depend on the
        code. ``"isotropic"`` is for columns in one unit, such as pixels: all of them,
        of several pairs too, share one standard deviation and are divided by one
        number, so that columns of little spread count little, as in PCA.
        ``"lognormal"`` is for positive numbers: their logarithm is normal.
        ``"student_t"`` is for heavy tails: each column learns degrees of freedom.
        ``"bernoulli"`` takes values in [0, 1], ``"categorical"`` non-negative integers,
        strings and booleans, any number of categories in each column. ``"poisson"`` and
        ``"negative_binomial"`` take counts, non-negative integers; the latter learns
        for each column how much more than Poisson it varies given the code: by mu^2 /
        r, mu the mean, r one number for the column. No mean of counts exceeds ten times
        the column's largest count of ``fit``. In all of these columns depend on each
        other through the code alone. ``"autoregressive"`` is for whole tables,
        read as ``"auto"`` reads them: each column depends on those before it, too, by a
        small network of its own, so that the model needs no code to know the table, and
        a code holds what M asks for. Numbers are mixtures of 20 logistics, with masses
        of their own for values that more than a hundredth of the rows share; a column
        whose numbers are all multiples of a step is modelled on that grid, and new
        entries between its points count as the nearest, with a warning. Missing entries
        are seen as such by later columns. ``"flow"`` is for whole tables of continuous
        numbers without missing entries: a neural spline flow that sees the code, by
        zuko (``pip install zuko``). ``"sequence"`` takes texts through
        :class:`SequenceVectorizer`, one word after the other from an LSTM that receives
        the code at each step, at the first 32 by maps of their own, too. A callable
        ``(n_features, n_components) -> nn.Module``: the module, decoder included, maps
        codes to a torch Distribution over the columns as given, constant ones left out;
        codes may come with several leading axes, as (n_draws, n, n_components). With
        ``target="condition"`` a code is followed by as many numbers as there are
        classes, 1 at that of the row.
    constraint : {"both", "model", "paper"}, default="both"
        What must equal M. ``"model"``: the model's information I_p(x, z).
        ``"both"``: also the rate R of the encoder on the data, an upper bound on the
        information of the codes. ``"paper"``: Algorithm 1 of [1]_, which pushes a
        lower bound on I_p in both directions with multiplier C sign(I - M). Under
        ``"both"``, sequences of words are held to the rate from the start, and to I_p
        in the last 0.3 of a first fit alone: I_p follows the rate by itself, and what
        it is forced to sooner costs likelihood.
    mi_gradient : {"auto", "reparametrised", "enumeration", "reinforce"}, \
default="auto"
        How the gradient of the information passes through x drawn from the model.
        ``"auto"``: reparametrised for continuous x, enumeration where the outcomes
        are few (never for ``constraint="paper"``), else REINFORCE: in a table of both
        kinds of columns for the discrete ones alone, for sequences and
        ``"autoregressive"`` (its columns on a grid are discrete) with a credit of its
        own for each word or entry (not for ``constraint="paper"``).
    codes : {"auto", "mean", "sample"}, default="auto"
        What :meth:`transform` returns: posterior means, or one draw from each
        posterior with noise that depends on the row's values and the seed alone. M
        constrains the draw; a mean code is a feature and may carry more. ``"auto"``:
        means, but draws with ``target="condition"``, where only draws can be certified.
        Codes of the rows of ``fit`` have seen their labels with ``target="code"``:
        what is to learn y from codes needs codes of rows that ``fit`` has not seen, by
        cross-fitting, as ``TargetEncoder`` does it in its ``fit_transform``. Here
        ``fit_transform`` is ``fit``, then ``transform``.
    hidden_layer_sizes : tuple of int, default=(128, 128)
        Hidden layers of each network. For sequences: the size of the words'
        embeddings, then those of the LSTM layers. The network of each column of
        ``"autoregressive"`` has two layers of half as many units as the first.
    activation : {"silu", "relu", "tanh", "gelu"}, default="silu"
        Their activation; LSTMs have their own.
    min_scale : float in (0, 1], default=0.01
        Floor of a Gaussian likelihood's standard deviations, as a fraction of the
        column's. Where few rows carry a column's variance the floor is higher, 3 / (5 +
        n / kurtosis): 0.055 for 150 rows of a normal column, and below the default
        from 900 rows on. One row that differs would else cost thousands of nats.
        Logistics of ``"autoregressive"`` may be a tenth of it wide, on a grid a tenth
        of a cell.
    max_epochs : int or "auto", default="auto"
        Passes over the data. ``"auto"``: about 2,000 steps, of texts 1,500, at least
        one epoch and at most 1,500. Before a first fit the decoder of
        ``"autoregressive"`` and ``"flow"`` learns rows without codes, for half as many
        steps again. Where rows that are held out meanwhile become less likely, it goes
        back to its best and is held: the fit then takes half of ``max_epochs``, in
        which only the weights for the code (of a flow the first layers, which see
        columns, too) and the levels of the outputs learn.
    batch_size : int or "auto", default="auto"
        Largest batch; an epoch is cut into batches of nearly equal size. ``"auto"``:
        128, of sequences 32, of ``"autoregressive"`` and ``"flow"`` 256, or all rows if
        they are fewer.
    lr : float, default=2.5e-3
        Learning rate of Adam; constant for the first half of the steps, then
        decreasing linearly to zero. Parameters that are the same for all codes, noise
        scales above all, learn ten times as fast from the half on.
    callbacks : list of skorch callbacks or None, default=None
        Callbacks, or pairs of a name and one; cloned. Of skorch's own these work:
        ``EarlyStopping``, ``EpochTimer``, ``GradientNormClipping``,
        ``PassthroughScoring`` (with ``on_train=True``), ``PrintLog``, ``ProgressBar``;
        and subclasses of ``skorch.callbacks.Callback`` of your own. The rest of
        skorch's are refused, with what to do instead. One that raises
        KeyboardInterrupt, as ``EarlyStopping`` does, ends the training normally. There
        is no validation split: monitor a name in `history_` or ``"train_loss"``, with
        patience: while multipliers grow, the loss rises and the ELBO may fall, though
        all goes well.
    device : str, default="cpu"
        torch device. ``"auto"``: CUDA, where torch has it and the networks are large
        enough for it to pay, else the CPU. They are where the rows of a batch times
        the parameters of the networks come to 1e8; a table of default sizes has about
        1e7 and is as fast on a core. ``net_.device`` says which it was.
    warm_start : bool, default=False
        Go on from the last fit: weights, column scales and multipliers are kept,
        optimisers and learning-rate schedule start again, `history_` grows. M, C, lr
        and max_epochs may change in between. A decoder that was held (see `max_epochs`)
        stays held. Words that the first fit has not seen
        are refused; rows whose means or standard deviations are far from its own, 5 and
        10 of its standard deviations, bring a warning of other units. A vectorizer in
        front must number words as before: give it its ``vocabulary`` and
        ``max_length``.
    verbose : int, default=0
        1 shows a progress bar until ``fit`` returns.
    random_state : int, RandomState instance or None, default=None
        Determines initial weights, batches and noise. Global generators are neither
        seeded nor advanced, except that None takes one number from numpy's.

    Attributes
    ----------
    mutual_info_ : float
        Midpoint of the bracket of I(x, z) made at the end of ``fit``, in nats.
    mutual_info_interval_ : tuple of (float, float)
        The bracket: (lower - 2 se, upper + 2 se), Monte-Carlo estimates with their
        standard errors; like its midpoint at least 0. Where the first one did not
        decide whether M was met, it may be the second of two.
    rate_ : float
        Mean rate of the training rows' observed entries, in nats; of 2,000 of the rows
        (for sequences of 500) if they are more.
    target_mutual_info_ : float
        Midpoint of the bracket of I(z; y), with a `target`: of codes drawn for
        labelled rows that are held out from training, a fifth of each class, where
        each has at least 50. NaN where one has fewer. With ``target="code"`` a Bunch of
        two, ``target`` for the first block and ``rest`` for the second.
    target_mutual_info_interval_ : tuple of (float, float)
        Its ends, 3 standard errors out, and farther by Bonferroni's rule over the
        bounds that are intersected. With ``target="code"`` likewise a Bunch.
    classes_ : ndarray of shape (n_classes,)
        Labels seen in ``fit``, with a `target`.
    history_ : dict of str to ndarray of shape (n_iter_,)
        For each epoch: ``loss``, ``elbo`` (or L_k), ``distortion``, ``rate``,
        ``information_lower``, ``information_upper`` (training estimates),
        ``multiplier_model``, ``multiplier_rate``; NaN where unused. In nats. While
        sequences wait (see `constraint`), ``information_lower`` is the infomax bound
        H(z) + E log r_omega(z|x) (eq. 7), and there is no ``information_upper``.
    likelihood_ : str, list of (str, columns) pairs or callable
        What the columns were taken for.
    n_iter_ : int
        Number of epochs.
    net_ : skorch.NeuralNet
        The trained net; ``net_.module_`` holds likelihood, encoder and posterior. All
        figures are those of the fit, also where this module is changed later.
    n_features_in_ : int
        Number of columns seen in ``fit``.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, if X had string names for all columns.

    See Also
    --------
    sklearn.decomposition.FactorAnalysis : Linear decoder, information not controlled.
    sklearn.decomposition.PCA : Linear codes without a likelihood per row.

    References
    ----------
    .. [1] M. Phuong, M. Welling, N. Kushman, R. Tomioka and S. Nowozin, "The Mutual
       Autoencoder: Controlling Information in Latent Code Representations", 2018.
    .. [2] C. Cremer, Q. Morris and D. Duvenaud, "Reinterpreting Importance-Weighted
       Autoencoders", 2017.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_mae import MutualAutoencoder
    >>> X, _ = load_iris(return_X_y=True)
    >>> mae = MutualAutoencoder(
    ...     M=1.5, n_components=3, hidden_layer_sizes=(16,), max_epochs=200, lr=5e-3,
    ...     random_state=0,
    ... ).fit(X)
    >>> mae.transform(X).shape
    (150, 3)
    >>> low, high = mae.mutual_info_interval_
    >>> bool(low < mae.mutual_info_ < high)
    True
    """

    _parameter_constraints: dict = {  # noqa: RUF012
        "M": [Number(Real, 0, None, closed="left"), None],
        "C": [OneOf("auto"), Number(Real, 0, None, closed="neither")],
        "n_components": [Number(Integral, 1, None, closed="left")],
        "encoder": [OneOf(AUTO, *ENCODERS), callable],
        "n_resamples": [Number(Integral, 1, None, closed="left")],
        "likelihood": [OneOf(AUTO, *likelihood_names()), list, callable],
        "constraint": [OneOf("both", "model", "paper")],
        "mi_gradient": [OneOf("auto", "reparametrised", "enumeration", "reinforce")],
        "codes": [OneOf(AUTO, "mean", "sample")],
        "target": [OneOf(*TARGETS), None],
        "M_target": [OneOf("max"), Number(Real, 0, None, closed="left")],
        "n_target_components": [Number(Integral, 1, None, closed="left"), None],
        "hidden_layer_sizes": ["array-like"],
        "activation": [OneOf(*ACTIVATIONS)],
        "min_scale": [Number(Real, 0, 1, closed="right")],
        "max_epochs": [
            OneOf("auto"),
            Number(Integral, 1, None, closed="left"),
        ],
        "batch_size": [
            OneOf("auto"),
            Number(Integral, 1, None, closed="left"),
        ],
        "lr": [Number(Real, 0, None, closed="neither")],
        "callbacks": [list, None],
        "device": [str],
        "warm_start": ["boolean"],
        "verbose": ["verbose"],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        M: float | None = 3.0,
        *,
        C: float | str = "auto",
        n_components: int = 8,
        target: str | None = None,
        M_target: float | str = 0.0,
        n_target_components: int | None = None,
        encoder: str | Callable = "auto",
        n_resamples: int = 5,
        likelihood: str | list | Callable = "auto",
        constraint: str = "both",
        mi_gradient: str = "auto",
        codes: str = "auto",
        hidden_layer_sizes: Sequence[int] = (128, 128),
        activation: str = "silu",
        min_scale: float = 0.01,
        max_epochs: int | str = "auto",
        batch_size: int | str = "auto",
        lr: float = DEFAULT_LR,
        callbacks: list | None = None,
        device: str = "cpu",
        warm_start: bool = False,
        verbose: int = 0,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.M = M
        self.C = C
        self.n_components = n_components
        self.target = target
        self.M_target = M_target
        self.n_target_components = n_target_components
        self.encoder = encoder
        self.n_resamples = n_resamples
        self.likelihood = likelihood
        self.constraint = constraint
        self.mi_gradient = mi_gradient
        self.codes = codes
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.min_scale = min_scale
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.lr = lr
        self.callbacks = callbacks
        self.device = device
        self.warm_start = warm_start
        self.verbose = verbose
        self.random_state = random_state

    # the record of the last fit, which each fit replaces by one assignment; None before
    # the first: methods check that there is one
    _fitted: Fitted = None  # type: ignore[assignment]

    def __sklearn_is_fitted__(self):
        return self._fitted is not None

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._fitted, name, None) if name in FITTED else None
        if value is None:
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute {name!r}",
                name=name,
                obj=self,
            )
        return value

    def __dir__(self):
        return [*super().__dir__(), *(name for name in FITTED if hasattr(self, name))]

    def __copy__(self):
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        return twin

    def __deepcopy__(self, memo):
        twin = memo[id(self)] = object.__new__(type(self))
        twin.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return twin

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.target_tags.required = self.target is not None
        with contextlib.suppress(KeyError, TypeError):  # of no known likelihood
            row_family(self.likelihood).describe(tags.input_tags)
        return tags

    def fit(self, X: ArrayLike, y: object = None) -> Self:
        """Fit the model to X.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows; NaN, None, ``pandas.NA`` and nulls are missing entries. Sparse ones
            hold numbers, all of them Gaussian for ``likelihood="auto"``, and are made
            dense a batch or a few columns at a time. Sequences, and rows of a callable
            likelihood, must be dense.
        y : array-like of shape (n_samples,), optional
            Labels, with a `target`: strings, integers or booleans, of up to 500
            classes. With ``target="condition"`` each row has one, and -1 is a class
            like another. With ``target="code"`` rows of -1, NaN or None are unlabelled.
            A classifier behind it in a Pipeline gets the same y and would learn -1 as
            a class: take :meth:`predict_proba_target`, or fit the classifier to the
            codes of labelled rows, ``LogisticRegression().fit(mae.transform(X[y !=
            -1]), y[y != -1])``. Without a target labels are ignored.

        Returns
        -------
        MutualAutoencoder
            The fitted estimator.

        Raises
        ------
        ValueError, TypeError
            If a parameter, a column or y is not what it must be, or training diverged.
            An earlier fit stays.
        MemoryError
            If networks or draws are too large. An earlier fit stays.

        Warns
        -----
        ConvergenceWarning
            If an end of `mutual_info_interval_` lies more than max(0.05, 0.02 M) nats
            from M, which is not decided where only a part of it is; or, under
            ``constraint="both"``, `rate_` more than max(0.05, 0.05 M) and two of its
            standard errors. With a `target`, likewise if the ends of
            `target_mutual_info_interval_` are more than max(0.02, 0.02 M_target) from
            M_target, or could not be found.
        UserWarning
            If `codes` is "mean" with ``target="condition"``, X looks like word numbers
            and `likelihood` is another than "sequence", or all entries of a column are
            missing.
        """
        with plain_torch(), enough_memory(self):
            fitted = copy.copy(self)._fit(X, y)
        # what a subclass has set of the record's names would hide it
        for name in FITTED & vars(self).keys():
            delattr(self, name)
        self._fitted = fitted
        return self

    def _fit(self, X, y):
        """Fit a copy that nobody else sees, and return its record."""
        self._validate_params()
        vars(self).update(plain_parameters(self))
        resolve_target(self)
        before = self._fitted = self._fitted if self.warm_start else None
        X, columns, self.likelihood = self._read(X, before)
        if X.shape[0] == 1:
            raise ValueError(
                "MutualAutoencoder got n_samples=1, one row; the columns' scales and "
                "the information need at least 2. Pass more rows."
            )
        doubt = row_family(self.likelihood).doubt(X, self.likelihood)
        if doubt is not None:
            warnings.warn(doubt, UserWarning, stacklevel=3)
        known = None if before is None else before.classes_
        labels = labels_of_fit(self, y, X.shape[0], known)
        with ProgressBar(disable=not self.verbose) as progress:
            self._fitted, x = fit_record(self, X, columns, y, labels, before, progress)
        complaint = convergence_complaint(self, self._fitted, x)
        self._fitted.net_.release()
        complaints = [complaint] if complaint is not None else []
        complaints += target_complaints(self, self._fitted)
        if complaints:
            # a line each: a path over M tells them apart
            warnings.warn("\n".join(complaints), ConvergenceWarning, stacklevel=3)
        warn_of_mean_codes(self, self._fitted)
        return self._fitted

    @block_by_block()
    def transform(self, X: ArrayLike) -> np.ndarray:
        """Encode rows.

        A pure function of the fitted state and each row, whatever rows stand beside
        it: for tables bit for bit, for sequences, ``"autoregressive"`` and ``"flow"``
        up to the rounding of float64. Missing entries are left out. The encoder has
        learned nothing of a hole in a column that was complete in ``fit``: there a
        normal distribution around the mode of the model's p(z|x_o) takes its place,
        here and in all figures of codes. (With
        ``target="condition"`` nothing does, since p(z|x_o) needs y, and with
        ``likelihood="autoregressive"`` p(x_o|z) knows no such holes: both warn.)

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples, n_components)
            Posterior means, or with ``codes="sample"`` one draw from each posterior.
            Under resampling the posterior is the code's distribution, a choice among
            ``n_resamples`` draws, which comes near p(z|x) as they grow. Its mean is
            one over fixed quasi-random draws. On iris, wine and digits it is off by
            0.07 to 0.17 of the posterior's standard deviation in a row, by 0.03 to 0.06
            in the mean of many rows.

        Raises
        ------
        ValueError
            If a column is not what it was in ``fit``, or `codes` was set to what is
            neither.
        """
        check_parameters(self, "codes")
        X = self._checked(X)
        codes, x = self._fitted.codes, self._fitted.seen(X)
        if self.codes == "mean" or (self.codes == AUTO and not self._fitted.told):
            z = codes.mean_codes(x)
        else:
            z = codes.encoded_draws(x, self._fitted.noise_of(X, codes.exact))
        return as_type(to_numpy(z), X.dtype)

    @at_once
    @block_by_block(axis=1)
    def sample_posterior(
        self,
        X: ArrayLike,
        n_samples: int = 1,
        random_state: int | np.random.RandomState | None = None,
    ) -> np.ndarray:
        """Draw codes from each row's posterior.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_rows, n_features)
            Rows.
        n_samples : int, default=1
            Number of draws for each row.
        random_state : int, RandomState instance or None, default=None
            Of the draws. None takes a fresh seed from numpy's global state.

        Returns
        -------
        ndarray of shape (n_samples, n_rows, n_components)
            Codes.

        Raises
        ------
        ValueError
            If `n_samples` is below 1.
        """
        X = self._checked(X)
        z = self._fitted.drawn_codes(self._fitted.seen(X), n_samples, random_state)
        return as_type(to_numpy(z), X.dtype)

    @at_once
    @block_by_block()
    def score_samples(self, X: ArrayLike, y: ArrayLike | None = None) -> np.ndarray:
        """Bound on log p(x) that the encoder defines, for each row.

        The ELBO for ``encoder="gaussian"``, the importance-weighted bound L_k [1]_
        for ``encoder="resampling"``, with fixed quasi-random draws. Of continuous
        columns it bounds a log-density, which changes with their units and may be
        positive; of categories, counts and words a log-probability. The two cannot be
        compared. It is of a row's observed entries: the fewer there are, the higher it
        is.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,), optional
            Labels, where the decoder sees them (``target="condition"``).

        Returns
        -------
        ndarray of shape (n_samples,)
            In nats and the units of X (constant columns add 0).

        Raises
        ------
        ValueError
            If the decoder sees labels and `y` is not given.

        References
        ----------
        .. [1] C. Cremer, Q. Morris and D. Duvenaud, "Reinterpreting
           Importance-Weighted Autoencoders", 2017: L_k is its eq. 2.
        """
        bound, log_volume = self._bound(X, y)
        return to_numpy(bound.elbo) - log_volume

    def score(self, X: ArrayLike, y: ArrayLike | None = None) -> float:
        """Mean of :meth:`score_samples`.

        Compare it between fits to the same columns in the same units, with likelihoods
        that all give densities or all probabilities, and on the same entries: a row
        with fewer observed ones scores higher.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,), optional
            Labels, where the decoder sees them (``target="condition"``).

        Returns
        -------
        float
            Mean bound on log p(x), of observed entries, in nats.

        Raises
        ------
        ValueError
            If the decoder sees labels and `y` is not given.

        Warns
        -----
        UserWarning
            If entries are missing.
        """
        score = float(self.score_samples(X, y).mean())
        scored, (n, n_columns) = self._entries(X)
        if scored < n * n_columns:
            warnings.warn(
                f"score counts observed entries alone, {scored} of {n * n_columns}: "
                "the fewer a row has, the higher it scores. Compare it with scores of "
                "the same entries.",
                UserWarning,
                stacklevel=2,
            )
        return score

    @at_once
    def _entries(self, X) -> tuple[int, tuple[int, int]]:
        """Number of observed entries in columns that vary, and the shape of these."""
        family = self._fitted.family
        scored = n = 0
        for block in row_blocks(X):
            # (what there is to say of them was said)
            block = self._checked(block, warn=False)
            n += len(block)
            there = family.rows(block, warn=False).observed if family.holes else None
            size = len(block) * family.n_varying
            scored += size if there is None else int(there.sum())
        return scored, (n, family.n_varying)

    @at_once
    @block_by_block()
    def rate(self, X: ArrayLike) -> np.ndarray:
        """Rate of each row: KL(q(z|x) || p(z)), for resampling its upper bound.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,)
            In nats. Its mean is an upper bound on the information that codes have of
            rows' observed entries. A resampled code's rate is an estimate: where it is
            next to nothing, noise makes single rows negative. What counts is the mean
            over rows.
        """
        X = self._checked(X)
        family = self._fitted.family
        bound = self._fitted.bound(family.rows(X), family.keys(X))
        return to_numpy(bound.rate)

    @at_once
    @block_by_block()
    def distortion(self, X: ArrayLike, y: ArrayLike | None = None) -> np.ndarray:
        """Distortion of each row: -E log p(x|z) over its codes, of observed entries.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,), optional
            Labels, where the decoder sees them (``target="condition"``).

        Returns
        -------
        ndarray of shape (n_samples,)
            In nats and the units of X.

        Raises
        ------
        ValueError
            If the decoder sees labels and `y` is not given.
        """
        bound, log_volume = self._bound(X, y)
        return to_numpy(bound.distortion) + log_volume

    @at_once
    @block_by_block()
    def log_likelihood(
        self, X: ArrayLike, n_importance: int = 200, y: ArrayLike | None = None
    ) -> np.ndarray:
        """Importance-weighted estimate of log p(x) for each row.

        The figure to compare models by, whatever their encoders: of the same columns in
        the same units. A density (of continuous columns) and a probability (of
        categories, counts and words) cannot be compared, nor can a Gaussian likelihood
        of counts and a Poisson one. It is of a row's observed entries.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.
        n_importance : int, default=200
            Number of draws. The estimate is a lower bound in expectation and rises
            towards log p(x) with it.
        y : array-like of shape (n_samples,), optional
            Labels, where the decoder sees them (``target="condition"``): then the
            figure is log p(x | y).

        Returns
        -------
        ndarray of shape (n_samples,)
            In nats and the units of X.

        Raises
        ------
        ValueError
            If the decoder sees labels and `y` is not given, or `n_importance` is below
            1.
        """
        X = self._checked(X)
        n_importance = check_count("n_importance", n_importance, 1)
        fitted, evaluation = self._fitted, self._fitted.evaluation
        rows = fitted.with_labels(fitted.family.rows(X), y)
        log_p = evaluation.log_likelihood(
            rows.map(fitted.tensor), n_importance, fitted.noise_of(X, evaluation)
        )
        return to_numpy(log_p) - fitted.family.log_volume(rows)

    @at_once
    @block_by_block()
    def conditional_log_prob(
        self, X: ArrayLike, Z: ArrayLike, y: ArrayLike | None = None
    ) -> np.ndarray:
        """Log p(x|z) row by row, of observed entries.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.
        Z : array-like of shape (n_samples, n_components)
            A code for each row.
        y : array-like of shape (n_samples,), optional
            Labels, where the decoder sees them (``target="condition"``).

        Returns
        -------
        ndarray of shape (n_samples,)
            In nats and the units of X.

        Raises
        ------
        ValueError
            If the decoder sees labels and `y` is not given, or X and Z differ in
            length.
        """
        X, Z = self._checked_pair(X, Z)
        fitted = self._fitted
        rows = fitted.with_labels(fitted.family.rows(X), y)
        log_p = fitted.evaluation.conditional(rows.map(fitted.tensor), fitted.tensor(Z))
        return to_numpy(log_p) - fitted.family.log_volume(rows)

    @at_once
    @block_by_block()
    def posterior_log_prob(self, X: ArrayLike, Z: ArrayLike) -> np.ndarray:
        """Log q(z|x), the density of a row's code, row by row.

        For the resampling encoder that of the code after resampling [1]_ (eq. 5),
        with fixed quasi-random draws in the place of the other draws: an estimate,
        whose integral over z was within 0.005 of 1 on iris and digits.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.
        Z : array-like of shape (n_samples, n_components)
            A code for each row.

        Returns
        -------
        ndarray of shape (n_samples,)
            In nats.

        Raises
        ------
        ValueError
            If X and Z differ in length.

        References
        ----------
        .. [1] C. Cremer, Q. Morris and D. Duvenaud, "Reinterpreting
           Importance-Weighted Autoencoders", 2017.
        """
        X, Z = self._checked_pair(X, Z)
        return to_numpy(
            self._fitted.evaluation.posterior(
                self._fitted.seen(X), self._fitted.tensor(Z)
            )
        )

    @at_once
    def mutual_info(
        self,
        n_samples: int = 2000,
        tol: float = 0.1,
        random_state: int | np.random.RandomState | None = None,
    ) -> Bunch:
        """Bracket the model's information I(x, z) from both sides.

        Where rows of ``fit`` have missing entries, that of a code and the entries that
        are observed, given which those are, over the patterns of those rows.
        Monte-Carlo estimates with standard errors, not a proof. Depending on the
        model: sums over all outcomes of x (up to 10,000, fewer where `tol` is small
        and more than two components make them costly), an integral over z on a grid
        (one or two components, as far as it can be fine enough), else the sandwich of
        the bounds L_K = E[log p(x|z_0) - log (1/(K+1)) sum_{j=0..K} w_j] and
        U_K, the same without z_0 in the mean, for w_j = p(z_j) p(x|z_j) / r(z_j|x) and
        K proposals z_j ~ r [1]_. Proposals are near each posterior, annealed ones, or
        codes that all rows share, whichever promise the narrower bracket.

        Parameters
        ----------
        n_samples : int, default=2000
            Joint draws (x, z) to begin with. Above 2,000 the budget grows with them.
        tol : float, default=0.1
            Draws and proposals double until (upper + 2 se) - (lower - 2 se) is no
            wider than this, in nats, or a budget of draws is spent.
        random_state : int, RandomState instance or None, default=None
            Of the draws. None: the seed of ``fit``.

        Returns
        -------
        Bunch
            ``estimate`` (the midpoint), ``lower``, ``upper``, ``lower_se``,
            ``upper_se``, in nats; ``method``: "enumeration", "grid" or "sandwich";
            ``n_samples``, ``n_proposals``, ``n_outcomes``, ``n_codes`` or
            ``n_temperatures`` where they apply.

        Raises
        ------
        ValueError
            If `n_samples` is below 10, or `tol` is not above 0.

        Warns
        -----
        ConvergenceWarning
            If the interval is wider than `tol`.

        References
        ----------
        .. [1] R. Brekelmans et al., "Improving Mutual Information Estimation with
           Annealed and Energy-Based Bounds", 2022.
        """
        n_samples, tol = check_count("n_samples", n_samples, 10), check_tolerance(tol)
        generator = self._fitted.generator(random_state, fitted=True)
        found = self._fitted.mutual_info(n_samples, tol, generator)
        if not found.width <= tol:
            warnings.warn(
                f"mutual_info stopped at an interval of {found.width:.3g} nats, wider "
                f"than tol={tol:g}. Raise n_samples "
                f"(n_samples={n_samples} was given), with which the budget grows from "
                "2,000 on, or tol.",
                ConvergenceWarning,
                stacklevel=3,
            )
        return Bunch(**found.as_dict())

    @at_once
    def encoder_mutual_info(self, X: ArrayLike) -> Bunch:
        """Bracket I_q(x, z), what the codes drawn for rows tell about the rows.

        A property of the encoder on these rows, where :meth:`mutual_info` is one of
        the model. From above the mean rate and, for the Gaussian encoder, the
        leave-one-out bound [1]_; from below the contrastive bound over all rows, which
        no set of n rows lifts above log n. Every row meets every code: time grows with
        the square of n. Of sequences pass no more than a few hundred.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            At least 2 rows.

        Returns
        -------
        Bunch
            ``estimate`` (the midpoint), ``lower``, ``upper``, ``lower_se``,
            ``upper_se``, in nats; ``method``, "contrastive"; ``n_samples``;
            ``mismatch``, an interval (two standard errors included) of
            KL(q(z) || p(z)), by which the codes' distribution differs from the prior;
            ``capped``, whether the rate is above log n, so that n rows cannot confirm
            it.

        Raises
        ------
        ValueError
            If X has fewer than 2 rows.

        References
        ----------
        .. [1] B. Poole, S. Ozair, A. van den Oord, A. Alemi and G. Tucker, "On
           Variational Bounds of Mutual Information", 2019.
        """
        X = self._checked(X)
        if len(X) < 2:
            raise ValueError(
                "encoder_mutual_info got n_samples=1: what a code tells of a row needs "
                "others to tell it from. Pass at least 2 rows."
            )
        evaluation = self._fitted.evaluation
        # equal rows draw codes of their own here: each counts as an observation
        keys = with_occurrence(self._fitted.family.keys(X))
        noise = self._fitted.noise(keys, evaluation.n_noise)
        return Bunch(**evaluation.encoder_mutual_info(self._fitted.seen(X), noise))

    # -- helpers -----------------------------------------------------------------

    def _read(self, X: ArrayLike, before: Fitted | None) -> RowsOfFit:
        """Read rows to fit; those that go on from a fit are read as that fit's were."""
        if before is None:
            return rows_of_fit(self, X)
        return rows_of_next_fit(self, X)

    def _checked(self, X: ArrayLike, warn: bool = True) -> np.ndarray:
        return rows_of_transform(self, X, warn)

    def _checked_codes(self, Z: ArrayLike) -> np.ndarray:
        return checked_codes(Z, self._n_features_out)

    def _checked_pair(
        self, X: ArrayLike, Z: ArrayLike
    ) -> tuple[np.ndarray, np.ndarray]:
        X, Z = self._checked(X), self._checked_codes(Z)
        check_pair(X, Z)
        return X, Z

    def _bound(self, X, y):
        """Bounds of rows, and what to subtract from their log-densities."""
        X = self._checked(X)
        family = self._fitted.family
        rows = self._fitted.with_labels(family.rows(X), y)
        bound = self._fitted.bound(rows, family.keys(X))
        return bound, family.log_volume(rows)

    def __getstate__(self):
        with plain_torch():
            return written_state(super().__getstate__())

    def __setstate__(self, state):
        with plain_torch():
            super().__setstate__(readable_state(state, FITTED))


# outside of scikit-learn's wrapper, which asks for the names of the columns
MutualAutoencoder.transform = at_once(MutualAutoencoder.transform)  # type: ignore[method-assign]
