"""
Choose how much a representation knows
======================================

scikit-learn's handwritten digits, codes of M nats, and a classifier on the codes. The
script prints and plots a table over M, and the M with the best likelihood of new
digits. It takes about a minute on one core.

Run it with ``python examples/quickstart.py``; ``SKLEARN_MAE_FAST=1`` trains for fewer
steps, to check that everything works: ``fit`` then warns that M was missed.
"""

# %%
# Digits: 1,797 images of 8 x 8 pixels, a third held out.

import os
import time

import matplotlib
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline

from sklearn_mae import MutualAutoencoder

matplotlib.use("Agg")
import matplotlib.pyplot as plt

FAST = bool(os.environ.get("SKLEARN_MAE_FAST"))
start = time.perf_counter()

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    X, y, test_size=1 / 3, random_state=0, stratify=y
)

# %%
# One pipeline for each M, with a small network and a large learning rate to save time;
# the defaults reach a better likelihood. ``mutual_info_interval_`` brackets the model's
# information from both sides; ``rate`` is an upper bound on the information of new
# rows' codes; the accuracy is that of a logistic regression on mean codes and on single
# draws. M constrains the draws: a mean code may hold more.

print("   M   bracketed I(x, z)   held-out rate   log p(x)   accuracy: mean   draw")
rows = []
for M in (1, 3, 9):
    pipeline = make_pipeline(
        MutualAutoencoder(
            M=M,
            hidden_layer_sizes=(64,),
            lr=4e-3,
            max_epochs=10 if FAST else 100,
            random_state=0,
        ),
        LogisticRegression(max_iter=2_000),
    ).fit(X_train, y_train)
    mae = pipeline[0]
    draws_train = mae.sample_posterior(X_train, random_state=0)[0]
    draws_test = mae.sample_posterior(X_test, random_state=1)[0]
    on_draws = LogisticRegression(max_iter=2_000).fit(draws_train, y_train)
    low, high = mae.mutual_info_interval_
    rows.append(
        {
            "M": M,
            "low": low,
            "high": high,
            "rate": mae.rate(X_test).mean(),
            "log_likelihood": mae.log_likelihood(X_test).mean(),
            "mean": pipeline.score(X_test, y_test),
            "draw": on_draws.score(draws_test, y_test),
        }
    )
    print(
        "{M:4}   [{low:6.2f}, {high:6.2f}]   {rate:13.2f}   {log_likelihood:8.1f}"
        "   {mean:14.3f}   {draw:.3f}".format(**rows[-1]),
        flush=True,
    )

# %%
# Which M? The held-out log-likelihood is one way to choose; ``GridSearchCV`` with
# ``information_scorer`` does the same with folds.

best = max(rows, key=lambda row: row["log_likelihood"])
print(f"\nThe best held-out log p(x) of these is at M = {best['M']}.")

# %%
# The table as a figure: information over M, and accuracy over M.

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
Ms = [row["M"] for row in rows]
left.plot(Ms, Ms, color="0.7", label="asked for", zorder=1)
middle = [(row["low"] + row["high"]) / 2 for row in rows]
half = [(row["high"] - row["low"]) / 2 for row in rows]
left.errorbar(Ms, middle, half, fmt="o", capsize=4, label="I(x, z), bracketed")
left.plot(Ms, [row["rate"] for row in rows], "x", label="rate of new rows")
left.set(xlabel="M (nats)", ylabel="nats", title="Information asked for and reached")
left.legend()
right.plot(Ms, [row["mean"] for row in rows], "o-", label="mean codes")
right.plot(Ms, [row["draw"] for row in rows], "s-", label="single draws")
right.set(
    xlabel="M (nats)",
    ylabel="accuracy on new rows",
    title="Logistic regression on the codes",
    ylim=(0, 1),
)
right.legend(loc="lower right")
figure.savefig("quickstart.png", dpi=110)
print(f"Wrote quickstart.png after {time.perf_counter() - start:.0f} s")
