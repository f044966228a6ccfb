"""The reported numbers, against closed forms and brute force."""

import itertools

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from torch import nn
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal
from torch.testing import assert_close

from sklearn_mae import evaluation
from sklearn_mae.encoders import Amortised, Resampling, UserEncoder
from sklearn_mae.evaluation import Evaluation
from tests.statistical import assert_mean_equal, assert_mean_positive
from tests.toy_models import LinearGaussian, generator

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
    model.encoder = UserEncoder(TwoBumps().double())
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
        "rotated bound": torch.stack(found.bound(x, noise), -1),
        "rotated log_likelihood": found.log_likelihood(x, 50, noise),
        "conditional": found.conditional(x, z),
        "posterior": found.posterior(x, z),
        "decode": found.decode(z),
        "draw_codes": found.encoded_draws(x, noise),
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


def keyed(model, n=3000):
    """One row many times over, each with a key of its own."""
    _, x, _ = model.joint_draws(1)
    n_noise = Evaluation(model, Amortised(), 0).n_noise
    keys = torch.randn(n, n_noise, generator=generator(1), dtype=torch.float64)
    return x.expand(n, -1), keys


def test_keys_give_each_row_errors_of_its_own():
    """So that a mean over rows takes them away."""
    model = wrong()
    x, keys = keyed(model)
    found = Evaluation(model, Amortised(), 0)
    exact = model.marginal().log_prob(x[:1])
    common = found.bound(x).elbo - (exact - model.divergence)

    assert common.std() < 1e-12 < common.abs().max()
    elbo = found.bound(x, keys).elbo
    assert_mean_equal(elbo, float(exact - model.divergence), resolution=0.02)
    ratio = (found.log_likelihood(x, 64, keys) - exact).exp()
    assert_mean_equal(ratio, 1.0, resolution=0.02)
    assert elbo.std() > 0


def test_keys_keep_the_points_even():
    """A rotated quasi-random set has far less noise than as many random points."""
    model = wrong()
    x, keys = keyed(model)
    rotated = Evaluation(model, Amortised(), 0).bound(x, keys).elbo
    q = model.q(x[:1])
    z = q.sample((3000, 16), generator(2))
    with torch.no_grad():
        random = Amortised().bound(model, x[:1], q, z.unflatten(1, (16,))).elbo

    assert rotated.std() < 0.5 * random.std()


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


def test_mirrored_draws_take_away_what_is_odd_in_the_noise():
    """All rows have these draws, and so their error."""
    model = LinearGaussian(2, 3, widening=1.3)
    _, x, _ = model.joint_draws(6)
    found = Evaluation(model, Resampling(5), seed=0).mean_codes(x)

    assert_close(found, model.q(x).loc)


def test_draws_that_are_dealt_several_times_serve_as_more_draws():
    """Ten times k draws, dealt into groups again and again, beside sixteen times k."""
    model, rule = wrong(3, 6), Resampling(5)
    _, x, _ = model.joint_draws(200)

    def means(n_groups, seed):
        found = Evaluation(model, rule, seed)
        half = found._noise(n_groups // 2, 5)
        with torch.no_grad():
            q, z = found._proposals(x, torch.cat([half, -half]))
            groups = torch.arange(5 * n_groups).view(-1, 5)
            return rule.mean_code(model, x, q, z.flatten(0, 1), groups)

    exact = means(8_192, seed=99)
    dealt = [Evaluation(model, rule, seed).mean_codes(x) for seed in range(8)]
    apart = [means(16, seed) for seed in range(8)]

    def error(found):
        return (torch.stack(found) - exact).square().mean().sqrt()

    assert error(apart) > 0.01  # there is something to be had
    assert error(dealt) < error(apart)


def drawn(model, rule, n=20_000):
    """Draws of one row's code."""
    _, x, _ = model.joint_draws(1)
    found = Evaluation(model, rule, 0)
    noise = torch.randn(n, found.n_noise, generator=generator(2), dtype=torch.float64)
    return x, found.encoded_draws(x.expand(n, -1), noise)


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
    one, again = found.encoded_draws(x, noise), found.encoded_draws(x, noise)
    other = found.encoded_draws(x, noise + 1e-3)

    assert_close(one, again, rtol=0, atol=0)
    assert (one != other).any(-1).all()
    same_row = x[:1].expand(12, -1)
    assert len(found.encoded_draws(same_row, noise).unique(dim=0)) == 12


def test_drawn_codes_without_a_map_have_their_distribution():
    model = two_bumps()
    x, z = drawn(model, Amortised(), n=3000)
    gap = z - x[:, :2]

    assert_mean_equal(gap, 0.0, resolution=0.15)
    assert_mean_equal(gap.square(), 1 + 0.3**2, resolution=0.1)


def test_joint_draws():
    model = wrong()
    x, z = Evaluation(model, Amortised(), 0).sample(50_000, generator())
    e = (x.values - model.b - z @ model.W.mT) / model.sigma
    standard = torch.cat([z, e], -1)

    assert_mean_equal(standard, 0.0, resolution=0.05)
    products = standard.unsqueeze(-1) * standard.unsqueeze(-2)
    assert_mean_equal(products, np.eye(5), resolution=0.05)


# Information of the codes


@every_rule
@pytest.mark.parametrize("d", [1, 3])
def test_encoder_information_of_the_exact_posterior(rule, d):
    """Then I_q is the model's I, and both bounds come near it from their sides."""
    model = LinearGaussian(d, 4)
    evaluation = Evaluation(model, rule, seed=0)
    lower, upper = [], []
    for seed in range(40):
        _, x, _ = model.joint_draws(400, seed)
        noise = torch.randn(
            400, evaluation.n_noise, generator=generator(100 + seed), dtype=x.dtype
        )
        found = evaluation.encoder_information(x, noise)
        lower.append(float(found.lower.mean()))
        if found.upper is not None:
            upper.append(float(found.upper.mean()))

    # false alarms as in tests/statistical.py; the slack is what finite n leaves
    assert_mean_positive(model.information + 0.1 - np.array(lower))
    assert_mean_positive(np.array(lower) - model.information + 0.15)
    assert bool(upper) == (rule.n_draws == 1)
    if upper:
        assert_mean_positive(np.array(upper) - model.information + 0.1)
        assert_mean_positive(model.information + 0.3 - np.array(upper))


def test_encoder_information_s_influence_gives_its_standard_error():
    model = LinearGaussian(2, 4)
    evaluation = Evaluation(model, Amortised(), seed=0)
    means, errors = [], []
    for seed in range(200):
        _, x, _ = model.joint_draws(200, seed)
        noise = torch.randn(
            200, evaluation.n_noise, generator=generator(1000 + seed), dtype=x.dtype
        )
        found = evaluation.encoder_information(x, noise)
        means.append(float(found.lower.mean()))
        errors.append(float(found.influence.std()) / 200**0.5)

    # the spread of 200 means is known to 5 %
    assert np.mean(errors) == pytest.approx(np.std(means, ddof=1), rel=0.25)


def test_encoder_information_passes_on_what_is_not_a_number():
    model = wrong()
    x, _, noise = rows(model, Amortised(), 10)
    x[3] = 1e300

    found = Evaluation(model, Amortised(), seed=0).encoder_mutual_info(x, noise)

    assert not np.isfinite(found["upper"])
    assert found["estimate"] != 0


def test_encoder_information_of_a_useless_code_is_nothing():
    model = LinearGaussian(2, 4)
    evaluation = Evaluation(model, Amortised(), seed=0)
    _, x, _ = model.joint_draws(300)
    with torch.no_grad():
        for parameter in model.encoder.parameters():
            parameter.zero_()
    noise = torch.randn(300, evaluation.n_noise, generator=generator(), dtype=x.dtype)

    found = evaluation.encoder_information(x, noise)

    assert_close(found.lower, torch.zeros_like(found.lower))
    assert_close(found.upper, torch.zeros_like(found.upper))


@pytest.mark.parametrize("at_once", [1, 5_000])
@every_rule
def test_encoder_information_does_not_hang_on_its_chunks(rule, at_once, monkeypatch):
    model = wrong()
    x, _, noise = rows(model, rule, 30)
    whole = Evaluation(model, rule, seed=3).encoder_information(x, noise)
    monkeypatch.setattr(evaluation, "PAIRED_AT_ONCE", at_once)
    parts = Evaluation(model, rule, seed=3).encoder_information(x, noise)

    for one, other in zip(whole, parts, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            assert_close(one, other)
