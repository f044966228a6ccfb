"""M means M on real tables: what was asked for, and what was reached.

    python benchmarks/bench_control.py --data digits --M 3 6 9 12 --seeds 5

Each fit uses the defaults of ``MutualAutoencoder`` on two thirds of the rows; figures
on new rows are those of the other third. One torch thread. Fits that the CSV has are
not run again; ``--table`` only summarises it. ``--plot PATH`` draws the fits of the
default model: the picture of ``README.md``.

Columns: the bracket ``low``, ``high`` (two standard errors included) of the model's
information; the rate of training rows, and of new rows with its standard error; the
held-out log-likelihood by importance weighting; seconds of the fit with its
certificate; ``training_estimate``, the last value of the lower bound in training, which
the paper's rule compares with M. ``M=none`` is the unconstrained model,
``factor_analysis`` scikit-learn's with the number of components that has the best
held-out log-likelihood.
"""

import io
import time
from collections import defaultdict

import numpy as np
import torch
from rows import Results, messages, parser, timed_fit
from sklearn.datasets import (
    load_breast_cancer,
    load_diabetes,
    load_digits,
    load_wine,
)
from sklearn.decomposition import FactorAnalysis
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from sklearn_mae import MutualAutoencoder

LOADERS = {
    "digits": load_digits,
    "breast_cancer": load_breast_cancer,
    "wine": load_wine,
    "diabetes": load_diabetes,
}
# of the tables in the picture: distinct for the colour-blind, too
COLORS, MARKERS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7"), "osD^"
FIELDS = (
    "data model M seed estimate low high method rate_train rate_test rate_test_se "
    "log_likelihood steps seconds certificate_seconds warning training_estimate"
).split()


def split(data: str):
    """Return two thirds to fit on and one third held out, without constant columns."""
    X, _ = LOADERS[data](return_X_y=True)
    X_train, X_test = train_test_split(X, test_size=1 / 3, random_state=0)
    varying = X_train.std(axis=0) > 0
    return X_train[:, varying], X_test[:, varying]


MODELS = {
    "both": {},
    "none": {},
    "model": {"constraint": "model"},
    "paper": {"constraint": "paper"},
    "gaussian": {"encoder": "gaussian"},
    "d=22": {"n_components": 22, "encoder": "gaussian"},
    "d=32": {"n_components": 32},
    "d=64": {"n_components": 64},
}


def run(data: str, model: str, M, seed: int) -> dict:
    """Return the row of one fit."""
    X_train, X_test = split(data)
    mae = MutualAutoencoder(M=M, random_state=seed, **MODELS[model])
    seconds, caught = timed_fit(mae, X_train, time.perf_counter)
    low, high = mae.mutual_info_interval_
    rates = mae.rate(X_test)
    return {
        "data": data,
        "model": model,
        "M": "none" if M is None else f"{M:g}",
        "seed": seed,
        "estimate": f"{mae.mutual_info_:.4f}",
        "low": f"{low:.4f}",
        "high": f"{high:.4f}",
        "method": "sandwich",
        "rate_train": f"{mae.rate(X_train).mean():.3f}",
        "rate_test": f"{rates.mean():.3f}",
        "rate_test_se": f"{rates.std(ddof=1) / len(rates) ** 0.5:.3f}",
        "log_likelihood": f"{mae.log_likelihood(X_test, 1_000).mean():.3f}",
        "steps": sum(epoch["train_batch_count"] for epoch in mae.net_.history),
        "seconds": f"{seconds:.1f}",
        "certificate_seconds": f"{seconds - sum(mae.net_.history[:, 'dur']):.1f}",
        "warning": messages(caught),
        "training_estimate": f"{mae.history_['information_lower'][-1]:.3f}",
    }


def factor_analysis(data: str) -> dict:
    """Return the row of the best number of components of scikit-learn's model."""
    X_train, X_test = split(data)
    scaler = StandardScaler().fit(X_train)
    A, B = scaler.transform(X_train), scaler.transform(X_test)
    scores = {
        k: FactorAnalysis(k, random_state=0).fit(A).score(B)
        for k in range(1, min(30, A.shape[1]))
    }
    best = max(scores, key=scores.get)
    log_volume = np.log(scaler.scale_).sum()
    return {
        "data": data,
        "model": "factor_analysis",
        "M": f"d={best}",
        "seed": 0,
        "log_likelihood": f"{scores[best] - log_volume:.3f}",
    }


def constrained(rows: list[dict]) -> list[dict]:
    """Return the fits of the default model that have a target."""
    return [r for r in rows if r["model"] == "both" and r["M"] != "none"]


def table(rows: list[dict]) -> None:
    """Print one line for each data set, model and M."""
    groups = defaultdict(list)
    for row in rows:
        groups[row["data"], row["model"], row["M"]].append(row)
    print("| data | model | M | bracket, worst ends | held-out rate | log p(x) | s |")
    print("|---|---|---|---|---|---|---|")
    for (data, model, M), group in groups.items():
        lls = [float(row["log_likelihood"]) for row in group]
        if model == "factor_analysis":
            print(f"| {data} | {model} | {M} | | | {np.mean(lls):.1f} | |")
            continue
        low = min(float(row["low"]) for row in group)
        high = max(float(row["high"]) for row in group)
        rates = [float(row["rate_test"]) for row in group]
        seconds = [float(row["seconds"]) for row in group]
        print(
            f"| {data} | {model} | {M} | {low:.2f} .. {high:.2f} ({len(group)} fits) | "
            f"{min(rates):.2f} .. {max(rates):.2f} | {np.mean(lls):.1f} | "
            f"{np.median(seconds):.0f} |"
        )
    rows = constrained(rows)
    for name, slack in (
        ("max(0.1, 3 %)", (0.1, 0.03)),
        ("max(0.05, 2 %)", (0.05, 0.02)),
    ):
        hits = [
            max(float(r["M"]) - float(r["low"]), float(r["high"]) - float(r["M"]))
            <= max(slack[0], slack[1] * float(r["M"]))
            for r in rows
        ]
        if hits:
            print(f"\nbracket within {name} of M: {sum(hits)} of {len(hits)} fits")
    distances = [abs(float(r["estimate"]) / float(r["M"]) - 1) for r in rows]
    if distances:
        print(f"median distance of the midpoint from M: {np.median(distances):.2%}")


def plot(rows: list[dict], path: str) -> None:
    """Draw the information reached, the brackets and the log-likelihood over M."""
    from matplotlib.figure import Figure
    from PIL import Image

    rows = constrained(rows)
    if not rows:
        raise SystemExit("There is no fit of the default model to draw.")
    Ms = sorted({float(r["M"]) for r in rows})
    groups = defaultdict(list)
    for row in rows:
        groups[row["data"]].append(row)
    n_seeds = 1 + max(int(r["seed"]) for r in rows)
    figure = Figure(figsize=(12, 4.5), dpi=100, layout="constrained", facecolor="white")
    reached, error, likelihood = figure.subplots(1, 3, width_ratios=[1, 1.6, 1.2])
    places = np.arange(len(Ms))
    tolerances = np.maximum(0.05, 0.02 * np.array(Ms))
    reached.plot([0, max(Ms) + 1], [0, max(Ms) + 1], color="0.75", zorder=0)
    error.bar(places, 2 * tolerances, 0.9, -tolerances, color="0.92", zorder=0)
    for i, (data, group) in enumerate(groups.items()):
        color = COLORS[i % len(COLORS)]
        M, middle, low, high, log_p = np.array(
            [
                [
                    float(r[k])
                    for k in ("M", "estimate", "low", "high", "log_likelihood")
                ]
                for r in group
            ]
        ).T
        # tables are side by side, and within a table seeds
        seeds = np.array([int(r["seed"]) for r in group])
        x = np.searchsorted(Ms, M) + 0.85 * (
            (i + (seeds + 0.5) / n_seeds) / len(groups) - 0.5
        )
        reached.plot(M, middle, MARKERS[i % len(MARKERS)], color=color, alpha=0.7)
        error.vlines(x, low - M, high - M, color=color, linewidth=9 / (n_seeds + 2))
        own = sorted(set(M))
        means = np.array([log_p[M == each].mean() for each in own])
        likelihood.plot(
            own,
            means - means.max(),
            f"{MARKERS[i % len(MARKERS)]}-",
            color=color,
            label=data.replace("_", " "),
        )
    reached.set(
        title="I(x, z) reached, M asked for",
        xlabel="M, nats",
        ylabel="I(x, z), nats",
        xticks=Ms,
        yticks=Ms,
    )
    error.use_sticky_edges = False
    error.axhline(0, color="0.6", linewidth=0.8, zorder=0)
    error.set(
        title="the bracket of each fit, minus M; grey: a hit",
        xlabel="M, nats",
        ylabel="bracketed I(x, z) minus M, nats",
        xticks=places,
        xticklabels=[f"{M:g}" for M in Ms],
    )
    likelihood.set(
        title="what the information buys",
        xlabel="M, nats",
        ylabel="held-out log p(x), below its best, nats",
        xticks=Ms,
    )
    likelihood.legend(frameon=False, loc="lower right")
    for ax in (reached, error, likelihood):
        ax.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    Image.open(buffer).quantize(64).save(path, optimize=True)


def main():
    """Run what is missing and print the table."""
    options = parser(
        __doc__, "control.csv", data=list(LOADERS), M=[1, 3, 6, 9, 12], seeds=5
    )
    options.add_argument(
        "--model",
        nargs="+",
        default=["both"],
        choices=[*MODELS, "factor_analysis"],
        help="both: the defaults; model, paper: constraints; gaussian: encoder; d=22: "
        "components, Gaussian encoder; d=32, d=64: components; none: M=None",
    )
    options.add_argument("--plot", metavar="PATH", help="draw the default model's fits")
    arguments = options.parse_args()
    torch.set_num_threads(1)
    results = Results(arguments.out, FIELDS, complete=arguments.table)
    fits = (
        {"data": data, "model": model, "M": M, "seed": seed}
        for seed in range(arguments.seeds)
        for model in arguments.model
        if model != "factor_analysis"
        for data in arguments.data
        for M in ([None] if model == "none" else arguments.M)
    )
    for case in results.missing(fits):
        results.add(run(**case))
    if "factor_analysis" in arguments.model:
        analyses = (
            {"data": data, "model": "factor_analysis"} for data in arguments.data
        )
        for case in results.missing(analyses):
            results.add(factor_analysis(case["data"]))
    table(results.rows)
    if arguments.plot is not None:
        plot(results.rows, arguments.plot)


if __name__ == "__main__":
    main()
