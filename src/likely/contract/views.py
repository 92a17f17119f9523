"""Two ways in which networks see a domain: real numbers with a density, and features.

`RealView` maps a sample to d real numbers, invertibly and with its log-determinant, so that a
density on R^d becomes one in the data's own units. `Features` maps it to network inputs and need
not be invertible. Both use the charts of the columns, and learn scales from the training split, in
`prepare`.
"""

import math
from collections.abc import Sequence, Sized
from itertools import accumulate
from typing import Literal, TypeGuard

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from likely.core.columns import Categorical, Column, Integer, Maybe
from likely.core.domain import Domain
from likely.core.errors import DataError, DomainError
from likely.core.kinds import KINDS

LOG_TWO_PI = math.log(2 * math.pi)
RESOLVED_LEVELS = 1 << 16  # up to which float32 resolves the cells of integers

Rows = Shaped[Tensor, "n *shape"]  # in the units of a domain
Place = Tensor | float | None  # in the cell of a level
Chart = Literal["bijections", "affine", "pooled", "plain", "pixels"]


def log_mass(low: Float[Tensor, "*n"], high: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """log(Φ(b) − Φ(a)) of the standard normal, in the tails too."""
    low, high = torch.where(low + high > 0, -high, low), torch.where(low + high > 0, -low, high)
    below, above = torch.special.log_ndtr(low), torch.special.log_ndtr(high)
    return above + (-torch.expm1(below - above)).log()


def weighted_moments(z: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each column in float64; 1 stands for a deviation of zero.

    NaN stands for a missing entry, which does not count.
    """
    z = z.to(torch.float64)
    w = torch.ones(len(z), dtype=z.dtype, device=z.device) if weight is None else weight.to(z.dtype)
    missing = z.isnan()
    w = torch.where(missing, 0.0, w[:, None])
    w, z = w / torch.where(missing.all(0), 1.0, w.sum(0)), torch.where(missing, 0.0, z)
    mean = (w * z).sum(0)
    std = (w * (z - mean).square()).sum(0).sqrt()
    floor = 1e-14 * z.abs().amax(0)  # rounding of the mean
    return mean, torch.where(std > floor, std, 1.0)


class RealView(nn.Module):
    """From the columns of a domain to R^d and back, with the log-determinant.

    Each column passes its chart, and is then standardised.

    =============  ===========================================================================
    real           x
    positive       log x
    interval       Φ⁻¹((x − a)/(b − a))
    periodic       2π (x − a)/(b − a) − π, an angle that is never scaled or shifted
    integer        dequantised: an interval of `levels` unit cells, x + U[0, 1)
    binary, spin   the same with two cells
    count          dequantised: log(x + U[0, 1))
    constant       left out
    =============  ===========================================================================

    Dequantisation turns a density into a lower bound: log P(x) ≥ E_u log p(x + u)
    (Theis, van den Oord & Bethge 2016, arXiv:1511.01844, eq. 3).

    For finitely many levels, such as the pixels of an image, a chart may instead be affine, so that
    equal steps stay equal. What a density puts beyond the outer levels then counts for these when it
    is sampled, and for nothing in the bound.

    Parameters
    ----------
    domain : Domain
        With columns of the kinds above; unordered categories have no real view.
    chart : {"bijections", "affine", "pooled", "plain", "pixels"}
        What happens to bounded columns.

        - "bijections": the table above.
        - "affine": levels become (x + U[0, 1))/levels − ½, which is x/2ᵇ − ½ for pixels of b bits.
        - "pooled": levels become x + U[0, 1), with one shift and one scale for all columns of a kind.
        - "plain": levels become x + U[−½, ½), each with its own shift and scale, and intervals
          stay x. This one is for generators without a density, which would leak out of an interval;
          the bijection would carry what lies exactly on a bound, such as black pixels, far away
          from the rest.
        - "pixels": the same with one shift and one scale for all columns of a kind, since only then
          is a picture that is moved one of its kind, and a border that hardly varies no noise.

    Raises
    ------
    DomainError
        If every column is constant.

    Attributes
    ----------
    dim : int
        Number of real columns d.
    exact : bool
        Whether no column is dequantised.
    periodic : Tensor of bool, shape (dim,)
        Which of them are angles.
    """

    accepts = frozenset(KINDS) - {Categorical}

    def __init__(self, domain: Domain, chart: Chart = "bijections") -> None:
        super().__init__()
        domain = domain.present  # NaN passes through
        self.domain, self.chart = domain, chart
        self.kept = [i for i in range(domain.size) if domain.column(i).coordinates]
        check_variable(self.kept)
        self.dim = len(self.kept)
        place = {entry: i for i, entry in enumerate(self.kept)}
        groups = [(c, [place[i] for i in index]) for c, index in domain.groups if c.coordinates]
        self.groups = sorted(groups, key=lambda group: not self._affine(group[0]))
        columns = [domain.column(i) for i in self.kept]
        self.exact = not any(column.discrete for column in columns)
        self.periodic = nn.Buffer(torch.tensor([c.periodic for c in columns]), persistent=False)
        self.shift = nn.Buffer(torch.zeros(self.dim))
        # What rounding took off the shift.
        self.shift_rest = nn.Buffer(torch.zeros(self.dim))
        self.scale = nn.Buffer(torch.ones(self.dim))
        ends = [c.ends if c.discrete else (-math.inf, math.inf) for c in columns]
        self.ends = nn.Buffer(torch.tensor(ends).T, persistent=False)
        self.affine = nn.Buffer(torch.tensor([self._affine(c) for c in columns]), persistent=False)
        self.any_affine = bool(self.affine.any())
        # No buffer, since its type must not change with the model's.
        self.cell_ends = torch.tensor([self._cells(column) for column in columns]).double().T

    def _affine(self, column: Column) -> bool:
        """Whether a column is only shifted and scaled though it has two ends."""
        levels = self.chart in ("affine", "pooled") and column.discrete
        return column.bounded and (levels or self.chart in ("plain", "pixels"))

    def _centre(self, column: Column) -> float:
        """Where a level lies in its cell."""
        return 0.5 if self.chart in ("plain", "pixels") and self._affine(column) else 0.0

    def _cells(self, column: Column) -> tuple[float, float]:
        """Where the cells of an affine column begin and end on its own scale."""
        low, high = column.ends if self._affine(column) else (0.0, 1.0)
        centre = self._centre(column)
        return low - centre * column.step, high + (1 - centre) * column.step

    def _to_reals(self, column: Column, x: Tensor, at: Place) -> tuple[Tensor, Tensor]:
        y = column.dequantise(x, at, self._centre(column))
        if not self._affine(column):
            return column.to_reals(y)
        return y, torch.full_like(y, math.log(column.step or 1))

    def _from_reals(self, column: Column, z: Tensor) -> Tensor:
        return z if self._affine(column) else column.from_reals(z)

    def _unscaled(self, x: Tensor, at: Place = None) -> tuple[Tensor, Tensor]:
        """Kept columns on the real line before standardisation, and log |slope| of each.

        Discrete values stand `at` a part of their cells, one of each column's or the same everywhere, or
        anywhere in them at random.
        """
        y = floating(x.flatten(1), self.shift.dtype, *(column for column, _ in self.groups))
        y = y if self.dim == self.domain.size else y[:, self.kept]
        if len(self.groups) == 1:
            return self._to_reals(self.groups[0][0], y, at)
        z, log_slope = torch.empty_like(y), torch.empty_like(y)
        for column, index in self.groups:
            place = at[:, index] if isinstance(at, Tensor) else at
            z[:, index], log_slope[:, index] = self._to_reals(column, y[:, index], place)
        return z, log_slope

    def prepare(self, x: Rows, weight: Tensor | None = None) -> None:
        """Take shift and scale from rows of the training split; all sites of a lattice share theirs."""
        shift, scale = weighted_moments(self._unscaled(x)[0], weight)
        for column, index in self.groups:
            if column.periodic:
                shift[index], scale[index] = 0.0, 1.0
            elif (
                self.domain.layout == "lattice"
                or self.chart == "pixels"
                or (self.chart == "pooled" and self._affine(column))
            ):
                together = shift[index].mean()
                variance = scale[index].square() + (shift[index] - together).square()
                shift[index], scale[index] = together, variance.mean().sqrt()
            elif self.chart == "affine" and self._affine(column):
                low, high = self._cells(column)
                shift[index], scale[index] = (low + high) / 2, high - low
        check_range(self.domain, self.kept, shift, scale, self.shift.dtype)
        self.shift.copy_(shift)
        self.shift_rest.copy_(shift - self.shift)
        self.scale.copy_(scale)

    def forward(
        self, x: Rows, at: Place = None
    ) -> tuple[Float[Tensor, "n dim"], Float[Tensor, " n"]]:
        """Standardised real columns, and the log-determinant of the map to them.

        Discrete values stand `at` a part of their cells: 0 to 1, the same for all, or of shape (n, dim);
        None draws it uniformly.

        Everything is computed in the type of x, so that large offsets lose nothing before they are
        taken off, and returned in the type of the model.
        """
        z, log_slope = self.standardised(x, at)
        return z.to(self.shift.dtype), log_slope.sum(1).to(self.shift.dtype)

    def cells(self, x: Rows) -> tuple[Float[Tensor, "3 n dim"], Float[Tensor, " n"]]:
        """The view without dequantisation: discrete values are cells.

        Lower end, middle and upper end of what each value stands for, which are all the same for a
        continuous one, and the log-determinant of the continuous columns. The outermost cells reach
        to infinity. In the type in which they were computed: cells of large counts are narrow.
        """
        low, high = (self.standardised(x, at)[0] for at in (0.0, 1.0))
        middle, log_slope = self.standardised(x, 0.5)
        value = x.flatten(1)[:, self.kept]
        low = torch.where(value <= self.ends[0], -math.inf, low)
        high = torch.where(value >= self.ends[1], math.inf, high)
        log_det = torch.where(self.discrete, 0.0, log_slope).sum(1)
        return torch.stack([low, middle, high]), log_det.to(self.shift.dtype)

    @property
    def discrete(self) -> Bool[Tensor, " dim"]:
        """Which columns are dequantised."""
        return self.ends[0].isfinite()

    def standardised(self, x: Tensor, at: Place = None) -> tuple[Tensor, Tensor]:
        """Kept columns after standardisation, and log |slope| of each; `at` as in `forward`."""
        z, log_slope = self._unscaled(x, at)
        z = (z - self.shift.to(z) - self.shift_rest.to(z)) / self.scale.to(z)
        return z, log_slope - self.scale.to(z).log()

    def squash(self, y: Float[Tensor, "n dim"]) -> Float[Tensor, "n dim"]:
        """Real columns from any numbers: a logistic function keeps affine ones within their ends."""
        if not self.any_affine:
            return y
        shift = self.shift.double() + self.shift_rest
        low, high = ((self.cell_ends.to(shift) - shift) / self.scale).to(y.dtype)
        return torch.where(self.affine, low + (high - low) * y.sigmoid(), y)

    def inverse(self, z: Float[Tensor, "n dim"], *, rounded: bool = True) -> Rows:
        """The sample whose view is `z`; dequantised columns go to the level of their cell.

        Computed in float64, and returned in the type of the model where that resolves the columns. What
        is not `rounded` is differentiable everywhere: levels are real numbers, and nothing is cut off.
        """
        dtype = self.shift.dtype
        shift, scale = self.shift.double() + self.shift_rest, self.scale.double()
        low, high, z = shift - scale, shift + scale, z * scale + shift
        for column, index in self.groups:
            ends = (self._from_reals(column, end[index]) for end in (low, high))
            dtype = resolving(dtype, *ends)
        y = torch.empty_like(z)
        for column, index in self.groups:
            part = self._from_reals(column, z[:, index])
            centre = self._centre(column)
            if rounded:
                part = column.quantise(part, torch.finfo(dtype), centre)
            elif column.discrete:
                part = part + column.step * (centre - 0.5)
            y[:, index] = part
        if self.dim < self.domain.size:
            full = self.domain.anchor.flatten().to(y).repeat(len(y), 1)
            full[:, self.kept] = y
            y = full
        y = y.reshape(len(y), *self.domain.shape)
        return y.to(torch.int64 if rounded and self.domain.discrete else dtype)


def check_variable(columns: Sized) -> None:
    """Raise a `DomainError` where no column is left that varies."""
    if not len(columns):
        raise DomainError("every column of the data is constant: there is nothing to learn")


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
    few = all(c.discrete and c.ends[1] - c.ends[0] < RESOLVED_LEVELS for c in columns)
    return x.to(dtype if few else torch.float64)


def check_range(
    domain: Domain, entries: Sequence[int], shift: Tensor, scale: Tensor, dtype: torch.dtype
) -> None:
    """Raise a `DataError` where a column is so large or so small that `dtype` cannot hold its scale."""
    info = torch.finfo(dtype)
    good = (shift.abs() <= info.max) & (scale <= info.max) & (scale >= info.tiny)
    for i in good.logical_not().nonzero()[:1, 0].tolist():
        name, size = domain.name(entries[i]), f"mean {shift[i]:.3g} or deviation {scale[i]:.3g}"
        raise DataError(f"column {name}: its {size} is beyond {str(dtype)[6:]}: rescale it")


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
    binary columns and spins ±1, constants nothing. Columns that may be missing have an indicator of that as
    well, and zeros in place of what is missing.

    Parameters
    ----------
    domain : Domain
        Any domain.

    Attributes
    ----------
    sizes : list of int
        Number of features of each entry.
    """

    def __init__(self, domain: Domain) -> None:
        super().__init__()
        self.domain = domain
        self.shift = nn.Buffer(torch.zeros(domain.size))
        self.scale = nn.Buffer(torch.ones(domain.size))
        for column in domain.columns:
            if _seen_by_level(kind := column.present):
                basis = cosine_basis(kind.levels or 0)
                self.register_buffer(f"basis{kind.levels}", basis, persistent=False)
        self.sizes = [0] * domain.size
        one = domain.anchor.reshape(1, -1)
        for column, index in domain.groups:
            size = self._encode(one[:, index[:1]], column, self.shift[:1], self.scale[:1]).shape[-1]
            for i in index:
                self.sizes[i] = size
        starts = [0, *accumulate(self.sizes)]
        self._out = [
            [slot for i in index for slot in range(starts[i], starts[i + 1])]
            for _, index in domain.groups
        ]

    @property
    def size(self) -> int:
        return sum(self.sizes)

    def prepare(self, x: Rows, weight: Tensor | None = None) -> None:
        """Take shifts and scales from rows of the training split."""
        flat = x.flatten(1)
        for column, index in self.domain.groups:
            y = floating(flat[:, index], torch.get_default_dtype(), column)
            mean, std = weighted_moments(column.present.natural_scale(y), weight)
            check_range(self.domain, index, mean, std, self.shift.dtype)
            self.shift[index] = mean.to(self.shift)
            self.scale[index] = std.to(self.scale)

    def forward(self, x: Rows) -> Float[Tensor, "n features"]:
        flat = x.flatten(1)
        dtype = self.shift.dtype
        if len(self._out) == 1:
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
        if isinstance(column, Maybe):
            missing = x.isnan()
            part = self._encode(x.masked_fill(missing, column.anchor), column.of, shift, scale)
            part = part.masked_fill(missing[..., None], 0.0)
            return torch.cat([part, missing[..., None].to(part)], -1)
        if _seen_by_level(column):
            return getattr(self, f"basis{column.levels}")[column.code(x).long()]
        return column.features(floating(x, torch.get_default_dtype(), column), shift, scale)


class Columns(nn.Module):
    """The standardised columns of a `RealView`, in place of `Features`: one number of each entry."""

    def __init__(self, domain: Domain, chart: Chart) -> None:
        super().__init__()
        self.view = RealView(domain, chart)

    @property
    def size(self) -> int:
        return self.view.dim

    def prepare(self, x: Rows, weight: Tensor | None = None) -> None:
        self.view.prepare(x, weight)

    def forward(self, x: Rows) -> Float[Tensor, "n columns"]:
        return self.view(x, 0.5)[0]


def _seen_by_level(column: Column) -> TypeGuard[Integer]:
    return isinstance(column, Integer) and column.few and column.levels != 2
