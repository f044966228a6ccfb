"""The first ten minutes: defaults on common tables.

    python benchmarks/bench_first_minutes.py

Each table goes through ``MutualAutoencoder().fit_transform`` with all defaults. The CSV
has the outcome, codes or an error; the number of warnings; the seconds. No error but a
``ValueError`` that names columns is allowed. One torch thread.
"""

import csv
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from rows import parser
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine

from sklearn_mae import MutualAutoencoder


def synthetic(n_rows=20_000, n_columns=50) -> np.ndarray:
    """Draw rows near a curved surface of five dimensions."""
    rng = np.random.default_rng(0)
    codes = rng.normal(size=(n_rows, 5))
    X = np.sin(codes @ rng.normal(size=(5, n_columns))) + codes @ rng.normal(
        size=(5, n_columns)
    )
    return X + 0.3 * rng.normal(size=X.shape)


def tables() -> dict:
    """Return all tables, by name."""
    wine = load_wine(as_frame=True).data
    odd = wine.assign(customer_id=np.arange(len(wine)), country=1)
    strings = wine.assign(shop=np.where(wine.index % 2, "north", "south"))
    missing = wine.copy()
    missing.loc[3, "ash"] = np.nan
    return {
        "iris": load_iris().data,
        "wine": load_wine().data,
        "breast_cancer": load_breast_cancer().data,
        "digits": load_digits().data,
        "synthetic 20,000 x 50": synthetic(),
        "wine with an integer id and a constant column": odd,
        "wine with a column of strings": strings,
        "wine with a missing value": missing,
    }


def main():
    """Fit to all tables, write the CSV and print it as a table."""
    arguments = parser(__doc__, "first_minutes.csv", table=False).parse_args()
    path = Path(arguments.out)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["table", "outcome", "warnings", "seconds"])
        print("| table | outcome | warnings | s |\n|---|---|---|---|")
        for name, X in tables().items():
            mae = MutualAutoencoder(random_state=0)
            start = time.perf_counter()
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                try:
                    codes = mae.fit_transform(X)
                    low, high = mae.mutual_info_interval_
                    finite = "finite" if np.isfinite(codes).all() else "NOT FINITE"
                    outcome = f"{finite} codes, I in [{low:.2f}, {high:.2f}]"
                except ValueError as error:
                    outcome = f"ValueError: {str(error)[:90]}"
            seconds = time.perf_counter() - start
            writer.writerow([name, outcome, len(caught), f"{seconds:.1f}"])
            file.flush()
            print(f"| {name} | {outcome} | {len(caught)} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
