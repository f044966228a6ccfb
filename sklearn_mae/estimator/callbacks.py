"""Which callbacks ``fit`` takes, and copies of them for the training."""

import inspect
import reprlib

from sklearn.base import clone
from skorch.callbacks import (
    Callback,
    EarlyStopping,
    EpochTimer,
    GradientNormClipping,
    PassthroughScoring,
    PrintLog,
    ProgressBar,
)

__all__ = ["cloned_callbacks"]

# of skorch's own
TAKEN = (
    EarlyStopping,
    EpochTimer,
    GradientNormClipping,
    PassthroughScoring,
    PrintLog,
    ProgressBar,
)
SCORING = (
    "There is no validation split and no y. Watch a name in history_, for example by "
    "EarlyStopping(monitor='elbo', lower_is_better=False), or score fitted estimators "
    "by cross_validate with information_scorer."
)
SAVING = (
    "Save the fitted estimator instead, for example by joblib.dump, and go on from it "
    "with warm_start=True. EarlyStopping(load_best=True) ends with the best weights."
)
PARAMETERS = (
    "Pass encoder or likelihood as a callable that initialises its module, and calls "
    "requires_grad_(False) on what is to stay as it is."
)
LOGGING = "Log history_ after fit, or from a callback of your own."
# what to do instead of what the rest of them do
INSTEAD = {
    "BatchScoring": SCORING,
    "EpochScoring": SCORING,
    "Checkpoint": SAVING,
    "LoadInitState": SAVING,
    "TrainEndCheckpoint": SAVING,
    "Freezer": PARAMETERS,
    "Initializer": PARAMETERS,
    "ParamMapper": PARAMETERS,
    "Unfreezer": PARAMETERS,
    "InputShapeSetter": "The sizes of the networks follow from X: leave it out.",
    "LRScheduler": (
        "The rate has a schedule of its own, see the parameter lr: set lr, max_epochs."
    ),
}


def cloned_callbacks(callbacks: list | None) -> list:
    """Return copies of callbacks, or refuse those that do not work here.

    Parameters
    ----------
    callbacks : list or None
        Callbacks, or pairs of a name and a callback.

    Returns
    -------
    list
        The same, cloned.

    Raises
    ------
    TypeError
        If an entry is no callback, or cannot be cloned.
    ValueError
        If it is one of skorch's own that does not work here.
    """
    return [_cloned(f"callbacks[{i}]", each) for i, each in enumerate(callbacks or [])]


def _cloned(where: str, entry):
    pair = isinstance(entry, tuple) and len(entry) == 2 and isinstance(entry[0], str)
    callback = entry[1] if pair else entry
    if not isinstance(callback, Callback):
        hint = ", a class: call it" if inspect.isclass(callback) else ""
        raise TypeError(
            f"{where} is {reprlib.repr(entry)} of type {type(entry).__name__}{hint}. "
            "Pass instances of skorch.callbacks.Callback, or pairs of a name and one."
        )
    _check(where, callback)
    try:
        copied = clone(callback)
    except Exception as error:
        raise TypeError(
            f"{where}, a {type(callback).__name__}, cannot be cloned, as fit does to "
            "leave it as it is: its __init__ must keep each of its parameters as an "
            f"attribute of the same name, unchanged. {type(error).__name__}: {error}"
        ) from error
    return (entry[0], copied) if pair else copied


def _check(where: str, callback: Callback) -> None:
    """Refuse skorch's own that do not work here, and what inherits its hooks."""
    kind = type(callback)
    base = next(c for c in kind.__mro__ if c.__module__.split(".")[0] == "skorch")
    hooks = [name for name in dir(Callback) if name.startswith("on_")]
    inherited = any(
        getattr(kind, name) is getattr(base, name) is not getattr(Callback, name)
        for name in hooks
    )
    instead = ""
    if isinstance(callback, PassthroughScoring) and not callback.on_train:
        instead = "There is no validation split: pass on_train=True."
    elif base is not Callback and base not in TAKEN and inherited:
        instead = INSTEAD.get(base.__name__, LOGGING)
    if instead:
        names = ", ".join(each.__name__ for each in TAKEN)
        raise ValueError(
            f"{where} is a {kind.__name__}, and skorch's {base.__name__} does not work "
            f"here as it is. {instead} Of skorch's own these do: {names}; and so do "
            "callbacks of your own."
        )
