"""Generative models of every family behind one contract, honest about their likelihoods.

The public names are resolved when they are first used, so that importing the package does not
import torch.
"""

import importlib
import pkgutil
from typing import TYPE_CHECKING, Any

from likely._version import __version__

if TYPE_CHECKING:
    from likely.comparison import Comparison, compare
    from likely.contract.hub import push
    from likely.contract.imputation import impute
    from likely.contract.model import GenerativeModel
    from likely.contract.networks import register_module
    from likely.contract.registry import make, models, register
    from likely.contract.store import load, save
    from likely.contract.training import Batch, Objective
    from likely.core.columns import (
        Binary,
        Categorical,
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
    from likely.core.domain import Domain, binary, categories, integers, reals, spins, table, text
    from likely.core.errors import (
        ArtifactError,
        DataError,
        DensityError,
        DivergenceError,
        DomainError,
        EstimateWarning,
        LikelyError,
        RunError,
        Stop,
    )
    from likely.core.inference import infer_domain
    from likely.core.likelihood import Figure, Kind, Likelihood
    from likely.core.target import Target
    from likely.data import Data, load_data, unpaired
    from likely.evaluation.annealed import AnnealedFlow, annealed_flow
    from likely.evaluation.evaluate import evaluate
    from likely.evaluation.result import Evaluation
    from likely.evaluation.weighted import Weighted, reweight
    from likely.fitting.fit import fit
    from likely.fitting.history import History
    from likely.fitting.integral import Integral, integrate
    from likely.inverse.posterior import Posterior, posterior

_PUBLIC = {
    "comparison": "Comparison compare",
    "contract.hub": "push",
    "contract.imputation": "impute",
    "contract.model": "GenerativeModel",
    "contract.networks": "register_module",
    "contract.registry": "make register",
    "contract.store": "load save",
    "contract.training": "Batch Objective",
    "core.columns": (
        "Binary Categorical Constant Count Date Integer Interval Maybe Periodic Positive Real Spin"
    ),
    "core.domain": "Domain binary categories integers reals spins table text",
    "core.errors": (
        "ArtifactError DataError DensityError DivergenceError DomainError EstimateWarning LikelyError "
        "RunError Stop"
    ),
    "core.inference": "infer_domain",
    "core.likelihood": "Figure Kind Likelihood",
    "core.target": "Target",
    "data": "Data load_data unpaired",
    "evaluation": "AnnealedFlow Evaluation Weighted annealed_flow evaluate reweight",
    "fitting": "History Integral fit integrate",
    "inverse": "Posterior posterior",
}
_HOME = {name: module for module, names in _PUBLIC.items() for name in names.split()}
_ROOMS = [module.name for module in pkgutil.iter_modules(__path__) if module.ispkg]
__all__ = [*sorted(_HOME)]  # noqa: PLE0604


def _families() -> list[str]:
    return importlib.import_module("likely.models").FAMILIES


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(importlib.import_module(f"likely.{_HOME[name]}"), name)
    elif name in _ROOMS:
        value = importlib.import_module(f"likely.{name}")
    elif name in _families():
        value = importlib.import_module(f"likely.models.{name}")
    else:
        raise AttributeError(f"module 'likely' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME, *_families(), *_ROOMS])
