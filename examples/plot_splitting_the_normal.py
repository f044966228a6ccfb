"""
Splitting the normal
====================

The standard normal is a mixture of normals in many ways: for every correlation rho,
N(0, 1) is the mixture of N(rho z, 1 - rho^2) over z ~ N(0, 1). All have the same
likelihood, but their information I(x, z) = -log(1 - rho^2) / 2 differs. A variational
autoencoder finds the one without information. Here each row is a model with a target of
M nats (Fig. 2a of the paper, Fig. 6 of its poster); dashed lines are the closed form.

``SKLEARN_MAE_FAST=1`` trains for fewer steps, to check that everything works.
"""

# %%
# Data with a known density, and one fit for each M.

import os

import matplotlib
import numpy as np
from scipy.stats import norm

from sklearn_mae import MutualAutoencoder
from sklearn_mae.datasets import make_split_normal
from sklearn_mae.plotting import ConditionalsDisplay

matplotlib.use("Agg")
import matplotlib.pyplot as plt

FAST = bool(os.environ.get("SKLEARN_MAE_FAST"))
TARGETS = [0.0, 0.8] if FAST else [0.0, 0.4, 0.8, 1.2]
CODES = np.array([-2.1, -1.3, -0.4, 0.4, 1.3, 2.1])

bunch = make_split_normal(20_000, random_state=0)
models = []
for M in TARGETS:
    mae = MutualAutoencoder(
        M=M,
        n_components=1,
        likelihood="heteroscedastic",
        max_epochs=2 if FAST else "auto",
        random_state=0,
    )
    models.append(mae.fit(bunch.data))
    print(
        f"M = {M}: I(x, z) = {mae.mutual_info_:.4f}, "
        f"log p(x) = {mae.log_likelihood(bunch.data[:5_000]).mean():.4f}"
    )
best = bunch.log_likelihood(bunch.data[:5_000]).mean()
print(f"The true density has log q(x) = {best:.4f} on the same rows.")

# %%
# The conditionals. The sign of a code is arbitrary: the closed form is drawn with the
# model's sign.

x = np.linspace(-4, 4, 401)
figure, axes = plt.subplots(
    len(TARGETS), sharex=True, figsize=(6, 2 * len(TARGETS)), layout="constrained"
)
for M, mae, ax in zip(TARGETS, models, axes, strict=True):
    ConditionalsDisplay.from_estimator(mae, CODES, x=x, ax=ax)
    sign = np.sign(mae.inverse_transform([[1.0]]) - mae.inverse_transform([[-1.0]]))
    rho = float(sign.item() * bunch.correlation(M))
    exact = norm.pdf(x, rho * CODES[:, None], np.sqrt(1 - rho**2))
    ConditionalsDisplay(x, CODES, exact * norm.pdf(CODES)[:, None]).plot(
        ax, color="black", linestyle="--", linewidth=0.8
    )
    ax.set(title=f"I(x, z) = {mae.mutual_info_:.2f} nats, M = {M}", xlabel="")
axes[-1].set_xlabel("x")
figure.savefig("splitting_the_normal.png", dpi=110)
print("Wrote splitting_the_normal.png")
