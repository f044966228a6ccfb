"""p(z): what codes are before a row is seen.

Everything that the package asks of the prior is asked here: another prior is another
class with these members.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal, kl_divergence

from sklearn_mae.model.distributions import LOG_SQRT_2PI, DiagonalNormal

__all__ = ["BlockPrior", "Prior", "StandardNormal"]


class Prior:
    """A distribution over codes z of d components.

    Parameters
    ----------
    n_components : int
        d.
    """

    def __init__(self, n_components: int):
        self.n_components = n_components

    @property
    def entropy(self) -> float:
        """H(z), in nats."""
        raise self._missing("entropy")

    def log_prob(self, z: Tensor) -> Tensor:
        """Log p(z), shape ``z.shape[:-1]``."""
        raise self._missing("log_prob")

    def draw(self, n: int, like: Tensor, generator: torch.Generator) -> Tensor:
        """Draw n independent codes, of the type and on the device of ``like``."""
        raise self._missing("draw")

    def stratified(self, n: int, like: Tensor, generator: torch.Generator) -> Tensor:
        """Draw n codes that spread evenly; each has the prior's distribution."""
        raise self._missing("stratified")

    def kl(self, q: Distribution, z: Tensor) -> Tensor:
        """KL(q || p(z)), in closed form or estimated from draws z (k, ..) of q."""
        return (q.log_prob(z) - self.log_prob(z)).mean(-2)

    def wide(self, z: Tensor) -> DiagonalNormal:
        """Return a normal that covers the prior, of the batch shape of codes z."""
        raise self._missing("wide")

    def precision(self, z: Tensor) -> Tensor:
        """Minus the Hessian of log p at z (n, d), float64 (n, d, d) or (d, d).

        Positive definite: curvatures that are not are raised.
        """
        raise self._missing("precision")

    def lattice(
        self, n: int, like: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, float]:
        """Return points, the logarithms of their masses, and that of a cell's volume.

        n points along each axis, shifted at random, shapes (n ** d, d) and (n ** d,).
        """
        raise self._missing("lattice")

    def moments(self, z: Tensor) -> Tensor:
        """Functions of z (.., c), of mean zero and about unit scale under the prior."""
        raise self._missing("moments")

    def controls(self, weights: Tensor, z: Tensor) -> Tensor:
        """Weighted means of such functions: control variates, most useful first.

        Parameters
        ----------
        weights : Tensor of shape (K, n)
            They add up to one over K.
        z : Tensor of shape (K, n, d)
            Codes.

        Returns
        -------
        Tensor of shape (n, c)
            Of the moments, and of others.
        """
        return torch.einsum("kn,kni->ni", weights, self.moments(z))

    def _missing(self, name: str) -> NotImplementedError:
        return NotImplementedError(
            f"{type(self).__name__} does not declare {name!r}: see Prior in "
            "sklearn_mae/model/prior.py."
        )


class StandardNormal(Prior):
    """N(0, I_d)."""

    # the mass beyond is 1e-15
    edge = 8.0

    @property
    def entropy(self) -> float:
        """H(z), in nats."""
        return self.n_components * (LOG_SQRT_2PI + 0.5)

    def log_prob(self, z: Tensor) -> Tensor:
        """Log p(z)."""
        return -0.5 * z.square().sum(-1) - z.shape[-1] * LOG_SQRT_2PI

    def draw(self, n: int, like: Tensor, generator: torch.Generator) -> Tensor:
        """Draw n codes."""
        z = like.new_empty(n, self.n_components)
        return z.detach().normal_(generator=generator)

    def stratified(self, n: int, like: Tensor, generator: torch.Generator) -> Tensor:
        """Draw n codes, each axis stratified.

        A Latin hypercube: each code has exactly the prior's distribution, and means of
        functions that are nearly additive over the axes lose most of their noise.
        """
        u = torch.rand(
            (2, n, self.n_components),
            generator=generator,
            dtype=like.dtype,
            device=like.device,
        )
        u = (u[0].argsort(0) + u[1]) / n
        # the ends of the float grid would be mapped to infinity
        return torch.special.ndtri(u.clamp(1e-7, 1 - 1e-7))

    def kl(self, q: Distribution, z: Tensor) -> Tensor:
        """KL(q || p(z)) in closed form where there is one, else its estimate from z."""
        if isinstance(q, DiagonalNormal):
            second_moment = q.loc.square() + (2 * q.log_scale).exp()
            return 0.5 * (second_moment - 1).sum(-1) - q.log_scale.sum(-1)
        zeros = z.new_zeros((*q.batch_shape, *q.event_shape))
        normal = Normal(zeros, torch.ones_like(zeros), validate_args=False)
        prior = Independent(normal, 1, validate_args=False)
        try:
            return kl_divergence(q, prior)
        except NotImplementedError:
            return super().kl(q, z)

    def wide(self, z: Tensor) -> DiagonalNormal:
        """The prior itself."""
        return DiagonalNormal(torch.zeros_like(z), z.new_zeros(z.shape[-1]))

    def precision(self, z: Tensor) -> Tensor:
        """The identity."""
        return torch.eye(self.n_components, dtype=torch.float64, device=z.device)

    def lattice(
        self, n: int, like: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, float]:
        """Return points over [-8, 8], log-masses that add up to one, log of a cell."""
        d, edge = self.n_components, self.edge
        shift = torch.rand(d, generator=generator, dtype=like.dtype, device=like.device)
        steps = torch.arange(n, dtype=like.dtype, device=like.device)
        axes = [(steps + first) * (2 * edge / n) - edge for first in shift]
        points = torch.cartesian_prod(*axes).reshape(-1, d)
        log_mass = -0.5 * points.square().sum(-1)
        log_cell = d * math.log(2 * edge / n)
        return points, log_mass - torch.logsumexp(log_mass, 0), log_cell

    def moments(self, z: Tensor) -> Tensor:
        """Return z^2 - 1 and z."""
        return torch.cat([z.square() - 1, z], -1)

    def controls(self, weights: Tensor, z: Tensor) -> Tensor:
        """Weighted means of z^2 - 1 and z, then of z_i z_j, then of z^3 - 3 z."""
        i, j = torch.triu_indices(z.shape[-1], z.shape[-1], 1, device=z.device)
        products = torch.einsum("kn,kni,knj->nij", weights, z, z)
        others = torch.cat([z.square() - 1, z, z**3 - 3 * z], -1)
        squares, means, cubes = torch.einsum("kn,kni->ni", weights, others).chunk(3, -1)
        return torch.cat([squares, means, products[:, i, j], cubes], -1)


class BlockPrior(Prior):
    """Independent blocks of components, each with a prior of its own.

    Parameters
    ----------
    blocks : sequence of Prior
        In the order of their components.
    """

    def __init__(self, blocks: Sequence[Prior]):
        super().__init__(sum(block.n_components for block in blocks))
        self.blocks = tuple(blocks)

    def split(self, z: Tensor) -> list[tuple[Prior, Tensor]]:
        """Return each block with its components of z."""
        sizes = [block.n_components for block in self.blocks]
        return list(zip(self.blocks, z.split(sizes, -1), strict=True))

    @property
    def entropy(self) -> float:
        """Sum over the blocks."""
        return sum(block.entropy for block in self.blocks)

    def log_prob(self, z: Tensor) -> Tensor:
        """Sum over the blocks."""
        first, *others = [block.log_prob(part) for block, part in self.split(z)]
        return sum(others, first)

    def draw(self, n: int, like: Tensor, generator: torch.Generator) -> Tensor:
        """Draw each block."""
        return torch.cat([b.draw(n, like, generator) for b in self.blocks], -1)

    def stratified(self, n: int, like: Tensor, generator: torch.Generator) -> Tensor:
        """Draw each block, stratified."""
        return torch.cat([b.stratified(n, like, generator) for b in self.blocks], -1)

    def kl(self, q: Distribution, z: Tensor) -> Tensor:
        """Sum over the blocks, where a normal has independent ones."""
        if not isinstance(q, DiagonalNormal):
            return super().kl(q, z)
        first, *others = [
            block.kl(part, some)
            for (block, some), part in zip(self.split(z), self.parts(q), strict=True)
        ]
        return sum(others, first)

    def parts(self, q: DiagonalNormal) -> list[DiagonalNormal]:
        """Return the distributions of the blocks' components under a normal."""
        scales = q.log_scale.expand_as(q.loc)
        sizes = [block.n_components for block in self.blocks]
        pairs = zip(q.loc.split(sizes, -1), scales.split(sizes, -1), strict=True)
        return [DiagonalNormal(loc, log_scale) for loc, log_scale in pairs]

    def wide(self, z: Tensor) -> DiagonalNormal:
        """Return the blocks' proposals side by side."""
        parts = [block.wide(part) for block, part in self.split(z)]
        scales = [p.log_scale.expand_as(p.loc) for p in parts]
        return DiagonalNormal(
            torch.cat([p.loc for p in parts], -1), torch.cat(scales, -1)
        )

    def precision(self, z: Tensor) -> Tensor:
        """Blocks along the diagonal."""
        parts = [block.precision(part) for block, part in self.split(z)]
        d = self.n_components
        shape = torch.broadcast_shapes(*(part.shape[:-2] for part in parts))
        whole = z.new_zeros((*shape, d, d), dtype=torch.float64)
        start = 0
        for part in parts:
            end = start + part.shape[-1]
            whole[..., start:end, start:end] = part
            start = end
        return whole

    def lattice(
        self, n: int, like: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, float]:
        """Return all pairs of the blocks' points."""
        points, log_mass, log_cell = self.blocks[0].lattice(n, like, generator)
        for block in self.blocks[1:]:
            others, other_mass, other_cell = block.lattice(n, like, generator)
            left = points.repeat_interleave(len(others), 0)
            points = torch.cat([left, others.repeat(len(points), 1)], -1)
            log_mass = (log_mass.unsqueeze(-1) + other_mass).flatten()
            log_cell += other_cell
        return points, log_mass, log_cell

    def moments(self, z: Tensor) -> Tensor:
        """Return the blocks' own."""
        return torch.cat([block.moments(part) for block, part in self.split(z)], -1)

    def controls(self, weights: Tensor, z: Tensor) -> Tensor:
        """Return the blocks' own, and no product across blocks."""
        parts = [block.controls(weights, part) for block, part in self.split(z)]
        return torch.cat(parts, -1)
