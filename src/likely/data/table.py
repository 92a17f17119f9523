"""Table: rows as a reader found them, which have no domain yet."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
from torch import Tensor

from likely.core.domain import Domain
from likely.core.errors import DataError
from likely.core.target import Target

MAPPED_BYTES = 1 << 28  # larger arrays stay where they are
PART_ENTRIES = 1 << 22  # of a table that is read in parts


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
    left_out : dict of str to str
        Columns that the source has and the table has not: why, and what to do, for a message.
    notes : list of str
        What a user must know about how the source was read: `load_data` warns of it.
    first : int
        Where these are some of the source's rows, the number of the first.
    names : list of str, optional
        Of the columns of an array, where it has some.
    """

    name: str
    values: Values
    others: dict[str, np.ndarray | pd.DataFrame] = field(default_factory=dict)
    splits: dict[str, int] = field(default_factory=dict)
    domain: Domain | None = None
    truth: Target | None = None
    left_out: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    first: int = 0
    names: list[str] | None = None

    @cached_property
    def labels(self) -> list[str]:
        """What the columns are called: names, or positions in an array of two dimensions."""
        if isinstance(self.values, pd.DataFrame):
            return [str(label) for label in self.values.columns]
        if self.names is not None:
            return self.names
        if isinstance(self.values, np.ndarray) and self.values.ndim == 2:
            return [str(position) for position in range(self.values.shape[1])]
        return []

    @property
    def by_position(self) -> bool:
        """Whether columns have no names."""
        return self.names is None and (
            not isinstance(self.values, pd.DataFrame)
            or all(isinstance(label, int) for label in self.values.columns)
        )

    def where(self, row: int) -> tuple[str, int]:
        """In which part of the source a row is, for a message, and its number there."""
        part = ""
        for split, rows in self.splits.items():
            part = f", {split}"
            if row < rows:
                break
            row -= rows
        return f"{self.name}{part} (rows counted from 0)", self.first + row


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
    elif isinstance(data, list) and data and all(isinstance(row, dict) for row in data):
        data = pd.DataFrame(data)
    elif hasattr(data, "__arrow_c_stream__") and not isinstance(data, pd.DataFrame):
        data = from_arrow(pyarrow.table(data), name)
    elif isinstance(data, np.ma.MaskedArray):
        data = np.ma.filled(data.astype(float), np.nan) if data.mask.any() else data.data
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
        return as_frame(spread({key: array[key] for key in array.dtype.names}), name)
    if array.dtype.kind == "u" and array.max() > np.iinfo(np.int64).max:
        raise DataError(
            f"{name}: holds whole numbers beyond 2⁶³, which no tensor holds; rescale them"
        )
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
            values = np.array([_decoded(text) for text in values], dtype=object)
        frame[key] = values.astype(values.dtype.newbyteorder("="), copy=False)
    lengths = {key: len(values) for key, values in frame.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(f"{name}: the columns have different lengths {lengths}")
    return pd.DataFrame(frame)


def _decoded(text: Any) -> Any:
    return text.decode(errors="replace") if isinstance(text, bytes) else text


def spread(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """One-dimensional columns; an array of several numbers a row becomes a column for each of them."""
    found: dict[str, np.ndarray] = {}
    for key, array in columns.items():
        flat = array.reshape(len(array), -1)
        names = [key] if array.ndim == 1 else [f"{key}_{i}" for i in range(flat.shape[1])]
        found |= dict(zip(names, flat.T, strict=True))
    return found


def from_arrow(table: Any, name: str) -> pd.DataFrame:
    """A DataFrame in which whole numbers stay whole where entries are missing.

    Raises
    ------
    DataError
        If there are no rows.
    """
    if not table.num_rows:
        raise DataError(f"{name}: the table has no rows; give at least one")
    table.validate(full=True)  # a damaged file shows here, and not when a column is looked at

    def nullable(kind: Any) -> Any:
        whole = pyarrow.types.is_integer(kind) or pyarrow.types.is_boolean(kind)
        return pd.ArrowDtype(kind) if whole else None

    return table.to_pandas(types_mapper=nullable)


def as_other(values: np.ndarray | pd.DataFrame, key: str) -> np.ndarray | pd.DataFrame:
    """What came with the rows under a key: a single column is called by it."""
    return pd.DataFrame(values).set_axis([key], axis=1) if values.shape[1:] == (1,) else values
