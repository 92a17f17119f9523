"""The two ways to make a bijection of R^d from one-dimensional ones with a triangular Jacobian.

An element-wise bijection (a file in `bijections/`) takes its parameters from a network: of the
entries before, in an autoregressive transform, or of the other half, in a coupling. Angles reach
the network as (cos, sin), so that nothing jumps at the seam.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from likely.nets.masked import MaskedMLP
from likely.nets.mlp import MLP


class Bijection(Protocol):
    """An element-wise bijection whose parameters come from a network."""

    size: int
    periodic: Tensor

    def __call__(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]: ...

    def inverse(self, y: Tensor, parameters: Tensor, entries: slice = ...) -> Tensor: ...


def angles_as_points(
    x: Float[Tensor, "n entries"], periodic: list[bool]
) -> Float[Tensor, "n features"]:
    """Entries as features: an angle becomes its cosine and sine, the rest stays."""
    if not any(periodic):
        return x
    parts = [
        torch.stack([column.cos(), column.sin()], 1) if circle else column[:, None]
        for column, circle in zip(x.unbind(1), periodic, strict=True)
    ]
    return torch.cat(parts, 1)


class Autoregressive(nn.Module):
    """y_i = f(x_i; θ_i(x_1 … x_{i−1}, c)): one pass forwards, entry by entry backwards.

    Kingma et al. 2016, arXiv:1606.04934; Papamakarios, Pavlakou & Murray 2017, arXiv:1705.07057.

    Parameters
    ----------
    bijection : Bijection
        f, with as many entries as x.
    order : sequence of int
        The entries in the order in which they condition one another.
    hidden : sequence of int
        Widths of the masked network.
    context : int
        Number of context features.
    """

    def __init__(
        self,
        bijection: Bijection,
        order: Sequence[int],
        hidden: Sequence[int],
        context: int,
    ) -> None:
        super().__init__()
        self.bijection = bijection
        self.periodic = bijection.periodic.tolist()
        self.net = MaskedMLP(
            [2 if circle else 1 for circle in self.periodic],
            [bijection.size] * len(self.periodic),
            order=order,
            hidden=hidden,
            context=context,
        )
        start_at_identity(self.net.layers[-1])

    def forward(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """y and the log-determinant, shapes (n, entries) and (n,)."""
        parameters = self.net(angles_as_points(x, self.periodic), context)
        parameters = parameters.to(x.dtype).unflatten(1, (-1, self.bijection.size))
        y, log_slope = self.bijection(x, parameters)
        return y, log_slope.sum(1)

    def inverse(self, y: Tensor, context: Tensor | None) -> Tensor:
        """x, without gradients; costs about as many operations as one pass of the network."""
        x = torch.empty_like(y)
        state = self.net.incremental(len(y), context)
        for i in self.net.order:
            at = slice(i, i + 1)
            column = self.bijection.inverse(y[:, at], state.outputs()[:, None], at)
            x[:, at] = column
            state.feed(angles_as_points(column, self.periodic[at]))
        return x


class Coupling(nn.Module):
    """y = x on one part of the entries; on the other y_i = f(x_i; θ_i(first part, c)).

    Dinh, Krueger & Bengio 2014, arXiv:1410.8516; one pass in both directions.

    Parameters
    ----------
    bijection : Bijection
        f, for the entries that move.
    periodic : Tensor of bool, shape (entries,)
        Which entries of x are angles.
    moves : Tensor of bool, shape (entries,)
        Which entries move.
    hidden : sequence of int
        Widths of the network.
    context : int
        Number of context features.
    """

    moving: Tensor
    staying: Tensor

    def __init__(
        self,
        bijection: Bijection,
        periodic: Bool[Tensor, " entries"],
        moves: Bool[Tensor, " entries"],
        hidden: Sequence[int],
        context: int,
    ) -> None:
        super().__init__()
        self.bijection = bijection
        self.register_buffer("moving", moves.nonzero()[:, 0], persistent=False)
        self.register_buffer("staying", (~moves).nonzero()[:, 0], persistent=False)
        self.periodic = periodic[~moves].tolist()
        inputs = len(self.periodic) + sum(self.periodic) + context
        self.net = MLP(inputs, int(moves.sum()) * bijection.size, hidden)
        start_at_identity(self.net.layers[-1])

    def _conditioned(self, x: Tensor, context: Tensor | None) -> Tensor:
        inputs = angles_as_points(x[:, self.staying], self.periodic)
        if context is not None:
            inputs = torch.cat([inputs, context], 1)
        return self.net(inputs).to(x.dtype).unflatten(1, (-1, self.bijection.size))

    def forward(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """y and the log-determinant, shapes (n, entries) and (n,)."""
        moved, log_slope = self.bijection(x[:, self.moving], self._conditioned(x, context))
        return x.index_copy(1, self.moving, moved), log_slope.sum(1)

    def inverse(self, y: Tensor, context: Tensor | None) -> Tensor:
        """x, of shape (n, entries)."""
        moved = self.bijection.inverse(y[:, self.moving], self._conditioned(y, context))
        return y.index_copy(1, self.moving, moved)


@torch.no_grad()
def start_at_identity(layer: nn.Module) -> None:
    """Make a network's outputs small at first, so that a deep flow starts near the identity."""
    for parameter in layer.parameters():
        parameter.mul_(0.1)
