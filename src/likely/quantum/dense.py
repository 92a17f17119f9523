"""Small systems written out: Born's rule and its inverse over all outcomes at once.

Nothing here knows matrix-product states; the two test each other.
"""

import math
from collections.abc import Mapping
from functools import reduce
from typing import Any

import torch
from jaxtyping import Complex128, Float64
from torch import Tensor

from likely.core.errors import LikelyError
from likely.quantum.povm import PAULI, POVM, Terms, as_operator, check_noise

ENTRIES = 1 << 24  # of the largest array


def density_matrix(vector: Tensor, noise: float = 0.0) -> Complex128[Tensor, "d d"]:
    """|ψ⟩⟨ψ| after each site was depolarised, ρ → (1 − p) ρ + p Tr_i ρ ⊗ 1/2.

    Raises
    ------
    LikelyError
        If the matrix has more than 2^24 entries (12 sites), or `noise` is not a probability.
    """
    check_noise(noise)
    sites = len(vector).bit_length() - 1
    _check_size(4, sites)
    vector = vector.to(torch.complex128)
    one = PAULI["1"].flatten()
    channel = (1 - noise) * torch.eye(4, dtype=one.dtype) + noise * torch.outer(one, one) / 2
    rho = _on_each_site(channel, _by_sites(torch.outer(vector, vector.conj())), sites)
    return _by_sides(rho, sites)


def probabilities(rho: Tensor, povm: POVM) -> Float64[Tensor, " outcomes"]:
    """P(a₁ … a_N) = Tr(ρ M_a₁ ⊗ … ⊗ M_a_N) of all k^N outcomes, the first site varying slowest.

    Parameters
    ----------
    rho : Tensor, shape (2^N, 2^N), or (2^N,) for a pure state

    Raises
    ------
    LikelyError
        If there are more than 2^24 outcomes.
    """
    sites = len(rho).bit_length() - 1
    _check_size(max(4, povm.outcomes), sites)
    rho = rho.to(torch.complex128)
    rho = torch.outer(rho, rho.conj()) if rho.ndim == 1 else rho
    return _on_each_site(povm.effects.mT.flatten(1), _by_sites(rho), sites).real


def reconstructed(probabilities: Tensor, povm: POVM) -> Complex128[Tensor, "d d"]:
    """ρ = Σ_a P(a) D_a₁ ⊗ … ⊗ D_a_N from the probabilities of all outcomes.

    With a POVM that is not complete, this is ρ projected onto what its effects span.

    Raises
    ------
    LikelyError
        If the probabilities are not k^N, or more than 2^24.
    """
    n, k = len(probabilities), povm.outcomes
    sites = round(math.log(max(n, 1), k))
    if k**sites != n:
        raise LikelyError(f"{n} probabilities: not a power of the {k} outcomes")
    _check_size(max(4, k), sites)
    rho = _on_each_site(povm.dual.flatten(1).T, probabilities.to(torch.complex128), sites)
    return _by_sides(rho, sites)


def operator(factors: Mapping[int, Any], sites: int) -> Complex128[Tensor, "d d"]:
    """Π_i O_i as a matrix over all sites."""
    _check_size(4, sites)
    matrices = (as_operator(factors.get(site, "1")) for site in range(sites))
    return reduce(torch.kron, matrices)


def hamiltonian(terms: Terms, sites: int) -> Complex128[Tensor, "d d"]:
    """Σ_t c_t ⊗_i O_ti of terms (c, {site: operator}) as a matrix over all sites."""
    _check_size(4, sites)
    matrix = torch.zeros(2**sites, 2**sites, dtype=torch.complex128)
    for coefficient, factors in terms:
        matrix += coefficient * operator(factors, sites)
    return matrix


def _on_each_site(maps: Tensor, values: Tensor, sites: int) -> Tensor:
    """Apply a map (new, old) to every index of a tensor of shape (old^N,)."""
    maps = maps.to(values.dtype)
    for _ in range(sites):  # each turn moves the first index, mapped, to the end
        values = (maps @ values.reshape(maps.shape[1], -1)).T.flatten()
    return values


def _by_sites(rho: Tensor) -> Tensor:
    """(s₁ s₂ …, t₁ t₂ …) to (s₁ t₁ s₂ t₂ …)."""
    sites = len(rho).bit_length() - 1
    order = [axis for site in range(sites) for axis in (site, sites + site)]
    return rho.reshape([2] * 2 * sites).permute(order).flatten()


def _by_sides(rho: Tensor, sites: int) -> Tensor:
    """(s₁ t₁ s₂ t₂ …) to (s₁ s₂ …, t₁ t₂ …)."""
    order = [*range(0, 2 * sites, 2), *range(1, 2 * sites, 2)]
    return rho.reshape([2] * 2 * sites).permute(order).reshape(2**sites, 2**sites)


def _check_size(levels: int, sites: int) -> None:
    if levels**sites > ENTRIES:
        raise LikelyError(f"{levels}^{sites} numbers are too many: use fewer sites, or sample")
