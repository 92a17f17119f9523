"""Every family of models: one model, one file. `lk.models()` lists what there is."""

import pkgutil
import sys
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


FAMILIES = sorted(module.name for module in pkgutil.iter_modules(__path__))


class _Models(ModuleType):
    """This package, which can be called: importing it takes the name of the function `lk.models`."""

    def __call__(self) -> "pd.DataFrame":
        from likely.contract import registry

        return registry.models()


sys.modules[__name__].__class__ = _Models
