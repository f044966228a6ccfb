"""Figures of ``bench_representations.py``: accuracies, choices, comparisons."""

import math

import numpy as np
import pandas as pd
from representation_data import TEST, VALIDATION, Split, few
from scipy import stats
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

LABELS = ("all", "20", "5", "1")
# draws of the labelled rows, where there are few
REPEATS = 5
CLASSIFIERS = {"logistic": LABELS, "knn": LABELS, "boosting": ("all",)}
COLUMNS = [
    f"{classifier}_{labels}_{part}"
    for classifier, several in CLASSIFIERS.items()
    for labels in several
    for part in ("validation", "test")
]
# what identifies a comparison of two representations
PLACE = ["data", "n_components", "classifier", "labels"]
# new rows per training row, in the corrected test
RATIO = TEST / ((1 - TEST) * (1 - VALIDATION))


def classifier_of(name: str, labels: str):
    """Return an untrained classifier."""
    if name == "logistic":
        return LogisticRegression(max_iter=1_000)
    if name == "knn":
        return KNeighborsClassifier(1 if labels == "1" else 5)
    return HistGradientBoostingClassifier(
        max_iter=20, max_leaf_nodes=15, early_stopping=False, random_state=0
    )


def accuracies(codes: list[np.ndarray], rows: Split, scaled: bool, trees: bool) -> dict:
    """Return accuracies of all classifiers with all numbers of labels.

    Parameters
    ----------
    codes : list of ndarray
        Of the rows for training, validation and test.
    rows : Split
        Their classes.
    scaled : bool
        Whether each component is divided by its standard deviation.
    trees : bool
        Whether trees are grown, too, which heed no scale.
    """
    if scaled:
        scaler = StandardScaler().fit(codes[0])
        codes = [scaler.transform(part) for part in codes]
    found = {}
    for name, several in CLASSIFIERS.items():
        if name == "boosting" and not trees:
            continue
        for labels in several:
            repeats = 1 if labels == "all" else REPEATS
            hits = []
            for seed in range(repeats):
                chosen = (
                    np.arange(len(codes[0]))
                    if labels == "all"
                    else few(rows.y_train, int(labels), seed)
                )
                model = classifier_of(name, labels)
                model.fit(codes[0][chosen], rows.y_train[chosen])
                hits.append(
                    [
                        model.score(codes[1], rows.y_validation),
                        model.score(codes[2], rows.y_test),
                    ]
                )
            for part, hit in zip(
                ("validation", "test"), np.mean(hits, axis=0), strict=True
            ):
                found[f"{name}_{labels}_{part}"] = f"{hit:.4f}"
    return found


def long(rows: list[dict]) -> pd.DataFrame:
    """Return a row for each representation, classifier and number of labels."""
    table = pd.DataFrame(rows)
    keys = ["data", "seed", "n_components", "method", "parameter", "codes", "scaling"]
    parts = []
    for classifier, several in CLASSIFIERS.items():
        for labels in several:
            part = table[keys].assign(classifier=classifier, labels=labels)
            for name in ("validation", "test"):
                column = table[f"{classifier}_{labels}_{name}"]
                part[name] = pd.to_numeric(column, errors="coerce")
            parts.append(part.dropna(subset=["validation"]))
    whole = pd.concat(parts, ignore_index=True)
    whole["n_components"] = whole["n_components"].astype(int)
    whole["seed"] = whole["seed"].astype(int)
    return whole


def chosen(table: pd.DataFrame) -> pd.DataFrame:
    """Keep in each place and seed the first row of the best validation accuracy."""
    best = table.groupby([*PLACE, "seed"], sort=False)["validation"].idxmax()
    return table.loc[best]


def corrected_t(differences: np.ndarray, ratio: float = RATIO) -> tuple[float, float]:
    """Compare means over overlapping splits (Nadeau and Bengio, 2003).

    Parameters
    ----------
    differences : ndarray of shape (n_splits,)
        Of accuracies on the same test rows.
    ratio : float
        Test rows per training row.

    Returns
    -------
    se, p : float
        Corrected standard error, and two-sided probability under no difference.
    """
    n = len(differences)
    se = math.sqrt((1 / n + ratio) * np.var(differences, ddof=1))
    if se == 0:
        return 0.0, float(np.mean(differences) == 0)
    return se, float(2 * stats.t.sf(abs(np.mean(differences)) / se, n - 1))


def holm(p: np.ndarray) -> np.ndarray:
    """Adjust probabilities for their number (Holm, 1979)."""
    order = np.argsort(p)
    steps = (len(p) - np.arange(len(p))) * p[order]
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(steps))
    return adjusted


def compared(ours: pd.DataFrame, others: pd.DataFrame) -> pd.DataFrame:
    """Compare the chosen rows of two sides in each place, seed by seed.

    Returns
    -------
    DataFrame
        A row for each place that both sides have with at least two seeds: both means,
        mean difference, its plain paired standard error ``paired_se`` and the corrected
        one ``se``, ``p`` and Holm's ``p_holm`` over all tables and sizes of the same
        classifier and number of labels, which methods the other side chose.
    """
    both = chosen(ours).merge(chosen(others), on=[*PLACE, "seed"], suffixes=("", "_"))
    rows = []
    for place, part in both.groupby(PLACE, sort=False):
        if len(part) > 1:
            difference = (part["test"] - part["test_"]).to_numpy()
            se, p = corrected_t(difference)
            rows.append(
                {
                    **dict(zip(PLACE, place, strict=True)),
                    "seeds": len(part),
                    "ours": part["test"].mean(),
                    "other": part["test_"].mean(),
                    "difference": difference.mean(),
                    "paired_se": difference.std(ddof=1) / len(part) ** 0.5,
                    "se": se,
                    "p": p,
                    "chosen": " ".join(part["parameter"]),
                    "chosen_other": ", ".join(dict.fromkeys(part["method_"])),
                }
            )
    table = pd.DataFrame(rows)
    if len(table):
        families = table.groupby(["classifier", "labels"], sort=False)["p"]
        table["p_holm"] = families.transform(lambda p: holm(p.to_numpy()))
    return table
