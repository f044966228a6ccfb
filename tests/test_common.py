"""scikit-learn's own estimator checks: all pass, none is skipped.

Also run at the oldest supported versions, without pandas and polars.
"""

import importlib.util
from unittest import SkipTest

import numpy as np
import pytest
import sklearn.utils.estimator_checks as sklearn_checks
from scipy import sparse
from sklearn.base import clone
from sklearn.utils.estimator_checks import estimator_checks_generator

from sklearn_mae import MutualAutoencoder

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

# One factor at a time from the defaults: M=3, resampling encoder, Gaussian likelihood,
# both constraints, mean codes.
VARIATIONS = {
    "defaults": {},
    "gaussian-encoder": {"encoder": "gaussian"},
    "model": {"constraint": "model"},
    "paper": {"constraint": "paper"},
    "sampled-codes": {"codes": "sample"},
    "unconstrained": {"M": None},
    "isotropic": {"likelihood": "isotropic"},
    "heteroscedastic": {"likelihood": "heteroscedastic"},
    "student_t": {"likelihood": "student_t"},
    "several": {"likelihood": [("student_t", [0])]},
    "categorical": {"likelihood": "categorical"},
    "autoregressive": {"likelihood": "autoregressive", "n_components": 2},
}

# Checks that check_estimator leaves out, and whether they need pandas or polars.
LEFT_OUT = {
    "check_dataframe_column_names_consistency": True,
    "check_estimators_partial_fit_n_features": False,
    "check_get_feature_names_out_error": False,
    "check_global_output_transform_pandas": True,
    "check_global_set_output_transform_polars": True,
    "check_inplace_ensure_writeable": False,
    "check_param_validation": False,
    "check_set_output_transform": False,
    "check_set_output_transform_pandas": True,
    "check_set_output_transform_polars": True,
    "check_transformer_get_feature_names_out": False,
    "check_transformer_get_feature_names_out_pandas": True,
}
FRAMES = all(importlib.util.find_spec(name) for name in ("pandas", "polars"))

OUTSIDE = {
    "bernoulli": "holds values outside [0, 1]",
    "negative_binomial": "holds values that are no counts",
    "poisson": "holds values that are no counts",
}
FEED_VALUES_OUTSIDE = {
    "check_array_api_input",
    "check_dataframe_column_names_consistency",
    "check_dict_unchanged",
    "check_dont_overwrite_parameters",
    "check_estimators_dtypes",
    "check_estimators_fit_returns_self",
    "check_estimators_overwrite_params",
    "check_estimators_pickle",
    "check_f_contiguous_array_estimator",
    "check_fit2d_1feature",
    "check_fit2d_predict1d",
    "check_fit_check_is_fitted",
    "check_fit_idempotent",
    "check_inplace_ensure_writeable",
    "check_methods_sample_order_invariance",
    "check_methods_subset_invariance",
    "check_n_features_in",
    "check_n_features_in_after_fitting",
    "check_pipeline_consistency",
    "check_positive_only_tag_during_fit",
    "check_readonly_memmap_input",
    "check_transformer_data_not_an_array",
    "check_transformer_general",
    "check_transformer_get_feature_names_out",
    "check_transformer_get_feature_names_out_pandas",
    "check_transformer_preserve_dtypes",
}

# of these tables some lie within [0, 1], and all hold fractions
FEED_FRACTIONS = (FEED_VALUES_OUTSIDE - {"check_positive_only_tag_during_fit"}) | {
    "check_dtype_object",
    "check_estimator_sparse_array",
    "check_estimator_sparse_matrix",
    "check_estimator_sparse_tag",
    "check_estimators_nan_inf",
    "check_fit_score_takes_y",
    "check_global_output_transform_pandas",
    "check_global_set_output_transform_polars",
    "check_set_output_transform",
    "check_set_output_transform_pandas",
    "check_set_output_transform_polars",
}


class Mapped(MutualAutoencoder):
    """Maps numbers first into what a likelihood takes."""

    def _read(self, X, before):
        rows = super()._read(X, before)
        X = rows.X.toarray() if sparse.issparse(rows.X) else rows.X
        return rows._replace(X=self.mapped(X))

    def _checked(self, X, warn=True):
        return self.mapped(super()._checked(X, warn))


class OnUnitInterval(Mapped):
    """Takes any numbers and maps them into [0, 1]."""

    @staticmethod
    def mapped(X):
        return 0.5 + 0.5 * np.sin(X)


class OnPositive(Mapped):
    """Takes any numbers and maps them to positive ones."""

    @staticmethod
    def mapped(X):
        return np.exp(np.arctan(X))


class OnCounts(Mapped):
    """Takes non-negative numbers and rounds them to counts."""

    @staticmethod
    def mapped(X):
        return np.where(X < 0, X, np.floor(4 * X))


def small(cls=MutualAutoencoder, **params):
    return cls(max_epochs=2, hidden_layer_sizes=(16,), **params)


def all_checks(variation, estimator):
    """Yield test parameters: the checks of check_estimator, and those left out."""
    counts = {}
    for _, check in estimator_checks_generator(estimator, mark=None):
        name = check.func.__name__
        counts[name] = counts.get(name, 0) + 1
        number = f"-{counts[name]}" if counts[name] > 1 else ""
        yield pytest.param(estimator, name, check, id=f"{variation}-{name}{number}")
    for name, needs_frames in LEFT_OUT.items():
        if FRAMES or not needs_frames:
            check = named(getattr(sklearn_checks, name))
            yield pytest.param(estimator, name, check, id=f"{variation}-{name}")


def named(check):
    return lambda estimator: check(type(estimator).__name__, estimator)


def passes(check, estimator):
    """Run a check; a skipped one has failed."""
    try:
        check(clone(estimator))
    except SkipTest as skip:
        pytest.fail(f"skipped: {skip}")


def reasons(error):
    while error is not None:
        yield str(error)
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize(
    ("estimator", "name", "check"),
    [
        case
        for variation, params in VARIATIONS.items()
        for case in all_checks(variation, small(**params))
    ],
)
def test_check(estimator, name, check):
    passes(check, estimator)


@pytest.mark.parametrize(
    ("estimator", "name", "check"),
    [
        case
        for likelihood in OUTSIDE
        for case in all_checks(likelihood, small(likelihood=likelihood))
    ],
)
def test_check_of_values_outside(estimator, name, check):
    likelihood = estimator.likelihood
    fed = FEED_VALUES_OUTSIDE if likelihood == "bernoulli" else FEED_FRACTIONS
    if name in fed:
        with pytest.raises((ValueError, AssertionError)) as failure:
            check(clone(estimator))
        outside = OUTSIDE[likelihood]
        assert any(outside in reason for reason in reasons(failure.value))
    else:
        passes(check, estimator)


@pytest.mark.parametrize(
    ("estimator", "name", "check"),
    [
        *all_checks("bernoulli", small(OnUnitInterval, likelihood="bernoulli")),
        *all_checks("lognormal", small(OnPositive, likelihood="lognormal")),
    ],
)
def test_check_on_values_mapped_into_the_range(estimator, name, check):
    passes(check, estimator)


@pytest.mark.parametrize(
    ("estimator", "name", "check"),
    [
        case
        for likelihood in ("poisson", "negative_binomial")
        for case in all_checks(likelihood, small(OnCounts, likelihood=likelihood))
    ],
)
def test_check_of_counts_on_rounded_values(estimator, name, check):
    passes(check, estimator)


def test_expected_failures_exist():
    """No name in the list is out of date."""
    known = {name for name in dir(sklearn_checks) if name.startswith("check_")}

    assert known >= FEED_VALUES_OUTSIDE | FEED_FRACTIONS
