"""Gradients of E[f(x)] over x ~ p_theta(x|z) where f itself depends on theta.

A strategy has one method, ``expectation(p, f, generator)``. ``f(x, log_prob)`` gets
outcomes and their log-probabilities under ``p`` and returns a tuple of per-sample
integrands. The *values* that come back, each of shape ``(n,)``, are the plain
Monte-Carlo (or exact) ones whatever the strategy; their gradients are right for the
parameters of ``p`` and of ``f`` alike (paper, eq. 13 and appendix A).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from sklearn_mae.model import Rows, draw

__all__ = [
    "Enumeration",
    "PartlyReparametrised",
    "PerEntry",
    "Reinforce",
    "Reparametrised",
]

Integrands = Callable[[Rows, Tensor], tuple[Tensor, ...]]


class Reparametrised:
    """Pathwise gradient: x is a differentiable function of theta and noise."""

    def expectation(
        self, p: Distribution, f: Integrands, generator: torch.Generator
    ) -> tuple[Tensor, ...]:
        """Return f at one draw of x for each element of p's batch."""
        x = draw(p, generator=generator)
        return f(x, p.log_prob(x))


class Enumeration:
    """Exact sum over all outcomes.

    Parameters
    ----------
    outcomes : Rows of shape (S, D)
        Every value that x can take.
    """

    def __init__(self, outcomes: Rows):
        self.outcomes = outcomes

    def expectation(
        self, p: Distribution, f: Integrands, generator: torch.Generator
    ) -> tuple[Tensor, ...]:
        """Return the exact conditional mean of f for each element of p's batch."""
        x: Any = self.outcomes.unsqueeze(1)
        log_prob = p.log_prob(x)  # (S, n)
        probability = log_prob.exp()
        return tuple((probability * values).sum(0) for values in f(x, log_prob))


class Reinforce:
    """Score-function gradient (Williams 1992; paper, eq. 26).

    Parameters
    ----------
    leave_one_out : bool
        Subtract from each reward the mean reward of the other samples, which depends
        on none of its own x and so leaves the gradient unbiased. The paper has none.
    """

    def __init__(self, leave_one_out: bool = True):
        self.leave_one_out = leave_one_out

    def expectation(
        self, p: Distribution, f: Integrands, generator: torch.Generator
    ) -> tuple[Tensor, ...]:
        """Return f at one draw of x for each element of p's batch."""
        x = draw(p, generator=generator, reparametrised=False)
        log_prob = p.log_prob(x)
        score = log_prob - log_prob.detach()
        return tuple(
            values + self._reward(values.detach()) * score for values in f(x, log_prob)
        )

    def _reward(self, values: Tensor) -> Tensor:
        n = len(values)
        if not self.leave_one_out or n == 1:
            return values
        return (values - values.mean()) * (n / (n - 1))


class PartlyReparametrised(Reinforce):
    """Pathwise gradient where entries of x have a path, score function for the others.

    Given z the entries are independent. So an entry without a path has a score of its
    own alone, and one with a path has none.
    """

    def expectation(
        self, p: Distribution, f: Integrands, generator: torch.Generator
    ) -> tuple[Tensor, ...]:
        """Return f at one draw of x for each element of p's batch."""
        x = draw(p, generator=generator)
        log_prob = p.log_prob(x)
        scored = p.log_prob_without_path(x)  # type: ignore[attr-defined]
        score = scored - scored.detach()
        return tuple(
            values + self._reward(values.detach()) * score for values in f(x, log_prob)
        )


class PerEntry:
    """Score-function gradient of rows drawn entry by entry, each credited on its own.

    Words of a sequence, or columns of a table. An entry can answer for no more than
    what the row says about z beyond the entries before it: its reward is
    f - log r(z|x_<t) / p(z), r the filter. What is subtracted does not depend on the
    entry, nor does the mean reward of the other samples' entries at that place, so the
    gradient stays unbiased. Entries that are continuous have a path instead, through
    all that is drawn after them.

    Parameters
    ----------
    posterior : callable
        From rows, their context by name, to a distribution that has
        ``log_ratio_before`` (``families/filtering.py``).
    prior : Prior
        Of codes.
    """

    def __init__(self, posterior, prior):
        self.posterior, self.prior = posterior, prior

    def expectation(
        self, p, f: Integrands, generator: torch.Generator
    ) -> tuple[Tensor, ...]:
        """Return f at one draw of x for each element of p's batch."""
        x = draw(p, generator=generator)
        log_probs = p.base.entry_log_prob(x.values)
        score = log_probs - log_probs.detach()
        with torch.no_grad():
            # (to a decoder what is given stands behind the code)
            z = p.base.z[..., : self.prior.n_components]
            r = self.posterior(x.values, **x.context)
            before = r.log_ratio_before(z, self.prior)
        inside = p.base.inside(x.values)
        n = inside.sum(0)

        def credited(values):
            reward = (values.detach().unsqueeze(-1) - before) * inside
            # an entry that stands alone at its place has no others to be compared with
            others = (reward.sum(0) - reward) / (n - 1).clamp_min(1)
            reward = (reward - others) * inside
            return values + (reward * score).sum(-1)

        return tuple(credited(values) for values in f(x, log_probs.sum(-1)))
