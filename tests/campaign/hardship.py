"""Hardships: disks that are full or read-only, dead workers, signals, no memory, no numbers.

Each case runs a command in a process of its own and disturbs it at a random moment. It ends soon, with
a status above 0 and one line that says why, and nothing is lost: what was there before is whole, and
a fit that goes on ends with the bits of an undisturbed one.
"""

import ctypes
import importlib
import json
import math
import os
import pickle
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import kills
import numpy as np
import tools
import torch

import likely as lk
from likely.cli import main
from likely.fitting import folder as run_folder
from likely.fitting.gradients import Gradients

for slow in ("likely.comparison", "likely.sklearn", "torch.utils.tensorboard"):
    importlib.import_module(slow)  # once, and not in each process

PATIENCE = 300  # seconds that a command may take, on a machine that may be busy
DISK = 8 << 20  # bytes
NEW_NAMESPACE = 0x20000  # of mounts; in <sched.h>
PREVIOUS = b"what was there before\n" * 100
STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143}
NO_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has …"),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: "
        "you tried to allocate 8000000000 bytes. Error code 12 (Cannot allocate memory)"
    ),
    MemoryError(),
]


class Command:
    """A command in a process group of its own."""

    def __init__(self, arguments: list[str], fault: Callable[[], None] = lambda: None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="command-"))
        if "--jobs=2" in arguments:  # joblib's processes are cleaned up after when Python ends
            command = [sys.executable, "-m", "likely", *arguments]
            env = os.environ | {"OMP_NUM_THREADS": "1"}
            self.pid = os.posix_spawn(
                sys.executable, command, env, file_actions=self._streams(), setpgroup=0
            )
            return
        self.pid, pipe = tools.forked(lambda: self._run(arguments, fault))
        os.close(pipe)

    def _streams(self) -> list[tuple]:
        flags = os.O_CREAT | os.O_WRONLY
        files = [(1, self.folder / "stdout"), (2, self.folder / "stderr")]
        return [(os.POSIX_SPAWN_OPEN, number, str(path), flags, 0o600) for number, path in files]

    def _run(self, arguments: list[str], fault: Callable[[], None]) -> None:
        os.setsid()
        warnings.simplefilter("ignore")
        for _, number, path, flags, mode in self._streams():
            os.dup2(os.open(path, flags, mode), number)
        sys.stdout, sys.stderr = (os.fdopen(i, "w", 1, closefd=False) for i in (1, 2))
        run_folder.MIN_INTERVAL, run_folder.OVERHEAD = 0.0, 1.0
        fault()
        os._exit(main(arguments))

    def ended(self) -> bool:
        """Whether the process has ended; it stays to be waited for."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def workers(self) -> list[int]:
        """The processes that it has started to work for it, and that live."""
        listed = Path(f"/proc/{self.pid}/task").glob("*/children")
        pids = [int(pid) for path in listed for pid in path.read_text().split()]
        names = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids}
        kinds = b"spawn_main", b"popen_loky"
        return [pid for pid, name in names.items() if any(kind in name for kind in kinds)]

    def end(self) -> tuple[int, str]:
        """Its exit status, and what it said beside warnings."""
        late = time.monotonic() + PATIENCE
        while not self.ended() and time.monotonic() < late:
            time.sleep(0.01)
        hangs = not self.ended()
        if hangs:
            os.killpg(self.pid, signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        said = (self.folder / "stderr").read_text()
        assert not hangs, f"it hangs; it said {said!r}"
        lines = [line for line in said.splitlines() if not line.startswith("warning: ")]
        return os.waitstatus_to_exitcode(status), "\n".join(lines)


class Case:
    """One command, undisturbed and disturbed."""

    def __init__(self, base: Path, seed: int) -> None:
        self.base, self.rng = base, np.random.default_rng(seed)
        self.out = base / f"case-{seed}"
        self.out.mkdir()

    def fit(self, out: Path, name: str, *more: str) -> list[str]:
        """The arguments of a fit of one of the families."""
        options, x, steps = kills.FAMILIES[name]
        file = self.base / f"{'x' if x is kills.X else 'bits'}.npy"
        np.save(file, x) if not file.exists() else None
        chosen = [f"--set={option}={value}" for option, value in options.items()]
        budget = [f"--steps={steps}", "--seed=1"]
        return ["fit", str(file), f"--model={name}", *chosen, *budget, *more, f"--out={out}"]

    def family(self) -> str:
        return str(self.rng.choice([name for name in kills.FAMILIES if name != kills.TOGETHER]))

    def undisturbed(self, key: str, arguments: Callable[[Path], list[str]]) -> tuple[Path, float]:
        """What a command leaves behind undisturbed, and its seconds; once for all cases."""
        out, took = self.base / f"alone-{key}", self.base / f"alone-{key}.seconds"
        if not took.exists():
            started = time.monotonic()
            status, said = Command(arguments(out)).end()
            assert status == 0, f"undisturbed: {said}"
            took.write_text(str(time.monotonic() - started))
        return out, float(took.read_text())

    def fitted(self, *more: str, name: str | None = None) -> tuple[Path, list[str], Path, float]:
        """A fit in the folder of this case, and an undisturbed one."""
        name = name or self.family()
        alone, seconds = self.undisturbed(
            f"{name}{len(more)}", lambda out: self.fit(out, name, *more)
        )
        return self.out / "run", self.fit(self.out / "run", name, *more), alone, seconds

    def goes_on(self, arguments: list[str], run: Path, alone: Path) -> None:
        """Repeat a fit: it ends with the bits of the undisturbed one."""
        status, said = Command(arguments).end()
        assert status == 0, f"it does not go on: {said}"
        difference = kills.same(alone, run)
        assert not difference, difference

    def sampling(self) -> tuple[Path, list[str]]:
        """A command that replaces a file of samples."""
        alone, _ = self.undisturbed("nsf0", lambda out: self.fit(out, "nsf"))
        out = self.out / f"samples{self.rng.choice(['.npy', '.csv', '.parquet', '.npz', '.png'])}"
        out.write_bytes(PREVIOUS)
        return out, ["sample", str(alone), "-n", "20000", "--seed=0", f"--out={out}"]

    def comparing(self, *more: str) -> tuple[Path, list[str], float]:
        """A command that replaces a report."""

        def arguments(out: Path) -> list[str]:
            data = self.fit(out, "nsf")[1]
            models = ["--models=gaussian,made", "--steps=30", "--seeds=2", "--rows=50"]
            return ["compare", data, *models, *more, f"--out={out}"]

        _, seconds = self.undisturbed(f"compare{len(more)}", arguments)
        for name in ("index.html", "comparison.json", "comparison.csv"):
            (self.out / "report").mkdir(exist_ok=True)
            (self.out / "report" / name).write_bytes(PREVIOUS)
        return self.out / "report", arguments(self.out / "report"), seconds

    def moment(self, seconds: float) -> None:
        time.sleep(self.rng.uniform(0, 0.9 * seconds))


def one_line(said: str, *parts: str) -> None:
    """Check that an error is one line with these parts."""
    assert re.fullmatch("error: .*", said), f"not one line of error: {said!r}"
    assert all(part in said for part in parts), f"without {parts}: {said!r}"


def whole(report: Path) -> None:
    """Check that each file of a report is the one from before, or complete."""
    for path in report.iterdir():
        content = path.read_bytes()
        complete = {
            ".html": lambda text: text.rstrip().endswith(b"</html>"),
            ".json": json.loads,
            ".csv": lambda text: text.endswith(b"\n"),
        }
        assert not path.name.endswith(".part"), f"{path.name} is left over"
        assert content == PREVIOUS or complete[path.suffix](content), f"{path.name} is damaged"


# The disk.


def _fill(disk: Path, rng: np.random.Generator) -> Callable[[], object]:
    """Leave no space but a little; how to get it back."""
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    keep = int(rng.choice([0, 4096, 20_000, 60_000]))
    with (disk / "filler").open("wb", buffering=0) as file:
        try:
            while file.write(bytes(max(1, min(1 << 16, free - keep - file.tell())))):
                if file.tell() >= free - keep:
                    break
        except OSError:
            pass
    return (disk / "filler").unlink


def _protect(disk: Path, _: np.random.Generator) -> Callable[[], object]:
    """Make the disk read-only, between two writes; how to undo that."""
    mount = ["mount", "-o", "remount,ro", str(disk)]
    while subprocess.run(mount, capture_output=True, check=False).returncode:
        time.sleep(0.001)
    return lambda: subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)


def disk(case: Case) -> None:
    """A disk that is full or read-only from some moment on."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(case.out)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        return  # only root may
    spoil, what = [(_fill, "No space left"), (_protect, "Read-only")][case.rng.integers(2)]
    verb = case.rng.choice(["fit", "fit", "sample", "compare", "save"])
    seconds = 0.0
    if verb == "fit":
        out, arguments, alone, seconds = case.fitted()
    elif verb == "compare":
        out, arguments, seconds = case.comparing()
    else:
        out, arguments = case.sampling()
    if verb == "save":
        _save(case, out, spoil)
    else:
        late = case.rng.random() < 0.7
        restore = None if late else spoil(case.out, case.rng)
        command = Command(arguments)
        if late:
            case.moment(seconds)
            restore = spoil(case.out, case.rng)
        status, said = command.end()
        if status:
            assert status == 1 or spoil == _protect, f"status {status}: {said}"
            one_line(said, str(case.out), what)
        restore()
        if verb == "fit":
            case.goes_on(arguments, out, alone)
        elif verb == "compare":
            whole(out)
        else:
            assert (out.read_bytes() == PREVIOUS) == (status != 0), "the file is another"
            assert [*out.parent.iterdir()] == [out], "files are left over"
    subprocess.run(["umount", str(case.out)], check=True)


def _save(case: Case, out: Path, spoil: Callable) -> None:
    """A model that is saved where another file was."""
    model = lk.load(case.base / "alone-nsf0")
    restore = spoil(case.out, case.rng)
    outcome, said = tools.outcome(lambda: lk.save(model, out))
    if outcome == "result":
        lk.load(out)
    else:
        assert outcome == "refused", said
        one_line(f"error: {said}", str(out))
        assert out.read_bytes() == PREVIOUS
    restore()
    lk.save(model, out)
    lk.load(out)


# Processes.


def _killed_worker(case: Case, command: Command) -> bool:
    """Kill a worker at a random moment of its life; whether there was one."""
    while not (command.ended() or len(command.workers()) == 2):
        time.sleep(0.02)
    case.moment(case.rng.choice([2, 6]))
    workers = command.workers()
    if workers:
        os.kill(int(case.rng.choice(workers)), signal.SIGKILL)
    return bool(workers)


def worker(case: Case) -> None:
    """A worker of a fit, or of a comparison, that is killed."""
    together = case.rng.random() < 0.5
    if together:
        out, arguments, alone, _ = case.fitted("--devices=2", name="nsf")
    else:
        out, arguments, _ = case.comparing("--jobs=2")
    command = Command(arguments)
    _killed_worker(case, command)
    status, said = command.end()
    if status:
        assert status == 1, f"status {status}: {said}"
        one_line(said, "kill")
    if together:
        case.goes_on(arguments, out, alone)
    else:
        whole(out)


def signals(case: Case) -> None:
    """Ctrl-C, or a request to end, at a random moment of a fit, a comparison or a sampling."""
    verbs = ["fit", "sample", "compare", "together", "jobs"]
    verb = case.rng.choice(verbs, p=[0.5, 0.2, 0.2, 0.05, 0.05])  # the last ones take long
    seconds = 0.3
    if verb in ("fit", "together"):
        more, name = (["--devices=2"], "nsf") if verb == "together" else ([], None)
        out, arguments, alone, seconds = case.fitted(*more, name=name)
    elif verb == "sample":
        out, arguments = case.sampling()
    else:
        out, arguments, seconds = case.comparing(*(["--jobs=2"] if verb == "jobs" else []))
    command = Command(arguments)
    which = (signal.SIGINT, signal.SIGTERM)[case.rng.integers(2)]
    while not (command.folder / "stderr").exists() or (verb == "jobs" and not command.workers()):
        time.sleep(0.001)
    case.moment(seconds)
    # A terminal and a batch system send it to all processes, `kill` to one.
    whole_group = which == signal.SIGINT or case.rng.random() < 0.5
    if not command.ended():
        (os.killpg if whole_group else os.kill)(command.pid, which)
    status, said = command.end()
    assert status in (0, STATUS[which]), f"{which.name}, {verb}: status {status}: {said!r}"
    if status:
        assert re.fullmatch("(interrupted|terminated).*", said), said
    if verb in ("fit", "together"):
        assert not status or "resumes" in said, said
        case.goes_on(arguments, out, alone)
    elif verb == "sample":
        assert (out.read_bytes() == PREVIOUS) == (status != 0), "the file is another"
        assert [*out.parent.iterdir()] == [out], "files are left over"
    else:
        whole(out)


# Memory and numbers.


def _at_step(step: int, fault: Callable[[torch.Tensor], torch.Tensor], until: float) -> None:
    """Do something to the losses from a step on."""
    plain = Gradients._loss

    def faulty(self: Gradients, objective: object, batch: lk.Batch) -> torch.Tensor:
        loss = plain(self, objective, batch)
        return fault(loss) if step <= batch.step < until else loss

    Gradients._loss = faulty


def _raise(error: Exception) -> None:
    raise error


def memory(case: Case) -> None:
    """No memory is left at a random step, or from a random moment on."""
    limited = case.rng.random() < 0.5
    name = (
        case.family() if limited else str(case.rng.choice(["nsf", "staged", "gan", "vae", "rnn"]))
    )
    out, arguments, alone, seconds = case.fitted(name=name)
    error, step = NO_MEMORY[case.rng.integers(3)], int(case.rng.integers(100))
    if not limited:
        fault = partial(_at_step, step, lambda _: _raise(error), math.inf)
        status, said = Command(arguments, fault).end()
        assert status == 1, f"status {status}: {said}"
        one_line(said, "memory")
        case.goes_on(arguments, out, alone)
        return
    if case.rng.random() < 0.5:
        out, arguments = case.sampling()
        arguments[3] = "3000000"
        alone = None
    command = Command(arguments)
    case.moment(seconds)
    if not command.ended():
        used = (
            int(Path(f"/proc/{command.pid}/statm").read_text().split()[0]) * resource.getpagesize()
        )
        most = used + int(case.rng.integers(1 << 22))
        resource.prlimit(command.pid, resource.RLIMIT_AS, (most, most))
    status, said = command.end()
    if status:
        assert status == 1, f"status {status}: {said}"
        one_line(said, "memory")
    if alone is not None:
        case.goes_on(arguments, out, alone)
    else:
        assert (out.read_bytes() == PREVIOUS) == (status != 0), "the file is another"


def _no_number(loss: torch.Tensor) -> torch.Tensor:
    """The loss, whose gradient is no number."""
    if loss.requires_grad:  # not where it is only looked at
        loss.register_hook(lambda gradient: gradient * math.nan)
    return loss


def numbers(case: Case) -> None:
    """Losses or gradients that are no numbers at some steps, or a rate that is far too high."""
    out, arguments, _, _ = case.fitted()
    step = int(case.rng.integers(40))
    until = case.rng.choice([step + 1, step + 15, math.inf])
    to = _no_number if case.rng.random() < 0.5 else lambda loss: loss * math.nan
    if case.rng.random() < 0.4:
        arguments.append(f"--rate={10 ** case.rng.uniform(0, 8)}")
        command = Command(arguments)
    else:
        command = Command(arguments, partial(_at_step, step, to, until))
    status, said = command.end()
    if status:
        assert status == 1, f"status {status}: {said}"
        one_line(said)
        assert "not finite" in said or "diverges" in said, said
        if "--rate" in arguments[-1]:
            return
        status, said = Command(arguments).end()
        assert status == 0, f"it does not go on: {said}"
    assert all(value.isfinite().all() for value in lk.load(out).state_dict().values())


KINDS = [disk, disk, disk, signals, signals, signals, memory, memory, numbers, worker]


def tally(n: int, first: int = 0) -> tuple[Counter, list[str]]:
    """n cases; in a process whose mounts are its own."""
    child, pipe = tools.forked(lambda: _tally(n, first))
    with os.fdopen(pipe, "rb") as file:
        answer = pickle.load(file)
    os.waitpid(child, 0)
    return answer


def _tally(n: int, first: int) -> tuple[Counter, list[str]]:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs in the background ignore it
    ctypes.CDLL(None).unshare(NEW_NAMESPACE)
    subprocess.run(["mount", "--make-rprivate", "/"], capture_output=True, check=False)
    counts: Counter = Counter()
    failures = []
    with tempfile.TemporaryDirectory(prefix="hardship-") as base:
        tempfile.tempdir = base
        for seed in range(first, first + n):
            kind = KINDS[seed % len(KINDS)]
            case = Case(Path(base), seed)
            outcome, text = tools.outcome(partial(kind, case))
            counts[f"{kind.__name__}: {outcome}"] += 1
            if outcome != "result":
                failures.append(f"hardship {seed}, {kind.__name__}: {text}")
                subprocess.run(["umount", "-l", str(case.out)], capture_output=True, check=False)
    return counts, failures
