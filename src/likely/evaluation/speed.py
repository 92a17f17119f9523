"""How fast a function works."""

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor

from likely.core.likelihood import Figure


def throughput(work: Callable[[], Tensor], rows: int, seconds: float = 0.3) -> Figure:
    """Rows a second of a function that works on `rows` rows, after one call to warm up.

    Calls it until the time is up; a first call that takes ten times as long already counts.
    Its result is moved to the CPU, so that an accelerator has finished when the clock stops.
    """

    def timed() -> float:
        start = time.perf_counter()
        work().cpu()
        return time.perf_counter() - start

    first = timed()
    times = [first] if first > 10 * seconds else []
    while not times or (sum(times) < seconds and len(times) < 50):
        times.append(timed())
    rates = [rows / taken for taken in times]
    rate = torch.tensor(rates, dtype=torch.float64)
    stderr = rate.std().item() / math.sqrt(len(rates)) if len(rates) > 1 else math.nan
    return Figure(rate.mean().item(), stderr)
