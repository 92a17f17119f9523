"""Observables from measurement outcomes, through the dual frame of the effects.

With ρ = Σ_a P(a) ⊗_i D_{a_i} (Carrasquilla, Torlai, Melko & Aolita 2019, arXiv:1810.10584),

    ⟨⊗_i O_i⟩ = E_P Π_i Tr(O_i D_{a_i}),

so that every product of single-site operators in the span of the effects is a mean over outcomes.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Complex128, Float64, Int64
from scipy.special import ndtr
from torch import Tensor

from likely.core.errors import DataError, LikelyError
from likely.core.likelihood import Figure, Kind, Likelihood
from likely.quantum.povm import POVM, Operator, Terms, as_operator

ROWS = 1 << 14  # outcomes whose pairs are counted at a time
MIN_ROWS = 4  # two halves that have errors
MIN_HALF = 500  # rows of a half, above which means count as normal


class Profile(NamedTuple):
    """Estimates of one observable at every site, or pair of sites, and their standard errors."""

    value: Tensor
    stderr: Tensor


@dataclass(frozen=True)
class Positivity:
    """Whether the density matrices of single sites and pairs of sites can be those of a state.

    Attributes
    ----------
    value : Figure
        ⟨v|ρ|v⟩ of the matrix ρ and direction v for which it is the lowest in standard errors.
    sites : tuple of int
        Whose matrix that is.
    p_value : float
        Of a value as far below zero in any of the matrices if all of them are positive: one-sided
        normal tests, with Bonferroni's correction. A small one: no quantum state has such outcomes.
    matrices : int
        How many were looked at.
    """

    value: Figure
    sites: tuple[int, ...]
    p_value: float
    matrices: int


class Observables:
    """Estimates from independent outcomes of the same measurement at each site.

    Parameters
    ----------
    outcomes : Tensor of integers, shape (n, sites)
    povm : POVM
        What was measured.

    Attributes
    ----------
    pairs : Tensor, shape (sites, k, sites, k)
        How frequent outcome a at site i is together with b at j.

    Raises
    ------
    DataError
        If an outcome is not one of the POVM's, or there are fewer than four rows.
    """

    def __init__(self, outcomes: Int64[Tensor, "n sites"], povm: POVM) -> None:
        if len(outcomes) < MIN_ROWS:
            raise DataError(f"{len(outcomes)} outcomes: at least {MIN_ROWS} are needed")
        povm.domain(outcomes.shape[1]).check(outcomes, "the outcomes")
        self.outcomes, self.povm = outcomes.cpu().long(), povm
        self.n, self.sites = outcomes.shape
        parts = self.outcomes.tensor_split(2)
        first, second = self._halves = [_pair_frequencies(part, povm.outcomes) for part in parts]
        self.pairs = len(parts[0]) / self.n * first + len(parts[1]) / self.n * second

    @property
    def occupation(self) -> Profile:
        """Frequency of each outcome at each site, shape (sites, k)."""
        p = _single(self.pairs)
        return Profile(p, (p * (1 - p) / (self.n - 1)).sqrt())

    def local(self, operator: Operator) -> Profile:
        """⟨O_i⟩ at every site, shape (sites,).

        Raises
        ------
        LikelyError
            If the operator is outside the span of the effects.
        """
        return _profile(_single(self.pairs), self.povm.estimator(operator), self.n)

    def correlators(self, a: Operator, b: Operator) -> Profile:
        """⟨a_i b_j⟩ for all pairs of sites, shape (sites, sites); on the diagonal ⟨ab + ba⟩/2.

        Raises
        ------
        LikelyError
            If an operator is outside the span of the effects.
        """
        table = torch.outer(self.povm.estimator(a), self.povm.estimator(b)).flatten()
        found = _profile(self.pairs.permute(0, 2, 1, 3).flatten(2), table, self.n)
        first, second = as_operator(a), as_operator(b)
        same = self.local((first @ second + second @ first) / 2)
        for part, diagonal in zip(found, same, strict=True):
            part.diagonal().copy_(diagonal)
        return found

    def expectation(self, terms: Terms) -> Figure:
        """⟨Σ_t c_t ⊗_i O_ti⟩, such as an energy.

        Parameters
        ----------
        terms : sequence of (coefficient, {site: operator})

        Raises
        ------
        LikelyError
            If an operator is outside the span of the effects.
        """
        total = torch.zeros(self.n, dtype=torch.float64)
        for coefficient, factors in terms:
            term = torch.full_like(total, coefficient)
            for site, operator in factors.items():
                term *= self.povm.estimator(operator)[self.outcomes[:, site]]
            total += term
        return Likelihood(total, Kind.EXACT).mean()

    def reduced(self, *sites: int) -> Profile:
        """Density matrix of one or two sites; `stderr` has those of real and imaginary parts.

        By linear inversion: the trace is 1, and an eigenvalue may be negative by chance.

        Raises
        ------
        LikelyError
            If the effects do not span all operators, or there are not one or two sites that exist.
        """
        dual, last = self._dual(), self.sites - 1
        if len(sites) not in (1, 2) or len({*sites} & {*range(self.sites)}) != len(sites):
            raise LikelyError(f"give one or two different sites of 0 to {last}, not {sites}")
        if len(sites) == 1:
            p, frame = self.occupation.value[sites[0]], dual
        else:
            p, frame = self.pairs[sites[0], :, sites[1]].flatten(), _products(dual)
        parts = torch.view_as_real(frame).flatten(1).T  # an entry's real or imaginary part: a table
        found = _profile(p, parts, self.n)
        shape = *frame.shape[1:], 2
        return Profile(*(torch.view_as_complex(part.reshape(shape)) for part in found))

    def positivity(self) -> Positivity:
        """Test whether the density matrices of all sites and pairs of sites are positive.

        The eigenvector v of the smallest eigenvalue comes from one half of the outcomes, ⟨v|ρ|v⟩ from
        the other, as the smallest eigenvalue of an estimate is biased downwards.

        Raises
        ------
        LikelyError
            If the effects do not span all operators, or a half has fewer than 500 outcomes: too few for
            normal tests.
        """
        dual, n = self._dual(), self.n // 2
        if n < MIN_HALF:
            raise LikelyError(f"{self.n:,} outcomes: the test of positivity needs {2 * MIN_HALF:,}")
        i, j = torch.triu_indices(self.sites, self.sites, 1)
        of_sites = _lowest([_single(p) for p in self._halves], dual, n)
        of_pairs = _lowest([p[i, :, j].flatten(1) for p in self._halves], _products(dual), n)
        value, stderr = map(torch.cat, zip(of_sites, of_pairs, strict=True))
        sites = [*zip(range(self.sites)), *zip(i.tolist(), j.tolist(), strict=True)]
        z = value / stderr
        worst = int(z.argmin())
        p_value = min(1.0, len(z) * float(ndtr(z[worst].item())))
        figure = Figure(value[worst].item(), stderr[worst].item())
        return Positivity(figure, sites[worst], p_value, len(z))

    def _dual(self) -> Complex128[Tensor, "k 2 2"]:
        if not self.povm.complete:
            raise LikelyError(f"the effects of {self.povm.name} do not determine density matrices")
        return self.povm.dual


def fidelity(rho: Tensor, sigma: Tensor) -> float:
    """F(ρ, σ) = (Tr √(√ρ σ √ρ))², the squared one, which is ⟨ψ|σ|ψ⟩ where ρ = |ψ⟩⟨ψ|.

    Parameters
    ----------
    rho : Tensor, shape (d, d)
        A density matrix.
    sigma : Tensor, shape (d, d)
        Hermitian with trace 1, eigenvalues of any sign. Where ρ is mixed, the nearest density matrix takes
        its place. Where ρ is pure, ⟨ψ|σ|ψ⟩ is linear in σ, so that no error of σ biases it, but beyond 1 if
        σ is not positive.
    """
    values, vectors = torch.linalg.eigh(rho)
    kept = values > 1e-10
    half = vectors[:, kept] * values[kept].sqrt()  # √ρ, on its support
    if half.shape[1] == 1:
        return (half.mH @ sigma @ half).real.item()
    inner = torch.linalg.eigvalsh(half.mH @ _nearest_density_matrix(sigma) @ half)
    return inner.clamp_min(0).sqrt().sum().square().item()


def _nearest_density_matrix(sigma: Tensor) -> Complex128[Tensor, "d d"]:
    """The density matrix with the least Frobenius distance from a Hermitian matrix of trace 1.

    Its eigenvalues are the others less a number that makes their positive parts sum to one (Smolin,
    Gambetta & Smith 2012, arXiv:1106.5458).
    """
    values, vectors = torch.linalg.eigh(sigma)
    falling = values.flip(0)
    shift = (falling.cumsum(0) - 1) / torch.arange(1, len(values) + 1)
    return (vectors * (values - shift[falling > shift][-1]).clamp_min(0)) @ vectors.mH


def _products(frame: Tensor) -> Complex128[Tensor, "k² 4 4"]:
    """D_a ⊗ D_b of all pairs of outcomes."""
    return torch.einsum("aij,bkl->abikjl", frame, frame).reshape(len(frame) ** 2, 4, 4)


def _single(pairs: Float64[Tensor, "sites k sites k"]) -> Float64[Tensor, "sites k"]:
    """Frequencies of single outcomes, on the diagonal of those of pairs."""
    return torch.einsum("iaia->ia", pairs)


def _pair_frequencies(x: Tensor, k: int) -> Float64[Tensor, "sites k sites k"]:
    sites = x.shape[1]
    total = torch.zeros(sites * k, sites * k, dtype=torch.float64)
    for rows in x.split(ROWS):
        hot = torch.nn.functional.one_hot(rows, k).flatten(1).float()
        total += hot.T @ hot  # whole numbers below 2²⁴: exact
    return total.reshape(sites, k, sites, k) / len(x)


def _profile(frequency: Tensor, table: Tensor, n: int) -> Profile:
    """Mean of tables, shape (…, q), over n outcomes with frequencies (…, q); and its error."""
    mean = (frequency * table).sum(-1)
    square = (frequency * table.square()).sum(-1)
    variance = square - mean.square()
    variance = torch.where(variance > 1e-13 * square, variance, 0.0)  # below it is rounding
    return Profile(mean, (variance / (n - 1)).sqrt())


def _lowest(halves: list[Tensor], frame: Tensor, n: int) -> Profile:
    """⟨v|ρ|v⟩ by the second frequencies, v the lowest eigenvector by the first; shapes (m, q)."""
    first, second = halves
    rho = torch.einsum("mq,qij->mij", first.to(frame.dtype), frame)
    v = torch.linalg.eigh(rho).eigenvectors[:, :, 0]
    table = torch.einsum("mi,qij,mj->mq", v.conj(), frame, v).real
    found = _profile(second, table, n)
    # What has happened in none of n outcomes may have a probability of 1/n.
    floor = (table.amax(1) - table.amin(1)) / n
    return Profile(found.value, found.stderr.clamp_min(floor))
