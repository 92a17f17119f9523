"""Tables in the formats of Arrow: Parquet and Feather."""

from __future__ import annotations

from pathlib import Path

from pyarrow import feather, parquet

from likely.data.table import Table, from_arrow


def read_parquet(path: Path, keys: list[str]) -> Table:
    """A table in Parquet: a file, or a folder with its parts."""
    return Table(str(path), from_arrow(parquet.read_table(path), str(path)))


def read_feather(path: Path, keys: list[str]) -> Table:
    """A table in Feather, or Arrow's IPC format."""
    return Table(str(path), from_arrow(feather.read_table(path), str(path)))
