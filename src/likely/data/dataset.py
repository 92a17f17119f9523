"""Data: a domain, and rows of it in three splits."""

import dataclasses
import hashlib
import json
import math
import mmap
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from likely.contract.training import Batch
from likely.core.domain import Domain
from likely.core.errors import DataError
from likely.core.files import checksum
from likely.core.target import Target

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CHUNK_BYTES = 1 << 20  # read at a time when a whole array is looked through: fits in a cache
BLOCK_BYTES = 1 << 18  # neighbouring rows of a mapped file that are read together …
POOL_BYTES = 1 << 26  # … and what is shuffled thoroughly

Index = Tensor | np.ndarray | slice


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of an array that stays where it is: in a mapped file, or large and of another type.

    Indexing gives a tensor in memory.

    Attributes
    ----------
    array : ndarray, shape (n, *shape)
        A memory-mapped one is read only where it is indexed.
    dtype : numpy dtype
        Type of the tensors.
    index : ndarray of int64, optional
        Which rows of the array these are; None: all.
    columns : list of int, optional
        Which columns of a two-dimensional array; None: all.
    """

    array: np.ndarray
    dtype: np.dtype
    index: np.ndarray | None = None
    columns: list[int] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        rows = len(self.array) if self.index is None else len(self.index)
        return rows, *(self.array.shape[1:] if self.columns is None else (len(self.columns),))

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        """Size in the type in which they are stored."""
        return math.prod(self.shape) * self.array.itemsize

    def raw(self, at: np.ndarray | slice) -> np.ndarray:
        """Rows in the type in which they are stored; a view of the array where that is possible."""
        at = at if self.index is None else self.index[at]
        if self.columns is None:
            return np.asarray(self.array[at])
        if isinstance(at, slice):
            return np.asarray(self.array[at][:, self.columns])
        return np.asarray(self.array[at[:, None], self.columns])  # without a copy of whole rows

    def __getitem__(self, at: Index) -> Tensor:
        shared = self.index is None and isinstance(at, slice)  # then it is a view, to be copied
        block = self.raw(at.numpy() if isinstance(at, Tensor) else at)
        return torch.from_numpy(np.array(block, self.dtype, order="C", copy=shared or None))

    def __reduce__(self) -> tuple[Any, ...]:
        """To another process, a mapped array goes as its place in the file, which is mapped there."""
        array: Any = self.array
        others = self.dtype, self.index, self.columns
        if not _is_mapped(array):
            return Rows, (array, *others)
        root = array
        while not isinstance(root.base, mmap.mmap):
            root = root.base
        offset = root.offset + array.ctypes.data - root.ctypes.data
        place = array.shape, array.dtype, offset, array.strides
        return _map_rows, (root.filename, place, others)

    def take(self, at: np.ndarray) -> "Rows":
        """Some of these rows, in another order."""
        return dataclasses.replace(self, index=at if self.index is None else self.index[at])

    def chunks(self) -> Iterator[tuple[int, np.ndarray]]:
        """All rows as they are stored, a cache's worth at a time, each with its first row's number."""
        step = max(1, CHUNK_BYTES // max(1, self.array[:1].nbytes))
        for start in range(0, len(self), step):
            yield start, self.raw(slice(start, start + step))


def _at(values: Tensor | Rows | None, index: Index) -> Any:
    if isinstance(values, Tensor) and isinstance(index, Tensor):
        return values.index_select(0, index)  # a third of the time of values[index]
    return None if values is None else values[index]


@dataclass(frozen=True, eq=False)
class Split:
    """One of the splits.

    Attributes
    ----------
    x : Tensor or Rows, shape (n, *domain.shape)
        int64 on a discrete domain, floating otherwise; `Rows` where the data stay in a file.
    context : Tensor or Rows, shape (n, *context.shape), optional
    weight : Tensor, shape (n,), optional
        Negative ones, as of events of a simulation in next-to-leading order, take rows away.
    """

    x: Tensor | Rows
    context: Tensor | Rows | None = None
    weight: Tensor | None = None

    def __len__(self) -> int:
        return len(self.x)

    @property
    def in_memory(self) -> bool:
        """Whether x and context are tensors."""
        return not (isinstance(self.x, Rows) or isinstance(self.context, Rows))

    def swapped(self) -> "Split":
        """With x as the context and the context as x."""
        assert self.context is not None
        return Split(self.context, self.x, self.weight)

    def rows(self, index: Index) -> Batch:
        """Some rows, as tensors in memory.

        Parameters
        ----------
        index : Tensor or ndarray of integers, or slice
        """
        return Batch(_at(self.x, index), _at(self.context, index), _at(self.weight, index))

    def subset(self, limit_entries: int, seed: int = 0) -> Batch:
        """Rows in random order without repetition, with at most `limit_entries` numbers of x or context.

        These are all rows where they fit, and at least one.
        """
        rng = np.random.default_rng(seed)
        shapes = [rows.shape[1:] for rows in (self.x, self.context) if rows is not None]
        limit = min(len(self), max(1, limit_entries // max(map(math.prod, shapes))))
        chosen = np.sort(rng.choice(len(self), limit, replace=False, shuffle=False))
        some = self.rows(chosen)  # in the order of the file, and shuffled in memory
        return Split(some.x, some.context, some.weight).rows(rng.permutation(limit))

    def order(self, seed: int) -> Int64[Tensor, " n"]:
        """The order in which an epoch visits the rows; it depends on the seed alone.

        A random permutation; in a mapped file, blocks of neighbouring rows come in random order, and
        rows are shuffled within pools of many blocks, so that the file is read a block at a time.
        """
        rng = np.random.default_rng(seed)
        if not (isinstance(self.x, Rows) and _is_mapped(self.x.array)):
            return torch.from_numpy(rng.permutation(len(self)))
        row_bytes = self.x.array[:1].nbytes
        block = max(1, BLOCK_BYTES // row_bytes)
        pool = block * (POOL_BYTES // BLOCK_BYTES)
        starts = block * rng.permutation(-(-len(self) // block))
        order = (starts[:, None] + np.arange(block)).reshape(-1)
        order = order[order < len(self)]
        for start in range(0, len(order), pool):
            rng.shuffle(order[start : start + pool])
        return torch.from_numpy(order)


def _map_rows(file: str, place: tuple[Any, ...], others: tuple[Any, ...]) -> Rows:
    content = np.memmap(file, np.uint8, "r")
    shape, dtype, offset, strides = place
    return Rows(np.ndarray(shape, dtype, content.data, offset, strides), *others)


def _is_mapped(array: Any) -> bool:
    """Whether an array is memory-mapped, or a view of one."""
    while array is not None and not isinstance(array, np.memmap):
        array = getattr(array, "base", None)
    return array is not None


@dataclass(frozen=True, eq=False)
class Data:
    """A domain, and rows of it in three splits.

    Attributes
    ----------
    domain : Domain
    train, valid, test : Split
    context : Domain, optional
        Where the context lives.
    truth : Target, optional
        The distribution that the rows were drawn from, where it is known.
    name : str
    running : bool
        Whether the rows of `valid` and of `test` follow one another without a gap, as windows of a
        running text.
    unlabelled : Tensor or Rows, shape (n, *domain.shape), optional
        More rows to train on, without the label that is the context of the others; each batch has some.

    Raises
    ------
    DataError
        If the arrays of a split do not fit together or to the domains, or if rows in memory lie
        outside them.
    """

    domain: Domain
    train: Split
    valid: Split
    test: Split
    context: Domain | None = None
    truth: Target | None = None
    name: str = ""
    running: bool = False
    unlabelled: Tensor | Rows | None = None

    def __post_init__(self) -> None:
        for name in ("train", "valid", "test"):
            split, where = getattr(self, name), f"the {name} split"
            if (split.context is None) != (self.context is None):
                raise DataError(f"{where}: give a context and its domain, or neither of them")
            x = _inside(split.x, self.domain, where)
            context, weight = split.context, split.weight
            if self.context is not None:
                context = _inside(context, self.context, f"the context of {where}")
            if weight is not None:
                weight = torch.as_tensor(weight)
                if weight.ndim != 1 or not weight.isfinite().all():
                    raise DataError(f"{where}: give each row one weight, a finite number")
            for what, rows in (("context", context), ("weight", weight)):
                if rows is not None and len(rows) != len(x):
                    raise DataError(f"{where}: {len(x)} rows, but a {what} of {len(rows)}")
            object.__setattr__(self, name, Split(x, context, weight))
        if self.unlabelled is not None:
            rows = _inside(self.unlabelled, self.domain, "the rows without a label")
            object.__setattr__(self, "unlabelled", rows)

    def __repr__(self) -> str:
        rows = " + ".join(f"{len(split):,}" for split in (self.train, self.valid, self.test))
        given = "" if self.context is None else f", given {self.context}"
        more = "" if self.unlabelled is None else f", {len(self.unlabelled):,} without a label"
        return f"{self.name}: {self.domain}{given}; {rows} rows to train, validate and test{more}"

    def swapped(self) -> "Data":
        """The same rows with x as the context and the context as x: to predict what was given.

        Rows without a label, from which that is not to be learnt, are left out.

        Raises
        ------
        DataError
            If there is no context.

        Examples
        --------
        >>> import likely as lk
        >>> data = lk.load_data("digits", context="label").swapped()
        >>> str(data.domain), str(data.context)
        ('label (categorical)', '8×8 image of integer')
        """
        if self.context is None:
            raise DataError(f"{self.name or 'the data'}: there is no context to swap the rows with")
        return dataclasses.replace(
            self,
            domain=self.context,
            train=self.train.swapped(),
            valid=self.valid.swapped(),
            test=self.test.swapped(),
            context=self.domain,
            truth=None,
            running=False,
            unlabelled=None,
        )

    def plot(self) -> "Figure":
        """Random training rows, in the form that suits their domain: images, lines, a corner plot."""
        from likely.data.pictures import draw_rows
        from likely.report import draw_samples

        return draw_samples(draw_rows(self.train, self.domain).x, self.domain)

    def fingerprint(self) -> str:
        """A hash of the domains and of each split's rows; mapped files are read through once."""
        known = [
            None if d is None else dataclasses.replace(d, dtypes=None)
            for d in (self.domain, self.context)
        ]
        described = [None if d is None else d.to_json() for d in known]
        tensors: dict[str, Tensor] = {}
        crcs: dict[int, int] = {}
        parts = {name: vars(getattr(self, name)) for name in ("train", "valid", "test")}
        parts["unlabelled"] = {"x": self.unlabelled}
        for split, rows_of in parts.items():
            for part, rows in rows_of.items():
                if isinstance(rows, Rows):
                    key = id(rows.array)
                    crcs[key] = crcs[key] if key in crcs else _crc(rows.array)
                    described.append({"crc": crcs[key], "columns": rows.columns})
                    rows = None if rows.index is None else torch.from_numpy(rows.index)  # noqa: PLW2901
                if rows is not None:
                    tensors[f"{split}.{part}"] = rows
        text = json.dumps([described, checksum(tensors)])
        return hashlib.sha256(text.encode()).hexdigest()


def _inside(rows: Any, domain: Domain, where: str) -> Tensor | Rows:
    """Rows as tensors of the domain's type, after a look whether they lie in it; a file is not read."""
    if isinstance(rows, Rows):
        if rows.shape[1:] != domain.shape:
            raise DataError(f"{where}: rows of shape {rows.shape[1:]}, not {domain.shape}")
        return rows
    x = torch.as_tensor(rows)
    if not x.is_floating_point():
        x = x.long() if domain.discrete else x.float()
    domain.check(x, where)
    # Each row in one piece: from an array stored by columns, a batch takes ten times as long.
    return (x.long() if domain.discrete else x).contiguous()


def _crc(array: np.ndarray) -> int:
    """A checksum of an array's bytes, at the speed of memory."""
    crc = 0
    for _, chunk in Rows(array, array.dtype).chunks():
        crc = zlib.crc32(np.ascontiguousarray(chunk).data, crc)
    return crc
