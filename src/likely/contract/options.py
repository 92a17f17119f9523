"""Options: recorded and checked once, from the signature and the annotations of whoever takes them.

A model's options are the keywords of its constructor. Where that takes `**options`, those of the class
above belong to it, too. `Annotated[float, Range(0, 1)]` bounds a number, and each number of a sequence;
whole numbers are above 0 unless it says otherwise.
"""

import functools
import inspect
import math
from collections import ChainMap
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter, Signature
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from torch import nn

from likely.core.errors import LikelyError
from likely.core.numbers import plain

NOT_OPTIONS = ("self", "domain", "context", "seed")


@dataclass(frozen=True)
class Range:
    """What a number may be: from `low` to `high`, without those that are `open`."""

    low: float = -math.inf
    high: float = math.inf
    open: Literal["", "low", "high", "both"] = ""

    def __contains__(self, value: Any) -> bool:
        above = value > self.low if self.open in ("low", "both") else value >= self.low
        below = value < self.high if self.open in ("high", "both") else value <= self.high
        return above and below

    def __str__(self) -> str:
        low = f"above {self.low:g}" if self.open in ("low", "both") else f"of {self.low:g} or more"
        high = f"below {self.high:g}" if self.open in ("high", "both") else f"at most {self.high:g}"
        limits = [(self.low, low), (self.high, high)]
        return " and ".join(text for limit, text in limits if math.isfinite(limit))


@dataclass(frozen=True)
class Length:
    """How many values a sequence must have: `least` or more, or exactly as many."""

    least: int
    exact: bool = False

    def __contains__(self, length: int) -> bool:
        return length == self.least if self.exact else length >= self.least

    def __str__(self) -> str:
        return f", {'' if self.exact else 'at least '}{self.least} of them" if self.least else ""


NonNegative = Annotated[float, Range(0)]
Positive = Annotated[float, Range(0, open="low")]
NonNegativeInt = Annotated[int, Range(0)]
Widths = Annotated[Sequence[int], Length(1)]


def signature(cls: type) -> Signature:
    """The signature of a constructor, with the options that it passes on to the classes above."""
    merged = ChainMap(*(dict(inspect.signature(init).parameters) for init in _constructors(cls)))
    kinds = (Parameter.VAR_KEYWORD, Parameter.VAR_POSITIONAL)
    unwanted = {"self"} if getattr(cls, "takes_context", True) else {"self", "context_encoder"}
    kept = [p for name, p in merged.items() if name not in unwanted and p.kind not in kinds]
    return Signature(sorted(kept, key=lambda p: p.kind))


def _constructors(cls: type) -> Iterator[Callable[..., None]]:
    """Constructors from a class upwards, as far as options are passed on."""
    for base in cls.__mro__[:-1]:
        if init := base.__dict__.get("__init__"):
            yield init
            if not _passes_on(init):
                return


def _passes_on(function: Callable[..., Any]) -> bool:
    """Whether it takes `**options`."""
    kinds = [p.kind for p in inspect.signature(function).parameters.values()]
    return Parameter.VAR_KEYWORD in kinds


@functools.cache
def _hints(*functions: Callable[..., Any]) -> dict[str, Any]:
    """Annotations of parameters; the first function that has one counts."""
    hints: dict[str, Any] = {}
    for function in functions:
        try:
            hints = {**get_type_hints(function, include_extras=True), **hints}
        except NameError:  # a type that its module imports for type checkers only
            continue
    return hints


def hints_of(cls: type) -> dict[str, Any]:
    """Annotations of the options of a class."""
    return _hints(*_constructors(cls))


def wanted(hint: Any) -> str:
    """What an annotation asks for in words; nothing where it does not say."""
    return _unmet(object(), hint, ()) or ""


def record(cls: type, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> dict[str, Any]:
    """The options of a model that is being constructed, defaults included.

    Raises
    ------
    LikelyError
        If an option has a value that its annotation does not allow.
    """
    known = signature(cls)
    bound = known.bind(*arguments, **keywords)
    given = {name: value for name, value in bound.arguments.items() if name not in NOT_OPTIONS}
    defaults = {name: p.default for name, p in known.parameters.items()}
    check_values(cls.__name__, given, hints_of(cls), defaults)
    bound.apply_defaults()
    return {k: plain(v) for k, v in bound.arguments.items() if k not in NOT_OPTIONS}


def check(owner: str, function: Callable[..., Any], values: Mapping[str, Any]) -> None:
    """Check keywords for a function, such as the options of a sampler.

    Raises
    ------
    LikelyError
        If the function has no such keyword, or one has a value that its annotation does not allow.
    """
    if not values:
        return
    known = {
        name: p.default
        for name, p in inspect.signature(function).parameters.items()
        if p.kind == Parameter.KEYWORD_ONLY and name not in NOT_OPTIONS
    }
    if not _passes_on(function):  # else it checks itself
        check_names(owner, values, known)
    check_values(owner, values, _hints(getattr(function, "__func__", function)), known)


def check_names(owner: str, values: Iterable[str], known: Collection[str]) -> None:
    """Raise a `LikelyError` for an option that is not known."""
    for option in values:
        if option not in known:
            has = ", ".join(known) or "none"
            raise LikelyError(f"{owner} has no option {option!r}; it has: {has}")


def check_values(
    owner: str, values: Mapping[str, Any], hints: Mapping[str, Any], defaults: Mapping[str, Any]
) -> None:
    """Raise a `LikelyError` for a value that its annotation does not allow."""
    for option, value in values.items():
        if wanted := _unmet(value, hints.get(option), ()):
            default = defaults.get(option)
            example = "" if default in (None, Parameter.empty) else f", such as {default!r}"
            if _unmet((value,), hints.get(option), ()) is None:
                example = f", such as ({value!r},) (--set {option}={value!r},)"
            raise LikelyError(f"{owner}: {option}={value!r}: give {wanted}{example}")


def _unmet(value: Any, hint: Any, limits: tuple[Any, ...]) -> str | None:
    """What an annotation asks for in words, where the value is not that; None where it is."""
    if get_origin(hint) is Annotated:
        hint, *more = get_args(hint)
        return _unmet(value, hint, (*limits, *more))
    kind, inner = get_origin(hint) or hint, get_args(hint)
    if kind in (Union, UnionType):
        unmet = [_unmet(value, part, limits) for part in inner]
        return None if None in unmet else ", or ".join(str(part) for part in unmet)
    if kind is NoneType:
        return None if value is None else "None"
    if kind is bool:
        return None if isinstance(value, bool) else "True or False"
    if kind is str:
        return None if isinstance(value, str) else "a name"
    if kind in (int, float):
        return None if _is_number(value, kind, limits) else f"a {_numbers(kind, limits)}"
    listed = isinstance(value, Sequence) and not isinstance(value, str)
    if kind is Sequence and inner[0] not in (int, float):
        parts = [_unmet(part, inner[0], limits) for part in (value if listed else [object()])]
        return next((f"several times {part}" for part in parts if part), None)
    if kind is Sequence and inner[0] in (int, float):
        length = next((limit for limit in limits if isinstance(limit, Length)), Length(0))
        if listed and len(value) in length and all(_is_number(v, inner[0], limits) for v in value):
            return None
        return f"a sequence of {_numbers(inner[0], limits)}{length}".replace("number", "numbers")
    if kind is Literal:
        return None if value in inner else f"one of {', '.join(map(repr, inner))}"
    if isinstance(kind, type) and issubclass(kind, nn.Module):
        return None if isinstance(value, kind) else f"a {kind.__name__}"
    return None


def _range(kind: type, limits: tuple[Any, ...]) -> Range:
    default = Range(0, open="low") if kind is int else Range()
    return next((limit for limit in limits if isinstance(limit, Range)), default)


def _is_number(value: Any, kind: type, limits: tuple[Any, ...]) -> bool:
    if not isinstance(value, Integral if kind is int else Real) or isinstance(value, bool):
        return False
    return math.isfinite(value) and value in _range(kind, limits)


def _numbers(kind: type, limits: tuple[Any, ...]) -> str:
    noun, limit = ("whole" if kind is int else "finite") + " number", str(_range(kind, limits))
    return f"{noun} {limit}".strip()
