"""Are figures equal to the bit? Records and compares small fits of every kind.

    python benchmarks/bench_bits.py record before.json
    python benchmarks/bench_bits.py compare before.json

Of each fit: `history_`, the bracket, `rate_`, codes (means and draws), scores, samples,
decoded codes and the figures of both certificates, as digests of their bytes. It is for
changes of the code that must change no number. Figures depend on the machine and on the
versions of torch and numpy: run both on one machine. One torch thread.
"""

import argparse
import hashlib
import json
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_iris, load_wine
from torch import nn
from torch.distributions import Laplace, Normal

from sklearn_mae import MutualAutoencoder, SequenceVectorizer
from sklearn_mae.datasets import make_sentences

COMMON = {"hidden_layer_sizes": (16,), "random_state": 0, "max_epochs": 60, "M": 1.0}


class LaplaceColumns(nn.Module):
    """A user's likelihood."""

    def __init__(self, n_features, n_components):
        super().__init__()
        self.network = nn.Linear(n_components, 2 * n_features)

    def forward(self, z):
        """Return p(x|z)."""
        loc, raw = self.network(z).chunk(2, -1)
        return Laplace(loc, 0.1 + nn.functional.softplus(raw))


class NormalCodes(nn.Module):
    """A user's encoder."""

    def __init__(self, n_features, n_components):
        super().__init__()
        self.network = nn.Linear(n_features, 2 * n_components)

    def forward(self, x):
        """Return q(z|x)."""
        loc, log_scale = self.network(x).chunk(2, -1)
        return Normal(loc, log_scale.exp())


def fits():
    """Return rows and parameters of each fit, by name."""
    rng = np.random.default_rng(0)
    iris, wine = (load(return_X_y=True)[0] for load in (load_iris, load_wine))
    bits = (rng.normal(size=(90, 1)) + rng.normal(size=(90, 12)) > 0).astype(float)
    one, several = rng.integers(0, 6, (90, 1)), rng.integers(0, 4, (90, 9))
    words = SequenceVectorizer().fit_transform(make_sentences(60, random_state=0).data)
    wide = rng.normal(size=(40, 2)) @ rng.normal(size=(2, 60)) + rng.normal(
        size=(40, 60)
    )
    text = {"likelihood": "sequence", "hidden_layer_sizes": (8, 12), "max_epochs": 20}
    return {
        "gaussian": (wine, {}),
        "one component": (iris, {"n_components": 1}),
        "two components": (iris, {"n_components": 2, "max_epochs": 20}),
        "heteroscedastic": (
            iris,
            {"likelihood": "heteroscedastic", "encoder": "gaussian", "n_components": 3},
        ),
        "no constraint": (iris, {"M": None, "n_components": 3}),
        "model": (iris, {"constraint": "model", "n_components": 3, "max_epochs": 200}),
        "paper": (iris, {"constraint": "paper", "n_components": 3}),
        "few bits": (bits[:, :4], {"likelihood": "bernoulli", "n_components": 3}),
        "bits": (bits, {"likelihood": "bernoulli", "n_components": 3}),
        "one category": (one, {"likelihood": "categorical", "n_components": 1}),
        "categories": (several, {"likelihood": "categorical", "n_components": 3}),
        "sequences": (words, {**text, "n_components": 4}),
        "sequences, model": (words, {**text, "constraint": "model"}),
        "sequences, paper": (words, {**text, "constraint": "paper"}),
        "a user's likelihood": (iris, {"likelihood": LaplaceColumns}),
        "a user's encoder": (iris, {"encoder": NormalCodes, "n_resamples": 1}),
        "wide": (wide, {"max_epochs": 200}),
        "warm start": (iris, {"warm_start": True, "n_components": 3}),
    }


def digest(*arrays) -> str:
    """Return a digest of the bytes of arrays or numbers."""
    state = hashlib.sha256()
    for array in arrays:
        state.update(np.ascontiguousarray(array).tobytes())
    return state.hexdigest()[:16]


def figures(name, X, params) -> dict:
    """Fit, and return digests of all figures."""
    mae = MutualAutoencoder(**{**COMMON, **params})
    for _ in range(2 if mae.warm_start else 1):
        mae.fit(X)
    Z = mae.transform(X)
    draws = mae.set_params(codes="sample").transform(X)
    history = {f"history_, {name}": digest(v) for name, v in mae.history_.items()}
    codes = mae.encoder_mutual_info(X[:50])
    bracket = mae.mutual_info(200, tol=0.2)
    return {
        **history,
        "interval": digest(mae.mutual_info_, mae.mutual_info_interval_, mae.rate_),
        "codes": digest(Z, draws),
        "scores": digest(mae.score_samples(X), mae.rate(X), mae.distortion(X)),
        "log-likelihood": digest(mae.log_likelihood(X, 20)),
        "densities": digest(
            mae.conditional_log_prob(X, Z), mae.posterior_log_prob(X, Z)
        ),
        "decoded": digest(mae.inverse_transform(Z), mae.reconstruct(X, 2, 0)),
        "sample": digest(*mae.sample(5, random_state=0, return_codes=True)),
        "mutual_info": digest(bracket.lower, bracket.upper, bracket.lower_se),
        "encoder_mutual_info": digest(codes.lower, codes.upper, codes.mismatch),
    }


def main():
    """Record, or compare with a record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["record", "compare"])
    parser.add_argument("path", type=Path)
    parser.add_argument("--only", nargs="+", help="names of fits")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found, start = {}, time.process_time()
    for name, (X, params) in fits().items():
        if arguments.only and name not in arguments.only:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found[name] = figures(name, X, params)
        print(f"{time.process_time() - start:6.1f} s  {name}", flush=True)
    if arguments.what == "record":
        arguments.path.write_text(json.dumps(found, indent=1))
        return
    before = json.loads(arguments.path.read_text())
    different = [
        f"{name}: {figure}"
        for name in found
        for figure in found[name]
        if found[name][figure] != before[name].get(figure)
    ]
    print("\n".join(different) or f"equal to the bit: {len(found)} fits")


if __name__ == "__main__":
    main()
