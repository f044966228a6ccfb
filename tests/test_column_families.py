"""Families of columns: densities against torch's own, outcomes, points, Fisher."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import (
    Bernoulli,
    Categorical,
    Independent,
    Normal,
)
from torch.testing import assert_close

from sklearn_mae.families import COLUMN_FAMILIES, ColumnFamily
from sklearn_mae.families.bernoulli import IndependentBernoulli
from sklearn_mae.families.categorical import IndependentCategorical
from sklearn_mae.families.gaussian import Isotropic
from sklearn_mae.families.standard import set_scale, standard_likelihood
from sklearn_mae.model import MAX_OUTCOMES
from tests.statistical import assert_mean_equal
from tests.toy_models import generator, random_model


def codes(n, d=2, seed=0):
    return torch.randn(n, d, generator=generator(seed), dtype=torch.float64)


class Fixed(nn.Module):
    """Decoder that says the same of every code."""

    def __init__(self, output):
        super().__init__()
        self.output = nn.Parameter(torch.tensor(output, dtype=torch.float64))

    def forward(self, z):
        return self.output.expand(*z.shape[:-1], -1)


# Gaussian


def test_gaussian_against_torch():
    likelihood = random_model("gaussian", 3, 2).likelihood
    set_scale(likelihood, math.exp(-0.7))
    z, x = codes(5), codes(5, 3, seed=1)
    theirs = Independent(Normal(likelihood.decoder(z), math.exp(-0.7)), 1)

    assert_close(likelihood(z).log_prob(x), theirs.log_prob(x))
    assert_close(likelihood(z).entropy(), theirs.entropy())
    assert_close(likelihood.decode(z), theirs.mean)
    assert likelihood.outcomes() is None


def test_heteroscedastic_against_torch():
    likelihood = random_model("heteroscedastic", 3, 2).likelihood
    z, x = codes(5), codes(5, 3, seed=1)
    mean, _ = likelihood.decoder(z).chunk(2, -1)
    scale = likelihood(z).log_scale.exp()
    theirs = Independent(Normal(mean, scale), 1)

    assert (scale.std(0) > 0.01).all()  # it does depend on z
    assert_close(likelihood(z).log_prob(x), theirs.log_prob(x))
    assert_close(likelihood(z).entropy(), theirs.entropy())


@pytest.mark.parametrize("name", ["gaussian", "heteroscedastic"])
@pytest.mark.parametrize("min_scale", [0.01, 0.3])
def test_scale_has_a_floor(name, min_scale):
    """It is approached smoothly: the gradient never dies at once."""
    for raw in (-50.0, -5.0, 0.0, 5.0):
        shared = name == "gaussian"
        decoder = Fixed([0.0] if shared else [0.0, raw])
        likelihood = standard_likelihood(name, decoder, 1, min_scale).double()
        if shared:
            nn.init.constant_(likelihood.raw_log_scale, raw)
        scale = likelihood(codes(1)).log_scale.exp().item()
        assert scale >= min_scale * (1 - 1e-12)
        # a softplus above the floor
        above = math.log1p(math.exp(raw - math.log(min_scale)))
        assert scale == pytest.approx(min_scale * math.exp(above))


def test_isotropic_against_torch():
    likelihood = random_model("isotropic", 3, 2).likelihood
    nn.init.constant_(likelihood.raw_log_scale, -1.0)
    z, x = codes(5), codes(5, 3, seed=1)
    scale = likelihood(z).log_scale.exp()
    theirs = Independent(Normal(likelihood.decoder(z), scale[0].expand(5, 3)), 1)

    assert len(scale.unique()) == 1
    assert_close(likelihood(z).log_prob(x), theirs.log_prob(x))
    assert_close(likelihood(z).entropy(), theirs.entropy())


def test_isotropic_columns_keep_their_spread_against_each_other():
    """The model sees rows divided by one number, whatever turns them."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(50, 3)) * [1.0, 10.0, 0.1] + 5
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    one, other = (Isotropic().fit(rows, str) for rows in (X, X @ turn))
    seen, turned = (f.encode(x, str) for f, x in ((one, X), (other, X @ turn)))

    np.testing.assert_allclose(turned, seen @ turn, atol=1e-12)
    assert (seen**2).mean() == pytest.approx(1)
    np.testing.assert_allclose(
        seen.std(axis=0) / seen[:, 0].std(), X.std(axis=0) / X[:, 0].std()
    )
    np.testing.assert_allclose(one.decode(seen), X)


def test_isotropic_columns_learned_in_parts_are_those_learned_at_once():
    X = np.random.default_rng(0).gamma(2, size=(50, 5)) * [1.0, 9.0, 0.1, 1e-9, 1e9]
    X[3, 1] = np.nan
    whole = Isotropic().fit(X, str)
    first, *rest = (Isotropic().fit(X[:, j], str) for j in ([0, 1], [2, 3], [4]))

    assert whole.write().keys() == {"mean_", "scale_", "support_"}
    for name, value in first.extended(rest).write().items():
        np.testing.assert_allclose(value, getattr(whole, name))


def test_each_column_may_have_a_floor_of_its_own():
    decoder = Fixed([0.0, 0.0])
    likelihood = standard_likelihood("gaussian", decoder, 2, [0.01, 0.3]).double()
    nn.init.constant_(likelihood.raw_log_scale, -100.0)

    scale = likelihood(codes(1)).log_scale.exp()
    assert scale.tolist() == pytest.approx([0.01, 0.3])
    set_scale(likelihood, [0.02, 0.7])
    scale = likelihood(codes(1)).log_scale.exp()
    assert scale.tolist() == pytest.approx([0.02, 0.7])


def test_initial_scale_is_about_one():
    likelihood = standard_likelihood("gaussian", Fixed([0.0]), 1)

    assert likelihood(codes(1)).log_scale.exp().item() == pytest.approx(1, abs=0.02)


# Bernoulli


def test_bernoulli_against_torch():
    likelihood = random_model("bernoulli", 4, 2).likelihood
    z = codes(6)
    x = torch.randint(2, (6, 4), generator=generator()).double()
    logits = likelihood.decoder(z)
    theirs = Independent(Bernoulli(logits=logits), 1)

    assert_close(likelihood(z).log_prob(x), theirs.log_prob(x))
    assert_close(likelihood(z).entropy(), theirs.entropy())
    assert_close(likelihood(z).mean, theirs.mean)
    assert_close(likelihood.decode(z), theirs.mean)


def test_bernoulli_counts_shares_in_proportion():
    p = IndependentBernoulli(codes(3, 1))
    ends = [p.log_prob(torch.full((3, 1), end).double()) for end in (0.0, 1.0)]

    assert_close(
        p.log_prob(torch.full((3, 1), 0.25).double()), 0.75 * ends[0] + 0.25 * ends[1]
    )


def test_bernoulli_of_extreme_logits_is_finite():
    p = IndependentBernoulli(torch.tensor([[1000.0, -1000.0]]))

    assert p.log_prob(torch.tensor([[1.0, 0.0]])).item() == 0
    assert p.log_prob(torch.tensor([[0.0, 0.0]])).item() == -1000
    assert p.entropy().item() == 0


def test_bernoulli_outcomes():
    rows = standard_likelihood("bernoulli", Fixed([0.0] * 3), 3).outcomes()
    one = standard_likelihood("bernoulli", Fixed([0.0]), 1).outcomes()

    assert rows.tolist() == [list(x) for x in itertools.product([0.0, 1.0], repeat=3)]
    assert rows.dtype == torch.float64
    assert one.tolist() == [[0.0], [1.0]]


# Categorical


def test_categorical_against_torch():
    cardinalities = (3, 2, 4)
    likelihood = random_model("categorical", cardinalities, 2).likelihood
    z = codes(6)
    p = likelihood(z)
    theirs = [
        Categorical(logits=logits)
        for logits in likelihood.decoder(z).split(cardinalities, -1)
    ]
    x = p.sample((), generator())

    log_prob = sum(part.log_prob(x[:, j]) for j, part in enumerate(theirs))
    assert_close(p.log_prob(x), log_prob)
    assert_close(p.entropy(), sum(part.entropy() for part in theirs))
    mode = torch.stack([part.probs.argmax(-1) for part in theirs], -1)
    assert_close(likelihood.decode(z), mode)


@pytest.mark.parametrize("cardinalities", [(3,), (2, 2), (3, 1, 2)])
def test_categorical_outcomes(cardinalities):
    likelihood = random_model("categorical", cardinalities, 1).likelihood
    rows = likelihood.outcomes()

    expected = itertools.product(*(range(c) for c in cardinalities))
    assert rows.tolist() == [list(x) for x in expected]
    assert rows.dtype == torch.int64


@pytest.mark.parametrize(
    ("cardinalities", "listed"), [((100, 100), True), ((100, 101), False)]
)
def test_outcomes_are_listed_up_to_a_limit(cardinalities, listed):
    decoder = Fixed([0.0] * sum(cardinalities))
    rows = standard_likelihood("categorical", decoder, cardinalities).outcomes()
    bits = standard_likelihood("bernoulli", Fixed([0.0] * 14), 14)

    assert (rows is not None) == listed
    assert rows is None or len(rows) == MAX_OUTCOMES
    assert bits.outcomes() is None


def test_draws_of_categories_exist():
    """Rounding must not draw a category that a narrower column does not have."""
    decoder = Fixed([0.0] * 7).float()
    likelihood = standard_likelihood("categorical", decoder, (2, 5))
    x = likelihood(torch.zeros(1, 1)).sample((200_000,), generator())

    assert x[..., 0].max() == 1
    assert x[..., 1].max() == 4


def test_probabilities_that_add_up_to_less_than_one(monkeypatch):
    monkeypatch.setattr(torch, "rand", lambda shape, **options: torch.ones(shape))
    log_probs = torch.log_softmax(torch.arange(10).float().sin(), -1)[None, None]

    assert IndependentCategorical(log_probs - 1e-4).sample().item() == 9


# What a family declares


@pytest.mark.parametrize("name", COLUMN_FAMILIES)
def test_entries_add_up(name):
    """The log-probability of a row is the sum of its entries'."""
    model = random_model(name, (3, 2, 4) if name == "categorical" else 3, 2)
    p = model.likelihood(codes(6))
    x = p.sample((), generator())

    assert p.entry_log_prob(x).shape == (6, 3)
    assert_close(p.entry_log_prob(x).sum(-1), p.log_prob(x))


def test_what_is_missing_is_named():
    family = ColumnFamily()

    for read in (
        lambda: family.n_columns,
        lambda: family.n_inputs,
        lambda: family.n_outputs,
        lambda: family.features(),
        lambda: family.distribution(codes(1), {}),
        lambda: family.read({}, 1),
    ):
        with pytest.raises(NotImplementedError, match="ColumnFamily does not declare"):
            read()


# Fisher information


def score_outer_products(likelihood, z, x):
    """Squares of d log p(x|z) / d z, row by row."""
    z = z.clone().requires_grad_()
    (score,) = torch.autograd.grad(likelihood(z).log_prob(x).sum(), z)
    return score.unsqueeze(-1) * score.unsqueeze(-2)


@pytest.mark.parametrize(
    ("kind", "columns"),
    [("bernoulli", 3), ("categorical", (3,)), ("categorical", (2, 4))],
)
def test_fisher_information_of_enumerable_columns(kind, columns):
    likelihood = random_model(kind, columns, 2).likelihood
    z = codes(4)
    fisher = likelihood.fisher_information(z)
    exact = 0.0
    for x in likelihood.outcomes():
        probability = likelihood(z).log_prob(x).exp().detach()
        products = score_outer_products(likelihood, z, x.expand(4, -1))
        exact = exact + probability[:, None, None] * products

    assert_close(fisher, exact)


@pytest.mark.parametrize("kind", ["gaussian", "isotropic", "heteroscedastic"])
def test_fisher_information_of_normal_columns(kind):
    likelihood = random_model(kind, 3, 2, sharpness=1.5).likelihood
    z = codes(1)
    with torch.no_grad():
        fisher = likelihood.fisher_information(z)
        x = likelihood(z.expand(40_000, -1)).sample((), generator())
    products = score_outer_products(likelihood, z.expand(40_000, -1), x)
    exact = fisher[0]

    assert_mean_equal(products, exact.numpy(), resolution=0.15 * float(exact.max()))
