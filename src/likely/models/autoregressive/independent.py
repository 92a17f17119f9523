"""The product of independent marginals: p(x) = Π_i p(x_i), or Π_i p(x_i | context).

The baseline that says how much of a likelihood is owed to dependence.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from likely.contract import Batch, GenerativeModel, Rows, register
from likely.contract.inputs import accept_partly_known
from likely.core.columns import Maybe
from likely.core.domain import Domain
from likely.core.random import seeded
from likely.nets.heads import ColumnHeads
from likely.nets.mlp import MLP


@register(
    "independent", title="product of independent marginals", constraint="entries are independent"
)
class Independent(GenerativeModel):
    """Product of independent marginals.

    Frequencies on categorical columns, mixtures on the others (see `likely.nets.heads`); with a
    context their parameters come from a network. Training starts at the frequencies and quantiles
    of the data, which is nearly where it ends.

    Parameters
    ----------
    domain : Domain
        Any domain.
    context : Domain, optional
    components : int
        Components of a mixture.
    hidden : sequence of int
        Widths of the hidden layers of the context's network.

    Examples
    --------
    >>> import likely as lk
    >>> data = lk.load_data("digits")
    >>> model = lk.make("independent", data.domain)
    >>> history = lk.fit(model, data, steps=100)
    >>> model.sample(5, seed=1).shape
    torch.Size([5, 8, 8])
    """

    accepts = GenerativeModel.accepts | {Maybe}
    energy_gradients = ("reinforce",)

    def __init__(
        self,
        domain: Domain,
        *,
        components: int = 10,
        hidden: Sequence[int] = (64, 64),
        **options: Any,
    ) -> None:
        super().__init__(domain, **options)
        self.heads = ColumnHeads(domain, components)
        self.net = MLP(self.context_size, sum(self.heads.sizes), hidden if self.context else ())

    def prepare(self, batch: Batch) -> None:
        """Start at the marginals of the training split."""
        super().prepare(batch)
        self.heads.start(self.net.layers[-1], batch.x, batch.weight)

    def _outputs(self, n: int, context: Tensor | None) -> Tensor:
        nothing = self.net.layers[0].weight.new_empty(n, 0)
        return self.net(nothing if context is None else context)

    def _log_prob(self, x: Tensor, context: Tensor | None) -> Tensor:
        return self.heads.log_prob(self._outputs(len(x), context), x).sum(1)

    def _sample(self, n: int, context: Tensor | None) -> Tensor:
        return self.heads.sample(self._outputs(n, context))

    def complete(
        self, x: Rows, known: Tensor, *, context: Tensor | None = None, seed: int | None = None
    ) -> Rows:
        """Fill what the mask `known` leaves open by draws; exact, as entries are independent.

        Parameters and errors are those of `Completes.complete`.
        """
        dtype = self.heads.type_of_draws(self.dtype)
        x, known, features = accept_partly_known(self, x, known, context, dtype)
        with torch.no_grad(), seeded(seed, self.device):
            outputs = self.heads.as_present(self._outputs(len(x), features))
            draws = self.heads.sample(outputs)
        return torch.where(known, x, draws.to(x.dtype))
