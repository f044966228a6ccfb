"""
Ten categories, from independent to deterministic
=================================================

Ten equally frequent categories and a code of one component. The decoder can model them
without the code; in a variational autoencoder it does. Each row of the figure is a
model with a target of M nats (Fig. 2b of the paper, Fig. 5 of its poster): at each z
the probabilities p(x|z) of the categories add up to 1. At M = log 10 the code
determines the category.

``SKLEARN_MAE_FAST=1`` trains for fewer steps, to check that everything works.
"""

# %%
# One fit for each M. For one column of categories the encoder is a table: one normal
# distribution for each category.

import os

import matplotlib
import numpy as np

from sklearn_mae import MutualAutoencoder
from sklearn_mae.datasets import make_uniform_categories
from sklearn_mae.plotting import CategoriesDisplay

matplotlib.use("Agg")
import matplotlib.pyplot as plt

FAST = bool(os.environ.get("SKLEARN_MAE_FAST"))
TARGETS = [0.0, 1.0] if FAST else [0.0, 0.5, 1.0, 1.5, 2.0, np.log(10)]

bunch = make_uniform_categories(5_120, n_categories=10, random_state=0)
figure, axes = plt.subplots(
    len(TARGETS), sharex=True, figsize=(6, 1.4 * len(TARGETS)), layout="constrained"
)
for M, ax in zip(TARGETS, axes, strict=True):
    mae = MutualAutoencoder(
        M=M,
        n_components=1,
        likelihood="categorical",
        max_epochs=5 if FAST else "auto",
        random_state=0,
    )
    # the last M is the entropy of ten categories, which is not quite reached
    mae.fit(bunch.data)
    nll = -mae.log_likelihood(np.arange(10)[:, np.newaxis]).mean()
    print(f"M = {M:.2f}: I(x, z) = {mae.mutual_info_:.4f}, -log p(x) = {nll:.4f}")
    CategoriesDisplay.from_estimator(mae, np.arange(10), ax=ax)
    ax.set(title=f"I(x, z) = {mae.mutual_info_:.2f} nats, M = {M:.2f}", xlabel="")
axes[-1].set_xlabel("z")
print(f"No model can do better than -log p(x) = log 10 = {bunch.entropy:.4f}.")

figure.savefig("categorical.png", dpi=110)
print("Wrote categorical.png")
