"""What the parts of the campaign share: work in forked processes, and a tally of what failed."""

import os
import pickle
import resource
import signal
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

import likely as lk

MEMORY = 3 << 30  # address space that a case may add
SECONDS = 20  # of computing that a case may take

Outcome = tuple[str, str]  # ("result" | "refused" | "failed" …, and what was seen)


def outcome(case: Callable[[], Any]) -> Outcome:
    """What a case ends in: a result, an error that is meant for users, or a failure."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            case()
    except lk.LikelyError as error:
        return "refused", str(error)
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return "failed", f"{type(error).__name__}: {error} ({place.filename}:{place.lineno})"
    return "result", ""


def forked(work: Callable[[], Any]) -> tuple[int, int]:
    """Start work in a child process, which ends with 0 once it is done; its number and a pipe."""
    read, write = os.pipe()
    child = os.fork()
    if child:
        os.close(write)
        return child, read
    try:
        torch.set_num_threads(1)
        os.close(read)
        with os.fdopen(write, "wb") as pipe:
            pickle.dump(work(), pipe)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def bounded(case: Callable[[], Any]) -> Outcome:
    """The outcome of a case in the time and memory that it may take."""

    def late(*_: Any) -> None:
        raise TimeoutError(f"more than {SECONDS} s")

    signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        return outcome(case)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def tally(cases: Iterable[tuple[str, Callable[[], Any]]], batch: int = 50) -> tuple[Counter, list]:
    """Outcomes of all cases, counted, and the failures; each batch in a process of its own."""
    counts, failures, waiting = Counter(), [], list(cases)
    while waiting:
        some, waiting = waiting[:batch], waiting[batch:]

        def work(some=some):
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
            return [bounded(case) for _, case in some]

        child, pipe = forked(work)
        with os.fdopen(pipe, "rb") as file:
            answer = file.read()
        _, status = os.waitpid(child, 0)
        if status and batch > 1:  # it has crashed: one by one, to find the case
            inner, crashed = tally(some, 1)
            counts, failures = counts + inner, failures + crashed
            continue
        found = [("failed", f"the process ended with {status}")] if status else pickle.loads(answer)
        for (name, _), (kind, text) in zip(some, found, strict=True):
            counts[kind] += 1
            if kind == "failed":
                failures.append(f"{name}: {text}")
    return counts, failures
