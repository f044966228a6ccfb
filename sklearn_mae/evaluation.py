"""The numbers reported of rows after training: codes, bounds, likelihoods.

Everything that belongs to a row is a pure function of the fitted state and that row:
the draws inside are either fixed quasi-random points, the same for every row, or
noise that is handed in. Computed in the model's own precision, chunk by chunk.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.quasirandom import SobolEngine

from sklearn_mae.encoders import Bound
from sklearn_mae.information import Bracket, posterior_normal, wary_proposal
from sklearn_mae.model import (
    LatentVariableModel,
    RowDistribution,
    Rows,
    draw,
    in_single_precision,
    transport,
)

__all__ = ["MOST_NOISE", "Evaluation", "MixedPrecision", "refuse_nan"]

# numbers of a Sobol point: draws of a row's code times its components, at most
MOST_NOISE = SobolEngine.MAXDIM
# codes decoded in one call
DECODED_AT_ONCE = 4_096
# numbers held at once where every row meets every code
PAIRED_AT_ONCE = 4_000_000
# Rows of a padded chunk are a multiple of this. How a product of matrices or a sum is
# rounded depends on its shape, and on the place of the row in its block.
BLOCK = 64
# features beyond which a row's figures are computed in double precision
FARTHEST = 100.0


def _at_least_zero(value: float) -> float:
    """Cut off what is below zero; NaN stays."""
    return 0.0 if value < 0 else value


def refuse_nan(found: Tensor, first: int = 0) -> None:
    """Refuse figures of rows, (n, ...), counted from ``first``, that are NaN."""
    broken = found.isnan().flatten(1).any(1) if found.ndim > 1 else found.isnan()
    if broken.any():
        raise ValueError(
            f"Figures of row {first + int(broken.nonzero()[0, 0])} are not a number: "
            "training diverged (use a smaller lr), or a user's module or its "
            "Distribution does not hold for it (look at it, or leave it out)."
        )


def _together(parts: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Put figures of some rows each, and marks of which they are, in their order."""
    marks, first = parts[0]
    whole = first.new_empty(len(marks), *first.shape[1:])
    for own, values in parts:
        whole[own] = values
    return whole


class EncoderInformation(NamedTuple):
    """Of each row its terms of both bounds, and its influence on the lower one.

    ``upper`` is None where the code's density is unknown.
    """

    lower: Tensor
    upper: Tensor | None
    influence: Tensor


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
    padded : bool
        Whether all chunks are of one size: then the rounding of a row's figures does
        not depend on the rows beside it.
    """

    # groups of draws behind a row's bounds, and behind its mean code where a group is
    # one draw; powers of two for Sobol
    n_groups = 16
    # groups that the draws behind a row's mean code are dealt into at once, where there
    # are several draws a group, and about how many draws are dealt before mirror images
    n_dealt_at_once, n_dealt = 10, 200
    # groups of other draws behind the density of a resampled code
    n_others = 128

    def __init__(self, model: LatentVariableModel, rule, seed: int, padded=False):
        self.model, self.rule, self.seed = model, rule, seed
        self.padded = padded

    def mean_codes(self, x: Rows) -> Tensor:
        """Means of the codes' distributions, shape (n, d)."""
        # All rows have these draws, and so their error. Each has a mirror image, which
        # takes away what is odd in the noise: most of it. Draws are dealt into groups
        # several times, which costs no decoding, so that fewer of them serve as well.
        groups = self._dealt()
        n_draws = int(groups.max()) + 1
        half = self._noise(n_draws // 2, 1)
        noise = torch.cat([half, -half])

        def mean(x):
            q, z = self._proposals(x, noise)
            return self.rule.mean_code(self.model, x, q, z.squeeze(1), groups)

        return self.by_rows(mean, n_draws, x)

    def _dealt(self) -> Tensor:
        """Deal draws into groups, and their mirror images alike, shape (G, k)."""
        k = self.rule.n_draws
        if k == 1:
            groups = torch.arange(self.n_groups)[:, None]
        else:
            n_draws = self.n_dealt_at_once * k
            generator = torch.Generator().manual_seed(self.seed)
            dealt = torch.stack(
                [
                    torch.randperm(n_draws, generator=generator)
                    for _ in range(max(1, self.n_dealt // n_draws))
                ]
            )
            mirrored = (dealt + n_draws // 2) % n_draws
            groups = torch.cat([dealt, mirrored]).view(-1, k)
        return groups.to(self.model.reference.device)

    def expected(self, function: Callable[[Tensor], Tensor], x: Rows) -> Tensor:
        """Mean of a function of codes over each row's, of one draw a code, (n, ..)."""
        noise = self._noise(self.n_others // 2, 1)
        noise = torch.cat([noise, -noise])

        def mean(x):
            _, z = self._proposals(x, noise)
            return function(z.squeeze(1)).mean(0)

        return self.by_rows(mean, self.n_others, x)

    def bound(self, x: Rows, keys: Tensor | None = None) -> Bound:
        """Bound on log p(x), distortion and rate of each row; keys (n, k d + 1)."""
        k = self.rule.n_draws

        def bound(x, keys=None):
            q, z = self._proposals(x, self._noise(self.n_groups, k, keys))
            parts = self.rule.bound(self.model, x, q, z)
            return torch.stack([part.mean(0) for part in parts], -1)

        parts = self.by_rows(bound, self.n_groups * k, x, keys)
        return Bound(*parts.unbind(-1))

    def log_likelihood(
        self, x: Rows, n_importance: int, keys: Tensor | None = None
    ) -> Tensor:
        """Importance-weighted estimate of log p(x), shape (n,); keys (n, k d + 1)."""

        def log_likelihood(x, keys=None):
            _, log_w = self.weighted_codes(x, n_importance, keys)
            return torch.logsumexp(log_w, 0) - math.log(n_importance)

        x = Rows.of(x)
        if x.observed is None:
            return self.by_rows(log_likelihood, n_importance, x, keys)
        complete = x.observed.all(-1)
        found = []
        for own in (complete, ~complete):
            if own.any():
                some = x[own].complete() if own is complete else x[own]
                of_some = None if keys is None else keys[own]
                part = self.by_rows(log_likelihood, n_importance, some, of_some)
                found.append((own, part))
        return _together(found)

    def weighted_codes(
        self, x: Rows, n_codes: int, keys: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Codes from each row's proposal, (S, n, d), and their log-weights (S, n).

        The encoder proposes for complete rows. Of a pattern of missing entries that
        training rows did not have it knows nothing: then the model does.
        """
        noise = self._noise(n_codes, 1, keys)
        if x.observed is None:
            q, z = self._proposals(x, noise)
            z = z.squeeze(1)
        else:
            q = wary_proposal(self.model, x)
            z = q.transport(noise.squeeze(1))
        return z, self.model.log_weights(x, z, q)

    def conditional(self, x: Rows, z: Tensor) -> Tensor:
        """Log p(x|z) row by row, shape (n,)."""

        def log_prob(x, z):
            return self.model.log_lik(x, z)

        return self.by_rows(log_prob, 1, x, z, encoded=False)

    def posterior(self, x: Rows, z: Tensor) -> Tensor:
        """Log q(z|x) of the code row by row, shape (n,)."""
        k = self.rule.n_draws

        def log_density(x, z):
            q, draws = self._proposals(x, self._noise(self.n_others, k))
            return self.rule.log_density(self.model, x, q, z, draws[:, 1:])

        return self.by_rows(log_density, self.n_others * k, x, z)

    @torch.no_grad()
    def encoder_information(self, x: Rows, noise: Tensor) -> EncoderInformation:
        """Integrands of bounds on I_q(x, z) over all rows, one code z for each.

        For any f(x, z) > 0, E log f(x_i, z_i) / mean_j f(x_j, z_i) is a lower bound
        (the row's own term is in the mean). With f = q(z|x) itself it is an upper bound
        where the row is left out of the mean (Poole et al. 2019). The density of a
        resampled code, p(x, z) E[k / (w(z) + w_2 + .. + w_k)], is too costly for all
        pairs: f has exp L_k(x) for each of the other weights.
        """
        z = self.encoded_draws(x, noise)
        exact = self.rule.n_draws == 1
        n = len(x)
        unforeseen = self.model.unforeseen(x)
        if unforeseen is None:
            unforeseen = torch.zeros(n, dtype=torch.bool, device=z.device)
        proposals = [
            (own, self._q(x[own])) for own in (unforeseen, ~unforeseen) if own.any()
        ]
        offset = None
        if not exact:
            # of other draws than z: a function of x alone, as the bound's proof needs
            offset = self.bound(x).elbo + math.log(self.rule.n_draws - 1)
        own, mean, others, weights = [], [], [], z.new_zeros(n)
        rows = max(1, PAIRED_AT_ONCE // (n * max(x.shape[-1], z.shape[-1])))
        for start in range(0, n, rows):
            some = z[start : start + rows].unsqueeze(1)
            log_f = _together([(own, q.log_prob(some).T) for own, q in proposals]).T
            if offset is not None:
                log_joint = self.model.log_joint(x, some)
                log_f = log_joint - torch.logaddexp(log_joint - log_f, offset)
            i = torch.arange(start, start + len(some), device=z.device)
            own.append(log_f[i - start, i])
            mean.append(torch.logsumexp(log_f, 1) - math.log(n))
            weights += torch.softmax(log_f, 1).sum(0)
            log_f[i - start, i] = -math.inf
            others.append(torch.logsumexp(log_f, 1) - math.log(n - 1))
        density = torch.cat(own)
        lower = density - torch.cat(mean)
        upper = density - torch.cat(others) if exact else None
        return EncoderInformation(lower, upper, lower - weights)

    def encoder_mutual_info(self, x: Rows, noise: Tensor) -> dict:
        """Bracket of I_q(x, z) and of KL(q(z) || p(z)) = R - I_q, in nats."""
        n = len(x)
        found = self.encoder_information(x, noise)
        rates = self.bound(x, noise).rate

        def mean_and_se(values, influence=None):
            spread = values if influence is None else influence
            return float(values.mean()), float(spread.std() / n**0.5)

        lower, lower_se = mean_and_se(found.lower, found.influence)
        rate, rate_se = upper, upper_se = mean_and_se(rates)
        if found.upper is not None and float(found.upper.mean()) < upper:
            upper, upper_se = mean_and_se(found.upper)
        if lower > upper:  # by noise, of an information near 0
            (lower, lower_se), (upper, upper_se) = (upper, upper_se), (lower, lower_se)
        lower, upper = _at_least_zero(lower), _at_least_zero(upper)
        mismatch = (
            _at_least_zero(rate - upper - 2 * (rate_se + upper_se)),
            _at_least_zero(rate - lower + 2 * (rate_se + lower_se)),
        )
        took = {"n_samples": n}
        bracket = Bracket(lower, upper, lower_se, upper_se, "contrastive", took)
        return {
            **bracket.as_dict(),
            "mismatch": mismatch,
            "capped": rate > math.log(n),
        }

    def decode(self, z: Tensor, given: Tensor | None = None) -> Tensor:
        """What inverse_transform returns for codes (..., n, d), shape (..., n, D)."""
        arrays = [z.flatten(0, -2)]
        if given is not None:
            arrays.append(given.expand(*z.shape[:-1], -1).flatten(0, -2))
        decode = self.model.likelihood.decode
        flat = self.by_rows(decode, 1, *arrays, encoded=False)
        return flat.unflatten(0, z.shape[:-1])

    def encoded_draws(self, x: Rows, noise: Tensor) -> Tensor:
        """Draws from the code's distribution by noise of shape (n, k d + 1)."""
        k, d = self.rule.n_draws, self.model.n_components

        def choose(x, noise):
            normals = noise[:, :-1].unflatten(-1, (k, d)).movedim(0, 1).unsqueeze(0)
            q, z = self._proposals(x, normals)
            u = torch.special.ndtr(noise[:, -1])
            return self.rule.choose(self.model, x, q, z, u).squeeze(0)

        return self.by_rows(choose, k, x, noise)

    @property
    def n_noise(self) -> int:
        """Numbers of noise behind one draw of a code."""
        return self.rule.n_draws * self.model.n_components + 1

    @torch.no_grad()
    def sample(
        self, n: int, generator: torch.Generator, given: Tensor | None = None
    ) -> tuple[Rows, Tensor]:
        """Joint draws (x, z) of whole rows, given (n, G) or what the model draws."""
        z = self.model.independent_codes(n, generator)
        context = self.model.pool.draw(n, generator)
        given = context["given"] if given is None else given
        # (no pattern: where columns see each other, a hole in one changes the next)
        p = RowDistribution(self.model.p(z, given), given=given)
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
        return normals.unflatten(-1, (n_draws, -1)).movedim(-2, 1).contiguous()

    def _q(self, x: Rows) -> Distribution:
        """Return the encoder's distribution, for rows all foreseen or none of them.

        Of a missing entry that training rows did not miss the encoder knows nothing.
        The model's posterior does.
        """
        unforeseen, q = self.model.unforeseen(x), None
        if unforeseen is not None and unforeseen.any():
            q = posterior_normal(self.model, x, self.model.r(x).loc)
        return self.model.q(x) if q is None else q

    def _proposals(self, x: Rows, noise: Tensor) -> tuple[Distribution, Tensor]:
        q = self._q(x)
        z = transport(q, noise)
        if z is None:  # no map: the noise is a seed, row by row (see by_rows)
            seed = int(noise.flatten()[0].double().view(torch.int64))
            generator = self.model.generator(seed)
            z = draw(q, noise.shape[:2], generator, reparametrised=False)
        return q, z

    @torch.no_grad()
    def by_rows(
        self,
        function: Callable,
        n_draws: int,
        *arrays: Rows | Tensor | None,
        encoded: bool = True,
    ) -> Tensor:
        """Apply a function of rows, encoded or not, to chunks of them."""
        given = [array for array in arrays if array is not None]
        n = len(given[0])
        unforeseen = self.model.unforeseen(given[0]) if encoded else None
        if unforeseen is not None and unforeseen.any() and not unforeseen.all():
            kinds = unforeseen, ~unforeseen
            parts = [[part[own] for part in given] for own in kinds]
            each = [self.by_rows(function, n_draws, *part) for part in parts]
            return _together(list(zip(kinds, each, strict=True)))
        rows = max(1, self.model.at_once(DECODED_AT_ONCE) // n_draws)
        if self.padded:
            rows = max(BLOCK, rows // BLOCK * BLOCK)
        if encoded:
            q = self.model.q(given[0][:1])
            if transport(q, self._noise(1, 1)) is None:
                rows = 1
        if self.padded:
            index = torch.arange(
                -(-n // rows) * rows, device=self.model.reference.device
            ).clamp_max(n - 1)
            # (the order of a sum depends on the layout, too)
            given = [array[index].contiguous() for array in given]
        chunks = zip(*(array.split(rows) for array in given), strict=True)
        found = torch.cat([function(*chunk) for chunk in chunks])[:n]
        refuse_nan(found)
        return found


class MixedPrecision:
    """Codes and bounds of rows, in single precision where that is good enough.

    It is where both precisions agree on draws of the model, for rows whose features are
    not far from those. A row's figures are a function of that row, bit for bit.

    Parameters
    ----------
    model : LatentVariableModel
        In evaluation mode and double precision.
    rule : object
        Rule of the encoder (``encoders.py``).
    seed : int
        Of the fixed draws.
    """

    def __init__(self, model: LatentVariableModel, rule, seed: int):
        # (sequences are read at their own lengths, and their codes are costly)
        cheap = model.likelihood.cost.many_codes
        self.exact = Evaluation(model, rule, seed, padded=cheap)
        generator = model.generator(seed)
        single = in_single_precision(model, generator) if cheap else None
        self.single = None
        if single is not None:
            self.single = Evaluation(single, rule, seed, padded=True)

    def mean_codes(self, x: Rows) -> Tensor:
        """Means of the codes' distributions, shape (n, d), float64."""
        return self._each(lambda by, x: by.mean_codes(x), x)

    def encoded_draws(self, x: Rows, noise: Tensor) -> Tensor:
        """Draws from the code's distribution by noise of shape (n, k d + 1)."""
        return self._each(lambda by, *given: by.encoded_draws(*given), x, noise)

    def bound(self, x: Rows, keys: Tensor | None = None) -> Bound:
        """Bound on log p(x), distortion and rate of each row; keys (n, k d + 1)."""

        def parts(by, *given):
            bound = by.bound(*given)
            return torch.stack([bound.distortion, bound.rate], -1)

        given = [x] if keys is None else [x, keys]
        distortion, rate = self._each(parts, *given).unbind(-1)
        return Bound(-(distortion + rate), distortion, rate)

    def _each(self, function: Callable, x: Rows, *arrays: Tensor) -> Tensor:
        """Apply a function of an evaluation and rows to the rows that are its own."""
        found = []
        for by, complete, own in self._groups(x):
            if own.any():
                some: list[Any] = [x[own], *(array[own] for array in arrays)]
                if complete:
                    some[0] = some[0].complete()
                if by is self.single:
                    some = [field.to(torch.float32) for field in some]
                found.append((own, function(by, *some).double()))
        return _together(found)

    def _groups(self, x: Rows) -> Iterator[tuple[Evaluation, bool, Tensor]]:
        """Yield what computes rows, whether those are complete, and which they are.

        How figures are rounded depends on both, and must not on the rows beside one.
        """
        everyone = torch.ones(len(x), dtype=torch.bool, device=x.values.device)
        complete = everyone if x.observed is None else x.observed.all(-1)
        near = ~everyone
        if self.single is not None:
            seen = self.exact.model.seen(x)
            near = seen.abs().flatten(1).amax(1) <= FARTHEST  # nor where it is NaN
            unforeseen = self.exact.model.unforeseen(x)
            if unforeseen is not None:
                near = near & ~unforeseen
            yield self.single, True, near & complete
            yield self.single, False, near & ~complete
        yield self.exact, True, ~near & complete
        yield self.exact, False, ~near & ~complete
