"""How fast a function works."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor

from likely.core.likelihood import Figure


def throughput(work: Callable[[], Tensor], rows: int, seconds: float = 0.3) -> Figure:
    """Rows a second of a function that works on `rows` rows, after one call to warm up.

    Calls it until the time is up, at least once. Its result is moved to the CPU, so that an
    accelerator has finished when the clock stops.
    """
    work().cpu()
    rates: list[float] = []
    spent = 0.0
    while not rates or (spent < seconds and len(rates) < 50):
        start = time.perf_counter()
        work().cpu()
        taken = time.perf_counter() - start
        spent += taken
        rates.append(rows / taken)
    rate = torch.tensor(rates, dtype=torch.float64)
    stderr = rate.std().item() / math.sqrt(len(rates)) if len(rates) > 1 else math.nan
    return Figure(rate.mean().item(), stderr)
