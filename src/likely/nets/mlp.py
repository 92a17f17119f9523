"""The multilayer perceptron, with residual connections between layers of equal width."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class MLP(nn.Module):
    """h₁ = W₁ x + b₁,   h_{l+1} = [h_l +] W_{l+1} σ(h_l) + b_{l+1},   y = V σ(h_L) + b.

    The unmasked twin of `MaskedMLP`. Without inputs it is a learnable constant.

    Parameters
    ----------
    inputs, outputs : int
    hidden : sequence of int
        Widths of the hidden layers.
    activation : callable
        σ.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        hidden: Sequence[int] = (128, 128),
        activation: Callable[[Tensor], Tensor] = F.relu,
    ) -> None:
        super().__init__()
        self.activation = activation
        widths = [max(inputs, 1), *hidden, outputs]
        self.layers: Sequence[nn.Linear] = nn.ModuleList(  # type: ignore[assignment]
            nn.Linear(a, b) for a, b in pairwise(widths)
        )

    def forward(self, x: Float[Tensor, "n inputs"]) -> Float[Tensor, "n outputs"]:
        first, *rest = self.layers
        h = first(x if x.shape[1] else x.new_zeros(len(x), 1))
        for layer in rest[:-1]:
            update = layer(self.activation(h))
            h = h + update if update.shape == h.shape else update
        return rest[-1](self.activation(h)) if rest else h


def joined(h: Tensor, context: Tensor | None) -> Tensor:
    """The columns of h, then those of the context where there is one: what a network sees."""
    return h if context is None else torch.cat([h, context], 1)
