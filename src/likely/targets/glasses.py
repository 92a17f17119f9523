"""Spin glasses whose couplings are drawn by a seed, and which are exact where they are small.

E(s) = −Σ J_ij s_i s_j over bonds, each counted once,   p(s) = e^(−β E(s)) / Z.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from likely.core.columns import Spin
from likely.core.domain import Domain, spins
from likely.core.random import seeded
from likely.core.target import Target
from likely.targets.exact import enumerated

ENUMERATED = 20  # spins


def sherrington_kirkpatrick(size: int = 16, beta: float = 1.0, seed: int = 0) -> Target:
    """Spins that are all bound to one another, by J_ij ~ N(0, 1/size) for each pair.

    `energy` is βE. Up to 20 spins everything is exact, by enumeration (seconds for 20); beyond
    them only the energy is known.

    Parameters
    ----------
    size : int
        Number of spins.
    beta : float
        The infinite system freezes above 1.
    seed : int
        Of the couplings.

    References
    ----------
    Sherrington & Kirkpatrick 1975, Physical Review Letters 35, 1792.
    """
    with seeded(seed):
        J = torch.randn(size, size, dtype=torch.float64).triu(1) / size**0.5

    def energy(s: Tensor) -> Float[Tensor, " n"]:
        s = _floating(s)
        return -beta * ((s @ J.to(s)) * s).sum(1)

    return _glass("sherrington-kirkpatrick", Domain((size,), (Spin(),)), energy)


def edwards_anderson(rows: int = 4, columns: int = 4, beta: float = 1.0, seed: int = 0) -> Target:
    """Spins on a periodic lattice with bonds J = ±1, either sign with probability ½.

    Each site is bound to its right and its lower neighbour, so that a side of length 2 has two bonds
    between its sites, each with a sign of its own. `energy` is βE. Up to 20 spins everything is
    exact, by enumeration (seconds for 20); beyond them only the energy is known.

    Parameters
    ----------
    rows, columns : int
    beta : float
    seed : int
        Of the bonds.

    References
    ----------
    Edwards & Anderson 1975, Journal of Physics F 5, 965.
    """
    with seeded(seed):
        down, right = 2.0 * torch.randint(2, (2, rows, columns)) - 1

    def energy(s: Tensor) -> Float[Tensor, " n"]:
        s = _floating(s)
        bonds = down.to(s) * s.roll(-1, 1) + right.to(s) * s.roll(-1, 2)
        return -beta * (s * bonds).sum((1, 2))

    return _glass("edwards-anderson", spins(rows, columns), energy)


def _floating(s: Tensor) -> Tensor:
    return s if s.is_floating_point() else s.double()


def _glass(name: str, domain: Domain, energy: Callable[[Tensor], Tensor]) -> Target:
    if domain.size <= ENUMERATED:
        return enumerated(name, domain, energy)
    return Target(domain, name=name, energy=energy)
