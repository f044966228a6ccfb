"""The seam everything hangs on, and the latent-variable model built from it.

The seam: a *conditional distribution* is an ``nn.Module`` whose ``forward(condition)``
returns a ``torch.distributions.Distribution``. The likelihood p_theta(x|z), the
encoder q_phi(z|x) and the information posterior r_omega(z|x) are all of this one
kind; nothing downstream asks which.

Notation (that of the paper, M. Phuong et al., "The Mutual Autoencoder", 2018): data
x ~ q(x), code z of dimension d with prior p(z) = N(0, I_d), model
p_theta(z, x) = p(z) p_theta(x|z) (eq. 1). All logarithms are natural: nats.

Shapes: a batch of n rows is ``(n, D)``, its codes are ``(n, d)``; draws come in
front, ``(k, n, d)``; log-densities have the shape of what is left when the last axis
is summed.
"""

import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.distributions import (
    Distribution,
    Independent,
    MultivariateNormal,
    Normal,
    TransformedDistribution,
)
from torch.overrides import TorchFunctionMode

__all__ = [
    "ACTIVATIONS",
    "MAX_OUTCOMES",
    "DiagonalNormal",
    "LatentVariableModel",
    "PrivateDistribution",
    "draw",
    "log_prior",
    "mlp",
    "normal_of",
    "plain_torch",
    "private_random",
    "transport",
]

LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)

# of x, that are listed
MAX_OUTCOMES = 10_000

ACTIVATIONS = {"gelu": nn.GELU, "relu": nn.ReLU, "silu": nn.SiLU, "tanh": nn.Tanh}

# torch's global generator is one for the process: whoever borrows it must be alone.
_BORROWING = threading.RLock()


@contextmanager
def private_random(seed: int) -> Iterator[None]:
    """Seed torch's global generators for a block, then give back their states.

    For what cannot be handed a generator: the initialisation of modules and the
    draws of foreign Distributions.
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


def mlp(
    n_inputs: int, hidden_layer_sizes: Sequence[int], n_outputs: int, activation: str
) -> nn.Sequential:
    """Fully connected network."""
    sizes = [n_inputs, *hidden_layer_sizes]
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), ACTIVATIONS[activation]()]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], n_outputs))


class PrivateDistribution(Distribution):
    """A Distribution that draws from a generator it is given.

    torch's own Distributions take no generator and validate their arguments at every
    construction, which would cost more than the arithmetic of a small network.
    """

    arg_constraints: dict = {}  # noqa: RUF012

    def __init__(self, batch_shape, event_shape):
        super().__init__(batch_shape, event_shape, validate_args=False)

    def sample(self, sample_shape=(), generator=None):
        """Draw without a gradient."""
        with torch.no_grad():
            return self.rsample(sample_shape, generator)


class DiagonalNormal(PrivateDistribution):
    """Normal distribution with independent components along the last axis.

    Parameters
    ----------
    loc : Tensor of shape (..., d)
    log_scale : Tensor, broadcastable to ``loc``
        Logarithm of the standard deviations.
    """

    has_rsample = True

    def __init__(self, loc: Tensor, log_scale: Tensor):
        self.loc, self.log_scale = loc, log_scale
        super().__init__(loc.shape[:-1], loc.shape[-1:])

    @property
    def mean(self):
        """Mean."""
        return self.loc

    def entry_log_prob(self, value):
        """Log-density of each entry."""
        e = (value - self.loc) * torch.exp(-self.log_scale)
        return -0.5 * e.square() - self.log_scale - LOG_SQRT_2PI

    def log_prob(self, value):
        """Log-density, summed over the last axis."""
        e = (value - self.loc) * torch.exp(-self.log_scale)
        log_scale = self.log_scale.sum(-1)
        return -0.5 * e.square().sum(-1) - log_scale - self._constant

    def entropy(self):
        """Differential entropy in nats."""
        return self.log_scale.expand_as(self.loc).sum(-1) + (
            self._constant + 0.5 * self.loc.shape[-1]
        )

    @property
    def _constant(self):
        return self.loc.shape[-1] * LOG_SQRT_2PI

    def rsample(self, sample_shape=(), generator=None):
        """Reparametrised draw."""
        shape = (*sample_shape, *self.loc.shape)
        return self.transport(
            torch.randn(
                shape,
                generator=generator,
                dtype=self.loc.dtype,
                device=self.loc.device,
            )
        )

    def transport(self, noise):
        """Map standard normal noise to a draw."""
        return self.loc + torch.exp(self.log_scale) * noise


def normal_of(numbers: Tensor) -> DiagonalNormal:
    """Normal whose d means and d log-scales a network gave, shape (..., 2 d)."""
    mean, log_scale = numbers.chunk(2, -1)
    # a row far outside the training data must not overflow to NaN
    return DiagonalNormal(mean, log_scale.clamp(-12.0, 4.0))


def draw(
    distribution: Distribution, sample_shape=(), generator=None, reparametrised=True
) -> Tensor:
    """Draw with a private generator, whoever wrote the Distribution."""
    differentiable = reparametrised and distribution.has_rsample
    method = getattr(distribution, "rsample" if differentiable else "sample")
    if isinstance(distribution, PrivateDistribution):
        return method(sample_shape, generator)
    seed = torch.randint(2**62, (), generator=generator, device=generator.device)
    with private_random(int(seed)):
        return method(torch.Size(sample_shape))


def transport(distribution: Distribution, noise: Tensor) -> Tensor | None:
    """Map standard normal noise to a draw, deterministically.

    Quasi-random and row-keyed draws need it. Returns None for a family that has no
    such map.
    """
    match distribution:
        case DiagonalNormal():
            return distribution.transport(noise)
        case Independent():
            return transport(distribution.base_dist, noise)
        case Normal():
            return distribution.loc + distribution.scale * noise
        case MultivariateNormal():
            scaled = distribution.scale_tril @ noise.unsqueeze(-1)
            return distribution.loc + scaled.squeeze(-1)
        case TransformedDistribution():
            z = transport(distribution.base_dist, noise)
            for step in distribution.transforms:
                z = None if z is None else step(z)
            return z
    try:
        return distribution.icdf(torch.special.ndtr(noise))
    except NotImplementedError:
        return None


def log_prior(z: Tensor) -> Tensor:
    """Log p(z) of the prior N(0, I_d), shape ``z.shape[:-1]``."""
    return -0.5 * z.square().sum(-1) - z.shape[-1] * LOG_SQRT_2PI


class LatentVariableModel(nn.Module):
    """p(z) p_theta(x|z) with its encoder q_phi(z|x) and posterior r_omega(z|x).

    Parameters
    ----------
    likelihood : nn.Module
        p_theta(x|z); ``forward`` takes codes.
    encoder : nn.Module
        q_phi(z|x), the proposal of the resampling encoder; ``forward`` takes
        ``features(x)``.
    posterior : nn.Module
        r_omega(z|x), trained on draws of the model; ``forward`` takes ``features(x)``.
    features : nn.Module
        What encoder and posterior see of x.
    n_components : int
        Dimension d of the code.
    """

    def __init__(self, likelihood, encoder, posterior, features, n_components):
        super().__init__()
        self.likelihood = likelihood
        self.encoder = encoder
        self.posterior = posterior
        self.features = features
        self.n_components = n_components

    @property
    def reference(self) -> Tensor:
        """A parameter, for its type and device."""
        return next(self.posterior.parameters())

    def q(self, x: Tensor) -> Distribution:
        """Encoder's distribution over z given x."""
        return self.encoder(self.features(x))

    def r(self, x: Tensor) -> Distribution:
        """Information posterior over z given x."""
        return self.posterior(self.features(x))

    def log_prior(self, z: Tensor) -> Tensor:
        """Log p(z)."""
        return log_prior(z)

    def log_joint(self, x: Tensor, z: Tensor) -> Tensor:
        """Log p(z) + log p_theta(x|z)."""
        return self.log_prior(z) + self.likelihood(z).log_prob(x)

    def log_weights(self, x: Tensor, z: Tensor, proposal: Distribution) -> Tensor:
        """Log-importance weights p(x, z) / proposal(z), shape ``z.shape[:-1]``."""
        return self.log_joint(x, z) - proposal.log_prob(z)

    def draw_codes(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw n codes from the prior, each axis stratified.

        A Latin hypercube: each code has exactly the prior's distribution, and means of
        functions that are nearly additive over the axes lose most of their noise.
        """
        u = torch.rand(
            (2, n, self.n_components),
            generator=generator,
            dtype=self.reference.dtype,
            device=self.reference.device,
        )
        u = (u[0].argsort(0) + u[1]) / n
        # the ends of the float grid would be mapped to infinity
        return torch.special.ndtri(u.clamp(1e-7, 1 - 1e-7))
