"""torch's Adam, called past what torch's compiler wraps around it."""

import inspect
from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["Adam"]

# options that the call of the kernel below leaves out
EXTRAS = ("amsgrad", "decoupled_weight_decay", "maximize")


class Adam(torch.optim.Adam):
    """Adam as torch has it.

    torch wraps an optimiser's methods for ``torch.compile``. The first call of one of
    them imports the compiler, 800 modules, which takes longer than many a fit; each
    call enters a profiler, too. Nothing is compiled here, so the wrapped functions are
    called.

    A step also looks every tensor over, which takes twice the time of the arithmetic of
    a small network. That is left out where the tensors are of one kind.
    """

    add_param_group = inspect.unwrap(torch.optim.Adam.add_param_group)
    _step: Callable = inspect.unwrap(torch.optim.Adam.step)

    @torch.no_grad()
    def step(self, closure=None):
        """Take a step."""
        moved = [
            [p for p in group["params"] if p.grad is not None]
            for group in self.param_groups
        ]
        pairs = list(zip(self.param_groups, moved, strict=True))
        # (torch's own step makes the states, and refuses what it cannot take)
        if closure or not all(self._is_plain(*pair) for pair in pairs):
            return self._step(closure)
        for group, parameters in pairs:
            if parameters:
                self._move(group, parameters)
        return None

    def _is_plain(self, group: dict, parameters: list[Tensor]) -> bool:
        kinds = {(p.device, p.dtype) for p in parameters}
        usual = group["fused"] and not any(group[name] for name in EXTRAS)
        return usual and len(kinds) <= 1 and all(self.state[p] for p in parameters)

    def _move(self, group: dict, parameters: list[Tensor]) -> None:
        states = [self.state[p] for p in parameters]
        steps = [state["step"] for state in states]
        torch._foreach_add_(steps, 1)
        torch._fused_adam_(
            parameters,
            [p.grad for p in parameters if p.grad is not None],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],  # that amsgrad would have
            steps,
            lr=group["lr"],
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            amsgrad=False,
            maximize=False,
        )

    # tells torch that the profiler wraps it already
    step.hooked = True  # type: ignore[attr-defined]

    def zero_grad(self, set_to_none: bool = True):
        """Let go of the gradients."""
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None
