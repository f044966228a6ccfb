"""Estimates of the model's information, against closed forms and brute force."""

import copy
import functools
import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, logsumexp
from torch import nn
from torch.distributions import Categorical, MixtureSameFamily, Normal

from sklearn_mae.encoders import Posterior
from sklearn_mae.families.standard import standard_likelihood, standard_model
from sklearn_mae.families.user import UserLikelihood
from sklearn_mae.information import (
    Bracket,
    estimate_sandwich,
    importance,
    information_of_model,
    quadrature,
    regressed_mean,
    regression,
    sandwich,
    training_bias,
    weigh,
)
from sklearn_mae.information.certificate import Sandwich
from sklearn_mae.information.quadrature import (
    integrate,
    posteriors_on_lattices,
)
from sklearn_mae.information.shared_codes import (
    SharedCodes,
    bracket_of_means,
    enumerated_means,
    row_means,
)
from sklearn_mae.model import Cost, Rows, StandardNormal, draw, private_random
from tests.statistical import (
    assert_estimate_equal,
    assert_mean_equal,
    assert_mean_positive,
    quantile,
)
from tests.toy_models import LinearGaussian, Once, generator, random_model


def wrong(d=2, D=3):
    """Linear-Gaussian model whose r_omega is too wide and beside the point."""
    return LinearGaussian(d, D, shift=0.5, widening=1.3)


def assert_both_equal(found, truth, *, resolution, n):
    """Of a bracket whose gap is far below its noise."""
    for side in ("lower", "upper"):
        se = getattr(found, f"{side}_se")
        assert_estimate_equal(
            getattr(found, side), se, truth, resolution=resolution, n=n
        )


def means_and_errors(found, side):
    """One bound of many brackets, and its standard errors."""
    return (
        np.array([getattr(one, name) for one in found]) for name in (side, f"{side}_se")
    )


# Brackets


def test_bracket():
    found = Bracket(1.0, 2.0, 0.1, 0.2, "sandwich", {"n_samples": 7})

    assert found.estimate == 1.5
    assert found.interval == pytest.approx((0.8, 2.4))
    assert found.width == pytest.approx(found.interval[1] - found.interval[0])
    assert list(found.as_dict().items()) == [
        ("estimate", 1.5),
        ("lower", 1.0),
        ("upper", 2.0),
        ("lower_se", 0.1),
        ("upper_se", 0.2),
        ("method", "sandwich"),
        ("n_samples", 7),
    ]
    with pytest.raises(AttributeError):
        found.lower = 0.0


def test_bracket_around_one_estimate():
    found = Bracket.around(3.0, 0.25, "grid", n_samples=5)

    assert found == Bracket(3.0, 3.0, 0.25, 0.25, "grid", {"n_samples": 5})
    assert (found.estimate, found.interval, found.width) == (3.0, (2.5, 3.5), 1.0)


def test_brackets_share_nothing():
    one, other = Bracket(0, 1, 0, 0, "grid"), Bracket(0, 1, 0, 0, "grid")
    one.took["n_samples"] = 3

    assert other.took == {}


def test_bracket_of_what_is_no_number():
    found = Bracket(np.nan, 1.0, 0.0, 0.0, "grid")

    assert np.isnan([found.estimate, found.interval[0], found.width]).all()


# Means with control variates


def correlated(n, rng, slope=2.0):
    """Values of mean 1.5, two controls that explain some of them, one that does not."""
    controls = rng.standard_normal((n, 3))
    noise = rng.exponential(size=n) - 1
    return 1.5 + slope * controls[:, 0] - controls[:, 1] + noise, controls


def test_regression_is_unbiased_and_its_error_honest():
    rng = np.random.default_rng(0)
    estimates = np.array([regressed_mean(*correlated(100, rng)) for _ in range(2000)])
    means, errors = estimates.T

    assert_mean_equal(means, 1.5, resolution=0.02)
    assert_mean_equal((means - 1.5) ** 2 / (errors**2).mean(), 1.0, resolution=0.25)


def test_regression_spares_noise():
    values, controls = correlated(2000, np.random.default_rng(0))
    mean, se = regressed_mean(values, controls)
    plain = values.std(ddof=1) / 2000**0.5

    # the noise that no control explains has standard deviation 1, the values sqrt 6
    assert se == pytest.approx(1 / 2000**0.5, rel=0.1)
    assert se < 0.5 * plain
    assert_estimate_equal(mean, se, 1.5, resolution=0.2, n=2000)


def test_regression_of_what_is_not_finite():
    values, controls = correlated(100, np.random.default_rng(0))
    for spoilt in (values, controls[:, 0]):
        before, spoilt[3] = spoilt[3], np.inf
        assert np.isnan(regressed_mean(values, controls)).all()
        spoilt[3] = before

    assert np.isfinite(regressed_mean(values, controls)).all()


def test_regression_uses_no_more_controls_than_samples_bear():
    rng = np.random.default_rng(0)
    values, many = rng.standard_normal(100), rng.standard_normal((100, 90))
    _, se = regressed_mean(values, many)

    assert se < 1.3 * values.std(ddof=1) / 100**0.5
    few = many[:, : 100 // regression.SAMPLES_PER_CONTROL]
    assert regressed_mean(values, many) == regressed_mean(values, few)


def test_regression_on_what_explains_nothing():
    values, controls = correlated(2000, np.random.default_rng(0), slope=0.0)
    constant = np.zeros((2000, 1))
    mean, se = regressed_mean(values, constant)

    assert mean == pytest.approx(values.mean())
    assert se == pytest.approx(values.std(ddof=1) / 2000**0.5)
    doubled = np.hstack([controls, controls])  # no unique coefficients
    assert regressed_mean(values, doubled) == pytest.approx(
        regressed_mean(values, controls)
    )


def test_regression_leaves_out_what_is_rounding():
    """Its mean is not zero but rounding, and its coefficient could be anything."""
    rng = np.random.default_rng(0)
    values, controls = correlated(400, rng)
    rounding = 1e-13 + 2e-15 * rng.standard_normal((400, 2))
    plain = regressed_mean(values, controls)

    assert regressed_mean(values, np.hstack([rounding, controls])) == pytest.approx(
        plain
    )
    # nor may two controls leave a rounding in their difference
    twice = np.hstack([controls, controls + rounding[:, :1]])
    assert regressed_mean(values, twice) == pytest.approx(plain)
    mean, _ = regressed_mean(values, rounding)
    assert mean == pytest.approx(values.mean())


# Sampled bounds


def test_estimate_brackets_the_truth():
    model = wrong(4, 6)
    found = estimate_sandwich(model, 4000, 32, generator())

    assert_both_equal(found, model.information, resolution=0.1, n=4000)
    # not only near: the local proposal leaves almost no gap
    assert 0 < found.upper - found.lower < 0.02


def test_estimate_says_how_far_off_it_is():
    model = wrong(2, 3)
    found = [estimate_sandwich(model, 200, 64, generator(seed)) for seed in range(100)]
    for side in ("lower", "upper"):
        means, errors = means_and_errors(found, side)
        # the bounds' own bias is far below the noise of 200 draws
        assert_mean_equal(means, model.information, resolution=0.05)
        ratio = (means - model.information) ** 2 / (errors**2).mean()
        assert_mean_equal(ratio, 1.0, resolution=0.9)


def test_estimate_survives_a_useless_posterior():
    model = LinearGaussian(2, 3, shift=6.0, widening=0.3)
    found = estimate_sandwich(model, 2000, 32, generator())

    assert_both_equal(found, model.information, resolution=0.1, n=2000)


@pytest.mark.parametrize("scale", [1e-2, 1e-3])
def test_estimate_of_a_small_noise_in_single_precision(scale):
    """As in training. What the decoder copies leaves no trace of what it ignores."""
    with private_random(0):
        likelihood = standard_likelihood("gaussian", nn.Linear(4, 40), 40, scale)
        model = standard_model(likelihood, 40, 4, ()).float()
    g = generator(1)
    W = torch.randn(40, 4, generator=g)
    W[:, 2], W[:, 3] = 0.3 * W[:, 0], -0.7 * W[:, 1]
    with torch.no_grad():
        likelihood.decoder.weight.copy_(W)
        likelihood.raw_log_scale.fill_(-100.0)
    found = estimate_sandwich(model, 1_000, 32, g)
    precision = torch.eye(4).double() + W.double().mT @ W.double() / scale**2
    truth = 0.5 * float(torch.logdet(precision))

    assert_both_equal(found, truth, resolution=0.2, n=1_000)


def test_estimate_of_a_diverged_model_is_nan():
    model = wrong()
    with torch.no_grad():
        model.likelihood.decoder.weight[0, 0] = torch.nan

    found = estimate_sandwich(model, 100, 4, generator())

    assert np.isnan([found.lower, found.upper, found.lower_se, found.upper_se]).all()


def test_estimate_does_not_hang_on_the_size_of_chunks(monkeypatch):
    """Other chunks draw other numbers, and no row is lost."""
    model = wrong()
    monkeypatch.setattr(importance, "WEIGHED_AT_ONCE", 8 * 30)
    found = estimate_sandwich(model, 1000, 8, generator())

    assert_estimate_equal(
        0.5 * (found.lower + found.upper),
        found.upper_se,
        model.information,
        resolution=0.15,
        n=1000,
    )


def test_estimate_builds_no_graph_and_leaves_no_gradient():
    model = wrong()
    estimate_sandwich(model, 50, 4, generator())

    assert all(parameter.grad is None for parameter in model.parameters())


def test_same_seed_same_estimate():
    model = wrong()
    one, two, other = (
        estimate_sandwich(model, 50, 4, generator(seed)) for seed in (0, 0, 1)
    )

    assert one == two
    assert one != other


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
    assert found.method == "enumeration"
    assert found.took["n_outcomes"] == (6 if cardinalities else 8)
    if d <= 2:
        assert found.lower == found.upper == pytest.approx(truth, abs=2e-5)
        assert found.lower_se == found.upper_se == 0
        return
    # 25 groups make the standard error; the bounds' gap is far below it
    assert_both_equal(found, truth, resolution=0.2, n=25)
    assert found.lower < found.upper


def test_enumeration_of_a_constant_model():
    model = random_model("bernoulli", 3, 1, sharpness=0.0)

    assert 0 <= information_of_model(model, 100, 0.1, generator()).lower < 1e-9


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
    assert found.estimate == pytest.approx(truth, abs=2e-5)


@pytest.mark.parametrize(("d", "D"), [(1, 1), (1, 4), (2, 3)])
def test_grid_against_the_closed_form(d, D):
    model = LinearGaussian(d, D, sigma=0.3)
    found = information_of_model(model, 500, 0.1, generator())

    assert found.method == "grid"
    assert_estimate_equal(
        found.estimate, found.lower_se, model.information, resolution=0.3, n=500
    )
    assert 0 < found.width <= 0.1


def test_grid_finds_narrow_posteriors():
    """A grid of 513 points is blind to a standard deviation of 0.007."""
    model = LinearGaussian(1, 1, sigma=0.011)
    found = information_of_model(model, 200, 0.5, generator())

    assert found.method == "grid"
    assert model.information > 4.8
    assert_estimate_equal(
        found.estimate, found.lower_se, model.information, resolution=0.6, n=200
    )


def test_grid_is_not_fooled_by_rounding():
    """Where every point but one is impossible all grids say nothing, and agree."""
    model = LinearGaussian(1, 2)
    with torch.no_grad():
        model.likelihood.decoder.weight.mul_(1e9)
    found = information_of_model(model, 200, 1.0, generator(), budget=0)

    assert found.method == "sandwich"
    scaled = 1 + (1e9 * model.W / model.sigma).square().sum()
    assert found.lower < 0.5 * float(scaled.log()) < found.upper + 1


def test_narrow_posteriors_are_found_out_on_a_few_rows(monkeypatch):
    rows, plain = [], quadrature.posteriors_on_lattices

    def on_grid(model, x, *arguments):
        rows.append(len(x))
        return plain(model, x, *arguments)

    monkeypatch.setattr(quadrature, "posteriors_on_lattices", on_grid)
    model = LinearGaussian(2, 3, sigma=0.001)
    found = information_of_model(model, 500, 1.0, generator(), budget=0)

    assert found.method == "sandwich"
    assert rows == [40]


def test_grid_draws_until_the_interval_is_narrow():
    model = random_model("gaussian", 4, 1)
    found = information_of_model(model, 50, 0.02, generator())
    reference = information_of_model(model, 8000, 1.0, generator(1))

    assert reference.took["n_samples"] == 8000 > found.took["n_samples"] > 50
    assert 0 < 4 * found.lower_se <= 0.02
    se = np.hypot(found.lower_se, reference.lower_se)
    assert_estimate_equal(found.estimate, se, reference.estimate, resolution=0.05, n=50)


def test_grid_of_categories_too_many_to_list():
    cardinalities = (30, 30, 30)
    model = random_model("categorical", cardinalities, 1)
    found = information_of_model(model, 500, 0.1, generator())
    truth = brute_force(model, cardinalities, 141)

    assert found.method == "grid"
    assert_estimate_equal(found.estimate, found.lower_se, truth, resolution=0.1, n=500)


def spy_on_estimates(monkeypatch):
    """Record how many joint draws and proposals each estimate takes."""
    spent, plain = [], importance.estimate_sandwich

    def estimate(model, n_samples, n_proposals, generator, *step_sizes):
        spent.append(n_samples * n_proposals)
        return plain(model, n_samples, n_proposals, generator, *step_sizes)

    monkeypatch.setattr(importance, "estimate_sandwich", estimate)
    return spent


@pytest.mark.parametrize("tol", [0.2, 0.05])
def test_sandwich_against_the_closed_form(tol, monkeypatch):
    spent = spy_on_estimates(monkeypatch)
    model = LinearGaussian(4, 5, shift=1.0, widening=1.5)
    found = information_of_model(model, 300, tol, generator())

    assert found.method == "sandwich"
    assert found.lower < found.upper
    assert found.width <= tol
    assert spent[-1] == found.took["n_samples"] * found.took["n_proposals"]
    n_samples = found.took["n_samples"]
    assert_both_equal(found, model.information, resolution=0.2, n=n_samples)


@pytest.mark.parametrize("budget", [32_000, 100_000, 300_000])
def test_sandwich_keeps_to_its_budget(budget, monkeypatch):
    spent = spy_on_estimates(monkeypatch)
    found = information_of_model(
        LinearGaussian(4, 5), 500, 1e-6, generator(), budget=budget
    )

    assert sum(spent) <= budget
    assert sum(spent) > 0.3 * budget  # what it may spend on such a tol, it does
    assert found.upper > found.lower


def test_sandwich_takes_over_where_no_grid_is_affordable():
    found = information_of_model(LinearGaussian(2, 300), 2000, 1.0, generator())

    assert found.method == "sandwich"
    model, few = LinearGaussian(1, 1, sigma=0.011), 200 * 2_000
    found = information_of_model(model, 200, 0.5, generator(), affordable=few)

    assert found.method == "sandwich"


@pytest.mark.parametrize("d", [1, 4])
def test_same_generator_same_information(d):
    # on a grid a linear model's information comes out exact, whatever the draws
    model = random_model("heteroscedastic", 5, d)
    one, two, other = (
        information_of_model(model, 100, 1.0, generator(seed), budget=20_000)
        for seed in (0, 0, 1)
    )

    assert one == two
    assert one.estimate != other.estimate


def out_of_reach(d=12, shift=1.5, widening=0.7):
    """Linear-Gaussian model for which r_omega, a poor one, is the only proposal."""
    model = LinearGaussian(d, d + 2, shift=shift, widening=widening)
    inner = model.likelihood

    class Foreign(nn.Module):
        def forward(self, z):
            loc = Once.apply(inner(z).loc)
            return Normal(loc, torch.full_like(loc, model.sigma), validate_args=False)

    model.likelihood = UserLikelihood(Foreign(), d + 2)
    # no codes are decoded for all rows together
    model.likelihood.cost = Cost(many_codes=False, rows_with_gradients=64)
    return model


@pytest.mark.parametrize(
    ("kind", "d"),
    [("gaussian", 1), ("gaussian", 2), ("bernoulli", 1), ("bernoulli", 3)],
)
def test_no_method_decodes_many_codes_where_they_cost_too_much(kind, d):
    model = random_model(kind, 3, d)
    assert information_of_model(model, 200, 0.5, generator()).method != "sandwich"
    model.likelihood.cost = Cost(many_codes=False)
    found = information_of_model(model, 200, 1e-6, generator(), budget=100_000)

    assert found.method == "sandwich"
    assert "n_codes" not in found.took


def test_rows_with_gradients_are_no_more_than_the_cost_says(monkeypatch):
    model, rows, plain = wrong(), [], importance.local_proposal

    def proposal(model, x):
        rows.append(len(x))
        return plain(model, x)

    monkeypatch.setattr(importance, "local_proposal", proposal)
    estimate_sandwich(model, 50, 4, generator())
    assert rows == [50]
    model.likelihood.cost = Cost(rows_with_gradients=20)
    estimate_sandwich(model, 50, 4, generator())
    assert rows[1:] == [20, 20, 10]


def test_annealing_takes_over_where_proposals_are_poor(monkeypatch):
    model = out_of_reach()
    found = information_of_model(model, 500, 0.1, generator(), budget=600_000)
    again = information_of_model(model, 500, 0.1, generator(), budget=600_000)
    monkeypatch.setattr(Sandwich, "plans", lambda *arguments: [])
    plain = information_of_model(model, 500, 0.1, generator(), budget=600_000)

    assert found == again
    assert found.method == plain.method == "sandwich"
    assert found.took["n_temperatures"] > 10
    assert "n_temperatures" not in plain.took
    assert found.width < 0.5 * plain.width
    sides = (
        (found.lower, 1, found.lower_se),
        (found.upper, -1, found.upper_se),
    )
    for bound, sign, se in sides:
        assert sign * (model.information - bound) > -5 * se


def test_annealing_states_its_errors_honestly():
    model = out_of_reach(4, 1.2, 1.6)
    found = [
        estimate_sandwich(model, 60, 4, generator(seed), torch.full((20,), 0.8))
        for seed in range(100)
    ]
    for side, sign in (("lower", 1), ("upper", -1)):
        means, errors = means_and_errors(found, side)
        assert_mean_positive(sign * (model.information - means) + 0.05)
        assert_mean_equal(
            (means - means.mean()) ** 2 / (errors**2).mean(), 1.0, resolution=1.0
        )


def test_annealing_keeps_to_the_budget(monkeypatch):
    """Counted in decodes, of which a gradient costs three."""
    model = out_of_reach()
    decoded, plain = [], UserLikelihood.forward

    def forward(self, z):
        decoded.append(z[..., 0].numel() * (3 if z.requires_grad else 1))
        return plain(self, z)

    monkeypatch.setattr(UserLikelihood, "forward", forward)
    found = information_of_model(model, 500, 0.1, generator(), budget=600_000)

    assert "n_temperatures" in found.took
    assert 0.5 * 600_000 < sum(decoded) < 1.1 * 600_000


def test_annealing_that_does_not_help_costs_a_pilot_alone(monkeypatch):
    model = out_of_reach()
    monkeypatch.setattr(
        importance,
        "tuned_step_sizes",
        lambda model, t, generator: torch.zeros(t).double(),
    )
    spent = spy_on_estimates(monkeypatch)
    found = information_of_model(model, 500, 0.1, generator(), budget=600_000)

    assert "n_temperatures" not in found.took
    assert spent[-1] == found.took["n_samples"] * found.took["n_proposals"]


# Decoders that oscillate, jump, or have many modes


class Columns(nn.Module):
    """Columns of normals, or of mixtures of them, around functions of z Q."""

    def __init__(self, functions, scale, angle=0.0):
        super().__init__()
        self.functions, self.scale, self.angle = functions, scale, angle

    def forward(self, z):
        if z.shape[-1] == 2:
            c, s = np.cos(self.angle), np.sin(self.angle)
            z = z @ torch.tensor([[c, -s], [s, c]], dtype=z.dtype)
        of_each = [torch.stack([f(z) for f in peaks], -1) for peaks in self.functions]
        loc = torch.cat(of_each, -1)
        if len(self.functions) == 1:
            return Normal(loc, self.scale, validate_args=False)
        loc = torch.stack(of_each, -1)
        shares = Categorical(torch.ones_like(loc), validate_args=False)
        peaks = Normal(loc, self.scale, validate_args=False)
        return MixtureSameFamily(shares, peaks, validate_args=False)


def hostile(*functions, d=1, scale=0.2, angle=0.0):
    """Model with a column for each axis of z Q, and I(x, z).

    Of each function every axis has its own; several are the peaks of a mixture.
    """
    each = [[lambda z, f=f, i=i: f(z[..., i]) for i in range(d)] for f in functions]
    likelihood = UserLikelihood(Columns(each, scale, angle), d)
    with private_random(0):
        r = Posterior.from_sizes(d, (8,), d, "tanh")
    model = standard_model(likelihood, d, d, encoder=r, posterior=r).double()
    return model, d * information_of_column(functions, scale)


@functools.cache
def information_of_column(functions, scale, n=40_000):
    """H(x) - H(x|z) of one column, by quantiles of z and equal steps of x."""
    z = torch.special.ndtri((torch.arange(n).double() + 0.5) / n)
    loc = torch.stack([f(z) for f in functions], -1)
    low, high = float(loc.min()) - 7 * scale, float(loc.max()) + 7 * scale
    x = torch.linspace(low, high, round(2 * (high - low) / scale)).double()
    p_x, negentropy = 0.0, 0.0
    for at in loc.split(5_000):
        p = Normal(at.unsqueeze(-1), scale).log_prob(x).exp().mean(1)
        p_x = p_x + p.sum(0) / n
        negentropy += float(torch.special.xlogy(p, p).sum()) / n
    step = float(x[1] - x[0])
    return (negentropy - float(torch.special.xlogy(p_x, p_x).sum())) * step


@functools.cache  # the same function each time, for the information of its column
def periodic(k):
    return lambda u: torch.cos(2 * torch.pi * k * u)


@functools.cache
def saw(k):
    return lambda u: torch.remainder(k * u, 1.0)


def steps(u):
    return torch.floor(1.7 * u)


def assert_covers(found, truth, *, width, n=25):
    """Inside, but for one false alarm in a million, and the interval says something.

    ``n`` is the number of means that the standard errors come from.
    """
    q = quantile(1e-6, n)
    low = found.lower - q * found.lower_se
    high = found.upper + q * found.upper_se
    assert found.width <= width
    assert low - 1e-4 <= truth <= high + 1e-4, (low, truth, high)


def by_sandwich(model, n_samples, tol, generator, budget):
    return Sandwich(n_samples, tol, budget).bracket(model, generator)


ROUTES = pytest.mark.parametrize("route", [information_of_model, by_sandwich])


@ROUTES
@pytest.mark.parametrize("k", [4, 8, 32, 64, 7.3, 79.9])
def test_periodic_decoders(k, route):
    model, truth = hostile(periodic(k))
    found = route(model, 500, 0.15, generator(), 300_000)

    assert 1.14 < truth < 1.16  # the entropy's limit is 1.3
    assert_covers(found, truth, width=0.15)
    if route is information_of_model:
        assert found.method == "grid"


@ROUTES
@pytest.mark.parametrize(
    "functions",
    [
        (steps,),
        (saw(0.7),),
        (saw(23.4),),
        (periodic(3.3), saw(0.8), torch.neg),
        (steps, periodic(41.7), periodic(0.3)),
    ],
    ids=["steps", "saw", "teeth", "mixture", "wild"],
)
def test_decoders_with_jumps_and_modes(functions, route):
    model, truth = hostile(*functions, scale=0.15)
    found = route(model, 500, 0.3, generator(), 300_000)

    assert truth > 0.1
    assert_covers(found, truth, width=0.3)


def test_a_grid_hands_over_what_jumps():
    model, truth = hostile(saw(5.2), scale=0.1)
    z0 = model.stratified_codes(100, generator())
    x, log_lik = drawn_from(model, z0)
    found = information_of_model(model, 500, 0.3, generator(), budget=300_000)

    assert posteriors_on_lattices(model, x, z0, log_lik, generator(), 1e7) is None
    assert found.method == "sandwich"
    assert_covers(found, truth, width=0.3)


@ROUTES
@pytest.mark.parametrize(
    ("d", "k", "angle"), [(2, 7.3, 0.5), (2, 64, 0.0), (2, 55.5, 0.2), (3, 21.1, 0)]
)
def test_periodic_decoders_of_several_dimensions(d, k, angle, route):
    model, truth = hostile(periodic(k), d=d, angle=angle)
    found = route(model, 500, 0.3, generator(), 400_000)

    assert truth > 2.2
    assert_covers(found, truth, width=0.35)


def test_interval_is_wide_where_nothing_resolves_the_decoder():
    model, truth = hostile(periodic(33.3), d=4, scale=0.002)
    found = information_of_model(model, 200, 0.1, generator(), budget=60_000)

    assert truth > 20
    assert found.width > 5
    assert found.lower < truth < found.upper


class Logits(nn.Module):
    def __init__(self, *functions):
        super().__init__()
        self.functions = functions

    def forward(self, z):
        return 5 * torch.cat([f(z[..., :1]) for f in self.functions], -1) + 0 * z.sum()


@pytest.mark.parametrize("d", [1, 2, 3])
@pytest.mark.parametrize(
    "functions",
    [
        (periodic(8), periodic(64), periodic(79.9)),
        (periodic(7.3), steps, saw(3.1)),
    ],
    ids=["periodic", "jumps"],
)
def test_enumeration_of_decoders_that_oscillate(functions, d):
    """Of one coordinate, so that one dimension says it all."""
    model = random_model("categorical", (3,), d)
    model.likelihood.decoder = Logits(*functions)
    z = torch.special.ndtri((torch.arange(400_000).double() + 0.5) / 400_000)
    logits = torch.stack([5 * f(z) for f in functions], -1)
    truth = tabulated_information(log_softmax(logits.numpy(), -1), np.zeros(len(z)))
    found = information_of_model(model, 500, 0.05, generator())

    assert truth > 0.3
    assert found.method == "enumeration"
    if d == 1 and functions[1] is not steps:
        assert found.lower == found.upper == pytest.approx(truth, abs=2e-4)
    else:
        assert found.took["n_codes"] > 0  # no grid is sure enough
        assert_covers(found, truth, width=0.05)


def drawn_from(model, z0, seed=0):
    with torch.no_grad():
        p = model.likelihood(z0)
        x = draw(p, (), generator(seed), reparametrised=False)
        return Rows(x), p.log_prob(x)


def test_a_shifted_lattice_is_unbiased():
    """Too coarse for the decoder, but right on average."""
    model, _ = hostile(periodic(2.0))
    x = Rows(torch.linspace(-1, 1, 5).double().unsqueeze(-1))
    fine = model.prior.lattice(20_000, x.values, generator())[:2]
    coarse = [
        model.prior.lattice(32, x.values, generator(seed))[:2] for seed in range(2_000)
    ]
    truth = integrate(model, x, *fine).log_marginal.exp()
    found = [integrate(model, x, *codes).log_marginal.exp() for codes in coarse]

    assert torch.stack(found).std(0).min() > 0.1
    assert_mean_equal(torch.stack(found), truth.numpy(), resolution=0.1)


def test_lattices_that_miss_every_needle_do_not_agree():
    """A broad component explains each row to all points but its own code."""

    class Broad(nn.Module):
        def forward(self, z):
            peaks = Normal(torch.stack([1e7 * z, 0 * z], -1), torch.tensor([1.0, 1e8]))
            return MixtureSameFamily(Categorical(torch.ones_like(peaks.loc)), peaks)

    model, _ = hostile(steps)
    model.likelihood = UserLikelihood(Broad(), 1)
    z0 = model.stratified_codes(60, generator())
    x, log_lik = drawn_from(model, z0)
    far = torch.full_like(log_lik, -30.0)

    assert posteriors_on_lattices(model, x, z0, log_lik, generator(), 1e6) is None
    # what says so is the code that the row came from
    assert posteriors_on_lattices(model, x, z0, far, generator(), 1e6) is not None


@pytest.mark.parametrize("n_codes", [50, 500, 20_000])
def test_shared_codes_bracket_the_truth(n_codes):
    """However few: then the interval is wide."""
    model, truth = hostile(periodic(40.1), d=2, scale=0.1)
    found = [
        row_means(model, 50, n_codes, generator(seed)).mean(0) for seed in range(40)
    ]
    lower, upper = np.transpose(found)

    assert_mean_positive(truth + 0.1 - lower)
    assert_mean_positive(upper + 0.1 - truth)
    gap = (upper - lower).mean()
    assert gap > 1 if n_codes == 50 else gap < 20_000 / n_codes * 0.1


def test_shared_codes_state_their_errors_honestly():
    model, truth = hostile(periodic(40.1), d=2)
    found = [
        SharedCodes(100, 5_000, np.nan, 0).bracket(model, generator(seed))
        for seed in range(100)
    ]
    for side in ("lower", "upper"):
        means, errors = means_and_errors(found, side)
        ratio = (means - means.mean()) ** 2 / (errors**2).mean()
        assert_mean_equal(ratio, 0.77, resolution=0.8)  # they are stated 14 % wider
    outcomes = random_model("categorical", (3,), 3)
    outcomes.likelihood.decoder = Logits(periodic(7.3), steps, saw(3.1))
    truth = information_of_model(outcomes, 500, 1e-3, generator()).estimate
    found = [
        bracket_of_means(
            enumerated_means(outcomes, outcomes.outcomes(), 2_000, generator(seed)),
            "enumeration",
        )
        for seed in range(100)
    ]
    means, errors = means_and_errors(found, "lower")
    assert_mean_equal(means, truth, resolution=0.02)
    ratio = (means - truth) ** 2 / (errors**2).mean()
    assert_mean_equal(ratio, 0.77, resolution=0.8)


def test_too_many_columns_share_no_codes():
    model = LinearGaussian(3, 300)

    assert SharedCodes.plan(model, 0.1, generator(), 100_000, 200_000) is None


def test_a_plan_that_breaks_its_promise_is_not_reported(monkeypatch):
    model, truth = hostile(periodic(7.3), d=3)
    wide = Bracket(0.0, 50.0, 1.0, 1.0, "promised")
    plan = SimpleNamespace(width=0.0, spent=0, bracket=lambda *arguments: wide)
    monkeypatch.setattr(Sandwich, "plans", lambda *arguments: [plan])
    found = information_of_model(model, 300, 0.1, generator(), budget=200_000)

    assert found.method == "sandwich"
    assert found.width < 50
    assert found.lower < truth < found.upper


# What steers the training


def bias_and_midpoint(model, n, k, seed):
    """What is stated, and the midpoint of the training's bounds from other draws."""
    bias, gap = training_bias(model, n, k, generator(seed))
    z0, x, log_lik = model.joint_draws(n, seed + 1000)
    with torch.no_grad():
        weighted = weigh(model, x, z0, log_lik, model.r(x), k, generator(seed + 2000))
    return bias, float(torch.stack(sandwich(weighted)).mean()), gap


@pytest.mark.parametrize("d", [1, 2])
def test_training_bias_is_what_the_midpoint_overstates(d):
    model = LinearGaussian(d, 3, shift=0.5, widening=0.6)  # too narrow: it overstates
    found = [bias_and_midpoint(model, 300, 4, seed) for seed in range(100)]
    biases, midpoints, gaps = np.transpose(found)

    assert abs(biases.mean()) > 0.03
    assert_mean_equal(biases - (midpoints - model.information), 0.0, resolution=0.08)
    # the same draws for both of its sides spare most of the noise
    assert biases.std() < 0.8 * midpoints.std()
    assert (gaps == 0).all() if d == 1 else (0 < gaps.mean() < 0.2)


def test_training_bias_of_the_exact_posterior_is_none():
    bias, gap = training_bias(LinearGaussian(1, 3), 100, 4, generator())

    assert bias == pytest.approx(0, abs=1e-4)  # the grid's own error
    assert gap == 0


@pytest.mark.parametrize(
    ("kind", "columns", "d"),
    [("categorical", (3, 4), 1), ("bernoulli", 3, 2), ("heteroscedastic", 3, 1)],
)
def test_training_bias_leaves_the_model_in_training(kind, columns, d):
    """In single precision, its gradients intact."""
    model = random_model(kind, columns, d).float()
    x = model.likelihood(torch.zeros(1, d)).sample((), generator())
    model.prior.log_prob(model.r(x).loc).sum().backward()
    before = copy.deepcopy(model.state_dict())
    gradient = model.posterior.network[0].weight.grad.clone()
    bias, gap = training_bias(model, 100, 8, generator())

    assert np.isfinite(bias)
    assert gap >= 0
    assert model.reference.dtype == torch.float32
    assert model.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert torch.equal(model.posterior.network[0].weight.grad, gradient)


@pytest.mark.parametrize("d", [1, 3])
@pytest.mark.parametrize(
    ("kind", "columns"), [("gaussian", 3), ("bernoulli", 3), ("categorical", (2, 3))]
)
def test_training_bias_of_a_diverged_model_is_nan_at_once(
    kind, columns, d, monkeypatch
):
    model = random_model(kind, columns, d)
    with torch.no_grad():
        model.likelihood.decoder[-1].bias.fill_(torch.nan)
    grids, plain = [], StandardNormal.lattice
    monkeypatch.setattr(
        StandardNormal, "lattice", lambda *sizes: grids.append(sizes) or plain(*sizes)
    )

    assert np.isnan(training_bias(model, 100, 8, generator())).all()
    assert len(grids) <= 1


def test_information_of_a_diverged_model_is_nan_at_once():
    """No grid is fine enough for it, and none is tried after the first."""
    for kind, d in itertools.product(("gaussian", "bernoulli"), (1, 2)):
        model = random_model(kind, 3, d)
        with torch.no_grad():
            model.likelihood.decoder[-1].bias.fill_(torch.nan)
        found = information_of_model(model, 50, 1.0, generator(), budget=5000)
        assert np.isnan(found.estimate)
