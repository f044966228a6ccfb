"""Representations whose information you choose: the mutual autoencoder.

Public modules: ``sklearn_mae``, ``sklearn_mae.datasets`` and ``sklearn_mae.plotting``,
each with the names of its ``__all__``. All other modules are internal.
"""

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

from sklearn_mae.estimator import MutualAutoencoder
from sklearn_mae.path import InformationReport, information_path, information_report
from sklearn_mae.scoring import information_scorer
from sklearn_mae.text import SequenceVectorizer

if TYPE_CHECKING:
    from sklearn_mae import datasets, plotting

__version__ = "0.2.0.dev0"

__all__ = [
    "InformationReport",
    "MutualAutoencoder",
    "SequenceVectorizer",
    "datasets",
    "information_path",
    "information_report",
    "information_scorer",
    "plotting",
]


def __getattr__(name: str) -> ModuleType:
    """Import a public module at its first use, because few programs need it."""
    if name in __all__:  # only modules: all other names are imported above
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
