"""What a row of the suite is, and how it is timed."""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

OURS = "likely"
LEAST = 0.1  # seconds that one timing takes at least: shorter work is repeated in it
FEWEST, MOST = 5, 21  # rounds
LONG = 5.0  # seconds of a first call, after which a second one before the rounds is left out
LONG_ROUNDS = 3  # of rows that say that they are long


@dataclass(frozen=True)
class Options:
    """What the command asks for."""

    threads: int
    data: Path
    jax: Path
    repeats: int | None = None  # rounds; None: as many as fit into `seconds`, within the bounds
    seconds: float = 10.0  # of a row, without its warm-up
    minutes: float = 1.0  # of training, where quality is compared at equal time


@dataclass(frozen=True)
class Side:
    """One library's way to do the work of a row.

    Attributes
    ----------
    run : callable
        Does the work once. If `own_clock`, it returns the seconds that count.
    parameters : int, optional
    check : callable, optional
        A number that both sides must agree on, within the row's tolerance.
    memory : callable, optional
        Bytes that the work took, asked for after a run.
    note : str
        What differs from ours.
    compiles : bool
        Whether the first call compiles: its time is then stated.
    """

    run: Callable[[], Any]
    parameters: int | None = None
    check: Callable[[], float] | None = None
    memory: Callable[[], int] | None = None
    note: str = ""
    own_clock: bool = False
    compiles: bool = False

    def seconds(self, calls: int) -> float:
        """Seconds of one call, as a mean over several."""
        own, start = 0.0, time.perf_counter()
        for _ in range(calls):
            result = self.run()
            if self.own_clock:
                own += result
        return (own if self.own_clock else time.perf_counter() - start) / calls


@dataclass(frozen=True)
class Row:
    """The same work by several libraries; the first side is ours.

    Attributes
    ----------
    name : str
        part.row
    work : str
        What is done, for the tables.
    sides : dict
        By library, a function that prepares the work.
    goals : dict
        The least ratio that should hold, by library; of those with the same, the fastest counts.
    tolerance : float
        Of the checks, relative.
    bound : str
        What bounds our side.
    long : bool
        Whether it takes so long that a warm-up tells nothing: three rounds, and nothing before.
    """

    name: str
    work: str
    sides: dict[str, Callable[[Options], Side]]
    goals: dict[str, float] = field(default_factory=dict)
    tolerance: float = 1e-2
    bound: str = ""
    long: bool = False

    def measure(
        self, options: Options, prepare: Callable[[Row, str], Side] | None = None
    ) -> dict[str, Any]:
        """Times, their ratios and what else the table shows, JSON-able.

        `prepare` makes the side of a library; by default it is in this process.
        """
        built: dict[str, Side] = {}
        warm: dict[str, float] = {}
        result: dict[str, Any] = {"work": self.work, "sides": {}, "gaps": {}}
        for name, build in self.sides.items():
            try:
                side = prepare(self, name) if prepare else build(options)
                first = math.inf if self.long else side.seconds(1)
                again = side.compiles or first <= LONG
                warm[name] = side.seconds(1) if again else first
            except Exception as error:
                result["gaps"][name] = reason(error)
                if name == OURS:
                    return result
                continue
            built[name] = side
            result["sides"][name] = {
                "parameters": side.parameters,
                "note": side.note,
                "compilation": first - warm[name] if side.compiles else None,
            }
        calls = {name: max(1, math.ceil(LEAST / max(s, 1e-6))) for name, s in warm.items()}
        times: dict[str, list[float]] = {name: [] for name in built}
        rounds = LONG_ROUNDS if self.long else how_often(warm, calls, options.seconds)
        for _ in range(options.repeats or rounds):
            for name, side in list(built.items()):
                try:
                    times[name].append(side.seconds(calls[name]))
                except Exception as error:
                    result["gaps"][name] = reason(error)
                    del built[name], result["sides"][name]
        if OURS not in built:
            return result | {"sides": {}}
        for name, side in built.items():
            entry = result["sides"][name]
            entry["times"] = times[name]
            entry["ratio"] = quartiles(
                [b / a for a, b in zip(times[OURS], times[name], strict=True)]
            )
            entry["check"] = entry["memory"] = None
            try:
                entry["check"] = side.check() if side.check else None
                entry["memory"] = side.memory() if side.memory else None
            except Exception as error:
                result["gaps"][name] = f"its result: {reason(error)}"
        gc.collect()
        return result


def how_often(warm: dict[str, float], calls: dict[str, int], budget: float) -> int:
    """How often A B A B fits into the budget, within the bounds."""
    once = sum(warm[name] * calls[name] for name in warm)
    return min(MOST, max(FEWEST, int(budget / once)))


def quartiles(values: list[float]) -> list[float]:
    """Lower quartile, median and upper quartile."""
    return np.quantile(values, [0.25, 0.5, 0.75]).tolist()


class Gap(Exception):
    """Why a figure is missing, in words for the table."""


def reason(error: Exception) -> str:
    """Why there is a gap, in a line."""
    if isinstance(error, Gap):
        return str(error)
    if isinstance(error, ModuleNotFoundError):
        return f"{error.name} cannot be imported"
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:160]}" if lines else type(error).__name__


def size(module: Any) -> int:
    """Number of trained parameters of a module."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


# The table of a part.


def table(rows: list[Row], results: dict[str, Any]) -> list[str]:
    """Markdown: a line for each peer of each row, then what is missing and what bounds us."""
    lines = [
        "| work | likely | against | its time | ratio (quartiles) | rounds | goal "
        "| parameters: likely / it |",
        "|---" * 8 + "|",
    ]
    notes, gaps = [], []
    for row in rows:
        result = results[row.name]
        gaps += [f"{row.work}, {peer}: {why}" for peer, why in result["gaps"].items()]
        sides = dict(result["sides"])
        if OURS not in sides:
            continue
        ours = sides.pop(OURS)
        for peer, theirs in sorted(sides.items(), key=lambda item: item[1]["ratio"][1]):
            low, middle, high = theirs["ratio"]
            goal = row.goals.get(peer)
            said = "" if goal is None else f"{goal:g}{'' if middle >= goal else ' **missed**'}"
            lines.append(
                f"| {row.work} | {duration(ours)} | {peer} | {duration(theirs)} | "
                f"**{middle:.2f}** ({low:.2f} to {high:.2f}) | {len(theirs['times'])} | {said} | "
                f"{counts(ours, theirs)} |"
            )
            notes += _notes(row, peer, ours, theirs)
        if row.bound:
            notes.append(f"{row.work}: {row.bound}")
    for title, entries in (("Notes", notes), ("Gaps", gaps)):
        if entries:
            lines += ["", f"{title}:", "", *[f"- {entry}" for entry in dict.fromkeys(entries)]]
    return lines


def _notes(row: Row, peer: str, ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    notes = [f"{peer}: {theirs['note']}"] if theirs["note"] else []
    notes += [f"likely: {ours['note']}"] if ours["note"] else []
    numbers = {ours["parameters"], theirs["parameters"]}
    if not notes and None not in numbers and len(numbers) == 2:
        notes.append(f"{row.work}, {peer}: the numbers of parameters differ")
    for name, side in (("likely", ours), (peer, theirs)):
        if side["compilation"] is not None:
            notes.append(f"{row.work}, {name}: compilation took {side['compilation']:.1f} s")
    if ours["check"] is not None and theirs["check"] is not None:
        a, b = ours["check"], theirs["check"]
        agree = abs(a - b) <= row.tolerance * max(abs(a), abs(b))
        notes.append(
            f"{row.work}, {peer}: {'the same' if agree else '**not the same**'} result, "
            f"{a:.6g} (likely) and {b:.6g}"
        )
    return notes


def duration(side: dict[str, Any]) -> str:
    """Median time with its unit, and the memory where it was measured."""
    value = statistics.median(side["times"])
    factor, unit = next(
        (f, u) for f, u in ((1e6, "µs"), (1e3, "ms"), (1, "s")) if value * f < 1000 or u == "s"
    )
    memory = "" if side["memory"] is None else f", {side['memory'] / 2**20:.0f} MiB"
    return f"{value * factor:.3g} {unit}{memory}"


def counts(ours: dict[str, Any], theirs: dict[str, Any]) -> str:
    """Numbers of parameters of both."""
    pair = ours["parameters"], theirs["parameters"]
    return "" if None in pair else " / ".join(f"{n:,}" for n in pair)
