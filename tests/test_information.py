"""Bounds on the information, against models that know theirs."""

import itertools
import math

import pytest
import torch
from torch import nn
from torch.distributions import MixtureSameFamily, MultivariateNormal, Normal
from torch.testing import assert_close

from sklearn_mae.families.user import UserLikelihood
from sklearn_mae.gradients import Enumeration, Reinforce, Reparametrised
from sklearn_mae.information import (
    amortised_proposal,
    bounds,
    local_proposal,
    sandwich,
    weigh,
)
from sklearn_mae.information.annealing import tuned_step_sizes, weigh_chains
from sklearn_mae.information.proposals import (
    DEFENSIVE,
    Mixture,
    PrecisionNormal,
    inflation,
)
from sklearn_mae.model import DiagonalNormal, StandardNormal
from tests.statistical import (
    assert_mean_equal,
    assert_mean_positive,
)
from tests.toy_models import LinearGaussian, Once, generator, random_model


def wrong(d=2, D=3):
    """Linear-Gaussian model whose r_omega is too wide and beside the point."""
    return LinearGaussian(d, D, shift=0.5, widening=1.3)


@torch.no_grad()
def weighed(model, n, k, seed=0, proposal=None):
    z0, x, log_lik = model.joint_draws(n, seed)
    proposal = model.r(x) if proposal is None else proposal(model, x)
    return weigh(model, x, z0, log_lik, proposal, k, generator(seed + 1))


class Foreign(nn.Module):
    """A Gaussian likelihood that does not say what it is."""

    def __init__(self, likelihood, twice=True):
        super().__init__()
        self.likelihood, self.twice = likelihood, twice

    def forward(self, z):
        p = self.likelihood(z)
        loc = p.loc if self.twice else Once.apply(p.loc)
        return Normal(loc, p.log_scale.exp().expand_as(loc), validate_args=False)


def hidden(d, D, twice=True, **parameters):
    """Linear-Gaussian model of which only densities and draws are to be had."""
    model = LinearGaussian(d, D, **parameters)
    model.likelihood = UserLikelihood(Foreign(model.likelihood, twice), D)
    return model


def first(weighted, k):
    return weighted._replace(log_w=weighted.log_w[:k])


def correction(weighted):
    return bounds.correction(weighted, StandardNormal(weighted.z0.shape[-1]))


def control_variates(weighted):
    return bounds.control_variates(weighted, StandardNormal(weighted.z0.shape[-1]))


def infomax(r, z0):
    return bounds.infomax(r, z0, StandardNormal(z0.shape[-1]))


# The bounds' values


def test_bounds_bracket_the_truth():
    model = wrong()
    lower, upper = sandwich(weighed(model, 40_000, 4))

    assert model.information > 1
    assert_mean_positive(model.information - lower)
    assert_mean_positive(upper - model.information)
    assert_mean_positive(lower - (model.information - 0.4))
    assert_mean_positive(model.information + 0.4 - upper)


def test_more_proposals_come_nearer_from_both_sides():
    weighted = weighed(wrong(), 10_000, 64)
    bounds = [sandwich(first(weighted, k)) for k in (1, 4, 16, 64)]

    for (low, high), (lower, upper) in itertools.pairwise(bounds):
        assert_mean_positive(lower - low)
        assert_mean_positive(high - upper)
    lower, upper = bounds[-1]
    assert_mean_positive(0.05 - (upper - lower))


def test_exact_posterior_closes_the_gap():
    model = LinearGaussian(2, 3)
    z0, x, log_lik = model.joint_draws(50)
    density = log_lik - model.marginal().log_prob(x)

    for k in (1, 3):
        lower, upper = sandwich(weighed(model, 50, k))
        assert_close(lower, density)
        assert_close(upper, density)
    bound = infomax(model.r(x), z0)
    assert_close(bound, density + model.prior.log_prob(z0) + model.prior.entropy)


@pytest.mark.parametrize("d", [1, 3])
def test_infomax_falls_short_by_the_divergence(d):
    model = wrong(d, 3)
    z0, x, _ = model.joint_draws(40_000)
    bound = infomax(model.r(x), z0).detach()

    truth = model.information - model.reverse_divergence
    assert_mean_equal(bound, truth, resolution=0.1)


def test_weights_from_their_definition():
    model = wrong()
    z0, x, log_lik = model.joint_draws(5)
    weighted = weigh(model, x, z0, log_lik, model.r(x), 3, generator())
    r = model.r(x)

    for j in range(3):
        z = weighted.z[j]
        assert_close(weighted.log_w[j], model.log_joint(x, z) - r.log_prob(z))
        assert_close(weighted.log_lik[j], model.likelihood(z).log_prob(x))
    assert_close(weighted.log_w0, model.log_joint(x, z0) - r.log_prob(z0))
    assert_close(weighted.log_q0, r.log_prob(z0))
    lower, upper = sandwich(weighted)
    w = torch.cat([weighted.log_w0[None], weighted.log_w]).exp()
    assert_close(upper, log_lik - w[1:].mean(0).log())
    assert_close(lower, log_lik - w.mean(0).log())


def test_decoding_in_parts_changes_nothing(monkeypatch):
    model = wrong()
    whole = weighed(model, 7, 9)
    monkeypatch.setattr(bounds, "DECODED_AT_ONCE", 15)
    parts = weighed(model, 7, 9)

    for one, other in zip(whole, parts, strict=True):
        assert_close(one, other)


def test_weights_of_all_outcomes():
    """x of shape (S, 1, D) against one outcome and one code at a time."""
    model = random_model("categorical", (3, 2), 2)
    x, z0 = model.likelihood.outcomes().unsqueeze(1), torch.randn(4, 2).double()
    log_lik = model.likelihood(z0).log_prob(x)
    weighted = weigh(model, x, z0, log_lik, model.r(x), 5, generator())
    lower, upper = sandwich(weighted)

    assert weighted.z.shape == (5, 6, 1, 2)
    assert lower.shape == upper.shape == weighted.log_q0.shape == (6, 4)
    for s, i in itertools.product(range(6), range(4)):
        r = model.r(x[s])
        z = torch.cat([z0[i : i + 1], weighted.z[:, s, 0]])
        w = (model.log_joint(x[s].expand(6, 2), z) - r.log_prob(z)).exp()
        assert_close(upper[s, i], log_lik[s, i] - w[1:].mean().log())
        assert_close(lower[s, i], log_lik[s, i] - w.mean().log())


def bounds_of(model, z0, k, g):
    """The integrands as training uses them."""

    def bounds(x, log_lik):
        return sandwich(weigh(model, x, z0, log_lik, model.r(x), k, g))

    return bounds


def test_enumeration_and_draws_have_the_same_mean():
    model = random_model("bernoulli", 3, 2)
    strategies = Enumeration(model.outcomes()), Reinforce()
    g, gaps = generator(), []
    with torch.no_grad():
        for _ in range(300):
            z0 = model.stratified_codes(64, g)
            p, f = model.rows(z0, g), bounds_of(model, z0, 4, g)
            exact, drawn = (
                torch.stack(strategy.expectation(p, f, g)).mean(-1)
                for strategy in strategies
            )
            gaps.append(exact - drawn)

    assert_mean_equal(torch.stack(gaps), 0.0, resolution=0.05)


# The bounds' gradients


def gradient_and_differences(model, value, parameter, entries, h=1e-5):
    """Automatic gradient and central differences in some entries of a parameter."""
    (gradient,) = torch.autograd.grad(value(), parameter)
    differences = []
    with torch.no_grad():
        for entry in entries:
            before = parameter[entry].item()
            sides = []
            for moved in (before + h, before - h):
                parameter[entry] = moved
                sides.append(value().item())
            parameter[entry] = before
            differences.append((sides[0] - sides[1]) / (2 * h))
    found = torch.stack([gradient[entry] for entry in entries])
    return found, torch.tensor(differences).double()


def bound_value(model, strategy, side, k=4, n=16):
    """L_K or U_K at noise that is the same in each call."""

    def value():
        g = generator(11)
        z0 = model.stratified_codes(n, g)
        p = model.rows(z0, g)
        return strategy.expectation(p, bounds_of(model, z0, k, g), g)[side].mean()

    return value


class Cut(nn.Module):
    """Features through which no gradient passes."""

    def __init__(self, features):
        super().__init__()
        self.features = features

    def forward(self, x):
        return self.features(x).detach()


@pytest.mark.parametrize("side", [0, 1], ids=["lower", "upper"])
@pytest.mark.parametrize("kind", ["gaussian", "isotropic", "heteroscedastic", "linear"])
def test_gradient_is_that_of_the_bound(kind, side):
    """With a wrong r_omega the paths from x through it matter."""
    model = wrong() if kind == "linear" else random_model(kind, 3, 2)
    layer = model.likelihood.decoder
    weight = layer.weight if kind == "linear" else layer[-1].weight
    entries = [(0, 0), (2, 1), (1, 0)]
    value = bound_value(model, Reparametrised(), side)
    gradient, differences = gradient_and_differences(model, value, weight, entries)

    assert differences.abs().max() > 1e-2
    assert_close(gradient, differences, rtol=1e-5, atol=1e-7)
    model.features = Cut(model.features)
    (cut,) = torch.autograd.grad(value(), weight)
    cut = torch.stack([cut[entry] for entry in entries])
    assert (cut - differences).abs().max() > 1e-2


@pytest.mark.parametrize("side", [0, 1], ids=["lower", "upper"])
def test_gradient_in_the_noise_s_scale(side):
    model = random_model("gaussian", 3, 2)
    value = bound_value(model, Reparametrised(), side)
    parameter, entries = model.likelihood.raw_log_scale, [(0,), (2,)]
    gradient, differences = gradient_and_differences(model, value, parameter, entries)

    assert differences.abs().max() > 1e-2
    assert_close(gradient, differences, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("side", [0, 1], ids=["lower", "upper"])
@pytest.mark.parametrize(
    ("kind", "columns"), [("bernoulli", 3), ("categorical", (3, 2))]
)
def test_gradient_of_the_enumerated_bound(kind, columns, side):
    model = random_model(kind, columns, 2)
    value = bound_value(model, Enumeration(model.outcomes()), side)
    parameter, entries = model.likelihood.decoder[-1].weight, [(0, 0), (2, 5)]
    gradient, differences = gradient_and_differences(model, value, parameter, entries)

    assert differences.abs().max() > 1e-3
    assert_close(gradient, differences, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("side", [0, 1], ids=["lower", "upper"])
def test_reinforced_gradient_of_the_bound(side):
    """Its mean is the enumerated one's."""
    model = random_model("bernoulli", 3, 2)
    parameter = model.likelihood.decoder[-1].weight
    strategies = Enumeration(model.outcomes()), Reinforce()
    g, gaps = generator(3), []
    for _ in range(800):
        z0 = model.stratified_codes(128, g)
        exact, drawn = (
            torch.autograd.grad(
                strategy.expectation(model.rows(z0, g), bounds_of(model, z0, 2, g), g)[
                    side
                ].mean(),
                parameter,
            )[0]
            for strategy in strategies
        )
        gaps.append(drawn - exact)

    assert exact.abs().max() > 0.05
    assert_mean_equal(torch.stack(gaps), 0.0, resolution=0.03)


def test_descent_on_the_lower_bound_misleads_while_upper_forgets():
    """The reason for two sides: minimise each and look at the truth.

    The upper bound takes information away, the lower one adds to it.
    """

    def descend(side):
        model = LinearGaussian(1, 2)
        start = model.information
        optimiser = torch.optim.SGD([model.likelihood.decoder.weight], lr=0.1)
        for step in range(60):
            g = generator(step)
            z0 = model.stratified_codes(64, g)
            f = bounds_of(model, z0, 1, g)
            values = Reparametrised().expectation(model.likelihood(z0), f, g)
            optimiser.zero_grad()
            values[side].mean().backward(inputs=[model.likelihood.decoder.weight])
            optimiser.step()
        model.W = model.likelihood.decoder.weight.detach()
        return start - model.information

    assert descend(1) > 0.5
    assert descend(0) < -0.5


# Proposals


def test_precision_normal_against_torch():
    loc = torch.randn(3, 2, generator=generator()).double()
    factor = torch.tensor([[1.0, 0.0], [0.7, 2.0]]).double() * torch.ones(3, 1, 1)
    ours = PrecisionNormal(loc, factor)
    theirs = MultivariateNormal(loc, precision_matrix=factor @ factor.mT)
    z = torch.randn(4, 3, 2, generator=generator(1)).double()

    assert_close(ours.log_prob(z), theirs.log_prob(z))
    draws = ours.sample((20_000,), generator(2))
    assert draws.shape == (20_000, 3, 2)
    e = draws - loc
    products = e.unsqueeze(-1) * e.unsqueeze(-2)
    assert_mean_equal(draws, loc.numpy(), resolution=0.1)
    covariance = theirs.covariance_matrix.numpy()
    assert_mean_equal(products, covariance, resolution=0.1)


def some_mixture():
    loc = torch.tensor([[0.0], [1.0]]).double()
    parts = [
        DiagonalNormal(loc, torch.full_like(loc, -1.0)),
        DiagonalNormal(loc + 2, torch.zeros_like(loc)),
        DiagonalNormal(loc - 4, torch.full_like(loc, 0.5)),
    ]
    return Mixture([0.5, 0.3, 0.2], parts)


def test_mixture_is_a_density_and_draws_from_it():
    mixture = some_mixture()
    grid = torch.linspace(-20, 20, 4001, dtype=torch.float64)
    masses = mixture.log_prob(grid[:, None, None]).exp() * 0.01
    draws = mixture.sample((50_000,), generator())

    assert draws.shape == (50_000, 2, 1)
    assert_close(masses.sum(0), torch.ones(2).double())
    for function in (
        lambda z: z,
        torch.square,
        lambda z: torch.sigmoid(5 * z),
        lambda z: torch.sigmoid(-5 * (z + 3)),
    ):
        exact = (masses * function(grid)[:, None]).sum(0)
        assert_mean_equal(function(draws.squeeze(-1)), exact.numpy(), resolution=0.3)


def test_mixture_draws_are_independent():
    """Which part a draw comes from says nothing about the next draw's."""
    mixture = some_mixture()
    left = (mixture.sample((2, 20_000), generator())[..., 0, 0] < -2).double()
    left = left - left.mean()

    assert 0.1 < left.std() < 0.5
    assert_mean_equal(left[0] * left[1], 0.0, resolution=0.01)


def test_defensive_share_bounds_the_weights():
    """However narrow r_omega is."""
    narrow = LinearGaussian(2, 3, widening=0.2)
    defended = weighed(narrow, 2000, 16, proposal=amortised_proposal)
    bare = weighed(narrow, 2000, 16)

    for weighted, bounded in ((defended, True), (bare, False)):
        excess = weighted.log_w0 - weighted.log_lik0 + math.log(DEFENSIVE)
        assert (excess.max() < 1e-12) == bounded
    assert (defended.log_w - defended.log_lik).max() < -math.log(DEFENSIVE) + 1e-12


@pytest.mark.parametrize("proposal", [amortised_proposal, local_proposal])
@pytest.mark.parametrize("widening", [0.3, 1.5])
def test_bounds_hold_for_every_proposal(proposal, widening):
    model = LinearGaussian(2, 3, shift=0.5, widening=widening)
    weighted = weighed(model, 60_000, 8, proposal=proposal)
    lower, upper = sandwich(weighted)
    term = correction(weighted)

    assert_mean_positive(model.information - (lower + term) + 0.02)
    assert_mean_positive(upper + term - model.information + 0.02)
    assert_mean_positive(upper - lower)


@pytest.mark.parametrize("build", [LinearGaussian, hidden])
def test_local_proposal_finds_the_posterior_of_a_linear_model(build):
    model = LinearGaussian(2, 3, shift=3.0, widening=2.0)
    _, x, _ = model.joint_draws(6)
    exact = LinearGaussian(2, 3).r(x)
    local = local_proposal(build(2, 3, shift=3.0, widening=2.0), x).components[0]

    assert_close(local.loc, exact.loc)
    precision = local.factor @ local.factor.mT * inflation(2) ** 2
    assert_close(precision, torch.diag_embed((-2 * exact.log_scale).exp()))


def test_local_proposal_needs_second_derivatives_of_what_it_does_not_know():
    _, x, _ = LinearGaussian(2, 3).joint_draws(6)

    assert len(local_proposal(hidden(2, 3), x).components) == 3
    left = local_proposal(hidden(2, 3, twice=False), x)
    assert len(left.components) == 2
    assert_close(left.components[0].loc, LinearGaussian(2, 3).r(x).loc)


def test_local_proposal_between_two_modes():
    """Where log p(z|x) is convex it still has a precision, of at least the prior's."""
    model = LinearGaussian(2, 3, sigma=0.1)
    inner = model.likelihood

    class Either(nn.Module):
        """x comes from z or from -z."""

        def forward(self, z):
            p = inner(torch.stack([z, -z], -2))
            normals = MultivariateNormal(p.loc, 0.01 * torch.eye(3).double())
            shares = torch.distributions.Categorical(torch.ones_like(p.loc[..., 0]))
            return MixtureSameFamily(shares, normals)

    model.likelihood = UserLikelihood(Either(), 3)
    with torch.no_grad():
        model.posterior.network.weight.zero_()
        model.posterior.network.bias.zero_()
    x = model.likelihood(torch.ones(5, 2).double()).sample()
    local = local_proposal(model, x).components[0]

    precision = local.factor @ local.factor.mT * inflation(2) ** 2
    assert torch.linalg.eigvalsh(precision).min() >= 1 - 1e-9
    assert torch.isfinite(local.loc).all()


def test_the_wider_a_proposal_the_fewer_its_dimensions():
    assert inflation(1) == inflation(8) == 1.2
    assert 1 < inflation(64) < inflation(32) < 1.2


@pytest.mark.parametrize(
    ("kind", "columns"),
    [
        ("gaussian", 4),
        ("isotropic", 4),
        ("heteroscedastic", 4),
        ("bernoulli", 4),
        ("categorical", (3, 4)),
    ],
)
def test_local_proposal_climbs_to_the_mode(kind, columns):
    model = random_model(kind, columns, 2, sharpness=1.5)
    with torch.no_grad():
        z0 = torch.randn(50, 2, generator=generator(), dtype=torch.float64)
        x = model.likelihood(z0).sample((), generator(1))
        start = model.r(x).loc
    top = local_proposal(model, x).components[0].loc

    def slope(z):
        z = z.clone().requires_grad_()
        (slope,) = torch.autograd.grad(model.log_joint(x, z).sum(), z)
        return slope.norm(dim=-1)

    assert (model.log_joint(x, top) >= model.log_joint(x, start) - 1e-12).all()
    assert slope(top).median() < 0.1 * slope(start).median()


# Variance reduction


@pytest.mark.parametrize("proposal", [None, amortised_proposal])
def test_correction_and_controls_have_mean_zero(proposal):
    weighted = weighed(wrong(), 20_000, 8, proposal=proposal)
    controls = control_variates(weighted)

    assert len(controls) == 20_000
    assert_mean_equal(correction(weighted), 0.0, resolution=0.1)
    assert_mean_equal(controls, 0.0, resolution=0.1)
    assert (controls.std(0) > 0.1).all()


@pytest.mark.parametrize("k", [1, 8])
def test_correction_spares_noise(k):
    weighted = weighed(wrong(), 20_000, k)

    for bound in sandwich(weighted):
        assert (bound + correction(weighted)).var() < 0.7 * bound.var()


def test_correction_of_all_outcomes_has_mean_zero():
    """Of shape (S, n), weighted by the outcomes' probabilities."""
    model, g, means = random_model("categorical", (3, 2), 2), generator(), []
    x = model.likelihood.outcomes().unsqueeze(1)
    with torch.no_grad():
        for _ in range(500):
            z0 = model.stratified_codes(32, g)
            log_lik = model.likelihood(z0).log_prob(x)
            weighted = weigh(model, x, z0, log_lik, model.r(x), 3, g)
            assert correction(weighted).shape == (6, 32)
            means.append((log_lik.exp() * correction(weighted)).sum(0).mean())

    assert_mean_equal(torch.stack(means), 0.0, resolution=0.06)


def test_correction_passes_no_gradient():
    model = wrong()
    z0, x, log_lik = model.joint_draws(5)
    weighted = weigh(model, x, z0, log_lik, model.r(x), 3, generator())

    assert weighted.log_w.requires_grad
    assert not correction(weighted).requires_grad


# Chains


@torch.no_grad()
def chained(model, n, k, n_temperatures, seed=0):
    """Weighed chains from r_omega, draws around z0, and log p(x)."""
    z0, x, log_lik = model.joint_draws(n, seed)
    sizes = torch.full((n_temperatures,), 0.7).double()
    g = generator(seed + 1)
    chains = weigh_chains(model, x, z0, log_lik, model.r(x), k, sizes, g)
    return *chains, model.marginal().log_prob(x)


@pytest.mark.parametrize("n_temperatures", [1, 2, 7])
def test_chains_are_weighed_without_bias(n_temperatures):
    """From both ends: forwards p(x) is the mean weight, backwards 1 / p(x) of 1 / w."""
    model = LinearGaussian(2, 3, shift=0.5, widening=1.1)
    weighted, _, log_marginal = chained(model, 60_000, 1, n_temperatures)

    forwards = (weighted.log_w[0] - log_marginal).exp()
    backwards = (log_marginal - weighted.log_w0).exp()
    assert_mean_equal(forwards, 1.0, resolution=0.02)
    assert_mean_equal(backwards, 1.0, resolution=0.02)


def test_one_temperature_is_no_annealing():
    model = wrong()
    weighted, around, _ = chained(model, 9, 4, 1)
    z0, x, log_lik = model.joint_draws(9)
    plain = weigh(model, x, z0, log_lik, model.r(x), 4, generator(1))

    assert around is weighted
    for one, other in zip(weighted, plain, strict=True):
        assert_close(one, other)


def test_more_temperatures_come_nearer_from_both_sides():
    model = LinearGaussian(6, 8, shift=1.0, widening=1.5)
    bounds = []
    for n_temperatures in (1, 8, 64):
        weighted, around, _ = chained(model, 2_000, 2, n_temperatures)
        term = correction(around)
        bounds.append([bound + term for bound in sandwich(weighted)])

    for (low, high), (lower, upper) in itertools.pairwise(bounds):
        assert_mean_positive(lower - low)
        assert_mean_positive(high - upper)
    lower, upper = bounds[-1]
    assert_mean_positive(model.information + 0.05 - lower)
    assert_mean_positive(upper - model.information + 0.05)
    assert_mean_positive(0.3 - (upper - lower))


def test_chains_reduce_the_variance_without_bias():
    """By their own ends, and better by draws around z0."""
    weighted, around, _ = chained(wrong(), 20_000, 3, 8)
    for draws in (weighted, around):
        assert_mean_equal(correction(draws), 0.0, resolution=0.1)
        assert_mean_equal(control_variates(draws), 0.0, resolution=0.1)
    for bound in sandwich(weighted):
        by_ends, by_draws = (bound + correction(draws) for draws in (weighted, around))
        assert by_draws.var() < 0.9 * by_ends.var() < 0.6 * bound.var()


def test_chains_end_nearer_the_posterior():
    model = LinearGaussian(2, 3, shift=3.0)
    exact = LinearGaussian(2, 3)
    weighted, around, _ = chained(model, 2_000, 1, 100)
    _, x, _ = model.joint_draws(2_000)

    def off(z):
        return ((z - exact.r(x).loc) / exact.r(x).log_scale.exp()).detach()

    assert abs(off(weighted.z[0]).mean()) < 0.3  # r_omega's draws: 3
    last = off(around.z[-1])
    assert_mean_equal(last, 0.0, resolution=0.2)
    assert_mean_equal(last.square(), 1.0, resolution=0.3)


@pytest.mark.parametrize("twice", [True, False])
def test_step_sizes_fit_the_target(twice):
    """Where r_omega is ten times too wide its own scale is no measure."""
    wide = hidden(2, 3, twice, widening=10.0)
    sizes = tuned_step_sizes(wide, 60, generator())

    assert sizes.shape == (60,)
    assert sizes[1] == 0.5
    assert 0.02 < sizes[-1] < 0.25
    assert torch.equal(sizes, tuned_step_sizes(wide, 60, generator()))


def test_chains_leave_no_gradient():
    model = wrong()
    weighted, around, _ = chained(model, 5, 2, 3)

    assert not any(values.requires_grad for values in (*weighted, *around))
    assert all(parameter.grad is None for parameter in model.parameters())
