"""A path over M beside a separate fit for each M: time and held-out likelihood.

    python benchmarks/bench_path.py --data digits

All defaults, a third of the rows held out, one torch thread. A row for each M: bracket
(two standard errors included) and held-out log p(x) by importance weighting, of the
path and of the fit from scratch; their difference ``above``, with its standard error
over paired rows; processor seconds of the fit from scratch. ``ratio`` is the time of
the whole path over the median time of such a fit.
"""

import time
import warnings
from pathlib import Path

import numpy as np
import torch
from bench_control import LOADERS, split
from rows import append, parser

from sklearn_mae import MutualAutoencoder, information_path

FIELDS = (
    "data seed M path_low path_high path_rate path_log_likelihood low high rate "
    "log_likelihood above above_se seconds path_seconds ratio"
).split()
N_IMPORTANCE = 1_000


def rows_of(data: str, Ms: list[float], seed: int) -> list[dict]:
    """Return the rows of one path and of the fits from scratch."""
    X_train, X_test = split(data)
    mae = MutualAutoencoder(random_state=seed)
    start = time.process_time()
    path = information_path(mae, X_train, Ms, X_test=X_test)
    path_seconds = time.process_time() - start
    rows = []
    for i, (M, warm) in enumerate(zip(path.M, path.estimators, strict=True)):
        start = time.process_time()
        # a path of one target, so that the times include the same figures
        (cold,) = information_path(mae, X_train, [M], X_test=X_test).estimators
        seconds = time.process_time() - start
        pair = [model.log_likelihood(X_test, N_IMPORTANCE) for model in (warm, cold)]
        above = pair[0] - pair[1]
        low, high = cold.mutual_info_interval_
        rows.append(
            {
                "data": data,
                "seed": seed,
                "M": M,
                "path_low": path.information_low[i],
                "path_high": path.information_high[i],
                "path_rate": path.rate[i],
                "path_log_likelihood": pair[0].mean(),
                "low": low,
                "high": high,
                "rate": cold.rate(X_test).mean(),
                "log_likelihood": pair[1].mean(),
                "above": above.mean(),
                "above_se": above.std(ddof=1) / len(above) ** 0.5,
                "seconds": seconds,
                "path_seconds": path_seconds,
            }
        )
        print({k: v if k == "data" else round(v, 3) for k, v in rows[-1].items()})
    median = np.median([row["seconds"] for row in rows])
    return [{**row, "ratio": path_seconds / median} for row in rows]


def main():
    """Run and print."""
    targets = [1, 2, 3, 4, 5, 6, 7, 8, 9, 12]
    options = parser(__doc__, "path.csv", table=False, M=targets)
    options.add_argument("--data", nargs="+", choices=LOADERS, default=["digits"])
    options.add_argument("--seed", type=int, default=0)
    arguments = options.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for data in arguments.data:
        rows = rows_of(data, arguments.M, arguments.seed)
        for row in rows:
            numbers = {k: f"{v:.6g}" for k, v in row.items() if k != "data"}
            append(Path(arguments.out), FIELDS, {"data": data, **numbers})
        print(f"{data}: the path took {rows[0]['ratio']:.2f} times one fit")


if __name__ == "__main__":
    main()
