"""Each library in a process of its own, which does as it is told: a line of JSON in, a line of JSON out.

    {"do": "build", "row": "flows.maf-train-63", "library": "zuko"}
    {"do": "run", "calls": 3}
    {"do": "check"} or {"do": "memory"}

What a library does to its process (threads, caches, memory that stays) does not reach another, and the
process that works takes the time, so that the pipe does not count.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.suite import Gap, Options, Row, Side, reason

ROOT = Path(__file__).resolve().parent.parent


class Process:
    """A command that answers lines of JSON with lines of JSON."""

    def __init__(self, command: Sequence[str | Path], **environment: str) -> None:
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | environment,
        )

    def ask(self, **request: Any) -> dict[str, Any]:
        """The answer to a request.

        Raises
        ------
        Gap
            With what went wrong there, or if the process has ended.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps(request), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            raise Gap("its process has ended: see its messages above")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise Gap(answer["error"])
        return answer

    def end(self) -> None:
        """Close its input, at which it ends, and wait for that."""
        self.process.communicate()


@dataclass(frozen=True, kw_only=True)
class Elsewhere(Side):
    """A side that was built in another process."""

    ask: Callable[..., dict[str, Any]]

    def seconds(self, calls: int) -> float:
        return float(self.ask(do="run", calls=calls)["value"])


class Processes:
    """One process for each library, from its first row on until the end of the block.

    One that has ended by itself is started anew for the next row.
    """

    def __init__(self, options: Options) -> None:
        self.options = json.dumps(asdict(options), default=str)
        self.running: dict[str, Process] = {}

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.running.values():
            process.end()

    def __call__(self, row: Row, library: str) -> Side:
        """The side of a library, built in its process."""
        if library not in self.running or self.running[library].process.poll() is not None:
            # -P: a file of this folder, such as qucumber.py, must not hide a library of its name.
            command = [sys.executable, "-P", "-m", "benchmarks.processes", self.options]
            self.running[library] = Process(command, PYTHONPATH=str(ROOT))
        ask = self.running[library].ask
        built = ask(do="build", row=row.name, library=library)
        figures = {name: partial(figure, ask, name) for name in built.pop("figures")}
        return Elsewhere(run=lambda: None, ask=ask, **figures, **built)


def figure(ask: Callable[..., dict[str, Any]], name: str) -> Any:
    return ask(do=name)["value"]


def serve(options: Options) -> None:
    """Answer until the input ends; what libraries print goes to the messages."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    side = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            match request["do"]:
                case "build":
                    side = None  # frees what was there
                    part = importlib.import_module(f"benchmarks.{request['row'].split('.')[0]}")
                    (row,) = (row for row in part.ROWS if row.name == request["row"])
                    side = row.sides[request["library"]](options)
                    figures = [name for name in ("check", "memory") if getattr(side, name)]
                    told = {
                        name: getattr(side, name) for name in ("parameters", "note", "compiles")
                    }
                    answer = told | {"figures": figures}
                case "run":
                    answer = {"value": side.seconds(request["calls"])}
                case name:
                    answer = {"value": getattr(side, name)()}
        except Exception as error:
            answer = {"error": reason(error)}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    import torch

    given = json.loads(sys.argv[1])
    options = Options(**given | {"data": Path(given["data"]), "jax": Path(given["jax"])})
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    serve(options)
