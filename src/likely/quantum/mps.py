"""Matrix-product states of spins ½: exact expectations, correlators and overlaps.

|ψ⟩ = Σ_s A¹[s₁] A²[s₂] … Aᴺ[s_N] |s₁ … s_N⟩, kept right-canonical, Σ_s A[s] A[s]† = 1, so that
everything to the right of the last site of interest is an identity.

Schollwöck 2011, "The density-matrix renormalization group in the age of matrix product states",
Annals of Physics 326, 96 (arXiv:1008.3477), section 4.
"""

import itertools
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Complex128, Float64
from torch import Tensor

from likely.core.errors import DataError, LikelyError
from likely.quantum.povm import PAULI, Terms, as_operator, as_tensor, check_noise, noisy

DENSE_SITES = 20  # the largest state that is written out


class MPS:
    """A pure state of N spins ½; site 0 is the most significant bit, |0⟩ is σᶻ = +1.

    Parameters
    ----------
    tensors : sequence of arrays, each of shape (left, 2, right)
        In any gauge and of any norm; the outer bonds have length 1.

    Attributes
    ----------
    tensors : tuple of Tensor, each of shape (left, 2, right)
        Right-canonical and normalised, float64 or complex128.

    Raises
    ------
    DataError
        If the shapes do not fit together, an entry is not finite, or the state is zero.
    """

    def __init__(self, tensors: Sequence[Any]) -> None:
        self.tensors = _canonical(_checked(tensors))

    @property
    def sites(self) -> int:
        """Number of spins N."""
        return len(self.tensors)

    @property
    def bond(self) -> int:
        """The largest bond dimension χ."""
        return max(tensor.shape[2] for tensor in self.tensors)

    def dense(self) -> Tensor:
        """The state vector, shape (2^N,).

        Raises
        ------
        LikelyError
            Beyond 20 sites.
        """
        if self.sites > DENSE_SITES:
            raise LikelyError(f"{self.sites} sites: at most {DENSE_SITES} sites are written out")
        vector = self.tensors[0].new_ones(1, 1)
        for tensor in self.tensors:
            vector = (vector @ tensor.flatten(1)).reshape(-1, tensor.shape[2])
        return vector.flatten()

    def expectation(self, operators: Mapping[int, Any], noise: float = 0.0) -> float:
        """⟨Π_i O_i⟩, its real part.

        Parameters
        ----------
        operators : mapping of site to "x", "y", "z", or array of shape (2, 2)
            Sites that are left out have the identity.
        noise : float
            Probability with which each site is depolarised; the value is that of the noisy state.

        Raises
        ------
        LikelyError
            If a site or operator does not exist, or `noise` is not a probability.
        """
        return self._expectation(operators, noise).real

    def energy(self, terms: Terms, noise: float = 0.0) -> float:
        """⟨Σ_t c_t ⊗_i O_ti⟩ of terms (c, {site: operator}); `noise` as for `expectation`."""
        return sum(c * self.expectation(factors, noise) for c, factors in terms)

    def _expectation(self, operators: Mapping[int, Any], noise: float) -> complex:
        check_noise(noise)
        for site in operators:
            if not 0 <= site < self.sites:
                raise LikelyError(f"site {site}: there are sites 0 to {self.sites - 1}")
        first, last = min(operators, default=0), max(operators, default=-1)
        left = self._left[first]
        for site in range(first, last + 1):
            operator = noisy(as_operator(operators.get(site, "1")), noise)
            left = _transfer(left, self.tensors[site], operator)
        return complex(left.trace().item())

    def local(self, operator: Any, noise: float = 0.0) -> Float64[Tensor, " sites"]:
        """⟨O_i⟩ on every site, its real part; `noise` as for `expectation`."""
        values = [self.expectation({site: operator}, noise) for site in range(self.sites)]
        return torch.tensor(values, dtype=torch.float64)

    def correlators(self, a: Any, b: Any, noise: float = 0.0) -> Float64[Tensor, "sites sites"]:
        """⟨a_i b_j⟩ for all i and j, the real part; on the diagonal that of the product a b.

        Parameters
        ----------
        a, b : "x", "y", "z", or array of shape (2, 2)
        noise : float
            As for `expectation`.
        """
        check_noise(noise)
        a, b = as_operator(a), as_operator(b)
        seen = [noisy(a, noise), noisy(b, noise)]
        # What a site's tensor and its operator make of the environment on their left.
        closed_a, closed_b = (
            [torch.einsum("asb,st,ctb->ca", *_alike(t.conj(), operator, t)) for t in self.tensors]
            for operator in seen
        )
        values = torch.empty(self.sites, self.sites, dtype=torch.float64)
        for i, tensor in enumerate(self.tensors):
            values[i, i] = self.expectation({i: a @ b}, noise)
            left_a, left_b = (_transfer(self._left[i], tensor, operator) for operator in seen)
            for j in range(i + 1, self.sites):
                values[i, j] = (left_a * closed_b[j]).sum().real
                values[j, i] = (left_b * closed_a[j]).sum().real
                left_a, left_b = (_transfer(left, self.tensors[j]) for left in (left_a, left_b))
        return values

    def overlap(self, other: "MPS") -> complex:
        """⟨other|self⟩.

        Raises
        ------
        LikelyError
            If the states have different numbers of sites.
        """
        if other.sites != self.sites:
            raise LikelyError(f"the states have {self.sites} and {other.sites} sites")
        left = self.tensors[0].new_ones(1, 1)
        for ket, bra in zip(self.tensors, other.tensors, strict=True):
            left = torch.einsum("ac,asb,csd->bd", *_alike(left, ket, bra.conj()))
        return complex(left.item())

    def reduced(self, sites: Sequence[int], noise: float = 0.0) -> Complex128[Tensor, "d d"]:
        """The density matrix of one or a few sites, the first one the most significant bit.

        Raises
        ------
        LikelyError
            If a site does not exist or comes twice.
        """
        if len(set(sites)) < len(sites):
            raise LikelyError(f"the sites {[*sites]} are not all different")
        unit = torch.eye(4, dtype=torch.complex128).reshape(2, 2, 2, 2)  # unit[s, t] = |s⟩⟨t|
        states = list(itertools.product(range(2), repeat=len(sites)))
        rho = [
            self._expectation({i: unit[t, s] for i, s, t in zip(sites, *bits, strict=True)}, noise)
            for bits in itertools.product(states, states)
        ]
        return torch.tensor(rho, dtype=torch.complex128).reshape(len(states), -1)

    @cached_property
    def _left(self) -> list[Tensor]:
        """Environments on the left bond of every site, and at the end the norm."""
        lefts = [self.tensors[0].new_ones(1, 1)]
        for tensor in self.tensors:
            lefts.append(_transfer(lefts[-1], tensor))
        return lefts


def _checked(tensors: Sequence[Any]) -> list[Tensor]:
    """The tensors in one type; DataError if they make no state."""
    checked = [as_tensor(tensor) for tensor in tensors]
    if not checked:
        raise DataError("a matrix-product state needs at least one tensor")
    dtype = torch.complex128 if any(t.is_complex() for t in checked) else torch.float64
    right = 1
    for site, tensor in enumerate(checked):
        if tensor.ndim != 3 or tensor.shape[:2] != (right, 2) or not tensor.numel():
            shape = tuple(tensor.shape)
            raise DataError(f"state, site {site}: shape {shape}, not ({right}, 2, right)")
        if not tensor.isfinite().all():
            raise DataError(f"state, site {site}: an entry is not finite")
        right = tensor.shape[2]
    if right != 1:
        raise DataError(f"state: the last bond has length {right}, not 1")
    return [tensor.to(dtype) for tensor in checked]


def _canonical(tensors: list[Tensor]) -> tuple[Tensor, ...]:
    """Right-canonical and normalised, by QR decompositions from the right."""
    rest = tensors[-1].new_ones(1, 1)
    result = []
    for site in reversed(range(len(tensors))):
        tensor = tensors[site] @ rest
        left, _, right = tensor.shape
        q, r = torch.linalg.qr(tensor.reshape(left, 2 * right).mH)
        result.append(q.mH.reshape(-1, 2, right).resolve_conj())
        norm = r.norm()
        if not norm > 0:
            raise DataError("the state is zero")
        rest = r.mH / norm
    result[-1] = result[-1] * rest  # a phase
    return tuple(reversed(result))


def _alike(*tensors: Tensor) -> list[Tensor]:
    """Tensors in one type, complex only where one of them has an imaginary part."""
    if all(not t.is_complex() or not t.imag.any() for t in tensors):
        return [t.real for t in tensors]
    return [t.to(torch.complex128) for t in tensors]


def _transfer(left: Tensor, tensor: Tensor, operator: Tensor = PAULI["1"]) -> Tensor:
    """L'[b, d] = Σ L[a, c] O[t, s] A[a, s, b] A*[c, t, d]: one site further to the right."""
    left, ket, bra, operator = _alike(left, tensor, tensor.conj(), operator)
    ket = torch.einsum("ts,asb->atb", operator, ket)
    return torch.einsum("atd,atb->bd", torch.einsum("ac,ctd->atd", left, bra), ket)


def product(vectors: Any) -> MPS:
    """A product state, from one vector (2,) for each site."""
    return MPS([as_tensor(vector).reshape(1, 2, 1) for vector in vectors])


def ghz(sites: int) -> MPS:
    """(|0…0⟩ + |1…1⟩)/√2."""
    check_sites(sites)
    bulk = torch.zeros(2, 2, 2, dtype=torch.float64)
    bulk[0, 0, 0] = bulk[1, 1, 1] = 1
    first, last = bulk.sum(0, keepdim=True), bulk.sum(2, keepdim=True)
    return MPS([first, *[bulk] * (sites - 2), last])


def random_mps(sites: int, bond: int = 4, seed: int = 0) -> MPS:
    """Complex Gaussian tensors of a bond dimension, made canonical."""
    check_sites(sites)
    if bond < 1:
        raise LikelyError(f"bond {bond}: a bond has a length of 1 or more")
    rng = np.random.default_rng(seed)
    lengths = [1, *[bond] * (sites - 1), 1]
    shapes = [(left, 2, right) for left, right in itertools.pairwise(lengths)]
    return MPS([rng.normal(size=shape) + 1j * rng.normal(size=shape) for shape in shapes])


def from_dense(vector: Any) -> MPS:
    """The state of a vector of 2^N entries, by singular-value decompositions from the left.

    Raises
    ------
    DataError
        If the length is not a power of two, or an entry is not finite.
    """
    rest = as_tensor(vector)
    sites = rest.numel().bit_length() - 1
    if rest.ndim != 1 or sites < 1 or rest.numel() != 2**sites:
        raise DataError(f"a state vector has 2, 4, 8, … entries, not the shape {tuple(rest.shape)}")
    if not rest.isfinite().all():
        raise DataError("the state vector has an entry that is not finite")
    rest = rest.to(torch.complex128 if rest.is_complex() else torch.float64)
    tensors = []
    left = 1
    for _ in range(sites - 1):
        u, s, v = torch.linalg.svd(rest.reshape(2 * left, -1), full_matrices=False)
        kept = max(1, int((s > 1e-15 * s[0]).sum()))
        tensors.append(u[:, :kept].reshape(left, 2, kept))
        rest = s[:kept, None] * v[:kept]
        left = kept
    return MPS([*tensors, rest.reshape(left, 2, 1)])


def check_sites(sites: int) -> None:
    """Raise unless a chain has two sites or more."""
    if sites < 2:
        raise LikelyError(f"sites {sites}: a chain has at least 2 sites")
