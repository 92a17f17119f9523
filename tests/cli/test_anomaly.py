"""`likely score --anomaly`: what it writes, and what it says where there is nothing to write."""

import json
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import likely as lk
from likely.cli import main

SHORT = "--column e=positive --steps 5"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with rows of which one is odd and one outside, and runs of two models."""
    folder = tmp_path_factory.mktemp("anomaly")
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"e": rng.lognormal(size=200), "t": rng.normal(size=200)})
    table.to_csv(folder / "events.csv", index=False)
    table.loc[7, "t"] = 40.0
    table.to_csv(folder / "odd.csv", index=False)
    table.loc[5, "e"] = -1.0
    table.to_csv(folder / "outside.csv", index=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for model in ("made", "ae"):
            assert run(f"fit events.csv --model {model} {SHORT} --out {model}") == 0
    return folder


@pytest.fixture(autouse=True)
def _there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def run(command: str) -> int:
    return main(shlex.split(command))


@pytest.mark.parametrize("model", ["made", "ae"])
def test_scores_are_those_of_the_model(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(f"score {model} odd.csv --anomaly --out {model}.npy --json") == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["rows"], report["outside"], report["most_unusual"]) == (200, 0, 7)
    x = lk.data.load_rows("odd.csv").x
    expected = lk.load(model).anomaly_score(x, seed=0).detach().numpy()
    np.testing.assert_allclose(np.load(f"{model}.npy"), expected, rtol=1e-5)


@pytest.mark.parametrize("model", ["made", "ae"])
def test_rows_outside_the_domain_are_the_most_unusual(
    model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(f"score {model} outside.csv --anomaly --out {model}.csv") == 0
    assert "1 outside the domain (the first is row 5)" in capsys.readouterr().out
    table = pd.read_csv(f"{model}.csv")
    assert list(table) == ["anomaly_score"]
    assert np.flatnonzero(np.isposinf(table["anomaly_score"])).tolist() == [5]


def test_a_model_without_such_a_score_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(f"fit events.csv --model gan {SHORT} --out gan") == 0
    capsys.readouterr()
    assert run("score gan odd.csv --anomaly --out gan.npy") == 2
    error = capsys.readouterr().err
    assert error.startswith("error: GAN has no")
    assert error.count("\n") == 1
    assert not Path("gan.npy").exists()


@pytest.mark.filterwarnings("default::UserWarning")
def test_rows_of_other_data_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("evaluate made events.csv --outside outside.csv --json") == 0
    found = json.loads(capsys.readouterr().out)["outside_rows"]
    assert set(found["outside"]) == {"likelihood", "typicality", "gradient"}
    assert found["notes"] == [
        "0.5% of outside.csv lie outside the domain: these are told for certain"
    ]
    assert run("evaluate made events.csv --outside odd.csv --page sheet.html") == 0
    assert "odd.csv" in capsys.readouterr().out
    assert "<h2>Rows outside</h2>" in Path("sheet.html").read_text()


def test_what_evaluate_cannot_do_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    for line, message in (
        ("--attack 0.1", "cannot classify rows"),
        ("--attack a,b", "--attack a: give numbers"),
        ("--outside noise", "no rows outside"),
        ("--page sheet.pdf", "of type '.pdf' are not written"),
    ):
        assert run(f"evaluate made events.csv {line}") == 2
        assert message in capsys.readouterr().err
