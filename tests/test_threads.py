"""What others see while a fit runs: the earlier fit, whole, until the new one is."""

import threading

import numpy as np
import pandas as pd
import pytest
from skorch.callbacks import Callback

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

rng = np.random.default_rng(0)
X = rng.normal(size=(40, 4))
OTHER = rng.normal(size=(50, 6))
FITTED = (
    "feature_names_in_",
    "history_",
    "mutual_info_",
    "mutual_info_interval_",
    "n_features_in_",
    "n_iter_",
    "net_",
    "rate_",
)


class During(Callback):
    """Let a function act in another thread after the first epoch, and wait for it."""

    def __init__(self, act):
        self.act = act

    def __sklearn_clone__(self):
        return self

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == 1:
            thread = threading.Thread(target=self._run)
            thread.start()
            thread.join()

    def _run(self):
        try:
            self.seen = self.act()
        except Exception as error:
            self.seen = error


def fit_meanwhile(mae, X, act):
    """Fit, and return what another thread saw meanwhile."""
    during = During(act)
    mae.set_params(callbacks=[during]).fit(X)
    if isinstance(during.seen, Exception):
        raise during.seen
    return during.seen


def figures(mae):
    """Everything that the methods compute of a fit."""
    Z = mae.transform(X)
    drawn = mae.sample(3, random_state=0, return_codes=True)
    return [
        Z,
        mae.inverse_transform(Z),
        mae.reconstruct(X),
        mae.reconstruct(X, 2, random_state=0),
        mae.interpolate(X, X, 2),
        *drawn,
        mae.sample_posterior(X, random_state=0),
        mae.score_samples(X),
        mae.score(X),
        mae.rate(X),
        mae.distortion(X),
        mae.log_likelihood(X, 8),
        mae.conditional_log_prob(X, Z),
        mae.posterior_log_prob(X, Z),
        mae.mutual_info(50, 9.0).estimate,
        mae.encoder_mutual_info(X).estimate,
        mae.get_feature_names_out(),
        *(getattr(mae, name, None) for name in FITTED if name != "net_"),
    ]


@pytest.mark.parametrize("warm_start", [False, True])
def test_methods_see_the_earlier_fit_until_the_new_one_is_whole(small, warm_start):
    mae = small(warm_start=warm_start).fit(X)
    before = figures(mae)
    rows = X[::2] if warm_start else OTHER

    meanwhile = fit_meanwhile(mae, rows, lambda: figures(mae))

    for one, other in zip(before, meanwhile, strict=True):
        np.testing.assert_equal(other, one)
    assert mae.n_features_in_ == rows.shape[1]
    assert mae.n_iter_ == (6 if warm_start else 3)
    assert mae.transform(rows).shape == (len(rows), 8)


def test_a_first_fit_shows_nothing_before_its_end(small):
    mae = small()

    seen = fit_meanwhile(mae, X, lambda: [hasattr(mae, name) for name in FITTED])

    assert not any(seen)
    assert [name for name in FITTED if not hasattr(mae, name)] == ["feature_names_in_"]


class Later:
    """An array that acts in the middle of the method that checks it."""

    def __init__(self, array, act):
        self.array, self.act = array, act

    def __array__(self, dtype=None, copy=None):
        self.act()
        return self.array if dtype is None else self.array.astype(dtype)


@pytest.mark.parametrize(
    "method",
    [
        lambda mae, X: mae.transform(X),
        lambda mae, X: mae.inverse_transform(X),
        lambda mae, X: mae.score_samples(X),
        lambda mae, X: mae.distortion(X),
        lambda mae, X: mae.log_likelihood(X, 4),
        lambda mae, X: mae.sample_posterior(X, random_state=0),
        lambda mae, X: mae.encoder_mutual_info(X).estimate,
    ],
    ids="transform inverse score distortion likelihood posterior information".split(),
)
def test_a_method_reads_one_record(small, method):
    """A fit that ends inside a method, with other columns, does not concern it."""
    codes = rng.normal(size=(40, 4))  # as many columns as rows of X have
    mae = small(n_components=4).fit(X)
    expected = method(mae, codes)

    def fit_again():
        mae.set_params(n_components=2, codes="sample").fit(OTHER)

    found = method(mae, Later(codes, fit_again))

    assert mae.n_features_in_ == 6
    np.testing.assert_array_equal(found, expected)


def test_names_of_the_output_belong_to_the_record_of_the_codes(small):
    mae = small(n_components=4).fit(X).set_output(transform="pandas")

    frame = mae.transform(
        Later(X, lambda: mae.set_params(n_components=2, codes="sample").fit(OTHER))
    )

    assert list(frame.columns) == [f"mutualautoencoder{j}" for j in range(4)]


@pytest.mark.parametrize("warm_start", [False, True])
def test_what_is_set_while_fit_runs_stays(small, warm_start):
    mae = small(warm_start=warm_start).fit(X)
    expected = small(warm_start=warm_start).fit(X).fit(X)

    def change():
        mae.set_params(M=1.5, codes="sample", n_components=3)
        mae.set_output(transform="pandas")
        mae.remark = "mine"

    fit_meanwhile(mae, X, change)

    assert (mae.M, mae.codes, mae.n_components, mae.remark) == (
        1.5,
        "sample",
        3,
        "mine",
    )
    assert isinstance(mae.transform(X), pd.DataFrame)
    mae.set_output(transform="default").set_params(codes="mean")
    np.testing.assert_array_equal(mae.transform(X), expected.transform(X))
    assert mae.mutual_info_ == expected.mutual_info_


def test_what_is_set_while_a_failing_fit_runs_stays(small):
    mae = small(callbacks=[]).fit(X)
    before = figures(mae)

    def change():
        mae.set_params(M=1.5)
        raise_later.append(True)

    raise_later = []

    class Failing(During):
        def on_train_end(self, net, **kwargs):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        mae.set_params(callbacks=[Failing(change)]).fit(OTHER)

    assert raise_later
    assert mae.M == 1.5
    for one, other in zip(before, figures(mae), strict=True):
        np.testing.assert_equal(other, one)


def test_names_are_forgotten_by_a_fit_without_them(small):
    mae = small().fit(pd.DataFrame(X, columns=list("abcd")))
    assert list(mae.feature_names_in_) == list("abcd")

    mae.fit(OTHER)

    assert not hasattr(mae, "feature_names_in_")
    assert mae.n_features_in_ == 6


def test_fitted_names_are_listed_once_they_are_there(small):
    mae = small()
    unfitted = set(dir(mae))
    with pytest.raises(AttributeError, match=r"'MutualAuto.*has no attribute 'ne"):
        getattr(mae, "net_")  # noqa: B009

    mae.fit(X)

    assert set(dir(mae)) - unfitted >= set(FITTED) - {"feature_names_in_"}
    assert "rate_" in mae._repr_html_() or not hasattr(mae, "_get_fitted_attr_html")
