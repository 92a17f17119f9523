"""U(1) gauge theory in two dimensions, and what is measured of its links.

A sample has shape (2, L₀, L₁): angles θ_μ(x) of the link from site x in the direction μ.
"""

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from likely.core.columns import Periodic
from likely.core.domain import Domain
from likely.core.errors import LikelyError
from likely.core.target import Target

CHARGES = 40  # at least, on either side, in the sum over n
NODES = 256  # of Gauss–Legendre quadrature over an angle


def u1(*shape: int, beta: float = 2.0) -> Target:
    """Compact U(1) gauge theory on a periodic lattice, with the action S = −β Σ_P cos θ_P.

    The angles of the links live on (−π, π] with the Lebesgue measure, to which `log_z` belongs: it is
    that of the Haar measure dθ/2π, log Σ_n I_n(β)^V, plus 2V log 2π for V plaquettes.
    `observables` has the means of cos θ_P (`plaquette`) and of Q²
    (`charge2`, the square of `topological_charge`). There are no exact draws.

    Parameters
    ----------
    *shape : int
        Two lengths, or one for both; without any, (8, 8).
    beta : float
        Inverse coupling, positive.

    Raises
    ------
    LikelyError
        If the coupling is not positive, or a length below 2.

    Notes
    -----
    log Z(ϑ) = log Σ_n c_n(ϑ)^V with c_n(ϑ) = ∫ dφ/2π e^(β cos φ + i(n + ϑ/2π)φ), and
    ⟨Q²⟩ = −∂² log Z/∂ϑ² at ϑ = 0: to rounding up to β of a thousand.

    References
    ----------
    Kanwar et al. 2020, Physical Review Letters 125, 121601; Wiese 1989, Nuclear Physics B 318, 153.

    Examples
    --------
    >>> import likely as lk
    >>> target = lk.targets.u1(8, beta=2.0)
    >>> {name: round(value, 5) for name, value in target.observables.items()}
    {'plaquette': 0.69777, 'charge2': 1.2393}
    """
    shape = shape * 2 if len(shape) == 1 else shape or (8, 8)
    if len(shape) != 2 or min(shape) < 2 or beta <= 0:
        raise LikelyError(f"u1: {beta=} must be positive, and {shape} two lengths of at least 2")
    V = shape[0] * shape[1]
    log_z, observables = _exact(beta, V)

    def action(x: Float[Tensor, "n 2 L0 L1"]) -> Float[Tensor, " n"]:
        return -beta * plaquettes(x).cos().sum((1, 2))

    return Target(
        Domain((2, *shape), (Periodic(-math.pi, math.pi),), layout="lattice"),
        name="u1",
        energy=action,
        log_z=log_z + 2 * V * math.log(2 * math.pi),
        observables=observables,
    )


def _exact(beta: float, V: int) -> tuple[float, dict[str, float]]:
    """log Z with the Haar measure, and expectations; c_n(ϑ) are the integrals of `u1`, here by I₀."""
    from scipy.special import ive

    n = np.arange(CHARGES + int(10 * math.sqrt(beta / V)) + 1)
    n = np.concatenate([-n[:0:-1], n])
    c = ive(n, beta) / ive(0, beta)
    slope = (ive(n - 1, beta) + ive(n + 1, beta)) / ive(0, beta) / 2  # by beta
    phi, weight = np.polynomial.legendre.leggauss(NODES)
    phi = phi * math.pi
    weight = weight / 2 * np.exp(beta * (np.cos(phi) - 1)) / ive(0, beta)
    first = -(np.sin(np.outer(n, phi)) @ (weight * phi)) / (2 * math.pi)  # by ϑ
    second = -(np.cos(np.outer(n, phi)) @ (weight * phi**2)) / (2 * math.pi) ** 2
    z = (c**V).sum()
    curvature = V * c ** (V - 1) * second + V * (V - 1) * c ** (V - 2) * first**2
    log_z = V * (math.log(ive(0, beta)) + beta) + math.log(z)
    return float(log_z), {
        "plaquette": float((c ** (V - 1) * slope).sum() / z),
        "charge2": float(-curvature.sum() / z),
    }


def plaquettes(x: Float[Tensor, "n 2 L0 L1"]) -> Float[Tensor, "n L0 L1"]:
    """θ_P = θ₀(x) + θ₁(x + 0̂) − θ₀(x + 1̂) − θ₁(x) of each square, in (−π, π]."""
    along, across = x.unbind(1)
    return _wrapped(along + across.roll(-1, 1) - along.roll(-1, 2) - across)


def topological_charge(x: Float[Tensor, "n 2 L0 L1"]) -> Float[Tensor, " n"]:
    """Q = Σ_P θ_P/2π, a whole number."""
    return (plaquettes(x).sum((1, 2)) / (2 * math.pi)).round()


def gauge_transform(
    x: Float[Tensor, "n 2 L0 L1"], angles: Float[Tensor, "n L0 L1"]
) -> Float[Tensor, "n 2 L0 L1"]:
    """θ_μ(x) + α(x) − α(x + μ̂), in (−π, π], for an angle α at each site."""
    ahead = torch.stack([angles.roll(-1, 1), angles.roll(-1, 2)], 1)
    return _wrapped(x + angles[:, None] - ahead)


def _wrapped(angle: Tensor) -> Tensor:
    return math.pi - (math.pi - angle).remainder(2 * math.pi)
