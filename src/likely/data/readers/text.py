"""Texts."""

import dataclasses
from pathlib import Path

from likely.core.errors import DataError
from likely.data.table import (
    Table,
)


def read_text(path: Path, keys: list[str]) -> Table:
    """A running text."""
    content = path.read_text(encoding="utf-8-sig")
    if "\0" in content:
        raise DataError(f"{path}: holds binary data, not text")
    if not content.strip():
        raise DataError(f"{path}: the file has no lines")
    return Table(str(path), content)


def into_lines(table: Table) -> Table:
    """A running text as single ones: its lines that are not empty."""
    assert isinstance(table.values, str)
    lines = [line for line in table.values.split("\n") if line.strip()]
    return dataclasses.replace(table, values=lines)
