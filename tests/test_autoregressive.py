"""Columns that depend on each other given z: grids, masses, passes, gradients."""

import copy
import itertools
import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from skorch.callbacks import Callback
from torch.testing import assert_close

from sklearn_mae import MutualAutoencoder, imputation
from sklearn_mae.encoders import Amortised
from sklearn_mae.evaluation import Evaluation
from sklearn_mae.families.autoregressive import AutoregressiveTable
from sklearn_mae.families.autoregressive.grids import Grids
from sklearn_mae.families.base import Structure
from sklearn_mae.families.joined import Joined
from sklearn_mae.imputation import conditional_draws, conditional_means
from sklearn_mae.model import Pool, RowDistribution, Rows, draw
from sklearn_mae.training import learn_alone
from tests.statistical import assert_mean_equal
from tests.toy_models import generator, model_of_table

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
    return model_of_table(table, **options).double()


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
        model_of(twin).log_lik(rows, z),
        model_of(table).log_lik(rows, z),
        rtol=0,
        atol=0,
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
        x = column.draw(torch.rand(2, 50, 1, generator=g, dtype=torch.float64))
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
        again = draw(
            model.rows(z, generator(1)), (), generator(9), reparametrised=False
        )
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
    # all codes have the same draws
    assert_close(model.likelihood.decode(z[1:2]), point[1:2])


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

    f depends on x, on the parameters and on log p, as the bounds do.
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
    assert_close(
        (low - x.detach()) / 1e-5, (slope[0] * step).sum(), rtol=1e-3, atol=1e-6
    )


# -- missing entries -------------------------------------------------------------------

CATEGORIES = RNG.integers(0, [3, 2, 2], size=(60, 3)).astype(float)


def category_model():
    return model_of(fitted(CATEGORIES, ["categorical"] * 3))


def exact_conditional(model, known):
    """P(x_0 | x_1, x_2) of the model, by sums over outcomes and many codes."""
    outcomes = model.outcomes()
    z = model.stratified_codes(20_000, generator())
    with torch.no_grad():
        p = model.p(z).log_prob(outcomes.values.unsqueeze(1)).exp().mean(1)
    same = (outcomes.values[:, 1:] == known[1:]).all(-1)
    return p[same] / p[same].sum()


def test_what_is_missing_is_drawn_from_its_posterior():
    """The first column given the others, which see it: no pass of the model tells."""
    model = category_model()
    known = torch.tensor([0, 1, 0])
    exact = exact_conditional(model, known)
    x = Rows(known[None], torch.tensor([[False, True, True]]))
    shares = []
    for seed in range(30):
        evaluation = Evaluation(model, Amortised(), seed)
        values, codes = conditional_draws(evaluation, x, 200, generator(seed))
        assert values.shape == (200, 1, 3)
        assert codes.shape == (200, 1, 2)
        assert (values[:, 0, 1:] == known[1:]).all()
        shares.append((values[:, :1, 0] == torch.arange(3)).double().mean(0))
    masked = model.p(codes[:1, 0]).of_pattern(x.observed)
    assert_mean_equal(torch.stack(shares), exact.numpy(), resolution=0.05)
    assert masked.log_prob(known[None]).exp() > 0  # it proposes, and no more


def test_the_point_of_what_is_missing_is_the_most_probable():
    model = category_model()
    for known in ([0, 1, 0], [0, 0, 1], [0, 1, 1]):
        exact = exact_conditional(model, torch.tensor(known))
        x = Rows(torch.tensor([known]), torch.tensor([[False, True, True]]))
        evaluation = Evaluation(model, Amortised(), 0)
        found = conditional_means(evaluation, x, torch.zeros(1, 3).double())
        assert exact[found[0, 0]] > exact.max() - 0.05


def test_few_effective_draws_are_warned_of(monkeypatch):
    model = category_model()
    x = Rows(torch.tensor([[0, 1, 0]] * 3), torch.tensor([[False, True, True]] * 3))
    evaluation = Evaluation(model, Amortised(), 0)
    monkeypatch.setattr(imputation, "FEW_DRAWS", 2_000)
    message = "3 of 3 rows rest on fewer than 2000 effective draws of 1024"
    with pytest.warns(UserWarning, match=message):
        conditional_draws(evaluation, x, 5, generator())
    with pytest.warns(UserWarning, match=message):
        conditional_means(evaluation, x, torch.zeros(3, 3).double())


# -- estimator -------------------------------------------------------------------------


def build(**params):
    settings = {"n_components": 1, "hidden_layer_sizes": (32,), "max_epochs": 60}
    settings |= {"lr": 5e-3, "random_state": 0}
    return MutualAutoencoder(**{"likelihood": "autoregressive", **settings, **params})


@pytest.fixture(scope="module")
def frame():
    return pd.DataFrame(
        {
            "size": FACTOR,
            "grade": np.round(FACTOR + RNG.normal(size=N), 1),
            "place": np.where(FACTOR > 0, "here", "there"),
            "old": RNG.random(N) > 0.5,
            "count": RNG.integers(0, 4, size=N),
            "part": np.where(RNG.random(N) < 0.2, np.nan, np.round(FACTOR, 2)),
        }
    )


@pytest.fixture(scope="module")
def mae(frame):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return build(
            M=1, encoder="gaussian", n_components=2, hidden_layer_sizes=(16,)
        ).fit(frame)


def test_a_frame_comes_back_as_one(mae, frame):
    drawn = mae.sample(200, random_state=0)

    assert mae.likelihood_ == "autoregressive"
    assert (drawn.dtypes == frame.dtypes).all()
    assert (drawn["grade"] == drawn["grade"].round(1)).all()
    assert set(drawn["place"]) == {"here", "there"}
    assert drawn.notna().all(axis=None)
    means = mae.inverse_transform(mae.transform(frame[:5]))
    assert (means.dtypes == frame.dtypes).all()


def test_columns_depend_on_each_other_given_the_code(mae, frame):
    """At one code: "place" still follows "size", which no other likelihood can have."""
    z = np.zeros((400, 2))
    values = mae.net_.module_.likelihood(torch.zeros(400, 2)).sample(
        generator=generator(0)
    )
    agree = ((values[:, 0] > 0) == (values[:, 2] == 0)).double().mean()

    assert agree > 0.8 or agree < 0.2
    assert np.isfinite(mae.conditional_log_prob(frame[:400], z)).all()


@pytest.mark.filterwarnings("ignore:.* effective draws")
def test_impute_keeps_what_is_there(mae, frame):
    holes = frame[:60].copy()
    holes.loc[:5, "place"] = None
    holes.loc[10:, "size"] = np.nan
    for filled in (mae.impute(holes), *mae.impute(holes, n_samples=2, random_state=0)):
        assert filled.notna().all(axis=None)
        for name in frame:
            there = holes[name].notna()
            assert (filled[name][there] == holes[name][there]).all()
    size = mae.impute(holes)["size"]
    assert np.corrcoef(size[10:], frame["size"][10:60])[0, 1] > 0.4


def test_rows_given_some_entries(mae):
    drawn = mae.sample(300, given={"place": "here"}, random_state=0)

    assert (drawn["place"] == "here").all()
    assert (drawn["size"] > 0).mean() > 0.8


def test_of_one_code_the_rows_do_not_depend_on_their_neighbours(mae, frame):
    Z = mae.transform(frame[:9])
    whole = mae.inverse_transform(Z)

    pd.testing.assert_frame_equal(whole[:1], mae.inverse_transform(Z[:1]))


def test_networks_need_a_hidden_layer():
    mae = MutualAutoencoder(likelihood="autoregressive", hidden_layer_sizes=())
    with pytest.raises(ValueError, match=r"hidden_layer_sizes=\(\) has no entry"):
        mae.fit(MIXED[:, :2])


def chain(n, rng):
    """Rows of a Markov chain of binary columns, and the probability of every row."""
    same, length = 0.85, 5
    outcomes = np.array(list(itertools.product([0, 1], repeat=length)))
    kept = (np.diff(outcomes, axis=1) == 0).sum(1)
    p = 0.5 * same**kept * (1 - same) ** (length - 1 - kept)
    return outcomes[rng.choice(len(p), size=n, p=p)].astype(bool), outcomes, p


@pytest.mark.parametrize("mi_gradient", ["auto", "reinforce"])
def test_a_chain_of_known_law(mi_gradient):
    """Log p within 0.02 nats of the truth, I within the bracket, by enumeration."""
    X, outcomes, p = chain(3_000, np.random.default_rng(3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        mae = MutualAutoencoder(
            M=0.5,
            likelihood="autoregressive",
            encoder="gaussian",
            mi_gradient=mi_gradient,
            n_components=1,
            hidden_layer_sizes=(16,),
            max_epochs=40,
            lr=5e-3,
            random_state=0,
        ).fit(X)
    model = mae._fitted.evaluation.model
    z = torch.special.ndtri((torch.arange(2_000).double() + 0.5) / 2_000)[:, None]
    with torch.no_grad():
        log_lik = model.p(z).log_prob(torch.as_tensor(outcomes).unsqueeze(1))
    log_p = torch.logsumexp(log_lik, 1) - np.log(2_000)
    information = (log_lik.exp() * (log_lik - log_p[:, None])).sum(0).mean()
    low, high = mae.mutual_info_interval_

    assert p @ (np.log(p) - log_p.numpy()) < 0.02
    assert low - 0.01 <= information <= high + 0.01
    assert information == pytest.approx(0.5, abs=0.06)


# -- the decoder alone -----------------------------------------------------------------


def learn(X, kinds, epochs, hidden=(8,)):
    table = fitted(X, kinds)
    model = model_of_table(table, hidden=hidden).float()
    rows = table.rows(X).map(torch.as_tensor).to(torch.float32)
    before = copy.deepcopy(model.state_dict())
    options = {
        "part": 0.5,
        "max_epochs": epochs,
        "batch_size": 32,
        "lr": 5e-3,
        "seed": 0,
    }
    follows = learn_alone(model, rows, **options)
    return before, model, rows, follows


def test_a_decoder_learns_rows_without_codes():
    before, model, rows, follows = learn(MIXED[:, :2], KINDS[:2], 10)
    after = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        now = model.likelihood.log_prob_alone(rows).mean()
        model.load_state_dict(before)
        assert now > model.likelihood.log_prob_alone(rows).mean() + 0.3
    assert follows == (10, False)
    for name in before:
        of_codes = "likelihood.networks.codes" in name or "code_layer" in name
        untouched = of_codes or not name.startswith("likelihood")
        assert torch.equal(before[name], after[name]) == untouched, name
    assert not model.likelihood.training


def test_rows_learned_by_heart_end_it_and_have_it_held():
    """Twelve columns of noise and 60 rows: what is learned of them is no law."""
    X = np.random.default_rng(5).integers(0, 4, size=(240, 12))
    _, model, rows, follows = learn(X, ["categorical"] * 12, 100, hidden=(64,))

    assert follows == (50, True)
    with torch.no_grad():  # hardly better than no dependence at all, 12 log 4
        assert model.likelihood.log_prob_alone(rows).mean() < -0.8 * 12 * np.log(4)


def test_few_rows_are_not_learned_by_heart():
    """200 rows of two numbers that depend on each other."""
    rng = np.random.default_rng(0)

    def rows(n):
        a = rng.normal(size=n)
        return np.column_stack([a, a + rng.normal(size=n)])

    X, new = rows(200), rows(2_000)
    mae = MutualAutoencoder(
        M=0.5,
        likelihood="autoregressive",
        encoder="gaussian",
        n_components=1,
        max_epochs=300,
        random_state=0,
    ).fit(X)

    best = -1 - np.log(2 * np.pi)  # of two standard normal conditionals
    assert mae.net_.holds_decoder
    assert mae.log_likelihood(new).mean() > best - 0.5
    low, high = mae.mutual_info_interval_
    assert 0.45 <= low <= high <= 0.55


def test_a_decoder_that_learned_rows_by_heart_is_held_and_fit_says_so():
    weights = []

    class Weights(Callback):
        def on_epoch_end(self, net, **kwargs):
            weights.append(copy.deepcopy(net.module_.likelihood.state_dict()))

    X = np.random.default_rng(5).integers(0, 4, size=(240, 12)).astype(str)
    mae = MutualAutoencoder(
        M=5,
        likelihood="autoregressive",
        encoder="gaussian",
        n_components=2,
        hidden_layer_sizes=(64,),
        max_epochs=100,
        batch_size=32,
        lr=5e-3,
        callbacks=[Weights()],
        random_state=0,
    )
    with pytest.warns(ConvergenceWarning, match="the decoder is held where rows"):
        mae.fit(X)
    assert mae.n_iter_ == 50
    learns = {"networks.codes", "networks.output_bias"}
    learns |= {"code_layer.weight", "code_layer.bias"}
    for name, start in weights[0].items():
        assert torch.equal(start, weights[-1][name]) == (name not in learns), name

    mae.set_params(callbacks=None, warm_start=True)
    again = pickle.loads(pickle.dumps(mae))
    held = copy.deepcopy(again.net_.module_.likelihood.state_dict())
    again.fit(X)
    for name, end in again.net_.module_.likelihood.state_dict().items():
        assert torch.equal(held[name], end) == (name not in learns), name


def test_without_a_code_the_code_has_no_say():
    table = fitted()
    model, rows = model_of(table), seen(table, MIXED[:10])
    twin = copy.deepcopy(model)
    with torch.no_grad():
        twin.likelihood.networks.codes.zero_()

    assert_close(model.likelihood.log_prob_alone(rows), twin.log_lik(rows, codes(10)))


def test_a_code_comes_in_through_parameters_that_learn_when_held():
    table = fitted()
    model, rows = model_of(table), seen(table, MIXED[:10])
    likelihood = model.likelihood
    of_code = {id(p) for p in likelihood.parameters_when_held()}
    with torch.no_grad():
        likelihood.networks.codes.zero_()
        for parameter in likelihood.parameters():
            if id(parameter) not in of_code:  # none of these brings the code in
                parameter += 0.1 * torch.randn_like(parameter)

        alone = likelihood.log_prob_alone(rows)
        assert_close(model.log_lik(rows, codes(10)), alone)
        for parameter in likelihood.parameters_when_held():
            if parameter is not likelihood.networks.output_bias:
                parameter += 0.1 * torch.randn_like(parameter)
        assert_close(likelihood.log_prob_alone(rows), alone)
        assert (model.log_lik(rows, codes(10)) != alone).all()


def test_grids_of_no_numbers():
    grids = Grids.fit(
        MIXED[:, [CATEGORY]], np.float64, lambda X: X, np.array([False]), np.ones(1)
    )
    assert grids.step_.tolist() == [0]


def test_rows_of_a_table_with_holes_are_drawn_whole():
    """b is a but for a tenth: a hole drawn in a would tear them apart."""
    rng = np.random.default_rng(0)
    a = rng.normal(size=400)
    X = np.column_stack([np.where(rng.random(400) < 0.5, np.nan, a), a])
    X[:, 1] += 0.1 * rng.normal(size=400)
    mae = build(M=None).fit(X)
    rows, Z = mae.sample(2_000, random_state=0, return_codes=True)

    # whole rows of p(x|z), by another way
    model = mae._fitted.evaluation.model
    whole = model.p(torch.as_tensor(Z)).sample(generator=generator(0)).numpy()
    found, wanted = np.corrcoef(rows.T)[0, 1], np.corrcoef(whole.T)[0, 1]
    # of Fisher's transformation, 5 standard errors: one false alarm in a million
    assert abs(np.arctanh(found) - np.arctanh(wanted)) < 5 * (2 / 1_997) ** 0.5
    assert wanted > 0.8


def test_frequent_values_off_a_grid_come_back_exactly():
    rng = np.random.default_rng(0)
    y = np.where(rng.random(300) < 0.4, 0.0, rng.lognormal(5, 1, size=300))
    X = np.column_stack([y, rng.normal(size=300)])
    mae = build(M=0.5, hidden_layer_sizes=(16,), max_epochs=10, lr=1e-3).fit(X)
    rows = mae.sample(500, random_state=0)[:, 0]

    near = abs(rows) < 1e-3
    assert near.sum() > 50
    assert (rows[near] == 0).all()
    # and a value that is one but for rounding is scored as one
    some = np.where(X == 0, 1e-9, X)
    np.testing.assert_allclose(mae.score_samples(some), mae.score_samples(X))


def test_labels_are_told_to_autoregressive_decoders():
    """p(y|x_o) of sample(given=...) is a marginal, which weighted draws know."""
    rng = np.random.default_rng(0)
    a = rng.normal(size=500)
    X = np.column_stack([a, a + 0.3 * rng.normal(size=500)])
    y = (a > 0).astype(int)
    mae = build(M=0.3, target="condition").fit(X, y)
    rows = mae.sample(300, given={1: 1.5}, random_state=0)
    assert (rows[:, 0] > 0).mean() > 0.9
    of_class = [mae.sample(300, y=label, random_state=0)[:, 0] for label in (0, 1)]
    assert (of_class[0] > 0).mean() < 0.2
    assert (of_class[1] > 0).mean() > 0.8
