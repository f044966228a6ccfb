"""Columns of several families in one table: densities, draws, gradients, places."""

import numpy as np
import pytest
import torch
from numpy.polynomial.hermite_e import hermegauss
from torch import nn
from torch.testing import assert_close

from sklearn_mae.families import COLUMN_FAMILIES, joined
from sklearn_mae.families.categorical import Categorical
from sklearn_mae.families.gaussian import Gaussian
from sklearn_mae.families.joined import Joined, settled
from sklearn_mae.families.standard import joined_columns
from sklearn_mae.families.table import Table, TableLikelihood
from sklearn_mae.gradients import PartlyReparametrised
from sklearn_mae.model import RowDistribution, Rows, mlp, private_random
from tests.statistical import assert_mean_equal
from tests.toy_models import generator

rng = np.random.default_rng(0)
N = 60
KINDS = ["categorical", "gaussian", "bernoulli", "poisson", "categorical", "lognormal"]
X = np.column_stack(
    [
        rng.choice([0.0, 3.0, 7.0], N),
        rng.normal(5, 2, N),
        rng.random(N) < 0.4,
        rng.poisson(4, N),
        rng.choice(np.arange(20.0), N),
        rng.lognormal(3, 0.5, N),
    ]
)


@pytest.fixture(autouse=True)
def _split(monkeypatch):
    """Categorical columns part where their numbers of categories differ at all."""
    monkeypatch.setattr(joined, "PADDING", 0)


def table(kinds=KINDS, X=X):
    return Table(Joined(kinds)).fit(X, [f"c{j}" for j in range(X.shape[1])])


def parameters(likelihood, z):
    names = *likelihood._constants, *likelihood._shared
    tensors = {name: getattr(likelihood, name) for name in names}
    return likelihood.decoder(z), tensors


def built(family, d=2, seed=0):
    with private_random(seed):
        decoder = mlp(d, (6,), family.n_outputs, "silu")
        return TableLikelihood(family, decoder).double()


def test_columns_keep_their_places():
    found = table()

    np.testing.assert_allclose(found.inverse_transform(found.transform(X)), X)
    assert found.transform(X).dtype == np.float64
    np.testing.assert_array_equal(found.rows(X[:5]).values, found.rows(X).values[:5])


@pytest.mark.parametrize("kinds", [KINDS, ["categorical"] * 6, ["gaussian"] * 6])
def test_a_row_is_as_likely_as_its_columns(kinds):
    """Against each family alone, with the same numbers of the decoder."""
    columns = X.round() if kinds[1] == "categorical" else X
    found = table(kinds, columns)
    likelihood = built(found.family)
    z = torch.randn(N, 2, generator=generator(), dtype=torch.float64)
    x = torch.as_tensor(found.transform(columns))
    p = likelihood(z)
    each = p.entry_log_prob(x)

    assert each.shape == (N, 6)
    assert_close(p.log_prob(x), each.sum(-1))
    if not isinstance(found.family, Joined):
        assert kinds[0] == "gaussian"
        return
    outputs = likelihood.decoder(z)
    sizes = [family.n_outputs for family in found.family.families]
    for i, some in enumerate(outputs.split(sizes, -1)):
        _, family, positions = found.family.parts_[i]
        alone = TableLikelihood(family, nn.Identity()).double()
        if family.shared():
            for name in family.shared():
                getattr(alone, name).data = getattr(likelihood, f"{name}_{i}").data
        values = x[:, positions]
        values = values.long() if family.indices else values
        assert_close(each[:, positions], alone(some).entry_log_prob(values))


def test_draws_are_of_each_column_s_kind():
    found = table()
    p = built(found.family)(torch.zeros(500, 2, dtype=torch.float64))
    x = p.sample((), generator())
    rows = found.inverse_transform(x.numpy())

    assert set(rows[:, 0]) == {0.0, 3.0, 7.0}
    assert set(rows[:, 2]) == {0.0, 1.0}
    assert (rows[:, 3] == rows[:, 3].round()).all()
    assert (rows[:, 5] > 0).all()
    assert not p.has_rsample
    assert p.partly_reparametrised
    assert p.rsample((), generator()).requires_grad
    assert torch.equal(p.rsample((3,), generator()), p.sample((3,), generator()))


def test_all_discrete_columns_are_indices_and_can_be_listed():
    kinds = ["categorical", "bernoulli", "categorical"]
    family = table(kinds, X[:, [0, 2, 4]]).family
    likelihood = built(family)
    rows = likelihood.outcomes()
    p = likelihood(torch.randn(3, 2, generator=generator(), dtype=torch.float64))

    n = len(np.unique(X[:, 4]))
    assert family.outcomes() == [3, 2, n]
    assert rows.shape == (6 * n, 3)
    assert_close(p.log_prob(rows.unsqueeze(1)).exp().sum(0), torch.ones(3).double())


def test_fisher_information_counts_observed_entries():
    family = joined_columns(gaussian=2, categorical=(3,), bernoulli=1)
    likelihood = built(family)
    z = torch.randn(1, 2, generator=generator(), dtype=torch.float64)
    z = z.expand(20_000, -1).clone().requires_grad_()
    p = likelihood(z)
    observed = torch.tensor([True, False, True, False]).expand(20_000, -1)
    x = Rows(p.sample((), generator()), observed)
    (score,) = torch.autograd.grad(x.log_prob(p).sum(), z)
    products = score.unsqueeze(-1) * score.unsqueeze(-2)
    fisher = likelihood.fisher_information(z[:1].detach(), x[:1]).detach()
    fisher = fisher.expand_as(products)

    resolution = 0.2 * float(fisher.max())
    assert_mean_equal(products - fisher, 0.0, resolution=resolution)
    whole = likelihood.fisher_information(z[:1].detach()).detach()
    assert (whole.diagonal(dim1=-2, dim2=-1) > fisher[:1].diagonal(0, -2, -1)).all()


@pytest.mark.parametrize("holes", [False, True])
def test_the_gradient_through_a_mixed_row_is_unbiased(holes):
    """Against sums over categories and a quadrature over the number.

    The integrand depends on the row and, through its log-probability, on the decoder.
    False alarm: one in a million.
    """
    family = joined_columns(gaussian=1, categorical=(3,), bernoulli=1)
    likelihood = built(family)
    start = torch.tensor([0.3, 0.5, -0.2, 0.1, 0.4], dtype=torch.float64)
    _, tensors = parameters(likelihood, torch.zeros(1, 2, dtype=torch.float64))
    observed = torch.tensor([True, True, not holes])

    def integrand(x, log_prob):
        seen = torch.where(x.observed, x.values, 0.0) if holes else x.values
        number, category, bit = seen.unbind(-1)
        return (torch.tanh(number * (category - 0.5) + bit) * (1 + log_prob),)

    outputs = start.clone().requires_grad_()
    nodes, weights = hermegauss(60)
    total = 0.0
    for category in range(3):
        for bit in (0.0, 1.0):
            p = family.distribution(outputs.expand(60, -1), tensors)
            scale = p.parts[0][0].log_scale.exp()
            number = outputs[0] + scale * torch.as_tensor(nodes)
            fixed = torch.tensor([category, bit]).expand(60, -1)
            values = torch.cat([number.unsqueeze(-1), fixed], -1)
            x = Rows(values, observed.expand(60, -1) if holes else None)
            chance = p.entry_log_prob(values)[:, 1:].sum(-1).exp()
            mass = torch.as_tensor(weights / weights.sum()) * chance
            total = total + (mass * integrand(x, x.log_prob(p))[0]).sum()
    (exact,) = torch.autograd.grad(total, outputs)

    n = 100_000
    outputs = start.expand(n, -1).clone().requires_grad_()
    base = family.distribution(outputs, tensors)
    p = RowDistribution(base, observed.expand(n, -1) if holes else None)
    strategy = PartlyReparametrised()
    (values,) = strategy.expectation(p, integrand, generator())
    (gradients,) = torch.autograd.grad(values.sum(), outputs)

    assert_mean_equal(values.detach(), float(total), resolution=0.05)
    assert_mean_equal(gradients, exact.numpy(), resolution=0.05)


def test_categories_cost_what_they_are():
    """Not columns times the largest number of categories."""
    n = 5_000
    wide = np.column_stack([np.arange(float(n)), *(np.arange(n) % 3 for _ in range(9))])
    family = Table(Categorical()).fit(wide).family
    outputs = torch.zeros(4, family.n_outputs, dtype=torch.float64)
    parts = family.distribution(outputs, built(family)._buffers).parts

    assert sum(p.log_probs[0].numel() for p, _ in parts) < 2 * (n + 27)
    # alike ones stay together
    assert type(Table(Categorical()).fit(wide[:, 1:]).family) is Categorical


def test_one_family_is_no_join():
    family = settled(Joined(["gaussian"] * 3), rng.normal(size=(9, 3)))

    assert type(family) is Gaussian


def test_a_constant_column_leaves_its_family():
    columns = X.copy()
    columns[:, 1] = 4.5
    found = table(X=columns)

    assert found.n_varying == 5
    assert "gaussian" not in {name for name, _, _ in found.family.parts_}
    back = found.inverse_transform(found.transform(columns))
    np.testing.assert_allclose(back, columns)


@pytest.mark.parametrize("name", COLUMN_FAMILIES)
def test_every_family_can_be_joined(name):
    column = {"bernoulli": X[:, 2], "categorical": X[:, 0], "poisson": X[:, 3]}
    column["negative_binomial"] = X[:, 3]
    columns = np.column_stack([column.get(name, X[:, 5]), X[:, 1]])
    found = table([name, "heteroscedastic"], columns)
    likelihood = built(found.family)
    z = torch.zeros(3, 2, dtype=torch.float64)

    assert np.isfinite(
        found.inverse_transform(likelihood.decode(z).detach().numpy())
    ).all()
    assert found.log_volume(found.rows(columns)).shape == (N,)


# Families of numbers that came with joined tables


def test_lognormal_means_and_densities():
    """In the units of the table, against scipy's."""
    from scipy import stats

    found = Table(COLUMN_FAMILIES["lognormal"]()).fit(X[:, 5:])
    likelihood = built(found.family)
    z = torch.randn(N, 2, generator=generator(), dtype=torch.float64)
    with torch.no_grad():
        p = likelihood(z)
        rows = found.rows(X[:, 5:])
        ours = p.log_prob(torch.as_tensor(rows.values)).numpy() - found.log_volume(rows)
        point = found.inverse_transform(likelihood.decode(z).numpy())[:, 0]
    scale, mean = found.family.scale_[0], found.family.mean_[0]
    sigma = p.log_scale.exp().numpy() * scale
    median = np.exp(p.loc.numpy()[:, 0] * scale + mean)
    theirs = stats.lognorm(sigma, scale=median)

    np.testing.assert_allclose(ours, theirs.logpdf(X[:, 5]))
    np.testing.assert_allclose(point, theirs.mean())


def test_student_t_against_scipy():
    from scipy import stats

    p = built(joined_columns(student_t=2)).family
    outputs = torch.tensor([[0.4, -1.0]], dtype=torch.float64)
    given = {
        "raw_log_scale": torch.tensor([0.3, 1.0], dtype=torch.float64),
        "raw_freedom": torch.tensor([0.5, 3.0], dtype=torch.float64),
        "floor": torch.tensor([-4.0, -4.0], dtype=torch.float64),
    }
    p = COLUMN_FAMILIES["student_t"]().distribution(outputs, given)
    x = torch.tensor([[30.0, -1.5]], dtype=torch.float64)
    theirs = stats.t(p.freedom, outputs[0], p.log_scale.exp())

    assert (p.freedom > 1).all()
    np.testing.assert_allclose(p.entry_log_prob(x)[0], theirs.logpdf(x[0]))
    np.testing.assert_allclose(p.entropy()[0], theirs.entropy().sum())
    draws = p.sample((40_000,), generator())[:, 0].numpy()
    for column, of_column in zip(draws.T, theirs.cdf(draws).T, strict=True):
        assert stats.kstest(of_column, "uniform").pvalue > 1e-6, column


def test_scales_of_heavy_tails_are_those_of_the_middle():
    column = rng.standard_t(1.5, size=(2_000, 1)) * 3 + 10
    family = Table(COLUMN_FAMILIES["student_t"]()).fit(column).family

    assert abs(family.mean_[0] - 10) < 1
    assert 2 < family.scale_[0] < 6 < column.std()


@pytest.mark.parametrize("value", [0.0, -2.0])
def test_lognormal_columns_are_positive(value):
    columns = X.copy()
    columns[3, 5] = value

    with pytest.raises(ValueError, match=r"not positive.*column\(s\) c5, for example"):
        table(X=columns)
