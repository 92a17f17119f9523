"""Progress bars: whoever works through something long calls `track`; it shows inside of `shown` only."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from contextvars import ContextVar
from typing import Any, TypeVar

_bars: ContextVar[Any] = ContextVar("bars", default=None)

T = TypeVar("T")


def make_bars(*more: str, transient: bool = False) -> Any:
    """Bars of rich on the standard error: title, part done, time spent and left, and more columns."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    times = TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn()
    console = Console(stderr=True)
    figures = map(TextColumn, more)
    return Progress(*columns, *times, *figures, console=console, transient=transient)


@contextlib.contextmanager
def shown(title: str, wanted: bool = True) -> Iterator[None]:
    """Show how far what is tracked inside has come, if that is wanted and there is a terminal."""
    if not wanted or _bars.get() is not None:  # what shows the bars further out shows these too
        yield
        return
    bars = make_bars(transient=True)
    if not bars.console.is_terminal and not bars.console.is_jupyter:
        yield
        return
    bars.add_task(title, total=None)
    token = _bars.set(bars)
    try:
        with bars:
            yield
    finally:
        _bars.reset(token)


def track(items: Collection[T], title: str) -> Iterator[T]:
    """The items, with a bar of their own where there are several."""
    bars = _bars.get()
    if bars is None or len(items) < 2:
        yield from items
        return
    task = bars.add_task(title, total=len(items))
    try:
        for item in items:
            yield item
            bars.advance(task)
    finally:
        bars.remove_task(task)
