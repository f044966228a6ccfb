"""Figures of ``bench_tables.py``: how like samples are, information by quadrature."""

from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy.special import logsumexp
from scipy.stats import ks_2samp, norm
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import cross_val_score
from table_data import numeric_columns

from sklearn_mae import MutualAutoencoder

RAREST = 0.01  # share of a category whose correlations are compared
ENTRIES_AT_ONCE = 2**22


# -- samples beside held-out rows ----------------------------------------------------


def distances(samples: pd.DataFrame, rows: pd.DataFrame) -> dict[str, float]:
    """Distance of each column: Kolmogorov-Smirnov of numbers, else total variation."""
    numeric = numeric_columns(rows)
    found = {}
    for column in rows:
        a, b = samples[column].dropna(), rows[column].dropna()
        if column in numeric:
            found[column] = float(ks_2samp(a, b).statistic)
        else:
            p, q = (each.value_counts(normalize=True) for each in (a, b))
            found[column] = float(p.sub(q, fill_value=0).abs().sum() / 2)
    return found


def difference_of_correlations(samples: pd.DataFrame, rows: pd.DataFrame):
    """Return the largest difference of two columns' correlations, and their names.

    Categories are columns of 0 and 1, each that is not rare in the rows.
    """
    numeric, columns = numeric_columns(rows), {}
    for column in rows:
        if column in numeric:
            columns[column] = [table[column] for table in (samples, rows)]
            continue
        shares = rows[column].value_counts(normalize=True)
        for category in shares.index[shares >= RAREST]:
            columns[f"{column}={category}"] = [
                (table[column] == category).where(table[column].notna()).astype(float)
                for table in (samples, rows)
            ]
    a, b = (pd.DataFrame({k: v[i] for k, v in columns.items()}).corr() for i in (0, 1))
    # a column that is constant in the samples has no correlation: count it as 0
    difference = (a.fillna(0) - b.fillna(0)).abs()
    np.fill_diagonal(values := difference.to_numpy(copy=True), 0)
    difference = pd.DataFrame(values, a.index, a.columns).stack()
    return float(difference.max()), " ".join(difference.idxmax())


def told_apart(samples: pd.DataFrame, rows: pd.DataFrame) -> tuple[float, float]:
    """Accuracy of a gradient boosting that tells samples from rows, and its error.

    As many samples as rows, five folds.
    """
    numeric = numeric_columns(rows)
    both = pd.concat([samples[: len(rows)], rows], ignore_index=True)
    both = both.assign(
        **{k: both[k].astype("category") for k in both if k not in numeric}
    )
    y = np.repeat([0, 1], [len(both) - len(rows), len(rows)])
    order = np.random.default_rng(0).permutation(len(both))
    model = HistGradientBoostingClassifier(
        categorical_features="from_dtype", random_state=0
    )
    accuracies = cross_val_score(model, both.iloc[order], y[order], cv=5)
    return accuracies.mean(), (0.25 / len(both)) ** 0.5


# -- information by quadrature ---------------------------------------------------------


class Information(NamedTuple):
    """I(x_o; z given o) of a model, its standard error, and on every second point."""

    value: float
    se: float
    coarse: float


@torch.no_grad()
def information_by_grid(
    mae: MutualAutoencoder, X: pd.DataFrame, n_draws: int, seed=0
) -> Information:
    """Integrate over one or two codes for rows of the model with the holes of X.

    I is the mean over rows of KL(p(z|x_o) || p(z)), each integrated over a grid. Means
    over rows of the posterior's moments are those of the prior, which is known: the
    mean KL is regressed on them.
    """
    rng = np.random.default_rng(seed)
    rows = mae.sample(n_draws, random_state=seed, round=False)
    observed = X.notna().to_numpy()[rng.integers(len(X), size=n_draws)]
    fitted = mae._fitted
    x = fitted.family.rows(mae._checked(rows.where(observed))).map(fitted.tensor)

    n = {1: 1_601, 2: 141}[mae.n_components]
    axis = np.linspace(-8, 8, n) if mae.n_components == 1 else np.linspace(-6, 6, n)
    axes = np.meshgrid(*[axis] * mae.n_components, indexing="ij")
    grid = np.stack([each.ravel() for each in axes], -1)
    log_prior = norm.logpdf(grid).sum(1)
    p = fitted.evaluation.model.likelihood(fitted.tensor(grid))
    every_second = (np.stack(np.indices(axes[0].shape)) % 2 == 0).all(0).ravel()
    powers = [grid, grid**2 - 1, grid**3 - 3 * grid, grid**4 - 6 * grid**2 + 3]
    if mae.n_components == 2:
        powers.append(grid.prod(1, keepdims=True))
    powers = np.concatenate(powers, 1)  # Hermite polynomials: of mean 0

    def divergences(log_lik, points):
        log_p = logsumexp(log_lik + log_prior[points], axis=1, keepdims=True)
        w = np.exp(log_lik + log_prior[points] - log_p)
        # (sums of the prior over the grid, not 1 over the spacing)
        log_p = log_p - logsumexp(log_prior[points])
        return (w * (log_lik - log_p)).sum(1), w @ powers[points]

    kl, moments, coarse = [], [], []
    for some in x.split(max(1, ENTRIES_AT_ONCE // (len(grid) * x.shape[-1]))):
        log_lik = some.unsqueeze(-2).log_prob(p).numpy()
        values, means = divergences(log_lik, slice(None))
        kl.append(values)
        moments.append(means)
        coarse.append(divergences(log_lik[:, every_second], every_second)[0])
    kl, moments = np.concatenate(kl), np.concatenate(moments)
    design = np.column_stack([np.ones(len(kl)), moments])
    weights, *_ = np.linalg.lstsq(design, kl, rcond=None)
    residuals = kl - design @ weights
    se = residuals.std(ddof=design.shape[1]) / len(kl) ** 0.5
    return Information(
        weights[0], se, weights[0] + np.concatenate(coarse).mean() - kl.mean()
    )
