"""Rational-quadratic splines on an interval or a circle.

Durkan, Bekasov, Murray & Papamakarios, Neural spline flows (2019), arXiv:1906.04032, and for circles
Rezende et al., Normalizing flows on tori and spheres (2020), arXiv:2002.02428. Between the knots
(x_k, y_k) and (x_{k+1}, y_{k+1}), with w and h their distances, s = h/w, ξ = (x − x_k)/w and slopes
d_k at the knots,

    y = y_k + h [s ξ² + d_k ξ(1 − ξ)] / β,      β = s + (d_k + d_{k+1} − 2s) ξ(1 − ξ),
    dy/dx = s² [d_{k+1} ξ² + 2s ξ(1 − ξ) + d_k (1 − ξ)²] / β²                        (eqs. 4 and 5).

Outside the interval a spline on the line is the identity.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

LEAST_BIN = 1e-3  # smallest width and height of a bin, as a part of the interval
LEAST_SLOPE = 1e-3
IDENTITY = math.log(math.expm1(1 - LEAST_SLOPE))  # softplus of this gives slope 1


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

    periodic: Tensor

    def __init__(
        self, periodic: Bool[Tensor, " entries"], bins: int = 8, bound: float = 5.0
    ) -> None:
        super().__init__()
        if bins < 1 or not bound > 0:
            raise ValueError(f"a spline needs bins ≥ 1 and bound > 0, not {bins} and {bound}")
        self.bins, self.bound = bins, bound
        self.register_buffer("periodic", periodic, persistent=False)
        self.circles = bool(periodic.any())
        # On the line the slopes at the two ends are 1; on a circle they are equal, and there is a rotation.
        self.size = 3 * bins + 1 if self.circles else 3 * bins - 1

    def _knots(
        self, parameters: Tensor, periodic: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | float]:
        """Positions and values of the knots and slopes there, (n, entries, bins + 1), and half-widths."""
        K = self.bins
        logits = parameters[..., : 2 * K].unflatten(-1, (2, K))
        # A softmax; torch's own is three times slower on so few numbers.
        weights = (logits - logits.detach().amax(-1, keepdim=True)).exp()
        fractions = LEAST_BIN + (1 - LEAST_BIN * K) * weights / weights.sum(-1, keepdim=True)
        edges = F.pad(fractions.cumsum(-1), (1, 0))
        edges = torch.cat([edges[..., :-1], torch.ones_like(edges[..., :1])], -1)
        slopes = F.softplus(parameters[..., 2 * K : 3 * K] + IDENTITY) + LEAST_SLOPE
        half: Tensor | float = self.bound
        if self.circles:
            end = torch.where(periodic, slopes[..., 0], 1.0)[..., None]
            slopes = torch.cat([end, slopes[..., 1:], end], -1)
            half = torch.where(periodic, parameters.new_tensor(math.pi), self.bound)
        else:
            slopes = F.pad(slopes, (1, 1), value=1.0)
        scale = half[:, None, None] if isinstance(half, Tensor) else half
        x, y = ((2 * edges - 1) * scale).unbind(-2)
        return x, y, slopes, half

    def _bin(self, at: Tensor, knots: Tensor, others: Tensor, slopes: Tensor) -> list[Tensor]:
        """Left end, width, other left end, other width and the two slopes of the bin that holds `at`."""
        index = (at[..., None] >= knots[..., 1:-1]).sum(-1, keepdim=True)
        pair = torch.cat([index, index + 1], -1)
        (a, a1), (b, b1), (d, d1) = (
            part.gather(-1, pair).unbind(-1) for part in (knots, others, slopes)
        )
        return [a, a1 - a, b, b1 - b, d, d1]

    def forward(
        self, x: Float[Tensor, "n entries"], parameters: Float[Tensor, "n entries size"]
    ) -> tuple[Float[Tensor, "n entries"], Float[Tensor, "n entries"]]:
        """Values of the splines, and the logarithms of their slopes."""
        knots_x, knots_y, slopes, half = self._knots(parameters, self.periodic)
        inside, xi = _clamp(x, half)
        x_k, w, y_k, h, d, d1 = self._bin(xi, knots_x, knots_y, slopes)
        s = h / w
        xi = (xi - x_k) / w
        product = xi * (1 - xi)
        beta = s + (d + d1 - 2 * s) * product
        y = y_k + h * (s * xi.square() + d * product) / beta
        top = d1 * xi.square() + 2 * s * product + d * (1 - xi).square()
        log_slope = 2 * (s / beta).log() + top.log()
        y, log_slope = torch.where(inside, y, x), torch.where(inside, log_slope, 0.0)
        if self.circles:
            y = torch.where(self.periodic, wrap(y + parameters[..., -1]), y)
        return y, log_slope

    def inverse(
        self,
        y: Float[Tensor, "n entries"],
        parameters: Float[Tensor, "n entries size"],
        entries: slice = slice(None),
    ) -> Float[Tensor, "n entries"]:
        """Arguments at which the splines of `entries` take the values y (eqs. 6 to 8)."""
        periodic = self.periodic[entries]
        if self.circles:
            y = torch.where(periodic, wrap(y - parameters[..., -1]), y)
        knots_x, knots_y, slopes, half = self._knots(parameters, periodic)
        inside, yi = _clamp(y, half)
        y_k, h, x_k, w, d, d1 = self._bin(yi, knots_y, knots_x, slopes)
        s = h / w
        rise = yi - y_k
        curve = rise * (d + d1 - 2 * s)
        a = h * (s - d) + curve
        b = h * d - curve
        c = -s * rise
        # Rounding may push a vanishing discriminant below zero.
        root = (b.square() - 4 * a * c).clamp_min(0).sqrt()
        x = x_k + w * (2 * c / (-b - root))
        return torch.where(inside, x, y)


def _clamp(x: Tensor, half: Tensor | float) -> tuple[Tensor, Tensor]:
    """Which values lie inside ±half, and all of them moved there, so that no branch overflows."""
    if isinstance(half, float):
        return x.abs() <= half, x.clamp(-half, half)
    return x.abs() <= half, x.maximum(-half).minimum(half)


def wrap(angle: Tensor) -> Tensor:
    """The angle in [−π, π)."""
    return torch.remainder(angle + math.pi, 2 * math.pi) - math.pi
