"""Kinds of columns: the support and the base measure of one entry of a sample."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import torch
from torch import Tensor

from likely.core.errors import DomainError


@dataclass(frozen=True)
class Column:
    """The kind of one entry of a sample."""

    discrete: ClassVar[bool] = False

    @property
    def kind(self) -> str:
        return type(self).__name__.lower()

    def contains(self, x: Tensor) -> Tensor:
        """Whether each value lies in the column's support."""
        return x.isfinite()

    def describe(self) -> str:
        """The support in words, for error messages."""
        return "a finite real number"

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind} | {
            entry.name: getattr(self, entry.name) for entry in fields(self) if entry.init
        }


@dataclass(frozen=True)
class Real(Column):
    """The real line."""


@dataclass(frozen=True)
class Positive(Column):
    """The half-line (0, ∞)."""

    def contains(self, x: Tensor) -> Tensor:
        return x.isfinite() & (x > 0)

    def describe(self) -> str:
        return "a finite number above 0"


@dataclass(frozen=True)
class Interval(Column):
    """The interval [low, high]."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise DomainError(
                f"{self.kind}({self.low}, {self.high}): the bounds must be finite, the lower one first"
            )
        object.__setattr__(self, "low", float(self.low))
        object.__setattr__(self, "high", float(self.high))

    def contains(self, x: Tensor) -> Tensor:
        return (x >= self.low) & (x <= self.high)

    def describe(self) -> str:
        return f"a number from {self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class Periodic(Interval):
    """A circle: `low` and `high` are the same point."""


@dataclass(frozen=True)
class Constant(Column):
    """A single value, which contributes nothing to a likelihood (a unit atom)."""

    value: float
    discrete: ClassVar[bool] = True

    def contains(self, x: Tensor) -> Tensor:
        return x == torch.as_tensor(self.value, dtype=x.dtype, device=x.device)

    def describe(self) -> str:
        return f"the constant {self.value:g}"


@dataclass(frozen=True)
class Discrete(Column):
    """A column of whole numbers; `levels` is None where they have no upper bound."""

    levels: int | None
    discrete: ClassVar[bool] = True
    low: ClassVar[int] = 0  # the value of code 0 …
    step: ClassVar[int] = 1  # … and the distance between neighbouring values

    def __post_init__(self) -> None:
        if self.levels is not None and self.levels < 1:
            raise DomainError(f"{self.kind}({self.levels}): at least one level is needed")

    def contains(self, x: Tensor) -> Tensor:
        if self.levels is None:
            return x.isfinite() & (x >= self.low) & (x == x.floor())
        code = (x.to(torch.float64) - self.low) / self.step
        return (code >= 0) & (code <= self.levels - 1) & (code == code.floor())

    def describe(self) -> str:
        if self.levels is None:
            return "a whole number from 0 on"
        return f"a whole number from 0 to {self.levels - 1}"


@dataclass(frozen=True)
class Integer(Discrete):
    """Ordered levels 0 … levels − 1."""


@dataclass(frozen=True)
class Count(Discrete):
    """Whole numbers 0, 1, 2 … without an upper bound."""

    levels: int | None = field(default=None, init=False)


@dataclass(frozen=True)
class Binary(Discrete):
    """0 or 1."""

    levels: int | None = field(default=2, init=False)


@dataclass(frozen=True)
class Spin(Binary):
    """−1 or +1."""

    low: ClassVar[int] = -1
    step: ClassVar[int] = 2

    def describe(self) -> str:
        return "-1 or 1"


@dataclass(frozen=True, init=False)
class Categorical(Discrete):
    """Unordered values 0 … k − 1, with labels where they have names."""

    labels: tuple[str, ...] | None

    def __init__(self, categories: int | Sequence[str]) -> None:
        labels = None if isinstance(categories, int) else tuple(str(label) for label in categories)
        object.__setattr__(self, "levels", len(labels) if labels is not None else categories)
        object.__setattr__(self, "labels", labels)
        self.__post_init__()
        if labels and len(set(labels)) < len(labels):
            raise DomainError("categorical: two categories have the same label")

    def to_json(self) -> dict[str, Any]:
        categories = self.levels if self.labels is None else list(self.labels)
        return {"kind": self.kind, "categories": categories}


COLUMNS: dict[str, type[Column]] = {
    column.__name__.lower(): column
    for column in (
        Real,
        Positive,
        Interval,
        Periodic,
        Constant,
        Integer,
        Count,
        Categorical,
        Binary,
        Spin,
    )
}


def column_from_json(data: dict[str, Any]) -> Column:
    """The column that `to_json` wrote."""
    arguments = {key: value for key, value in data.items() if key != "kind"}
    return COLUMNS[data["kind"]](**arguments)


def parse_column(text: str) -> Column:
    """A column kind from text such as `real`, `interval(0, 1)`, `periodic(-pi, pi)`, `categorical(e, mu)`.

    Raises
    ------
    DomainError
        If the text is none of these.
    """
    kind, _, rest = text.strip().partition("(")
    kind = kind.strip().lower()
    cls = COLUMNS.get(kind)
    if cls is None or (rest and not rest.endswith(")")):
        raise DomainError(f"unknown column kind {text!r}: take one of {', '.join(COLUMNS)}")
    parts = [part.strip() for part in rest[:-1].split(",")] if rest else []
    try:
        if cls is Categorical and not (len(parts) == 1 and parts[0].isdigit()):
            return Categorical(parts)
        return cls(
            *(int(part) if cls in (Integer, Categorical) else _number(part) for part in parts)
        )
    except (TypeError, ValueError):
        raise DomainError(
            f"column kind {text!r}: wrong arguments; write it like 'interval(0, 1)', 'periodic(-pi, pi)', "
            f"'integer(17)', 'categorical(e, mu)' or 'real'"
        ) from None


def _number(text: str) -> float:
    sign, digits = (-1.0, text[1:]) if text.startswith("-") else (1.0, text)
    factor, star, rest = digits.partition("*")
    if digits.endswith("pi"):
        return (
            sign * math.pi * (float(factor) if star and rest == "pi" else float(digits[:-2] or 1))
        )
    return float(text)
