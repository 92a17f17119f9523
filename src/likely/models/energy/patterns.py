"""What associative memories share: rows of the data as patterns."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Shaped
from torch import Tensor

from likely.contract.model import GenerativeModel
from likely.contract.training import Batch
from likely.core.errors import DataError, LikelyError


def first_rows(batches: Iterable[Batch], wanted: int) -> Shaped[Tensor, "n *shape"]:
    """The first rows of weight above zero; all, where there are fewer than wanted."""
    parts: list[Tensor] = []
    for batch in batches:
        x = batch.x if batch.weight is None else batch.x[batch.weight > 0]
        parts.append(x[:wanted])
        wanted -= len(parts[-1])
        if not wanted:
            break
    if not sum(len(part) for part in parts):
        raise DataError("no row has a weight above zero: there is nothing to store")
    return torch.cat(parts)


def check_stored(model: GenerativeModel) -> None:
    """Raise a `LikelyError` unless patterns are stored."""
    if not model.prepared:
        raise LikelyError(f"{type(model).__name__}: nothing is stored yet: call store, or lk.fit")


def check_room(x: Tensor, patterns: Tensor) -> None:
    """Raise a `DataError` if there are more rows than patterns."""
    if len(x) > len(patterns):
        raise DataError(f"{len(x)} rows for {len(patterns)} patterns: build the network with more")
