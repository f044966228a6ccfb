"""Bounds, rates and densities of the encoders, against closed forms."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import (
    Independent,
    MultivariateNormal,
    Normal,
    TransformedDistribution,
    kl_divergence,
)
from torch.distributions.transforms import AffineTransform
from torch.testing import assert_close

from sklearn_mae.encoders import (
    Amortised,
    CategoryTable,
    GaussianEncoder,
    OneHot,
    Resampling,
    Standardised,
    UserEncoder,
)
from sklearn_mae.model import DiagonalNormal, draw
from tests.statistical import assert_mean_equal, assert_mean_positive
from tests.toy_models import LinearGaussian, generator, random_model


def perturbed(d=2, D=3):
    return LinearGaussian(d, D, shift=0.5, widening=1.4)


def proposals(model, x, k, seed=0):
    q = model.q(x)
    return q, draw(q, (k,), generator(seed))


# Features


def test_standardised():
    features = Standardised([1.0, -2.0], [0.5, 4.0])
    x = torch.tensor([[1.0, 2.0], [2.0, -2.0]], dtype=torch.float64)

    assert_close(features(x), torch.tensor([[0.0, 1.0], [2.0, 0.0]]).double())
    single = features.float()(x.float())
    assert single.dtype == torch.float32
    assert not list(features.parameters())


def test_one_hot():
    features = OneHot([3, 1, 2])
    x = torch.tensor([[2, 0, 1], [0, 0, 0]])
    expected = [[0, 0, 1, 1, 0, 1], [1, 0, 0, 1, 1, 0]]

    assert features(x).tolist() == expected
    assert features(x.unsqueeze(1)).shape == (2, 1, 6)
    assert features.double()(x).dtype == torch.float64
    assert not features.state_dict()


# Proposals


def test_gaussian_encoder_reads_means_and_log_scales():
    encoder = GaussianEncoder(nn.Identity())
    q = encoder(torch.tensor([[1.0, 2.0, -0.5, 0.3]]))

    assert q.loc.tolist() == [[1.0, 2.0]]
    assert_close(q.log_scale, torch.tensor([[-0.5, 0.3]]))


def test_gaussian_encoder_survives_extreme_rows():
    q = GaussianEncoder(nn.Identity())(torch.tensor([[1e30, 1e30], [0.0, -1e30]]))

    assert q.log_scale.exp().isfinite().all()
    assert (q.log_scale.exp() > 0).all()


def test_category_table_is_a_table():
    table = GaussianEncoder(CategoryTable(4, 2)).double()
    rows = torch.eye(4, dtype=torch.float64)
    q = table(rows)

    assert_close(q.log_scale, torch.zeros(4, 2).double())
    assert torch.pdist(q.loc).min() > 0.01  # the means start apart
    # a category's entry is its own: the others do not move with it
    gradient = torch.autograd.grad(q.log_prob(rows[:, :2])[1], table.network.table)[0]
    assert (gradient[[0, 2, 3]] == 0).all()
    assert (gradient[1] != 0).all()


def test_category_table_moves_faster_than_its_parameters():
    """A step of Adam is about lr in every parameter: a table would crawl."""
    table = GaussianEncoder(CategoryTable(4, 2))
    before = table(torch.eye(4)).loc.detach()
    optimizer = torch.optim.Adam(table.parameters(), lr=1e-3)
    table(torch.eye(4)).loc.sum().backward()
    optimizer.step()

    moved = (before - table(torch.eye(4)).loc).detach()
    assert_close(moved, torch.full_like(moved, 4e-3), rtol=1e-3, atol=0)


class Module(nn.Module):
    def __init__(self, make):
        super().__init__()
        self.make = make

    def forward(self, features):
        return self.make(features)


def test_a_user_s_encoder_makes_one_event():
    x = torch.zeros(5, 2).double()
    loose = UserEncoder(Module(lambda f: Normal(f, 1.0)))
    whole = UserEncoder(Module(lambda f: Independent(Normal(f, 1.0), 1)))

    assert loose(x).event_shape == whole(x).event_shape == (2,)
    assert loose(x).batch_shape == (5,)


# The proposal as encoder


def test_elbo_falls_short_of_the_likelihood_by_the_divergence():
    model = perturbed()
    _, x, _ = model.joint_draws(4)
    q, z = proposals(model, x, 20_000)
    bound = Amortised().bound(model, x, q, z.unsqueeze(1))
    exact = model.marginal().log_prob(x) - model.divergence

    assert bound.elbo.shape == (20_000, 4)
    assert_mean_equal(bound.elbo.detach(), exact.numpy(), resolution=0.2)


def test_distortion_and_rate_of_the_proposal():
    model = perturbed()
    _, x, _ = model.joint_draws(4)
    q, z = proposals(model, x, 20_000)
    bound = Amortised().bound(model, x, q, z.unsqueeze(1))
    prior = Normal(torch.zeros(2).double(), 1.0)
    rate = kl_divergence(Normal(q.loc, q.log_scale.exp()), prior).sum(-1)
    # E (x - b - W z)^2 under q
    mean_error = x - model.b - q.loc @ model.W.mT
    spread = (2 * q.log_scale).exp() @ model.W.square().mT
    squares = (mean_error.square() + spread).sum(-1) / (2 * model.sigma**2)
    distortion = squares + 3 * math.log(model.sigma * math.sqrt(2 * math.pi))

    assert_close(bound.rate[0], rate)
    assert_close(bound.elbo, -(bound.distortion + bound.rate), rtol=0, atol=0)
    assert_mean_equal(
        bound.distortion.detach(), distortion.detach().numpy(), resolution=0.2
    )


def test_bound_averages_over_draws():
    model = perturbed()
    _, x, _ = model.joint_draws(4)
    q, z = proposals(model, x, 3)
    together = Amortised().bound(model, x, q, z)
    apart = [Amortised().bound(model, x, q, one.unsqueeze(0)) for one in z]

    assert_close(together.elbo, torch.stack([part.elbo for part in apart]).mean(0))


SPREAD = torch.tensor([0.5, 1.3], dtype=torch.float64)
TRIL = torch.tensor([[0.5, 0.0], [0.4, 1.3]], dtype=torch.float64)


@pytest.mark.parametrize("closed_form", [True, False])
def test_rate_of_a_foreign_proposal(closed_form):
    """In closed form where torch has one, else an estimate of the same figure."""
    loc = torch.tensor([[0.3, -1.0], [2.0, 0.1]]).double()
    if closed_form:
        q = Independent(Normal(loc, SPREAD), 1)
    else:
        standard = Independent(Normal(torch.zeros_like(loc), 1.0), 1)
        q = TransformedDistribution(standard, [AffineTransform(loc, SPREAD, 1)])
    model = perturbed()
    _, x, _ = model.joint_draws(2)
    z = draw(q, (20_000, 1), generator())
    rate = Amortised().bound(model, x, q, z).rate.detach()
    exact = kl_divergence(Normal(loc, SPREAD), Normal(0.0, 1.0)).sum(-1)

    assert rate.shape == (20_000, 2)
    assert (rate.std(0) < 1e-12).all() == closed_form
    assert_mean_equal(rate, exact.numpy(), resolution=0.1)


def test_rate_of_a_correlated_proposal():
    loc = torch.tensor([[0.3, -1.0]]).double()
    q = MultivariateNormal(loc, scale_tril=TRIL)
    model = perturbed()
    _, x, _ = model.joint_draws(1)
    z = draw(q, (20_000, 1), generator())
    rate = Amortised().bound(model, x, q, z).rate.detach()
    prior = MultivariateNormal(torch.zeros(2).double(), torch.eye(2).double())

    assert_mean_equal(rate, kl_divergence(q, prior).numpy(), resolution=0.1)


def test_code_of_the_proposal():
    model = perturbed()
    _, x, _ = model.joint_draws(4)
    q, z = proposals(model, x, 6)
    groups = torch.arange(6).view(3, 2)

    assert_close(Amortised().mean_code(model, x, q, z, groups), q.loc)
    z = z[groups]
    chosen = Amortised().choose(model, x, q, z, torch.rand(4))
    assert_close(chosen, z[:, 0])
    points = z[0, 0]
    assert_close(Amortised().log_density(model, x, q, points, None), q.log_prob(points))


def test_mean_code_of_a_proposal_that_does_not_know_its_mean():
    q = TransformedDistribution(Normal(torch.zeros(4, 2), 1.0), [AffineTransform(1, 2)])
    q = Independent(q, 1)
    z = torch.randn(6, 4, 2, generator=generator())

    mean = Amortised().mean_code(None, None, q, z, torch.arange(6).view(3, 2))
    assert_close(mean, z.mean(0))


# Resampling


def test_one_draw_is_the_elbo_of_that_draw():
    model = perturbed()
    _, x, log_lik = model.joint_draws(4)
    q, z = proposals(model, x, 1)
    bound = Resampling(1).bound(model, x, q, z)
    log_lik = model.likelihood(z[0]).log_prob(x)

    assert_close(bound.distortion, -log_lik)
    assert_close(bound.rate, q.log_prob(z[0]) - model.prior.log_prob(z[0]))
    assert_close(bound.elbo, log_lik + model.prior.log_prob(z[0]) - q.log_prob(z[0]))


@pytest.mark.parametrize("k", [1, 2, 7])
def test_distortion_and_rate_make_up_the_bound(k):
    model = perturbed()
    _, x, _ = model.joint_draws(4)
    q, z = proposals(model, x, 3 * k)
    z = z.unflatten(0, (3, k))
    bound = Resampling(k).bound(model, x, q, z)
    # straight from the definitions
    w = model.log_weights(x, z, q).exp()
    distortion = -(w * model.likelihood(z).log_prob(x)).sum(1) / w.sum(1)

    assert bound.elbo.shape == (3, 4)
    assert_close(bound.elbo, w.mean(1).log())
    assert_close(bound.distortion, distortion)
    assert_close(bound.distortion + bound.rate, -bound.elbo)


def test_more_draws_come_nearer_to_the_likelihood():
    model = perturbed()
    _, x, _ = model.joint_draws(3)
    q, z = proposals(model, x, 4000 * 32)
    z = z.unflatten(0, (4000, 32))
    with torch.no_grad():
        bounds = [Resampling(k).bound(model, x, q, z[:, :k]).elbo for k in (1, 4, 32)]
    exact = model.marginal().log_prob(x)

    assert_mean_positive(bounds[1] - bounds[0])
    assert_mean_positive(bounds[2] - bounds[1])
    assert_mean_positive(bounds[2] - (exact - 0.025))
    # below on average although the mean weight is p(x) itself
    likelihood_ratio = (bounds[2] - exact).exp()
    assert_mean_equal(likelihood_ratio, 1.0, resolution=0.05)
    assert_mean_positive(likelihood_ratio - 1 - (bounds[2] - exact))


def test_gradient_of_the_distortion_passes_through_the_weights():
    """Finite differences in a weight of the encoder, at the same noise."""
    model = random_model("gaussian", 3, 2)
    x = torch.randn(4, 3, generator=generator(), dtype=torch.float64)
    parameter = model.encoder.network[0].weight

    def distortion():
        q, z = proposals(model, x, 5)
        return Resampling(5).bound(model, x, q, z).distortion.sum()

    (gradient,) = torch.autograd.grad(distortion(), parameter)
    h = 1e-6
    with torch.no_grad():
        parameter[0, 0] += h
        above = distortion()
        parameter[0, 0] -= 2 * h
        below = distortion()

    assert_close(gradient[0, 0], (above - below) / (2 * h), rtol=1e-6, atol=1e-6)


def test_choice_follows_the_weights():
    model = perturbed()
    _, x, _ = model.joint_draws(1)
    n, k = 20_000, 3
    q, z = proposals(model, x, k)
    weights = torch.softmax(model.log_weights(x, z, q), 0).squeeze(-1)
    u = torch.rand(n, generator=generator(), dtype=torch.float64)
    wide_q = DiagonalNormal(q.loc.expand(n, 2), q.log_scale.expand(n, 2))
    chosen = Resampling(k).choose(
        model, x.expand(n, -1), wide_q, z.expand(k, n, 2).unsqueeze(0), u
    )

    assert chosen.shape == (1, n, 2)
    which = (chosen[0].unsqueeze(1) == z.squeeze(1)).all(-1).double()
    assert (which.sum(-1) == 1).all()
    assert weights.min() > 0.02
    assert_mean_equal(which, weights.detach().numpy(), resolution=0.05)


@pytest.mark.parametrize("u", [0.0, 1.0])
def test_choice_at_the_ends(u):
    model = perturbed()
    _, x, _ = model.joint_draws(4)
    q, z = proposals(model, x, 5)
    chosen = Resampling(5).choose(model, x, q, z, torch.full((4,), u).double())

    expected = z[0] if u == 0 else z[-1]
    assert_close(chosen, expected, rtol=0, atol=0)


def resampled(k, n_batches, n_groups, seed=0):
    """Density of the resampled code on a grid, and draws of it; a row a batch."""
    model = random_model("gaussian", 2, 1, sharpness=2.0, seed=3)
    rule, g = Resampling(k), generator(seed)
    x = torch.tensor([[0.5, -1.0]]).double()
    grid = torch.linspace(-9, 9, 721, dtype=torch.float64)[:, None]
    wide_x, q = x.expand(721, -1), model.q(x)
    wide_q = DiagonalNormal(q.loc.expand(721, 1), q.log_scale.expand(721, 1))
    densities, drawn = [], []
    with torch.no_grad():
        for _ in range(n_batches):
            others = draw(q, (n_groups, k - 1), g)
            log_q = rule.log_density(model, wide_x, wide_q, grid, others)
            densities.append(log_q.exp())
            z = draw(q, (n_groups, k), g)
            u = torch.rand(n_groups, 1, generator=g, dtype=torch.float64)
            drawn.append(rule.choose(model, x, q, z, u).flatten())
    step = float(grid[1, 0] - grid[0, 0])
    return grid[:, 0], torch.stack(densities) * step, torch.stack(drawn), (model, x)


def test_density_of_the_resampled_code():
    """It integrates to one, and its draws are what Resampling draws."""
    grid, masses, drawn, _ = resampled(k=3, n_batches=40, n_groups=100)
    moments = {
        "one": torch.ones_like,
        "mean": lambda z: z,
        "square": lambda z: z.square(),
        "left": lambda z: torch.sigmoid(-10 * (z + 0.5)),
        "right": lambda z: torch.sigmoid(10 * (z - 0.5)),
    }

    assert_mean_equal(masses.sum(-1), 1.0, resolution=0.05)
    for function in moments.values():
        integral = (masses * function(grid)).sum(-1)
        gap = integral - function(drawn).mean(-1)
        assert_mean_equal(gap, 0.0, resolution=0.2)


def test_density_of_one_draw_is_the_proposal():
    grid, masses, _, (model, x) = resampled(k=1, n_batches=2, n_groups=3)
    q = model.q(x)
    proposal = q.log_prob(grid[:, None]).exp() * float(grid[1] - grid[0])

    assert_close(masses, proposal.expand(2, -1).detach())


def test_density_of_many_draws_is_the_posterior():
    grid, masses, _, (model, x) = resampled(k=200, n_batches=2, n_groups=20)
    joint = model.log_joint(x, grid[:, None]).detach().exp()
    step = float(grid[1] - grid[0])
    posterior = joint / (joint.sum() * step) * step

    proposal = model.q(x).log_prob(grid[:, None]).detach().exp() * step
    assert (proposal - posterior).abs().sum() > 0.1  # there is something to correct
    assert (masses.mean(0) - posterior).abs().sum() < 0.02


def test_mean_of_the_resampled_code():
    """Averaging over which draw is kept does not change the mean."""
    model = perturbed()
    _, x, _ = model.joint_draws(3)
    rule, g = Resampling(4), generator(5)
    q = model.q(x)
    z = draw(q, (4000, 4), g)
    u = torch.rand(4000, 3, generator=g, dtype=torch.float64)
    with torch.no_grad():
        alone = torch.arange(4)[None]
        means = torch.stack([rule.mean_code(model, x, q, each, alone) for each in z])
        chosen = rule.choose(model, x, q, z, u)

    assert means.shape == chosen.shape == (4000, 3, 2)
    assert_mean_equal(means - chosen, 0.0, resolution=0.1)
    # a mean of means has less noise than the draws
    assert (means.std(0) < chosen.std(0)).all()


def test_groups_may_share_draws():
    model = perturbed()
    _, x, _ = model.joint_draws(3)
    q, z = proposals(model, x, 6)
    rule = Resampling(3)
    groups = torch.tensor([[0, 1, 2], [3, 4, 5], [5, 0, 3], [1, 2, 4]])

    alone = torch.arange(3)[None]
    means = [rule.mean_code(model, x, q, z[group], alone) for group in groups]
    mean = rule.mean_code(model, x, q, z, groups)
    assert_close(mean, torch.stack(means).mean(0))


def test_rate_of_resampling_exceeds_the_code_s_own():
    """R = -L_k - D >= KL(q_EW || p), the rate of the code that is drawn."""
    k = 3
    grid, masses, _, (model, x) = resampled(k, n_batches=40, n_groups=200)
    density = masses.mean(0) / float(grid[1] - grid[0])
    log_prior = model.prior.log_prob(grid[:, None])
    own = (masses.mean(0) * (density.log() - log_prior)).sum()
    q, z = proposals(model, x, 20_000 * k)
    rate = Resampling(k).bound(model, x, q, z.unflatten(0, (-1, k))).rate.detach()

    assert_mean_positive(rate - own)
