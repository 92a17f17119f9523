"""Texts."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from likely.core.errors import DataError
from likely.data.readers.csv import DELIMITERS, NUMBER, layout_of
from likely.data.table import Table

LOOKED_AT = 100  # lines that tell whether a file holds a table


def read_text(path: Path, keys: list[str]) -> Table:
    """A running text."""
    content = path.read_text(encoding="utf-8-sig")
    if "\0" in content:
        raise DataError(f"{path}: holds binary data, not text")
    if not content.strip():
        raise DataError(f"{path}: the file has no lines")
    return Table(str(path), content)


def refuse_table(table: Table) -> None:
    """Raise if the lines of a running text are rows of numbers.

    Raises
    ------
    DataError
    """
    assert isinstance(table.values, str)
    lines = [line for line in table.values.split("\n", LOOKED_AT)[:LOOKED_AT] if line.strip()]
    layout = layout_of(lines, DELIMITERS, table.name) if any(map(_is_row, lines)) else None
    if layout is not None and all(map(_is_row, lines[layout.skip :])):
        raise DataError(
            f"{table.name}: its lines are numbers, and a .txt file is read as a running text: rename it to "
            ".csv to read a table, or say window=256 (--window 256) to model its characters"
        )


def _is_row(line: str) -> bool:
    """Whether a line holds nothing but numbers."""
    return all(NUMBER.fullmatch(field) for field in re.split(r"[\s,;|]+", line.strip()))


def into_lines(table: Table) -> Table:
    """A running text as single ones: its lines that are not empty."""
    assert isinstance(table.values, str)
    lines = [line for line in table.values.split("\n") if line.strip()]
    return dataclasses.replace(table, values=lines)
