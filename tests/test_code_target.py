"""``target="code"``: labels that may be missing, two blocks, a classifier."""

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
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from torch import nn
from torch.distributions import Independent, MultivariateNormal, Normal

from sklearn_mae import (
    MutualAutoencoder,
    information_path,
    information_report,
    information_scorer,
)
from sklearn_mae.estimator.targets import Labels, Target
from tests.statistical import assert_mean_equal

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
]

rng = np.random.default_rng(0)
N = 330
LABELS = rng.integers(0, 3, N)
NAMES = np.array(["one", "other", "third"])[LABELS]
PLACES = np.array([[2.0, 0.0, 0.0, 2.0], [-2.0, 2.0, 0.0, 0.0], [0.0, -2.0, 2.0, 0.0]])


def rows_of(labels, seed):
    noise = np.random.default_rng(seed)
    factor = noise.normal(size=(len(labels), 1)) * [1, 1, 1, -1]
    return PLACES[labels] + factor + 0.4 * noise.normal(size=(len(labels), 4))


X = rows_of(LABELS, 0)
FEW = np.where(rng.random(N) < 0.1, LABELS, -1)
FEW[:3] = [0, 1, 2]
LABELS[:3] = [0, 1, 2]
X[:3] = rows_of(LABELS[:3], 9)
NAMES[:3] = ["one", "other", "third"]


def build(**params):
    settings = {
        "M": 2.0,
        "target": "code",
        "M_target": "max",
        "n_components": 2,
        "hidden_layer_sizes": (16,),
        "max_epochs": 3,
        "random_state": 0,
    }
    return MutualAutoencoder(**{**settings, **params})


@pytest.fixture(scope="module")
def fitted():
    return build(max_epochs=120, lr=4e-3).fit(X, FEW)


@pytest.fixture(scope="module")
def all_labelled():
    return build(max_epochs=120, lr=4e-3, M_target=0.6).fit(X, NAMES)


# -- what it does ----------------------------------------------------------------------


def test_few_labels_are_enough(fitted):
    labels = np.random.default_rng(1).integers(0, 3, 300)
    rows = rows_of(labels, 1)
    proba = fitted.predict_proba_target(rows)

    assert proba.shape == (300, 3)
    assert proba.sum(1) == pytest.approx(1)
    assert (proba.argmax(1) == labels).mean() > 0.9  # at chance 0.33
    assert fitted.classes_.tolist() == [0, 1, 2]


def test_the_code_has_two_blocks(fitted):
    assert fitted.transform(X).shape == (N, 2 + 2)
    assert len(fitted.get_feature_names_out()) == 4
    assert build(n_target_components=1).fit(X, FEW).transform(X).shape == (N, 3)
    assert build(n_target_components=5).fit(X, FEW).transform(X).shape == (N, 7)


def test_codes_are_means_and_need_no_y(fitted):
    means = clone(fitted).set_params(codes="mean")
    means._fitted = fitted._fitted

    assert np.array_equal(fitted.transform(X), means.transform(X))


def test_the_model_s_first_block_holds_M_target(fitted, all_labelled):
    shares = np.bincount(FEW[FEW >= 0]) / (FEW >= 0).sum()
    most = 0.95 * -(shares * np.log(shares)).sum()
    first, _ = fitted._fitted.model.prior.blocks

    assert first.information == pytest.approx(most, abs=1e-3)
    first, _ = all_labelled._fitted.model.prior.blocks
    assert first.information == pytest.approx(0.6, abs=1e-3)


def test_codes_hold_as_much_as_they_are_to(whole_fits):
    labels = np.random.default_rng(2).integers(0, 3, 3000)
    rows = rows_of(labels, 2)
    mae = build(M_target=0.5, max_epochs=120, batch_size=256, lr=2.5e-3)
    mae.fit(rows, labels)
    new = np.random.default_rng(3).integers(0, 3, 2000)
    about = mae.target_mutual_info(rows_of(new, 3), new)

    assert about.keys() == {"target", "rest"}
    low, high = about.target.interval
    assert low <= 0.5 + 0.03
    assert high >= 0.5 - 0.03
    # a short fit leaves a little; x tells 1.1 nats of y
    assert about.rest.interval[1] <= 0.15
    assert about.rest.rate > 0.5
    found = mae.target_mutual_info_interval_
    assert found.target[0] <= mae.target_mutual_info_.target <= found.target[1]
    assert found.rest[0] <= 0.1
    # M is I(x; z) of both blocks
    assert (
        mae.mutual_info_interval_[0] - 0.05 < 2.0 < mae.mutual_info_interval_[1] + 0.05
    )


def test_probabilities_are_those_of_bayes_rule(all_labelled):
    fitted = all_labelled._fitted
    q = fitted.evaluation.model.q(fitted.seen(X[:5]))
    a = q.loc[:, :2] + q.log_scale[:, :2].exp() * torch.randn(
        20_000, 5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    means, shares = torch.as_tensor(fitted.target.means), fitted.target.shares
    log_p = -0.5 * (a.unsqueeze(-2) - means).square().sum(-1)
    expected = torch.softmax(log_p + torch.as_tensor(shares).log(), -1).mean(0)

    # 20,000 draws against 128 quasi-random ones
    proba = all_labelled.predict_proba_target(X[:5])
    assert proba == pytest.approx(expected.detach().numpy(), abs=0.02)


def test_probabilities_of_a_row_do_not_depend_on_others(fitted):
    whole = fitted.predict_proba_target(X)

    assert fitted.predict_proba_target(X[7:8]) == pytest.approx(whole[7:8], abs=1e-12)
    assert fitted.predict_proba_target(sparse.csr_array(X)) == pytest.approx(whole)


def test_only_a_code_with_classes_predicts():
    assert hasattr(build(), "predict_proba_target")
    for other in ("condition", None):
        mae = build(target=other, M_target=0.0)
        assert not hasattr(mae, "predict_proba_target")
        with pytest.raises(AttributeError, match="predict_proba_target"):
            mae.fit(X, NAMES).predict_proba_target(X)
    # it goes by the fit
    mae = build().fit(X, NAMES).set_params(target=None)
    assert mae.predict_proba_target(X).shape == (N, 3)


# -- what y may be ---------------------------------------------------------------------


def mixed(missing):
    labels = NAMES.astype(object)
    labels[5:50] = missing
    return labels


@pytest.mark.parametrize(
    ("labels", "n_labelled"),
    [
        (NAMES, N),
        (FEW, (FEW >= 0).sum()),
        (FEW.astype(float), (FEW >= 0).sum()),
        (np.where(FEW < 0, np.nan, FEW), (FEW >= 0).sum()),
        (mixed(None), N - 45),
        (mixed(np.nan), N - 45),
        (mixed(-1), N - 45),
        (list(mixed(-1)), N - 45),
        (pd.Series(mixed(None), dtype="category"), N - 45),
        (pd.Series(mixed(None), dtype="string"), N - 45),
        (pd.Series(LABELS).astype("Int64").where(FEW >= 0), (FEW >= 0).sum()),
        (np.where(FEW < 0, None, LABELS == 1), (FEW >= 0).sum()),
    ],
    ids=lambda value: f"{type(value).__name__}-{getattr(value, 'dtype', value)}"[:30],
)
def test_labels_of_any_type_some_missing(labels, n_labelled):
    mae = build(max_epochs=1).fit(X, labels)

    assert mae._fitted.target.counts.sum() == n_labelled
    known = {label for label in np.asarray(labels, object) if not pd.isna(label)}
    assert mae.classes_.tolist() == sorted(known - {-1})
    assert mae.target_mutual_info(X, labels).target.n_samples == n_labelled


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (None, "requires y to be passed"),
        (np.full(N, -1), "labels none of 330 rows"),
        (np.full(N, np.nan), "labels none of 330 rows"),
        (np.where(LABELS == 0, -1, 1), r"Recode y, for example as 0 and 1"),
        (np.where(LABELS == 0, -1.0, 1.0), "Recode y"),
        (np.where(LABELS == 0, -1, 2), "y holds one class, 2"),
        (np.where(LABELS == 0, "-1", "1"), "the string '-1'"),
        (rng.normal(size=N), "continuous"),
        (np.where(LABELS, np.inf, 0.0), "inf, which is no class"),
        (np.arange(N), "looks like a name of each row"),
        (FEW[:-1], "y has 329 labels"),
        (mixed(3), "labels of type int, str"),
    ],
)
def test_other_labels_are_refused(labels, says):
    mae = build()

    with pytest.raises(ValueError, match=says):
        mae.fit(X, labels)
    assert not hasattr(mae, "classes_")


def test_an_unseen_class_is_refused(fitted):
    with pytest.raises(ValueError, match="7 in row 1, a class that fit has not"):
        fitted.target_mutual_info(X[:4], [0, 7, 0, 7])


# -- parameters ------------------------------------------------------------------------


def test_more_than_can_be_held_is_refused():
    with pytest.raises(ValueError, match=r"M_target=1\.5 is more.*M=2.*H\(y\)=1\.09"):
        build(M_target=1.5).fit(X, NAMES)
    with pytest.raises(ValueError, match=r"M_target=0\.7 is more.*M=0\.5"):
        build(M=0.5, M_target=0.7).fit(X, NAMES)


def test_nothing_asked_for_is_refused():
    with pytest.raises(ValueError, match="M_target=0 with target='code'"):
        build(M_target=0.0).fit(X, NAMES)


@pytest.mark.parametrize("value", [0, -1, 1.5, "auto"])
def test_n_target_components_is_a_number(value):
    with pytest.raises(ValueError, match="n_target_components"):
        build(n_target_components=value).fit(X, NAMES)


def test_too_many_components_are_refused():
    with pytest.raises(ValueError, match="quasi-random draws"):
        build(n_target_components=30_000).fit(X, NAMES)


def test_resampling_is_refused():
    with pytest.raises(ValueError, match="does not go with target='code': the density"):
        build(encoder="resampling").fit(X, NAMES)


class OwnEncoder(nn.Module):
    def __init__(self, n_features, n_components):
        super().__init__()
        self.network = nn.Linear(n_features, n_components)

    def forward(self, x):
        return Independent(Normal(self.network(x), 0.5), 1)


class Joint(OwnEncoder):
    def forward(self, x):
        loc = self.network(x)
        return MultivariateNormal(loc, torch.eye(loc.shape[-1]).to(loc))


def test_an_encoder_of_independent_normals():
    mae = build(encoder=OwnEncoder).fit(X, NAMES)

    assert mae.predict_proba_target(X).shape == (N, 3)
    assert mae.target_mutual_info(X, NAMES).target.interval[1] <= np.log(3) + 0.1
    with pytest.raises(ValueError, match=r"encoder gives a MultivariateNormal"):
        build(encoder=Joint).fit(X, NAMES)


def test_labels_tell_no_decoder(fitted):
    with pytest.raises(ValueError, match="fitted with target='code'"):
        fitted.sample(3, y=[0, 1, 2])
    assert fitted.score(X, FEW) == fitted.score(X)


# -- the certificate -------------------------------------------------------------------


def test_few_labels_bring_no_certificate():
    with pytest.warns(UserWarning, match="target_mutual_info_ is NaN"):
        mae = build().fit(X, FEW)

    assert np.isnan(mae.target_mutual_info_.target)
    assert np.isnan(mae.target_mutual_info_interval_.rest).all()


def test_what_is_held_out_is_labelled(all_labelled):
    index = np.where(FEW >= 0, LABELS, np.where(np.arange(N) < 250, LABELS, -1))
    labels = Labels(np.arange(3), index)
    out = labels.held_out(all_labelled._fitted.family, X, 0)

    assert not out[index < 0].any()
    # a fifth, 5 standard errors: one false alarm in a million
    n = (index >= 0).sum()
    assert abs(out.sum() - 0.2 * n) < 5 * (0.16 * n) ** 0.5


def test_a_missed_block_is_named():
    with pytest.warns(UserWarning, match=r"I\(target; y\) (is that|lies)"):
        build(max_epochs=1).fit(X, NAMES)


def test_a_wide_bracket_names_its_block():
    mae = build(M=None, max_epochs=60, lr=4e-3).fit(X, NAMES)

    with pytest.warns(UserWarning, match=r"bracket of I\(rest; y\) is"):
        mae.target_mutual_info(X[:30], NAMES[:30])


# -- composition -----------------------------------------------------------------------


def test_fit_transform_is_fit_then_transform():
    assert np.array_equal(
        build().fit_transform(X, FEW), build().fit(X, FEW).transform(X)
    )


def test_all_that_needs_no_y(fitted):
    drawn, codes = fitted.sample(5, random_state=0, return_codes=True)

    assert drawn.shape == (5, 4)
    assert codes.shape == (5, 4)
    assert fitted.inverse_transform(fitted.transform(X)).shape == X.shape
    assert fitted.reconstruct(X[:3], n_samples=2, random_state=0).shape == (2, 3, 4)
    assert np.isfinite(fitted.log_likelihood(X[:5])).all()
    assert fitted.log_likelihood(X).mean() >= fitted.score(X) - 0.05
    holes = X[:9].copy()
    holes[2, 1] = np.nan
    assert np.isfinite(fitted.impute(holes)).all()
    assert np.isfinite(fitted.transform(holes)).all()
    low, high = fitted.mutual_info(n_samples=200, tol=5.0).lower, 3.0
    assert 0 < low < high
    bound = -fitted.distortion(X) - fitted.rate(X)
    assert bound == pytest.approx(fitted.score_samples(X))


def test_the_rate_is_to_the_mixture(fitted):
    model = fitted._fitted.evaluation.model
    q = model.q(fitted._fitted.seen(X))
    z = q.sample((2_000,), torch.Generator().manual_seed(0))
    expected = (q.log_prob(z) - model.prior.log_prob(z)).mean(0)

    # each row has draws of its own, and so an error of its own
    assert_mean_equal(fitted.rate(X) - expected.detach().numpy(), 0, resolution=0.15)


def test_codes_for_a_classifier_by_cross_fitting():
    pipeline = make_pipeline(build(), LogisticRegression())

    assert cross_val_predict(pipeline, X, NAMES, cv=2).shape == (N,)


def test_scorer_paths_and_reports(fitted, all_labelled):
    path = information_path(build(), X, [1.5, 2.0], y=FEW, X_test=X[:40])
    split = information_path(build(), X, [1.5], y=mixed(None))

    assert np.isfinite(path.log_likelihood).all()
    assert np.isfinite(split.log_likelihood).all()
    assert np.isfinite(information_scorer(fitted, X)["log_likelihood"])
    report = information_report(all_labelled, X).to_frame()
    found = all_labelled.target_mutual_info_
    assert report.loc["I_q(target; y)", "value"] == found.target
    assert report.loc["I_q(rest; y)", "value"] == found.rest


def test_a_report_says_whose_labels_it_is_of(fitted, all_labelled):
    few = information_report(fitted, X).to_frame()
    assert "fit held out no labelled rows" in few.loc["I_q(rest; y)", "meaning"]

    report = information_report(all_labelled, X, mixed(None)).to_frame()
    about = all_labelled.target_mutual_info(X, mixed(None))
    for block in ("target", "rest"):
        ends = report.loc[f"I_q({block}; y)", ["low", "high"]]
        assert tuple(ends) == about[block].interval


def test_a_path_hides_no_miss_behind_few_labels():
    with pytest.warns(ConvergenceWarning) as caught:
        information_path(build(), X, [1.5, 2.0], y=FEW, X_test=X[:40])

    (said,) = (str(warning.message) for warning in caught)
    assert "at M = 1.5, 2; at 1.5: M=1.5 nats" in said
    assert "at M = 1.5, 2: target_mutual_info_ is NaN" in said


def test_a_fit_that_misses_several_things_warns_once():
    with pytest.warns(ConvergenceWarning) as caught:
        build(M=2.0, max_epochs=1).fit(X, LABELS)

    (said,) = (str(warning.message) for warning in caught)
    assert "M=2 nats was asked for" in said
    assert "I(target; y)" in said


def test_rows_without_labels_tell_nothing_of_them(all_labelled):
    with pytest.raises(ValueError, match="y labels none of 330 rows"):
        all_labelled.target_mutual_info(X, np.full(N, -1))
    with pytest.raises(ValueError, match="y is None"):
        all_labelled.target_mutual_info(X)


def test_rows_of_one_class_bring_a_warning(all_labelled):
    rows = X[LABELS == 1]
    with pytest.warns(UserWarning, match="of class 'other': I.* is 0 whatever"):
        about = all_labelled.target_mutual_info(rows, ["other"] * len(rows))

    assert about.target.interval == (0.0, 0.0)


def test_a_saved_fit_is_the_same(fitted, all_labelled):
    for mae in (fitted, all_labelled):
        loaded = pickle.loads(pickle.dumps(mae))

        assert loaded.classes_.tolist() == mae.classes_.tolist()
        np.testing.assert_equal(
            dict(loaded.target_mutual_info_interval_),
            dict(mae.target_mutual_info_interval_),
        )
        assert np.array_equal(loaded.transform(X), mae.transform(X))
        assert np.array_equal(
            loaded.predict_proba_target(X), mae.predict_proba_target(X)
        )
        same = (each.sample(5, random_state=0) for each in (mae, loaded))
        assert np.array_equal(*same)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("means", None),
        ("means", np.zeros((2, 2))),
        ("means", np.full((3, 2), np.nan)),
        ("means", np.zeros(3)),
        ("labels", np.array([0, 1, 1])),
        ("kind", "condition"),
    ],
)
def test_a_damaged_record_is_refused(fitted, name, value):
    record = fitted._fitted.target.write()

    assert Target.read(record, 4).write().keys() == record.keys()
    with pytest.raises(ValueError, match="damaged"):
        Target.read({**record, name: value}, 4)


def test_warm_start_goes_on():
    mae = build(warm_start=True).fit(X, FEW)
    before = mae.transform(X)
    with pytest.raises(ValueError, match="labels no row of class 2"):
        mae.fit(X, np.where(FEW == 2, -1, FEW))
    assert np.array_equal(mae.transform(X), before)
    mae.set_params(M_target=0.4).fit(X, FEW)

    assert mae.n_iter_ == 6
    assert mae._fitted.model.prior.blocks[0].information == pytest.approx(0.4, abs=1e-3)
    with pytest.raises(ValueError, match="n_target_components"):
        mae.set_params(n_target_components=1).fit(X, FEW)
    loaded = pickle.loads(pickle.dumps(mae.set_params(n_target_components=None)))
    assert np.array_equal(loaded.fit(X, FEW).transform(X), mae.fit(X, FEW).transform(X))


def test_tables_of_several_kinds_with_holes():
    frame = pd.DataFrame(X, columns=list("abcd"))
    frame["kind"] = np.where(X[:, 0] > 0, "u", "v")
    frame.loc[::7, "b"] = np.nan
    mae = build().fit(frame, FEW)

    assert mae.predict_proba_target(frame).shape == (N, 3)
    assert list(mae.sample(3, random_state=0)) == list(frame)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mae.transform(frame)
