"""The command end to end: what it writes, what it says, and how it ends."""

import errno
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import likely as lk
from likely.cli import main

pytestmark = pytest.mark.xdist_group("cli")  # which shares what its fixtures fit

COLUMNS = "--columns phi,e,n,kind --column 'phi=periodic(-pi,pi)' --column e=positive"
SMALL = "--set hidden=16,16 --steps 5"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table, and runs of a model with and without a context."""
    folder = tmp_path_factory.mktemp("cli")
    rng = np.random.default_rng(0)
    rows = 200
    table = pd.DataFrame(
        {
            "phi": rng.uniform(-3, 3, rows),
            "e": rng.lognormal(size=rows),
            "n": rng.integers(0, 5, rows),
            "kind": rng.choice(["el", "mu"], rows),
            "w": rng.uniform(0.5, 1, rows),
        }
    )
    table.to_csv(folder / "events.csv", index=False)
    outside = table.astype({"n": float})
    outside.loc[3, "phi"] = 7.0
    outside.loc[5, "n"] = 9.0
    outside.loc[6, "n"] = 2.5
    outside.to_csv(folder / "outside.csv", index=False)
    table.assign(kind="tau").to_csv(folder / "unknown.csv", index=False)
    (folder / "empty.csv").write_text("")
    np.save(folder / "rows.npy", rng.normal(size=(100, 2)).astype(np.float32))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run(f"fit events.csv --model made {COLUMNS} --weight w {SMALL} --out run") == 0
        assert run(f"fit events.csv --model made --context kind,n {SMALL} --out given") == 0
    return folder


@pytest.fixture(autouse=True)
def _there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def run(command: str) -> int:
    return main(shlex.split(command))


def test_a_run_holds_what_the_other_commands_need(folder: Path) -> None:
    files = {path.name for path in (folder / "run").iterdir()}
    assert {"model.safetensors", "config.json", "history.csv", "checkpoint"} <= files


def test_fit_again_has_nothing_left_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    before = Path("run/model.safetensors").read_bytes()
    assert run(f"fit events.csv --model made {COLUMNS} --weight w {SMALL} --out run") == 0
    said = capsys.readouterr()
    assert "nothing left to do" in said.err
    assert "complete before this command: validation log-likelihood" in said.out
    assert Path("run/model.safetensors").read_bytes() == before


def test_the_seed_decides_the_weights() -> None:
    for out, seed in (("a", 1), ("b", 1), ("c", 2)):
        torch.rand(seed + len(out))
        assert run(f"fit rows.npy --model made {SMALL} --seed {seed} --out seeds/{out}") == 0
    a, b, c = (lk.load(f"seeds/{name}").state_dict() for name in "abc")
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert any(not torch.equal(a[name], c[name]) for name in a)


def test_the_options_of_a_fit_end_in_its_configuration() -> None:
    options = "--rate 0.01 --batch 40 --ema 0.9 --clip 2 --weight-decay 0.1 --no-early-stopping"
    options += " --accumulate 2"
    assert run(f"fit rows.npy --model made {SMALL} {options} --device cpu --out chosen") == 0
    found = json.loads(Path("chosen/config.json").read_text())["fit"]
    wanted = {"rate": 0.01, "batch": 40, "ema": 0.9, "clip": 2.0, "weight_decay": 0.1}
    wanted |= {"early_stopping": False, "device": "cpu", "accumulate": 2}
    assert {name: found[name] for name in wanted} == wanted


@pytest.mark.parametrize("suffix", ["npy", "npz", "csv", "parquet", "fits"])
def test_samples_keep_names_kinds_and_labels(
    suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = f"samples.{suffix}"
    assert run(f"sample run -n 50 --seed 3 --out {out}") == 0
    assert capsys.readouterr().out == f"50 rows × 4 columns: {out}\n"
    expected = lk.load("run", "auto").sample(50, seed=3).numpy(force=True)
    if suffix in ("npy", "npz"):
        found = np.load(out)
        np.testing.assert_array_equal(found if suffix == "npy" else found["x"], expected)
        return
    if suffix == "fits":
        astropy = pytest.importorskip("astropy.table")
        table = astropy.Table.read(out).to_pandas()
        table["kind"] = table["kind"].str.decode("ascii")
    else:
        table = pd.read_csv(out) if suffix == "csv" else pd.read_parquet(out)
    assert list(table) == ["phi", "e", "n", "kind"]
    np.testing.assert_array_equal(table["n"], expected[:, 2])
    assert table["n"].dtype == np.int64
    np.testing.assert_array_equal(table["kind"] == "mu", expected[:, 3] == 1)
    np.testing.assert_allclose(table["phi"], expected[:, 0], rtol=1e-6)


def test_samples_as_a_picture() -> None:
    assert run("sample run -n 50 --out samples.png") == 0
    assert Path("samples.png").read_bytes().startswith(b"\x89PNG")


def test_samples_given_a_context() -> None:
    pd.DataFrame({"kind": ["mu"], "n": [3]}).to_csv("one.csv", index=False)
    for context in ("kind=mu,n=3", "n=3,kind=mu", "mu,3", "one.csv"):
        assert run(f"sample given -n 20 --seed 1 --context {context} --out given.npy") == 0
        model = lk.load("given", "auto")
        expected = model.sample(20, context=torch.tensor([1, 3]), seed=1)
        np.testing.assert_array_equal(np.load("given.npy"), expected.numpy(force=True))


def test_scores_are_in_the_order_of_the_rows(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("score run outside.csv --out scores.npy --json") == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["rows"], report["outside"], report["kind"]) == (200, 3, "exact")
    scores = np.load("scores.npy")
    table = pd.read_csv("outside.csv")
    table["kind"] = (table["kind"] == "mu").astype(float)
    x = torch.tensor(table[["phi", "e", "n", "kind"]].to_numpy(), dtype=torch.float32)
    expected = lk.load("run").log_prob(x).detach().numpy()
    np.testing.assert_allclose(scores, expected, rtol=1e-5)
    assert np.flatnonzero(np.isneginf(scores)).tolist() == [3, 5, 6]
    assert report["mean"]["value"] is None
    finite = np.isfinite(scores)
    mean = np.average(scores[finite], weights=table["w"][finite])
    assert report["mean_inside"]["value"] == pytest.approx(mean, rel=1e-5)


def test_the_mean_of_scores_is_weighted_where_there_are_weights(
    capsys: pytest.CaptureFixture[str],
) -> None:
    events = pd.read_csv("events.csv")
    events.drop(columns="w").to_csv("plain.csv", index=False)
    for name, weight in (("events", events["w"]), ("plain", None)):
        assert run(f"score run {name}.csv --out {name}.npy --json") == 0
        captured = capsys.readouterr()
        expected = np.average(np.load(f"{name}.npy"), weights=weight)
        assert json.loads(captured.out)["mean"]["value"] == pytest.approx(expected, rel=1e-6)
        assert ("not weighted" in captured.err) == (weight is None)


def test_scores_of_a_conditional_model() -> None:
    assert run("score given events.csv --out given-scores.npy") == 0
    data = lk.data.load_rows("events.csv", context=["kind", "n"])
    batch = data.rows(slice(None))
    expected = lk.load("given").log_prob(batch.x, batch.context).detach().numpy()
    np.testing.assert_allclose(np.load("given-scores.npy"), expected, rtol=1e-5)


def test_evaluate_uses_the_split_and_the_weights_of_the_fit(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run("evaluate run events.csv --json") == 0
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    assert "warning" not in captured.err
    domain = lk.load("run").domain
    data = lk.load_data("events.csv", domain=domain, weight="w")
    batch = data.test.rows(slice(None))
    expected = lk.load("run").log_likelihood(batch.x).mean(batch.weight)
    assert report["log_likelihood"]["value"] == pytest.approx(expected.value, rel=1e-6)
    assert run("evaluate run/model.safetensors events.csv --json") == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["log_likelihood"] == report["log_likelihood"]
    assert "warning" not in captured.err
    events = pd.read_csv("events.csv")
    events.iloc[::-1].to_csv("other.csv", index=False)
    assert run("evaluate run other.csv") == 0
    assert "not the data of run" in capsys.readouterr().err


def test_an_engine_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("compare rows.npy --models gaussian --steps 2 --engine slurm --out nothing") == 2
    assert "engine='slurm': give dask, ray" in capsys.readouterr().err
    assert not Path("nothing").exists()


def test_compare_writes_a_report(capsys: pytest.CaptureFixture[str]) -> None:
    command = "compare rows.npy --models gaussian,made --steps 3 --seeds 1 --out report"
    assert run(command) == 0
    captured = capsys.readouterr()
    assert str(Path("report/index.html")) in captured.out
    assert "gaussian" in captured.out
    assert {path.name for path in Path("report").iterdir()} == {
        *("index.html", "comparison.json", "comparison.csv"),
    }
    rows = json.loads(Path("report/comparison.json").read_text())["rows"]
    assert {row["model"] for row in rows} == {"gaussian", "made", "independent"}


def test_models_for_people_and_for_scripts(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("models --json") == 0
    names = [entry["name"] for entry in json.loads(capsys.readouterr().out)]
    assert run("models") == 0
    text = capsys.readouterr().out
    assert {"gaussian", "nsf", "made"} <= set(names)
    assert all(name in text for name in names)


def test_one_model_with_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("models nsf-coupling --json") == 0
    report = json.loads(capsys.readouterr().out)
    options = {option["name"]: option for option in report["options"]}
    assert report["density"] == "exact; lower bound on integers"
    assert options["transforms"]["default"] == 5
    assert options["coupling"]["default"] is True
    assert run("models nsf-coupling") == 0
    text = capsys.readouterr().out
    for part in (
        "arXiv:1906.04032",
        "periodic",
        "transforms",
        "a whole number above 0",
        "Bins of a",
    ):
        assert part in text


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == 0
    module = [sys.executable, "-m", "likely", "--version"]
    assert f"likely {lk.__version__}" in subprocess.check_output(module, text=True)
    assert capsys.readouterr().out == f"likely {lk.__version__}\n"
    for command in ("", "--help", "fit --help", "compare -h"):
        assert run(command) == 0
        assert "Usage: likely" in capsys.readouterr().out


MISTAKES = {
    "fit nope.csv --model made --out new": "nope.csv",
    "fit empty.csv --model made --out new": "empty",
    "fit events.csv --model mad --out new": "made",
    "fit events.csv --model nsf --out new": "categorical",
    "fit events.csv --model made --set hiden=3 --out new": "hidden",
    "fit events.csv --model made --set hidden --out new": "name=value",
    "fit rows.npy --model nsf --set transforms=-3 --out new": (
        "transforms=-3: give a whole number above 0, such as 5"
    ),
    "fit rows.npy --model nsf --set jitter=x --out new": "jitter='x': give a finite number of 0 or more",
    "fit rows.npy --model nsf --set hidden=64 --out new": (
        "NSF: hidden=64: give a sequence of whole numbers above 0, such as (64,) (--set hidden=64,)"
    ),
    "fit rows.npy --model nsf --set hidden=-5,3 --out new": "hidden=(-5, 3): give a sequence",
    "fit rows.npy --model nsf --set coupling=1 --out new": "coupling=1: give True or False",
    "fit rows.npy --model gmm --set covariance=big --out new": "covariance='big': give one of 'full'",
    "fit rows.npy --model made --set order=a --out new": "order='a': give a sequence",
    "fit rows.npy --model made --seed -1 --out new": "--seed",
    "compare rows.npy --seed -1 --out new": "--seed",
    "fit events.csv --model made --columns phi,zz --out new": "'zz'",
    "fit events.csv --model made --context zz --out new": "'zz'",
    "fit events.csv --model made --column phi=periodc --out new": "periodc",
    "fit events.csv --model made --column 'phi=interval(0,1)' --out new": "row 1, column 'phi'",
    "fit events.csv --model made --steps 3 --epochs 2 --out new": "one budget",
    "fit events.csv --model made --steps 0 --out new": "steps",
    "fit events.csv --model made --missing no --out new": "--missing",
    "fit events.csv --modle made --out new": "--model",
    "fit events.csv --model made": "--out",
    "fit events.csv --model made --steps 1 --out events.csv": "events.csv",
    "fit events.csv --model made --columns e,n --steps 1 --out run": "another configuration",
    f"fit events.csv --model made {COLUMNS} --weight w {SMALL}0 --out run": (
        "fit.steps is 5 there and 50 here); repeat its options to go on with it (a budget stays as it is"
    ),
    "fit rows.npy --model made --rate -1 --out new": "rate=-1.0: give a finite number above 0",
    "fit rows.npy --model made --ema 2 --out new": "ema=2.0",
    "fit rows.npy --model made --device abacus --out new": "device='abacus'",
    "sample run --device abacus --out new.csv": "device='abacus'",
    "score run events.csv --device abacus --out new.csv": "device='abacus'",
    "evaluate run events.csv --device cuda:99": "device='cuda:99'",
    "compare rows.npy --device abacus --out new": "device='abacus'",
    "models nfs": "did you mean nsf",
    "frobnicate": "frobnicate",
    "sample nope --out new.csv": "nope",
    "sample events.csv --out new.csv": "events.csv",
    "sample run -n 0 --out new.csv": "-n",
    "sample run --out new.xyz": ".npy",
    "sample run --out events.csv/new.csv": "cannot be written",
    "sample run --context 3 --out new.csv": "no context",
    "sample given --out new.csv": "kind=…",
    "sample given --context kind=mu --out new.csv": "n",
    "sample given --context kind=tau,n=3 --out new.csv": "el, mu",
    "sample given --context kind=mu,n=9 --out new.csv": "9",
    "score run digits --out new.npy": "phi",
    "score run events.csv --out new.png": ".npy",
    "score run unknown.csv --out new.npy": "'tau'",
    "evaluate run outside.csv": "row 3, column 'phi'",
    "compare events.csv --models made,mad --out new": "made",
    "compare events.csv --models nsf --out new": "categorical",
    "compare events.csv --out events.csv": "cannot be written",
}


@pytest.mark.parametrize("command", MISTAKES)
def test_a_mistake_is_one_line_and_changes_nothing(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in Path().rglob("*")}
    assert run(command) == 2
    error = capsys.readouterr().err
    assert MISTAKES[command] in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert {path: path.stat().st_mtime_ns for path in Path().rglob("*")} == before


OUT_OF_MEMORY = "memory has run out ({}); free some, or ask for less: a smaller batch, fewer rows"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (lk.DivergenceError("the loss is not finite"), "the loss is not finite"),
        (lk.RunError("process 1 of 2 was killed"), "process 1 of 2 was killed"),
        (MemoryError(), OUT_OF_MEMORY.format("MemoryError")),
        (
            torch.OutOfMemoryError("CUDA out of memory.\nGPU 0"),
            OUT_OF_MEMORY.format("CUDA out of memory. GPU 0"),
        ),
        (
            RuntimeError("can't allocate memory: you tried"),
            OUT_OF_MEMORY.format("can't allocate memory: you tried"),
        ),
        (
            RuntimeError("could not create a primitive"),
            OUT_OF_MEMORY.format("could not create a primitive"),
        ),
        (
            ImportError("a.so: failed to map segment from shared object"),
            OUT_OF_MEMORY.format("a.so: failed to map segment from shared object"),
        ),
    ],
)
def test_a_fit_that_fails_ends_with_1(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    said: str,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(lk, "fit", fail, raising=False)
    assert run("fit rows.npy --model made --out failed") == 1
    resumes = "; the same command resumes from the last checkpoint" if "memory" in said else ""
    assert capsys.readouterr().err == f"error: {said}{resumes}\n"


def test_a_fit_whose_disk_is_full_ends_with_1_and_goes_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = "fit rows.npy --model made --steps 5 --out full"

    def no_space(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", no_space)
        assert run(command) == 1
    error = capsys.readouterr().err
    assert re.fullmatch(r"error: full.config\.json: cannot be written \(No space .*\n", error)
    assert run(command) == 0


def test_a_reader_that_goes_away_is_no_failure_to_report() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", "from likely.cli import main; main(['models', '--json'])"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.close()
    _, error = process.communicate(timeout=60)
    assert error == ""


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from likely.cli import main; main(['--help']); "
        "print([name for name in ('torch', 'numpy', 'pandas') if name in sys.modules])"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert output.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("sent", "status", "said"),
    [
        ("SIGINT", 130, "interrupted"),
        pytest.param("SIGTERM", 143, "terminated", marks=pytest.mark.slow),
    ],
)
def test_an_interrupted_fit_says_so_and_can_go_on(
    capsys: pytest.CaptureFixture[str], sent: str, status: int, said: str
) -> None:
    command = f"fit rows.npy --model made --steps 100000 --out {said}"
    # Jobs in the background of a shell do not heed interrupts, unless they are told to.
    heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    run = "import sys; from likely.cli import main; sys.exit(main())"
    process = subprocess.Popen(
        [sys.executable, "-c", f"{heed}; {run}", *command.split()],
        stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not Path(said, "history.csv").exists():
        time.sleep(0.05)
    process.send_signal(getattr(signal, sent))
    _, error = process.communicate(timeout=60)
    assert process.returncode == status
    assert error == f"{said}; the same command resumes from the last checkpoint\n"
    assert Path(said, "checkpoint").exists()
    for command in (f"sample {said}", f"score {said} rows.npy"):
        assert main([*command.split(), "--out", "early.npy"]) == 2
    assert main(["evaluate", said, "rows.npy"]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 3
    assert all(f"{said}: this fit was interrupted" in error for error in errors)
    assert not Path("early.npy").exists()


def test_a_resumed_fit_says_from_where(capsys: pytest.CaptureFixture[str]) -> None:
    fit = f"fit rows.npy --model made {SMALL} --out resumed"
    assert run(fit) == 0
    assert "resuming" not in capsys.readouterr().out
    Path("resumed/model.safetensors").unlink()
    assert run(fit) == 0
    assert "resuming at step 5\n" in capsys.readouterr().out


def test_the_help_of_fit_names_every_format(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("fit --help") == 0
    shown = capsys.readouterr().out
    for suffix in (".feather", ".root", ".fits", ".lhe", ".dat"):
        assert suffix in shown
