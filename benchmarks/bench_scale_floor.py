"""Why M helps new rows, and where it does not: columns at the floor of their scale.

    python benchmarks/bench_scale_floor.py

Where the decoder reproduces a column of the training rows, its standard deviation falls
to the floor (``min_scale``, a hundredth of the column's own by default). Then an error
of a few hundredths on a new row costs nats. For each data set of ``bench_control.py``
and some M: how many columns ended at their floor, the distortion of those and of all
others on training and on new rows (nats, standardised columns), and the held-out
log-likelihood. One seed. Further rows change ``n_components`` or ``min_scale``. Fits
that the CSV has are not run again; ``--table`` only summarises it.
"""

import numpy as np
import torch
from bench_control import LOADERS, split
from rows import Results, parser, timed_fit
from scipy.stats import norm

from sklearn_mae import MutualAutoencoder

FIELDS = (
    "data M n_components min_scale columns at_floor floored_train floored_test "
    "others_train others_test rate_train rate_test log_likelihood"
).split()
AT_FLOOR = 1.1  # times the floor


def distortions(mae, X) -> tuple[np.ndarray, np.ndarray]:
    """Return each standardised column's mean distortion and noise scale."""
    draws = mae.reconstruct(X, n_samples=20, random_state=0)
    likelihood = mae.net_.module_.likelihood
    p = likelihood(torch.zeros(1, mae.n_components))
    unit = mae._fitted.family.family.scale_
    scale = np.exp(p.log_scale.detach().numpy()) * unit
    log_p = norm.logpdf(X, draws, scale).mean(axis=(0, 1))
    return -log_p - np.log(unit), scale / unit


def run(data, M, n_components, min_scale) -> dict:
    """Return the row of one fit."""
    X_train, X_test = split(data)
    mae = MutualAutoencoder(
        M=M, n_components=n_components, min_scale=min_scale, random_state=0
    )
    timed_fit(mae, X_train)  # warnings are recorded, not shown
    row = {
        "data": data,
        "M": "none" if M is None else f"{M:g}",
        "n_components": n_components,
        "min_scale": min_scale,
        "columns": X_train.shape[1],
        "rate_train": f"{mae.rate(X_train).mean():.2f}",
        "rate_test": f"{mae.rate(X_test).mean():.2f}",
        "log_likelihood": f"{mae.log_likelihood(X_test, 1_000).mean():.2f}",
    }
    for name, X in (("train", X_train), ("test", X_test)):
        distortion, scale = distortions(mae, X)
        floored = scale < AT_FLOOR * min_scale
        row["at_floor"] = int(floored.sum())
        row[f"floored_{name}"] = f"{distortion[floored].sum():.2f}"
        row[f"others_{name}"] = f"{distortion[~floored].sum():.2f}"
    return row


def main():
    """Run what is missing and print the table."""
    arguments = parser(__doc__, "scale_floor.csv").parse_args()
    torch.set_num_threads(1)
    results = Results(arguments.out, FIELDS, complete=arguments.table)
    fits = [(data, M, 8, 0.01) for data in LOADERS for M in (3.0, 9.0, None)]
    fits += [
        ("breast_cancer", M, 22, 0.01) for M in (9.0, 12.0, 15.0, 18.0, 21.0, 24.0)
    ]
    fits += [("breast_cancer", 15.0, 22, 0.003), ("diabetes", None, 8, 0.05)]
    fits += [("diabetes", 9.0, 8, 0.05), ("diabetes", 10.7, 8, 0.01)]
    cases = (dict(zip(FIELDS[:4], fit, strict=True)) for fit in fits)
    for case in results.missing(cases):
        results.add(run(**case))
    print(f"| {' | '.join(FIELDS)} |\n|{'---|' * len(FIELDS)}")
    for row in results.rows:
        print(f"| {' | '.join(row[name] for name in FIELDS)} |")


if __name__ == "__main__":
    main()
