"""Importance weights of whole chains, for posteriors that no proposal comes near.

Annealed importance sampling (Neal 2001): a chain leads from the proposal q to the
posterior through densities proportional to q^(1 - b) p(x, z)^b, b = 0, 1/T, ..,
(T - 1)/T, each left invariant by one step of Hamiltonian Monte Carlo. Its weight is an
importance weight on the space of chains. There the code z0 that x came from starts an
exact draw: the same chain run backwards (bidirectional Monte Carlo: Grosse, Ghahramani
and Adams 2015). So all that holds for weighted proposals holds for weighted chains:
both bounds, and what reduces their variance.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from sklearn_mae.information.bounds import Weighted
from sklearn_mae.information.proposals import local_proposal
from sklearn_mae.model import LatentVariableModel, Rows, draw

__all__ = ["N_LEAPFROG", "TUNED_ON", "tuned_step_sizes", "weigh_chains"]

# Leapfrog steps of one step of Hamiltonian Monte Carlo.
N_LEAPFROG = 2
# Share of accepted proposals to tune for, and how fast the step sizes follow it.
ACCEPTED, SPEED = 0.7, 0.5
# Joint draws that tune the step sizes, and chains for each.
TUNED_ON, TUNING_CHAINS = 32, 4


class _State(NamedTuple):
    """Codes (.., n, d) with both ends' log-densities and slopes there."""

    z: Tensor
    log_lik: Tensor
    log_p: Tensor
    log_q: Tensor
    slope_p: Tensor
    slope_q: Tensor


def _state(model, x, proposal, z) -> _State:
    with torch.enable_grad():
        at = z.detach().requires_grad_()
        log_lik = model.log_lik(x, at)
        log_p = log_lik + model.prior.log_prob(at)
        log_q = proposal.log_prob(at)
        (slope_p,) = torch.autograd.grad(log_p.sum(), at)
        (slope_q,) = torch.autograd.grad(log_q.sum(), at)
    return _State(z, log_lik.detach(), log_p.detach(), log_q.detach(), slope_p, slope_q)


def _move(model, x, proposal, state, b, step, generator):
    """One step of Hamiltonian Monte Carlo; b of shape (.., 1), step of (.., n, d)."""

    def slope(at):
        return at.slope_q + b.unsqueeze(-1) * (at.slope_p - at.slope_q)

    def log_density(at, momentum):
        mixed = at.log_q + b * (at.log_p - at.log_q)
        return mixed - 0.5 * momentum.square().sum(-1)

    momentum = torch.empty_like(state.z).normal_(generator=generator)
    before, end = log_density(state, momentum), state
    for _ in range(N_LEAPFROG):
        momentum = momentum + 0.5 * step * slope(end)
        end = _state(model, x, proposal, end.z + step * momentum)
        momentum = momentum + 0.5 * step * slope(end)
    u = torch.empty_like(before).uniform_(generator=generator)
    # a NaN is refused
    accepted = u.log() < log_density(end, momentum) - before
    kept = [
        torch.where(accepted if new.dim() == u.dim() else accepted[..., None], new, old)
        for new, old in zip(end, state, strict=True)
    ]
    return _State(*kept), accepted


def _scale(model, x) -> Tensor:
    """Standard deviations of r_omega, the unit of step sizes."""
    return model.r(x).log_scale.exp()


@torch.no_grad()
def tuned_step_sizes(
    model: LatentVariableModel, n_temperatures: int, generator: torch.Generator
) -> Tensor:
    """Tune the step size of each temperature, on chains that serve nothing else.

    Parameters
    ----------
    model : LatentVariableModel
        The model.
    n_temperatures : int
        T.
    generator : torch.Generator
        Source of all draws.

    Returns
    -------
    Tensor of shape (T,)
        In units of r_omega's standard deviations; the first is not used.
    """
    z0 = model.stratified_codes(TUNED_ON, generator)
    x = draw(model.rows(z0, generator), (), generator)
    proposal, scale = local_proposal(model, x), _scale(model, x)
    z = draw(proposal, (TUNING_CHAINS,), generator, reparametrised=False)
    state = _state(model, x, proposal, z)
    sizes = z.new_full((n_temperatures,), 0.5)
    for t in range(1, n_temperatures):
        b = z.new_full((1, 1), t / n_temperatures)
        step = sizes[t] * scale
        state, accepted = _move(model, x, proposal, state, b, step, generator)
        excess = accepted.to(z).mean() - ACCEPTED
        sizes[t + 1 :] = sizes[t] * torch.exp(SPEED * excess)
    return sizes


@torch.no_grad()
def weigh_chains(
    model: LatentVariableModel,
    x: Rows,
    z0: Tensor,
    log_lik0: Tensor,
    proposal: Distribution,
    n_proposals: int,
    step_sizes: Tensor,
    generator: torch.Generator,
) -> tuple[Weighted, Weighted]:
    """Draw proposals for x, anneal them towards the posterior, and weigh the chains.

    Parameters
    ----------
    model : LatentVariableModel
        The model.
    x : Rows of shape (n, D)
        Draws of the model.
    z0 : Tensor of shape (n, d)
        The codes that they were drawn from; their chains run backwards.
    log_lik0 : Tensor of shape (n,)
        log p(x|z0).
    proposal : Distribution
        Over z given x, independent of z0 given x.
    n_proposals : int
        Chains K for each row, besides that of z0.
    step_sizes : Tensor of shape (T,)
        Of each temperature, chosen beforehand. With T = 1 the chains are plain
        proposals.
    generator : torch.Generator
        Source of all draws.

    Returns
    -------
    weighted : Weighted
        The chains' ends, and their weights.
    around : Weighted
        For variance reduction: draws of the posterior, all of the same weight, from a
        chain that starts at z0 and stays at the posterior. They reduce the variance
        more than the ends of a few chains do.
    """
    z = draw(proposal, (n_proposals,), generator, reparametrised=False)
    state = _state(model, x, proposal, torch.cat([z0.expand(2, *z0.shape), z]))
    # steps of b are equal: log w is the mean over the chain of the plain log-weight
    total, n = state.log_p - state.log_q, len(step_sizes)
    scale = _scale(model, x)
    stays = []
    for t in range(1, n):
        # the first chain stays, the second runs backwards
        b = state.z.new_full((n_proposals + 2, 1), t / n)
        step = step_sizes[t].expand(n_proposals + 2, 1, 1).clone()
        b[:2, 0] = b.new_tensor([1, 1 - t / n])
        step[:2, 0, 0] = step_sizes[[-1, n - t]]
        state, _ = _move(model, x, proposal, state, b, step * scale, generator)
        total = total + state.log_p - state.log_q
        stays.append((state.z[0], state.log_lik[0]))
    log_w = total[1:] / n
    log_q0 = proposal.log_prob(z0)
    weighted = Weighted(
        state.z[2:], state.log_lik[2:], log_w[1:], z0, log_lik0, log_w[0], log_q0
    )
    if n == 1:
        return weighted, weighted
    z, log_lik = (torch.stack(values) for values in zip(*stays, strict=True))
    equal = torch.zeros_like(log_lik)
    return weighted, Weighted(z, log_lik, equal, z0, log_lik0, equal[0], log_q0)
