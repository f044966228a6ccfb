"""
Does the likelihood depend on the code's information?
=====================================================

Maximum likelihood makes a code informative only if the decoder needs it. Both decoders
here model the standard normal. The limited one has a fixed noise of 0.6: its likelihood
has a maximum at one amount of information, -log 0.6 nats, and a variational autoencoder
finds it. The expressive one, a network that gives mean and variance, has the same
likelihood at every amount: the likelihood does not determine the information, but M
does (Fig. 1 of the paper, Fig. 4 of its poster).

``SKLEARN_MAE_FAST=1`` trains for fewer steps, to check that everything works.
"""

# %%
# A user's decoder is a module whose forward returns a torch Distribution.

import os

import matplotlib
import numpy as np
import torch
from torch import nn
from torch.distributions import Independent, Normal

from sklearn_mae import MutualAutoencoder, information_path
from sklearn_mae.datasets import make_split_normal
from sklearn_mae.plotting import InformationPathDisplay

matplotlib.use("Agg")
import matplotlib.pyplot as plt

FAST = bool(os.environ.get("SKLEARN_MAE_FAST"))
NOISE = 0.6


class LimitedDecoder(nn.Module):
    """N(a z + b, 0.6^2): only a and b are learned."""

    def __init__(self, n_features, n_components):
        super().__init__()
        self.mean = nn.Linear(n_components, n_features)

    def forward(self, z):
        mean = self.mean(z)
        return Independent(Normal(mean, torch.full_like(mean, NOISE)), 1)


# %%
# The same targets for both, each model warm-started from its neighbour. The likelihood
# is that of new rows.

bunch = make_split_normal(25_000, random_state=0)
train, new = bunch.data[:20_000], bunch.data[20_000:25_000]
targets = [0.2, 1.0] if FAST else [0.1, 0.3, 0.5, 0.8, 1.1, 1.5]
figure, ax = plt.subplots(figsize=(6, 4), layout="constrained")
for name, likelihood, lr, style in (
    # a single weight needs larger steps
    ("limited decoder: fixed noise", LimitedDecoder, 5e-3, "-"),
    ("expressive decoder", "heteroscedastic", 1e-3, "--"),
):
    estimator = MutualAutoencoder(
        n_components=1,
        likelihood=likelihood,
        max_epochs=2 if FAST else "auto",
        lr=lr,
        random_state=0,
    )
    path = information_path(estimator, train, targets, X_test=new)
    for I, log_likelihood in zip(path.information, path.log_likelihood, strict=True):
        print(f"{name}: I = {I:.3f}, log p(x) = {log_likelihood:.4f}")
    InformationPathDisplay(path).plot(ax, linestyle=style, label=name)

# %%
# The closed form for the limited decoder: p(x) is normal with variance a^2 + 0.6^2.

I = np.linspace(0.05, 1.6, 200)
variance = NOISE**2 * np.exp(2 * I)
second_moment = np.mean(new**2)
ax.plot(
    I,
    -0.5 * (np.log(2 * np.pi * variance) + second_moment / variance),
    color="0.6",
    zorder=0,
    label="limited, closed form",
)
ax.set(ylim=(-1.75, -1.38))
ax.legend()
figure.savefig("likelihood_and_information.png", dpi=110)
print("Wrote likelihood_and_information.png")
