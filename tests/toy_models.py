"""Small models, some of which know the truth about themselves."""

import math

import torch
from torch import nn
from torch.distributions import MultivariateNormal

from sklearn_mae.encoders import GaussianEncoder, Posterior
from sklearn_mae.families.base import Structure
from sklearn_mae.families.standard import (
    set_scale,
    standard_columns,
    standard_likelihood,
    standard_model,
)
from sklearn_mae.model import LatentVariableModel, mlp, private_random


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def with_places(module):
    """Give what is said of each place, silent at first, random weights."""
    for part in module.modules():
        if hasattr(part, "places"):
            for place in part.places:  # the same, however many follow
                nn.init.normal_(place, std=0.3)
    return module


def model_of_table(table, encoder="gaussian", d=2, hidden=(6,), seed=0):
    """Model of a fitted table, autoregressive or of a flow, that uses its codes."""
    structure = Structure(
        n_components=d,
        encoder=encoder,
        likelihood="autoregressive",  # (of no account here)
        hidden_layer_sizes=hidden,
        activation="silu",
        min_scale=0.01,
    )
    with private_random(seed):
        parts = table.networks(structure)
        if hasattr(parts[0], "networks"):
            nn.init.normal_(parts[0].networks.codes, std=0.5)
        else:
            for transform in parts[0].module.transform.transforms:
                nn.init.normal_(transform.hyper[0].weight[:, -d:], std=0.5)
    return LatentVariableModel(*parts, d, table.pool())


class LinearGaussian(LatentVariableModel):
    """x = W z + b + sigma e, its columns of W orthogonal: a diagonal posterior.

    Encoder and posterior are the exact posterior but for a shift of the mean by
    ``shift`` of its standard deviations and a standard deviation ``widening`` times
    too large. Everything about it is known.
    """

    def __init__(self, d, D, sigma=0.5, shift=0.0, widening=1.0, seed=0):
        g = generator(seed)
        W, _ = torch.linalg.qr(torch.randn(D, d, generator=g, dtype=torch.float64))
        W = W * torch.linspace(1.5, 0.7, d, dtype=torch.float64)
        b = torch.randn(D, generator=g, dtype=torch.float64)
        precision = 1 + W.square().sum(0) / sigma**2
        scale = precision.rsqrt()
        gain = W.mT / sigma**2 / precision[:, None]
        super().__init__(
            standard_likelihood("gaussian", nn.Linear(d, D), D),
            GaussianEncoder(nn.Linear(D, 2 * d)),
            Posterior(nn.Linear(D, 2 * d)),
            nn.Identity(),
            d,
        )
        self.double()
        self.W, self.b, self.sigma = W, b, sigma
        self.shift, self.widening = shift, widening
        set_scale(self.likelihood, sigma)
        with torch.no_grad():
            self.likelihood.decoder.weight.copy_(W)
            self.likelihood.decoder.bias.copy_(b)
            for part in (self.encoder, self.posterior):
                part.network.weight.copy_(torch.cat([gain, torch.zeros_like(gain)]))
                mean = shift * scale - gain @ b
                log_scale = (widening * scale).log()
                part.network.bias.copy_(torch.cat([mean, log_scale]))

    @property
    def information(self):
        """I(x, z)."""
        eye = torch.eye(self.n_components, dtype=torch.float64)
        return float(0.5 * torch.logdet(eye + self.W.mT @ self.W / self.sigma**2))

    @property
    def divergence(self):
        """KL(r_omega(z|x) || p(z|x)), and the same for the encoder."""
        per_axis = 0.5 * (self.widening**2 + self.shift**2 - 1)
        return self.n_components * (per_axis - math.log(self.widening))

    @property
    def reverse_divergence(self):
        """KL(p(z|x) || r_omega(z|x)), and the same for the encoder."""
        per_axis = 0.5 * ((1 + self.shift**2) / self.widening**2 - 1)
        return self.n_components * (per_axis + math.log(self.widening))

    def marginal(self):
        """p(x)."""
        eye = torch.eye(len(self.b), dtype=torch.float64)
        return MultivariateNormal(self.b, self.W @ self.W.mT + self.sigma**2 * eye)

    @torch.no_grad()
    def joint_draws(self, n, seed=0):
        """Return z0, x and log p(x|z0)."""
        g = generator(seed)
        z0 = torch.randn(n, self.n_components, generator=g, dtype=torch.float64)
        p = self.likelihood(z0)
        x = p.sample((), g)
        return z0, x, p.log_prob(x)


def random_model(kind, columns, d, sharpness=3.0, hidden=(8,), seed=0):
    """Model with random weights; its encoder and posterior are wrong.

    ``columns`` is a number of columns or, for categories, their cardinalities.
    """
    family = standard_columns(kind, columns)
    with private_random(seed):
        decoder = mlp(d, hidden, family.n_outputs, "tanh")
        likelihood = standard_likelihood(kind, decoder, columns)
        model = standard_model(
            likelihood, family.n_inputs, d, hidden, family.features()
        )
    with torch.no_grad():
        likelihood.decoder[-1].weight.mul_(sharpness)
    return model.double()


class NoSecond(torch.autograd.Function):
    """The identity, without a derivative."""

    @staticmethod
    def forward(ctx, values):
        return values.clone()

    @staticmethod
    def backward(ctx, gradient):
        raise RuntimeError("there is no second derivative")


class Once(torch.autograd.Function):
    """The identity, which may be differentiated once."""

    @staticmethod
    def forward(ctx, values):
        return values.clone()

    @staticmethod
    def backward(ctx, gradient):
        return NoSecond.apply(gradient)
