"""What a fit is on disk: arrays and plain values, for pickle, joblib and skops."""

import copy
import functools
import json
import pickle
import re
import subprocess
import sys
import warnings
import zipfile
from io import BytesIO
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import skops.io
import torch
from sklearn.base import clone
from skops.io.exceptions import UntrustedTypesFoundException
from torch import nn
from torch.distributions import Independent, Normal

import sklearn_mae
from sklearn_mae import MutualAutoencoder
from sklearn_mae.estimator import fitting, saving

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

ROOT = Path(__file__).parents[1]
rng = np.random.default_rng(0)
X = rng.normal(size=(40, 2)) @ rng.normal(size=(2, 4)) + 0.3 * rng.normal(size=(40, 4))
X_PADDED = np.insert(100 * X + 5, 2, 7.0, axis=1)
BITS = (X > 0).astype(float)
CATEGORIES = np.column_stack([rng.choice([3, 7, 9], 40), rng.choice([0, 5], 40)])
WORDS = np.column_stack([rng.choice([1, 3, 4], (40, 3)), np.full(40, 2)])
OURS = "sklearn_mae.estimator.mutual_autoencoder.MutualAutoencoder"


# --- a user's modules -----------------------------------------------------------------


class Encoder(nn.Module):
    """What a state_dict does not hold comes from the seed: plain random numbers."""

    def __init__(self, n_features, n_components):
        super().__init__()
        self.turn = torch.randn(n_features).tolist()
        self.norm = nn.BatchNorm1d(n_features)  # its state is buffers
        self.network = nn.Linear(n_features, n_components)
        self.log_scale = nn.Parameter(torch.zeros(n_components))
        self.register_buffer("fixed", torch.ones(()), persistent=False)

    def forward(self, x):
        turned = x * x.new_tensor(self.turn)
        normed = self.norm(turned.flatten(0, -2)).reshape(x.shape)
        mean = self.network(nn.functional.dropout(normed, 0.2, self.training))
        return Normal(mean, self.fixed * self.log_scale.exp().expand_as(mean))


class Likelihood(nn.Module):
    def __init__(self, n_features, n_components, scale=1.0):
        super().__init__()
        self.scale = scale
        self.mean = nn.Linear(n_components, n_features)

    def forward(self, z):
        mean = self.mean(z)
        return Independent(Normal(mean, self.scale * torch.ones_like(mean)), 1)


class Lazy(Likelihood):
    """Its parameters get their shapes from the first input."""

    def __init__(self, n_features, n_components):
        super().__init__(n_features, n_components)
        self.mean = nn.LazyLinear(n_features)


class Shifted(Likelihood):
    """A plain tensor that changes while training."""

    shift = 0.0

    def forward(self, z):
        if self.training:
            self.shift = self.shift + 0.01
        p = super().forward(z)
        return Independent(Normal(p.mean + self.shift, p.stddev), 1)


class ShiftedEncoder(Encoder):
    """The same of an encoder, as little as an average over batches changes."""

    seen = 0.0

    def forward(self, x):
        if self.training:
            self.seen = self.seen + 1e-6
        q = super().forward(x)
        return Normal(q.mean + self.seen, q.stddev)


class Outside(Likelihood):
    """An output that depends on what is no part of the module."""

    knob = 0.0

    def forward(self, z):
        p = super().forward(z)
        return Independent(Normal(p.mean + Outside.knob, p.stddev), 1)


class ExtraState(Likelihood):
    def get_extra_state(self):
        return {"notes": "mine"}

    def set_extra_state(self, state):
        pass


class HalfBuffer(Likelihood):
    """A tensor of a type that numpy has not."""

    def __init__(self, n_features, n_components):
        super().__init__(n_features, n_components)
        self.half = {"weight": nn.Buffer(torch.ones(2, dtype=torch.bfloat16))}

    def state_dict(self, *args, prefix="", **kwargs):
        state = super().state_dict(*args, prefix=prefix, **kwargs)
        state[f"{prefix}half"] = self.half["weight"]
        return state


class Once:
    """A factory that builds something else the second time."""

    def __init__(self):
        self.built = 0

    def __call__(self, n_features, n_components):
        self.built += 1
        module = Likelihood(n_features, n_components)
        module.extra = nn.Linear(self.built, 1)
        return module


class Child(MutualAutoencoder):
    """A subclass with an attribute of its own."""

    def fit(self, X, y=None):
        super().fit(X, y)
        self.n_rows_ = len(X)
        return self


# --- round trips ----------------------------------------------------------------------

TINY = {"n_components": 3, "hidden_layer_sizes": (8,)}
CASES = {
    "gaussian": (X_PADDED, {}),
    "frame": (pd.DataFrame(X, columns=list("abcd")), {"M": None}),
    "isotropic": (X_PADDED, {"likelihood": "isotropic"}),
    "heteroscedastic": (X, {"likelihood": "heteroscedastic", "encoder": "gaussian"}),
    "bernoulli": (BITS, {"likelihood": "bernoulli", "constraint": "paper"}),
    "categorical": (CATEGORIES, {"likelihood": "categorical"}),
    "poisson": (CATEGORIES, {"likelihood": "poisson"}),
    "negative binomial": (CATEGORIES, {"likelihood": "negative_binomial"}),
    "one category": (CATEGORIES[:, :1], {"likelihood": "categorical"}),
    "sequence": (WORDS, {"likelihood": "sequence", "hidden_layer_sizes": (4, 6)}),
    "autoregressive": (
        pd.DataFrame({"a": X[:, 0], "b": X[:, 1].round(1), "c": X[:, 2] > 0}),
        {"likelihood": "autoregressive"},
    ),
    "shallow": (X, {"hidden_layer_sizes": (), "activation": "tanh"}),
    "encoder": (X, {"encoder": Encoder, "n_resamples": 1}),
    "likelihood": (X, {"likelihood": Likelihood, "encoder": Encoder, "M": None}),
    "partial": (X, {"likelihood": functools.partial(Likelihood, scale=2.0)}),
    "lazy": (X, {"likelihood": Lazy, "M": None}),
    "encoder of words": (
        WORDS,
        {"likelihood": "sequence", "hidden_layer_sizes": (4, 6), "encoder": "gaussian"},
    ),
    "warm": (X, {"warm_start": True, "encoder": Encoder}),
}
every_case = pytest.mark.parametrize("case", CASES)


@pytest.fixture(scope="module")
def fitted(small):
    """Return a function that gives a fit, made once, and its rows."""
    kept = {}

    def get(case="gaussian"):
        if case not in kept:
            rows, params = CASES[case]
            mae = small(**{**TINY, **params}).fit(rows)
            if case == "warm":  # its seed is no longer that of the first weights
                mae.fit(rows)
            kept[case] = mae, rows
        return kept[case]

    return get


@pytest.fixture(scope="module")
def figures_of(fitted):
    """Return a function that gives the figures of a fit, computed once."""
    return functools.cache(lambda case="gaussian": figures(*fitted(case)))


def trusted_types(data):
    """Names that a reader would have to trust; none but ours and the user's."""
    names = skops.io.get_untrusted_types(data=data)
    for name in names:
        assert name in (OURS, "functools.partial") or name.startswith("tests.")
    return names


def through_pickle(mae, path):
    return pickle.loads(pickle.dumps(mae))


def through_joblib(mae, path):
    joblib.dump(mae, path / "mae.joblib")
    return joblib.load(path / "mae.joblib", mmap_mode="r")


def through_skops(mae, path):
    skops.io.dump(mae, path / "mae.skops")
    data = (path / "mae.skops").read_bytes()
    return skops.io.load(path / "mae.skops", trusted=trusted_types(data))


def through_deepcopy(mae, path):
    return copy.deepcopy(mae)


def through_copy(mae, path):
    return copy.copy(mae)


WAYS = [through_pickle, through_joblib, through_skops]
every_way = pytest.mark.parametrize("through", WAYS)


def figures(mae, X):
    """Figures of all kinds, by name."""
    Z = mae.transform(X)
    found = {
        "transform": Z,
        "inverse": mae.inverse_transform(Z),
        "score": mae.score_samples(X),
        "rate": mae.rate(X),
        "log_likelihood": mae.log_likelihood(X, 8),
        "posterior": mae.posterior_log_prob(X, Z),
        "sample": mae.sample(5, random_state=3),
        "posterior draws": mae.sample_posterior(X, random_state=3),
        "mutual_info_": [mae.mutual_info_, *mae.mutual_info_interval_, mae.rate_],
        "sizes": [mae.n_features_in_, mae.n_iter_],
        "names": getattr(mae, "feature_names_in_", np.array([])).astype(str),
    }
    now = mae.mutual_info(50, 9.0)
    found["mutual_info"] = [now.lower, now.upper, now.lower_se, now.upper_se]
    weights = {
        name: weight.numpy() for name, weight in mae.net_.module_.state_dict().items()
    }
    return {
        name: np.asarray(v) for name, v in {**found, **mae.history_, **weights}.items()
    }


def assert_same_figures(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, values in ours.items():
        assert values.dtype == theirs[name].dtype, name
        np.testing.assert_array_equal(values, theirs[name], err_msg=name)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("through", [*WAYS, through_deepcopy, through_copy])
@every_case
def test_figures_come_back_to_the_bit(fitted, figures_of, tmp_path, case, through):
    mae, rows = fitted(case)

    copied = through(mae, tmp_path)

    assert_same_figures(figures(copied, rows), figures_of(case))
    assert repr(copied.get_params()) == repr(mae.get_params())
    assert vars(copied).keys() == vars(mae).keys()
    assert copied.history_.keys() == mae.history_.keys()


OTHER_PROCESS = """
import json, pickle, sys
import joblib, numpy as np, skops.io
from tests.test_saving import CASES, figures, trusted_types

for file, case in json.load(sys.stdin).items():
    data = open(file, "rb").read()
    if file.endswith("pickle"):
        mae = pickle.loads(data)
    elif file.endswith("joblib"):
        mae = joblib.load(file)
    else:
        mae = skops.io.loads(data, trusted=trusted_types(data))
    np.savez(file + ".npz", **figures(mae, CASES[case][0]))
"""


def test_figures_come_back_in_another_process(fitted, figures_of, tmp_path):
    files = {}
    for case in CASES:
        mae, _ = fitted(case)
        for ending in ("pickle", "joblib", "skops"):
            files[str(tmp_path / f"{case}.{ending}")] = case
        (tmp_path / f"{case}.pickle").write_bytes(pickle.dumps(mae))
        joblib.dump(mae, tmp_path / f"{case}.joblib")
        skops.io.dump(mae, tmp_path / f"{case}.skops")

    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", OTHER_PROCESS],
        input=json.dumps(files),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert run.returncode == 0, run.stderr
    for file, case in files.items():
        with np.load(f"{file}.npz", allow_pickle=True) as found:
            assert_same_figures(dict(found), figures_of(case))


def plain_parts(value):
    if isinstance(value, dict):
        yield from (
            part for pair in value.items() for one in pair for part in plain_parts(one)
        )
    elif isinstance(value, list | tuple):
        yield from (part for one in value for part in plain_parts(one))
    else:
        yield value


@every_case
def test_a_record_is_arrays_and_plain_values(fitted, case):
    mae, _ = fitted(case)

    state = mae.__getstate__()

    given = [value for value in mae.get_params().values() if callable(value)]
    for part in plain_parts(state["_fitted"]):
        if isinstance(part, np.ndarray):
            assert type(part) is np.ndarray
            assert part.dtype.kind in "biuf"
        elif part is not None:
            assert type(part) in (str, int, float, bool) or part in given, repr(part)
    # parameters are stored as given
    for name, value in mae.get_params().items():
        assert state[name] is value


@every_way
@pytest.mark.parametrize("case", ["gaussian", "sequence", "warm"])
def test_a_fit_goes_on_after_loading(fitted, tmp_path, case, through):
    mae, rows = fitted(case)
    mae = copy.deepcopy(mae).set_params(warm_start=True, M=1.5)
    copied = through(mae, tmp_path)

    mae.fit(rows)
    copied.fit(rows)

    assert copied.n_iter_ == mae.n_iter_ > 3
    assert_same_figures(figures(copied, rows), figures(mae, rows))
    again = through(copied, tmp_path)
    assert_same_figures(figures(again, rows), figures(mae, rows))


def test_a_fit_that_goes_on_is_still_refused_other_shapes(fitted):
    mae = pickle.loads(pickle.dumps(fitted()[0])).set_params(warm_start=True)

    with pytest.raises(ValueError, match=r"n_components \(was 3, now 5\) changed"):
        mae.set_params(n_components=5).fit(X_PADDED)


@every_way
def test_a_loaded_net_is_there_without_its_training(fitted, tmp_path, through):
    net = through(fitted()[0], tmp_path).net_

    assert not net.module_.training
    assert next(net.module_.parameters()).dtype == torch.float32
    assert list(net.history) == []
    assert not net.optimizer_.state


@every_way
def test_the_factory_is_that_of_the_fit(small, tmp_path, through):
    mae = small(**TINY, likelihood=Likelihood, encoder=Encoder, M=None).fit(X)
    before = figures(mae, X)
    mae.set_params(likelihood="categorical", encoder=Lazy, hidden_layer_sizes=(3, 3))
    mae.set_params(n_components=7, n_resamples=1, random_state=9, min_scale=0.5)

    copied = through(mae, tmp_path)

    assert copied.likelihood == "categorical"
    assert copied.encoder is Lazy
    mae.set_params(likelihood=Likelihood)
    copied.set_params(likelihood=Likelihood)
    assert_same_figures(figures(copied, X), before)


@every_way
def test_what_belongs_to_an_estimator_comes_along(small, tmp_path, through):
    mae = Child(**TINY, max_epochs=2, random_state=0).fit(X)
    mae.set_output(transform="pandas").remark = "mine"

    copied = through(mae, tmp_path)

    assert type(copied) is Child
    assert (copied.n_rows_, copied.remark) == (40, "mine")
    assert isinstance(copied.transform(X), pd.DataFrame)
    unfitted = through(Child(M=2.5), tmp_path)
    assert unfitted.M == 2.5
    assert not hasattr(unfitted, "net_")


def test_a_deep_copy_shares_nothing(small):
    mae = small(**TINY).fit(X)
    before = figures(mae, X)
    copied = copy.deepcopy(mae)

    with torch.no_grad():
        for parameter in copied.net_.module_.parameters():
            parameter.zero_()
    copied.history_["loss"][:] = 0

    assert_same_figures(figures(mae, X), before)


def test_clone_is_unfitted_with_the_same_parameters(small):
    mae = small(encoder=Encoder, M=2.5).fit(X)

    cloned = clone(pickle.loads(pickle.dumps(mae)))

    assert cloned.get_params() == mae.get_params()
    assert not hasattr(cloned, "net_")


def test_a_pickle_grows_with_parameters_and_history_alone(small):
    mae = small(M=None, n_components=1, max_epochs=2_000, hidden_layer_sizes=(10, 8))
    mae.fit(X[:8])

    n_parameters = sum(p.numel() for p in mae.net_.module_.parameters())
    assert 400 < n_parameters < 500
    assert mae.n_iter_ == 2_000
    assert len(pickle.dumps(mae)) <= 150_000


# --- modules that do not come back ----------------------------------------------------


@pytest.mark.parametrize(
    ("params", "what"),
    [
        ({"likelihood": Shifted}, "Shifted, and built again .*, it differs"),
        ({"encoder": ShiftedEncoder}, "ShiftedEncoder, and built again .*, it differs"),
        ({"likelihood": ExtraState}, "ExtraState, and its state_dict holds '.*extra"),
        ({"likelihood": HalfBuffer}, "HalfBuffer, and its state_dict holds '.*half'"),
        ({"likelihood": Once()}, "Likelihood, and building it again fails .*extra"),
    ],
    ids=["shifted", "encoder", "extra state", "type", "once"],
)
def test_a_module_that_does_not_come_back_is_refused_by_name(small, params, what):
    mae = small(**TINY, M=None, **params).fit(X)
    before = mae.transform(X)
    ((name, _),) = params.items()

    for write in (pickle.dumps, skops.io.dumps):
        with pytest.raises(
            ValueError, match=f"cannot be saved: {name}=.* built a {what}"
        ):
            write(mae)

    # what needs no file works
    np.testing.assert_array_equal(mae.transform(X), before)
    np.testing.assert_array_equal(copy.deepcopy(mae).transform(X), before)
    np.testing.assert_array_equal(copy.copy(mae).transform(X), before)
    assert mae.set_params(warm_start=True).fit(X).n_iter_ == 6


def test_a_module_that_hangs_on_something_else_is_refused(small, monkeypatch):
    class Knob(Outside):
        """Its factory sets what its output depends on."""

        def __init__(self, n_features, n_components):
            super().__init__(n_features, n_components)
            Outside.knob += 1.0
            self.knob = Outside.knob

        def forward(self, z):
            p = Likelihood.forward(self, z)
            return Independent(Normal(p.mean + self.knob, p.stddev), 1)

    monkeypatch.setattr(Outside, "knob", 0.0)
    mae = small(**TINY, M=None, likelihood=Knob).fit(X)

    with pytest.raises(ValueError, match="built a Knob, and built again"):
        mae.__getstate__()


# --- devices --------------------------------------------------------------------------


def fitted_elsewhere(mae):
    """Return the state of a fit that was made on another machine's GPU."""
    mae = copy.deepcopy(mae).set_params(device="cuda")
    state = mae.__getstate__()
    state["_fitted"]["device"] = "cuda:0"
    return state


def hide_gpu(monkeypatch):
    def torch_device(name):
        if name != "cpu":
            raise ValueError(f"device={name!r} is not available to torch here")
        return torch.device(name)

    monkeypatch.setattr(saving, "torch_device", torch_device)
    monkeypatch.setattr(fitting, "torch_device", torch_device)


@pytest.fixture
def without_gpu(monkeypatch):
    hide_gpu(monkeypatch)


@pytest.mark.parametrize("case", ["gaussian", "encoder", "sequence"])
def test_a_device_that_is_not_there_becomes_the_cpu(fitted, without_gpu, case):
    mae, rows = fitted(case)
    copied = object.__new__(MutualAutoencoder)

    with pytest.warns(UserWarning, match="device='cuda:0', which is not av") as caught:
        copied.__setstate__(fitted_elsewhere(mae))

    assert len(caught) == 1
    assert "set_params(device='cpu') first" in str(caught[0].message)
    assert copied.net_.module_.reference.device.type == "cpu"
    assert copied.device == "cuda"
    assert_same_figures(figures(copied, rows), figures(mae, rows))
    for warm_start in (False, True):
        with pytest.raises(ValueError, match="device='cuda' is not available"):
            copied.set_params(warm_start=warm_start).fit(rows)
    assert_same_figures(figures(copied, rows), figures(mae, rows))
    copied.set_params(device="cpu").fit(rows)
    assert copied.n_iter_ == 6
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pickle.loads(pickle.dumps(copied))


def test_the_warning_of_a_device_points_to_who_loads(fitted, without_gpu, monkeypatch):
    state = fitted_elsewhere(fitted()[0])
    monkeypatch.setattr(MutualAutoencoder, "__getstate__", lambda self: state)
    data = pickle.dumps(fitted()[0])

    with pytest.warns(UserWarning, match="is not available") as caught:
        pickle.loads(data)

    assert caught[0].filename == __file__


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("case", ["gaussian", "encoder", "sequence"])
def test_a_fit_made_on_a_gpu_loads_on_both(small, monkeypatch, case):
    rows, params = CASES[case]
    mae = small(**{**TINY, **params}, device="cuda").fit(rows)
    written = pickle.dumps(mae)

    there = pickle.loads(written)

    assert there.net_.module_.reference.is_cuda
    np.testing.assert_array_equal(there.transform(rows), mae.transform(rows))
    hide_gpu(monkeypatch)
    with pytest.warns(UserWarning, match="it is on the CPU now"):
        here = pickle.loads(written)
    assert not here.net_.module_.reference.is_cuda
    np.testing.assert_allclose(here.transform(rows), mae.transform(rows), atol=1e-6)


# --- files that were tampered with ----------------------------------------------------


def tampered(mae, *path, value):
    """Return a skops file whose record holds another value at a path."""
    twin = copy.copy(mae)
    state = twin.__getstate__()
    place = state
    for key in path[:-1]:
        place[key] = copy.copy(place[key])
        place = place[key]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MutualAutoencoder, "__getstate__", lambda self: state)
        return skops.io.dumps(twin)


objects = np.array(["a", 1.0, None], dtype=object)
ones = np.ones(3)
TAMPERED = [
    ("gaussian", ["_fitted"], [1]),
    ("gaussian", ["_fitted", "seed"], None),
    ("gaussian", ["_fitted", "more"], 1),
    ("gaussian", ["_fitted", "seed"], -1),
    ("gaussian", ["_fitted", "seed"], 2**40),
    ("gaussian", ["_fitted", "build_seed"], 1.5),
    ("gaussian", ["_fitted", "device"], 3),
    ("gaussian", ["_fitted", "n_resamples"], True),
    ("gaussian", ["_fitted", "holds_decoder"], True),
    ("gaussian", ["_fitted", "holds_decoder"], 0),
    ("gaussian", ["_fitted", "n_features"], 4),
    ("gaussian", ["_fitted", "mutual_info"], "3"),
    ("gaussian", ["_fitted", "rate"], float("nan")),
    ("gaussian", ["_fitted", "mutual_info_interval"], [1.0]),
    ("gaussian", ["_fitted", "mutual_info_interval"], [1.0, float("inf")]),
    ("gaussian", ["_fitted", "structure"], {}),
    ("gaussian", ["_fitted", "structure", "n_components"], 0),
    ("gaussian", ["_fitted", "structure", "n_components"], 4),
    ("gaussian", ["_fitted", "structure", "n_components"], 10**12),
    ("gaussian", ["_fitted", "structure", "activation"], "softmax"),
    ("gaussian", ["_fitted", "structure", "activation"], [1]),
    ("gaussian", ["_fitted", "structure", "min_scale"], 0.0),
    ("gaussian", ["_fitted", "structure", "likelihood"], "bernoulli"),
    ("gaussian", ["_fitted", "structure", "likelihood"], "categorical"),
    ("gaussian", ["_fitted", "structure", "likelihood"], "sequence"),
    ("gaussian", ["_fitted", "structure", "likelihood"], "no such name"),
    ("gaussian", ["_fitted", "structure", "likelihood"], 3),
    ("gaussian", ["_fitted", "structure", "encoder"], np.add),
    ("gaussian", ["_fitted", "structure", "encoder"], "no such name"),
    ("gaussian", ["_fitted", "structure", "encoder"], MutualAutoencoder),
    ("gaussian", ["_fitted", "structure", "hidden_layer_sizes"], 8),
    ("gaussian", ["_fitted", "structure", "hidden_layer_sizes"], (9,)),
    ("gaussian", ["_fitted", "structure", "hidden_layer_sizes"], (8, 10**9)),
    ("gaussian", ["_fitted", "structure", "hidden_layer_sizes"], ("8",)),
    ("gaussian", ["_fitted", "family"], {}),
    ("gaussian", ["_fitted", "family", "names_"], ["a"]),
    ("gaussian", ["_fitted", "family", "names_"], [1, 2, 3, 4, 5]),
    ("gaussian", ["_fitted", "family", "varying_"], np.ones(5)),
    ("gaussian", ["_fitted", "family", "varying_"], np.ones(5, dtype=bool)),
    ("gaussian", ["_fitted", "family", "varying_"], np.zeros(5, dtype=bool)),
    ("gaussian", ["_fitted", "family", "family", "mean_"], ones),
    ("gaussian", ["_fitted", "family", "family", "scale_"], np.zeros(4)),
    ("gaussian", ["_fitted", "family", "family", "scale_"], np.full(4, np.nan)),
    ("gaussian", ["_fitted", "family", "usual_"], objects),
    ("gaussian", ["_fitted", "family", "usual_"], np.full(5, np.nan)),
    ("gaussian", ["_fitted", "family", "patterns_"], np.ones((1, 5), dtype=bool)),
    ("gaussian", ["_fitted", "family", "patterns_"], None),
    ("gaussian", ["_fitted", "family", "counts_"], np.zeros(1, dtype=np.int64)),
    ("gaussian", ["_fitted", "family", "family"], None),
    ("gaussian", ["_fitted", "family", "family", "categories_"], [ones]),
    ("gaussian", ["_fitted", "family", "family", "support_"], np.zeros(4)),
    ("gaussian", ["_fitted", "family", "family", "log_volume_"], 1.0),
    ("categorical", ["_fitted", "family", "family", "categories_"], [ones, ones]),
    ("categorical", ["_fitted", "family", "family", "categories_"], [np.arange(3.0)]),
    (
        "categorical",
        ["_fitted", "family", "family", "categories_"],
        [np.arange(9.0)] * 2,
    ),
    ("categorical", ["_fitted", "structure", "likelihood"], "gaussian"),
    ("sequence", ["_fitted", "family", "words_"], np.array([0, 1, 3])),
    ("sequence", ["_fitted", "family", "words_"], np.arange(500)),
    ("sequence", ["_fitted", "family", "words_"], objects),
    ("sequence", ["_fitted", "family", "length_"], 10**9),
    ("sequence", ["_fitted", "family", "n_columns_"], 10**9),
    ("gaussian", ["_fitted", "weights"], {}),
    ("gaussian", ["_fitted", "weights"], [ones]),
    ("gaussian", ["_fitted", "weights", "likelihood.raw_log_scale"], None),
    ("gaussian", ["_fitted", "weights", "likelihood.more"], ones),
    ("gaussian", ["_fitted", "weights", "likelihood.raw_log_scale"], "texts"),
    ("gaussian", ["_fitted", "weights", "likelihood.raw_log_scale"], objects),
    ("gaussian", ["_fitted", "weights", "likelihood.raw_log_scale"], np.zeros(4)),
    (
        "gaussian",
        ["_fitted", "weights", "likelihood.raw_log_scale"],
        np.zeros(5, dtype=np.float32),
    ),
    ("gaussian", ["_fitted", "constraints"], [1.0]),
    ("gaussian", ["_fitted", "constraints"], {1: {"multiplier": 1.0}}),
    ("gaussian", ["_fitted", "constraints", "model"], 1.0),
    ("gaussian", ["_fitted", "constraints", "model"], {1: 1.0}),
    ("gaussian", ["_fitted", "constraints", "model", "multiplier"], "1"),
    ("gaussian", ["_fitted", "constraints", "model", "offset"], float("nan")),
    ("gaussian", ["_fitted", "constraints", "rate", "multiplier"], float("inf")),
    ("gaussian", ["_fitted", "history"], {}),
    ("gaussian", ["_fitted", "history", "loss"], None),
    ("gaussian", ["_fitted", "history", "loss"], [1.0, 2.0, 3.0]),
    ("gaussian", ["_fitted", "history", "loss"], np.ones(4)),
    ("gaussian", ["_fitted", "history", "loss"], np.ones((3, 1))),
    ("frame", ["_fitted", "feature_names"], list("abcde")),
    ("frame", ["_fitted", "feature_names"], [1, 2, 3, 4]),
    ("frame", ["_fitted", "feature_names"], objects),
    ("encoder", ["_fitted", "structure", "encoder"], Likelihood),
    ("encoder", ["_fitted", "structure", "encoder"], "gaussian"),
]


@pytest.mark.parametrize(
    ("case", "path", "value"), TAMPERED, ids=[f"{i}" for i in range(len(TAMPERED))]
)
def test_a_tampered_file_fails_closed(fitted, case, path, value):
    mae, _ = fitted(case)
    data = tampered(mae, *path, value=value)
    trusted = [
        OURS,
        *(f"tests.test_saving.{c.__name__}" for c in (Encoder, Likelihood)),
    ]

    with pytest.raises(ValueError, match="was tampered with: do not use it"):
        skops.io.loads(data, trusted=trusted)


def test_an_untampered_file_does_not_fail(fitted):
    mae, rows = fitted()
    data = tampered(mae, "_fitted", "n_features", value=5)  # as it is

    copied = skops.io.loads(data, trusted=[OURS])

    assert_same_figures(figures(copied, rows), figures(mae, rows))


def rewritten(data, change):
    """Return a skops file whose tree of types is another."""
    written = BytesIO()
    with zipfile.ZipFile(BytesIO(data)) as old, zipfile.ZipFile(written, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, change(content) if name == "schema.json" else content)
    return written.getvalue()


def test_a_skops_file_executes_nothing(fitted, tmp_path):
    mae, _ = fitted("encoder")
    mark = tmp_path / "executed"

    def call_something_else(schema):
        assert b'"Encoder"' in schema
        return schema.replace(b'"Encoder"', b'"system"').replace(
            b'"tests.test_saving"', b'"os"'
        )

    data = rewritten(skops.io.dumps(mae), call_something_else)

    with pytest.raises(UntrustedTypesFoundException, match=r"os\.system"):
        skops.io.loads(data, trusted=[OURS, "tests.test_saving.Encoder"])
    with pytest.raises(ValueError, match="cannot be built as they were saved"):
        skops.io.loads(data, trusted=[OURS, "os.system"])
    assert not mark.exists()


# --- other versions -------------------------------------------------------------------


def test_another_version_warns(fitted, monkeypatch):
    mae, rows = fitted()
    written = pickle.dumps(mae)
    monkeypatch.setattr(sklearn_mae, "__version__", "99.0")

    with pytest.warns(UserWarning, match=r"saved by sklearn_mae .* by 99\.0") as caught:
        copied = pickle.loads(written)

    assert caught[0].filename == __file__
    assert "_sklearn_mae_version" not in vars(copied)
    np.testing.assert_array_equal(copied.transform(rows), mae.transform(rows))


OLD_STATE = {
    "M": 3.0,
    "n_features_in_": 4,
    "_columns": None,
    "_seed": 3,
    "net_": None,
    "mutual_info_": 3.0,
    "_sklearn_mae_version": "0.1.0",
}


@pytest.mark.parametrize("version", ["0.1.0", None])
def test_fits_of_the_first_version_are_refused(version):
    message = re.escape(
        f"This MutualAutoencoder was saved by sklearn_mae {version}, in a form that "
        f"{sklearn_mae.__version__} does not read. Fit it again, or load it with"
    )

    with pytest.raises(ValueError, match=message):
        MutualAutoencoder().__setstate__({**OLD_STATE, "_sklearn_mae_version": version})


def test_parameters_of_the_first_version_are_read():
    state = {**MutualAutoencoder(M=2.5).get_params(), "_sklearn_mae_version": "0.1.0"}
    mae = object.__new__(MutualAutoencoder)

    with pytest.warns(UserWarning, match=r"saved by sklearn_mae 0\.1\.0"):
        mae.__setstate__(state)

    assert mae.M == 2.5
    assert not hasattr(mae, "net_")


@pytest.mark.parametrize("state", [None, [1], {1: 2}])
def test_a_state_that_is_none_is_refused(state):
    with pytest.raises(ValueError, match="entry 'state' is"):
        MutualAutoencoder().__setstate__(state)
