"""Sequential Monte Carlo of x, from the prior to the posterior, for priors with an exact density.

Particles follow p(x) p(y|x)^β from β = 0, where they are draws of the prior, to 1: weighted, resampled
and moved by HMC. So they find all modes that the prior knows, and their weights give log p(y).
"""

from __future__ import annotations

from torch import Tensor

from likely.core.likelihood import Kind
from likely.inverse.chains import annealed
from likely.inverse.priors import density_obstacle
from likely.inverse.problem import Draws, Problem, method


def _obstacle(problem: Problem) -> str | None:
    if problem.model.density != Kind.EXACT:
        return "an exact density as the prior"
    return density_obstacle(problem)


@method("smc", kind="asymptotic", order=30, obstacle=_obstacle)
def smc(
    problem: Problem, n: int, *, particles: int = 512, moves: int = 5, leapfrogs: int = 5
) -> Draws:
    """One particle for each draw.

    Parameters
    ----------
    particles : int
        As many as draws, at least.
    moves : int
        Transitions of HMC after each resampling.
    leapfrogs : int
        Of each transition.
    """
    model = problem.model

    def energy(x: Tensor) -> Tensor:
        return -model.log_prob(x) - problem.log_likelihood(x)

    init = model.sample(max(particles, n, 2))
    return Draws(*annealed(energy, model.domain, model, init, n, moves, leapfrogs))
