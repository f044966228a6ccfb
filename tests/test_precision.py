"""Single precision where it is as good: the same figures, a function of the row."""

import pytest
import torch
from torch.testing import assert_close

from sklearn_mae.encoders import Amortised, Resampling
from sklearn_mae.evaluation import FARTHEST, MixedPrecision
from sklearn_mae.families.standard import set_scale
from sklearn_mae.model import Rows, in_single_precision
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
