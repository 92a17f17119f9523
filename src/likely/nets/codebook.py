"""A codebook: vectors that stand for all those near them, moved by the averages of these."""

from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

Vectors = Float[Tensor, "n dim"]
Indices = Int[Tensor, " n"]


class Codebook(nn.Module):
    """K vectors e_k; those nearest to e_k, z₁ … z_c in a batch, move it.

        n_k ← γ n_k + (1 − γ) c,    e_k ← e_k + (1 − γ)/n_k Σ_i (z_i − e_k)

    which is e = m/n with m ← γ m + (1 − γ) Σ_i z_i, k-means of a moving average (van den Oord, Vinyals &
    Kavukcuoglu 2017, arXiv:1711.00937, eqs 6–8), and leaves a vector that nothing is near where it is.

    Parameters
    ----------
    codes, dim : int
        K, and the length of each.
    decay : float
        γ.
    restart : float
        Below which part of the mean n_k a vector is dead: it then takes the place of a z of the batch,
        and that mean.
    """

    def __init__(self, codes: int, dim: int, decay: float = 0.99, restart: float = 0.1) -> None:
        super().__init__()
        self.decay, self.restart = decay, restart
        self.vectors = nn.Buffer(torch.randn(codes, dim))
        self.counts = nn.Buffer(torch.ones(codes))

    def nearest(self, z: Vectors) -> Indices:
        """The k whose e_k is nearest to each vector."""
        z = z.to(self.vectors)
        return (self.vectors.square().sum(1) - 2 * z @ self.vectors.T).argmin(1)

    @torch.no_grad()
    def start(self, z: Vectors) -> None:
        """Begin at some of these vectors."""
        self.vectors.copy_(z[torch.randint(len(z), (len(self.vectors),), device=z.device)])
        self.counts.fill_(1.0)

    @torch.no_grad()
    def update(self, z: Vectors, k: Indices, weight: Float[Tensor, " n"] | None = None) -> None:
        """Move towards the vectors of a batch, whose nearest are k, and restart what is dead."""
        z = z.to(self.vectors)
        members = F.one_hot(k, len(self.vectors)).to(z)
        if weight is not None:
            members = members * weight.to(z).clamp_min(0)[:, None]
        count, total = members.sum(0), members.T @ z
        together(dist.all_reduce, count, total)
        self.counts.mul_(self.decay).add_(count, alpha=1 - self.decay)
        step = (1 - self.decay) / self.counts.clamp_min(torch.finfo(z.dtype).tiny)
        self.vectors.add_(step[:, None] * (total - count[:, None] * self.vectors))
        mean = self.counts.mean()
        dead = self.counts < self.restart * mean
        elsewhere = z[torch.randint(len(z), (len(dead),), device=z.device)]
        together(dist.broadcast, elsewhere, src=0)
        self.vectors.copy_(torch.where(dead[:, None], elsewhere, self.vectors))
        self.counts.copy_(torch.where(dead, mean, self.counts))


def together(operation: Any, *tensors: Tensor, **options: Any) -> None:
    """A collective operation on each tensor, where several processes train together."""
    if dist.is_available() and dist.is_initialized():
        for tensor in tensors:
            operation(tensor, **options)
