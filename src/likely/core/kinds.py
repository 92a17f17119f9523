"""Kinds of columns by their names: as text, and as JSON."""

import math
from typing import Any

from likely.core.columns import (
    Binary,
    Categorical,
    Column,
    Constant,
    Count,
    Date,
    Integer,
    Interval,
    Maybe,
    Periodic,
    Positive,
    Real,
    Spin,
)
from likely.core.errors import DomainError

EXAMPLES = {
    "interval": "interval(0, 1)",
    "periodic": "periodic(-pi, pi)",
    "constant": "constant(1)",
    "integer": "integer(17), for 0 to 16",
    "categorical": "categorical(e, mu)",
    "date": "date(days)",
    "maybe": "maybe(positive)",
}
KINDS = (Real, Positive, Interval, Periodic, Constant, Integer, Count, Categorical, Binary, Spin)
COLUMNS: dict[str, type[Column]] = {
    column.__name__.lower(): column for column in (*KINDS, Date, Maybe)
}


def column_from_json(data: dict[str, Any]) -> Column:
    """The column that `to_json` wrote.

    Raises
    ------
    DomainError
        If the kind is unknown.
    """
    if data["kind"] not in COLUMNS:
        raise DomainError(
            f"unknown column kind {data['kind']!r}; the known ones are {', '.join(COLUMNS)}"
        )
    arguments = {key: value for key, value in data.items() if key != "kind"}
    if "of" in arguments:
        arguments["of"] = column_from_json(arguments["of"])
    return COLUMNS[data["kind"]](**arguments)


def parse_column(text: Column | str) -> Column:
    """A column kind as it is, or from text: `real`, `interval(0, 1)`, `categorical(e, mu)`.

    Raises
    ------
    DomainError
        If the text is none of these.
    """
    if isinstance(text, Column):
        return text
    if not isinstance(text, str):
        raise DomainError(f"unknown column kind {text!r}: take one of {', '.join(COLUMNS)}")
    kind, _, rest = text.strip().partition("(")
    kind = kind.strip().lower()
    cls = COLUMNS.get(kind)
    if cls is None or (rest and not rest.endswith(")")):
        raise DomainError(f"unknown column kind {text!r}: take one of {', '.join(COLUMNS)}")
    if cls is Maybe and rest:
        return Maybe(parse_column(rest[:-1]))
    parts = [part.strip() for part in rest[:-1].split(",")] if rest else []
    try:
        if cls is Categorical and not parts:
            raise TypeError
        if cls is Categorical and not (len(parts) == 1 and parts[0].isdigit()):
            return Categorical(parts)
        number = int if cls in (Integer, Categorical) else str if cls is Date else _number
        return cls(*map(number, parts))
    except (TypeError, ValueError):
        raise DomainError(
            f"column kind {text!r}: wrong arguments; write {EXAMPLES.get(kind, kind)}"
        ) from None


def _number(text: str) -> float:
    factor = text.removesuffix("pi")
    if factor == text:
        return float(text)
    return math.pi * ({"": 1.0, "-": -1.0}.get(factor) or float(factor.removesuffix("*")))
