"""load_data: a table → select → encode → check → split."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from likely.core.columns import Categorical, Column, Real
from likely.core.domain import Domain
from likely.core.errors import DataError, LikelyError
from likely.data import check
from likely.data.dataset import Data, Rows, Split
from likely.data.encode import encode
from likely.data.readers.text import Long, TextOptions, into_lines, refuse_table
from likely.data.select import Declared, Named, Selection, resolve, select, select_rows
from likely.data.source import read, read_parts
from likely.data.split import members
from likely.data.table import MAPPED_BYTES, PART_ENTRIES, Table
from likely.data.unlabelled import check_labels, labels_of

MIN_ROWS = 10
AS_DEFAULT = TextOptions()

Missing = Literal["error", "drop", "model", "unlabelled"]


def load_data(
    source: Any,
    *,
    domain: Declared = None,
    context: Any = None,
    context_domain: Declared = None,
    predict: Any = None,
    weight: Any = None,
    columns: Named | None = None,
    window: int | None = None,
    words: bool = False,
    vocabulary: int | None = None,
    lowercase: bool = True,
    length: int | None = None,
    long: Long = "error",
    size: int | None = None,
    missing: Missing = "error",
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
          array, `context="label"`), `sprites` (with `context="factors"`), `rotations` (with
          `context="rotation"`), `galaxies` (with `context="parameters"`), or a target of
          `likely.targets`;
        - a file: `.npy`, `.npz`, `.h5`, `.hdf5`, `.parquet`, `.feather`, and tables in text, `.csv`, `.tsv`
          and `.dat`, also with `.gz` behind; several by a pattern, `events-*.csv`, and a folder with parts
          in Parquet; arrays in an `.npz` or `.h5` file by name, `events.h5::group/key`, several as a
          table, `events.h5::pt,eta`;
        - a `.txt` or `.txt.gz` file: a running text, or single ones (see `window`), over its own characters;
        - a list of single texts, or of dictionaries; a frame of pandas, polars or Arrow; a `Dataset` of
          PyTorch, in which the second of two entries is called "label";
        - a folder of images of one size, grey (h, w) or colour (3, h, w), or of folders, one for each
          class, whose names are another array, `context="label"`;
        - a `.fits` file: a table, or images, in a cube, in an extension each, or in the files of a folder;
        - a `Target`: 25,000 draws, 20,000 of them to train.

        What is larger than 256 MiB is not copied: an `.npy` file is then memory-mapped, read where
        it is needed, and may be larger than memory. So may Parquet with nothing but numbers, and HDF5:
        where an array does not lie there in one piece, it is mapped from a copy in the user's cache.
    domain : Domain or dict, optional
        Where a row lives; a dictionary declares single columns, by name or position, as a column
        kind or as text: `{"phi": "periodic(-pi, pi)"}`. The rest is inferred (`lk.infer_domain`).
    context : str, int, list of these, or array, optional
        What to condition on: columns by name or position, another array of the source by name
        (`"y"` for `y_train` …), or an array with as many rows as all splits together.
    context_domain : Domain or dict, optional
        As `domain`, for the context; columns of the context may be declared in `domain` too.
    predict : str, int, list of these, or array, optional
        What to predict from the rest, given like the context: it becomes the rows, and what would else
        be the rows the context. For classifiers and regressors.
    weight : str, int or array, optional
        Weights of the rows, given like the context, in any unit. Models that train by gradients take
        negative ones too.
    columns : str, int or list of these, optional
        The columns to take; by default all that are neither context nor weight.
    window : int, optional
        Characters of a window of a running text, by default 256, unless a domain is declared; 0: each
        line that is not empty is a text of its own.
    words : bool
        Each line that is not empty is a text of its own, of words and marks; with a declared domain
        the domain says so.
    vocabulary : int, optional
        How many different words and marks are known, by default 10,000: the most frequent ones of the
        source. All others, in later sources too, become `<unk>`.
    lowercase : bool
        Whether words lose their capitals.
    length : int, optional
        The most characters, or words and marks, of single texts; by default those of the longest one.
    long : {"error", "drop", "cut"}
        What to do about longer ones.
    size : int, optional
        Of FITS images, in pixels: they are cut around their middles to `size` × `size`, or filled with
        zeros; without it, they must have one size.
    missing : {"error", "drop", "model", "unlabelled"}
        What to do about rows with missing (NaN, None) or infinite entries. With "model" a column with missing
        entries becomes `Maybe` of its kind, and its rows stay; so do they where that is declared.
        "unlabelled": training rows without a class, a context that is empty or −1, are kept apart, as
        `Data.unlabelled`; the splits are those of "drop".
    seed : int
        Of the split, and of the draws where the source is drawn.

    Returns
    -------
    Data

    Raises
    ------
    DataError
        If the source cannot be read, has fewer than 10 rows, or holds entries that are missing,
        infinite, not numbers or outside the domain; if a column is not there; if weights sum to nothing.
        Rows are counted from 0, without a header.
    DomainError
        If a declared domain or column kind is malformed.
    LikelyError
        If the seed is negative, a context is given beside `predict`, or options of texts do not fit
        together.

    Warns
    -----
    UserWarning
        If rows are dropped, or texts cut or left out; if words are not in the vocabulary; if a
        continuous column never changes (its kind becomes `Constant`), has more than 1 % of its rows on
        one value, or holds values such as −999 far from the rest; if a column of a table looks like names
        of the rows. The last three look at a random sample where there are more than 4 million entries.
    """
    if seed < 0:
        raise LikelyError(f"seed={seed}: give a whole number from 0 on")
    texts = TextOptions(window, words, vocabulary, lowercase, length, long)
    table = read_table(source, seed, domain, texts, size)
    if predict is not None:
        if missing == "unlabelled":
            raise LikelyError(
                "missing='unlabelled': what is predicted cannot be learnt from rows without it; take 'drop'"
            )
        domain, context, context_domain = _predicting(domain, context, context_domain, predict)
    found, notes = _find(table, domain, context, context_domain, weight, columns, missing, texts)
    data, more = _into_splits(table, found, seed)
    data = data if predict is None else data.swapped()
    for note in notes + more:
        warnings.warn(f"{table.name}: {note}", stacklevel=2)
    return data


def split_table(table: Table, *, seed: int = 0, **options: Any) -> tuple[Data, list[str]]:
    """What `load_data` makes of a table with its options, but those of texts; and what it warns of."""
    options = dict.fromkeys(("domain", "context", "context_domain", "weight", "columns")) | options
    found, notes = _find(
        table, missing=options.pop("missing", "error"), texts=AS_DEFAULT, **options
    )
    data, more = _into_splits(table, found, seed)
    return data, notes + more


def _into_splits(table: Table, found: _Found, seed: int) -> tuple[Data, list[str]]:
    if len(found.x.rows) < MIN_ROWS:
        raise DataError(
            f"{table.name}: {len(found.x.rows)} usable rows; at least {MIN_ROWS} are needed to train, "
            "validate and test"
        )
    notes = found.inspect(seed)
    index_of = members(table, len(found.x.rows), found.x.domain.size, found.kept, seed)
    splits = {name: found.split(index) for name, index in index_of.items()}
    others = found.unlabelled
    for name, split in splits.items():
        if split.weight is not None and not split.weight.sum() > 0:
            raise DataError(
                f"{table.name}: the weights of the {name} split have the sum {split.weight.sum():g}, which "
                "must be positive; give more rows, or other weights"
            )
    file, *keys = table.name.split("::")
    data = Data(
        found.x.domain,
        **splits,
        context=None if found.context is None else found.context.domain,
        truth=table.truth if found.x.domain == table.domain else None,
        name="::".join([Path(file).name, *keys]),
        running=isinstance(table.values, str),
        unlabelled=None if others is None else others.take(np.arange(len(others.rows))),
    )
    return data, notes


def load_rows(
    source: Any,
    *,
    domain: Declared = None,
    context: Any = None,
    context_domain: Declared = None,
    predict: Any = None,
    weight: Any = None,
    columns: Named | None = None,
    window: int | None = None,
    size: int | None = None,
    seed: int = 0,
) -> Split:
    """Read rows without splitting them: all of them, in the order of the source.

    Parameters and errors are those of `load_data`, but that a single row will do. Given the domains
    of a fitted model, columns are found by their names. Windows of a running text follow one another.

    Returns
    -------
    Split
    """
    table = read_table(source, seed, domain, TextOptions(window), size)
    names = context, context_domain, predict, weight, columns, window
    (rows,) = _in_parts(table, domain, *names, whole=True)
    return rows


def load_parts(
    source: Any,
    *,
    domain: Domain,
    context: Any = None,
    context_domain: Declared = None,
    predict: Any = None,
    weight: Any = None,
    columns: Named | None = None,
    window: int | None = None,
    size: int | None = None,
) -> Iterator[Split]:
    """The rows of `load_rows`, some at a time, so that tables in text or Parquet may exceed memory.

    Errors are those of `load_rows`; one in a later part is raised when that part is read.
    """
    if window is not None or size is not None or domain.ends:
        tables = iter([read_table(source, 0, domain, TextOptions(window), size)])
    else:
        tables = read_parts(source)
    names = context, context_domain, predict, weight, columns, window
    for table in tables:
        yield from _in_parts(table, domain, *names)


def _in_parts(
    table: Table,
    domain: Declared,
    context: Any,
    context_domain: Declared,
    predict: Any,
    weight: Any,
    columns: Named | None,
    window: int | None,
    whole: bool = False,
) -> Iterator[Split]:
    """The rows of a table in their order, in one part or several."""
    if predict is not None:
        domain, context, context_domain = _predicting(domain, context, context_domain, predict)
    texts = TextOptions(window)
    found, notes = _find(table, domain, context, context_domain, weight, columns, "error", texts)
    for note in notes:
        warnings.warn(f"{table.name}: {note}", stacklevel=3)
    size = found.x.domain.size
    step = size if isinstance(table.values, str) else 1
    rows = len(found.x.rows)
    part = rows if whole else step * max(1, PART_ENTRIES // size)
    for start in range(0, rows, part):
        split = found.split(np.arange(start, min(start + part, rows), step))
        yield split if predict is None else split.swapped()


def _predicting(
    domain: Declared, context: Any, context_domain: Declared, predict: Any
) -> tuple[Declared, Any, Declared]:
    """Where to look for rows and context that are swapped in the end."""
    if context is not None:
        raise LikelyError(
            "predict and context: all that is not predicted is the context; choose it with columns= "
            "(--columns)"
        )
    if isinstance(domain, Mapping):  # single columns, of either
        return domain, predict, context_domain
    return context_domain, predict, domain


def read_table(
    source: Any,
    seed: int = 0,
    domain: Declared = None,
    texts: TextOptions = AS_DEFAULT,
    size: int | None = None,
) -> Table:
    """Read a source; a text is single lines where the domain or options say so."""
    if size is not None and size < 1:
        raise LikelyError(f"size={size}: give a number of pixels")
    kinds = domain.items() if isinstance(domain, Mapping) else ()
    table = read(source, seed, [key for key, kind in kinds if _is_categorical(kind)], size)
    if isinstance(table.values, str):
        lines = domain.ends if isinstance(domain, Domain) else texts.words or texts.window == 0
        if domain is None and texts.window is None and not texts.words:
            refuse_table(table)
        table = into_lines(table) if lines else table
    return table


def _is_categorical(kind: Column | str) -> bool:
    return (
        kind.startswith(("categorical", "maybe(categorical"))
        if isinstance(kind, str)
        else isinstance(kind.present, Categorical)
    )


@dataclass
class _Part:
    """The rows, or their context, on their way into `Data`."""

    rows: Rows
    domain: Domain
    dropped: np.ndarray  # texts that are too long

    def inspect(self, seed: int, learnt: bool = False) -> list[str]:
        """Declare constant columns; warnings about these and about other anomalies."""
        some = check.sample(self.rows, seed)
        self.domain, notes = check.declare_constants(self.rows, some, self.domain)
        notes += check.identifiers(some, self.domain) if learnt else []
        return notes + check.anomalies(some, self.domain)

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
    weight: _Part | None
    kept: np.ndarray | None = None  # which rows of the table these are; None: all
    unlabelled: _Part | None = None  # rows that were left out for want of a label

    def drop(self, unusable: np.ndarray, why: str) -> list[str]:
        """Leave rows out, and texts that are too long; a note on the former."""
        rows, gone = len(self.x.rows), np.union1d(unusable, self.x.dropped)
        if not len(gone):
            return []
        self.kept = np.setdiff1d(np.arange(rows), gone)
        for part in (self.x, self.context, self.weight):
            if part is not None:
                part.rows = part.rows.take(self.kept)
        return [f"{len(unusable)} of {rows} {why}"] if len(unusable) else []

    def inspect(self, seed: int) -> list[str]:
        notes = self.x.inspect(seed, learnt=True)
        notes += [] if self.context is None else self.context.inspect(seed)
        if self.weight is not None and (below := (self.weight.rows.raw(slice(None)) < 0).mean()):
            notes.append(f"{below:.2%} of the weights are negative: these rows take others away")
        return notes

    def split(self, index: np.ndarray) -> Split:
        if self.x.large:
            index = np.sort(index)  # as in the file, so that neighbours are read together
        weight = None if self.weight is None else self.weight.rows.raw(index)[:, 0]
        return Split(
            self.x.take(index),
            None if self.context is None else self.context.take(index),
            None if weight is None else torch.from_numpy(weight.astype(np.float64)).float(),
        )


def _find(
    table: Table,
    domain: Declared,
    context: Any,
    context_domain: Declared,
    weight: Any,
    columns: Named | None,
    missing: str,
    texts: TextOptions,
) -> tuple[_Found, list[str]]:
    """Rows, context and weight: each selected, encoded and checked; and notes on what was dropped."""
    if isinstance(table.values, str) and not (context is None and weight is None):
        raise DataError(
            f"{table.name}: windows of a running text have no context and no weight; with window=0 "
            "(--window 0) each line is a row that may have them"
        )
    if missing not in get_args(Missing):
        raise DataError(
            f"missing={missing!r}: take one of {', '.join(map(repr, get_args(Missing)))}"
        )
    apart = missing == "unlabelled"
    if apart and context is None:
        raise LikelyError("missing='unlabelled': name the label, as context= (--context)")
    missing = "error" if apart else missing
    if context is None and isinstance(context_domain, Domain):
        context = context_domain.names
    given = None if context is None else select(table, context, "the context")
    weighing = None if weight is None else select(table, weight, "the weight")
    if isinstance(domain, Mapping):
        known = table.labels if given is None else [*table.labels, *given.labels]
        keys = resolve(domain, known, table)
        domain = declared = dict(zip(keys, domain.values(), strict=True))
        if given is not None and not isinstance(context_domain, Domain):
            own = {key: declared.pop(key) for key in keys if key in given.labels}
            context_domain = {**own, **(context_domain or {})}
    selection = select_rows(table, domain, columns, [given, weighing])

    whole = selection.labels == table.labels  # the source's own domain is that of all columns
    known_domain = domain or (table.domain if whole else None)
    x, unusable = _encoded(selection, known_domain, missing, check.scan, texts)
    found, parts = _Found(x, None, None), [unusable]
    if given is not None:
        label, on_missing = (labels_of(given), "drop") if apart else (given, missing)
        found.context, unusable = _encoded(label, context_domain, on_missing, check.scan)
        parts.append(unusable)
        if apart and len(unusable):
            check_labels(found.context.domain, table, unusable)
            kept = np.setdiff1d(unusable, x.dropped)
            found.unlabelled = dataclasses.replace(x, rows=x.rows.take(kept))
    if weighing is not None:
        if len(weighing.labels) != 1:
            raise DataError(f"{weighing.table.name}: a weight is one number for each row")
        number: Declared = {weighing.labels[0]: Real()}
        found.weight, unusable = _encoded(weighing, number, missing, check.scan_weight)
        parts.append(unusable)
    notes = dict.fromkeys(
        note
        for part in (selection, given, weighing)
        if part is not None
        for note in part.table.notes
    )
    left_out = (
        "rows have no label: only semi-supervised models learn from them"
        if apart
        else "rows have missing or infinite entries and are left out"
    )
    return found, [*notes, *found.drop(np.unique(np.concatenate(parts)), left_out)]


def _encoded(
    selection: Selection,
    declared: Declared,
    missing: str,
    scan: Callable[[Rows, Domain, Table, str], np.ndarray],
    texts: TextOptions = AS_DEFAULT,
) -> tuple[_Part, np.ndarray]:
    """Numbers in their domain, every one of them checked, and which rows cannot be used."""
    rows, domain, dropped = encode(selection, declared, texts)
    if missing == "model" and not isinstance(declared, Domain):
        domain = check.declare_missing(rows, domain)
    return _Part(rows, domain, dropped), scan(rows, domain, selection.table, missing)
