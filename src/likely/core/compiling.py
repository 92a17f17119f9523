"""torch.compile: the random numbers of the plain function, and failures told to the user."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

import torch

from likely.core.errors import LikelyError

P = ParamSpec("P")
T = TypeVar("T")


def compiled(function: Callable[P, T]) -> Callable[P, T]:
    """A function that is compiled at its first call, and draws the random numbers of the plain one."""
    options: dict[str, Any] = {"fallback_random": True}
    return torch.compile(function, options=options)


@contextlib.contextmanager
def refuse_uncompilable(what: str) -> Iterator[None]:
    """Around calls that compile.

    Raises
    ------
    LikelyError
        If torch cannot compile, with what and why.
    """
    try:
        yield
    except torch._dynamo.exc.TorchDynamoException as error:
        raise LikelyError(
            f"the {what} cannot be compiled ({' '.join(str(error).split())[:200]}); leave out "
            "`compile`, or install a C++ compiler if that is what is missing"
        ) from error
