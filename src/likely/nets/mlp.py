"""The multilayer perceptron, with residual connections between layers of equal width."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

Context = Float[Tensor, "n features"] | None  # what a network sees beside a row
Function = Callable[[Tensor], Tensor]


class MLP(nn.Module):
    """h₁ = W₁ x + b₁,   h_{l+1} = [h_l +] W_{l+1} σ(h_l) + b_{l+1},   y = V σ(h_L) + b.

    The unmasked twin of `MaskedMLP`. Without inputs it is a learnable constant.

    Parameters
    ----------
    inputs, outputs : int
    hidden : sequence of int
        Widths of the hidden layers.
    activation : callable
        σ, of each unit by itself.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        hidden: Sequence[int] = (128, 128),
        activation: Function = F.relu,
    ) -> None:
        super().__init__()
        self.activation = activation
        widths = [max(inputs, 1), *hidden, outputs]
        self.layers: Sequence[nn.Linear] = nn.ModuleList(  # type: ignore[assignment]
            nn.Linear(a, b) for a, b in pairwise(widths)
        )

    def forward(self, x: Float[Tensor, "n inputs"]) -> Float[Tensor, "n outputs"]:
        h = x if x.shape[1] else x.new_zeros(len(x), 1)
        return perceptron(h, self.layers, self.activation)


def perceptron(h: Tensor, layers: Sequence[Function], activation: Function = F.relu) -> Tensor:
    """The layers one after the other, with residual connections between inner ones of equal width."""
    for i, layer in enumerate(layers):
        update = layer(activation(h) if i else h)
        inner = 0 < i < len(layers) - 1
        h = h + update if inner and update.shape == h.shape else update
    return h


def with_context(h: Tensor, context: Context) -> Tensor:
    """The columns of h, then those of the context where there is one: what a network sees."""
    return h if context is None else torch.cat([h, context], 1)
