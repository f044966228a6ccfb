"""A decoder that can model x without z learns that first.

Asked for information from its first step, it learns to tell rows by their codes before
it has learned what rows have in common, and does not find back.
"""

import copy
import math

import torch
from torch import Tensor

from sklearn_mae.model import LatentVariableModel, Rows
from sklearn_mae.training.adam import Adam
from sklearn_mae.training.net import Batches, TrainingRows

__all__ = ["learn_alone"]

# part of the rows that is held out, and how many at most; fewer than the least decide
# nothing
HELD_OUT, MOST_HELD_OUT, LEAST_HELD_OUT = 0.1, 2_000, 20
# how often they are looked at, and over how many looks figures are averaged
N_LOOKS, WINDOW = 30, 3
# by how much less likely they become where rows are learned by heart, in nats
BY_HEART = 0.1


def learn_alone(
    model: LatentVariableModel,
    x: Rows,
    *,
    part: float,
    max_epochs: int,
    batch_size: int,
    lr: float,
    seed: int,
) -> int:
    """Train the likelihood on rows without codes.

    Where rows that are held out become less likely meanwhile, the weights of its best
    time are taken, and the fit is cut short by as much: it would go on to learn rows by
    heart.

    Parameters
    ----------
    model : LatentVariableModel
        The model, on its device.
    x : Rows
        Rows of the fit.
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
    int
        Epochs to train for.
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
    looks: list[tuple[int, float]] = []
    best, weights = -math.inf, None
    every, step = max(1, n_steps // N_LOOKS), 0
    likelihood.train()
    while step < n_steps:
        for batch in batches:
            optimizer.zero_grad()
            (-likelihood.log_prob_alone(batch).mean()).backward()
            optimizer.step()
            step += 1
            if n_held and step % every == 0:
                looks.append((step, _mean_log_prob(likelihood, held)))
                recent = [figure for _, figure in looks[-WINDOW:]]
                if len(recent) == WINDOW and sum(recent) / WINDOW > best:
                    best = sum(recent) / WINDOW
                    weights, at = copy.deepcopy(likelihood.state_dict()), step
            if step == n_steps:
                break
    optimizer.zero_grad()
    likelihood.eval()
    if weights is None or best - sum(f for _, f in looks[-WINDOW:]) / WINDOW < BY_HEART:
        return max_epochs
    likelihood.load_state_dict(weights)
    return min(max_epochs, max(1, round(at / part / n_batches)))


@torch.no_grad()
def _mean_log_prob(likelihood, x: Rows) -> float:
    return float(likelihood.log_prob_alone(x).mean())


def _fused(parameters: list[Tensor]) -> bool:
    return all(p.device.type in ("cpu", "cuda") for p in parameters)
