"""
Choose how much a representation knows
======================================

The main job in one script: scikit-learn's handwritten digits, codes that hold M nats
each, a classifier on the codes. It prints a table over M, draws it, and then lets a
grid search choose M by held-out log-likelihood.

Run it with ``python examples/quickstart.py``; ``SKLEARN_MAE_FAST=1`` trains for fewer
steps, to see that everything works rather than to get good figures.
"""

# %%
# Digits: 1,797 images of 8 x 8 pixels, a third held out.

import os
import time
import warnings

import matplotlib
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline

from sklearn_mae import MutualAutoencoder, information_scorer

matplotlib.use("Agg")
import matplotlib.pyplot as plt

FAST = bool(os.environ.get("SKLEARN_MAE_FAST"))
EPOCHS = 10 if FAST else 60
start = time.perf_counter()

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    X, y, test_size=1 / 3, random_state=0, stratify=y
)

# %%
# One pipeline for each M. ``mutual_info_interval_`` brackets the model's information
# from both sides; ``rate`` is what new rows' codes cost; accuracy is that of a
# logistic regression on mean codes and on single draws. M constrains the draws: a mean
# code is a feature, and its decimals may carry more.

print(f"{EPOCHS} epochs, for speed; the default is about 4,000 steps.\n")
print("   M   bracketed I(x, z)   held-out rate   log p(x)   accuracy: mean   draw")
rows = []
for M in (1, 3, 6, 9):
    pipeline = make_pipeline(
        MutualAutoencoder(M=M, max_epochs=EPOCHS, random_state=0),
        LogisticRegression(max_iter=2_000),
    )
    with warnings.catch_warnings():
        # so few epochs may leave I a little off M: the table shows by how much
        warnings.simplefilter("ignore", ConvergenceWarning)
        pipeline.fit(X_train, y_train)
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
        "   {mean:14.3f}   {draw:.3f}".format(**rows[-1])
    )

# %%
# The same as a picture: what was asked for and what was reached, and what it buys.

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
print("\nWrote quickstart.png")

# %%
# Which M? Held-out log-likelihood is one way to choose. Two values, two folds and few
# epochs keep this short; use more of each.

search = GridSearchCV(
    MutualAutoencoder(max_epochs=max(5, EPOCHS // 3), random_state=0),
    {"M": [3, 9]},
    scoring=information_scorer,
    refit="log_likelihood",
    cv=2,
)
with warnings.catch_warnings():
    warnings.simplefilter("ignore", ConvergenceWarning)
    search.fit(X_train)
print(f"\nGrid search over M, 2 folds of {max(5, EPOCHS // 3)} epochs:")
for M, log_likelihood, error in zip(
    search.cv_results_["param_M"],
    search.cv_results_["mean_test_log_likelihood"],
    search.cv_results_["mean_test_information_error"],
    strict=True,
):
    print(f"  M = {M}: log p(x) = {log_likelihood:7.1f}, |I - M| = {-error:.2f}")
print(f"Best: M = {search.best_params_['M']}")
print(f"\nTook {time.perf_counter() - start:.0f} s")
