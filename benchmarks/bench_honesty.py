"""Does ``fit`` warn of each miss, and of nothing else? Hundreds of small fits.

    python benchmarks/bench_honesty.py [--misses 300] [--hits 300]

``fit`` judges its model by its own bracket, and its codes by the rate of the rows it
was fitted to. Here both are measured again: the model's information by a certificate
with independent draws and ten times the budget, the rate over all rows. The tolerance
is max(0.05, 0.02 M) for the information and max(0.05, 0.05 M) + 2 se for the rate. A
fit is

- a *miss* if one of the two is more than 1.5 tolerances from M (of the information: the
  whole bracket),
- a *hit* if both are within 0.75 of a tolerance,
- not judged otherwise.

The rate counts under ``constraint="both"`` alone. Fits are drawn by seed from groups,
each of which misses for one cause more often than not:

- ``steps``: 3 to 60 steps;
- ``M``: more nats than the entropy of a few categories or bits;
- ``C``: a bound of 0.003 to 0.3 on the multipliers;
- ``rate``: 60 rows of 200 random bits, whose rate converges later than the model;
- ``model``: ``constraint="model"`` or ``"paper"``, 100 to 400 steps;
- ``landing``: M of 0.2 to 1 after 6 to 100 steps, the model near M, not on it;
- ``hit``: 500 steps on small tables at four times the default learning rate.

One torch thread. Fits that the CSV has are not run again; ``--table`` only summarises
it.
"""

from collections import Counter

import numpy as np
import torch
from rows import Results, messages, parser, timed_fit
from sklearn.datasets import load_iris, load_wine
from sklearn.exceptions import ConvergenceWarning

from sklearn_mae import MutualAutoencoder

FIELDS = (
    "group seed data constraint M low high rate independent_low independent_high "
    "rate_all rate_se model_off rate_off verdict cause warned seconds message"
).split()
MISSES = ("steps", "M", "C", "rate", "model", "landing")
BEYOND, WITHIN = 1.5, 0.75


def factors(rng):
    """Draw rows of a linear model with noise; one column is squared."""
    n, d, D = int(rng.integers(80, 400)), int(rng.integers(1, 4)), 6
    z = rng.normal(size=(n, d))
    X = z @ rng.normal(size=(d, D)) + 0.3 * rng.normal(size=(n, D))
    X[:, 0] = X[:, 0] ** 2
    return X


def bits(rng, n=60, D=200):
    """Draw random bits."""
    return rng.integers(0, 2, size=(n, D)).astype(float)


def table(rng):
    """Choose a small table of numbers; return its name and rows."""
    data = str(rng.choice(["iris", "wine", "factors"]))
    if data == "factors":
        return data, factors(rng)
    load = {"iris": load_iris, "wine": load_wine}[data]
    return data, load(return_X_y=True)[0]


def few_outcomes(rng):
    """Draw a few bits or categories; return their maximal entropy, too."""
    n = int(rng.integers(50, 300))
    if rng.random() < 0.5:
        D = int(rng.integers(2, 4))
        return bits(rng, n, D), "bernoulli", D * np.log(2)
    k = int(rng.integers(3, 9))
    return rng.integers(0, k, size=(n, 1)).astype(float), "categorical", np.log(k)


def drawn(group: str, seed: int):
    """Draw a fit of a group: name of its data, rows, parameters."""
    rng = np.random.default_rng([(*MISSES, "hit").index(group), seed])
    data, X = table(rng)
    params = {
        "M": float(rng.uniform(0.3, 4)),
        # (with two components the certificate's grid takes longer than the fit)
        "n_components": int(rng.choice([1, 3, 4])),
        "encoder": str(rng.choice(["gaussian", "resampling"])),
        "hidden_layer_sizes": (16,),
        "random_state": seed,
    }
    steps = 0
    match group:
        case "steps":
            steps = round(float(np.exp(rng.uniform(np.log(3), np.log(60)))))
        case "M":
            X, params["likelihood"], most = few_outcomes(rng)
            data = "few outcomes"
            params["M"] = float(most * rng.uniform(1.1, 2))
            steps = 300
        case "C":
            params["C"] = float(np.exp(rng.uniform(np.log(0.003), np.log(0.3))))
            steps = 600
        case "rate":
            data, X = "bits", bits(rng)
            params |= {"likelihood": "bernoulli", "M": float(rng.uniform(0.5, 2))}
            params["n_components"] = 4
            steps = int(rng.integers(3, 60))
        case "model":
            params["constraint"] = str(rng.choice(["model", "paper"]))
            steps = int(rng.integers(100, 400))
        case "landing":
            params["M"] = float(rng.uniform(0.2, 1))
            steps = int(rng.integers(6, 100))
        case "hit":
            params["lr"] = 4e-3
            steps = 500
    n_batches = -(-len(X) // 128)
    params["max_epochs"] = max(1, steps // n_batches)
    return data, X, params


def run(group: str, seed: int) -> dict:
    """Fit, and judge by figures that are independent of the fit's."""
    data, X, params = drawn(group, seed)
    mae = MutualAutoencoder(**params)
    seconds, caught = timed_fit(mae, X)
    M = params["M"]
    tolerance = max(0.05, 0.02 * M)
    steps = params["max_epochs"] * -(-len(X) // 128)
    found = mae._fitted.mutual_info(
        5_000,
        0.4 * tolerance,
        torch.Generator().manual_seed(10_000_000 + seed),
        budget=10 * max(32_000, 750 * steps),
    )
    low, high = found.interval
    distances = sorted([abs(low - M), abs(high - M)])
    nearest = 0.0 if low <= M <= high else distances[0]
    rates = mae.rate(X)
    rate, se = rates.mean(), rates.std() / len(rates) ** 0.5
    rate_off = abs(rate - M) / (max(0.05, 0.05 * M) + 2 * se)
    if mae.constraint != "both":
        rate_off = 0.0
    if nearest / tolerance > BEYOND or rate_off > BEYOND:
        verdict = "miss"
    elif distances[1] / tolerance < WITHIN and rate_off < WITHIN:
        verdict = "hit"
    else:
        verdict = "between"
    missed = [nearest / tolerance > BEYOND, rate_off > BEYOND]
    warned = [w for w in caught if issubclass(w.category, ConvergenceWarning)]
    fitted_low, fitted_high = mae.mutual_info_interval_
    return {
        "group": group,
        "seed": seed,
        "data": data,
        "constraint": mae.constraint,
        "M": f"{M:.4f}",
        "low": f"{fitted_low:.4f}",
        "high": f"{fitted_high:.4f}",
        "rate": f"{mae.rate_:.4f}",
        "independent_low": f"{low:.4f}",
        "independent_high": f"{high:.4f}",
        "rate_all": f"{rate:.4f}",
        "rate_se": f"{se:.4f}",
        "model_off": f"{nearest / tolerance:.2f}",
        "rate_off": f"{rate_off:.2f}",
        "verdict": verdict,
        "cause": {(1, 0): "model", (0, 1): "rate", (1, 1): "both"}.get(
            tuple(map(int, missed)), ""
        ),
        "warned": len(warned),
        "seconds": f"{seconds:.2f}",
        "message": messages(warned),
    }


def summary(rows: list[dict]) -> None:
    """Print one line for each group and verdict, and what was wrong."""
    print("| group | fits | misses | of them warned | hits | of them warned |")
    print("|---|---|---|---|---|---|")
    for group in [*MISSES, "hit", "all"]:
        fits = [row for row in rows if group in (row["group"], "all")]
        counts = Counter((row["verdict"], row["warned"] != "0") for row in fits)
        misses = counts["miss", True] + counts["miss", False]
        hits = counts["hit", True] + counts["hit", False]
        print(
            f"| {group} | {len(fits)} | {misses} | {counts['miss', True]} | {hits} | "
            f"{counts['hit', True]} |"
        )
    causes = Counter(row["cause"] for row in rows if row["verdict"] == "miss")
    print("\nmissed:", ", ".join(f"{n} {cause}" for cause, n in causes.items()))
    for row in rows:
        if (row["verdict"], row["warned"] != "0") in (("miss", False), ("hit", True)):
            print(*(f"{name}={row[name]}" for name in FIELDS))


def main():
    """Run until there are enough misses and hits, and print the table."""
    options = parser(__doc__, "honesty.csv")
    options.add_argument("--misses", type=int, default=300)
    options.add_argument("--hits", type=int, default=300)
    arguments = options.parse_args()
    torch.set_num_threads(1)
    results = Results(arguments.out, FIELDS, complete=arguments.table)
    each = -(-arguments.misses // len(MISSES))
    wanted = {name: ("miss", each) for name in MISSES}
    wanted["hit"] = ("hit", arguments.hits)

    def missing(group):
        verdict, n = wanted[group]
        return n - len(results.of({"group": group, "verdict": verdict}))

    seed = 0
    while not arguments.table and any(missing(group) > 0 for group in wanted):
        for group in wanted:
            # not every fit of the group "hit" is one: it gets four in each round
            seeds = range(seed * 4, seed * 4 + (4 if group == "hit" else 1))
            for case in results.missing({"group": group, "seed": s} for s in seeds):
                if missing(group) > 0:
                    results.add(run(**case))
        seed += 1
    summary(results.rows)


if __name__ == "__main__":
    main()
