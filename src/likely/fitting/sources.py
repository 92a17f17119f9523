"""Sources: where the batches of a fit come from."""

from typing import Protocol

from torch import Tensor

from likely.contract.training import Batch
from likely.data import Data

PREPARE_ENTRIES = 1 << 20  # numbers that data-dependent initialisation sees
VALID_ENTRIES = 1 << 19  # numbers that one validation scores
VALID_SEED = 0x5EED  # of the noise in every validation


class Source(Protocol):
    """What the loop asks for."""

    def __len__(self) -> int:
        """Number of training rows."""

    def order(self, seed: int) -> Tensor:
        """The order in which an epoch visits the rows."""

    def batch(self, index: Tensor) -> Batch:
        """Some training rows, whose weights have the mean 1 over all of them."""

    def prepare(self, seed: int) -> Batch:
        """Rows for `GenerativeModel.prepare` and `finish`."""

    def valid(self) -> Batch:
        """Rows that are scored at each validation."""


class DataSource:
    """The rows of a data set, in its splits for training and validation."""

    def __init__(self, data: Data) -> None:
        self.data, weight = data, data.train.weight
        self.unit = 1.0 if weight is None else weight.double().mean().item()

    def __len__(self) -> int:
        return len(self.data.train)

    def order(self, seed: int) -> Tensor:
        return self.data.train.order(seed)

    def batch(self, index: Tensor) -> Batch:
        return self._weighed(self.data.train.rows(index))

    def prepare(self, seed: int) -> Batch:
        batch = self._weighed(self.data.train.subset(PREPARE_ENTRIES, seed))
        if batch.weight is not None:  # scales are those of the rows that count
            batch.weight = batch.weight.clamp_min(0)
        return batch

    def _weighed(self, batch: Batch) -> Batch:
        if batch.weight is not None:
            batch.weight = (batch.weight.double() / self.unit).to(batch.weight)
        return batch

    def valid(self) -> Batch:
        return self.data.valid.subset(VALID_ENTRIES, VALID_SEED)
