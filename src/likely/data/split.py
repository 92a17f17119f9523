"""Which rows each split has."""

import numpy as np

from likely.core.errors import DataError
from likely.data.table import Table

SHARE = 10  # a split that is not given takes one in as many of the training rows …
TEXT_SHARE = 50  # … and the validation split of a running text one in as many characters


def members(
    table: Table, rows: int, size: int, kept: np.ndarray | None, seed: int
) -> dict[str, np.ndarray]:
    """Which of the usable rows each split has: as the source says, or drawn from the training rows."""
    index_of = {"train": np.arange(rows)}
    if isinstance(table.values, str):
        return _stretches(table, len(table.values), size)
    if table.splits:
        ends = np.cumsum(list(table.splits.values()))
        origin = index_of["train"] if kept is None else kept
        part = np.searchsorted(ends, origin, side="right")
        index_of = {split: np.flatnonzero(part == i) for i, split in enumerate(table.splits)}
    lacking = [split for split in ("valid", "test") if split not in index_of]
    if lacking:
        train = np.random.default_rng(seed).permutation(index_of["train"])
        tenth = max(1, len(train) // SHARE)
        for split in lacking:
            index_of[split], train = train[:tenth], train[tenth:]
        index_of["train"] = train
    for split, index in index_of.items():
        if not len(index):
            raise DataError(f"{table.name}: no usable rows for the {split} split")
    return index_of


def _stretches(table: Table, length: int, window: int) -> dict[str, np.ndarray]:
    """Where the windows of a running text start: all that the first part has, then one by one."""
    test, valid = (max(1, length // (share * window)) for share in (SHARE, TEXT_SHARE))
    end = length - test * window
    middle = (end - valid * window) // 2
    if middle < window:
        raise DataError(
            f"{table.name}: {length} characters, too few for windows of {window}; take shorter ones "
            "with window= (--window)"
        )
    after = middle + valid * window
    around = np.arange(middle - window + 1), np.arange(after, end - window + 1)
    return {
        "train": np.concatenate(around),
        "valid": np.arange(middle, after, window),
        "test": np.arange(end, length, window),
    }
