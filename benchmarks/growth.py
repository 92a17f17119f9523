"""How time and memory grow.

Each line is one piece of work at sizes that double. The exponent is the slope of a straight line through the
upper half of its points on logarithmic axes, where overheads no longer matter: 1 is linear. Time is the
least of a few runs; memory is what a run adds to the resident memory at most, where the system tells.

![time and memory against size](growth.png)
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.suite import OURS, Options, Side, reason

from benchmarks import mixtures, peers, reference
from likely.core.runtime import fast_products

TITLE = "Growth"
REPEATS, SHORT = 3, 0.5  # runs; seconds of a run above which one is enough
COLUMNS = 4  # of the picture
LONGEST = 8.0  # seconds of a run, after which a line goes no further


def doubling(low: int, high: int) -> list[int]:
    return [low << i for i in range(int(math.log2(high / low)) + 1)]


def mixture(library: str, n: int, d: int, options: Options) -> Side:
    build = {
        OURS: mixtures.likely,
        "scikit-learn": mixtures.scikit_learn,
        "pomegranate": mixtures.pomegranate,
    }[library]
    return build(n, options, d=d)


def sequence(name: str, length: int, work: str, options: Options) -> Side:
    import likely as lk

    settings = {"width": 64, "layers": 2, "heads": 4} if name == "transformer" else {}
    model = lk.make(name, lk.categories(4, length), seed=0, **settings)
    if work == "sample":
        return Side(lambda: model.eval().sample(64))
    batch = lk.Batch(model.eval().sample(64))
    model.prepare(batch)
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), fused=True)

    def step() -> None:
        with fast_products(batch.x.device):
            reference.descend(optimizer, lambda: model.loss(batch).mean())

    return Side(step)


@dataclass(frozen=True)
class Growth:
    """One picture: lines of the same work against one size."""

    name: str
    work: str
    against: str
    sizes: list[int]
    lines: dict[str, Callable[[int, Options], Side]]

    def measure(self, options: Options) -> dict[str, Any]:
        """Points (size, seconds, bytes) of each line."""
        lines: dict[str, Any] = {}
        gaps: dict[str, str] = {}
        sizes = (
            self.sizes[:2] if options.repeats == 1 else self.sizes
        )  # 1: only to see that it runs
        for name, build in self.lines.items():
            points: list[tuple[int, float, float]] = []
            for n in sizes:
                try:
                    points.append((n, *cost(build(n, options))))
                except Exception as error:
                    gaps[name] = f"at {n:,}: {reason(error)}"
                    break
                if points[-1][1] > LONGEST:
                    break
            lines[name] = points
        return {"lines": lines, "gaps": gaps}


def cost(side: Side) -> tuple[float, float]:
    """Seconds and bytes of one run."""
    from likely.fitting import memory

    side.seconds(1)
    gc.collect()
    with contextlib.suppress(AttributeError, OSError):  # freed memory hides what a run takes
        ctypes.CDLL(None).malloc_trim(0)
    memory.reset_peak()
    before = memory.peak()
    times = [side.seconds(1)]
    added = memory.peak() - before
    while len(times) < REPEATS and times[0] < SHORT:
        times.append(side.seconds(1))
    return min(times), added


def exponent(sizes: list[float], values: list[float]) -> float | None:
    """Slope through the upper half of the points on logarithmic axes."""
    kept = [(n, v) for n, v in zip(sizes, values, strict=True) if v > 0]
    kept = kept[len(kept) // 2 :]
    if len(kept) < 2:
        return None
    n, v = np.log(np.array(kept)).T
    return float(np.polyfit(n, v, 1)[0])


def table(rows: list[Growth], results: dict[str, Any]) -> list[str]:
    """Markdown of the exponents."""
    lines = [
        "| work | against | library | exponent of time | of memory | largest |",
        "|---" * 6 + "|",
    ]
    gaps = []
    for row in rows:
        result = results[row.name]
        gaps += [f"- {row.work}, {name}, {why}" for name, why in result["gaps"].items()]
        for name, points in result["lines"].items():
            if len(points) < 2:
                continue
            n, times, memory = zip(*points, strict=True)
            slopes = [exponent(n, values) for values in (times, memory)]
            said = ["" if slope is None else f"{slope:.2f}" for slope in slopes]
            lines.append(
                f"| {row.work} | {row.against} | {name} | {said[0]} | {said[1]} | "
                f"{n[-1]:,}: {times[-1]:.3g} s, {memory[-1] / 2**20:.0f} MiB |"
            )
    return [*lines, *(["", "Gaps:", "", *gaps] if gaps else [])]


def draw(rows: list[Growth], results: dict[str, Any], folder: Path) -> None:
    """`growth.png`: time above, memory below."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    bands = math.ceil(len(rows) / COLUMNS)
    figure = Figure((2.9 * COLUMNS, 4.8 * bands), layout="constrained")
    axes = figure.subplots(2 * bands, COLUMNS)
    columns = axes.reshape(bands, 2, COLUMNS).swapaxes(1, 2).reshape(-1, 2)
    for axis in columns[len(rows) :].flatten():
        axis.remove()
    for row, column in zip(rows, columns, strict=False):
        for name, points in results[row.name]["lines"].items():
            for axis, k, factor in zip(column, (1, 2), (1, 2**-20), strict=True):
                shown = [(p[0], p[k] * factor) for p in points if p[k] > 0]
                if shown:
                    axis.loglog(*zip(*shown, strict=True), "o-", ms=3, label=name)
        for axis in column:
            axis.set_xscale("log", base=2)
            axis.yaxis.set_minor_formatter(NullFormatter())
        column[0].set_title(row.work, fontsize=9)
        column[0].set_ylabel("time (s)")
        column[1].set_ylabel("memory (MiB)")
        column[1].set_xlabel(row.against)
        column[0].legend(fontsize=7)
    figure.savefig(folder / "growth.png", dpi=110)


def flows(kind: str, work: str, vary: str) -> dict[str, Callable[[int, Options], Side]]:
    def line(library: str) -> Callable[[int, Options], Side]:
        def build(n: int, options: Options) -> Side:
            d, rows = (n, 512) if vary == "d" else (16, n)
            return peers.flow_side(library, kind, d, work, rows, options)

        return build

    return {library: line(library) for library in (OURS, "zuko")}


MIXTURES = (OURS, "scikit-learn", "pomegranate")
ROWS = [
    Growth(
        "growth.em-n",
        "EM iteration, d = 16",
        "rows",
        doubling(1 << 13, 1 << 19),
        {name: lambda n, o, name=name: mixture(name, n, 16, o) for name in MIXTURES},
    ),
    Growth(
        "growth.em-d",
        "EM iteration, 32,768 rows",
        "columns",
        doubling(4, 128),
        {name: lambda d, o, name=name: mixture(name, 1 << 15, d, o) for name in MIXTURES},
    ),
    Growth(
        "growth.nsf-train-d",
        "NSF training step",
        "columns",
        doubling(8, 256),
        flows("nsf", "train", "d"),
    ),
    Growth(
        "growth.nsf-sample-d",
        "NSF sampling, 512 rows",
        "columns",
        doubling(8, 256),
        flows("nsf", "sample", "d"),
    ),
    Growth(
        "growth.maf-train-batch",
        "MAF training step, d = 16",
        "batch",
        doubling(128, 32768),
        flows("maf", "train", "rows"),
    ),
    Growth(
        "growth.sequence-train",
        "training step, 64 sequences",
        "length",
        doubling(16, 512),
        {
            name: lambda t, o, name=name: sequence(name, t, "train", o)
            for name in ("rnn", "transformer")
        },
    ),
    Growth(
        "growth.sequence-sample",
        "sampling 64 sequences",
        "length",
        doubling(16, 512),
        {
            name: lambda t, o, name=name: sequence(name, t, "sample", o)
            for name in ("rnn", "transformer")
        },
    ),
]
