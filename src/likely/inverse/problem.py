"""One measurement as methods see it, what they answer, and how they are found.

A method is a function in a file of its own in `likely.inverse.samplers`, that `method` registers:

    @method("name", kind="asymptotic", order=3, obstacle=...)
    def name(problem: Problem, n: int, *, an_option: int = 10) -> Draws: ...

It solves one measurement. Random numbers come from torch's global generator, which is seeded for each
measurement, so that no answer depends on others.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from jaxtyping import Float
from torch import Tensor

from likely.contract.model import GenerativeModel
from likely.contract.views import Rows
from likely.core.errors import LikelyError
from likely.inverse.noise import Noise
from likely.inverse.operators import Operator

METHODS = "likely.inverse.samplers"  # the package with a file for each

Kind = Literal["exact", "asymptotic", "approximation"]


@dataclass(frozen=True, eq=False)
class Problem:
    """One measurement y = A(x) + noise, without the entries of y that were not observed.

    Attributes
    ----------
    model : GenerativeModel
        The prior of x.
    operator : Operator
        Bound to the shape of the model's domain; where entries of y are missing, its rows are flat.
    noise : Noise, optional
        Of these entries; None: there is none.
    y : Tensor, shape (*operator.out_shape,)
        In the type of the model's parameters.
    shared : dict
        For what a method computes once for measurements that differ in y only.
    """

    model: GenerativeModel
    operator: Operator
    noise: Noise | None
    y: Float[Tensor, "*out_shape"]
    shared: dict[str, Any] = field(default_factory=dict)

    def predict(self, x: Rows) -> Float[Tensor, "n *out_shape"]:
        """A(x), of rows in the units of the data."""
        return self.operator(x.to(self.y.dtype) if not x.is_floating_point() else x)

    def log_likelihood(self, x: Rows) -> Float[Tensor, " n"]:
        """log p(y|x) of each row, in nats, differentiable."""
        assert self.noise is not None
        mean = self.predict(x)
        return self.noise.log_prob(self.y[None].to(mean), mean)


@dataclass(frozen=True, eq=False)
class Draws:
    """What a method answers.

    Attributes
    ----------
    samples : Tensor, shape (n, *domain.shape)
    diagnostics : dict of float
        By name, the same names for each measurement.
    notes : tuple of str
        What speaks against the draws, in words.
    kind : {"exact", "asymptotic", "approximation"}, optional
        Where it is another than the method's.
    """

    samples: Rows
    diagnostics: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    kind: Kind | None = None


@dataclass(frozen=True)
class Method:
    """A way to draw from posteriors.

    Attributes
    ----------
    name : str
    kind : {"exact", "asymptotic", "approximation"}
        Draws of the posterior; these in the limit of long chains or many particles; something near it.
    order : int
        "auto" takes the first one by this number that has no obstacle.
    obstacle : callable (Problem) -> str or None
        What the method lacks for this prior, operator and noise, in words; None if nothing.
    solve : callable (Problem, n, **options) -> Draws
    """

    name: str
    kind: Kind
    order: int
    obstacle: Callable[[Problem], str | None]
    solve: Callable[..., Draws]


F = TypeVar("F", bound=Callable[..., Draws])
_methods: dict[str, Method] = {}


def method(
    name: str, *, kind: Kind, order: int, obstacle: Callable[[Problem], str | None]
) -> Callable[[F], F]:
    """Function decorator: give a method its name; the parameters are those of `Method`."""

    def add(solve: F) -> F:
        assert name not in _methods, name
        _methods[name] = Method(name, kind, order, obstacle, solve)
        return solve

    return add


def methods() -> dict[str, Method]:
    """All methods by name, in the order in which "auto" tries them."""
    for module in pkgutil.iter_modules(importlib.import_module(METHODS).__path__):
        importlib.import_module(f"{METHODS}.{module.name}")
    return dict(sorted(_methods.items(), key=lambda item: item[1].order))


def choose(name: str, problem: Problem) -> Method:
    """The method of this name, or for "auto" the first that takes the problem.

    Raises
    ------
    LikelyError
        If there is no such method, or it has an obstacle, or for "auto" all have.
    """
    known = methods()
    if name != "auto" and name not in known:
        raise LikelyError(f"unknown method {name!r}: take one of auto, {', '.join(known)}")
    candidates = list(known.values()) if name == "auto" else [known[name]]
    obstacles = [(candidate, candidate.obstacle(problem)) for candidate in candidates]
    for candidate, obstacle in obstacles:
        if obstacle is None:
            return candidate
    why = "; ".join(f"{candidate.name} needs {obstacle}" for candidate, obstacle in obstacles)
    raise LikelyError(f"posterior of {type(problem.model).__name__}: {why}")
