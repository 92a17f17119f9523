"""Shapes in the plane, and Neal's funnel: what simple densities fail to follow."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from likely.core.domain import reals
from likely.core.errors import LikelyError
from likely.core.target import Target
from likely.targets.exact import exact_target


def _log_normal(deviation: Tensor, width: float) -> Tensor:
    return -(deviation / width).square() / 2 - math.log(math.sqrt(2 * math.pi) * width)


def rings(radii: Sequence[float] = (1.0, 2.0, 3.0), width: float = 0.1) -> Target:
    """Equally heavy rings around the origin of the plane.

    A draw is s (cos φ, sin φ) with a uniform angle φ and a signed radius s from the mixture
    g(s) = 1/k Σ N(s; r_i, width²), so that the density is exactly

        p(x) = [g(|x|) + g(−|x|)] / (2π |x|);

    its entropy comes from adaptive quadrature over the radius, to 1e-8. At the origin itself it is
    infinite, with e^(−50) of the mass nearby at the default width.

    Parameters
    ----------
    radii : sequence of float
        Positive.
    width : float
        Standard deviation of the radius.

    Raises
    ------
    LikelyError
        If a radius or the width is not positive.
    """
    from scipy.integrate import quad

    r = torch.tensor(radii, dtype=torch.float64)
    if not (len(r) and (r > 0).all() and width > 0):
        raise LikelyError(f"rings: radii {tuple(radii)} and width {width} must be positive")

    def log_radial(s: Tensor) -> Float64[Tensor, " n"]:
        """Log-density of |s|."""
        both = torch.stack([s, -s], -1)[..., None]
        return _log_normal(both - r, width).flatten(-2).logsumexp(-1) - math.log(len(r))

    def draw(n: int) -> Tensor:
        ring = r[torch.randint(len(r), (n,))]
        radius = torch.normal(ring, torch.full_like(ring, width))
        angle = 2 * math.pi * torch.rand(n, dtype=torch.float64)
        return radius[:, None] * torch.stack([angle.cos(), angle.sin()], 1)

    def log_density(x: Tensor) -> Tensor:
        radius = x.norm(dim=1)
        return log_radial(radius) - (2 * math.pi * radius).log()

    def surprise(s: float) -> float:
        log_g = log_radial(torch.tensor(s, dtype=torch.float64)).item()
        return math.exp(log_g) * (math.log(2 * math.pi * s) - log_g)

    knots = np.unique([max(ring + k * width, 0) for ring in radii for k in (-12, -4, 0, 4, 12)])
    pieces = zip([0.0, *knots], knots, strict=False)
    entropy = sum(quad(surprise, a, b, epsabs=1e-10)[0] for a, b in pieces if a < b)
    radial_square = r.square().mean() + width**2
    return replace(
        exact_target("rings", reals(2), draw, log_density),
        entropy=entropy,
        mean=torch.zeros(2, dtype=torch.float64),
        covariance=torch.eye(2, dtype=torch.float64) * radial_square / 2,
    )


def checkerboard() -> Target:
    """The uniform density 1/32 on 8 of the 4 × 4 cells (of side 2) of [−4, 4]².

    Cell (i, j), counted from the lower left, is filled where i + j is even; it holds its lower and
    left edges. The entropy is log 32.
    """
    cells = torch.tensor([(i, j) for i in range(4) for j in range(4) if (i + j) % 2 == 0])
    below = 1 - 2.0**-22  # the largest part of a cell that float32 still keeps inside it

    def draw(n: int) -> Tensor:
        offset = torch.rand(n, 2, dtype=torch.float64).clamp_max(below)
        return 2 * (cells[torch.randint(8, (n,))] + offset) - 4

    def log_density(x: Tensor) -> Tensor:
        cell = ((x + 4) / 2).floor()
        filled = ((cell >= 0) & (cell < 4)).all(1) & (cell.sum(1) % 2 == 0)
        return torch.where(filled, x.new_tensor(-math.log(32)), -torch.inf)

    centres = 2.0 * cells.double() - 3
    return replace(
        exact_target("checkerboard", reals(2), draw, log_density),
        entropy=math.log(32),
        mean=torch.zeros(2, dtype=torch.float64),
        covariance=centres.T @ centres / 8 + torch.eye(2, dtype=torch.float64) / 3,
        modes=centres,
    )


def banana(scale: float = 2.0, bend: float = 0.25, width: float = 0.4) -> Target:
    """A bent Gaussian: x₁ ~ N(0, scale²), x₂ ~ N(bend (x₁² − scale²), width²).

    References
    ----------
    Haario, Saksman & Tamminen 1999, Computational Statistics 14, 375: the twisted Gaussian.
    """

    def axis(x1: Tensor) -> Tensor:
        return bend * (x1.square() - scale**2)

    def draw(n: int) -> Tensor:
        z = torch.randn(n, 2, dtype=torch.float64)
        x1 = scale * z[:, 0]
        return torch.stack([x1, axis(x1) + width * z[:, 1]], 1)

    def log_density(x: Tensor) -> Tensor:
        x1, x2 = x.unbind(1)
        return _log_normal(x1, scale) + _log_normal(x2 - axis(x1), width)

    variance = torch.tensor([scale**2, width**2 + 2 * (bend * scale**2) ** 2], dtype=torch.float64)
    return replace(
        exact_target("banana", reals(2), draw, log_density),
        entropy=1 + math.log(2 * math.pi * scale * width),
        mean=torch.zeros(2, dtype=torch.float64),
        covariance=variance.diag(),
    )


def funnel(size: int = 10, scale: float = 3.0) -> Target:
    """Neal's funnel: v ~ N(0, scale²), and x₁ … x_{size−1} ~ N(0, e^v) given v.

    References
    ----------
    Neal 2003, Slice sampling, Annals of Statistics 31, 705 (Section 8).
    """
    if size < 2:
        raise LikelyError(f"funnel: size counts v and at least one x, it cannot be {size}")

    def draw(n: int) -> Tensor:
        z = torch.randn(n, size, dtype=torch.float64)
        v = scale * z[:, :1]
        return torch.cat([v, (v / 2).exp() * z[:, 1:]], 1)

    def log_density(x: Tensor) -> Tensor:
        v, rest = x[:, 0], x[:, 1:]
        u = rest * (-v / 2).exp()[:, None]
        return _log_normal(v, scale) + _log_normal(u, 1).sum(1) - (size - 1) * v / 2

    variance = torch.full((size,), math.exp(scale**2 / 2), dtype=torch.float64)
    variance[0] = scale**2
    return replace(
        exact_target("funnel", reals(size), draw, log_density),
        entropy=size * (1 + math.log(2 * math.pi)) / 2 + math.log(scale),
        mean=torch.zeros(size, dtype=torch.float64),
        covariance=variance.diag(),
    )
