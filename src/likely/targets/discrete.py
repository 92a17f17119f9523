"""Discrete targets: a Markov chain over symbols."""

from dataclasses import replace

import torch
from jaxtyping import Float64, Int64
from numpy.typing import ArrayLike
from torch import Tensor

from likely.core.domain import categories
from likely.core.errors import LikelyError
from likely.core.target import Target
from likely.targets.exact import exact_target

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
        raise LikelyError("markov_chain: T must be square, with rows that are ≥ 0 and sum to 1")
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
