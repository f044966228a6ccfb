"""Tables as people have them: several kinds of columns, missing entries, frames."""

import pickle
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import stats
from sklearn.base import clone
from sklearn.compose import make_column_selector
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_mae import MutualAutoencoder, information_scorer
from tests.statistical import assert_mean_equal

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

ISLANDS = ["Biscoe", "Dream", "Torgersen"]


def made(n=300, holes=0.0, seed=0):
    """Return rows of one factor: two numbers, a count, a category, a truth, a price."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=n)
    frame = pd.DataFrame(
        {
            "length": np.round(40 + 3 * z + rng.normal(size=n), 1),
            "depth": (0.5 * rng.normal(size=n) - z).astype(np.float32),
            "visits": rng.poisson(np.exp(1 + 0.5 * z)),
            "island": np.array(ISLANDS)[
                np.digitize(z + 0.5 * rng.normal(size=n), [-0.5, 0.5])
            ],
            "adult": z + rng.normal(size=n) > 0,
            "price": np.round(np.exp(3 + 0.4 * z + 0.2 * rng.normal(size=n)), 2),
        },
        index=[f"row{i}" for i in range(n)],
    )
    for name in ("length", "visits", "island", "adult"):
        away = rng.random(n) < holes
        if name in ("visits", "adult"):
            frame[name] = frame[name].astype("Int64" if name == "visits" else "boolean")
        frame.loc[away, name] = pd.NA if name in ("visits", "adult") else None
    return frame


EXPLICIT = [("poisson", "visits"), ("lognormal", ["price"]), ("student_t", [1])]


def build(**params):
    settings = {"M": 1.0, "n_components": 2, "hidden_layer_sizes": (16,)}
    settings |= {"random_state": 0, "max_epochs": 150, "lr": 4e-3}
    return MutualAutoencoder(**{**settings, **params})


@pytest.fixture(scope="module")
def plain():
    return build().fit(made())


@pytest.fixture(scope="module")
def holey():
    """Explicit kinds, and holes."""
    return build(likelihood=EXPLICIT).fit(made(holes=0.2))


@pytest.fixture(params=["plain", "holey"])
def mae(request):
    return request.getfixturevalue(request.param)


# --- what columns are -----------------------------------------------------------------


def test_auto_goes_by_the_type_of_a_column(plain):
    assert plain.likelihood_ == [
        ("gaussian", ["length", "depth", "visits", "price"]),
        ("categorical", ["island", "adult"]),
    ]


def test_what_no_pair_names_is_auto(holey):
    assert holey.likelihood_ == [
        ("gaussian", ["length"]),
        ("student_t", ["depth"]),
        ("poisson", ["visits"]),
        ("categorical", ["island", "adult"]),
        ("lognormal", ["price"]),
    ]


@pytest.mark.parametrize(
    "columns",
    [
        "visits",
        ["visits"],
        2,
        [2],
        -4,
        slice(2, 3),
        slice("visits", "visits"),
        np.array([2]),
        [False, False, True, False, False, False],
        make_column_selector("vis.*"),
        lambda X: ["visits"],
        pd.Index(["visits"]),
    ],
)
def test_columns_of_a_pair(small, columns):
    mae = small(likelihood=[("poisson", columns)]).fit(made(40))

    assert ("poisson", ["visits"]) in mae.likelihood_


@pytest.mark.parametrize(
    ("likelihood", "message"),
    [
        (["poisson"], "holds 'poisson', which is no pair"),
        ([("poisson",)], "which is no pair of a likelihood and columns"),
        ([("sequence", ["visits"])], "names 'sequence' in a pair. Likelihoods of"),
        ([(3, ["visits"])], "names 3 in a pair"),
        ([("poisson", ["age"])], "names column 'age', which X has not"),
        ([("poisson", 6)], "names column 6, which X has not"),
        ([("poisson", [True])], "a mask of 1 entries, but X has 6 columns"),
        ([("poisson", 2.0)], "names columns by 2.0. Pass a name, a position"),
        ([("poisson", [True, 1])], "a mask in part"),
        ([("poisson", 2), ("gaussian", "visits")], "names column 'visits' twice"),
        ([("poisson", ["length"])], "values that are no counts.*length"),
        ([("lognormal", ["depth"])], "not positive.*depth"),
        ([("gaussian", ["island"])], "'island'"),
    ],
)
def test_wrong_pairs(small, likelihood, message):
    with pytest.raises((ValueError, TypeError), match=message):
        small(likelihood=likelihood).fit(made(40))


def test_a_numeric_array_is_gaussian_as_ever(small):
    X = np.random.default_rng(0).normal(size=(30, 3))
    auto, gaussian = small().fit(X), small(likelihood="gaussian").fit(X)

    assert auto.likelihood_ == "gaussian"
    np.testing.assert_array_equal(auto.transform(X), gaussian.transform(X))
    np.testing.assert_array_equal(auto.sample(3, 0), gaussian.sample(3, 0))


def test_a_mixed_array_comes_back_as_one(small):
    X = made(40).to_numpy(dtype=object)
    mae = small().fit(X)
    rows = mae.sample(5, 0)

    assert rows.dtype == object
    assert set(rows[:, 3]) <= set(ISLANDS)
    assert all(isinstance(value, float) for value in rows[:, 0])
    assert mae.likelihood_[1] == ("categorical", [3, 4])


# --- M --------------------------------------------------------------------------------


def test_m_is_met_of_mixed_columns_with_holes(mae):
    """By the bracket and the rate that fit reports."""
    low, high = mae.mutual_info_interval_

    assert max(high - 1, 1 - low) < 0.06
    assert abs(mae.rate_ - 1) < 0.1 + 2 * mae._fitted.rate_se


def test_information_is_of_observed_entries(holey):
    """Against brute force: patterns of training rows, many codes from the prior."""
    import torch

    from sklearn_mae.model import draw
    from tests.toy_models import generator

    model, g = holey._fitted.evaluation.model, generator(3)
    n_codes = 4_000
    with torch.no_grad():
        z0 = model.independent_codes(800, g)
        p = model.rows(z0, g)
        x = draw(p, (), g, reparametrised=False)
        others = model.independent_codes(n_codes, g).unsqueeze(1)
        log_marginal = torch.cat(
            [
                torch.logsumexp(model.log_lik(some, others), 0) - np.log(n_codes)
                for some in x.split(100)
            ]
        )
        integrand = p.log_prob(x) - log_marginal

    assert not x.observed.all()
    # the bias of so many codes is far below the noise
    assert_mean_equal(integrand, holey.mutual_info_, resolution=0.2)


# --- missing entries ------------------------------------------------------------------


def test_log_probabilities_are_of_observed_entries(holey):
    """An entry's own part is what its absence takes away."""
    X = made(20, seed=1)
    Z = holey.transform(X)
    whole = holey.conditional_log_prob(X, Z)
    mean = holey.inverse_transform(Z, round=False)
    family = holey._fitted.family
    p = holey._fitted.evaluation.model.likelihood(holey._fitted.tensor(Z))
    scales = {"length": 0, "price": 4}
    for name, part in scales.items():
        without = X.copy()
        without[name] = np.nan
        part = next(
            i
            for i, (kind, *_) in enumerate(family.family.parts_)
            if kind == {"length": "gaussian", "price": "lognormal"}[name]
        )
        base = p.parts[part][0]
        scale = float(base.log_scale.exp()) * family.family.parts_[part][1].scale_[0]
        if name == "length":
            own = stats.norm(mean[name], scale).logpdf(X[name])
        else:
            median = mean[name] / np.exp(scale**2 / 2)
            own = stats.lognorm(scale, scale=median).logpdf(X[name])
        left = holey.conditional_log_prob(without, Z)
        np.testing.assert_allclose(whole - left, own, rtol=1e-6, atol=1e-9)


def test_rows_keep_to_themselves(mae):
    X = made(60, holes=0.3, seed=2)
    for figure in ("transform", "rate", "score_samples"):
        whole, part = getattr(mae, figure)(X), getattr(mae, figure)(X[7:9])
        np.testing.assert_array_equal(whole[7:9], part)
        one = getattr(mae, figure)(X[8:9])
        np.testing.assert_array_equal(whole[8:9], one)
    assert np.isfinite(mae.transform(X)).all()


@pytest.mark.parametrize("codes", ["mean", "sample"])
def test_a_row_is_the_same_in_any_container(mae, codes):
    twin = pickle.loads(pickle.dumps(mae)).set_params(codes=codes)
    X = made(30, holes=0.2, seed=3)
    Z = twin.transform(X)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of names
        others = [
            twin.transform(pl.DataFrame(X)),
            twin.transform(X.to_numpy(dtype=object)),
            twin.transform(X.astype({"depth": np.float64, "island": "category"})),
        ]

    for other in others:
        np.testing.assert_array_equal(other, Z)


def test_a_column_without_entries_is_constant(small):
    X = made(40).assign(nothing=np.nan)
    with pytest.warns(UserWarning, match=r"All entries of column\(s\) nothing of X"):
        mae = small().fit(X)
    rows = mae.sample(3, 0)

    assert rows["nothing"].isna().all()
    assert mae.impute(X)["nothing"].isna().all()
    assert np.isfinite(mae.transform(X.assign(nothing=4.0))).all()


def test_a_column_may_miss_what_it_had_in_fit(plain):
    X = made(20, seed=4)
    X.loc["row3", ["length", "island"]] = np.nan
    Z = plain.transform(X)

    assert np.isfinite(Z).all()
    np.testing.assert_array_equal(Z[:3], plain.transform(made(20, seed=4))[:3])


def test_rows_without_entries_know_nothing(holey):
    X = made(30, seed=5)
    X.loc[:] = np.nan
    X = X.astype(object)
    np.testing.assert_allclose(holey.score_samples(X), 0, atol=0.2)
    assert (abs(holey.rate(X)) < 0.2).all()


def test_a_category_in_each_row_is_worth_a_word(small):
    X = made(120).assign(name=[f"bird {i}" for i in range(120)])

    with pytest.warns(
        UserWarning, match=r"Column\(s\) name of X hold another category"
    ):
        small().fit(X)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.simplefilter("ignore", ConvergenceWarning)
        small().fit(X.drop(columns="name"))


def test_unseen_categories_are_missing_with_one_warning(mae):
    X = made(10, seed=6)
    new = X.copy()
    new.loc["row2", "island"] = "Gough"
    X.loc["row2", "island"] = None
    with pytest.warns(UserWarning, match="'island'.*'Gough'") as caught:
        Z = mae.transform(new)

    assert len([w for w in caught if w.category is UserWarning]) == 1
    np.testing.assert_array_equal(Z, mae.transform(X))


def test_score_says_that_entries_are_missing(mae):
    X = made(30, holes=0.3, seed=7)
    n = int(X.notna().to_numpy().sum())
    with pytest.warns(UserWarning, match=rf"observed entries alone, {n} of 180"):
        score = mae.score(X)

    assert score == pytest.approx(mae.score_samples(X).mean())
    assert information_scorer(mae, X)["n_entries"] == pytest.approx(n / 30)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mae.score(made(30))


# --- filling --------------------------------------------------------------------------


def test_impute_fills_holes_and_nothing_else(mae):
    X = made(80, holes=0.3, seed=8)
    filled, there = mae.impute(X), X.notna()

    assert filled.notna().all(axis=None)
    assert (filled.index == X.index).all()
    for name in X:
        np.testing.assert_array_equal(filled[name][there[name]], X[name][there[name]])
    drawn = mae.impute(X, n_samples=3, random_state=0)
    assert len(drawn) == 3
    for one in drawn:
        assert one.notna().all(axis=None)
        assert (one["length"][there["length"]] == X["length"][there["length"]]).all()
    assert not drawn[0].equals(drawn[1])


def test_imputed_values_are_those_of_the_posterior(holey):
    """Means of many draws are the conditional means; both beat the column's mean."""
    X, whole = made(200, seed=9), made(200, seed=9)
    X["length"] = np.nan
    mean = holey.impute(X, round=False)["length"].to_numpy()
    draws = np.stack(
        [
            one["length"].to_numpy()
            for one in holey.impute(X, n_samples=200, random_state=0, round=False)
        ]
    )

    spread = draws.std(0)
    # Of weighted codes: their number, not that of draws, limits both.
    assert np.quantile(abs(draws.mean(0) - mean) / spread, 0.9) < 0.25
    errors = mean - whole["length"]
    assert (errors**2).mean() < 0.6 * whole["length"].var()
    inside = abs(draws.mean(0) - whole["length"]) < 1.645 * spread
    assert inside.mean() > 0.8


@pytest.mark.parametrize("encoder", ["gaussian", "resampling"])
def test_patterns_that_fit_did_not_see(encoder):
    """Draws and codes given one entry of six, against weighted codes of the prior."""
    import torch

    from tests.toy_models import generator

    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 1)) + 0.3 * rng.normal(size=(600, 6))
    mae = build(M=1.8, encoder=encoder, max_epochs=40).fit(X)
    model = mae._fitted.evaluation.model
    z = model.independent_codes(200_000, generator())
    for x0 in (1.0, 3.0):
        row = np.full((1, 6), np.nan)
        row[0, 0] = x0
        seen = mae._fitted.seen(row)
        with torch.no_grad():
            p = model.likelihood(z)
            weights = torch.softmax(p.entry_log_prob(seen.values)[:, 0], 0).numpy()
            means = mae._fitted.family.inverse_transform(p.mean.numpy())[:, 1]
        mean = weights @ means
        spread = (weights @ (means - mean) ** 2) ** 0.5
        _, Z = mae.sample(2_000, given={0: x0}, random_state=0, return_codes=True)
        drawn = mae.inverse_transform(Z)[:, 1]

        # of weighted codes there are a few hundred for each of both sides
        assert abs(drawn.mean() - mean) < 0.2 * spread
        assert abs(mae.impute(row)[0, 1] - mean) < 0.2 * spread
        assert 0.8 < drawn.std() / spread < 1.2
        assert len(np.unique(Z[:, 0])) > 1_000

        # the encoder has seen no holes: the model stands in for it
        code = weights @ z.numpy()
        width = (weights @ (z.numpy() - code) ** 2) ** 0.5
        assert (abs(mae.transform(row)[0] - code) < 0.2 * width).all()
        drawn = mae.sample_posterior(row.repeat(2_000, axis=0), 1, 0)[0]
        assert (abs(drawn.mean(0) - code) < 0.2).all()
        log_p = mae.log_likelihood(row, 10_000)
        assert abs(log_p - mae.score_samples(row)) < 0.1
        assert abs(mae.rate(row) - weights @ np.log(weights * len(weights))) < 0.1


def test_figures_of_rows_that_fit_foresaw_and_others(plain):
    """Codes of both kinds of rows, in one bracket and one density."""
    X = made(80, seed=6)
    X.loc[X.index[:40], ["length", "island"]] = np.nan
    found = plain.encoder_mutual_info(X)
    Z = plain.sample_posterior(X, 1, 0)[0]
    log_q = plain.posterior_log_prob(X, Z)

    assert 0 < found.lower <= found.upper
    assert found.lower < plain.rate(X).mean() + 2 * found.upper_se
    for part in (X[:40], X[40:]):
        where = X.index.get_indexer(part.index)
        np.testing.assert_allclose(
            plain.posterior_log_prob(part, Z[where]), log_q[where], rtol=1e-9
        )


def test_what_is_observed_is_not_rounded(plain):
    X = made(10, holes=0.3, seed=11)
    X.loc["row3", "length"] = 39.123456
    X.loc["row4", "price"] = 20.005
    filled = plain.impute(X)

    assert filled.loc["row3", "length"] == 39.123456
    assert filled.loc["row4", "price"] == 20.005
    holes = X["length"].isna()
    assert (filled["length"][holes] == filled["length"][holes].round(1)).all()
    assert filled.dtypes["island"] == X.dtypes["island"]
    rows = plain.sample(4, random_state=0, given={"length": 40.123, "visits": 2.5})
    assert (rows["length"] == 40.123).all()
    assert (rows["visits"] == 2.5).all()


def test_what_comes_back_stays_in_the_range_of_fit(small):
    """An amount that is mostly 0: a normal distribution goes far below."""
    rng = np.random.default_rng(0)
    amount = np.where(rng.random(200) < 0.7, 0.0, np.exp(rng.normal(3, 1, 200)))
    frame = pd.DataFrame({"amount": amount, "age": rng.integers(18, 90, 200)})
    mae = small(max_epochs=5, n_components=2).fit(frame)
    raw = mae.sample(500, random_state=0, round=False)
    rows = mae.sample(500, random_state=0)

    assert raw["amount"].min() < -1
    for name, column in frame.items():
        assert column.min() <= rows[name].min() <= rows[name].max() <= column.max()
    assert rows["age"].dtype == frame["age"].dtype
    near = np.clip(raw["amount"], 0, amount.max())
    np.testing.assert_allclose(rows["amount"], near, rtol=1e-9)
    far = mae.inverse_transform(np.full((1, 2), 6.0))
    assert amount.min() <= far["amount"][0] <= amount.max()

    holes = pd.DataFrame({"amount": [np.nan, -50.0], "age": [30, 95]})
    filled = mae.impute(holes)
    assert filled["amount"][0] >= 0
    # what is observed stays as it is
    assert filled["amount"][1] == -50
    assert filled["age"].tolist() == [30, 95]
    assert filled["age"].dtype == frame["age"].dtype
    mae.set_params(warm_start=True).fit(frame.assign(age=frame["age"] + 30))
    assert mae.sample(500, random_state=0)["age"].max() > frame["age"].max()
    assert rows["age"].max() <= frame["age"].max()
    mae.set_params(warm_start=False)
    numbers = mae.fit(frame.to_numpy(float)).sample(500, random_state=0)
    assert numbers[:, 0].min() < -1  # arrays are never rounded


def test_impute_an_array_keeps_it_one(small):
    X = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    X[::5, 1] = np.nan
    mae = small().fit(X)
    filled = mae.impute(X)

    assert isinstance(filled, np.ndarray)
    assert filled.dtype == np.float32
    np.testing.assert_array_equal(filled[~np.isnan(X)], X[~np.isnan(X)])
    assert mae.impute(X, n_samples=2).shape == (2, 60, 3)
    np.testing.assert_array_equal(filled, mae.impute(X))


@pytest.mark.parametrize("method", ["impute", "sample"])
def test_no_entry_of_words_can_be_filled(small, method):
    words = np.array([[3, 2, 0], [3, 4, 2]] * 10)
    sizes = {"hidden_layer_sizes": (4, 4)}
    mae = small(likelihood="sequence", max_epochs=1, **sizes).fit(words)

    with pytest.raises(
        ValueError, match="is for tables, and with likelihood='sequence'"
    ):
        mae.impute(words) if method == "impute" else mae.sample(given={0: 3})


def test_rows_given_some_entries(holey):
    rows = holey.sample(
        400, random_state=0, given={"island": "Torgersen", "adult": True}
    )
    other = holey.sample(400, random_state=0, given={"island": "Biscoe"})

    assert (rows["island"] == "Torgersen").all()
    assert rows["adult"].all()
    assert rows["length"].mean() > other["length"].mean() + 2
    assert rows.notna().all(axis=None)
    for same in (
        pd.DataFrame({"island": ["Biscoe"]}),
        pl.DataFrame({"island": ["Biscoe"]}),
        pd.Series({"length": np.nan, "island": "Biscoe"}),
    ):
        found = holey.sample(400, random_state=0, given=same)
        pd.testing.assert_frame_equal(found, other)
    drawn, Z = holey.sample(5, given={"length": 45.0}, return_codes=True)
    assert Z.shape == (5, 2)
    assert (drawn["length"] == 45.0).all()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "names no columns"),
        ({"age": 3}, r"names \['age'\]"),
        (made(2), "it has 2 rows"),
        ({"length": np.inf}, r"infinity.*column\(s\) length"),
        ({"length": "long"}, "given=.*'length'.*'long'"),
        (["length"], r"given=\['length'\] is no row.*neither a mapping"),
        ("length", "neither a mapping"),
        ({"length": None}, "holds no entry that fit knows"),
        (
            {"island": "Gough", "length": 40.0},
            "'Gough' for column 'island'",
        ),
    ],
)
def test_what_cannot_be_given(holey, given, message):
    with pytest.raises((ValueError, TypeError), match=message):
        holey.sample(3, given=given)


def test_given_by_label(small):
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 3)))[[2, 0, 1]]
    rows = small().fit(X).sample(7, given={2: 0.25}, random_state=0)

    assert (rows[2] == 0.25).all()


def test_given_by_position(small):
    X = np.random.default_rng(0).normal(size=(60, 3))
    rows = small().fit(X).sample(7, given={1: 0.25}, random_state=0)

    assert rows.shape == (7, 3)
    assert (rows[:, 1] == 0.25).all()
    with pytest.raises(ValueError, match=r"column\(s\) 1 of X hold text"):
        small().fit(X).sample(given={1: "0.25"})
    bits = small(likelihood="bernoulli").fit((X > 0).astype(float))
    assert (bits.sample(9, given={0: True})[:, 0] == 1).all()


# --- frames ---------------------------------------------------------------------------


def test_rows_come_back_as_they_came(mae):
    X = made(20, holes=0.2 if mae.likelihood_[0] == ("gaussian", ["length"]) else 0)
    fitted = {name: str(dtype) for name, dtype in X.dtypes.items()}
    Z = mae.transform(X)
    for rows in (
        mae.sample(6, 0),
        mae.inverse_transform(Z),
        mae.reconstruct(X),
        *mae.reconstruct(X, 2, random_state=0),
        *mae.interpolate(X, X[::-1], 3),
        mae.impute(X),
    ):
        assert {name: str(dtype) for name, dtype in rows.dtypes.items()} == fitted
        np.testing.assert_array_equal(rows["length"], rows["length"].round(1))
        assert set(rows["island"]) <= set(ISLANDS)
        assert (rows["price"] > 0).all() or mae.likelihood_[-1][0] != "lognormal"
    assert (mae.reconstruct(X).index == X.index).all()
    assert mae.sample(6, 0).index.tolist() == list(range(6))
    raw = mae.inverse_transform(Z, round=False)
    assert (raw["length"] != raw["length"].round(1)).any()


def test_rows_in_lists_are_read_column_by_column(plain):
    X = made(5, seed=12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        Z = plain.transform(X.to_numpy(dtype=object).tolist())
        with pytest.raises(TypeError, match="'island'"):
            plain.transform([[40.0, 0.5, 3, 1, 1, 20.0]])

    np.testing.assert_array_equal(Z, plain.transform(X))


def test_heavy_tails_are_learned_and_go_on(small):
    X = np.random.default_rng(0).standard_t(1.3, size=(300, 2))
    mae = small(likelihood="student_t", warm_start=True).fit(X)

    assert (mae._fitted.family.family.support_ > 50).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.simplefilter("ignore", ConvergenceWarning)
        mae.fit(X)
    with pytest.warns(UserWarning, match="seem to be in other units"):
        mae.fit(1_000 * X)


def test_polars_frames(small):
    X = pl.DataFrame(made(60, holes=0.2))
    mae = small().fit(X)

    for rows in (mae.sample(5, 0), mae.reconstruct(X), mae.impute(X)):
        assert isinstance(rows, pl.DataFrame)
        assert rows.schema == X.schema
    assert mae.impute(X).null_count().sum_horizontal().item() == 0
    assert isinstance(mae.set_output(transform="polars").transform(X), pl.DataFrame)


def test_the_report_says_what_columns_were_taken_for(holey):
    from sklearn_mae import information_report

    X = made(60, holes=0.3, seed=13)
    report = str(information_report(holey, X))

    assert "poisson: visits; categorical: island, adult; lognormal: price" in report
    per_row = X.notna().to_numpy().sum() / 60
    assert f"by importance weighting, of {per_row:.3g} entries in a row" in report


def test_transform_follows_set_output(small):
    X = made(30)
    codes = small(n_components=2).set_output(transform="pandas").fit_transform(X)

    assert list(codes) == ["mutualautoencoder0", "mutualautoencoder1"]
    assert (codes.index == X.index).all()
    mae = small(n_components=2).set_output(transform="pandas").fit(X)
    assert (mae.inverse_transform(mae.transform(X)).index == X.index).all()


# --- saving, warm start, searches -----------------------------------------------------


def test_saving(mae):
    twin = pickle.loads(pickle.dumps(mae))
    X = made(20, holes=0.3, seed=10)

    np.testing.assert_array_equal(twin.transform(X), mae.transform(X))
    pd.testing.assert_frame_equal(twin.sample(9, 0), mae.sample(9, 0))
    pd.testing.assert_frame_equal(twin.impute(X), mae.impute(X))
    assert twin.likelihood_ == mae.likelihood_
    assert twin.mutual_info(200, tol=1.0) == mae.mutual_info(200, tol=1.0)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["structure", "likelihood"], ("gaussian",) * 6),
        (["structure", "likelihood"], "gaussian"),
        (["structure", "likelihood"], ("no",) * 6),
        (["family", "family", "parts"], []),
        (["family", "family", "parts", 0, "name"], "heteroscedastic"),
        (["family", "family", "parts", 0, "name"], 3),
        (["family", "family", "parts", 0, "columns"], [0, 0]),
        (["family", "family", "parts", 0, "columns"], [9]),
        (["family", "family", "parts", 0, "mean_"], None),
        (["family", "patterns_"], np.ones((1, 5), dtype=bool)),
        (["columns", "columns"], []),
        (["columns", "container"], "feather"),
        (["columns", "columns", 3, "categories"], ["Biscoe"]),
    ],
)
def test_a_tampered_file_fails_closed(holey, path, value):
    state = pickle.loads(pickle.dumps(holey.__getstate__()))
    *way, last = path
    entry = state["_fitted"]
    for step in way:
        entry = entry[step]
    entry[last] = value

    with pytest.raises(ValueError, match="was tampered with: do not use it"):
        MutualAutoencoder().__setstate__(state)


def test_warm_start(small):
    X = made(60, holes=0.2)
    mae = small(warm_start=True).fit(X)
    mae.fit(X)

    assert mae.n_iter_ == 6
    before = mae.transform(X)
    model = mae._fitted.model
    assert not model.pool.observed.all()
    complete = clone(mae).fit(made(60)).fit(X)
    assert not complete._fitted.model.pool.observed.all()
    twin = pickle.loads(pickle.dumps(complete))
    np.testing.assert_array_equal(twin.transform(X), complete.transform(X))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ConvergenceWarning)
        mae.fit(X)
    before = mae.transform(X)
    with pytest.raises(ValueError, match=r"likelihood .was .* now .* changed since"):
        mae.set_params(likelihood=EXPLICIT).fit(X)
    np.testing.assert_array_equal(mae.transform(X), before)


def test_searches_and_pipelines(small):
    X = made(60, holes=0.2)
    grid = {"likelihood": ["auto", EXPLICIT]}
    search = GridSearchCV(small(), grid, scoring=information_scorer, cv=2, refit=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        results = search.fit(X).cv_results_

    assert np.isfinite(results["mean_test_log_likelihood"]).all()
    numbers = X[["length", "depth"]]
    codes = make_pipeline(StandardScaler(), small()).fit_transform(numbers)
    assert np.isfinite(codes).all()


def test_callables_take_numbers_without_holes(small):
    from torch import nn
    from torch.distributions import Laplace

    class Columns(nn.Module):
        def __init__(self, n_features, n_components):
            super().__init__()
            self.linear = nn.Linear(n_components, n_features)

        def forward(self, z):
            return Laplace(self.linear(z), 1.0)

    mae = small(likelihood=Columns)
    X = made(40)[["depth", "price"]]
    rows = mae.fit(X).sample(3, 0)
    assert rows.dtypes.equals(X.dtypes)
    with pytest.raises(ValueError, match=r"Input X contains NaN.*callable"):
        mae.fit(X.mask(X > X.max() - 1e-9))
    with pytest.raises(TypeError, match="island"):
        mae.fit(made(40))
    with pytest.raises(ValueError, match="is for tables, and with likelihood="):
        mae.impute(X)


def test_categories_with_holes_are_summed_pattern_by_pattern():
    """Against the sandwich, whose interval is wider than three standard errors."""
    import torch

    from sklearn_mae.information.certificate import Sandwich
    from tests.toy_models import generator

    rng = np.random.default_rng(0)
    z = rng.normal(size=(300, 1))
    X = np.digitize(z + rng.normal(size=(300, 3)), [-0.5, 0.5]).astype(float)
    X[rng.random(X.shape) < 0.2] = np.nan
    mae = build(M=0.5, likelihood="categorical", n_components=1).fit(X)
    found = mae.mutual_info()
    model = mae._fitted.evaluation.model
    with torch.no_grad():
        sandwich = Sandwich(4_000, 0.02, 2_000_000).bracket(model, generator())

    assert found.method == "enumeration"
    assert found.n_outcomes == 27
    assert found.lower_se == 0
    low, high = sandwich.interval
    assert low - 0.01 < found.estimate < high + 0.01
