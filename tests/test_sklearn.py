"""The scikit-learn face: scikit-learn's own checks, and what it promises beyond them."""

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import likely as lk
from likely.contract.registry import entries, hyperparameter_names
from likely.sklearn import DensityEstimator

SMALL = {"hidden": (8,), "transforms": 1, "components": 2, "bins": 4, "latent": 2, "tolerance": 0.1}
HIDDEN = {"ffjord": (8, 8), "gaussian-rbm": 4, "dbn": (4, 3)}  # where one layer does not do
QUICK = ("gmm", "nsf", "vae")
WITH_A_DENSITY = [
    pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow)
    for name, entry in entries().items()
    if entry.takes(lk.reals(2)) and entry.density != "none"
]


def small(model: str, steps: int = 2, **options: Any) -> DensityEstimator:
    known = hyperparameter_names(model)
    hyperparameters = {name: value for name, value in SMALL.items() if name in known}
    if model in HIDDEN:
        hyperparameters["hidden"] = HIDDEN[model]
    return DensityEstimator(model, hyperparameters, steps=steps, **options)


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    return np.random.default_rng(0).normal([0, 10, -5], [1, 2, 0.1], (200, 3))


@pytest.fixture(scope="module")
def frame(rows: np.ndarray) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    return pd.DataFrame(
        {
            "mass": rows[:, 0].astype(np.float32),
            "hits": rng.integers(0, 5, 200),
            "kind": rng.choice(["el", "mu"], 200),
            "year": pd.Categorical(rng.choice([2023, 2024], 200)),
            "good": rng.random(200) < 0.7,
        }
    )


@pytest.mark.filterwarnings("ignore")  # of warnings about odd data, and of checks that are left out
@pytest.mark.parametrize("model", WITH_A_DENSITY)
def test_passes_the_checks_of_scikit_learn(model: str) -> None:
    check_estimator(small(model))


def test_is_what_fit_and_the_model_give(rows: np.ndarray) -> None:
    estimator = small("nsf", steps=5, random_state=3).fit(rows)
    x = torch.from_numpy(rows)
    assert estimator.model_.domain.kinds == {lk.Real}
    expected = estimator.model_.log_prob(x).detach().numpy()
    np.testing.assert_array_equal(estimator.score_samples(rows), expected)
    assert estimator.score(rows) == pytest.approx(expected.mean(), rel=1e-12)
    assert estimator.history_.steps == 5
    np.testing.assert_array_equal(clone(estimator).fit(rows).score_samples(rows), expected)
    np.testing.assert_array_equal(
        pickle.loads(pickle.dumps(estimator)).predict(rows[:5]), estimator.predict(rows[:5])
    )


def test_learns_a_gaussian(rows: np.ndarray) -> None:
    """The maximum-likelihood Gaussian of the nine tenths that train, in closed form."""
    estimator = DensityEstimator("gaussian", random_state=0).fit(rows)
    fresh = np.random.default_rng(2).normal([0, 10, -5], [1, 2, 0.1], (20_000, 3))
    entropy = 1.5 * np.log(2 * np.pi * np.e) + np.log(1 * 2 * 0.1)
    # Nine parameters that are fitted to 180 rows cost about 9 / (2 · 180) nats.
    assert 0 < -entropy - estimator.score(fresh) < 4 * 9 / 360
    drawn = estimator.sample(20_000)
    np.testing.assert_allclose(drawn.mean(0), rows.mean(0), atol=0.3)


def test_outliers_are_those_of_least_likelihood(rows: np.ndarray) -> None:
    estimator = DensityEstimator("gaussian", contamination=0.05, random_state=0).fit(rows)
    assert (estimator.predict(rows) == -1).sum() == 10
    least = np.argsort(estimator.score_samples(rows))[:10]
    np.testing.assert_array_equal(np.sort(least), np.flatnonzero(estimator.predict(rows) == -1))
    assert estimator.predict([[0, 10, -5], [0, 10, -4]]).tolist() == [1, -1]


def test_an_autoencoder_tells_outliers_by_reconstruction(rows: np.ndarray) -> None:
    estimator = small("ae", random_state=0).fit(rows)
    score = -estimator.model_.anomaly_score(torch.from_numpy(rows)).detach().numpy()
    np.testing.assert_allclose(estimator.decision_function(rows), score - estimator.offset_)
    assert (estimator.predict(rows) == -1).mean() == pytest.approx(0.1)
    with pytest.raises(lk.DensityError, match="no likelihood"):
        estimator.score_samples(rows)


def test_a_gan_has_samples_and_no_scores(rows: np.ndarray) -> None:
    estimator = small("gan").fit(rows)
    assert estimator.sample(7).shape == (7, 3)
    for verb in (estimator.predict, estimator.decision_function, estimator.score_samples):
        with pytest.raises(lk.DensityError, match="GAN has no"):
            verb(rows)


def test_a_table_comes_back_as_it_went_in(frame: pd.DataFrame) -> None:
    estimator = small("made", domain={"hits": "integer(5)"}, random_state=0).fit(frame)
    domain = estimator.model_.domain
    assert [column.kind for column in domain.columns] == [
        *("real", "integer", "categorical", "categorical", "binary"),
    ]
    drawn = estimator.sample(300)
    pd.testing.assert_series_equal(drawn.dtypes, frame.dtypes)
    for name in ("hits", "kind", "year", "good"):
        assert set(drawn[name]) == set(frame[name])
    assert np.isfinite(estimator.score_samples(drawn)).all()
    # Scores go by the labels and the order of the rows.
    shuffled = frame.iloc[::-1].reset_index(drop=True)
    np.testing.assert_allclose(
        estimator.score_samples(shuffled), estimator.score_samples(frame)[::-1], rtol=1e-6
    )
    codes = torch.tensor(
        frame.assign(kind=frame["kind"] == "mu", year=frame["year"] == 2024).to_numpy(np.float64)
    )
    expected = estimator.model_.log_prob(codes).detach().numpy()
    np.testing.assert_allclose(estimator.score_samples(frame), expected, rtol=1e-5)


def test_a_named_domain_chooses_and_orders_the_columns(frame: pd.DataFrame) -> None:
    domain = lk.table(kind=lk.Categorical(["el", "mu"]), mass=lk.Real())
    estimator = small("made", domain=domain, random_state=0).fit(frame)
    drawn = estimator.sample(20)
    pd.testing.assert_series_equal(drawn.dtypes, frame[["kind", "mass"]].dtypes)
    assert estimator.score_samples(frame).shape == (200,)


def test_rows_outside_the_domain_are_outliers(frame: pd.DataFrame) -> None:
    estimator = small("made", domain={"hits": "integer(5)"}).fit(frame)
    odd = frame.head(3).assign(hits=[1, 5, 2])
    assert np.isneginf(estimator.score_samples(odd)).tolist() == [False, True, False]
    assert estimator.predict(odd)[1] == -1
    with pytest.raises(lk.DataError, match="'tau'"):
        estimator.predict(frame.head(3).assign(kind="tau"))
    with pytest.raises(lk.DataError, match="missing"):
        estimator.predict(frame.head(3).assign(mass=[0.0, np.nan, 0.0]))
    with pytest.raises(ValueError, match="feature names"):
        estimator.predict(frame.rename(columns={"mass": "weight"}))


def test_whole_numbers_are_real_unless_declared() -> None:
    counts = np.random.default_rng(0).poisson(30, (100, 2))
    with pytest.warns(UserWarning, match="more than 1% of the rows on one value"):
        assert small("gaussian").fit(counts).model_.domain.kinds == {lk.Real}
    with pytest.warns(UserWarning, match="column 0"):
        estimator = small("gaussian", domain={1: lk.Count()}, random_state=0).fit(counts)
    assert [column.kind for column in estimator.model_.domain.columns] == ["real", "count"]
    estimator = small("gaussian", domain=lk.integers(200, 1, 2)).fit(counts)
    assert estimator.sample(4).shape == (4, 2)
    assert estimator.sample(4).dtype == np.int64
    assert np.isneginf(estimator.score_samples([[30, 30], [30, 200]])).tolist() == [False, True]


def test_a_grid_search_in_a_pipeline(rows: np.ndarray) -> None:
    pipeline = make_pipeline(StandardScaler(), small("nsf", random_state=0))
    grid = {"densityestimator__hyperparameters__transforms": [1, 2]}
    search = GridSearchCV(pipeline, grid, cv=2).fit(rows)
    best = search.best_estimator_[-1]
    transforms = search.best_params_["densityestimator__hyperparameters__transforms"]
    assert best.hyperparameters == {"hidden": (8,), "bins": 4, "transforms": transforms}
    assert len(best.model_.transforms) == transforms
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    scaled = search.best_estimator_[0].transform(rows)
    assert search.score(rows) == pytest.approx(best.score(scaled), rel=1e-12)


def test_parameters_nest_in_the_dictionary() -> None:
    given = {"bins": 4}
    estimator = DensityEstimator("nsf", given)
    estimator.set_params(hyperparameters__transforms=3, steps=7)
    assert estimator.get_params()["hyperparameters__transforms"] == 3
    assert estimator.hyperparameters == {"bins": 4, "transforms": 3}
    assert given == {"bins": 4}
    assert clone(estimator).get_params() == estimator.get_params()
    estimator.set_params(hyperparameters=None, hyperparameters__bins=5)
    assert estimator.hyperparameters == {"bins": 5}
    with pytest.raises(ValueError, match="Invalid parameter 'bins'"):
        estimator.set_params(bins=5)


def test_random_state_decides_fits_and_samples(rows: np.ndarray) -> None:
    a, b = (small("nsf", random_state=np.random.RandomState(1)).fit(rows) for _ in range(2))
    np.testing.assert_array_equal(a.sample(5, random_state=2), b.sample(5, random_state=2))
    assert not np.array_equal(a.sample(5), a.sample(5))  # a RandomState moves on
    c = small("nsf", random_state=1).fit(rows)
    np.testing.assert_array_equal(c.sample(5), c.sample(5))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "nfs"}, "did you mean nsf"),
        ({"contamination": 0.6}, "at most 0.5"),
        ({"missing": "drop"}, "missing"),
        ({"hyperparameters": {"layers": 3}}, "no option 'layers'"),
        ({"steps": 5, "minutes": 1.0}, "one budget"),
        ({"domain": {"e": "positive"}}, "unknown column 'e'"),
        ({"domain": {1: "interval(0, 1)"}}, "column 1"),
    ],
)
def test_mistakes(rows: np.ndarray, options: dict[str, Any], message: str) -> None:
    with pytest.raises(lk.LikelyError, match=message):
        DensityEstimator(**options).fit(rows)


def test_scores_of_bounds_depend_on_the_batch_and_exact_ones_do_not(rows: np.ndarray) -> None:
    def noisy(estimator: DensityEstimator) -> bool:
        return estimator.__sklearn_tags__().non_deterministic

    assert not noisy(DensityEstimator("gmm"))
    assert noisy(DensityEstimator("vae"))
    assert not noisy(DensityEstimator("no such model"))
    assert not noisy(DensityEstimator("rbm", {"hidden": 3}, domain=lk.binary(30)))
    assert noisy(DensityEstimator("rbm", {"hidden": 300}, domain=lk.binary(30)))
    counted = {0: lk.Integer(9), 1: lk.Integer(9), 2: lk.Integer(9)}  # dequantised: a bound
    estimator = small("nsf", domain=counted)
    assert not noisy(estimator)
    assert noisy(estimator.fit(np.abs(rows).round().clip(0, 8)))


def test_a_mixed_frame_gets_a_model_that_takes_it():
    frame = pd.DataFrame({"x": np.linspace(0, 1, 60), "kind": ["a", "b", "c"] * 20})
    estimator = DensityEstimator(steps=3, random_state=0).fit(frame)
    assert type(estimator.model_).__name__ == "MADE"
    assert estimator.sample(5).dtypes.tolist() == frame.dtypes.tolist()


@pytest.mark.parametrize("framed", [True, False])
def test_missing_entries_are_values_of_their_own(rows: np.ndarray, framed: bool) -> None:
    holed = np.where(np.random.default_rng(1).random(rows.shape) < [0.2, 0.0, 0.4], np.nan, rows)
    X = pd.DataFrame(holed, columns=["a", "b", "c"]) if framed else holed
    with pytest.raises((lk.DataError, ValueError), match=r"missing|NaN"):
        DensityEstimator(steps=3).fit(X)
    estimator = DensityEstimator(steps=200, missing="model", random_state=0).fit(X)
    assert [type(column) for column in estimator.model_.domain.columns] == [
        *(lk.Maybe, lk.Real, lk.Maybe),
    ]
    assert np.isfinite(estimator.score_samples(X)).all()
    shares = np.isnan(np.asarray(estimator.sample(4000))).mean(0)
    np.testing.assert_allclose(shares, np.isnan(holed).mean(0), atol=0.05)


def test_names_of_rows_are_told_once_in_words_of_frames():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(
        {"id": rng.integers(2**60, 2**62, 100), "n": range(100), "x": rng.normal(size=100)}
    )
    estimator = DensityEstimator("gaussian", random_state=0)
    with pytest.warns(UserWarning, match="names of the rows|running number") as caught:
        estimator.fit(X)
    said = [str(warning.message) for warning in caught]
    assert len(said) == 2
    assert all("with X.drop(columns=…)" in text and "--columns" not in text for text in said)
    estimator.score_samples(X)
    estimator.sample(3)
    with pytest.raises(
        lk.DataError, match=r"X.dropna\(\), model it with missing='model', or leave"
    ):
        estimator.score_samples(X.assign(x=np.nan).assign(x=lambda X: X.x.where(X.n > 5, 0.0)))
