"""
A table of strings, booleans, counts and numbers, with holes
============================================================

Most tables are mixed, and entries are missing. ``MutualAutoencoder`` takes such a
DataFrame as it is and gives DataFrames back: ``sample`` draws new rows of the same
columns and types, ``impute`` fills the holes. M is the information that the observed
entries of a row share with its code.

The table here is made, so that its dependences are known: how old customers are and how
often they come depends on one hidden factor, what they spend on it and on another.

``SKLEARN_MAE_FAST=1`` trains for fewer steps, to check that everything works.
"""

# %%
# A made table. A tenth of its entries are missing at random.

import os

import matplotlib
import numpy as np
import pandas as pd

from sklearn_mae import MutualAutoencoder, information_path
from sklearn_mae.plotting import InformationPathDisplay

matplotlib.use("Agg")
import matplotlib.pyplot as plt

FAST = bool(os.environ.get("SKLEARN_MAE_FAST"))
PLANS = ["basic", "plus", "gold"]


def make_customers(n, seed):
    """Draw customers, whole rows: two normal factors decide about all columns."""
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, n))
    scores = np.outer(b, [-2.0, 0.0, 2.0]) + rng.gumbel(size=(n, 3))
    return pd.DataFrame(
        {
            "age": (45 + 12 * a + 5 * rng.normal(size=n)).round(),
            "plan": np.array(PLANS)[scores.argmax(1)],
            "member": rng.random(n) < 1 / (1 + np.exp(-2 * a)),
            "visits": rng.poisson(np.exp(1 + 0.6 * a)),
            "spent": np.exp(4 + 0.4 * a + 0.7 * b + 0.3 * rng.normal(size=n)).round(2),
        }
    )


rng = np.random.default_rng(0)
customers = make_customers(2_000, seed=0)
customers = customers.mask(rng.random(customers.shape) < 0.1)
train, new = customers[:1_500], customers[1_500:]
print(train.head(), "\n")

# %%
# Counts and positive amounts are named; of the other columns the likelihood follows
# from their types. One model for each M, warm-started from its neighbour. The
# likelihood is that of the observed entries of new rows.

estimator = MutualAutoencoder(
    n_components=3,
    likelihood=[("poisson", ["visits"]), ("lognormal", ["spent"])],
    hidden_layer_sizes=(64,),
    max_epochs=4 if FAST else 100,
    lr=3e-3,
    random_state=0,
)
targets = [0.5, 1.5] if FAST else [0.4, 1.1, 1.8, 2.5]
path = information_path(estimator, train, targets, X_test=new)
for I, log_likelihood in zip(path.information, path.log_likelihood, strict=True):
    print(f"I = {I:.3f}, log p(x) = {log_likelihood:.4f}")
best = path.estimators[np.argmax(path.log_likelihood)]

# %%
# New customers, customers of whom something is known, and the first rows without holes.

samples = best.sample(2_000, random_state=0)
print(f"\nM = {best.M}, {best.likelihood_}")
print("\nsamples\n", samples.head())
gold = best.sample(2_000, given={"plan": "gold"}, random_state=0)
print(
    f"\nmean spent: {samples['spent'].mean():.0f}, by gold: {gold['spent'].mean():.0f}"
)
print("\nfilled\n", best.impute(train.head()))

# %%
# Samples beside the data: numbers with categories, counts with booleans. The known
# means are those of a hundred times as many customers.

truth = make_customers(200_000, seed=1)
figure, axes = plt.subplots(1, 3, figsize=(12, 4), layout="constrained")
colors = dict(zip(PLANS, ("#0072b2", "#d55e00", "#009e73"), strict=True))
bins = np.geomspace(5, 1_000, 21)
centres = np.sqrt(bins[1:] * bins[:-1])
for plan, color in colors.items():
    for table, style in ((train, "-"), (samples, "--")):
        spent = table.dropna(subset=["spent", "plan"])
        counts, _ = np.histogram(spent["spent"][spent["plan"] == plan], bins)
        label = plan if table is train else None
        axes[0].plot(centres, counts / len(spent), style, color=color, label=label)
axes[0].set(
    title="spent, by plan\n(data: solid, samples: dashed)",
    xscale="log",
    xlabel="spent",
    ylabel="share of rows",
)
axes[0].legend()

edges = np.arange(15, 80, 5)
for table, style, label in (
    (truth, {"color": "0.6", "zorder": 0}, "known"),
    (train, {"marker": "o", "linestyle": "none", "color": "#0072b2"}, "data"),
    (samples, {"marker": "x", "linestyle": "none", "color": "#d55e00"}, "samples"),
):
    group = pd.cut(table["age"], edges, labels=edges[:-1] + 2.5).astype(float)
    means = table["visits"].groupby(group).mean()
    axes[1].plot(means.index, means, label=label, **style)
axes[1].set(title="mean number of visits, by age", xlabel="age", ylabel="visits")
axes[1].legend()

InformationPathDisplay(path).plot(axes[2], marker="o", color="#0072b2")
axes[2].set(title="what information buys: new rows")
figure.savefig("mixed_table.png", dpi=110)
print("\nWrote mixed_table.png")
