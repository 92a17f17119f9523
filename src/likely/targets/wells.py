"""Wells on the line, in the plane and in many dimensions, with their exact weights."""

import math
from dataclasses import replace
from itertools import product

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from likely.core.domain import reals
from likely.core.errors import LikelyError
from likely.core.target import Target
from likely.targets.exact import exact_target

MODES = 1 << 10  # that are listed at most


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
    well = _Well(barrier, tilt)
    return replace(
        exact_target("double-well", reals(1), well.draw, lambda x: -well.energy(x) - well.log_z),
        energy=well.energy,
        log_z=well.log_z,
        entropy=well.log_z + well.mean_energy,
        mean=well.mean[None],
        covariance=well.variance[None, None],
        modes=well.minima[:, None],
        mode_weights=well.masses,
    )


def double_well_plane() -> Target:
    """A molecule's two states in the plane: E(x, y) = ¼x⁴ − 3x² + x + ½y², in units of kT.

    The well at x = −2.53 holds 99.2 % of all samples; the top of the barrier lies 11.6 kT above it, and
    6.7 kT above the other one at 2.36. Exact as `double_well` is.

    References
    ----------
    Noé, Olsson, Köhler & Wu 2019, Science 365, eaaw1147; Wu, Köhler & Noé 2020, arXiv:2002.06707.
    """
    return _pairs("double-well-plane", 1, math.sqrt(6), 1.0)


def many_well(size: int = 6) -> Target:
    """Pairs of coordinates, each with two wells: E = Σ_pairs x⁴ − 6x² − ½x + ½y², in units of kT.

    The rows are (x, y, x, y, …); log Z is 10.2934797 for each pair, whose right well holds 0.844311.
    Exact as `double_well` is; the 2^(size/2) `modes` are listed up to 2¹⁰ of them.

    Parameters
    ----------
    size : int
        Number of coordinates, even.

    Raises
    ------
    LikelyError
        If it is odd, or not positive.

    References
    ----------
    Midgley et al. 2023, Flow annealed importance sampling bootstrap, ICLR, arXiv:2208.01893.
    """
    if size < 2 or size % 2:
        raise LikelyError(f"many_well: size counts pairs of coordinates, it cannot be {size}")
    return _pairs("many-well", size // 2, math.sqrt(3), -0.5)


def _pairs(name: str, pairs: int, spread: float, tilt: float) -> Target:
    """Pairs with E = 9 ((x/spread)² − 1)² − 9 + tilt x + ½y²."""
    barrier = 9.0
    well = _Well(barrier, tilt * spread)

    def energy(x: Tensor) -> Float[Tensor, " n"]:
        across, along = x.unflatten(1, (pairs, 2)).unbind(2)
        wells = well.energy(across.reshape(-1, 1) / spread).view(-1, pairs) - barrier
        return (wells + along.square() / 2).sum(1)

    def draw(n: int) -> Tensor:
        across = spread * well.draw(n * pairs).view(n, pairs)
        return torch.stack([across, torch.randn_like(across)], 2).flatten(1)

    log_z = pairs * (well.log_z + barrier + math.log(spread * math.sqrt(2 * math.pi)))
    few = pairs <= MODES.bit_length() - 1
    choice = torch.tensor(list(product([0, 1], repeat=pairs if few else 0)), dtype=torch.int64)
    across = spread * well.minima[choice]
    pair = torch.stack([spread**2 * well.variance, torch.tensor(1.0).double()])
    return replace(
        exact_target(name, reals(2 * pairs), draw, lambda x: -energy(x) - log_z),
        energy=energy,
        log_z=log_z,
        entropy=log_z + pairs * (well.mean_energy - barrier + 0.5),
        mean=torch.stack([spread * well.mean, torch.tensor(0.0).double()]).repeat(pairs),
        covariance=pair.repeat(pairs).diag(),
        modes=torch.stack([across, torch.zeros_like(across)], 2).flatten(1) if few else None,
        mode_weights=well.masses[choice].prod(1) if few else None,
    )


class _Well:
    """p(x) ∝ e^(−barrier (x² − 1)² − tilt x), by the trapezoidal rule."""

    def __init__(self, barrier: float, tilt: float) -> None:
        self.barrier, self.tilt = barrier, tilt
        left, top, right = sorted(np.roots([4 * barrier, 0, -4 * barrier, tilt]).real)
        self.minima = torch.tensor([left, right], dtype=torch.float64)
        reach = 1.5 + (60 / barrier) ** 0.25  # e^(−60) and less lies beyond
        self.grid = torch.linspace(-reach, reach, 1 << 16, dtype=torch.float64)
        self.step = self.grid[1] - self.grid[0]
        energy = self.energy(self.grid[:, None])
        lowest = self.energy(self.minima[:, None]).min()
        weight = (lowest - energy).exp()
        self.log_z = ((weight.sum() * self.step).log() - lowest).item()
        p = weight / weight.sum()
        self.cumulative = p.cumsum(0)
        mass = p[self.grid < top].sum()
        self.masses = torch.stack([mass, 1 - mass])
        self.mean = p @ self.grid
        self.variance = p @ (self.grid - self.mean).square()
        self.mean_energy = (p @ energy).item()

    def energy(self, x: Tensor) -> Float[Tensor, " n"]:
        x = x[:, 0]
        return self.barrier * (x.square() - 1).square() + self.tilt * x

    def draw(self, n: int) -> Float64[Tensor, "n 1"]:
        u = torch.rand(n, dtype=torch.float64)
        cell = torch.searchsorted(self.cumulative, u).clamp_max(len(self.grid) - 1)
        offset = torch.rand(n, dtype=torch.float64) - 0.5
        return (self.grid[cell] + offset * self.step)[:, None]
