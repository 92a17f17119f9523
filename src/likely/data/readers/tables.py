"""Tables in the formats of Arrow: Parquet and Feather."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow
from pyarrow import dataset, feather

from likely.data.cache import mapped
from likely.data.table import MAPPED_BYTES, PART_ENTRIES, Table, from_arrow


def read_parquet(path: Path, keys: list[str]) -> Table:
    """A table in Parquet: a file, or a folder with its parts, whose folders may name columns.

    What is large and has nothing but numbers is mapped from a copy.
    """
    source = _dataset(path)
    shape, dtype = (source.count_rows(), len(source.schema)), _type_of_numbers(source.schema)
    if dtype is not None and math.prod(shape) * dtype.itemsize > MAPPED_BYTES:
        arrays = (
            np.stack([column.to_numpy(zero_copy_only=False) for column in batch.columns], 1)
            for batch in _batches(source)
        )
        values, note = mapped([*map(Path, source.files)], "", shape, dtype, arrays)
        return Table(str(path), values, notes=[note], names=source.schema.names)
    return Table(str(path), from_arrow(source.to_table(), str(path)))


def parquet_parts(path: Path) -> Iterator[Table]:
    """The same rows, some at a time."""
    for batch in _batches(_dataset(path)):
        yield Table(str(path), from_arrow(pyarrow.Table.from_batches([batch]), str(path)))


def _batches(source: dataset.Dataset) -> Iterator[pyarrow.RecordBatch]:
    """All rows, some at a time."""
    rows = max(1, PART_ENTRIES // len(source.schema))
    # Otherwise whole files are read ahead.
    options = dataset.ParquetFragmentScanOptions(use_buffered_stream=True, pre_buffer=False)
    few = {"batch_readahead": 1, "fragment_readahead": 1, "use_threads": False}
    for batch in source.to_batches(batch_size=rows, fragment_scan_options=options, **few):
        if batch.num_rows:
            yield batch


def _type_of_numbers(schema: pyarrow.Schema) -> np.dtype | None:
    """A type for all columns, in which a missing entry is NaN; None if some are no numbers."""
    kinds = pyarrow.types
    if not all(kinds.is_floating(kind) or kinds.is_integer(kind) for kind in schema.types):
        return None
    return np.result_type(np.float32, *(kind.to_pandas_dtype() for kind in schema.types))


def _dataset(path: Path) -> dataset.Dataset:
    files = [path] if path.is_file() else sorted(path.rglob("*.parquet"))
    return dataset.dataset(files, format="parquet", partitioning="hive")


def read_feather(path: Path, keys: list[str]) -> Table:
    """A table in Feather, or Arrow's IPC format."""
    return Table(str(path), from_arrow(feather.read_table(path), str(path)))
