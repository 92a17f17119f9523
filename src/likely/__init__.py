"""Generative models of every family behind one contract, honest about their likelihoods.

The public names are resolved when they are first used, so that importing the package does not
import torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from likely.comparison import Comparison, compare
    from likely.core.artifact import load, save
    from likely.core.domain import (
        Binary,
        Categorical,
        Constant,
        Count,
        Domain,
        Integer,
        Interval,
        Periodic,
        Positive,
        Real,
        Spin,
        binary,
        categories,
        infer_domain,
        integers,
        reals,
        spins,
        table,
        text,
    )
    from likely.core.errors import (
        ArtifactError,
        DataError,
        DensityError,
        DivergenceError,
        DomainError,
        EstimateWarning,
        LikelyError,
    )
    from likely.core.likelihood import Figure, Kind, Likelihood
    from likely.core.model import Batch, GenerativeModel, Objective
    from likely.core.registry import make, models, register
    from likely.core.target import Target
    from likely.data import Data, load_data
    from likely.evaluation import Evaluation, evaluate
    from likely.fitting import History, fit

_PUBLIC = {
    "comparison": "Comparison compare",
    "core.artifact": "load save",
    "core.domain": (
        "Binary Categorical Constant Count Domain Integer Interval Periodic Positive Real Spin "
        "binary categories infer_domain integers reals spins table text"
    ),
    "core.errors": (
        "ArtifactError DataError DensityError DivergenceError DomainError EstimateWarning LikelyError"
    ),
    "core.likelihood": "Figure Kind Likelihood",
    "core.model": "Batch GenerativeModel Objective",
    "core.registry": "make models register",
    "core.target": "Target",
    "data": "Data load_data",
    "evaluation": "Evaluation evaluate",
    "fitting": "History fit",
}
_HOME = {name: module for module, names in _PUBLIC.items() for name in names.split()}
_ROOMS = (
    "autoencoders",
    "autoregressive",
    "data",
    "energy",
    "evaluation",
    "flows",
    "gans",
    "mixtures",
    "nets",
    "physics",
    "report",
    "sampling",
    "score",
    "truth",
)

__all__ = [*sorted(_HOME)]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(importlib.import_module(f"likely.{_HOME[name]}"), name)
    elif name in _ROOMS:
        value = importlib.import_module(f"likely.{name}")
    else:
        raise AttributeError(f"module 'likely' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME, *_ROOMS])
