"""Discrete targets: a Markov chain over symbols, and a small Ising model by enumeration."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float64, Int64
from numpy.typing import ArrayLike
from torch import Tensor

from likely.core.domain import categories, spins
from likely.core.errors import LikelyError
from likely.core.target import Target
from likely.truth.exact import exact_target

_CYCLE = tuple(tuple(0.7 if j == (i + 1) % 4 else 0.1 for j in range(4)) for i in range(4))


def markov_chain(transition: ArrayLike = _CYCLE, length: int = 8) -> Target:
    """A stationary Markov chain of symbols: p(x) = π(x₁) Π T(x_t, x_{t+1}), with π T = π.

    By default four symbols, each followed by the next one with probability 0.7.

    Parameters
    ----------
    transition : array, shape (k, k)
        T(i, j), the probability that j follows i.
    length : int
        Of a sequence.

    Raises
    ------
    LikelyError
        If a row of the matrix is no distribution.
    """
    T = torch.as_tensor(transition, dtype=torch.float64)
    k = len(T)
    if T.shape != (k, k) or (T < 0).any() or not torch.allclose(T.sum(1), T.new_ones(k)):
        raise LikelyError(
            "markov_chain: the transition matrix must be square, with rows of non-negative numbers "
            "that sum to 1"
        )
    T = T / T.sum(1, keepdim=True)
    stationary = torch.cat([T.T - torch.eye(k, dtype=T.dtype), T.new_ones(1, k)])
    ones = torch.cat([T.new_zeros(k), T.new_ones(1)])
    pi = torch.linalg.lstsq(stationary, ones, driver="gelsd").solution.clamp_min(0)

    def draw(n: int) -> Int64[Tensor, "n length"]:
        x = torch.empty(n, length, dtype=torch.int64)
        for t in range(length):
            probability = pi.expand(n, k) if t == 0 else T[x[:, t - 1]]
            x[:, t] = torch.multinomial(probability, 1).squeeze(1)
        return x

    def log_density(x: Int64[Tensor, "n length"]) -> Float64[Tensor, " n"]:
        return pi.log()[x[:, 0]] + T.log()[x[:, :-1], x[:, 1:]].sum(1)

    entropy = torch.special.entr(pi).sum() + (length - 1) * pi @ torch.special.entr(T).sum(1)
    return replace(
        exact_target("markov-chain", categories(k, length), draw, log_density),
        entropy=entropy.item(),
    )


def ising(rows: int = 4, columns: int = 4, temperature: float = 2.5, field: float = 0.0) -> Target:
    """The Ising model on a periodic lattice, p(s) = exp(−E(s)/temperature) / Z, by enumeration.

    E(s) = −Σ_⟨ij⟩ s_i s_j − field Σ_i s_i; each site is bound to its right and its lower neighbour,
    so that on a lattice of length 2 both bonds of a pair count. `energy` is E/temperature and
    `log_z` belongs to it; `modes` are the most probable states.

    Parameters
    ----------
    rows, columns : int
        At most 18 sites.
    temperature : float
        In units of the coupling; the infinite lattice orders below 2.269.
    field : float
        In the same units.

    Raises
    ------
    LikelyError
        If there are more than 18 sites, or the temperature is not positive.
    """
    sites = rows * columns
    if sites > 18 or temperature <= 0:
        raise LikelyError(
            f"ising: {rows} × {columns} at temperature {temperature}; enumeration takes at most "
            "18 sites, and the temperature must be positive"
        )

    def energy(s: Tensor) -> Tensor:
        s = s if s.is_floating_point() else s.double()
        bonds = s * (s.roll(-1, 1) + s.roll(-1, 2)) + field * s
        return -bonds.sum((1, 2)) / temperature

    codes = torch.arange(2**sites)[:, None] >> torch.arange(sites)
    states = (2 * (codes & 1) - 1).reshape(-1, rows, columns)
    log_weight = -energy(states)
    log_z = log_weight.logsumexp(0)
    probability = (log_weight - log_z).exp()
    flat = states.flatten(1).double()
    mean = probability @ flat
    return replace(
        exact_target(
            "ising",
            spins(rows, columns),
            lambda n: states[torch.multinomial(probability, n, replacement=True)],
            lambda s: -energy(s) - log_z,
        ),
        energy=energy,
        log_z=log_z.item(),
        entropy=(log_z - probability @ log_weight).item(),
        mean=mean,
        covariance=(flat * probability[:, None]).T @ flat - torch.outer(mean, mean),
        modes=states[log_weight > log_weight.max() - 1e-9],
    )
