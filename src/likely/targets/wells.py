"""Energies for samplers: a double well with its exact weights, and the φ⁴ field on a lattice."""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from likely.core.columns import Real
from likely.core.domain import Domain, reals
from likely.core.errors import LikelyError
from likely.core.target import Target
from likely.targets.exact import exact_target


def double_well(barrier: float = 15.0, tilt: float = 0.0) -> Target:
    """Two wells on the line: E(x) = barrier (x² − 1)² + tilt x, in units of kT.

    `modes` are the minima and `mode_weights` the masses left and right of the barrier's top;
    everything comes from the trapezoidal rule on 2¹⁶ points, to 1e-9. Draws invert the cumulative
    sum on those points, whose distance is below the rounding of a float32.

    Parameters
    ----------
    barrier : float
        Height between the wells without the tilt.
    tilt : float
        The left well becomes deeper by about 2 tilt.

    Raises
    ------
    LikelyError
        If the barrier is not positive, or the tilt leaves one well only.
    """
    if barrier <= 0 or abs(tilt) >= 8 * barrier / 27**0.5:
        raise LikelyError(f"double_well: there are no two wells with {barrier=} and {tilt=}")
    left, top, right = sorted(np.roots([4 * barrier, 0, -4 * barrier, tilt]).real)

    def energy(x: Tensor) -> Float[Tensor, " n"]:
        x = x[:, 0]
        return barrier * (x.square() - 1).square() + tilt * x

    reach = 1.5 + (60 / barrier) ** 0.25  # e^(−60) and less lies beyond
    grid = torch.linspace(-reach, reach, 1 << 16, dtype=torch.float64)
    lowest = energy(torch.tensor([[left], [right]])).min()
    weight = (lowest - energy(grid[:, None])).exp()
    log_z = (weight.sum() * (grid[1] - grid[0])).log().item() - lowest.item()
    p = weight / weight.sum()
    cumulative = p.cumsum(0)

    def draw(n: int) -> Tensor:
        u = torch.rand(n, dtype=torch.float64)
        cell = torch.searchsorted(cumulative, u).clamp_max(len(grid) - 1)
        offset = torch.rand(n, dtype=torch.float64) - 0.5
        return (grid[cell] + offset * (grid[1] - grid[0]))[:, None]

    mean = (p @ grid)[None]
    mass = p[grid < top].sum()
    return replace(
        exact_target("double-well", reals(1), draw, lambda x: -energy(x) - log_z),
        energy=energy,
        log_z=log_z,
        entropy=log_z + (p @ energy(grid[:, None])).item(),
        mean=mean,
        covariance=(p @ (grid - mean).square())[None, None],
        modes=torch.tensor([[left], [right]]),
        mode_weights=torch.stack([mass, 1 - mass]),
    )


def phi4(size: int = 8, mass: float = -4.0, coupling: float = 8.0) -> Target:
    """The φ⁴ field on a periodic size × size lattice, with the action

        S(φ) = Σ_x [−2 Σ_μ φ_x φ_{x+μ} + (4 + mass) φ_x² + coupling φ_x⁴].

    Neither draws nor log Z are known; `susceptibility` has a reference value. At the default
    parameters and L = 8 it is 0.7433 ± 0.0012 (HMC, 1,024 chains of 3,500 trajectories).

    Parameters
    ----------
    size : int
        L.
    mass : float
        m², in units of the lattice.
    coupling : float
        λ.

    Raises
    ------
    LikelyError
        If the action has no lower bound.

    References
    ----------
    Albergo, Kanwar & Shanahan 2019, Physical Review D 100, 034515 (eq. 28).
    """
    if coupling < 0 or (coupling == 0 and mass <= 0):
        raise LikelyError(f"phi4: the action has no lower bound with {mass=} and {coupling=}")

    def action(x: Float[Tensor, "n L L"]) -> Float[Tensor, " n"]:
        neighbours = x.roll(-1, 1) + x.roll(-1, 2)
        square = x.square()
        density = (4 + mass) * square + coupling * square.square() - 2 * x * neighbours
        return density.sum((1, 2))

    domain = Domain((size, size), (Real(),), layout="lattice")
    return Target(domain, name="phi4", energy=action)


def susceptibility(x: Float[Tensor, "n L L"]) -> Float[Tensor, " n"]:
    """(Σ_x φ_x)²/V of each field; its mean is χ₂ where ⟨φ⟩ = 0."""
    return x.sum((1, 2)).square() / x[0].numel()
