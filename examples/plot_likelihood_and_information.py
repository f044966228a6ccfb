"""
Does the likelihood care about the code?
========================================

Maximum likelihood makes a code informative only where the decoder needs it. Both
decoders here model the standard normal. The limited one has a fixed noise of 0.6: its
likelihood has a maximum at one amount of information, -log 0.6 nats, and a variational
autoencoder finds it. The expressive one, a network that gives mean and variance, has
the same likelihood at every amount: there the likelihood leaves the choice to M (Fig. 1
of the paper, Fig. 4 of its poster).

``SKLEARN_MAE_FAST=1`` trains for fewer steps, to see that everything works.
"""

# %%
# A decoder of one's own is a module whose forward returns a torch Distribution.

import os
import warnings

import matplotlib
import numpy as np
import torch
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from torch import nn
from torch.distributions import Independent, Normal

from sklearn_mae import MutualAutoencoder
from sklearn_mae.datasets import make_split_normal

matplotlib.use("Agg")
import matplotlib.pyplot as plt

FAST = bool(os.environ.get("SKLEARN_MAE_FAST"))
NOISE = 0.6


class LimitedDecoder(nn.Module):
    """N(a z + b, 0.6^2): all it can learn is how far codes are apart."""

    def __init__(self, n_features, n_components):
        super().__init__()
        self.mean = nn.Linear(n_components, n_features)

    def forward(self, z):
        mean = self.mean(z)
        return Independent(Normal(mean, torch.full_like(mean, NOISE)), 1)


# %%
# The same targets for both. New rows tell the likelihood.

bunch = make_split_normal(40_000, random_state=0)
train, new = bunch.data[:20_000], bunch.data[20_000:]
targets = [0.2, 1.0] if FAST else [0.1, 0.3, 0.5, 0.8, 1.1, 1.5]
figure, ax = plt.subplots(figsize=(6, 4), layout="constrained")
for name, likelihood, style in (
    ("limited decoder: fixed noise", LimitedDecoder, "o-"),
    ("expressive decoder", "heteroscedastic", "s--"),
):
    estimator = MutualAutoencoder(
        n_components=1,
        likelihood=likelihood,
        max_epochs=2 if FAST else 13,
        random_state=0,
    )
    reached, log_likelihood = [], []
    for M in targets:
        mae = clone(estimator).set_params(M=M)
        with warnings.catch_warnings():
            # half the usual steps: I is where the figure shows it
            warnings.simplefilter("ignore", ConvergenceWarning)
            mae.fit(train)
        reached.append(mae.mutual_info_)
        log_likelihood.append(mae.log_likelihood(new[:5_000]).mean())
        print(f"{name}: I = {reached[-1]:.3f}, log p(x) = {log_likelihood[-1]:.4f}")
    ax.plot(reached, log_likelihood, style, label=name)

# %%
# The closed form of the limited one: p(x) is normal with variance a^2 + 0.6^2.

I = np.linspace(0.05, 1.6, 200)
variance = NOISE**2 * np.exp(2 * I)
second_moment = np.mean(new[:5_000] ** 2)
ax.plot(
    I,
    -0.5 * (np.log(2 * np.pi * variance) + second_moment / variance),
    color="0.6",
    zorder=0,
    label="limited, closed form",
)
ax.set(xlabel="I(x, z), nats", ylabel="log p(x) of new rows", ylim=(-1.75, -1.38))
ax.legend()
figure.savefig("likelihood_and_information.png", dpi=110)
print("Wrote likelihood_and_information.png")
