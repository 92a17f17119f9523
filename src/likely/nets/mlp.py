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
        σ, of each unit by itself.
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
        return self._through(x if x.shape[1] else x.new_zeros(len(x), 1), lambda layer, h: layer(h))

    def columns(self, x: Float[Tensor, "inputs n"]) -> Float[Tensor, "outputs n"]:
        """The same with the rows last, so that the values of each output are contiguous."""
        return self._through(
            x if len(x) else x.new_zeros(1, x.shape[1]),
            lambda layer, h: torch.addmm(layer.bias[:, None], layer.weight, h),
        )

    def _through(self, h: Tensor, apply: Callable[[nn.Linear, Tensor], Tensor]) -> Tensor:
        first, *rest = self.layers
        h = apply(first, h)
        for layer in rest[:-1]:
            update = apply(layer, self.activation(h))
            h = h + update if update.shape == h.shape else update
        return apply(rest[-1], self.activation(h)) if rest else h


def with_context(h: Tensor, context: Tensor | None) -> Tensor:
    """The columns of h, then those of the context where there is one: what a network sees."""
    return h if context is None else torch.cat([h, context], 1)
