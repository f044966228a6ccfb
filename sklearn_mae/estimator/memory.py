"""What to say where torch finds no memory."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["enough_memory"]

# how torch says so in a RuntimeError, on a CPU and elsewhere
SIGNS = ("DefaultCPUAllocator", "out of memory")
SIZES = ("n_components", "n_resamples", "hidden_layer_sizes", "batch_size")


@contextmanager
def enough_memory(params) -> Iterator[None]:
    """Name the sizes of an estimator where a block finds no memory for them.

    Raises
    ------
    MemoryError
        In the place of torch's errors.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        said = str(error).partition("\n")[0]
        known = isinstance(error, MemoryError | torch.OutOfMemoryError)
        if not known and not any(sign in said for sign in SIGNS):
            raise
        sizes = ", ".join(f"{name}={getattr(params, name)!r}" for name in SIZES)
        raise MemoryError(
            f"There is no memory for networks and draws of these sizes: {sizes}. Lower "
            "them, the number of draws asked for, or the number of rows at once "
            f"({said})."
        ) from error
