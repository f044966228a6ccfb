"""Texts in, codes out, texts back: ``SequenceVectorizer`` and ``MutualAutoencoder``."""

import copy
import pickle
import random
import re
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from skorch.callbacks import Callback
from torch import nn

from sklearn_mae import MutualAutoencoder, SequenceVectorizer
from sklearn_mae.datasets import make_sentences
from sklearn_mae.estimator.parts import build_strategy
from sklearn_mae.gradients import Enumeration, PerEntry, Reinforce
from sklearn_mae.model import DiagonalNormal
from sklearn_mae.text import END, PAD

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

BUNCH = make_sentences(n_samples=60, n_words=1, random_state=0)
TEXTS = BUNCH.data
X = SequenceVectorizer().fit_transform(TEXTS)
ENCODERS = ("gaussian", "resampling")
every_encoder = pytest.mark.parametrize("encoder", ENCODERS)


def build(**params):
    settings = {
        "M": 1.0,
        "likelihood": "sequence",
        "n_components": 2,
        "hidden_layer_sizes": (8, 8),
        "max_epochs": 3,
        "batch_size": 16,
        "random_state": 0,
    }
    return MutualAutoencoder(**{**settings, **params})


def quick(**params):
    """One that fits in the least time: one step, no constraint unless asked for."""
    settings = {"M": None, "encoder": "gaussian", "max_epochs": 1, "batch_size": 60}
    return build(**{**settings, **params})


def constrained(**params):
    """Ten steps, of which two heed the constraint."""
    return quick(**{"M": 1.0, "max_epochs": 2, "batch_size": 12, **params})


def in_pipeline(mae):
    return make_pipeline(SequenceVectorizer(), mae)


def assert_rows(rows):
    """Words, one end, then pads."""
    assert rows.dtype == np.int64
    ends = rows == END
    assert (ends.sum(axis=-1) == 1).all()
    after = ends.cumsum(axis=-1) - ends
    np.testing.assert_array_equal(rows == PAD, after == 1)


@pytest.fixture(scope="module")
def fitted():
    """Return a function that gives a fitted pipeline, made once for each encoder."""
    kept = {}

    def get(encoder="gaussian"):
        if encoder not in kept:
            kept[encoder] = in_pipeline(build(encoder=encoder)).fit(TEXTS)
        return kept[encoder]

    return get


@pytest.fixture(scope="module")
def short():
    """Return a quick fit with a constraint, on rows."""
    return constrained().fit(X)


# --- texts ----------------------------------------------------------------------------


@every_encoder
def test_texts_in_codes_out_texts_back(fitted, encoder):
    pipeline = fitted(encoder)
    Z = pipeline.transform(TEXTS)
    texts = pipeline.inverse_transform(Z)

    assert Z.shape == (60, 2)
    assert np.isfinite(Z).all()
    assert len(np.unique(Z.round(9), axis=0)) == len(set(TEXTS))
    assert texts.shape == (60,)
    assert texts.dtype == object
    known = {*BUNCH.vocabulary, "<unk>"}
    assert all(type(text) is str and known.issuperset(text.split()) for text in texts)
    assert pipeline.score(TEXTS) == pipeline[-1].score(X)


def test_draws_in_words(fitted):
    vectorizer, mae = fitted()
    texts = vectorizer.inverse_transform(mae.reconstruct(X, 3, random_state=0))

    assert texts.shape == (3, 60)
    assert all(type(text) is str for text in texts.flat)


@pytest.mark.filterwarnings("error")
def test_words_that_were_not_in_fit_are_unknown_ones(fitted):
    pipeline = fitted()
    one, other = pipeline.transform(["the dog laughs", "the cat laughs"])

    np.testing.assert_array_equal(one, other)
    assert (one != pipeline.transform(["the actor laughs"])[0]).all()


every_kind_of_texts = pytest.mark.parametrize(
    "texts",
    [TEXTS, tuple(TEXTS), np.array(TEXTS), np.array(TEXTS, object), pd.Series(TEXTS)],
    ids=["list", "tuple", "array", "object array", "Series"],
)


@pytest.mark.parametrize(
    "X",
    [
        pd.DataFrame({"text": TEXTS}),
        np.array(TEXTS)[:, None],
        [text.split() for text in TEXTS],
    ],
    ids=["frame", "table", "lists of words"],
)
def test_texts_in_cells_and_words_in_lists(X):
    with pytest.raises(ValueError, match=r"X holds texts.*one column of a frame"):
        build().fit(X)


@pytest.mark.parametrize("likelihood", ["sequence", "gaussian"])
@every_kind_of_texts
def test_texts_are_for_the_vectorizer(texts, likelihood):
    with pytest.raises(ValueError, match=r"X holds texts.*SequenceVectorizer\(\)"):
        build(likelihood=likelihood).fit(texts)


@every_kind_of_texts
def test_texts_are_for_the_vectorizer_after_fit_too(short, texts):
    with pytest.raises(ValueError, match=r"X holds texts.*SequenceVectorizer"):
        short.transform(texts)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (np.random.default_rng(0).random((5, 3)), "integers of at least 0.*Sequence"),
        (np.ones((5, 3)), "is no sequence.*SequenceVectorizer"),
        (np.tile(X[:1], (5, 1)), "All 5 rows of X are the same sequence"),
    ],
    ids=["fractions", "no ends", "equal rows"],
)
def test_tables_that_are_no_sequences(table, message):
    with pytest.raises(ValueError, match=message):
        build().fit(table)


# --- members --------------------------------------------------------------------------


@every_encoder
def test_rows_come_back_as_rows(fitted, encoder):
    mae = fitted(encoder)[-1]
    n, T = X.shape
    Z = mae.transform(X)
    drawn, codes = mae.sample(5, random_state=0, return_codes=True)
    shapes = {
        (n, T): [mae.inverse_transform(Z), mae.reconstruct(X)],
        (3, n, T): [mae.reconstruct(X, 3, random_state=0)],
        (4, n, T): [mae.interpolate(X, X[::-1], n_steps=4)],
        (5, T): [drawn, mae.sample(5, random_state=0)],
        (1, T): [mae.sample(random_state=0)],
    }
    for shape, arrays in shapes.items():
        for rows in arrays:
            assert type(rows) is np.ndarray
            assert rows.shape == shape
            assert_rows(rows)
    assert codes.shape == (5, 2)
    assert codes.dtype == np.float64
    np.testing.assert_array_equal(drawn, mae.sample(5, random_state=0))
    assert len(np.unique(mae.sample(20, random_state=1), axis=0)) > 10
    np.testing.assert_array_equal(mae.reconstruct(X), mae.inverse_transform(Z))
    between = mae.interpolate(X, X[::-1], n_steps=3)
    np.testing.assert_array_equal(between[0], mae.reconstruct(X))
    np.testing.assert_array_equal(between[2], mae.reconstruct(X[::-1]))
    middle = mae.inverse_transform((Z + Z[::-1]) / 2)
    np.testing.assert_array_equal(between[1], middle)


@every_encoder
def test_figures_hang_together(fitted, encoder):
    mae = fitted(encoder)[-1]
    draws = mae.sample_posterior(X, 40, random_state=0)
    log_probs = np.array([mae.conditional_log_prob(X, Z) for Z in draws])
    bound = mae.score_samples(X)

    assert draws.shape == (40, 60, 2)
    assert (log_probs < 0).all()
    for values in (bound, mae.rate(X), mae.posterior_log_prob(X, draws[0])):
        assert values.shape == (60,)
        assert np.isfinite(values).all()
    np.testing.assert_allclose(bound, -(mae.rate(X) + mae.distortion(X)), rtol=1e-12)
    assert mae.log_likelihood(X).mean() > mae.score(X)
    # 40 draws here and at least 16 in distortion; false alarm: one in a million
    error = (mae.distortion(X) + log_probs.mean(axis=0)).mean()
    std = log_probs.std(axis=0, ddof=1)
    assert abs(error) < 4.9 * np.linalg.norm(std) / 60 * np.sqrt(1 / 40 + 1 / 16)


def test_conditional_log_prob_is_the_model_s(fitted):
    """Word by word, each given the words before it."""
    mae = fitted()[-1]
    codes = mae.transform(X)
    likelihood = copy.deepcopy(mae.net_.module_.likelihood).double()
    x = torch.as_tensor(mae._fitted.family.transform(X))
    with torch.no_grad():
        hidden, _ = likelihood.read(
            torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], 1), torch.tensor(codes)
        )
        log_probs = likelihood.output(hidden).log_softmax(-1)
    token = log_probs.gather(-1, (x - 1).clamp_min(0).unsqueeze(-1)).squeeze(-1)
    token[:, -1] = 0  # it can hold nothing but the end
    expected = (token * (x != 0)).sum(-1)

    np.testing.assert_allclose(mae.conditional_log_prob(X, codes), expected, rtol=1e-9)


@pytest.mark.usefixtures("whole_fits")
@every_encoder
def test_information(encoder):
    mae = build(encoder=encoder).fit(X)
    found = mae.mutual_info(n_samples=100, tol=9.0)
    of_codes = mae.encoder_mutual_info(X)

    assert found.method == "sandwich"
    assert found == mae.mutual_info(n_samples=100, tol=9.0)
    low, high = mae.mutual_info_interval_
    assert low < mae.mutual_info_ < high
    for bracket in (found, of_codes):
        assert bracket.lower <= bracket.estimate <= bracket.upper
        assert np.isfinite([bracket.lower_se, bracket.upper_se]).all()
    assert of_codes.upper <= mae.rate(X).mean() + 5 * of_codes.upper_se
    assert of_codes.lower <= np.log(60)


@every_encoder
def test_a_row_s_code_does_not_depend_on_the_others(fitted, encoder):
    mae = fitted(encoder)[-1]
    shortest = np.argmin((X != PAD).sum(axis=1))
    for method in (mae.transform, mae.score_samples, mae.rate):
        np.testing.assert_allclose(
            method(X[[shortest]])[0], method(X)[shortest], rtol=1e-10
        )


def test_drawn_codes_are_pure_functions_of_the_rows(fitted):
    mae = copy.deepcopy(fitted()[-1]).set_params(codes="sample")
    Z = mae.transform(X)

    assert not np.isclose(Z, fitted()[-1].transform(X)).any()
    np.testing.assert_allclose(mae.transform(X[::-1])[::-1], Z, rtol=1e-10)


@pytest.mark.parametrize("dtype", [np.int32, np.float32, np.float64])
def test_rows_of_any_type(fitted, dtype):
    mae = fitted()[-1]
    rows = X.astype(dtype)

    np.testing.assert_allclose(mae.transform(rows), mae.transform(X), rtol=1e-6)
    np.testing.assert_allclose(mae.score_samples(rows), mae.score_samples(X))
    assert mae.reconstruct(rows).dtype == np.int64


# --- scikit-learn's habits ------------------------------------------------------------


@every_encoder
def test_pickles(fitted, encoder):
    pipeline = fitted(encoder)
    twin = pickle.loads(pickle.dumps(pipeline))

    np.testing.assert_array_equal(twin.transform(TEXTS), pipeline.transform(TEXTS))
    assert twin.score(TEXTS) == pipeline.score(TEXTS)
    np.testing.assert_array_equal(
        twin[-1].sample(3, random_state=0), pipeline[-1].sample(3, random_state=0)
    )


def test_clones_are_unfitted(fitted):
    twin = clone(fitted())

    assert repr(twin) == repr(fitted())
    with pytest.raises(NotFittedError):
        twin[-1].transform(X)


def test_names_and_frames(fitted):
    pipeline = copy.deepcopy(fitted())
    names = ["mutualautoencoder0", "mutualautoencoder1"]
    codes = pipeline.transform(TEXTS)

    assert pipeline.get_feature_names_out().tolist() == names
    pipeline[-1].set_output(transform="pandas")
    frame = pipeline.transform(TEXTS)
    assert frame.columns.tolist() == names
    np.testing.assert_array_equal(frame, codes)


def test_fit_on_a_frame_keeps_its_names(short):
    vectorizer = SequenceVectorizer().set_output(transform="pandas")
    frame = vectorizer.fit_transform(TEXTS)
    mae = constrained().fit(frame)

    assert mae.feature_names_in_.tolist() == [f"token{t}" for t in range(X.shape[1])]
    np.testing.assert_array_equal(mae.transform(frame), short.transform(X))


@pytest.mark.filterwarnings("ignore:.*texts are longer")
def test_grid_search_over_M():
    search = GridSearchCV(
        in_pipeline(constrained()),
        {"mutualautoencoder__M": [None, 2.0]},
        cv=2,
        refit=False,
    ).fit(TEXTS)

    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert len(np.unique(search.cv_results_["mean_test_score"])) == 2


# --- what a fit depends on ------------------------------------------------------------


def assert_same_fit(one, other, X_one=X, X_other=X):
    assert one.history_.keys() == other.history_.keys()
    for name in one.history_:
        np.testing.assert_array_equal(one.history_[name], other.history_[name], name)
    assert one.score(X_one) == other.score(X_other)
    assert one.mutual_info_interval_ == other.mutual_info_interval_
    np.testing.assert_array_equal(one.transform(X_one), other.transform(X_other))


class GlobalStates:
    """States of the generators that are not ours to touch."""

    def __init__(self):
        self.python = random.getstate()
        self.numpy = repr(np.random.get_state(legacy=False))
        self.torch = torch.get_rng_state().tolist()


def test_same_seed_same_fit_and_global_generators_rest(short):
    before = vars(GlobalStates())
    again = constrained().fit(X)
    again.sample(2, random_state=0)
    again.reconstruct(X, 2, random_state=0)

    assert vars(GlobalStates()) == before
    assert_same_fit(again, short)


def test_columns_of_pads_change_nothing(short):
    """Nor do rows that need them, but for a warning that they are cut."""
    wide = np.pad(X, ((0, 0), (0, 3)))
    mae = constrained().fit(wide)

    assert_same_fit(mae, short, wide, X)
    assert mae.reconstruct(wide).shape == wide.shape
    np.testing.assert_array_equal(mae.reconstruct(wide)[:, :-3], short.reconstruct(X))
    T = X.shape[1]
    longer, cut = np.zeros((2, 1, T + 3), int)
    longer[0, : T + 2], longer[0, T + 1] = 4, END
    cut[0, :T], cut[0, T - 1] = 4, END
    with pytest.warns(UserWarning, match=f"1 of 1 rows .* cut to {T} columns") as told:
        found = mae.transform(longer)
    assert len(told) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(found, mae.transform(cut))


def test_the_numbers_of_words_change_nothing_but_their_order(short):
    """The model sees positions among the words that rows hold."""
    spread = np.where(X > END, 10 * X, X)

    mae = constrained().fit(spread)
    assert_same_fit(mae, short, spread, X)
    assert set(np.unique(mae.reconstruct(spread))) <= {1, *np.unique(spread)}


def test_warm_start_goes_on():
    mae = quick(warm_start=True, lr=1e-3).fit(X)
    first, weights = mae.history_["loss"], mae.transform(X)
    new = X.copy()
    new[0, 0] = 1000  # a word that the first fit did not know
    with pytest.raises(ValueError, match="for example 1000, and warm_start=True keeps"):
        mae.set_params(M=1.0, max_epochs=2).fit(new)
    new[0, 0] = 1
    mae.fit(new)

    assert mae.n_iter_ == 3
    np.testing.assert_array_equal(mae.history_["loss"][:1], first)
    assert np.isfinite(mae.history_["information_lower"][1])
    # a step or two from where it was
    assert 0 < abs(mae.transform(X) - weights).max() < 0.2
    with pytest.raises(ValueError, match="features"):
        mae.fit(np.pad(X, ((0, 0), (0, 1))))
    with pytest.raises(ValueError, match="hidden_layer_sizes"):
        mae.set_params(hidden_layer_sizes=(8, 9)).fit(X)


def test_word_numbers_taken_for_measurements_are_warned_of():
    message = (
        "The rows of X look like word numbers of SequenceVectorizer, and likelihood="
        "'gaussian' takes them for numbers or categories. For texts set likelihood="
        "'sequence'."
    )
    with pytest.warns(UserWarning, match=re.escape(message)) as caught:
        quick(likelihood="gaussian").fit(X)
    assert caught[0].filename == __file__

    tables = [
        np.where(X == END, 7, X),  # no end
        np.where(X == PAD, 5, X),  # no pads
        X[(X != PAD).sum(1) == (X[0] != PAD).sum()],  # of one length
        X + 0.5 * (X > END),
        np.where(X > END, -X, X),
    ]
    for table in tables:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            quick(likelihood="gaussian").fit(table)


def test_several_draws_of_codes_are_told_where_to_go(short):
    Z = short.sample_posterior(X[:2], n_samples=3)
    message = (
        "Codes have shape (3, 2, 2), three dimensions. Pass some of shape (n_samples, "
        "2): several draws one after the other. reconstruct(X, n_samples=...) decodes "
        "draws for rows."
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        short.inverse_transform(Z)
    assert short.inverse_transform(Z.reshape(-1, 2)).shape == (6, X.shape[1])


def test_texts_for_the_last_step_are_told_which_way_to_go(short):
    message = "this step of the pipeline takes pipeline[:-1].transform(texts)"
    with pytest.raises(ValueError, match=re.escape(message)):
        short.reconstruct(TEXTS)


# --- choices --------------------------------------------------------------------------


def steered(history):
    """In which epochs I was bracketed, and in which a weight moved it."""
    upper, multiplier = history["information_upper"], history["multiplier_model"]
    return np.isfinite(upper), multiplier != 0


class Stop(Callback):
    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == 10:
            raise KeyboardInterrupt


def test_information_follows_the_rate_before_it_is_steered():
    forty = {"M": 1.0, "max_epochs": 40}  # of one step, every eighth a constraint's
    epochs = np.arange(40)
    mae = quick(**forty).fit(X)
    for found, first in zip(steered(mae.history_), (24, 25), strict=True):
        np.testing.assert_array_equal(found, epochs >= first)
    assert (mae.history_["multiplier_rate"][5:24] != 0).all()
    assert np.isfinite(mae.history_["information_lower"]).all()

    # what has followed need not wait again
    mae.set_params(warm_start=True, max_epochs=2).fit(X)
    assert np.isfinite(mae.history_["information_upper"][40:]).all()
    # without a rate nothing would start the learning
    history = quick(constraint="model", **forty).fit(X).history_
    assert np.isfinite(history["information_upper"]).all()


def test_what_was_stopped_too_soon_waits_again():
    mae = quick(M=1.0, max_epochs=40, callbacks=[Stop()]).fit(X)
    mae.set_params(warm_start=True, callbacks=None).fit(X)
    assert mae.n_iter_ == 50
    bracketed, _ = steered(mae.history_)
    np.testing.assert_array_equal(bracketed, np.arange(50) >= 34)


@pytest.mark.parametrize("constraint", ["model", "paper"])
def test_constraints(constraint):
    mae = constrained(constraint=constraint).fit(X)

    assert np.isfinite(mae.score(X))
    assert mae.history_["multiplier_model"][-1] != 0
    used = {"model": ("lower", "upper"), "paper": ("lower",)}[constraint]
    for side in ("lower", "upper"):
        figures = mae.history_[f"information_{side}"]
        assert np.isfinite(figures).all() == (side in used)
    assert np.isnan(mae.history_["multiplier_rate"]).all()


@pytest.mark.parametrize(
    ("params", "strategy", "options"),
    [
        ({}, PerEntry, {}),
        ({"constraint": "model"}, PerEntry, {}),
        ({"mi_gradient": "reinforce"}, Reinforce, {"leave_one_out": True}),
        ({"constraint": "paper"}, Reinforce, {"leave_one_out": False}),
    ],
)
def test_strategies(short, params, strategy, options):
    found = build_strategy(build(**params), short.net_.module_)

    assert type(found) is strategy
    for name, value in options.items():
        assert getattr(found, name) == value


def test_few_rows_are_enumerated(short):
    model = copy.deepcopy(short.net_.module_)
    model.likelihood.length = 2
    found = build_strategy(build(), model)

    assert type(found) is Enumeration
    assert len(found.outcomes) == model.likelihood.n_words - 1


def test_reinforce_fits():
    mae = constrained(mi_gradient="reinforce").fit(X)

    assert np.isfinite(mae.history_["information_lower"]).all()


@pytest.mark.parametrize(
    ("mi_gradient", "message"),
    [
        ("enumeration", "at most 10,000 outcomes.*'sequence'.*has more.*'auto'"),
        ("reparametrised", "'sequence' has none.*'reinforce' or 'auto'"),
    ],
)
def test_gradients_that_sequences_do_not_have(mi_gradient, message):
    with pytest.raises(ValueError, match=message):
        build(mi_gradient=mi_gradient).fit(X)


@pytest.mark.parametrize("sizes", [(8,), ()])
def test_an_embedding_and_a_layer_are_the_least(sizes):
    message = f"has {len(sizes)} entr.*embeddings and of at least one LSTM"
    with pytest.raises(ValueError, match=message):
        build(hidden_layer_sizes=sizes).fit(X)


def test_layers_may_differ():
    mae = quick(hidden_layer_sizes=(5, 7, 6), n_components=3).fit(X)

    assert mae.transform(X).shape == (60, 3)
    sizes = [
        layer.hidden_size for layer in mae.net_.module_.likelihood.recurrent.layers
    ]
    assert sizes == [7, 6]


class MeanOfWords(nn.Module):
    """A user's encoder, for at most 50 words."""

    def __init__(self, n_features, n_components):
        super().__init__()
        self.table = nn.Embedding(50, 2 * n_components)

    def forward(self, x):
        return DiagonalNormal(*self.table(x).mean(-2).chunk(2, -1))


def test_encoder_callable():
    mae = quick(encoder=MeanOfWords, n_resamples=1).fit(X)

    assert mae.transform(X).shape == (60, 2)
    assert np.isfinite(mae.score(X))


class NoWords(MeanOfWords):
    """Takes numbers where it is given words' positions."""

    def forward(self, x):
        return DiagonalNormal(*(x @ self.table.weight[: x.shape[-1]]).chunk(2, -1))


def test_encoder_callable_is_tried_on_words():
    with pytest.raises(ValueError, match=r"fails on an input.*type torch\.int64"):
        quick(encoder=NoWords, n_resamples=1).fit(X)
