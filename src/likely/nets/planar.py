"""Maps that move points along few directions, and their inverses: planar, radial, Sylvester.

Planar and radial (Rezende & Mohamed 2015, arXiv:1505.05770, eqs. 10 and 14), with h = tanh, r = ‖z − z₀‖:

    y = z + û h(wᵀz + b),            log|det| = log(1 + wᵀû h′),     û = u + (m(wᵀu) − wᵀu) w/‖w‖²
    y = z + β̂ (z − z₀)/(α + r),      log|det| = (d − 1) log(1 + β̂/(α + r)) + log(1 + αβ̂/(α + r)²)

Sylvester (van den Berg, Hasenclever, Tomczak & Welling 2018, arXiv:1803.05649, eqs. 13 and 14), with M
orthonormal columns Q and triangular R, R̃:

    y = z + Q R̃ h(R Qᵀz + b),        log|det| = Σ_i log(1 + r_ii r̃_ii h′_i)

Inverses follow from equations in one unknown: of a planar map a + wᵀû h(a) = wᵀy + b for a = wᵀz + b,
which rises with a; of a Sylvester map M of these, from the last row up; of a radial one a quadratic for r.

Rows z have the shape (…, n, d); parameters are those of all rows, or of each, as (n, d).
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

Rows = Float[Tensor, "... d"]
LEAST = 1e-3  # slope of a map along a direction, below which it could not be inverted
HALVINGS = 60  # of an interval, to the last bit


# Planar.


def planar(z: Rows, u: Rows, w: Rows, b: Tensor) -> tuple[Rows, Tensor]:
    """y and the log-determinant; any u and w will do."""
    slope, u = _invertible(u, w)
    h = ((z * w).sum(-1) + b).tanh()
    return z + u * h[..., None], torch.log1p(slope * (1 - h.square()))


def planar_inverse(y: Rows, u: Rows, w: Rows, b: Tensor) -> Rows:
    """z, with first derivatives."""
    slope, u = _invertible(u, w)
    return y - u * _solve((y * w).sum(-1) + b, slope).tanh()[..., None]


def _invertible(u: Rows, w: Rows) -> tuple[Tensor, Rows]:
    """wᵀû and û: u, moved along w until wᵀû = m(wᵀu) > −1 + `LEAST`.

    m is a softplus shifted so that m(0) = 0: a small w then leaves û near u, not far along w.
    """
    product = (w * u).sum(-1)
    m = F.softplus(product + math.log(math.expm1(1 - LEAST))) + LEAST - 1
    unit = w / (w.square().sum(-1, keepdim=True) + torch.finfo(w.dtype).tiny)
    return m, u + (m - product)[..., None] * unit


def _solve(t: Tensor, slope: Tensor) -> Tensor:
    """a with a + slope tanh(a) = t, slope > −1: bisection, and a step of Newton that has the derivatives."""
    with torch.no_grad():
        low, high = t - slope.abs(), t + slope.abs()
        for _ in range(HALVINGS):
            a = (low + high) / 2
            below = a + slope * a.tanh() < t
            low, high = torch.where(below, a, low), torch.where(below, high, a)
        derivative = 1 + slope * (1 - a.tanh().square())
    return a - (a + slope * a.tanh() - t) / derivative


# Radial.


def radial(z: Rows, centre: Rows, alpha: Tensor, beta: Tensor) -> tuple[Rows, Tensor]:
    """y and the log-determinant; α and α + β̂ are softplus of any `alpha` and `beta`."""
    alpha, total = _positive(alpha), _positive(beta)
    r = torch.linalg.vector_norm(z - centre, dim=-1)
    stretch = (r + total) / (r + alpha)
    along = (r.square() + 2 * alpha * r + alpha * total) / (r + alpha).square()
    log_det = (z.shape[-1] - 1) * stretch.log() + along.log()
    return centre + (z - centre) * stretch[..., None], log_det


def radial_inverse(y: Rows, centre: Rows, alpha: Tensor, beta: Tensor) -> Rows:
    """z, where r is the positive root of r² + (α + β̂ − ‖y − z₀‖) r − α ‖y − z₀‖ = 0."""
    alpha, total = _positive(alpha), _positive(beta)
    far = torch.linalg.vector_norm(y - centre, dim=-1)
    p = total - far
    q = (p.abs() + (p.square() + 4 * alpha * far).sqrt()) / 2
    r = torch.where(p > 0, alpha * far / q, q)  # nothing cancels
    return centre + (y - centre) * ((r + alpha) / (r + total))[..., None]


def _positive(raw: Tensor) -> Tensor:
    return F.softplus(raw) + LEAST


# Sylvester.

Frame = Float[Tensor, "... d m"]
Triangle = Float[Tensor, "... m m"]


def sylvester(
    z: Rows, q: Frame, r: Triangle, r_tilde: Triangle, b: Float[Tensor, "... m"]
) -> tuple[Rows, Tensor]:
    """y and the log-determinant; `orthonormal` makes Q, `triangular` R and R̃."""
    h = (_times(r, _times(q.mT, z)) + b).tanh()
    slope = (r * r_tilde).diagonal(dim1=-2, dim2=-1)
    return z + _times(q, _times(r_tilde, h)), torch.log1p(slope * (1 - h.square())).sum(-1)


def sylvester_inverse(
    y: Rows, q: Frame, r: Triangle, r_tilde: Triangle, b: Float[Tensor, "... m"]
) -> Rows:
    """z, with first derivatives: a + R R̃ h(a) = R Qᵀy + b, from the last row up."""
    slopes, t = r @ r_tilde, _times(r, _times(q.mT, y)) + b
    h: list[Tensor] = []  # of the rows from i on
    for i in reversed(range(t.shape[-1])):
        later = sum(
            (slopes[..., i, i + 1 + j] * later for j, later in enumerate(h)), t.new_zeros(())
        )
        h.insert(0, _solve(t[..., i] - later, slopes[..., i, i]).tanh())
    return y - _times(q, _times(r_tilde, torch.stack(h, -1)))


def orthonormal(v: Float[Tensor, "... m d"]) -> Frame:
    """M orthonormal columns: the first ones of a product of M Householder reflections, at any rows v."""
    m, d = v.shape[-2:]
    q = torch.eye(d, m, dtype=v.dtype, device=v.device).expand(*v.shape[:-2], d, m)
    for i in reversed(range(m)):
        axis = v[..., i, :, None]
        length = axis.square().sum(-2, keepdim=True) + torch.finfo(v.dtype).tiny
        q = q - 2 * axis * (axis.mT @ q) / length
    return q


def triangular(values: Float[Tensor, "... k"], m: int) -> Triangle:
    """An upper triangle of its m (m + 1)/2 entries; those of the diagonal are bound to (−1, 1).

    The product of two such diagonals is then above −1, as a Sylvester map needs.
    """
    row, column = torch.triu_indices(m, m, device=values.device)
    triangle = values.new_zeros(*values.shape[:-1], m, m)
    triangle[..., row, column] = torch.where(row == column, (1 - LEAST) * values.tanh(), values)
    return triangle


def _times(matrix: Tensor, vector: Tensor) -> Tensor:
    return (matrix @ vector[..., None])[..., 0]
