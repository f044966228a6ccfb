"""torch's Adam, called past what torch's compiler wraps around it."""

import inspect
from collections.abc import Callable

import torch

__all__ = ["Adam"]


class Adam(torch.optim.Adam):
    """Adam as torch has it.

    torch wraps an optimiser's methods for ``torch.compile``. The first call of one of
    them imports the compiler, 800 modules, which takes longer than many a fit; each
    call enters a profiler, too. Nothing is compiled here, so the wrapped functions are
    called.
    """

    add_param_group = inspect.unwrap(torch.optim.Adam.add_param_group)
    _step: Callable = inspect.unwrap(torch.optim.Adam.step)

    @torch.no_grad()
    def step(self, closure=None):
        """Take a step."""
        return self._step(closure)

    # tells torch that the profiler wraps it already
    step.hooked = True  # type: ignore[attr-defined]

    def zero_grad(self, set_to_none: bool = True):
        """Let go of the gradients."""
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None
