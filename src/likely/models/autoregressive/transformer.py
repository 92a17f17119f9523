"""Transformer decoder: causal self-attention over the symbols of a sequence.

    h⁰_t = E x_{t−1} [+ P_t],   h^l = block_l(h^{l−1}),
    p(x_t | x_1 … x_{t−1}) = softmax(V h_t + m_t + b)[x_t]

Vaswani et al. 2017, arXiv:1706.03762, with the blocks of GPT-2 (Radford et al. 2019); the positions
enter by rotation of queries and keys (Su et al. 2021, arXiv:2104.09864) or as learned vectors P.
"""

import dataclasses
import math
from collections.abc import Sequence
from itertools import repeat
from typing import Annotated, Any, Literal

import torch
from jaxtyping import Int
from torch import Tensor, nn

from likely.contract import Range, Recipe, register
from likely.core.domain import Domain
from likely.core.errors import LikelyError
from likely.models.autoregressive.sequence import SequenceModel, SequenceWalk, Symbols
from likely.nets.attention import Block, Cache, Dropout, Rotation, States

BATCH_SYMBOLS = 1 << 12  # of all rows of a batch


@register(
    "transformer",
    title="transformer decoder",
    constraint="autoregressive: an ordering of the symbols, sampled one after the other",
    paper="Vaswani et al. 2017, arXiv:1706.03762",
)
class Transformer(SequenceModel):
    """Transformer decoder; sampling keeps the keys and values of the symbols so far.

    Parameters
    ----------
    domain : Domain
        Sequences of one kind of symbol with finitely many values.
    context : Domain, optional
        It is added to the embedding of every symbol.
    width : int
        Of the hidden vectors; `heads` times an even number.
    layers : int
        Number of blocks.
    heads : int
        Heads of the attention in each.
    dropout : float
        From 0 to below 1; in training mode, which a new module is in and `fit` leaves.
    positions : {"rotary", "learned"}
        How symbols know where they stand: keys and queries are turned, or a vector is added.
    order : sequence of int, optional
        The entries, counted in row-major order, in the order in which they are generated; by
        default as they stand.

    Examples
    --------
    >>> import likely as lk
    >>> data = lk.load_data("markov-chain")
    >>> model = lk.make("transformer", data.domain, width=32, layers=2, heads=4)
    >>> history = lk.fit(model, data, steps=20)
    >>> model.sample(5, seed=1).shape
    torch.Size([5, 8])
    """

    recipe = Recipe(rate=2e-3, weight_decay=0.1, clip=1.0, ema=0.995)

    def __init__(
        self,
        domain: Domain,
        *,
        width: int = 192,
        layers: int = 4,
        heads: int = 6,
        dropout: Annotated[float, Range(0, 1, open="high")] = 0.1,
        positions: Literal["rotary", "learned"] = "rotary",
        **options: Any,
    ) -> None:
        super().__init__(domain, **options)
        if width % (2 * heads):
            raise LikelyError(f"{width=}, {heads=}: give a width of the heads times an even number")
        size, given = domain.size, self.context_size
        self.recipe = dataclasses.replace(self.recipe, batch=max(16, BATCH_SYMBOLS // size))
        self.embedding = nn.Embedding(self.levels + 1, width)  # and one before the first
        self.conditioning = nn.Linear(given, width, bias=False) if given else None
        rotary = positions == "rotary"
        self.positions = None if rotary else nn.Parameter(torch.empty(size, width))
        rotation = Rotation(size, width // heads) if rotary else None
        self.dropout = Dropout(dropout)
        self.blocks: Sequence[Block] = nn.ModuleList(  # type: ignore[assignment]
            Block(width, heads, dropout, rotation) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        self._read_out(width)
        self._initialise()

    def _initialise(self) -> None:
        """As GPT-2: what is added to h starts smaller the more layers there are."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
        if self.positions is not None:
            nn.init.normal_(self.positions, std=0.02)
        for block in self.blocks:
            for last in (block.merge, block.narrow):
                nn.init.normal_(last.weight, std=0.02 / math.sqrt(2 * len(self.blocks)))

    def _hidden(
        self, inputs: Symbols, context: Tensor | None, caches: Sequence[Cache] | None = None
    ) -> States:
        h = self.embedding(inputs)
        if self.positions is not None:
            start = 0 if caches is None else caches[0].length
            h = h + self.positions[start : start + inputs.shape[1]]
        if self.conditioning is not None:
            h = h + self.conditioning(context)[:, None]
        h = self.dropout(h)
        for block, cache in zip(self.blocks, caches or repeat(None), strict=False):
            h = block(h, cache)
        return self.norm(h)

    def _walk(self, k: int, n: int, context: Tensor | None) -> SequenceWalk:
        return CachedWalk(self, n, context)


class CachedWalk(SequenceWalk):
    """Keeps the keys and values of the symbols so far."""

    model: Transformer

    def __init__(self, model: Transformer, n: int, context: Tensor | None) -> None:
        self.caches = [block.cache(n, model.domain.size) for block in model.blocks]
        super().__init__(model, n, context)

    @torch.no_grad()
    def _advance(self, codes: Int[Tensor, "n 1"]) -> None:
        self.h = self.model._hidden(codes, self.context, self.caches)[:, 0]

    def select(self, rows: Int[Tensor, " m"]) -> None:
        super().select(rows)
        for cache in self.caches:
            cache.select(rows)
