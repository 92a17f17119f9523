"""Imputation: draws of what is missing from a table."""

import warnings

import numpy as np
import pandas as pd
import pytest

import likely as lk
from likely.cli.main import main


def full(n: int = 1200) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    x = rng.normal(size=n)
    kind = rng.choice(["a", "b"], n)
    return pd.DataFrame(
        {
            "name": [f"row {i}" for i in range(n)],  # of which the model knows nothing
            "x": x,
            "y": 2 * x + np.where(kind == "a", 1.0, -1.0) + 0.3 * rng.normal(size=n),
            "n": np.clip(np.rint(2 * x + 4), 0, 8).astype(int),
            "kind": kind,
            "day": pd.Timestamp("2024-03-01") + pd.to_timedelta(np.rint(5 * x), "D"),
        },
        index=np.arange(n)[::-1],
    ).astype({"n": "Int64"})


def holed(table: pd.DataFrame) -> pd.DataFrame:
    holes = np.random.default_rng(1).random(table.shape) < 0.2
    holes[:, 0] = False
    return table.mask(holes)


def fitted(name: str, columns: list[str], **options: object) -> lk.GenerativeModel:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*on one value")
        data = lk.load_data(holed(full()), columns=columns, missing="model")
    budget = options.pop("budget")
    model = lk.make(name, data.domain, seed=0, **options)
    lk.fit(model, data, seed=0, **budget)
    return model


@pytest.fixture(scope="module")
def made() -> lk.GenerativeModel:
    columns = ["x", "y", "n", "kind", "day"]
    options = {"hidden": (32,), "components": 3}
    return fitted("made", columns, **options, budget={"steps": 150, "rate": 1e-2})


def test_drawn_entries_have_the_types_of_the_table_and_others_stay(made: lk.GenerativeModel):
    table = holed(full())
    filled = lk.impute(made, table, draws=3)
    assert len(filled) == 3
    assert not filled[0].equals(filled[1])
    for copy in filled:
        assert copy.dtypes.equals(table.dtypes)
        assert not copy.isna().any().any()
        pd.testing.assert_frame_equal(copy.mask(table.isna()), table)
        assert set(copy.kind) == {"a", "b"}
        assert (copy.day.dt.normalize() == copy.day).all()
    again = lk.impute(made, table, draws=3)
    pd.testing.assert_frame_equal(filled[2], again[2])


@pytest.mark.parametrize("name", ["made", "gaussian"])
def test_imputed_means_beat_the_means_of_columns(name: str, made: lk.GenerativeModel):
    columns, budget = ["x", "y", "n"], {"epochs": 40}
    model = made if name == "made" else fitted("gaussian", columns, budget=budget)
    table, truth = holed(full()), full()
    filled = lk.impute(model, table, draws=5)
    for column in ("x", "y"):
        hole = table[column].isna()
        mean = sum(copy[column][hole] for copy in filled) / 5
        error = (mean - truth[column][hole]).std()
        assert error < 0.6 * (table[column].mean() - truth[column][hole]).std()


def test_a_model_of_complete_rows_and_a_context_will_do():
    table = full()[["x", "y", "kind"]]
    data = lk.load_data(table, context="kind")
    model = lk.make("made", data.domain, context=data.context, hidden=(8,), seed=0)
    lk.fit(model, data, steps=2, seed=0)
    table.iloc[3, 0] = np.nan
    (filled,) = lk.impute(model, table, draws=1)
    assert filled.notna().all().all()


def test_dates_in_texts_are_filled_with_texts(made: lk.GenerativeModel):
    table = holed(full())
    table["day"] = table.day.dt.strftime("%Y-%m-%d")
    (filled,) = lk.impute(made, table, draws=1)
    assert filled.day.str.fullmatch(r"2024-\d\d-\d\d").all()


def test_what_cannot_be_imputed_is_refused(made: lk.GenerativeModel):
    table = holed(full())
    with pytest.raises(lk.DataError, match="nothing is missing from the model's columns x, y"):
        lk.impute(made, full())
    with pytest.raises(lk.DataError, match="draws=0"):
        lk.impute(made, table, draws=0)
    with pytest.raises(lk.DataError, match="no column 'y'"):
        lk.impute(made, table.drop(columns="y"))
    with pytest.raises(lk.DataError, match="a frame"):
        lk.impute(made, table.x.to_numpy())
    wrong = table.assign(n=99)
    with pytest.raises(lk.DataError, match="row 0, column 'n': 99 is not"):
        lk.impute(made, wrong)
    with pytest.raises(lk.LikelyError, match=r"VAE cannot complete rows; .* Gaussian mixtures can"):
        lk.impute(lk.make("vae", made.domain), table)


@pytest.mark.filterwarnings("ignore:.*on one value")
def test_the_command_fits_scores_and_fills(
    tmp_path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    holed(full(200)).to_csv("a.csv", index=False)
    fit = "fit a.csv --model made --set hidden=8, --columns x,n,kind,day --steps 3 --out run"
    assert main(fit.split()) == 2
    assert "--missing model" in capsys.readouterr().err
    assert main([*fit.split(), "--missing", "model"]) == 0
    assert main(["score", "run", "a.csv", "--out", "scores.npy"]) == 0
    assert np.isfinite(np.load("scores.npy")).all()
    assert main(["sample", "run", "-n", "50", "--out", "draws.csv"]) == 0
    draws = pd.read_csv("draws.csv")
    assert draws.isna().any().all()
    assert draws.day.dropna().str.fullmatch(r"\d{4}-\d\d-\d\d").all()
    assert main(["impute", "run", "a.csv", "--draws", "2", "--out", "filled.csv"]) == 0
    filled = pd.read_csv("filled.csv")
    assert filled.draw.tolist() == [0] * 200 + [1] * 200
    assert list(filled) == ["draw", "name", "x", "y", "n", "kind", "day"]
    assert filled[["x", "n", "kind", "day"]].notna().all().all()
    assert filled.y.isna().any()
    assert main(["impute", "run", "filled.csv", "--draws", "2", "--out", "again.csv"]) == 2
    assert "a column 'draw'" in capsys.readouterr().err
