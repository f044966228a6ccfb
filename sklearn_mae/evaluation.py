"""The numbers reported of rows after training: codes, bounds, likelihoods.

Everything that belongs to a row is a pure function of the fitted state and that row:
the draws inside are either fixed quasi-random points, the same for every row, or
noise that is handed in. Computed in the model's own precision, chunk by chunk.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.quasirandom import SobolEngine

from sklearn_mae.encoders import Bound
from sklearn_mae.model import LatentVariableModel, draw, transport

__all__ = ["Evaluation"]

# codes decoded in one call
DECODED_AT_ONCE = 4_096


class Evaluation:
    """Figures of a trained model.

    Parameters
    ----------
    model : LatentVariableModel
        In evaluation mode, in the precision to compute in.
    rule : object
        Rule of the encoder (``encoders.py``).
    seed : int
        Of the fixed draws.
    """

    # groups of draws behind a row's mean code and bounds; powers of two for Sobol
    n_groups = 16
    # groups of other draws behind the density of a resampled code
    n_others = 128

    def __init__(self, model: LatentVariableModel, rule, seed: int):
        self.model, self.rule, self.seed = model, rule, seed

    def mean_codes(self, x: Tensor) -> Tensor:
        """Posterior means, shape (n, d)."""

        def mean(x):
            q, z = self._proposals(x, self._noise(self.n_groups, self.rule.n_draws))
            return self.rule.mean_code(self.model, x, q, z).mean(0)

        return self._by_rows(mean, self.n_groups * self.rule.n_draws, x)

    def bound(self, x: Tensor, keys: Tensor | None = None) -> Bound:
        """Bound on log p(x), distortion and rate of each row; keys (n, k d + 1)."""
        k = self.rule.n_draws

        def bound(x, keys=None):
            q, z = self._proposals(x, self._noise(self.n_groups, k, keys))
            parts = self.rule.bound(self.model, x, q, z)
            return torch.stack([part.mean(0) for part in parts], -1)

        parts = self._by_rows(bound, self.n_groups * k, x, keys)
        return Bound(*parts.unbind(-1))

    def log_likelihood(
        self, x: Tensor, n_importance: int, keys: Tensor | None = None
    ) -> Tensor:
        """Importance-weighted estimate of log p(x), shape (n,); keys (n, k d + 1)."""

        def log_likelihood(x, keys=None):
            q, z = self._proposals(x, self._noise(n_importance, 1, keys))
            log_w = self.model.log_weights(x, z.squeeze(1), q)
            return torch.logsumexp(log_w, 0) - math.log(n_importance)

        return self._by_rows(log_likelihood, n_importance, x, keys)

    def conditional(self, x: Tensor, z: Tensor) -> Tensor:
        """Log p(x|z) row by row, shape (n,)."""

        def log_prob(x, z):
            return self.model.likelihood(z).log_prob(x)

        return self._by_rows(log_prob, 1, x, z, encoded=False)

    def posterior(self, x: Tensor, z: Tensor) -> Tensor:
        """Log q(z|x) of the code row by row, shape (n,)."""
        k = self.rule.n_draws

        def log_density(x, z):
            q, draws = self._proposals(x, self._noise(self.n_others, k))
            return self.rule.log_density(self.model, x, q, z, draws[:, 1:])

        return self._by_rows(log_density, self.n_others * k, x, z)

    def decode(self, z: Tensor) -> Tensor:
        """What inverse_transform returns for codes (..., d), shape (..., D)."""

        def point(z):
            return self.model.likelihood.point(self.model.likelihood(z))

        flat = self._by_rows(point, 1, z.flatten(0, -2), encoded=False)
        return flat.unflatten(0, z.shape[:-1])

    def draw_codes(self, x: Tensor, noise: Tensor) -> Tensor:
        """Draws from the code's distribution by noise of shape (n, k d + 1)."""
        k, d = self.rule.n_draws, self.model.n_components

        def choose(x, noise):
            normals = noise[:, :-1].unflatten(-1, (k, d)).movedim(0, 1).unsqueeze(0)
            q, z = self._proposals(x, normals)
            u = torch.special.ndtr(noise[:, -1])
            return self.rule.choose(self.model, x, q, z, u).squeeze(0)

        return self._by_rows(choose, k, x, noise)

    @property
    def n_noise(self) -> int:
        """Numbers of noise behind one draw of a code."""
        return self.rule.n_draws * self.model.n_components + 1

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Joint draws (x, z) of the model."""
        reference = self.model.reference
        z = torch.randn(
            (n, self.model.n_components),
            generator=generator,
            dtype=reference.dtype,
            device=reference.device,
        )
        p = self.model.likelihood(z)
        return draw(p, (), generator, reparametrised=False), z

    def _noise(self, n_groups: int, n_draws: int, keys: Tensor | None = None) -> Tensor:
        """Scrambled Sobol points as normals, shape (S, k, 1 or n, d).

        Keys, normal noise of each row's own, rotate the points: common ones would give
        all rows a common error, which no mean over rows takes away.
        """
        size = n_draws * self.model.n_components
        engine = SobolEngine(size, scramble=True, seed=self.seed)
        u = engine.draw(n_groups, dtype=torch.float64).unsqueeze(1)
        u = u.to(self.model.reference)
        if keys is not None:
            u = (u + torch.special.ndtr(keys[:, :size])).frac()
        normals = torch.special.ndtri(u.clamp(1e-12, 1 - 1e-12))
        return normals.unflatten(-1, (n_draws, -1)).movedim(-2, 1)

    def _proposals(self, x: Tensor, noise: Tensor) -> tuple[Distribution, Tensor]:
        q = self.model.q(x)
        z = transport(q, noise)
        if z is None:  # no map: the noise is a seed, row by row (see _by_rows)
            seed = int(noise.flatten()[0].double().view(torch.int64))
            generator = torch.Generator(noise.device).manual_seed(seed)
            z = draw(q, noise.shape[:2], generator, reparametrised=False)
        return q, z

    @torch.no_grad()
    def _by_rows(
        self,
        function: Callable,
        n_draws: int,
        *arrays: Tensor | None,
        encoded: bool = True,
    ) -> Tensor:
        """Apply a function of rows, encoded or not, to chunks of them."""
        given = [array for array in arrays if array is not None]
        rows = max(1, DECODED_AT_ONCE // n_draws)
        if encoded:
            q = self.model.q(given[0][:1])
            if transport(q, self._noise(1, 1)) is None:
                rows = 1
        chunks = zip(*(array.split(rows) for array in given), strict=True)
        return torch.cat([function(*chunk) for chunk in chunks])
