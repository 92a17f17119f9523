"""What associative memories share: rows of the data as patterns."""

from abc import abstractmethod
from collections.abc import Iterable

import torch

from likely.contract import Batch, GenerativeModel, Rows
from likely.contract.inputs import accept_inside
from likely.core.errors import DataError, LikelyError


class AssociativeMemory(GenerativeModel):
    """A model that stores rows as patterns; a subclass writes `_store` and sets `room`."""

    converged = True  # after one pass
    room: int  # for so many patterns

    @abstractmethod
    def _store(self, x: Rows) -> None:
        """Make rows, at most `room`, the patterns."""

    @torch.no_grad()
    def store(self, x: Rows) -> None:
        """Make rows the patterns, in place of what was stored.

        Raises
        ------
        DataError
            If a row lies outside the domain, or there are more rows than `patterns`.
        """
        x = accept_inside(self, x)
        if len(x) > self.room:
            raise DataError(f"{len(x)} rows for {self.room} patterns: build the network with more")
        self.prepare(Batch(x))
        self._store(x)

    @torch.no_grad()
    def epoch(self, batches: Iterable[Batch]) -> dict[str, float]:
        """Store the first rows of weight above zero: that is all the training there is."""
        parts, left = [], self.room
        for batch in batches:
            x = batch.x if batch.weight is None else batch.x[batch.weight > 0]
            parts.append(x[:left])
            left -= len(parts[-1])
            if not left:
                break
        if left == self.room:
            raise DataError("no row has a weight above zero: there is nothing to store")
        self._store(torch.cat(parts))
        return {"stored": float(self.room - left)}

    def _accept_for_recall(self, x: Rows) -> Rows:
        if not self.prepared:
            raise LikelyError("nothing is stored yet: call store, or lk.fit")
        return accept_inside(self, x)
