"""inspect: what a source holds, each column looked at alone, and how to load it."""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from likely.contract.registry import taking
from likely.core.columns import Categorical, Column, Date, Integer, Real
from likely.core.errors import LikelyError
from likely.core.inference import INTEGER_LEVELS, infer_domain
from likely.data import check
from likely.data.dataset import Data, Rows
from likely.data.encode import encode_column, too_many
from likely.data.load import read_table, split_table
from likely.data.table import Table

DECADES = 100  # from the least to the greatest of numbers that are best seen as logarithms
MOST = 0.5  # a column that is missing in a larger part of the rows is left out
ANGLE = re.compile(r".*(phi|theta|psi|angle|azimuth).*", re.IGNORECASE)
WEIGHT = re.compile(r"(w|wt|weights?|.*_weights?)", re.IGNORECASE)


@dataclass
class ColumnReport:
    """What one column holds.

    Attributes
    ----------
    name : str
    kind : str, optional
        As it is inferred; None where it cannot be read.
    missing : int
        Entries that are missing or infinite.
    distinct : int, optional
        Number of different values; of a large array, in a sample.
    low, high : float, optional
        The least and the greatest number.
    remark : str
        What a user must know, or why the column is left out.
    used : bool
        Whether the proposed options take the column …
    declared : str, optional
        … and as what, where not as inferred.
    suggested : str, optional
        A kind that only its user can tell: the period of an angle.
    """

    name: str
    kind: str | None = None
    missing: int = 0
    distinct: int | None = None
    low: float | None = None
    high: float | None = None
    remark: str = ""
    used: bool = True
    declared: str | None = None
    suggested: str | None = None

    def leave_out(self, why: str) -> None:
        """Note why the proposed options do without the column."""
        self.used, self.declared, self.suggested = False, None, None
        self.remark = f"left out: {why}"


@dataclass
class Inspection:
    """What a source holds.

    Attributes
    ----------
    name : str
        Of the source.
    rows : int
    shape : tuple of int
        Of one row.
    columns : list of ColumnReport
        Where rows have columns; a single one, "entries", for images and other arrays.
    labels : list of str
        What the columns are called, those that are left out too.
    others : list of str
        Other arrays of the source, which a context or a weight may name.
    options : dict
        With which `load_data` reads what can be read …
    data : Data, optional
        … and what it then gives.
    warnings : list of str
        Its warnings, or why nothing can be read.
    """

    name: str
    rows: int
    shape: tuple[int, ...]
    columns: list[ColumnReport]
    labels: list[str]
    others: list[str]
    options: dict[str, Any]
    data: Data | None
    warnings: list[str]

    @property
    def models(self) -> list[str]:
        """Names of the models that take the data, read so."""
        return [] if self.data is None else taking(self.data.domain)

    def to_json(self) -> dict[str, Any]:
        """JSON-able."""
        splits = {}
        if self.data is not None:
            names = ("train", "valid", "test")
            splits = {name: len(getattr(self.data, name)) for name in names}
        return {
            "source": self.name,
            "rows": self.rows,
            "shape": list(self.shape),
            "columns": [dataclasses.asdict(column) for column in self.columns],
            "others": self.others,
            "options": self.options,
            "splits": splits,
            "warnings": self.warnings,
            "models": self.models,
        }


def inspect(source: Any, *, size: int | None = None) -> Inspection:
    """Look through a source: each column for itself, so that one that cannot be read hides no other.

    Parameters
    ----------
    source : path, array, DataFrame, name, or what else `load_data` takes
    size : int, optional
        Of FITS images, as in `load_data`.

    Returns
    -------
    Inspection
        Names of rows, lists, times of day and what else no model takes are left out of its `options`.

    Raises
    ------
    DataError
        If the source as a whole cannot be read.

    Examples
    --------
    >>> import likely as lk
    >>> found = lk.data.inspect({"run": range(18), "day": ["2024-05-01", "2024-05-02"] * 9})
    >>> found.options
    {'columns': ['day']}
    >>> found.columns[0].remark, found.columns[1].remark
    ('left out: a running number of the rows', 'days since 1970-01-01, from 2024-05-01 to 2024-05-02')
    """
    table = read_table(source, size=size)
    values = table.values
    shape: tuple[int, ...] = ()
    columns: list[ColumnReport] = []
    if isinstance(values, pd.DataFrame):
        columns = [_column(table, position) for position in range(values.shape[1])]
        shape = values.shape[1:]
    elif isinstance(values, np.ndarray):
        columns, shape = _entries(table, values), values.shape[1:]
    for column in columns:
        if column.used and column.missing > MOST * len(values):
            column.leave_out("missing in most rows")
    options, data, notes = _loaded(table, columns)
    if size is not None and data is not None:
        options["size"] = size
    return Inspection(
        table.name,
        len(values) if not isinstance(values, str) else 1,
        shape,
        columns,
        table.labels,
        list(table.others),
        options,
        data,
        notes,
    )


def _loaded(
    table: Table, columns: list[ColumnReport]
) -> tuple[dict[str, Any], Data | None, list[str]]:
    """Options with which the table can be loaded, and what comes of it.

    If dropping rows with missing entries leaves too few, columns go, those that lack most first.
    """
    while True:
        used = [column for column in columns if column.used]
        if columns and not used:
            return {}, None, ["no column can be read"]
        options: dict[str, Any] = {}
        if len(used) < len(columns):
            options["columns"] = [column.name for column in used]
        if declared := {c.name: c.declared for c in used if c.declared is not None}:
            options["domain"] = declared
        if any(column.missing for column in used):
            options["missing"] = "drop"
        try:
            again = dataclasses.replace(table, notes=[*table.notes])  # encoding adds to them
            data, notes = split_table(again, **options)
        except LikelyError as error:
            worst = max(used, key=lambda column: column.missing, default=None)
            if worst is None or not worst.missing or len(used) == 1:
                return {}, None, [_short(error, table)]
            worst.leave_out("without its missing entries too few rows are left")
        else:
            return options, data, notes


# Columns of a table.


def _column(table: Table, position: int) -> ColumnReport:
    assert isinstance(table.values, pd.DataFrame)
    series, name = table.values.iloc[:, position], table.labels[position]
    alone = dataclasses.replace(table, notes=[])
    report = ColumnReport(name, missing=int(series.isna().sum()), distinct=_distinct(series))
    try:
        values, kind = encode_column(alone, position, None)
    except LikelyError as error:
        report.leave_out(_short(error, table, name))
        return report
    finite = values[np.isfinite(values)]
    report.kind, report.missing = _in_words(kind), len(values) - len(finite)
    if isinstance(kind, Categorical):
        if too_many(kind.levels or 0, len(finite)):
            report.leave_out(f"names of the rows, such as {series.dropna().iloc[0]!r}")
        return report
    remarks = [_short(note, table, name) for note in alone.notes]
    if len(finite):
        _numbers(report, np.sort(finite), kind, remarks)
    if report.used:
        report.remark = "; ".join(remarks)
    return report


def _numbers(report: ColumnReport, ordered: np.ndarray, kind: Column, remarks: list[str]) -> None:
    """Ends of a column of numbers, and what they suggest."""
    low, high = report.low, report.high = float(ordered[0]), float(ordered[-1])
    whole = bool((ordered == np.floor(ordered)).all())
    if what := check.names_of_rows(report.name, ordered, kind):
        report.leave_out(what)
        return
    if low == high:
        report.leave_out("never changes")
        return
    if isinstance(kind, Date):
        remarks.append(f"{kind.unit} since 1970-01-01, from {kind.text(low)} to {kind.text(high)}")
    elif isinstance(kind, Real):
        if whole and low >= 0 and check.has_atom(ordered, len(ordered)):
            levels = int(high) + 1
            report.declared = f"integer({levels})" if levels <= INTEGER_LEVELS else "count"
        elif low > 0 and high > DECADES * low and _has_tail(ordered):
            report.declared = "positive"
        elif max(high, -low) < math.pi + 1e-3 and (np.abs(ordered) > 0.9 * math.pi).mean() > 0.05:
            remarks.append("an angle? Declare it periodic(-pi,pi)")
            report.suggested = "periodic(-pi,pi)" if ANGLE.fullmatch(report.name) else None
        if report.declared is not None:
            remarks.append(f"taken as {report.declared}")
    if low >= 0 and high > 0 and WEIGHT.fullmatch(report.name):
        remarks.append(f"a weight of the rows? Name it with weight= (--weight {report.name})")


def _has_tail(ordered: np.ndarray) -> bool:
    """Whether the upper half of the values takes more than twice the room of the lower."""
    low, middle, high = np.quantile(ordered, [0, 0.5, 1])
    return bool(high - middle > 2 * (middle - low))


def _distinct(series: pd.Series) -> int | None:
    try:
        return int(series.nunique())
    except TypeError:  # lists are not hashable
        return None


def _in_words(kind: Column) -> str:
    if isinstance(kind, Categorical | Integer):
        return f"{kind.kind}({kind.levels})"
    return str(kind)


def _short(said: object, table: Table, name: str | None = None) -> str:
    """A message without the source and the column that it is about."""
    text = str(said).removeprefix(f"{table.name}: ").removeprefix(f"{table.name} ")
    if name is not None:
        text = text.removeprefix(f"column {name!r} ").removeprefix(f"column {name!r}: ")
        text = text.replace(f", column {name!r}", "")
        text = re.sub(
            r"(: if [^:;]+)?[,;] (or )?leave (it|the column) out with columns= \(--columns\)$",
            "",
            text,
        )
    return text.removeprefix("(rows counted from 0): ")


# Arrays.


def _entries(table: Table, array: np.ndarray) -> list[ColumnReport]:
    """The columns of an array of two dimensions, or all entries together."""
    rows = Rows(array, array.dtype)
    by_column = array.ndim == 2
    width = array.shape[1] if by_column else 1
    low, high, usable = np.full(width, np.inf), np.full(width, -np.inf), np.zeros(width, np.int64)
    for _, chunk in rows.chunks():
        flat = chunk.reshape(-1, width).astype(np.float64)
        finite = np.isfinite(flat)
        low = np.minimum(low, np.where(finite, flat, np.inf).min(0))
        high = np.maximum(high, np.where(finite, flat, -np.inf).max(0))
        usable += finite.sum(0)
    kind = (table.domain or infer_domain(array)).column(0)
    some = check.sample(rows, 0).reshape(-1, width)
    reports = []
    for i, name in enumerate(table.labels or ["entries"]):
        report = ColumnReport(name, _in_words(kind), int(array.size // width - usable[i]))
        report.distinct = len(np.unique(some[np.isfinite(some[:, i]), i]))
        if usable[i]:
            report.low, report.high = float(low[i]), float(high[i])
        reports.append(report)
    return reports
