"""The φ⁴ field on a ring or a torus, and what is measured of a field."""

import contextlib
import math
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from likely.core.columns import Interval, Real
from likely.core.domain import Domain, table
from likely.core.errors import LikelyError
from likely.core.target import Target
from likely.targets.exact import exact_target
from likely.targets.transfer import check, phi4_exact

WIDTH = 4  # up to which log Z is computed with the target
SITES = 1024  # up to which the covariance of a free field is kept


def phi4(*shape: int, mass2: float = -4.0, coupling: float | tuple[float, float] = 8.0) -> Target:
    """The φ⁴ field on a periodic lattice of one or two dimensions d, with the action

        S(φ) = Σ_x [m² φ_x² + λ φ_x⁴ + Σ_μ (φ_{x+μ} − φ_x)²]
             = Σ_x [−2 Σ_μ φ_x φ_{x+μ} + (2d + m²) φ_x² + λ φ_x⁴].

    There is no factor ½: a textbook's field with ½m²ψ² + ½(∂ψ)² + λ_s ψ⁴/4! is ψ = √2 φ with
    λ_s = 6λ, its susceptibility twice this one, its log Z larger by ½ log 2 for each site. A side of
    length 2 has two bonds between its sites.

    Without a coupling everything is exact, draws too (by the fast Fourier transform). On rings and on
    tori up to 4 wide `log_z` and `observables` come from `phi4_exact`, where that takes about a
    second; on others they are unknown here.

    Parameters
    ----------
    *shape : int
        One or two lengths; without any, (8, 8).
    mass2 : float
        m², in units of the lattice.
    coupling : float or (float, float)
        λ; a pair makes a family of targets, whose context is a coupling between the two.

    Raises
    ------
    LikelyError
        If the action has no lower bound, or the shape is not one or two positive lengths.

    Notes
    -----
    8 × 8 at m² = −4, λ = 8 has log Z = 9.29136 and χ₂ = 0.74414, by `phi4_exact`.

    References
    ----------
    Albergo, Kanwar & Shanahan 2019, Physical Review D 100, 034515 (eq. 28).

    Examples
    --------
    >>> import likely as lk
    >>> round(lk.targets.phi4(4, 4).log_z, 5)
    2.40514
    >>> family = lk.targets.phi4(8, 8, coupling=(4.0, 8.0))
    >>> family.energy(torch.zeros(3, 8, 8), torch.full((3, 1), 5.0))
    tensor([0., 0., 0.])
    """
    shape = shape or (8, 8)
    check(shape, mass2, coupling[0] if isinstance(coupling, tuple) else coupling)
    axes = tuple(range(1, len(shape) + 1))

    def action(x: Float[Tensor, "n ..."], coupling: float | Tensor) -> Float[Tensor, " n"]:
        neighbours = torch.stack([x.roll(-1, axis) for axis in axes]).sum(0)
        square = x.square()
        quadratic = (2 * len(shape) + mass2) * square - 2 * x * neighbours
        return quadratic.sum(axes) + coupling * square.square().sum(axes)

    domain = Domain(shape, (Real(),), layout="lattice")
    if isinstance(coupling, tuple):
        context = table(coupling=Interval(*coupling))
        return Target(domain, name="phi4", energy=lambda x, c: action(x, c[:, 0]), context=context)
    if coupling == 0:
        return replace(_free(domain, mass2), energy=lambda x: action(x, 0.0))
    target = Target(domain, name="phi4", energy=lambda x: action(x, coupling))
    width = 1 if len(shape) == 1 else min(shape)
    if width <= WIDTH:
        with contextlib.suppress(LikelyError):  # fields too large for a quick answer
            points = max(1000, 8**width)
            known = phi4_exact(*shape, mass2=mass2, coupling=coupling, points=points)
            return replace(target, log_z=known.pop("log_z"), observables=known)
    return target


def _free(domain: Domain, mass2: float) -> Target:
    """S = Σ_k (m² + Σ_μ 4 sin²(k_μ/2)) |φ_k|²: independent Gaussian waves."""
    shape, V = domain.shape, domain.size
    waves = [2 - 2 * (2 * math.pi * torch.arange(n).double() / n).cos() for n in shape]
    stiffness = mass2 + torch.stack(torch.meshgrid(*waves, indexing="ij")).sum(0)
    axes = tuple(range(1, len(shape) + 1))
    log_z = (V * math.log(math.pi) - stiffness.log().sum().item()) / 2
    variance = 1 / (2 * stiffness)

    def filtered(x: Tensor, by: Tensor) -> Tensor:
        return torch.fft.ifftn(torch.fft.fftn(x, dim=axes) * by, dim=axes).real

    def draw(n: int) -> Tensor:
        return filtered(torch.randn(n, *shape, dtype=torch.float64), variance.sqrt())

    def log_density(x: Tensor) -> Tensor:
        return -(x * filtered(x, stiffness)).sum(axes) - log_z

    sites = torch.eye(V, dtype=torch.float64).view(V, *shape) if V <= SITES else None
    return replace(
        exact_target("phi4", domain, draw, log_density),
        log_z=log_z,
        entropy=log_z + V / 2,
        mean=torch.zeros(V, dtype=torch.float64),
        covariance=None if sites is None else filtered(sites, variance).flatten(1),
        observables={"phi2": variance.mean().item(), "susceptibility": 1 / (2 * mass2)},
    )


def _real(x: Tensor) -> Tensor:
    """Fields as they are, spins as real numbers."""
    return x if x.is_floating_point() else x.double()


def magnetisation(x: Float[Tensor, "n ..."]) -> Float[Tensor, " n"]:
    """Σ_x φ_x/V of each field, or of each state of spins."""
    return _real(x).flatten(1).mean(1)


def susceptibility(x: Float[Tensor, "n ..."]) -> Float[Tensor, " n"]:
    """(Σ_x φ_x)²/V of each field; its mean is χ₂ where ⟨φ⟩ = 0, since ⟨|M|⟩² is not subtracted."""
    return _real(x).flatten(1).sum(1).square() / x[0].numel()


def phi2(x: Float[Tensor, "n ..."]) -> Float[Tensor, " n"]:
    """Σ_x φ_x²/V of each field."""
    return _real(x).flatten(1).square().mean(1)


def correlator(x: Float[Tensor, "n L ..."]) -> Float[Tensor, "n L"]:
    """G(t) = Σ_s M_s M_{s+t} / V of each field, with the sum M_s of φ over the s-th slice of length L.

    Its mean falls like cosh(m (t − L/2)) for large t, with the mass m of the lightest state at
    rest, and ΣG(t) is the susceptibility.
    """
    x = _real(x)
    slices = x.flatten(2).sum(2) if x.ndim > 2 else x
    shifted = torch.stack([slices.roll(-t, 1) for t in range(x.shape[1])], 2)
    return (slices[..., None] * shifted).sum(1) / x[0].numel()
