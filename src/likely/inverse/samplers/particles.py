"""The particle filter, for autoregressive priors and masks, with noise or without.

Entries are drawn one after another from the prior's conditionals, and candidates are weighed by what
was measured of each entry as it is drawn: see `Autoregressive.complete`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Int
from torch import Tensor

from likely.inverse.noise import Gaussian, Noise, Poisson
from likely.inverse.operators import Composition, Identity, Mask, Operator, Select
from likely.inverse.problem import Draws, Problem, method
from likely.models.autoregressive.base import Autoregressive


def _masks(operator: Operator) -> bool:
    if isinstance(operator, Composition):
        return _masks(operator.outer) and _masks(operator.inner)
    return isinstance(operator, Identity | Mask | Select)


def _obstacle(problem: Problem) -> str | None:
    if not isinstance(problem.model, Autoregressive):
        return "an autoregressive prior"
    if not _masks(problem.operator):
        return "a mask as the operator"
    if not isinstance(problem.noise, Gaussian | Poisson | None):
        return "independent noise, or none"
    return None


@method("particles", kind="asymptotic", order=50, obstacle=_obstacle)
def particles(problem: Problem, n: int, *, particles: int = 64) -> Draws:
    """A filter of its own for each draw.

    Without noise, and where the known entries come first in the prior's ordering, the draws are exact.

    Parameters
    ----------
    particles : int
        Candidates of each draw.
    """
    model, noise = problem.model, problem.noise
    assert isinstance(model, Autoregressive)
    entries, y = _entries(problem), problem.y.flatten()
    x = model.domain.anchor.flatten().to(y).clone()
    known = torch.zeros(len(x), dtype=torch.bool, device=y.device)
    evidence = {}
    if noise is None:
        x[entries], known[entries] = y, True
    else:
        evidence = {int(i): _term(noise, problem.y, j) for j, i in enumerate(entries)}
    rows = x.reshape(1, *model.domain.shape).expand(n, *model.domain.shape)
    drawn, ess = model.complete_with_ess(
        rows, known.reshape(model.domain.shape), particles=particles, evidence=evidence
    )
    least = min(ess.min().item(), particles)
    few = f"one of {particles} candidates outweighs all others: give more particles"
    exact = bool(ess.isinf().all())
    return Draws(
        drawn, {"ess": least}, (few,) if least < 2 else (), "exact" if exact else "asymptotic"
    )


def _entries(problem: Problem) -> Int[Tensor, " m"]:
    """Which entry of x each entry of y is; it sees a row that holds the entries' numbers."""
    shape = problem.model.domain.shape
    numbers = torch.arange(1.0, 1 + math.prod(shape), dtype=torch.float64, device=problem.y.device)
    return problem.operator(numbers.reshape(1, *shape)).flatten().long() - 1


def _term(noise: Noise, y: Tensor, j: int) -> Callable[[Tensor], Tensor]:
    """The log-likelihood of values of the entry that y_j has measured."""
    one = torch.arange(y.numel(), device=y.device) == j
    of_one = noise.at(one.reshape(y.shape))
    return lambda values: of_one.log_prob(y.flatten()[j].expand(1, 1), values.to(y)[:, None])
