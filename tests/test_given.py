"""A likelihood that is given a label, beside a model that knows its own truth."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from sklearn_mae.encoders import GaussianEncoder, Posterior
from sklearn_mae.families import GivenLikelihood
from sklearn_mae.families.standard import set_scale, standard_likelihood
from sklearn_mae.information import information_of_model
from sklearn_mae.model import LatentVariableModel, Pool, Rows, draw
from tests.toy_models import LinearGaussian, generator

D, d = 4, 2


def build():
    """x = W z + U g + b + sigma e: given g what LinearGaussian is, r_omega exact."""
    plain = LinearGaussian(d, D)
    shifts = torch.randn(D, 2, generator=generator(5), dtype=torch.float64)
    inner = standard_likelihood("gaussian", nn.Linear(d + 2, D), D)
    posterior = Posterior(nn.Linear(D + 2, 2 * d))
    model = LatentVariableModel(
        GivenLikelihood(inner, d, torch.tensor([1.0, 0.0])),
        GaussianEncoder(nn.Linear(D, 2 * d)),
        posterior,
        nn.Identity(),
        d,
        Pool(None, torch.eye(2), torch.tensor([300, 100])),
        blind=True,
    ).double()
    set_scale(inner, plain.sigma)
    gain = plain.posterior.network.weight[:d]
    with torch.no_grad():
        inner.decoder.weight.copy_(torch.cat([plain.W, shifts], 1))
        inner.decoder.bias.copy_(plain.b)
        of_given = torch.cat([-gain @ shifts, torch.zeros(d, 2, dtype=torch.float64)])
        weight = torch.cat([plain.posterior.network.weight, of_given], 1)
        posterior.network.weight.copy_(weight)
        posterior.network.bias.copy_(plain.posterior.network.bias)
    return model, plain, shifts


@pytest.fixture(scope="module")
def models():
    return build()


def rows_of(n=5):
    x = torch.randn(n, D, generator=generator(1), dtype=torch.float64)
    given = torch.eye(2, dtype=torch.float64)[torch.arange(n) % 2]
    z = torch.randn(n, d, generator=generator(2), dtype=torch.float64)
    return Rows(x, None, given), z


def test_the_decoder_sees_what_is_given(models):
    model, plain, shifts = models
    x, z = rows_of()

    unshifted = x.values - x.given @ shifts.mT
    assert_close(model.log_lik(x, z), plain.log_lik(unshifted, z))
    # several draws of codes
    some = torch.stack([z, z + 1])
    assert_close(model.log_lik(x, some)[0], model.log_lik(x, z))
    decoded = model.likelihood.decode(z, x.given)
    assert_close(decoded, z @ plain.W.mT + plain.b + x.given @ shifts.mT)


def test_where_nothing_is_given_there_is_a_usual_value(models):
    model, _, _ = models
    _, z = rows_of()

    usual = torch.tensor([1.0, 0.0], dtype=torch.float64)
    assert_close(model.likelihood.decode(z), model.likelihood.decode(z, usual))


def test_r_omega_sees_it_and_the_encoder_does_not(models):
    model, plain, shifts = models
    x, z = rows_of()
    other = Rows(x.values, None, x.given.flip(-1))

    assert_close(model.q(x).loc, model.q(other).loc)
    unshifted = x.values - x.given @ shifts.mT
    assert_close(model.r(x).log_prob(z), plain.r(unshifted).log_prob(z))
    # an exact posterior has the same weights for all codes
    weights = model.log_weights(x, torch.stack([z, z + 1]), model.r(x))
    assert_close(weights[0], weights[1])


def test_information_is_that_given_it(models):
    model, plain, _ = models
    found = information_of_model(model, 500, 0.05, generator())

    # r_omega is exact: the bracket has no gap; 4 se: once in 16,000
    assert found.method == "sandwich"
    assert abs(found.lower - plain.information) < 4 * found.lower_se + 1e-6
    assert abs(found.upper - plain.information) < 4 * found.upper_se + 1e-6
    assert found.width < 0.3


def test_fisher_information_is_that_of_the_code(models):
    model, plain, _ = models
    x, z = rows_of()

    found = model.likelihood.fisher_information(z, x)
    expected = plain.W.mT @ plain.W / plain.sigma**2
    assert_close(found, expected.expand(len(z), d, d), rtol=1e-5, atol=1e-6)


def test_expected_value_of_a_mixture(models):
    model, _, _ = models
    x, z = rows_of()
    codes = torch.stack([z, z + 1])
    weights = torch.tensor([[0.25], [0.75]], dtype=torch.float64).expand(2, len(z))

    found = model.likelihood.expected(codes, weights, x.given)
    parts = [model.likelihood.decode(part, x.given) for part in codes]
    assert_close(found, 0.25 * parts[0] + 0.75 * parts[1])


def test_rows_of_the_model_have_the_pools_frequencies(models):
    model, _, _ = models
    z = torch.zeros(4000, d, dtype=torch.float64)
    x = draw(model.rows(z, generator()), (), generator(1))

    # 5 se
    assert float(x.given[:, 0].mean()) == pytest.approx(0.75, abs=0.035)
    assert model.outcomes() is None
    assert model.likelihood.outcomes() is None


def test_costs_are_those_of_the_family(models):
    model, _, _ = models
    outer, inner = model.likelihood, model.likelihood.inner

    assert (outer.cost, outer.n_features) == (inner.cost, D)
    assert (outer.n_numbers, outer.repeatable) == (inner.n_numbers, inner.repeatable)
    strategy = outer.score_gradient(model, plain=False)
    assert type(strategy) is type(
        LinearGaussian(d, D).likelihood.score_gradient(
            LinearGaussian(d, D), plain=False
        )
    )
