"""The transverse-field Ising chain solved exactly by free fermions.

With Majorana operators a_j = (Π_{k<j} σˣ_k) σᶻ_j and b_j = (Π_{k<j} σˣ_k) σʸ_j, which all anticommute and
square to one, σˣ_j = i a_j b_j and σᶻ_j σᶻ_{j+1} = i b_j a_{j+1}, so that in a sector of P = Π σˣ

    H = −J Σ σᶻ_j σᶻ_{j+1} − h Σ σˣ_j = i Σ_jk a_j M_jk b_k,

with M_jj = −h, M_{j+1,j} = J and, on a ring, M_{1,N} = −P J. A singular-value decomposition
M = U ε Vᵀ turns it into H = Σ ε_l (i α_l β_l) with i α_l β_l = ±1 and P = det U det V Π (i α_l β_l).

Lieb, Schultz & Mattis 1961, "Two soluble models of an antiferromagnetic chain", Annals of Physics 16,
407; Pfeuty 1970, Annals of Physics 57, 79.
"""

import math
from typing import Literal

import numpy as np

from likely.core.errors import LikelyError
from likely.quantum.mps import check_sites


class FreeFermions:
    """Ground state of H = −J Σ σᶻσᶻ − h Σ σˣ in a sector of Π σˣ: energy and all correlators.

    Where the lowest level of the sector is degenerate, the state is one of it.

    Parameters
    ----------
    sites : int
    coupling, field : float
        J and h, of any sign.
    periodic : bool
        Whether the last site is bound to the first; of two sites, both bonds count.
    parity : {1, -1}, optional
        Of Π σˣ; by default that of the ground state.

    Attributes
    ----------
    energy : float
    parity : int

    Raises
    ------
    LikelyError
        If there are fewer than two sites, `coupling` or `field` is not finite, or `parity` is not ±1.
    """

    def __init__(
        self,
        sites: int,
        coupling: float = 1.0,
        field: float = 1.0,
        periodic: bool = False,
        parity: int | None = None,
    ) -> None:
        self.parity = checked_parity(sites, coupling, field, parity)
        M = -field * np.eye(sites) + coupling * np.eye(sites, k=-1)
        if periodic:
            M[0, -1] -= self.parity * coupling
        U, epsilon, Vt = np.linalg.svd(M)
        occupation = -np.ones(sites)  # of i α β, in the state of lowest energy …
        if round(np.linalg.det(U) * np.linalg.det(Vt)) * (-1) ** sites != self.parity:
            occupation[-1] = 1  # … of this parity; the values of ε come in falling order
        self.energy = float(epsilon @ occupation)
        self._G = (U * occupation) @ Vt  # ⟨i a_j b_k⟩

    def local(self) -> np.ndarray:
        """⟨σˣ_j⟩ on every site, shape (sites,); σᶻ and σʸ vanish."""
        return self._G.diagonal().copy()

    def correlators(self, axis: Literal["x", "y", "z"]) -> np.ndarray:
        """⟨σ_i σ_j⟩ of one component, shape (sites, sites), with ones on the diagonal.

        σᶻ_i σᶻ_j = Π_{i≤k<j} i b_k a_{k+1} and σʸ_i σʸ_j = Π_{i≤k<j} (−i a_k b_{k+1}): by Wick's theorem
        their means are determinants.
        """
        G, sites = self._G, len(self._G)
        if axis == "x":
            return np.where(np.eye(sites), 1, np.outer(G.diagonal(), G.diagonal()) - G * G.T)
        pairs = -(G.T if axis == "z" else G)
        values = np.eye(sites)
        for distance in range(1, sites):
            first = np.arange(sites - distance)
            window = first[:, None] + np.arange(distance)
            mean = np.linalg.det(pairs[window[:, :, None], window[:, None, :] + 1])
            values[first, first + distance] = values[first + distance, first] = mean
        return values


def ground_parity(sites: int, field: float) -> int:
    """Parity of Π σˣ in the ground state of the chain; 1 where both have the same energy (h = 0).

    For h > 0 no entry of H off the diagonal is positive in the basis of σᶻ, so that the ground state
    has positive amplitudes (Perron & Frobenius) and parity 1, whatever the bonds; h → −h turns every σˣ.
    """
    return -1 if field < 0 and sites % 2 else 1


def check_finite(**arguments: float) -> None:
    """Raise unless all arguments are finite numbers."""
    for name, value in arguments.items():
        if not math.isfinite(value):
            raise LikelyError(f"{name} {value}: a finite number is needed")


def checked_parity(sites: int, coupling: float, field: float, parity: int | None) -> int:
    """A parity, by default that of the ground state; raise unless all arguments make a chain."""
    check_sites(sites)
    check_finite(coupling=coupling, field=field)
    parity = ground_parity(sites, field) if parity is None else parity
    if parity not in (1, -1):
        raise LikelyError(f"parity {parity}: the parity of Π σˣ is 1 or -1")
    return parity
