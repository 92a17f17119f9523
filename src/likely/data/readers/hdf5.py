"""HDF5 files."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from likely.data.readers.arrays import by_keys
from likely.data.table import (
    MAPPED_BYTES,
    Table,
    as_values,
)


def read_hdf5(path: Path, keys: list[str]) -> Table:
    """One data set or several, by name; what is large stays in its file."""
    import h5py

    with h5py.File(path) as file:
        present: list[str] = []

        def visit(key: str, node: Any) -> None:
            if isinstance(node, h5py.Dataset):
                present.append(key)

        def load(key: str) -> np.ndarray | pd.DataFrame:
            dataset = file[key]
            offset = dataset.id.get_offset()  # None unless it lies in the file in one piece
            if offset is not None and dataset.nbytes > MAPPED_BYTES:
                array = np.memmap(path, dataset.dtype, "r", offset, dataset.shape)
            else:
                array = dataset[()]
            return as_values(array, f"{path}::{key}")

        file.visititems(visit)
        return by_keys(path, [key.strip("/") for key in keys], present, load)
