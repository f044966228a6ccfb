"""``target="condition"``: what y may be, who sees it, what codes hold of it."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from skorch.callbacks import Callback
from torch import nn
from torch.distributions import Independent, Normal
from torch.testing import assert_close

from sklearn_mae import (
    MutualAutoencoder,
    SequenceVectorizer,
    information_path,
    information_report,
    information_scorer,
)
from sklearn_mae.datasets import make_sentences
from sklearn_mae.estimator.tables import rows_of_transform
from sklearn_mae.estimator.targets import Labels, Target
from tests.toy_models import generator

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
]

rng = np.random.default_rng(0)
N = 260
LABELS = rng.integers(0, 2, N)
NAMES = np.array(["one", "other"])[LABELS]
FACTOR = rng.normal(size=(N, 1))
X = FACTOR @ [[1.0, 1.0, -1.0]] + LABELS[:, None] * [2.0, 0.0, 2.0]
X = X + 0.3 * rng.normal(size=X.shape)


def build(**params):
    settings = {
        "M": 1.0,
        "target": "condition",
        "n_components": 2,
        "hidden_layer_sizes": (16,),
        "max_epochs": 3,
        "random_state": 0,
    }
    return MutualAutoencoder(**{**settings, **params})


@pytest.fixture(scope="module")
def fitted():
    return build(max_epochs=150, lr=4e-3).fit(X, NAMES)


# -- defaults --------------------------------------------------------------------------


class Bounds(Callback):
    """Bounds on the multipliers of a fit."""

    def on_train_begin(self, net, **kwargs):
        found.clear()
        found.update({c.name: c.penalty.C for c in net.constraints})


found: dict[str, float] = {}


@pytest.mark.parametrize(("target", "nats"), [("condition", 0.0), ("code", "max")])
@pytest.mark.parametrize(
    ("C", "of_M", "first", "second"), [("auto", 12, 10, 40), (20.0, 20, 20, 20)]
)
def test_bounds_on_multipliers(target, nats, C, of_M, first, second):
    wide = np.tile(X, 4)
    mae = build(target=target, M_target=nats, C=C, callbacks=[Bounds()])
    mae.set_params(max_epochs=1).fit(wide, NAMES)

    bounds = dict(found)
    assert [bounds.pop("rate"), bounds.pop("model")] == [of_M, of_M]
    code = {"target": first, "target_rate": first, "rest": second}
    assert bounds == {"condition": {"target": first}, "code": code}[target]


def test_auto_without_a_target_is_what_it_was():
    auto = build(target=None).fit(X)
    named = build(target=None, encoder="resampling", codes="mean").fit(X)

    assert (auto.encoder, auto.codes) == ("auto", "auto")
    assert auto._fitted.structure.encoder == "resampling"
    assert np.array_equal(auto.transform(X), named.transform(X))
    assert auto.mutual_info_ == named.mutual_info_


def test_auto_with_a_target(fitted):
    assert fitted.get_params()["encoder"] == "auto"
    assert fitted._fitted.structure.encoder == "gaussian"
    draws = fitted.transform(X)
    means = clone(fitted).set_params(codes="mean")
    means._fitted = fitted._fitted
    sampled = clone(fitted).set_params(codes="sample")
    sampled._fitted = fitted._fitted
    assert np.array_equal(draws, sampled.transform(X))
    assert abs(draws - means.transform(X)).max() > 0.1


def test_y_is_ignored_without_a_target():
    nothing = build(target=None).fit(X)
    something = build(target=None).fit(X, ["of", "no", "account"])

    assert np.array_equal(nothing.transform(X), something.transform(X))
    assert not hasattr(nothing, "target_mutual_info_")
    assert not hasattr(nothing, "classes_")
    assert nothing.score(X, "ignored") == nothing.score(X)


def test_tags_say_that_y_is_required():
    assert build().__sklearn_tags__().target_tags.required
    assert not build(target=None).__sklearn_tags__().target_tags.required


# -- what y may be ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "labels",
    [
        NAMES,
        NAMES.astype(object),
        LABELS,
        LABELS == 1,
        2 * LABELS - 1,  # -1 is a class like another
        LABELS.astype(float),
        LABELS.reshape(-1, 1),
        list(NAMES),
        pd.Series(NAMES, index=np.arange(N)[::-1]),
        pd.Series(NAMES).astype("category"),
        pd.Series(LABELS).astype("Int64"),
    ],
    ids=lambda labels: f"{type(labels).__name__}-{getattr(labels, 'dtype', '')}",
)
def test_labels_of_any_type(labels):
    mae = build().fit(X, labels)

    assert len(mae.classes_) == 2
    assert mae.classes_.tolist() == sorted(set(np.asarray(labels).ravel().tolist()))
    assert np.isfinite(mae.score(X[:5], labels[:5]))


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (None, "y is None"),
        (LABELS[:-1], f"y has {N - 1} labels, and there are {N} rows"),
        (np.zeros(N), "y holds one class, 0.0"),
        (rng.normal(size=N), "continuous"),
        (np.where(LABELS == 1, np.nan, 0.0), "missing label"),
        (np.where(LABELS == 1, None, NAMES), "missing label"),
        (np.array([1, *NAMES[1:]], dtype=object), "labels of type int, str"),
        (np.zeros((N, 2)), r"y has shape \(260, 2\)"),
        (LABELS.astype("datetime64[D]"), "labels of type datetime64"),
    ],
)
def test_other_labels_are_refused(labels, says):
    mae = build()

    with pytest.raises(ValueError, match=says):
        mae.fit(X, labels)
    assert not hasattr(mae, "classes_")


def test_too_many_classes_are_refused():
    with pytest.raises(ValueError, match="501 different labels"):
        build().fit(np.vstack([X, X, X])[:501], np.arange(501))


def test_an_unseen_class_is_refused(fitted):
    with pytest.raises(ValueError, match="'third' in row 1, a class that fit has not"):
        fitted.score(X[:2], ["one", "third"])


def test_an_absent_class_is_none_of_its_business(fitted):
    assert np.isfinite(fitted.score(X[:3], ["one"] * 3))


def test_a_failed_fit_loses_nothing():
    mae = build().fit(X, NAMES)
    before = mae.transform(X)

    with pytest.raises(ValueError, match="y is None"):
        mae.fit(X)
    assert np.array_equal(mae.transform(X), before)


# -- parameters that do not go together ------------------------------------------------


def test_resampling_is_refused():
    with pytest.raises(ValueError, match="does not go with target"):
        build(encoder="resampling").fit(X, NAMES)


class NoDensity(Normal):
    def log_prob(self, value):
        raise NotImplementedError


class OwnEncoder(nn.Module):
    kind = Normal

    def __init__(self, n_features, n_components):
        super().__init__()
        self.network = nn.Linear(n_features, 2 * n_components)

    def forward(self, x):
        loc, log_scale = self.network(x).chunk(2, -1)
        return Independent(self.kind(loc, log_scale.exp()), 1)


class WithoutDensity(OwnEncoder):
    kind = NoDensity


class OwnLikelihood(nn.Module):
    def __init__(self, n_features, n_components):
        super().__init__()
        self.network = nn.Linear(n_components, n_features)

    def forward(self, z):
        return Normal(self.network(z), 1.0)


def test_an_encoder_without_a_density_is_refused():
    with pytest.raises(ValueError, match="gives no log-density"):
        build(encoder=WithoutDensity).fit(X, NAMES)


def test_modules_of_a_users_own():
    mae = build(encoder=OwnEncoder, likelihood=OwnLikelihood, n_resamples=5)
    mae.fit(X, NAMES)

    assert mae._fitted.model.likelihood.inner.module.network.in_features == 2 + 2
    low, high = mae.target_mutual_info(X, NAMES).z.interval
    assert 0 <= low <= high <= np.log(2) + 0.1
    assert pickle.loads(pickle.dumps(mae)).score(X, NAMES) == mae.score(X, NAMES)


@pytest.mark.parametrize(("M", "most"), [(3.0, 0.6), (0.3, 0.3), (None, 0.6)])
def test_more_than_can_be_held_is_refused(M, most):
    with pytest.raises(ValueError, match=r"M_target=0\.[0-9]+ is more than"):
        build(M=M, M_target=most + 0.1).fit(X, NAMES)


@pytest.mark.parametrize("value", ["min", -1.0, None, np.nan])
def test_M_target_is_a_number_of_nats_or_max(value):
    with pytest.raises(ValueError, match="M_target"):
        build(M_target=value).fit(X, NAMES)


def test_enumeration_is_refused():
    bits = (X > 0).astype(float)
    with pytest.raises(ValueError, match="the decoder sees y"):
        build(likelihood="bernoulli", mi_gradient="enumeration").fit(bits, NAMES)


def test_mean_codes_bring_one_warning():
    with pytest.warns(UserWarning, match="codes='mean' with target") as caught:
        build(codes="mean").fit(X, NAMES)
    assert sum("codes='mean'" in str(each.message) for each in caught) == 1


# -- what sees y -----------------------------------------------------------------------


def test_encoder_is_blind_and_posterior_is_not(fitted):
    model = fitted._fitted.evaluation.model
    rows = [fitted._fitted.labelled(X[:5], label) for label in ("one", "other")]

    assert_close(model.q(rows[0]).loc, model.q(rows[1]).loc, rtol=0, atol=0)
    assert abs(model.r(rows[0]).loc - model.r(rows[1]).loc).max() > 0.01
    z = torch.zeros(5, 2, dtype=torch.float64)
    means = [model.p(z, some.given).mean for some in rows]
    assert abs(means[0] - means[1]).max() > 1


def test_codes_need_no_y(fitted):
    for method in (
        fitted.transform,
        fitted.rate,
        fitted.sample_posterior,
        fitted.encoder_mutual_info,
    ):
        method(X[:4])
    fitted.posterior_log_prob(X[:4], np.zeros((4, 2)))


Z = np.zeros((4, 2))


@pytest.mark.parametrize(
    "call",
    [
        lambda mae, y: mae.inverse_transform(Z, y=y),
        lambda mae, y: mae.reconstruct(X[:4], y=y),
        lambda mae, y: mae.reconstruct(X[:4], n_samples=2, random_state=0, y=y),
        lambda mae, y: mae.interpolate(X[:4], X[4:8], y=y),
        lambda mae, y: mae.impute(np.where(X[:4] > 1, np.nan, X[:4]), y=y),
        lambda mae, y: mae.conditional_log_prob(X[:4], Z, y=y),
        lambda mae, y: mae.score_samples(X[:4], y),
        lambda mae, y: mae.score(X[:4], y),
        lambda mae, y: mae.log_likelihood(X[:4], y=y),
        lambda mae, y: mae.distortion(X[:4], y),
    ],
)
def test_what_needs_the_decoder_takes_y(fitted, call):
    as_it_is, other = (call(fitted, [label] * 4) for label in ("one", "other"))

    assert np.all(np.isfinite(as_it_is))
    assert np.abs(np.subtract(as_it_is, other)).max() > 0.1
    with pytest.raises(ValueError, match=r"y is None\. Pass y="):
        call(fitted, None)


def test_samples_of_a_class(fitted):
    one = fitted.sample(400, random_state=0, y="one")
    other = fitted.sample(400, random_state=0, y="other")
    mixed = fitted.sample(400, random_state=0, y=np.repeat(["one", "other"], 200))

    # 2 apart, with a standard deviation of about 1.05 each: an error of 0.35 is 5 se
    assert (other - one).mean(0) == pytest.approx([2, 0, 2], abs=0.35)
    assert (mixed[200:] - mixed[:200]).mean(0)[0] == pytest.approx(2, abs=0.5)


def test_samples_have_the_classes_frequencies():
    y = np.where(np.arange(N) < N // 4, "rare", "usual")
    rows = np.where(y == "rare", 10.0, 0.0)[:, None] + X
    mae = build(max_epochs=100, lr=4e-3).fit(rows, y)
    share = (mae.sample(2000, random_state=0)[:, 0] > 6).mean()

    assert share == pytest.approx(0.25, abs=0.05)  # 5 se


def test_samples_given_an_entry_have_the_classes_that_it_tells(fitted):
    def third(known, **params):
        drawn = fitted.sample(300, random_state=0, given={0: known}, **params)
        assert np.all(drawn[:, 0] == known)
        return drawn[:, 2].mean()

    # x0 = f + 2 y, x2 = -f + 2 y: if y were known, x2 = 4 y - x0
    assert third(0.0, y="one") == pytest.approx(0, abs=0.5)
    assert third(0.0, y="other") == pytest.approx(4, abs=0.8)
    # far out there is no doubt about the class
    assert third(-2.0) == pytest.approx(third(-2.0, y="one"), abs=0.3)
    assert third(4.0) == pytest.approx(third(4.0, y="other"), abs=0.3)


def test_log_likelihood_is_that_of_a_row_given_its_class(fitted):
    right = fitted.log_likelihood(X, y=NAMES).mean()
    wrong = fitted.log_likelihood(X, y=np.array(["other", "one"])[LABELS]).mean()

    assert right > wrong + 1
    assert fitted.score(X, NAMES) <= right


# -- what codes hold of y --------------------------------------------------------------


def pairs(n, seed):
    """x = (y, c), independent and uniform."""
    rng = np.random.default_rng(seed)
    y, c = rng.integers(0, 2, n), rng.integers(0, 3, n)
    return pd.DataFrame({"y": y.astype(str), "c": c.astype(str)}), y


def test_codes_forget_what_the_decoder_is_told(whole_fits):
    frame, y = pairs(3000, 0)
    mae = build(M=0.8, max_epochs=40, lr=4e-3, batch_size=256).fit(frame, y)
    new, y_new = pairs(3000, 1)

    about = mae.target_mutual_info(new, y_new).z
    assert about.interval[1] <= 0.02
    assert about.accuracy_cap <= 0.61
    # M is I(x; z) given y, and is met
    low, high = mae.mutual_info_interval_
    assert low < 0.8 + 0.05
    assert high > 0.8 - 0.05
    # the best there is: log 3, of c; without y it were log 6
    nll = -mae.log_likelihood(new[:500], y=y_new[:500])
    assert nll.mean() == pytest.approx(np.log(3), abs=0.1)


def shifted(n, seed, mu=0.75):
    """Two numbers that tell of each other, one of them shifted by y."""
    rng = np.random.default_rng(seed)
    y = rng.choice([-1, 1], n)
    factor = rng.normal(size=(n, 1))
    rows = factor + 0.5 * rng.normal(size=(n, 2))
    return rows + mu * y[:, None] * [1, -1], y


@pytest.mark.parametrize("M_target", [0.0, 0.2])
def test_codes_hold_as_much_as_they_are_to(M_target):
    rows, y = shifted(4000, 0)
    mae = build(M=1.0, M_target=M_target, max_epochs=50, lr=3e-3, batch_size=256)
    about = mae.fit(rows, y).target_mutual_info(*shifted(4000, 1)).z

    low, high = about.interval
    assert low <= M_target + 0.02
    assert high >= M_target - 0.02
    assert high - low < 0.1


def test_too_much_is_asked_for_and_said():
    # x tells next to nothing of y
    rows, y = shifted(1000, 0, mu=0.1)
    mae = build(M=1.0, M_target=0.5, n_components=1, max_epochs=10, batch_size=256)

    with pytest.warns(ConvergenceWarning, match=r"M_target=0\.5 nats.*I\(z; y\) lies"):
        mae.fit(rows, y)
    assert mae.target_mutual_info_interval_[1] < 0.5


def test_held_out_rows_are_not_trained_on():
    mae = build().fit(X, NAMES)
    counts = np.bincount(LABELS)

    assert mae._fitted.target.counts.tolist() == counts.tolist()
    seen = []

    class Watch(nn.Module):
        def __init__(self, n_features, n_components):
            super().__init__()
            self.network = nn.Linear(n_features, 2 * n_components)

        def forward(self, x):
            if self.training:
                seen.append(x.detach())
            loc, log_scale = self.network(x).chunk(2, -1)
            return Independent(Normal(loc, log_scale.exp()), 1)

    build(encoder=Watch).fit(X, NAMES)
    rows = torch.cat([x for x in seen if x.dim() == 2]).unique(dim=0)
    held = N - len(rows)
    # a fifth of N rows, 5 standard errors: one false alarm in a million
    assert abs(held - 0.2 * N) < 5 * (0.16 * N) ** 0.5


def test_a_fit_that_goes_on_holds_out_the_same_rows():
    family = build().fit(X, NAMES)._fitted.family
    rows = np.concatenate([X, X[:200]])  # some of them twice
    index = np.concatenate([LABELS, LABELS[:200]])
    some = Labels(np.array(["one", "other"]), index[:N]).held_out(family, X, 0)
    order = np.random.default_rng(0).permutation(len(rows))
    more = Labels(np.array(["one", "other"]), index[order])
    out = more.held_out(family, rows[order], 0)
    back = out[np.argsort(order)]

    # which one of two equal rows it is, nobody can tell
    np.testing.assert_array_equal(back[200:N], some[200:])
    assert (back[:200].astype(int) + back[N:] >= some[:200]).all()
    assert not np.array_equal(some, more.held_out(family, rows[order], 1)[: len(some)])


def test_few_rows_of_a_class_are_not_certified():
    y = np.where(np.arange(N) < 49, "rare", "usual")
    with pytest.warns(ConvergenceWarning, match="fewer than 50 rows"):
        mae = build().fit(X, y)

    assert np.isnan(mae.target_mutual_info_)
    assert np.isnan(mae.target_mutual_info_interval_).all()
    loaded = pickle.loads(pickle.dumps(mae))
    assert np.isnan(loaded.target_mutual_info_)


def test_bracket_of_fit(fitted):
    low, high = fitted.target_mutual_info_interval_

    assert 0 <= low <= fitted.target_mutual_info_ <= high <= np.log(2) + 0.1


def test_bracket_of_rows(fitted):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        about = fitted.target_mutual_info(X, NAMES)
        again = fitted.target_mutual_info(X, NAMES)

    assert list(about) == ["z"]
    assert about == again
    assert about.z.n_samples == N
    assert about.z.entropy == pytest.approx(np.log(2), abs=0.05)
    assert about.z.rate == pytest.approx(fitted.rate(X).mean(), rel=1e-3)
    assert max(np.bincount(LABELS)) / N <= about.z.accuracy_cap <= 1


def test_bracket_of_rows_needs_a_target_and_labels(fitted):
    with pytest.raises(ValueError, match="this one was fitted with target=None"):
        build(target=None).fit(X).target_mutual_info(X, NAMES)
    with pytest.raises(ValueError, match="y is None"):
        fitted.target_mutual_info(X, None)
    with pytest.raises(ValueError, match="a single row of class 'other'"):
        fitted.target_mutual_info(X[:3], ["one", "other", "one"])


def test_a_wide_bracket_says_why():
    mae = build(M=None, max_epochs=100, lr=4e-3).fit(X, NAMES)

    with pytest.warns(UserWarning, match=r"nats wide: the codes' rate"):
        mae.target_mutual_info(X[:30], NAMES[:30])


# -- rows of all kinds -----------------------------------------------------------------


def test_holes_and_classes_are_drawn_together():
    holes = X.copy()
    holes[LABELS == 1, 1] = np.nan
    holes[:20, 0] = np.nan
    mae = build().fit(holes, NAMES)
    pool = mae._fitted.model.pool
    drawn = pool.draw(3000, generator())

    # the second column is observed in just the first class
    assert torch.equal(drawn["observed"][:, 1], drawn["given"][:, 0] == 1)
    share = float(drawn["given"][:, 1].mean())
    assert share == pytest.approx(LABELS.mean(), abs=0.05)  # 5 se
    assert np.isfinite(mae.impute(holes, y=NAMES)).all()
    loaded = pickle.loads(pickle.dumps(mae))
    assert loaded.score(holes, NAMES) == mae.score(holes, NAMES)


def test_sparse_rows_are_dense_ones():
    table = np.where(X > 1, X, 0.0)
    dense = build().fit(table, NAMES)
    kept = build().fit(sparse.csr_array(table), NAMES)

    assert kept.transform(sparse.csr_array(table)) == pytest.approx(
        dense.transform(table), abs=1e-4
    )
    score = kept.score_samples(sparse.csr_array(table), NAMES)
    assert score == pytest.approx(dense.score_samples(table, NAMES), abs=1e-3)


def test_labels_go_with_blocks_of_sparse_rows(fitted, monkeypatch):
    from sklearn_mae.columns import blocks
    from sklearn_mae.estimator import sparse as module

    table = sparse.csr_array(X)
    whole = fitted.score_samples(table, NAMES)
    monkeypatch.setattr(blocks, "rows_at_once", lambda n_columns: 32)
    monkeypatch.setattr(module, "rows_at_once", lambda n_columns: 32)

    assert fitted.score_samples(table, NAMES) == pytest.approx(whole)
    with pytest.raises(ValueError, match="y has 3 labels"):
        fitted.score_samples(table, NAMES[:3])


@pytest.mark.parametrize(
    "likelihood", ["bernoulli", "categorical", "poisson", "student_t"]
)
def test_every_kind_of_column(likelihood):
    tables = {"student_t": X, "poisson": np.floor(np.exp(X.clip(-2, 2)))}
    table = tables.get(likelihood, (X > 0).astype(float))
    mae = build(likelihood=likelihood).fit(table, NAMES)

    assert mae.sample(3, random_state=0, y="one").shape == (3, 3)
    assert np.isfinite(mae.score(table, NAMES))


def test_a_single_column_of_categories():
    mae = build(n_components=1).fit(NAMES.reshape(-1, 1), LABELS)

    assert np.isfinite(mae.score(NAMES.reshape(-1, 1), LABELS))


def test_texts():
    sentences = make_sentences(300, random_state=0).data
    y = np.array(["the" in text.split() for text in sentences])
    words = SequenceVectorizer().fit_transform(sentences)
    mae = build(
        likelihood="sequence", hidden_layer_sizes=(8, 8), batch_size=64, max_epochs=2
    ).fit(words, y)

    assert np.isfinite(mae.score(words[:20], y[:20]))
    assert mae.sample(2, random_state=0, y=True).shape == (2, words.shape[1])
    assert mae.target_mutual_info(words, y).z.interval[1] <= np.log(2) + 0.1


# -- composition -----------------------------------------------------------------------


def test_fit_transform_is_fit_then_transform():
    assert np.array_equal(
        build().fit_transform(X, NAMES), build().fit(X, NAMES).transform(X)
    )


def test_in_a_pipeline_and_a_search():
    pipeline = make_pipeline(build(), LogisticRegression())
    search = GridSearchCV(pipeline, {"mutualautoencoder__M": [0.5, 1.0]}, cv=2)

    assert 0 <= search.fit(X, NAMES).score(X, NAMES) <= 1
    alone = GridSearchCV(build(), {"M": [0.5, 1.0]}, cv=2).fit(X, NAMES)
    assert np.isfinite(alone.best_score_)


def test_the_scorer_takes_y():
    scores = cross_validate(build(), X, NAMES, scoring=information_scorer, cv=2)

    assert np.isfinite(scores["test_log_likelihood"]).all()
    with pytest.warns(RuntimeWarning, match="Pass y="):
        found = information_scorer(build().fit(X, NAMES), X)
    assert np.isnan(found["elbo"])


def test_paths_and_reports_take_y(fitted):
    path = information_path(build(), X, [0.5, 1.0], y=NAMES)
    known = information_path(build(), X, [0.5], y=NAMES, X_test=X[:9], y_test=NAMES[:9])

    assert np.isfinite(path.log_likelihood).all()
    assert np.isfinite(known.elbo).all()
    report = information_report(fitted, X, NAMES).to_frame()
    about = fitted.target_mutual_info(X, NAMES).z
    assert tuple(report.loc["I_q(z; y)", ["low", "high"]]) == about.interval
    # what the decoder is told stands in what is reported
    given = fitted.log_likelihood(X, y=NAMES).mean()
    assert report.loc["log p(x|y)", "value"] == pytest.approx(given)
    assert report.loc["I_p(x, z|y)", "value"] == fitted.mutual_info_


def test_a_saved_fit_is_the_same(fitted):
    loaded = pickle.loads(pickle.dumps(fitted))

    assert loaded.classes_.tolist() == ["one", "other"]
    assert loaded.target_mutual_info_interval_ == fitted.target_mutual_info_interval_
    assert np.array_equal(loaded.transform(X), fitted.transform(X))
    assert loaded.score(X, NAMES) == fitted.score(X, NAMES)
    same = (mae.sample(5, random_state=0) for mae in (fitted, loaded))
    assert np.array_equal(*same)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("kind", "other"),
        ("classes_", ["one", "one"]),
        ("classes_", ["one"]),
        ("labels", np.array([0, 7])),
        ("labels", np.array([0.0, 1.0])),
        ("counts", np.array([0, 0])),
        ("observed", np.ones((2, 9), dtype=bool)),
    ],
)
def test_a_damaged_record_is_refused(fitted, name, value):
    record = fitted._fitted.target.write()

    assert Target.read(record, 3).write().keys() == record.keys()
    with pytest.raises(ValueError, match="damaged"):
        Target.read({**record, name: value}, 3)


def test_warm_start_goes_on_with_the_same_classes():
    mae = build(warm_start=True).fit(X, NAMES)
    first = mae._fitted.structure
    mae.fit(X[LABELS == 0], NAMES[LABELS == 0])

    assert mae._fitted.structure == first
    assert mae.classes_.tolist() == ["one", "other"]
    assert mae.n_iter_ == 6
    with pytest.raises(ValueError, match="a class that fit has not seen"):
        mae.fit(X, np.where(LABELS == 0, "one", "third"))
    with pytest.raises(ValueError, match=r"target \(was 'condition', now None\)"):
        mae.set_params(target=None, encoder="gaussian").fit(X)


def test_warm_start_after_loading():
    mae = build(warm_start=True).fit(X, NAMES)
    loaded = pickle.loads(pickle.dumps(mae))

    assert np.array_equal(
        loaded.fit(X, NAMES).transform(X), mae.fit(X, NAMES).transform(X)
    )


def test_a_row_is_encoded_the_same_whatever_stands_beside_it(fitted):
    whole = fitted.transform(X)

    assert np.array_equal(fitted.transform(X[7:8]), whole[7:8])
    scores = fitted.score_samples(X, NAMES)
    assert np.array_equal(fitted.score_samples(X[7:8], NAMES[7:8]), scores[7:8])


def test_rows_may_be_float32(fitted):
    assert fitted.transform(X.astype(np.float32)).dtype == np.float32
    assert len(rows_of_transform(fitted, X.astype(np.float32))) == N


@pytest.mark.parametrize(
    "method",
    [
        lambda mae, y: mae.sample(3, y=y),
        lambda mae, y: mae.inverse_transform(np.zeros((3, 2)), y=y),
        lambda mae, y: mae.reconstruct(X[:3], y=y),
        lambda mae, y: mae.impute(X[:3], y=y),
    ],
)
def test_labels_that_no_decoder_sees_are_refused(method):
    mae = build(target=None).fit(X)
    with pytest.raises(ValueError, match=r"fitted with target=None.*Leave y out"):
        method(mae, NAMES[:3])
    assert np.isfinite(mae.score(X, NAMES))  # scikit-learn passes one everywhere


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.arange(N), "looks like a name of each row"),
        (np.where(LABELS, np.inf, 0.0), "inf, which is no class"),
    ],
)
def test_labels_that_are_no_classes(y, message):
    with pytest.raises(ValueError, match=message):
        build().fit(X, y)


def test_holes_that_nothing_knows_of(fitted):
    rows = X[:20].copy()
    rows[3, 1] = np.nan
    with pytest.warns(UserWarning, match=r"Column\(s\) 1 of X miss entries"):
        codes = fitted.transform(rows)
    assert np.isfinite(codes).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted.impute(rows, y=NAMES[:20])


def test_a_path_asks_for_test_labels_first():
    with pytest.raises(ValueError, match="y_test is None"):
        information_path(build(), X, [0.5], y=NAMES, X_test=X[:20])
