"""What a model of outcomes has to beat: Markov chains of low order, fitted by counting.

p(x) = Π_i p_i(x_i | x_{i−m}, …, x_{i−1}), with conditionals of their own at each site; order m = 0
is the product of marginals. A context seen c times borrows from the next lower order,

    p(a | s_m … s_1) = (c(s_m … s_1, a) + α p(a | s_{m−1} … s_1)) / (c(s_m … s_1) + α)

(MacKay & Peto 1995, Nat. Lang. Eng. 1, 289), down to the uniform distribution.
"""

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from likely.contract.model import GenerativeModel
from likely.contract.options import NonNegativeInt
from likely.core.columns import Categorical
from likely.core.domain import Domain

STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)  # α, among which validation chooses


class MarkovChain(GenerativeModel):
    """A Markov chain along the sites, with conditionals of their own at each site.

    It starts as the uniform distribution; `count` fits it. It is not registered.

    Parameters
    ----------
    domain : Domain
        A sequence of unordered symbols.
    order : int
        How many sites before it a site depends on.

    Raises
    ------
    LikelyError
        If the order is negative.
    """

    accepts = frozenset({Categorical})
    table: Tensor  # log p_i(a | context), shape (sites, levels^order, levels)

    def __init__(self, domain: Domain, *, order: NonNegativeInt = 0) -> None:
        super().__init__(domain)
        column = domain.column(0)
        assert isinstance(column, Categorical)
        assert column.levels is not None
        self.order, self.levels = order, column.levels
        shape = domain.size, self.levels**order, self.levels
        levels = torch.full(shape, float(self.levels), dtype=torch.float64)
        self.register_buffer("table", -levels.log())

    def count(self, train: Int64[Tensor, "n sites"], valid: Int64[Tensor, "m sites"]) -> None:
        """Fit by counting; the rows to validate choose α."""
        counts = [self._counts(train, order) for order in range(self.order + 1)]

        def score(table: Tensor) -> float:
            self.table = table
            return self.log_likelihood(valid).value.mean().item()

        self.table = max((_smoothed(counts, strength).log() for strength in STRENGTHS), key=score)
        self.prepared.fill_(True)

    def _contexts(self, x: Int64[Tensor, "n sites"], order: int) -> Int64[Tensor, "n sites"]:
        """The symbols before each site as one number, the nearest being its lowest digit."""
        code = torch.zeros_like(x)
        for back in range(1, min(order, x.shape[1] - 1) + 1):
            code[:, back:] += x[:, :-back] * self.levels ** (back - 1)
        return code

    def _counts(
        self, x: Int64[Tensor, "n sites"], order: int
    ) -> Float64[Tensor, "sites contexts levels"]:
        sites, contexts = x.shape[1], self.levels**order
        cell = (torch.arange(sites) * contexts + self._contexts(x, order)) * self.levels + x
        counts = torch.bincount(cell.flatten(), minlength=sites * contexts * self.levels)
        return counts.double().reshape(sites, contexts, self.levels)

    def _log_prob(self, x: Tensor, context: Tensor | None) -> Tensor:
        sites = torch.arange(x.shape[1], device=x.device)
        return self.table[sites, self._contexts(x, self.order), x].sum(1)

    def _sample(self, n: int, context: Tensor | None) -> Tensor:
        x = torch.zeros(n, self.domain.size, dtype=torch.int64)
        for site, table in enumerate(self.table.exp()):
            code = self._contexts(x[:, max(0, site - self.order) : site + 1], self.order)[:, -1]
            x[:, site] = torch.multinomial(table[code], 1).squeeze(1)
        return x


def _smoothed(
    counts: list[Float64[Tensor, "sites _ levels"]], strength: float
) -> Float64[Tensor, "sites contexts levels"]:
    """Conditionals of the highest order; contexts that agree in the nearest symbols share a prior."""
    table = torch.full_like(counts[0], 1 / counts[0].shape[2])
    for order, count in enumerate(counts):
        prior = table.repeat(1, count.shape[1] // table.shape[1], 1)
        table = (count + strength * prior) / (count.sum(2, keepdim=True) + strength)
        table[:order] = prior[:order]  # these have fewer sites before them
    return table
