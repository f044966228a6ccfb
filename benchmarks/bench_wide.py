"""More columns than rows: both joints at their target, all defaults.

    python benchmarks/bench_wide.py [--data squares cubes factors] [--M 1 3 6]

Tables, standardised, a part of the rows held out:

- ``squares``: breast_cancer's 30 columns, their squares and products: 200 rows of 495
  columns to fit on, 369 held out;
- ``cubes``: wine's 13 columns and their products up to the third degree: 118 rows of
  559 columns, 60 held out;
- ``factors``: 150 rows of 600 columns from a linear model of five factors, each column
  with a noise scale of its own: 150 held out.

Columns: the bracket of the model's information, ``rate_`` of the rows fitted to, the
rate of new rows, the held-out log p(x) in nats (mean and median over rows: products
have heavy tails), and that of scikit-learn's ``FactorAnalysis`` with as many
components. One torch thread. Fits that the CSV has are not run again; ``--table`` only
summarises it.
"""

import numpy as np
import torch
from rows import Results, messages, parser, timed_fit
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.decomposition import FactorAnalysis
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from sklearn_mae import MutualAutoencoder

FIELDS = (
    "data rows columns M seed low high rate rate_new log_likelihood median "
    "factor_analysis factor_analysis_median within seconds warning"
).split()


def products(load, degree: int):
    """Return columns and their products, standardised before and after."""
    X, _ = load(return_X_y=True)
    steps = StandardScaler(), PolynomialFeatures(degree, include_bias=False)
    return make_pipeline(*steps, StandardScaler()).fit_transform(X)


def factors(n=300, D=600, d=5):
    """Draw rows of a linear model with noise."""
    rng = np.random.default_rng(0)
    signal = rng.normal(size=(n, d)) @ rng.normal(size=(d, D))
    return signal + rng.uniform(0.5, 4, size=D) * rng.normal(size=(n, D))


def split(data: str, seed: int):
    """Return rows to fit on and rows held out."""
    match data:
        case "squares":
            X, n = products(load_breast_cancer, 2), 200
        case "cubes":
            X, n = products(load_wine, 3), 118
        case "factors":
            X, n = factors(), 150
    return train_test_split(X, train_size=n, random_state=seed)


def run(data: str, M: float, seed: int) -> dict:
    """Return the row of one fit."""
    X, X_new = split(data, seed)
    mae = MutualAutoencoder(M=M, random_state=seed)
    seconds, caught = timed_fit(mae, X)
    low, high = mae.mutual_info_interval_
    log_p = mae.log_likelihood(X_new, 1_000)
    scaler = StandardScaler().fit(X)
    analysis = FactorAnalysis(mae.n_components, random_state=0).fit(scaler.transform(X))
    analysis_log_p = (
        analysis.score_samples(scaler.transform(X_new)) - np.log(scaler.scale_).sum()
    )
    distance = max(M - low, high - M, abs(mae.rate_ - M))
    return {
        "data": data,
        "rows": len(X),
        "columns": X.shape[1],
        "M": f"{M:g}",
        "seed": seed,
        "low": f"{low:.4f}",
        "high": f"{high:.4f}",
        "rate": f"{mae.rate_:.4f}",
        "rate_new": f"{mae.rate(X_new).mean():.3f}",
        "log_likelihood": f"{log_p.mean():.1f}",
        "median": f"{np.median(log_p):.1f}",
        "factor_analysis": f"{analysis_log_p.mean():.1f}",
        "factor_analysis_median": f"{np.median(analysis_log_p):.1f}",
        "within": f"{distance / M:.4f}",
        "seconds": f"{seconds:.1f}",
        "warning": messages(caught),
    }


def table(rows: list[dict]) -> None:
    """Print the rows."""
    print(
        "| data | M | seed | bracket | rate_ | rate of new rows | log p(x), mean and "
        "median | FactorAnalysis |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for row in rows:
        print(
            "| {data} | {M} | {seed} | {low} .. {high} | {rate} | {rate_new} | "
            "{log_likelihood}, {median} | {factor_analysis}, "
            "{factor_analysis_median} |".format(**row)
        )
    hits = sum(float(row["within"]) <= 0.05 for row in rows)
    print(f"\nbracket and rate_ within 5 % of M: {hits} of {len(rows)}")


def main():
    """Run what is missing and print the table."""
    tables = ["squares", "cubes", "factors"]
    options = parser(__doc__, "wide.csv", data=tables, M=[1, 3, 6], seeds=1)
    arguments = options.parse_args()
    torch.set_num_threads(1)
    results = Results(arguments.out, FIELDS, complete=arguments.table)
    cases = (
        {"data": data, "M": M, "seed": seed}
        for seed in range(arguments.seeds)
        for data in arguments.data
        for M in arguments.M
    )
    for case in results.missing(cases):
        results.add(run(**case))
    table(results.rows)


if __name__ == "__main__":
    main()
