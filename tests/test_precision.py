"""Single precision where it is as good: the same figures, a function of the row."""

import math

import pytest
import torch
from torch.testing import assert_close

from sklearn_mae.encoders import Amortised, Resampling
from sklearn_mae.evaluation import FARTHEST, MixedPrecision
from sklearn_mae.families.standard import set_scale
from sklearn_mae.information.bounds import sandwich, weigh
from sklearn_mae.model import Rows, draw, in_single_precision, without_underflow
from tests.toy_models import LinearGaussian, generator, random_model
from tests.toy_nets import sequences

RULES = {"gaussian": Amortised(), "resampling": Resampling(5)}
every_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
COLUMNS = {
    "gaussian": 20,
    "isotropic": 8,
    "heteroscedastic": 7,
    "bernoulli": 9,
    "categorical": (3, 2, 5),
    "poisson": 4,
}


def rows(model, n=200):
    """Rows, laid out column by column as those of a data frame are."""
    g = generator(3)
    with torch.no_grad():
        x = model.likelihood(model.independent_codes(n, g)).sample((), g)
    return x.T.contiguous().T


def figures(by, x, noise):
    return {
        "mean codes": by.mean_codes(x),
        "draws": by.encoded_draws(x, noise),
        **by.bound(x)._asdict(),
        "rotated": by.bound(x, noise).elbo,
    }


@every_rule
@pytest.mark.parametrize("kind", COLUMNS)
def test_a_row_s_figures_are_its_own_to_the_bit(kind, rule):
    model = random_model(kind, COLUMNS[kind], 3, sharpness=1.0)
    by = MixedPrecision(model, rule, 0)
    assert by.single is not None
    x = rows(model)
    noise = torch.randn(len(x), by.exact.n_noise, generator=generator()).double()
    together = figures(by, Rows(x), noise)
    order = torch.randperm(len(x), generator=generator(1))
    shuffled = figures(by, Rows(x[order]), noise[order])
    some = slice(61, 132)
    part = figures(by, Rows(x[some]), noise[some])
    alone = figures(by, Rows(x[70:71]), noise[70:71])
    exact = figures(by.exact, Rows(x), noise)

    for name, values in together.items():
        assert values.dtype == torch.float64, name
        assert torch.equal(values[order], shuffled[name]), name
        assert torch.equal(values[some], part[name]), name
        assert torch.equal(values[70:71], alone[name]), name
        # a draw may be another of the k where u is next to a cumulated weight
        near = torch.isclose(values, exact[name], rtol=1e-4, atol=1e-4)
        assert near.double().mean() > (0.97 if name == "draws" else 0.9999), name
    assert torch.equal(together["elbo"], -(together["distortion"] + together["rate"]))


def test_rows_far_away_are_computed_in_double_precision():
    model = LinearGaussian(2, 3)
    by = MixedPrecision(model, Amortised(), 0)
    x = rows(model, 4)
    x[1] = 1e30
    x[2] = 1.01 * FARTHEST
    codes, exact = by.mean_codes(Rows(x)), by.exact.mean_codes(Rows(x))

    assert codes.isfinite().all()
    assert torch.equal(codes[1:3], exact[1:3])
    assert not torch.equal(codes[0], exact[0])
    assert_close(codes[[0, 3]], exact[[0, 3]], rtol=1e-4, atol=1e-5)


def test_noise_below_single_precision_keeps_to_double():
    model = LinearGaussian(2, 3)
    assert in_single_precision(model, generator()) is not None
    model.likelihood.floor.fill_(-40.0)
    set_scale(model.likelihood, 1e-7)

    assert in_single_precision(model, generator()) is None
    by = MixedPrecision(model, Amortised(), 0)
    x = Rows(rows(model, 5))
    assert by.single is None
    assert torch.equal(by.mean_codes(x), by.exact.mean_codes(x))


def test_a_diverged_model_keeps_to_double():
    model = LinearGaussian(2, 3)
    with torch.no_grad():
        model.likelihood.decoder.weight.fill_(torch.nan)

    assert in_single_precision(model, generator()) is None


def test_sequences_keep_to_double():
    assert MixedPrecision(sequences(), Amortised(), 0).single is None


def test_the_model_stays_as_it_was():
    model = LinearGaussian(2, 3)
    single = in_single_precision(model, generator())

    assert {p.dtype for p in model.parameters()} == {torch.float64}
    assert {p.dtype for p in single.parameters()} == {torch.float32}


# --- weights below rounding -----------------------------------------------------------

APART = torch.tensor([0.0, -1.0, -20.0, -60.0, -95.0, -104.0, -1e6])
both_precisions = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


@both_precisions
def test_weights_left_out_change_no_sum(dtype):
    log_w = APART.to(dtype)[:, None] + torch.tensor([0.0, 1e4, -1e12], dtype=dtype)
    found = without_underflow(log_w, 0)

    assert torch.equal(torch.logsumexp(found, 0), torch.logsumexp(log_w, 0))
    assert torch.equal(found[:3], log_w[:3])


@both_precisions
def test_gradients_are_zero_or_not_denormal(dtype):
    log_w = APART.to(dtype).requires_grad_()
    sums = [torch.logsumexp(w, 0) for w in (log_w, without_underflow(log_w, 0))]
    plain, found = (torch.autograd.grad(total, log_w)[0] for total in sums)

    tiny = torch.finfo(dtype).tiny
    if dtype == torch.float32:
        assert ((plain > 0) & (plain < tiny)).any()  # what it is there for
    assert ((found == 0) | (found > tiny)).all()
    torch.testing.assert_close(
        found, plain, rtol=1e-5, atol=torch.finfo(dtype).eps ** 2
    )


def test_weights_along_another_axis_and_infinite_ones():
    log_w = torch.tensor([[0.0, -math.inf, -500.0], [3.0, 2.0, math.nan]])
    found = without_underflow(log_w, 1)

    assert found[0].tolist() == [0.0, -math.inf, -math.inf]
    assert torch.equal(found[1, :2], log_w[1, :2])
    assert found[1, 2].isnan()


@pytest.mark.parametrize("rule", ["encoder", "constraint"])
def test_training_makes_no_denormal_gradients(rule):
    """Of codes that explain a row worse by 87 to 104 nats."""
    model = random_model("gaussian", 64, 2, seed=1).float()
    set_scale(model.likelihood, 0.3)
    g = generator(0)
    z0 = model.independent_codes(500, g)
    x = draw(model.rows(z0, g), (), g, reparametrised=False)
    q = model.q(x)
    z = draw(q, (5,), g).detach()
    plain = torch.softmax(model.log_weights(x, z, q), 0)
    gradients = []

    def keep(decoder, given, outputs):
        outputs.register_hook(gradients.append)

    model.likelihood.decoder.register_forward_hook(keep)
    if rule == "encoder":
        bound = Resampling(5).bound(model, x, q, z)
        total = (bound.distortion + bound.rate).sum()
    else:
        weighted = weigh(model, x, z0, model.log_lik(x, z0), q, 5, g)
        total = sum(side.sum() for side in sandwich(weighted))
    total.backward()

    tiny = torch.finfo(torch.float32).tiny
    assert ((plain > 0) & (plain < tiny)).any()
    found = torch.cat([gradient.flatten() for gradient in gradients]).abs()
    assert (found > 0).any()
    assert not ((found > 0) & (found < tiny)).any()
