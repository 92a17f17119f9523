"""Tables in the formats of Arrow: Parquet and Feather."""

from __future__ import annotations

from pathlib import Path

from pyarrow import dataset, feather

from likely.data.table import Table, from_arrow


def read_parquet(path: Path, keys: list[str]) -> Table:
    """A table in Parquet: a file, or a folder with its parts, whose folders may name columns."""
    files = [path] if path.is_file() else sorted(path.rglob("*.parquet"))
    table = dataset.dataset(files, format="parquet", partitioning="hive").to_table()
    return Table(str(path), from_arrow(table, str(path)))


def read_feather(path: Path, keys: list[str]) -> Table:
    """A table in Feather, or Arrow's IPC format."""
    return Table(str(path), from_arrow(feather.read_table(path), str(path)))
