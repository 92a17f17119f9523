"""What is looked for in data before anything is fitted to them: errors, and warnings."""

import dataclasses
import math
import re

import numpy as np
import torch

from likely.core.columns import (
    Categorical,
    Column,
    Constant,
    Count,
    Date,
    Discrete,
    Integer,
    Maybe,
    Real,
)
from likely.core.domain import Domain
from likely.core.errors import DataError
from likely.data.dataset import Rows
from likely.data.encode import EXACT, LEAVE_OUT
from likely.data.table import Table

MODEL_IT = "model it with missing='model' (--missing model)"
SAMPLE_ENTRIES = 1 << 22  # atoms and sentinels are looked for in as many numbers at most
ATOM_SHARE = 0.01  # a continuous column has an atom where one value has a larger share of rows …
ATOM_ROWS = 5  # … and at least as many rows
SENTINELS = (99, 999, 9999, 99999, 999999, 9999999, 32768)  # usual codes, with either sign
FEW = 0.5  # largest part of the rows that may lie far from the rest
FAR = 100  # widths of the rest that the values lie away from it, unless they are such codes
FLOAT32 = 2**24  # up to which float32 holds all whole numbers
DISTINCT = 0.9  # the least part of the rows that names of the rows tell apart
IDENTIFIER = re.compile(r"(?i:(.*[_\W])?(id|ids|index|key|nr|no|number|uuid))|.*[a-z]I[dD]")
ROUNDING = 1e-5  # of the spread of a column is what the rounding to float32 may take


def scan(rows: Rows, domain: Domain, table: Table, missing: str) -> np.ndarray:
    """Check all rows, once.

    Returns
    -------
    ndarray of int64
        Rows with missing or infinite entries, where `missing` is "drop".

    Raises
    ------
    DataError
        At the first entry outside the domain; and, unless `missing` is "drop", at the first one that is
        infinite, or missing from a column that has to be complete.
    """
    unusable = [np.empty(0, np.int64)]
    if isinstance(
        table.values, str
    ):  # windows overlap, and codes are in the domain as they are made
        return unusable[0]
    bounded = domain.kinds != {Real}
    for start, chunk in rows.chunks():
        flat, number = chunk.reshape(len(chunk), -1), np.arange(start, start + len(chunk))
        if not _surely_finite(flat):
            finite = np.isfinite(flat)
            finite[:, domain.holes] |= np.isnan(flat[:, domain.holes])
            if missing != "drop" and not finite.all():
                row, entry = np.argwhere(~finite)[0].tolist()
                place, at = table.where(start + row)
                hole = np.isnan(flat[row, entry])
                kind, model = ("missing", f"{MODEL_IT}, ") if hole else ("infinite", "")
                raise DataError(
                    f"{place}: row {at}, column {domain.name(entry)}: the entry is {kind}; fill it in, "
                    f"drop such rows with missing='drop' (--missing drop), {model}{LEAVE_OUT}"
                )
            usable = finite.all(1)
            unusable.append(number[~usable])
            chunk, number = chunk[usable], number[usable]  # noqa: PLW2901
        if bounded:
            x = torch.from_numpy(np.array(chunk, lossless(chunk.dtype)))
            inside = domain.contains(x)
            if not inside.all():
                first = int(inside.logical_not().nonzero()[0])
                domain.check(x[first : first + 1], *table.where(int(number[first])))
    return np.concatenate(unusable)


def _surely_finite(chunk: np.ndarray) -> bool:
    """Whether the sum is finite: then every entry is, and a sum is several times faster to get."""
    if chunk.dtype.kind != "f":
        return True
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(chunk.sum(dtype=np.promote_types(chunk.dtype, np.float32))))


def scan_weight(rows: Rows, domain: Domain, table: Table, missing: str) -> np.ndarray:
    """As `scan`, for weights.

    Raises
    ------
    DataError
        At the first weight that is missing or infinite, unless `missing` is "drop".
    """
    weight = rows.raw(slice(None))[:, 0].astype(np.float64)
    unusable = ~np.isfinite(weight)
    wrong = np.flatnonzero(unusable if missing != "drop" else [])
    if len(wrong):
        place, row = table.where(int(wrong[0]))
        raise DataError(
            f"{place}: row {row}, column {domain.name(0)}: the weight is {weight[wrong[0]]:g}; "
            "weights must be finite numbers, and 0 leaves a row out"
        )
    return np.flatnonzero(unusable)


def sample(rows: Rows, seed: int) -> np.ndarray:
    """Random rows with at most `SAMPLE_ENTRIES` entries in float64, shape (rows, size)."""
    limit = max(1, SAMPLE_ENTRIES // math.prod(rows.shape[1:]))
    index: np.ndarray | slice = slice(None)
    if limit < len(rows):
        rng = np.random.default_rng(seed)
        index = np.sort(rng.choice(len(rows), limit, replace=False, shuffle=False))
    some = rows.raw(index)
    return some.reshape(len(some), -1).astype(np.float64)


def declare_missing(rows: Rows, domain: Domain) -> Domain:
    """The domain with the columns that have missing entries declared so; pixels keep one kind for all."""
    holes = np.zeros(domain.size, bool)
    for _, chunk in rows.chunks():
        flat = chunk.reshape(len(chunk), -1)
        if not _surely_finite(flat):
            holes |= np.isnan(flat).any(0)
    if domain.layout != "vector":
        holes[:] = holes.any()
    kinds = [
        Maybe(kind.present) if hole else kind
        for hole, kind in zip(holes, map(domain.column, range(domain.size)), strict=True)
    ]
    return dataclasses.replace(domain, columns=tuple(kinds)) if holes.any() else domain


def declare_constants(rows: Rows, some: np.ndarray, domain: Domain) -> tuple[Domain, list[str]]:
    """The domain with those continuous columns declared constant that never change, and warnings.

    Only columns that do not change in some of the rows are looked at in all of them. Images keep
    one kind for all pixels.
    """
    if domain.layout != "vector":
        return domain, []
    continuous = np.array([not domain.column(i).discrete for i in range(domain.size)])
    still = np.flatnonzero((some == some[0]).all(0) & continuous)
    first = rows.raw(slice(0, 1)).reshape(-1)
    for _, chunk in rows.chunks():
        if not len(still):
            return domain, []
        still = still[(chunk.reshape(len(chunk), -1)[:, still] == first[still]).all(0)]
    values = dict(zip(still.tolist(), first[still].tolist(), strict=True))
    if not values:
        return domain, []
    kinds = [Constant(values[i]) if i in values else domain.column(i) for i in range(domain.size)]
    note = (
        f"{_columns(domain, [*values])} never changes: it stays as a constant, which contributes "
        "nothing to a likelihood"
    )
    return dataclasses.replace(domain, columns=tuple(kinds)), [note]


def anomalies(some: np.ndarray, domain: Domain) -> list[str]:
    """Warnings about values that may stand for missing ones, and about atoms."""
    notes: list[str] = []
    atoms, whole = [], []
    if domain.discrete and domain.layout != "vector":
        return notes
    for i, ordered in enumerate(np.sort(some, axis=0).T):
        kind, column = domain.column(i).present, ordered[~np.isnan(ordered)]
        if not len(column):
            continue
        if isinstance(kind, Constant) or (kind.discrete and not isinstance(kind, Integer | Count)):
            continue
        far = far_values(column) if domain.layout == "vector" else column[:0]
        values, counts = np.unique(far, return_counts=True)
        notes += [
            f"column {domain.name(i)} is {kind.text(value)} in {count / len(column):.2%} of the rows, far "
            "from the rest: if that stands for missing entries, make them NaN"
            for value, count in zip(values, counts, strict=True)
            if count > 1
        ]
        if len(single := values[counts == 1]):
            notes.append(
                f"column {domain.name(i)} is {', '.join(map(kind.text, single[:3]))} in "
                f"{len(single)} of the rows, very far from the rest: models see little else; correct such "
                "rows, make the entries NaN, or leave the rows out"
            )
        rest = column[~np.isin(column, far)]
        if not kind.discrete and has_atom(rest, len(column)):
            atoms.append(i)
            dates = isinstance(kind, Date)
            whole += [i] if (rest == np.floor(rest)).all() and not dates else []
    if atoms:
        note = (
            f"{_columns(domain, atoms)} has more than {ATOM_SHARE:.0%} of the rows on one value: "
            "Lebesgue likelihoods can grow without bound there, so rank models by other figures too"
        )
        if whole:
            note += (
                f"; {_columns(domain, whole)} holds whole numbers: count from 0 and declare "
                "integer(levels) or count"
            )
        notes.append(note)
    return notes


def has_atom(column: np.ndarray, rows: int) -> bool:
    """Whether one value of a sorted column takes too large a share of `rows` rows."""
    changes = np.flatnonzero(column[1:] != column[:-1])
    count = np.diff(np.concatenate([[-1], changes, [len(column) - 1]])).max()
    return bool(count >= ATOM_ROWS and count > ATOM_SHARE * rows)


def identifiers(some: np.ndarray, domain: Domain) -> list[str]:
    """Warnings about columns of a table that look like names of the rows."""
    notes = []
    for i in range(domain.size if domain.dtypes else 0):
        column = np.sort(some[~np.isnan(some[:, i]), i])
        kind = domain.column(i).present
        what = names_of_rows(domain.label(i), column, kind)
        # Larger ones were told as they were read, and names in text too.
        if what and column[-1] <= EXACT and not isinstance(kind, Categorical):
            notes.append(
                f"column {domain.name(i)} looks like {what}, in which there is nothing to learn: leave it "
                "out with columns= (--columns)"
            )
    return notes


def names_of_rows(name: str, column: np.ndarray, kind: Column) -> str | None:
    """What a sorted column of numbers is in words, if it looks like names of the rows."""
    column = column - column[0] if isinstance(kind, Date) and len(column) else column
    new = column[1:] > column[:-1]
    whole = (column == np.floor(column)).all()
    if len(column) < ATOM_ROWS or not whole or new.mean() < DISTINCT:
        return None
    low, high = column[[0, -1]]
    if high - low == len(new) == new.sum():
        return "a running number of the rows"
    named = new.all() and IDENTIFIER.fullmatch(name)
    return "names of the rows" if named or max(high, -low) > FLOAT32 else None


def far_values(column: np.ndarray) -> np.ndarray:
    """Those values of a sorted column, at either end, that hardly belong to the others.

    A value that occurs repeatedly, as codes of missing entries do, lies further from the rest than that
    is wide. Single ones, and whole numbers among others that are no usual codes, do so a hundred times.
    """
    far = []
    for ordered in (column, column[::-1]):
        gap, width = np.abs(np.diff(ordered)), np.abs(ordered[:-1] - ordered[0])
        last = ordered[-1]
        factor = np.full(len(gap), FAR)
        start = int(np.argmax(ordered == last))
        code = np.abs(last) in SENTINELS or (ordered[:start] % 1).any()
        if 0 < start < len(ordered) - 1 and code:
            factor[start - 1] = 1
        index = np.flatnonzero((width > 0) & (gap > factor * width)) + 1
        if len(index := index[index >= len(ordered) * (1 - FEW)]):
            far.append(ordered[index[0] :])
    return np.concatenate(far) if far else column[:0]


def _columns(domain: Domain, index: list[int]) -> str:
    if len(index) == 1:
        return f"column {domain.name(index[0])}"
    named = ", ".join(domain.name(i) for i in index[:8])
    more = f", … ({len(index)} in all)" if len(index) > 8 else ""
    return f"each of the columns {named}{more}"


def lossless(dtype: np.dtype) -> np.dtype:
    """The type of tensor that holds an array's numbers as they are."""
    if dtype.kind in "biu":
        return np.dtype(np.int64)
    return np.dtype(np.float32 if dtype.itemsize <= 4 else np.float64)


def tensor_type(rows: Rows, domain: Domain, large: bool) -> np.dtype:
    """int64 on a discrete domain, and otherwise float32 where that loses nothing, or float64.

    Rounding to float32 loses something where it changes a whole number of a discrete column, moves
    an entry out of the domain, or typical entries by more than 1e-5 of their column's spread. A
    large array keeps float64, which cannot be looked at as a whole.
    """
    if domain.discrete:
        return np.dtype(np.int64)
    small_integers = rows.array.dtype.kind in "biu" and rows.array.itemsize <= 2
    if small_integers or lossless(rows.array.dtype) == np.float32:
        return np.dtype(np.float32)
    if large:
        return np.dtype(np.float64)
    wide = rows.raw(slice(None)).reshape(len(rows), -1)
    with np.errstate(over="ignore"):
        narrow = wide.astype(np.float32)
    discrete = [i for i in range(domain.size) if isinstance(domain.column(i).present, Discrete)]
    few = slice(None, None, max(1, len(wide) // 10_000))
    error = _median(np.abs(narrow[few] - wide[few]))
    spread = _median(np.abs(wide[few] - _median(wide[few])))
    changed = (narrow != wide) & ~np.isnan(wide)
    lossy = (
        changed[:, discrete].any()
        or not domain.contains(torch.from_numpy(narrow.reshape(rows.shape))).all()
        or ((error > ROUNDING * spread) & (spread > 0)).any()
    )
    return np.dtype(np.float64 if lossy else np.float32)


def _median(columns: np.ndarray) -> np.ndarray:
    """The median of what is not missing of each column."""
    if not np.isnan(columns).any():
        return np.median(columns, 0)
    return np.ma.filled(np.ma.median(np.ma.masked_invalid(columns), 0), 0.0)
