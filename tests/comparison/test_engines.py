"""Fits on real clusters of two workers: the same results, and a killed worker costs seconds, not a fit."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import likely as lk
from likely.comparison import Comparison
from likely.comparison import run as comparing
from likely.fitting import folder as folders

STEPS, KILLED_AT = 60, 30


@pytest.fixture(params=["dask", "ray"])
def engine(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "dask":
        dask = pytest.importorskip("distributed")
        with dask.Client(n_workers=2, threads_per_worker=1, dashboard_address=None):
            yield "dask"
    else:
        ray = pytest.importorskip("ray")
        ray.init(num_cpus=2, include_dashboard=False, object_store_memory=80 << 20)
        yield "ray"
        ray.shutdown()


def compared(tmp_path: Path, **options: object) -> Comparison:
    x = torch.randn(400, 2, generator=torch.Generator().manual_seed(0))
    data = lk.load_data(x.cumsum(1))
    options |= {"hyperparameters": {"made": {"hidden": (16,)}}, "runs": tmp_path / "runs"}
    found = lk.compare(["made"], data, steps=STEPS, seeds=2, rows=40, **options)  # type: ignore[arg-type]
    assert isinstance(found, Comparison)
    return found


def fragile(model: lk.GenerativeModel, log: Path) -> lk.GenerativeModel:
    """A model that notes its steps, and kills its process once."""
    loss, killed = model.loss, log.with_suffix(".killed")

    def noted(batch: lk.Batch) -> torch.Tensor:
        folders.MIN_INTERVAL, folders.OVERHEAD = 0.0, 1e9  # a checkpoint after each step
        if batch.step == KILLED_AT and not killed.exists():
            killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        with log.open("a") as file:
            file.write(f"{batch.step} {os.getpid()}\n")
        return loss(batch)

    model.loss = noted  # type: ignore[method-assign]
    return model


def test_a_fit_whose_worker_is_killed_resumes_on_another(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = compared(tmp_path / "alone")
    make, log = comparing.make, tmp_path / "log"

    def make_fragile(name: str, *arguments: object, **options: object) -> lk.GenerativeModel:
        model = make(name, *arguments, **options)  # type: ignore[arg-type]
        return fragile(model, log) if (name, options.get("seed")) == ("made", 1) else model

    monkeypatch.setattr(comparing, "make", make_fragile)
    found = compared(tmp_path, engine=engine, progress=True)
    assert "4 of 4 fits have ended" in capsys.readouterr().err
    steps, processes = np.loadtxt(log, dtype=int).T.tolist()
    assert [*dict.fromkeys(steps)] == [*range(STEPS)]
    assert len(steps) < STEPS + 3  # of which one may have been taken twice
    assert len(set(processes)) == 2
    for run, expected in zip(found.runs, alone.runs, strict=True):
        assert (run.name, run.seed, run.error) == (expected.name, expected.seed, None)
        assert run.test is not None
        assert expected.test is not None
        torch.testing.assert_close(run.test.value, expected.test.value)
        assert (tmp_path / f"runs/{run.name}-{run.seed}/model.safetensors").exists()
    assert not {"fitting", "sampling", "scoring"} & set(found.rows[0].figures)


def test_engines_that_are_not_there_are_refused(tmp_path: Path) -> None:
    for engine in ("slurm", "ftp://there:1"):
        with pytest.raises(lk.LikelyError, match="give dask, ray, or the address of a cluster"):
            compared(tmp_path, engine=engine)


def test_an_engine_has_its_own_number_of_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparing, "library_of", lambda engine: None)
    with pytest.raises(lk.LikelyError, match="jobs=2: the cluster of engine='dask' says how many"):
        compared(tmp_path, engine="dask", jobs=2)
    data = lk.load_data(torch.randn(100, 1))
    with pytest.raises(lk.LikelyError, match="engine='ray': fits side by side need a budget"):
        lk.compare(["made"], data, engine="ray")
