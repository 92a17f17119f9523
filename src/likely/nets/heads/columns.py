"""A head for each column of a domain."""

import math
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, Literal

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from likely.contract.views import Rows, check_variable
from likely.core.columns import (
    Binary,
    Column,
    Constant,
    Count,
    Discrete,
    Integer,
    Maybe,
    Periodic,
)
from likely.core.domain import Domain
from likely.nets.heads.base import Head
from likely.nets.heads.circle import VonMises
from likely.nets.heads.discrete import Bernoulli, Known, OrderedSoftmax, Softmax
from likely.nets.heads.line import DiscretisedLogistics, Gaussian, Logistics
from likely.nets.heads.missing import Missing

Integers = Literal["auto", "categorical", "discretised-logistic"]
Choice = Callable[[Column], type[Head] | None]


def mixture_head(column: Column) -> type[Head] | None:
    """The head of a column in the table of `likely.nets.heads`."""
    match column:
        case Constant() | Discrete(levels=1):
            return None
        case Binary():
            return Bernoulli
        case Integer():
            return OrderedSoftmax if column.few else DiscretisedLogistics
        case Count():
            return DiscretisedLogistics
        case Discrete():
            return Softmax
        case Periodic():
            return VonMises
    return Logistics


def simple_head(column: Column, integers: Integers = "auto") -> type[Head] | None:
    """The same with a Gaussian on the line instead of a mixture of logistics.

    Integers of more than two levels may get one distribution whatever their number.
    """
    if isinstance(column, Integer) and (column.levels or 0) > 2 and integers != "auto":
        return OrderedSoftmax if integers == "categorical" else DiscretisedLogistics
    head = mixture_head(column)
    return Gaussian if head is Logistics else head


class ColumnHeads(nn.Module):
    """A distribution for each entry of a domain, from the outputs of any network.

    Entries of one kind are treated together, without a loop over columns.

    Parameters
    ----------
    domain : Domain
        Any domain.
    components : int
        Components of a mixture.
    head_of : callable
        The kind of head that a column gets; None where there is nothing to learn.

    Attributes
    ----------
    sizes : list of int
        Number of outputs of each entry.
    """

    def __init__(
        self, domain: Domain, components: int = 10, head_of: Choice = mixture_head
    ) -> None:
        super().__init__()
        self.domain = domain
        self._anchor: list[float] = domain.anchor.flatten().tolist()  # holds the constants
        members: dict[tuple[type[Head], Any, bool], list[int]] = {}
        for column, index in domain.groups:
            kind, missing = head_of(column.present), isinstance(column, Maybe)
            if kind is None and missing:
                kind = Known
            if kind is not None:
                members.setdefault((kind, kind.shared(column.present), missing), []).extend(index)
        check_variable(members)
        self.heads: Sequence[Head] = nn.ModuleList()  # type: ignore[assignment]
        for (kind, _, missing), entries in members.items():
            columns = [domain.column(i).present for i in entries]
            head = kind(columns, components)
            if missing:
                head = Missing(head, [column.anchor for column in columns])
            self.heads.append(head)  # type: ignore[attr-defined]
        self.sizes = [0] * domain.size
        self._place: dict[int, tuple[int, slice]] = {}  # head and column of an entry
        for h, (head, entries) in enumerate(zip(self.heads, members.values(), strict=True)):
            for j, i in enumerate(entries):
                self.sizes[i] = head.size
                self._place[i] = h, slice(j, j + 1)
            head.entries = nn.Buffer(torch.tensor(entries), persistent=False)
        starts = torch.tensor([0, *accumulate(self.sizes)])
        for head in self.heads:
            slots = starts[head.entries][:, None] + torch.arange(head.size)
            head.slots = nn.Buffer(slots, persistent=False)
        self.uniform = len(members) == 1 and 0 not in self.sizes  # one head for all entries

    def prepare(self, x: Rows, weight: Tensor | None = None) -> None:
        """Take scales from rows of the training split."""
        flat, weight = x.flatten(1), _weights(x, weight)
        for head in self.heads:
            head.prepare(flat[:, head.entries], weight)

    def initial(self, x: Rows, weight: Tensor | None = None) -> Float[Tensor, " outputs"]:
        """Outputs that give about the marginals of these rows, for biases to start at, in float64.

        Call it after `prepare`.
        """
        flat, weight = x.flatten(1), _weights(x, weight)
        outputs = weight.new_zeros(sum(self.sizes))
        for head in self.heads:
            outputs[head.slots] = head.initial(flat[:, head.entries], weight).to(outputs)
        return outputs

    @torch.no_grad()
    def start(self, last: nn.Linear, x: Rows, weight: Tensor | None = None) -> None:
        """Take scales from rows of the training split, and let a network begin at their marginals.

        `last` is the network's last layer.
        """
        self.prepare(x, weight)
        last.weight.zero_()
        last.bias.copy_(self.initial(x, weight))

    def log_prob(self, outputs: Float[Tensor, "n outputs"], x: Rows) -> Float[Tensor, "n entries"]:
        """Log-probability or log-density (nats) of each entry."""
        flat = x.flatten(1)
        outputs = outputs.to(torch.promote_types(outputs.dtype, torch.float32))  # after autocast
        if self.uniform:  # the same without copies
            return self.heads[0].log_prob(outputs.unflatten(1, (len(self.sizes), -1)), flat)
        result = outputs.new_zeros(flat.shape)
        for head in self.heads:
            part = head.log_prob(outputs[:, head.slots], flat[:, head.entries])
            result[:, head.entries] = part
        return result

    def sample(self, outputs: Float[Tensor, "n outputs"]) -> Rows:
        """A draw of all entries, independent given the outputs, in the type `type_of_draws`."""
        parts = [head.sample(outputs[:, head.slots]) for head in self.heads]
        return self._rows(parts, self.type_of_draws(outputs.dtype))

    def mean(self, outputs: Float[Tensor, "n outputs"]) -> Float[Tensor, "n *shape"]:
        """What to show without noise, as in `Head.mean`; in float64 where draws are."""
        dtype = outputs.dtype if self.domain.discrete else self.type_of_draws(outputs.dtype)
        return self._rows([head.mean(outputs[:, head.slots]) for head in self.heads], dtype)

    def _rows(self, parts: Sequence[Tensor], dtype: torch.dtype) -> Rows:
        """Rows from the entries of each head."""
        n, device = len(parts[0]), parts[0].device
        x = torch.tensor(self._anchor, dtype=dtype, device=device).repeat(n, 1)
        for head, part in zip(self.heads, parts, strict=True):
            x[:, head.entries] = part.to(dtype)
        return x.reshape(n, *self.domain.shape)

    def type_of_draws(self, dtype: torch.dtype) -> torch.dtype:
        """int64 on a discrete domain; otherwise `dtype`, or float64 where some entry needs it."""
        if self.domain.discrete:
            return torch.int64
        for head in self.heads:
            dtype = head.type_of_draws(dtype)
        return dtype

    def sample_entry(self, index: int, outputs: Float[Tensor, "n size"]) -> Float[Tensor, " n"]:
        """A draw of one entry from its own outputs."""
        if index not in self._place:
            return outputs.new_full((len(outputs),), self._anchor[index])
        head, column = self._place[index]
        return self.heads[head].sample(outputs[:, None], column)[:, 0]

    def as_present(
        self, outputs: Float[Tensor, "n outputs"], index: int | None = None
    ) -> Float[Tensor, "n outputs"]:
        """Outputs of all entries, or of one of them, given that nothing is missing."""
        holes = self.domain.holes
        if not holes or not (index is None or index in holes):
            return outputs
        starts = [0, *accumulate(self.sizes)]
        holes = [0] if index is not None else [starts[i] for i in holes]
        return outputs.index_fill(1, torch.tensor(holes, device=outputs.device), -math.inf)

    def log_prob_entry(
        self, index: int, outputs: Float[Tensor, "n size"], x: Shaped[Tensor, " n"]
    ) -> Float[Tensor, " n"]:
        """Log-probability or log-density (nats) of one entry from its own outputs."""
        if index not in self._place:
            return outputs.new_zeros(len(outputs))
        head, column = self._place[index]
        return self.heads[head].log_prob(outputs[:, None], x[:, None], column)[:, 0]


def _weights(x: Tensor, weight: Tensor | None) -> Tensor:
    """Weights of the rows with a mean of 1, in float64."""
    if weight is None:
        return torch.ones(len(x), dtype=torch.float64, device=x.device)
    weight = weight.to(torch.float64)
    return weight * len(x) / weight.sum()
