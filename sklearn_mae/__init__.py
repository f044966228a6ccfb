"""Representations whose information you choose: the mutual autoencoder."""

from sklearn_mae.estimator import MutualAutoencoder
from sklearn_mae.path import information_path, information_report
from sklearn_mae.scoring import information_scorer
from sklearn_mae.text import SequenceVectorizer

__version__ = "0.2.0.dev0"

__all__ = [
    "MutualAutoencoder",
    "SequenceVectorizer",
    "information_path",
    "information_report",
    "information_scorer",
]
