"""The numbers reported after training: codes, bounds, likelihoods, information.

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
from sklearn_mae.information import (
    amortised_proposal,
    estimate_sandwich,
    regressed_mean,
    sandwich,
    weigh,
)
from sklearn_mae.model import LatentVariableModel, draw, transport

__all__ = ["Evaluation", "information_of_model"]

# codes decoded in one call, and numbers held at once while integrating
DECODED_AT_ONCE = 16_384
NUMBERS_AT_ONCE = 4_000_000


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

    def __init__(self, model: LatentVariableModel, rule, seed: int):
        self.model, self.rule, self.seed = model, rule, seed

    def mean_codes(self, x: Tensor) -> Tensor:
        """Posterior means, shape (n, d)."""

        def mean(x):
            q, z = self._proposals(x, self._noise(self.n_groups, self.rule.n_draws))
            return self.rule.mean_code(self.model, x, q, z).mean(0)

        return self._by_rows(mean, self.n_groups * self.rule.n_draws, x)

    def bound(self, x: Tensor) -> Bound:
        """Bound on log p(x), distortion and rate of each row."""

        def bound(x):
            noise = self._noise(4 * self.n_groups, self.rule.n_draws)
            q, z = self._proposals(x, noise)
            parts = self.rule.bound(self.model, x, q, z)
            return torch.stack([part.mean(0) for part in parts], -1)

        n_draws = 4 * self.n_groups * self.rule.n_draws
        return Bound(*self._by_rows(bound, n_draws, x).unbind(-1))

    def log_likelihood(self, x: Tensor, n_importance: int) -> Tensor:
        """Importance-weighted estimate of log p(x), shape (n,)."""

        def log_likelihood(x):
            q, z = self._proposals(x, self._noise(n_importance, 1))
            log_w = self.model.log_weights(x, z.squeeze(1), q)
            return torch.logsumexp(log_w, 0) - math.log(n_importance)

        return self._by_rows(log_likelihood, n_importance, x)

    def conditional(self, x: Tensor, z: Tensor) -> Tensor:
        """Log p(x|z) row by row, shape (n,)."""

        def log_prob(x, z):
            return self.model.likelihood(z).log_prob(x)

        return self._by_rows(log_prob, 1, x, z, encoded=False)

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

    def _noise(self, n_groups: int, n_draws: int) -> Tensor:
        """Scrambled Sobol points as normals, shape (S, k, 1, d)."""
        reference = self.model.reference
        d = self.model.n_components
        u = SobolEngine(n_draws * d, scramble=True, seed=self.seed).draw(
            n_groups, dtype=torch.float64
        )
        normals = torch.special.ndtri(u.clamp(1e-12, 1 - 1e-12))
        return normals.reshape(n_groups, n_draws, 1, d).to(reference)

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
        self, function: Callable, n_draws: int, *arrays: Tensor, encoded: bool = True
    ) -> Tensor:
        """Apply a function of rows, encoded or not, to chunks of them."""
        rows = max(1, DECODED_AT_ONCE // n_draws)
        if encoded:
            q = self.model.q(arrays[0][:1])
            if transport(q, self._noise(1, 1)) is None:
                rows = 1
        chunks = zip(*(array.split(rows) for array in arrays), strict=True)
        return torch.cat([function(*chunk) for chunk in chunks])


def information_of_model(
    model: LatentVariableModel,
    n_samples: int,
    tol: float,
    generator: torch.Generator,
    budget: int = 2_000_000,
) -> dict:
    """Bracket I(x, z) of the model, in nats.

    Sums over outcomes where x can be listed, a grid over z in one or two dimensions,
    else the sandwich.

    Parameters
    ----------
    model : LatentVariableModel
        In float64.
    n_samples : int
        Joint draws to begin with.
    tol : float
        Width of the interval, two standard errors on each side included, at which to
        stop.
    generator : torch.Generator
        Source of all draws.
    budget : int
        Codes that the sandwich may decode to come nearer to ``tol``.

    Returns
    -------
    dict
        ``lower``, ``upper``, ``lower_se``, ``upper_se``, ``method`` and what it took.
    """
    outcomes = model.likelihood.outcomes()
    on_grid = model.n_components <= 2
    result = None
    if outcomes is not None:
        result = _by_enumeration(model, outcomes) if on_grid else None
        if result is None:
            result = _by_enumerated_sandwich(
                model, outcomes, n_samples, generator, budget
            )
    elif on_grid:
        result = _by_grid(model, n_samples, tol, generator)
    if result is None:
        result = _by_sandwich(model, n_samples, tol, generator, budget)
    return {"estimate": 0.5 * (result["lower"] + result["upper"]), **result}


def _by_sandwich(model, n_samples, tol, generator, budget):
    """Double draws or proposals on pilot runs, then estimate on fresh draws."""
    n, k, n_pilot = n_samples, 64, min(n_samples, 500)
    # a pilot is worth its draws where what it may ask for can still be paid
    while (n_pilot + 2 * n) * k <= budget:
        pilot = estimate_sandwich(model, n_pilot, k, generator)
        budget -= n_pilot * k
        gap = pilot["upper"] - pilot["lower"]
        noise = 2 * (pilot["lower_se"] + pilot["upper_se"]) * (n_pilot / n) ** 0.5
        if gap + noise <= 0.9 * tol:
            break
        if gap > noise:
            k *= 2
        else:
            n *= 2
    final = estimate_sandwich(model, n, k, generator)
    return {**final, "method": "sandwich", "n_samples": n, "n_proposals": k}


def _exact(information, method, **extra):
    return {
        "lower": information,
        "upper": information,
        "lower_se": 0.0,
        "upper_se": 0.0,
        "method": method,
        **extra,
    }


def _grid(d: int, n: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Points of a grid over [-8, 8]^d and the logarithms of their prior masses."""
    axis = torch.linspace(-8, 8, n, dtype=like.dtype, device=like.device)
    points = torch.cartesian_prod(*[axis] * d).reshape(-1, d)
    log_mass = -0.5 * points.square().sum(-1)
    return points, log_mass - torch.logsumexp(log_mass, 0)


@torch.no_grad()
def _by_enumeration(model, outcomes):
    """Sum over outcomes; the integral over z on a grid, doubled until two agree.

    None where no grid is fine enough.
    """
    before, n = math.inf, 257 if model.n_components == 1 else 129
    while n**model.n_components <= 1 << 20:
        points, log_mass = _grid(model.n_components, n, model.reference)
        rows = max(1, min(DECODED_AT_ONCE, NUMBERS_AT_ONCE // outcomes.numel()))
        log_marginal, negentropy = [], 0.0
        for z, mass in zip(points.split(rows), log_mass.split(rows), strict=True):
            log_prob = model.likelihood(z).log_prob(outcomes.unsqueeze(1))  # (S, rows)
            log_marginal.append(torch.logsumexp(log_prob + mass, -1))
            negentropy += float((mass.exp() * log_prob.exp() * log_prob).sum())
        marginal = torch.logsumexp(torch.stack(log_marginal), 0)
        now = negentropy - float((marginal.exp() * marginal).sum())
        if abs(now - before) < 1e-5:
            # what is left of rounding must not make an information negative
            return _exact(max(now, 0.0), "enumeration", n_outcomes=len(outcomes))
        before, n = now, 2 * n - 1
    return None


def _by_enumerated_sandwich(model, outcomes, n_samples, generator, budget):
    """Sum over outcomes, the sandwich for log p(x).

    Codes in groups share their proposals: the standard error is that of the groups'
    means.
    """
    n_groups = 25
    n = max(2, n_samples // n_groups)
    k = int(min(256, max(8, budget // (n_groups * len(outcomes)))))
    rows = max(1, min(DECODED_AT_ONCE // k, NUMBERS_AT_ONCE // (n * outcomes.shape[1])))
    means = []
    for _ in range(n_groups):
        z0 = model.draw_codes(n, generator)
        p = model.likelihood(z0)
        total = 0
        for some in outcomes.split(rows):
            x = some.unsqueeze(1)
            log_prob = p.log_prob(x)
            proposal = amortised_proposal(model, x)
            weighted = weigh(model, x, z0, log_prob, proposal, k, generator)
            both_sides = torch.stack(sandwich(weighted))
            total = total + (log_prob.exp() * both_sides).sum(1).mean(-1)
        means.append(total)
    both = torch.stack(means).double().cpu().numpy()
    se = both.std(axis=0, ddof=1) / n_groups**0.5
    return {
        "lower": float(both[:, 0].mean()),
        "upper": float(both[:, 1].mean()),
        "lower_se": float(se[0]),
        "upper_se": float(se[1]),
        "method": "enumeration",
        "n_outcomes": len(outcomes),
        "n_samples": n * n_groups,
        "n_proposals": k,
    }


@torch.no_grad()
def _by_grid(model, n_samples, tol, generator):
    """KL(p(z|x) || p(z)) on a grid over z for draws of x; None if too fine a grid."""
    while True:
        z0 = torch.empty(
            (n_samples, model.n_components),
            dtype=model.reference.dtype,
            device=model.reference.device,
        ).normal_(generator=generator)
        x = draw(model.likelihood(z0), (), generator, reparametrised=False)
        on_grid = _posteriors_on_grid(model, x)
        if on_grid is None:
            return None
        information, moments = (part.cpu().numpy() for part in on_grid)
        mean, se = regressed_mean(information, moments)
        if 4 * se <= tol or n_samples >= 64_000:
            exact = _exact(mean, "grid", n_samples=n_samples)
            return {**exact, "lower_se": se, "upper_se": se}
        n_samples *= 2


def _posteriors_on_grid(model, x):
    """For each row KL(p(z|x) || p(z)), and the posterior means of z and z^2 - 1.

    The grid is doubled until two agree.
    """
    affordable = 2e9
    d = model.n_components
    before, n = None, 513 if d == 1 else 65
    while n**d * x.numel() <= affordable:
        points, log_mass = _grid(d, n, model.reference)
        log_marginal = x.new_full((len(x),), -math.inf)
        means = x.new_zeros((len(x), 1 + 2 * d))
        at_once = DECODED_AT_ONCE
        for z, mass in zip(points.split(at_once), log_mass.split(at_once), strict=True):
            p = model.likelihood(z)
            moments = torch.cat([z, z.square() - 1], -1)
            rows = max(1, NUMBERS_AT_ONCE // (len(z) * x.shape[-1]))
            for start in range(0, len(x), rows):
                i = slice(start, start + rows)
                log_lik = p.log_prob(x[i].unsqueeze(1))
                log_sum = torch.logsumexp(log_lik + mass, -1)
                total = torch.logaddexp(log_marginal[i], log_sum)
                weights = (log_lik + mass - total.unsqueeze(-1)).exp()
                kept = (log_marginal[i] - total).exp().unsqueeze(-1)
                added = [(weights * log_lik).sum(-1, keepdim=True), weights @ moments]
                means[i] = kept * means[i] + torch.cat(added, -1)
                log_marginal[i] = total
        information = means[:, 0] - log_marginal
        if before is not None and float((information - before).abs().max()) < 1e-4:
            return information, means[:, 1:]
        before, n = information, 2 * n - 1
    return None
