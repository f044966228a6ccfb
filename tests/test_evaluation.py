"""The reported numbers, against closed forms and brute force."""

import itertools

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from scipy.special import log_softmax, logsumexp
from torch import nn
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal
from torch.testing import assert_close

from sklearn_mae import evaluation
from sklearn_mae.encoders import Amortised, ForeignEncoder, Resampling
from sklearn_mae.evaluation import Evaluation
from sklearn_mae.information import certificate, information_of_model
from tests.statistical import assert_estimate_equal, assert_mean_equal
from tests.toy_models import LinearGaussian, generator, random_model

RULES = {"amortised": Amortised(), "resampling": Resampling(3)}
every_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())


def wrong(d=2, D=3):
    return LinearGaussian(d, D, shift=0.5, widening=1.3)


class TwoBumps(nn.Module):
    """An encoder whose draws are no known function of normal noise."""

    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.tensor(1.0))

    def forward(self, features):
        centre = features[..., :2]
        loc = torch.stack([centre - self.shift, centre + self.shift], -2)
        components = Independent(Normal(loc, 0.3), 1)
        shares = Categorical(logits=torch.zeros_like(loc[..., 0]))
        return MixtureSameFamily(shares, components)


def two_bumps():
    model = wrong()
    model.encoder = ForeignEncoder(TwoBumps().double())
    return model


MODELS = {"linear": wrong, "two bumps": two_bumps}
every_model = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS.keys())


def figures(model, rule, x, z, noise):
    """All figures that belong to rows, each of shape (n, ..)."""
    found = Evaluation(model, rule, seed=3)
    return {
        "mean_codes": found.mean_codes(x),
        "bound": torch.stack(found.bound(x), -1),
        "log_likelihood": found.log_likelihood(x, 50),
        "one draw": found.log_likelihood(x, 1),
        "conditional": found.conditional(x, z),
        "decode": found.decode(z),
        "draw_codes": found.draw_codes(x, noise),
    }


def rows(model, rule, n=12):
    z, x, _ = model.joint_draws(n)
    n_noise = Evaluation(model, rule, 0).n_noise
    noise = torch.randn(n, n_noise, generator=generator(1), dtype=torch.float64)
    return x, z, noise


# What belongs to a row


@every_model
@every_rule
def test_a_row_s_figures_do_not_hang_on_the_other_rows(make, rule, monkeypatch):
    model = make()
    x, z, noise = rows(model, rule)
    together = figures(model, rule, x, z, noise)
    alone = [
        figures(model, rule, x[i : i + 1], z[i : i + 1], noise[i : i + 1])
        for i in range(len(x))
    ]
    monkeypatch.setattr(evaluation, "DECODED_AT_ONCE", 500)
    in_chunks = figures(model, rule, x, z, noise)
    order = torch.randperm(len(x), generator=generator())
    shuffled = figures(model, rule, x[order], z[order], noise[order])

    for name, values in together.items():
        assert len(values) == len(x), name
        one_by_one = torch.cat([one[name] for one in alone])
        for other in (one_by_one, in_chunks[name]):
            assert_close(values, other, rtol=1e-9, atol=1e-9, msg=name)
        assert_close(values[order], shuffled[name], rtol=1e-9, atol=1e-9, msg=name)


@every_model
@every_rule
def test_figures_touch_no_global_state_and_build_no_graph(make, rule):
    model = make()
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    for name, values in figures(model, rule, *rows(model, rule)).items():
        assert not values.requires_grad, name

    assert_close(torch.get_rng_state(), torch_state, rtol=0, atol=0)
    assert_array_equal(np.random.get_state()[1], numpy_state)


@every_rule
def test_the_seed_makes_the_fixed_draws(rule):
    model = wrong()
    x, _, _ = rows(model, rule)
    one, two, other = (
        Evaluation(model, rule, s).log_likelihood(x, 8) for s in (0, 0, 1)
    )

    assert_close(one, two, rtol=0, atol=0)
    assert (one != other).all()


# Likelihoods and bounds


def test_log_likelihood_with_the_exact_posterior():
    model = LinearGaussian(2, 3)
    _, x, _ = model.joint_draws(20)
    found = Evaluation(model, Amortised(), 0).log_likelihood(x, 4)

    assert_close(found, model.marginal().log_prob(x), rtol=1e-9, atol=1e-9)


def test_log_likelihood_is_an_unbiased_likelihood():
    """Over the seeds of the fixed draws, which are no less right for being fixed."""
    model = wrong()
    _, x, _ = model.joint_draws(3)
    exact = model.marginal().log_prob(x)
    found = [
        (Evaluation(model, Amortised(), seed).log_likelihood(x, 64) - exact).exp()
        for seed in range(300)
    ]

    assert_mean_equal(torch.stack(found), 1.0, resolution=0.05)


def test_log_likelihood_comes_near_the_truth():
    model = wrong()
    _, x, _ = model.joint_draws(20)
    exact = model.marginal().log_prob(x)
    errors = [
        (Evaluation(model, Amortised(), 0).log_likelihood(x, n) - exact).abs().max()
        for n in (16, 4096)
    ]

    assert errors[1] < 0.02
    assert errors[1] < 0.2 * errors[0]


def test_bound_of_the_proposal():
    model = wrong()
    _, x, _ = model.joint_draws(5)
    found = [Evaluation(model, Amortised(), seed).bound(x) for seed in range(100)]
    exact = model.marginal().log_prob(x) - model.divergence
    elbo = torch.stack([bound.elbo for bound in found])

    assert_mean_equal(elbo, exact.numpy(), resolution=0.1)
    assert elbo.std(0).max() < 0.25  # a single seed is good enough, too
    bound = found[0]
    assert_close(bound.elbo, -(bound.distortion + bound.rate))


def test_bound_of_resampling_lies_between():
    model = wrong()
    _, x, _ = model.joint_draws(5)
    bounds = [Evaluation(model, Resampling(k), 0).bound(x) for k in (1, 4, 16)]
    exact = model.marginal().log_prob(x)

    for weaker, stronger in itertools.pairwise(bounds):
        assert (weaker.elbo < stronger.elbo).all()
    assert (bounds[-1].elbo < exact + 0.02).all()
    assert_close(bounds[1].elbo, -(bounds[1].distortion + bounds[1].rate))


def test_conditional_and_decode():
    model = wrong()
    z, x, log_lik = model.joint_draws(6)
    found = Evaluation(model, Amortised(), 0)

    assert_close(found.conditional(x, z), log_lik)
    assert_close(found.decode(z), z @ model.W.mT + model.b)
    stacked = torch.stack([z, -z, 2 * z])
    decoded = found.decode(stacked)
    assert decoded.shape == (3, 6, 3)
    assert_close(decoded[1], found.decode(-z))


# Codes


def test_mean_codes_of_the_proposal():
    model = wrong()
    _, x, _ = model.joint_draws(6)

    assert_close(Evaluation(model, Amortised(), 0).mean_codes(x), model.q(x).loc)


def test_mean_codes_of_resampling_come_near_the_posterior_mean():
    model = wrong()
    _, x, _ = model.joint_draws(6)
    exact = LinearGaussian(2, 3).q(x).loc
    errors = [
        (Evaluation(model, Resampling(k), 0).mean_codes(x) - exact).abs().max()
        for k in (1, 256)
    ]

    assert errors[1] < 0.1 * errors[0]


def drawn(model, rule, n=20_000):
    """Draws of one row's code."""
    _, x, _ = model.joint_draws(1)
    found = Evaluation(model, rule, 0)
    noise = torch.randn(n, found.n_noise, generator=generator(2), dtype=torch.float64)
    return x, found.draw_codes(x.expand(n, -1), noise)


def test_drawn_codes_of_the_proposal():
    model = wrong()
    x, z = drawn(model, Amortised())
    q = model.q(x)
    e = ((z - q.loc) * (-q.log_scale).exp()).detach()

    assert_mean_equal(e, 0.0, resolution=0.05)
    assert_mean_equal(e.unsqueeze(-1) * e.unsqueeze(-2), np.eye(2), resolution=0.06)


def test_drawn_codes_of_resampling_have_its_mean():
    model, rule = wrong(), Resampling(4)
    x, z = drawn(model, rule)
    found = [Evaluation(model, rule, seed).mean_codes(x)[0] for seed in range(50)]
    mean = torch.stack(found).mean(0)  # hundreds of draws: noise far below z's

    assert_mean_equal(z, mean.numpy(), resolution=0.05)
    assert (mean - model.q(x).loc).abs().max() > 0.05  # it is not the proposal's


@every_rule
def test_drawn_codes_follow_their_noise(rule):
    """Also where a family has no map from noise: then the noise is a seed."""
    model = two_bumps()
    x, _, noise = rows(model, rule)
    found = Evaluation(model, rule, 0)
    one, again = found.draw_codes(x, noise), found.draw_codes(x, noise)
    other = found.draw_codes(x, noise + 1e-3)

    assert_close(one, again, rtol=0, atol=0)
    assert (one != other).any(-1).all()
    same_row = x[:1].expand(12, -1)
    assert len(found.draw_codes(same_row, noise).unique(dim=0)) == 12


def test_drawn_codes_without_a_map_have_their_distribution():
    model = two_bumps()
    x, z = drawn(model, Amortised(), n=3000)
    gap = z - x[:, :2]

    assert_mean_equal(gap, 0.0, resolution=0.15)
    assert_mean_equal(gap.square(), 1 + 0.3**2, resolution=0.1)


def test_joint_draws():
    model = wrong()
    x, z = Evaluation(model, Amortised(), 0).sample(50_000, generator())
    e = (x - model.b - z @ model.W.mT) / model.sigma
    standard = torch.cat([z, e], -1)

    assert_mean_equal(standard, 0.0, resolution=0.05)
    products = standard.unsqueeze(-1) * standard.unsqueeze(-2)
    assert_mean_equal(products, np.eye(5), resolution=0.05)


# The model's information


def tabulated_information(log_lik, log_mass):
    """I from log p(x|z), shape (points, outcomes), and the points' masses."""
    log_mass = log_mass - logsumexp(log_mass)
    log_marginal = logsumexp(log_lik + log_mass[:, None], axis=0)
    information = (np.exp(log_lik) * (log_lik - log_marginal)).sum(1)
    return float((np.exp(log_mass) * information).sum())


def brute_force(model, cardinalities, n_points):
    """Every outcome on a plain grid, from the decoder's logits alone."""
    d = model.n_components
    axes = np.meshgrid(*[np.linspace(-7, 7, n_points)] * d, indexing="ij")
    z = np.stack([axis.ravel() for axis in axes], -1)
    with torch.no_grad():
        logits = model.likelihood.decoder(torch.tensor(z)).numpy()
    if cardinalities is None:  # bits
        columns = [log_softmax(np.stack([0 * l, l], -1), -1) for l in logits.T]
    else:
        parts = np.split(logits, np.cumsum(cardinalities)[:-1], axis=1)
        columns = [log_softmax(part, -1) for part in parts]
    log_lik = columns[0]
    for column in columns[1:]:
        both = log_lik[:, :, None] + column[:, None, :]
        log_lik = both.reshape(len(z), -1)
    return tabulated_information(log_lik, -0.5 * (z**2).sum(-1))


@pytest.mark.parametrize("kind", ["bernoulli", "categorical"])
@pytest.mark.parametrize(("d", "n_points"), [(1, 2000), (2, 150), (3, 40)])
def test_enumeration_against_brute_force(kind, d, n_points):
    cardinalities = None if kind == "bernoulli" else (3, 2)
    model = random_model(kind, cardinalities or 3, d, sharpness=6.0)
    truth = brute_force(model, cardinalities, n_points)
    found = information_of_model(model, 2000, 0.1, generator())

    assert truth > 0.1
    assert found["method"] == "enumeration"
    assert found["n_outcomes"] == (6 if cardinalities else 8)
    assert found["estimate"] == 0.5 * (found["lower"] + found["upper"])
    if d <= 2:
        assert found["lower"] == found["upper"] == pytest.approx(truth, abs=2e-5)
        assert found["lower_se"] == found["upper_se"] == 0
        return
    # 25 groups make the standard error; the bounds' gap is far below it
    for side in ("lower", "upper"):
        se = found[f"{side}_se"]
        assert_estimate_equal(found[side], se, truth, resolution=0.2, n=25)
    assert found["lower"] < found["upper"]


def test_enumeration_of_a_constant_model():
    model = random_model("bernoulli", 3, 1, sharpness=0.0)

    assert 0 <= information_of_model(model, 100, 0.1, generator())["lower"] < 1e-9


def test_enumeration_of_a_sharp_model():
    """Four equal slices of the normal: log 4 nats, all but the edges' width."""
    model = random_model("categorical", (4,), 1)
    edges = torch.special.ndtri(torch.tensor([0.25, 0.5, 0.75]).double())

    class Slices(nn.Module):
        def forward(self, z):
            beyond = nn.functional.logsigmoid(300 * (z - edges)).unbind(-1)
            below = nn.functional.logsigmoid(-300 * (z - edges)).unbind(-1)
            parts = [
                below[0],
                beyond[0] + below[1],
                beyond[1] + below[2],
                beyond[2],
            ]
            return torch.stack(parts, -1)

    model.likelihood.decoder = Slices()
    truth = brute_force(model, (4,), 200_001)
    found = information_of_model(model, 100, 0.1, generator())

    assert np.log(4) - 0.05 < truth < np.log(4)
    assert found["estimate"] == pytest.approx(truth, abs=2e-5)


@pytest.mark.parametrize(("d", "D"), [(1, 1), (1, 4), (2, 3)])
def test_grid_against_the_closed_form(d, D):
    model = LinearGaussian(d, D, sigma=0.3)
    found = information_of_model(model, 500, 0.1, generator())

    assert found["method"] == "grid"
    assert_estimate_equal(
        found["estimate"], found["lower_se"], model.information, resolution=0.3, n=500
    )
    width = found["upper"] - found["lower"] + 4 * found["lower_se"]
    assert 0 < width <= 0.1


def test_grid_finds_narrow_posteriors():
    """A grid of 513 points is blind to a standard deviation of 0.007."""
    model = LinearGaussian(1, 1, sigma=0.011)
    found = information_of_model(model, 200, 0.5, generator())

    assert found["method"] == "grid"
    assert model.information > 4.8
    assert_estimate_equal(
        found["estimate"], found["lower_se"], model.information, resolution=0.6, n=200
    )


def test_grid_draws_until_the_interval_is_narrow():
    model = random_model("gaussian", 4, 1)
    found = information_of_model(model, 50, 0.02, generator())
    reference = information_of_model(model, 8000, 1.0, generator(1))

    assert reference["n_samples"] == 8000 > found["n_samples"] > 50
    assert 0 < 4 * found["lower_se"] <= 0.02
    se = np.hypot(found["lower_se"], reference["lower_se"])
    assert_estimate_equal(
        found["estimate"], se, reference["estimate"], resolution=0.05, n=50
    )


def test_grid_of_categories_too_many_to_list():
    cardinalities = (30, 30, 30)
    model = random_model("categorical", cardinalities, 1)
    found = information_of_model(model, 500, 0.1, generator())
    truth = brute_force(model, cardinalities, 141)

    assert found["method"] == "grid"
    assert_estimate_equal(
        found["estimate"], found["lower_se"], truth, resolution=0.1, n=500
    )


def spy_on_estimates(monkeypatch):
    """Record how many joint draws and proposals each estimate takes."""
    spent, plain = [], certificate.estimate_sandwich

    def estimate(model, n_samples, n_proposals, generator):
        spent.append(n_samples * n_proposals)
        return plain(model, n_samples, n_proposals, generator)

    monkeypatch.setattr(certificate, "estimate_sandwich", estimate)
    return spent


@pytest.mark.parametrize("tol", [0.2, 0.05])
def test_sandwich_against_the_closed_form(tol, monkeypatch):
    spent = spy_on_estimates(monkeypatch)
    model = LinearGaussian(4, 5, shift=1.0, widening=1.5)
    found = information_of_model(model, 300, tol, generator())
    width = found["upper"] - found["lower"]
    width += 2 * (found["upper_se"] + found["lower_se"])

    assert found["method"] == "sandwich"
    assert found["lower"] < found["upper"]
    assert width <= tol
    assert spent[-1] == found["n_samples"] * found["n_proposals"]
    for side in ("lower", "upper"):
        se = found[f"{side}_se"]
        assert_estimate_equal(
            found[side], se, model.information, resolution=0.2, n=found["n_samples"]
        )


@pytest.mark.parametrize("budget", [32_000, 100_000, 300_000])
def test_sandwich_keeps_to_its_budget(budget, monkeypatch):
    spent = spy_on_estimates(monkeypatch)
    found = information_of_model(
        LinearGaussian(4, 5), 500, 1e-6, generator(), budget=budget
    )

    assert sum(spent) <= budget
    assert sum(spent) > 0.3 * budget  # what it may spend on such a tol, it does
    assert found["upper"] > found["lower"]


def test_sandwich_takes_over_where_no_grid_is_affordable():
    found = information_of_model(LinearGaussian(2, 300), 2000, 1.0, generator())

    assert found["method"] == "sandwich"


@pytest.mark.parametrize("d", [1, 4])
def test_same_generator_same_information(d):
    model = LinearGaussian(d, 5)
    one, two, other = (
        information_of_model(model, 100, 1.0, generator(seed), budget=20_000)
        for seed in (0, 0, 1)
    )

    assert one == two
    assert one["estimate"] != other["estimate"]
