"""Calls in several processes, whose results come in order and never pile up."""

from __future__ import annotations

import itertools
import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from likely.core.errors import RunError

_common: tuple[Callable[..., Any], Sequence[Any]]  # of the calls of a process


def in_order(
    function: Callable[..., Any],
    shared: Sequence[Any],
    calls: Iterable[Sequence[Any]],
    processes: int,
) -> Iterator[Any]:
    """What `function(*shared, *call)` gives for each call, in their order.

    `shared` goes to each process once. At most one result more than there are processes waits to be
    taken, and calls are only made when there is room. The processes share the threads of this one.

    Raises
    ------
    RunError
        If a process is killed.
    """
    if processes == 1:
        yield from (function(*shared, *call) for call in calls)
        return
    import cloudpickle
    import torch

    from likely.core.runtime import children_ignore_interrupts

    settings = cloudpickle.dumps((function, shared)), max(1, torch.get_num_threads() // processes)
    spawn = multiprocessing.get_context("spawn")
    waiting: deque[Any] = deque()
    try:
        with ProcessPoolExecutor(processes, spawn, _begin, settings) as pool:
            for call in itertools.chain(calls, [None]):
                if call is not None:
                    with children_ignore_interrupts():  # submitting starts the processes
                        waiting.append(pool.submit(_call, call))
                while len(waiting) > (processes if call is not None else 0):
                    yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise RunError(
            f"processes={processes}: one of them was killed; if memory ran out, take fewer"
        ) from error


def _begin(common: bytes, threads: int) -> None:
    import cloudpickle
    import torch

    global _common  # noqa: PLW0603
    _common = cloudpickle.loads(common)
    torch.set_num_threads(threads)


def _call(call: Sequence[Any]) -> Any:
    function, shared = _common
    return function(*shared, *call)
