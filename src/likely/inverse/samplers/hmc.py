"""Hamiltonian Monte Carlo of x, for priors with a density or an energy.

    E(x) = −log p(x) − log p(y|x)

With parallel tempering the chains at rising temperatures carry states from one mode to another.
"""

from __future__ import annotations

from torch import Tensor

from likely.contract.options import NonNegativeInt
from likely.inverse.chains import tempered
from likely.inverse.priors import density_obstacle, prior_energy
from likely.inverse.problem import Draws, Problem, method


@method("hmc", kind="asymptotic", order=40, obstacle=density_obstacle)
def hmc(
    problem: Problem,
    n: int,
    *,
    chains: int = 32,
    burn_in: NonNegativeInt = 200,
    thin: int = 2,
    leapfrogs: int = 10,
    temperatures: int = 4,
) -> Draws:
    """Chains that start at draws of the prior.

    Parameters
    ----------
    chains : int
    burn_in : int
        Transitions that are thrown away; they tune steps, masses and temperatures.
    thin : int
        Transitions between the states that are kept.
    leapfrogs : int
        Of each transition.
    temperatures : int
        Of parallel tempering; 1 is plain HMC.
    """
    prior = prior_energy(problem)
    assert prior is not None

    def energy(x: Tensor) -> Tensor:
        return prior(x) - problem.log_likelihood(x)

    model, init = problem.model, problem.model.sample(chains)
    return Draws(*tempered(energy, model.domain, init, n, burn_in, thin, leapfrogs, temperatures))
