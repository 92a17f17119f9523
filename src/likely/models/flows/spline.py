"""Rational-quadratic splines on an interval or a circle.

Durkan, Bekasov, Murray & Papamakarios, Neural spline flows (2019), arXiv:1906.04032, and for circles
Rezende et al., Normalizing flows on tori and spheres (2020), arXiv:2002.02428. Between the knots
(x_k, y_k) and (x_{k+1}, y_{k+1}), with w and h their distances, s = h/w, ξ = (x − x_k)/w and slopes
d_k at the knots,

    y = y_k + h [s ξ² + d_k ξ(1 − ξ)] / β,      β = s + (d_k + d_{k+1} − 2s) ξ(1 − ξ),
    dy/dx = s² [d_{k+1} ξ² + 2s ξ(1 − ξ) + d_k (1 − ξ)²] / β²                        (eqs. 4 and 5).

Outside the interval a spline on the line is the identity.

A layer spends its time on passes over arrays of `bins` numbers for each value, so there are few of
them: only the bin that holds the value is worked out, its derivatives are written down in
`likely.nets.fast`, and the arrays have the rows last, where they are contiguous. Lengths are in units
of the least bin, in which all intervals are [−HALF, HALF].
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from likely.models.flows.transforms import Parameters, Values
from likely.nets.fast import SplineValues

MIN_BIN = 1e-3  # smallest width and height of a bin, as a part of the interval
HALF = 0.5 / MIN_BIN
MIN_SLOPE = 1e-3
IDENTITY = math.log(math.expm1(1 - MIN_SLOPE))  # softplus of this gives slope 1


class Bins(NamedTuple):
    """The bins that hold some values; where there is a second dimension of 2, it is (x, y).

    Lengths are in units of the least bin.
    """

    fractions: Float[Tensor, "entries 2 bins n"]  # of all bins: softmax of the logits
    passed: Float[Tensor, "entries bins-1 n"]  # 1 for inner knots up to the left one, else 0
    fraction: Float[Tensor, "entries 2 n"]  # of this bin
    before: Float[Tensor, "entries 2 n"]  # sum of the fractions before
    left: Float[Tensor, "entries 2 n"]  # knot
    width: Float[Tensor, "entries 2 n"]
    knots: Int[Tensor, "entries 2 n"]  # numbers of the left and the right one; the last counts as 0
    free: Float[Tensor, "entries 2 n"]  # 0 for those whose slope is fixed: the ends of a line
    slopes: Float[Tensor, "entries 2 n"]  # there


class Curve(NamedTuple):
    """The terms of eqs. 4 and 5, of shape (entries, n)."""

    s: Tensor
    xi: Tensor
    eta: Tensor  # 1 − ξ
    xi2: Tensor  # squares
    eta2: Tensor
    product: Tensor  # ξη
    bend: Tensor  # d_k + d_{k+1} − 2s
    beta: Tensor
    top: Tensor  # of eq. 5, over s²
    rise: Tensor  # (y − y_k)/h
    slope: Tensor


class RationalQuadraticSpline(nn.Module):
    """A spline for each entry, with parameters from a network; zero parameters give the identity.

    Parameters
    ----------
    periodic : Tensor of bool, shape (entries,)
        Which entries are angles in [−π, π); those also get a rotation.
    bins : int
    bound : float
        The spline of an entry on the line acts on [−bound, bound].

    Attributes
    ----------
    size : int
        Number of parameters of an entry.
    """

    min_slope = MIN_SLOPE
    periodic: Tensor

    def __init__(
        self, periodic: Bool[Tensor, " entries"], bins: int = 8, bound: float = 5.0
    ) -> None:
        super().__init__()
        self.bins, self.bound = bins, bound
        self.rest = 2 * HALF - bins  # what the bins share by their fractions, beside 1 for each
        self.periodic = nn.Buffer(periodic, persistent=False)
        # Of the knots between the first and the last, and of those of a bin, from the left one on.
        self.numbers = nn.Buffer(torch.arange(1.0, bins)[:, None], persistent=False)
        self.sides = nn.Buffer(torch.tensor([[0.0], [1.0]]), persistent=False)
        self.circles = bool(periodic.any())
        # On the line the slopes at the two ends are 1; on a circle they are equal, and there is a rotation.
        self.size = 3 * bins + 1 if self.circles else 3 * bins - 1
        self.first_slope = 2 * bins if self.circles else 2 * bins - 1  # on the line it is not used

    def forward(self, x: Values, parameters: Parameters) -> tuple[Values, Values]:
        """Values of the splines, and the logarithms of their slopes."""
        y, log_slope, *_ = SplineValues.apply(x.contiguous(), parameters.contiguous(), self)
        return y, log_slope

    def plain(self, x: Values, parameters: Parameters) -> tuple[Tensor, Tensor, Bins, Curve]:
        """The same, and the terms that enter; their derivatives are left to torch."""
        at, inside, unit = self.within(x, self.periodic)
        inside = inside.to(x)
        bins = self._bins(0, at, parameters, self.periodic)
        curve = _curve(at, bins)
        y = torch.lerp(x, unit * (bins.left[:, 1] + bins.width[:, 1] * curve.rise), inside)
        if self.circles:
            y = torch.where(self.periodic[:, None], wrap(y + parameters[:, -1]), y)
        return y, inside * curve.slope.log(), bins, curve

    @staticmethod
    def terms(parts: Sequence[Tensor]) -> tuple[Bins, Curve]:
        """The terms of `plain` from one sequence of them all."""
        count = len(Bins._fields)
        return Bins(*parts[:count]), Curve(*parts[count:])

    def inverse(self, y: Values, parameters: Parameters, entries: slice = slice(None)) -> Values:
        """Arguments at which the splines of `entries` take the values y (eqs. 6 to 8)."""
        theta, periodic = parameters, self.periodic[entries]
        if self.circles:
            y = torch.where(periodic[:, None], wrap(y - theta[:, -1]), y)
        at, inside, unit = self.within(y, periodic)
        bins = self._bins(1, at, theta, periodic)
        (x_k, y_k), (w, h), (d, d1) = _parts(bins)
        s = h / w
        rise = (at - y_k).clamp_min(0)
        b = torch.addcmul(h * d, rise, torch.sub(d + d1, s, alpha=2), value=-1)
        a, minus_c = h * s - b, s * rise
        # Rounding may push a vanishing discriminant below zero.
        root = torch.addcmul(b * b, a, minus_c, value=4).clamp_min(0).sqrt()
        x = torch.addcmul(x_k, w, minus_c / (b + root), value=2)
        return torch.where(inside, x * unit, y)

    def within(self, x: Tensor, periodic: Tensor) -> tuple[Tensor, Tensor, Tensor | float]:
        """x within its interval, in units; whether that changed nothing; and the unit."""
        if not self.circles:
            at = x.clamp(-self.bound, self.bound)
            return at / (self.bound / HALF), at == x, self.bound / HALF
        circle = periodic[:, None]
        half = torch.where(circle, x.new_tensor(math.pi), self.bound)
        at, unit = x.clamp(-half, half), half / HALF
        return at / unit, (at == x) | circle, unit

    def _bins(
        self, axis: int, at: Values, theta: Parameters, periodic: Bool[Tensor, " entries"]
    ) -> Bins:
        """The bins that hold values of x (axis 0) or y (axis 1), in units and within ±HALF."""
        K = self.bins
        fractions = theta[:, : 2 * K].unflatten(1, (2, K)).contiguous().softmax(2)
        sides = self.sides.to(at)  # 0 and 1
        inner = fractions[:, axis, :-1].cumsum(1)
        inner = torch.add(self.numbers.to(at), inner, alpha=self.rest)
        passed = (inner <= (at + HALF)[:, None]).to(at)
        k = passed.sum(1, keepdim=True)
        numbers = k + sides
        numbers = numbers * (numbers < K)
        knots, free = numbers.long(), numbers.clamp(max=1)
        pick = knots[:, :1, None].expand(-1, 2, -1, -1)
        fraction = fractions.gather(2, pick)[:, :, 0]
        before = (fractions[:, :, :-1] * passed[:, None]).sum(2)
        left = torch.add(k - HALF, before, alpha=self.rest)
        width = torch.add(sides[1], fraction, alpha=self.rest)
        if self.circles:
            free = torch.maximum(free, periodic[:, None, None].to(free))
        raw = theta[:, self.first_slope :][:, :K].gather(1, knots)
        slopes = F.softplus(raw * free + IDENTITY) + MIN_SLOPE
        return Bins(fractions, passed, fraction, before, left, width, knots, free, slopes)


def _curve(x: Tensor, bins: Bins) -> Curve:
    (x_k, _), (w, h), (d, d1) = _parts(bins)
    s = h / w
    xi = ((x - x_k) / w).clamp(0, 1)  # knots are summed up twice, and rounded differently
    eta = 1 - xi
    xi2, eta2, product = xi.square(), eta.square(), xi * eta
    bend = torch.sub(d + d1, s, alpha=2)
    beta = torch.addcmul(s, bend, product)
    top = (d1 * xi2).addcmul(d, eta2).addcmul(s, product, value=2)
    rise = (s * xi2).addcmul(d, product) / beta
    return Curve(s, xi, eta, xi2, eta2, product, bend, beta, top, rise, (s / beta).square() * top)


def _parts(bins: Bins) -> list[tuple[Tensor, ...]]:
    """Left knots, widths and slopes, each a pair."""
    return [part.unbind(1) for part in (bins.left, bins.width, bins.slopes)]


def wrap(angle: Tensor) -> Tensor:
    """The angle in [−π, π)."""
    return torch.remainder(angle + math.pi, 2 * math.pi) - math.pi
