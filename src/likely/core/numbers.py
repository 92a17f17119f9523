"""Numbers as users write them: of NumPy, or whole ones with a decimal point."""

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np

from likely.core.errors import LikelyError


def plain(value: Any) -> Any:
    """A value that JSON holds: numbers of NumPy as those of Python, sequences as tuples."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(plain(part) for part in value)
    return value


def finite(value: Any) -> float | None:
    """A finite number in floating point, or None."""
    known = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if known else None


def whole(name: str, value: Any, error: type[LikelyError] = LikelyError) -> int:
    """A whole number, also where it is written as a floating one, such as 1e3.

    Raises
    ------
    LikelyError
        If it is none, or the given kind of it.
    """
    if isinstance(value, Real) and not isinstance(value, bool) and value % 1 == 0:
        return int(value)  # type: ignore[call-overload]
    raise error(f"{name}={value!r}: give a whole number")
