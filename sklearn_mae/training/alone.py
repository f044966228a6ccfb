"""A decoder that can model x without z learns that first.

Until it has, a code helps it with much that it will know by itself, and multipliers
answer to a decoder that there will not be. On an easy table of four columns as many
steps without this stage led to the same held-out log p.
"""

import copy
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sklearn_mae.model import LatentVariableModel, Rows
from sklearn_mae.training.adam import Adam
from sklearn_mae.training.batches import Batches, TrainingRows

__all__ = ["Lengths", "learn_alone"]

# part of the rows that is held out, and how many at most; fewer than the least decide
# nothing
HELD_OUT, MOST_HELD_OUT, LEAST_HELD_OUT = 0.1, 2_000, 20
# how often they are looked at, and over how many looks figures are averaged
N_LOOKS, WINDOW = 30, 3
# by how much less likely than others they become where those are learned by heart, in
# nats; both fall and rise with the noise of the steps
BY_HEART = 0.1
# part of the epochs that is taken at least: multipliers need it to settle
LEAST = 0.5


class Lengths(NamedTuple):
    """How long a fit takes.

    Attributes
    ----------
    max_epochs : int
        Passes over the data.
    own_epochs : int
        For how many of them all of the likelihood learns: from then on only what the
        code comes in through does.
    """

    max_epochs: int
    own_epochs: int


def learn_alone(
    model: LatentVariableModel,
    x,
    *,
    part: float,
    max_epochs: int,
    batch_size: int,
    lr: float,
    seed: int,
) -> Lengths:
    """Train the likelihood on rows without codes.

    Where rows that are held out become less likely meanwhile, the weights of its best
    time are taken, and in the fit they move for as much shorter: they would go on to
    learn rows by heart.

    Parameters
    ----------
    model : LatentVariableModel
        The model, on its device.
    x : Rows or object
        Rows of the fit, or what has their number for its length and a ``take``.
    part : float
        How many steps, as a part of those that follow.
    max_epochs, batch_size : int
        Of what follows.
    lr : float
        Learning rate.
    seed : int
        Of the order of rows.

    Returns
    -------
    Lengths
        Of what follows.
    """
    likelihood, generator = model.likelihood, model.generator(seed)
    n_batches = -(-len(x) // batch_size)
    n_steps = max(1, round(part * max_epochs * n_batches))
    order = torch.randperm(len(x), generator=generator, device=generator.device)
    n_held = min(round(HELD_OUT * len(x)), MOST_HELD_OUT)
    n_held = n_held if n_held >= LEAST_HELD_OUT else 0
    held, others = x.take(order[:n_held]), TrainingRows(x.take(order[n_held:]))
    batches = Batches(others, min(batch_size, len(others)), generator)
    parameters = [p for p in likelihood.parameters() if p.requires_grad]
    optimizer = Adam(parameters, lr=lr, fused=_fused(parameters))
    # as many of the others, to tell what is learned by heart from noise
    same = others.x.take(torch.arange(n_held, device=order.device))
    looks: list[tuple[float, float]] = []
    best = None
    every, step = max(1, n_steps // N_LOOKS), 0
    likelihood.train()
    while step < n_steps:
        for batch in batches:
            optimizer.zero_grad()
            (-likelihood.log_prob_alone(batch).mean()).backward()
            optimizer.step()
            step += 1
            if n_held and step % every == 0:
                looks.append(
                    (_mean_log_prob(likelihood, held), _mean_log_prob(likelihood, same))
                )
                now = _recent(looks)
                if len(looks) >= WINDOW and (best is None or now[0] > best.figures[0]):
                    weights = copy.deepcopy(likelihood.state_dict())
                    best = _Look(step, now, weights)
            if step == n_steps:
                break
    optimizer.zero_grad()
    likelihood.eval()
    if best is None:
        return Lengths(max_epochs, max_epochs)
    fell, others_fell = (
        a - b for a, b in zip(best.figures, _recent(looks), strict=True)
    )
    if not fell > BY_HEART + max(0.0, others_fell):
        return Lengths(max_epochs, max_epochs)
    likelihood.load_state_dict(best.weights)
    own = min(max_epochs, max(1, round(best.step / part / n_batches)))
    return Lengths(max(own, round(LEAST * max_epochs)), own)


class _Look(NamedTuple):
    """Log-probabilities of rows held out and of others after some steps."""

    step: int
    figures: tuple[float, float]
    weights: dict[str, Tensor]


def _recent(looks: list[tuple[float, float]]) -> tuple[float, float]:
    held, others = np.mean(looks[-WINDOW:], axis=0)
    return float(held), float(others)


@torch.no_grad()
def _mean_log_prob(likelihood, x: Rows) -> float:
    return float(likelihood.log_prob_alone(x).mean())


def _fused(parameters: list[Tensor]) -> bool:
    return all(p.device.type in ("cpu", "cuda") for p in parameters)
