"""The seam holds: a family of rows that the package has not, from declared members.

``Mixed`` joins Gaussian and categorical columns. Entries may be missing, and its last
column is given to the decoder and the encoder: the code is about the others.
"""

import pickle

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from sklearn_mae import MutualAutoencoder
from sklearn_mae.encoders import GaussianEncoder, Posterior
from sklearn_mae.estimator import fitting, parts, saving
from sklearn_mae.families import ROW_FAMILIES, Likelihood, RowFamily, likelihood_names
from sklearn_mae.families.categorical import Categorical
from sklearn_mae.families.gaussian import Gaussian
from sklearn_mae.information import information_of_model, sandwich, weigh
from sklearn_mae.model import (
    LatentVariableModel,
    Pool,
    PrivateDistribution,
    RowDistribution,
    Rows,
    draw,
    mlp,
    private_random,
)
from sklearn_mae.parameters import OneOf
from sklearn_mae.records import array, entries
from tests.statistical import assert_mean_equal
from tests.toy_models import generator


class Joined(PrivateDistribution):
    """Columns of several families side by side, as floats."""

    has_rsample = False

    def __init__(self, columns):
        self.columns = columns  # pairs of a family and its p(x|z)
        first = columns[0][1]
        n_columns = sum(family.n_columns for family, _ in columns)
        super().__init__(first.batch_shape, torch.Size([n_columns]))

    def entry_log_prob(self, value):
        sizes = [family.n_columns for family, _ in self.columns]
        parts = zip(self.columns, value.split(sizes, -1), strict=True)
        return torch.cat(
            [
                p.entry_log_prob(x.long() if family.indices else x)
                for (family, p), x in parts
            ],
            -1,
        )

    def log_prob(self, value):
        return self.entry_log_prob(value).sum(-1)

    def sample(self, sample_shape=(), generator=None):
        parts = [draw(p, sample_shape, generator, False) for _, p in self.columns]
        return torch.cat([part.to(parts[0].dtype) for part in parts], -1)

    @property
    def point(self):
        parts = [family.point(p) for family, p in self.columns]
        return torch.cat([part.to(parts[0].dtype) for part in parts], -1)


class MixedLikelihood(Likelihood):
    def __init__(self, families, n_components, structure):
        super().__init__()
        self.families = families
        self.n_features = sum(family.n_columns for family in families)
        n_outputs = sum(family.n_outputs for family in families)
        sizes, activation = structure.hidden_layer_sizes, structure.activation
        self.decoder = mlp(n_components + 1, sizes, n_outputs, activation)
        self.tensors = nn.ModuleList()
        for family in families:
            of_family = nn.Module()
            for name, value in family.constants(structure.min_scale).items():
                of_family.register_buffer(name, value, persistent=False)
            for name, value in family.shared().items():
                of_family.register_parameter(name, nn.Parameter(value))
            self.tensors.append(of_family)

    def forward(self, z, given=None):
        given = z.new_zeros(1) if given is None else given
        shape = torch.broadcast_shapes(z.shape[:-1], given.shape[:-1])
        seen = torch.cat([z.expand(*shape, -1), given.expand(*shape, -1)], -1)
        sizes = [family.n_outputs for family in self.families]
        outputs = self.decoder(seen).split(sizes, -1)
        columns = []
        for family, tensors, some in zip(
            self.families, self.tensors, outputs, strict=True
        ):
            named = {
                **dict(tensors.named_buffers()),
                **dict(tensors.named_parameters()),
            }
            columns.append((family, family.distribution(some, named)))
        return Joined(columns)

    def decode(self, z, given=None):
        return self(z, given).point


class MixedFeatures(nn.Module):
    def __init__(self, families):
        super().__init__()
        self.families = families
        self.parts = nn.ModuleList(family.features() for family in families)

    def forward(self, values, observed=None, given=None):
        if observed is None:
            observed = torch.ones_like(values, dtype=torch.bool)
        given = values.new_zeros(1) if given is None else given
        sizes = [family.n_columns for family in self.families]
        seen = []
        for family, part, x, there in zip(
            self.families,
            self.parts,
            torch.where(observed, values, 0.0).split(sizes, -1),
            observed.split(sizes, -1),
            strict=True,
        ):
            repeats = torch.tensor(family.outcomes() or [1] * family.n_columns)
            features = part(x.long() if family.indices else x)
            seen.append(features * there.repeat_interleave(repeats, -1))
        mask = observed.to(values.dtype)
        given = given.expand(*values.shape[:-1], -1)
        return torch.cat([*seen, mask, given], -1)


class Mixed(RowFamily):
    """Columns: two numbers, a category, one that is given."""

    holes = True

    def describe(self, tags):
        tags.allow_nan = True

    def text_problem(self, X):
        return None

    def _split(self, X):
        return X[:, :2], X[:, 2:3]

    def fit(self, X, names=None, y=None):
        self.y = y
        self.families = Gaussian(), Categorical()
        self.usual_ = np.nanmean(X, axis=0)
        self.usual_[2] = np.nanmax(X[:, 2])
        filled = np.where(np.isnan(X), self.usual_, X)
        for family, some in zip(self.families, self._split(filled), strict=True):
            family.check(some, list)
            family.fit(some, list)
        rows = self.rows(X)
        self.observed_, self.given_ = rows.observed, rows.given
        return self

    n_varying = 3

    def log_volume(self, rows):
        return np.full(len(rows), np.log(self.families[0].scale_).sum())

    def rows(self, X, warn=True):
        filled = np.where(np.isnan(X), self.usual_, X)
        parts = zip(self.families, self._split(filled), strict=True)
        values = [family.encode(some, list) for family, some in parts]
        observed = ~np.isnan(X[:, :3])
        return Rows(np.concatenate(values, axis=1), observed, filled[:, 3:])

    def table(self, rows):
        numbers, categories = self.families
        parts = (
            numbers.decode(rows.values[..., :2]),
            categories.decode(rows.values[..., 2:].astype(int)),
        )
        given = rows.given
        if given is None:
            given = self.usual_[3:]
        shape = rows.values.shape[:-1]
        return np.concatenate([*parts, np.broadcast_to(given, (*shape, 1))], -1)

    def keys(self, X):
        return np.where(np.isnan(X), -1e3, X)

    def pool(self):
        given = torch.tensor(self.given_, dtype=torch.float64)
        return Pool(torch.tensor(self.observed_), given)

    def networks(self, structure):
        d, sizes = structure.n_components, structure.hidden_layer_sizes
        n_inputs = sum(family.n_inputs for family in self.families) + 3 + 1

        def network():
            return mlp(n_inputs, sizes, 2 * d, structure.activation)

        likelihood = MixedLikelihood(self.families, d, structure)
        encoder, posterior = GaussianEncoder(network()), Posterior(network())
        return likelihood, encoder, posterior, MixedFeatures(self.families)

    STATE = ("usual_", "observed_", "given_")

    def write(self):
        own = {name: getattr(self, name) for name in self.STATE}
        of_families = [
            {name: getattr(family, name) for name in family.state}
            for family in self.families
        ]
        return {**own, "numbers": of_families[0], "categories": of_families[1]}

    def read(self, state, structure, n_features):
        state = entries(state, (*self.STATE, "numbers", "categories"), "columns")
        self.usual_ = array(state["usual_"], np.float64, (4,), "usual_")
        n = len(state["observed_"])
        self.observed_ = array(state["observed_"], np.bool_, (n, 3), "observed_")
        self.given_ = array(state["given_"], np.float64, (n, 1), "given_")
        self.families = Gaussian(), Categorical()
        self.families[0].read(state["numbers"], 2)
        self.families[1].read(state["categories"], 1)
        return self


def made(n=300, holes=0.2, seed=0):
    rng = np.random.default_rng(seed)
    z, given = rng.normal(size=(n, 1)), rng.integers(0, 2, (n, 1)).astype(float)
    numbers = z * [1.0, -2.0] + given + 0.3 * rng.normal(size=(n, 2))
    category = 3.0 + 2 * np.digitize(z + 0.5 * rng.normal(size=(n, 1)), [-0.5, 0.5])
    X = np.concatenate([numbers, category, given], 1)
    X[:, :3][rng.random((n, 3)) < holes] = np.nan
    return X


@pytest.fixture(scope="module", autouse=True)
def _registered():
    """Name the family: what its line in the registry would do at import."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ROW_FAMILIES, "mixed", Mixed)
        allowed = [OneOf(*likelihood_names()), callable]
        patch.setitem(MutualAutoencoder._parameter_constraints, "likelihood", allowed)
        yield


def build(**params):
    settings = {"likelihood": "mixed", "hidden_layer_sizes": (16,), "n_components": 3}
    settings |= {"random_state": 0, "max_epochs": 30, "M": 1.0}
    return MutualAutoencoder(**{**settings, **params})


@pytest.fixture(scope="module")
def fitted(_registered):
    return build(max_epochs=250, lr=4e-3).fit(made())


# The record


def test_rows_are_indexed_and_broadcast_as_one():
    x = Rows(
        torch.arange(6.0).reshape(3, 2), torch.ones(3, 2).bool(), torch.zeros(3, 1)
    )

    assert len(x) == 3
    assert x.shape == (3, 2)
    assert x[1:].given.shape == (2, 1)
    assert [len(some) for some in x.split(2)] == [2, 1]
    assert x.unsqueeze(1).observed.shape == (3, 1, 2)
    double = x.to(torch.float64)
    assert (double.values.dtype, double.observed.dtype) == (torch.float64, torch.bool)
    assert Rows.of(x) is x
    assert x.context.keys() == {"observed", "given"}
    assert Rows(x.values).context == {}


def test_entries_that_are_not_observed_are_not_scored(fitted):
    model = fitted._fitted.evaluation.model
    x, z = fitted._fitted.seen(made(20)), torch.zeros(20, 3, dtype=torch.float64)
    other = Rows(torch.where(x.observed, x.values, 0.0), x.observed, x.given)

    assert not x.observed.all()
    assert not torch.equal(other.values, x.values)
    assert torch.equal(model.log_lik(x, z), model.log_lik(other, z))
    assert torch.equal(model.r(x).loc, model.r(other).loc)
    entries = model.p(z, x.given).entry_log_prob(x.values)
    assert_close(model.log_lik(x, z), (entries * x.observed).sum(-1))


def test_what_the_model_draws_has_contexts_of_fit_s_rows(fitted):
    """False alarm: one in a million for each figure."""
    model, X = fitted._fitted.evaluation.model, made()
    g = generator()
    p = model.rows(model.independent_codes(5_000, g), g)
    x = draw(p, (), g)

    assert isinstance(p, RowDistribution)
    assert not p.has_rsample
    holes = np.isnan(X[:, :3])
    patterns = {tuple(row) for row in ~holes}
    assert {tuple(row) for row in x.observed.tolist()} <= patterns
    assert_mean_equal(x.observed.double(), 1 - holes.mean(0), resolution=0.05)
    assert_mean_equal(x.given, X[:, 3:].mean(0), resolution=0.05)
    assert_close(p.log_prob(x), model.log_lik(x, p_codes(model)))


def p_codes(model):
    return model.independent_codes(5_000, generator())


def test_weights_use_what_is_given(fitted):
    model = fitted._fitted.evaluation.model
    z = torch.ones(2, 3, dtype=torch.float64)
    x = Rows(torch.zeros(2, 3, dtype=torch.float64), None, torch.tensor([[0.0], [1.0]]))
    x = x.to(torch.float64)

    first, second = model.log_lik(x, z)
    assert first != second
    # one code for all rows is not one decoding
    assert not model.many_codes
    assert model.outcomes() is None


# The estimator


def test_it_reaches_m_with_holes_and_a_given_column(fitted):
    """Of x_o given the pattern and the last column; against a brute-force estimate."""
    low, high = fitted.mutual_info_interval_
    assert max(high - 1, 1 - low) < 0.08
    assert abs(fitted.rate_ - 1) < 0.1 + 2 * fitted._fitted.rate_se

    model, g = fitted._fitted.evaluation.model, generator(3)
    n, n_codes = 1_000, 4_000
    with torch.no_grad():
        z0 = model.independent_codes(n, g)
        p = model.rows(z0, g)
        x = draw(p, (), g)
        others = model.independent_codes(n_codes, g).unsqueeze(1)
        log_marginal = torch.cat(
            [
                torch.logsumexp(model.log_lik(some, others), 0) - np.log(n_codes)
                for some in x.split(100)
            ]
        )
        integrand = p.log_prob(x) - log_marginal
    # the bias of n_codes draws is far below the noise
    assert_mean_equal(integrand, 0.5 * (low + high), resolution=0.2)


def test_bounds_are_bounds(fitted):
    model, g = fitted._fitted.evaluation.model, generator(1)
    with torch.no_grad():
        z0 = model.independent_codes(2_000, g)
        p = model.rows(z0, g)
        x = draw(p, (), g)
        weighted = weigh(model, x, z0, p.log_prob(x), model.r(x), 16, g)
        lower, upper = (side.mean() for side in sandwich(weighted))
    found = information_of_model(model, 500, 0.2, generator(2), 200_000)

    assert found.method == "sandwich"
    assert lower - 0.1 < found.estimate < upper + 0.1


def test_rows_keep_to_themselves(fitted):
    X = made(40, seed=1)
    Z = fitted.transform(X)

    assert np.isfinite(Z).all()
    for figure in ("transform", "score_samples", "rate", "log_likelihood"):
        whole, part = getattr(fitted, figure)(X), getattr(fitted, figure)(X[7:9])
        np.testing.assert_allclose(whole[7:9], part, rtol=1e-9, atol=1e-12)
    # a code may depend on what is given, and on which entries there are
    other = X.copy()
    other[:, 3] = 1 - other[:, 3]
    assert (fitted.transform(other) != Z).any()


def test_rows_come_back_as_rows_of_x(fitted):
    X = made(60, seed=2)
    drawn = fitted.sample(200, random_state=0)
    back, draws = fitted.reconstruct(X), fitted.reconstruct(X, 3, random_state=0)
    decoded = fitted.inverse_transform(fitted.transform(X))

    for rows in (drawn, back, draws, decoded):
        assert np.isfinite(rows).all()
        assert set(np.unique(rows[..., 2])) <= {3.0, 5.0, 7.0}
    assert draws.shape == (3, 60, 4)
    assert set(drawn[:, 3]) == {0.0, 1.0}
    np.testing.assert_array_equal(back[:, 3], X[:, 3])
    there = ~np.isnan(X[:, 1])
    errors = (back - X)[there, 1]
    assert (errors**2).mean() < np.nanvar(X[:, 1])


def test_y_comes_as_far_as_the_family():
    y = ["a"] * 300
    mae = build(max_epochs=1, M=None).fit(made(), y)

    assert mae._fitted.family.y is y


def test_it_is_saved_and_goes_on(fitted):
    X = made(30, seed=3)
    twin = pickle.loads(pickle.dumps(fitted))

    np.testing.assert_array_equal(twin.transform(X), fitted.transform(X))
    assert twin.mutual_info(200).estimate == fitted.mutual_info(200).estimate
    again = build(max_epochs=2, M=None, warm_start=True).fit(made()).fit(made())
    assert again.n_iter_ == 4


def test_parts_of_the_estimator_know_nothing_of_it():
    names = (fitting, parts, saving)
    assert not any("Mixed" in vars(module) for module in names)


def test_without_contexts_a_model_draws_values_alone():
    with private_random(0):
        likelihood = nn.Linear(1, 1)
        model = LatentVariableModel(
            likelihood, likelihood, likelihood, nn.Identity(), 1
        )

    assert model.pool.draw(3, generator()) == {"observed": None, "given": None}
    assert not model.state_dict().keys() & {"pool.observed", "pool.given"}
