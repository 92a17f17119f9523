"""Readers: one for each format, from a source to a `Table` of rows that have no domain yet."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
from pyarrow import csv as arrow_csv
from pyarrow import parquet
from torch import Tensor

from likely.core.domain import Domain, integers
from likely.core.errors import DataError
from likely.core.target import Target

MAPPED_BYTES = 1 << 28  # larger arrays stay where they are
TARGET_ROWS = 25_000  # drawn from a Target: 20,000 of them to train

Values = np.ndarray | pd.DataFrame | list[str] | str


@dataclass
class Table:
    """Rows as a reader found them.

    Attributes
    ----------
    name : str
        What to call the source in a message.
    values : ndarray, DataFrame, list of str, or str
        The rows of all splits; single texts are a list, a running text is one.
    others : dict
        Arrays with as many rows, which a context or a weight may name.
    splits : dict of str to int
        Where the source has splits of its own: how many rows each has, in order.
    domain : Domain, optional
        Where the source knows it.
    truth : Target, optional
        The distribution that the rows were drawn from.
    """

    name: str
    values: Values
    others: dict[str, np.ndarray | pd.DataFrame] = field(default_factory=dict)
    splits: dict[str, int] = field(default_factory=dict)
    domain: Domain | None = None
    truth: Target | None = None

    @cached_property
    def labels(self) -> list[str]:
        """What the columns are called: names, or positions in an array of two dimensions."""
        if isinstance(self.values, pd.DataFrame):
            return [str(label) for label in self.values.columns]
        if isinstance(self.values, np.ndarray) and self.values.ndim == 2:
            return [str(position) for position in range(self.values.shape[1])]
        return []

    @property
    def by_position(self) -> bool:
        """Whether columns have no names."""
        return not isinstance(self.values, pd.DataFrame) or all(
            isinstance(label, int) for label in self.values.columns
        )

    def where(self, row: int) -> tuple[str, int]:
        """In which part of the source a row is, for a message, and its number there."""
        part = ""
        for split, rows in self.splits.items():
            part = f", {split}"
            if row < rows:
                break
            row -= rows
        return f"{self.name}{part} (rows counted from 0)", row


def read(source: Any, seed: int = 0) -> Table:
    """Read whatever `load_data` takes.

    Raises
    ------
    DataError
        If the source is missing, empty, damaged, or of an unknown kind.
    """
    from likely.data import builtin

    if isinstance(source, str) and source in builtin.names():
        return builtin.read(source, seed)
    if isinstance(source, str | Path):
        return _read_path(str(source))
    if isinstance(source, Target):
        return from_target(source, seed)
    if isinstance(source, dict):
        return _assemble(
            "the data", list(source), lambda key: as_values(source[key], f"the data, {key}")
        )
    if isinstance(source, list) and source and all(isinstance(line, str) for line in source):
        return Table("the data", source)
    return Table("the data", as_values(source, "the data"))


def from_target(target: Target, seed: int) -> Table:
    """Draws from a target."""
    if target.sample is None:
        raise DataError(f"target {target.name!r} cannot be sampled: give data, or another target")
    draws = target.sample(TARGET_ROWS, seed).numpy(force=True)
    return Table(target.name, draws, domain=target.domain, truth=target)


def as_values(data: Any, name: str) -> np.ndarray | pd.DataFrame:
    """An array or a DataFrame of anything like one, in types that can become numbers.

    A compound type becomes a DataFrame, and so does one column of strings.

    Raises
    ------
    DataError
        If it has no rows, or a type that holds no numbers.
    """
    if isinstance(data, pd.Series):
        data = data.to_frame()
    if isinstance(data, pd.DataFrame):
        if data.empty:
            raise DataError(f"{name}: the table is empty; give at least one row and one column")
        labels = [str(label) for label in data.columns]
        if len(set(labels)) < len(labels):
            twice = next(label for label in labels if labels.count(label) > 1)
            raise DataError(f"{name}: two columns are named {twice!r}; rename one")
        return data
    if isinstance(data, Tensor):
        data = data.float() if data.dtype.is_floating_point and data.itemsize < 4 else data
        data = data.numpy(force=True)
    try:
        array = np.asanyarray(data)
    except ValueError as error:
        raise DataError(f"{name}: not an array ({error}); give rows of equal length") from error
    if array.ndim == 0 and array.dtype.kind == "O":
        raise DataError(
            f"{name}: cannot read a source of type {type(data).__name__}; give a path, an array or a table"
        )
    if array.ndim == 0:
        raise DataError(f"{name}: a single number, not an array of rows")
    if array.size == 0:
        raise DataError(f"{name}: the array is empty, its shape is {array.shape}")
    if array.dtype.names:
        return as_frame({key: array[key] for key in array.dtype.names}, name)
    if array.ndim == 1 and array.dtype.kind in "USO":
        return as_frame({name: array}, name)
    if array.dtype.kind not in "biuf":
        kind = "objects" if array.dtype.kind == "O" else f"type {array.dtype}"
        raise DataError(f"{name}: an array of {kind} cannot be read; give numbers or a DataFrame")
    return array if array.ndim > 1 else array[:, None]


def as_frame(columns: dict[str, np.ndarray], name: str) -> pd.DataFrame:
    """One-dimensional arrays as the columns of a table."""
    frame = {}
    for key, column in columns.items():
        values = column[:, 0] if column.shape[1:] == (1,) else column
        if values.ndim != 1:
            raise DataError(
                f"{name}: {key!r} has shape {values.shape}; the columns of a table are one-dimensional"
            )
        if values.dtype.kind == "S" or (values.dtype.kind == "O" and isinstance(values[0], bytes)):
            values = np.array([text.decode(errors="replace") for text in values], dtype=object)
        frame[key] = values.astype(values.dtype.newbyteorder("="), copy=False)
    lengths = {key: len(values) for key, values in frame.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(f"{name}: the columns have different lengths {lengths}")
    return pd.DataFrame(frame)


def as_other(values: np.ndarray | pd.DataFrame, key: str) -> np.ndarray | pd.DataFrame:
    """What came with the rows under a key: a single column is called by it."""
    return pd.DataFrame(values).set_axis([key], axis=1) if values.shape[1:] == (1,) else values


# Several arrays under one name.

SPLIT = re.compile(r"(?:(?P<stem>.+)_)?(?P<split>train|valid|val|validation|test)", re.IGNORECASE)
MAIN = ("", "x", "X", "data")  # what the rows themselves may be called


Load = Callable[[str], np.ndarray | pd.DataFrame]


def _assemble(name: str, keys: list[str], load: Load) -> Table:
    """A table from named arrays.

    The rows are `train`, `valid` and `test`, or `x_train` …, or the only array, or `x`, `X` or
    `data`. Other arrays that go with them (`y_train` …, or as long as `x`) may be named.
    """
    others: dict[str, np.ndarray | pd.DataFrame] = {}
    found: dict[str, dict[str, str]] = {}
    for key in keys:
        if match := SPLIT.fullmatch(key):
            split = match["split"].lower()
            split = "valid" if split.startswith("val") else split
            found.setdefault(match["stem"] or "", {})[split] = key
    main = next((found.pop(stem) for stem in MAIN if stem in found), None)
    if main is not None:
        if "train" not in main:
            raise DataError(f"{name}: holds {', '.join(keys)}, but no training split")
        splits = {split: load(main[split]) for split in ("train", "valid", "test") if split in main}
        rows: dict[str, int] = {split: len(part) for split, part in splits.items()}
        for stem, group in found.items():
            with contextlib.suppress(DataError, KeyError):
                parts = [load(group[split]) for split in splits]
                if [len(part) for part in parts] == list(rows.values()):
                    others[stem] = as_other(_concatenate(parts, name), stem)
        return Table(name, _concatenate(list(splits.values()), name), others, rows)
    main_key = keys[0] if len(keys) == 1 else next((key for key in MAIN if key in keys), None)
    if main_key is None:
        raise DataError(
            f"{name}: holds {', '.join(keys) or 'no arrays'}; the rows must be called train, valid and "
            "test, or x, X or data; take another array of a file by its name, as in 'file::name'"
        )
    values = load(main_key)
    for key in keys:
        with contextlib.suppress(DataError):
            if key != main_key and len(part := load(key)) == len(values):
                others[key] = as_other(part, key)
    return Table(name, values, others)


def _concatenate(parts: list[np.ndarray | pd.DataFrame], name: str) -> np.ndarray | pd.DataFrame:
    if len(parts) == 1:
        return parts[0]
    frames = [part for part in parts if isinstance(part, pd.DataFrame)]
    if len(frames) == len(parts):
        return pd.concat(frames, ignore_index=True)
    shapes = [part.shape[1:] for part in parts]
    if len(set(shapes)) > 1:
        raise DataError(f"{name}: the splits have rows of different shapes {shapes}")
    return np.concatenate(parts)


# Files.


def _read_path(text: str) -> Table:
    """Read a file or a folder; `file::key` and `file::a,b` name arrays in it."""
    name, _, keys = text.partition("::") if not Path(text).exists() else (text, "", "")
    path = Path(name)
    if not path.exists():
        from likely.data import builtin

        raise DataError(
            f"{name}: there is no such file or folder; built-in data are {', '.join(builtin.names())}"
        )
    if path.is_dir():
        return _images(path)
    read_file = READERS.get(path.suffix.lower())
    if read_file is None:
        raise DataError(
            f"{path}: files of type {path.suffix!r} cannot be read; convert to one of "
            f"{', '.join(READERS)}"
        )
    if keys and read_file not in (_npz, _hdf5):
        raise DataError(
            f"{text}: only .npz and .h5 files hold arrays by name; leave '::{keys}' out"
        )
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty")
    try:
        return read_file(path, [key.strip() for key in keys.split(",")] if keys else [])
    except DataError:
        raise
    except Exception as error:  # whatever a library says of a damaged file
        reason = " ".join(str(error).split()) or type(error).__name__
        if "pickle" in reason or "Python objects" in reason:
            reason = "it holds pickled Python objects, which are never loaded: save numbers"
        raise DataError(
            f"{path}: not a readable {path.suffix} file ({reason}); restore it or convert it again"
        ) from error


def _npy(path: Path, keys: list[str]) -> Table:
    return Table(str(path), as_values(np.lib.format.open_memmap(path, mode="r"), str(path)))


def _npz(path: Path, keys: list[str]) -> Table:
    with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
        present = list(file.files)
        return _by_keys(path, keys, present, lambda key: as_values(file[key], f"{path}::{key}"))


def _hdf5(path: Path, keys: list[str]) -> Table:
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
        return _by_keys(path, [key.strip("/") for key in keys], present, load)


def _by_keys(path: Path, keys: list[str], present: list[str], load: Load) -> Table:
    """All arrays of a file or of a group, the one that is named, or several as columns of a table."""
    if not keys:
        return _assemble(str(path), [key for key in present if "/" not in key] or present, load)
    prefix = keys[0] + "/"
    group = [key.removeprefix(prefix) for key in present if key.startswith(prefix)]
    if group and len(keys) == 1:
        return _assemble(f"{path}::{keys[0]}", group, lambda key: load(prefix + key))
    for key in keys:
        if key not in present:
            raise DataError(f"{path}: has no {key!r}; it holds {', '.join(present)}")
    if len(keys) == 1:
        return Table(f"{path}::{keys[0]}", load(keys[0]))
    columns = {key: np.asarray(load(key)) for key in keys}
    return Table(str(path), as_frame(columns, str(path)))


def _csv(path: Path, keys: list[str]) -> Table:
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


def _parquet(path: Path, keys: list[str]) -> Table:
    return Table(str(path), _from_arrow(parquet.read_table(path), path))


def _from_arrow(table: Any, path: Path) -> pd.DataFrame:
    """A DataFrame in which whole numbers stay whole where entries are missing."""
    if not table.num_rows:
        raise DataError(f"{path}: the file has a header but no rows")

    def nullable(kind: Any) -> Any:
        whole = pyarrow.types.is_integer(kind) or pyarrow.types.is_boolean(kind)
        return pd.ArrowDtype(kind) if whole else None

    return table.to_pandas(types_mapper=nullable)


def _text(path: Path, keys: list[str]) -> Table:
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


READERS: dict[str, Callable[[Path, list[str]], Table]] = {
    ".npy": _npy,
    ".npz": _npz,
    ".csv": _csv,
    ".tsv": _csv,
    ".parquet": _parquet,
    ".h5": _hdf5,
    ".hdf5": _hdf5,
    ".txt": _text,
}

IMAGES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm"}


def _images(folder: Path) -> Table:
    """A folder of images of one size, or subfolders `train`, `valid` and `test` of them."""
    subfolders = [path.name for path in folder.iterdir() if path.is_dir()]
    if any(SPLIT.fullmatch(name) for name in subfolders):
        table = _assemble(str(folder), sorted(subfolders), lambda name: _stack(folder / name))
    else:
        table = Table(str(folder), _stack(folder))
    images = table.values
    assert isinstance(images, np.ndarray)
    if images.dtype == np.uint8:  # however dark they are
        table.domain = integers(256, *images.shape[1:], layout="image")
    return table


def _stack(folder: Path) -> np.ndarray:
    """The images of a folder by name: 8 bits (n, height, width) or (n, 3, height, width), or 1 bit."""
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGES)
    if not paths:
        raise DataError(f"{folder}: holds no images ({', '.join(sorted(IMAGES))})")
    images = [_image(path) for path in paths]
    for path, image in zip(paths, images, strict=True):
        if (image.shape, image.dtype) != (images[0].shape, images[0].dtype):
            raise DataError(
                f"{path}: {_describe(image)}, but {paths[0].name} is {_describe(images[0])}; "
                "all images of a folder must have one size and one mode"
            )
    return np.stack(images)


def _image(path: Path) -> np.ndarray:
    from PIL import Image

    try:
        with Image.open(path) as image:
            if image.has_transparency_data:
                raise DataError(f"{path}: the image has transparent pixels; save it without")
            if image.mode[0] in "IF":
                raise DataError(f"{path}: more than 8 bits a pixel; convert it, or give an array")
            if image.mode not in ("1", "L"):
                return np.asarray(image.convert("RGB")).transpose(2, 0, 1)
            return np.asarray(image)
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{path}: not a readable image ({error}); restore or remove it") from error


def _describe(image: np.ndarray) -> str:
    height, width = image.shape[-2:]
    mode = "colour" if image.ndim == 3 else "black and white" if image.dtype == bool else "grey"
    return f"{width}×{height} {mode}"
