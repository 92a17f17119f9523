"""Tables: comma-separated text and Parquet."""

import csv
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow
from pyarrow import csv as arrow_csv
from pyarrow import parquet

from likely.core.errors import DataError
from likely.data.table import (
    Table,
    as_values,
)


def read_csv(path: Path, keys: list[str]) -> Table:
    """Comma-separated text (or by semicolons or tabs), with or without a header.

    Without a header, that is when everything in the first line reads as a number or is missing,
    columns go by their position. A first column without a name is the index that pandas writes: it
    is left out.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        line = next((line for line in file if line.strip()), "")
    if "\0" in line:
        raise DataError(f"{path}: holds binary data; save it as text in UTF-8")
    delimiter = "\t" if path.suffix.lower() == ".tsv" else max(",;\t", key=line.count)
    first = [name.strip() for name in next(csv.reader([line], delimiter=delimiter), [])]
    numbered = ["", *map(str, range(len(first) - 1))]  # as pandas writes columns without names
    header = first == numbered or not all(not name or _reads_as_number(name) for name in first)
    try:
        table = arrow_csv.read_csv(
            path,
            arrow_csv.ReadOptions(use_threads=False, autogenerate_column_names=not header),
            arrow_csv.ParseOptions(delimiter=delimiter),
            arrow_csv.ConvertOptions(strings_can_be_null=True),
        )
    except pyarrow.ArrowInvalid as error:
        ragged = re.search(r"Row #(\d+): Expected (\d+) columns, got (\d+)", str(error))
        if ragged is None:
            raise
        row, expected, found = map(int, ragged.groups())
        raise DataError(
            f"{path} (rows counted from 0): row {row - 1 - header} has {found} entries where {expected} "
            "are expected; correct it"
        ) from error
    for name, kind in zip(first, table.schema.types, strict=True):
        if pyarrow.types.is_binary(kind):
            raise DataError(f"{path}: column {name!r} is not text in UTF-8; save it so")
    frame = _from_arrow(table, path)
    frame = frame.set_axis(first if header else range(len(first)), axis=1)
    frame = frame.drop(columns="") if header and first[0] == "" else frame
    return Table(str(path), as_values(frame, str(path)))


def _reads_as_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def read_parquet(path: Path, keys: list[str]) -> Table:
    """A table in Parquet."""
    return Table(str(path), _from_arrow(parquet.read_table(path), path))


def _from_arrow(table: Any, path: Path) -> pd.DataFrame:
    """A DataFrame in which whole numbers stay whole where entries are missing."""
    if not table.num_rows:
        raise DataError(f"{path}: the file has a header but no rows")

    def nullable(kind: Any) -> Any:
        whole = pyarrow.types.is_integer(kind) or pyarrow.types.is_boolean(kind)
        return pd.ArrowDtype(kind) if whole else None

    return table.to_pandas(types_mapper=nullable)
