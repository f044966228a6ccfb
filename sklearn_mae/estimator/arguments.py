"""What a method's arguments must be, and arrays to tensors and back."""

import warnings
from numbers import Integral

import numpy as np
import torch
from sklearn.utils import check_array

from sklearn_mae.columns import look_like_sequences

__all__ = [
    "as_tensor",
    "check_count",
    "checked_codes",
    "text_problem",
    "to_numpy",
    "warn_of_word_numbers",
]


def check_count(name: str, value, least: int) -> None:
    """Refuse what is no integer of at least so much."""
    if not isinstance(value, Integral) or value < least:
        raise ValueError(
            f"{name}={value!r} is not an integer of at least {least}. Pass a larger "
            "one."
        )


def checked_codes(Z, n_components: int) -> np.ndarray:
    """Return codes as an array of shape (n, n_components), or refuse them."""
    if isinstance(Z, torch.Tensor):
        Z = to_numpy(Z.detach())
    if getattr(Z, "ndim", 2) == 3:
        raise ValueError(
            f"Codes have shape {Z.shape}, three dimensions. Pass some of shape "
            f"(n_samples, {n_components}): several draws one after the other. "
            "reconstruct(X, n_samples=...) decodes draws for rows."
        )
    Z = check_array(Z, dtype=[np.float64, np.float32], order="C", input_name="Z")
    if Z.shape[1] != n_components:
        raise ValueError(
            f"Codes have {Z.shape[1]} columns, but this MutualAutoencoder was "
            f"fitted with n_components={n_components}. Pass codes as transform "
            "returns them."
        )
    return Z


def text_problem(X, in_tables: bool = False) -> str | None:
    """Say what to do with texts, or return None for anything else.

    Texts in the cells of a table, or words in lists, count only if asked for.
    """
    if in_tables and hasattr(X, "to_numpy"):
        X = X.to_numpy()
    if in_tables and isinstance(X, np.ndarray):
        X = X.ravel()
    if in_tables and isinstance(X, list | tuple):
        X = [cell for row in X for cell in (row if isinstance(row, list) else [row])]
    rows = [X] if isinstance(X, str | bytes) else X
    if not isinstance(rows, list | tuple) and getattr(X, "ndim", None) != 1:
        return None
    if not any(isinstance(row, str | bytes) for row in rows):
        return None
    return (
        "X holds texts, and MutualAutoencoder takes numbers. Put "
        "SequenceVectorizer() in front, as in make_pipeline(SequenceVectorizer(), "
        "MutualAutoencoder(likelihood='sequence')), and give that the texts, one by "
        "one: a list, or one column of a frame. If it stands there already, this step "
        "of the pipeline takes pipeline[:-1].transform(texts)."
    )


def warn_of_word_numbers(X: np.ndarray, likelihood) -> None:
    """Say so where rows of words are about to be taken for something else."""
    if likelihood != "sequence" and look_like_sequences(X):
        warnings.warn(
            "The rows of X look like word numbers of SequenceVectorizer, and "
            f"likelihood={likelihood!r} takes them for measurements. For texts set "
            "likelihood='sequence'.",
            UserWarning,
            stacklevel=4,
        )


def as_tensor(array: np.ndarray, dtype, device) -> torch.Tensor:
    """Copy, so that torch never writes to the user's array; categories stay int."""
    dtype = torch.int64 if array.dtype == np.int64 else dtype
    return torch.tensor(array, dtype=dtype, device=device)


def to_numpy(tensor: torch.Tensor) -> np.ndarray:
    """Return an array on the CPU."""
    return tensor.cpu().numpy()
