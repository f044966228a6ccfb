"""
Posteriors that a Gaussian encoder cannot represent
===================================================

Ten categories and a code that determines the category, M = log 10. Above: the model's
posteriors p(z|x), one curve for each category. Below: the encoder's, q(z|x). The
model's posteriors have steep edges that no normal distribution has. The resampling
encoder, which keeps one of five draws by its importance weight, approximates them
better, and the decoder learns steeper ones (Fig. 4 of the paper).

``SKLEARN_MAE_FAST=1`` trains for fewer steps, to check that everything works.
"""

# %%
# The same model with either encoder.

import os

import matplotlib
import numpy as np

from sklearn_mae import MutualAutoencoder
from sklearn_mae.datasets import make_uniform_categories
from sklearn_mae.plotting import PosteriorsDisplay

matplotlib.use("Agg")
import matplotlib.pyplot as plt

FAST = bool(os.environ.get("SKLEARN_MAE_FAST"))

bunch = make_uniform_categories(5_120, n_categories=10, random_state=0)
rows = np.arange(10)[:, np.newaxis]
z = np.linspace(-4, 4, 801)
figure, axes = plt.subplots(
    2, 2, sharex=True, figsize=(10, 5), layout="constrained", squeeze=False
)
for encoder, (above, below) in zip(("gaussian", "resampling"), axes.T, strict=True):
    mae = MutualAutoencoder(
        M=np.log(10),
        encoder=encoder,
        n_components=1,
        likelihood="categorical",
        max_epochs=5 if FAST else "auto",
        random_state=0,
    )
    # M is the entropy of ten categories, which is not quite reached
    mae.fit(bunch.data)
    model = PosteriorsDisplay.from_estimator(mae, rows, of="model", z=z, ax=above)
    learned = PosteriorsDisplay.from_estimator(mae, rows, of="encoder", z=z, ax=below)
    top = 1.05 * max(model.density.max(), np.percentile(learned.density, 99.9))
    above.set(
        title=f"{encoder} encoder, I(x, z) = {mae.mutual_info_:.2f} nats",
        xlabel="",
        ylabel="p(z|x)",
        ylim=(0, top),
    )
    below.set(ylabel="q(z|x)", ylim=(0, top))

    # KL(q(z|x) || p(z|x)) by a sum over z, averaged over the categories
    q, p = (np.maximum(d.density, 1e-300) for d in (learned, model))
    kl = np.trapezoid(q * (np.log(q) - np.log(p)), z)
    print(
        f"{encoder:>10}: I(x, z) = {mae.mutual_info_:.3f} of {np.log(10):.3f} nats, "
        f"mean KL(encoder || posterior) = {kl.mean():.3f}, bound on log p(x) = "
        f"{mae.score(rows):.3f}"
    )

figure.savefig("posteriors.png", dpi=110)
print("Wrote posteriors.png")
