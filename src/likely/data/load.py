"""load_data: read a source, find its domain, look through every row, and split."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from likely.core.columns import Real
from likely.core.domain import Domain
from likely.core.errors import DataError, LikelyError
from likely.data import check
from likely.data.dataset import Data, Rows, Split
from likely.data.encode import WINDOW, Declared, Selection, encode, resolve
from likely.data.readers import MAPPED_BYTES, Table, as_values, into_lines, read

LEAST_ROWS = 10
SHARE = 10  # a split that is not given takes one in as many of the training rows …
TEXT_SHARE = 50  # … and the validation split of a running text one in as many characters

Named = str | int | Sequence[str | int]


def load_data(
    source: Any,
    *,
    domain: Declared = None,
    context: Any = None,
    context_domain: Declared = None,
    weight: Any = None,
    columns: Named | None = None,
    window: int = WINDOW,
    missing: Literal["error", "drop"] = "error",
    seed: int = 0,
) -> Data:
    """Read data, look through them, and split them into rows to train, validate and test.

    Splits that the source has are kept: arrays `train`, `valid` (or `val`), `test`, or `x_train` …
    in a file or a dictionary; folders of these names with images. Of those that it lacks, each takes
    a random tenth of the training rows; without any splits that is 80 % : 10 % : 10 %. A running
    text is cut in order: its last tenth is to test, a fiftieth from the middle of the rest to validate,
    both in windows that follow one another; training takes windows from anywhere else, so that one
    pass over its rows sees each character as often as a window has characters.

    Parameters
    ----------
    source : path, array, Tensor, DataFrame, dict of arrays, list of str, Target, or name
        - a built-in name: `digits`, `wine`, `breast-cancer`, `moons` (with class labels as another
          array, `context="label"`), or a target of `likely.targets`;
        - a file: `.npy`, `.npz`, `.csv`, `.tsv`, `.parquet`, `.h5`, `.hdf5`; arrays in an `.npz` or
          `.h5` file by name, `events.h5::group/key`, several as a table, `events.h5::pt,eta`;
        - a `.txt` file: a running text, or single ones (see `window`), over its own characters;
        - a list of single texts;
        - a folder of images of one size, 8 bits, grey (h, w) or colour (3, h, w);
        - a `Target`: 25,000 draws, 20,000 of them to train.

        What is larger than 256 MiB is not copied: an `.npy` file is then memory-mapped, read where
        it is needed, and may be larger than memory.
    domain : Domain or dict, optional
        Where a row lives; a dictionary declares single columns, by name or position, as a column
        kind or as text: `{"phi": "periodic(-pi, pi)"}`. The rest is inferred (`lk.infer_domain`).
    context : str, int, list of these, or array, optional
        What to condition on: columns by name or position, another array of the source by name
        (`"y"` for `y_train` …), or an array with as many rows as all splits together.
    context_domain : Domain or dict, optional
        As `domain`, for the context; columns of the context may be declared in `domain` too.
    weight : str, int or array, optional
        Non-negative weights of the rows, given like the context.
    columns : str, int or list of these, optional
        The columns to take; by default all that are neither context nor weight.
    window : int
        Characters of a window of a running text, unless a domain is declared; 0: each line that is
        not empty is a text of its own.
    missing : {"error", "drop"}
        What to do about rows with missing (NaN, None) or infinite entries.
    seed : int
        Of the split, and of the draws where the source is drawn.

    Returns
    -------
    Data

    Raises
    ------
    DataError
        If the source cannot be read, has fewer than 10 rows, or holds entries that are missing,
        infinite, not numbers or outside the domain; if a column is not there; if a weight is negative.
        Rows are counted from 0, without a header.
    DomainError
        If a declared domain or column kind is malformed.
    LikelyError
        If the seed is negative.

    Warns
    -----
    UserWarning
        If rows are dropped; if a continuous column never changes (its kind becomes `Constant`), has
        more than 1 % of its rows on one value, or holds values such as −999 far from the rest. The
        last two look at a random sample where there are more than 4 million entries.
    """
    if seed < 0:
        raise LikelyError(f"seed={seed}: give a whole number from 0 on")
    table = _read(source, seed, domain, window)
    found = _find(table, domain, context, context_domain, weight, columns, missing, window)
    if len(found.x.rows) < LEAST_ROWS:
        raise DataError(
            f"{table.name}: {len(found.x.rows)} usable rows; at least {LEAST_ROWS} are needed to train, "
            "validate and test"
        )
    for note in found.look_closer(seed):
        warnings.warn(f"{table.name}: {note}", stacklevel=2)
    members = _members(table, found, seed)
    splits = {name: found.split(index) for name, index in members.items()}
    for name, split in splits.items():
        if split.weight is not None and not split.weight.any():
            raise DataError(
                f"{table.name}: every row of the {name} split has weight 0; give some of them more"
            )
    file, *keys = table.name.split("::")
    return Data(
        found.x.domain,
        **splits,
        context=None if found.context is None else found.context.domain,
        truth=table.truth if found.x.domain == table.domain else None,
        name="::".join([Path(file).name, *keys]),
        running=isinstance(table.values, str),
    )


def load_rows(
    source: Any,
    *,
    domain: Declared = None,
    context: Any = None,
    context_domain: Declared = None,
    weight: Any = None,
    columns: Named | None = None,
    window: int = WINDOW,
    seed: int = 0,
) -> Split:
    """Read rows without splitting them: all of them, in the order of the source.

    Parameters and errors are those of `load_data`, but that a single row will do. Given the domains
    of a fitted model, columns are found by their names. Windows of a running text follow one another.

    Returns
    -------
    Split
    """
    table = _read(source, seed, domain, window)
    found = _find(table, domain, context, context_domain, weight, columns, "error", window)
    step = found.x.domain.size if isinstance(table.values, str) else 1
    return found.split(np.arange(0, len(found.x.rows), step))


def _read(source: Any, seed: int, domain: Declared, window: int) -> Table:
    """Read a source; a running text as single ones, where the domain or the window says so."""
    if window < 0:
        raise LikelyError(f"window={window}: give a number of characters, or 0 for lines")
    table = read(source, seed)
    lines = domain.ends if isinstance(domain, Domain) else not window
    return into_lines(table) if isinstance(table.values, str) and lines else table


@dataclass
class _Part:
    """The rows, or their context, on their way into `Data`."""

    rows: Rows
    domain: Domain

    def look_closer(self, seed: int) -> list[str]:
        """Declare constant columns; warnings about these and about other oddities."""
        some = check.sample(self.rows, seed)
        self.domain, notes = check.declare_constants(self.rows, some, self.domain)
        return notes + check.oddities(some, self.domain)

    @property
    def large(self) -> bool:
        """Whether the array stays where it is."""
        tensor = math.prod(self.rows.shape) * (8 if self.domain.discrete else 4)
        return max(self.rows.nbytes, tensor) > MAPPED_BYTES

    @cached_property
    def _typed(self) -> Rows:
        dtype = check.tensor_type(self.rows, self.domain, self.large)
        return dataclasses.replace(self.rows, dtype=dtype)

    def take(self, index: np.ndarray) -> Tensor | Rows:
        return self._typed.take(index) if self.large else self._typed[index]


@dataclass
class _Found:
    """What a table holds, without the rows that cannot be used."""

    x: _Part
    context: _Part | None
    weight: np.ndarray | None
    kept: np.ndarray | None  # which rows of the table these are; None: all
    notes: list[str]

    def look_closer(self, seed: int) -> list[str]:
        parts = [self.x] if self.context is None else [self.x, self.context]
        return self.notes + [note for part in parts for note in part.look_closer(seed)]

    def split(self, index: np.ndarray) -> Split:
        if self.x.large:
            index = np.sort(index)  # as in the file, so that neighbours are read together
        return Split(
            self.x.take(index),
            None if self.context is None else self.context.take(index),
            None if self.weight is None else torch.from_numpy(self.weight[index]).float(),
        )


def _find(
    table: Table,
    domain: Declared,
    context: Any,
    context_domain: Declared,
    weight: Any,
    columns: Named | None,
    missing: str,
    window: int,
) -> _Found:
    """Tell rows, context and weight apart, make numbers of them, and look through all of them."""
    if isinstance(table.values, str) and not (context is None and weight is None):
        raise DataError(
            f"{table.name}: windows of a running text have no context and no weight; with window=0 "
            "(--window 0) each line is a row that may have them"
        )
    if missing not in ("error", "drop"):
        raise DataError(f"missing={missing!r}: take 'error' or 'drop'")
    if context is None and isinstance(context_domain, Domain):
        context = context_domain.names
    given = None if context is None else _select(table, context, "the context")
    weighing = None if weight is None else _select(table, weight, "the weight")
    if isinstance(domain, Mapping):
        known = table.labels if given is None else [*table.labels, *given.labels]
        keys = resolve(domain, known, table.name)
        domain = dict(zip(keys, domain.values(), strict=True))
        if given is not None and not isinstance(context_domain, Domain):
            own = {key: domain.pop(key) for key in keys if key in given.labels}
            context_domain = {**own, **(context_domain or {})}
    selection = _select_rows(table, domain, columns, [given, weighing])

    whole = selection.labels == table.labels  # the source's own domain is that of all columns
    x = _Part(*encode(selection, domain or (table.domain if whole else None), window))
    unusable = check.look_through(x.rows, x.domain, table, missing)
    part = None
    if given is not None:
        part = _Part(*encode(given, context_domain))
        more = check.look_through(part.rows, part.domain, given.table, missing)
        unusable = np.union1d(unusable, more)
    weights = None
    if weighing is not None:
        if len(weighing.labels) != 1:
            raise DataError(f"{weighing.table.name}: a weight is one number for each row")
        rows, _ = encode(weighing, {weighing.labels[0]: Real()})
        weights = rows.raw(slice(None))[:, 0].astype(np.float64)
        more = check.look_at_weight(weights, weighing.labels[0], weighing.table, missing)
        unusable = np.union1d(unusable, more)
    if not len(unusable):
        return _Found(x, part, weights, None, [])

    usable = np.ones(len(x.rows), bool)
    usable[unusable] = False
    kept = np.flatnonzero(usable)
    note = (
        f"{len(unusable)} of {len(usable)} rows have missing or infinite entries and are left out"
    )
    x.rows = x.rows.take(kept)
    if part is not None:
        part.rows = part.rows.take(kept)
    return _Found(x, part, None if weights is None else weights[kept], kept, [note])


def _is_named(given: Any) -> bool:
    """Whether columns are given by name or position, rather than an array."""
    listed = given if isinstance(given, list | tuple) else [given]
    return all(isinstance(key, str | int) for key in listed)


def _listed(given: Named) -> list[str | int]:
    keys = [given] if isinstance(given, str | int) else list(given)
    if not keys:
        raise DataError("an empty list of columns: name at least one, or leave the option out")
    return keys


def _select(table: Table, given: Any, what: str) -> Selection:
    """A context or a weight: columns of the table, other arrays that came with it, or an array."""
    if not _is_named(given):
        other = Table(what, as_values(given, what))
    else:
        keys = _listed(given)
        others = [table.others[str(key)] for key in keys if str(key) in table.others]
        if len(others) < len(keys):
            labels = resolve(keys, table.labels, f"{table.name}: {what}", list(table.others))
            return Selection(table, labels)
        frames = [other for other in others if isinstance(other, pd.DataFrame)]
        if len(others) > 1 and len(frames) < len(others):
            raise DataError(f"{table.name}: {what}: arrays of several columns go one at a time")
        values = others[0] if len(others) == 1 else pd.concat(frames, axis=1)
        other = dataclasses.replace(table, values=values)
    if len(other.values) != len(table.values):
        raise DataError(
            f"{what} has {len(other.values)} rows where {table.name} has {len(table.values)}; give one "
            "row for each"
        )
    return Selection(other)


def _select_rows(
    table: Table,
    domain: Declared,
    columns: Named | None,
    apart: list[Selection | None],
) -> Selection:
    """The columns that are named, those of a named domain, or all that are neither context nor weight."""
    if columns is not None:
        return Selection(table, resolve(_listed(columns), table.labels, table.name))
    names = domain.names if isinstance(domain, Domain) else None
    if names and (not table.by_position or set(names) <= set(table.labels)):
        return Selection(table, resolve(names, table.labels, table.name))
    used = {label for part in apart if part and part.table is table for label in part.labels}
    if not used:
        return Selection(table)
    left = [label for label in table.labels if label not in used]
    if not left:
        raise DataError(f"{table.name}: no columns are left beside context and weight")
    return Selection(table, left)


def _members(table: Table, found: _Found, seed: int) -> dict[str, np.ndarray]:
    """Which of the usable rows each split has: as the source says, or drawn from the training rows."""
    members = {"train": np.arange(len(found.x.rows))}
    if isinstance(table.values, str):
        return _stretches(table, len(table.values), found.x.domain.size)
    if table.splits:
        ends = np.cumsum(list(table.splits.values()))
        origin = members["train"] if found.kept is None else found.kept
        part = np.searchsorted(ends, origin, side="right")
        members = {split: np.flatnonzero(part == i) for i, split in enumerate(table.splits)}
    lacking = [split for split in ("valid", "test") if split not in members]
    if lacking:
        train = np.random.default_rng(seed).permutation(members["train"])
        tenth = max(1, len(train) // SHARE)
        for split in lacking:
            members[split], train = train[:tenth], train[tenth:]
        members["train"] = train
    for split, index in members.items():
        if not len(index):
            raise DataError(f"{table.name}: no usable rows for the {split} split")
    return members


def _stretches(table: Table, length: int, window: int) -> dict[str, np.ndarray]:
    """Where the windows of a running text start: all that the first part has, then one by one."""
    test, valid = (max(1, length // (share * window)) for share in (SHARE, TEXT_SHARE))
    end = length - test * window
    middle = (end - valid * window) // 2
    if middle < window:
        raise DataError(
            f"{table.name}: {length} characters, too few for windows of {window}; take shorter ones "
            "with window= (--window)"
        )
    after = middle + valid * window
    return {
        "train": np.concatenate(
            [np.arange(middle - window + 1), np.arange(after, end - window + 1)]
        ),
        "valid": np.arange(middle, after, window),
        "test": np.arange(end, length, window),
    }
