"""Causal attention with rotary positions, and a cache of keys and values for sampling.

Vaswani et al. 2017, arXiv:1706.03762; Su et al., RoFormer (2021), arXiv:2104.09864; the arrangement
of a block is that of Radford et al., GPT-2 (2019).
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from likely.nets.fast import Dropout, Heads, fused_attention

States = Float[Tensor, "n t width"]


class Rotation(nn.Module):
    """Rotary positions: pairs of coordinates at position t are turned by the angles t θ_j.

        θ_j = 10000^(−2 j/width), so that a product of two of them depends on the distance alone.

    Coordinate j is paired with coordinate j + width/2.
    """

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        theta = 10_000.0 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
        angle = torch.arange(length, dtype=torch.float64)[:, None] * theta
        self.cos = nn.Buffer(angle.cos().float().repeat(1, 2), persistent=False)
        self.sin = nn.Buffer(torch.cat([-angle.sin(), angle.sin()], 1).float(), persistent=False)

    def forward(self, x: Heads, start: int = 0) -> Heads:
        """Turn queries or keys whose first position is `start`."""
        at = slice(start, start + x.shape[-2])
        swapped = x.roll(x.shape[-1] // 2, -1)
        return x * self.cos[at].to(x) + swapped * self.sin[at].to(x)


class Cache:
    """Keys and values of the positions so far, in one block of a self-attention."""

    def __init__(self, n: int, heads: int, length: int, width: int, like: Tensor) -> None:
        self.store = like.new_empty(2, n, heads, length, width)
        self.length = 0

    def extend(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Append one position, shape (n, heads, 1, width) each; all keys and values so far."""
        self.store[:, :, :, self.length] = torch.stack([k[:, :, 0], v[:, :, 0]])
        self.length += 1
        keys, values = self.store[:, :, :, : self.length]
        return keys, values

    def select(self, rows: Int[Tensor, " m"]) -> None:
        """Go on with these rows, which may repeat."""
        self.store = self.store[:, rows]


def attention(q: Heads, k: Heads, v: Heads, causal: bool) -> Heads:
    """softmax(q kᵀ/√width) v; if `causal`, position t sees the positions s ≤ t."""
    score = q @ k.mT / math.sqrt(q.shape[-1])
    if causal:
        later = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool, device=q.device).triu(1)
        score = score.masked_fill(later, -math.inf)
    return score.softmax(-1) @ v


class Block(nn.Module):
    """h ← h + A(norm h), h ← h + M(norm h): causal self-attention, then a perceptron.

    Parameters
    ----------
    width : int
        Of h; `heads` divides it.
    heads : int
    dropout : float
        Of what is added to h, in training.
    rotation : Rotation or None
        Of queries and keys.
    """

    def __init__(self, width: int, heads: int, dropout: float, rotation: Rotation | None) -> None:
        super().__init__()
        self.heads, self.rotation = heads, rotation
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.merge = nn.Linear(width, width, bias=False)
        self.widen = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)
        self.dropout = Dropout(dropout)

    def cache(self, n: int, length: int) -> Cache:
        """Room for n rows of `length` positions."""
        weight = self.merge.weight
        return Cache(n, self.heads, length, len(weight) // self.heads, weight)

    def forward(self, h: States, cache: Cache | None = None) -> States:
        """All positions at once; or, with a cache, the next one."""
        q, k, v = self.qkv(self.norm1(h)).unflatten(-1, (3, self.heads, -1)).unbind(2)
        q, k, v = (part.transpose(1, 2) for part in (q, k, v))
        if self.rotation is not None:
            start = 0 if cache is None else cache.length
            q, k = self.rotation(q, start), self.rotation(k, start)
        if cache is not None:
            k, v = cache.extend(k, v)
        attended = fused_attention(q, k, v, causal=cache is None).transpose(1, 2).flatten(2)
        h = h + self.dropout(self.merge(attended))
        return h + self.dropout(self.narrow(F.gelu(self.widen(self.norm2(h)))))
