"""Training by passes over the data: EM, storage of patterns."""

import math
from collections.abc import Iterator
from typing import cast

from likely.contract.abilities import FitsByEpochs
from likely.contract.training import Batch
from likely.fitting.loop import Loop


class Passes(Loop):
    """Advances by a pass over all rows, for models that have an `epoch`."""

    @property
    def batches_per_epoch(self) -> int:
        return math.ceil(len(self.source) / self.plan.batch)

    def total(self) -> int | None:
        if self.plan.steps is not None:
            return math.ceil(self.plan.steps / self.batches_per_epoch)
        return self.plan.epochs

    def advance(self) -> None:
        model = cast(FitsByEpochs, self.model)
        for name, value in model.epoch(self._counted()).items():
            self.note(name, value)
        self.state.stopped = model.converged

    def _counted(self) -> Iterator[Batch]:
        history = self.state.history
        left = math.inf if self.plan.steps is None else self.plan.steps - history.steps
        for i, batch in enumerate(self.batches(self.state.advances)):
            if i >= left:
                return
            yield batch
            history.steps += 1
            history.rows_seen += len(batch)
