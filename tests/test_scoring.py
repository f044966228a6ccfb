"""information_scorer: alone, in Pipelines, in searches, and when figures fail."""

import pickle
import re
import warnings

import numpy as np
import pytest
import torch
from joblib import parallel_config
from sklearn import config_context
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

import sklearn_mae
from sklearn_mae import MutualAutoencoder, information_scorer

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

KEYS = [
    "elbo",
    "log_likelihood",
    "information",
    "information_error",
    "rate",
    "distortion",
    "n_entries",
]
rng = np.random.default_rng(0)
X = rng.normal(size=(60, 3)) @ rng.normal(size=(3, 3)) + [0.0, 10.0, -5.0]
y = (X[:, 0] > 0).astype(int)


@pytest.fixture(scope="module")
def mae(small):
    return small().fit(X)


def assert_same(scores, expected):
    assert list(scores) == KEYS
    np.testing.assert_allclose(
        list(scores.values()), list(expected.values()), rtol=1e-12
    )


def test_exported():
    assert sklearn_mae.__all__ == [
        "InformationReport",
        "MutualAutoencoder",
        "SequenceVectorizer",
        "datasets",
        "information_path",
        "information_report",
        "information_scorer",
        "plotting",
    ]


# --- figures --------------------------------------------------------------------------


@pytest.mark.parametrize("encoder", ["gaussian", "resampling"])
def test_figures_are_those_of_the_methods(small, encoder):
    mae = small(encoder=encoder).fit(X)

    scores = information_scorer(mae, X[:20])

    assert_same(
        scores,
        {
            "elbo": mae.score(X[:20]),
            "log_likelihood": mae.log_likelihood(X[:20]).mean(),
            "information": mae.mutual_info_,
            "information_error": -abs(mae.mutual_info_ - 3),
            "rate": mae.rate(X[:20]).mean(),
            "distortion": mae.distortion(X[:20]).mean(),
            "n_entries": 3,
        },
    )
    assert all(type(value) is float for value in scores.values())


def test_no_error_without_a_target(small):
    scores = information_scorer(small(M=None).fit(X), X)

    assert np.isnan(scores.pop("information_error"))
    assert np.isfinite(list(scores.values())).all()


def test_y_is_ignored(mae):
    assert information_scorer(mae, X, y) == information_scorer(mae, X)


def test_no_draw_is_made(mae):
    numpy_state, torch_state = np.random.get_state(), torch.get_rng_state()

    assert information_scorer(mae, X) == information_scorer(mae, X)

    after = np.random.get_state()
    assert all(np.array_equal(a, b) for a, b in zip(numpy_state, after, strict=True))
    assert torch.equal(torch_state, torch.get_rng_state())


def test_pickles():
    assert pickle.loads(pickle.dumps(information_scorer)) is information_scorer


# --- where the estimator is -----------------------------------------------------------


@pytest.mark.parametrize(
    "around",
    [
        lambda mae: make_pipeline(StandardScaler(), mae),
        lambda mae: make_pipeline(StandardScaler(), mae, LogisticRegression()),
        lambda mae: make_pipeline(StandardScaler(), "passthrough", None, mae),
        lambda mae: make_pipeline(make_pipeline(StandardScaler()), mae),
        lambda mae: make_pipeline(
            make_pipeline(StandardScaler(), mae), make_pipeline(LogisticRegression())
        ),
        lambda mae: make_pipeline(make_pipeline(make_pipeline(StandardScaler(), mae))),
    ],
)
def test_found_in_a_pipeline(small, around):
    pipeline = around(small()).fit(X, y)
    scaler = StandardScaler().fit(X)
    mae = small().fit(scaler.transform(X))

    expected = information_scorer(mae, scaler.transform(X[:20]))
    assert_same(information_scorer(pipeline, X[:20]), expected)


class Sampler(BaseEstimator):
    """As those of imbalanced-learn: it works in fit alone, and has no transform."""

    def fit_resample(self, X, y):
        return X[::2], y[::2]


class SamplingPipeline(Pipeline):
    """As imbalanced-learn's: a Pipeline whose fit lets samplers work."""

    def fit(self, X, y=None, **params):
        *steps, (_, last) = self.steps
        for _, step in steps:
            if hasattr(step, "fit_resample"):
                X, y = step.fit_resample(X, y)
            elif step not in (None, "passthrough"):
                X = step.fit_transform(X, y)
        last.fit(X, y)
        return self


def sampling(*steps):
    return SamplingPipeline([(f"step{i}", step) for i, step in enumerate(steps)])


@pytest.mark.parametrize(
    "around",
    [
        lambda mae: sampling(Sampler(), mae),
        lambda mae: sampling(StandardScaler(), Sampler(), "passthrough", mae),
        lambda mae: sampling(StandardScaler(), Sampler(), mae, LogisticRegression()),
        lambda mae: sampling(StandardScaler(), mae, Sampler(), LogisticRegression()),
    ],
)
def test_samplers_are_left_out(small, around):
    pipeline = around(small()).fit(X, y)
    (mae,) = (s for _, s in pipeline.steps if isinstance(s, MutualAutoencoder))
    (sampled,) = (i for i, (_, s) in enumerate(pipeline.steps) if type(s) is Sampler)
    scales = isinstance(pipeline.steps[0][1], StandardScaler)
    seen = pipeline.steps[0][1].transform(X) if scales else X

    assert_same(information_scorer(pipeline, X), information_scorer(mae, seen))
    assert sampled < 3


def test_a_search_over_a_pipeline_with_a_sampler(small):
    pipeline = sampling(StandardScaler(), Sampler(), small())

    search = GridSearchCV(
        pipeline,
        {"step2__M": [0.5, 2.0]},
        scoring=information_scorer,
        refit="log_likelihood",
        cv=2,
        error_score="raise",
    ).fit(X, y)

    assert np.isfinite(search.cv_results_["mean_test_log_likelihood"]).all()
    assert np.isfinite(list(information_scorer(search, X).values())).all()


def test_found_at_the_start_of_a_pipeline(small, mae):
    pipeline = make_pipeline(small(), StandardScaler(), LogisticRegression()).fit(X, y)

    assert_same(information_scorer(pipeline, X), information_scorer(mae, X))


def test_found_in_a_search(small, mae):
    search = GridSearchCV(small(), {"M": [3]}, cv=2).fit(X)

    assert_same(information_scorer(search, X), information_scorer(mae, X))


@pytest.mark.parametrize(
    "estimator",
    [
        StandardScaler(),
        make_pipeline(StandardScaler(), LogisticRegression()),
        Pipeline([("scale", "passthrough")]),
    ],
    ids=["transformer", "pipeline", "empty"],
)
def test_no_autoencoder(estimator):
    with pytest.raises(TypeError, match="information_scorer needs a MutualAutoencod"):
        information_scorer(estimator, X)


@pytest.mark.parametrize(
    "estimator",
    [MutualAutoencoder(), make_pipeline(StandardScaler(), MutualAutoencoder())],
)
def test_not_fitted(estimator):
    with pytest.raises(NotFittedError, match="This MutualAutoencoder instance is not"):
        information_scorer(estimator, X)


@pytest.mark.parametrize("refit", [True, False])
def test_search_without_a_best_estimator(refit):
    search = GridSearchCV(MutualAutoencoder(), {"M": [3]}, refit=refit)

    with pytest.raises(NotFittedError, match="GridSearchCV instance is not fitted"):
        information_scorer(search, X)


# --- numerical failures ---------------------------------------------------------------


def scores_and_warning(estimator, X):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        scores = information_scorer(estimator, X)
    assert len(caught) == 1, [str(warning.message) for warning in caught]
    assert caught[0].category is RuntimeWarning
    assert caught[0].filename == __file__
    return scores, str(caught[0].message)


def assert_only_the_model_has_figures(scores):
    known = {"information", "information_error"}
    assert list(scores) == KEYS
    assert {key for key in KEYS if np.isfinite(scores[key])} == known


def test_values_too_far_away_give_nan_and_one_warning(mae):
    scores, message = scores_and_warning(mae, X * 1e200)

    assert_only_the_model_has_figures(scores)
    assert re.search("gives NaN .*ValueError: X holds .*leave the range of", message)


def test_refused_rows_give_nan_and_one_warning(mae):
    scores, message = scores_and_warning(mae, np.where(X > 10, np.inf, X))

    assert_only_the_model_has_figures(scores)
    assert "ValueError: Input X contains infinity" in message


def test_unseen_categories_give_nan_and_one_warning(small):
    codes = (X > 0).astype(int)
    mae = small(likelihood="categorical").fit(codes)

    scores, message = scores_and_warning(mae, codes + 2)

    assert_only_the_model_has_figures(scores)
    assert "no entry of X is observed" in message


def test_failing_step_gives_nan_and_one_warning(small):
    pipeline = make_pipeline(FunctionTransformer(np.log), small()).fit(np.exp(X / 10))

    scores, message = scores_and_warning(pipeline, -np.exp(X))

    assert_only_the_model_has_figures(scores)
    assert "no entry of X is observed" in message


class Interrupt(TransformerMixin, BaseEstimator):
    fitted_ = True

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        if len(X) == 1:
            raise KeyboardInterrupt
        return X


def test_an_interrupt_is_no_numerical_failure(small):
    pipeline = make_pipeline(Interrupt(), small()).fit(X)

    with pytest.raises(KeyboardInterrupt):
        information_scorer(pipeline, X[:1])


@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore:One or more of the test")
def test_search_survives_a_failure(small):
    wild = X.copy()
    wild[0] = 1e200  # in the first test fold, out of reach for what its rest taught
    search = GridSearchCV(
        small(), {"M": [1, 2]}, scoring=information_scorer, refit=False, cv=3
    )

    results = search.fit(wild).cv_results_

    assert np.isnan(results["split0_test_log_likelihood"]).all()
    assert np.isfinite(results["split0_test_information"]).all()


# --- searches -------------------------------------------------------------------------


@pytest.mark.parametrize("routing", [False, True])
def test_cross_validate(small, routing):
    pipeline = make_pipeline(StandardScaler(), small())

    with config_context(enable_metadata_routing=routing):
        results = cross_validate(
            pipeline, X, scoring=information_scorer, cv=2, return_estimator=True
        )

    for fold, rows in enumerate([slice(30), slice(30, 60)]):
        expected = information_scorer(results["estimator"][fold], X[rows])
        assert {key: results[f"test_{key}"][fold] for key in KEYS} == expected


def search(small, **params):
    return GridSearchCV(
        make_pipeline(StandardScaler(), small()),
        {"mutualautoencoder__M": [1, 4]},
        scoring=information_scorer,
        refit="log_likelihood",
        cv=2,
        **params,
    )


@pytest.mark.parametrize("routing", [False, True])
def test_grid_search(small, routing):
    with config_context(enable_metadata_routing=routing):
        found = search(small).fit(X)
        score = found.score(X)

    means = found.cv_results_["mean_test_log_likelihood"]
    assert found.best_index_ == np.argmax(means)
    assert found.best_score_ == means.max()
    assert score == information_scorer(found.best_estimator_, X)["log_likelihood"]


@pytest.mark.usefixtures("whole_fits")
@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_parallel_search_equals_the_sequential_one(small, backend):
    sequential = search(small).fit(X).cv_results_

    with parallel_config(backend, n_jobs=2):
        parallel = search(small).fit(X).cv_results_

    for key in KEYS:
        np.testing.assert_array_equal(
            parallel[f"mean_test_{key}"], sequential[f"mean_test_{key}"]
        )


@pytest.mark.parametrize(
    "behind",
    [
        LogisticRegressionCV(cv=2),
        GridSearchCV(LogisticRegression(), {"C": [1.0, 2.0]}, cv=2, refit=False),
    ],
    ids=["has refit and cv", "a search without a best one"],
)
def test_what_stands_behind_the_autoencoder_does_not_matter(mae, behind):
    pipeline = Pipeline([("mae", mae), ("behind", behind)])

    assert_same(information_scorer(pipeline, X), information_scorer(mae, X))


def test_figures_are_of_one_fit(small, monkeypatch):
    """A fit that ends while they are computed does not concern them."""
    mae, other = small().fit(X), small(M=0.2, random_state=5).fit(X)
    expected = information_scorer(mae, X)
    score = MutualAutoencoder.score

    def and_another_fit_ends(self, X, y=None):
        mae._fitted = other._fitted
        return score(self, X, y)

    monkeypatch.setattr(MutualAutoencoder, "score", and_another_fit_ends)
    assert_same(information_scorer(mae, X), expected)
