"""Several arrays under one name, as in a dictionary, an `.npz` file or a folder; and `.npy` files."""

import contextlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from likely.core.errors import DataError
from likely.data.table import (
    Table,
    as_frame,
    as_other,
    as_values,
)

SPLIT = re.compile(r"(?:(?P<stem>.+)_)?(?P<split>train|valid|val|validation|test)", re.IGNORECASE)


MAIN = ("", "x", "X", "data")  # what the rows themselves may be called


Load = Callable[[str], np.ndarray | pd.DataFrame]


def assemble(name: str, keys: list[str], load: Load) -> Table:
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
    if len(keys) > 1 and (columns := _as_columns(keys, load)) is not None:
        return Table(name, as_frame(columns, name))
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


def _as_columns(keys: list[str], load: Load) -> dict[str, np.ndarray] | None:
    """Arrays that are all columns: of one number a row, and of one length."""
    columns = {}
    with contextlib.suppress(DataError):
        for key in keys:
            columns[key] = np.asarray(load(key))
            if columns[key].shape != (len(columns[keys[0]]), 1):
                return None
        return columns
    return None


def stacked(name: str, tables: list[Table]) -> Table:
    """The rows of several tables, one below the other.

    Raises
    ------
    DataError
        If they are of different kinds, or have other columns.
    """
    first = tables[0]
    for table in tables[1:]:
        if table.labels != first.labels or type(table.values) is not type(first.values):
            raise DataError(
                f"{table.name}: has other columns than {first.name}; give files of one kind"
            )
    if isinstance(first.values, str):
        raise DataError(f"{name}: several texts; join them in one file")
    arrays = [
        table.values for table in tables if isinstance(table.values, np.ndarray | pd.DataFrame)
    ]
    notes = [note for table in tables for note in table.notes]
    return Table(name, _concatenate(arrays, name), notes=notes)


def centred(images: list[np.ndarray], size: int | None, name: str) -> tuple[np.ndarray, list[str]]:
    """Images (…, height, width) as one array, cut or filled with zeros around their middles; and notes.

    Raises
    ------
    DataError
        If they have several sizes, and none is given.
    """
    shapes = sorted({image.shape[-2:] for image in images})
    notes = []
    if size is not None:
        if min(map(min, shapes)) < size:
            notes.append(f"images of fewer than {size} × {size} pixels are filled with zeros")
        images = [_fitted(image, size) for image in images]
    elif len(shapes) > 1:
        low, high = (f"{height} × {width}" for height, width in (shapes[0], shapes[-1]))
        least = min(map(min, shapes))
        raise DataError(
            f"{name}: {len(images)} images of several sizes, {low} to {high} pixels; bring them to one, cut "
            f"around their middles or filled with zeros, by size= (--size), such as size={least}"
        )
    masked = any(isinstance(image, np.ma.MaskedArray) for image in images)
    return np.ma.stack(images) if masked else np.stack(images), notes


def _fitted(image: np.ndarray, size: int) -> np.ndarray:
    kind = np.ma if isinstance(image, np.ma.MaskedArray) else np
    canvas = kind.zeros((*image.shape[:-2], size, size), image.dtype)
    shared = [min(edge, size) for edge in image.shape[-2:]]
    inner = [slice((size - n) // 2, (size - n) // 2 + n) for n in shared]
    outer = [
        slice((e - n) // 2, (e - n) // 2 + n) for e, n in zip(image.shape[-2:], shared, strict=True)
    ]
    canvas[..., inner[0], inner[1]] = image[..., outer[0], outer[1]]
    return canvas


def from_dataset(dataset: Any) -> Table:
    """The entries of a PyTorch `Dataset`; the second of two is called "label"."""
    from torch.utils.data import default_collate

    if not hasattr(dataset, "__len__"):
        raise DataError("the data: a Dataset without a length; give rows as an array")
    entries = default_collate([dataset[i] for i in range(len(dataset))])
    parts = entries if isinstance(entries, list | tuple) else [entries]
    if len(parts) > 2:
        raise DataError(f"the data: a Dataset of {len(parts)} parts; give rows, or rows and labels")
    others = [as_other(as_values(part, "label"), "label") for part in parts[1:]]
    return Table(
        "the data", as_values(parts[0], "the data"), dict(zip(["label"], others, strict=False))
    )


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


def by_keys(path: Path, keys: list[str], present: list[str], load: Load) -> Table:
    """All arrays of a file or of a group, the one that is named, or several as columns of a table."""
    if not keys:
        return assemble(str(path), [key for key in present if "/" not in key] or present, load)
    prefix = keys[0] + "/"
    group = [key.removeprefix(prefix) for key in present if key.startswith(prefix)]
    if group and len(keys) == 1:
        return assemble(f"{path}::{keys[0]}", group, lambda key: load(prefix + key))
    for key in keys:
        if key not in present:
            raise DataError(f"{path}: has no {key!r}; it holds {', '.join(present)}")
    if len(keys) == 1:
        return Table(f"{path}::{keys[0]}", load(keys[0]))
    columns = {key: np.asarray(load(key)) for key in keys}
    return Table(str(path), as_frame(columns, str(path)))


def read_npy(path: Path, keys: list[str]) -> Table:
    """An array, which stays in its file."""
    return Table(str(path), as_values(np.lib.format.open_memmap(path, mode="r"), str(path)))


def read_npz(path: Path, keys: list[str]) -> Table:
    """One array or several, by name."""
    with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
        present = list(file.files)
        return by_keys(path, keys, present, lambda key: as_values(file[key], f"{path}::{key}"))
