"""A prior with classes in it: p(a) p(y|a), a mixture of one normal for each class.

a|y ~ N(rho e_y, I). The directions e_y are the corners of a simplex where there is
room for one, and spread evenly else. rho is solved so that I(a; y) is what was asked
for; the classifier p(y|a) follows by Bayes' rule and has no parameters of its own.
"""

import math

import numpy as np
import torch
from scipy.optimize import brentq
from torch import Tensor
from torch.distributions import Distribution
from torch.quasirandom import SobolEngine

from sklearn_mae.model.distributions import LOG_SQRT_2PI, DiagonalNormal
from sklearn_mae.model.prior import Prior

__all__ = ["ClassNormals", "class_directions", "class_means", "information_of_means"]

# quasi-random points behind I(a; y), each with its mirror image: this many at most, and
# as many as keep points times classes squared below the second number
MOST_POINTS, FEWEST_POINTS, POINTS_TIMES_PAIRS = 1 << 12, 16, 1 << 21
# beyond it classes that do not coincide have nothing in common
LARGEST_RHO = 1e4
# steps that spread directions over a sphere
SPREADING = 500


def class_directions(k: int, d: int) -> np.ndarray:
    """Return k points of about unit norm in d dimensions that lie far apart, (k, d).

    With d >= k - 1 the corners of a regular simplex. On a line, evenly spaced points;
    else points of a sphere that repel each other.
    """
    if d >= k - 1:
        corners = np.linalg.svd(np.eye(k) - 1 / k)[0][:, : k - 1]
        corners /= np.linalg.norm(corners[0])
        return np.pad(corners, ((0, 0), (0, d - k + 1)))
    if d == 1:
        return np.linspace(-1, 1, k)[:, None]
    points = np.random.default_rng(0).normal(size=(k, d))
    for step in range(SPREADING):
        points /= np.linalg.norm(points, axis=1, keepdims=True)
        gaps = points[:, None] - points
        squares = (gaps**2).sum(-1) + np.eye(k)
        force = (gaps / squares[..., None] ** 2).sum(1)
        force /= np.linalg.norm(force, axis=1).max()
        points += (1 - step / SPREADING) * force / k ** (1 / (d - 1))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


class _Information:
    """I(a; y) in nats as a function of rho, by the same points for each rho."""

    def __init__(self, directions: np.ndarray, shares: np.ndarray):
        k, d = directions.shape
        n = min(MOST_POINTS, max(FEWEST_POINTS, POINTS_TIMES_PAIRS // k**2))
        u = SobolEngine(d, scramble=True, seed=0).draw(n, dtype=torch.float64)
        noise = torch.special.ndtri(u.clamp(1e-12, 1 - 1e-12))
        e = torch.as_tensor(directions)
        self._shares = torch.as_tensor(shares)
        self._along = torch.cat([noise, -noise]) @ e.T
        self._products = e @ e.T

    def __call__(self, rho: float) -> float:
        squares = self._products.diagonal()
        prior = self._shares.log() - 0.5 * rho**2 * squares
        total = 0.0
        for y, share in enumerate(self._shares.tolist()):
            logits = prior + rho**2 * self._products[y] + rho * self._along
            log_ratio = logits[:, y] - torch.logsumexp(logits, 1)
            total += share * (float(log_ratio.mean()) - math.log(share))
        return total


def information_of_means(means: np.ndarray, shares: np.ndarray) -> float:
    """Return I(a; y) of normals of unit variance around such means, in nats."""
    return _Information(means, shares)(1.0)


def class_means(shares: np.ndarray, d: int, nats: float) -> np.ndarray:
    """Return rho e_y, (k, d), of which the mean over classes is 0 and I(a; y) = nats.

    Parameters
    ----------
    shares : ndarray of shape (k,)
        Frequencies of the classes, all above 0.
    d : int
        Number of components of a.
    nats : float
        At most H(y).
    """
    directions = class_directions(len(shares), d)
    directions = directions - shares @ directions
    if nats <= 0:
        return np.zeros_like(directions)
    information = _Information(directions, shares)
    high = 1.0
    while information(high) < nats and high < LARGEST_RHO:
        high *= 2
    missing = lambda rho: information(rho) - nats
    rho = high if missing(high) <= 0 else brentq(missing, 0.0, high, xtol=1e-10)
    return rho * directions


class ClassNormals(Prior):
    """Mixture of normals of unit variance, one for each class of a label.

    Parameters
    ----------
    means : Tensor of shape (k, d)
        Of the classes; their mean, with the frequencies, is 0.
    shares : Tensor of shape (k,)
        Frequencies of the classes.
    """

    # the mass beyond, from the outermost mean, is 1e-15
    edge = 8.0

    def __init__(self, means: Tensor, shares: Tensor):
        super().__init__(means.shape[1])
        self.means, self.shares = means.double().cpu(), shares.double().cpu()
        self.information = information_of_means(self.means.numpy(), self.shares.numpy())
        self._variances = 1 + self.shares @ self.means.square()

    @property
    def entropy(self) -> float:
        """H(a) = H(a|y) + I(a; y), in nats."""
        return self.n_components * (LOG_SQRT_2PI + 0.5) + self.information

    def _logits(self, a: Tensor) -> Tensor:
        """Log p(y) p(a|y) but for what all classes have in common, (..., k)."""
        means = self.means.to(a)
        constants = self.shares.log() - 0.5 * self.means.square().sum(-1)
        return a @ means.mT + constants.to(a)

    def log_class(self, a: Tensor) -> Tensor:
        """Log p(y|a) by Bayes' rule, shape (..., k)."""
        return torch.log_softmax(self._logits(a), -1)

    def log_prob(self, z: Tensor) -> Tensor:
        """Log p(a)."""
        common = 0.5 * z.square().sum(-1) + z.shape[-1] * LOG_SQRT_2PI
        return torch.logsumexp(self._logits(z), -1) - common

    def draw(self, n: int, like: Tensor, generator: torch.Generator) -> Tensor:
        """Draw a class, then a code of it, n times."""
        z = like.new_empty(n, self.n_components).detach()
        shares = self.shares.to(like)
        labels = torch.multinomial(shares, n, replacement=True, generator=generator)
        return z.normal_(generator=generator) + self.means.to(like)[labels]

    def stratified(self, n: int, like: Tensor, generator: torch.Generator) -> Tensor:
        """Draw n codes: classes by their frequencies, and within them each axis."""
        size = (2, n, 1 + self.n_components)
        u = torch.rand(size, generator=generator, dtype=like.dtype, device=like.device)
        u = ((u[0].argsort(0) + u[1]) / n).clamp(1e-7, 1 - 1e-7)
        ends = self.shares.cumsum(0)[:-1].to(like)
        labels = torch.searchsorted(ends, u[:, 0].contiguous())
        return torch.special.ndtri(u[:, 1:]) + self.means.to(like)[labels]

    def kl(self, q: Distribution, z: Tensor) -> Tensor:
        """KL(q || p(a)), of a normal in closed form but for which class it is."""
        if not isinstance(q, DiagonalNormal):
            return super().kl(q, z)
        second_moment = q.loc.square() + (2 * q.log_scale).exp()
        common = 0.5 * second_moment.sum(-1) + z.shape[-1] * LOG_SQRT_2PI
        return common - q.entropy() - torch.logsumexp(self._logits(z), -1).mean(-2)

    def wide(self, z: Tensor) -> DiagonalNormal:
        """Return the normal of the mixture's moments along each axis."""
        return DiagonalNormal(torch.zeros_like(z), 0.5 * self._variances.log().to(z))

    def precision(self, z: Tensor) -> Tensor:
        """Return minus the Hessian of log p, curvatures below half of ``wide`` raised.

        Between the classes some are negative.
        """
        share, means = self.log_class(z.double()).exp(), self.means.to(z.device)
        mean = share @ means
        second = torch.einsum("nk,ki,kj->nij", share, means, means)
        covariance = second - mean.unsqueeze(-1) * mean.unsqueeze(-2)
        variances, axes = torch.linalg.eigh(covariance)
        curvature = (1 - variances).clamp_min(float(0.5 / self._variances.max()))
        return (axes * curvature.unsqueeze(-2)) @ axes.mT

    def lattice(
        self, n: int, like: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, float]:
        """Return points from 8 below the lowest mean to 8 above the highest."""
        means = self.means.to(like)
        low, high = means.amin(0) - self.edge, means.amax(0) + self.edge
        shift = torch.rand(
            len(low), generator=generator, dtype=like.dtype, device=like.device
        )
        steps = torch.arange(n, dtype=like.dtype, device=like.device)
        cells = (high - low) / n
        axes = [
            (steps + first) * cell + start
            for first, cell, start in zip(shift, cells, low, strict=True)
        ]
        points = torch.cartesian_prod(*axes).reshape(-1, len(low))
        log_mass = self.log_prob(points)
        log_cell = float(cells.log().sum())
        return points, log_mass - torch.logsumexp(log_mass, 0), log_cell

    def moments(self, z: Tensor) -> Tensor:
        """Return z^2 / v - 1 and z / sqrt(v), v the variances along the axes."""
        variances = self._variances.to(z)
        return torch.cat([z.square() / variances - 1, z / variances.sqrt()], -1)
