"""``MutualAutoencoder``: scikit-learn's contract around the torch core."""

import copy
import sys
import warnings
from collections.abc import Callable, Sequence
from numbers import Integral, Real

import numpy as np
import torch
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import Bunch
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_is_fitted

from sklearn_mae.columns import row_noise, with_occurrence
from sklearn_mae.estimator.arguments import (
    MAX_SEED,
    Number,
    as_tensor,
    as_type,
    check_count,
    check_pair,
    check_tolerance,
    checked_codes,
    checked_rows,
    plain_parameters,
    seed_from,
    to_numpy,
    warn_of_word_numbers,
)
from sklearn_mae.estimator.convergence import convergence_complaint
from sklearn_mae.estimator.parts import (
    build_columns,
    build_model,
    build_net,
    controls_of,
    torch_device,
)
from sklearn_mae.evaluation import Evaluation, check_bracket
from sklearn_mae.information import information_of_model
from sklearn_mae.model import ACTIVATIONS, plain_torch
from sklearn_mae.net import FIGURES, Rows, TwoSided

__all__ = ["MutualAutoencoder"]

LIKELIHOODS = {"gaussian", "heteroscedastic", "bernoulli", "categorical", "sequence"}
# what a fitted network's shape hangs on
STRUCTURE = (
    "n_components",
    "encoder",
    "likelihood",
    "hidden_layer_sizes",
    "activation",
    "min_scale",
)


class MutualAutoencoder(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator
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
        Target for the mutual information I(x, z), in nats. None: no constraint, an
        ordinary variational (or importance-weighted) autoencoder.
    C : float, default=10.0
        Constant of the exact penalty C |I - M| (eq. 6) and so the bound on its
        multipliers; larger enforces M harder.
    n_components : int, default=8
        Dimension d of the code.
    encoder : {"resampling", "gaussian"} or callable, default="resampling"
        ``"gaussian"``: the code given x is normal, and training maximises the ELBO.
        ``"resampling"``: the code is one of `n_resamples` normal draws, chosen by
        importance weight [2]_, and training maximises the importance-weighted bound.
        A callable ``(n_features, n_components) -> nn.Module``: the module maps
        standardised (categorical: one-hot) columns, constant ones left out, to a
        torch Distribution over the code; it also serves as proposal for resampling
        by `n_resamples` draws, unless that is 1. For sequences it sees word numbers,
        int64 and below the vectorizer's ``len(vocabulary_) + 3``.
    n_resamples : int, default=5
        Number of draws k of the resampling encoder.
    likelihood : {"gaussian", "heteroscedastic", "bernoulli", "categorical", \
"sequence"} or callable, default="gaussian"
        Distribution of the columns given the code. ``"gaussian"`` learns one standard
        deviation for each column; in ``"heteroscedastic"`` they depend on the code.
        ``"bernoulli"`` takes values in [0, 1], ``"categorical"`` non-negative
        integers, any number of categories in each column. ``"sequence"`` takes texts
        through :class:`SequenceVectorizer`, one word after the other from an LSTM that
        receives the code at each step, at the first 32 by maps of their own, too. A
        callable ``(n_features, n_components) -> nn.Module``: the module, decoder
        included, maps codes to a torch Distribution over the columns as given, constant
        ones left out; codes may come with several leading axes, as (n_draws, n,
        n_components).
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
        are few (never for ``constraint="paper"``), else REINFORCE; for sequences with
        a credit of its own for each word (not for ``constraint="paper"``).
    codes : {"mean", "sample"}, default="mean"
        What :meth:`transform` returns: posterior means, or one draw from each
        posterior with noise that depends on the row's values and the seed alone. M
        constrains the draw; a mean code is a feature and may carry more.
    hidden_layer_sizes : tuple of int, default=(128, 128)
        Hidden layers of each network. For sequences: the size of the words'
        embeddings, then those of the LSTM layers.
    activation : {"silu", "relu", "tanh", "gelu"}, default="silu"
        Their activation; LSTMs have their own.
    min_scale : float in (0, 1], default=0.01
        Floor of a Gaussian likelihood's standard deviations, as a fraction of the
        column's.
    max_epochs : int or "auto", default="auto"
        Passes over the data. ``"auto"``: about 4,000 steps, at least one epoch and at
        most 2,000.
    batch_size : int or "auto", default="auto"
        Largest batch; an epoch is cut into batches of nearly equal size. ``"auto"``:
        128, or all rows if they are fewer.
    lr : float, default=1e-3
        Learning rate of Adam; constant for the first half of the steps, then
        decreasing linearly to zero.
    callbacks : list of skorch callbacks or None, default=None
        Cloned. One that raises KeyboardInterrupt, as ``EarlyStopping`` does, ends the
        training normally. There is no validation split: monitor a name in `history_`
        or ``"train_loss"``, with patience: while multipliers grow, the loss rises and
        the ELBO may fall, though all goes well. Learning-rate schedulers have no
        effect, see `lr`.
    device : str, default="cpu"
        torch device.
    warm_start : bool, default=False
        Go on from the last fit: weights, column scales and multipliers are kept,
        optimisers and learning-rate schedule start again, `history_` grows. M, C, lr
        and max_epochs may change in between. A vectorizer in front must number words
        as before: give it its ``vocabulary`` and ``max_length``.
    verbose : int, default=0
        1 shows a progress bar.
    random_state : int, RandomState instance or None, default=None
        Determines initial weights, batches and noise. Global generators are neither
        seeded nor advanced, except that None takes one number from numpy's.

    Attributes
    ----------
    mutual_info_ : float
        Midpoint of the bracket of I(x, z) made at the end of ``fit``, in nats.
    mutual_info_interval_ : tuple of (float, float)
        The bracket: (lower - 2 se, upper + 2 se), Monte-Carlo estimates with their
        standard errors.
    history_ : dict of str to ndarray of shape (n_iter_,)
        For each epoch: ``loss``, ``elbo`` (or L_k), ``distortion``, ``rate``,
        ``information_lower``, ``information_upper`` (training estimates),
        ``multiplier_model``, ``multiplier_rate``; NaN where unused. In nats. While
        sequences wait (see `constraint`), ``information_lower`` is the infomax bound
        and there is no ``information_upper``.
    n_iter_ : int
        Number of epochs.
    net_ : skorch.NeuralNet
        The trained net; ``net_.module_`` holds likelihood, encoder and posterior.
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
    ...     M=1.5, n_components=2, hidden_layer_sizes=(32,), max_epochs=500,
    ...     random_state=0,
    ... ).fit(X)
    >>> mae.transform(X).shape
    (150, 2)
    >>> low, high = mae.mutual_info_interval_
    >>> bool(low < mae.mutual_info_ < high)
    True
    """

    _parameter_constraints: dict = {  # noqa: RUF012
        "M": [Number(Real, 0, None, closed="left"), None],
        "C": [Number(Real, 0, None, closed="neither")],
        "n_components": [Number(Integral, 1, None, closed="left")],
        "encoder": [StrOptions({"gaussian", "resampling"}), callable],
        "n_resamples": [Number(Integral, 1, None, closed="left")],
        "likelihood": [
            StrOptions(LIKELIHOODS),
            callable,
        ],
        "constraint": [StrOptions({"both", "model", "paper"})],
        "mi_gradient": [
            StrOptions({"auto", "reparametrised", "enumeration", "reinforce"})
        ],
        "codes": [StrOptions({"mean", "sample"})],
        "hidden_layer_sizes": ["array-like"],
        "activation": [StrOptions(set(ACTIVATIONS))],
        "min_scale": [Number(Real, 0, 1, closed="right")],
        "max_epochs": [
            StrOptions({"auto"}),
            Number(Integral, 1, None, closed="left"),
        ],
        "batch_size": [
            StrOptions({"auto"}),
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
        C: float = 10.0,
        n_components: int = 8,
        encoder: str | Callable = "resampling",
        n_resamples: int = 5,
        likelihood: str | Callable = "gaussian",
        constraint: str = "both",
        mi_gradient: str = "auto",
        codes: str = "mean",
        hidden_layer_sizes: Sequence[int] = (128, 128),
        activation: str = "silu",
        min_scale: float = 0.01,
        max_epochs: int | str = "auto",
        batch_size: int | str = "auto",
        lr: float = 1e-3,
        callbacks: list | None = None,
        device: str = "cpu",
        warm_start: bool = False,
        verbose: int = 0,
        random_state=None,
    ):
        self.M = M
        self.C = C
        self.n_components = n_components
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

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        if self.likelihood == "categorical":
            tags.input_tags.categorical = True
            tags.input_tags.positive_only = True
        return tags

    def fit(self, X, y=None):
        """Fit the model to X.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : Ignored
            Present for API consistency.

        Returns
        -------
        MutualAutoencoder
            The fitted estimator.

        Raises
        ------
        ValueError, TypeError
            If a parameter or a column is not what it must be. An earlier fit stays.

        Warns
        -----
        ConvergenceWarning
            If an end of `mutual_info_interval_` lies more than max(0.05, 0.02 M) nats
            from M, or a multiplier ended at its bound C.
        UserWarning
            If X looks like word numbers and `likelihood` is another than "sequence".
        """
        self._validate_params()
        before, given = self.__dict__.copy(), self.get_params(deep=False)
        try:
            vars(self).update(plain_parameters(self))
            with plain_torch():
                self._fit(X)
        except BaseException:
            self.__dict__ = before
            raise
        vars(self).update(given)
        return self

    def _fit(self, X):
        go_on = self.warm_start and hasattr(self, "net_")
        X = self._checked(X, reset=not go_on)
        if len(X) == 1:
            raise ValueError(
                "MutualAutoencoder got n_samples=1, one row; the columns' scales and "
                "the information need at least 2. Pass more rows."
            )
        warn_of_word_numbers(X, self.likelihood)
        seed = seed_from(self.random_state)
        structure = {name: getattr(self, name) for name in STRUCTURE}
        if go_on:
            self._check_same_structure(structure)
            columns = self._columns
            past, controls = self.history_, self._controls
            # the same seed must not bring the same batches and noise again
            seed = (seed + self.n_iter_) % MAX_SEED
        else:
            names = getattr(self, "feature_names_in_", None)
            columns = build_columns(self).fit(X, names)
            past, controls = {}, {}
        device = torch_device(self)
        x = as_tensor(columns.transform(X), torch.float32, device)
        if go_on:
            model = copy.deepcopy(self.net_.module_).to(device)
        else:
            model = build_model(self, columns, x[:2].cpu(), seed).to(device)

        net = build_net(self, model, columns, len(X), seed, controls).initialize()
        net.partial_fit(Rows(x))

        self._columns, self._seed, self._structure = columns, seed, structure
        self._rule = net.rule
        self._n_features_out = self.n_components
        epochs = [epoch for epoch in net.history if "loss" in epoch]
        self.history_ = {
            name: np.append(past.get(name, []), [epoch[name] for epoch in epochs])
            for name in FIGURES
        }
        self.n_iter_ = len(self.history_["loss"])
        self._controls = controls_of(net)
        self.net_ = net
        self._evaluation().check(self._seen(X[:100]))
        self._certify(net)
        complaint = convergence_complaint(self, net, x)
        net.release()
        if complaint is not None:
            warnings.warn(complaint, ConvergenceWarning, stacklevel=3)

    def _check_same_structure(self, structure):
        changed = [
            f"{name} (was {self._structure[name]!r}, now {now!r})"
            for name, now in structure.items()
            if self._structure[name] != now
        ]
        if changed:
            raise ValueError(
                f"warm_start=True goes on from fitted weights, but {', '.join(changed)}"
                " changed since. Set it back, or warm_start=False to start anew."
            )

    def _certify(self, net):
        """Train r_omega to the end of its strength, land on M, then bracket I."""
        n_steps, slow = net.step_, net.module_.likelihood.slow
        longest = 400 if self.M is not None else 2_000
        net.refine_posterior(min(n_steps, longest // 4 if slow else longest))
        n_samples = 500 if slow or n_steps < 500 else 2_000

        def measure():
            # other draws than the certificate's, which is to know nothing of them
            generator = self._generator(self._seed ^ 1)
            # (where draws are costly, as on a grid in two dimensions, no more of them)
            n = n_samples if slow or self.n_components == 2 else 2 * n_samples
            found = self._mutual_info(n, np.inf, generator, budget=0)
            vague = found.upper - found.lower > TwoSided.widest_gap
            se = max(found.lower_se, found.upper_se)
            return np.nan if vague else found.estimate, se

        net.land(measure)
        certificate = self._mutual_info(
            n_samples,
            0.05,
            self._generator(None, fitted=True),
            budget=min(200_000 if slow else 3_000_000, max(32_000, 750 * n_steps)),
        )
        check_bracket(certificate.estimate)
        self.mutual_info_ = certificate.estimate
        self.mutual_info_interval_ = (
            certificate.lower - 2 * certificate.lower_se,
            certificate.upper + 2 * certificate.upper_se,
        )

    @plain_torch()
    def transform(self, X):
        """Encode rows.

        A pure function of the fitted state and each row, whatever rows stand beside
        it.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples, n_components)
            Posterior means, or with ``codes="sample"`` one draw from each posterior.
        """
        check_is_fitted(self)
        X = self._checked(X)
        evaluation = self._evaluation()
        x = self._seen(X)
        if self.codes == "mean":
            z = evaluation.mean_codes(x)
        else:
            z = evaluation.draw_codes(x, self._keys(X, evaluation))
        return as_type(to_numpy(z), X.dtype)

    @plain_torch()
    def inverse_transform(self, X):
        """Decode codes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_components)
            Codes.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            Means of continuous and binary columns, most probable categories of
            categorical ones, the most probable next word, one after the other, of
            sequences; constant columns as they were in ``fit``.
        """
        check_is_fitted(self)
        Z = self._checked_codes(X)
        return self._decoded(self._tensor(Z), Z.dtype)

    @plain_torch()
    def reconstruct(self, X, n_samples=None, random_state=None):
        """Encode rows and decode their codes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        n_samples : int or None, default=None
            Number of draws from each row's posterior. None: its mean.
        random_state : int, RandomState instance or None, default=None
            Of the draws.

        Returns
        -------
        ndarray of shape (n_samples, n_features) or (draws, n_samples, n_features)
            Reconstructions.
        """
        check_is_fitted(self)
        X = self._checked(X)
        if n_samples is None:
            z = self._evaluation().mean_codes(self._seen(X))
        else:
            z = self._drawn_codes(X, n_samples, random_state)
        return self._decoded(z, X.dtype)

    @plain_torch()
    def interpolate(self, X_a, X_b, n_steps=10):
        """Decode the way between the codes of two tables, row by row.

        Parameters
        ----------
        X_a, X_b : array-like of shape (n_samples, n_features)
            Rows to start from and rows to arrive at.
        n_steps : int, default=10
            Number of points, both ends included.

        Returns
        -------
        ndarray of shape (n_steps, n_samples, n_features)
            Decoded points on the lines between mean codes.
        """
        check_is_fitted(self)
        X_a, X_b = self._checked(X_a), self._checked(X_b)
        n_steps = check_count("n_steps", n_steps, 2)
        if len(X_a) != len(X_b):
            raise ValueError(
                f"X_a has {len(X_a)} rows and X_b {len(X_b)}; interpolate goes from "
                "each row of X_a to the same row of X_b. Pass tables of equal length."
            )
        evaluation = self._evaluation()
        ends = [evaluation.mean_codes(self._seen(X)) for X in (X_a, X_b)]
        t = torch.linspace(0, 1, n_steps, dtype=ends[0].dtype, device=ends[0].device)
        z = torch.lerp(ends[0], ends[1], t[:, None, None])
        return self._decoded(z, X_a.dtype)

    @plain_torch()
    def sample(self, n_samples=1, random_state=None, return_codes=False):
        """Draw rows from the model.

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows.
        random_state : int, RandomState instance or None, default=None
            Of the draws. None takes a fresh seed from numpy's global state.
        return_codes : bool, default=False
            Whether to return the codes z that the rows were drawn from, too.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            Rows from p(x).
        Z : ndarray of shape (n_samples, n_components)
            Their codes: (X, Z) are joint draws. Only if `return_codes`.
        """
        check_is_fitted(self)
        n_samples = check_count("n_samples", n_samples, 1)
        evaluation = self._evaluation()
        generator = self._generator(random_state)
        x, z = evaluation.sample(n_samples, generator)
        X = self._columns.inverse_transform(to_numpy(x))
        X = as_type(X, X.dtype)
        return (X, to_numpy(z)) if return_codes else X

    @plain_torch()
    def sample_posterior(self, X, n_samples=1, random_state=None):
        """Draw codes from each row's posterior.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        n_samples : int, default=1
            Number of draws for each row.
        random_state : int, RandomState instance or None, default=None
            Of the draws. None takes a fresh seed from numpy's global state.

        Returns
        -------
        ndarray of shape (draws, n_samples, n_components)
            Codes.
        """
        check_is_fitted(self)
        X = self._checked(X)
        z = self._drawn_codes(X, n_samples, random_state)
        return as_type(to_numpy(z), X.dtype)

    @plain_torch()
    def score_samples(self, X):
        """Bound on log p(x) that the encoder defines, for each row.

        The ELBO for ``encoder="gaussian"``, the importance-weighted bound L_k for
        ``encoder="resampling"``, with fixed quasi-random draws.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,)
            In nats and the units of X (constant columns add 0).
        """
        return to_numpy(self._bound(X).elbo) - self._columns.log_volume_

    def score(self, X, y=None):
        """Mean of :meth:`score_samples`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : Ignored
            Present for API consistency.

        Returns
        -------
        float
            Mean bound on log p(x), in nats.
        """
        return float(self.score_samples(X).mean())

    @plain_torch()
    def rate(self, X):
        """Rate of each row: KL(q(z|x) || p(z)), for resampling its upper bound.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,)
            In nats. Its mean is an upper bound on the information of the codes.
        """
        return to_numpy(self._bound(X).rate)

    @plain_torch()
    def distortion(self, X):
        """Distortion of each row: -E log p(x|z) over its codes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,)
            In nats and the units of X.
        """
        return to_numpy(self._bound(X).distortion) + self._columns.log_volume_

    @plain_torch()
    def log_likelihood(self, X, n_importance=200):
        """Importance-weighted estimate of log p(x) for each row.

        The figure to compare models by, whatever their encoders.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        n_importance : int, default=200
            Number of draws. The estimate is a lower bound in expectation and rises
            towards log p(x) with it.

        Returns
        -------
        ndarray of shape (n_samples,)
            In nats and the units of X.
        """
        check_is_fitted(self)
        X = self._checked(X)
        n_importance = check_count("n_importance", n_importance, 1)
        evaluation = self._evaluation()
        log_p = evaluation.log_likelihood(
            self._seen(X), n_importance, self._keys(X, evaluation)
        )
        return to_numpy(log_p) - self._columns.log_volume_

    @plain_torch()
    def conditional_log_prob(self, X, Z):
        """Log p(x|z) row by row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        Z : array-like of shape (n_samples, n_components)
            A code for each row.

        Returns
        -------
        ndarray of shape (n_samples,)
            In nats and the units of X.
        """
        check_is_fitted(self)
        X, Z = self._checked_pair(X, Z)
        x = self._seen(X)
        log_p = self._evaluation().conditional(x, self._tensor(Z))
        return to_numpy(log_p) - self._columns.log_volume_

    @plain_torch()
    def posterior_log_prob(self, X, Z):
        """Log q(z|x), the density of a row's code, row by row.

        For the resampling encoder that of the code after resampling [2]_ (eq. 5),
        with fixed quasi-random draws in the place of the other draws.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        Z : array-like of shape (n_samples, n_components)
            A code for each row.

        Returns
        -------
        ndarray of shape (n_samples,)
            In nats.

        References
        ----------
        .. [2] C. Cremer, Q. Morris and D. Duvenaud, "Reinterpreting
           Importance-Weighted Autoencoders", 2017.
        """
        check_is_fitted(self)
        X, Z = self._checked_pair(X, Z)
        return to_numpy(self._evaluation().posterior(self._seen(X), self._tensor(Z)))

    @plain_torch()
    def mutual_info(self, n_samples=2000, tol=0.1, random_state=None):
        """Bracket the model's information I(x, z) from both sides.

        Monte-Carlo estimates with standard errors, not a proof. Depending on the
        model: sums over all outcomes of x (up to 10,000; with more than two
        components up to about 1,000), an integral over z on a grid (one or two
        components, as far as it can be fine enough), else the sandwich of the bounds
        L_K and U_K with proposals from the information posterior.

        Parameters
        ----------
        n_samples : int, default=2000
            Joint draws (x, z) to begin with.
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
            ``n_samples``, ``n_proposals`` or ``n_outcomes`` where they apply.
        """
        check_is_fitted(self)
        n_samples, tol = check_count("n_samples", n_samples, 10), check_tolerance(tol)
        return self._mutual_info(n_samples, tol, self._generator(random_state, True))

    @plain_torch()
    def encoder_mutual_info(self, X):
        """Bracket I_q(x, z), what the codes drawn for rows tell about the rows.

        A property of the encoder on these rows, where :meth:`mutual_info` is one of
        the model. From above the mean rate and, for the Gaussian encoder, the
        leave-one-out bound [2]_; from below the contrastive bound over all rows, which
        no set of n rows lifts above log n. Every row meets every code: time grows with
        the square of n. Of sequences pass no more than a few hundred.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
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
        .. [2] B. Poole, S. Ozair, A. van den Oord, A. Alemi and G. Tucker, "On
           Variational Bounds of Mutual Information", 2019.
        """
        check_is_fitted(self)
        X = self._checked(X)
        if len(X) < 2:
            raise ValueError(
                "encoder_mutual_info got n_samples=1: what a code tells of a row needs "
                "others to tell it from. Pass at least 2 rows."
            )
        evaluation = self._evaluation()
        # equal rows draw codes of their own here: each counts as an observation
        keys = with_occurrence(self._columns.keys(X))
        noise = self._tensor(row_noise(keys, self._seed, evaluation.n_noise))
        return Bunch(**evaluation.encoder_mutual_info(self._seen(X), noise))

    def _mutual_info(self, n_samples, tol, generator, budget=None):
        model = self._evaluation().model
        if budget is None:
            budget = 500_000 if model.likelihood.slow else 2_000_000
        return Bunch(**information_of_model(model, n_samples, tol, generator, budget))

    # -- helpers -----------------------------------------------------------------

    def _checked(self, X, reset=False):
        return checked_rows(self, X, reset)

    def _checked_codes(self, Z):
        return checked_codes(Z, self._n_features_out)

    def _checked_pair(self, X, Z):
        X, Z = self._checked(X), self._checked_codes(Z)
        check_pair(X, Z)
        return X, Z

    def _evaluation(self):
        # float32 rounding depends on how many rows are multiplied at once
        model = copy.deepcopy(self.net_.module_).double().eval()
        return Evaluation(model, self._rule, self._seed)

    def _tensor(self, array):
        return as_tensor(array, torch.float64, self.net_.module_.reference.device)

    def _seen(self, X):
        return self._tensor(self._columns.transform(X))

    def _keys(self, X, evaluation):
        keys = self._columns.keys(X)
        return self._tensor(row_noise(keys, self._seed, evaluation.n_noise))

    def _bound(self, X):
        check_is_fitted(self)
        X = self._checked(X)
        evaluation = self._evaluation()
        return evaluation.bound(self._seen(X), self._keys(X, evaluation))

    def _decoded(self, z, dtype):
        X = self._columns.inverse_transform(to_numpy(self._evaluation().decode(z)))
        return X if X.dtype == np.int64 else as_type(X, dtype)

    def _drawn_codes(self, X, n_samples, random_state):
        n_samples = check_count("n_samples", n_samples, 1)
        evaluation = self._evaluation()
        x = self._seen(X)
        generator = self._generator(random_state)
        draws = []
        for _ in range(n_samples):
            noise = x.new_empty(len(x), evaluation.n_noise, dtype=torch.float64)
            draws.append(evaluation.draw_codes(x, noise.normal_(generator=generator)))
        return torch.stack(draws)

    def _generator(self, random_state, fitted=False):
        seed = (
            self._seed if random_state is None and fitted else seed_from(random_state)
        )
        device = self.net_.module_.reference.device
        return torch.Generator(device).manual_seed(seed)

    def __getstate__(self):
        return {**super().__getstate__(), "_sklearn_mae_version": _version()}

    def __setstate__(self, state):
        written = state.pop("_sklearn_mae_version", None)
        if written != _version():
            warnings.warn(
                f"This MutualAutoencoder was saved by sklearn_mae {written} and is "
                f"loaded by {_version()}: figures may differ or methods fail. Load it "
                "with the version that saved it, or fit again.",
                UserWarning,
                stacklevel=2,
            )
        super().__setstate__(state)


def _version():
    # the package's own name stands above this file: look, do not import
    return sys.modules["sklearn_mae"].__version__
