"""The seam, private randomness, and draws of codes."""

import threading

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from scipy.stats import kstest
from torch.distributions import (
    AffineTransform,
    Categorical,
    Independent,
    Laplace,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    TanhTransform,
    TransformedDistribution,
)
from torch.testing import assert_close

from sklearn_mae.model import (
    DiagonalNormal,
    draw,
    mlp,
    private_random,
    transport,
)
from tests.statistical import assert_mean_equal
from tests.toy_models import LinearGaussian, generator

LOC = torch.tensor([[0.5, -1.0], [2.0, 0.0]], dtype=torch.float64)
SCALE = torch.tensor([[0.3, 2.0], [1.0, 0.7]], dtype=torch.float64)
TRIL = torch.tensor([[0.5, 0.0], [0.9, 1.2]], dtype=torch.float64)


def normal():
    return Independent(Normal(LOC, SCALE), 1)


def mixture():
    """Draws of this family are no function of normal noise that is known here."""
    components = Independent(Normal(LOC.repeat(1, 1, 1).movedim(0, 1), 1.0), 1)
    return MixtureSameFamily(Categorical(logits=torch.zeros(2, 1)), components)


TRANSPORTED = {
    "diagonal": lambda: DiagonalNormal(LOC, SCALE.log()),
    "independent": normal,
    "multivariate": lambda: MultivariateNormal(LOC, scale_tril=TRIL),
    "transformed": lambda: TransformedDistribution(
        normal(), [AffineTransform(1.0, 0.5), TanhTransform()]
    ),
    "laplace": lambda: Independent(Laplace(LOC, SCALE), 1),
}
DISTRIBUTIONS = {**TRANSPORTED, "mixture": mixture}


# Private randomness


def test_private_random_seeds_the_block():
    with private_random(3):
        one = torch.randn(4)
    with private_random(3):
        two = torch.randn(4)
    with private_random(4):
        other = torch.randn(4)

    assert_close(one, two, rtol=0, atol=0)
    assert (one != other).any()


def test_private_random_leaves_the_global_state():
    before, initial_seed = torch.get_rng_state(), torch.initial_seed()
    with private_random(3):
        torch.randn(4)
    with pytest.raises(RuntimeError), private_random(3):
        torch.randn(4) @ torch.randn(5)

    assert_close(torch.get_rng_state(), before, rtol=0, atol=0)
    assert torch.initial_seed() == initial_seed


def test_private_random_may_be_nested():
    with private_random(3):
        expected = torch.randn(2, 4)
    with private_random(3):
        first = torch.randn(4)
        with private_random(7):
            torch.randn(4)
        second = torch.randn(4)

    assert_close(torch.stack([first, second]), expected, rtol=0, atol=0)


def test_private_random_keeps_threads_apart():
    """Each thread's draws are those that it would have had alone."""
    draws = {}

    def work(seed):
        for _ in range(20):
            with private_random(seed):
                draws.setdefault(seed, []).append(torch.randn(50).sum().item())

    before = torch.get_rng_state()
    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert all(len(set(values)) == 1 for values in draws.values())
    assert len({values[0] for values in draws.values()}) == 4
    assert_close(torch.get_rng_state(), before, rtol=0, atol=0)


# Draws


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_draw_is_private_and_repeatable(name):
    distribution = DISTRIBUTIONS[name]()
    before = torch.get_rng_state()
    g = generator(5)
    one, after = draw(distribution, (3,), g), draw(distribution, (3,), g)
    two = draw(distribution, (3,), generator(5))

    assert one.shape == (3, 2, 2)
    assert_close(one, two, rtol=0, atol=0)
    assert (one != after).all()
    assert_close(torch.get_rng_state(), before, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["diagonal", "independent"])
def test_draw_with_and_without_gradient(name):
    loc = LOC.clone().requires_grad_()
    make = {
        "diagonal": lambda: DiagonalNormal(loc, SCALE.log()),
        "independent": lambda: Independent(Normal(loc, SCALE), 1),
    }[name]
    differentiable = draw(make(), (), generator(5))
    plain = draw(make(), (), generator(5), reparametrised=False)

    assert_close(plain, differentiable.detach(), rtol=0, atol=0)
    assert not plain.requires_grad
    (gradient,) = torch.autograd.grad(differentiable.sum(), loc)
    assert_close(gradient, torch.ones_like(loc))


def test_draw_of_a_family_without_rsample():
    x = draw(Independent(Categorical(logits=torch.zeros(2, 3, 4)), 1), (), generator())

    assert x.shape == (2, 3)


@pytest.mark.parametrize("name", TRANSPORTED)
def test_transport_has_the_distribution(name):
    distribution = TRANSPORTED[name]()
    noise = torch.randn(100_000, 2, 2, generator=generator(), dtype=torch.float64)
    z = transport(distribution, noise)
    reference = draw(distribution, (100_000,), generator(1))

    for moment in (lambda z: z, lambda z: z.square(), lambda z: z.prod(-1)):
        gap = moment(z) - moment(reference)
        scale = float(moment(reference).std())
        assert_mean_equal(gap, 0.0, resolution=0.05 * scale)


@pytest.mark.parametrize("name", TRANSPORTED)
def test_transport_broadcasts_over_rows(name):
    distribution = TRANSPORTED[name]()
    noise = torch.randn(3, 4, 1, 2, generator=generator(), dtype=torch.float64)
    z = transport(distribution, noise)

    assert z.shape == (3, 4, 2, 2)
    assert_close(z, transport(distribution, noise.expand(3, 4, 2, 2)))


def test_transport_knows_what_it_cannot():
    transformed = TransformedDistribution(mixture(), [TanhTransform()])

    assert transport(mixture(), torch.zeros(2, 2)) is None
    assert transport(transformed, torch.zeros(2, 2)) is None


# The diagonal normal


def test_diagonal_normal_against_torch():
    ours, theirs = DiagonalNormal(LOC, SCALE.log()), normal()
    z = torch.randn(5, 2, 2, generator=generator(), dtype=torch.float64)

    assert_close(ours.log_prob(z), theirs.log_prob(z))
    assert_close(ours.entropy(), theirs.entropy())
    assert_close(ours.mean, theirs.mean)
    assert ours.batch_shape == theirs.batch_shape
    assert ours.event_shape == theirs.event_shape
    shared = DiagonalNormal(LOC, SCALE[0].log())
    assert_close(shared.entropy(), Independent(Normal(LOC, SCALE[:1]), 1).entropy())


def test_diagonal_normal_draws_without_a_generator_too():
    """As any torch Distribution does."""
    assert DiagonalNormal(LOC, SCALE.log()).sample((3,)).shape == (3, 2, 2)


# The model


def test_joint_and_weights_are_sums_of_their_parts():
    model = LinearGaussian(2, 3, shift=0.4, widening=1.3)
    z, x, log_lik = model.joint_draws(5)
    prior = MultivariateNormal(torch.zeros(2).double(), torch.eye(2).double())

    assert_close(model.prior.log_prob(z), prior.log_prob(z))
    assert_close(model.log_joint(x, z), prior.log_prob(z) + log_lik)
    weights = model.log_weights(x, z, model.r(x))
    assert_close(weights, model.log_joint(x, z) - model.r(x).log_prob(z))


def test_exact_posterior_has_constant_weights():
    model = LinearGaussian(2, 3)
    _, x, _ = model.joint_draws(5)
    z = draw(model.r(x), (7,), generator())

    weights = model.log_weights(x, z, model.r(x))
    assert_close(weights, model.marginal().log_prob(x).expand(7, 5))


@pytest.mark.parametrize("n", [1, 2, 100])
def test_drawn_codes_are_stratified(n):
    """One code in each of n slices of equal probability, along every axis."""
    z = LinearGaussian(3, 3).stratified_codes(n, generator())
    slices = torch.floor(n * torch.special.ndtr(z)).sort(0).values

    assert_close(slices, torch.arange(n).double()[:, None].expand(n, 3))


def test_drawn_codes_have_the_prior_s_distribution():
    """The first code of many sets: codes of one set are not independent."""
    model, g = LinearGaussian(2, 2), generator()
    z = torch.stack([model.stratified_codes(8, g)[0] for _ in range(4000)]).numpy()

    for axis in z.T:
        assert kstest(axis, "norm").pvalue > 1e-6
    for power in (1, 2):
        assert_mean_equal(z**power, power - 1.0, resolution=0.15)
    assert_mean_equal(z[:, 0] * z[:, 1], 0.0, resolution=0.1)


def test_drawn_codes_spare_noise():
    model, g = LinearGaussian(2, 2), generator()
    means = torch.stack([model.stratified_codes(64, g).mean(0) for _ in range(200)])

    # independent draws would have a standard deviation of 1 / 8
    assert (means.std(0) < 0.2 / 8).all()


def test_drawn_codes_are_finite_in_single_precision():
    model = LinearGaussian(2, 2).float()
    z = model.stratified_codes(200_000, generator())

    assert z.dtype == torch.float32
    assert z.isfinite().all()


def test_mlp_has_the_sizes_asked_for():
    shapes = [tuple(p.shape) for p in mlp(3, (5, 7), 2, "relu").parameters()]

    assert shapes == [(5, 3), (5,), (7, 5), (7,), (2, 7), (2,)]
    assert len(mlp(3, (), 2, "relu")) == 1


def test_global_numpy_state_is_not_touched():
    before = np.random.get_state()[1].copy()
    draw(normal(), (3,), generator())

    assert_array_equal(np.random.get_state()[1], before)
