"""Choice of the parts that an estimator's parameters name, and what to say if wrong.

``params`` is the estimator; only its constructor parameters are read. What builds
networks reads no more of them than their ``Structure`` holds.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor, nn

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
from sklearn_mae.estimator.factories import call_factory, try_foreign
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
    "ENCODERS",
    "LIKELIHOODS",
    "Structure",
    "build_columns",
    "build_model",
    "build_net",
    "build_rule",
    "build_strategy",
    "controls_of",
    "is_foreign",
    "resolve_C",
    "resolve_lengths",
    "torch_device",
]

# names of built-in parts
ENCODERS = {"gaussian", "resampling"}
LIKELIHOODS = {"gaussian", "heteroscedastic", "bernoulli", "categorical", "sequence"}

AUTO_STEPS, AUTO_MAX_EPOCHS, AUTO_BATCH_SIZE = 4_000, 2_000, 128
AUTO_C = 10.0
# least noise of a column that rests on few rows: 3 / (5 + rows) standard deviations
LEAST_NOISE = 3.0, 5.0

# beyond this many outcomes a step that enumerates them costs more than its noise
MAX_ENUMERATED_IN_TRAINING = 512

# likelihood, encoder, posterior and features
Parts = tuple[nn.Module, nn.Module, nn.Module, nn.Module]


@dataclass(frozen=True)
class Structure:
    """The parameters that the shape of the networks hangs on, as ``fit`` found them."""

    n_components: int
    encoder: str | Callable
    likelihood: str | Callable
    hidden_layer_sizes: tuple[int, ...]
    activation: str
    min_scale: float

    @classmethod
    def of(cls, params) -> "Structure":
        """Return that of an estimator's parameters."""
        return cls(
            n_components=int(params.n_components),
            encoder=params.encoder,
            likelihood=params.likelihood,
            hidden_layer_sizes=tuple(params.hidden_layer_sizes),
            activation=params.activation,
            min_scale=float(params.min_scale),
        )

    def check_same(self, now: "Structure") -> None:
        """Refuse to go on with these networks under other parameters."""
        names = [field.name for field in fields(self)]
        changed = [
            f"{name} (was {getattr(self, name)!r}, now {getattr(now, name)!r})"
            for name in names
            if getattr(self, name) != getattr(now, name)
        ]
        if changed:
            raise ValueError(
                f"warm_start=True goes on from fitted weights, but {', '.join(changed)}"
                " changed since. Set it back, or warm_start=False to start anew."
            )


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


def build_rule(encoder, n_resamples: int):
    """Return the encoder's rule: the proposal itself, or resampling."""
    if encoder == "gaussian" or (callable(encoder) and n_resamples == 1):
        return Amortised()
    return Resampling(n_resamples)


def build_model(
    params, columns: Columns | Sequences, x: Tensor | None, seed: int
) -> LatentVariableModel:
    """Build all networks from a private seed.

    Parameters
    ----------
    params : MutualAutoencoder or Structure
        Parameters.
    columns : Columns
        Fitted.
    x : Tensor of shape (n, D) or None
        A few rows as the model sees them, on which a user's modules are tried; None
        where that is past.
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
        if x is not None and is_foreign(params):
            try_foreign(params, model, x)
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
        module = call_factory("encoder", params.encoder, columns.length_, d)
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
                min_scale=_noise_floor(params.min_scale, columns),
            )
        case "bernoulli":
            likelihood = BernoulliLikelihood(decoder(n_columns), n_columns)
        case "categorical":
            likelihood = CategoricalLikelihood(decoder(n_features), cardinalities)
        case factory:
            module = call_factory("likelihood", factory, n_columns, d)
            likelihood = ForeignLikelihood(module, n_columns)
    if callable(params.encoder):
        encoder = ForeignEncoder(call_factory("encoder", params.encoder, n_features, d))
    else:
        encoder = gaussian()
    return likelihood, encoder, gaussian(), features


def _noise_floor(min_scale: float, columns: Columns) -> np.ndarray:
    """Floor of each column's noise, in units of its standard deviation.

    A column whose variance rests on a few rows can be learned by heart, and its noise
    then seems to vanish: one new row that differs would cost thousands of nats.
    """
    most, rows = LEAST_NOISE
    return np.maximum(min_scale, most / (rows + columns.support_))


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
    progress: ProgressBar,
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
    progress : ProgressBar
        Shows the training.
    """
    batch_size, max_epochs = resolve_lengths(params, n_rows)
    C = resolve_C(params, columns.n_varying)
    n_steps = max_epochs * -(-n_rows // batch_size)

    def patience(part, name):
        """Steps to wait for I to come near M: none once a multiplier has moved."""
        return 0 if controls.get(name) else int(part * n_steps)

    constraint: TwoSided | Paper | None = None
    rate = None
    if params.M is not None:
        strategy = build_strategy(params, model)
        if params.constraint == "paper":
            constraint = Paper(SignRule(C, params.M), strategy)
        else:
            kind = TwoSided
            if isinstance(strategy, Enumeration) and params.n_components == 1:
                kind = Listed
            elif isinstance(strategy, PerToken | Reinforce) and _reads(model):
                kind = TwoSidedSequences
            # what I is to follow is the rate: without it nothing starts the learning
            waiting = kind.waiting if params.constraint == "both" else TwoSided.waiting
            penalty = kind.ascent(
                C,
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
            rate = Rate(DualAscent(C, params.M, multiplier, patient))
    return MutualAutoencoderNet(
        model,
        rule=build_rule(params.encoder, params.n_resamples),
        generator=torch.Generator(model.reference.device).manual_seed(seed),
        constraint=constraint,
        rate_constraint=rate,
        log_volume=columns.log_volume_,
        foreign=is_foreign(params),
        callbacks=[*(params.callbacks or []), progress],
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


def torch_device(name: str) -> torch.device:
    """Return the device of that name, or refuse one that is not there."""
    try:
        device = torch.device(name)
        torch.zeros(1, dtype=torch.float64, device=device).cpu()
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        available = ["cpu"] + ["cuda"] * torch.cuda.is_available()
        raise ValueError(
            f"device={name!r} is not available to torch here with the "
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


def resolve_C(params, n_columns: int) -> float:
    """Return the bound on the multipliers, "auto" resolved for so many columns.

    What a nat of code takes off the distortion of one column is at most a nat. So no
    multiplier above the number of columns is needed to keep the code from knowing
    more. The paper's rule has no use for a bound: there C is the multiplier itself.
    """
    if params.C != "auto":
        return float(params.C)
    return AUTO_C if params.constraint == "paper" else max(AUTO_C, float(n_columns))
