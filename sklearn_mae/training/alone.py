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

__all__ = ["Remainder", "learn_alone"]

# part of the rows that is held out, and how many at most; where that is too few, as
# many as decide something, but no more than a part of the rows can be spared
HELD_OUT, MOST_HELD_OUT, LEAST_HELD_OUT, SPARED = 0.1, 2_000, 20, 0.25
# how often they are looked at, and over how many looks figures are averaged; at the
# start, where few rows are learned by heart, after each rise of the steps by a part
N_LOOKS, WINDOW, RISE = 30, 3, 0.2
# by how much less likely than others they become where those are learned by heart, in
# nats; both fall and rise with the noise of the steps
BY_HEART = 0.1
# part of the epochs that is taken then: multipliers need it to settle
HELD_FOR = 0.5


class Remainder(NamedTuple):
    """What follows in a fit.

    Attributes
    ----------
    max_epochs : int
        Passes over the data.
    holds_decoder : bool
        Whether of the likelihood only ``Likelihood.parameters_when_held`` learn.
    """

    max_epochs: int
    holds_decoder: bool


def learn_alone(
    model: LatentVariableModel,
    x,
    *,
    part: float,
    max_epochs: int,
    batch_size: int,
    lr: float,
    seed: int,
) -> Remainder:
    """Train the likelihood on rows without codes.

    Where rows that are held out become less likely meanwhile, the weights of its best
    time are taken and held: they would go on to learn rows by heart.

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
    Remainder
        What follows.
    """
    likelihood, generator = model.likelihood, model.generator(seed)
    n_batches = -(-len(x) // batch_size)
    n_steps = max(1, round(part * max_epochs * n_batches))
    order = torch.randperm(len(x), generator=generator, device=generator.device)
    n_held = _n_held(len(x))
    held, others = x.take(order[:n_held]), TrainingRows(x.take(order[n_held:]))
    batches = Batches(others, min(batch_size, len(others)), generator)
    parameters = [p for p in likelihood.parameters() if p.requires_grad]
    optimizer = Adam(parameters, lr=lr, fused=_fused(parameters))
    # as many of the others, to tell what is learned by heart from noise
    same = others.x.take(torch.arange(n_held, device=order.device))
    looks: list[tuple[float, float]] = []
    best = None
    looked_at, step = _looks(n_steps), 0
    likelihood.train()
    while step < n_steps:
        for batch in batches:
            optimizer.zero_grad()
            (-likelihood.log_prob_alone(batch).mean()).backward()
            optimizer.step()
            step += 1
            if n_held and step in looked_at:
                looks.append(
                    (_mean_log_prob(likelihood, held), _mean_log_prob(likelihood, same))
                )
                now = _recent(looks)
                if len(looks) >= WINDOW and (best is None or now[0] > best.figures[0]):
                    weights = copy.deepcopy(likelihood.state_dict())
                    best = _Look(now, weights)
            if step == n_steps:
                break
    optimizer.zero_grad()
    likelihood.eval()
    if best is None:
        return Remainder(max_epochs, False)
    fell, others_fell = (
        a - b for a, b in zip(best.figures, _recent(looks), strict=True)
    )
    if not fell > BY_HEART + max(0.0, others_fell):
        return Remainder(max_epochs, False)
    likelihood.load_state_dict(best.weights)
    return Remainder(max(1, round(HELD_FOR * max_epochs)), True)


def _n_held(n: int) -> int:
    """How many of n rows are held out."""
    enough = min(LEAST_HELD_OUT, int(SPARED * n))
    return max(min(round(HELD_OUT * n), MOST_HELD_OUT), enough)


def _looks(n_steps: int) -> set[int]:
    """Return the steps after which rows held out are looked at."""
    every, step, early = max(1, n_steps // N_LOOKS), 1, set()
    while step < every:
        early.add(step)
        step = max(step + 1, round((1 + RISE) * step))
    return early | set(range(every, n_steps + 1, every))


class _Look(NamedTuple):
    """Log-probabilities of rows held out and of others after some steps."""

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
