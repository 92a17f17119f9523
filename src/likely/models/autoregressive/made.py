"""MADE: a masked autoencoder for distribution estimation.

Germain, Gregor, Murray & Larochelle (2015), arXiv:1502.03509: one network gives every conditional
of

    p(x) = Π_i p(x_{o(i)} | x_{o(1)}, …, x_{o(i−1)}),

its connections masked so that the outputs of an entry see only the entries before it in the
ordering o. Here with distributions for all kinds of columns (`likely.nets.heads`).
"""

from typing import Any

from jaxtyping import Float
from torch import Tensor

from likely.contract import Batch, Features, Recipe, Widths, register
from likely.core.domain import Domain
from likely.models.autoregressive.base import Autoregressive, Walk
from likely.nets.heads import ColumnHeads
from likely.nets.masked import MaskedMLP


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
    order, orders
        As in `Autoregressive`; a score takes `orders` passes.

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

    recipe = Recipe(batch=128, rate=2e-3, weight_decay=0.2, ema=0.995)

    def __init__(
        self, domain: Domain, *, hidden: Widths = (256, 256), components: int = 10, **options: Any
    ) -> None:
        super().__init__(domain, **options)
        self.features = Features(domain)
        self.heads = ColumnHeads(domain, components)
        sizes, order = (self.features.sizes, self.heads.sizes), self.orderings[0].tolist()
        self.net = MaskedMLP(*sizes, order=order, hidden=hidden, context=self.context_size)

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
