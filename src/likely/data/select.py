"""Which columns of a source are rows, context and weight."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from likely.core.columns import Column
from likely.core.domain import Domain
from likely.core.errors import DataError
from likely.data.table import Table, as_values

Declared = Domain | Mapping[Any, Column | str] | None  # by name or position of a column
Named = str | int | Sequence[str | int]


@dataclass(frozen=True)
class Selection:
    """Some columns of a table, by their labels; None: all that it has."""

    table: Table
    columns: list[str] | None = None

    @property
    def labels(self) -> list[str]:
        return self.table.labels if self.columns is None else self.columns


def resolve(
    wanted: Iterable[str | int], labels: list[str], table: Table, what: str | None = None
) -> list[str]:
    """The labels of columns that are given by label or by position.

    `what` is what they are for, if other arrays of the table might serve it, too.

    Raises
    ------
    DataError
        If a column is not there.
    """
    found = []
    for key in wanted:
        position = int(key) if str(key).isdigit() else len(labels)
        if position < len(labels) and str(key) not in labels:
            found.append(labels[position])
        elif str(key) in labels:
            found.append(str(key))
        else:
            name = table.name if what is None else f"{table.name}: {what}"
            if reason := table.left_out.get(str(key)):
                raise DataError(f"{name}: column {str(key)!r} {reason}")
            known = few([*(() if what is None else table.others), *labels])
            there = f"the columns are {known}" if known else "the data have no columns"
            raise DataError(f"{name}: unknown column {str(key)!r}; {there}")
    return found


def _is_named(given: Any) -> bool:
    """Whether columns are given by name or position, rather than an array."""
    listed = given if isinstance(given, list | tuple) else [given]
    return all(isinstance(key, str | int) for key in listed)


def _listed(given: Named) -> list[str | int]:
    if not _is_named(given):
        raise DataError(f"columns {given!r}: give them by name or position, one or a list")
    keys = [given] if isinstance(given, str | int) else list(given)
    if not keys:
        raise DataError("an empty list of columns: name at least one, or leave the option out")
    return keys


def select(table: Table, given: Any, what: str) -> Selection:
    """A context or a weight: columns of the table, other arrays that came with it, or an array."""
    if not _is_named(given):
        other = Table(what, as_values(given, what))
    else:
        keys = _listed(given)
        others = [table.others[str(key)] for key in keys if str(key) in table.others]
        if len(others) < len(keys):
            labels = resolve(keys, table.labels, table, what)
            return Selection(table, labels)
        frames = [other for other in others if isinstance(other, pd.DataFrame)]
        if len(others) > 1 and len(frames) < len(others):
            raise DataError(f"{table.name}: {what}: arrays of several columns go one at a time")
        values = others[0] if len(others) == 1 else pd.concat(frames, axis=1)
        other = dataclasses.replace(table, values=values)
    n, rows = len(other.values), len(table.values)
    if n != rows:
        raise DataError(f"{what} has {n} rows where {table.name} has {rows}; give one for each")
    return Selection(other)


def select_rows(
    table: Table, domain: Declared, columns: Named | None, apart: list[Selection | None]
) -> Selection:
    """The columns that are named, those of a named domain, or all that are neither context nor weight."""
    if columns is not None:
        return Selection(table, resolve(_listed(columns), table.labels, table))
    names = domain.names if isinstance(domain, Domain) else None
    if names and (not table.by_position or set(names) <= set(table.labels)):
        return Selection(table, resolve(names, table.labels, table))
    used = {label for part in apart if part and part.table is table for label in part.labels}
    if not used:
        return Selection(table)
    left = [label for label in table.labels if label not in used]
    if not left:
        raise DataError(f"{table.name}: no columns are left next to context and weight")
    return Selection(table, left)


def few(labels: Sequence[str], most: int = 20) -> str:
    """The first labels, for a message."""
    return ", ".join(labels[:most]) + (", …" if len(labels) > most else "")
