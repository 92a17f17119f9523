"""Measuring a matrix-product state: exact, independent outcomes and their exact probabilities.

With right-canonical tensors, the part of |ψ⟩ that agrees with the outcomes a₁ … a_i is a vector v_i on
the bond to the right of site i, v_i = Σ_s φ*(s) v_{i−1} A[s] for an effect |φ⟩⟨φ|, and P(a₁ … a_i) = |v_i|²
(Ferris & Vidal 2012, arXiv:1201.3974). Effects of rank two are sums of two of rank one: for sampling
it is enough to draw one of the two and forget which; a probability sums over both, so that a density
matrix on the bond takes the place of the vector. Noise only changes the effects that the pure state sees.

An impossible outcome has a probability of zero up to rounding: of the largest that its effect can have,
(1000 ε)² where amplitudes cancel, those of rank-one effects, and 64 ε otherwise. Below that its logarithm
is −inf.
"""

import contextlib
from collections.abc import Iterator

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from likely.core.random import seeded
from likely.core.target import Target
from likely.quantum import dense
from likely.quantum.mps import MPS
from likely.quantum.povm import POVM, depolarised
from likely.targets.exact import exact_target

CHUNK = 1 << 16  # entries of the environments that are carried along at a time
# In units of ε, relative: what is below is zero. Amplitudes hold the rounding of the state, too.
AMPLITUDE, PROBABILITY = 1000, 64


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Vectors on the bond make operations too small to be shared: threads would wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class Measurement:
    """A POVM on every site of a state, of which each was depolarised with some probability before.

    Parameters
    ----------
    state : MPS
    povm : POVM
    noise : float
        Probability p of ρ → 1/2 on each site.

    Raises
    ------
    LikelyError
        If `noise` is not a probability.
    """

    def __init__(self, state: MPS, povm: POVM, noise: float = 0.0) -> None:
        self.state = state
        self.povm = povm
        self.noise = noise
        self.seen = depolarised(povm, noise)

    def sample(
        self, n: int, seed: int, dtype: torch.dtype = torch.float64
    ) -> Int64[Tensor, "n sites"]:
        """Exact, independent outcomes.

        Parameters
        ----------
        n : int
        seed : int
        dtype : torch.dtype
            Of the computation: float64 or float32.
        """
        with seeded(seed):
            return self._draw(n, dtype)

    def log_prob(
        self, x: Int64[Tensor, "n sites"], dtype: torch.dtype = torch.float64
    ) -> Float[Tensor, " n"]:
        """Log-probability of rows of outcomes in nats; −inf for those that never occur.

        Parameters
        ----------
        x : Tensor, shape (n, sites)
        dtype : torch.dtype
            Of the computation and the result: float64 or float32.

        Raises
        ------
        DataError
            If an outcome is not one of the POVM's.
        """
        self.povm.domain(self.state.sites).check(x, "the outcomes")
        x = x.to("cpu", torch.int64)
        score = self._log_prob_pure if self.seen.rank_one else self._log_prob_mixed
        bond = self.state.bond if self.seen.rank_one else self.state.bond**2
        blocks = x.split(max(1, CHUNK // bond))
        return torch.cat([score(block, dtype) for block in blocks])

    def probabilities(self) -> Float64[Tensor, " outcomes"]:
        """Of all k^N outcomes, the first site varying slowest, by Born's rule on the dense state.

        Raises
        ------
        LikelyError
            If there are more than 2^24 outcomes.
        """
        return dense.probabilities(dense.density_matrix(self.state.dense(), self.noise), self.povm)

    def target(self, name: str) -> Target:
        """The distribution of the outcomes, for everything that takes a target."""
        domain = self.povm.domain(self.state.sites)
        return exact_target(name, domain, lambda n: self._draw(n, torch.float64), self.log_prob)

    @_one_thread()
    def _draw(self, n: int, dtype: torch.dtype) -> Int64[Tensor, "n sites"]:
        outcome, phi = self.seen.pieces
        # p = φ† ρ φ, as real numbers: |φ₀|² ρ₀₀ + |φ₁|² ρ₁₁ + 2 Re(φ₀* φ₁ ρ₀₁)
        cross = 2 * phi[:, 0].conj() * phi[:, 1]
        weights = torch.stack(
            [phi[:, 0].abs().square(), phi[:, 1].abs().square(), cross.real, -cross.imag]
        ).to(dtype)
        tensors, bras = self._in(dtype), phi.conj().to(dtype.to_complex())
        x = torch.empty(n, self.state.sites, dtype=torch.int64)
        for rows in x.split(max(1, CHUNK // self.state.bond)):
            v = torch.ones(len(rows), 1, dtype=bras.dtype)
            for site, tensor in enumerate(tensors):
                up, down = _extended(v, tensor)
                rho01 = torch.linalg.vecdot(down, up)
                rho = [_norm2(up), _norm2(down), rho01.real, rho01.imag]
                cumulative = (torch.stack(rho, 1) @ weights).clamp_min(0).cumsum(1)
                u = torch.rand(len(rows), 1, dtype=dtype) * cumulative[:, -1:]
                piece = (u >= cumulative[:, :-1]).sum(1)
                rows[:, site] = outcome[piece]
                v = _projected(up, down, bras[piece])
                v /= _norm2(v).sqrt()[:, None]
        return x

    @_one_thread()
    def _log_prob_pure(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        bras = self.seen.pieces[1].conj().to(dtype.to_complex())
        v = torch.ones(len(x), 1, dtype=bras.dtype)
        result = torch.zeros(len(x), dtype=dtype)
        cut = self._largest(dtype) * (AMPLITUDE * torch.finfo(dtype).eps) ** 2
        for site, tensor in enumerate(self._in(dtype)):
            v = _projected(*_extended(v, tensor), bras[x[:, site]])
            conditional = _norm2(v)
            result += _log(conditional, cut[x[:, site]])
            v /= conditional.sqrt().clamp_min(torch.finfo(dtype).tiny)[:, None]
        return result

    def _log_prob_mixed(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """With E[a, c] = Σ v[a] v*[c] in place of v: E'[b, d] = Σ A[a, s, b] A*[c, t, d] M[t, s] E[a, c]."""
        effects = self.seen.effects.to(dtype.to_complex())
        E = torch.ones(len(x), 1, 1, dtype=effects.dtype)
        result = torch.zeros(len(x), dtype=dtype)
        # Nothing is impossible with an effect of full rank.
        singular = self.seen.pieces[0].bincount(minlength=self.povm.outcomes) < 2
        cut = self._largest(dtype) * singular * PROBABILITY * torch.finfo(dtype).eps
        for site, tensor in enumerate(self._in(dtype)):
            left, _, right = tensor.shape
            ket = _left_times(tensor.reshape(left, -1).T, E).reshape(len(x), 2, right, left)
            ket = torch.einsum("nts,nsbc->ntcb", effects[x[:, site]], ket)
            bra = tensor.conj().permute(2, 1, 0).reshape(right, -1)
            E = _left_times(bra, ket.reshape(len(x), 2 * left, right)).mT
            conditional = E.diagonal(dim1=1, dim2=2).real.sum(1).clamp_min(0)
            result += _log(conditional, cut[x[:, site]])
            E = E / conditional.clamp_min(torch.finfo(dtype).tiny)[:, None, None]
        return result

    def _largest(self, dtype: torch.dtype) -> Float[Tensor, " k"]:
        """The largest probability that each outcome can have."""
        return torch.linalg.eigvalsh(self.seen.effects)[:, -1].to(dtype)

    def _in(self, dtype: torch.dtype) -> list[Tensor]:
        return [t.to(dtype.to_complex() if t.is_complex() else dtype) for t in self.state.tensors]


def _log(conditional: Tensor, cut: Tensor) -> Tensor:
    """Logarithms of conditional probabilities; of what is not above the cut −inf."""
    return conditional.where(conditional > cut, 0.0).log()


def _norm2(v: Tensor) -> Tensor:
    return torch.view_as_real(v).square().sum((-2, -1))


def _extended(v: Tensor, tensor: Tensor) -> tuple[Tensor, Tensor]:
    """v A[0] and v A[1]; a real matrix times a complex one costs half of two complex ones."""
    matrix = tensor.flatten(1)
    both = v @ matrix if tensor.is_complex() else torch.complex(v.real @ matrix, v.imag @ matrix)
    return both.unflatten(1, (2, -1)).unbind(1)


def _projected(up: Tensor, down: Tensor, bra: Tensor) -> Tensor:
    return bra[:, :1] * up + bra[:, 1:] * down


def _left_times(matrix: Tensor, batch: Tensor) -> Tensor:
    """A matrix times each complex one of a batch."""
    if matrix.is_complex():
        return matrix @ batch
    product = matrix @ torch.view_as_real(batch).flatten(2)
    return torch.view_as_complex(product.unflatten(2, (-1, 2)))
