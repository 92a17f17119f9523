"""How a GAN sees a domain: real numbers that a generator can put out and a critic can compare.

There is no Jacobian to pay for here, so bounded columns are only shifted and scaled. The bijection to
the whole line that a density needs would carry what lies exactly on a bound, such as black pixels, far
away from the rest.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from likely.contract.views import RealView
from likely.core.columns import Column, Discrete, Interval, Periodic, Real
from likely.core.domain import Domain
from likely.core.errors import DomainError


class AffineView(nn.Module):
    """A `RealView` whose bounded columns stay as they are before they are standardised.

    =====================  ======================================================================
    interval               x
    integer, binary, spin  dequantised around the level: x + U[−½, ½) steps
    real, positive, count  x, log x and log(x + U[0, 1)), as in `RealView`
    periodic               an angle, as there
    constant               left out
    =====================  ======================================================================

    Parameters
    ----------
    domain : Domain
        With columns of these kinds.

    Raises
    ------
    DomainError
        If every column is constant.

    Attributes
    ----------
    dim : int
        Number of real columns.
    periodic : Tensor of bool, shape (dim,)
        Which of them are angles.
    """

    bounded: Tensor
    ends: Tensor

    def __init__(self, domain: Domain) -> None:
        super().__init__()
        self.domain = domain
        columns = tuple(Real() if _ends(column) else column for column in domain.columns)
        self.reals = RealView(replace(domain, columns=columns))
        self.dim = self.reals.dim
        if not self.dim:
            raise DomainError("every column of the data is constant: there is nothing to learn")
        ends = [_ends(domain.column(i)) for i in self.reals.kept]
        low_high = torch.tensor([pair or (0.0, 1.0) for pair in ends], dtype=torch.float64).T
        self.any_bounded = any(ends)
        self.register_buffer("bounded", torch.tensor([bool(pair) for pair in ends]), False)
        self.ends = low_high  # no buffer: its type must not change with the model's

    @property
    def periodic(self) -> Tensor:
        return self.reals.periodic

    def prepare(self, x: Shaped[Tensor, "n *shape"], weight: Tensor | None = None) -> None:
        """Take shifts and scales from rows of the training split."""
        self.reals.prepare(self._dequantised(x), weight)

    def forward(self, x: Shaped[Tensor, "n *shape"]) -> Float[Tensor, "n dim"]:
        """The real columns of rows."""
        return self.reals(self._dequantised(x))[0]

    def squash(self, y: Float[Tensor, "n dim"]) -> Float[Tensor, "n dim"]:
        """Real columns from any numbers: a logistic function keeps bounded ones within their ends."""
        if not self.any_bounded:
            return y
        shift = self.reals.shift.double() + self.reals.shift_rest
        low, high = ((self.ends.to(shift) - shift) / self.reals.scale).to(y.dtype)
        return torch.where(self.bounded, low + (high - low) * y.sigmoid(), y)

    def inverse(self, z: Float[Tensor, "n dim"]) -> Shaped[Tensor, "n *shape"]:
        """Rows of the domain whose real columns are `z`, or next to them."""
        x = self.reals.inverse(z).flatten(1)
        for column, index in self.domain.groups:
            if isinstance(column, Discrete) and column.levels is not None:
                code = ((x[:, index] - column.low) / column.step).round()
                x[:, index] = column.low + column.step * code.clamp(0, column.levels - 1)
            elif isinstance(column, Interval):
                x[:, index] = x[:, index].clamp(column.low, column.high)
        x = x.reshape(len(x), *self.domain.shape)
        return x.to(torch.int64) if self.domain.discrete else x

    def _dequantised(self, x: Shaped[Tensor, "n *shape"]) -> Float[Tensor, "n *shape"]:
        y = x.flatten(1).to(x.dtype if x.is_floating_point() else self.reals.shift.dtype, copy=True)
        for column, index in self.domain.groups:
            if isinstance(column, Discrete) and column.levels is not None:
                y[:, index] += column.step * (torch.rand_like(y[:, index]) - 0.5)
        return y.reshape(x.shape)


def _ends(column: Column) -> tuple[float, float] | None:
    """Where a bounded column ends; a discrete one half a step beyond its outer levels."""
    if isinstance(column, Discrete) and column.levels is not None:
        return column.low - column.step / 2, column.low + column.step * (column.levels - 0.5)
    if isinstance(column, Interval) and not isinstance(column, Periodic):
        return column.low, column.high
    return None
