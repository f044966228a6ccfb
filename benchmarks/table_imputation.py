"""Errors and coverage of imputed entries, and scikit-learn's imputers."""

import numpy as np
import pandas as pd
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer
from table_data import numeric_columns


def errors(whole: pd.DataFrame, filled: pd.DataFrame, removed):
    """Return squared errors of numbers in sd^2, and errors of categories as 0 and 1."""
    numeric, squares, wrong = numeric_columns(whole), [], []
    for j, column in enumerate(whole):
        true = whole[column][removed[:, j]].to_numpy()
        found = filled[column][removed[:, j]].to_numpy()
        if column in numeric:
            squares.append(((found - true) / whole[column].std()) ** 2)
        else:
            wrong.append((found != true).astype(float))
    return tuple(np.concatenate(each or [[]]) for each in (squares, wrong))


def coverage(whole: pd.DataFrame, draws: list[pd.DataFrame], removed) -> float:
    """Return the share of numbers within the 5th and 96th of 100 ordered draws.

    A number from the same distribution lies there with probability 91 / 101.
    """
    numeric = numeric_columns(whole)
    chosen = removed[:, whole.columns.isin(numeric)]
    ordered = np.sort([draw[numeric].to_numpy(float)[chosen] for draw in draws], axis=0)
    true = whole[numeric].to_numpy(float)[chosen]
    return float(((ordered[4] <= true) & (true <= ordered[95])).mean())


def filled_by_peer(peer: str, table: pd.DataFrame) -> pd.DataFrame:
    """Fill by scikit-learn: numbers standardised, categories one-hot.

    Each column's first category is left out: regressed on the indicators of all others,
    which are missing with it, each indicator would keep its mean.
    """
    numeric = numeric_columns(table)
    mean, std = table[numeric].mean(), table[numeric].std()
    encoded = (table[numeric] - mean) / std
    categories = {k: pd.unique(table[k].dropna()) for k in table if k not in numeric}
    for column, (_, *others) in categories.items():
        there = table[column].notna()
        for value in others:
            one_hot = (table[column] == value).astype(float).where(there)
            encoded[column, value] = one_hot
    imputer = {
        "IterativeImputer": IterativeImputer(random_state=0),
        "KNNImputer": KNNImputer(),
        "means": SimpleImputer(),
    }[peer]
    values = imputer.fit_transform(encoded.to_numpy())
    filled = pd.DataFrame(values[:, : len(numeric)], columns=numeric) * std + mean
    at = len(numeric)
    for column, outcomes in categories.items():
        others = values[:, at : at + len(outcomes) - 1]
        scores = np.column_stack([1 - others.sum(1), others])
        filled[column] = np.asarray(outcomes)[scores.argmax(1)]
        at += len(outcomes) - 1
    return filled
