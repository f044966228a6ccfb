"""Landing: a few Newton steps onto M at the end of a fit, and r_omega's last training.

Noise and drift of the last steps leave I near M, not on it. The gradient of I and a
measurement of it, made from the same draws each time, bring it onto M.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from sklearn_mae.training.constraints import Information, drawn
from sklearn_mae.training.net import MutualAutoencoderNet

__all__ = ["land", "refine_posterior"]

# Newton steps, how many of them may bring I no nearer, the terms behind each gradient,
# how many steps of the optimiser each may be long, which parts of a step are tried, and
# what is near enough, in nats
N_STEPS, N_FAILURES, N_TERMS = 8, 3, 16
LONGEST = 60
PARTS = (1.0, 0.5, 0.25)
LANDED = 1e-3
# rows that r_omega is trained with at its end
POSTERIOR_BATCH = 256


def _range(M: float) -> float:
    """From how far off M may be landed on, in nats.

    What training left farther off, after too few steps for example, is not for the
    decoder alone to mend, away from data and encoder.
    """
    return min(max(0.1, 0.2 * M), max(0.5, 0.1 * M))


def land(
    net: MutualAutoencoderNet,
    constraint: Information,
    measure: Callable[[], tuple[float, float]],
) -> None:
    """Bring the information from near M, where noise and drift left it, onto M.

    Newton steps along the gradient of I in the optimiser's own metric: of all ways
    to change I by so much, about the one that costs the likelihood least. A gradient
    may be noise for the most part: a step that brings I no nearer is taken back, and
    the next one has draws of its own.

    Parameters
    ----------
    net : MutualAutoencoderNet
        Trained, not yet released.
    constraint : Information
        One of its constraints. Where its multiplier ended at its bound, C forbids it.
    measure : callable
        Returns I(x, z) of the module and the standard error of that estimate,
        each time from the same draws; NaN where it is too vague to act on.
    """
    if net.step_ == 0 or constraint.at_bound:
        return
    # those that training moved: a user's module may hold others
    state = net.optimizer_.state
    parameters = [
        parameter
        for parameter in net.module_.likelihood.parameters()
        if parameter.requires_grad and state.get(parameter)
    ]
    M = constraint.penalty.M
    information, se = measure()
    if not parameters or abs(M - information) > _range(M):
        return
    failures = 0
    for _ in range(N_STEPS):
        missing = M - information
        # (nor where it is NaN)
        if not abs(missing) > max(se, LANDED) or failures == N_FAILURES:
            return
        direction, slope = _ascent(net, constraint, parameters)
        if not slope > 0:
            failures += 1
            continue
        length = missing / slope
        longest = LONGEST * net.lr
        length = min(max(length, -longest), longest)
        before = [parameter.detach().clone() for parameter in parameters]
        for part in PARTS:
            with torch.no_grad():
                torch._foreach_add_(parameters, direction, alpha=part * length)
            found = measure()
            if abs(M - found[0]) < abs(missing):
                information, se = found
                break
            with torch.no_grad():
                torch._foreach_copy_(parameters, before)
        else:
            failures += 1


def _ascent(net, constraint, parameters) -> tuple[list[Tensor], float]:
    """Direction of ascent of I, and how much I rises along it, from other draws."""
    gradients = []
    for _ in range(2):
        total = [torch.zeros_like(parameter) for parameter in parameters]
        for _ in range(N_TERMS):
            information = constraint.information(net.module_, net.generator)
            # a user's module may use a parameter in training mode alone
            parts = torch.autograd.grad(
                information / N_TERMS,
                parameters,
                allow_unused=True,
                materialize_grads=True,
            )
            torch._foreach_add_(total, parts)
        gradients.append(total)
    first, second = gradients
    direction = [
        (gradient / _scale_of(net, parameter)).clamp(-1, 1)
        for parameter, gradient in zip(parameters, first, strict=True)
    ]
    pairs = zip(direction, second, strict=True)
    return direction, sum(float((a * b).sum()) for a, b in pairs)


def _scale_of(net, parameter) -> Tensor:
    """By what Adam divides a parameter's gradient."""
    state = net.optimizer_.state[parameter]
    beta = net.optimizer_.param_groups[0]["betas"][1]
    second_moment = state["exp_avg_sq"] / (1 - beta ** float(state["step"]))
    return second_moment.sqrt() + 1e-8


def refine_posterior(net: MutualAutoencoderNet, n_steps: int) -> None:
    """Train r_omega alone on draws of the model, its rate decaying to zero."""
    # evaluation mode: a user's dropout would draw from torch's global generator
    model = net.module_.eval()
    optimizer = net.adam(list(model.posterior.parameters()))
    for step in range(n_steps):
        r, z0 = drawn(model, POSTERIOR_BATCH, net.generator)
        loss = -model.posterior.objective(r, z0).mean()
        for group in optimizer.param_groups:
            group["lr"] = net.posterior_speed * net.lr * (1 - step / n_steps)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
