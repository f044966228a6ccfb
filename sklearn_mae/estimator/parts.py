"""Choice of the parts that an estimator's parameters name, and what to say if wrong.

``params`` is the estimator; only its constructor parameters are read.
"""

import contextlib
import inspect

import torch
from sklearn.base import clone
from torch import Tensor, nn
from torch.distributions import Distribution

from sklearn_mae.columns import Columns, Sequences
from sklearn_mae.encoders import (
    Amortised,
    ForeignEncoder,
    GaussianEncoder,
    OneHot,
    Resampling,
    Standardised,
    category_table,
)
from sklearn_mae.gradients import (
    Enumeration,
    PerToken,
    Reinforce,
    Reparametrised,
)
from sklearn_mae.likelihoods import (
    BernoulliLikelihood,
    CategoricalLikelihood,
    ForeignLikelihood,
    GaussianLikelihood,
)
from sklearn_mae.model import LatentVariableModel, mlp, private_random
from sklearn_mae.net import (
    Listed,
    MutualAutoencoderNet,
    Paper,
    ProgressBar,
    Rate,
    TwoSided,
    TwoSidedSequences,
)
from sklearn_mae.penalty import DualAscent, SignRule
from sklearn_mae.sequence import SequenceFilter, SequenceLikelihood, SequenceReader

__all__ = [
    "AUTO_STEPS",
    "build_columns",
    "build_model",
    "build_net",
    "build_rule",
    "build_strategy",
    "controls_of",
    "is_foreign",
    "resolve_lengths",
    "torch_device",
]

AUTO_STEPS, AUTO_MAX_EPOCHS, AUTO_BATCH_SIZE = 4_000, 2_000, 128

# beyond this many outcomes a step that enumerates them costs more than its noise
MAX_ENUMERATED_IN_TRAINING = 512

# likelihood, encoder, posterior and features
Parts = tuple[nn.Module, nn.Module, nn.Module, nn.Module]


def is_foreign(params) -> bool:
    """Whether a user's module takes part."""
    return callable(params.encoder) or callable(params.likelihood)


def build_columns(params) -> Columns | Sequences:
    """Return the unfitted columns that the likelihood asks for."""
    if params.likelihood == "sequence":
        return Sequences()
    kinds = {"bernoulli": "binary", "categorical": "categorical"}
    foreign = callable(params.likelihood)
    kind = "continuous" if foreign else kinds.get(params.likelihood, "continuous")
    return Columns(kind, standardise=not foreign)


def build_rule(params):
    """Return the encoder's rule: the proposal itself, or resampling."""
    if params.encoder == "gaussian" or (
        callable(params.encoder) and params.n_resamples == 1
    ):
        return Amortised()
    return Resampling(params.n_resamples)


def build_model(params, columns: Columns, x: Tensor, seed: int) -> LatentVariableModel:
    """Build all networks from a private seed.

    Parameters
    ----------
    params : MutualAutoencoder
        Parameters.
    columns : Columns
        Fitted.
    x : Tensor of shape (n, D)
        A few rows as the model sees them, on which a user's modules are tried.
    seed : int
        Seed of the initial weights.
    """
    with private_random(seed):
        if isinstance(columns, Sequences):
            parts = _parts_of_sequences(params, columns)
        else:
            parts = _parts_of_tables(params, columns)
        model = LatentVariableModel(*parts, params.n_components)
        model.float()
        if is_foreign(params):
            _try_foreign(params, model, x)
    return model.eval()  # until training begins


def _parts_of_sequences(params, columns: Sequences) -> Parts:
    """Likelihood, encoder, posterior and features."""
    hidden = params.hidden_layer_sizes
    if len(hidden) < 2:
        raise ValueError(
            f"hidden_layer_sizes={params.hidden_layer_sizes!r} has {len(hidden)} "
            "entry; likelihood='sequence' needs the size of the words' embeddings and "
            "of at least one LSTM layer. Pass for example (128, 128)."
        )
    d, n_words = params.n_components, len(columns.words_)

    def reader():
        return SequenceReader(n_words, columns.length_, hidden, 2 * d)

    likelihood = SequenceLikelihood(n_words, columns.length_, hidden, d)
    if callable(params.encoder):
        module = _call_factory("encoder", params.encoder, columns.length_, d)
        encoder: nn.Module = ForeignEncoder(module)
    else:
        encoder = GaussianEncoder(reader())
    return likelihood, encoder, SequenceFilter(reader()), nn.Identity()


def _parts_of_tables(params, columns: Columns) -> Parts:
    """Likelihood, encoder, posterior and features."""
    hidden = params.hidden_layer_sizes
    n_columns, d = columns.n_varying, params.n_components
    cardinalities = [len(c) for c in columns.categories_]
    features: nn.Module
    if cardinalities:
        features, n_features = OneHot(cardinalities), sum(cardinalities)
    else:
        n_features = n_columns
        features = (
            nn.Identity()
            if columns.standardise
            else Standardised(columns.mean_, columns.scale_)
        )

    def gaussian():
        if len(cardinalities) == 1:
            return category_table(n_features, d)
        return GaussianEncoder.from_sizes(n_features, hidden, d, params.activation)

    def decoder(n_outputs):
        return mlp(d, hidden, n_outputs, params.activation)

    likelihood: nn.Module
    match params.likelihood:
        case "gaussian" | "heteroscedastic" as name:
            varies = name == "heteroscedastic"
            likelihood = GaussianLikelihood(
                decoder(n_columns * (2 if varies else 1)),
                n_columns,
                heteroscedastic=varies,
                min_scale=params.min_scale,
            )
        case "bernoulli":
            likelihood = BernoulliLikelihood(decoder(n_columns), n_columns)
        case "categorical":
            likelihood = CategoricalLikelihood(decoder(n_features), cardinalities)
        case factory:
            module = _call_factory("likelihood", factory, n_columns, d)
            likelihood = ForeignLikelihood(module, n_columns)
    if callable(params.encoder):
        encoder = ForeignEncoder(
            _call_factory("encoder", params.encoder, n_features, d)
        )
    else:
        encoder = gaussian()
    return likelihood, encoder, gaussian(), features


def _reads(model: LatentVariableModel) -> bool:
    """Whether the model is one of sequences."""
    return isinstance(model.posterior, SequenceFilter)


def build_strategy(params, model: LatentVariableModel):
    """Return the gradient strategy for x drawn from the model, or refuse it."""
    p = model.likelihood(model.reference.new_zeros(2, model.n_components))
    outcomes = model.likelihood.outcomes()
    few = outcomes is not None and len(outcomes) <= MAX_ENUMERATED_IN_TRAINING
    plain = params.constraint == "paper"
    wanted = params.mi_gradient
    if wanted == "auto":
        if p.has_rsample:
            wanted = "reparametrised"
        elif few and not plain:
            wanted = "enumeration"
        elif _reads(model) and not plain:
            return PerToken(model.posterior)
        else:
            wanted = "reinforce"
    if wanted == "reparametrised":
        if not p.has_rsample:
            raise ValueError(
                "mi_gradient='reparametrised' needs a likelihood whose samples are "
                f"differentiable, and likelihood={params.likelihood!r} has none. Use "
                f"mi_gradient={'enumeration' if few else 'reinforce'!r} or 'auto'."
            )
        return Reparametrised()
    if wanted == "enumeration":
        if outcomes is None:
            raise ValueError(
                "mi_gradient='enumeration' needs a likelihood with at most 10,000 "
                f"outcomes that can be listed, and likelihood={params.likelihood!r} on "
                f"{model.likelihood.n_features} varying column(s) has more. Use "
                "mi_gradient='auto'."
            )
        return Enumeration(outcomes)
    return Reinforce(leave_one_out=not plain)


def build_net(
    params,
    model: LatentVariableModel,
    columns: Columns | Sequences,
    n_rows: int,
    seed: int,
    controls: dict[str, float],
) -> MutualAutoencoderNet:
    """Build the net that trains a model.

    Parameters
    ----------
    params : MutualAutoencoder
        Parameters.
    model : LatentVariableModel
        On its device.
    columns : Columns
        Fitted.
    n_rows : int
        Number of rows to train on.
    seed : int
        Of batches and draws.
    controls : dict
        What ``controls_of`` kept of an earlier fit; empty for a fresh one.
    """
    batch_size, max_epochs = resolve_lengths(params, n_rows)
    n_steps = max_epochs * -(-n_rows // batch_size)

    def patience(part, name):
        """Steps to wait for I to come near M: none once a multiplier has moved."""
        return 0 if controls.get(name) else int(part * n_steps)

    constraint: TwoSided | Paper | None = None
    rate = None
    if params.M is not None:
        strategy = build_strategy(params, model)
        if params.constraint == "paper":
            constraint = Paper(SignRule(params.C, params.M), strategy)
        else:
            kind = TwoSided
            if isinstance(strategy, Enumeration) and params.n_components == 1:
                kind = Listed
            elif isinstance(strategy, PerToken | Reinforce) and _reads(model):
                kind = TwoSidedSequences
            # what I is to follow is the rate: without it nothing starts the learning
            waiting = kind.waiting if params.constraint == "both" else TwoSided.waiting
            penalty = kind.ascent(
                params.C,
                params.M,
                controls.get("model", 0.0),
                patience=patience(waiting, "model") // kind.period,
                period=kind.period,
            )
            constraint = kind(penalty, strategy)
            constraint.offset = controls.get("offset", 0.0)
        if params.constraint == "both":
            multiplier = controls.get("rate", 0.0)
            patient = patience(TwoSided.waiting, "rate")
            rate = Rate(DualAscent(params.C, params.M, multiplier, patient))
    callbacks = [
        # skorch takes pairs of a name and a callback, too
        (callback[0], clone(callback[1]))
        if isinstance(callback, tuple)
        else clone(callback)
        for callback in params.callbacks or []
    ]
    if params.verbose:
        callbacks.append(ProgressBar())
    return MutualAutoencoderNet(
        model,
        rule=build_rule(params),
        generator=torch.Generator(model.reference.device).manual_seed(seed),
        constraint=constraint,
        rate_constraint=rate,
        log_volume=columns.log_volume_,
        foreign=is_foreign(params),
        callbacks=callbacks,
        max_epochs=max_epochs,
        batch_size=batch_size,
        lr=params.lr,
        device=params.device,
        verbose=0,
        warm_start=bool(controls),
    )


def controls_of(net: MutualAutoencoderNet) -> dict[str, float]:
    """Return what warm_start keeps of a net's constraints."""
    kept = {}
    if isinstance(net.constraint, TwoSided):
        kept["model"] = net.constraint.penalty.multiplier
        kept["offset"] = net.constraint.offset
    if net.rate_constraint is not None:
        kept["rate"] = net.rate_constraint.penalty.multiplier
    return kept


def torch_device(params) -> torch.device:
    """Return the device, or refuse one that is not there."""
    try:
        device = torch.device(params.device)
        torch.zeros(1, dtype=torch.float64, device=device).cpu()
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        available = ["cpu"] + ["cuda"] * torch.cuda.is_available()
        raise ValueError(
            f"device={params.device!r} is not available to torch here with the "
            f"float64 that figures are computed in ({error}). "
            f"Available: {available}."
        ) from error
    return device


def resolve_lengths(params, n_rows: int) -> tuple[int, int]:
    """Return batch size and number of epochs, "auto" resolved for so many rows."""
    size = AUTO_BATCH_SIZE if params.batch_size == "auto" else params.batch_size
    size = min(size, n_rows)
    if params.max_epochs != "auto":
        return size, params.max_epochs
    n_batches = -(-n_rows // size)
    return size, min(AUTO_MAX_EPOCHS, -(-AUTO_STEPS // n_batches))


def _call_factory(name: str, factory, n_features: int, n_components: int) -> nn.Module:
    if isinstance(factory, nn.Module):
        raise TypeError(
            f"{name}={type(factory).__name__}(...) is a module, already built: its "
            "weights would be shared between fits and ignore random_state. Pass a "
            "callable (n_features, n_components) -> nn.Module, such as its class."
        )
    signature = "(n_features, n_components) -> nn.Module"
    with contextlib.suppress(ValueError):  # some of C have no signature to look at
        try:
            inspect.signature(factory).bind(n_features, n_components)
        except TypeError as error:
            raise TypeError(
                f"{name}={factory!r} is called as {name}({n_features}, "
                f"{n_components}), which it does not take: {error}. Pass a callable "
                f"{signature}."
            ) from error
    try:
        module = factory(n_features, n_components)
    except Exception as error:
        raise ValueError(
            f"{name}={factory!r}, a callable {signature}, failed when called as "
            f"{name}({n_features}, {n_components}): {type(error).__name__}: {error}"
        ) from error
    if not isinstance(module, nn.Module):
        raise TypeError(
            f"{name} returned {type(module).__name__}; it must return an nn.Module "
            "whose forward returns a torch Distribution."
        )
    return module


def _try_foreign(params, model: LatentVariableModel, x: Tensor) -> None:
    """One pass in each precision, so that a mistake is named before training."""
    z = model.reference.new_zeros(len(x), model.n_components)
    tries = []
    if callable(params.encoder):
        tries.append(("encoder", model.encoder, model.features(x), z))
    if callable(params.likelihood):
        tries.append(("likelihood", model.likelihood, z, x))
    for name, wrapper, condition, value in tries:
        for dtype in (torch.float64, torch.float32):
            wrapper.to(dtype)
            # word numbers stay integers
            given = condition.to(dtype) if condition.is_floating_point() else condition
            try:
                with torch.no_grad():
                    distribution = wrapper.module(given)
                    # draws of codes come with leading axes
                    wrapper.module(given.expand(2, *given.shape))
            except Exception as error:
                raise ValueError(
                    f"The module that {name}={params.__dict__[name]!r} built fails on "
                    f"an input of shape {tuple(given.shape)}, or of that shape "
                    f"with another axis in front, and type {given.dtype}. It "
                    "is trained in float32 and used in float64: create no tensor of a "
                    f"fixed type in it. {type(error).__name__}: {error}"
                ) from error
            _check_distribution(name, distribution, value.to(dtype))
            try:
                with torch.no_grad():
                    broken = distribution.log_prob(value.to(dtype)).isnan().any()
            except Exception as error:
                raise ValueError(
                    f"The Distribution of the {name}, {type(distribution).__name__}, "
                    "gives no log-density of the values it is for: "
                    f"{type(error).__name__}: {error} Use one whose support holds them."
                ) from error
            if broken:
                raise ValueError(
                    f"The Distribution of the {name}, {type(distribution).__name__}, "
                    "gives NaN for the log-density of values it is for, before any "
                    f"training. Look at the module that {name}="
                    f"{params.__dict__[name]!r} built."
                )


def _check_distribution(name: str, distribution, value: Tensor) -> None:
    if not isinstance(distribution, Distribution):
        raise TypeError(
            f"The forward of the {name}'s module returned "
            f"{type(distribution).__name__}; it must return a torch.distributions."
            "Distribution."
        )
    shape = tuple(distribution.batch_shape) + tuple(distribution.event_shape)
    if shape != tuple(value.shape) or len(distribution.event_shape) > 1:
        raise ValueError(
            f"The Distribution of the {name} covers values of shape {shape} for a "
            f"batch of {len(value)} rows; it must cover {tuple(value.shape)}, for "
            "example Independent(Normal(loc, scale), 1) with loc of that shape."
        )
    if name == "encoder" and not distribution.has_rsample:
        raise ValueError(
            f"The encoder's Distribution, {type(distribution).__name__}, has no "
            "reparametrised samples (rsample), without which it cannot be trained."
        )
