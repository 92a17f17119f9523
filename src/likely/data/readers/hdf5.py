"""HDF5 files."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from likely.core.errors import DataError
from likely.data.cache import mapped
from likely.data.readers.arrays import by_keys
from likely.data.table import (
    MAPPED_BYTES,
    PART_ENTRIES,
    Table,
    as_values,
)


def read_hdf5(path: Path, keys: list[str]) -> Table:
    """One data set or several, by name; what is large stays in its file, or in a copy."""
    import h5py

    with h5py.File(path) as file:
        present: list[str] = []
        notes: list[str] = []

        def visit(key: str, node: Any) -> None:
            if isinstance(node, h5py.Dataset):
                present.append(key)

        def load(key: str) -> np.ndarray | pd.DataFrame:
            dataset = file[key]
            offset = dataset.id.get_offset()  # None unless it lies in the file in one piece
            large = dataset.nbytes > MAPPED_BYTES
            if large and offset is not None:
                array = np.memmap(path, dataset.dtype, "r", offset, dataset.shape)
            elif large and dataset.dtype.kind in "biuf":
                rows = max(1, PART_ENTRIES * len(dataset) // dataset.size)
                parts = (dataset[at : at + rows] for at in range(0, len(dataset), rows))
                array, note = mapped([path], key, dataset.shape, dataset.dtype, parts)
                notes.append(note)
            else:
                array = dataset[()]
            return as_values(array, f"{path}::{key}")

        frames = [key for key, node in file.items() if "pandas_type" in node.attrs]
        if frames and not any("/" in key for key in keys):
            return _read_store(path, keys, frames)
        file.visititems(visit)
        table = by_keys(path, [key.strip("/") for key in keys], present, load)
        return replace(table, notes=[*table.notes, *notes])


def _read_store(path: Path, keys: list[str], frames: list[str]) -> Table:
    """A frame that pandas wrote, by its key or the only one."""
    key = keys[0] if keys else frames[0] if len(frames) == 1 else None
    if key not in frames:
        raise DataError(
            f"{path}: holds the frames {', '.join(frames)}; name one, as in '{path}::{frames[0]}'"
        )
    try:
        return Table(f"{path}::{key}", as_values(pd.read_hdf(path, key), f"{path}::{key}"))
    except ImportError as error:
        raise DataError(f"{path}: a store of pandas needs PyTables: pip install tables") from error
