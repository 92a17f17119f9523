"""From what a reader found to numbers in a domain."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from likely.core.columns import Categorical, Column, Date
from likely.core.dates import date_kind, to_numbers
from likely.core.domain import Domain, categories, text
from likely.core.errors import DataError, DomainError
from likely.core.inference import infer_domain
from likely.core.kinds import parse_column
from likely.core.words import UNKNOWN
from likely.data.dataset import Rows
from likely.data.numerals import Ambiguous, are_dates, read_numbers
from likely.data.readers.text import WINDOW, TextOptions
from likely.data.select import Declared, Selection, few, resolve
from likely.data.table import MAPPED_BYTES, Table

MAX_SYMBOLS = 1 << 31  # of all lines, filled up to the longest
EXACT = 2**53  # up to which float64 holds all whole numbers
MANY_CATEGORIES = 50  # with which a column of text, mostly different in each row, is no category
# What `pandas.api.types.infer_dtype` finds in columns that are neither numbers nor text.
UNREADABLE = {
    *("bytes", "complex", "date", "datetime", "datetime64", "time", "timedelta", "timedelta64"),
    *("period", "interval"),
}
LEAVE_OUT = "or leave the column out with columns= (--columns)"


NONE = np.empty(0, np.int64)


def encode(
    selection: Selection, declared: Declared, texts: TextOptions
) -> tuple[Rows, Domain, np.ndarray]:
    """Numbers, in the type in which they are stored, and their domain.

    Parameters
    ----------
    selection : Selection
    declared : Domain or mapping of column to kind, optional
        What is not declared is inferred.
    texts : TextOptions
        Of them only `long` counts where a domain is declared.

    Returns
    -------
    rows : Rows
        Entries that are missing are NaN.
    domain : Domain
    dropped : ndarray of int64
        Rows that are texts too long to be kept.

    Raises
    ------
    DataError
        If a declared column is not there, if a column's entries cannot become numbers of its kind,
        or if the rows do not have the shape of a declared domain.
    DomainError
        If a column kind is not one.
    """
    table, labels = selection.table, selection.labels
    if isinstance(table.values, list):
        return _encode_lines(table, declared, texts)
    if isinstance(table.values, str):
        window = WINDOW if texts.window is None else texts.window
        return *_encode_running(table, declared, window), NONE
    kinds: dict[str, Column] = {}
    if isinstance(declared, Mapping):
        keys = resolve(declared, labels, table)
        for key, kind in zip(keys, declared.values(), strict=True):
            kinds[key] = parse_column(kind)
    elif declared is not None and declared.size == len(labels):
        kinds = {label: declared.column(i) for i, label in enumerate(labels)}
    if isinstance(table.values, pd.DataFrame):
        rows, domain = _encode_frame(selection, kinds)
    else:
        positions = None if selection.columns is None else [*map(table.labels.index, labels)]
        rows = Rows(table.values, table.values.dtype, columns=positions)
        domain = declared if isinstance(declared, Domain) else _infer(rows, selection, kinds)
    if isinstance(declared, Domain):
        return _laid_out(rows, declared, table.name), declared, NONE
    return rows, domain, NONE


def _laid_out(rows: Rows, domain: Domain, name: str) -> Rows:
    """The rows in the shape of a declared domain, which flat rows can take in one way only."""
    if rows.shape[1:] == (domain.size,) and rows.columns is None:
        return Rows(rows.array.reshape(-1, *domain.shape), rows.dtype)
    if rows.shape[1:] != domain.shape:
        raise DataError(
            f"{name}: rows of shape {rows.shape[1:]} where the declared domain has {domain.shape}; "
            "declare another domain, or reshape the data"
        )
    return rows


def _infer(rows: Rows, selection: Selection, kinds: dict[str, Column]) -> Domain:
    # In a large array all columns are looked at together, so as not to copy some of them.
    large = rows.nbytes > MAPPED_BYTES
    domain = infer_domain(rows.array if large else rows.raw(slice(None)))
    labels, names = selection.labels, selection.columns or selection.table.names
    if not labels:
        return domain
    columns = tuple(kinds.get(label, domain.column(0)) for label in labels)
    return Domain(
        (len(labels),),
        columns if kinds else domain.columns,
        None if names is None else tuple(names),
    )


def _encode_frame(selection: Selection, kinds: dict[str, Column]) -> tuple[Rows, Domain]:
    table, labels = selection.table, selection.labels
    assert isinstance(table.values, pd.DataFrame)
    encoded, wrong = [], {}
    for label in labels:
        try:
            declared = kinds.get(label)
            present = None if declared is None else declared.present
            numbers, kind = encode_column(table, table.labels.index(label), present)
            encoded.append((numbers, declared or kind))
        except DataError as error:
            wrong[label] = error
    if wrong:
        first, *others = wrong
        more = f"; nor can {few(others, 4)} be read" if others else ""
        raise DataError(f"{wrong[first]}{more}") from wrong[first]
    array = np.stack([numbers for numbers, _ in encoded], 1)
    by_position = selection.columns is None and table.by_position
    names = None if by_position else tuple(labels)
    types = table.values.dtypes.set_axis(table.labels)[labels]
    dtypes = tuple(str(dtype).removesuffix("[pyarrow]") for dtype in types)
    domain = Domain((len(labels),), tuple(kind for _, kind in encoded), names, dtypes=dtypes)
    return Rows(array, array.dtype), domain


def encode_column(table: Table, position: int, kind: Column | None) -> tuple[np.ndarray, Column]:
    """One column of a table in float64, NaN where an entry is missing, and its kind."""
    assert isinstance(table.values, pd.DataFrame)
    series, label = table.values.iloc[:, position], table.labels[position]
    present = series.notna().to_numpy()
    if not present.any():
        raise DataError(
            f"{table.name}: column {label!r} is empty; leave it out with columns= (--columns)"
        )
    series = series[present]
    holds = pd.api.types.infer_dtype(series)
    dates = date_kind(series) if kind is None else kind if isinstance(kind, Date) else None
    if holds in UNREADABLE and dates is None:
        raise DataError(
            f"{table.name}: column {label!r} holds {holds} values; convert them to numbers or text, "
            f"{LEAVE_OUT}"
        )
    if holds.startswith("mixed"):
        nested = series.map(
            lambda value: isinstance(value, list | dict | tuple | set | bytes | np.ndarray)
        )
        if nested.any():
            where, row = table.where(int(np.flatnonzero(present)[nested.argmax()]))
            raise DataError(
                f"{where}: row {row}, column {label!r} holds {type(series[nested].iloc[0]).__name__} values; "
                f"spread them over columns of their own, {LEAVE_OUT}"
            )
    if isinstance(series.dtype, pd.CategoricalDtype):
        kind = kind or infer_domain(series.to_frame()).column(0)
        series = series.astype(str)
    if dates is not None:
        kind, numbers = dates, pd.Series(to_numbers(series, dates))
    else:
        numbers = _as_numbers(table, series, label, kind)
    if kind is None:
        # Text in a column that mostly reads as numbers is a slip, not a category.
        numeric = numbers.notna().sum() > len(numbers) / 2
        kind = infer_domain((numbers if numeric else series).to_frame()).column(0)
        levels = series.nunique() if isinstance(kind, Categorical) else 0
        if too_many(levels, len(series)):
            table.notes.append(
                f"column {label!r} has {levels} categories in {len(series)} rows, such as "
                f"{series.iloc[0]!r}: if these are names of the rows, leave it out with columns= (--columns)"
            )
    labels = kind.labels if isinstance(kind, Categorical) else None
    if labels is not None:
        codes = pd.Index(labels).get_indexer(pd.Index(series.map(_as_text).astype(object)))
        numbers = pd.Series(codes, dtype=np.float64).where(codes >= 0)
    values = numbers.to_numpy(dtype=np.float64, na_value=np.nan)
    if np.isnan(values).any():
        first = int(np.flatnonzero(np.isnan(values))[0])
        where, row = table.where(int(np.flatnonzero(present)[first]))
        expected = kind.describe() if labels is None else f"one of the categories {few(labels)}"
        raise DataError(
            f"{where}: row {row}, column {label!r}: {series.iloc[first]!r} is not {expected}; correct "
            "it, leave it empty with missing='drop' (--missing drop), or declare another kind of column"
        )
    column = np.full(len(present), np.nan)
    column[present] = values
    return column, kind


def too_many(levels: int, rows: int) -> bool:
    """Whether so many different texts in so many rows look like names of the rows."""
    return levels > max(MANY_CATEGORIES, rows / 2)


def _as_numbers(table: Table, series: pd.Series, label: str, kind: Column | None) -> pd.Series:
    """The numbers of a column, NaN where an entry is none; a note if they were not plainly written."""
    numbers = pd.to_numeric(series, errors="coerce")
    if pd.api.types.is_integer_dtype(series) and (series.abs() > EXACT).any():
        table.notes.append(
            f"column {label!r} has whole numbers beyond 2⁵³, which are rounded: if they are names of the "
            "rows, leave it out with columns= (--columns)"
        )
    if pd.api.types.is_numeric_dtype(series):
        return numbers
    texts = series.astype(str)
    distinct = texts.drop_duplicates()  # of a category there are few, however many rows
    if not isinstance(kind, Categorical) and are_dates(distinct):
        raise DataError(
            f"{table.name}: column {label!r} holds dates or times, such as {series.iloc[0]!r}; write dates "
            f"as 2024-05-01 or 2024-05-01T12:30 and times as numbers, {LEAVE_OUT}"
        )
    if distinct.str.match(r"0\d").any():  # codes such as 007
        return pd.Series(np.nan, series.index)
    if numbers.notna().all() or isinstance(kind, Categorical):
        return numbers
    try:
        read = read_numbers(distinct)
    except Ambiguous as error:
        other = ", or declare the column categorical with its labels" if kind is None else ""
        raise DataError(
            f"{table.name}: column {label!r} {error}; write plain numbers, read the file with "
            f"pandas.read_csv(…, decimal=',') or thousands=','{other}"
        ) from error
    if read is None:
        return numbers
    table.notes.append(f"column {label!r}: {read[1]}")
    return texts.map(read[0].set_axis(distinct))


def _as_text(value: object) -> str:
    """How a value reads as a label; a whole number has no decimal point."""
    return f"{value:.0f}" if isinstance(value, float) and value.is_integer() else str(value)


def _encode_lines(
    table: Table, declared: Declared, texts: TextOptions
) -> tuple[Rows, Domain, np.ndarray]:
    """Texts as codes of symbols, filled up with the end symbol, and which are too long to be kept."""
    assert isinstance(table.values, list)
    fixed = isinstance(declared, Domain) and declared.ends
    if declared is not None and not fixed:
        raise DomainError(f"{table.name}: lines of text; declare lk.text(vocabulary, max_length)")
    lines = [(declared if fixed else texts).split(line) for line in table.values]  # type: ignore[union-attr]
    lengths = np.array([len(line) for line in lines])
    row, longest = int(lengths.argmax()), int(lengths.max())
    room = declared.size if fixed else min(longest, texts.length or longest)  # type: ignore[union-attr]
    long = np.flatnonzero(lengths > room)
    where, at = table.where(row)
    if len(long) and texts.long == "error":
        raise DataError(
            f"{where}: row {at} has {longest} symbols, and there is room for {room}; break it up, leave "
            "such texts out with long='drop' (--long drop), or cut them with long='cut'"
        )
    dropped = long if texts.long == "drop" else NONE
    if len(long):
        done = "left out" if len(dropped) else "cut there"
        table.notes.append(
            f"{len(long):,} of {len(lines):,} texts have more than {room} symbols and are {done}"
        )
        lines = [line[:room] for line in lines]
    if fixed:
        domain = declared
    elif len(lines) * room > MAX_SYMBOLS:
        raise DataError(
            f"{where}: row {at} has {longest:,} symbols, too many to fill up {len(lines):,} lines to that "
            "length; break long lines up, or say which is too long with length= (--length)"
        )
    else:
        kept = np.delete(np.arange(len(lines)), dropped)
        domain = text(texts.alphabet(lines[i] for i in kept), room)
    assert isinstance(domain, Domain)
    codes = (_word_codes if domain.words else _character_codes)(lines, domain)
    if codes.min() < 0:
        first, position = np.argwhere(codes < 0)[0].tolist()
        where, row = table.where(first)
        raise DataError(
            f"{where}: row {row}, column {position}: {lines[first][position]!r} is not in the "
            "vocabulary; replace it, or declare a vocabulary that has it"
        )
    assert domain.alphabet is not None
    if UNKNOWN in domain.alphabet:
        used = codes < len(domain.alphabet)
        used[dropped] = False
        if share := (codes[used] == domain.alphabet.index(UNKNOWN)).mean():
            table.notes.append(f"{share:.2%} of the words are not in the vocabulary: {UNKNOWN}")
    return Rows(codes, codes.dtype), domain, dropped


def _character_codes(lines: Sequence[Sequence[str]], domain: Domain) -> np.ndarray:
    """Codes of texts of characters, −1 of those that are not in the alphabet."""
    assert domain.alphabet is not None
    codes = _code_table(domain.alphabet, end=len(domain.alphabet))
    characters = np.array(lines, dtype=f"U{domain.size}").view(np.uint32)
    return codes[characters].reshape(len(lines), domain.size)


def _word_codes(lines: Sequence[Sequence[str]], domain: Domain) -> np.ndarray:
    """Codes of texts of words; that of `<unk>`, or else −1, of those that are not in the alphabet."""
    assert domain.alphabet is not None
    code = {word: i for i, word in enumerate(domain.alphabet)}
    unknown = code.get(UNKNOWN, -1)
    codes = np.full((len(lines), domain.size), len(code), np.int32)
    for row, line in enumerate(lines):
        codes[row, : len(line)] = [code.get(word, unknown) for word in line]
    return codes


def _encode_running(table: Table, declared: Declared, window: int) -> tuple[Rows, Domain]:
    """All windows of a running text, as codes of characters; a view of the text's own codes."""
    content = table.values
    assert isinstance(content, str)
    if declared is None:
        domain = categories(sorted(set(content)), window)
    elif isinstance(declared, Domain) and declared.alphabet is not None and not declared.ends:
        domain = declared
    else:
        raise DomainError(
            f"{table.name}: a running text; declare lk.categories(characters, length of a window)"
        )
    if len(content) < domain.size:
        other = "; take a shorter one with window= (--window), or 0 where each line is a sample"
        raise DataError(
            f"{table.name}: {len(content)} characters, and a window has {domain.size}"
            + (other if declared is None else "; give more of the text")
        )
    assert domain.alphabet is not None
    codes = _code_table(domain.alphabet)[np.array([content]).view(np.uint32)]
    if codes.min() < 0:
        position = int(codes.argmin())
        raise DataError(
            f"{table.name}: character {position}: {content[position]!r} is not in the vocabulary; "
            "replace it, or declare a vocabulary that has it"
        )
    codes = codes.astype(np.min_scalar_type(len(domain.alphabet)))
    windows = np.lib.stride_tricks.sliding_window_view(codes, domain.size)
    return Rows(windows, windows.dtype), domain


def _code_table(alphabet: Sequence[str], end: int = -1) -> np.ndarray:
    """The code of each Unicode character, −1 of those that are not in the alphabet.

    NumPy fills short strings up with zeros, which become `end`.
    """
    code = np.full(0x110000, -1, np.int32)
    code[[ord(character) for character in alphabet]] = np.arange(len(alphabet))
    code[0] = end
    return code
