"""MutualAutoencoder.fit: warm starts, callbacks, warnings, gradients, callables."""

import contextlib
import dataclasses
import functools
import pickle
import re
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from joblib import Parallel, delayed
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback, EarlyStopping
from torch import nn
from torch.distributions import (
    Bernoulli,
    Independent,
    Laplace,
    MultivariateNormal,
    Normal,
    Poisson,
)

from sklearn_mae.estimator import fitted
from sklearn_mae.estimator.convergence import convergence_complaint
from sklearn_mae.estimator.parts import SCORED_CLIP, resolve_C
from sklearn_mae.families import Schedule, row_family
from sklearn_mae.families.base import NEEDS_NO_CODE
from sklearn_mae.families.lstm import SequenceLikelihood
from sklearn_mae.families.table import TableLikelihood
from sklearn_mae.information import Bracket
from sklearn_mae.model import Cost, Rows
from sklearn_mae.training import (
    FIGURES,
    Information,
    MutualAutoencoderNet,
    Rate,
    certification,
)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

rng = np.random.default_rng(0)
X = rng.normal(size=(60, 2)) @ rng.normal(size=(2, 4)) + 0.3 * rng.normal(size=(60, 4))
BITS = (X > 0).astype(float)
COUNTS = rng.poisson(np.exp(X[:, :3])).astype(float)


def weights(mae):
    return {k: v.numpy().copy() for k, v in mae.net_.module_.state_dict().items()}


def assert_same_fit(one, other):
    ours, theirs = weights(one), weights(other)
    for name, values in ours.items():
        np.testing.assert_array_equal(values, theirs[name])
    assert one.mutual_info_ == other.mutual_info_


# --- history --------------------------------------------------------------------------

UNUSED = {
    "both": set(),
    "model": {"multiplier_rate"},
    "paper": {"information_upper", "multiplier_rate"},
    None: {
        "information_lower",
        "information_upper",
        "multiplier_model",
        "multiplier_rate",
    },
}


@pytest.mark.parametrize("constraint", UNUSED)
def test_history(small, constraint):
    params = {"M": None} if constraint is None else {"constraint": constraint}
    mae = small(max_epochs=4, batch_size=20, **params).fit(X)

    assert mae.n_iter_ == 4
    assert list(mae.history_) == list(FIGURES)
    for name, values in mae.history_.items():
        assert values.shape == (4,)
        assert values.dtype == np.float64
        missing = name in UNUSED[constraint]
        assert np.isnan(values).all() if missing else np.isfinite(values).all()
    history = mae.history_
    np.testing.assert_allclose(
        history["elbo"], -history["distortion"] - history["rate"], rtol=1e-4
    )
    if constraint is None:
        np.testing.assert_array_equal(history["loss"], -history["elbo"])


def test_training_estimates_are_in_order(small):
    history = small(max_epochs=30).fit(X).history_

    assert (history["information_lower"] <= history["information_upper"]).all()


def test_the_fit_learns(small):
    history = small(max_epochs=200, M=None).fit(X).history_

    assert history["elbo"][-10:].mean() > history["elbo"][:10].mean() + 0.5


@pytest.mark.parametrize(
    ("params", "epochs", "batches"),
    [
        ({"batch_size": 7, "max_epochs": 2}, 2, 9),
        ({"batch_size": 1000, "max_epochs": 2}, 2, 1),
        ({"batch_size": 1, "max_epochs": 1}, 1, 60),
        ({"max_epochs": 2}, 2, 1),
    ],
)
def test_lengths(small, params, epochs, batches):
    mae = small(**params).fit(X)

    assert mae.n_iter_ == epochs
    assert mae.net_.step_ == epochs * batches


@pytest.mark.parametrize(
    ("n", "epochs"),
    [(10, 1500), (128, 1500), (129, 1000), (1280, 200), (128 * 5000, 1)],
)
def test_automatic_length(small, monkeypatch, n, epochs):
    from sklearn_mae.estimator.parts import resolve_lengths

    params = small(max_epochs="auto", batch_size="auto")

    assert resolve_lengths(params, n) == (min(n, 128), epochs)


@pytest.mark.parametrize(("n", "epochs"), [(32, 1500), (2000, 24)])
def test_automatic_length_of_texts(small, n, epochs):
    from sklearn_mae.estimator.parts import resolve_lengths

    params = small(likelihood="sequence", max_epochs="auto", batch_size="auto")

    assert resolve_lengths(params, n) == (32, epochs)


@pytest.mark.parametrize(("n_components", "late"), [(2, 6.0), (1, None)])
def test_both_multipliers_answer_faster_from_the_half_on(
    small, monkeypatch, n_components, late
):
    from sklearn_mae.estimator import parts

    given = []

    class Recorded(parts.DualAscent):
        def __init__(self, *args, n_updates, late, **options):
            given.append((n_updates, late))
            super().__init__(*args, n_updates=n_updates, late=late, **options)

    monkeypatch.setattr(parts, "DualAscent", Recorded)
    small(max_epochs=40, n_components=n_components).fit(X)

    # the model's has a turn every fourth step
    assert given == [(40, late), (10, late)]


# --- warm_start -----------------------------------------------------------------------

CHANGES = {
    "n_components": 3,
    "encoder": "gaussian",
    "likelihood": "heteroscedastic",
    "hidden_layer_sizes": (17,),
    "activation": "relu",
    "min_scale": 0.1,
}


def test_warm_start_goes_on_from_the_weights(small):
    mae = small(warm_start=True).fit(X)
    before, history = weights(mae), mae.history_

    mae.set_params(lr=1e-12, max_epochs=2).fit(X)

    assert mae.n_iter_ == 5
    for name, values in mae.history_.items():
        np.testing.assert_array_equal(values[:3], history[name])
    for name, values in weights(mae).items():
        np.testing.assert_allclose(values, before[name], atol=1e-8)


@pytest.mark.usefixtures("whole_fits")
def test_without_warm_start_everything_starts_anew(small):
    mae = small().fit(X)
    fresh = small().fit(X)

    assert_same_fit(mae.fit(X), fresh)
    assert mae.n_iter_ == 3


@pytest.mark.usefixtures("whole_fits")
def test_warm_start_of_the_first_fit(small):
    assert_same_fit(small(warm_start=True).fit(X), small().fit(X))


@pytest.mark.parametrize(
    "change",
    [
        {"M": 1.0},
        {"M": None},
        {"C": 2.0},
        {"lr": 1e-2},
        {"max_epochs": 1},
        {"constraint": "paper"},
        {"constraint": "model"},
        {"n_resamples": 2},
        {"batch_size": 10},
        {"codes": "sample"},
        {"hidden_layer_sizes": [16]},
        {"hidden_layer_sizes": np.array([16])},
    ],
    ids=repr,
)
def test_what_may_change_between_warm_starts(small, change):
    mae = small(warm_start=True).fit(X)

    mae.set_params(**change).fit(X)

    assert mae.n_iter_ == 3 + mae.max_epochs
    assert np.isfinite(mae.transform(X)).all()


def test_unconstrained_first(small):
    mae = small(warm_start=True, M=None).fit(X).set_params(M=1.0).fit(X)

    assert np.isnan(mae.history_["multiplier_model"][:3]).all()
    assert np.isfinite(mae.history_["multiplier_model"][3:]).all()


@pytest.mark.parametrize("name", CHANGES)
def test_what_may_not_change_between_warm_starts(small, name):
    mae = small(warm_start=True, likelihood="gaussian").fit(X)
    before = mae.transform(X)
    was, now = mae.get_params()[name], CHANGES[name]
    mae.set_params(**{name: now})

    resolved = {"encoder": "resampling"}.get(name, was)  # not "auto"
    message = re.escape(f"but {name} (was {resolved!r}, now {now!r}) changed since")
    with pytest.raises(ValueError, match=message):
        mae.fit(X)

    np.testing.assert_array_equal(mae.transform(X), before)
    assert mae.n_iter_ == 3
    mae.set_params(**{name: was}).fit(X)
    assert mae.n_iter_ == 6


def test_warm_start_keeps_the_multipliers(small):
    mae = small(warm_start=True, max_epochs=40).fit(X)
    mae.fit(X)

    for name in ("multiplier_model", "multiplier_rate"):
        first, second = mae.history_[name][:40], mae.history_[name][40:]
        assert abs(first[-1]) > 0.05
        assert abs(second[0] - first[-1]) < 0.25 * abs(first[-1])


def test_warm_start_keeps_the_scales(small):
    mae = small(warm_start=True, encoder="gaussian").fit(X)
    before = mae.transform(X)

    mae.set_params(lr=1e-12).fit(3 * X + 1)

    np.testing.assert_allclose(mae.transform(X), before, atol=1e-5)


def refit(mae, rows):
    """Fit, or leave the earlier fit where training diverges."""
    with contextlib.suppress(ValueError):
        mae.fit(rows)


@pytest.mark.parametrize(
    "likelihood",
    ["gaussian", "isotropic", "heteroscedastic", "poisson", "negative_binomial"],
)
@pytest.mark.parametrize(
    "other",
    [lambda rows: 10_000 * rows, lambda rows: rows + 10**6, lambda rows: 0 * rows + 3],
    ids=["scale", "origin", "constant"],
)
def test_warm_start_warns_of_other_units(small, likelihood, other):
    rows = COUNTS + 5
    mae = small(likelihood=likelihood, warm_start=True).fit(rows)
    before = mae.transform(rows)

    message = r"keeps the scales of the first fit, and column\(s\) 0, 1, 2 of X seem"
    with pytest.warns(UserWarning, match=message):
        refit(mae, other(rows))

    if mae.n_iter_ == 3:  # it diverged
        np.testing.assert_array_equal(mae.transform(rows), before)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.simplefilter("ignore", ConvergenceWarning)
        mae.fit(rows[::2])
    mae.set_params(warm_start=False).fit(other(rows) + COUNTS)


def test_warm_start_names_the_column_in_other_units(small):
    mae = small(warm_start=True).fit(X)

    def seem(table):
        texts = " ".join(
            str(warning.message) for warning in warnings_of_fit(mae, table)
        )
        return re.findall(r"column\(s\) (.*) of X seem to be in other units", texts)

    assert seem(X * [1, 1, 1000, 1]) == ["2"]
    assert seem(X / 1000) == ["0, 1, 2, 3"]
    # rows that are alike in one column are no other units
    assert seem(X * [1, 1, 0, 1]) == []


@pytest.mark.parametrize("likelihood", ["bernoulli", "categorical"])
def test_what_has_no_units_is_not_refused(small, likelihood):
    rare = np.zeros((60, 2))
    rare[0, 0] = rare[1:30, 1] = 1
    mae = small(likelihood=likelihood, warm_start=True).fit(rare)

    assert mae.fit(1 - rare).n_iter_ == 6


def test_warm_start_draws_other_batches(small):
    mae = small(warm_start=True, lr=1e-12).fit(X).fit(X)

    losses = mae.history_["loss"]
    assert not np.isin(losses[3:], losses[:3]).any()


# --- what a failing fit leaves behind -------------------------------------------------


def with_nan(X):
    return np.where(X == X.max(), np.nan, X)


@pytest.mark.parametrize("warm_start", [False, True])
@pytest.mark.parametrize(
    ("params", "rows", "message"),
    [
        ({}, np.where(X == X[0, 0], np.inf, X), "infinity"),
        ({}, X[:1], "n_samples=1"),
        ({"lr": 1e30}, X, "Training diverged"),
        ({"mi_gradient": "enumeration"}, X, "mi_gradient='enumeration'"),
        ({"device": "nowhere"}, X, "not available to torch"),
        ({"M": -1}, X, "'M' parameter"),
    ],
    ids=lambda value: None if isinstance(value, np.ndarray) else repr(value),
)
def test_a_failing_fit_leaves_the_earlier_one(small, warm_start, params, rows, message):
    mae = small(warm_start=warm_start).fit(X)
    before, state = mae.transform(X), set(vars(mae))

    with pytest.raises(ValueError, match=message):
        mae.set_params(**params).fit(rows)

    assert set(vars(mae)) == state
    assert mae.n_iter_ == 3
    np.testing.assert_array_equal(mae.transform(X), before)


def test_wrong_width_leaves_the_earlier_fit(small):
    mae = small(warm_start=True).fit(X)

    with pytest.raises(ValueError, match=r"X has 3 features, but MutualAuto.* 4 feat"):
        mae.fit(X[:, :3])

    assert mae.n_features_in_ == 4


def test_a_failing_first_fit_leaves_nothing(small):
    mae = small(lr=1e30)

    with pytest.raises(ValueError, match=r"Use a smaller lr \(lr=1e\+30 was given\)"):
        mae.fit(X)

    assert vars(mae) == vars(small(lr=1e30))


class Spoiler(Callback):
    """Put NaN into a network once the last epoch is over."""

    def __init__(self, part):
        self.part = part

    def on_train_end(self, net, **kwargs):
        with torch.no_grad():
            next(getattr(net.module_, self.part).parameters()).fill_(np.nan)


DIVERGED = r"Training diverged by its end \({}.*Use a smaller lr \(lr={} was given\)"


@pytest.mark.usefixtures("whole_fits")
@pytest.mark.parametrize("warm_start", [False, True])
@pytest.mark.parametrize(
    ("params", "what"),
    [
        ({"M": None, "lr": 1e3, "max_epochs": 1}, r"[\w.]+ is [n\d]"),
        ({"M": 1.0, "lr": 1e3, "max_epochs": 1}, r"[\w.]+ is [n\d]"),
        ({"likelihood": "heteroscedastic", "lr": 1e3, "max_epochs": 1}, r"[\w.]+ is n"),
        ({"callbacks": [Spoiler("encoder")]}, r"encoder\.\S+ is not finite"),
        ({"callbacks": [Spoiler("likelihood")], "M": None}, r"likelihood\.\S+ is not"),
        ({"callbacks": [Spoiler("posterior")]}, r"posterior\.\S+ is not finite"),
    ],
)
def test_a_fit_is_finite_or_it_fails(small, params, what, warm_start):
    """The loss of each step is finite; what the last one did is not."""
    rows = rng.normal(size=(128, 6))
    kept = {name: params[name] for name in ("M", "likelihood") if name in params}
    mae = small(warm_start=warm_start, **kept).fit(rows)
    before, figures = mae.transform(rows), (mae.mutual_info_, mae.rate_, mae.n_iter_)

    lr = re.escape(str(params.get("lr", 2.5e-3)))
    with pytest.raises(ValueError, match=DIVERGED.format(what, lr)):
        mae.set_params(**params).fit(rows)

    assert (mae.mutual_info_, mae.rate_, mae.n_iter_) == figures
    np.testing.assert_array_equal(mae.transform(rows), before)
    mae.set_params(lr=2.5e-3, callbacks=None, max_epochs=2).fit(rows)
    assert mae.n_iter_ == figures[-1] * warm_start + 2


@pytest.mark.usefixtures("whole_fits")
def test_a_figure_that_is_not_finite_is_refused(small, monkeypatch):
    found = Bracket(0.0, np.inf, 0.0, 0.0, "sandwich")
    monkeypatch.setattr(certification, "information_of_model", lambda *_, **__: found)

    with pytest.raises(
        ValueError, match=r"Training diverged by its end \(mutual_info_ is"
    ):
        small(M=None).fit(X)


# --- rate_ and figures at 0 -----------------------------------------------------------


@pytest.mark.usefixtures("whole_fits")
@pytest.mark.parametrize("M", [None, 1.0])
@pytest.mark.parametrize("encoder", ["gaussian", "resampling"])
def test_the_rate_of_the_training_rows(small, encoder, M):
    mae = small(encoder=encoder, M=M).fit(X)

    assert type(mae.rate_) is float
    assert mae.rate_ == pytest.approx(mae.rate(X).mean(), rel=1e-9)


@pytest.mark.parametrize(("likelihood", "limit"), [("gaussian", 20), ("sequence", 10)])
def test_the_rate_of_many_rows_is_that_of_some(small, monkeypatch, likelihood, limit):
    for kind, most in ((TableLikelihood, 20), (SequenceLikelihood, 10)):
        cost = dataclasses.replace(kind.cost, rated_rows=most)
        monkeypatch.setattr(kind, "cost", cost)
    words = np.column_stack([rng.choice([1, 3, 4], (60, 2)), np.full(60, 2)])
    rows = words if likelihood == "sequence" else X
    sizes = (6, 6) if likelihood == "sequence" else (16,)

    def rates(seed):
        mae = small(
            M=None,
            likelihood=likelihood,
            hidden_layer_sizes=sizes,
            encoder="gaussian",
            n_components=2,
            random_state=seed,
        )
        mae.fit(rows)
        chosen = np.random.default_rng(mae._fitted.seed).permutation(60)[:limit]
        return mae.rate_, mae.rate(rows[chosen]).mean()

    for seed in (0, 1):
        ours, theirs = rates(seed)
        assert ours == pytest.approx(theirs, rel=1e-9)


@pytest.mark.usefixtures("whole_fits")
def test_a_likelihood_says_what_its_certificates_may_cost(small, monkeypatch):
    cost = Cost(budget=123, fit_budget=40_000, fit_samples=70, refinement=0.01)
    monkeypatch.setattr(TableLikelihood, "cost", cost)
    refined, brackets = [], []

    def bracket(model, n_samples, tol, generator, budget, single=False, affordable=0):
        brackets.append((n_samples, budget))
        return Bracket(0.5, 0.6, 0.01, 0.01, "sandwich")

    refine = lambda net, n_steps: refined.append(n_steps)
    monkeypatch.setattr(certification, "refine_posterior", refine)
    for module in (certification, fitted):
        monkeypatch.setattr(module, "information_of_model", bracket)
    mae = small(M=None, max_epochs=10, batch_size=10).fit(X)  # 60 steps

    assert refined == [20]  # of 2,000
    assert brackets == [(70, 32_000)]
    mae.mutual_info(50)
    assert brackets[-1] == (50, 123)


@pytest.mark.usefixtures("whole_fits")
def test_information_next_to_nothing_is_not_negative(small, monkeypatch):
    found = Bracket(-0.02, 0.01, 0.001, 0.001, "sandwich")
    for module in (certification, fitted):
        monkeypatch.setattr(module, "information_of_model", lambda *_, **__: found)

    mae = small(M=0.0).fit(X)

    assert mae.mutual_info_ == 0
    assert mae.mutual_info_interval_ == (0, 0.012)
    assert mae.mutual_info().lower == -0.02  # an estimate keeps its noise


@pytest.mark.usefixtures("whole_fits")
def test_mutual_info_says_that_its_budget_did_not_do(small, monkeypatch):
    asked = []

    def bracket(model, n_samples, tol, generator, budget):
        asked.append(budget)
        return Bracket(0.5, 0.6, 0.01, 0.015, "sandwich")

    monkeypatch.setattr(fitted, "information_of_model", bracket)
    mae = small().fit(X)

    message = r"an interval of 0\.15 nats, wider than tol=0\.1\. Raise n_samples"
    with pytest.warns(ConvergenceWarning, match=message) as caught:
        mae.mutual_info()
    assert [warning.filename for warning in caught] == [__file__]
    with warnings.catch_warnings(action="error"):
        assert mae.mutual_info(6_000, tol=0.1501).lower == 0.5
    assert asked[1] == 3 * asked[0]


def test_more_draws_bracket_more_narrowly(small):
    """What the warning says is true."""
    mae = small(n_components=3).fit(X)

    with pytest.warns(ConvergenceWarning, match=r"\(n_samples=100 was given\)"):
        few = mae.mutual_info(100, tol=1e-3)
    with pytest.warns(ConvergenceWarning, match=r"\(n_samples=8000 was given\)"):
        many = mae.mutual_info(8_000, tol=1e-3)
    widths = [each.upper_se + each.lower_se for each in (few, many)]
    assert widths[1] < widths[0]


# --- callbacks ------------------------------------------------------------------------


class Stop(Callback):
    """Raise KeyboardInterrupt at an event, once an epoch has come."""

    def __init__(self, event, epoch):
        self.event = event
        self.epoch = epoch

    def __getattribute__(self, name):
        if name.startswith("on_") and name == object.__getattribute__(self, "event"):
            return self._maybe
        return object.__getattribute__(self, name)

    def _maybe(self, net, **kwargs):
        if len(net.history) >= self.epoch:
            raise KeyboardInterrupt


class Counter(Callback):
    epochs = 0

    def on_epoch_end(self, net, **kwargs):
        self.epochs += 1


@pytest.mark.parametrize(
    "monitor", ["train_loss", "loss", "distortion", "information_upper"]
)
def test_early_stopping(small, monitor):
    stopping = EarlyStopping(monitor, patience=2, threshold=1e9, threshold_mode="abs")

    mae = small(max_epochs=50, callbacks=[stopping]).fit(X)

    assert mae.n_iter_ == 3
    assert all(len(values) == 3 for values in mae.history_.values())
    assert np.isfinite(mae.transform(X)).all()
    assert np.isfinite(mae.mutual_info_)


@pytest.mark.parametrize(
    ("event", "complete"),
    [
        ("on_epoch_begin", 1),
        ("on_batch_begin", 1),
        ("on_grad_computed", 1),
        ("on_batch_end", 1),
        ("on_epoch_end", 2),
    ],
)
def test_a_callback_may_stop_at_any_event(small, event, complete):
    mae = small(max_epochs=9, callbacks=[Stop(event, 2)]).fit(X)

    assert mae.n_iter_ == complete
    assert all(len(values) == complete for values in mae.history_.values())
    assert np.isfinite(mae.transform(X)).all()
    pickle.dumps(mae)


@pytest.mark.parametrize("event", ["on_epoch_begin", "on_batch_end"])
def test_a_callback_may_stop_in_the_first_epoch(small, event):
    mae = small(max_epochs=9, callbacks=[Stop(event, 1)]).fit(X)

    assert mae.n_iter_ == 0
    assert np.isfinite(mae.transform(X)).all()


@pytest.mark.parametrize("event", ["on_train_begin", "on_train_end"])
def test_a_callback_may_stop_around_the_training(small, event):
    mae = small(callbacks=[Stop(event, 0)]).fit(X)

    assert mae.n_iter_ == (0 if event == "on_train_begin" else 3)
    assert np.isfinite(mae.transform(X)).all()


def test_callbacks_are_cloned(small):
    callback = Counter()
    mae = small(callbacks=[callback]).fit(X)

    ((_, used),) = [pair for pair in mae.net_.callbacks_ if type(pair[1]) is Counter]
    assert used.epochs == 3
    assert callback.epochs == 0
    assert mae.callbacks == [callback]


@pytest.mark.parametrize("warm_start", [False, True])
def test_an_interrupt_propagates_and_the_earlier_fit_stays(
    small, monkeypatch, warm_start
):
    mae = small(warm_start=warm_start).fit(X)
    before, state = mae.transform(X), set(vars(mae))
    interrupt_the_training(monkeypatch)

    with pytest.raises(KeyboardInterrupt):
        mae.fit(X)

    assert set(vars(mae)) == state
    np.testing.assert_array_equal(mae.transform(X), before)


def test_an_interrupt_ends_a_search(small, monkeypatch):
    interrupt_the_training(monkeypatch)

    with pytest.raises(KeyboardInterrupt):
        GridSearchCV(small(), {"M": [1, 2]}, cv=2).fit(X)


def interrupt_the_training(monkeypatch):
    train_step = MutualAutoencoderNet.train_step

    def interrupted(self, batch, **params):
        if self.step_ == 2:
            raise KeyboardInterrupt
        return train_step(self, batch, **params)

    monkeypatch.setattr(MutualAutoencoderNet, "train_step", interrupted)


# --- verbose --------------------------------------------------------------------------


def fit_quietly(mae):
    warnings.simplefilter("ignore")
    return mae.fit(X).transform(X)[0, 0]


@pytest.mark.usefixtures("whole_fits")
@pytest.mark.parametrize("prefer", [None, "threads", "processes"])
def test_silence(small, capfd, prefer):
    if prefer is None:
        fit_quietly(small())
    else:
        jobs = [delayed(fit_quietly)(small()) for _ in range(2)]
        Parallel(n_jobs=2, prefer=prefer)(jobs)

    assert capfd.readouterr() == ("", "")


def lines_of(capfd):
    """What a bar showed, one line after the other; nothing else may be shown."""
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.endswith("\n")
    return [line.rstrip() for line in err.split("\r") if line.strip()]


@pytest.mark.usefixtures("whole_fits")
def test_verbose_shows_one_bar_until_fit_returns(small, capfd):
    small(max_epochs=5, verbose=1).fit(X)

    lines = lines_of(capfd)
    stages = dict.fromkeys(re.match(r"\w+", line).group() for line in lines)
    # epochs this short are shown now and then
    stages = [name for name in stages if name not in ("training", "epoch")]
    assert stages == ["r_omega", "landing", "certificate", "fitted"]
    assert re.search(r"fitted: +100% .*elbo \S+, I \S+, rate \S+$", lines[-1])
    # a notebook's line has about a hundred characters
    assert max(map(len, lines)) <= 100


@pytest.mark.usefixtures("whole_fits")
def test_the_bar_of_a_stopped_training_is_closed(small, capfd):
    mae = small(max_epochs=50, verbose=1, callbacks=[Stop("on_epoch_end", 2)]).fit(X)

    assert lines_of(capfd)[-1].startswith("fitted: ")
    pickle.dumps(mae)


@pytest.mark.usefixtures("whole_fits")
def test_the_bar_of_a_failed_fit_is_closed_where_it_was(small, capfd):
    with pytest.raises(ValueError, match="diverged"):
        small(M=None, lr=1e30, verbose=1).fit(X)

    assert "100%" not in lines_of(capfd)[-1]


# --- ConvergenceWarning ---------------------------------------------------------------


def warnings_of_fit(mae, X):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        mae.fit(X)
    caught = [w for w in caught if "torch.jit" not in str(w.message)]
    return caught


@pytest.mark.usefixtures("whole_fits")
@pytest.mark.parametrize(
    ("params", "rows", "causes"),
    [
        (
            {},
            X,
            ["training took 3 steps, and max_epochs='auto' takes 1500 here: raise"],
        ),
        (
            {"C": 0.01},
            X,
            [
                r"the multiplier of the rate and the model ended at its bound C=0\.01: "
                "raise C",
                "training took 3 steps",
            ],
        ),
        (
            {"C": 0.01, "constraint": "model"},
            X,
            [r"the multiplier of the model ended at its bound C=0\.01"],
        ),
        (
            {"likelihood": "bernoulli"},
            BITS[:, :2],
            ["X has 4 possible outcomes and so at most 1.39 nats: lower M"],
        ),
        (
            {"likelihood": "categorical", "M": 5},
            BITS,
            ["X has 16 possible outcomes and so at most 2.77 nats: lower M"],
        ),
        (
            {"constraint": "paper"},
            X,
            ["constraint='paper' steers by a lower bound: use constraint='both'"],
        ),
    ],
)
def test_one_warning_names_all_causes(small, params, rows, causes):
    (warning,) = warnings_of_fit(small(max_epochs=3, **params), rows)

    assert warning.category is ConvergenceWarning
    assert warning.filename == __file__
    message = str(warning.message)
    assert re.match(r"M=[35] nats was asked for and ", message)
    for cause in causes:
        assert re.search(cause, message)


@pytest.mark.usefixtures("whole_fits")
@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_no_warning_without_a_target(small, likelihood):
    assert not warnings_of_fit(small(M=None, likelihood=likelihood), BITS)


def trained(steps=4000, outcomes=None, model=0.0, rate=0.0):
    """Stand-in for a net, as far as the complaint looks at it."""
    return SimpleNamespace(
        history=[],
        constraints=[
            Rate(SimpleNamespace(multiplier=rate, C=10.0)),
            Information(SimpleNamespace(multiplier=model, C=10.0), None, Schedule()),
        ],
        step_=steps,
        n_steps_=steps,
        holds_decoder=False,
        module_=SimpleNamespace(outcomes=lambda: outcomes),
    )


def complaint(
    small,
    interval,
    net,
    elbo=(-5.0, -4.0),
    rows=None,
    codes_rate=None,
    rate_se=0.0,
    **params,
):
    mae = small(**params)
    net.history = [{"elbo": value} for value in elbo]
    fitted = SimpleNamespace(
        net_=net,
        family=row_family(mae.likelihood),
        mutual_info_interval_=interval,
        rate_=mae.M if codes_rate is None else codes_rate,
        rate_se=rate_se,
    )
    rows = torch.arange(1_000).unsqueeze(1) if rows is None else rows
    return convergence_complaint(mae, fitted, Rows(rows))


@pytest.mark.parametrize(
    ("M", "interval"),
    [
        (3.0, (2.951, 3.059)),
        (3.0, (2.941, 3.049)),
        (0.0, (-0.04, 0.04)),
        (9, (8.83, 9.17)),
    ],
)
def test_a_reached_target_is_no_reason_to_warn(small, M, interval):
    assert complaint(small, interval, trained(steps=5), M=M) is None


@pytest.mark.parametrize(
    ("M", "interval"),
    [(3.0, (2.93, 3.06)), (3.0, (2.95, 3.07)), (0.0, (-0.01, 0.06)), (9, (8.8, 9.0))],
)
def test_either_end_of_the_interval_can_miss(small, M, interval):
    assert complaint(small, interval, trained(), M=M) is not None


@pytest.mark.parametrize(
    ("M", "off", "se", "missed"),
    [
        (3.0, 0.149, 0.0, False),
        (3.0, 0.151, 0.0, True),
        (3.0, 0.19, 0.02, False),
        (3.0, 0.191, 0.02, True),
        (0.5, 0.049, 0.0, False),
        (0.5, 0.051, 0.0, True),
    ],
)
@pytest.mark.parametrize("sign", [1, -1])
def test_the_rate_can_miss_where_the_bracket_does_not(small, M, off, se, missed, sign):
    interval, rate = (M - 0.01, M + 0.01), M + sign * off
    message = complaint(small, interval, trained(), codes_rate=rate, rate_se=se, M=M)

    assert (message is not None) == missed
    if missed:
        said = f"M={M:g} nats was asked for and the codes' rate is {rate:.3g} nats, "
        assert message.startswith(f"{said}not {M:g}. Possible causes: ")


@pytest.mark.parametrize("constraint", ["model", "paper"])
def test_the_rate_is_not_judged_where_it_is_no_constraint(small, constraint):
    reached = (2.99, 3.01), trained()

    message = complaint(small, *reached, codes_rate=9.0, constraint=constraint)
    assert message is None


def test_one_message_names_both_misses(small):
    message = complaint(small, (2.0, 2.1), trained(), codes_rate=10.24)

    assert message.startswith(
        "M=3 nats was asked for and I(x, z) lies in [2.000, 2.100] and the codes' rate "
        "is 10.2 nats, not 3. Possible causes: "
    )


def test_a_multiplier_at_its_bound_is_a_cause_and_no_miss(small):
    at_bound = trained(rate=-10.0)

    assert complaint(small, (2.99, 3.01), at_bound) is None
    message = complaint(small, (2.99, 3.01), at_bound, codes_rate=2.0)
    assert "causes: the multiplier of the rate ended at its bound C=10" in message


@pytest.mark.parametrize(
    ("M", "interval"),
    [(3.0, (2.5, 3.5)), (3.0, (3.0, 3.07)), (0.0, (0.0, 0.2)), (3.0, (2.0, 2.97))],
)
def test_a_wide_interval_around_m_decides_nothing(small, M, interval):
    message = complaint(small, interval, trained(), M=M)

    low, high = interval
    tolerance = max(0.05, 0.02 * M)
    assert message == (
        f"M={M:g} nats was asked for and it is not decided whether I(x, z) is that: it "
        f"lies in [{low:.3f}, {high:.3f}], of which a part is within {tolerance:g} "
        f"nats of M; mutual_info(tol={tolerance:g}, n_samples=20_000) may decide."
    )


def test_what_is_not_decided_is_not_blamed_for_a_rate_that_missed(small):
    message = complaint(small, (2.5, 3.5), trained(steps=5), codes_rate=9.0)

    assert message.startswith(
        "M=3 nats was asked for and the codes' rate is 9 nats, not 3 and it is not "
        "decided whether I(x, z) is that"
    )
    assert "Possible causes: training took 5 steps" in message
    message = complaint(small, (2.5, 3.5), trained(steps=5))
    assert "If it is not, possible causes: training took 5 steps" in message
    message = complaint(small, (2.99, 3.01), trained(), codes_rate=9.0)
    assert "decided" not in message


@pytest.mark.parametrize("interval", [(1.0, 1.5), (2.0, 2.93), (3.07, 4.0)])
def test_a_wide_interval_beside_m_is_a_miss(small, interval):
    message = complaint(small, interval, trained())

    assert "decided" not in message
    assert message.endswith("move M towards what M=None reaches.")


@pytest.mark.parametrize("max_epochs", ["auto", 3])
def test_the_steps_of_auto_are_not_blamed(small, max_epochs):
    message = complaint(small, (1.0, 1.1), trained(1_000), max_epochs=max_epochs)

    assert ("raise max_epochs" in message) == (max_epochs != "auto")


@pytest.mark.parametrize(
    ("rows", "parameters", "clip"),
    [
        (COUNTS, {"likelihood": "poisson"}, SCORED_CLIP),
        (COUNTS, {"likelihood": [("poisson", [1])]}, SCORED_CLIP),
        (np.tile(BITS, 5), {"likelihood": "bernoulli"}, SCORED_CLIP),
        (X, {"mi_gradient": "reinforce"}, SCORED_CLIP),
        (X, {}, None),
        (BITS, {"likelihood": "bernoulli", "mi_gradient": "enumeration"}, None),
        (X, {"likelihood": "autoregressive"}, NEEDS_NO_CODE.clip),
    ],
)
def test_gradients_of_scores_are_clipped(small, rows, parameters, clip):
    """Their rare huge ones would be Adam's normaliser."""
    found = []

    class Clip(Callback):
        def on_train_begin(self, net, **kwargs):
            model = next(c for c in net.constraints if c.name == "model")
            found.append(model.schedule.clip)

    small(encoder="gaussian", callbacks=[Clip()], **parameters).fit(rows)
    assert found == [clip]


@pytest.mark.parametrize(
    ("n_rows", "batch_size", "usual"),
    [(60, "auto", 1_500), (128, "auto", 1_500), (1_000, "auto", 2_000), (60, 6, 2_000)],
)
def test_the_usual_steps_are_those_of_auto(small, n_rows, batch_size, usual):
    rows = torch.arange(n_rows).unsqueeze(1)
    for steps in (usual - 1, usual):
        net = trained(steps)
        given = {"rows": rows, "batch_size": batch_size, "max_epochs": 3}
        message = complaint(small, (1.0, 1.1), net, **given)

        said = f"took {steps} steps, and max_epochs='auto' takes {usual} here: raise"
        assert (said in message) == (steps < usual)
        assert ("raise max_epochs" in message) == (steps < usual)


@pytest.mark.parametrize(
    ("M", "n_components", "reached", "named"),
    [
        (20.0, 2, 7.0, True),
        (20.0, 2, 30.0, False),  # more components would hold still more
        (20.0, 8, 7.0, False),
        (3.5, 1, 3.2, True),
    ],
)
def test_too_few_components_are_named_before_c(small, M, n_components, reached, named):
    bound = 10.0 if reached > M else -10.0
    interval, net = (reached, reached + 0.01), trained(model=bound, rate=bound)
    message = complaint(small, interval, net, M=M, n_components=n_components)

    said = f"raise n_components (n_components={n_components} was given) to "
    assert (said in message) == named
    assert "raise C" in message


def test_so_many_components_are_enough(small):
    message = complaint(small, (7.0, 7.1), trained(), M=20.0, n_components=2)

    assert "M=20 is 10 nats for each component of the code" in message
    assert "to 7 or more before C" in message
    message = complaint(small, (7.0, 7.1), trained(), M=20.0, n_components=7)
    assert "n_components" not in message


@pytest.mark.parametrize("lr", [0.03, 1.0, 10.0])
def test_a_learning_rate_that_explodes_is_named_first(small, lr):
    """From the first epoch on, so that the ELBO need not fall."""
    net = trained(model=-10.0, rate=10.0)
    message = complaint(small, (0.0, 0.01), net, codes_rate=2137.0, lr=lr)

    times = f"{lr / 2.5e-3:.0f} times the default, 0.0025"
    assert f"Possible causes: lr={lr:g} is {times}" in message
    fell = complaint(small, (0.0, 0.01), net, elbo=(-4.0, -9.0), lr=lr)
    assert "raise C" not in fell
    assert "default" not in complaint(small, (0.0, 0.01), net, lr=0.01)


def test_a_learning_rate_that_gets_nowhere_is_named(small):
    net = trained(model=-10.0, rate=-10.0)
    message = complaint(small, (0.0, 0.01), net, lr=1e-5)

    assert "causes: lr=1e-05 is 0.004 times the default, 0.0025: raise" in message
    assert "raise C" not in message
    assert "default" not in complaint(small, (0.0, 0.01), net, lr=1e-4)


def test_a_bound_is_no_cause_where_the_data_are_full(small):
    net = trained(outcomes=torch.zeros(4, 1), rate=-10.0)
    message = complaint(small, (0.9, 1.0), net, M=2.0, likelihood="bernoulli")

    assert "X has 4 possible outcomes" in message
    assert "raise C" not in message


def test_the_elbo_of_an_earlier_fit_is_no_measure(small):
    mae = small(warm_start=True, max_epochs=40, lr=5e-3).fit(X)
    (warning,) = warnings_of_fit(mae.set_params(M=9.0), 2.5 * X)

    assert mae.history_["elbo"][-1] < mae.history_["elbo"][0] - 1
    assert mae.history_["elbo"][-1] > mae.history_["elbo"][40]
    assert "ELBO" not in str(warning.message)


@pytest.mark.parametrize("likelihood", ["poisson", "negative_binomial"])
@pytest.mark.parametrize("spread", [1.0, 10.0])
@pytest.mark.parametrize("reached", [2.0, 4.0])
def test_counts_that_vary_too_much_are_named(small, likelihood, spread, reached):
    counts = np.array([[10.0 - spread, 1.0], [10 + spread, 1], [10, 2]]).repeat(9, 0)
    mae = small(likelihood=likelihood, max_epochs=1).fit(counts)
    rows = torch.tensor(counts)
    fitted = SimpleNamespace(
        net_=trained(),
        family=mae._fitted.family,
        mutual_info_interval_=(reached, reached),
        rate_=3.0,
        rate_se=0.0,
    )

    message = convergence_complaint(mae, fitted, Rows(rows))

    cause = "column(s) 0 vary up to 6.67 times as much: let their likelihood be 'n"
    named = likelihood == "poisson" and spread == 10 and reached > 3
    assert (cause in message) == named
    assert ("vary" in message) == named


@pytest.mark.parametrize("likelihood", ["bernoulli", "categorical", "sequence"])
@pytest.mark.parametrize("M", [1.0, 1.35, 3.0])
def test_rows_that_hold_less_than_m_are_named(small, likelihood, M):
    rows = torch.tensor([[3, 4, 2], [4, 3, 2], [5, 2, 0], [3, 2, 0]]).repeat(25, 1)
    message = complaint(
        small, (0.5, 0.6), trained(), rows=rows, likelihood=likelihood, M=M
    )

    cause = "X holds 4 different rows, 1.39 nats: lower M, or give it more rows"
    assert (cause in message) == (M > 1.3)
    other = complaint(small, (0.5, 0.6), trained(), rows=rows, M=M)
    assert "different rows" not in other  # numbers are hardly ever the same


def test_a_learning_rate_too_large_is_named(small):
    net = trained(model=10.0, rate=10.0)
    message = complaint(small, (0.9, 99.0), net, elbo=(-5.0, -8872.4), lr=0.004)

    assert "raise C" not in message
    assert (
        "training ended with a lower ELBO than it began with, -8872 after -5: lower "
        "lr (lr=0.004 was given) or M"
    ) in message


def test_noise_of_the_elbo_is_no_learning_rate_too_large(small):
    assert "ELBO" not in complaint(small, (0.9, 2.0), trained(), elbo=(-5.0, -5.9))


def test_all_causes_at_once(small):
    outcomes = torch.zeros(4, 2)
    net = trained(steps=5, outcomes=outcomes, model=10.0, rate=10.0)

    message = complaint(small, (1.0, 3.3), net)

    for cause in ("possible outcomes", "5 steps"):
        assert cause in message
    message = complaint(small, (1.0, 3.3), trained(steps=5, model=10.0, rate=10.0))
    for cause in ("ended at its bound", "5 steps"):
        assert cause in message


def test_no_known_cause(small):
    message = complaint(small, (2.0, 2.01), trained())

    assert "the data or the decoder resist it" in message


# --- C and noise scales ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "n_columns", "C"),
    [
        ({}, 4, 10.0),
        ({}, 10, 10.0),
        ({}, 484, 484.0),
        ({"constraint": "model"}, 484, 484.0),
        ({"constraint": "paper"}, 484, 10.0),
        ({"C": 3}, 484, 3.0),
        ({"C": 3, "constraint": "paper"}, 484, 3.0),
    ],
)
def test_the_bound_on_multipliers(small, params, n_columns, C):
    assert resolve_C(small(**params), n_columns) == C


@pytest.mark.parametrize(("C", "bound"), [("auto", 100.0), (10.0, 10.0)])
def test_a_wide_table_takes_a_multiplier_above_ten(small, C, bound):
    noise = np.random.default_rng(0).normal(size=(40, 101))
    wide = noise[:, :1] + 0.1 * noise[:, 1:]  # one factor behind all columns
    mae = small(M=0.1, C=C, lr=1e-2, max_epochs=300, encoder="gaussian").fit(wide)

    highest = mae.history_["multiplier_rate"].max()
    assert 10 <= highest <= bound
    assert (highest > 10) == (C == "auto")


@pytest.mark.parametrize("likelihood", ["gaussian", "heteroscedastic"])
def test_noise_has_a_floor_where_few_rows_carry_a_column(small, likelihood):
    rows = np.random.default_rng(0).normal(size=(300, 3))
    rows[:, 1:] = 0
    rows[0, 1] = rows[:20, 2] = 1  # one row, twenty rows
    mae = small(likelihood=likelihood, M=None, min_scale=0.02, max_epochs=1).fit(rows)

    floor = mae.net_.module_.likelihood.floor.exp()
    p = np.array([1, 20]) / 300
    carried_by = 300 * p * (1 - p) / (1 - 3 * p + 3 * p**2)
    assert floor[1:].tolist() == pytest.approx(3 / (5 + carried_by), rel=1e-5)
    assert 0.02 <= floor[0] < 0.05


# --- mi_gradient ----------------------------------------------------------------------

WIDE = (rng.random((30, 20)) < 0.5).astype(float)


@pytest.mark.parametrize(
    ("mi_gradient", "params", "rows", "message"),
    [
        (
            "reparametrised",
            {"likelihood": "bernoulli"},
            BITS,
            "'bernoulli' has none. Use mi_gradient='enumeration' or 'auto'",
        ),
        (
            "reparametrised",
            {"likelihood": "categorical"},
            WIDE,
            "'categorical' has none. Use mi_gradient='reinforce' or 'auto'",
        ),
        ("enumeration", {}, X, "likelihood='gaussian' on 4 varying column"),
        (
            "enumeration",
            {"likelihood": "bernoulli"},
            WIDE,
            "at most 10,000 outcomes .* on 20 varying column.* Use mi_gradient='auto'",
        ),
    ],
)
def test_impossible_gradients_are_refused(small, mi_gradient, params, rows, message):
    with pytest.raises(
        ValueError, match=f"mi_gradient={mi_gradient!r} needs.*{message}"
    ):
        small(mi_gradient=mi_gradient, **params).fit(rows)


@pytest.mark.parametrize("constraint", ["both", "paper"])
@pytest.mark.parametrize(
    ("mi_gradient", "likelihood", "rows"),
    [
        ("auto", "gaussian", X),
        ("reparametrised", "heteroscedastic", X),
        ("reinforce", "gaussian", X),
        ("auto", "bernoulli", BITS),
        ("enumeration", "bernoulli", BITS),
        ("reinforce", "bernoulli", WIDE),
        ("enumeration", "categorical", BITS),
        ("auto", "categorical", WIDE),
    ],
)
def test_possible_gradients(small, constraint, mi_gradient, likelihood, rows):
    mae = small(mi_gradient=mi_gradient, likelihood=likelihood, constraint=constraint)

    history = mae.fit(rows).history_

    assert np.isfinite(history["information_lower"]).all()


def test_an_impossible_gradient_is_no_matter_without_a_target(small):
    small(M=None, mi_gradient="enumeration").fit(X)


# --- callables ------------------------------------------------------------------------


class NormalEncoder(nn.Module):
    def __init__(self, n_features, n_components):
        super().__init__()
        self.n_features = n_features
        self.network = nn.Linear(n_features, 2 * n_components)

    def parameters_of(self, x):
        self.seen = x.detach()
        mean, raw = self.network(x).chunk(2, -1)
        return mean, nn.functional.softplus(raw) + 1e-3

    def forward(self, x):
        return Independent(Normal(*self.parameters_of(x)), 1)


class FlatEncoder(NormalEncoder):
    def forward(self, x):
        return Normal(*self.parameters_of(x))


class LaplaceEncoder(NormalEncoder):
    def forward(self, x):
        return Independent(Laplace(*self.parameters_of(x)), 1)


class FullEncoder(NormalEncoder):
    def forward(self, x):
        mean, scale = self.parameters_of(x)
        return MultivariateNormal(mean, scale_tril=torch.diag_embed(scale))


class DropoutEncoder(NormalEncoder):
    def forward(self, x):
        return super().forward(nn.functional.dropout(x, 0.3, self.training))


class NormalLikelihood(nn.Module):
    def __init__(self, n_features, n_components):
        super().__init__()
        self.mean = nn.Linear(n_components, n_features)
        self.log_scale = nn.Parameter(torch.zeros(n_features))

    def forward(self, z):
        return Independent(Normal(self.mean(z), self.log_scale.exp()), 1)


class DropoutLikelihood(NormalLikelihood):
    def forward(self, z):
        return super().forward(nn.functional.dropout(z, 0.3, self.training))


class PoissonLikelihood(nn.Module):
    def __init__(self, n_features, n_components):
        super().__init__()
        self.log_rate = nn.Linear(n_components, n_features)

    def forward(self, z):
        return Poisson(nn.functional.softplus(self.log_rate(z)))


def function_factory(n_features, n_components):
    return NormalEncoder(n_features, n_components)


@pytest.mark.parametrize("n_resamples", [1, 5])
@pytest.mark.parametrize(
    "encoder",
    [
        NormalEncoder,
        FlatEncoder,
        LaplaceEncoder,
        FullEncoder,
        DropoutEncoder,
        function_factory,
        functools.partial(NormalEncoder),
    ],
)
def test_encoder_callables(small, encoder, n_resamples):
    mae = small(encoder=encoder, n_resamples=n_resamples).fit(X)
    Z = mae.transform(X)

    assert Z.shape == (60, 8)
    np.testing.assert_array_equal(mae.transform(X), Z)
    np.testing.assert_allclose(mae.transform(X[3:5]), Z[3:5], atol=1e-12)
    for method in (mae.rate, mae.distortion, mae.score_samples, mae.log_likelihood):
        values = method(X)
        assert np.isfinite(values).all()
        np.testing.assert_allclose(method(X[3:5]), values[3:5], atol=1e-9)
    mae.set_params(codes="sample")
    np.testing.assert_allclose(mae.transform(X)[3:5], mae.transform(X[3:5]), atol=1e-12)
    copied = pickle.loads(pickle.dumps(mae))
    np.testing.assert_array_equal(copied.transform(X), mae.transform(X))


@pytest.mark.usefixtures("whole_fits")
@pytest.mark.parametrize("constraint", ["both", "paper"])
@pytest.mark.parametrize(
    ("likelihood", "rows"),
    [(NormalLikelihood, X), (DropoutLikelihood, X), (PoissonLikelihood, COUNTS)],
)
def test_likelihood_callables(small, likelihood, rows, constraint):
    mae = small(likelihood=likelihood, constraint=constraint).fit(rows)
    Z = mae.transform(rows)

    assert mae.inverse_transform(Z).shape == rows.shape
    assert mae.sample(5, random_state=0).shape == (5, rows.shape[1])
    np.testing.assert_array_equal(
        mae.sample(5, random_state=0), mae.sample(5, random_state=0)
    )
    bound = mae.score_samples(rows)
    np.testing.assert_allclose(bound, -mae.rate(rows) - mae.distortion(rows))
    assert mae.mutual_info().method == "sandwich"


class Frozen(NormalLikelihood):
    """Nothing of it trains."""

    def __init__(self, n_features, n_components):
        super().__init__(n_features, n_components)
        self.requires_grad_(False)


class DifferentInTraining(NormalLikelihood):
    """A parameter that is used in training mode alone."""

    def __init__(self, n_features, n_components):
        super().__init__(n_features, n_components)
        self.shift = nn.Parameter(torch.zeros(n_features))

    def forward(self, z):
        p = super().forward(z)
        shift = self.shift if self.training else 0.0
        return Independent(Normal(p.mean + shift, p.stddev), 1)


@pytest.mark.usefixtures("whole_fits")
@pytest.mark.parametrize("likelihood", [Frozen, DifferentInTraining])
def test_a_likelihood_callable_may_train_in_part(small, likelihood):
    mae = small(likelihood=likelihood, M=0.5, max_epochs=20).fit(X)

    assert np.isfinite(mae.mutual_info_)


@pytest.mark.usefixtures("whole_fits")
def test_a_fit_that_is_too_short_says_so_and_is_not_forced(small):
    """What training left far off is not landed by the decoder alone."""
    short = small(M=3.0, n_components=2, max_epochs=20)
    with pytest.warns(ConvergenceWarning, match=r"training took \d+ steps"):
        short.fit(X)

    # the bound is where the training left it
    assert short.score(X) > short.history_["elbo"][-1] - 1


class PartlyTrainable(NormalLikelihood):
    """Parameters that are frozen, and others that nothing depends on."""

    def __init__(self, n_features, n_components):
        super().__init__(n_features, n_components)
        self.unused = nn.Linear(3, 3)
        self.frozen = nn.Parameter(torch.ones(n_features), requires_grad=False)

    def forward(self, z):
        p = super().forward(z)
        return Independent(Normal(p.mean + self.frozen, p.stddev), 1)


@pytest.mark.usefixtures("whole_fits")
def test_a_likelihood_callable_may_hold_parameters_that_do_not_train(small):
    mae = small(likelihood=PartlyTrainable, M=0.5, max_epochs=20).fit(X)
    likelihood = mae.net_.module_.likelihood.module

    assert (likelihood.frozen == 1).all()
    assert np.isfinite(mae.mutual_info_)
    np.testing.assert_array_equal(
        pickle.loads(pickle.dumps(mae)).transform(X), mae.transform(X)
    )


def test_a_likelihood_callable_models_the_columns_as_given(small):
    mae = small(likelihood=PoissonLikelihood, M=None, max_epochs=300, lr=0.01)
    mae.fit(COUNTS)
    z = np.zeros((1, 8))

    # a distribution over counts sums to one; its mean is what is decoded
    counts = np.arange(60.0)
    rows = np.column_stack([counts, np.full((60, 2), 1.0)])
    at_one = np.exp(mae.conditional_log_prob(rows, np.repeat(z, 60, 0)))
    mean = (at_one * counts).sum() / at_one.sum()
    assert mae.inverse_transform(z)[0, 0] == pytest.approx(mean, rel=1e-6)
    np.testing.assert_allclose(
        mae.reconstruct(COUNTS).mean(0), COUNTS.mean(0), rtol=0.25
    )
    drawn = mae.sample(200, random_state=0)
    np.testing.assert_array_equal(drawn, np.floor(drawn))


def test_callables_get_the_columns_that_vary(small):
    padded = np.insert(1000 * X + 5, 2, 7.0, axis=1)
    asked = []

    def encoder(n_features, n_components):
        asked.append((n_features, n_components))
        return NormalEncoder(n_features, n_components)

    def likelihood(n_features, n_components):
        asked.append((n_features, n_components))
        return NormalLikelihood(n_features, n_components)

    mae = small(encoder=encoder, likelihood=likelihood, n_components=3).fit(padded)
    mae.transform(padded)

    assert asked == [(4, 3), (4, 3)]
    small(encoder=encoder).fit(padded)
    assert asked[-1] == (4, 8)


@pytest.mark.parametrize("likelihood", ["gaussian", NormalLikelihood])
def test_encoder_callables_see_standardised_columns(small, likelihood):
    mae = small(encoder=NormalEncoder, likelihood=likelihood).fit(1000 * X + 5)
    seen = mae.net_.module_.encoder.module.seen.numpy()

    np.testing.assert_allclose(seen.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(seen.std(0), 1, rtol=1e-5)


def test_encoder_callables_see_categories_one_hot(small):
    codes = np.column_stack([rng.choice([3, 7, 9], 60), rng.choice([0, 5], 60)])
    mae = small(encoder=NormalEncoder, likelihood="categorical").fit(codes)
    seen = mae.net_.module_.encoder.module.seen.numpy()

    assert seen.shape[1] == 5
    assert set(seen.ravel()) == {0, 1}
    np.testing.assert_array_equal(seen.sum(1), 2)


def test_one_categorical_column_has_a_table(small):
    codes = rng.choice([3, 7, 9], (60, 1))
    mae = small(likelihood="categorical", lr=1e-9).fit(codes)
    Z = mae.transform(np.array([[3], [7], [9]]))

    # distinct initial means, of unit size
    apart = np.linalg.norm(Z[:, None] - Z, axis=-1)[np.triu_indices(3, 1)]
    assert apart.min() > 0.5


@pytest.mark.usefixtures("whole_fits")
@pytest.mark.parametrize(
    "params",
    [
        {"encoder": DropoutEncoder},
        {"likelihood": DropoutLikelihood},
        {"likelihood": DropoutLikelihood, "M": None},
        {"likelihood": DropoutLikelihood, "constraint": "paper"},
        {"encoder": LaplaceEncoder, "likelihood": DropoutLikelihood},
    ],
    ids=repr,
)
def test_callables_that_draw_are_reproducible(small, params):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = small(**params).fit(X)
    one.transform(X)
    one.log_likelihood(X)
    one.sample(3, random_state=0)
    assert torch.equal(torch.get_rng_state(), before)

    torch.manual_seed(2)
    other = small(**params).fit(X)

    assert_same_fit(one, other)
    np.testing.assert_array_equal(other.transform(X), one.transform(X))


@pytest.mark.parametrize("name", ["encoder", "likelihood"])
def test_instances_are_refused(small, name):
    module = NormalEncoder(4, 8) if name == "encoder" else NormalLikelihood(4, 8)

    with pytest.raises(
        TypeError, match=f"{name}=Normal.* is a module, already built: it"
    ):
        small(**{name: module}).fit(X)


@pytest.mark.parametrize("name", ["encoder", "likelihood"])
def test_callables_must_return_modules(small, name):
    with pytest.raises(TypeError, match=f"{name} returned int; it must return an nn.M"):
        small(**{name: lambda n_features, n_components: 3}).fit(X)


class Returning(nn.Module):
    """Its forward returns what a function makes of the input."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return self.function(x * self.weight)


def returning(function):
    return lambda n_features, n_components: Returning(function)


def normal(shape):
    return lambda x: Normal(x.new_zeros((len(x), *shape)), 1.0)


@pytest.mark.parametrize("name", ["encoder", "likelihood"])
@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (lambda x: x, TypeError, "The forward of the {}'s module returned Tensor"),
        (normal((5,)), ValueError, r"The Distribution of the {} covers .* \(2, 5\)"),
        (normal(()), ValueError, "The Distribution of the {} covers"),
        (
            lambda x: x @ torch.ones(x.shape[-1], 8),
            ValueError,
            "The module that {}=.* fails on an input of shape .* It is trained in "
            "float32 and used in float64: create no tensor of a fixed type in it",
        ),
        (
            lambda x: 1 / 0,
            ValueError,
            "The module that {}=.* ZeroDivisionError: divi",
        ),
    ],
    ids=["tensor", "wide", "flat", "fixed type", "broken"],
)
def test_wrong_callables_are_named(small, name, function, error, message):
    with pytest.raises(error, match=message.format(name)):
        small(**{name: returning(function)}).fit(X)


def test_an_encoder_needs_reparametrised_draws(small):
    bits = returning(lambda x: Independent(Bernoulli(torch.sigmoid(x[:, :3])), 1))

    with pytest.raises(ValueError, match=r"has no reparametrised samples \(rsample\)"):
        small(encoder=bits, n_components=3).fit(X)


def test_a_likelihood_without_reparametrised_draws_refuses_them(small):
    with pytest.raises(ValueError, match="mi_gradient='reparametrised' needs"):
        small(likelihood=PoissonLikelihood, mi_gradient="reparametrised").fit(COUNTS)


def test_a_callback_that_asks_for_a_figure_that_is_not_there(small):
    mae = small(callbacks=[EarlyStopping()])

    with pytest.raises(ValueError, match=r"valid_loss.* no validation split; monitor"):
        mae.fit(X)


@pytest.mark.usefixtures("whole_fits")
def test_the_warning_names_a_callback_that_ended_the_training(small):
    class Stop(Callback):
        def on_epoch_end(self, net, **kwargs):
            raise KeyboardInterrupt

    mae = small(M=5.0, max_epochs=5, callbacks=[Stop()])
    with pytest.warns(ConvergenceWarning, match="a callback ended the training after"):
        mae.fit(X)
