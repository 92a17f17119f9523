"""Two ways in which networks see a domain: a bijection to the reals, and features.

`RealView` maps a sample to d real numbers, invertibly and with its log-determinant, so that a
density on R^d becomes one in the data's own units. `Features` maps it to network inputs and need
not be invertible. Both learn their scales from the training split, in `prepare`.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from likely.core.domain import (
    Binary,
    Column,
    Constant,
    Count,
    Discrete,
    Domain,
    Integer,
    Interval,
    Periodic,
    Positive,
    Real,
    Spin,
)

LOG_TWO_PI = math.log(2 * math.pi)


def _weighted_moments(z: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each column in float64; 1 stands for a deviation of zero."""
    z = z.to(torch.float64)
    w = torch.ones(len(z), dtype=z.dtype, device=z.device) if weight is None else weight.to(z.dtype)
    w = (w / w.sum())[:, None]
    mean = (w * z).sum(0)
    std = (w * (z - mean).square()).sum(0).sqrt()
    floor = 1e-12 * z.abs().amax(0).clamp_min(1e-30)
    return mean, torch.where(std > floor, std, 1.0)


class RealView(nn.Module):
    """Bijection between a domain and R^d, column by column, then standardised.

    =============  ===========================================================================
    real           x
    positive       log x
    interval       Φ⁻¹((x − a)/(b − a)): uniform data become normal, and densities that vanish
                   or diverge like a power at a bound keep Gaussian tails
    periodic       2π (x − a)/(b − a) − π, an angle that is never scaled or shifted
    integer        dequantised: an interval of `levels` unit cells, x + U[0, 1)
    binary, spin   the same with two cells
    count          dequantised: log(x + U[0, 1))
    constant       left out
    =============  ===========================================================================

    Dequantisation turns a density into a lower bound: log P(x) ≥ E_u log p(x + u)
    (Theis, van den Oord & Bethge 2016, arXiv:1511.01844, eq. 3).

    Parameters
    ----------
    domain : Domain
        With columns of the kinds above; unordered categories have no real view.
    """

    accepts = frozenset({Real, Positive, Interval, Periodic, Integer, Binary, Spin, Count, Constant})
    shift: Tensor
    scale: Tensor
    low: Tensor
    width: Tensor
    constants: Tensor
    periodic: Tensor
    quantised: Tensor
    unbounded: Tensor

    def __init__(self, domain: Domain) -> None:
        super().__init__()
        self.domain = domain
        kept = [i for i in range(domain.size) if not isinstance(domain.column(i), Constant)]
        self.dim = len(kept)
        self._kept = kept if self.dim < domain.size else None
        columns = [domain.column(i) for i in kept]
        self._positive = self._where([isinstance(c, Positive | Count) for c in columns])
        self._bounded = self._where(
            [isinstance(c, Integer | Binary) or type(c) is Interval for c in columns]
        )
        self._spin = self._where([isinstance(c, Spin) for c in columns])
        self._periodic = self._where([isinstance(c, Periodic) for c in columns])
        self.exact = not any(isinstance(c, Discrete) for c in columns)
        low = [c.low if isinstance(c, Interval) else 0.0 for c in columns]
        width = [
            c.high - c.low
            if isinstance(c, Interval)
            else float(c.levels or 1)
            if isinstance(c, Discrete)
            else 1.0
            for c in columns
        ]
        self.register_buffer("shift", torch.zeros(self.dim))
        self.register_buffer("scale", torch.ones(self.dim))
        self.register_buffer("low", torch.tensor(low), persistent=False)
        self.register_buffer("width", torch.tensor(width), persistent=False)
        self.register_buffer("constants", domain.anchor.flatten().float(), persistent=False)
        self.register_buffer(
            "periodic", torch.tensor([isinstance(c, Periodic) for c in columns]), persistent=False
        )
        self.register_buffer(
            "unbounded", torch.tensor([isinstance(c, Count) for c in columns]), persistent=False
        )
        self.register_buffer(
            "quantised",
            torch.tensor([float(isinstance(c, Discrete)) for c in columns]),
            persistent=False,
        )

    def _where(self, flags: list[bool]) -> list[int] | slice | None:
        """How to index the flagged columns: nothing, everything (no copy), or a list."""
        if not any(flags):
            return None
        return slice(None) if all(flags) else [i for i, flag in enumerate(flags) if flag]

    def _unbounded(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Map kept, dequantised columns to the reals; log |slope| of each column."""
        z, log_slope = y, torch.zeros_like(y)
        if self._positive is not None:
            part = y[:, self._positive].clamp_min(torch.finfo(y.dtype).tiny).log()
            z = _put(z, self._positive, part)
            log_slope = _put(log_slope, self._positive, -part)
        if self._bounded is not None:
            low, width = self.low[self._bounded].to(y), self.width[self._bounded].to(y)
            info = torch.finfo(y.dtype)
            unit = ((y[:, self._bounded] - low) / width).clamp(info.tiny, 1 - info.eps / 2)
            part = torch.special.ndtri(unit)
            z = _put(z, self._bounded, part)
            log_slope = _put(
                log_slope, self._bounded, (part.square() + LOG_TWO_PI) / 2 - width.log()
            )
        if self._periodic is not None:
            low, width = self.low[self._periodic].to(y), self.width[self._periodic].to(y)
            factor = 2 * math.pi / width
            z = _put(z, self._periodic, (y[:, self._periodic] - low) * factor - math.pi)
            log_slope = _put(
                log_slope, self._periodic, factor.log().expand(len(y), -1)
            )
        return z, log_slope

    def _columns(self, x: Tensor) -> Tensor:
        """Kept columns in floating point, integers with fresh uniform noise."""
        y = x.flatten(1)
        y = y if self._kept is None else y[:, self._kept]
        y = y if y.is_floating_point() else y.to(self.shift.dtype)
        if self._spin is not None:
            y = _put(y, self._spin, (y[:, self._spin] + 1) / 2)
        return y if self.exact else y + self.quantised.to(y) * torch.rand_like(y)

    def prepare(self, x: Shaped[Tensor, "n *shape"], weight: Tensor | None = None) -> None:
        """Take shift and scale from rows of the training split."""
        mean, std = _weighted_moments(self._unbounded(self._columns(x))[0], weight)
        self.shift.copy_(torch.where(self.periodic, 0.0, mean))
        self.scale.copy_(torch.where(self.periodic, 1.0, std))

    def forward(
        self, x: Shaped[Tensor, "n *shape"]
    ) -> tuple[Float[Tensor, "n dim"], Float[Tensor, " n"]]:
        """Standardised real columns, and the log-determinant of the map to them."""
        z, log_slope = self._unbounded(self._columns(x))
        z = (z - self.shift.to(z)) / self.scale.to(z)
        log_det = (log_slope - self.scale.to(z).log()).sum(1)
        return z.to(self.shift.dtype), log_det.to(self.shift.dtype)

    def inverse(self, z: Float[Tensor, "n dim"]) -> Shaped[Tensor, "n *shape"]:
        """The sample whose view is `z`; dequantised columns are rounded down to their level."""
        y = z * self.scale + self.shift
        if self._positive is not None:
            y = _put(y, self._positive, y[:, self._positive].exp())
        if self._bounded is not None:
            low, width = self.low[self._bounded], self.width[self._bounded]
            part = torch.special.ndtr(y[:, self._bounded])
            y = _put(y, self._bounded, torch.addcmul(low, width, part))
        if self._periodic is not None:
            low, width = self.low[self._periodic], self.width[self._periodic]
            turns = (y[:, self._periodic] + math.pi) / (2 * math.pi)
            y = _put(y, self._periodic, torch.addcmul(low, width, turns - turns.floor()))
        if not self.exact:
            top = torch.where(self.unbounded, math.inf, self.width - 1)
            y = torch.where(self.quantised > 0, y.floor().clamp_min(0).minimum(top), y)
        if self._spin is not None:
            y = _put(y, self._spin, 2 * y[:, self._spin] - 1)
        if self._kept is not None:
            full = self.constants.to(y).expand(len(y), -1)
            y = _put(full, self._kept, y)
        y = y.reshape(len(y), *self.domain.shape)
        return y.long() if self.domain.discrete else y


def _put(target: Tensor, where: list[int] | slice, values: Tensor) -> Tensor:
    """`target` with the columns `where` replaced, without touching `target`."""
    if isinstance(where, slice):
        return values
    target = target.clone()
    target[:, where] = values
    return target


ONE_HOT_LEVELS = 64  # integers with at most this many levels are also seen as one-hot vectors


class Features(nn.Module):
    """Network inputs of a domain, column by column.

    Continuous columns, counts and wide integers become one standardised number (positive ones and
    counts after a logarithm), periodic columns (cos, sin), so that nothing jumps at the seam,
    categories and narrow integers a one-hot vector, binary columns and spins ±1, constants nothing.

    Parameters
    ----------
    domain : Domain
        Any domain.

    Attributes
    ----------
    sizes : list of int
        Number of features of each entry.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, domain: Domain) -> None:
        super().__init__()
        self.domain = domain
        self.sizes = [_feature_size(domain, i) for i in range(domain.size)]
        starts = [sum(self.sizes[:i]) for i in range(domain.size)] if len(domain.groups) > 1 else []
        self._out = [
            [start for i in index for start in range(starts[i], starts[i] + self.sizes[i])]
            if starts
            else None
            for _, index in domain.groups
        ]
        self.register_buffer("shift", torch.zeros(domain.size))
        self.register_buffer("scale", torch.ones(domain.size))

    @property
    def size(self) -> int:
        return sum(self.sizes)

    def prepare(self, x: Shaped[Tensor, "n *shape"], weight: Tensor | None = None) -> None:
        """Take shifts and scales from rows of the training split."""
        flat = x.flatten(1)
        for column, index in self.domain.groups:
            mean, std = _weighted_moments(_logarithm(flat[:, index], column), weight)
            self.shift[index] = mean.to(self.shift)
            self.scale[index] = std.to(self.scale)

    def forward(self, x: Shaped[Tensor, "n *shape"]) -> Float[Tensor, "n features"]:
        flat = x.flatten(1)
        dtype = self.shift.dtype
        if self._out[0] is None:
            column = self.domain.groups[0][0]
            return self._encode(flat, column, self.shift, self.scale).flatten(1).to(dtype)
        features = torch.empty(len(flat), self.size, dtype=dtype, device=flat.device)
        for (column, index), out in zip(self.domain.groups, self._out, strict=True):
            if out:
                part = self._encode(flat[:, index], column, self.shift[index], self.scale[index])
                features[:, out] = part.flatten(1).to(dtype)
        return features

    def entry(self, index: int, x: Shaped[Tensor, " n"]) -> Float[Tensor, "n features"]:
        """Features of one entry."""
        at = slice(index, index + 1)
        part = self._encode(
            x[:, None], self.domain.column(index), self.shift[at], self.scale[at]
        )
        return part.flatten(1).to(self.shift.dtype)

    def _encode(self, x: Tensor, column: Column, shift: Tensor, scale: Tensor) -> Tensor:
        """Features of columns of one kind, shape (n, columns, features of one)."""
        if isinstance(column, Periodic):
            angle = (x - column.low) * (2 * math.pi / (column.high - column.low))
            return torch.stack([angle.cos(), angle.sin()], -1)
        if isinstance(column, Discrete) and column.levels is not None:
            code = (x - column.low) / column.step
            if column.levels == 2:
                return (2 * code - 1)[..., None]
            if not isinstance(column, Integer) or column.levels <= ONE_HOT_LEVELS:
                levels = torch.arange(column.levels, device=x.device)
                return (code[..., None] == levels).to(shift.dtype)
        y = _logarithm(x, column)
        return ((y - shift.to(y)) / scale.to(y))[..., None]


def _logarithm(x: Tensor, column: Column) -> Tensor:
    """Positive columns and counts on a logarithmic scale, the rest as it is, in floating point."""
    y = x if x.is_floating_point() else x.to(torch.get_default_dtype())
    if isinstance(column, Positive):
        return y.log()
    return y.log1p() if isinstance(column, Count) else y


def _feature_size(domain: Domain, index: int) -> int:
    column = domain.column(index)
    if isinstance(column, Constant):
        return 0
    if isinstance(column, Periodic):
        return 2
    if isinstance(column, Discrete) and column.levels is not None and column.levels > 2:
        if not isinstance(column, Integer) or column.levels <= ONE_HOT_LEVELS:
            return column.levels
    return 1
