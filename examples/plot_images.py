"""
Images through convolutions
===========================

Networks of your own, here convolutional ones, as callables: ``encoder`` and
``likelihood`` take the number of columns and the number of components and return a
module whose ``forward`` gives a torch Distribution. M means what it always means: the
information that the model's images and their codes share, in nats.

Upper rows: images that the model has not seen, and each through its mean code. Lower
rows: what codes drawn from the prior are decoded to, without the pixels' noise.

``SKLEARN_MAE_FAST=1`` trains for fewer steps, to check that everything works.
"""

# %%
# Digits of 8 x 8 pixels. Their 17 levels are spread over the unit cells that they stand
# for, so that they have a density, and no pixel is constant: a constant column never
# reaches the networks.

import os

import matplotlib
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.distributions import Independent, Normal

from sklearn_mae import MutualAutoencoder

matplotlib.use("Agg")
import matplotlib.pyplot as plt

FAST = bool(os.environ.get("SKLEARN_MAE_FAST"))
SIDE, CHANNELS = 8, 6
LEAST_SCALE = 0.05

rng = np.random.default_rng(0)
levels = load_digits().data
X = (levels + rng.random(levels.shape)) / 17
X_train, X_new = train_test_split(X, test_size=500, random_state=0)


# %%
# The encoder halves the side twice; the decoder doubles it twice. Each pixel has a
# standard deviation that does not depend on the code. Rows may come with several axes
# before the last one, and convolutions know one.
def on_batches(layers, x):
    """Apply layers that know one axis of a batch to x of any shape (..., n)."""
    return layers(x.flatten(0, -2)).unflatten(0, x.shape[:-1])


class ConvolutionalEncoder(nn.Module):
    """From images to normal distributions over codes."""

    def __init__(self, n_features, n_components):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Unflatten(-1, (1, SIDE, SIDE)),
            nn.Conv2d(1, CHANNELS, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(CHANNELS, 2 * CHANNELS, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Flatten(-3),
            nn.Linear(n_features // 16 * 2 * CHANNELS, 2 * n_components),
        )

    def forward(self, x):
        loc, log_scale = on_batches(self.layers, x).chunk(2, -1)
        return Independent(Normal(loc, log_scale.clamp(-6, 3).exp()), 1)


class ConvolutionalDecoder(nn.Module):
    """From codes (..., d) to normal distributions over images."""

    def __init__(self, n_features, n_components):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(n_components, n_features // 16 * 2 * CHANNELS),
            nn.SiLU(),
            nn.Unflatten(-1, (2 * CHANNELS, SIDE // 4, SIDE // 4)),
            nn.ConvTranspose2d(2 * CHANNELS, CHANNELS, 4, stride=2, padding=1),
            nn.SiLU(),
            nn.ConvTranspose2d(CHANNELS, 1, 4, stride=2, padding=1),
            nn.Flatten(-3),
        )
        self.log_scale = nn.Parameter(torch.full((n_features,), -1.5))

    def forward(self, z):
        loc = on_batches(self.layers, z)
        scale = LEAST_SCALE + nn.functional.softplus(self.log_scale)
        return Independent(Normal(loc, scale.expand_as(loc)), 1)


# %%
# A model that may know 6 nats of an image: as much as tells 400 kinds apart.
mae = MutualAutoencoder(
    M=6,
    encoder=ConvolutionalEncoder,
    likelihood=ConvolutionalDecoder,
    max_epochs=5 if FAST else "auto",
    random_state=0,
)
mae.fit(X_train)
low, high = mae.mutual_info_interval_
log_p = mae.score(X_new)
print(f"I(x, z) in [{low:.2f}, {high:.2f}] nats, bound on log p(x) {log_p:.1f}")

some = X_new[:16]
through = mae.inverse_transform(mae.transform(some))
decoded = mae.inverse_transform(rng.normal(size=(32, mae.n_components)))
rows = np.concatenate([some, through, decoded]).reshape(4, 16, SIDE, SIDE)
rows = np.pad(rows, [(0, 0), (0, 0), (1, 1), (1, 1)])
picture = np.concatenate([np.concatenate(row, axis=1) for row in rows])

figure, ax = plt.subplots(figsize=(8, 2.6), layout="constrained")
ax.imshow(picture, cmap="gray_r", vmin=0, vmax=1)
ax.set(title=f"M = 6, I(x, z) in [{low:.2f}, {high:.2f}] nats", xticks=[])
ax.set_yticks([4, 14, 29], ["new", "through codes", "codes at random"])
figure.savefig("images.png", dpi=110)
print("Wrote images.png")
