"""From parameters and rows to the fitted record: training, landing, certificate."""

import copy
import math
from dataclasses import replace

import numpy as np
import torch

from sklearn_mae.columns import Columns, is_sparse, row_blocks
from sklearn_mae.estimator.arguments import MAX_SEED, as_tensor, seed_from
from sklearn_mae.estimator.fitted import Fitted
from sklearn_mae.estimator.parts import (
    build_model,
    build_net,
    check_draws,
    resolve_device,
    resolve_lengths,
    torch_device,
)
from sklearn_mae.estimator.sparse import SparseRows
from sklearn_mae.estimator.targets import (
    MOST_COMPARED,
    Labelled,
    Labels,
    of_blocks,
    target_nats,
)
from sklearn_mae.families import Structure, row_family
from sklearn_mae.model import Pool, Rows
from sklearn_mae.training import (
    FIGURES,
    ProgressBar,
    Remainder,
    TrainingRows,
    certify,
    learn_alone,
    settle,
)

__all__ = ["fit_record"]

# no mean rate of a fit that went well, in nats, comes near this
DIVERGED = 1e9


def fit_record(
    params,
    X,
    columns: Columns | None,
    y,
    labels: Labels | None,
    before: Fitted | None,
    progress: ProgressBar,
) -> tuple[Fitted, Rows | SparseRows]:
    """Train on checked rows and measure what was reached.

    Parameters
    ----------
    params : MutualAutoencoder
        Its parameters, and the number and names of the columns of X.
    X : ndarray or csr_array of shape (n, n_features_in)
        Rows.
    columns : Columns or None
        The way from the user's table and back.
    y : object
        What ``fit`` was given with them.
    labels : Labels or None
        What was read of it, with a target.
    before : Fitted or None
        What to go on from; it is left as it is. None: start anew.
    progress : ProgressBar
        Shows what is going on.

    Returns
    -------
    fitted : Fitted
        The record, its net not yet released.
    x : Rows or SparseRows of shape (n, n_varying)
        The rows as the model sees them.

    Raises
    ------
    ValueError
        If a parameter or a column is not what it must be, or a parameter of the
        networks or a figure is not finite.
    """
    seed = seed_from(params.random_state)
    structure = Structure.of(params, 0 if labels is None else len(labels.classes_))
    check_draws(params, structure.n_components)
    if before is None:
        names = getattr(params, "feature_names_in_", None)
        family = row_family(structure.likelihood).fit(X, names, y)
        past, constraints, build_seed = {}, {}, seed
    else:
        before.structure.check_same(structure)
        family = before.family.again(X)
        past, constraints = before.history_, before.constraints
        build_seed = before.build_seed
        # the same seed must not bring the same batches and noise again
        seed = (seed + before.n_iter_) % MAX_SEED
    target = given = held_out = None
    nats = 0.0
    if labels is not None:
        target = labels.target(params.target, family, X)
        nats = target_nats(params, target)
        target = target.placed(structure.n_target_components, nats)
        out = labels.held_out(family, X, build_seed)
        if out is not None:
            held_out = X[out], labels.index[out]
            X, labels = X[~out], Labels(labels.classes_, labels.index[~out])
        if target.told:
            given = np.eye(target.n_classes)[labels.index]
    if is_sparse(X):
        # (its mean over some rows: it differs between rows where entries are missing)
        seen = SparseRows(family, X, torch.device("cpu"), given).some(seed)
    else:
        seen = replace(family.rows(X), given=given)
    if before is None:
        two = seen[:2].map(lambda field: as_tensor(field, torch.float32, "cpu"))
        model = build_model(structure, family, two, seed, target)
    else:
        model = copy.deepcopy(before.model)
        pool = family.pool() if target is None or not target.told else target.pool()
        pool = Pool() if pool is None else pool
        model.pool = pool.to(model.reference.dtype)
        if target is not None:
            model.prior = target.prior(structure.n_components)
    device = torch_device(resolve_device(params, model, X.shape[0]))
    model.to(device)
    x: Rows | SparseRows
    lengths = None
    if is_sparse(X):
        x = SparseRows(family, X, device, given)
    else:
        x = seen.map(lambda field: as_tensor(field, torch.float32, device))
        lengths = family.lengths(seen)
    log_volume = float(family.log_volume(seen).mean())
    labelled = None
    if target is not None and labels is not None:
        labelled = Labelled(x, labels.index, target.shares, nats, seed)
    batch_size, max_epochs = resolve_lengths(params, len(x))
    held = before is not None and before.net_.holds_decoder
    follows = Remainder(max_epochs, held)
    if before is None and family.schedule.alone:
        progress.stage("decoder")
        follows = learn_alone(
            model,
            x,
            part=family.schedule.alone,
            max_epochs=max_epochs,
            batch_size=batch_size,
            lr=params.lr,
            seed=seed,
        )
    net = build_net(
        params,
        model,
        family,
        len(x),
        batch_size,
        follows,
        log_volume,
        seed,
        constraints,
        str(device),
        progress,
        labelled,
    )
    net.initialize().partial_fit(TrainingRows(x, lengths))
    net.check_finite()
    epochs = [epoch for epoch in net.history if "loss" in epoch]
    fitted = Fitted(
        structure=structure,
        build_seed=build_seed,
        seed=seed,
        family=family,
        net_=net,
        constraints={c.name: c.state_dict() for c in net.constraints},
        history_={
            name: np.append(past.get(name, []), [epoch[name] for epoch in epochs])
            for name in FIGURES
        },
        n_features_in_=params.n_features_in_,
        feature_names_in_=getattr(params, "feature_names_in_", None),
        columns=columns,
        target=target,
    )
    dense = None if is_sparse(X) else seen
    return _measured(fitted, X, dense, held_out, progress), x


def _measured(fitted: Fitted, X, seen, held_out, progress: ProgressBar) -> Fitted:
    """Bring the model onto M, then measure it and its codes."""
    net = fitted.net_
    # other draws than the certificate's, which is to know nothing of them
    settle(net, seed_from(fitted.seed ^ 1), progress)
    progress.stage("certificate")
    rate, rate_se = _mean_rate(fitted, X, seen)
    states = {
        f"the {constraint} constraint's {name}": value
        for constraint, state in fitted.constraints.items()
        for name, value in state.items()
    }
    net.check_finite(states)
    net.check_finite({"rate_": rate}, below=DIVERGED)
    bracket = certify(net, fitted.seed)
    figures = {"mutual_info_": bracket.estimate, "mutual_info_interval_": bracket.width}
    net.check_finite(figures)
    # noise may turn an information near 0 negative
    low, high = bracket.interval
    about_target = _about_target(fitted, held_out)
    return replace(
        fitted,
        mutual_info_=max(0.0, bracket.estimate),
        mutual_info_interval_=(max(0.0, low), max(0.0, high)),
        rate_=rate,
        rate_se=rate_se,
        **about_target,
    )


def _about_target(fitted: Fitted, held_out) -> dict:
    """Bracket I(z; y) of the codes of rows that training has not seen."""
    if fitted.target is None:
        return {}
    ends = dict.fromkeys(fitted.target.blocks, (math.nan, math.nan))
    middles = dict.fromkeys(ends, math.nan)
    if held_out is not None:
        X, index = held_out
        rows = np.random.default_rng(fitted.seed).permutation(len(index))
        rows = rows[:MOST_COMPARED]
        for name, found in fitted.about_labels(X[rows], index[rows]).items():
            middles[name], ends[name] = found.estimate, (found.low, found.high)
    return {
        "target_mutual_info_": of_blocks(middles),
        "target_mutual_info_interval_": of_blocks(ends),
    }


def _mean_rate(fitted: Fitted, X, seen) -> tuple[float, float]:
    """Mean rate of training rows, drawn where they are many; its standard error."""
    limit = fitted.model.likelihood.cost.rated_rows
    rows = np.random.default_rng(fitted.seed).permutation(X.shape[0])[:limit]
    parts = []
    for some in row_blocks(X[rows]):
        x = fitted.family.rows(some) if seen is None else seen[rows]
        parts.append(fitted.bound(x, fitted.family.keys(some)).rate)
    rates = torch.cat(parts)
    return float(rates.mean()), float(rates.std() / len(rates) ** 0.5)
