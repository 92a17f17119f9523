"""The registry of models: every family registers its classes by name where they are defined."""

from __future__ import annotations

import difflib
import importlib
import inspect
import math
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from likely.contract.model import GenerativeModel
from likely.core.domain import Domain
from likely.core.errors import LikelyError
from likely.core.random import seeded

if TYPE_CHECKING:
    import pandas as pd


FAMILIES = "likely.models"  # the package whose folders are the families

M = TypeVar("M", bound=type[GenerativeModel])


@dataclass(frozen=True)
class Entry:
    """One registered model: a class, and what `lk.models()` tells about it."""

    name: str
    cls: type[GenerativeModel]
    title: str
    density: str
    constraint: str
    paper: str
    presets: dict[str, Any]

    @property
    def family(self) -> str:
        """The package that the class comes from; "user" for one that is not ours."""
        _, found, inner = self.cls.__module__.partition(f"{FAMILIES}.")
        return inner.partition(".")[0] if found else "user"

    @property
    def columns(self) -> list[str]:
        """Kinds of columns that the model takes."""
        return sorted(kind.__name__.lower() for kind in self.cls.accepts)

    def takes(self, domain: Domain) -> bool:
        """Whether the model takes a domain's columns."""
        return self.cls.takes(domain)

    def to_json(self) -> dict[str, Any]:
        """What `lk.models()` tells, JSON-able."""
        return {
            "name": self.name,
            "family": self.family,
            "title": self.title,
            "density": self.density,
            "columns": self.columns,
            "context": self.cls.takes_context,
            "constraint": self.constraint,
            "paper": self.paper,
        }


_entries: dict[str, Entry] = {}


def register(
    name: str, *, title: str, density: str, constraint: str, paper: str, **presets: Any
) -> Callable[[M], M]:
    """Class decorator: give a model (with some hyperparameters preset) its name.

    Parameters
    ----------
    name : str
        Lower case, unique.
    title : str
        The model's full name.
    density : str
        What kind of likelihood it has, in words.
    constraint : str
        What the method asks of the network or of the data.
    paper : str
        Where it was published.
    **presets
        Hyperparameters that this name sets.
    """

    def add(cls: M) -> M:
        assert name not in _entries, name
        _entries[name] = Entry(name, cls, title, density, constraint, paper, presets)
        return cls

    return add


def entries() -> dict[str, Entry]:
    """All registered models by name."""
    families = importlib.import_module(FAMILIES)
    for family in pkgutil.iter_modules(families.__path__):
        importlib.import_module(f"{FAMILIES}.{family.name}")
    return dict(sorted(_entries.items()))


def taking(domain: Domain) -> list[str]:
    """Names of the models that take a domain's columns."""
    return [name for name, entry in entries().items() if entry.takes(domain)]


def find(name: str) -> Entry:
    """The entry of a name.

    Raises
    ------
    LikelyError
        If there is no such model; the message names near ones.
    """
    known = entries()
    if name not in known:
        near = difflib.get_close_matches(name, known, 3) or known
        raise LikelyError(f"unknown model {name!r}: did you mean {', '.join(near)}?")
    return known[name]


def name_of(model: GenerativeModel) -> str:
    """The registered name of a model's class: of several, the one that presets most.

    Raises
    ------
    LikelyError
        If the class is not registered.
    """
    fitting = [
        entry
        for entry in entries().values()
        if entry.cls is type(model) and entry.presets.items() <= model.hyperparameters.items()
    ]
    if not fitting:
        raise LikelyError(
            f"{type(model).__name__} is not a registered model: decorate it with register"
        )
    return max(fitting, key=lambda entry: len(entry.presets)).name


def make(
    name: str,
    domain: Domain,
    *,
    context: Domain | None = None,
    seed: int | None = None,
    **hyperparameters: Any,
) -> GenerativeModel:
    """Build a registered model.

    Parameters
    ----------
    name : str
        As in `lk.models()`.
    domain : Domain
    context : Domain, optional
    seed : int, optional
        Of the initial weights; None uses torch's global generator.
    **hyperparameters
        The class's own; see its docstring.

    Raises
    ------
    LikelyError
        If the name or an option is unknown, or an option has a value that it does not take.
    DomainError
        If the model does not take the domain.
    """
    entry = find(name)
    known = hyperparameter_names(name)
    for option in hyperparameters:
        if option not in known:
            raise LikelyError(
                f"model {name!r} has no option {option!r}; it has: {', '.join(known) or 'none'}"
            )
    _check(entry, hyperparameters)
    try:
        with seeded(seed):
            return entry.cls(domain, context=context, **{**entry.presets, **hyperparameters})
    except ValueError as error:
        raise LikelyError(f"model {name!r}: {error}") from error


def _check(entry: Entry, hyperparameters: dict[str, Any]) -> None:
    """Refuse values that the annotations of the class's constructor do not allow."""
    try:
        hints = get_type_hints(entry.cls.__init__)
    except NameError:  # a type that its module imports for type checkers only
        return
    parameters = inspect.signature(entry.cls.__init__).parameters
    for option, value in hyperparameters.items():
        least = 0 if option in ("order", "warm_up") else 1
        wanted = _unmet(value, hints.get(option), least)
        if wanted is not None:
            default = parameters[option].default
            known = default is not inspect.Parameter.empty and default is not None
            example = f", such as {default!r}" if known else ""
            raise LikelyError(f"model {entry.name!r}: {option}={value!r}: give {wanted}{example}")


def _unmet(value: Any, hint: Any, least: int) -> str | None:
    """What a type hint asks for in words, where the value is not that; None where it is."""
    kind, inner = get_origin(hint) or hint, get_args(hint)

    def whole(number: Any) -> bool:
        integral = isinstance(number, Integral) and not isinstance(number, bool)
        return integral and int(number) >= least

    if kind in (Union, UnionType):
        unmet = [_unmet(value, part, least) for part in inner]
        return None if None in unmet else " or ".join(str(part) for part in unmet)
    if kind is NoneType:
        return None if value is None else "None"
    if kind is bool:
        return None if isinstance(value, bool) else "True or False"
    if kind is int:
        return None if whole(value) else f"a whole number above {least - 1}"
    if kind is float:
        real = isinstance(value, Real) and not isinstance(value, bool)
        return None if real and math.isfinite(value) else "a finite number"
    if kind is Sequence and inner == (int,):
        listed = isinstance(value, Sequence) and all(whole(number) for number in value)
        return None if listed else f"a sequence of whole numbers above {least - 1}"
    if kind is Sequence and inner == (float,):
        listed = isinstance(value, Sequence) and all(
            isinstance(number, Real) and math.isfinite(number) for number in value
        )
        return None if listed else "a sequence of finite numbers"
    if kind is Literal:
        return None if value in inner else f"one of {', '.join(map(repr, inner))}"
    return None


def hyperparameter_names(name: str) -> list[str]:
    """Names of a model's hyperparameters."""
    names = list(inspect.signature(find(name).cls.__init__).parameters)
    return [option for option in names if option not in ("self", "domain", "context")]


def models() -> pd.DataFrame:
    """What there is: family, density, columns, constraint and paper of each model, by name."""
    import pandas as pd

    rows = [entry.to_json() for entry in entries().values()]
    return pd.DataFrame(rows).set_index("name")
