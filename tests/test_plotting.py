"""Displays: what is drawn is what the estimator's methods say."""

import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot
from scipy.stats import norm
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import Bunch
from torch import nn
from torch.distributions import Independent, Normal

from sklearn_mae import MutualAutoencoder, SequenceVectorizer
from sklearn_mae.plotting import (
    CategoriesDisplay,
    ConditionalsDisplay,
    InformationPathDisplay,
    PosteriorsDisplay,
)

mpl.use("Agg")
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

rng = np.random.default_rng(0)
NUMBERS = 100 + 5 * rng.normal(size=(60, 1))
CATEGORIES = np.repeat([2.0, 3.0, 7.0], 20)[:, None]


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    pyplot.close("all")


def fit(X, **params):
    settings = {"n_components": 1, "hidden_layer_sizes": (16,), "max_epochs": 50}
    return MutualAutoencoder(random_state=0, **{**settings, **params}).fit(X)


@pytest.fixture(scope="module")
def of_numbers():
    return fit(NUMBERS, likelihood="heteroscedastic")


@pytest.fixture(scope="module")
def of_counts():
    return fit(rng.poisson(20, size=(60, 1)), likelihood="negative_binomial")


@pytest.fixture(scope="module")
def of_categories():
    return fit(CATEGORIES, likelihood="categorical", C=5)


def draw(name, of_numbers, of_categories, **kwargs):
    match name:
        case "conditionals":
            return ConditionalsDisplay.from_estimator(of_numbers, **kwargs)
        case "categories":
            return CategoriesDisplay.from_estimator(of_categories, [2, 3, 7], **kwargs)
        case "model" | "encoder":
            return PosteriorsDisplay.from_estimator(
                of_categories, [[2], [3], [7]], of=name, **kwargs
            )


every_display = pytest.mark.parametrize(
    "name", ["conditionals", "categories", "model", "encoder"]
)


@every_display
def test_convention(name, of_numbers, of_categories):
    display = draw(name, of_numbers, of_categories)

    assert display.ax_.figure is display.figure_
    assert display.ax_.get_xlabel()
    assert display.ax_.get_ylabel()
    _, ax = pyplot.subplots()
    assert display.plot(ax) is display
    assert display.ax_ is ax


@every_display
def test_given_axes_are_used(name, of_numbers, of_categories):
    figure, (left, right) = pyplot.subplots(1, 2)

    display = draw(name, of_numbers, of_categories, ax=right)

    assert display.ax_ is right
    assert display.figure_ is figure
    assert not left.has_data()


@every_display
def test_pipelines_and_searches(name, of_numbers, of_categories):
    expected = draw(name, of_numbers, of_categories)
    inside = lambda mae: make_pipeline("passthrough", make_pipeline(None, mae))

    def search(mae):
        found = GridSearchCV(MutualAutoencoder(), {})
        found.best_estimator_ = mae
        return found

    for around in (inside, search):
        display = draw(name, around(of_numbers), around(of_categories))
        for key, value in vars(expected).items():
            if isinstance(value, np.ndarray):
                np.testing.assert_array_equal(vars(display)[key], value)


def test_posteriors_of_rows_in_a_pipeline(of_categories):
    double = FunctionTransformer(lambda X: np.asarray(X) / 2)
    pipeline = make_pipeline(double, of_categories)

    display = PosteriorsDisplay.from_estimator(pipeline, [[4], [6], [14]])

    expected = PosteriorsDisplay.from_estimator(of_categories, [[2], [3], [7]])
    np.testing.assert_array_equal(display.density, expected.density)


@pytest.mark.parametrize("name", ["conditionals", "categories", "model"])
def test_what_holds_no_autoencoder(name):
    with pytest.raises(TypeError, match=r"Display needs a MutualAutoencoder, alone"):
        draw(name, make_pipeline("passthrough"), make_pipeline("passthrough"))


def test_posteriors_of_masked_rows(of_categories):
    rows = np.ma.array([[2.0], [3.0]], mask=[[True], [False]])

    display = PosteriorsDisplay.from_estimator(of_categories, rows)
    # of a row without entries it is the prior
    near = abs(display.z) < 2
    np.testing.assert_allclose(
        display.density[0][near], norm.pdf(display.z[near]), rtol=0.2
    )


def test_conditionals_divide_the_density(of_numbers):
    x = np.linspace(60, 140, 2_001)
    display = ConditionalsDisplay.from_estimator(of_numbers, [-1.0, 0.5], x=x)

    for line, z, curve in zip(display.lines_, display.z, display.density, strict=True):
        np.testing.assert_array_equal(line.get_ydata(), curve)
        assert np.trapezoid(curve, x) == pytest.approx(norm.pdf(z), rel=1e-4)


def test_conditionals_find_their_range(of_numbers):
    display = ConditionalsDisplay.from_estimator(of_numbers)

    low, high = display.x[[0, -1]]
    assert low < NUMBERS.mean() < high
    assert 0.5 < (high - low) / np.ptp(NUMBERS) < 3
    assert len(display.lines_) == 6
    assert (
        len(
            {
                line.get_color()
                if isinstance(line.get_color(), str)
                else tuple(line.get_color())
                for line in display.lines_
            }
        )
        == 6
    )


def test_style_is_handed_on(of_numbers):
    display = ConditionalsDisplay.from_estimator(of_numbers, color="k", linestyle="--")

    assert {(line.get_color(), line.get_linestyle()) for line in display.lines_} == {
        ("k", "--")
    }


def test_categories_divide_one(of_categories):
    display = CategoriesDisplay.from_estimator(of_categories, [2, 3, 7])

    assert len(display.patches_) == 3
    np.testing.assert_allclose(display.probability.sum(axis=0), 1, rtol=1e-9)
    alone = of_categories.conditional_log_prob([[3]], [[display.z[100]]])
    assert display.probability[1, 100] == pytest.approx(np.exp(alone[0]))


@pytest.mark.parametrize("likelihood", ["gaussian", "heteroscedastic"])
def test_densities_are_not_drawn_as_probabilities(likelihood):
    mae = fit(NUMBERS, likelihood=likelihood, max_epochs=1)

    with pytest.raises(ValueError, match=rf"'{likelihood}', gives densities\. Use Con"):
        CategoriesDisplay.from_estimator(mae, [100, 101])


class OneNormal(nn.Module):
    def forward(self, z):
        return Independent(Normal(z, 1e-3 * torch.ones_like(z)), 1)


def test_densities_of_a_users_likelihood_are_not_either():
    mae = fit(NUMBERS, likelihood=lambda *sizes: OneNormal(), max_epochs=1)

    with pytest.raises(ValueError, match=r"add up to .* if the estimator's likelihood"):
        CategoriesDisplay.from_estimator(mae, [0.0, 1.0], z=[0.0, 1.0])
    assert ConditionalsDisplay.from_estimator(mae).density.shape == (6, 201)


def test_a_category_is_stacked_once(of_categories):
    with pytest.raises(ValueError, match=r"add up to 2 at one z\. Pass each"):
        CategoriesDisplay.from_estimator(of_categories, [2, 2, 3, 7, 7, 3])


def test_values_between_outcomes_have_no_probability():
    mae = fit(np.repeat([[0.0], [1.0]], 9, axis=0), likelihood="bernoulli")

    message = r"categories=\[0.3\] holds 0.3, which is no outcome.*\[0.0, 1.0\]: pass"
    with pytest.raises(ValueError, match=message):
        CategoriesDisplay.from_estimator(mae, [0.3])


@pytest.mark.parametrize("likelihood", ["bernoulli", "categorical"])
def test_few_values_are_no_curve(likelihood):
    mae = fit(np.repeat([[0.0], [1.0]], 9, axis=0), likelihood=likelihood, max_epochs=1)

    message = rf"'{likelihood}', is of a few values\. Use CategoriesDisplay"
    with pytest.raises(ValueError, match=message):
        ConditionalsDisplay.from_estimator(mae)
    display = CategoriesDisplay.from_estimator(mae, [0, 1])
    np.testing.assert_allclose(display.probability.sum(axis=0), 1, rtol=1e-9)


def test_conditionals_of_counts(of_counts):
    display = ConditionalsDisplay.from_estimator(of_counts)

    np.testing.assert_array_equal(display.x, display.x.round())
    assert len(set(display.x)) == len(display.x) <= 201
    alone = of_counts.conditional_log_prob([[display.x[3]]], [[display.z[1]]])
    expected = np.exp(alone[0]) * norm.pdf(display.z[1])
    assert display.density[1, 3] == pytest.approx(expected)
    assert {line.get_marker() for line in display.lines_} == {"."}
    some = CategoriesDisplay.from_estimator(of_counts, range(10))
    assert some.probability.shape == (10, 401)


def test_messages_name_the_argument_that_is_wrong(of_counts, of_categories, of_numbers):
    with pytest.raises(ValueError, match=r"x=\[0\.5\] are no values of .* no counts"):
        ConditionalsDisplay.from_estimator(of_counts, x=[0.5])
    with pytest.raises(
        ValueError, match=r"categories=\[2, 9\] holds 9, which is no outc"
    ):
        CategoriesDisplay.from_estimator(of_categories, [2, 9])
    for argument in ("x", "z"):
        for wrong in ("a", np.nan, np.inf, None):
            with pytest.raises(ValueError, match=rf"^{argument}=\[.* no finite number"):
                ConditionalsDisplay.from_estimator(of_numbers, **{argument: [wrong]})


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("conditionals", [f"z = {z}" for z in (-2.1, -1.3, -0.4, 0.4, 1.3, 2.1)]),
        ("categories", ["x = 7", "x = 3", "x = 2"]),  # in the order of the picture
        ("model", ["row 0", "row 1", "row 2"]),
        ("encoder", ["row 0", "row 1", "row 2"]),
    ],
)
def test_a_legend_names_the_series(name, labels, of_numbers, of_categories):
    display = draw(name, of_numbers, of_categories)

    texts = display.ax_.get_legend().get_texts()
    assert [text.get_text() for text in texts] == labels
    # where there may be no room for one, the names are there
    _, ax = pyplot.subplots()
    display.plot(ax)
    assert ax.get_legend() is None
    assert set(ax.get_legend_handles_labels()[1]) == set(labels)


@pytest.mark.parametrize("n", [1, 11])
def test_no_legend_of_one_or_of_too_many(n):
    z = np.linspace(-1, 1, 5)

    display = PosteriorsDisplay(z, np.ones((n, 5))).plot()
    assert display.ax_.get_legend() is None
    assert display.lines_[-1].get_label() == f"row {n - 1}"


def test_posteriors_of_sequences():
    texts = ["a b", "a c d", "b", "c c"] * 3
    pipeline = make_pipeline(
        SequenceVectorizer(),
        MutualAutoencoder(
            n_components=1,
            likelihood="sequence",
            hidden_layer_sizes=(4, 4),
            max_epochs=1,
            random_state=0,
        ),
    ).fit(texts)

    display = PosteriorsDisplay.from_estimator(pipeline, texts[:2])

    np.testing.assert_allclose(np.trapezoid(display.density, display.z), 1, rtol=1e-9)
    with pytest.raises(ValueError, match=r"was fitted to 4\. Fit it to one column"):
        ConditionalsDisplay.from_estimator(pipeline)


def test_posteriors_of_the_model_follow_bayes(of_categories):
    display = PosteriorsDisplay.from_estimator(of_categories, [[2], [3], [7]])

    np.testing.assert_allclose(np.trapezoid(display.density, display.z), 1, rtol=1e-9)
    # p(z|x) / p(z|x') is p(x|z) / p(x'|z) times a constant
    z = display.z[:, None]
    likelihoods = [
        of_categories.conditional_log_prob(np.full_like(z, x), z) for x in (2.0, 7.0)
    ]
    ratio = np.log(display.density[0] / display.density[2]) - np.subtract(*likelihoods)
    np.testing.assert_allclose(ratio, ratio[0], atol=1e-6)


def test_posteriors_of_the_encoder_are_its_density(of_categories):
    z = np.linspace(-2, 2, 5)
    display = PosteriorsDisplay.from_estimator(of_categories, [[3]], of="encoder", z=z)

    log_q = of_categories.posterior_log_prob(np.full((5, 1), 3.0), z[:, None])
    np.testing.assert_allclose(display.density, np.exp(log_q)[None])


PATH = Bunch(
    M=np.array([1.0, 2.0, np.nan]),
    information=np.array([1.1, 2.0, 7.0]),
    information_low=np.array([1.0, 1.9, 6.0]),
    information_high=np.array([1.3, 2.2, 8.0]),
    rate=np.array([1.2, 2.1, 9.0]),
    log_likelihood=np.array([-5.0, -4.0, -9.0]),
)


def test_path_is_drawn_with_its_brackets():
    display = InformationPathDisplay(PATH).plot(label="digits")

    line, _, (bars,) = display.container_
    np.testing.assert_array_equal(line.get_xdata(), [1.1, 2.0])
    np.testing.assert_array_equal(line.get_ydata(), [-5.0, -4.0])
    ends = np.array([segment[:, 0] for segment in bars.get_segments()])
    np.testing.assert_allclose(ends, [[1.0, 1.3], [1.9, 2.2]])
    assert display.ax_.figure is display.figure_
    assert display.container_.get_label() == "digits"


def test_path_draws_what_is_asked_for():
    display = InformationPathDisplay(PATH).plot(x="M", y="rate")

    line, _, bars = display.container_
    np.testing.assert_array_equal(line.get_xdata(), [1.0, 2.0])
    np.testing.assert_array_equal(line.get_ydata(), [1.2, 2.1])
    assert not bars
    with pytest.raises(ValueError, match=r"y='accuracy' is unknown\. Pass one of"):
        display.plot(y="accuracy")


@pytest.mark.parametrize("x", ["information", "M", "rate"])
def test_path_goes_from_left_to_right(x):
    order = [1, 2, 0]
    path = Bunch(**{name: values[order] for name, values in PATH.items()})
    # reached less than at a smaller M
    path.information_low[0], path.information[0] = 0.4, 0.5

    display = InformationPathDisplay(path).plot(x=x)

    drawn = display.container_[0].get_xdata(), display.container_[0].get_ydata()
    assert np.all(np.diff(drawn[0]) > 0)
    pairs = zip(path[x], path.log_likelihood, path.M, strict=True)
    assert set(zip(*drawn, strict=True)) == {(a, b) for a, b, M in pairs if M == M}


def test_path_without_a_target():
    path = Bunch(**{name: values[2:] for name, values in PATH.items()})

    with pytest.raises(ValueError, match="The path holds no model with a target"):
        InformationPathDisplay(path).plot()


def test_path_from_estimator():
    X = np.hstack([NUMBERS, NUMBERS + rng.normal(size=(60, 1))])
    mae = MutualAutoencoder(
        n_components=1, hidden_layer_sizes=(16,), max_epochs=6, random_state=0
    )
    _, ax = pyplot.subplots()

    display = InformationPathDisplay.from_estimator(mae, X, [0.5, 0.2], ax=ax)

    assert display.ax_ is ax
    np.testing.assert_array_equal(display.path.M, [0.2, 0.5])
    assert not hasattr(mae, "net_")


@pytest.mark.parametrize("n", [3, 30])
def test_every_curve_has_a_colour_of_its_own(n):
    z = np.linspace(-1, 1, 5)
    display = PosteriorsDisplay(z, np.ones((n, 5))).plot()

    assert len({tuple(line.get_color()) for line in display.lines_}) == n


@every_display
def test_one_component_is_needed(name):
    wide = {"n_components": 2, "max_epochs": 1}
    of_numbers = fit(NUMBERS, likelihood="heteroscedastic", **wide)
    of_categories = fit(CATEGORIES, likelihood="categorical", **wide)

    with pytest.raises(ValueError, match=r"n_components=2\. Fit one with n_c"):
        draw(name, of_numbers, of_categories)


def test_one_column_is_needed():
    mae = fit(np.hstack([NUMBERS, -NUMBERS]), max_epochs=1)

    with pytest.raises(ValueError, match=r"was fitted to 2\. Fit it to one column"):
        ConditionalsDisplay.from_estimator(mae)


def test_unknown_posterior(of_categories):
    with pytest.raises(ValueError, match=r"of='truth' is unknown\. Pass one of"):
        PosteriorsDisplay.from_estimator(of_categories, [[2]], of="truth")


@pytest.mark.parametrize("z", [[0.0], [1.0, -1.0]], ids=["one", "falling"])
def test_posteriors_need_rising_codes(of_categories, z):
    with pytest.raises(ValueError, match="at least two codes in increasing order"):
        PosteriorsDisplay.from_estimator(of_categories, [[2]], z=z)


@pytest.mark.filterwarnings("error::UserWarning")
def test_named_columns_keep_their_names():
    frame = pd.DataFrame(CATEGORIES, columns=["size"])
    mae = fit(frame, likelihood="categorical", max_epochs=2)

    CategoriesDisplay.from_estimator(mae, [2, 3, 7])
    display = PosteriorsDisplay.from_estimator(mae, frame[:2])
    assert display.density.shape == (2, 401)
    numbers = pd.DataFrame(NUMBERS, columns=["length"])
    ConditionalsDisplay.from_estimator(fit(numbers, max_epochs=2))


def test_path_is_refused_before_anything_is_fitted():
    with pytest.raises(ValueError, match="x='size' is unknown"):
        InformationPathDisplay.from_estimator(None, None, [1.0], x="size")


@pytest.mark.parametrize("z", [[], [[1.0]]], ids=["empty", "table"])
def test_codes_are_an_axis(of_numbers, z):
    with pytest.raises(ValueError, match=r"z has shape .* must be one-dimensional"):
        ConditionalsDisplay.from_estimator(of_numbers, z)


def test_import_needs_no_matplotlib():
    code = "import sys, sklearn_mae.plotting; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
