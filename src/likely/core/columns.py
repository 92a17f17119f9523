"""Kinds of columns: the support and the base measure of one entry, and its chart of real numbers."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from likely.core.errors import DomainError
from likely.core.numbers import finite, plain, whole

FAR = 30.0  # standard deviations up to which networks see a number as it is
EDGE = 2.0**-24  # the bounds of an interval count as this part of its width inside
MAX_COUNT = 2.0**62  # the largest count that is drawn; int64 holds it
UNITS = {"days": 86_400, "seconds": 1}  # of dates
FAR_TIME = 2.0**56  # seconds, within which calendars reach
FEW_LEVELS = 64  # largest number of levels that networks see one by one


@dataclass(frozen=True)
class Column:
    """The kind of one entry of a sample.

    It brings its chart: a bijection of its values, made continuous by `dequantise` if they are whole
    numbers, to `coordinates` real numbers each.
    """

    discrete: ClassVar[bool] = False
    periodic: ClassVar[bool] = False
    step: ClassVar[int] = 0  # distance between neighbouring values
    coordinates: ClassVar[int] = 1  # 0 where the value is known

    @property
    def kind(self) -> str:
        return type(self).__name__.lower()

    def __str__(self) -> str:
        return self.kind

    @property
    def kinds(self) -> set[type["Column"]]:
        """What a family must take to take this column."""
        return {type(self)}

    @property
    def present(self) -> "Column":
        """The kind of the values that are not missing."""
        return self

    @property
    def ends(self) -> tuple[float, float]:
        """The least and the greatest value; infinite where there is none."""
        return -math.inf, math.inf

    @property
    def anchor(self) -> float:
        """A value inside the support."""
        return 0.0

    @property
    def bounded(self) -> bool:
        """Whether there are two ends, which do not meet."""
        return not self.periodic and all(map(math.isfinite, self.ends))

    def contains(self, x: Tensor) -> Tensor:
        """Whether each value lies in the column's support."""
        return x.isfinite()

    def describe(self) -> str:
        """The support in words, for error messages."""
        return "a finite real number"

    def number(self, value: Any) -> float:
        """The number that stands for a value as a user writes it.

        Raises
        ------
        TypeError, ValueError
            If there is none.
        """
        return float(value)

    def text(self, value: float) -> str:
        """How a message shows a number."""
        return f"{value:g}"

    def dequantise(
        self, x: Tensor, at: Tensor | float | None = None, centre: float = 0.0
    ) -> Tensor:
        """A point of the cell [x − centre · step, x + (1 − centre) · step) that each value stands for.

        It lies `at` a part of the cell, or anywhere in it at random.
        """
        return x

    def to_reals(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """The bijection of dequantised values to the reals, and log |slope|, by steps if discrete.

        Between two ends it is Φ⁻¹((y − low)/(high − low)): uniform data become normal, and densities
        that vanish or diverge like a power at a bound keep Gaussian tails.
        """
        if not self.bounded:
            return y, torch.zeros_like(y)
        low, high = self.ends
        width = high + self.step - low
        part = (y - low) / width
        # Rounding has put a row onto a bound: the same for all types of numbers.
        part = torch.where(part <= 0, EDGE, part)
        z = torch.special.ndtri(torch.where(part >= 1, 1 - EDGE, part))
        return z, (z.square() + math.log(2 * math.pi)) / 2 - math.log(width / (self.step or 1))

    def from_reals(self, z: Tensor) -> Tensor:
        """Inverse of `to_reals`; angles may come in any turn."""
        if not self.bounded:
            return z
        low, high = self.ends
        return low + (high + self.step - low) * torch.special.ndtr(z)

    def quantise(self, y: Tensor, info: torch.finfo, centre: float = 0.0) -> Tensor:
        """The value that y stands for, within the support also where it rounds.

        `info` is that of the numbers that are to hold it, and `centre` that of `dequantise`.
        """
        return y

    def natural_scale(self, x: Tensor) -> Tensor:
        """x on the scale on which its values are compared: a logarithm where they are positive."""
        return x

    def features(self, x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        """Inputs of a network, shape (*x.shape, k); shift and scale are those of `natural_scale`."""
        y = self.natural_scale(x)
        z = (y - shift.to(y)) / scale.to(y)
        # So far out that a network has seen nothing like it, only the order of magnitude counts.
        far = z.sign() * (FAR + (z.abs() / FAR).clamp_min(1).log())
        return torch.where(z.abs() > FAR, far, z)[..., None]

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind} | {
            entry.name: getattr(self, entry.name) for entry in fields(self) if entry.init
        }


@dataclass(frozen=True)
class Real(Column):
    """The real line."""


@dataclass(frozen=True)
class Date(Real):
    """Dates: the number of days or seconds since 1970-01-01 in UTC, on the real line.

    They are read from dates or ISO texts such as 2024-05-01 or 2024-05-01T12:30, and come back as dates, to a
    whole `unit`; a density is one for each unit.
    """

    unit: str = "days"

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise DomainError(f"date({self.unit}): the unit is one of {', '.join(UNITS)}")

    def __str__(self) -> str:
        return f"date({self.unit})"

    @property
    def kinds(self) -> set[type[Column]]:
        return {Real}

    @property
    def seconds(self) -> int:
        """Length of the unit."""
        return UNITS[self.unit]

    def describe(self) -> str:
        return f"a date such as {self.text(0)}"

    def number(self, value: Any) -> float:
        if isinstance(value, int | float):
            return float(value)
        since = np.datetime64(str(value)) - np.datetime64(0, "s")
        return float(since / np.timedelta64(self.seconds, "s"))

    def text(self, value: float) -> str:
        if not abs(seconds := value * self.seconds) < FAR_TIME:
            return super().text(value)
        time = np.datetime64(round(seconds), "s")
        return str(time.astype("M8[D]") if self.unit == "days" else time)


class Logarithmic(Column):
    """A column whose chart is the logarithm."""

    def to_reals(self, y: Tensor) -> tuple[Tensor, Tensor]:
        z = y.clamp_min(torch.finfo(y.dtype).tiny).log()
        return z, -z

    def from_reals(self, z: Tensor) -> Tensor:
        return z.exp()


@dataclass(frozen=True)
class Positive(Logarithmic):
    """The half-line (0, ∞)."""

    @property
    def anchor(self) -> float:
        return 1.0

    def contains(self, x: Tensor) -> Tensor:
        return x.isfinite() & (x > 0)

    def describe(self) -> str:
        return "a finite number above 0"

    def quantise(self, y: Tensor, info: torch.finfo, centre: float = 0.0) -> Tensor:
        return y.clamp(info.tiny, info.max)

    def natural_scale(self, x: Tensor) -> Tensor:
        return x.log()


@dataclass(frozen=True)
class Interval(Column):
    """The interval [low, high]."""

    low: float
    high: float

    def __post_init__(self) -> None:
        low, high = (finite(bound) for bound in (self.low, self.high))
        if low is None or high is None or not low < high:
            raise DomainError(
                f"{self.kind}({self.low}, {self.high}): the bounds must be finite, the lower one first"
            )
        object.__setattr__(self, "low", low)
        object.__setattr__(self, "high", high)

    @property
    def anchor(self) -> float:
        return (self.low + self.high) / 2

    @cached_property
    def reach(self) -> tuple[float, float]:
        """Ends of the values that count as inside, also when they come in float32, whose π is more than π."""
        with np.errstate(over="ignore"):
            low, high = float(np.float32(self.low)), float(np.float32(self.high))
        return min(low, self.low), max(high, self.high)

    def contains(self, x: Tensor) -> Tensor:
        low, high = self.reach
        return (x >= low) & (x <= high)

    def describe(self) -> str:
        return f"a number from {self.low:g} to {self.high:g}"

    @property
    def ends(self) -> tuple[float, float]:
        return self.low, self.high

    def quantise(self, y: Tensor, info: torch.finfo, centre: float = 0.0) -> Tensor:
        return y.clamp(self.low, self.high)


@dataclass(frozen=True)
class Periodic(Interval):
    """A circle: `low` and `high` are the same point. Its chart is an angle in [−π, π)."""

    periodic: ClassVar[bool] = True

    def to_reals(self, y: Tensor) -> tuple[Tensor, Tensor]:
        factor = 2 * math.pi / (self.high - self.low)
        return (y - self.low) * factor - math.pi, torch.full_like(y, math.log(factor))

    def from_reals(self, z: Tensor) -> Tensor:
        turns = (z + math.pi) / (2 * math.pi)
        return self.low + (self.high - self.low) * (turns - turns.floor())

    def features(self, x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        angle = (x - self.low) * (2 * math.pi / (self.high - self.low))
        return torch.stack([angle.cos(), angle.sin()], -1)


@dataclass(frozen=True)
class Constant(Column):
    """A single value, which contributes nothing to a likelihood (a unit atom)."""

    value: float
    discrete: ClassVar[bool] = True
    coordinates: ClassVar[int] = 0

    def __post_init__(self) -> None:
        if finite(self.value) is None:
            raise DomainError(f"constant({self.value!r}): give a finite number")
        object.__setattr__(self, "value", plain(self.value))

    @property
    def anchor(self) -> float:
        return self.value

    def contains(self, x: Tensor) -> Tensor:
        return x == torch.as_tensor(self.value, dtype=x.dtype, device=x.device)

    def describe(self) -> str:
        return f"the constant {self.value:g}"

    def features(self, x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        return x.new_empty(*x.shape, 0)


@dataclass(frozen=True)
class Discrete(Column):
    """A column of whole numbers; `levels` is None where they have no upper bound."""

    levels: int | None
    discrete: ClassVar[bool] = True
    low: ClassVar[int] = 0  # the value of code 0
    step: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if self.levels is not None:
            object.__setattr__(self, "levels", whole("levels", self.levels, DomainError))
        if self.levels is not None and self.levels < 1:
            raise DomainError(f"{self.kind}({self.levels}): at least one level is needed")

    @property
    def anchor(self) -> float:
        return self.low

    def contains(self, x: Tensor) -> Tensor:
        code = self.code(x.to(torch.float64))
        return x.isfinite() & (code >= 0) & (code <= self.top) & (code == code.floor())

    def describe(self) -> str:
        return f"a whole number from 0 {'on' if self.levels is None else f'to {self.levels - 1}'}"

    @property
    def ends(self) -> tuple[float, float]:
        return self.low, self.low + self.step * self.top

    @property
    def top(self) -> float:
        """The code of the greatest value."""
        return math.inf if self.levels is None else self.levels - 1.0

    def code(self, x: Tensor) -> Tensor:
        """Which of the levels each value is, counted from 0."""
        return (x - self.low) / self.step

    def dequantise(
        self, x: Tensor, at: Tensor | float | None = None, centre: float = 0.0
    ) -> Tensor:
        part = torch.rand_like(x) if at is None else at
        return x + self.step * (part - centre)

    def quantise(self, y: Tensor, info: torch.finfo, centre: float = 0.0) -> Tensor:
        code = (self.code(y) + centre).floor().clamp(0, min(self.top, MAX_COUNT))
        return self.low + self.step * code

    def features(self, x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        if self.levels == 2:
            return (2 * self.code(x) - 1)[..., None]
        return super().features(x, shift, scale)


@dataclass(frozen=True)
class Integer(Discrete):
    """Ordered levels 0 … levels − 1."""

    @property
    def few(self) -> bool:
        """Whether there are so few levels that networks see each by itself."""
        return (self.levels or 0) <= FEW_LEVELS


@dataclass(frozen=True)
class Count(Logarithmic, Discrete):
    """Whole numbers 0, 1, 2 … without an upper bound."""

    levels: int | None = field(default=None, init=False)

    def natural_scale(self, x: Tensor) -> Tensor:
        return x.log1p()


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
        labels = tuple(map(str, categories)) if isinstance(categories, Iterable) else None
        levels = whole("categories", categories, DomainError) if labels is None else len(labels)
        object.__setattr__(self, "levels", levels)
        object.__setattr__(self, "labels", labels)
        self.__post_init__()
        if labels and len(set(labels)) < len(labels):
            raise DomainError("categorical: two categories have the same label")

    def number(self, value: Any) -> float:
        return float(value if self.labels is None else self.labels.index(str(value)))

    def features(self, x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        if self.levels == 2:
            return super().features(x, shift, scale)
        levels = torch.arange(self.levels or 0, device=x.device)
        return (self.code(x)[..., None] == levels).to(shift.dtype)

    def to_json(self) -> dict[str, Any]:
        categories = self.levels if self.labels is None else list(self.labels)
        return {"kind": self.kind, "categories": categories}


@dataclass(frozen=True)
class Maybe(Column):
    """Values of the kind `of`, some of which are missing: NaN.

    The base measure counts on the missing value, and is that of `of` beside it: a likelihood is a probability
    of what is missing times a density of what is not. MADE, `independent` and VAEs model which entries are
    missing, given the others. Gaussian mixtures take each to be missing by a probability of its own, and
    integrate it out: their `log_prob_present` is the density of what is present alone.
    """

    of: Column

    def __str__(self) -> str:
        return f"maybe {self.of}"

    def __post_init__(self) -> None:
        if not isinstance(self.of, Column) or isinstance(self.of, Maybe):
            raise DomainError(f"maybe({self.of}): give the kind of what is present, as lk.Real()")

    @property
    def kinds(self) -> set[type[Column]]:
        return {Maybe, *self.of.kinds}

    @property
    def present(self) -> Column:
        return self.of

    @property
    def anchor(self) -> float:
        return self.of.anchor

    def contains(self, x: Tensor) -> Tensor:
        return x.isnan() | self.of.contains(x)

    def describe(self) -> str:
        return f"missing or {self.of.describe()}"

    def number(self, value: Any) -> float:
        missing = str(value).lower() in ("", "nan", "none", "<na>", "nat")
        return math.nan if missing else self.of.number(value)

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "of": self.of.to_json()}


def wanted(column: Column) -> str:
    """What a user may write for a value, in words."""
    kind = column.present
    labels = getattr(kind, "labels", None)
    if isinstance(kind, Date):
        return kind.describe()
    return f"one of {', '.join(labels)}" if labels else "a number"
