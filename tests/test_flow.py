"""Tables of continuous numbers under a flow."""

import builtins
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import make_moons
from sklearn.exceptions import ConvergenceWarning
from torch.testing import assert_close

from sklearn_mae import MutualAutoencoder
from sklearn_mae.families import row_family
from sklearn_mae.families.base import Structure
from sklearn_mae.model import LatentVariableModel, Rows, private_random

X, _ = make_moons(300, noise=0.1, random_state=0)


@pytest.fixture(scope="module")
def mae():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return MutualAutoencoder(
            M=1,
            likelihood="flow",
            encoder="gaussian",
            n_components=2,
            hidden_layer_sizes=(8,),
            max_epochs=5,
            lr=5e-3,
            random_state=0,
        ).fit(X)


def test_a_flow_is_fitted_and_drawn_from(mae):
    low, high = mae.mutual_info_interval_

    assert mae.likelihood_ == "flow"
    assert low <= high
    assert mae.sample(7, random_state=0).shape == (7, 2)
    assert_close(mae.sample(7, random_state=0), mae.sample(7, random_state=0))
    assert np.isfinite(mae.score_samples(X[:5])).all()


def test_codes_decode_to_the_means_of_seeded_draws(mae):
    Z = mae.transform(X[:3])
    point = mae.inverse_transform(Z)
    with private_random(0):
        z = torch.tensor(Z[0]).expand(4_000, -1)
        drawn = mae._fitted.evaluation.model.likelihood(z).sample().numpy()
    drawn = drawn * X.std(0) + X.mean(0)

    assert (abs(point[0] - drawn.mean(0)) < 5 * drawn.std(0) / 16).all()
    assert_close(mae.inverse_transform(Z[:1]), point[:1])


def test_a_flow_begins_without_the_code():
    family = row_family(("flow", "gaussian", "gaussian")).fit(X)
    structure = Structure(3, "gaussian", ("flow",), (8,), "silu", 0.01)
    with private_random(0):
        model = LatentVariableModel(*family.networks(structure), 3).double()
    x = Rows(torch.tensor(family.rows(X[:9]).values))
    z = torch.randn(9, 3, dtype=torch.float64)

    assert_close(model.log_lik(x, z), model.likelihood.log_prob_alone(x))
    model.likelihood.log_prob_alone(x).sum().backward()
    first = model.likelihood.module.transform.transforms[0].hyper[0].weight.grad
    assert (first[:, -3:] == 0).all()
    assert (first[:, :-3] != 0).any()


def test_a_code_comes_in_through_the_parameters_when_held_alone():
    family = row_family(("flow", "gaussian", "gaussian")).fit(X)
    structure = Structure(3, "gaussian", ("flow",), (8,), "silu", 0.01)
    with private_random(0):
        likelihood = family.likelihood(structure).double()
    of_code = {id(p) for p in likelihood.parameters_when_held()}
    x = Rows(torch.tensor(family.rows(X[:9]).values))
    z = torch.randn(9, 3, dtype=torch.float64)
    with torch.no_grad():
        for parameter in likelihood.parameters():
            if id(parameter) not in of_code:
                parameter += 0.1 * torch.randn_like(parameter)

        assert_close(x.log_prob(likelihood(z)), likelihood.log_prob_alone(x))
        for parameter in likelihood.parameters_when_held():
            parameter += 0.1 * torch.randn_like(parameter)
        assert (x.log_prob(likelihood(z)) != likelihood.log_prob_alone(x)).all()


def test_missing_entries_are_refused():
    holes = X.copy()
    holes[3, 1] = np.nan
    with pytest.raises(ValueError, match=r"NaN\. Column\(s\) 1 hold .* flows"):
        MutualAutoencoder(likelihood="flow").fit(holes)


def test_nothing_is_filled(mae):
    with pytest.raises(ValueError, match="likelihood='flow' no entry of a row can"):
        mae.impute(X)


def test_categories_are_refused():
    frame = pd.DataFrame({"x": X[:, 0], "name": np.where(X[:, 1] > 0, "up", "down")})
    with pytest.raises(ValueError, match=r"column\(s\) name of X hold categories"):
        MutualAutoencoder(likelihood="flow").fit(frame)


def test_zuko_is_asked_for(monkeypatch):
    found = builtins.__import__

    def without_zuko(name, *args, **kwargs):
        if name.startswith("zuko"):
            raise ImportError(name)
        return found(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_zuko)
    with pytest.raises(ImportError, match="pip install zuko"):
        MutualAutoencoder(likelihood="flow").fit(X)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("others", [0, 1], ids=["alone", "beside a constant"])
def test_a_flow_of_one_column_that_varies(others):
    table = np.column_stack([X[:, 0], *[np.ones(len(X))] * others])
    mae = MutualAutoencoder(
        likelihood="flow", n_components=1, max_epochs=2, random_state=0
    ).fit(table)

    assert np.isfinite(mae.log_likelihood(table)).all()
    assert mae.sample(5, random_state=0).shape == (5, 1 + others)
