"""Gradients of E[f(x)] over x ~ p_theta(x|z) where f itself depends on theta.

A strategy has one method, ``expectation(p, f, generator)``. ``f(x, log_prob)`` gets
outcomes and their log-probabilities under ``p`` and returns a tuple of per-sample
integrands. The *values* that come back, each of shape ``(n,)``, are the plain
Monte-Carlo (or exact) ones whatever the strategy; their gradients are right for the
parameters of ``p`` and of ``f`` alike (paper, eq. 13 and appendix A).
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Distribution

from sklearn_mae.model import draw

__all__ = ["Enumeration", "Reinforce", "Reparametrised"]

Integrands = Callable[[Tensor, Tensor], tuple[Tensor, ...]]


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
    outcomes : Tensor of shape (S, D)
        Every value that x can take.
    """

    def __init__(self, outcomes: Tensor):
        self.outcomes = outcomes

    def expectation(
        self, p: Distribution, f: Integrands, generator: torch.Generator
    ) -> tuple[Tensor, ...]:
        """Return the exact conditional mean of f for each element of p's batch."""
        x = self.outcomes.unsqueeze(1)
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
