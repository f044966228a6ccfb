"""From parameters and rows to the fitted record: training, landing, certificate."""

import copy
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from sklearn_mae.estimator.arguments import MAX_SEED, as_tensor, seed_from
from sklearn_mae.estimator.fitted import Fitted
from sklearn_mae.estimator.parts import (
    build_model,
    build_net,
    controls_of,
    torch_device,
)
from sklearn_mae.families import Structure, row_family
from sklearn_mae.net import FIGURES, ProgressBar, Rows, TwoSided

__all__ = ["fit_record"]

# no mean rate of a fit that went well, in nats, comes near this
DIVERGED = 1e9
# training rows behind ``rate_``, and of models whose codes are slow to decode
RATED_ROWS, RATED_ROWS_SLOW = 2_000, 500


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
        family = row_family(structure.likelihood).fit(X, names)
        past, controls, build_seed = {}, {}, seed
    else:
        before.structure.check_same(structure)
        family, past, controls = before.family, before.history_, before.controls
        build_seed = before.build_seed
        # the same seed must not bring the same batches and noise again
        seed = (seed + before.n_iter_) % MAX_SEED
    device = torch_device(params.device)
    seen = family.transform(X)
    x = as_tensor(seen, torch.float32, device)
    if before is None:
        model = build_model(structure, family, x[:2].cpu(), seed)
    else:
        model = copy.deepcopy(before.model)
    net = build_net(params, model.to(device), family, len(X), seed, controls, progress)
    net.initialize().partial_fit(Rows(x))
    net.check_finite()
    epochs = [epoch for epoch in net.history if "loss" in epoch]
    fitted = Fitted(
        structure=structure,
        build_seed=build_seed,
        seed=seed,
        family=family,
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
    n_steps, slow = net.step_, fitted.model.likelihood.slow
    longest = 400 if constrained else 2_000
    progress.stage("r_omega")
    net.refine_posterior(min(n_steps, longest // 4 if slow else longest))
    n_samples = 500 if slow or n_steps < 500 else 2_000

    def measure():
        # other draws than the certificate's, which is to know nothing of them
        generator = fitted.generator(fitted.seed ^ 1)
        # (where draws are costly, as on a grid in two dimensions, no more of them)
        few = slow or fitted.structure.n_components == 2
        n = n_samples if few else 2 * n_samples
        found = fitted.mutual_info(n, np.inf, generator, budget=0)
        vague = found["upper"] - found["lower"] > TwoSided.widest_gap
        se = max(found["lower_se"], found["upper_se"])
        return np.nan if vague else found["estimate"], se

    progress.stage("landing")
    net.land(measure)
    progress.stage("certificate")
    rate, rate_se = _mean_rate(fitted, X, seen)
    controls = {f"the constraint's {name}": x for name, x in fitted.controls.items()}
    net.check_finite(**controls)  # type: ignore[arg-type]
    net.check_finite(below=DIVERGED, rate_=rate)
    certificate = fitted.mutual_info(
        n_samples,
        0.05,
        fitted.generator(None, fitted=True),
        budget=min(200_000 if slow else 3_000_000, max(32_000, 750 * n_steps)),
    )
    low, middle, high = (
        float(value)
        for value in (
            certificate["lower"] - 2 * certificate["lower_se"],
            certificate["estimate"],
            certificate["upper"] + 2 * certificate["upper_se"],
        )
    )
    net.check_finite(mutual_info_=middle, mutual_info_interval_=high - low)
    # of next to nothing noise may make less than nothing
    low, middle, high = (max(0.0, value) for value in (low, middle, high))
    return replace(
        fitted,
        mutual_info_=middle,
        mutual_info_interval_=(low, high),
        rate_=rate,
        rate_se=rate_se,
    )


def _mean_rate(fitted: Fitted, X, seen) -> tuple[float, float]:
    """Mean rate of training rows, drawn where they are many; its standard error."""
    limit = RATED_ROWS_SLOW if fitted.model.likelihood.slow else RATED_ROWS
    rows = np.random.default_rng(fitted.seed).permutation(len(X))[:limit]
    rates = fitted.bound(seen[rows], fitted.family.keys(X[rows])).rate
    return float(rates.mean()), float(rates.std() / len(rates) ** 0.5)
