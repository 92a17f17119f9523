"""`likely inspect`: data, with a line that works when it is pasted, and runs."""

import json
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from likely.cli import main


@pytest.fixture(autouse=True)
def _there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def report(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:
    capsys.readouterr()
    assert main(["inspect", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def awkward() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "id": np.arange(100),
            "day": pd.date_range("2024-01-01", periods=100).astype(str),
            "date": (["2024-01-02", "2024-01-03"] * 50),
            "E (GeV)": rng.exponential(size=100),
            "pt,raw": rng.normal(size=100),
            " a=b": rng.normal(size=100),
            "n": rng.integers(0, 4, 100).astype(float),
            "[bold]": rng.choice(["e", "mu"], 100),
        }
    )
    frame.loc[7, "pt,raw"] = np.nan
    return frame


def test_the_line_works_when_it_is_pasted(capsys: pytest.CaptureFixture[str]) -> None:
    awkward().to_csv("my data.csv", index=False)
    assert main(["inspect", "my data.csv"]) == 0
    shown = capsys.readouterr().out
    line = shown.splitlines()[-1]
    assert line.startswith("likely fit 'my data.csv' --model made --columns ")
    for part in (
        "left out: a running number",
        "[bold]",
        "date(days)",
        "taken as positive",
        "to keep the rows with missing entries: --model made (or vae) --missing model",
    ):
        assert part in shown
    assert report(capsys, "my data.csv")["command"] == line
    assert main([*shlex.split(line)[1:], "--steps", "2"]) == 0
    assert Path("runs/my-data/model.safetensors").exists()
    other = report(capsys, "my data.csv")["command"]
    assert other.endswith("--out runs/my-data-2")


def test_missing_entries_can_be_modelled_as_proposed() -> None:
    awkward()[["E (GeV)", "pt,raw", "n"]].to_csv("holes.csv", index=False)
    for model in ("made", "vae"):
        fit = ["fit", "holes.csv", "--model", model, "--missing", "model", "--steps", "2"]
        assert main([*fit, "--out", model]) == 0


@pytest.mark.parametrize("source", ["wine", "digits", "rings"])
def test_built_in_data(source: str, capsys: pytest.CaptureFixture[str]) -> None:
    line = report(capsys, source)["command"]
    assert main([*shlex.split(line)[1:], "--steps", "1"]) == 0


def test_data_without_a_usable_column_end_well(capsys: pytest.CaptureFixture[str]) -> None:
    awkward()[["id", "day"]].to_csv("a.csv", index=False)
    assert main(["inspect", "a.csv"]) == 0
    assert "no column can be read" in capsys.readouterr().out
    assert report(capsys, "a.csv")["command"] is None
    assert main(["inspect", "b.csv"]) == 2


def test_a_run_says_what_it_was_and_became(capsys: pytest.CaptureFixture[str]) -> None:
    fit = "fit wine --model nsf --set transforms=1 --set hidden=8,8 --rate 0.01 --steps 5 --out run"
    assert main(fit.split()) == 0
    capsys.readouterr()
    found = report(capsys, "run")
    assert found["complete"]
    assert found["model"]["hyperparameters"]["transforms"] == 1
    assert (found["steps"], found["fit"]["rate"], found["data"]["source"]) == (5, 0.01, "wine")
    assert "torch" in found["versions"]
    assert main(["inspect", "run"]) == 0
    shown = capsys.readouterr().out
    for part in ("run: complete", "neural spline flow", "transforms=1", "rate=0.01", "best score"):
        assert part in shown
    assert report(capsys, "run/model.safetensors")["model"] == found["model"]
    Path("run/model.safetensors").rename("alone.safetensors")
    assert report(capsys, "alone.safetensors")["model"] == found["model"]
    assert main(["inspect", "run"]) == 0
    assert "interrupted" in capsys.readouterr().out
    Path("run/config.json").write_text("{}")
    assert main(["inspect", "run"]) == 2
    assert "neither a run nor a model" in capsys.readouterr().err


def test_angles_and_classes_are_proposed(capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    angle = rng.uniform(-np.pi, np.pi, 200)
    pd.DataFrame({"Muon phi": angle, "u": angle[::-1]}).to_csv("angles.csv", index=False)
    assert main(["inspect", "angles.csv"]) == 0
    shown = capsys.readouterr().out
    assert "if these are angles, add: '--column=Muon phi=periodic(-pi,pi)'\n" in shown
    for name in "ab":
        Path("images", name).mkdir(parents=True)
        for i in range(10):
            pixels = rng.integers(0, 256, (4, 4), dtype=np.uint8)
            Image.fromarray(pixels).save(f"images/{name}/{i}.png")
    line = report(capsys, "images")["command"]
    assert "--context label" in line
    assert main([*shlex.split(line)[1:], "--steps", "1"]) == 0
