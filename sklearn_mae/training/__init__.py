"""Training: Algorithm 1 of the paper as a skorch net, its constraints and its end."""

from sklearn_mae.training.alone import Remainder, learn_alone
from sklearn_mae.training.batches import Batches, TrainingRows
from sklearn_mae.training.blocks import FirstBlock, FirstRate, SecondBlock
from sklearn_mae.training.certification import certify, near_enough, settle
from sklearn_mae.training.constraints import (
    Constraint,
    EnumeratedInformation,
    Information,
    Paper,
    Rate,
)
from sklearn_mae.training.guesses import Guesses, class_prior
from sklearn_mae.training.net import FIGURES, MutualAutoencoderNet
from sklearn_mae.training.progress import ProgressBar
from sklearn_mae.training.targets import TargetInformation

__all__ = [
    "FIGURES",
    "Batches",
    "Constraint",
    "EnumeratedInformation",
    "FirstBlock",
    "FirstRate",
    "Guesses",
    "Information",
    "MutualAutoencoderNet",
    "Paper",
    "ProgressBar",
    "Rate",
    "Remainder",
    "SecondBlock",
    "TargetInformation",
    "TrainingRows",
    "certify",
    "class_prior",
    "learn_alone",
    "near_enough",
    "settle",
]
