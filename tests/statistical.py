"""Assertions about means that are only seen through samples.

The tolerance of each is a number of standard errors that follows from the rate of false
alarms one is ready to accept. A test with such a tolerance can always be made to pass
by drawing less, so each also states its resolution: the error that it must be able to
see. With fixed seeds a test that passes once passes for good.
"""

import numpy as np
from scipy.stats import t as student

FALSE_ALARM = 1e-6


def quantile(false_alarm, n, n_tests=1, sides=2):
    """Standard errors that a mean of n samples exceeds with that probability."""
    return student.isf(false_alarm / (sides * n_tests), n - 1)


def mean_and_se(samples):
    """Mean and its standard error along the first axis."""
    samples = np.asarray(samples, dtype=float)
    assert len(samples) >= 20, "too few samples for a standard error"
    se = samples.std(axis=0, ddof=1) / len(samples) ** 0.5
    return samples.mean(axis=0), se


def assert_mean_equal(samples, expected, *, resolution, false_alarm=FALSE_ALARM):
    """Assert that independent samples, along the first axis, have the expected mean.

    ``false_alarm`` is shared by all entries of the mean. ``resolution`` is the largest
    tolerance with which the check would still mean something.
    """
    mean, se = mean_and_se(samples)
    tolerance = quantile(false_alarm, len(samples), mean.size) * se
    assert np.all(tolerance <= resolution), (
        f"tolerance {np.max(tolerance):.3g} is too wide: draw more"
    )
    # differences of equal numbers may differ in their last digits
    tolerance = tolerance + 1e-9 * (1 + np.abs(expected))
    error = np.abs(mean - expected)
    assert np.all(error <= tolerance), (
        f"mean {mean}, expected {expected}, error {error} > {tolerance}"
    )


def assert_mean_positive(samples, *, false_alarm=FALSE_ALARM):
    """Assert that the mean is above zero by more than its noise.

    It needs no resolution: noise makes it fail.
    """
    mean, se = mean_and_se(samples)
    least = quantile(false_alarm, len(samples), np.size(mean), sides=1) * se
    assert np.all(mean > least), f"mean {mean} is not above {least}"


def assert_estimate_equal(
    estimate, se, expected, *, resolution, n, false_alarm=FALSE_ALARM
):
    """Assert that an estimate from n samples is as near as its error says."""
    tolerance = quantile(false_alarm, n) * se
    assert tolerance <= resolution, f"tolerance {tolerance:.3g} is too wide"
    assert abs(estimate - expected) <= tolerance + 1e-9, (
        f"{estimate} is not {expected} +- {tolerance:.3g}"
    )
