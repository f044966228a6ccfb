"""Columns that depend on each other given z: grids, masses, passes, gradients."""

import copy

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from sklearn_mae.families.autoregressive import AutoregressiveTable
from sklearn_mae.families.autoregressive.grids import Grids
from sklearn_mae.families.base import Structure
from sklearn_mae.families.joined import Joined
from sklearn_mae.model import Pool, Rows, RowDistribution, draw
from tests.statistical import assert_mean_equal
from tests.toy_models import autoregressive_model, generator

RNG = np.random.default_rng(0)
N = 400
FACTOR = RNG.normal(size=N)
# continuous; rounded; zeros among continuous values; levels; a category; one with holes
MIXED = np.stack(
    [
        10 + 3 * FACTOR,
        np.round(FACTOR + RNG.normal(size=N), 1),
        np.where(FACTOR > 0.5, 0.0, RNG.normal(size=N)),
        RNG.integers(0, 5, size=N) * 25.0,
        RNG.integers(0, 3, size=N),
        np.where(RNG.random(N) < 0.3, np.nan, np.round(RNG.normal(size=N), 2)),
    ],
    axis=1,
)
KINDS = ["gaussian"] * 4 + ["categorical"] + ["gaussian"]
CONTINUOUS, ROUNDED, ZEROS, LEVELS, CATEGORY, HOLES = range(6)


def fitted(X=MIXED, kinds=KINDS):
    return AutoregressiveTable(Joined(kinds)).fit(X)


def seen(table, X):
    """Rows as the model sees them, in double precision."""

    def tensor(field):
        found = torch.as_tensor(np.asarray(field))
        return found.double() if found.is_floating_point() else found

    return table.rows(X).map(tensor)


def model_of(table, **options):
    return autoregressive_model(table, **options).double()


def codes(n, seed=1, d=2):
    return torch.randn(n, d, generator=generator(seed), dtype=torch.float64)


# -- grids ---------------------------------------------------------------------------


def test_columns_are_what_their_entries_say():
    grids = fitted().grids_

    assert_close(grids.step_, np.array([0, 0.1, 0, 25, 0, 0.01]))
    assert grids.decimals_.tolist() == [0, 1, 0, 0, 0, 2]
    assert [len(values) for values in grids.values_][CONTINUOUS] == 0
    assert len(grids.values_[ZEROS]) == 1
    assert len(grids.values_[LEVELS]) == 5
    assert grids.values_[CATEGORY].tolist() == [0, 1, 2]
    assert grids.whole_.tolist() == [False, False, False, True, True, False]
    assert grids.counts_[HOLES] == (~np.isnan(MIXED[:, HOLES])).sum()
    assert_close(grids.shares_[LEVELS].sum(), 1.0)


@pytest.mark.parametrize(
    ("values", "step"),
    [
        ([0.1, 0.2, 0.5], 0.1),
        ([-3, 0, 9], 3.0),
        ([1000.5, 1001.5, 1003.5], 1.0),
        ([1e-3, 2e-3, 4e-3], 1e-3),
        ([1 / 3, 2 / 3, 1.0], 0.0),
        ([0.0, 1e-9, 1.0], 0.0),  # too narrow for single precision
        ([0.0, 2.0**60, 3 * 2.0**60], 0.0),
    ],
)
def test_steps(values, step):
    X = np.repeat(np.array(values, dtype=float), 4)[:, None]
    found = fitted(X, ["gaussian"]).grids_

    assert found.step_ == pytest.approx(step)
    assert_close(found.rounded(X), X)


def test_a_grid_of_single_precision_is_found():
    X = np.array([[0.1], [0.2], [0.3], [0.7]] * 4, dtype=np.float32)

    assert fitted(X, ["gaussian"]).grids_.step_ == pytest.approx(0.1)


def test_few_rows_make_no_values_frequent():
    X = np.array([[0.5], [0.5], [1.5], [2.5], [3.5]])
    X = np.concatenate([X, RNG.normal(size=(15, 1))])

    assert len(fitted(X, ["gaussian"]).grids_.values_[0]) == 0


def test_entries_off_the_grid_count_as_the_nearest_and_are_named():
    table = fitted()
    X = MIXED[:4].copy()
    X[0, ROUNDED] += 0.04
    with pytest.warns(UserWarning, match=r"Column\(s\) 1 of X .* multiples of 0\.1"):
        rows = table.rows(X)

    assert_close(rows.values, table.rows(MIXED[:4]).values)


def test_rows_come_back_exactly():
    table = fitted()
    back = table.inverse_transform(table.rows(MIXED).values)

    for j in (ROUNDED, LEVELS, CATEGORY):
        assert (back[:, j] == MIXED[:, j]).all()
    assert_close(back[:, CONTINUOUS], MIXED[:, CONTINUOUS])


def test_what_was_learned_is_read_back():
    table = fitted()
    structure = Structure(2, "gaussian", "autoregressive", (4,), "silu", 0.01)
    twin = AutoregressiveTable(Joined(KINDS)).read(table.write(), structure, 6)
    rows, z = seen(table, MIXED[:20]), codes(20)

    assert_close(
        model_of(twin).log_lik(rows, z), model_of(table).log_lik(rows, z), rtol=0, atol=0
    )


@pytest.mark.parametrize("name", [*vars(fitted().grids_), "grids"])
def test_damaged_grids_are_refused(name):
    table = fitted()
    state = table.write()
    state["grids"] = {**state["grids"], name: None} if name != "grids" else None
    structure = Structure(2, "gaussian", "autoregressive", (4,), "silu", 0.01)
    with pytest.raises(ValueError, match="damaged"):
        AutoregressiveTable(Joined(KINDS)).read(state, structure, 6)


# -- p(x|z) ----------------------------------------------------------------------------


def sum_over_column(j, points, width=1.0):
    """Sum of p over values of one column, the others as in some rows."""
    table = fitted()
    model = model_of(table)
    rows = seen(table, MIXED[:3])
    values = rows.values.repeat(len(points), 1, 1)
    values[..., j] = points[:, None]
    p = model.p(codes(3)).of_pattern(rows.observed)
    with torch.no_grad():
        log_prob = p.entry_log_prob(values)[..., j]
    return (log_prob.exp() * width).sum(0), rows.observed[:, j]


@pytest.mark.parametrize("j", [ROUNDED, LEVELS, HOLES])
def test_masses_of_a_grid_sum_to_one(j):
    grids = fitted().grids_
    scale = np.nanstd(MIXED[:, j])
    start = (grids.start_[j] - np.nanmean(MIXED[:, j])) / scale
    step = grids.step_[j] / scale
    reach = int(20 / step)
    points = torch.as_tensor(start + step * np.arange(-reach, reach))
    total, observed = sum_over_column(j, points, step)

    assert_close(total[observed], torch.ones_like(total[observed]), rtol=0, atol=1e-6)


def test_masses_and_densities_sum_to_one():
    """Of a column with a mass at a single value; all points but that have densities."""
    value = fitted().grids_.values_[ZEROS][0]
    density, _ = sum_over_column(ZEROS, torch.linspace(-20, 20, 8001).double(), 0.005)
    mass, _ = sum_over_column(ZEROS, torch.tensor([value]).double())

    assert (mass > 0.1).all()
    assert_close(density + mass, torch.ones(3).double(), rtol=0, atol=1e-3)


def test_units():
    """Log-densities are in units of X, those of single values have none."""
    table = fitted()
    scale = np.exp(table.log_volume(table.rows(MIXED)))
    of = {j: np.nanstd(MIXED[:, j]) for j in range(6)}
    expected = of[CONTINUOUS] * of[ROUNDED] * of[LEVELS] * np.ones(N)
    expected *= np.where(MIXED[:, ZEROS] == 0, 1, of[ZEROS])
    expected *= np.where(np.isnan(MIXED[:, HOLES]), 1, of[HOLES])

    assert_close(scale, expected)


def test_a_draw_has_the_arithmetic_of_one_pass():
    """Column by column or all at once: the same log-probabilities."""
    model = model_of(fitted())
    z, parts = codes(50), []
    g = generator(3)

    def fill(j, column):
        x = column.draw(g)
        parts.append(column.log_prob(x))
        return x

    with torch.no_grad():
        x = model.likelihood.columns(z, fill)
        found = model.p(z).entry_log_prob(x)
    assert_close(found, torch.stack(parts, -1))


def test_draws_lie_on_the_grid():
    table = fitted()
    model = model_of(table)
    with torch.no_grad():
        x = draw(model.p(codes(500)), (), generator(), reparametrised=False)
    X = table.inverse_transform(x.numpy())

    assert not table.grids_.off(X).any()
    assert (np.round(X[:, ROUNDED], 1) == X[:, ROUNDED]).all()
    assert set(X[:, CATEGORY]) <= {0, 1, 2}
    assert (X[:, ZEROS] == 0).mean() > 0.1


def test_a_column_sees_those_before_it_alone():
    table = fitted()
    model, rows = model_of(table), seen(table, MIXED[:30])
    p = model.p(codes(30)).of_pattern(rows.observed)
    before = p.entry_log_prob(rows.values)
    for j in range(6):
        changed = rows.values.clone()
        changed[:, j] = rows.values[:, j].roll(7)
        moved = (p.entry_log_prob(changed) - before).abs().amax(0) > 1e-12
        assert not moved[:j].any()
        assert moved[j:].any()


def test_missing_entries_are_seen_as_such_and_not_scored():
    table = fitted()
    model, rows = model_of(table), seen(table, MIXED[:30])
    z = codes(30)
    observed = rows.observed.clone()
    observed[:, ROUNDED] = False
    other = rows.values.clone()
    other[:, ROUNDED] += 3.0
    found = [model.log_lik(Rows(v, observed), z) for v in (rows.values, other)]

    assert_close(found[0], found[1], rtol=0, atol=0)
    whole = model.p(z).of_pattern(rows.observed).entry_log_prob(rows.values)
    some = model.p(z).of_pattern(observed).entry_log_prob(rows.values)
    assert (some[:, ROUNDED] == 0).all()
    assert (whole[:, ZEROS] != some[:, ZEROS]).any()  # it sees that it is missing


def test_rows_of_a_pattern_have_its_distribution():
    """Average surprise of observed entries, one pass over many draws of one code."""
    table = fitted()
    model = model_of(table)
    observed = torch.tensor([True, False, True, True, True, False])
    model.pool = Pool(observed[None])
    z = codes(1).expand(4_000, -1)
    with torch.no_grad():
        x = draw(model.rows(z, generator()), (), generator(), reparametrised=False)
        again = draw(model.rows(z, generator(1)), (), generator(9), reparametrised=False)
        log_p, other = model.log_lik(x, z), model.log_lik(again, z)
    assert x.observed.eq(observed).all()
    assert_mean_equal((log_p - other)[:, None], 0.0, resolution=0.3)


def test_parts_of_many_codes_are_those_of_each(monkeypatch):
    from sklearn_mae.families.autoregressive import likelihood as module

    table = fitted()
    model, rows = model_of(table), seen(table, MIXED[:7])
    z = torch.stack([codes(7, seed=i) for i in range(5)])
    expected = torch.stack([model.log_lik(rows, some) for some in z]).detach()
    monkeypatch.setattr(module, "NUMBERS_AT_ONCE", 2_000)
    with torch.no_grad():
        assert_close(model.log_lik(rows, z), expected)
        assert_close(model.log_lik(rows.unsqueeze(1), z[0]).diagonal(), expected[0])


def test_points_are_means_and_most_probable_categories():
    table = fitted()
    model, z = model_of(table), codes(3)
    point = model.likelihood.decode(z)
    with torch.no_grad():
        x = draw(model.p(z), (4_000,), generator(4), reparametrised=False)
    numbers = [j for j in range(6) if j != CATEGORY]
    # of 32 draws of what is before each column
    se = (x.std(0) / 32**0.5)[:, numbers]

    assert ((point - x.mean(0))[:, numbers].abs() < 5 * se).all()
    share = (x[..., CATEGORY, None] == torch.arange(3)).double().mean(0)
    likely = share.gather(-1, point[:, [CATEGORY]].long())[:, 0]
    assert (likely > share.amax(-1) - 0.1).all()
    assert_close(model.likelihood.decode(z[:1])[0, 0], point[0, 0])  # no draws before it


# -- gradient --------------------------------------------------------------------------


def mixed_pair(order):
    """Model of one continuous column and a binary one, in this order."""
    X = np.stack([FACTOR, (RNG.normal(size=N) > 0) * 1.0], 1)
    kinds = np.array(["gaussian", "categorical"])
    return model_of(fitted(X[:, order], kinds[order]))


def gradient(values, model):
    parameters = list(model.likelihood.parameters())
    found = torch.autograd.grad(
        values.mean(), parameters, materialize_grads=True, retain_graph=True
    )
    return torch.cat([part.reshape(-1) for part in found])


@pytest.mark.parametrize("order", [[0, 1], [1, 0]], ids=["path first", "score first"])
def test_gradient_through_mixed_draws_is_unbiased(order):
    """Against a sum over a fine grid; false alarm: one in a million, all directions.

    f hangs on x, on the parameters and on log p, as the bounds do.
    """
    model = mixed_pair(order)
    z = codes(4)

    def f(x, log_prob):
        values = x.values if isinstance(x, Rows) else x
        bent = torch.sin(values.double() * (z + 0.5)).sum(-1)
        return (bent * log_prob + 0.5 * bent.square(),)

    axis, pair = torch.linspace(-9, 9, 721).double(), torch.arange(2.0).double()
    grid = torch.cartesian_prod(axis, pair)[:, order]
    log_prob = model.p(z).log_prob(grid.unsqueeze(1))
    (values,) = f(grid.unsqueeze(1), log_prob)
    exact = gradient((log_prob.exp() * values).sum(0) * 0.025, model).detach()
    strategy = model.likelihood.score_gradient(model, plain=False)
    g, samples = generator(5), []
    directions = torch.randn(len(exact), 20, generator=g).double()
    directions[:, 0] = exact
    directions /= directions.norm(dim=0)
    many = z.repeat(100, 1)

    def f_of_many(x, log_prob):
        bent = torch.sin(x.values.double() * (many + 0.5)).sum(-1)
        return (bent * log_prob + 0.5 * bent.square(),)

    for _ in range(40):
        p = RowDistribution(model.p(many))
        (values,) = strategy.expectation(p, f_of_many, g)
        samples.append(gradient(values, model).detach() @ directions)
    expected = exact @ directions

    assert expected[0] > 0.2
    assert_mean_equal(
        torch.stack(samples), expected.numpy(), resolution=0.4 * float(expected[0])
    )


def test_implicit_gradient_is_that_of_the_inverse_distribution_function():
    model = model_of(fitted(FACTOR[:, None], ["gaussian"]))
    z, bias = codes(1), model.likelihood.networks.output_bias

    def drawn():
        return model.likelihood.draw(z, generator(2), None, reparametrised=True)[0, 0]

    x = drawn()
    (slope,) = torch.autograd.grad(x, bias)
    # the same mass below, under parameters that are a little further
    outputs = model.likelihood.networks.step(
        0, z.new_empty(1, 0), model.likelihood.of_codes(z)
    )
    step = torch.randn(outputs.shape, generator=generator(1)).double()

    def below(outputs, at):
        column = model.likelihood.cells.column(0, outputs)
        a = model.likelihood.cells.n_values
        e = torch.sigmoid((at - column.loc) / column.scale)
        return float((column.weights[..., a:] * e).sum())

    with torch.no_grad():
        target, moved = below(outputs, x), outputs + 1e-5 * step
        low, high = x - 1.0, x + 1.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (
                (middle, high) if below(moved, middle) < target else (low, middle)
            )
    assert_close((low - x.detach()) / 1e-5, (slope[0] * step).sum(), rtol=1e-3, atol=1e-6)


# -- estimator -------------------------------------------------------------------------


def test_without_a_code_the_code_has_no_say():
    table = fitted()
    model, rows = model_of(table), seen(table, MIXED[:10])
    twin = copy.deepcopy(model)
    with torch.no_grad():
        twin.likelihood.networks.codes.zero_()

    assert_close(model.likelihood.log_prob_alone(rows), twin.log_lik(rows, codes(10)))


def test_grids_of_no_numbers():
    grids = Grids.fit(
        MIXED[:, [CATEGORY]], np.float64, lambda X: X, np.array([False]), np.ones(1)
    )
    assert grids.step_.tolist() == [0]
