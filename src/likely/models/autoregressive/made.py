"""MADE: a masked autoencoder for distribution estimation.

Germain, Gregor, Murray & Larochelle (2015), arXiv:1502.03509: one network gives every conditional
of

    p(x) = Π_i p(x_{o(i)} | x_{o(1)}, …, x_{o(i−1)}),

its connections masked so that the outputs of an entry see only the entries before it in the
ordering o. Here with distributions for all kinds of columns (`likely.nets.heads`). On a lattice the
ordering goes from coarse to fine: few entries then depend on distant ones, and for the last half of
them all neighbours are known.
"""

import itertools
import math
from collections.abc import Sequence
from functools import reduce
from operator import or_
from typing import Annotated, Any

from jaxtyping import Float
from torch import Tensor

from likely.contract import Batch, Features, Range, Recipe, Widths, register
from likely.core.columns import Maybe, Spin
from likely.core.domain import Domain
from likely.models.autoregressive.base import Autoregressive, Walk
from likely.nets.heads import ColumnHeads
from likely.nets.masked import MaskedMLP

EARLY = 3.0  # half of the units of a lattice's network belong to an eighth of the entries


@register(
    "made",
    title="masked autoencoder (MADE)",
    constraint="autoregressive: an ordering of the entries, sampled one after the other",
    paper="Germain et al. 2015, arXiv:1502.03509",
)
class MADE(Autoregressive):
    """Masked autoencoder: exact conditionals of every entry given those before it.

    Parameters
    ----------
    domain : Domain
        Any domain.
    context : Domain, optional
    hidden : sequence of int
        Widths of the hidden layers.
    components : int
        Components of the mixtures that describe continuous columns, counts and wide integers.
    direct : bool, optional
        Whether entries also act on the outputs directly, as local fields; by default spins do.
    order : sequence of int, optional
        As in `Autoregressive`; by default `coarse_to_fine` on a lattice, and otherwise as they stand.
    orders, symmetric
        As in `Autoregressive`; a score takes `orders` passes, and twice as many if symmetric.

    Examples
    --------
    >>> import torch
    >>> import likely as lk
    >>> data = lk.load_data("digits")
    >>> model = lk.autoregressive.MADE(data.domain, hidden=(64,))
    >>> history = lk.fit(model, data, steps=100)
    >>> known = torch.zeros(8, 8, dtype=torch.bool)
    >>> known[:4] = True
    >>> model.complete(data.test.x[:5], known, seed=1).shape
    torch.Size([5, 8, 8])
    """

    accepts = Autoregressive.accepts | {Maybe}
    recipe = Recipe(batch=128, rate=2e-3, weight_decay=0.2, ema=0.995)

    def __init__(
        self,
        domain: Domain,
        *,
        hidden: Widths = (256, 256),
        components: int = 10,
        direct: bool | None = None,
        order: Annotated[Sequence[int], Range(0)] | None = None,
        **options: Any,
    ) -> None:
        coarse = order is None and domain.layout == "lattice"
        if coarse:
            order = coarse_to_fine(domain.shape)
        super().__init__(domain, order=order, **options)
        if direct is None:
            direct = all(isinstance(column, Spin) for column in domain.columns)
        self.features = Features(domain)
        self.heads = ColumnHeads(domain, components)
        self.net = MaskedMLP(
            self.features.sizes,
            self.heads.sizes,
            order=self.orderings[0].tolist(),
            hidden=hidden,
            context=self.context_size,
            direct=direct,
            early=EARLY if coarse else 1.0,
        )

    def prepare(self, batch: Batch) -> None:
        """Take scales from the training split, and start at its independent marginals."""
        super().prepare(batch)
        self.features.prepare(batch.x, batch.weight)
        self.heads.start(self.net.layers[-1], batch.x, batch.weight)

    def _terms(self, k: int, x: Tensor, context: Tensor | None) -> Float[Tensor, "n entries"]:
        masks = self.net.masks(self.orderings[k].tolist()) if k else None  # its own are the first
        return self.heads.log_prob(self.net(self.features(x), context, masks), x)

    def _walk(self, k: int, n: int, context: Tensor | None) -> Walk:
        return self.net.incremental(n, context, self.orderings[k].tolist())

    def _input(self, i: int, x: Tensor) -> Tensor:
        return self.features.entry(i, x)


def coarse_to_fine(shape: Sequence[int]) -> list[int]:
    """Entries of a lattice: those of a coarse one first, then those between them, and so on.

    A lattice with twice the step has 1/2^d of the entries; of the others those come first whose
    coordinates, in units of the step, have an even sum: all neighbours of the rest are then known.
    """

    def level(entry: tuple[int, ...]) -> tuple[float, int]:
        bits = reduce(or_, entry)
        step = bits & -bits  # the largest power of two that divides all coordinates, 0 for all
        return -(step or math.inf), sum(entry) // (step or 1) % 2

    entries = [*itertools.product(*map(range, shape))]
    return sorted(range(len(entries)), key=lambda i: level(entries[i]))
