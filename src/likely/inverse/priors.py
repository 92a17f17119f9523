"""Which priors are densities or energies of continuous columns that gradients can follow."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from likely.core.likelihood import Kind
from likely.inverse.problem import Problem
from likely.models.energy.partition import Unnormalised


def prior_energy(problem: Problem) -> Callable[[Tensor], Tensor] | None:
    """−log p(x) up to a constant, of rows of continuous columns; None where there is no such energy."""
    model = problem.model
    if any(column.discrete for column in model.domain.columns):
        return None
    if isinstance(model, Unnormalised):
        return model.free_energy
    if model.density == Kind.EXACT:
        return lambda x: -model.log_prob(x)
    return None


def density_obstacle(problem: Problem) -> str | None:
    """What a sampler of −log p(x) − log p(y|x) lacks."""
    if prior_energy(problem) is None:
        return "an exact density or an energy of continuous columns as the prior"
    return None if problem.noise is not None else "noise"
