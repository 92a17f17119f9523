"""Fits that are killed at random moments, and whose power is cut, end with the bits of undisturbed ones.

A power cut keeps the content of files that were fsynced, and those renames whose folder was; of the
others, the later ones are undone.
"""

import contextlib
import csv
import functools
import os
import pathlib
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import tools
import torch

import likely as lk
from likely.contract.training import Objective, Stage
from likely.core import files
from likely.fitting import folder as run_folder
from likely.models.flows.nsf import NSF

KILLS_A_RUN = 12
TOGETHER = "two processes"  # which take seconds to start: one run in twenty
X = np.random.default_rng(0).normal(size=(600, 2))
BITS = (np.random.default_rng(1).random((600, 6)) < 0.3).astype(int)


@lk.register(
    "staged",
    title="neural spline flow in stages",
    density="exact; lower bound on integers",
    constraint="invertible",
    paper="none",
)
class Staged(NSF):
    """A flow that trains in two stages: first its first half of parameters, then all."""

    def stages(self) -> list[Stage]:
        parameters = list(self.parameters())
        half = [Objective("half", parameters[: len(parameters) // 2], self.loss)]
        return [Stage(lambda: half, share=0.5), Stage(self.objectives, share=0.5)]


FAMILIES = {  # gradients, EM, players, chains, stages, bounds, levels of noise
    "nsf": ({"transforms": 1, "hidden": (8,)}, X, 150),
    "staged": ({"transforms": 1, "hidden": (8,)}, X, 150),
    "gmm": ({"components": 4, "tolerance": 0.0}, X, 60),
    "gan": ({"hidden": (8,)}, X, 120),
    "ebm": ({"hidden": (8,), "k": 3}, X, 40),
    "jem": ({"hidden": (8,), "k": 3, "training": "sgld", "buffer": 200}, X, 40),
    "rbm": ({"hidden": 8}, BITS, 200),
    "dbn": ({"hidden": (8, 4), "fine_tuning": 0.3}, BITS, 150),
    "dbm": ({"hidden": (8, 4), "pretraining": 0.5}, BITS, 150),
    "vae": ({"hidden": (8,)}, BITS, 150),
    "ncsn": ({"hidden": (8,)}, X, 150),
    "rnn": ({"hidden": 8}, BITS, 100),
    TOGETHER: ({"transforms": 1, "hidden": (8,)}, X, 150),
}


def fit(name: str, out: Path, journal: Path | None = None) -> None:
    """One fit with a checkpoint after nearly every step; its writes go into a journal."""
    _watched(journal)
    options, x, steps = FAMILIES[name]
    data = lk.load_data(x)
    torch.manual_seed(0)
    model = lk.make("nsf" if name == TOGETHER else name, data.domain, **options)
    if name == TOGETHER:
        model.loss = partial(_loss, model.loss, journal)
    lk.fit(model, data, steps=steps, seed=1, run=out, devices=1 + (name == TOGETHER))


def _loss(loss: Callable[[lk.Batch], torch.Tensor], journal: Path | None, batch: lk.Batch):
    """The loss of a model in another process, which is the first that is called there."""
    _watched(journal)
    return loss(batch)


@functools.cache
def _watched(journal: Path | None) -> None:
    """Write a checkpoint whenever one may be due, and keep a journal of it."""
    run_folder.MIN_INTERVAL, run_folder.OVERHEAD = 0.0, 1.0
    if journal is not None:
        _keep_journal(journal)


def _keep_journal(journal: Path) -> None:
    """Note each rename, with what it replaces, and each folder that is brought to the disk."""
    log = os.open(journal, os.O_APPEND | os.O_CREAT | os.O_WRONLY)
    replace, fsync = pathlib.Path.replace, os.fsync

    def noted_replace(self: Path, target: Path) -> Path:
        backup = journal.parent / f"{journal.name}.{time.monotonic_ns()}"
        if Path(target).exists():
            os.link(target, backup)
        os.write(log, f"replace\t{target}\t{backup}\n".encode())
        return replace(self, target)

    def noted_fsync(fd: int) -> None:
        fsync(fd)
        os.write(log, f"fsync\t{os.readlink(f'/proc/self/fd/{fd}')}\t\n".encode())

    pathlib.Path.replace, os.fsync = noted_replace, noted_fsync


def cut_power(journal: Path, rng: np.random.Generator) -> int:
    """Undo some of the last renames that no fsync of their folder has kept; how many."""
    pending: list[tuple[Path, Path]] = []
    for line in journal.read_text().splitlines() if journal.exists() else []:
        what, path, backup = line.split("\t")
        if what == "replace":
            pending.append((Path(path), Path(backup)))
        else:
            pending = [entry for entry in pending if str(entry[0].parent) != path]
    lost = pending[int(rng.integers(len(pending) + 1)) :]
    for path, backup in reversed(lost):
        if backup.exists():
            os.replace(backup, path)
        else:
            path.unlink(missing_ok=True)
    journal.unlink(missing_ok=True)
    return len(lost)


def same(alone: Path, killed: Path) -> str:
    """What differs between two runs; nothing if they have the same bits."""
    expected, got = (files.read_tensors(path / "model.safetensors")[0] for path in (alone, killed))
    wrong = [key for key in expected if not torch.equal(expected[key], got[key])]
    rows = []
    for path in (alone, killed):
        with (path / "history.csv").open() as file:
            table = list(csv.DictReader(file))
        rows.append([{k: v for k, v in row.items() if k != "seconds"} for row in table])
    if wrong:
        return f"other weights: {wrong[:3]}"
    if rows[0] != rows[1]:
        return "another history"
    left = [path.name for path in killed.rglob(f"*{files.PART}")]
    return f"files are left over: {left}" if left else ""


def _alone(name: str, out: Path, journal: Path) -> None:
    """A fit in a group of processes of its own."""
    os.setsid()
    fit(name, out, journal)


def _kill(child: int) -> None:
    """Kill a process with all that it has started."""
    with contextlib.suppress(ProcessLookupError):  # it has no group yet
        os.killpg(child, signal.SIGKILL)
    os.kill(child, signal.SIGKILL)


def tally(n: int, first: int = 0) -> tuple[Counter, list[str]]:
    """n kills, a dozen for each run, half of them with a power cut."""
    counts: Counter = Counter()
    failures, names = [], [name for name in FAMILIES if name != TOGETHER]
    base = Path(tempfile.mkdtemp(prefix="kills-"))
    seconds = {}
    for name in FAMILIES:
        started = time.perf_counter()
        child, pipe = tools.forked(lambda name=name: fit(name, base / name))
        _, status = os.waitpid(child, 0)
        os.close(pipe)
        if status:
            return counts, [f"{name}: the undisturbed fit failed"]
        seconds[name] = time.perf_counter() - started
    run = first
    while counts["kills"] < n:
        name = TOGETHER if run % 20 == 19 else names[run % len(names)]
        out = base / f"run-{run}"
        rng = np.random.default_rng(run)
        for attempt in range(KILLS_A_RUN + 1):
            journal = base / f"journal-{run}-{attempt}"
            child, pipe = tools.forked(
                lambda name=name, out=out, journal=journal: _alone(name, out, journal)
            )
            if attempt < KILLS_A_RUN:
                time.sleep(rng.uniform(0, 0.8 * seconds[name]))
                _kill(child)
            _, status = os.waitpid(child, 0)
            os.close(pipe)
            if status == signal.SIGKILL:
                counts["kills"] += 1
                if rng.random() < 0.5:
                    counts["power cuts"] += 1
                    counts["renames undone"] += cut_power(journal, rng)
            elif status:
                failures.append(f"{name}, run {run}, attempt {attempt}: ended with {status}")
                break
        else:
            counts["runs"] += 1
            if difference := same(base / name, out):
                failures.append(f"{name}, run {run}: {difference}")
        shutil.rmtree(out, ignore_errors=True)
        run += 1
    shutil.rmtree(base)
    return counts, failures
