"""Models that oscillate, jump or have many modes, and their information.

Each latent u_i has columns of its own, so the information is a sum of one-dimensional
integrals. The decoder sees z = Q u with a random rotation Q: the prior stays the same,
and no axis of z is special. The columns of a latent are

- ``periodic``: one or two cosines of real frequencies from 0.3 to 80, with noise;
- ``steps``: a piecewise-constant function with 2 to 60 jumps, with noise;
- ``saw``: a saw-tooth of a frequency from 0.3 to 80, with noise;
- ``mixture``: an equal mixture of three such functions, with noise;
- ``outcomes``: two bits, or a column of 3 to 6 categories, with logits of those kinds.

The truth is H(x) - H(x|u) by two quadratures over u that share no node: equal steps
with a random shift, and quantiles. If they differ by more than 1e-3, another model is
drawn from the same generator.
"""

import math

import numpy as np
import torch
from torch import nn
from torch.distributions import Categorical, MixtureSameFamily, Normal

from sklearn_mae.encoders import Posterior
from sklearn_mae.families.standard import (
    standard_columns,
    standard_likelihood,
    standard_model,
)
from sklearn_mae.families.table import TableLikelihood
from sklearn_mae.families.user import UserLikelihood
from sklearn_mae.model import private_random

__all__ = ["hostile"]

KINDS = ("periodic", "steps", "saw", "mixture", "outcomes")
SHAPES = ("periodic", "steps", "saw")
AGREED = 1e-3
NODES = 150_000


def log_uniform(rng, low, high):
    """Draw from the log-uniform distribution between low and high."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def wave(rng, shape):
    """Draw a function of one latent that oscillates or jumps, from about -1 to 1."""
    frequency, phase = log_uniform(rng, 0.3, 80), rng.uniform()
    if shape == "periodic":
        return lambda u: torch.cos(2 * math.pi * (frequency * u + phase))
    if shape == "saw":
        return lambda u: 2 * torch.remainder(frequency * u + phase, 1.0) - 1
    n_jumps = round(log_uniform(rng, 2, 60))
    edges = torch.as_tensor(np.sort(rng.normal(scale=1.2, size=n_jumps)))
    levels = torch.as_tensor(rng.normal(size=n_jumps + 1))
    return lambda u: levels[torch.bucketize(u.contiguous(), edges)]


class Waves(nn.Module):
    """The functions of each latent u = z Q, concatenated."""

    def __init__(self, rotation, blocks):
        super().__init__()
        self.rotation = nn.Parameter(torch.as_tensor(rotation), requires_grad=False)
        self.blocks = blocks

    def forward(self, z):
        u = z @ self.rotation
        outputs = [
            function(u[..., i])
            for i, block in enumerate(self.blocks)
            for function in block
        ]
        # steps alone would not depend on z for autograd
        return torch.stack(outputs, -1) + 0 * z[..., :1]


class NormalColumns(nn.Module):
    """Normal columns, or equal mixtures of normals of the same scale."""

    def __init__(self, waves, scales, n_normals):
        super().__init__()
        self.waves, self.scales, self.n_normals = waves, scales, n_normals

    def forward(self, z):
        loc = self.waves(z)
        if self.n_normals == 1:
            return Normal(loc, self.scales.expand_as(loc), validate_args=False)
        loc = loc.unflatten(-1, (-1, self.n_normals))
        scale = self.scales.unsqueeze(-1).expand_as(loc)
        normals = Normal(loc, scale, validate_args=False)
        weights = Categorical(torch.ones_like(loc), validate_args=False)
        return MixtureSameFamily(weights, normals, validate_args=False)


def hostile(rng):
    """Draw kind, number of columns, model with an untrained r_omega, and truth."""
    while True:
        kind, d = str(rng.choice(KINDS)), int(rng.integers(1, 5))
        rotation = np.linalg.qr(rng.normal(size=(d, d)))[0]
        build = _with_outcomes if kind == "outcomes" else _with_noise
        likelihood, features, n_inputs, D, truths = build(rng, kind, d, rotation)
        seed = int(rng.integers(2**31))
        one, other = np.sum(truths, 0)
        if abs(one - other) < AGREED:
            break
    with private_random(seed):
        r = Posterior.from_sizes(n_inputs, (32, 32), d, "silu")
    networks = {"features": features, "encoder": r, "posterior": r}
    model = standard_model(likelihood, n_inputs, d, **networks).double()
    return kind, D, model, float(0.5 * (one + other))


def _with_noise(rng, kind, d, rotation):
    blocks, scales, truths = [], [], []
    n_normals = 3 if kind == "mixture" else 1
    for _ in range(d):
        n_columns = int(rng.integers(1, 3)) if kind == "periodic" else 1
        shapes = rng.choice(SHAPES, 3) if kind == "mixture" else [kind] * n_columns
        blocks.append([wave(rng, shape) for shape in shapes])
        block_scales = [log_uniform(rng, 0.05, 0.6) for _ in range(n_columns)]
        scales += block_scales
        truths.append([_of_noise(blocks[-1], block_scales, *at) for at in _nodes(rng)])
    waves = Waves(rotation, blocks)
    likelihood = UserLikelihood(
        NormalColumns(waves, torch.tensor(scales).double(), n_normals), len(scales)
    )
    return likelihood, None, len(scales), len(scales), truths


def _with_outcomes(rng, kind, d, rotation):
    bits = rng.random() < 0.5
    cardinalities = [2, 2] * d if bits else rng.integers(3, 7, size=d).tolist()
    blocks, truths = [], []
    for i in range(d):
        sharpness = log_uniform(rng, 1, 20)
        n = 2 if bits else cardinalities[i]
        plain = [wave(rng, str(rng.choice(SHAPES))) for _ in range(n)]
        block = [lambda u, f=f, a=sharpness: a * f(u) for f in plain]
        blocks.append(block)
        truths.append([_of_outcomes(block, bits, *at) for at in _nodes(rng)])
    waves, D = Waves(rotation, blocks), len(cardinalities)
    if bits:
        return standard_likelihood("bernoulli", waves, D), None, D, D, truths
    family = standard_columns("categorical", cardinalities)
    likelihood = TableLikelihood(family, waves)
    return likelihood, family.features(), family.n_inputs, D, truths


# Information of one latent


def _nodes(rng):
    """Yield nodes and masses over u, and fineness: shifted equal steps; quantiles."""
    steps = torch.arange(NODES, dtype=torch.float64)
    u = (steps + rng.uniform()) * (16 / NODES) - 8
    yield u, torch.softmax(-0.5 * u.square(), 0), 1.3
    n = round(1.2337 * NODES)
    steps = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    yield torch.special.ndtri(steps), torch.full((n,), 1 / n).double(), 1.9


def _of_noise(functions, scales, u, mass, fineness):
    """Information of two columns, independent given u, or of one (a mixture)."""
    loc = torch.stack([function(u) for function in functions])
    if len(scales) == 1:
        loc = loc.unsqueeze(0)  # of one column's normals
    else:
        loc = loc.unsqueeze(1)
    axes, steps = [], 1.0
    for at, scale in zip(loc, scales, strict=True):
        low, high = float(at.min()) - 8 * scale, float(at.max()) + 8 * scale
        n = math.ceil(fineness * (high - low) / scale)
        axes.append(torch.linspace(low, high, n, dtype=torch.float64))
        steps *= (high - low) / (n - 1)
    p_x, entropy = 0.0, 0.0
    for i in torch.arange(len(u)).split(4_096):
        densities = []
        for at, scale, x in zip(loc[:, :, i], scales, axes, strict=True):
            normals = Normal(at.unsqueeze(-1), scale, validate_args=False)
            densities.append(normals.log_prob(x).exp().mean(0))  # (u, x)
        weighted = mass[i].unsqueeze(-1) * densities[0]
        if len(scales) == 2:
            p_x = p_x + weighted.T @ densities[1]
        else:
            p_x = p_x + weighted.sum(0)
            plogp = torch.special.xlogy(densities[0], densities[0]).sum(1)
            entropy -= float(mass[i] @ plogp) * steps
    if len(scales) == 2:
        entropy = sum(0.5 * math.log(2 * math.pi * math.e * s**2) for s in scales)
    return -float(torch.special.xlogy(p_x, p_x).sum()) * steps - entropy


def _of_outcomes(functions, bits, u, mass, _):
    logits = torch.stack([function(u) for function in functions])
    if bits:
        sides = [torch.stack([-l, l]) for l in logits]
        one, other = (nn.functional.logsigmoid(side) for side in sides)
        log_p = (one[:, None] + other).flatten(0, 1)
    else:
        log_p = torch.log_softmax(logits, 0)
    p_x = log_p.exp() @ mass
    negentropy = (log_p.exp() * log_p).sum(0) @ mass
    return float(negentropy - torch.special.xlogy(p_x, p_x).sum())
