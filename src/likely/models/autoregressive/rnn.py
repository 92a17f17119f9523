"""RNN: a recurrent network over the symbols of a sequence.

    h_t = cell(h_{t−1}, x_{t−1}),   p(x_t | x_1 … x_{t−1}) = softmax(V_t h_t + m_t + b_t)[x_t]

with gated cells: GRU (Cho et al. 2014, arXiv:1406.1078), LSTM (Hochreiter & Schmidhuber 1997, Neural
Comput. 9, 1735), or a GRU in which the symbol selects the matrices (`TensorGRU`). For outcomes of quantum
measurements: Carrasquilla, Torlai, Melko & Aolita (2019), Nat. Mach. Intell. 1, 155, arXiv:1810.10584.
"""

from typing import Annotated, Any, Literal

import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.nn import functional as F

from likely.contract import Range, Recipe, register
from likely.core.domain import Domain
from likely.core.errors import LikelyError
from likely.models.autoregressive.sequence import SequenceModel, SequenceWalk, Symbols
from likely.nets.attention import States
from likely.nets.recurrent import TensorGRU, at_every_step

MAX_LAYERS = 3
FEW = 8  # symbols

State = Tensor | tuple[Tensor, ...]  # of each layer; an LSTM has two


@register(
    "rnn",
    title="recurrent network",
    constraint="autoregressive: an ordering of the symbols, sampled one after the other",
    paper="Cho et al. 2014, arXiv:1406.1078",
)
class RNN(SequenceModel):
    """Recurrent network; a sample takes one pass, with the hidden state carried along.

    Parameters
    ----------
    domain : Domain
        Sequences of one kind of symbol with finitely many values.
    context : Domain, optional
        It goes into every step.
    cell : {"gru", "lstm", "tensor"}, optional
        By default "tensor" where there are at most 8 symbols, and "gru" otherwise.
    hidden : int, optional
        Units of a layer; by default 48 of "tensor", 128 of the others.
    layers : int
        At most 3; one of "tensor".
    embedding : int, optional
        Width of a learned embedding of the symbols; by default they are one-hot vectors.
    order : sequence of int, optional
        The entries, counted in row-major order, in the order in which they are generated; by
        default as they stand.

    Examples
    --------
    >>> import likely as lk
    >>> data = lk.load_data("markov-chain")
    >>> model = lk.make("rnn", data.domain, hidden=32)
    >>> history = lk.fit(model, data, steps=100)
    >>> model.sample(5, seed=1).shape
    torch.Size([5, 8])
    """

    recipe = Recipe(batch=512, rate=1e-2, weight_decay=0.03, clip=1.0)

    def __init__(
        self,
        domain: Domain,
        *,
        cell: Literal["gru", "lstm", "tensor"] | None = None,
        hidden: int | None = None,
        layers: Annotated[int, Range(1, MAX_LAYERS)] = 1,
        embedding: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(domain, **options)
        if cell is None:
            cell = "tensor" if self.levels <= FEW and layers == 1 and not embedding else "gru"
        if cell == "tensor" and (layers > 1 or embedding):
            raise LikelyError("cell='tensor' has one layer and no embedding: leave these out")
        hidden = hidden or (48 if cell == "tensor" else 128)
        symbols = self.levels + 1  # and one before the first
        self.embedding = None if embedding is None else nn.Embedding(symbols, embedding)
        if cell == "tensor":
            self.net: nn.Module = TensorGRU(self.levels, self.context_size, hidden)
        else:
            width = symbols if embedding is None else embedding
            network = nn.GRU if cell == "gru" else nn.LSTM
            self.net = network(width + self.context_size, hidden, layers, batch_first=True)
        self._read_out(hidden, own=cell == "tensor")

    def _run(
        self, inputs: Symbols, context: Tensor | None, state: State | None = None
    ) -> tuple[States, State]:
        """h after each of the symbols, and the state to continue from."""
        if isinstance(self.net, TensorGRU):
            return self.net(inputs, context, state)
        if self.embedding is not None:
            x = self.embedding(inputs)
        else:
            x = F.one_hot(inputs, self.levels + 1).to(self.bias)
        return self.net(at_every_step(x, context), state)

    def _hidden(self, inputs: Symbols, context: Tensor | None) -> States:
        return self._run(inputs, context)[0]

    def _walk(self, k: int, n: int, context: Tensor | None) -> SequenceWalk:
        return RecurrentWalk(self, n, context)


class RecurrentWalk(SequenceWalk):
    """Carries the hidden state of the cell along."""

    model: RNN

    def __init__(self, model: RNN, n: int, context: Tensor | None) -> None:
        self.state: State | None = None
        super().__init__(model, n, context)

    @torch.no_grad()
    def _advance(self, codes: Int[Tensor, "n 1"]) -> None:
        h, self.state = self.model._run(codes, self.context, self.state)
        self.h = h[:, 0]

    def select(self, rows: Int[Tensor, " m"]) -> None:
        super().select(rows)
        assert self.state is not None
        if isinstance(self.state, tuple):  # an LSTM's
            self.state = tuple(part[:, rows] for part in self.state)
        else:
            self.state = self.state[:, rows]
