"""Precision of products: where a faster path keeps it."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import torch


@contextlib.contextmanager
def fast_products(device: torch.device) -> Iterator[None]:
    """Let float32 matrix products on a CPU go through oneDNN, where it keeps their precision.

    There they are up to twice as fast on AVX-512; products of a few rows are slower. The setting that
    leads there also allows bfloat16, which CPUs with AMX then take: a trial product tells. On older
    torch, nothing happens.
    """
    products: Any = getattr(torch.backends.mkldnn, "matmul", None)
    before = getattr(products, "fp32_precision", None)
    if device.type != "cpu" or before != "none" or not _onednn_is_exact(products):
        yield
        return
    products.fp32_precision = "bf16"
    try:
        yield
    finally:
        products.fp32_precision = before


@functools.cache
def _onednn_is_exact(products: Any) -> bool:
    # Whatever the defaults are; nothing cancels in its square.
    a = torch.linspace(1, 2, 128 * 128, dtype=torch.float32, device="cpu").view(128, 128)
    products.fp32_precision = "bf16"
    try:
        with torch.autocast("cpu", enabled=False):
            exact = a.double() @ a.double()
            error = (a @ a - exact).abs().max() / exact.abs().max()
    finally:
        products.fp32_precision = "none"
    return error.item() < 1e-5  # 1e-6 in float32, 1e-3 in bfloat16
