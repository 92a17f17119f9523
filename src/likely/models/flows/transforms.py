"""The two ways to make a bijection of R^d from one-dimensional ones with a triangular Jacobian.

An element-wise bijection (a file in `bijections/`) takes its parameters from a network: of the
entries before, in an autoregressive transform, or of the other half, in a coupling. Angles reach
the network as (cos, sin), so that nothing jumps at the seam.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from likely.core.errors import LikelyError
from likely.nets.fast import columns
from likely.nets.masked import MaskedMLP
from likely.nets.mlp import MLP, with_context

Values = Float[Tensor, "entries n"]
Parameters = Float[Tensor, "entries size n"]


class Bijection(Protocol):
    """An element-wise bijection whose parameters come from a network.

    Rows are last here, so that each entry's values are contiguous.
    """

    size: int
    periodic: Tensor

    def __call__(self, x: Values, parameters: Parameters) -> tuple[Values, Values]: ...

    def inverse(self, y: Values, parameters: Parameters, entries: slice = ...) -> Values: ...


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
        self, bijection: Bijection, order: Sequence[int], hidden: Sequence[int], context: int
    ) -> None:
        super().__init__()
        self.bijection = bijection
        self.periodic = bijection.periodic.tolist()
        inputs, outputs = [1 + circle for circle in self.periodic], bijection.size
        sizes = inputs, [outputs] * len(inputs)
        self.net = MaskedMLP(*sizes, order=order, hidden=hidden, context=context)
        start_at_identity(self.net.layers[-1])

    def _bijected(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        parameters = self.net(angles_as_points(x, self.periodic), context).to(x.dtype)
        return self.bijection(x.T, parameters.T.unflatten(0, (-1, self.bijection.size)))

    def forward(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """y and the log-determinant, shapes (n, entries) and (n,)."""
        y, log_slope = self._bijected(x, context)
        return y.T, log_slope.sum(0)

    def inverse(self, y: Tensor, context: Tensor | None) -> Tensor:
        """x, with first derivatives; costs about as many operations as one pass of the network.

        It is solved for entry by entry, without a record. The derivatives follow from those of
        y = f(x; θ) by the implicit function theorem: dx = J⁻¹ (dy − ∂_θ f dθ), where J = ∂f/∂x.
        So y − f(x; θ), which is zero in value and has the gradient in brackets, is added to the
        solution, and on the way back a gradient v becomes J⁻ᵀ v there.
        """
        x = self._solve(y, context)
        if not torch.is_grad_enabled():
            return x
        at = x.clone().requires_grad_()
        columns, log_slope = self._bijected(at, context)
        image, slope = columns.T, log_slope.T.detach().exp()
        change = y - image
        change.register_hook(lambda v: _solve_transposed(image, at, slope, v))
        return x + (change - change.detach())

    def inverse_with_log_det(self, y: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """x and the log-determinant of the inverse, shapes (n, entries) and (n,)."""
        x = self.inverse(y, context)
        return x, -self(x, context)[1]

    @torch.no_grad()
    def _solve(self, y: Tensor, context: Tensor | None) -> Tensor:
        columns = y.T.contiguous()
        x = torch.empty_like(columns)
        state = self.net.incremental(len(y), context)
        for i in self.net.order:
            at = slice(i, i + 1)
            x[at] = self.bijection.inverse(columns[at], state.outputs().T[None], at)
            state.feed(angles_as_points(x[at].T, self.periodic[at]))
        return x.T


def _solve_transposed(y: Tensor, x: Tensor, slope: Tensor, v: Tensor) -> Tensor:
    """w with Jᵀ w = v, where J = ∂y/∂x is triangular in some ordering, with diagonal `slope`.

    Each round of Jacobi's iteration w ← w + (v − Jᵀ w)/slope makes one more entry of the ordering
    right, so that there are at most as many rounds as entries, and mostly far fewer; one more takes
    off the rounding errors of early rounds.
    """
    if torch.is_grad_enabled():
        raise LikelyError("the inverse of an autoregressive transform has no second derivatives")
    w = v / slope
    for _ in range(x.shape[1]):
        (product,) = torch.autograd.grad(y, x, w, retain_graph=True)
        step = (v - product) / slope
        w = w + step
        if (step.abs() <= torch.finfo(w.dtype).eps * w.abs().amax(1, keepdim=True)).all():
            break
    return w


class Inverse(nn.Module):
    """A transform run the other way; an autoregressive one goes entry by entry forwards.

    Parameters
    ----------
    transform : Module
    """

    def __init__(self, transform: nn.Module) -> None:
        super().__init__()
        self.transform = transform

    def forward(self, y: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """x and the log-determinant, shapes (n, entries) and (n,)."""
        return self.transform.inverse_with_log_det(y, context)  # type: ignore[operator]

    def inverse(self, x: Tensor, context: Tensor | None) -> Tensor:
        """y, of shape (n, entries)."""
        return self.transform(x, context)[0]

    def inverse_with_log_det(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """y and the log-determinant of the inverse, shapes (n, entries) and (n,)."""
        return self.transform(x, context)


class Coupling(nn.Module):
    """y_i = f(x_i; θ_i(the entries that stay, c)) for the entries that move; one pass both ways.

    Dinh, Krueger & Bengio 2014, arXiv:1410.8516. A subclass has the network, in `parameters_of`.

    Parameters
    ----------
    bijection : Bijection
        f, for the entries that move.
    moving : Tensor of int, shape (m,)
        Which entries move.
    """

    def __init__(self, bijection: Bijection, moving: Int[Tensor, " m"]) -> None:
        super().__init__()
        self.bijection = bijection
        self.moving = nn.Buffer(moving, persistent=False)

    def parameters_of(self, x: Values, context: Tensor | None) -> Parameters:
        """θ, which must not depend on the entries that move."""
        raise NotImplementedError

    def forward(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """y and the log-determinant, shapes (n, entries) and (n,)."""
        x = x.T.contiguous()
        parameters = self.parameters_of(x, context)
        moved, log_slope = self.bijection(x.index_select(0, self.moving), parameters)
        return x.index_copy(0, self.moving, moved).T, log_slope.sum(0)

    def inverse(self, y: Tensor, context: Tensor | None) -> Tensor:
        """x, of shape (n, entries)."""
        return self._inverse(y, context)[0]

    def inverse_with_log_det(self, y: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """x and the log-determinant of the inverse, shapes (n, entries) and (n,)."""
        x, moved, parameters = self._inverse(y, context)
        return x, -self.bijection(moved, parameters)[1].sum(0)

    def _inverse(self, y: Tensor, context: Tensor | None) -> tuple[Tensor, Values, Parameters]:
        """x, the entries that moved, and the parameters of their bijections."""
        y = y.T.contiguous()
        parameters = self.parameters_of(y, context)
        moved = self.bijection.inverse(y.index_select(0, self.moving), parameters)
        return y.index_copy(0, self.moving, moved).T, moved, parameters


class VectorCoupling(Coupling):
    """A coupling with a multilayer perceptron.

    Parameters
    ----------
    bijection : Bijection
        For the entries that move.
    periodic : Tensor of bool, shape (entries,)
        Which entries of x are angles.
    moves : Tensor of bool, shape (entries,)
        Which entries move.
    hidden : sequence of int
        Widths of the network.
    context : int
        Number of context features.
    """

    def __init__(
        self,
        bijection: Bijection,
        periodic: Tensor,
        moves: Tensor,
        hidden: Sequence[int],
        context: int,
    ) -> None:
        super().__init__(bijection, moves.nonzero()[:, 0])
        self.staying = nn.Buffer((~moves).nonzero()[:, 0], persistent=False)
        self.periodic = periodic[~moves].tolist()
        inputs = len(self.periodic) + sum(self.periodic) + context
        self.net = MLP(inputs, int(moves.sum()) * bijection.size, hidden)
        start_at_identity(self.net.layers[-1])

    def parameters_of(self, x: Tensor, context: Tensor | None) -> Tensor:
        staying = angles_as_points(x.index_select(0, self.staying).T, self.periodic)
        inputs = with_context(staying, context)
        parameters = columns(self.net.layers, inputs.T).to(x.dtype)
        return parameters.unflatten(0, (-1, self.bijection.size))


def half(dim: int, i: int) -> Bool[Tensor, " dim"]:
    """The half of the entries that layer i moves: a random half, then the other one, and so on.

    A single entry always moves.
    """
    if dim == 1:
        return torch.ones(1, dtype=torch.bool)
    generator = torch.Generator().manual_seed(i // 2)
    moves = torch.randperm(dim, generator=generator) < dim // 2
    return moves if i % 2 == 0 else ~moves


@torch.no_grad()
def start_at_identity(layer: nn.Module) -> None:
    """Make a network's outputs small at first, so that a deep flow starts near the identity."""
    for parameter in layer.parameters():
        parameter.mul_(0.1)
