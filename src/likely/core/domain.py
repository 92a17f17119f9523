"""Domains: where one sample lives, and which base measure its density uses.

Continuous columns use Lebesgue measure and discrete ones counting measure, so that a
log-likelihood is always in nats per sample, in the data's own units."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Shaped
from torch import Tensor

from likely.core.columns import (
    Binary,
    Categorical,
    Column,
    Constant,
    Date,
    Integer,
    Logarithmic,
    Maybe,
    Real,
    Spin,
    wanted,
)
from likely.core.errors import DataError, DomainError
from likely.core.kinds import column_from_json, parse_column
from likely.core.numbers import whole
from likely.core.words import UNKNOWN, join_words, split_words

if TYPE_CHECKING:
    import pandas as pd

Layout = Literal["vector", "sequence", "image", "lattice"]
LAYOUTS = get_args(Layout)


@dataclass(frozen=True)
class Domain:
    """Where one sample lives: its shape, the kind of each entry, and how the entries are laid out.

    Parameters
    ----------
    shape : tuple of int
        Shape of one sample.
    columns : tuple of Column
        One kind for all entries, or one for each in row-major order.
    names : tuple of str, optional
        Names of the entries, where they are columns of a table.
    layout : {"vector", "sequence", "image", "lattice"}
        Which entries are neighbours: from this a family chooses its network.
    dtypes : tuple of str, optional
        Types that the columns had in a table, for `frame`; two domains may differ in them.

    Raises
    ------
    DomainError
        If the parts do not fit together.
    """

    shape: tuple[int, ...]
    columns: tuple[Column, ...]
    names: tuple[str, ...] | None = None
    layout: Layout = "vector"
    dtypes: tuple[str, ...] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        shape = tuple(whole("shape", length, DomainError) for length in self.shape)
        object.__setattr__(self, "shape", shape)
        if not self.shape or any(length < 1 for length in self.shape):
            raise DomainError(f"a domain's shape must hold positive lengths, not {self.shape}")
        if self.layout not in LAYOUTS:
            raise DomainError(f"unknown layout {self.layout!r}: take one of {', '.join(LAYOUTS)}")
        if len(self.columns) not in (1, self.size):
            raise DomainError(
                f"{len(self.columns)} column kinds for {self.size} entries: give one for all, or one each"
            )
        if self.names is not None and {len(self.names), len({*self.names})} != {self.size}:
            raise DomainError(f"{self.size} different column names are needed, not {self.names}")

    @cached_property
    def size(self) -> int:
        """Number of entries of one sample."""
        return math.prod(self.shape)

    def column(self, index: int) -> Column:
        """The kind of entry `index`, counted in row-major order."""
        return self.columns[0] if len(self.columns) == 1 else self.columns[index]

    def name(self, index: int) -> str:
        """What to call entry `index` in a message: its name, or its position."""
        return repr(self.names[index]) if self.names else str(index)

    def label(self, index: int) -> str:
        """The name of entry `index` as it is, or its position."""
        return self.names[index] if self.names else str(index)

    @cached_property
    def groups(self) -> list[tuple[Column, list[int]]]:
        """The distinct column kinds, each with the entries that have it."""
        if len(self.columns) == 1:
            return [(self.columns[0], list(range(self.size)))]
        groups: dict[Column, list[int]] = {}
        for index, column in enumerate(self.columns):
            groups.setdefault(column, []).append(index)
        return list(groups.items())

    @property
    def moving(self) -> list[int]:
        """The entries that are not constant."""
        return [i for i in range(self.size) if not isinstance(self.column(i), Constant)]

    @property
    def kinds(self) -> set[type[Column]]:
        """The classes of the columns."""
        return {kind for column in self.columns for kind in column.kinds}

    @cached_property
    def holes(self) -> list[int]:
        """The entries that may be missing."""
        return [i for i in range(self.size) if isinstance(self.column(i), Maybe)]

    @property
    def present(self) -> "Domain":
        """Where a row lives of which nothing is missing."""
        return replace(self, columns=tuple(column.present for column in self.columns))

    @property
    def discrete(self) -> bool:
        """Whether every entry is a whole number; samples are then int64, and floating otherwise."""
        return all(
            column.discrete and not (isinstance(column, Constant) and column.value % 1)
            for column in self.columns
        )

    @property
    def widened(self) -> "Domain":
        """This domain with all columns but categories and dates real, to read rows outside it too."""

        def wide(column: Column) -> Column:
            if isinstance(column, Maybe):
                return Maybe(wide(column.of))
            return column if isinstance(column, Categorical | Date) else Real()

        return replace(self, columns=tuple(map(wide, self.columns)))

    def inside(self, x: Shaped[Tensor, "n *shape"]) -> Bool[Tensor, "n size"]:
        """Whether each entry lies in its column's support."""
        flat = x.flatten(1)
        if len(self.groups) == 1:
            return self.groups[0][0].contains(flat)
        inside = torch.empty(flat.shape, dtype=torch.bool, device=flat.device)
        for column, index in self.groups:
            inside[:, index] = column.contains(flat[:, index])
        return inside

    def contains(self, x: Shaped[Tensor, "n *shape"]) -> Bool[Tensor, " n"]:
        """Whether each row lies in the domain."""
        return self.inside(x).all(1)

    def mirrored(self, x: Shaped[Tensor, "n *shape"]) -> Shaped[Tensor, "n *shape"]:
        """Rows with all signs turned round: −x where the ends lie opposite, 1 − x where they are 0 and 1.

        Constants remain.

        Raises
        ------
        DomainError
            If a column's ends do not lie opposite, or its values have no order.
        """
        flat = x.flatten(1)
        centre = torch.zeros(self.size, dtype=flat.dtype, device=flat.device)
        for column, index in self.groups:
            low, high = column.ends
            if isinstance(column, Constant):
                low = high = column.value
            if isinstance(column, Categorical | Logarithmic | Maybe):
                raise DomainError(
                    f"column {self.name(index[0])}: {column.kind} values have no mirror image"
                )
            centre[index] = low + high if math.isfinite(low) else 0
        return (centre - flat).reshape(x.shape)

    def check(
        self, x: Shaped[Tensor, "n *shape"], where: str = "the data", first_row: int = 0
    ) -> None:
        """Raise unless every row lies in the domain.

        Parameters
        ----------
        x : Tensor, shape (n, *shape)
        where : str
            What the rows are, for the message; a file's name, say.
        first_row : int
            Number of the first row, for the message.

        Raises
        ------
        DataError
            With the first offending row and column, and what the column takes.
        """
        if tuple(x.shape[1:]) != self.shape:
            raise DataError(f"{where}: rows of shape {(*x.shape[1:],)}, not {self.shape}")
        inside = self.inside(x)
        if inside.all():
            return
        row, entry = inside.logical_not().nonzero()[0].tolist()
        column, value = self.column(entry), x.flatten(1)[row, entry].item()
        raise DataError(
            f"{where}: row {first_row + row}, column {self.name(entry)}: {column.text(value)} is not "
            f"{column.describe()}; correct the value, drop the row, or declare another domain"
        )

    def row(self, values: Sequence[Any] | Mapping[str, Any]) -> Shaped[Tensor, "*shape"]:
        """One row from a value for each entry, in order or by name; categories by their labels.

        Raises
        ------
        DataError
            If a value is missing, not a number, or not one of a column's labels.
        """
        names = [self.label(i) for i in range(self.size)]
        if isinstance(values, Mapping):
            if set(values) != set(names):
                raise DataError(f"give a value of each of {', '.join(names)}, not {[*values]}")
            values = [values[name] for name in names]
        if len(values) != self.size:
            raise DataError(f"give a value of each of {', '.join(names)}, not {len(values)}")
        codes = []
        for index, value in enumerate(values):
            try:
                codes.append(self.column(index).number(value))
            except (TypeError, ValueError):
                known = wanted(self.column(index))
                raise DataError(f"column {self.name(index)} takes {known}, not {value!r}") from None
        dtype = torch.int64 if self.discrete else torch.get_default_dtype()
        return torch.tensor(codes, dtype=dtype).reshape(self.shape)

    def frame(self, x: Shaped[Tensor, "n *shape"]) -> "pd.DataFrame":
        """Rows as a frame of pandas, with names, labels and types as they were read.

        Columns without names are called x0, x1, ….
        """
        from likely.core.frames import to_frame

        return to_frame(self, x)

    def rows(self, frame: Any) -> Shaped[Tensor, "n *shape"]:
        """Rows of a frame that has these columns, by their names; the inverse of `frame`.

        Raises
        ------
        DataError
            If a column is missing, or an entry is neither a number nor one of a column's labels.
        """
        from likely.core.frames import to_rows

        return to_rows(self, frame)

    @cached_property
    def alphabet(self) -> tuple[str, ...] | None:
        """The characters or words of a text, without the end symbol; None where entries are neither."""
        labels = getattr(self.columns[0], "labels", None)
        if labels is None or len(self.columns) > 1 or len(self.shape) > 1 or self.names:
            return None
        if labels[-1] == END:
            return tuple(labels[:-1])
        return tuple(labels) if all(len(label) == 1 for label in labels) else None

    @cached_property
    def words(self) -> bool:
        """Whether the symbols of a text are words and marks."""
        return any(len(symbol) > 1 for symbol in self.alphabet or ())

    @cached_property
    def _lower(self) -> bool:
        return all(symbol == symbol.lower() for symbol in self.alphabet or ())

    @property
    def ends(self) -> bool:
        """Whether rows are texts of their own that an end symbol fills up."""
        return self.alphabet is not None and self.columns[0].levels == len(self.alphabet) + 1  # type: ignore[attr-defined]

    def split(self, text: str) -> Sequence[str]:
        """The characters of a text, or its words and marks: in lower case if the alphabet has no other."""
        return split_words(text.lower() if self._lower else text) if self.words else text

    def codes(self, text: str) -> Shaped[Tensor, " n"]:
        """The codes of the characters, or of the words and marks, of a text.

        Raises
        ------
        DataError
            If the entries are neither, or one is not in the alphabet.
        """
        if self.alphabet is None:
            raise DataError("the model was not fitted to a text: it takes no characters")
        code = {symbol: i for i, symbol in enumerate(self.alphabet)}
        symbols = self.split(text)
        unknown = [symbol for symbol in symbols if symbol not in code]
        if unknown and self.words:
            instead = f"; write {UNKNOWN} for it, or another word" if UNKNOWN in code else ""
            raise DataError(
                f"{unknown[0]!r} is not one of the model's {len(code):,} words and marks{instead}"
            )
        if unknown:
            raise DataError(
                f"{unknown[0]!r} is not in the model's alphabet: {''.join(self.alphabet)!r}"
            )
        return torch.tensor([code[symbol] for symbol in symbols], dtype=torch.int64)

    def text_row(self, text: str) -> Shaped[Tensor, " length"]:
        """The row of a whole text, filled up with the end symbol.

        Raises
        ------
        DataError
            As `codes`; or if it is longer than a row, or shorter where texts do not end.
        """
        codes = self.codes(text)
        if len(codes) > self.size or not (self.ends or len(codes) == self.size):
            exact = "at most" if self.ends else "just"
            raise DataError(f"{text!r}: {len(codes)} symbols, and a text has {exact} {self.size}")
        row = codes.new_full((self.size,), len(self.alphabet or ()))
        row[: len(codes)] = codes
        return row

    def prefix(
        self, codes: Shaped[Tensor, " n"]
    ) -> tuple[Shaped[Tensor, " length"], Shaped[Tensor, " length"]]:
        """A row that begins with some symbols, and the mask of their entries.

        Raises
        ------
        DataError
            If there are more symbols than entries.
        """
        if len(codes) > self.size:
            raise DataError(f"the prompt has {len(codes)} symbols, a text at most {self.size}")
        row = codes.new_zeros(self.size)
        row[: len(codes)] = codes
        return row, torch.arange(self.size) < len(codes)

    def texts(self, x: Shaped[Tensor, "n length"]) -> list[str]:
        """The texts that rows of codes stand for, each up to its end symbol."""
        assert self.alphabet is not None
        symbols, end = self.alphabet, len(self.alphabet)
        join = join_words if self.words else "".join
        return [join([symbols[code] for code in takewhile(end.__ne__, row)]) for row in x.tolist()]

    @cached_property
    def _anchors(self) -> np.ndarray:
        return np.array([self.column(i).anchor for i in range(self.size)]).reshape(self.shape)

    @property
    def anchor(self) -> Tensor:
        """One point inside the support, shape (*shape,): it stands in for rows outside it."""
        return torch.tensor(self._anchors, dtype=torch.float64)

    def to_json(self) -> dict[str, Any]:
        """A description for JSON, which `from_json` reads."""
        return {
            "shape": list(self.shape),
            "columns": [column.to_json() for column in self.columns],
            "names": None if self.names is None else list(self.names),
            "layout": self.layout,
            **({"dtypes": list(self.dtypes)} if self.dtypes else {}),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Domain":
        """The domain that `to_json` wrote."""
        try:
            return cls(
                shape=tuple(data["shape"]),
                columns=tuple(column_from_json(column) for column in data["columns"]),
                names=None if data["names"] is None else tuple(data["names"]),
                layout=data["layout"],
                dtypes=tuple(data["dtypes"]) if "dtypes" in data else None,
            )
        except (KeyError, TypeError) as error:
            raise DomainError(f"not the description of a domain: {error!r}") from error

    def __str__(self) -> str:
        if self.names is not None and self.size <= 8:
            return ", ".join(f"{name} ({self.column(i)})" for i, name in enumerate(self.names))
        kinds = ", ".join(
            str(column) + (f" × {len(index)}" if len(self.groups) > 1 else "")
            for column, index in self.groups[:6]
        )
        more = ", …" if len(self.groups) > 6 else ""
        return f"{'×'.join(map(str, self.shape))} {self.layout} of {kinds}{more}"


def _uniform(
    column: Column, shape: tuple[int, ...], layout: Layout | None, default: Layout = "vector"
) -> Domain:
    """Entries of one kind; without a layout an image where there are several axes."""
    return Domain(shape or (1,), (column,), None, layout or ("image" if shape[1:] else default))


def reals(*shape: int, layout: Layout | None = None) -> Domain:
    """Real numbers; `lk.reals(1, 28, 28)` is an image unless `layout` says otherwise.

    Parameters
    ----------
    *shape : int
        Of one sample; without any, (1,).
    layout : {"vector", "sequence", "image", "lattice"}, optional
        By default a vector, and an image where there are several axes.
    """
    return _uniform(Real(), shape, layout)


def binary(*shape: int, layout: Layout | None = None) -> Domain:
    """Zeros and ones.

    Parameters
    ----------
    *shape : int
        Of one sample; without any, (1,).
    layout : {"vector", "sequence", "image", "lattice"}, optional
        By default a vector, and an image where there are several axes.
    """
    return _uniform(Binary(), shape, layout)


def integers(levels: int, *shape: int, layout: Layout | None = None) -> Domain:
    """Ordered levels 0 … levels − 1.

    Parameters
    ----------
    levels : int
    *shape : int
        Of one sample; without any, (1,).
    layout : {"vector", "sequence", "image", "lattice"}, optional
        By default a vector, and an image where there are several axes.
    """
    return _uniform(Integer(levels), shape, layout)


def categories(
    categories: int | Sequence[str], *shape: int, layout: Layout | None = None
) -> Domain:
    """Unordered symbols 0 … k − 1, a sequence unless `layout` says otherwise.

    Parameters
    ----------
    categories : int or sequence of str
        How many there are, or their labels.
    *shape : int
        Of one sample; without any, (1,).
    layout : {"vector", "sequence", "image", "lattice"}, optional
        By default a sequence, and an image where there are several axes.
    """
    return _uniform(Categorical(categories), shape, layout, default="sequence")


def spins(*shape: int) -> Domain:
    """Values ±1 on a periodic lattice.

    Parameters
    ----------
    *shape : int
        Of one sample; without any, (1,).
    """
    return _uniform(Spin(), shape, "lattice")


END = "<end>"


def text(vocabulary: Sequence[str], max_length: int) -> Domain:
    """Texts of at most `max_length` symbols of a vocabulary, filled up with an end symbol.

    The symbols are characters; or words and marks, where one of them has several characters.
    """
    return categories([*vocabulary, END], max_length)


def table(*columns: Column | str, **named: Column | str) -> Domain:
    """A table's columns, unnamed or named: `lk.table(phi=lk.Periodic(-pi, pi), e=lk.Positive())`.

    Raises
    ------
    DomainError
        If there are no columns, or named and unnamed ones are mixed.
    """
    if bool(columns) == bool(named):
        raise DomainError("table: give columns either all by position or all by name")
    kinds = tuple(map(parse_column, columns or named.values()))
    return Domain((len(kinds),), kinds, names=tuple(named) or None)
