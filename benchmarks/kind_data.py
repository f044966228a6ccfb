"""Data and adversaries for ``bench_kind.py``."""

import numpy as np
import pandas as pd
from scipy.integrate import quad
from sklearn.datasets import load_digits
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.semi_supervised import LabelSpreading, SelfTrainingClassifier
from sklearn.svm import SVC
from table_data import CENSUS, census_folder

# -- few labels ------------------------------------------------------------------------


def digits_split(seed: int, n_labels: int):
    """Return X, X_test, y, y_test and y with so many labels a class, -1 elsewhere."""
    X, y = load_digits(return_X_y=True)
    X, X_test, y, y_test = train_test_split(
        X, y, test_size=1 / 3, random_state=seed, stratify=y
    )
    rng, known = np.random.default_rng(seed), np.full(len(y), -1)
    for label in range(10):
        rows = rng.choice(np.flatnonzero(y == label), n_labels, replace=False)
        known[rows] = label
    return X, X_test, y, y_test, known


def peers_of_labels(X, y):
    """Yield name, classifier and the rows it learns from, y being -1 of unlabelled."""
    some = X[y >= 0], y[y >= 0]
    yield "logistic", LogisticRegression(max_iter=5000), some
    yield "svc", SVC(), some
    yield "self_trained", SelfTrainingClassifier(SVC(probability=True)), (X, y)
    yield "spreading", LabelSpreading(kernel="knn"), (X, y)


# -- exact cases -----------------------------------------------------------------------


def pairs(n: int, rng, k: int = 3, m: int = 4):
    """Draw x = (y, c), independent and uniform: as strings, and y."""
    y, c = rng.integers(0, k, n), rng.integers(0, m, n)
    return pd.DataFrame({"y": y.astype(str), "c": c.astype(str)}), y


def shifted(n: int, rng, mu: float = 1.0):
    """Draw two classes and x = mu y + noise, y = -1 or 1."""
    y = rng.choice([-1, 1], n)
    return (mu * y + rng.normal(size=n))[:, None], y


def signs(n: int, rng):
    """Draw two numbers; y says whether they have the same sign."""
    X = rng.normal(size=(n, 2))
    return X, np.where(X[:, 0] * X[:, 1] > 0, "same", "other")


def information_of_shift(mu: float) -> float:
    """Return I(x; y) of ``shifted``, by a one-dimensional integral, in nats."""

    def integrand(x):
        log_p = -0.5 * (x - mu) ** 2 - 0.5 * np.log(2 * np.pi)
        return np.exp(log_p) * -np.logaddexp(0, -2 * mu * x)

    return np.log(2) + quad(integrand, mu - 12, mu + 12, limit=400)[0]


def information_of_mixture(means, scales, labels, n_points: int = 20_000) -> float:
    """Return I(z; y) of codes of one component, z ~ N(mean, scale) of a random row.

    By a sum over a grid, in nats.
    """
    reach = 10 * scales.max()
    z = np.linspace(means.min() - reach, means.max() + reach, n_points)
    density = np.zeros((labels.max() + 1, n_points))
    for mean, scale, label in zip(means, scales, labels, strict=True):
        density[label] += np.exp(-0.5 * ((z - mean) / scale) ** 2) / scale
    density /= density.sum() * (z[1] - z[0])
    whole, step = density.sum(0), z[1] - z[0]
    shares = density.sum(1) * step
    inside = density > 0
    ratio = np.zeros_like(density)
    np.log(density, out=ratio, where=inside)
    ratio[inside] -= np.log(np.outer(shares, whole))[inside]
    return float((density * ratio).sum() * step)


# -- census ----------------------------------------------------------------------------


def census_of_all() -> pd.DataFrame:
    """Read both files of the census, rows without "?": 45,222."""
    folder = census_folder()
    options = {"names": CENSUS, "skipinitialspace": True, "na_values": "?"}
    train = pd.read_csv(folder / "adult.data", **options)
    test = pd.read_csv(folder / "adult.test", skiprows=1, **options)
    table = pd.concat([train, test], ignore_index=True).dropna()
    table["income"] = table["income"].str.rstrip(".")
    return table.reset_index(drop=True)


def census_split(seed: int):
    """Return tables without sex and income, sex, and income, to fit on and held out.

    30 % are held out. Amounts of capital are logarithms, as most of them are 0.
    Education is left out where it is named: its number of years says the same.
    """
    table = census_of_all()
    X = table.drop(columns=["fnlwgt", "education", "sex", "income"])
    for name in ("capital_gain", "capital_loss"):
        X[name] = np.log1p(X[name])
    sex, income = table["sex"].to_numpy(str), table["income"].to_numpy(str)
    return train_test_split(
        X, sex, income, test_size=0.3, random_state=seed, stratify=sex
    )


# -- adversaries -----------------------------------------------------------------------


def adversaries(seed: int) -> dict:
    """Return classifiers that are to read a label from codes, by name."""
    return {
        "logistic": make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
        "boosting": HistGradientBoostingClassifier(random_state=seed),
        "neighbours": make_pipeline(StandardScaler(), KNeighborsClassifier(100)),
        "network": make_pipeline(
            StandardScaler(),
            MLPClassifier((64, 64), early_stopping=True, random_state=seed),
        ),
    }


def read_label(model, Z_train, y_train, Z_test, y_test) -> tuple[float, float, float]:
    """Return how much a classifier reads: nats, their standard error, accuracy.

    H(y) + E log c(y|z) on held-out rows, a lower bound on I(z; y).
    """
    model.fit(Z_train, y_train)
    proba = np.clip(model.predict_proba(Z_test), 1e-4, None)
    proba /= proba.sum(1, keepdims=True)
    index = np.searchsorted(model.classes_, y_test)
    shares = np.bincount(index) / len(index)
    terms = np.log(proba[np.arange(len(index)), index]) - np.log(shares[index])
    accuracy = float((proba.argmax(1) == index).mean())
    return float(terms.mean()), float(terms.std() / len(terms) ** 0.5), accuracy
