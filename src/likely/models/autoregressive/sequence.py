"""What the RNN and the transformer share: symbols in, logits out, one network for all positions."""

from collections.abc import Sequence
from typing import Annotated, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from likely.contract import Batch, Positive, Range
from likely.core.columns import Binary, Categorical, Integer, Spin
from likely.core.domain import Domain
from likely.core.errors import DataError, LikelyError
from likely.core.random import seeded
from likely.models.autoregressive.base import Autoregressive, Draw
from likely.nets.attention import States
from likely.nets.heads import ColumnHeads, Softmax, sharpened

Symbols = Int[Tensor, "n t"]
POWERS = 3  # of the distance to the end of a sequence


class SequenceModel(Autoregressive):
    """Sequences of symbols: p(x) = Π_t softmax(V_t h_t + m_t + b_t)[x_t], h_t of x_1 … x_{t−1}.

    A subclass writes `_hidden` and `_walk`, and calls `_read_out`. All entries are of one kind with k
    values; m_t are the logarithms of their frequencies in the data. V_t = V and b_t = b are shared by
    the entries. For few symbols, each entry may have its own b_t, and V_t may differ towards the end of
    the sequence of T symbols, where less and less is left for a conditional to sum over:
    V_t = V + Σ_j D_j (T − t)⁻ʲ, with t from 0 and j from 1 to 3.
    """

    accepts = frozenset({Binary, Categorical, Integer, Spin})
    of_one_kind = True

    def __init__(
        self,
        domain: Domain,
        *,
        context: Domain | None = None,
        context_encoder: nn.Module | str | None = None,
        order: Annotated[Sequence[int], Range(0)] | None = None,
        symmetric: bool = False,
    ) -> None:
        super().__init__(
            domain,
            context=context,
            context_encoder=context_encoder,
            order=order,
            symmetric=symmetric,
        )
        self.heads = ColumnHeads(domain, head_of=lambda column: Softmax)
        self.levels = self.heads.sizes[0]
        # Where each entry stands in the ordering.
        self.position = nn.Buffer(self.orderings[0].argsort(), persistent=False)

    def _read_out(self, width: int, own: bool = False) -> None:
        """Make V and b for h of this width; `own`: each entry's b_t, and D."""
        size = self.domain.size
        self.output = nn.Linear(width, self.levels, bias=False)
        self.bias = nn.Parameter(torch.zeros((size if own else 1) * self.levels))
        self.marginals = nn.Buffer(torch.zeros(size, self.levels))
        self.ending = nn.Parameter(torch.zeros(POWERS, self.levels, width)) if own else None
        left = (self.domain.size - self.position).float()
        powers = left[:, None] ** -torch.arange(1.0, POWERS + 1)
        self.powers = nn.Buffer(powers, persistent=False)

    def prepare(self, batch: Batch) -> None:
        """Start at the independent marginals of the training split."""
        super().prepare(batch)
        with torch.no_grad():
            self.output.weight.zero_()
            if self.ending is not None:
                self.ending.zero_()
            self.bias.zero_()
            self.marginals.copy_(self.heads.initial(batch.x, batch.weight).view_as(self.marginals))

    # What a subclass writes.

    def _hidden(self, inputs: Symbols, context: Tensor | None) -> States:
        """h of all positions, from the symbols before each: the first of them is `self.levels`."""
        raise NotImplementedError

    # Likelihood.

    def _codes(self, x: Tensor) -> Int[Tensor, "n entries"]:
        return self.heads.heads[0].code(x.flatten(1))  # type: ignore[operator]

    def _terms(self, k: int, x: Tensor, context: Tensor | None) -> Float[Tensor, "n entries"]:
        codes = self._codes(x)[:, self.orderings[0]]
        inputs = F.pad(codes[:, :-1], (1, 0), value=self.levels)
        h = self._hidden(inputs, context).index_select(1, self.position)
        logits = self.output(h)
        if self.ending is not None:
            D = torch.einsum("ij,jkh->ikh", self.powers, self.ending)
            logits = logits + torch.einsum("nih,ikh->nik", h, D)
        return self.heads.log_prob((logits + self._shift()).flatten(1), x)

    def _shift(self) -> Float[Tensor, "entries levels"]:
        """m_t + b_t."""
        return self.marginals + self.bias.unflatten(0, (-1, self.levels))

    # Sampling.

    def logits(self, i: int, h: Float[Tensor, "n width"]) -> Float[Tensor, "n levels"]:
        """Logits of entry i."""
        V = self.output.weight
        if self.ending is not None:
            V = V + torch.einsum("j,jkh->kh", self.powers[i], self.ending)
        return h @ V.T + self._shift()[i]

    def _input(self, i: int, x: Tensor) -> Tensor:
        return self._codes(x[:, None])

    def generate(
        self,
        n: int,
        length: int,
        *,
        prompt: Int[Tensor, " start"] | None = None,
        seed: int | None = None,
        **sharpening: Any,
    ) -> Int[Tensor, "n length"]:
        """Draw sequences of any length from a model of the windows of a longer one, as of a text.

        Once a window is full, its second half becomes the first half of the next one.

        Parameters
        ----------
        n, length : int
            `length` counts the prompt.
        prompt : Tensor, shape (start,), optional
            With what all of them begin.
        seed : int, optional
        **sharpening
            `temperature`, `top_k` and `top_p`, as in `sample`.

        Returns
        -------
        Tensor, shape (n, length)

        Raises
        ------
        LikelyError
            If the symbols are not generated in their order, depend on a context or end by themselves;
            or if the prompt is longer than `length`.
        DataError
            If the prompt is outside the domain.
        """
        window, domain = self.domain.size, self.domain
        backwards = self.orderings.diff().ne(1).any()
        if backwards or self.context is not None or window < 2 or domain.ends:
            raise LikelyError(
                "generate: only from windows, of two symbols or more, of a running sequence, in order "
                "and without a context; `sample` and `complete` draw single rows"
            )
        x = torch.empty(n, 0, dtype=torch.int64, device=self.device)
        if prompt is not None:
            x = torch.as_tensor(prompt).to(x)[None].expand(n, -1)
            inside = domain.column(0).contains(x[:1])
            if not inside.all():
                raise DataError(f"generate: the prompt holds {x[:1][~inside][0]}, no symbol")
        if x.shape[1] > length:
            raise LikelyError(f"generate: length {length}, and the prompt has {x.shape[1]}")
        with seeded(seed, self.device):
            while x.shape[1] < length:
                start = x if x.shape[1] < window else x[:, -(window // 2) :]
                known = torch.arange(window, device=x.device) < start.shape[1]
                rows = F.pad(start, (0, window - start.shape[1]))
                rows = rows.reshape(n, *self.domain.shape)
                filled = self.complete(rows, known.view(self.domain.shape), **sharpening)
                x = torch.cat([x, filled.flatten(1)[:, start.shape[1] :]], 1)
        return x[:, :length]

    def _draw(
        self,
        *,
        temperature: Positive = 1.0,
        top_k: int | None = None,
        top_p: Annotated[float, Range(0, 1, open="low")] | None = None,
    ) -> Draw:
        """How a symbol is drawn: from its conditional, or a sharper distribution.

        Parameters
        ----------
        temperature : float
            Divides the logits: below 1 the likely symbols become likelier.
        top_k : int, optional
            Draw from the k likeliest symbols.
        top_p : float, optional
            Draw from the fewest symbols that together have this probability or more (Holtzman et
            al. 2020, arXiv:1904.09751); after `temperature` and `top_k`.
        """

        def draw(i: int, logits: Tensor) -> Tensor:
            logits = sharpened(logits, temperature, top_k, top_p)
            return self.heads.sample_entry(i, logits)

        return draw


class SequenceWalk:
    """A pass symbol by symbol that carries a state along; see `Walk`.

    A subclass sets its state and then calls this constructor, and writes `_advance`, which takes codes
    of shape (n, 1) and sets `h`, shape (n, width).
    """

    h: Tensor

    def __init__(self, model: SequenceModel, n: int, context: Tensor | None) -> None:
        self.model, self.context = model, context
        self.order, self.t = model.orderings[0].tolist(), 0
        self._advance(torch.full((n, 1), model.levels, device=model.device))

    def _advance(self, codes: Int[Tensor, "n 1"]) -> None:
        raise NotImplementedError

    @torch.no_grad()
    def outputs(self) -> Float[Tensor, "n levels"]:
        return self.model.logits(self.order[self.t], self.h)

    def feed(self, values: Int[Tensor, "n 1"]) -> None:
        self.t += 1
        if self.t < len(self.order):
            self._advance(values)

    def select(self, rows: Int[Tensor, " m"]) -> None:
        self.h = self.h[rows]
        self.context = None if self.context is None else self.context[rows]
