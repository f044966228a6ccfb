"""What the benchmarks of text share: data, settings, baselines, figures of a model."""

import gzip
import math
from typing import NamedTuple

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from sklearn_mae import MutualAutoencoder, SequenceVectorizer
from sklearn_mae.encoders import Amortised, Bound
from sklearn_mae.estimator.parts import build_model, build_net, resolve_lengths
from sklearn_mae.evaluation import Evaluation
from sklearn_mae.families import Structure, row_family
from sklearn_mae.text import END, PAD
from sklearn_mae.training import ProgressBar, TrainingRows

SIZES = {
    # to check that everything works
    "tiny": {
        "n_train": 600,
        "n_test": 100,
        "min_df": 5,
        "max_features": None,
        "hidden": (16, 16),
        "n_components": 4,
        "wide": 6,
        "batch_size": 64,
        "steps": 30,
        "lr": 2e-3,
        "device": "cpu",
    },
    "cpu": {
        "n_train": None,
        "n_test": 2_000,
        "min_df": 5,
        "max_features": 2_000,
        "hidden": (64, 128),
        "n_components": 10,
        "wide": 16,
        "batch_size": 32,
        "steps": 13_016,
        "lr": 2e-3,
        "device": "cpu",
    },
    "gpu": {
        "n_train": None,
        "n_test": 2_000,
        "min_df": 2,
        "max_features": None,
        "hidden": (256, 512),
        "n_components": 32,
        "wide": 64,
        "batch_size": 256,
        "steps": 8_000,
        "lr": 2e-3,
        "device": "cuda",
    },
}
SIZES["half"] = SIZES["cpu"] | {"steps": 6_508, "lr": 2.8e-3}
MAX_TOKENS = 8
N_RECONSTRUCTED, N_SAMPLED, N_LABELLED, N_IMPORTANCE = 1_000, 1_000, 10_000, 200


class Corpus(NamedTuple):
    """Rows of word numbers; of labelled reviews also labels and texts."""

    train: Tensor
    test: Tensor
    labelled_train: Tensor
    labelled_test: Tensor
    labels_train: np.ndarray
    labels_test: np.ndarray
    texts: list[str]
    labelled_texts_train: list[str]
    labelled_texts_test: list[str]
    n_words: int


def load(path: str, size: dict) -> Corpus:
    """Read the sentences, in a fixed random order."""
    with (gzip.open if path.endswith(".gz") else open)(
        path, "rt", encoding="utf8"
    ) as f:
        lines = [line.rstrip("\n").split("\t") for line in f][1:]
    lines = [line for line in lines if len(line[2].split()) <= MAX_TOKENS]
    rng = np.random.default_rng(0)
    parts = []
    for name in ("train", "validation"):
        part = [(text, int(label)) for label, _, text, split in lines if split == name]
        parts.append([part[i] for i in rng.permutation(len(part))])
    train, validation = parts[0][: size["n_train"]], parts[1]
    texts = [text for text, _ in train]
    labelled_train = [pair for pair in train if pair[1] >= 0][:N_LABELLED]
    labelled_test = [pair for pair in validation if pair[1] >= 0]
    vectorizer = SequenceVectorizer(
        min_df=size["min_df"],
        max_features=size["max_features"],
        tokenizer=str.split,
        max_length=MAX_TOKENS + 1,
    ).fit(texts)

    def numbers(texts):
        return torch.tensor(vectorizer.transform(texts), device=size["device"])

    def split(pairs):
        return [text for text, _ in pairs], np.array([label for _, label in pairs])

    labelled_texts_train, labels_train = split(labelled_train)
    labelled_texts_test, labels_test = split(labelled_test)
    return Corpus(
        numbers(texts),
        numbers([text for text, _ in validation[: size["n_test"]]]),
        numbers(labelled_texts_train),
        numbers(labelled_texts_test),
        labels_train,
        labels_test,
        texts,
        labelled_texts_train,
        labelled_texts_test,
        3 + len(vectorizer.vocabulary_),
    )


def estimator(size: dict, seed: int, **parameters) -> MutualAutoencoder:
    """Return the estimator of all rows, unfitted."""
    usual = {
        "n_components": size["n_components"],
        "likelihood": "sequence",
        "encoder": "gaussian",
        "hidden_layer_sizes": size["hidden"],
        "batch_size": size["batch_size"],
        "lr": size["lr"],
        "device": size["device"],
        "random_state": seed,
    }
    return MutualAutoencoder(**{**usual, **parameters})


def epochs(size: dict, n_rows: int) -> int:
    """Return the number of epochs that is closest to the number of steps."""
    return max(1, round(size["steps"] / -(-n_rows // size["batch_size"])))


class WithoutCode(Amortised):
    """Language model: the code is zero."""

    def bound(self, model, x, q, z):
        """Log p(x|0)."""
        return _without_rate(model, x, torch.zeros_like(z))


class WithoutNoise(Amortised):
    """Plain autoencoder: the code is the encoder's mean."""

    def bound(self, model, x, q, z):
        """Log p(x|mean)."""
        return _without_rate(model, x, q.mean.unsqueeze(0))


def _without_rate(model, x, z):
    log_lik = model.log_lik(x, z).mean(0)
    return Bound(log_lik, -log_lik, torch.zeros_like(log_lik))


class Weighted(Amortised):
    """Baselines that weight the KL: their objective is no bound on log p(x).

    Parameters
    ----------
    weight : callable
        From the number of steps so far to the KL's weight.
    free : float
        Nats of each component without cost, as a mean over a batch.
    """

    def __init__(self, weight, free=0.0):
        self.weight, self.free, self.step = weight, free, 0

    def bound(self, model, x, q, z):
        """Return objective, distortion and rate."""
        _, distortion, rate = super().bound(model, x, q, z)
        cost = rate
        if self.free:
            squares = q.loc.square() + (2 * q.log_scale).exp()
            rates = 0.5 * (squares - 1) - q.log_scale
            cost = rates.mean(0).clamp_min(self.free).sum()
        weight = self.weight(self.step)
        self.step += 1
        return Bound(-distortion - weight * cost, distortion, rate)


def untrained(params: MutualAutoencoder, X: np.ndarray):
    """Return the net that an estimator would train, and its rows.

    Returns
    -------
    net : MutualAutoencoderNet
        ``net.module_`` is the model.
    rows : TrainingRows
        The rows to train on.
    """
    structure = Structure.of(params)
    family = row_family(structure.likelihood).fit(X)
    rows = family.rows(X)
    x = rows.map(torch.as_tensor)
    seed, device = params.random_state, params.device
    model = build_model(structure, family, x[:2], seed).to(device)
    progress = ProgressBar(disable=True)
    n, lengths = len(X), resolve_lengths(params, len(X))
    net = build_net(params, model, family, n, lengths, 0.0, seed, {}, device, progress)
    x = x.map(lambda field: field.to(device))
    return net.initialize(), TrainingRows(x, family.lengths(rows))


def train(corpus: Corpus, size: dict, seed: int, rule, n_components: int):
    """Train a baseline by the package's net with another encoding rule."""
    X = corpus.train.cpu().numpy()
    params = estimator(
        size, seed, M=None, n_components=n_components, max_epochs=epochs(size, len(X))
    )
    net, rows = untrained(params, X)
    net.rule = rule
    net.partial_fit(rows)
    net.module_.eval()
    return net


def times(net) -> dict:
    """Return the number of steps and the milliseconds of one."""
    epochs = [epoch for epoch in net.history if "dur" in epoch]
    steps = sum(epoch["train_batch_count"] for epoch in epochs)
    return {
        "steps": steps,
        "step_ms": 1_000 * sum(epoch["dur"] for epoch in epochs) / steps,
    }


@torch.no_grad()
def language_log_prob(model, x: Tensor) -> Tensor:
    """Log p(x|0) of rows."""
    z = model.reference.new_zeros(len(x), model.n_components)
    return model.likelihood(z).log_prob(x)


def perplexity(model, x: Tensor) -> float:
    """Perplexity of rows under a language model, per token, end mark included."""
    n_tokens = int((x != PAD).sum())
    return math.exp(-float(language_log_prob(model, x).sum()) / n_tokens)


def matches(x: Tensor, found: Tensor) -> tuple[float, float]:
    """Shares of exactly reconstructed rows and of matching words."""
    words = (x != PAD) & (x != END)
    right = words & (x > END) & (x == found)
    # a sentence is exact if its end is, too
    exact = ((x == found) & (right | ~words)).all(1)
    return float(exact.float().mean()), float(right.sum() / words.sum())


def accuracy(corpus: Corpus, z_train, z_test) -> float:
    """Share of held-out sentences whose review's label is predicted from the code."""
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2_000))
    classifier.fit(z_train, corpus.labels_train)
    return classifier.score(z_test, corpus.labels_test)


def describe(model, corpus: Corpus, separate, H: float, seed: int, noisy=True) -> dict:
    """Return the figures of a trained model with a code.

    Parameters
    ----------
    model : LatentVariableModel
        In evaluation mode.
    corpus : Corpus
        Data.
    separate : LatentVariableModel
        The separate language model.
    H : float
        The language model's held-out NLL.
    seed : int
        Of draws.
    noisy : bool
        Whether codes are draws; False for the plain autoencoder.
    """
    evaluation = Evaluation(model, Amortised(), seed)
    generator = torch.Generator(model.reference.device).manual_seed(seed)

    def noise(x):
        empty = model.reference.new_empty(len(x), evaluation.n_noise)
        return empty.detach().normal_(generator=generator)

    encoders = {"mean": evaluation.mean_codes}
    if noisy:
        encoders["draw"] = lambda x: evaluation.encoded_draws(x, noise(x))
    row = {}
    parts = {"train": corpus.train[: len(corpus.test)], "test": corpus.test}
    for encoder, encode in encoders.items():
        for part, x in parts.items():
            x = x[:N_RECONSTRUCTED]
            exact, words = matches(x, evaluation.decode(encode(x)))
            row[f"exact_{part}_{encoder}"], row[f"words_{part}_{encoder}"] = (
                exact,
                words,
            )
        z_train = encode(corpus.labelled_train).cpu().numpy()
        z_test = encode(corpus.labelled_test).cpu().numpy()
        row[f"sentiment_{encoder}"] = accuracy(corpus, z_train, z_test)
    if not noisy:
        return row
    for part, x in parts.items():
        bound = evaluation.bound(x, noise(x))
        row[f"rate_{part}"] = float(bound.rate.mean())
        row[f"elbo_{part}"] = float(bound.elbo.mean())
    row["rate_test_se"] = float(bound.rate.std() / len(x) ** 0.5)
    log_likelihood = evaluation.log_likelihood(x, N_IMPORTANCE, noise(x))
    row["log_likelihood"] = float(log_likelihood.mean())
    row["above_lm"] = row["log_likelihood"] + H
    codes = encoders["draw"](parts["train"]).double()
    covariance = codes.T.cov()
    row["code_kl"] = 0.5 * float(
        covariance.trace()
        + codes.mean(0).square().sum()
        - codes.shape[1]
        - covariance.logdet()
    )
    samples, _ = evaluation.sample(N_SAMPLED, generator)
    row["perplexity"] = perplexity(separate, samples.values)
    return row


def ends(found: dict) -> tuple[float, float]:
    """Return the ends of a bracket, two standard errors included."""
    return (
        found["lower"] - 2 * found["lower_se"],
        found["upper"] + 2 * found["upper_se"],
    )


def formatted(row: dict) -> dict:
    """Format the numbers of a row for the CSV."""
    return {
        name: f"{value:.6g}" if isinstance(value, float) else value
        for name, value in row.items()
    }
