"""Sequences: sampling with the state carried along, against running the prefix again for each symbol.

Both ways draw from the same model.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks.suite import OURS, Options, Row, Side, size

from benchmarks import reference

TITLE = "Sequences"
LENGTH, SYMBOLS = 50, 4
DRAWS = {"rnn": 2000, "transformer": 500, "made": 2000}
SETTINGS: dict[str, dict[str, Any]] = {
    "rnn": {},
    "transformer": {"width": 64, "layers": 2, "heads": 4},
    "made": {},
}


def model(name: str) -> Any:
    import likely as lk

    return lk.make(name, lk.categories(SYMBOLS, LENGTH), seed=0, **SETTINGS[name]).eval()


def carried(name: str, options: Options) -> Side:
    made = model(name)
    return Side(lambda: made.sample(DRAWS[name]), size(made))


def again(name: str, options: Options) -> Side:
    made = model(name)
    draw: Callable[[Any, int], Any] = (
        reference.rerun_made if name == "made" else reference.rerun_sequence
    )
    return Side(lambda: draw(made, DRAWS[name]), size(made))


PREFIX = "running the prefix again"
BOUNDS = {
    "made": "small operations on 2,000 rows: products take 0.25 of the 0.65 ms of a step, and the draw of "
    "a category took 0.15, which it no longer does: see the README"
}
ROWS = [
    Row(
        f"sequences.{name}",
        f"{name}: {DRAWS[name]:,} sequences of {LENGTH} symbols of {SYMBOLS}",
        {OURS: partial(carried, name), PREFIX: partial(again, name)},
        {PREFIX: 10.0},
        bound=BOUNDS.get(name, ""),
    )
    for name in SETTINGS
]
