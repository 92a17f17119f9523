"""Two ways in which networks see a domain: a bijection to the reals, and features.

`RealView` maps a sample to d real numbers, invertibly and with its log-determinant, so that a
density on R^d becomes one in the data's own units. `Features` maps it to network inputs and need
not be invertible. Both learn their scales from the training split, in `prepare`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from likely.core.columns import (
    Binary,
    Column,
    Constant,
    Count,
    Discrete,
    Integer,
    Interval,
    Periodic,
    Positive,
    Real,
    Spin,
)
from likely.core.domain import Domain
from likely.core.errors import DataError

LOG_TWO_PI = math.log(2 * math.pi)
EDGE = 2.0**-24  # of an interval's width, as which its bounds count
LARGEST_COUNT = 2.0**62  # that is drawn; int64 holds it
FEW_LEVELS = 1 << 16  # up to which float32 resolves the cells of integers


def log_mass(low: Float[Tensor, "*n"], high: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """log(Φ(b) − Φ(a)) of the standard normal, in the tails too."""
    low, high = torch.where(low + high > 0, -high, low), torch.where(low + high > 0, -low, high)
    below, above = torch.special.log_ndtr(low), torch.special.log_ndtr(high)
    return above + (-torch.expm1(below - above)).log()


def weighted_moments(z: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each column in float64; 1 stands for a deviation of zero."""
    z = z.to(torch.float64)
    w = torch.ones(len(z), dtype=z.dtype, device=z.device) if weight is None else weight.to(z.dtype)
    w = (w / w.sum())[:, None]
    mean = (w * z).sum(0)
    std = (w * (z - mean).square()).sum(0).sqrt()
    floor = 1e-14 * z.abs().amax(0)  # rounding of the mean
    return mean, torch.where(std > floor, std, 1.0)


def to_reals(column: Column, y: Tensor) -> tuple[Tensor, Tensor]:
    """Bijection of a column, dequantised if it is discrete, to the reals; and log |slope|."""
    if isinstance(column, Positive | Count):
        z = y.clamp_min(torch.finfo(y.dtype).tiny).log()
        return z, -z
    if isinstance(column, Periodic):
        factor = 2 * math.pi / (column.high - column.low)
        return (y - column.low) * factor - math.pi, torch.full_like(y, math.log(factor))
    if isinstance(column, Interval | Discrete):
        low, width = _cells(column)
        part = (y - low) / width
        # Rounding has put a row onto a bound: the same for all types of numbers.
        part = torch.where(part <= 0, EDGE, part)
        z = torch.special.ndtri(torch.where(part >= 1, 1 - EDGE, part))
        return z, (z.square() + LOG_TWO_PI) / 2 - math.log(width)
    return y, torch.zeros_like(y)


def from_reals(column: Column, z: Tensor) -> Tensor:
    """Inverse of `to_reals`; angles may come in any turn."""
    if isinstance(column, Positive | Count):
        return z.exp()
    if isinstance(column, Periodic):
        turns = (z + math.pi) / (2 * math.pi)
        return column.low + (column.high - column.low) * (turns - turns.floor())
    if isinstance(column, Interval | Discrete):
        low, width = _cells(column)
        return low + width * torch.special.ndtr(z)
    return z


def _cells(column: Interval | Discrete) -> tuple[float, float]:
    """Lower end and width of a bounded column; discrete ones are cells of width 1 from 0 on."""
    if isinstance(column, Interval):
        return column.low, column.high - column.low
    return 0.0, float(column.levels or 1)


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

    A `linear` view leaves dequantised levels on their own scale, x + U[0, 1) in steps, with one shift
    and one scale for all columns of a kind, so that the pixels of an image stay comparable. What a
    density puts beyond the ends then counts for the outer levels when it is sampled, and for nothing
    in the bound.

    Parameters
    ----------
    domain : Domain
        With columns of the kinds above; unordered categories have no real view.
    linear : bool
        Whether integers, binary columns and spins stay linear.

    Attributes
    ----------
    dim : int
        Number of real columns d.
    exact : bool
        Whether no column is dequantised.
    periodic : Tensor of bool, shape (dim,)
        Which of them are angles.
    """

    accepts = frozenset(
        {Real, Positive, Interval, Periodic, Integer, Binary, Spin, Count, Constant}
    )
    shift: Tensor
    shift_rest: Tensor
    scale: Tensor
    periodic: Tensor
    ends: Tensor

    def __init__(self, domain: Domain, linear: bool = False) -> None:
        super().__init__()
        self.domain = domain
        self.linear = linear
        self.groups = [
            (column, index) for column, index in domain.groups if not isinstance(column, Constant)
        ]
        self.kept = sorted(i for _, index in self.groups for i in index)
        self.dim = len(self.kept)
        place = {entry: i for i, entry in enumerate(self.kept)}
        self.groups = [(column, [place[i] for i in index]) for column, index in self.groups]
        self.exact = not any(column.discrete for column, _ in self.groups)
        periodic = [isinstance(domain.column(i), Periodic) for i in self.kept]
        self.register_buffer("periodic", torch.tensor(periodic), persistent=False)
        self.register_buffer("shift", torch.zeros(self.dim))
        self.register_buffer(
            "shift_rest", torch.zeros(self.dim)
        )  # what rounding took off the shift
        self.register_buffer("scale", torch.ones(self.dim))
        ends = [_outermost(domain.column(i)) for i in self.kept]
        self.register_buffer("ends", torch.tensor(ends).reshape(-1, 2).T, persistent=False)

    def _unbounded(self, x: Tensor, at: float | None = None) -> tuple[Tensor, Tensor]:
        """Kept columns on the real line before standardisation, and log |slope| of each.

        Discrete values stand `at` a part of their cells, or anywhere in them at random.
        """
        y = floating(x.flatten(1), self.shift.dtype, *(column for column, _ in self.groups))
        y = y if self.dim == self.domain.size else y[:, self.kept]
        if len(self.groups) == 1:
            column = self.groups[0][0]
            return to_reals(self._scale_of(column), _dequantised(column, y, at))
        z, log_slope = torch.empty_like(y), torch.empty_like(y)
        for column, index in self.groups:
            part = _dequantised(column, y[:, index], at)
            z[:, index], log_slope[:, index] = to_reals(self._scale_of(column), part)
        return z, log_slope

    def _scale_of(self, column: Column) -> Column:
        """The column whose bijection is taken."""
        return Real() if self._stays_linear(column) else column

    def _stays_linear(self, column: Column) -> bool:
        return self.linear and isinstance(column, Discrete) and column.levels is not None

    def prepare(self, x: Shaped[Tensor, "n *shape"], weight: Tensor | None = None) -> None:
        """Take shift and scale from rows of the training split."""
        mean, std = weighted_moments(self._unbounded(x)[0], weight)
        for column, index in self.groups:
            if self._stays_linear(column):
                together = mean[index].mean()
                std[index] = (std[index].square() + (mean[index] - together).square()).mean().sqrt()
                mean[index] = together
        shift = torch.where(self.periodic, 0.0, mean)
        scale = torch.where(self.periodic, 1.0, std)
        refuse_out_of_range(self.domain, self.kept, shift, scale, self.shift.dtype)
        self.shift.copy_(shift)
        self.shift_rest.copy_(shift - self.shift)
        self.scale.copy_(scale)

    def forward(
        self, x: Shaped[Tensor, "n *shape"]
    ) -> tuple[Float[Tensor, "n dim"], Float[Tensor, " n"]]:
        """Standardised real columns, and the log-determinant of the map to them.

        Everything is computed in the type of x, so that large offsets lose nothing before they are
        taken off, and returned in the type of the model.
        """
        z, log_slope = self._standardised(x)
        return z.to(self.shift.dtype), log_slope.sum(1).to(self.shift.dtype)

    def cells(
        self, x: Shaped[Tensor, "n *shape"]
    ) -> tuple[Float[Tensor, "3 n dim"], Float[Tensor, " n"]]:
        """The view without dequantisation: discrete values are cells.

        Lower end, middle and upper end of what each value stands for, which are all the same for a
        continuous one, and the log-determinant of the continuous columns. The outermost cells reach
        to infinity. In the type in which they were computed: cells of large counts are narrow.
        """
        low, high = (self._standardised(x, at)[0] for at in (0.0, 1.0))
        middle, log_slope = self._standardised(x, 0.5)
        value = x.flatten(1)[:, self.kept]
        low = torch.where(value <= self.ends[0], -math.inf, low)
        high = torch.where(value >= self.ends[1], math.inf, high)
        log_det = torch.where(self.discrete, 0.0, log_slope).sum(1)
        return torch.stack([low, middle, high]), log_det.to(self.shift.dtype)

    @property
    def discrete(self) -> Bool[Tensor, " dim"]:
        """Which columns are dequantised."""
        return self.ends[0].isfinite()

    def _standardised(self, x: Tensor, at: float | None = None) -> tuple[Tensor, Tensor]:
        """Kept columns after standardisation, and log |slope| of each; `at` as in `_unbounded`."""
        z, log_slope = self._unbounded(x, at)
        z = (z - self.shift.to(z) - self.shift_rest.to(z)) / self.scale.to(z)
        return z, log_slope - self.scale.to(z).log()

    def inverse(self, z: Float[Tensor, "n dim"]) -> Shaped[Tensor, "n *shape"]:
        """The sample whose view is `z`; dequantised columns are rounded down to their level.

        Computed in float64, and returned in the type of the model where that resolves the columns.
        """
        dtype = self.shift.dtype
        shift, scale = self.shift.double() + self.shift_rest, self.scale.double()
        low, high, z = shift - scale, shift + scale, z * scale + shift
        for column, index in self.groups:
            ends = (from_reals(self._scale_of(column), end[index]) for end in (low, high))
            dtype = resolving(dtype, *ends)
        y = torch.empty_like(z)
        for column, index in self.groups:
            y[:, index] = _quantised(
                column, from_reals(self._scale_of(column), z[:, index]), torch.finfo(dtype)
            )
        if self.dim < self.domain.size:
            full = self.domain.anchor.flatten().to(y).repeat(len(y), 1)
            full[:, self.kept] = y
            y = full
        y = y.reshape(len(y), *self.domain.shape)
        return y.to(torch.int64 if self.domain.discrete else dtype)


def resolving(dtype: torch.dtype, low: Tensor, high: Tensor) -> torch.dtype:
    """`dtype`, or float64 where it is too coarse for some column whose bulk spans [low, high].

    That is where rounding exceeds 1e-4 of half the span, a standard deviation, say: for times in
    seconds since 1970 with a spread below three weeks. Or where numbers are too large for it, or too
    small.
    """
    info, largest = torch.finfo(dtype), torch.maximum(low.abs(), high.abs())
    rounding = info.eps * largest.clamp_min(info.tiny)
    too_coarse = (rounding > 1e-4 * (high - low) / 2) | (largest > info.max)
    return torch.float64 if too_coarse.any() else dtype


def floating(x: Tensor, dtype: torch.dtype, *columns: Column) -> Tensor:
    """Integers as numbers of `dtype`, or of float64 if there may be too many for it in a column."""
    if x.is_floating_point():
        return x
    few = all(isinstance(c, Discrete) and (c.levels or math.inf) <= FEW_LEVELS for c in columns)
    return x.to(dtype if few else torch.float64)


def refuse_out_of_range(
    domain: Domain, entries: Sequence[int], shift: Tensor, scale: Tensor, dtype: torch.dtype
) -> None:
    """Raise a `DataError` where a column is so large or so small that `dtype` cannot hold its scale."""
    info = torch.finfo(dtype)
    good = (shift.abs() <= info.max) & (scale <= info.max) & (scale >= info.tiny)
    for i in good.logical_not().nonzero()[:1, 0].tolist():
        raise DataError(
            f"column {domain.name(entries[i])}: its mean {shift[i].item():.3g} or its standard deviation "
            f"{scale[i].item():.3g} is beyond what {str(dtype)[6:]} holds: rescale it"
        )


def _outermost(column: Column) -> tuple[float, float]:
    """The lowest and the highest value of a discrete column."""
    if not isinstance(column, Discrete):
        return -math.inf, math.inf
    if column.levels is None:
        return column.low, math.inf
    return column.low, column.low + column.step * (column.levels - 1)


def _dequantised(column: Column, x: Tensor, at: float | None = None) -> Tensor:
    """A discrete column's code plus a part of a cell, uniform noise by default."""
    if not isinstance(column, Discrete):
        return x
    return (x - column.low) / column.step + (torch.rand_like(x) if at is None else at)


def _quantised(column: Column, y: Tensor, info: torch.finfo) -> Tensor:
    """The value of a column that y stands for: of a discrete one the level of the cell.

    `info` is that of the numbers that are to hold it.
    """
    if isinstance(column, Interval):
        return y.clamp(column.low, column.high)
    if isinstance(column, Positive):
        return y.clamp(info.tiny, info.max)
    if not isinstance(column, Discrete):
        return y
    top = LARGEST_COUNT if column.levels is None else column.levels - 1
    return column.low + column.step * y.floor().clamp(0, top)


def has_few_levels(column: Column) -> bool:
    """Whether a column is of integers that are few enough to be seen level by level."""
    return isinstance(column, Integer) and (column.levels or 0) <= 64


def cosine_basis(levels: int) -> Float[Tensor, "levels functions"]:
    """Functions √2 cos(π j (l + ½)/k)/j² of k ordered levels l, for j = 1 … k − 1.

    With a constant they span all functions of the level. Since the smooth ones are the largest, a
    network whose inputs they are, or whose outputs multiply them, tries those first, and overfits
    much less than with one-hot vectors.
    """
    level = torch.arange(levels, dtype=torch.float64)[:, None] + 0.5
    j = torch.arange(1, levels)
    basis = math.sqrt(2) * torch.cos(math.pi * j * level / levels) / j.square()
    return basis.to(torch.get_default_dtype())


class Features(nn.Module):
    """Network inputs of a domain, column by column.

    Continuous columns, counts and wide integers become one standardised number (positive ones and
    counts after a logarithm), periodic columns (cos, sin), so that nothing jumps at the seam,
    integers of at most 64 levels the functions of `cosine_basis`, categories a one-hot vector,
    binary columns and spins ±1, constants nothing.

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
        for column in domain.columns:
            if isinstance(column, Integer) and has_few_levels(column):
                basis = cosine_basis(column.levels or 0)
                self.register_buffer(f"basis{column.levels}", basis, persistent=False)

    @property
    def size(self) -> int:
        return sum(self.sizes)

    def prepare(self, x: Shaped[Tensor, "n *shape"], weight: Tensor | None = None) -> None:
        """Take shifts and scales from rows of the training split."""
        flat = x.flatten(1)
        for column, index in self.domain.groups:
            mean, std = weighted_moments(_logarithm(flat[:, index], column), weight)
            refuse_out_of_range(self.domain, index, mean, std, self.shift.dtype)
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
        part = self._encode(x[:, None], self.domain.column(index), self.shift[at], self.scale[at])
        return part.flatten(1).to(self.shift.dtype)

    def _encode(self, x: Tensor, column: Column, shift: Tensor, scale: Tensor) -> Tensor:
        """Features of columns of one kind, shape (n, columns, features of one)."""
        if isinstance(column, Constant):
            return x.new_empty(*x.shape, 0)
        if isinstance(column, Periodic):
            angle = (x - column.low) * (2 * math.pi / (column.high - column.low))
            return torch.stack([angle.cos(), angle.sin()], -1)
        if isinstance(column, Discrete) and column.levels is not None:
            code = (x - column.low) / column.step
            if column.levels == 2:
                return (2 * code - 1)[..., None]
            if has_few_levels(column):
                return getattr(self, f"basis{column.levels}")[code.long()]
            if not isinstance(column, Integer):
                levels = torch.arange(column.levels, device=x.device)
                return (code[..., None] == levels).to(shift.dtype)
        y = _logarithm(x, column)
        return ((y - shift.to(y)) / scale.to(y))[..., None]


def _logarithm(x: Tensor, column: Column) -> Tensor:
    """Positive columns and counts on a logarithmic scale, the rest as it is, in floating point."""
    y = floating(x, torch.get_default_dtype(), column)
    if isinstance(column, Positive):
        return y.log()
    return y.log1p() if isinstance(column, Count) else y


def _feature_size(domain: Domain, index: int) -> int:
    column = domain.column(index)
    if isinstance(column, Constant):
        return 0
    if isinstance(column, Periodic):
        return 2
    if isinstance(column, Discrete) and column.levels not in (None, 2):
        if has_few_levels(column):
            return column.levels - 1
        if not isinstance(column, Integer):
            return column.levels
    return 1
