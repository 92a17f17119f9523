"""Tables in the formats of Arrow: Parquet and Feather."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow
from pyarrow import dataset, feather

from likely.data.table import PART_ENTRIES, Table, from_arrow


def read_parquet(path: Path, keys: list[str]) -> Table:
    """A table in Parquet: a file, or a folder with its parts, whose folders may name columns."""
    return Table(str(path), from_arrow(_dataset(path).to_table(), str(path)))


def parquet_parts(path: Path) -> Iterator[Table]:
    """The same rows, some at a time."""
    source = _dataset(path)
    rows = max(1, PART_ENTRIES // len(source.schema))
    # Otherwise whole files are read ahead.
    options = dataset.ParquetFragmentScanOptions(use_buffered_stream=True, pre_buffer=False)
    few = {"batch_readahead": 1, "fragment_readahead": 1, "use_threads": False}
    for batch in source.to_batches(batch_size=rows, fragment_scan_options=options, **few):
        if batch.num_rows:
            yield Table(str(path), from_arrow(pyarrow.Table.from_batches([batch]), str(path)))


def _dataset(path: Path) -> dataset.Dataset:
    files = [path] if path.is_file() else sorted(path.rglob("*.parquet"))
    return dataset.dataset(files, format="parquet", partitioning="hive")


def read_feather(path: Path, keys: list[str]) -> Table:
    """A table in Feather, or Arrow's IPC format."""
    return Table(str(path), from_arrow(feather.read_table(path), str(path)))
