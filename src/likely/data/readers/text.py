"""Texts."""

import dataclasses
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from likely.core.errors import DataError, LikelyError
from likely.core.words import UNKNOWN, split_words
from likely.data.readers.csv import DELIMITERS, NUMBER, layout_of, opened
from likely.data.table import Table

LOOKED_AT = 100  # lines that tell whether a file holds a table
WINDOW = 256  # characters
VOCABULARY = 10_000  # words

Long = Literal["error", "drop", "cut"]


@dataclasses.dataclass(frozen=True)
class TextOptions:
    """The options of `load_data` that are about texts.

    Raises
    ------
    LikelyError
        If they do not fit together, or one is out of range.
    """

    window: int | None = None
    words: bool = False
    vocabulary: int | None = None
    lowercase: bool = True
    length: int | None = None
    long: Long = "error"

    def __post_init__(self) -> None:
        if self.window is not None and self.window < 0:
            raise LikelyError(f"window={self.window}: give a number of characters, or 0 for lines")
        if self.words and self.window:
            raise LikelyError(
                "words=True (--words): each line is a text of its own; leave window (--window) out"
            )
        if self.vocabulary is not None and not self.words:
            raise LikelyError("vocabulary (--vocabulary) is one of words: add words=True (--words)")
        for name in ("vocabulary", "length"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise LikelyError(f"{name}={value}: give a number from 1 on")
        if self.long not in ("error", "drop", "cut"):
            raise LikelyError(f"long={self.long!r}: take 'error', 'drop' or 'cut'")

    def split(self, line: str) -> Sequence[str]:
        """The characters of a text, or its words and marks."""
        if not self.words:
            return line
        return split_words(line.lower() if self.lowercase else line)

    def alphabet(self, lines: Iterable[Sequence[str]]) -> list[str]:
        """All characters of texts; or what stands for unknown words, and the most frequent ones."""
        if not self.words:
            return sorted(set().union(*lines))
        count = Counter(word for line in lines for word in line)
        del count[UNKNOWN]
        ordered = sorted(count, key=lambda word: (-count[word], word))
        return [UNKNOWN, *ordered[: self.vocabulary or VOCABULARY]]


def read_text(path: Path, keys: list[str]) -> Table:
    """A running text, also compressed by gzip."""
    with opened(path) as file:
        content = file.read().decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
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
