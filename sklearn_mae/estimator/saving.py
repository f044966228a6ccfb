"""The fitted record as numpy arrays and plain values, and back.

What is written: dicts, lists, numbers, strings, arrays, and the factories of a user's
modules. Networks are built anew on loading, a user's by the factory that ``fit``
called, with its sizes and its seed; then they get their weights back. A file may come
from anybody: nothing in it is believed before its type, size and name are checked.
"""

import copy
import dataclasses
import itertools
import sys
import warnings

import numpy as np
import torch
from torch import Tensor, nn

from sklearn_mae.columns import Columns
from sklearn_mae.estimator.arguments import MAX_SEED
from sklearn_mae.estimator.fitted import Fitted
from sklearn_mae.estimator.parts import (
    ENCODERS,
    build_model,
    build_rule,
    torch_device,
)
from sklearn_mae.estimator.targets import TARGETS, Target, of_blocks
from sklearn_mae.families import (
    COLUMN_FAMILIES,
    TABLE_FAMILIES,
    RowFamily,
    Structure,
    likelihood_names,
    row_family,
)
from sklearn_mae.model import (
    ACTIVATIONS,
    LatentVariableModel,
    draw,
    private_random,
)
from sklearn_mae.records import count, entries, names, need, number
from sklearn_mae.training import FIGURES, MutualAutoencoderNet

__all__ = ["from_record", "readable_state", "to_record", "written_state"]

VERSION = "_sklearn_mae_version"
ENTRIES = (
    "structure",
    "n_resamples",
    "holds_decoder",
    "build_seed",
    "seed",
    "device",
    "family",
    "weights",
    "constraints",
    "history",
    "n_features",
    "feature_names",
    "columns",
    "mutual_info",
    "mutual_info_interval",
    "rate",
    "rate_se",
    "target",
    "target_mutual_info",
    "target_mutual_info_interval",
)
# on which a user's module shows that it comes back
N_PROBES = 16


# -- an estimator's state --------------------------------------------------------------


def written_state(state: dict) -> dict:
    """Return what to write of an estimator's attributes."""
    state = {**state, VERSION: _version()}
    fitted = state.pop("_fitted", None)
    if fitted is not None:
        state["_fitted"] = to_record(fitted)
    return state


def readable_state(state: dict, names: set[str]) -> dict:
    """Return the attributes of an estimator that were written, or refuse them.

    Parameters
    ----------
    state : dict
        What ``written_state`` returned.
    names : set of str
        Names that only a record may hold.
    """
    need(type(state) is dict and all(type(k) is str for k in state), "state", state)
    state = dict(state)
    written = state.pop(VERSION, None)
    if "_fitted" not in state and not names.isdisjoint(state):
        raise ValueError(
            f"This MutualAutoencoder was saved by sklearn_mae {written}, in a form "
            f"that {_version()} does not read. Fit it again, or load it with the "
            "version that saved it."
        )
    if written != _version():
        warnings.warn(
            f"This MutualAutoencoder was saved by sklearn_mae {written} and is "
            f"loaded by {_version()}: figures may differ or methods fail. Load it "
            "with the version that saved it, or fit again.",
            UserWarning,
            stacklevel=3,
        )
    if "_fitted" in state:
        state["_fitted"] = from_record(state["_fitted"])
    return state


def _version() -> str:
    # the package's own name stands above this file: look, do not import
    return sys.modules["sklearn_mae"].__version__


# -- writing ---------------------------------------------------------------------------


def to_record(fitted: Fitted) -> dict:
    """Return a fitted record as arrays and plain values.

    Raises
    ------
    ValueError
        If a user's module cannot be brought back from its state.
    """
    structure = fitted.structure
    names = fitted.feature_names_in_
    record = {
        "structure": {
            field.name: getattr(structure, field.name)
            for field in dataclasses.fields(structure)
        },
        "n_resamples": fitted.net_.rule.n_draws,
        "holds_decoder": fitted.net_.holds_decoder,
        "build_seed": fitted.build_seed,
        "seed": fitted.seed,
        "device": str(fitted.model.reference.device),
        "family": fitted.family.write(),
        "weights": _weights(fitted),
        "constraints": {k: dict(v) for k, v in fitted.constraints.items()},
        "history": dict(fitted.history_),
        "n_features": fitted.n_features_in_,
        "feature_names": None if names is None else list(map(str, names)),
        "columns": None if fitted.columns is None else fitted.columns.write(),
        "mutual_info": fitted.mutual_info_,
        "mutual_info_interval": list(fitted.mutual_info_interval_),
        "rate": fitted.rate_,
        "rate_se": fitted.rate_se,
        "target": None if fitted.target is None else fitted.target.write(),
        "target_mutual_info": _plain(fitted.target_mutual_info_),
        "target_mutual_info_interval": _plain(fitted.target_mutual_info_interval_),
    }
    if structure.user_supplied:
        _check_comes_back(fitted, record["weights"])
    return record


def _plain(found):
    """Return figures of blocks as dicts, and intervals as lists."""
    if isinstance(found, dict):
        return {name: _plain(value) for name, value in found.items()}
    return list(found) if isinstance(found, tuple) else found


def _weights(fitted: Fitted) -> dict[str, np.ndarray]:
    weights = {}
    for name, value in fitted.model.state_dict().items():
        try:
            weights[name] = value.numpy(force=True)
        except (AttributeError, TypeError, ValueError, RuntimeError) as error:
            part = name.partition(".")[0]
            reason = f"its state_dict holds {name!r}, which no array can ({error})"
            raise _lossy(fitted, part, reason) from error
    return weights


def _check_comes_back(fitted: Fitted, weights: dict) -> None:
    """Refuse to save a user's module that is not what its state says."""
    structure, live = fitted.structure, copy.deepcopy(fitted.model).double().eval()
    names = structure.user_supplied
    try:
        twin = build_model(
            structure, fitted.family, None, fitted.build_seed, fitted.target
        )
        _load(twin, weights)
    except Exception as error:
        reason = f"building it again fails ({_one_line(error)})"
        raise _lossy(fitted, " or ".join(names), reason) from error
    twin = twin.to(live.reference.device).double().eval()
    rows, codes = _probes(live, fitted.seed)
    for name in names:
        expected = _log_probs(live, name, rows, codes, fitted.seed)
        try:
            found = _log_probs(twin, name, rows, codes, fitted.seed)
            same = torch.allclose(found, expected, 1e-9, 1e-9, equal_nan=True)
        except Exception:  # torch's Distributions refuse NaN, for example
            same = False
        if not same:
            reason = "built again with all that its state_dict holds, it differs"
            raise _lossy(fitted, name, reason)


@torch.no_grad()
def _probes(model: LatentVariableModel, seed: int) -> tuple[Tensor, tuple]:
    """Draw a few rows, their codes from the model and others from the encoder."""
    generator = model.generator(seed)
    z = model.stratified_codes(N_PROBES, generator)
    x = draw(model.rows(z, generator), (), generator, reparametrised=False)
    return x, (z, draw(model.q(x), (), generator, reparametrised=False))


@torch.no_grad()
def _log_probs(model: LatentVariableModel, part: str, x, codes, seed: int) -> Tensor:
    """Log-densities of one part, which may draw from torch's global generator."""
    z, other = codes
    with private_random(seed):
        return (
            model.log_lik(x, z) if part == "likelihood" else model.q(x).log_prob(other)
        )


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _lossy(fitted: Fitted, part: str, reason: str) -> ValueError:
    factory = getattr(fitted.structure, part, None)
    module = getattr(getattr(fitted.model, part, None), "module", None)
    return ValueError(
        f"This MutualAutoencoder cannot be saved: {part}={factory!r} built a "
        f"{type(module).__name__}, and {reason}. Keep what it learns in parameters or "
        "buffers (register_buffer), and let its outputs depend on nothing else."
    )


# -- reading ---------------------------------------------------------------------------


def from_record(record: dict) -> Fitted:
    """Build a fitted record from what ``to_record`` returned.

    Raises
    ------
    ValueError
        If it is not that.

    Warns
    -----
    UserWarning
        If the device of the fit is not there; the networks are on the CPU then.
    """
    record = entries(record, ENTRIES, "record")
    structure = _structure(record["structure"])
    n_features = count(record["n_features"], "n_features")
    family = row_family(structure.likelihood)
    family.read(record["family"], structure, n_features)
    rule = build_rule(structure.encoder, count(record["n_resamples"], "n_resamples"))
    build_seed = _seed(record["build_seed"], "build_seed")
    target = _target(record["target"], structure, family)
    model = _model(record["weights"], structure, family, build_seed, target)
    device = _device_that_is_there(record["device"])
    held = record["holds_decoder"]
    may_hold = type(held) is bool and (not held or family.schedule.alone > 0)
    need(may_hold, "holds_decoder", held)
    net = MutualAutoencoderNet(
        model.to(device),
        rule=rule,
        generator=None,
        holds_decoder=held,
        user_supplied=bool(structure.user_supplied),
        device=str(device),
        verbose=0,
    )
    net.initialize().release()
    interval = record["mutual_info_interval"]
    need(
        isinstance(interval, list | tuple) and len(interval) == 2, "interval", interval
    )
    return Fitted(
        structure=structure,
        build_seed=build_seed,
        seed=_seed(record["seed"], "seed"),
        family=family,
        net_=net,
        constraints=_constraints(record["constraints"]),
        history_=_history(record["history"]),
        n_features_in_=n_features,
        feature_names_in_=_feature_names(record["feature_names"], n_features),
        columns=_columns(record["columns"], family, n_features),
        mutual_info_=number(record["mutual_info"], "mutual_info"),
        mutual_info_interval_=(
            number(interval[0], "interval"),
            number(interval[1], "interval"),
        ),
        rate_=number(record["rate"], "rate"),
        rate_se=number(record["rate_se"], "rate_se"),
        target=target,
        **_about_target(record, target),
    )


def _target(value, structure: Structure, family: RowFamily) -> Target | None:
    if structure.target is None:
        need(value is None, "target", value)
        return None
    target = Target.read(value, family.n_varying)
    same = (target.kind, target.n_classes) == (structure.target, structure.n_classes)
    n_first = 0 if target.means is None else target.means.shape[1]
    same = same and n_first == structure.n_target_components
    need(same and n_first < structure.n_components, "target", value)
    return target


def _about_target(record: dict, target: Target | None) -> dict:
    value, ends = record["target_mutual_info"], record["target_mutual_info_interval"]
    if target is None:
        need(value is None and ends is None, "target_mutual_info", value)
        return {}
    if target.blocks.keys() == {"z"}:
        value, ends = {"z": value}, {"z": ends}
    value = entries(value, target.blocks, "target_mutual_info")
    ends = entries(ends, target.blocks, "target_mutual_info_interval")
    numbers = {name: _bracket(value[name], ends[name]) for name in value}
    return {
        "target_mutual_info_": of_blocks({k: v[0] for k, v in numbers.items()}),
        "target_mutual_info_interval_": of_blocks(
            {k: v[1:] for k, v in numbers.items()}
        ),
    }


def _bracket(value, ends) -> tuple[float, ...]:
    """Return a midpoint and two ends; all NaN, where too few rows were labelled."""
    need(isinstance(ends, list | tuple) and len(ends) == 2, "interval", ends)
    numbers = (value, *ends)
    if all(type(x) is float and np.isnan(x) for x in numbers):
        return numbers
    return tuple(number(x, "target_mutual_info") for x in numbers)


def _seed(value, name: str) -> int:
    need(type(value) is int and 0 <= value < MAX_SEED, name, value)
    return value


def _structure(value) -> Structure:
    names = [field.name for field in dataclasses.fields(Structure)]
    found = entries(value, names, "structure")
    count(found["n_components"], "n_components")
    for name, known in (("encoder", ENCODERS), ("likelihood", likelihood_names())):
        part = found[name]
        if name == "likelihood" and type(part) is tuple:
            whole = len(part) > 1 and type(part[0]) is str and part[0] in TABLE_FAMILIES
            each = part[1:] if whole else part
            good = all(type(one) is str and one in COLUMN_FAMILIES for one in each)
        else:
            good = part in known if type(part) is str else callable(part)
        need(good, name, part)
    sizes = found["hidden_layer_sizes"]
    need(isinstance(sizes, list | tuple), "hidden_layer_sizes", sizes)
    for size in sizes:
        count(size, "hidden_layer_sizes")
    activation = found["activation"]
    need(
        type(activation) is str and activation in ACTIVATIONS, "activation", activation
    )
    kind, n_classes = found["target"], found["n_classes"]
    if kind is None:
        need(n_classes == 0, "n_classes", n_classes)
    else:
        need(type(kind) is str and kind in TARGETS, "target", kind)
        count(n_classes, "n_classes")
    n_first = found["n_target_components"]
    need(type(n_first) is int and n_first >= 0, "n_target_components", n_first)
    min_scale = number(found["min_scale"], "min_scale")
    need(min_scale > 0, "min_scale", min_scale)
    return Structure(**{**found, "hidden_layer_sizes": tuple(sizes)})


def _model(
    value, structure: Structure, family: RowFamily, seed: int, target: Target | None
) -> LatentVariableModel:
    """Build the networks and give them their weights."""
    good = type(value) is dict and all(type(name) is str for name in value)
    need(good, "weights", value)
    for name, weights in value.items():
        good = isinstance(weights, np.ndarray) and weights.dtype.kind in "biufc"
        need(good, name, weights)
    # networks of such sizes have as many weights: none is built that is too large
    total = sum(weights.size for weights in value.values())
    sizes = structure.hidden_layer_sizes
    largest = [structure.n_components, *sizes]
    largest += [a * b for a, b in itertools.pairwise(sizes)]
    largest += family.largest_layers(structure)
    need(max(largest) <= total, "structure", structure)
    try:
        model = build_model(structure, family, None, seed, target)
        _load(model, value)
    except Exception as error:
        raise ValueError(
            "The networks of this MutualAutoencoder cannot be built as they were saved "
            f"({_one_line(error)}). Where it holds modules of yours, load it with the "
            "code that they were fitted with; otherwise the file is damaged or was "
            "tampered with: do not use it."
        ) from error
    return model


def _load(model: LatentVariableModel, weights: dict[str, np.ndarray]) -> None:
    """Give weights to a model, whose every name, shape and type they must have."""
    state = {name: torch.tensor(array) for name, array in weights.items()}
    for name, tensor in model.state_dict(keep_vars=True).items():
        lazy = nn.parameter.is_lazy(tensor)  # of no shape yet
        if not lazy and name in state and state[name].dtype != tensor.dtype:
            raise ValueError(f"{name} is {state[name].dtype}, not {tensor.dtype}")
    model.load_state_dict(state, strict=True)


def _device_that_is_there(value) -> torch.device:
    need(type(value) is str, "device", value)
    try:
        return torch_device(value)
    except ValueError:
        warnings.warn(
            f"This MutualAutoencoder was fitted on device={value!r}, which is not "
            "available to torch here: it is on the CPU now. Its parameter `device` "
            "stays, and unless that is 'auto', fit, with warm_start or without, needs "
            "that device: set_params(device='cpu') first.",
            UserWarning,
            stacklevel=5,
        )
        return torch.device("cpu")


def _constraints(value) -> dict[str, dict[str, float]]:
    need(type(value) is dict, "constraints", value)
    found = {}
    for name, state in value.items():
        good = type(name) is str and type(state) is dict
        need(good and all(type(key) is str for key in state), "constraints", value)
        found[name] = {key: number(x, name) for key, x in state.items()}
    return found


def _history(value) -> dict[str, np.ndarray]:
    found = entries(value, FIGURES, "history")
    lengths = set()
    for name, figure in found.items():
        good = isinstance(figure, np.ndarray) and figure.dtype == np.float64
        need(good and figure.ndim == 1, name, figure)
        lengths.add(len(figure))
    need(len(lengths) == 1, "history", value)
    return {name: np.array(found[name]) for name in FIGURES}


def _columns(value, family: RowFamily, n_features: int) -> Columns | None:
    if value is None:
        return None
    columns = Columns.read(value, n_features)
    pairs = zip(columns.categories_, family.largest(n_features), strict=True)
    for known, largest in pairs:
        # (a comparison with NaN is false)
        need(known is None or not largest >= len(known), "columns", known)
    return columns


def _feature_names(value, n: int) -> np.ndarray | None:
    if value is None:
        return None
    return np.array(names(value, n, "feature_names"), dtype=object)
