"""One contract for every likelihood, encoder and gradient strategy.

Only what the package itself needs is imported here: the tests also run on the oldest
supported versions.
"""

import contextlib
import copy
import importlib.util
import itertools
import pickle

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import (
    AffineTransform,
    Independent,
    Laplace,
    MultivariateNormal,
    Normal,
    TanhTransform,
    TransformedDistribution,
)
from torch.testing import assert_close

from sklearn_mae.encoders import (
    Amortised,
    CategoryTable,
    GaussianEncoder,
    Posterior,
    Resampling,
    Standardised,
    UserEncoder,
)
from sklearn_mae.families import COLUMN_FAMILIES, TABLE_FAMILIES, Likelihood
from sklearn_mae.families.autoregressive import AutoregressiveTable
from sklearn_mae.families.autoregressive.networks import FilteringPosterior
from sklearn_mae.families.flow import FlowTable
from sklearn_mae.families.joined import Joined
from sklearn_mae.families.lstm import (
    SequenceFilter,
    SequenceLikelihood,
    SequenceReader,
)
from sklearn_mae.families.standard import standard_columns, standard_model
from sklearn_mae.families.table import TableLikelihood
from sklearn_mae.families.user import UserLikelihood
from sklearn_mae.gradients import Enumeration, Reinforce, Reparametrised
from sklearn_mae.information import sandwich, weigh
from sklearn_mae.model import DiagonalNormal, draw, mlp, private_random
from tests.statistical import assert_mean_equal
from tests.toy_models import generator, model_of_table, with_places

D_CODE = 2


# Modules as a user writes them: float32 and float64, no fixed tensors inside


class LaplaceColumns(nn.Module):
    """Has an analytic mean and reparametrised draws; batch of columns, no event."""

    def __init__(self, n_features, n_components):
        super().__init__()
        self.network = nn.Linear(n_components, 2 * n_features)

    def forward(self, z):
        loc, log_scale = self.network(z).chunk(2, -1)
        return Laplace(loc, log_scale.exp())


class IndependentCode(nn.Module):
    def __init__(self, n_features, n_components):
        super().__init__()
        self.network = nn.Linear(n_features, 2 * n_components)

    def forward(self, features):
        loc, log_scale = self.network(features).chunk(2, -1)
        return Independent(Normal(loc, log_scale.exp()), 1)


class CorrelatedCode(nn.Module):
    def __init__(self, n_features, n_components):
        super().__init__()
        self.d = n_components
        self.network = nn.Linear(n_features, n_components + n_components**2)

    def forward(self, features):
        loc, raw = self.network(features).tensor_split([self.d], -1)
        raw = raw.unflatten(-1, (self.d, self.d))
        scale = torch.diag_embed(raw.diagonal(dim1=-2, dim2=-1).exp())
        return MultivariateNormal(loc, scale_tril=raw.tril(-1) + scale)


class SquashedCode(IndependentCode):
    def forward(self, features):
        steps = [TanhTransform(cache_size=1), AffineTransform(0.0, 3.0)]
        return TransformedDistribution(super().forward(features), steps)


# so many of each column that what is left has a probability below 1e-12
N_COUNTS = 400

FAMILIES = {
    "gaussian": standard_columns("gaussian", 2),
    "isotropic": standard_columns("isotropic", 2),
    "heteroscedastic": standard_columns("heteroscedastic", 2),
    "lognormal": standard_columns("lognormal", 2),
    "student t": standard_columns("student_t", 2),
    "bernoulli": standard_columns("bernoulli", 3),
    "one category": standard_columns("categorical", (4,)),
    "ragged categories": standard_columns("categorical", (3, 2, 4)),
    "poisson": standard_columns("poisson", 2),
    "negative binomial": standard_columns("negative_binomial", 2),
}
# learned from rows of two numbers, of categories, of one of both
MIXED_ROWS = np.random.default_rng(0).normal(size=(60, 2))
MIXED_ROWS[:, 1] = MIXED_ROWS[:, 1] > 0
WHOLE_TABLES = {
    "autoregressive": AutoregressiveTable(Joined(["gaussian"] * 2)).fit(
        np.random.default_rng(1).normal(size=(60, 2))
    ),
    "autoregressive categories": AutoregressiveTable(Joined(["categorical"] * 3)).fit(
        np.random.default_rng(1).integers(0, [3, 2, 4], size=(60, 3))
    ),
    "autoregressive, both": AutoregressiveTable(
        Joined(["gaussian", "categorical"])
    ).fit(MIXED_ROWS),
}
if importlib.util.find_spec("zuko"):  # an extra
    WHOLE_TABLES["flow"] = FlowTable(Joined(["gaussian"] * 2)).fit(
        np.random.default_rng(1).normal(size=(60, 2))
    )
N_COLUMNS = {
    **{name: table.n_varying for name, table in WHOLE_TABLES.items()},
    **{name: family.n_columns for name, family in FAMILIES.items()},
    "sequence": 4,
    "callable": 2,
}
N_INDICES = 5  # pad, unknown word, end, two words
ENCODERS = {
    "gaussian": None,
    "resampling": None,
    "table": None,
    "independent normal": IndependentCode,
    "multivariate normal": CorrelatedCode,
    "transformed": SquashedCode,
}
STRATEGIES = (
    "reparametrised",
    "enumeration",
    "reinforce",
    "leave one out",
    "per entry",
)


def decoder(n_outputs):
    return mlp(D_CODE, (6,), n_outputs, "silu")


def build_likelihood(name):
    n_columns = N_COLUMNS[name]
    match name:
        case "sequence":
            sequence = SequenceLikelihood(N_INDICES, n_columns, (3, 6), D_CODE)
            return with_places(sequence)
        case "callable":
            return UserLikelihood(LaplaceColumns(n_columns, D_CODE), n_columns)
    return TableLikelihood(FAMILIES[name], decoder(FAMILIES[name].n_outputs))


def counts(name):
    """Whether rows are discrete, but cannot all be listed."""
    family = FAMILIES.get(name)
    return family is not None and family.discrete and family.outcomes() is None


def all_rows(name, model):
    """Every row that has a probability to speak of; None for densities."""
    if not counts(name):
        return model.likelihood.outcomes()
    axis = torch.arange(N_COUNTS, dtype=torch.float64)
    return torch.cartesian_prod(*[axis] * N_COLUMNS[name])


def build_features(name):
    if counts(name) or (name in FAMILIES and FAMILIES[name].indices):
        return FAMILIES[name].features(), FAMILIES[name].n_inputs
    n_columns = N_COLUMNS[name]
    return Standardised([0.2] * n_columns, [1.5] * n_columns), n_columns


def build_encoder(name, n_inputs):
    if name == "table":
        return GaussianEncoder(CategoryTable(n_inputs, D_CODE))
    if ENCODERS[name] is not None:
        return UserEncoder(ENCODERS[name](n_inputs, D_CODE))
    return GaussianEncoder.from_sizes(n_inputs, (6,), D_CODE, "silu")


def build_posterior(encoder, n_inputs):
    if encoder == "table":
        return Posterior(CategoryTable(n_inputs, D_CODE))
    return Posterior.from_sizes(n_inputs, (6,), D_CODE, "silu")


def reader():
    n_columns = N_COLUMNS["sequence"]
    return with_places(SequenceReader(N_INDICES, n_columns, (3, 6), 2 * D_CODE))


def build(likelihood="gaussian", encoder="gaussian", seed=0):
    """Return a model in float32, as training has it."""
    if likelihood in WHOLE_TABLES:
        encoder = ENCODERS[encoder] or "gaussian"
        model = model_of_table(WHOLE_TABLES[likelihood], encoder, seed=seed)
        return model.float()
    with private_random(seed):
        module = build_likelihood(likelihood)
        if likelihood == "sequence":
            features, n_inputs = None, N_COLUMNS[likelihood]
            own = {"encoder": GaussianEncoder(reader())}
            own["posterior"] = SequenceFilter(reader())
        else:
            features, n_inputs = build_features(likelihood)
            own = {"encoder": build_encoder(encoder, n_inputs)}
            own["posterior"] = build_posterior(encoder, n_inputs)
        model = standard_model(module, n_inputs, D_CODE, features=features, **own)
    return model.float()


def codes(n, model, seed=1):
    z = torch.randn(n, D_CODE, generator=generator(seed), dtype=torch.float64)
    return z.to(model.reference)


def rows(n, model, seed=2):
    """Rows as the model sees them."""
    with torch.no_grad():
        p = model.likelihood(codes(n, model, seed))
        return draw(p, (), generator(seed), reparametrised=False)


def build_strategy(name, model):
    """Return the strategy, or None where the likelihood does not allow it."""
    match name:
        case "reparametrised":
            p = model.likelihood(codes(1, model))
            return Reparametrised() if p.has_rsample else None
        case "enumeration":
            outcomes = model.outcomes()
            return None if outcomes is None else Enumeration(outcomes)
        case "per entry":
            if not isinstance(model.posterior, SequenceFilter | FilteringPosterior):
                return None
            return model.likelihood.score_gradient(model, plain=False)
    return Reinforce(leave_one_out=name == "leave one out")


def rule_of(encoder):
    return Resampling(3) if encoder == "resampling" else Amortised()


every_likelihood = pytest.mark.parametrize("likelihood", N_COLUMNS)
every_encoder = pytest.mark.parametrize("encoder", ENCODERS)
PAIRS = [
    (likelihood, encoder)
    for likelihood, encoder in itertools.product(N_COLUMNS, ENCODERS)
    if encoder != "table"
    or (likelihood in FAMILIES and FAMILIES[likelihood].encoder_network(D_CODE))
    # modules of columns read no words
    if encoder in ("gaussian", "resampling") or likelihood != "sequence"
]
every_pair = pytest.mark.parametrize(("likelihood", "encoder"), PAIRS)
TRIPLES = [
    (*pair, strategy)
    for pair, strategy in itertools.product(PAIRS, STRATEGIES)
    if build_strategy(strategy, build(pair[0])) is not None
]
every_triple = pytest.mark.parametrize(("likelihood", "encoder", "strategy"), TRIPLES)


def test_every_family_of_columns_is_held_to_it():
    assert {type(family) for family in FAMILIES.values()} == {*COLUMN_FAMILIES.values()}
    left_out = set() if "flow" in WHOLE_TABLES else {FlowTable}
    held = {type(table) for table in WHOLE_TABLES.values()}
    assert held == {*TABLE_FAMILIES.values()} - left_out


def test_every_strategy_meets_the_likelihoods_it_can():
    allowed = {(likelihood, strategy) for likelihood, _, strategy in TRIPLES}

    assert len(allowed) == 3 * 9 + 4 + 2 * 2 + 3 + 4 + 3 + 3 * ("flow" in WHOLE_TABLES)
    assert ("sequence", "per entry") in allowed
    assert ("bernoulli", "reparametrised") not in allowed
    assert ("callable", "enumeration") not in allowed


# Likelihoods


def tells_fisher_information(model):
    """Whether a likelihood declares it: the base class has none."""
    declared = type(model.likelihood).fisher_information
    return declared is not Likelihood.fisher_information


@every_likelihood
def test_likelihood_shapes(likelihood):
    model = build(likelihood)
    x, z = rows(5, model), codes(5, model)
    n_columns = N_COLUMNS[likelihood]
    p = model.likelihood(z)

    assert x.shape == (5, n_columns)
    assert (p.batch_shape, p.event_shape) == ((5,), (n_columns,))
    assert p.log_prob(x).shape == (5,)
    assert draw(p, (3, 2), generator()).shape == (3, 2, 5, n_columns)
    assert model.likelihood.n_features == n_columns
    assert model.likelihood.decode(z).shape == (5, n_columns)
    # k draws of each row's code; every row against every code
    stacked = torch.stack([z, 2 * z, -z])
    assert model.likelihood(stacked).log_prob(x).shape == (3, 5)
    assert p.log_prob(x[:4].unsqueeze(1)).shape == (4, 5)


@every_likelihood
def test_broadcasting_changes_no_log_density(likelihood):
    model = build(likelihood).double()
    x, z = rows(4, model), codes(3, model)
    table = model.likelihood(z).log_prob(x.unsqueeze(1))

    for i, j in itertools.product(range(4), range(3)):
        one = model.likelihood(z[j : j + 1]).log_prob(x[i : i + 1])
        assert_close(table[i, j], one[0])


def grid_of(likelihood):
    """Points that cover all rows of two columns, and what one of them stands for."""
    usual = (12, 161) if likelihood in WHOLE_TABLES else (40, 1201)
    far, n = (8, 321) if likelihood == "flow" else usual
    axis = torch.linspace(-far, far, n, dtype=torch.float64)
    if likelihood == "autoregressive, both":
        cell, pair = float(axis[1] - axis[0]), torch.arange(2.0).double()
        return torch.cartesian_prod(axis, pair), cell
    return torch.cartesian_prod(axis, axis), float(axis[1] - axis[0]) ** 2


@torch.no_grad()
def moments(likelihood, p):
    """Mean, variance and entropy of two columns, by sums over a grid."""
    grid, cell = grid_of(likelihood)
    log_prob = p.log_prob(grid.unsqueeze(1))
    weights = log_prob.exp() * cell
    mean = torch.einsum("sn,sd->nd", weights, grid)
    variance = torch.einsum("sn,sd->nd", weights, grid.square()) - mean.square()
    return mean, variance, -(weights * log_prob).sum(0)


@every_likelihood
def test_likelihood_is_normalised(likelihood):
    model = build(likelihood).double()
    p = model.likelihood(codes(3, model))
    outcomes = all_rows(likelihood, model)
    if outcomes is None:
        grid, cell = grid_of(likelihood)
        with torch.no_grad():
            parts = [p.log_prob(x.unsqueeze(1)).exp() for x in grid.split(50_000)]
        total = sum(part.sum(0) for part in parts) * cell
        # a density without Fisher information is not known to be smooth
        tolerance = 1e-6 if tells_fisher_information(model) else 1e-3
    else:
        assert len(outcomes.unique(dim=0)) == len(outcomes)
        total, tolerance = p.log_prob(outcomes.unsqueeze(1)).exp().sum(0), 1e-12

    assert_close(total, torch.ones_like(total), rtol=0, atol=tolerance)


@every_likelihood
def test_draws_have_the_distribution_s_moments(likelihood):
    model = build(likelihood).double()
    outcomes = model.likelihood.outcomes()
    with torch.no_grad():
        p = model.likelihood(codes(2, model))
        x = draw(p, (20_000,), generator(), reparametrised=False)
        if outcomes is not None:
            found = (x.unsqueeze(-2) == outcomes).all(-1).double()
            probabilities = p.log_prob(outcomes.unsqueeze(1)).exp()
            assert_mean_equal(found, probabilities.T.numpy(), resolution=0.03)
            return
        if likelihood in WHOLE_TABLES:
            mean, variance, _ = moments(likelihood, p)
        else:
            mean = p.mean
        if isinstance(p, DiagonalNormal):
            variance = (2 * p.log_scale).exp().expand_as(mean)
        elif likelihood not in WHOLE_TABLES:
            variance = p.variance
    scale = float(variance.sqrt().max())
    assert_mean_equal(x, mean.numpy(), resolution=0.06 * scale)
    assert_mean_equal((x - mean).square(), variance.numpy(), resolution=0.2 * scale**2)


@every_likelihood
def test_average_surprise_is_the_entropy(likelihood):
    """Draws and log_prob are of the same distribution."""
    model = build(likelihood).double()
    with torch.no_grad():
        p = model.likelihood(codes(2, model))
        x = draw(p, (20_000,), generator(), reparametrised=False)
        outcomes = all_rows(likelihood, model)
        if outcomes is None and likelihood in WHOLE_TABLES:
            entropy = moments(likelihood, p)[2]
        elif outcomes is None:
            entropy = p.entropy()
        else:
            log_prob = p.log_prob(outcomes.unsqueeze(1))
            entropy = -(log_prob.exp() * log_prob).sum(0)
            with contextlib.suppress(NotImplementedError):  # not all know their own
                assert_close(p.entropy(), entropy)
        assert_mean_equal(-p.log_prob(x), entropy.numpy(), resolution=0.06)


@every_likelihood
def test_point(likelihood):
    model = build(likelihood).double()
    z = codes(5, model)
    p, point = model.likelihood(z), model.likelihood.decode(z)

    if likelihood in WHOLE_TABLES:  # of draws: see test_autoregressive.py
        return
    if likelihood == "lognormal":  # the model sees logarithms
        mean = (p.loc + 0.5 * (2 * p.log_scale).exp()).exp()
        assert_close(
            FAMILIES[likelihood].decode(point.detach().numpy()), mean.detach().numpy()
        )
        return
    if rows(1, model).is_floating_point() and not counts(likelihood):
        assert_close(point, p.mean)
        return
    assert torch.equal(point, p.mode)
    if likelihood != "sequence":  # greedy rows of words: see test_lstm.py
        outcomes = all_rows(likelihood, model)
        best = p.log_prob(outcomes.unsqueeze(1)).argmax(0)
        assert torch.equal(point, outcomes[best])


@pytest.mark.parametrize("name", FAMILIES)
def test_rows_are_what_the_family_declares(name):
    """Indices, or values of a floating type; probabilities never exceed 1."""
    family, model = FAMILIES[name], build(name)
    x, z = rows(50, model), codes(50, model)
    outcomes = model.likelihood.outcomes()

    assert x.dtype == (torch.int64 if family.indices else torch.float32)
    assert outcomes is None or outcomes.dtype == x.dtype
    assert (outcomes is not None) == (family.outcomes() is not None)
    assert family.discrete or outcomes is None
    log_prob = model.likelihood(z).entry_log_prob(x)
    assert log_prob.shape == (50, family.n_columns)
    assert not family.discrete or (log_prob <= 0).all()


@every_likelihood
def test_fisher_information(likelihood):
    """The mean outer product of the score; a user's need not know it."""
    model = build(likelihood).double()
    z = codes(1, model).expand(20_000, -1).clone().requires_grad_()
    p = model.likelihood(z)
    x = draw(p, (), generator(), reparametrised=False)
    fisher = model.likelihood.fisher_information(z.detach(), x)
    assert (fisher is not None) == tells_fisher_information(model)
    if fisher is None:
        return
    (score,) = torch.autograd.grad(p.log_prob(x).sum(), z)
    products = score.unsqueeze(-1) * score.unsqueeze(-2)
    exact = fisher.detach().expand_as(products)

    assert_mean_equal(score, 0.0, resolution=0.1)
    # of a sequence given its prefixes, which differ from row to row
    resolution = 0.2 * float(exact.mean(0).max())
    assert_mean_equal(products - exact, 0.0, resolution=resolution)


# Encoders


@every_pair
def test_encoder_shapes(likelihood, encoder):
    model, rule = build(likelihood, encoder), rule_of(encoder)
    x = rows(5, model)
    q = model.q(x)
    z = draw(q, (4, rule.n_draws), generator())
    u = torch.rand(4, 5, generator=generator())

    assert z.shape == (4, rule.n_draws, 5, D_CODE)
    assert (q.batch_shape, q.event_shape) == ((5,), (D_CODE,))
    assert {part.shape for part in rule.bound(model, x, q, z)} == {(4, 5)}
    groups = torch.arange(4 * rule.n_draws).view(4, -1)
    mean = rule.mean_code(model, x, q, z.flatten(0, 1), groups)
    assert mean.shape == (5, D_CODE)
    assert rule.choose(model, x, q, z, u).shape == (4, 5, D_CODE)
    others = draw(q, (6, rule.n_draws - 1), generator(1))
    assert rule.log_density(model, x, q, z[0, 0], others).shape == (5,)
    assert model.log_weights(x, z, q).shape == z.shape[:-1]


@every_pair
def test_bound_is_minus_distortion_minus_rate(likelihood, encoder):
    model, rule = build(likelihood, encoder).double(), rule_of(encoder)
    x = rows(5, model)
    q = model.q(x)
    elbo, distortion, rate = rule.bound(
        model, x, q, draw(q, (4, rule.n_draws), generator())
    )

    assert_close(elbo, -(distortion + rate))
    assert elbo.isfinite().all()


@every_encoder
def test_encoder_is_normalised(encoder):
    model = build("one category" if encoder == "table" else "gaussian", encoder)
    model.double()
    x = rows(2, model)
    q = model.q(x)
    width = 3.0 if encoder == "transformed" else 20.0
    # midpoints: the squashed density ends at the grid's
    axis = (torch.arange(800, dtype=torch.float64) + 0.5) / 400 - 1
    grid = width * torch.cartesian_prod(axis, axis).unsqueeze(1)
    with torch.no_grad():
        density = q.log_prob(grid).exp()
    total = density.sum(0) * (width / 400) ** 2
    mean = (density.unsqueeze(-1) * grid).sum(0) * (width / 400) ** 2

    assert_close(total, torch.ones_like(total), rtol=0, atol=2e-3)
    z = draw(q, (20_000,), generator()).detach()
    assert_mean_equal(z, mean.numpy(), resolution=0.3)


@every_encoder
def test_bound_stays_below_the_likelihood(encoder):
    """For each row of an enumerable x, against a sum over a fine grid of codes."""
    model = build("one category", encoder).double()
    rule, x = rule_of(encoder), model.likelihood.outcomes()
    axis = torch.linspace(-7, 7, 141, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis).unsqueeze(1)
    q = model.q(x)
    with torch.no_grad():
        exact = torch.logsumexp(model.log_joint(x, grid), 0) + 2 * np.log(0.1)
        z = draw(q, (40_000, rule.n_draws), generator())
        elbo = rule.bound(model, x, q, z).elbo
        log_w = model.log_weights(x, z.flatten(0, 1), q)

    assert_close(exact.exp().sum(), torch.ones(()).double())
    standard_error = elbo.std(0) / len(elbo) ** 0.5
    assert (elbo.mean(0) < exact + 5 * standard_error).all()
    if encoder != "transformed":  # its weights vanish beyond the squashed range
        assert_mean_equal((log_w - exact).exp(), 1.0, resolution=0.3)


# Strategies, and all three together


def step(model, rule, strategy, g):
    """Everything that a training step differentiates, as one number."""
    x = rows(6, model)
    q = model.q(x)
    z0 = codes(16, model, seed=5)

    def bounds(x, log_lik):
        r = model.r(x)
        weighted = weigh(model, x, z0, log_lik, r, 3, g)
        # of a filter also what the prefixes tell
        return *sandwich(weighted), model.posterior.objective(r, z0)

    bound = rule.bound(model, x, q, draw(q, (rule.n_draws,), g))
    values = strategy.expectation(model.rows(z0, g), bounds, g)
    return bound, values


@every_triple
def test_gradient_reaches_every_parameter(likelihood, encoder, strategy):
    model = build(likelihood, encoder)
    bound, values = step(
        model, rule_of(encoder), build_strategy(strategy, model), generator()
    )
    assert {value.shape for value in values} == {(16,)}
    sum(part.mean() for part in (bound.elbo, *values)).backward()

    for name, parameter in model.named_parameters():
        gradient = parameter.grad
        assert gradient is not None, name
        assert gradient.isfinite().all(), name
        assert gradient.abs().max() > 0, name


@every_triple
def test_strategy_changes_no_value(likelihood, encoder, strategy):
    """It is the plain mean: of f at the draws, or over all outcomes."""
    model = build(likelihood, encoder).double()
    z0 = codes(16, model)
    p = model.rows(z0, generator())

    def f(x, log_prob):
        return log_prob + 1, (model.r(x).log_prob(z0) - log_prob) ** 2

    values = build_strategy(strategy, model).expectation(p, f, generator())
    if strategy == "enumeration":
        x = model.outcomes().unsqueeze(1)
        log_prob = p.log_prob(x)
        plain = [(log_prob.exp() * value).sum(0) for value in f(x, log_prob)]
    else:
        x = draw(p, (), generator(), reparametrised=False)
        plain = f(x, p.log_prob(x))

    for value, expected in zip(values, plain, strict=True):
        assert_close(value, expected, rtol=1e-12, atol=1e-12)


def figures(model, rule):
    """A few numbers that depend on every part of a model."""
    x, z = rows(5, model), codes(5, model)
    q = model.q(x)
    with torch.no_grad():
        bound = rule.bound(model, x, q, draw(q, (2, rule.n_draws), generator()))
        return x, [*bound, model.likelihood(z).log_prob(x), model.r(x).log_prob(z)]


@every_pair
def test_copies_are_equal_and_apart(likelihood, encoder):
    model, rule = build(likelihood, encoder), rule_of(encoder)
    _, expected = figures(model, rule)

    for twin in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        _, found = figures(twin, rule)
        for one, other in zip(found, expected, strict=True):
            assert_close(one, other, rtol=0, atol=0)
        with torch.no_grad():
            for parameter in twin.parameters():
                parameter.add_(1.0)
    _, after = figures(model, rule)
    for one, other in zip(after, expected, strict=True):
        assert_close(one, other, rtol=0, atol=0)


@every_pair
def test_double_precision(likelihood, encoder):
    """Training is in float32, inference in float64, with the same figures."""
    single, rule = build(likelihood, encoder), rule_of(encoder)
    double = copy.deepcopy(single).double()
    x, z = rows(5, double), codes(5, double)
    x_single = x.float() if x.is_floating_point() else x
    q = double.q(x)
    noise = draw(q, (rule.n_draws,), generator()).detach()
    pairs = zip(
        rule.bound(double, x, q, noise),
        rule.bound(single, x_single, single.q(x_single), noise.float()),
        strict=True,
    )

    for one, other in pairs:
        assert (one.dtype, other.dtype) == (torch.float64, torch.float32)
        assert_close(one.float(), other, rtol=1e-3, atol=1e-3)
    assert double.likelihood.decode(z).dtype == x.dtype
    assert draw(double.likelihood(z), (), generator()).dtype == x.dtype
    assert double.stratified_codes(3, generator()).dtype == torch.float64


@every_pair
def test_state_dict_restores_a_model(likelihood, encoder):
    model, rule = build(likelihood, encoder), rule_of(encoder)
    other = build(likelihood, encoder, seed=1)
    other.load_state_dict(model.state_dict())

    _, expected = figures(model, rule)
    for one, two in zip(figures(other, rule)[1], expected, strict=True):
        assert_close(one, two, rtol=0, atol=0)
