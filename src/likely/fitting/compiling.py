"""torch.compile for the losses of a fit, with what it costs and gains."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import replace
from statistics import median

import torch

from likely.contract.training import Objective
from likely.core.runtime import compiled, refuse_uncompilable
from likely.fitting.history import History

PLAIN = 20  # steps before, for comparison
WARM_UP = 10  # compiled steps, which include the compiling
TIMED = 20  # steps after these


class Compilation:
    """The losses of objectives, compiled after the first steps of a fit.

    It counts steps, not seconds, so that a seed gives the same weights each time.

    Parameters
    ----------
    objectives : list of Objective
        Replaced in place.

    Attributes
    ----------
    done : bool
        Whether the compiled losses have been timed.
    """

    def __init__(self, objectives: list[Objective]) -> None:
        self.objectives = objectives
        self.seconds: list[float] = []  # of each step, since the start or the compilation
        self.on = self.done = False

    @contextlib.contextmanager
    def step(self, history: History) -> Iterator[None]:
        """Around each step; writes `history.compiled`."""
        if not self.on and history.steps >= PLAIN:
            self._compile(history)
        started = time.perf_counter()
        with refuse_uncompilable("loss"):
            yield
        if self.done:
            return
        self.seconds.append(time.perf_counter() - started)
        if self.on and len(self.seconds) == WARM_UP + TIMED:
            usual = median(self.seconds[WARM_UP:])
            cost = sum(self.seconds[:WARM_UP]) - WARM_UP * usual
            history.compiled = {**(history.compiled or {}), "cost": cost, "compiled": usual}
            self.done = True

    def _compile(self, history: History) -> None:
        if len(self.seconds) > PLAIN // 2:  # fewer after a checkpoint
            history.compiled = {"plain": median(self.seconds[PLAIN // 2 :])}
        torch.compiler.reset()  # there is a limit for all models of a process together
        self.objectives[:] = [replace(o, loss=compiled(o.loss)) for o in self.objectives]
        self.seconds, self.on = [], True
