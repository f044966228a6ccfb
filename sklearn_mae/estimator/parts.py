"""Choice of the parts that an estimator's parameters name, and what to say if wrong.

``params`` is the estimator; only its constructor parameters are read.
"""

from dataclasses import replace
from typing import cast

import torch

from sklearn_mae.encoders import Amortised, Resampling
from sklearn_mae.estimator.likelihoods import described
from sklearn_mae.estimator.targets import Labelled, Target
from sklearn_mae.evaluation import MOST_NOISE
from sklearn_mae.families import (
    GivenLikelihood,
    Likelihood,
    RowFamily,
    Schedule,
    Structure,
    row_family,
    try_user_modules,
)
from sklearn_mae.gradients import Enumeration, Reinforce, Reparametrised
from sklearn_mae.model import LatentVariableModel, Rows, private_random
from sklearn_mae.training import (
    Constraint,
    EnumeratedInformation,
    FirstBlock,
    FirstRate,
    Guesses,
    Information,
    MutualAutoencoderNet,
    Paper,
    ProgressBar,
    Rate,
    Remainder,
    SecondBlock,
    TargetInformation,
    class_prior,
)
from sklearn_mae.training.penalty import Constant, DualAscent, SignRule

__all__ = [
    "DEFAULT_LR",
    "ENCODERS",
    "build_model",
    "build_net",
    "build_rule",
    "build_strategy",
    "check_draws",
    "resolve_C",
    "resolve_device",
    "resolve_lengths",
    "torch_device",
]

# names of built-in parts
ENCODERS = ("resampling", "gaussian")

AUTO_MAX_EPOCHS = 1_500
DEFAULT_LR = 2.5e-3
AUTO_C = 10.0
# Where draws have scores instead of paths, a gradient of the model's constraint may be
# hundreds of times the usual one. Adam would divide by it for a thousand steps, and
# fits to counts diverged. It is cut off at this many times the usual norm of all other
# gradients. At half of that, I may stay below M.
SCORED_CLIP = 4.0
# Of what codes hold about a label. What the decoder is told anyway is worth little,
# however many columns there are. A second block whose decoder sees no label but through
# the first takes more to know nothing of it.
LABEL_C, SECOND_BLOCK_C = 10.0, 40.0
# Rows of a batch times parameters of the networks from which device="auto" takes a GPU.
# A default table has about 1e7; its step is hundreds of small operations, which a GPU
# takes as long to start as one core takes to do. From ten times as many on that core
# takes several times as long, and the GPU does not: at 2e9, of layers of 512 and
# batches of 1,024, it was a hundred times as fast.
GPU_PAYS = 1e8
# I(z; y) answers at once, and is a tenth of I(x, z) or less
TARGET_INTEGRAL_GAIN, TARGET_PROPORTIONAL_GAIN = 0.1, 10.0
# of a block about a label, which is learned and not forgotten
BLOCK_INTEGRAL_GAIN, BLOCK_PROPORTIONAL_GAIN = 0.04, 2.0
# beyond this many outcomes a step that enumerates them costs more than its noise
MAX_ENUMERATED_IN_TRAINING = 512


def build_rule(encoder, n_resamples: int):
    """Return the encoder's rule: the proposal itself, or resampling."""
    if encoder == "gaussian" or (callable(encoder) and n_resamples == 1):
        return Amortised()
    return Resampling(n_resamples)


def check_draws(params, d: int) -> None:
    """Refuse codes of d components that quasi-random draws have no dimensions for."""
    k = build_rule(params.encoder, params.n_resamples).n_draws
    if k * d > MOST_NOISE:
        raise ValueError(
            f"n_components={d} times {k} draws (n_resamples={params.n_resamples}) is "
            f"{k * d}, and the quasi-random draws behind codes and bounds have "
            f"{MOST_NOISE} dimensions at most. Lower n_components or n_resamples; "
            "encoder='gaussian' takes one draw."
        )


def build_model(
    structure: Structure,
    family: RowFamily,
    x: Rows | None,
    seed: int,
    target: Target | None = None,
) -> LatentVariableModel:
    """Build all networks from a private seed.

    Parameters
    ----------
    structure : Structure
        Of the networks.
    family : RowFamily
        Fitted.
    x : Rows of shape (n, D) or None
        A few rows as the model sees them, on which a user's modules are tried; None
        where that is past.
    seed : int
        Seed of the initial weights.
    target : Target or None
        What was learned of y.
    """
    with private_random(seed):
        likelihood, encoder, posterior, features = family.networks(structure)
        pool, told = family.pool(), target is not None and structure.n_given > 0
        d = structure.n_components
        if target is not None and told:
            likelihood = GivenLikelihood(
                cast(Likelihood, likelihood), d, torch.as_tensor(target.usual)
            )
            pool = target.pool()
        prior = d if target is None else target.prior(d)
        model = LatentVariableModel(
            likelihood, encoder, posterior, features, prior, pool, blind=told
        )
        model.float()
        if x is not None and structure.user_supplied:
            try_user_modules(structure, model, x)
    return model.eval()  # until training begins


def _named(params):
    """Likelihood as a user gives it."""
    return described(params.likelihood, getattr(params, "feature_names_in_", None))


def build_strategy(params, model: LatentVariableModel):
    """Return the gradient strategy for x drawn from the model, or refuse it."""
    p = model.p(model.reference.new_zeros(2, model.n_components))
    outcomes = model.outcomes()
    few = outcomes is not None and len(outcomes) <= MAX_ENUMERATED_IN_TRAINING
    plain = params.constraint == "paper"
    wanted = params.mi_gradient
    if wanted == "auto":
        if p.has_rsample:
            wanted = "reparametrised"
        elif few and not plain:
            wanted = "enumeration"
        else:
            return model.likelihood.score_gradient(model, plain)
    if wanted == "reparametrised":
        if not p.has_rsample:
            raise ValueError(
                "mi_gradient='reparametrised' needs a likelihood whose samples are "
                f"differentiable, and likelihood={_named(params)!r} has none. Use "
                f"mi_gradient={'enumeration' if few else 'reinforce'!r} or 'auto'."
            )
        return Reparametrised()
    if wanted == "enumeration":
        if outcomes is None and model.pool.observed is not None:
            raise ValueError(
                "mi_gradient='enumeration' sums over all outcomes, and X has missing "
                "entries: each pattern of them has other outcomes. Use "
                "mi_gradient='auto'."
            )
        if outcomes is None and model.pool.given is not None:
            raise ValueError(
                "mi_gradient='enumeration' sums over all outcomes, and the decoder "
                "sees y: each class has other probabilities of them. Use "
                "mi_gradient='auto'."
            )
        if outcomes is None:
            raise ValueError(
                "mi_gradient='enumeration' needs a likelihood with at most 10,000 "
                f"outcomes that can be listed, and likelihood={_named(params)!r} on "
                f"{model.likelihood.n_features} varying column(s) has more. Use "
                "mi_gradient='auto'."
            )
        return Enumeration(outcomes)
    return Reinforce(leave_one_out=not plain)


def build_constraints(
    params,
    model: LatentVariableModel,
    family: RowFamily,
    n_steps: int,
    state: dict[str, dict[str, float]],
    labelled: Labelled | None = None,
) -> list[Constraint]:
    """Build what must equal M, in the order in which the terms join the loss.

    Parameters
    ----------
    params : MutualAutoencoder
        Parameters.
    model : LatentVariableModel
        On its device.
    family : RowFamily
        Fitted.
    n_steps : int
        Steps of the fit.
    state : dict
        ``state_dict`` of an earlier fit's constraints by their names; empty for a
        fresh one.
    labelled : Labelled or None
        Rows to train on with their labels.
    """
    C = resolve_C(params, family.n_varying)
    constraints = [] if params.M is None else _of_M(params, model, family, C, n_steps)
    if labelled is not None:
        kind = _of_blocks if params.target == "code" else _of_target
        constraints += kind(params, model, labelled)
    for constraint in constraints:
        constraint.load_state_dict(state.get(constraint.name, {}))
    return constraints


def _of_M(params, model, family, C: float, n_steps: int) -> list[Constraint]:
    strategy = build_strategy(params, model)
    exact = isinstance(strategy, Enumeration)
    schedule = Schedule() if exact else family.schedule
    if isinstance(strategy, Reinforce) and schedule.clip is None:
        schedule = replace(schedule, clip=SCORED_CLIP)
    # A single component often leaves likelihood and I free of each other: multipliers
    # are about 0, I answers to them the more, and larger gains would make it oscillate.
    late = None if model.n_components == 1 else schedule.late
    constraints: list[Constraint] = []
    if params.constraint == "both":
        penalty = DualAscent(
            C,
            params.M,
            patience=int(Schedule().waiting * n_steps),
            n_updates=n_steps,
            late=late,
        )
        constraints.append(Rate(penalty))
    if params.constraint == "paper":
        constraints.append(Paper(SignRule(C, params.M), strategy))
    else:
        # waiting pays where I follows the rate: alone, nothing would raise it meanwhile
        waiting = schedule if params.constraint == "both" else Schedule()
        penalty = DualAscent(
            C,
            params.M,
            patience=int(waiting.waiting * n_steps) // schedule.period,
            period=schedule.period,
            integral_gain=schedule.integral_gain,
            proportional_gain=schedule.proportional_gain,
            growth=schedule.growth,
            n_updates=n_steps // schedule.period,
            late=late,
            stops_waiting_near=schedule.stops_waiting_near,
        )
        one_sum = exact and model.n_components == 1
        kind = EnumeratedInformation if one_sum else Information
        constraints.append(kind(penalty, strategy, schedule))
    return constraints


def _of_target(params, model, labelled: Labelled) -> list[Constraint]:
    C = LABEL_C if params.C == "auto" else params.C
    penalty: Constant | DualAscent = Constant(C)
    if labelled.nats > 0:
        penalty = DualAscent(
            C,
            labelled.nats,
            period=TargetInformation.period,
            integral_gain=TARGET_INTEGRAL_GAIN,
            proportional_gain=TARGET_PROPORTIONAL_GAIN,
        )
    x, labels, shares = _parts(model, labelled)
    d, seed = model.n_components, labelled.seed
    return [TargetInformation(penalty, x, labels, shares, d, seed)]


def _of_blocks(params, model, labelled: Labelled) -> list[Constraint]:
    auto = params.C == "auto"
    C, C_second = (LABEL_C, SECOND_BLOCK_C) if auto else (params.C, params.C)
    x, labels, shares = _parts(model, labelled)
    d = class_prior(model).n_components
    first, rest = slice(None, d), slice(d, None)
    up, down = (
        DualAscent(
            C,
            labelled.nats,
            period=FirstBlock.period,
            integral_gain=BLOCK_INTEGRAL_GAIN,
            proportional_gain=BLOCK_PROPORTIONAL_GAIN,
        )
        for _ in range(2)
    )
    guesses = Guesses(x, labels, len(shares), model.generator(labelled.seed))
    return [
        FirstBlock(up, x, labels, shares, first, guesses),
        FirstRate(down, x, labels, shares, first),
        SecondBlock(Constant(C_second), x, labels, shares, rest, guesses),
    ]


def _parts(model, labelled: Labelled):
    """Rows, labels and frequencies on the model's device."""
    like = model.reference
    labels = torch.as_tensor(labelled.labels, device=like.device)
    return labelled.x, labels, torch.as_tensor(labelled.shares).to(like)


def build_net(
    params,
    model: LatentVariableModel,
    family: RowFamily,
    n_rows: int,
    batch_size: int,
    follows: Remainder,
    log_volume: float,
    seed: int,
    state: dict[str, dict[str, float]],
    device: str,
    progress: ProgressBar,
    labelled: Labelled | None = None,
) -> MutualAutoencoderNet:
    """Build the net that trains a model.

    Parameters
    ----------
    params : MutualAutoencoder
        Parameters.
    model : LatentVariableModel
        On its device.
    family : RowFamily
        Fitted.
    n_rows : int
        Number of rows to train on.
    batch_size : int
        Largest batch.
    follows : Remainder
        Of the fit, after the decoder has learned alone.
    log_volume : float
        Their mean, see ``RowFamily.log_volume``.
    seed : int
        Of batches and draws.
    state : dict
        Of an earlier fit's constraints, see ``build_constraints``.
    device : str
        Where the model is.
    progress : ProgressBar
        Shows the training.
    labelled : Labelled or None
        See ``build_constraints``.
    """
    n_steps = follows.max_epochs * -(-n_rows // batch_size)
    return MutualAutoencoderNet(
        model,
        rule=build_rule(params.encoder, params.n_resamples),
        generator=model.generator(seed),
        constraints=build_constraints(params, model, family, n_steps, state, labelled),
        log_volume=log_volume,
        user_supplied=bool(Structure.of(params).user_supplied),
        callbacks=[*(params.callbacks or []), progress],
        max_epochs=follows.max_epochs,
        holds_decoder=follows.holds_decoder,
        batch_size=batch_size,
        lr=params.lr,
        device=device,
        verbose=0,
    )


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
    schedule = row_family(params.likelihood).schedule
    size = schedule.batch_size if params.batch_size == "auto" else params.batch_size
    size = min(size, n_rows)
    if params.max_epochs != "auto":
        return size, params.max_epochs
    n_batches = -(-n_rows // size)
    return size, min(AUTO_MAX_EPOCHS, -(-schedule.n_steps // n_batches))


def resolve_device(params, model: LatentVariableModel, n_rows: int) -> str:
    """Return the name of the device, "auto" resolved for such networks and rows."""
    if params.device != "auto":
        return params.device
    batch_size, _ = resolve_lengths(params, n_rows)
    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    pays = batch_size * n_parameters >= GPU_PAYS
    return "cuda" if pays and torch.cuda.is_available() else "cpu"


def resolve_C(params, n_columns: int) -> float:
    """Return the bound on the multipliers, "auto" resolved for so many columns.

    What a nat of code takes off the distortion of one column is at most a nat. So no
    multiplier above the number of columns is needed to keep the code from knowing
    more. The paper's rule has no use for a bound: there C is the multiplier itself.
    """
    if params.C != "auto":
        return float(params.C)
    return AUTO_C if params.constraint == "paper" else max(AUTO_C, float(n_columns))
