"""Models of ``bench_representations.py``: from rows to codes.

A model is made by a function of the number of components, the number of columns and the
seed. It is a scikit-learn transformer; one whose last step has ``sample_posterior``
gives draws of codes, too.
"""

import itertools
import math
from collections.abc import Callable

import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.decomposition import PCA, FactorAnalysis, KernelPCA, TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from sklearn_mae import MutualAutoencoder, SequenceVectorizer
from sklearn_mae.estimator.parts import AUTO_MAX_EPOCHS, DEFAULT_LR
from sklearn_mae.families import Schedule

MS = ("1", "3", "6", "9", "12", "16", "24", "none")
# with two components no more is to be had
MS_OF_TWO = ("1", "3", "6", "9", "none")
HIDDEN, BATCH = (128, 128), 128
STEPS, EPOCHS = Schedule().n_steps, AUTO_MAX_EPOCHS
WITHOUT_NOISE = ("WAE",)

Factory = Callable[[int, int, int], BaseEstimator]


class CommonScale(TransformerMixin, BaseEstimator):
    """Divide all columns by one number, the standard deviation of all entries."""

    def fit(self, X, y=None):
        """Learn it."""
        self.scale_ = np.std(X)
        return self

    def transform(self, X):
        """Divide."""
        return X / self.scale_


def network(*sizes: int) -> nn.Sequential:
    """Return linear layers with the package's activation in between."""
    layers = []
    for a, b in itertools.pairwise(sizes):
        layers += [nn.Linear(a, b), nn.SiLU()]
    return nn.Sequential(*layers[:-1])


def target(M: str) -> float | None:
    """Read M."""
    return None if M == "none" else float(M)


def mae(M: str, *before, **parameters) -> Factory:
    """Return the factory of our model, after other steps or alone."""
    return lambda d, D, seed: make_pipeline(
        *before,
        MutualAutoencoder(M=target(M), n_components=d, random_state=seed, **parameters),
    )


class Pythae(TransformerMixin, BaseEstimator):
    """A model of pythae in networks of ours, trained as long and in the same batches.

    The learning rate falls to zero over the second half, as ours does.
    """

    def __init__(self, name: str, n_components: int, random_state: int, parameters=()):
        self.name, self.parameters = name, parameters
        self.n_components, self.random_state = n_components, random_state

    def fit(self, X, y=None):
        """Train."""
        torch.manual_seed(self.random_state)
        self.model_ = model = pythae_model(
            self.name, X.shape[1], self.n_components, dict(self.parameters)
        )
        x = torch.as_tensor(np.asarray(X), dtype=torch.float32)
        batches = math.ceil(len(x) / BATCH)
        epochs = min(EPOCHS, max(1, round(STEPS / batches)))
        optimizer = torch.optim.Adam(model.parameters(), lr=DEFAULT_LR, fused=True)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda epoch: min(1.0, 2 * (1 - epoch / epochs))
        )
        model.train()
        for _ in range(epochs):
            for rows in torch.randperm(len(x)).split(BATCH):
                if len(rows) > 1:  # MMD needs pairs
                    optimizer.zero_grad()
                    model({"data": x[rows]}).loss.backward()
                    optimizer.step()
            schedule.step()
        model.eval()
        return self

    @torch.no_grad()
    def _encode(self, X):
        return self.model_.encoder(torch.as_tensor(X, dtype=torch.float32))

    def transform(self, X):
        """Return means of codes."""
        return self._encode(X).embedding.double().numpy()

    def sample_posterior(self, X, n_samples, random_state):
        """Return draws of codes."""
        found = self._encode(X)
        mean = found.embedding.double().numpy()
        noise = np.random.default_rng(random_state).normal(
            size=(n_samples, *mean.shape)
        )
        return mean + noise * np.exp(found.log_covariance.double().numpy() / 2)


def pythae_model(name: str, n_features: int, n_components: int, parameters: dict):
    """Build a model of pythae with networks of our sizes."""
    from pythae import models
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder

    class Encoder(BaseEncoder):
        def __init__(self):
            super().__init__()
            self.network = network(n_features, *HIDDEN, 2 * n_components)

        def forward(self, x):
            mean, log_variance = self.network(x).chunk(2, -1)
            return ModelOutput(embedding=mean, log_covariance=log_variance)

    class Decoder(BaseDecoder):
        def __init__(self):
            super().__init__()
            self.network = network(n_components, *HIDDEN, n_features)

        def forward(self, z):
            return ModelOutput(reconstruction=self.network(z))

    model, config = {
        "VAE": (models.VAE, models.VAEConfig),
        "beta-VAE": (models.BetaVAE, models.BetaVAEConfig),
        "InfoVAE": (models.INFOVAE_MMD, models.INFOVAE_MMD_Config),
        "WAE": (models.WAE_MMD, models.WAE_MMD_Config),
        "IWAE": (models.IWAE, models.IWAEConfig),
    }[name]
    settings = {"input_dim": (n_features,), "latent_dim": n_components, **parameters}
    if name != "WAE":  # which knows no other
        settings["reconstruction_loss"] = "mse"
    if name in ("WAE", "InfoVAE"):  # one scale of the kernel: a seventh of the time
        settings["scales"] = [1.0]
    return model(config(**settings), Encoder(), Decoder())


def pythae(name: str, before=StandardScaler, **parameters) -> Factory:
    """Return the factory of a model of pythae."""
    return lambda d, D, seed: make_pipeline(
        before(), Pythae(name, d, seed, tuple(parameters.items()))
    )


def umap(k: int, before) -> Factory:
    """Return the factory of umap-learn's transformer."""

    def make(d: int, D: int, seed: int):
        from umap import UMAP

        model = UMAP(k, n_components=d, random_state=seed, n_jobs=1)
        return make_pipeline(before(), model)

    return make


def svd(*ngram_range: int) -> Factory:
    """Return the factory of TF-IDF and TruncatedSVD."""
    return lambda d, D, seed: make_pipeline(
        TfidfVectorizer(tokenizer=str.split, token_pattern=None, min_df=5).set_params(
            ngram_range=ngram_range
        ),
        TruncatedSVD(d, random_state=seed),
    )


SCALES = {"standardised": StandardScaler, "raw": CommonScale}
WITHOUT_TRAINING: dict[str, dict[str, Factory]] = {
    "PCA": {
        name: lambda d, D, seed, scale=scale: make_pipeline(
            scale(), PCA(d, random_state=seed)
        )
        for name, scale in SCALES.items()
    },
    "FactorAnalysis": {
        name: lambda d, D, seed, scale=scale: make_pipeline(
            scale(), FactorAnalysis(d, random_state=seed)
        )
        for name, scale in SCALES.items()
    },
    "KernelPCA": {
        f"{name} gamma={gamma:g}/D": lambda d, D, seed, scale=scale, gamma=gamma: (
            make_pipeline(
                scale(),
                KernelPCA(
                    d,
                    kernel="rbf",
                    gamma=gamma / D,
                    eigen_solver="arpack",
                    random_state=seed,
                ),
            )
        )
        for name, scale in SCALES.items()
        for gamma in (0.1, 0.5)
    },
    "UMAP": {
        f"{name} n_neighbors={k}": umap(k, scale)
        for name, scale in SCALES.items()
        for k in (5, 15)
    },
}
PYTHAE: dict[str, dict[str, Factory]] = {
    "VAE": {"standardised": pythae("VAE")},
    "beta-VAE": {
        f"{name} beta={beta:g}": pythae("beta-VAE", SCALES[name], beta=beta)
        for name, beta in (
            ("standardised", 0.03),
            ("standardised", 0.1),
            ("standardised", 0.3),
            ("standardised", 3),
            ("raw", 0.1),
            ("raw", 0.3),
        )
    },
    "InfoVAE": {
        f"standardised alpha={alpha:g} lbd=10": pythae("InfoVAE", alpha=alpha, lbd=10)
        for alpha in (0.5, 0.9)
    },
    "WAE": {
        f"standardised reg_weight={weight:g}": pythae("WAE", reg_weight=weight)
        for weight in (0.03, 10)
    },
    "IWAE": {"standardised": pythae("IWAE", number_samples=5)},
}
OURS: dict[str, dict[str, Factory]] = {
    "mae": {M: mae(M) for M in MS},
    "mae, isotropic": {M: mae(M, likelihood="isotropic") for M in MS},
}
TEXTS: dict[str, dict[str, Factory]] = {
    "mae": {
        M: mae(
            M,
            SequenceVectorizer(min_df=5, tokenizer=str.split),
            likelihood="sequence",
        )
        for M in ("1", "3", "6", "9", "12", "none")
    },
    "TruncatedSVD": {"words": svd(1, 1), "words and pairs": svd(1, 2)},
}


def codes_of(model, X, codes: str, seed: int) -> np.ndarray:
    """Return mean codes, or one draw for each row."""
    if codes == "mean":
        return np.asarray(model.transform(X), dtype=float)
    before = model[:-1].transform(X) if len(model) > 1 else X
    return model[-1].sample_posterior(before, 1, random_state=seed)[0]
