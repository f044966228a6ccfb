"""What is global in torch, and how to leave it alone: generators and settings."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch.overrides import TorchFunctionMode

__all__ = ["plain_torch", "private_random"]

# torch's global generator is one for the process: whoever borrows it must be alone.
_BORROWING = threading.RLock()


@contextmanager
def private_random(seed: int) -> Iterator[None]:
    """Seed torch's global generators for a block, then give back their states.

    For what cannot be handed a generator: the initialisation of modules and the
    draws of user-supplied Distributions.
    """
    devices = (
        range(torch.cuda.device_count()) if torch.cuda.is_initialized() else range(0)
    )
    with _BORROWING, torch.random.fork_rng(devices=list(devices)):
        # not torch.manual_seed: it would also seed a CUDA that is not yet awake
        torch.default_generator.manual_seed(seed)
        if devices:
            torch.cuda.manual_seed_all(seed)
        yield


class Float32(TorchFunctionMode):
    """Make float32 of what would take the default type, in this thread alone."""

    makers = frozenset(
        getattr(torch, name)
        for name in "empty eye linspace ones rand randn zeros".split()
    )
    by_value = frozenset({torch.arange, torch.full, torch.tensor, torch.where})
    quotients = frozenset({torch.div, torch.Tensor.div, torch.Tensor.__truediv__})

    def __torch_function__(self, func, types, args=(), kwargs=None):
        """Call a function of torch: new tensors, and quotients of integers."""
        kwargs = kwargs or {}
        if kwargs.get("dtype") is None and func in self.makers:
            kwargs = {**kwargs, "dtype": torch.float32}
        if func in self.quotients and not kwargs and not _is_floating(args):
            args = (torch.as_tensor(args[0]).float(), *args[1:])
        result = func(*args, **kwargs)
        if kwargs.get("dtype") is None and func in self.by_value:
            if result.is_floating_point() and not _is_floating(args):
                result = result.float()
        return result


def _is_floating(args) -> bool:
    """Whether an argument has a floating type of its own."""
    kinds = (getattr(x, "dtype", torch.int64) for x in args)
    return any(getattr(kind, "is_floating_point", True) for kind in kinds)


@contextmanager
def plain_torch() -> Iterator[None]:
    """Undo for a block what the user has set of torch, in this thread alone.

    Gradients are on, inference mode and autocast off, and what is built without a
    device or a type is on the CPU and float32. As a decorator, for a function. Nothing
    is entered that is not needed: function modes slow every operation down.
    """
    with ExitStack() as stack:
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        if not torch.is_grad_enabled():
            stack.enter_context(torch.enable_grad())
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        if torch.get_default_dtype() != torch.float32:
            stack.enter_context(Float32())
        yield
