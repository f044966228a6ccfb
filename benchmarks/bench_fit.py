"""Whole default fits of this checkout beside those of an earlier one.

    python benchmarks/bench_fit.py --before ../before [--rounds 5]

Each fit runs in a process of its own with one torch thread. Pairs run in turn: first
the earlier checkout, then this one. Fits that the CSV has are not run again;
``--table`` only summarises it.

Columns: CPU ``seconds`` of the fit alone (imports and the first call of torch's
optimiser are paid before it); the largest memory of the process above that before the
fit, in megabytes; the bracket; ``rate_`` (rate of training rows); the held-out log p(x)
by 1,000 importance draws. A third of the rows is held out, 2,000 of them at most. The
table ``texts`` is that of the README.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import time
import warnings
from collections import defaultdict
from pathlib import Path

import numpy as np
from rows import Results, parser
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.model_selection import train_test_split

FIELDS = (
    "checkout data M seed round seconds megabytes low high rate log_likelihood warning"
).split()
# rows of the made tables
SIZES = {"made": 30_000, "many": 150_000}
PARAMETERS = {"texts": {"likelihood": "sequence"}}


def made(n: int) -> np.ndarray:
    """Return n rows of 50 columns: a random network of six components, and noise."""
    rng = np.random.default_rng(0)
    hidden = np.tanh(rng.standard_normal((n, 6)) @ rng.standard_normal((6, 40)))
    signal = hidden @ rng.standard_normal((40, 50))
    return signal + 0.5 * rng.standard_normal((n, 50))


def texts():
    """Return the 2,000 sentences of the README's example, and 500 new ones."""
    from sklearn_mae import SequenceVectorizer
    from sklearn_mae.datasets import make_sentences

    vectorizer = SequenceVectorizer(min_df=5)
    X = vectorizer.fit_transform(make_sentences(2_000, random_state=0).data)
    return X, vectorizer.transform(make_sentences(500, random_state=1).data)


def split(data: str):
    """Return two thirds to fit on and one third held out, without constant columns."""
    if data == "texts":
        return texts()
    loaders = {
        "digits": load_digits,
        "breast_cancer": load_breast_cancer,
        "iris": load_iris,
        "wine": load_wine,
    }
    X = made(SIZES[data]) if data in SIZES else loaders[data](return_X_y=True)[0]
    X_train, X_test = train_test_split(X, test_size=1 / 3, random_state=0)
    varying = X_train.std(axis=0) > 0
    return X_train[:, varying], X_test[:2_000, varying]


def megabytes() -> float:
    """Return the largest memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def one(data: str, M: str, seed: str) -> dict:
    """Return the figures of one fit, in this process."""
    import torch

    from sklearn_mae import MutualAutoencoder

    torch.set_num_threads(1)
    X_train, X_test = split(data)
    parameters = PARAMETERS.get(data, {})
    mae = MutualAutoencoder(M=float(M), random_state=int(seed), **parameters)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        MutualAutoencoder(M=1, max_epochs=2, **parameters).fit(X_train[:100])
        caught.clear()
        before, start = megabytes(), time.process_time()
        mae.fit(X_train)
        seconds = time.process_time() - start
    low, high = mae.mutual_info_interval_
    return {
        "seconds": f"{seconds:.2f}",
        "megabytes": f"{megabytes() - before:.0f}",
        "low": f"{low:.4f}",
        "high": f"{high:.4f}",
        "rate": f"{mae.rate(X_train[:2_000]).mean():.4f}",
        "log_likelihood": f"{mae.log_likelihood(X_test, 1_000).mean():.4f}",
        "warning": " ".join(str(warning.message) for warning in caught),
    }


def elsewhere(checkout: Path, case: dict) -> dict:
    """Return the figures of one fit by the code of a checkout, in another process."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--one", *map(str, case.values())]
    result = subprocess.run(
        command, env=environment, check=True, capture_output=True, text=True
    )
    return json.loads(result.stdout.splitlines()[-1])


def table(rows: list[dict]) -> None:
    """Print one line for each table and M, seeds and rounds together."""
    groups = defaultdict(list)
    for row in rows:
        groups[row["data"], row["M"], row["checkout"]].append(row)

    def mean(group, name):
        return np.mean([float(row[name]) for row in group])

    print("| data | M | CPU s | ratio | log p(x) before, after | bracket | rate |")
    print("|---|---|---|---|---|---|---|")
    for data, M in dict.fromkeys((row["data"], row["M"]) for row in rows):
        before, after = groups[data, M, "before"], groups[data, M, "after"]
        if not before or not after:
            continue
        seconds = {(r["seed"], r["round"]): float(r["seconds"]) for r in before}
        ratios = [
            float(r["seconds"]) / seconds[r["seed"], r["round"]]
            for r in after
            if (r["seed"], r["round"]) in seconds
        ]
        low, high = (
            f(float(r[name]) for r in after)
            for f, name in ((min, "low"), (max, "high"))
        )
        print(
            f"| {data} | {M} | {mean(before, 'seconds'):.1f}, "
            f"{mean(after, 'seconds'):.1f} | {statistics.median(ratios):.2f} | "
            f"{mean(before, 'log_likelihood'):.2f}, "
            f"{mean(after, 'log_likelihood'):.2f} | {low:.2f} .. {high:.2f} | "
            f"{mean(after, 'rate'):.2f} |"
        )


def main():
    """Run what is missing and print the table."""
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(one(*sys.argv[2:5])))
        return
    tables = ["digits", "made", "breast_cancer", "iris", "wine"]
    options = parser(__doc__, "fit.csv", data=tables, M=[1, 6, 12], seeds=3)
    options.add_argument("--rounds", type=int, default=1)
    options.add_argument("--before", type=Path, metavar="PATH", help="of a checkout")
    arguments = options.parse_args()
    results = Results(arguments.out, FIELDS, complete=arguments.table)
    checkouts = {"before": arguments.before, "after": Path(__file__).parents[1]}
    if arguments.before is None:
        del checkouts["before"]
    cases = (
        {"checkout": checkout, "data": data, "M": M, "seed": seed, "round": round_}
        for round_ in range(arguments.rounds)
        for seed in range(arguments.seeds)
        for data in arguments.data
        for M in arguments.M
        for checkout in checkouts
    )
    for case in results.missing(cases):
        fit = {name: case[name] for name in ("data", "M", "seed")}
        figures = elsewhere(checkouts[case["checkout"]].resolve(), fit)
        results.add({**case, **figures})
    table(results.rows)


if __name__ == "__main__":
    main()
