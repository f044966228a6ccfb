"""The latent-variable model that everything stands on.

A *conditional distribution* is an ``nn.Module`` whose ``forward(condition)`` returns a
``torch.distributions.Distribution``. The likelihood p_theta(x|z), the encoder
q_phi(z|x) and the information posterior r_omega(z|x) are all of this one kind. What
else a likelihood has to declare stands in ``families/base.py``.

Notation (that of the paper, M. Phuong et al., "The Mutual Autoencoder", 2018): data
x ~ q(x), code z of dimension d with prior p(z), model
p_theta(z, x) = p(z) p_theta(x|z) (eq. 1). All logarithms are natural: nats.

Shapes: a batch of n rows is ``(n, D)``, its codes are ``(n, d)``; draws come in
front, ``(k, n, d)``; log-densities have the shape of what is left when the last axis
is summed.
"""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.utils.checkpoint import checkpoint

from sklearn_mae.model.distributions import DiagonalNormal
from sklearn_mae.model.prior import StandardNormal
from sklearn_mae.model.rows import Pool, RowDistribution, Rows

__all__ = ["MAX_OUTCOMES", "Cost", "LatentVariableModel"]

# of x, that are listed
MAX_OUTCOMES = 10_000


@dataclass(frozen=True)
class Cost:
    """What a likelihood's cost of decoding allows a certificate to do.

    Each likelihood declares its own as ``cost``. The defaults suit a small network.

    Parameters
    ----------
    many_codes : bool
        Whether millions of codes may be decoded: grids over z, and codes that all
        rows share.
    rows_with_gradients : int or None
        Rows whose gradients are kept at once; None: as many as their proposals allow.
    budget : int
        Decodes of ``mutual_info``.
    fit_budget : int
        Decodes of the first certificate at the end of a fit, at most.
    fit_samples : int
        Joint draws that it begins with, unless the fit was short.
    rated_rows : int
        Training rows behind ``rate_``, at most.
    refinement : float
        Share of the usual steps that train r_omega at the end of a fit.
    """

    many_codes: bool = True
    rows_with_gradients: int | None = None
    budget: int = 2_000_000
    fit_budget: int = 3_000_000
    fit_samples: int = 2_000
    rated_rows: int = 2_000
    refinement: float = 1.0


class LatentVariableModel(nn.Module):
    """p(z) p_theta(x|z) with its encoder q_phi(z|x) and posterior r_omega(z|x).

    Parameters
    ----------
    likelihood : nn.Module
        p_theta(x|z); ``forward`` takes codes, and what is given where anything is;
        ``cost`` is a :class:`Cost`.
    encoder : nn.Module
        q_phi(z|x), the proposal of the resampling encoder; ``forward`` takes
        ``features(x)``.
    posterior : nn.Module
        r_omega(z|x), trained on draws of the model; ``forward`` takes ``features(x)``.
    features : nn.Module
        What encoder and posterior see of x; ``forward`` takes values, and ``observed``
        and ``given`` by name where there is any.
    prior : Prior or int
        p(z); a number of components d stands for N(0, I_d).
    pool : Pool, optional
        What the model's rows get besides values. None: nothing is missing or given.
    blind : bool
        Whether the encoder is not to see what is given: then features know nothing of
        it, and the posterior takes it by name.
    """

    def __init__(
        self, likelihood, encoder, posterior, features, prior, pool=None, blind=False
    ):
        super().__init__()
        self.likelihood = likelihood
        self.encoder = encoder
        self.posterior = posterior
        self.features = features
        self.prior = StandardNormal(prior) if isinstance(prior, int) else prior
        self.pool = Pool() if pool is None else pool
        self.blind = blind

    @property
    def n_components(self) -> int:
        """Dimension d of the code."""
        return self.prior.n_components

    @property
    def reference(self) -> Tensor:
        """A parameter, for its type and device."""
        return next(self.posterior.parameters())

    def generator(self, seed: int) -> torch.Generator:
        """Return a generator on the device of the networks."""
        return torch.Generator(self.reference.device).manual_seed(seed)

    @property
    def many_codes(self) -> bool:
        """Whether millions of codes may be decoded, each once for all rows."""
        return self.likelihood.cost.many_codes and self.pool.given is None

    def unforeseen(self, x: Rows | Tensor) -> Tensor | None:
        """Which rows miss an entry of a column that no row of ``fit`` misses, (n,).

        None where no row misses anything, or the decoder knows what the encoder must
        not.
        """
        observed, seen = Rows.of(x).observed, self.pool.observed
        if observed is None or self.blind:
            return None
        missing = ~observed if seen is None else ~observed & seen.all(0)
        return missing.any(-1)

    def seen(self, x: Rows | Tensor) -> Tensor:
        """What encoder and posterior see of x."""
        x = Rows.of(x)
        context = x.without_given().context if self.blind else x.context
        return self.features(x.values, **context)

    def q(self, x: Rows | Tensor) -> Distribution:
        """Encoder's distribution over z given x."""
        return self.encoder(self.seen(x))

    def r(self, x: Rows | Tensor) -> DiagonalNormal:
        """Information posterior over z given x."""
        x, seen = Rows.of(x), self.seen(x)
        told = self.blind and x.given is not None
        return self.posterior(seen, given=x.given) if told else self.posterior(seen)

    def p(self, z: Tensor, given: Tensor | None = None) -> Distribution:
        """Likelihood of values at codes z."""
        return self.likelihood(z) if given is None else self.likelihood(z, given)

    def rows(self, z: Tensor, generator: torch.Generator) -> RowDistribution:
        """Likelihood of rows at codes (n, d), their pattern and what is given drawn."""
        context = self.pool.draw(len(z), generator)
        return RowDistribution(self.p(z, context["given"]), **context)

    def outcomes(self) -> Rows | None:
        """Every row (S, D) as far as it is observed.

        None where they cannot be listed, or differ with the pattern.
        """
        values = None if self.pool.given is not None else self.likelihood.outcomes()
        if values is None or self.pool.observed is None:
            return None if values is None else Rows(values)
        patterns = self.pool.observed.unique(dim=0)
        if len(patterns) > 1:
            return None
        # all values of what is missing are one outcome: the first stands for them
        missing = ~patterns[0]
        same = (values[:, missing] == values[:1, missing]).all(-1)
        return Rows(values[same], patterns.expand(int(same.sum()), -1))

    def of_each_pattern(self) -> list[tuple[float, "LatentVariableModel"]]:
        """The same model with a single pattern of observed entries, and its share."""
        patterns, shares = self.pool.patterns()
        parts = self.likelihood, self.encoder, self.posterior, self.features, self.prior
        models = [LatentVariableModel(*parts, Pool(one[None])) for one in patterns]
        return list(zip(shares, models, strict=True))

    def at_once(self, most: int) -> int:
        """How many codes to decode in one call: fewer where a row has many numbers."""
        return self.likelihood.at_once(most)

    def log_lik(self, x: Rows | Tensor, z: Tensor) -> Tensor:
        """Log p_theta(x|z), of observed entries and with what is given.

        Of many draws of codes (..., n, d) for wide rows (n, D) some are decoded at a
        time, of very wide rows some rows. Where there is a gradient, they are decoded
        again on the way back.
        """
        x = Rows.of(x)
        n_codes = z.shape[:-1].numel()
        some = self.at_once(n_codes)
        once = torch.is_grad_enabled() and not self.likelihood.repeatable
        if some == n_codes or z.dim() < 3 or len(x.shape) > 2 or once:
            return self._log_lik(x, z)
        if some < z.shape[-2] == x.shape[0]:
            pairs = zip(x.split(some), z.split(some, -2), strict=True)
            return torch.cat([self.log_lik(*each) for each in pairs], -1)
        draws = z.flatten(0, -3)
        parts = draws.split(max(1, some // z.shape[-2]))
        if not torch.is_grad_enabled():
            found = z.new_empty(draws.shape[:-1])
            # (small results that stay would keep the allocator from using memory again)
            for place, part in zip(found.split(len(parts[0])), parts, strict=True):
                place.copy_(self._log_lik(x, part))
        else:
            log_lik = partial(checkpoint, use_reentrant=False, preserve_rng_state=False)
            found = torch.cat([log_lik(self._log_lik, x, part) for part in parts])
        return found.unflatten(0, z.shape[:-2])

    def _log_lik(self, x: Rows, z: Tensor) -> Tensor:
        return x.log_prob(self.p(z, x.given))

    def log_joint(self, x: Rows | Tensor, z: Tensor) -> Tensor:
        """Log p(z) + log p_theta(x|z)."""
        return self.prior.log_prob(z) + self.log_lik(x, z)

    def log_weights(
        self, x: Rows | Tensor, z: Tensor, proposal: Distribution
    ) -> Tensor:
        """Log-importance weights p(x, z) / proposal(z), shape ``z.shape[:-1]``."""
        return self.log_joint(x, z) - proposal.log_prob(z)

    def independent_codes(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw n codes from the prior, independent of each other."""
        return self.prior.draw(n, self.reference, generator)

    def stratified_codes(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw n codes that spread evenly over the prior."""
        return self.prior.stratified(n, self.reference, generator)
