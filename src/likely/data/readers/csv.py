"""Tables in text: columns by commas, semicolons, bars, tabs or blanks."""

from __future__ import annotations

import csv
import gzip
import io
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, cast

import pandas as pd
import pyarrow
from pyarrow import csv as arrow_csv

from likely.core.errors import DataError
from likely.data.table import Table, as_values, from_arrow

LOOKED_AT = 200  # lines from which the layout is decided
DELIMITERS = "\t;|, "  # the earlier one where two fit alike; a blank stands for any number of them
BLOCK_BYTES = 1 << 28  # within which a column keeps its type
SEARCHED_BYTES = 1 << 24  # at a time
PART_BYTES = 1 << 26  # of a table that is read in parts
NUMBER = re.compile(
    r"[^\w.,+−-]?\s*[+−-]?(\d[\d.,']*|[.,]\d+)([eEdD][+−-]?\d+)?\s*%?|nan|inf|", re.I
)


Content = Path | bytes  # a file, or what was read of one


@dataclass(frozen=True)
class Layout:
    """How the text of a table is laid out.

    Attributes
    ----------
    delimiter : str
        A blank stands for any number of blanks.
    width : int
        Number of columns.
    names : list of str, optional
        None where there is no header.
    skip : int
        Lines before the rows.
    notes : list of str
    """

    delimiter: str
    width: int
    names: list[str] | None
    skip: int
    notes: list[str]


def read_csv(path: Path, keys: list[str], text: Collection[str | int] = ()) -> Table:
    """A table in text, also compressed by gzip.

    The first lines tell how columns are separated, and what the lines above the rows are: a title,
    comments with `#`, a header, also in the last comment. Without a header, columns go by their
    position. A first column without a name is the index that pandas and R write: it is left out.
    Codes with leading zeros stay text.

    Parameters
    ----------
    path, keys
        As for all readers.
    text : collection of str or int
        Columns, by name or position, that stay as they are written.
    """
    layout = _layout_in(path)
    return _read_rows(path, path, layout, text)


def csv_parts(path: Path, text: Collection[str | int] = ()) -> Iterator[Table]:
    """The same rows, some at a time; a column may have another type in another part."""
    layout = _layout_in(path)
    with opened(path) as file:
        for _ in range(layout.skip):
            file.readline()
        while part := file.read(PART_BYTES):
            part += file.readline()
            while part.count(b'"') % 2 and (line := file.readline()):  # inside of quotes
                part += line
            if part.strip():
                yield _read_rows(path, part, replace(layout, skip=0), text)


def _layout_in(path: Path) -> Layout:
    with opened(path) as file:
        head = b"".join(line for _, line in zip(range(LOOKED_AT), file, strict=False))
    if b"\0" in head:
        raise DataError(f"{path}: holds binary data; save it as text in UTF-8")
    lines = head.decode("utf-8-sig").splitlines(keepends=True)
    return layout_of(lines, "\t" if ".tsv" in path.suffixes else DELIMITERS, str(path))


def _read_rows(path: Path, content: Content, layout: Layout, text: Collection[str | int]) -> Table:
    labels = layout.names or [*map(str, range(layout.width))]
    as_text = [
        labels[key] if isinstance(key, int) and key < len(labels) else str(key) for key in text
    ]
    read = _read_blanks if layout.delimiter == " " else _read_arrow
    frame = read(path, content, layout, labels, as_text)
    if layout.names is None:
        frame = frame.set_axis(range(layout.width), axis=1)
    frame = frame.drop(columns="") if layout.names and layout.names[0] == "" else frame
    return Table(str(path), as_values(frame, str(path)), notes=list(layout.notes))


def layout_of(lines: Sequence[str], delimiters: str, name: str) -> Layout:
    """The layout that the first lines of a table have.

    Raises
    ------
    DataError
        If there is nothing but blank lines and comments.
    """
    start = next((i for i, line in enumerate(lines) if not re.match(r"\s*(#|$)", line)), None)
    if start is None:
        raise DataError(f"{name}: holds no rows")
    body, comments = lines[start:], [line for line in lines[:start] if line.strip()]
    found = [(d, _records(body, d)) for d in delimiters]
    found = [(d, records) for d, records in found if _separates(d, records)]
    delimiter, records = max(
        found, key=lambda it: _fit(it[1]), default=(",", _records(body, ",", single=not found))
    )
    width = _width(records)
    notes, names = [], None
    title = next(i for i, (fields, _) in enumerate(records) if len(fields) == width)
    above, first = records[:title], records[title][0]
    rest = [fields for fields, _ in records[title + 1 :] if len(fields) == width]
    skip = start + (records[title - 1][1] if title else 0)
    if above and len(above[-1][0]) == width - 1 and not _numeric(above[-1][0]):  # as R writes
        names, above = ["", *above[-1][0]], above[:-1]
    elif _is_header(first, rest):
        names, skip = first, start + records[title][1]
        if all(map(str.isdigit, first)) and first != _positions(first):
            notes.append(
                f"the first line, {', '.join(first[:5])}, is taken for the names of columns"
            )
    elif comments:
        said = next(iter(_records([comments[-1].strip().lstrip("#")], delimiter)), ([""], 0))[0]
        names = said if len(said) == width and not _numeric(said) else None
    if above:
        lines_above = above[-1][1]
        notes.append(
            f"{lines_above} lines above the table are left out, such as {above[0][0][0]!r}"
        )
    names = names and [" ".join(field.split()) for field in names]
    return Layout(delimiter, width, names, skip, notes)


def _records(
    lines: Sequence[str], delimiter: str, single: bool = False
) -> list[tuple[list[str], int]]:
    """The fields of each record that is not blank, and how many lines it ends after."""
    if delimiter == " ":
        lines = [line.strip() for line in lines]
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
    records = [([field.strip() for field in row], reader.line_num) for row in reader]
    return [(fields, end) for fields, end in records if any(fields)]


def _width(records: list[tuple[list[str], int]]) -> int:
    """The usual number of fields."""
    return max(Counter(len(fields) for fields, _ in records).items(), key=lambda item: item[::-1])[
        0
    ]


def _separates(delimiter: str, records: list[tuple[list[str], int]]) -> bool:
    """Whether a delimiter makes a table; blanks, which are in texts too, must do so everywhere."""
    width = _width(records)
    same = [len(fields) == width for fields, _ in records]
    if delimiter == " ":
        numbers = [*map(_numeric, [fields for fields, _ in records[1:] or records])]
        return width > 1 and all(same[same.index(True) :]) and sum(numbers) > len(numbers) / 2
    return width > 1 and sum(same) > len(same) / 2


def _fit(records: list[tuple[list[str], int]]) -> float:
    """The part of the records that have the usual width, plus that of fields that are numbers."""
    width = _width(records)
    usual = [fields for fields, _ in records if len(fields) == width]
    fields = [field for fields in usual for field in fields]
    return len(usual) / len(records) + sum(map(bool, map(NUMBER.fullmatch, fields))) / len(fields)


def _numeric(fields: Sequence[str]) -> bool:
    return all(NUMBER.fullmatch(field) for field in fields)


def _positions(fields: Sequence[str]) -> list[str]:
    return [*map(str, range(len(fields)))]


def _is_header(first: list[str], rest: list[list[str]]) -> bool:
    """Whether a line names the columns: it has texts, or whole numbers over others."""
    if not _numeric(first):
        return True
    if first[0] == "" and first[1:] == _positions(first[1:]):  # as pandas writes without names
        return len(first) > 1
    if len(set(first)) < len(first) or not all(map(str.isdigit, first)):
        return False
    whole = all(re.fullmatch(r"-?\d*", field) for fields in rest for field in fields)
    return bool(rest) and (not whole or (first == _positions(first) and len(first) > 3))


def opened(path: Content) -> IO[bytes]:
    """A file, through gzip where its name says so, or what was read of one."""
    if isinstance(path, bytes):
        return io.BufferedReader(cast(Any, io.BytesIO(path)))
    return cast(IO[bytes], gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb"))


def _holds(content: Content, pattern: bytes) -> bool:
    """Whether a pattern of three bytes at most is in a file, which begins as if after a line break."""
    tail = b"\n"
    with opened(content) as file:
        while block := file.read(SEARCHED_BYTES):
            if re.search(pattern, tail + block):
                return True
            tail = block[-2:]  # where a match may begin that ends in the next block
    return False


def _read_blanks(
    path: Path, content: Content, layout: Layout, labels: list[str], text: list[str]
) -> pd.DataFrame:
    return pd.read_csv(
        io.BytesIO(content) if isinstance(content, bytes) else content,
        sep=r"\s+", header=None, names=labels, skiprows=layout.skip, comment="#",
        dtype=dict.fromkeys(text, str), encoding="utf-8-sig",
    )  # fmt: skip


def _read_arrow(
    path: Path, content: Content, layout: Layout, labels: list[str], text: list[str]
) -> pd.DataFrame:
    table = _arrow(path, content, layout, labels, text)
    for name, kind in zip(labels, table.schema.types, strict=True):
        if pyarrow.types.is_binary(kind):
            raise DataError(f"{path}: column {name!r} is not text in UTF-8; save it so")
    whole = [
        name
        for name, kind in zip(labels, table.schema.types, strict=True)
        if pyarrow.types.is_integer(kind)
    ]
    # A search of all bytes takes less time than to read columns again.
    if whole and _holds(content, rb"[,;|\t\"\s]0\d"):
        written = _arrow(path, content, layout, labels, [*text, *whole])
        for position, name in enumerate(labels):
            column = written.column(position)
            if (
                name in whole
                and pyarrow.compute.any(
                    pyarrow.compute.match_substring_regex(column, r"^0\d")
                ).as_py()
            ):
                table = table.set_column(position, name, column)
    return from_arrow(table, str(path))


def _arrow(path: Path, content: Content, layout: Layout, labels: list[str], text: list[str]) -> Any:
    """The rows as Arrow reads them; a column of `text` is not looked at further."""
    comments = 0

    def on_invalid(row: Any) -> str:
        nonlocal comments
        comments += row.text.lstrip().startswith("#")
        return "skip" if row.text.lstrip().startswith("#") else "error"

    with opened(content) as file:
        for _ in range(layout.skip):
            file.readline()
        if not file.peek(1):  # type: ignore[attr-defined]
            raise DataError(f"{path}: the file has a header but no rows")
        try:
            return arrow_csv.read_csv(
                file,
                arrow_csv.ReadOptions(
                    use_threads=False, column_names=labels, block_size=BLOCK_BYTES
                ),
                arrow_csv.ParseOptions(
                    delimiter=layout.delimiter,
                    newlines_in_values=_holds(content, b'"'),  # which takes twice the time
                    invalid_row_handler=on_invalid,
                ),
                arrow_csv.ConvertOptions(
                    strings_can_be_null=True, column_types=dict.fromkeys(text, pyarrow.string())
                ),
            )
        except pyarrow.ArrowInvalid as error:
            ragged = re.search(r"Row #(\d+): Expected (\d+) columns, got (\d+)", str(error))
            if ragged is None:
                raise
            row, expected, found = map(int, ragged.groups())
            raise DataError(
                f"{path} (rows counted from 0): row {row - 1 + comments} has {found} entries where "
                f"{expected} are expected; correct it"
            ) from error
