"""From parameters and rows to the fitted record: training, landing, certificate."""

import copy
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from sklearn_mae.estimator.arguments import MAX_SEED, as_tensor, seed_from
from sklearn_mae.estimator.fitted import Fitted
from sklearn_mae.estimator.parts import (
    Structure,
    build_columns,
    build_model,
    build_net,
    controls_of,
    torch_device,
)
from sklearn_mae.net import FIGURES, ProgressBar, Rows, TwoSided

__all__ = ["fit_record"]

# no mean rate of a fit that went well, in nats, comes near this
DIVERGED = 1e9


def fit_record(
    params, X: np.ndarray, before: Fitted | None, progress: ProgressBar
) -> tuple[Fitted, Tensor]:
    """Train on checked rows and measure what was reached.

    Parameters
    ----------
    params : MutualAutoencoder
        Its parameters, and the number and names of the columns of X.
    X : ndarray of shape (n, n_features_in)
        Rows.
    before : Fitted or None
        What to go on from; it is left as it is. None: start anew.
    progress : ProgressBar
        Shows what is going on.

    Returns
    -------
    fitted : Fitted
        The record, its net not yet released.
    x : Tensor of shape (n, n_varying)
        The rows as the model sees them.

    Raises
    ------
    ValueError
        If a parameter or a column is not what it must be, or a parameter of the
        networks or a figure is not finite.
    """
    seed = seed_from(params.random_state)
    structure = Structure.of(params)
    if before is None:
        names = getattr(params, "feature_names_in_", None)
        columns = build_columns(structure).fit(X, names)
        past, controls, build_seed = {}, {}, seed
    else:
        before.structure.check_same(structure)
        columns, past, controls = before.columns, before.history_, before.controls
        build_seed = before.build_seed
        # the same seed must not bring the same batches and noise again
        seed = (seed + before.n_iter_) % MAX_SEED
    device = torch_device(params.device)
    seen = columns.transform(X)
    x = as_tensor(seen, torch.float32, device)
    if before is None:
        model = build_model(structure, columns, x[:2].cpu(), seed)
    else:
        model = copy.deepcopy(before.model)
    net = build_net(params, model.to(device), columns, len(X), seed, controls, progress)
    net.initialize().partial_fit(Rows(x))
    net.check_finite()
    epochs = [epoch for epoch in net.history if "loss" in epoch]
    fitted = Fitted(
        structure=structure,
        build_seed=build_seed,
        seed=seed,
        columns=columns,
        net_=net,
        controls=controls_of(net),
        history_={
            name: np.append(past.get(name, []), [epoch[name] for epoch in epochs])
            for name in FIGURES
        },
        n_features_in_=params.n_features_in_,
        feature_names_in_=getattr(params, "feature_names_in_", None),
    )
    constrained = params.M is not None
    return _measured(fitted, X, seen, constrained, progress), x


def _measured(
    fitted: Fitted, X, seen, constrained: bool, progress: ProgressBar
) -> Fitted:
    """Train r_omega to the end of its strength, land on M, then measure."""
    net = fitted.net_
    n_steps, cost = net.step_, fitted.model.likelihood.cost
    longest = 400 if constrained else 2_000
    progress.stage("r_omega")
    net.refine_posterior(min(n_steps, round(cost.refinement * longest)))
    n_samples = min(500, cost.fit_samples) if n_steps < 500 else cost.fit_samples

    def measure():
        # other draws than the certificate's, which is to know nothing of them
        generator = fitted.generator(fitted.seed ^ 1)
        # a grid in two dimensions makes draws costly, too
        costly = not cost.many_codes or fitted.structure.n_components == 2
        n = n_samples if costly else 2 * n_samples
        found = fitted.mutual_info(n, np.inf, generator, budget=0)
        vague = found.upper - found.lower > TwoSided.widest_gap
        se = max(found.lower_se, found.upper_se)
        return np.nan if vague else found.estimate, se

    progress.stage("landing")
    net.land(measure)
    progress.stage("certificate")
    rate, rate_se = _mean_rate(fitted, X, seen)
    controls = {f"the constraint's {name}": x for name, x in fitted.controls.items()}
    net.check_finite(**controls)
    net.check_finite(below=DIVERGED, rate_=rate)
    certificate = fitted.mutual_info(
        n_samples,
        0.05,
        fitted.generator(None, fitted=True),
        budget=min(cost.fit_budget, max(32_000, 750 * n_steps)),
    )
    net.check_finite(
        mutual_info_=certificate.estimate, mutual_info_interval_=certificate.width
    )
    # noise may turn an information near 0 negative
    low, high = certificate.interval
    return replace(
        fitted,
        mutual_info_=max(0.0, certificate.estimate),
        mutual_info_interval_=(max(0.0, low), max(0.0, high)),
        rate_=rate,
        rate_se=rate_se,
    )


def _mean_rate(fitted: Fitted, X, seen) -> tuple[float, float]:
    """Mean rate of training rows, drawn where they are many; its standard error."""
    limit = fitted.model.likelihood.cost.rated_rows
    rows = np.random.default_rng(fitted.seed).permutation(len(X))[:limit]
    rates = fitted.bound(seen[rows], fitted.columns.keys(X[rows])).rate
    return float(rates.mean()), float(rates.std() / len(rates) ** 0.5)
