"""Samples and scores in parts: the same on several processes and in one part, in little memory."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import likely as lk
from likely.cli import main
from likely.core.likelihood import Kind, Likelihood, Mean

ROWS = 700


def run(command: str) -> int:
    return main(shlex.split(command))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table, as text and in Parquet, and a model of it."""
    folder = tmp_path_factory.mktemp("streams")
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "x": rng.normal(size=ROWS).astype(np.float32),
            "n": rng.integers(0, 5, ROWS),
            "kind": rng.choice(['the "first"', "second,\nin two lines"], ROWS),
            "w": rng.uniform(0.5, 1, ROWS),
        }
    )
    table.to_csv(folder / "events.csv", index=False)
    (folder / "parts").mkdir()
    for i in range(2):  # in other files, other types
        part = table.iloc[i * 350 : (i + 1) * 350]
        part.to_parquet(folder / f"parts/{i}.parquet", index=False, row_group_size=200)
        part.to_csv(folder / f"part-{i}.csv", index=False)
    np.save(folder / "rows.npy", rng.normal(size=(ROWS, 2)).astype(np.float32))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        small = "--model made --set hidden=8, --steps 3"
        assert run(f"fit events.csv --weight w {small} --out run") == 0
        assert run(f"fit rows.npy {small} --out plain") == 0
    return folder


@pytest.fixture
def small_parts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr("likely.data.table.PART_ENTRIES", 300)
    monkeypatch.setattr("likely.data.load.PART_ENTRIES", 300)
    monkeypatch.setattr("likely.data.readers.tables.PART_ENTRIES", 400)
    monkeypatch.setattr("likely.data.readers.csv.PART_BYTES", 2000)


@pytest.mark.usefixtures("small_parts")
def test_samples_in_parts_are_one_file() -> None:
    names = [f"samples.{suffix}" for suffix in ("npy", "csv", "parquet", "npz")]
    for name in names:
        assert run(f"sample run -n {ROWS} --seed 3 --out {name}") == 0
    x = np.load("samples.npy")
    assert x.shape == (ROWS, 3)
    assert len(np.unique(x[:, 0])) == ROWS  # no part repeats another
    np.testing.assert_array_equal(np.load("samples.npz")["x"], x)
    for table in (pd.read_csv("samples.csv"), pd.read_parquet("samples.parquet")):
        np.testing.assert_allclose(table["x"], x[:, 0], rtol=1e-6)
        np.testing.assert_array_equal(table["n"], x[:, 1])
        assert set(table["kind"]) == {'the "first"', "second,\nin two lines"}
    expected = lk.load("run").sample(100, seed=3)
    np.testing.assert_array_equal(x[:100], expected)


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize(
    "command",
    ["sample run -n 400 --seed 3", pytest.param("score run parts", marks=pytest.mark.slow)],
)
def test_a_number_of_processes_changes_nothing(command: str) -> None:
    for processes in (1, 2):
        assert run(f"{command} --processes {processes} --out {processes}.npy") == 0
    np.testing.assert_allclose(np.load("1.npy"), np.load("2.npy"), rtol=1e-6)


def test_scores_in_parts_are_those_of_the_whole(
    folder: Path, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    def scores(source: str) -> tuple[np.ndarray, dict[str, object]]:
        capsys.readouterr()
        assert run(f"score run {source} --out scores.npy --json") == 0
        return np.load("scores.npy"), json.loads(capsys.readouterr().out)

    request.getfixturevalue("monkeypatch").chdir(folder)
    expected, report = scores("events.csv")
    request.getfixturevalue("small_parts")
    for source in ("events.csv", "parts", "'part-*.csv'"):
        found, again = scores(source)
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        assert again["rows"] == ROWS
        for name in ("mean", "mean_inside"):
            assert again[name] == pytest.approx(report[name], rel=1e-6)
    assert run("score run parts --anomaly --out unusual.csv") == 0
    unusual = pd.read_csv("unusual.csv")["anomaly_score"]
    np.testing.assert_allclose(unusual, -expected, rtol=1e-5)
    assert f"the most unusual is row {unusual.argmax()} " in capsys.readouterr().out


@pytest.mark.usefixtures("small_parts")
def test_errors_count_the_rows_of_the_whole_file(capsys: pytest.CaptureFixture[str]) -> None:
    table = pd.read_csv("events.csv")
    table.loc[600, "x"] = np.nan
    table.to_csv("bad.csv", index=False)
    assert run("score run bad.csv --out bad.npy") == 2
    assert "row 600, column 'x': the entry is missing" in " ".join(capsys.readouterr().err.split())
    assert not Path("bad.npy").exists()


def test_a_mean_of_parts_is_that_of_the_whole() -> None:
    generator = torch.Generator().manual_seed(0)
    value, weight = 5 + torch.randn(90, generator=generator), torch.rand(90, generator=generator)
    weight[::7] = 0
    w = weight.double() / weight.sum()
    mean = (w * value).sum()
    error = ((w * (value - mean) ** 2).sum() / (1 / w.square().sum() - 1)).sqrt()
    parts = Mean()
    for at in (slice(40), slice(40, 41), slice(41, 90)):
        parts.add(Likelihood(value[at], Kind.EXACT, common_stderr=0.1), weight[at])
    whole = Likelihood(value, Kind.EXACT, common_stderr=0.1).mean(weight)
    for figure in (parts.figure, whole):
        assert figure.value == pytest.approx(mean.item(), rel=1e-6)
        assert figure.stderr == pytest.approx(np.hypot(error.item(), 0.1), rel=1e-6)
    parts.add(Likelihood(torch.tensor([-torch.inf]), Kind.EXACT))
    assert parts.figure.value == -torch.inf


MEMORY = """
import resource, sys
import numpy as np, pandas as pd
from likely.cli import main
import likely.data.load, likely.data.readers.tables, likely.data.table
for module in (likely.data.load, likely.data.readers.tables, likely.data.table):
    module.PART_ENTRIES = 1 << 16

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

def work(rows):
    assert main(["sample", "plain", "-n", str(rows), "--out", f"{rows}.parquet"]) == 0
    assert main(["score", "plain", f"{rows}.parquet", "--out", f"{rows}.npy"]) == 0

work(200_000)
before = peak()
work(1_000_000)
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the unit of the peak differs")
def test_memory_does_not_grow_with_the_rows(folder: Path) -> None:
    command = [sys.executable, "-c", MEMORY]
    done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    grown = float(done.stdout.splitlines()[-1])  # MiB
    assert grown < 12  # the samples alone are 8, and as much again in a frame
