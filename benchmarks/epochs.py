"""Data in the shape of MNIST, and the time that an epoch of `fit` takes."""

import time

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


def of_fit(model: lk.GenerativeModel, data: lk.Data, batch: int, **options: float) -> float:
    """Seconds of the steps of one epoch, without what comes before and after them."""
    stamps: list[float] = []
    loss = model.loss

    def stamped(rows: lk.Batch) -> torch.Tensor:
        stamps.append(time.perf_counter())
        return loss(rows)

    model.loss = stamped
    lk.fit(model, data, epochs=1, batch=batch, **options)
    return (stamps[-1] - stamps[0]) * len(stamps) / (len(stamps) - 1)
