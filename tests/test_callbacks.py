"""Callbacks: which of skorch's own work, and what is said of the rest."""

import numpy as np
import pytest
import skorch.callbacks as skorch_callbacks
import torch
from numpy.testing import assert_array_equal
from skorch.callbacks import (
    BatchScoring,
    Callback,
    Checkpoint,
    EarlyStopping,
    EpochScoring,
    EpochTimer,
    Freezer,
    GradientNormClipping,
    Initializer,
    InputShapeSetter,
    LoadInitState,
    LRScheduler,
    MlflowLogger,
    NeptuneLogger,
    ParamMapper,
    PassthroughScoring,
    PrintLog,
    ProgressBar,
    SacredLogger,
    TensorBoard,
    TrainEndCheckpoint,
    Unfreezer,
    WandbLogger,
    WarmRestartLR,
)

from sklearn_mae import information_path
from sklearn_mae.estimator.callbacks import TAKEN, cloned_callbacks

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X = np.random.default_rng(0).normal(size=(40, 4))


class Sink:
    """Keeps what is printed, also for its copies."""

    def __init__(self):
        self.lines = []

    def __call__(self, line):
        self.lines.append(line)

    def __deepcopy__(self, memo):
        return self


class Look(Callback):
    """Hands what it sees to a sink."""

    def __init__(self, sink, look, event="on_epoch_end"):
        self.sink, self.look, self.event = sink, look, event

    def on_epoch_end(self, net, **kwargs):
        if self.event == "on_epoch_end":
            self.sink(self.look(net))

    def on_grad_computed(self, net, named_parameters, **kwargs):
        if self.event == "on_grad_computed":
            self.sink(self.look(dict(named_parameters)))


# --- what works -----------------------------------------------------------------------


@pytest.mark.parametrize("monitor", ["loss", "train_loss", "elbo", "information_lower"])
def test_early_stopping(small, monitor):
    stopping = EarlyStopping(monitor, 2, threshold=1e9, threshold_mode="abs")

    assert small(max_epochs=9, callbacks=[stopping]).fit(X).n_iter_ == 3


def test_early_stopping_with_the_best_weights(small):
    sink = Sink()
    first = lambda net: next(net.module_.encoder.parameters()).detach().clone()
    stopping = EarlyStopping(
        "loss", patience=3, threshold=1e9, threshold_mode="abs", load_best=True
    )
    mae = small(max_epochs=9, callbacks=[Look(sink, first), stopping]).fit(X)

    assert mae.n_iter_ == len(sink.lines) < 9
    weights = next(mae.net_.module_.encoder.parameters()).detach()
    assert torch.equal(weights, sink.lines[0])
    assert not torch.equal(weights, sink.lines[-1])


def test_print_log(small):
    sink = Sink()

    mae = small(callbacks=[PrintLog(sink=sink)]).fit(X)

    head, _, *rows = "\n".join(sink.lines).split("\n")
    assert {"epoch", "elbo", "rate", "loss", "information_upper"} <= set(head.split())
    assert len(rows) == 3
    for row, rate in zip(rows, mae.history_["rate"], strict=True):
        assert f"{rate:.4f}" in row


def test_progress_bar(small, capfd):
    small(batch_size=20, callbacks=[ProgressBar()]).fit(X)

    assert capfd.readouterr().err.count("0/2 ") >= 3


def test_gradient_norm_clipping(small):
    norm = lambda parameters: float(
        torch.stack(
            [p.grad.norm() for p in parameters.values() if p.grad is not None]
        ).norm()
    )
    before, after = Sink(), Sink()
    callbacks = [
        ("before", Look(before, norm, "on_grad_computed")),
        GradientNormClipping(1e-3),
        ("after", Look(after, norm, "on_grad_computed")),
    ]

    small(callbacks=callbacks).fit(X)

    assert min(before.lines) > 2e-3
    assert max(after.lines) < 1.1e-3


def test_epoch_timer_and_passthrough_scoring(small):
    sink = Sink()
    callbacks = [
        ("timer", EpochTimer()),
        PassthroughScoring("train_batch_size", on_train=True),
        Look(sink, lambda net: dict(net.history[-1])),
    ]

    small(batch_size=20, callbacks=callbacks).fit(X)

    assert len(sink.lines) == 3
    assert all(epoch["train_batch_size"] == 20 for epoch in sink.lines)
    assert all(epoch["dur"] > 0 for epoch in sink.lines)


def test_those_that_work_are_tested():
    names = {each.__name__ for each in TAKEN}

    assert names == {
        "EarlyStopping",
        "EpochTimer",
        "GradientNormClipping",
        "PassthroughScoring",
        "PrintLog",
        "ProgressBar",
    }


# --- what does not --------------------------------------------------------------------

REFUSED = [
    (BatchScoring("r2"), "no validation split and no y"),
    (EpochScoring("r2"), "no validation split and no y"),
    (EpochScoring("r2", on_train=True), "no validation split and no y"),
    (Checkpoint(), r"Save the fitted estimator instead.*load_best=True"),
    (Checkpoint(monitor=None), "Save the fitted estimator instead"),
    (TrainEndCheckpoint(), "Save the fitted estimator instead"),
    (LoadInitState(Checkpoint()), "Save the fitted estimator instead"),
    (Freezer("encoder*"), r"a callable that .* requires_grad_\(False\)"),
    (Unfreezer("encoder*"), r"a callable that .* requires_grad_\(False\)"),
    (ParamMapper("encoder*"), r"a callable that .* requires_grad_\(False\)"),
    (Initializer("*", torch.nn.init.zeros_), "a callable that initialises its module"),
    (InputShapeSetter(), "The sizes of the networks follow from X"),
    (LRScheduler(), "The rate has a schedule of its own"),
    (PassthroughScoring("loss"), "pass on_train=True"),
    (TensorBoard(None), "Log history_ after fit"),
    (WandbLogger(None), "Log history_ after fit"),
    (SacredLogger(None), "Log history_ after fit"),
    (MlflowLogger(object(), object()), "Log history_ after fit"),
    (object.__new__(NeptuneLogger), "Log history_ after fit"),
]


@pytest.mark.parametrize(
    ("callback", "instead"), REFUSED, ids=lambda value: type(value).__name__
)
@pytest.mark.parametrize("named", [False, True])
def test_those_that_do_not_work_are_refused_before_training(
    small, monkeypatch, callback, instead, named
):
    mae = small().fit(X)
    before = mae.transform(X)
    name = type(callback).__name__
    monkeypatch.setattr(type(mae), "_checked", None)  # nothing is read of X

    mae.set_params(callbacks=[Counter(), ("it", callback) if named else callback])
    message = rf"callbacks\[1\] is a {name}, .*{instead}.* these do: EarlyStopping, "
    with pytest.raises(ValueError, match=message):
        mae.fit(X)

    monkeypatch.undo()
    assert_array_equal(mae.transform(X), before)


def test_every_callback_of_skorch_is_known():
    refused = {type(callback).__name__ for callback, _ in REFUSED}
    taken = {each.__name__ for each in TAKEN}
    # the last is a scheduler of torch's, no callback
    others = {"Callback", "WarmRestartLR"}

    assert set(skorch_callbacks.__all__) == refused | taken | others


class Scheduler(LRScheduler):
    """Still one of skorch's: it inherits what does not work."""


class Own(EpochScoring):
    """Nothing of skorch's hooks is left."""

    def __init__(self):
        pass

    def initialize(self):
        return self

    def on_train_begin(self, net, **kwargs):
        self.epochs = 0

    def on_epoch_begin(self, net, **kwargs):
        pass

    def on_batch_end(self, net, **kwargs):
        pass

    def on_epoch_end(self, net, **kwargs):
        self.epochs += 1

    def on_train_end(self, net, **kwargs):
        pass


class Stopping(EarlyStopping):
    """A subclass of one that works."""


class Counter(Callback):
    epochs = 0

    def on_epoch_end(self, net, **kwargs):
        self.epochs += 1


def test_subclasses(small):
    with pytest.raises(ValueError, match=r"\[0\] is a Scheduler, and skorch's LRSched"):
        small(callbacks=[Scheduler()]).fit(X)

    stopping = Stopping("loss", 2, threshold=1e9, threshold_mode="abs")
    mae = small(max_epochs=9, callbacks=[Own(), Counter(), stopping]).fit(X)

    assert mae.n_iter_ == 3


class NotCloneable(Callback):
    def __init__(self, log):
        self._log = log


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (5, r"callbacks\[0\] is 5 of type int\. Pass instances of skorch"),
        ("x", r"callbacks\[0\] is 'x' of type str\. Pass instances"),
        (None, r"callbacks\[0\] is None of type NoneType"),
        (("a", "b", "c"), r"callbacks\[0\] is \('a', 'b', 'c'\) of type tuple"),
        (("a", Counter(), 1), r"callbacks\[0\] is .* of type tuple.* or pairs of a na"),
        (("a", None), r"callbacks\[0\] is \('a', None\) of type tuple"),
        ((1, Counter()), r"callbacks\[0\] is .* of type tuple"),
        (["a", Counter()], r"callbacks\[0\] is .* of type list"),
        (Counter, r"callbacks\[0\] is .* of type type, a class: call it"),
        (WarmRestartLR, r"callbacks\[0\] is .* of type .*, a class: call it"),
        (lambda net: None, r"callbacks\[0\] is .* of type function"),
        (NotCloneable([]), r"callbacks\[0\], a NotCloneable, cannot be cloned, as fit"),
    ],
)
def test_what_is_no_callback(small, entry, message):
    with pytest.raises(TypeError, match=message):
        small(callbacks=[entry]).fit(X)


def test_a_path_refuses_them_too(small):
    with pytest.raises(ValueError, match=r"callbacks\[0\] is a Checkpoint"):
        information_path(small(callbacks=[Checkpoint()]), X, [1.0, 2.0])


def test_clones():
    callback = Counter()

    (one, (name, other)) = cloned_callbacks([callback, ("name", callback)])

    assert name == "name"
    assert type(one) is type(other) is Counter
    assert len({id(callback), id(one), id(other)}) == 3
    assert cloned_callbacks(None) == cloned_callbacks([]) == []
