"""Rows of a split for a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from likely.contract.training import Batch
from likely.core.domain import Domain
from likely.report import form

if TYPE_CHECKING:
    from likely.data.dataset import Split

PICTURE_ENTRIES = 200_000  # numbers in a picture …
PICTURE_ROWS = 10_000  # … in at most this many rows
IMAGES = 36


def rows_in_picture(domain: Domain) -> int:
    """How many rows a picture shows at most."""
    if form(domain) == "images":
        return IMAGES
    return min(PICTURE_ROWS, max(IMAGES, PICTURE_ENTRIES // domain.size))


def draw_rows(split: Split, domain: Domain) -> Batch:
    """Random rows for a picture; where they have weights, drawn in proportion to these."""
    n = min(rows_in_picture(domain), len(split))
    if split.weight is None:
        return split.subset(n * domain.size)
    share = split.weight.double().numpy()
    return split.rows(np.random.default_rng(0).choice(len(split), n, p=share / share.sum()))
