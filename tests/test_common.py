"""scikit-learn's own estimator checks: all pass, none is skipped.

Also run at the oldest supported versions, without pandas and polars.
"""

import importlib.util
from unittest import SkipTest

import numpy as np
import pytest
import sklearn.utils.estimator_checks as sklearn_checks
from sklearn.utils.estimator_checks import (
    estimator_checks_generator,
    parametrize_with_checks,
)

from sklearn_mae import MutualAutoencoder

HAS_FRAMES = all(importlib.util.find_spec(name) for name in ("pandas", "polars"))

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


def small(cls=MutualAutoencoder, **params):
    return cls(max_epochs=3, hidden_layer_sizes=(16,), **params)


# One factor at a time from the defaults: resampling encoder, constraint="both",
# Gaussian likelihood, mean codes, M=3.
INSTANCES = [
    small(),
    small(encoder="gaussian"),
    small(constraint="model"),
    small(constraint="paper"),
    small(codes="sample"),
    small(M=None),
    small(likelihood="heteroscedastic"),
    small(likelihood="categorical"),
]


def left_out(estimators):
    """Parametrise over the checks that check_estimator leaves out."""
    names = [name for name, frames in LEFT_OUT.items() if HAS_FRAMES or not frames]
    return pytest.mark.parametrize(
        ("estimator", "check_name"),
        [(estimator, name) for estimator in estimators for name in names],
        ids=lambda value: value if isinstance(value, str) else repr(value),
    )


def run_check(check, *args):
    """A skipped check is a failed one."""
    try:
        check(*args)
    except SkipTest as skip:
        pytest.fail(f"skipped: {skip}")


@parametrize_with_checks(INSTANCES)
def test_sklearn_check(estimator, check):
    run_check(check, estimator)


@left_out(INSTANCES)
def test_check_that_check_estimator_leaves_out(estimator, check_name):
    check = getattr(sklearn_checks, check_name)

    run_check(check, type(estimator).__name__, estimator)
