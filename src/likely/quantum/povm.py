"""Single-site measurements: POVMs, their overlap matrix and their dual frame.

A POVM is a set of positive operators M_a that sum to one; outcome a has the probability Tr(M_a ρ).
With T_ab = Tr(M_a M_b) and the dual frame D_a = Σ_b (T⁺)_ab M_b, every operator O in the span of the
effects is O = Σ_a Tr(O D_a) M_a, so that ⟨O⟩ is the mean of Tr(O D_a) over outcomes.

Carrasquilla, Torlai, Melko & Aolita 2019, "Reconstructing quantum states with generative models",
Nature Machine Intelligence 1, 155 (arXiv:1810.10584).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Complex128, Float, Float64, Int64
from torch import Tensor

from likely.core.domain import Domain, categories
from likely.core.errors import DataError, LikelyError

ROUNDING = 1e-6  # of effects of order one in a file: single precision, or seven digits
EXACT = 1e-12  # up to which effects are left as they are
CUT = 1e-9  # below this part of the largest singular value of the effects, one is zero

PAULI: dict[str, Complex128[Tensor, "2 2"]] = {
    "1": torch.tensor([[1, 0], [0, 1]], dtype=torch.complex128),
    "x": torch.tensor([[0, 1], [1, 0]], dtype=torch.complex128),
    "y": torch.tensor([[0, -1j], [1j, 0]], dtype=torch.complex128),
    "z": torch.tensor([[1, 0], [0, -1]], dtype=torch.complex128),
}

Operator = str | Complex128[Tensor, "2 2"]  # of one site: "x", "y", "z", or any other as a matrix
Terms = Sequence[tuple[float, Mapping[int, Operator]]]  # Σ_t c_t ⊗_i O_ti, such as a Hamiltonian


@dataclass(frozen=True, eq=False)
class POVM:
    """A measurement of one spin ½, the same on every site.

    Parameters
    ----------
    name : str
    effects : array, shape (k, 2, 2)
        M_a in the basis |σᶻ = 1⟩, |σᶻ = −1⟩; kept as a complex128 tensor. Deviations of up to 1e-6 from
        a POVM are taken for rounding: negative eigenvalues become zero, and M_a becomes
        S^{-1/2} M_a S^{-1/2}, with S = Σ_a M_a.

    Raises
    ------
    DataError
        If the effects have another shape, or by more than rounding are not Hermitian, not positive, or
        do not sum to one.
    """

    name: str
    effects: Complex128[Tensor, "k 2 2"]

    def __post_init__(self) -> None:
        name = f"POVM {self.name!r}"
        try:
            effects = as_tensor(self.effects).to(torch.complex128)
        except (TypeError, ValueError) as error:
            raise DataError(f"{name}: the effects are not an array of numbers") from error
        shape = tuple(effects.shape)
        if len(shape) != 3 or shape[0] < 2 or shape[1:] != (2, 2):
            raise DataError(f"{name}: the effects have shape {shape}; give two or more of 2 × 2")
        skew = (effects - effects.mH).abs().flatten(1).amax(1)
        for a in (~(skew <= ROUNDING)).nonzero():  # NaN, too
            raise DataError(f"{name}: effect {a.item()} is not Hermitian")
        values, vectors = torch.linalg.eigh(effects)
        for a, lowest in enumerate(values[:, 0]):
            if lowest < -ROUNDING:
                raise DataError(f"{name}: effect {a} is not positive: eigenvalue {lowest:.3g}")
        excess = (effects.sum(0) - PAULI["1"]).abs().max()
        if excess > ROUNDING:
            raise DataError(f"{name}: the sum of the effects misses the identity by {excess:.3g}")
        if max(skew.max(), -values.min(), excess) > EXACT:
            effects = (vectors * values.clamp_min(0)[:, None]) @ vectors.mH
            values, vectors = torch.linalg.eigh(effects.sum(0))
            root = (vectors / values.sqrt()) @ vectors.mH
            effects = root @ effects @ root
        object.__setattr__(self, "effects", effects)

    @property
    def outcomes(self) -> int:
        """Number of outcomes k."""
        return len(self.effects)

    @cached_property
    def overlap(self) -> Float64[Tensor, "k k"]:
        """T_ab = Tr(M_a M_b)."""
        return torch.einsum("aij,bji->ab", self.effects, self.effects).real

    @cached_property
    def _svd(self) -> tuple[Tensor, Tensor, Tensor]:
        """U, s and V of the effects as rows, M = U s V†, without the singular values that are zero.

        T = M M† has the squares of s: half of the digits.
        """
        u, s, vh = torch.linalg.svd(self.effects.flatten(1), full_matrices=False)
        kept = s > CUT * s[0]
        return u[:, kept], s[kept], vh[kept].mH

    @property
    def rank(self) -> int:
        """Dimension of the span of the effects."""
        return len(self._svd[1])

    @property
    def complete(self) -> bool:
        """Whether the outcomes determine the state: the effects span all operators."""
        return self.rank == 4

    @cached_property
    def dual(self) -> Complex128[Tensor, "k 2 2"]:
        """D_a = Σ_b (T⁺)_ab M_b, with the pseudo-inverse of T."""
        u, s, v = self._svd
        return ((u / s) @ v.mH).reshape(-1, 2, 2)

    def spans(self, operator: Any) -> bool:
        """Whether an operator is a combination of the effects, so that its mean can be estimated."""
        row, v = as_operator(operator).flatten(), self._svd[2]
        return bool((row - (row @ v) @ v.mH).norm() <= ROUNDING * row.norm())

    def estimator(self, operator: Any) -> Float64[Tensor, " k"]:
        """Tr(O D_a): the value of each outcome whose mean is ⟨O⟩.

        Parameters
        ----------
        operator : "x", "y", "z", or array of shape (2, 2)
            Hermitian.

        Raises
        ------
        LikelyError
            If the operator is unknown, not Hermitian, or outside the span of the effects.
        """
        operator = as_operator(operator)
        if not torch.allclose(operator, operator.mH):
            raise LikelyError("the operator is not Hermitian")
        if not self.spans(operator):
            raise LikelyError(
                f"the operator is outside the span of the effects of {self.name} (rank {self.rank} of 4)"
            )
        return torch.einsum("ij,aji->a", operator, self.dual).real

    @cached_property
    def pieces(self) -> tuple[Int64[Tensor, " m"], Complex128[Tensor, "m 2"]]:
        """The effects as sums of rank-one ones, M_a = Σ |φ⟩⟨φ|: outcome of each piece, and φ."""
        values, vectors = torch.linalg.eigh(self.effects)
        outcome, index = (values > 1e-13).nonzero(as_tuple=True)
        return outcome, vectors[outcome, :, index] * values[outcome, index, None].sqrt()

    @property
    def rank_one(self) -> bool:
        """Whether each effect is some |φ⟩⟨φ|."""
        return len(self.pieces[0].unique()) == len(self.pieces[0]) == self.outcomes

    def probabilities(self, rho: Tensor) -> Float[Tensor, "*batch k"]:
        """Born's rule, Tr(M_a ρ), for density matrices of shape (*batch, 2, 2)."""
        effects = self.effects.to(rho.device)
        return torch.einsum("aij,...ji->...a", effects, rho.to(effects.dtype)).real

    def domain(self, sites: int) -> Domain:
        """Where the outcomes of a row of sites live."""
        return categories(self.outcomes, sites)


def as_tensor(values: Any) -> Tensor:
    """A tensor on the CPU of whatever is like an array, lists of arrays too."""
    if isinstance(values, Tensor):
        return values.detach().cpu()
    return torch.as_tensor(np.asarray(values))


def as_operator(operator: Any) -> Complex128[Tensor, "2 2"]:
    """An operator on one site as a complex128 tensor, from an array or the name of a Pauli matrix.

    Raises
    ------
    LikelyError
        If the name is unknown, or the array is not 2 × 2.
    """
    if isinstance(operator, str):
        if operator not in PAULI:
            raise LikelyError(f"operator {operator!r}: name x, y or z, or give a matrix")
        return PAULI[operator]
    matrix = as_tensor(operator).to(torch.complex128)
    if matrix.shape != (2, 2):
        raise LikelyError(f"an operator on one site is 2 × 2, not of shape {tuple(matrix.shape)}")
    return matrix


def _along(*directions: tuple[float, float, float]) -> Complex128[Tensor, "k 2 2"]:
    """(1 + v·σ)/2 for unit vectors v: projectors on spins along them."""
    v = torch.tensor(directions, dtype=torch.complex128)
    sigma = torch.stack([PAULI[axis] for axis in "xyz"])
    return (PAULI["1"] + torch.einsum("ac,cij->aij", v, sigma)) / 2


def _named() -> dict[str, POVM]:
    a, b, half = math.sqrt(2) / 3, math.sqrt(2 / 3), math.sqrt(3) / 2
    corners = (0, 0, 1), (2 * a, 0, -1 / 3), (-a, b, -1 / 3), (-a, -b, -1 / 3)
    up = _along((0, 0, 1), (1, 0, 0), (0, 1, 0))
    effects = {
        "tetrahedral": _along(*corners) / 2,
        "pauli4": torch.cat([up, 3 * PAULI["1"] - up.sum(0, keepdim=True)]) / 3,
        "pauli6": torch.stack([up, PAULI["1"] - up], 1).flatten(0, 1) / 3,
        "trine": _along((0, 0, 1), (half, 0, -0.5), (-half, 0, -0.5)) * 2 / 3,
        "computational": _along((0, 0, 1), (0, 0, -1)),
    }
    return {name: POVM(name, matrices) for name, matrices in effects.items()}


POVMS = _named()


def povm(name: str) -> POVM:
    """A POVM by its name.

    ==============  ==============================================================================
    tetrahedral     (1 + v_a·σ)/4, v the corners of a tetrahedron: (0, 0, 1), (2√2/3, 0, −1/3),
                    (−√2/3, ±√(2/3), −1/3)
    pauli4          |0⟩⟨0|/3, |+⟩⟨+|/3, |+i⟩⟨+i|/3 and what is left
    pauli6          the two projectors of σᶻ, σˣ and σʸ in turn, each divided by 3
    trine           (1 + v_a·σ)/3, v three vectors at 120° in the x–z plane; not complete
    computational   |0⟩⟨0| and |1⟩⟨1|; not complete
    ==============  ==============================================================================

    Raises
    ------
    LikelyError
        If the name is unknown; the message lists the known ones.
    """
    if name not in POVMS:
        raise LikelyError(f"unknown POVM {name!r}: the known ones are {', '.join(POVMS)}")
    return POVMS[name]


def check_noise(noise: float) -> None:
    """Raise unless the noise is a probability."""
    if not 0 <= noise <= 1:
        raise LikelyError(f"noise {noise}: the probability of depolarising a site lies in 0 … 1")


def noisy(operator: Tensor, noise: float) -> Tensor:
    """(1 − p) O + p Tr(O)/2 · 1: what an operator of one site becomes under depolarising noise."""
    trace = operator.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
    return (1 - noise) * operator + noise * trace / 2 * PAULI["1"]


def depolarised(povm: POVM, noise: float) -> POVM:
    """The POVM as a state sees it through local depolarising noise, ρ → (1 − p) ρ + p · 1/2.

    Raises
    ------
    LikelyError
        If `noise` is not a probability.
    """
    check_noise(noise)
    return POVM(povm.name, noisy(povm.effects, noise)) if noise else povm
