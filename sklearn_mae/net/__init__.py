"""Training: Algorithm 1 of the paper as a skorch net, and its constraints."""

from sklearn_mae.net.constraints import (
    Listed,
    Paper,
    Rate,
    TwoSided,
    TwoSidedSequences,
)
from sklearn_mae.net.progress import ProgressBar
from sklearn_mae.net.training import (
    FIGURES,
    Batches,
    MutualAutoencoderNet,
    Rows,
)

__all__ = [
    "FIGURES",
    "Batches",
    "Listed",
    "MutualAutoencoderNet",
    "Paper",
    "ProgressBar",
    "Rate",
    "Rows",
    "TwoSided",
    "TwoSidedSequences",
]
