"""Whole fits, a path and a grid of this checkout beside those of an earlier one.

    git worktree add ../before 873af9f
    python benchmarks/bench_fits.py --before ../before [--what fits path ...]

All seconds are CPU time on one torch thread. Each case runs in a process of its own;
pairs run in turn, first the earlier checkout, then this one. Rows are written as they
come; what the CSV has is not run again, ``--table`` only summarises it. Without
``--before`` this checkout alone runs.

- ``fits``: default fits of six tables. A third of the rows is held out, of ``made``
  (30,000 rows of 50 columns) 2,000 of them; ``texts`` are the README's 2,000 sentences,
  and 500 new ones.
- ``peers``: scikit-learn's PCA and FactorAnalysis and umap-learn's UMAP, if it is
  installed, of eight components on the same rows but texts, for orientation.
- ``path``: ``information_path`` over ten values of M on digits.
- ``grid``: a search over five values of M in three folds on digits, without a refit.
- ``transform``: codes of 100,000 rows of 20 columns, after an epoch on 2,000 of them.

Columns: CPU ``seconds`` (imports and first calls are paid before); the largest memory
of the process above that before the fit, in ``megabytes``; the ends of the bracket,
``low`` and ``high``; mean ``rate`` of training rows; ``log_likelihood``, held-out log
p(x) by 1,000 importance draws (of a path its mean over M, of a grid that of the best
M); ``hits``, of how many targets the whole bracket lies within max(0.05, 2 %) of M.
"""

import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rows import Results, messages, parser, timed_fit
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.model_selection import GridSearchCV, train_test_split

KEYS = ("what", "checkout", "data", "model", "M", "seed", "round")
FIGURES = ("seconds", "megabytes", "low", "high", "rate", "log_likelihood", "hits")
FIELDS = (*KEYS, *FIGURES, "warning")
LOADERS = {
    "digits": load_digits,
    "breast_cancer": load_breast_cancer,
    "iris": load_iris,
    "wine": load_wine,
}
TABLES = ["digits", "made", "breast_cancer", "iris", "wine", "texts"]
# parameters of the estimator, for tables that need any; the README of 873af9f had its
# texts learned at another rate
PARAMETERS = {"texts": {"likelihood": "sequence"}}
PARAMETERS_BEFORE = {"texts": {"lr": 2e-3}}
PATH = (1, 2, 3, 4, 5, 6, 7, 8, 9, 12)
GRID = {"M": [1.0, 3.0, 6.0, 9.0, 12.0]}
N_COMPONENTS, N_IMPORTANCE = 8, 1_000


def made(n: int) -> np.ndarray:
    """Return n rows of 50 columns: a random network of six components, and noise."""
    rng = np.random.default_rng(0)
    hidden = np.tanh(rng.standard_normal((n, 6)) @ rng.standard_normal((6, 40)))
    signal = hidden @ rng.standard_normal((40, 50))
    return signal + 0.5 * rng.standard_normal((n, 50))


def texts() -> tuple[np.ndarray, np.ndarray]:
    """Return word numbers of the README's sentences, and of new ones."""
    from sklearn_mae import SequenceVectorizer
    from sklearn_mae.datasets import make_sentences

    vectorizer = SequenceVectorizer(min_df=5)
    X = vectorizer.fit_transform(make_sentences(2_000, random_state=0).data)
    return X, vectorizer.transform(make_sentences(500, random_state=1).data)


def split(data: str) -> tuple[np.ndarray, np.ndarray]:
    """Return rows to fit on and rows held out, without constant columns."""
    if data == "texts":
        return texts()
    X = made(30_000) if data == "made" else LOADERS[data](return_X_y=True)[0]
    X_train, X_test = train_test_split(X, test_size=1 / 3, random_state=0)
    varying = X_train.std(axis=0) > 0
    return X_train[:, varying], X_test[:2_000, varying]


# One case, in this process


def megabytes() -> float:
    """Return the largest memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def hit(M: float, low: float, high: float) -> bool:
    """Return whether a bracket lies near M."""
    return max(M - low, high - M) <= max(0.05, 0.02 * M)


def fit(data: str, M: float, seed: int, checkout: str) -> dict:
    """Return the figures of a default fit."""
    from sklearn_mae import MutualAutoencoder

    X_train, X_test = split(data)
    parameters = dict(PARAMETERS.get(data, {}))
    if checkout == "before":
        parameters |= PARAMETERS_BEFORE.get(data, {})
    MutualAutoencoder(M=1, max_epochs=2, **parameters).fit(X_train[:100])
    before = megabytes()
    mae = MutualAutoencoder(M=M, random_state=seed, **parameters)
    seconds, caught = timed_fit(mae, X_train)
    added = megabytes() - before
    low, high = mae.mutual_info_interval_
    return {
        "seconds": seconds,
        "megabytes": added,
        "low": low,
        "high": high,
        "rate": mae.rate(X_train[:2_000]).mean(),
        "log_likelihood": mae.log_likelihood(X_test, N_IMPORTANCE).mean(),
        "hits": hit(M, low, high),
        "warning": messages(caught),
    }


def peer(data: str, model: str, seed: int) -> dict:
    """Return the figures of another package's fit."""
    X_train, X_test = split(data)
    d = min(N_COMPONENTS, X_train.shape[1] - 1)
    if model == "UMAP":
        from umap import UMAP

        UMAP(n_components=d, random_state=0, n_jobs=1).fit(X_train[:60])  # compiles
        estimator = UMAP(n_components=d, random_state=seed, n_jobs=1)
    else:
        kind = {"PCA": PCA, "FactorAnalysis": FactorAnalysis}[model]
        estimator = kind(d, random_state=seed)
    seconds, _ = timed_fit(estimator, X_train)
    figures = {"seconds": seconds}
    if hasattr(estimator, "score"):
        figures["log_likelihood"] = estimator.score(X_test)
    return figures


def path(data: str, seed: int) -> dict:
    """Return the figures of a path over M."""
    from sklearn_mae import MutualAutoencoder, information_path

    X_train, X_test = split(data)
    MutualAutoencoder(M=1, max_epochs=2).fit(X_train[:100])
    mae = MutualAutoencoder(random_state=seed)
    start = time.process_time()
    found = information_path(mae, X_train, PATH, X_test=X_test)
    seconds = time.process_time() - start
    brackets = zip(PATH, found.information_low, found.information_high, strict=True)
    models = found.estimators
    held_out = [each.log_likelihood(X_test, N_IMPORTANCE).mean() for each in models]
    return {
        "seconds": seconds,
        "log_likelihood": np.mean(held_out),
        "hits": sum(hit(*each) for each in brackets),
    }


def grid(data: str, seed: int) -> dict:
    """Return the figures of a search."""
    from sklearn_mae import MutualAutoencoder, information_scorer

    X, _ = split(data)
    MutualAutoencoder(M=1, max_epochs=2).fit(X[:100])
    mae = MutualAutoencoder(random_state=seed)
    search = GridSearchCV(mae, GRID, scoring=information_scorer, cv=3, refit=False)
    seconds, _ = timed_fit(search, X)
    best = search.cv_results_["mean_test_log_likelihood"].max()
    return {"seconds": seconds, "log_likelihood": best}


def transform(data: str, seed: int) -> dict:
    """Return the figures of codes of many rows."""
    from sklearn_mae import MutualAutoencoder

    rng = np.random.default_rng(0)
    X = rng.normal(size=(100_000, 6)) @ rng.normal(size=(6, 20))
    X += rng.normal(size=X.shape)
    mae = MutualAutoencoder(max_epochs=1, random_state=seed).fit(X[:2_000])
    mae.transform(X[:2_000])
    before, start = megabytes(), time.process_time()
    mae.transform(X)
    seconds = time.process_time() - start
    return {"seconds": seconds, "megabytes": megabytes() - before}


def one(case: dict) -> dict:
    """Return the figures of a case."""
    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    data, seed = case["data"], int(case["seed"])
    if case["what"] == "fits":
        return fit(data, float(case["M"]), seed, case["checkout"])
    if case["what"] == "peers":
        return peer(data, case["model"], seed)
    others = {"path": path, "grid": grid, "transform": transform}
    return others[case["what"]](data, seed)


def elsewhere(checkout: Path, case: dict) -> dict:
    """Return the figures of a case by the code of a checkout, in another process."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--one", json.dumps(case)]
    result = subprocess.run(
        command, env=environment, check=True, stdout=subprocess.PIPE, text=True
    )
    return json.loads(result.stdout.splitlines()[-1])


# The cases and their tables


def cases(arguments, checkouts: dict) -> list[dict]:
    """Return what is to be run, pair by pair."""
    found = []
    for round_ in range(arguments.rounds):
        for seed in range(arguments.seeds):
            for data in arguments.data:
                for M in arguments.M:
                    found.append({"what": "fits", "data": data, "M": f"{M:g}"})
                    found[-1] |= {"seed": seed, "round": round_}
        for what in ("path", "grid", "transform"):
            data = "100,000 x 20" if what == "transform" else "digits"
            found.append({"what": what, "data": data, "seed": 0, "round": round_})
    pairs = [{**case, "checkout": each} for case in found for each in checkouts]
    models = ["PCA", "FactorAnalysis"]
    models += ["UMAP"] * (importlib.util.find_spec("umap") is not None)
    pairs += [
        {"what": "peers", "data": data, "model": model, "seed": 0, "round": round_}
        for round_ in range(arguments.rounds)
        for data in arguments.data
        for model in models
        if data != "texts"
    ]
    return [case for case in pairs if case["what"] in arguments.what]


def paired(rows: list[dict], value: Callable) -> str:
    """Return the median ratio of pairs, after over before, and its range."""
    sides: dict = {"before": {}, "after": {}}
    for row in rows:
        key = tuple(row[name] for name in KEYS if name != "checkout")
        sides[row["checkout"]][key] = value(row)
    before, after = sides["before"], sides["after"]
    ratios = [after[key] / before[key] for key in after if key in before]
    if not ratios:
        return ""
    median = statistics.median(ratios)
    return f"{median:.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def means(rows: list[dict], name: str, digits: int) -> str:
    """Return the mean of a column, before and after."""
    found = []
    for checkout in ("before", "after"):
        values = [float(r[name]) for r in rows if r["checkout"] == checkout and r[name]]
        found.append(f"{np.mean(values):.{digits}f}" if values else "-")
    return ", ".join(found)


def summary(rows: list[dict]) -> None:
    """Print one line for each table and M, seeds and rounds together."""
    print("| what | data | M | CPU s | ratio | MB | log p(x) | hits | rate |")
    print("|---|---|---|---|---|---|---|---|---|")
    ours = [row for row in rows if row["what"] != "peers"]
    groups: dict = {}
    for row in ours:
        groups.setdefault((row["what"], row["data"], row["M"]), []).append(row)
    for names, some in groups.items():
        columns = [
            means(some, "seconds", 1),
            paired(some, lambda row: float(row["seconds"])),
            means(some, "megabytes", 0),
            means(some, "log_likelihood", 2),
            means(some, "hits", 2),
            means(some, "rate", 2),
        ]
        print("| " + " | ".join([*names, *columns]) + " |")
    fits = [r for r in ours if r["what"] == "fits" and r["checkout"] == "after"]
    one_fit = [float(r["seconds"]) for r in fits if r["data"] == "digits"]
    for row in ours:
        if row["what"] == "path" and row["checkout"] == "after" and one_fit:
            ratio = float(row["seconds"]) / statistics.median(one_fit)
            print(f"\nThe path takes {ratio:.2f} times a fit of digits (the median).")
    print("\n| peer | data | CPU s | log p(x) |\n|---|---|---|---|")
    for row in rows:
        if row["what"] == "peers":
            names = ("model", "data", "seconds", "log_likelihood")
            print("| " + " | ".join(row[name] for name in names) + " |")


def main():
    """Run what is missing and print the tables."""
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(one(json.loads(sys.argv[2])), default=float))
        return
    options = parser(__doc__, "fits.csv", data=TABLES, M=[1, 6, 12], seeds=3)
    kinds = ("fits", "peers", "path", "grid", "transform")
    options.add_argument("--what", nargs="+", default=kinds, choices=kinds)
    options.add_argument("--rounds", type=int, default=1)
    options.add_argument("--before", type=Path, metavar="PATH", help="of a checkout")
    arguments = options.parse_args()
    results = Results(arguments.out, FIELDS, complete=arguments.table)
    here = Path(__file__).parents[1]
    checkouts = {"before": arguments.before, "after": here}
    if arguments.before is None:
        del checkouts["before"]
    for case in results.missing(cases(arguments, checkouts)):
        figures = elsewhere(checkouts.get(case.get("checkout"), here), case)
        numbers = {k: f"{float(v):.6g}" for k, v in figures.items() if k in FIGURES}
        results.add({**case, **numbers, "warning": figures.get("warning", "")})
    summary(results.rows)


if __name__ == "__main__":
    main()
