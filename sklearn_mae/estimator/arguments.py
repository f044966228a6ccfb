"""What a method's arguments must be, and arrays to tensors and back."""

import numpy as np
import torch
from sklearn.utils import check_array, check_random_state
from sklearn.utils._param_validation import validate_parameter_constraints

from sklearn_mae.estimator.callbacks import cloned_callbacks
from sklearn_mae.estimator.inputs import as_table
from sklearn_mae.parameters import plain_number

__all__ = [
    "MAX_SEED",
    "as_tensor",
    "as_type",
    "check_count",
    "check_pair",
    "check_parameters",
    "check_tolerance",
    "checked_codes",
    "plain_parameters",
    "seed_from",
    "to_numpy",
]

MAX_SEED = np.iinfo(np.int32).max
# more rows or draws than any memory holds: torch would overflow instead of saying so
MAX_COUNT = 2**40
# codes are about standard normal: beyond this, squares of figures leave float64
MAX_CODE = 1e100


def plain_parameters(estimator) -> dict:
    """Return an estimator's parameters, numbers as Python's own, callbacks cloned.

    Numbers of numpy overflow (``np.uint8(200) + np.uint8(100)`` is 44), and torch takes
    some of them only.

    Raises
    ------
    TypeError, ValueError
        If a size is none, or beyond all memory, or a callback does not work here.
    """
    # not get_params: a subclass may fix some of them in its own __init__
    params = {
        name: plain_number(getattr(estimator, name))
        for name in estimator._parameter_constraints
    }
    for name in ("n_components", "n_resamples"):
        check_count(name, params[name], 1)
    params["callbacks"] = cloned_callbacks(params["callbacks"])
    params["hidden_layer_sizes"] = _layer_sizes(params["hidden_layer_sizes"])
    return params


def _layer_sizes(sizes) -> tuple[int, ...]:
    try:
        given = [plain_number(size) for size in sizes]
        as_ints = tuple(int(size) for size in given)
        valid = all(
            a == b and a > 0 and not isinstance(b, bool)
            for a, b in zip(as_ints, given, strict=True)
        )
    except (TypeError, ValueError, OverflowError):
        valid = False
    if not valid:
        raise ValueError(
            f"hidden_layer_sizes={sizes!r} is not a sequence of positive integers. "
            "Pass one number for each hidden layer, for example (128, 128)."
        )
    for size in as_ints:
        check_count("hidden_layer_sizes: a layer's size", size, 1)
    return as_ints


def check_parameters(estimator, *names: str) -> None:
    """Refuse parameters that are read after ``fit`` and were set since.

    Raises
    ------
    ValueError
        If one of them has a value that ``fit`` would refuse.
    """
    validate_parameter_constraints(
        estimator._parameter_constraints,
        {name: getattr(estimator, name) for name in names},
        caller_name=type(estimator).__name__,
    )


def check_count(name: str, value, least: int) -> int:
    """Return an int, or refuse what is no integer of at least so much."""
    number = plain_number(value)
    if isinstance(number, bool) or not isinstance(number, int) or number < least:
        raise ValueError(
            f"{name}={value!r} is not an integer of at least {least}. Pass one, for "
            f"example {max(least, 10)}."
        )
    if number > MAX_COUNT:
        raise ValueError(
            f"{name}={value!r} is more than any memory holds. Pass a smaller one."
        )
    return number


def check_tolerance(tol) -> float:
    """Return a width in nats as a float, or refuse it."""
    number = plain_number(tol)
    positive = isinstance(number, int | float) and number > 0
    if isinstance(number, bool) or not positive:
        raise ValueError(
            f"tol={tol!r} is not a positive number of nats. Pass for example 0.1."
        )
    return number


def seed_from(random_state) -> int:
    """Return a seed drawn from what scikit-learn takes for `random_state`."""
    try:
        return int(check_random_state(random_state).randint(MAX_SEED))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"random_state={random_state!r} is no source of random numbers. Pass an "
            f"integer from 0 to 2**32 - 1, a numpy.random.RandomState or None. {error}"
        ) from error


def check_pair(X: np.ndarray, Z: np.ndarray) -> None:
    """Refuse codes that are not one for each row."""
    if X.shape[0] != len(Z):
        raise ValueError(
            f"X has {X.shape[0]} rows and Z {len(Z)}; pass one code for each row."
        )


def checked_codes(Z, n_components: int) -> np.ndarray:
    """Return codes as an array of shape (n, n_components), or refuse them."""
    Z = as_table(Z, "Z")
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
    far = abs(Z) > MAX_CODE
    if far.any():
        row, column = np.argwhere(far)[0]
        raise ValueError(
            f"Z holds {float(Z[row, column])!r} in row {row}, column {column}. Codes "
            f"are about standard normal, and beyond {MAX_CODE:g} their figures leave "
            "the range of float64. Pass codes as transform returns them."
        )
    return Z


def as_tensor(array: np.ndarray, dtype, device) -> torch.Tensor:
    """Copy, so that torch never writes to the user's array; integers, marks stay."""
    kept = {np.dtype(np.int64): torch.int64, np.dtype(bool): torch.bool}
    return torch.tensor(array, dtype=kept.get(array.dtype, dtype), device=device)


def as_type(array: np.ndarray, dtype) -> np.ndarray:
    """Return codes or values of rows in the rows' own type, if it can hold them."""
    with np.errstate(over="ignore"):
        figures = array.astype(dtype, copy=False)
    if np.isinf(figures).any():  # (what is missing may be NaN)
        row = np.argwhere(np.isinf(figures))[0, -2]
        raise ValueError(
            f"Results of row {row} leave the range of {figures.dtype}: it lies too far "
            "from the rows of fit, or the mean of the likelihood's Distribution is not "
            "finite there. Pass rows as float64, or leave it out."
        )
    return figures


def to_numpy(tensor: torch.Tensor) -> np.ndarray:
    """Return an array on the CPU."""
    return tensor.cpu().numpy()
