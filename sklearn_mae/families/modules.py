"""Modules that a user supplies: how they are made, tried and refused."""

import contextlib
import inspect

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from sklearn_mae.model import LatentVariableModel, Rows

__all__ = ["call_factory", "try_user_modules"]


def call_factory(name: str, factory, n_features: int, n_components: int) -> nn.Module:
    """Return the module that a user's callable builds, or refuse it."""
    if isinstance(factory, nn.Module):
        raise TypeError(
            f"{name}={type(factory).__name__}(...) is a module, already built: its "
            "weights would be shared between fits and ignore random_state. Pass a "
            "callable (n_features, n_components) -> nn.Module, such as its class."
        )
    signature = "(n_features, n_components) -> nn.Module"
    if not callable(factory):
        raise TypeError(
            f"{name}={factory!r} is neither a name nor callable. Pass a callable "
            f"{signature}."
        )
    with contextlib.suppress(ValueError):  # some of C have no signature to look at
        try:
            inspect.signature(factory).bind(n_features, n_components)
        except TypeError as error:
            raise TypeError(
                f"{name}={factory!r} is called as {name}({n_features}, "
                f"{n_components}), which it does not take: {error}. Pass a callable "
                f"{signature}."
            ) from error
    try:
        module = factory(n_features, n_components)
    except Exception as error:
        raise ValueError(
            f"{name}={factory!r}, a callable {signature}, failed when called as "
            f"{name}({n_features}, {n_components}): {type(error).__name__}: {error}"
        ) from error
    if not isinstance(module, nn.Module):
        raise TypeError(
            f"{name} returned {type(module).__name__}; it must return an nn.Module "
            "whose forward returns a torch Distribution."
        )
    return module


def try_user_modules(structure, model: LatentVariableModel, x: Rows) -> None:
    """One pass in each precision, so that a mistake is named before training."""
    z = model.reference.new_zeros(len(x), model.n_components)
    likelihood = getattr(model.likelihood, "inner", model.likelihood)
    decoded = z.new_zeros(len(x), structure.n_decoded)
    tries = []
    if callable(structure.encoder):
        tries.append(("encoder", model.encoder, model.seen(x), z))
    if callable(structure.likelihood):
        tries.append(("likelihood", likelihood, decoded, x.values))
    for name, wrapper, condition, value in tries:
        for dtype in (torch.float64, torch.float32):
            wrapper.to(dtype)
            # word numbers stay integers
            given = condition.to(dtype) if condition.is_floating_point() else condition
            try:
                with torch.no_grad():
                    distribution = wrapper.module(given)
                    # draws of codes come with leading axes
                    wrapper.module(given.expand(2, *given.shape))
            except Exception as error:
                raise ValueError(
                    f"The module that {name}={getattr(structure, name)!r} built fails "
                    f"on an input of shape {tuple(given.shape)}, or of that shape "
                    f"with another axis in front, and type {given.dtype}. It "
                    "is trained in float32 and used in float64: create no tensor of a "
                    f"fixed type in it. {type(error).__name__}: {error}"
                ) from error
            _check_distribution(name, distribution, value.to(dtype))
            try:
                with torch.no_grad():
                    broken = distribution.log_prob(value.to(dtype)).isnan().any()
            except Exception as error:
                raise ValueError(
                    f"The Distribution of the {name}, {type(distribution).__name__}, "
                    "gives no log-density of the values it is for: "
                    f"{type(error).__name__}: {error} Use one whose support holds them."
                ) from error
            if broken:
                raise ValueError(
                    f"The Distribution of the {name}, {type(distribution).__name__}, "
                    "gives NaN for the log-density of values it is for, before any "
                    f"training. Look at the module that {name}="
                    f"{getattr(structure, name)!r} built."
                )


def _check_distribution(name: str, distribution, value: Tensor) -> None:
    if not isinstance(distribution, Distribution):
        raise TypeError(
            f"The forward of the {name}'s module returned "
            f"{type(distribution).__name__}; it must return a torch.distributions."
            "Distribution."
        )
    shape = tuple(distribution.batch_shape) + tuple(distribution.event_shape)
    if shape != tuple(value.shape) or len(distribution.event_shape) > 1:
        raise ValueError(
            f"The Distribution of the {name} covers values of shape {shape} for a "
            f"batch of {len(value)} rows; it must cover {tuple(value.shape)}, for "
            "example Independent(Normal(loc, scale), 1) with loc of that shape."
        )
    if name == "encoder" and not distribution.has_rsample:
        raise ValueError(
            f"The encoder's Distribution, {type(distribution).__name__}, has no "
            "reparametrised samples (rsample), without which it cannot be trained."
        )
