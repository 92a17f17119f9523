"""A model's options in words: from the signature, the annotations and the docstrings of its classes."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from typing import Any

from likely.contract import options
from likely.contract.registry import find


@dataclass(frozen=True)
class Option:
    """An option of a model.

    Attributes
    ----------
    name : str
    default : Any
        What a registered name presets, or the constructor's; `inspect.Parameter.empty` if it is needed.
    takes : str
        Which values are allowed.
    text : str
        What it is, as the docstring says.
    """

    name: str
    default: Any
    takes: str
    text: str

    @property
    def line(self) -> str:
        """The first sentence, and what None stands for where that is the default."""
        first, *more = re.split(r"(?<=\.)\s+(?=[A-Z`])", self.text)
        none = [text for text in more if self.default is None and text.startswith("None ")]
        return " ".join([first, *none])

    def to_json(self) -> dict[str, Any]:
        """JSON-able, without a default where there is none."""
        default = {} if self.default is inspect.Parameter.empty else {"default": self.default}
        return {"name": self.name, **default, "takes": self.takes, "text": self.text}


def options_of(name: str) -> list[Option]:
    """The options of a registered model, in the order of its constructors.

    Raises
    ------
    LikelyError
        If there is no such model.
    """
    entry = find(name)
    hints = options.hints_of(entry.cls)
    texts = [_parameters(cls) for cls in entry.cls.__mro__]
    found = []
    for key, parameter in options.signature(entry.cls).parameters.items():
        if key in options.NOT_OPTIONS:
            continue
        said = [text[key] for text in texts if text.get(key)]
        # "As in" refers to a class above.
        own = next((text for text in said if not text.startswith("As in ")), "")
        default = entry.presets.get(key, parameter.default)
        found.append(Option(key, default, options.wanted(hints.get(key)), own))
    return found


def _parameters(cls: type) -> dict[str, str]:
    """The texts of the section "Parameters" of a class's own docstring."""
    _, _, rest = inspect.cleandoc(cls.__doc__ or "").partition("Parameters\n----------\n")
    section = re.split(r"\n\n[A-Z]\w+\n-+\n", rest)[0]
    texts = {}
    for head, body in re.findall(r"^(\S.*)\n?((?:[ ]+.*\n?|\n)*)", section, re.MULTILINE):
        for name in head.partition(" : ")[0].split(", "):
            texts[name] = " ".join(body.split())
    return texts
