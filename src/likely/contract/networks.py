"""Networks that are options of a model: their names, what files say of them, and encoders of contexts."""

import copy
import functools
import importlib
import inspect
import math
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from likely.contract.views import Features, Rows
from likely.core.domain import Domain
from likely.core.errors import DomainError, LikelyError
from likely.core.numbers import plain

NETS = "likely.nets"  # which registers ours, a room above this one

M = TypeVar("M", bound=type[nn.Module])

_modules: dict[str, type[nn.Module]] = {}


def register_module(name: str) -> Callable[[M], M]:
    """Class decorator: give a network its name, by which it is saved with a model, with its arguments.

    Its arguments must be numbers, strings, booleans, None, sequences of these, or other networks. One that
    is not registered can be an option of a model, too, and is passed again to `lk.load`.

    Parameters
    ----------
    name : str
        Lower case, unique.

    Examples
    --------
    >>> import likely as lk
    >>> from torch import nn
    >>> @lk.register_module("linear-encoder")
    ... class LinearEncoder(nn.Sequential):
    ...     def __init__(self, inputs, outputs=8):
    ...         super().__init__(nn.Flatten(), nn.Linear(inputs, outputs))
    >>> encoder = LinearEncoder(400)
    >>> image = lk.reals(20, 20, layout="image")
    >>> model = lk.make("nsf", lk.reals(1), context=image, context_encoder=encoder)
    >>> model.context_size
    8
    """

    def add(cls: M) -> M:
        assert name not in _modules, name
        init = cls.__init__
        taken = inspect.signature(init)
        kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        unnamed = [key for key, parameter in taken.parameters.items() if parameter.kind in kinds]
        if unnamed and init is not nn.Module.__init__:
            raise LikelyError(
                f"register_module: {cls.__name__} takes {unnamed[0]!r} without names: list its arguments, "
                "so that they can be saved"
            )

        @functools.wraps(init)
        def recorded(self: nn.Module, *arguments: Any, **keywords: Any) -> None:
            bound = taken.bind(self, *arguments, **keywords)
            bound.apply_defaults()
            init(self, *arguments, **keywords)
            if type(self) is cls:
                _, *given = bound.arguments.items()
                options = {key: plain(value) for key, value in given if key not in unnamed}
                self.__dict__["registered"] = name, options

        cls.__init__ = recorded  # type: ignore[method-assign]
        _modules[name] = cls
        return cls

    return add


def find_module(name: str) -> type[nn.Module]:
    """The registered network of this name.

    Raises
    ------
    LikelyError
        If there is none; the message names those that there are.
    """
    importlib.import_module(NETS)
    if name not in _modules:
        raise LikelyError(f"unknown network {name!r}: there are {', '.join(sorted(_modules))}")
    return _modules[name]


def recorded(module: nn.Module) -> tuple[str | None, dict[str, Any]]:
    """A network's name and arguments; no name if it is not registered."""
    return getattr(module, "registered", (None, {}))


class Encoded(nn.Module):
    """What a network makes of contexts that are arrays: the features that a model is conditional on.

    The network has a batch of arrays in, standardised, and features out, of shape (n, k). If its class
    names a `channel_axis`, the arrays have it (of length 1, where the context has one axis less), and the
    places along the others share one shift and scale. Otherwise they have the shape of the context, and each
    entry is standardised by itself; where an entry is several features (categories are one-hot), these are a
    further axis.

    Parameters
    ----------
    domain : Domain
        Of the contexts, of one kind of columns.
    encoder : Module or str
        A copy of it becomes part of the model. By its name a registered one is built, of the `shape` of the
        arrays that it will see.

    Raises
    ------
    DomainError
        If the columns are of different kinds, or the encoder does not take such arrays.
    """

    def __init__(self, domain: Domain, encoder: nn.Module | str) -> None:
        super().__init__()
        if len(domain.groups) > 1:
            raise DomainError(
                "context_encoder: the columns of the context are of different kinds, and an encoder takes "
                "arrays of one kind: leave it out"
            )
        kind = find_module(encoder) if isinstance(encoder, str) else type(encoder)
        axis = getattr(kind, "channel_axis", None)
        shape = list(domain.shape)
        if axis is not None and not -len(shape) <= axis < len(shape):
            shape.insert(axis if axis >= 0 else len(shape) + 1 + axis, 1)
        if axis is not None and not -len(shape) <= axis < len(shape):
            raise DomainError(
                f"context_encoder: {kind.__name__} takes arrays of more axes than {domain.shape} has"
            )
        self.shape, self.axis = shape, None if axis is None else axis % len(shape)
        columns = domain if axis is None else Domain((shape[axis],), domain.columns[:1])
        self.features = Features(columns)
        if isinstance(encoder, str):
            encoder = kind(tuple(self._arrays(domain.anchor[None]).shape[1:]))
        self.encoder = copy.deepcopy(encoder).to(torch.get_default_dtype())
        self.size = self._size(domain)

    def _size(self, domain: Domain) -> int:
        """Number of features that the encoder gives; a `DomainError` if it gives none."""
        what = f"context_encoder: {type(self.encoder).__name__}"
        pair = domain.anchor.expand(2, *domain.shape)
        try:
            with torch.no_grad():
                self.encoder.eval()
                given = self(pair)
                self.encoder.train()
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            shape = tuple(self._arrays(pair).shape[1:])
            raise DomainError(f"{what} does not take arrays of shape {shape}: {error}") from error
        if given.ndim != 2 or len(given) != 2:
            raise DomainError(f"{what} gives {tuple(given.shape)} for 2 rows: it must give (2, k)")
        return given.shape[1]

    def prepare(self, x: Rows, weight: Tensor | None = None) -> None:
        """Take shifts and scales from rows of the training split."""
        rows = self._rows(x)
        if weight is not None:
            weight = weight.repeat_interleave(len(rows) // len(x))
        self.features.prepare(rows, weight)

    def _rows(self, x: Rows) -> Rows:
        """What is standardised: the channels of each place, shape (n · places, channels)."""
        if self.axis is None:
            return x
        channels_last = x.reshape(-1, *self.shape).movedim(self.axis + 1, -1)
        return channels_last.flatten(0, -2)

    def _arrays(self, x: Rows) -> Float[Tensor, "n ..."]:
        """What the encoder sees."""
        features = self.features(self._rows(x))
        if self.axis is None:
            of_entry = features.shape[1] // math.prod(self.shape)
            return features.view(-1, *self.shape, *[of_entry] * (of_entry > 1))
        places = [length for axis, length in enumerate(self.shape) if axis != self.axis]
        return features.view(-1, *places, features.shape[1]).movedim(-1, self.axis + 1)

    def forward(self, x: Rows) -> Float[Tensor, "n features"]:
        return self.encoder(self._arrays(x))
