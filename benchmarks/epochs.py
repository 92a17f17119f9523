"""Data in the shape of MNIST, and the time that the steps of an epoch take."""

import time
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import torch

import likely as lk


def images(n: int) -> lk.Data:
    """Binary images with 15 % of their pixels lit, in blobs."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(n, 1, 8, 8, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(28, 28), mode="bilinear")
    x = (smooth[:, 0] > 0.7).long()
    few = lk.data.Split(x[:10])  # validation is not what is timed
    return lk.Data(lk.binary(28, 28, layout="image"), lk.data.Split(x), few, few)


def of_steps(owner: Any, method: str, epoch: Callable[[], Any]) -> float:
    """Seconds of the steps of an epoch, in each of which `owner` calls `method` once.

    The time from the first call to the last, scaled from n − 1 steps to n.
    """
    stamps: list[float] = []
    step = getattr(owner, method)

    def stamped(*arguments: Any) -> Any:
        stamps.append(time.perf_counter())
        return step(*arguments)

    with patch.object(owner, method, stamped):
        epoch()
    return (stamps[-1] - stamps[0]) * len(stamps) / (len(stamps) - 1)


def of_fit(model: lk.GenerativeModel, data: lk.Data, batch: int, **options: float) -> float:
    """Seconds of the steps of one epoch of `fit`."""
    return of_steps(model, "loss", lambda: lk.fit(model, data, epochs=1, batch=batch, **options))
