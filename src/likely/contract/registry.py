"""The registry of models: every family registers its classes by name where they are defined."""

import difflib
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from likely.contract import options
from likely.contract.model import GenerativeModel
from likely.core.domain import Domain
from likely.core.errors import DomainError, LikelyError
from likely.core.likelihood import Kind
from likely.core.random import seeded

if TYPE_CHECKING:
    import pandas as pd


MODELS = "likely.models"  # the package of the families, a room above this one

M = TypeVar("M", bound=type[GenerativeModel])


@dataclass(frozen=True)
class Entry:
    """One registered model: a class, and what `lk.models()` says about it."""

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
        _, found, inner = self.cls.__module__.partition(f"{MODELS}.")
        return inner.partition(".")[0] if found else "user"

    @property
    def columns(self) -> list[str]:
        """Kinds of columns that the model takes."""
        return sorted(kind.__name__.lower() for kind in self.cls.accepts)

    def takes(self, domain: Domain, context: Domain | None = None) -> bool:
        """Whether the model takes a domain's columns, and can do without the context if there is none."""
        return self.cls.obstacle(domain) is None and not (
            context is None and self.cls.needs_context
        )

    def to_json(self) -> dict[str, Any]:
        """What `lk.models()` shows, JSON-able."""
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
    name: str, *, title: str, constraint: str, density: str = "", paper: str = "", **presets: Any
) -> Callable[[M], M]:
    """Class decorator: give a model (with some hyperparameters preset) its name.

    Parameters
    ----------
    name : str
        Lower case, unique.
    title : str
        The model's full name.
    constraint : str
        What the method asks of the network or of the data.
    density : str
        What kind of likelihood it has, in words, where that is not what `density` of the class says.
    paper : str
        Where it was published.
    **presets
        Hyperparameters that this name sets.
    """

    def add(cls: M) -> M:
        assert name not in _entries, name
        kind = str(cls.density) if isinstance(cls.density, Kind) else str(Kind.EXACT)
        _entries[name] = Entry(name, cls, title, density or kind, constraint, paper, presets)
        return cls

    return add


def entries() -> dict[str, Entry]:
    """All registered models by name."""
    for family in importlib.import_module(MODELS).FAMILIES:
        importlib.import_module(f"{MODELS}.{family}")
    return dict(sorted(_entries.items()))


def taking(domain: Domain, context: Domain | None = None) -> list[str]:
    """Names of the models that take a domain's columns, given the context or without one."""
    return [name for name, entry in entries().items() if entry.takes(domain, context)]


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
        raise LikelyError(f"{type(model).__name__} is not registered: decorate it with lk.register")
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
    cls, presets = (entry := find(name)).cls, entry.presets
    options.check_names(f"model {name!r}", hyperparameters, hyperparameter_names(name))
    if isinstance(domain, Domain) and (obstacle := cls.obstacle(domain)):
        able = ", ".join(taking(domain, context)) or "none"
        raise DomainError(
            f"{cls.__name__} does not take {obstacle}; these models do: {able}; or leave the columns out, or "
            "use them as the context"
        )
    given: dict[str, Any] = {} if context is None else {"context": context}
    if given and "context" not in options.signature(cls).parameters:
        raise DomainError(f"{cls.__name__} takes no context: leave it out")
    try:
        with seeded(seed):
            return cls(domain, **given, **{**presets, **hyperparameters})
    except ValueError as error:
        raise LikelyError(f"model {name!r}: {error}") from error


def hyperparameter_names(name: str) -> list[str]:
    """Names of a model's options."""
    known = options.signature(find(name).cls).parameters
    return [option for option in known if option not in options.NOT_OPTIONS]


def models() -> "pd.DataFrame":
    """What there is: family, density, columns, constraint and paper of each model, by name."""
    import pandas as pd

    rows = [entry.to_json() for entry in entries().values()]
    return pd.DataFrame(rows).set_index("name")
