"""A recurrent cell whose matrices are each symbol's own, and inputs of other cells."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from likely.nets.mlp import Context


class TensorGRU(nn.Module):
    """Gated recurrent network in which symbols multiply the state.

        z_t = σ(U[x_t] h_{t−1} + c[x_t]),   n_t = tanh(W[x_t] h_{t−1} + b[x_t]),
        h_t = (1 − z_t) n_t + z_t h_{t−1}

    With a matrix for each symbol, as a matrix-product state has, it takes far fewer units than a
    GRU to follow the outcomes of quantum measurements; the cost of a step is proportional to the
    number of symbols (Hibat-Allah, Ganahl, Hayward, Melko & Carrasquilla 2020, arXiv:2002.02973,
    where the tensor multiplies symbol and state in a cell without a gate).

    Parameters
    ----------
    symbols : int
        Besides one that stands before the first, whose code is `symbols`.
    context : int
        Number of context features, which are added to both gates.
    hidden : int
        Width of h.
    """

    def __init__(self, symbols: int, context: int, hidden: int) -> None:
        super().__init__()
        self.symbols, self.hidden = symbols, hidden
        self.weight = nn.Parameter(torch.randn(symbols * 2 * hidden, hidden) / math.sqrt(hidden))
        self.bias = nn.Parameter(torch.randn(symbols + 1, 2 * hidden) / 2)
        self.context = nn.Linear(context, 2 * hidden, bias=False) if context else None

    def forward(
        self, x: Int[Tensor, "n t"], context: Context, state: Float[Tensor, "1 n hidden"] | None
    ) -> tuple[Float[Tensor, "n t hidden"], Float[Tensor, "1 n hidden"]]:
        """All states, and the last one; `state` is that before x, zero by default."""
        h = self.weight.new_zeros(len(x), self.hidden) if state is None else state[0]
        bias = self.bias[x]
        if self.context is not None:
            bias = bias + self.context(context)[:, None]
        # The matrices of all symbols, and then the rows of the right one: one product for a batch.
        own = x.clamp_max(self.symbols - 1)  # of the first symbol any, as its state is zero
        own = own[..., None, None].expand(-1, -1, 1, 2 * self.hidden)
        states = []
        for t in range(x.shape[1]):
            products = (h @ self.weight.T).unflatten(1, (self.symbols, -1))
            z, n = (products.gather(1, own[:, t])[:, 0] + bias[:, t]).chunk(2, 1)
            h = torch.lerp(n.tanh(), h, z.sigmoid())
            states.append(h)
        return torch.stack(states, 1), h[None]


def at_every_step(x: Float[Tensor, "n t width"], context: Context) -> Float[Tensor, "n t inputs"]:
    """The inputs of each step, and then the context where there is one, which is that of all steps."""
    if context is None:
        return x
    return torch.cat([x, context[:, None].expand(-1, x.shape[1], -1)], 2)
