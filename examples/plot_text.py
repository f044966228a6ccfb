"""
Sentences: from a language model to an autoencoder
==================================================

A recurrent decoder models sentences well without a code. In a variational autoencoder
it ignores the code, so that its "reconstructions" are samples of a language model. With
a target of M nats the code holds that much of the sentence: enough for a paraphrase at
a few nats, and for the sentence itself at its entropy (Fig. 3 and Tables 1 and 2 of the
paper).

By default the sentences come from a small grammar. With a path the script reads others:
a text file with a sentence in each line, a tab-separated file with a header and a
column ``sentence`` (either may be gzipped), or the archive or folder of the Large Movie
Review Dataset. Those need more time and more nats.

``SKLEARN_MAE_FAST=1`` trains for fewer steps, to check that everything works: ``fit``
then warns that M was missed.
"""

# %%
# Sentences; a tenth of them is held out.

import gzip
import os
import sys
from pathlib import Path

import matplotlib
import numpy as np
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline

from sklearn_mae import MutualAutoencoder, SequenceVectorizer
from sklearn_mae.datasets import fetch_imdb_sentences, make_sentences

matplotlib.use("Agg")
import matplotlib.pyplot as plt

FAST = bool(os.environ.get("SKLEARN_MAE_FAST"))
MAX_TOKENS = 8


def sentences_of(path: Path) -> list[str]:
    """Read the sentences of a file, an archive or a folder."""
    if path.is_dir() or path.name.endswith(".tar.gz"):
        return fetch_imdb_sentences(path=path).data
    with (gzip.open if path.suffix == ".gz" else open)(
        path, "rt", encoding="utf8"
    ) as f:
        lines = [line.rstrip("\n").split("\t") for line in f]
    column = 0
    if "sentence" in lines[0]:
        column = lines.pop(0).index("sentence")
    return [line[column] for line in lines]


if len(sys.argv) > 1:
    texts = sentences_of(Path(sys.argv[1]))
    texts = [text for text in texts if 0 < len(text.split()) <= MAX_TOKENS]
    rng = np.random.default_rng(0)
    texts = [texts[i] for i in rng.permutation(len(texts))[:80_000]]
    words = {"min_df": 5, "tokenizer": str.split}
    network = {"n_components": 8, "hidden_layer_sizes": (64, 128)}
    targets, steps, several = [None, 2.5, 5, 10], 8_000, 10
else:
    texts = make_sentences(2_000, n_words=1, random_state=0).data
    words = {}
    network = {"n_components": 4, "hidden_layer_sizes": (32, 32)}
    targets, steps, several = [None, 2, 3], 800, 3
if FAST:
    texts, targets, steps = texts[:500], [None, several], 30
    network = {"n_components": 4, "hidden_layer_sizes": (16, 16)}
train, test = train_test_split(texts, test_size=0.1, random_state=0)

# %%
# One pipeline for each M: a vectorizer and an autoencoder.

BATCH_SIZE = 32
epochs = max(1, round(steps * BATCH_SIZE / len(train)))
pipelines = {}
for M in targets:
    pipeline = make_pipeline(
        SequenceVectorizer(**words),
        MutualAutoencoder(
            M=M,
            likelihood="sequence",
            encoder="gaussian",
            batch_size=BATCH_SIZE,
            lr=4e-3,
            max_epochs=epochs,
            random_state=0,
            **network,
        ),
    )
    pipeline.fit(train)
    low, high = pipeline[-1].mutual_info_interval_
    print(f"M = {M}: I(x, z) in [{low:.2f}, {high:.2f}] nats", flush=True)
    pipelines[M] = pipeline

# %%
# Fig. 3: reconstructions from mean codes. Words are compared position by position;
# unknown words (number 1) count as wrong; the end mark (2) is no word.


def matches(pipeline, texts):
    """Return the shares of exactly reconstructed sentences and of matching words."""
    vectorizer, mae = pipeline
    X = vectorizer.transform(texts)
    right = mae.reconstruct(X) == X
    known, word = X > 2, (X > 2) | (X == 1)
    exact = (right & ((X != 1) | ~word)).all(axis=1)
    return exact.mean(), (right & known).sum() / word.sum()


figure, ax = plt.subplots(figsize=(6, 4), layout="constrained")
information = [pipeline[-1].mutual_info_ for pipeline in pipelines.values()]
for label, part, style in (("training", train[:1_000], "--"), ("new", test, "-")):
    shares = np.array([matches(pipeline, part) for pipeline in pipelines.values()])
    for name, column, colour in (
        ("matching words", shares[:, 1], "C0"),
        ("exact sentences", shares[:, 0], "C1"),
    ):
        ax.plot(
            information,
            column,
            style,
            color=colour,
            marker="o" if label == "new" else None,
            label=f"{name}, {label}",
        )
ax.set(xlabel="I(x, z) / nats", ylabel="share reconstructed", ylim=(0, 1))
ax.legend()
figure.savefig("text.png", dpi=110)
print("Wrote text.png\n")

# %%
# Table 1: a new sentence, decoded from three draws of its code. Decoding is greedy, so
# codes without information all give the same sentence.

sentence = max(test[:20], key=len)
print(f"{'input':>8}  {sentence}")
for M, pipeline in pipelines.items():
    vectorizer, mae = pipeline
    draws = mae.reconstruct(vectorizer.transform([sentence]), 3, random_state=0)
    print(f"{'VAE' if M is None else f'M = {M:g}':>8}  ", end="")
    print("\n          ".join(vectorizer.inverse_transform(draws)[:, 0]))

# %%
# Table 2: from one sentence to another, on the line between their mean codes.

vectorizer, mae = pipelines[several]
ends = sorted(test[:20], key=len)[-1], sorted(test[:20], key=len)[0]
path = mae.interpolate(*(vectorizer.transform([end]) for end in ends), n_steps=8)
print(f"\nM = {several:g}, from {ends[0]!r} to {ends[1]!r}:")
print("\n".join(vectorizer.inverse_transform(path)[:, 0]))
