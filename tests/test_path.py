"""Paths over M and the report of one fit: every entry is the method's it names."""

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_mae import MutualAutoencoder, information_path, information_report
from sklearn_mae.path import InformationReport

rng = np.random.default_rng(0)
X = rng.normal(size=(120, 2)) @ rng.normal(size=(2, 4)) + 0.3 * rng.normal(
    size=(120, 4)
)
MAE = MutualAutoencoder(
    n_components=3, hidden_layer_sizes=(16,), max_epochs=12, random_state=0
)
quiet = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@quiet
def test_path_is_sorted_and_leads_from_its_middle_both_ways():
    before = MAE.get_params()
    path = information_path(MAE, X, [1.0, None, 0.25, 0.5])

    np.testing.assert_array_equal(path.M, [0.25, 0.5, 1.0, np.nan])
    assert MAE.get_params() == before
    assert not hasattr(MAE, "net_")
    lengths = [model.n_iter_ for model in path.estimators]
    assert lengths == [8 + 3 + 5, 8 + 3, 8 + 5, 12]  # the last has no constraint
    assert [model.M for model in path.estimators] == [0.25, 0.5, 1.0, None]
    # the models do not share their weights
    codes = [model.transform(X) for model in path.estimators]
    assert not any(np.array_equal(a, codes[-1]) for a in codes[:-1])
    assert not np.array_equal(codes[0], codes[1])


@quiet
def test_each_point_of_a_path_goes_on_from_its_neighbour():
    path = information_path(MAE, X[:80], [0.1, 0.2, 0.3, 0.4, 0.5], X_test=X[80:])

    assert [m.n_iter_ for m in path.estimators] == [17, 14, 11, 11, 14]
    for here, there in ((1, 0), (2, 1), (3, 4)):
        before = path.estimators[here].history_["rate"]
        after = path.estimators[there].history_["rate"]
        np.testing.assert_array_equal(after[: len(before)], before)
    # what leads up leaves the middle before its last steps
    middle, above = (path.estimators[i].history_["loss"] for i in (2, 3))
    np.testing.assert_array_equal(above[:8], middle[:8])
    assert above[9] != middle[9]


@quiet
def test_path_of_one_point_is_a_fit():
    path = information_path(MAE, X[:80], [0.5], X_test=X[80:])
    alone = clone(MAE).set_params(M=0.5).fit(X[:80])

    np.testing.assert_array_equal(path.estimators[0].transform(X), alone.transform(X))


@quiet
def test_path_holds_the_figures_of_new_rows():
    path = information_path(MAE, X[:80], [0.5, 1.0], X_test=X[80:])

    for i, model in enumerate(path.estimators):
        assert path.information[i] == model.mutual_info_
        bracket = path.information_low[i], path.information_high[i]
        assert bracket == model.mutual_info_interval_
        assert path.elbo[i] == model.score(X[80:])
        assert path.rate[i] == pytest.approx(model.rate(X[80:]).mean())
        assert path.distortion[i] == pytest.approx(model.distortion(X[80:]).mean())
        assert path.log_likelihood[i] == model.log_likelihood(X[80:]).mean()


@quiet
def test_path_holds_out_a_third_repeatably():
    one, two = (information_path(MAE, X, [0.5], random_state=3) for _ in range(2))

    for name in one:
        if name != "estimators":
            np.testing.assert_array_equal(one[name], two[name])
    other = information_path(MAE, X, [0.5], random_state=4)
    assert one.elbo[0] != other.elbo[0]


def test_path_says_once_what_was_missed():
    with pytest.warns(ConvergenceWarning) as caught:
        information_path(MAE, X, [5.0, 7.0])

    (warning,) = caught
    assert "fit warned at M = 5, 7; at 5: M=5 nats was asked for" in str(
        warning.message
    )


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"max_epochs": "many"}])
def test_path_of_wrong_parameters(wrong):
    name = next(iter(wrong))

    with pytest.raises(ValueError, match=f"The '{name}' parameter"):
        information_path(clone(MAE).set_params(**wrong), X, [1.0])


def test_path_says_where_the_constraint_costs_likelihood():
    g = np.random.default_rng(0)
    one_factor = g.normal(size=(300, 1)) + 0.3 * g.normal(size=(300, 4))
    estimator = MutualAutoencoder(
        n_components=1, hidden_layer_sizes=(16,), max_epochs=60, random_state=0
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        path = information_path(estimator, one_factor, [0.0, None])

    assert path.log_likelihood[0] < path.log_likelihood[1]
    (warning,) = [w for w in caught if w.category is ConvergenceWarning]
    assert "At M = 0 the held-out log-likelihood is below that" in str(warning.message)


@pytest.mark.parametrize(
    ("Ms", "message"),
    [
        ([], "Ms is empty. Pass at least one"),
        ([1.0, -1.0], "Ms holds -1.0; targets are numbers of nats of at least 0"),
        (["3"], "Ms holds '3'; targets are numbers"),
        ([np.nan], "Ms holds nan; targets are numbers"),
        (3.0, r"Ms=3.0 is one target; a path has several"),
    ],
)
def test_wrong_targets(Ms, message):
    with pytest.raises(ValueError, match=message):
        information_path(MAE, X, Ms)


@quiet
def test_report_agrees_with_the_methods():
    mae = clone(MAE).set_params(M=0.5).fit(X)
    report = information_report(mae, X)
    frame = report.to_frame()

    assert isinstance(frame, pd.DataFrame)
    assert frame.loc["M", "value"] == 0.5
    model = frame.loc["I_p(x, z)"]
    assert (model["low"], model["high"]) == mae.mutual_info_interval_
    codes = mae.encoder_mutual_info(X)
    assert frame.loc["I_q(x, z)", "value"] == codes.estimate
    assert tuple(frame.loc["KL(q(z), p(z))", ["low", "high"]]) == codes.mismatch
    for name, values in {
        "rate R": mae.rate(X),
        "distortion D": mae.distortion(X),
        "bound": mae.score_samples(X),
        "log p(x)": mae.log_likelihood(X),
    }.items():
        row = frame.loc[name]
        assert row["value"] == pytest.approx(values.mean())
        assert row["low"] < row["value"] < row["high"]
    printed = str(report).splitlines()
    assert len(printed) == len(frame) + 1
    assert max(map(len, printed)) <= 88
    assert np.isnan(frame.loc["KL(q(z), p(z))", "value"])


@quiet
def test_report_says_when_rows_are_too_few():
    mae = MutualAutoencoder(
        n_components=3, hidden_layer_sizes=(16,), max_epochs=300, random_state=0
    ).fit(X)

    assert "; 5 rows confirm log n = 1.61 at most" in str(
        information_report(mae, X[:5])
    )
    assert "confirm" not in str(information_report(mae, X))


def test_report_without_constraint_has_no_target():
    mae = MutualAutoencoder(
        M=None, n_components=3, hidden_layer_sizes=(16,), max_epochs=2, random_state=0
    ).fit(X)

    assert "M" not in information_report(mae, X).to_frame().index


@pytest.mark.parametrize(
    ("function", "further"), [(information_path, [[1.0]]), (information_report, [])]
)
def test_what_holds_no_autoencoder(function, further):
    with pytest.raises(TypeError, match=rf"{function.__name__} needs a MutualAutoenc"):
        function(make_pipeline(StandardScaler(), PCA()), X, *further)


class Sampler(BaseEstimator):
    """As those of imbalanced-learn: it has no transform."""

    def fit_resample(self, X, y):
        return X, y


def inside(mae):
    """Put a fitted estimator behind fitted steps, and return what it sees, too."""
    scaler = StandardScaler().fit(X)
    steps = [scaler, Sampler(), "passthrough", mae, LogisticRegression()]
    pipeline = Pipeline([(f"step{i}", step) for i, step in enumerate(steps)])
    return pipeline, scaler.transform(X)


def test_a_report_of_a_pipeline_and_a_search(small):
    pipeline, seen = inside(mae := small())
    mae.fit(seen)

    assert repr(information_report(pipeline, X)) == repr(information_report(mae, seen))
    search = GridSearchCV(small(), {"M": [1.0]}, cv=2).fit(X)
    report = information_report(search.best_estimator_, X)
    assert repr(information_report(search, X)) == repr(report)


def test_a_path_of_a_pipeline(small):
    pipeline, seen = inside(small())

    path = information_path(pipeline, X, [1.0], X_test=X)

    expected = information_path(small(), seen, [1.0], X_test=seen)
    np.testing.assert_array_equal(path.log_likelihood, expected.log_likelihood)


def test_report_of_an_unfitted_model():
    with pytest.raises(NotFittedError):
        information_report(MutualAutoencoder(), X)


def test_report_leaves_unknown_ends_blank_and_columns_apart():
    report = InformationReport(
        [
            ("M", 3.0, np.nan, np.nan, "asked for"),
            ("log p(x)", -123456.7, -123460.0, -123450.0, "of rows"),
        ]
    )

    _, first, second = str(report).splitlines()
    assert first.split() == ["M", "3.00", "asked", "for"]
    assert second.split()[2:5] == ["-123456.70", "-123460.00", "-123450.00"]
    assert first.index("asked") == second.index("of")


def test_path_s_models_have_the_estimator_s_parameters():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        path = information_path(MAE, X, [0.5, 1.0])

    for M, model in zip([0.5, 1.0], path.estimators, strict=True):
        assert model.get_params() == {**MAE.get_params(), "M": M}
