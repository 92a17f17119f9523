"""Hamiltonian Monte Carlo.

A momentum p ~ N(0, M) is drawn, Hamilton's equations of E(x) + pᵀM⁻¹p/2 are followed by L leapfrog
steps of length ε, and the end is accepted with probability min(1, exp(−ΔH)).
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from likely.core.columns import Periodic
from likely.core.domain import Domain
from likely.core.errors import LikelyError
from likely.sampling.sampler import DualAveraging, Energy, GradientSampler, Move, metropolis, rows


@dataclass(frozen=True)
class HMC(GradientSampler):
    """Hamiltonian Monte Carlo.

    A burn-in tunes the step to an acceptance of 0.8 by dual averaging, and the diagonal mass to the
    inverse variances over chains and steps, again in each of its last three quarters; an angle's
    deviation counts at most as that of a uniform one. Each
    trajectory's step is drawn within ±20 %, so that none is periodic.

    Parameters
    ----------
    step : float or Tensor of shape (n,)
        ε, of all chains or of each, in units of a coordinate's standard deviation once the mass is
        tuned.
    domain : Domain, optional
        Where a sample lives; by default R^d.
    leapfrogs : int
        L.

    References
    ----------
    Duane, Kennedy, Pendleton & Roweth 1987, Physics Letters B 195, 216; Neal 2011, Handbook of
    MCMC, chapter 5; Hoffman & Gelman 2014, JMLR 15, 1593 (dual averaging).
    """

    scaling = 0.5
    target = 0.8

    step: float | Tensor = 0.1
    domain: Domain | None = None
    leapfrogs: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.leapfrogs < 1:
            raise LikelyError(f"HMC: at least one leapfrog is needed, not {self.leapfrogs}")

    def _walk(self, energy: Energy, x: Tensor, tune: int) -> Iterator[Move]:
        step = torch.as_tensor(self.step, dtype=x.dtype, device=x.device)
        tuner = DualAveraging(step, self.target)
        scale = torch.ones_like(x[0])  # M^(−1/2)
        seen, widest = Spread(x), _widest(self.domain, x)
        gradients, e, gradient = self._start(energy, x)
        for t in itertools.count(1):
            epsilon = rows(step * (0.8 + 0.4 * torch.rand((), device=x.device)), x) * scale
            p = torch.randn_like(x)  # in units of M^(1/2)
            kinetic = p.square()
            y, gradient_y = x, gradient
            for _ in range(self.leapfrogs):
                p = p - epsilon / 2 * gradient_y
                y = y + epsilon * p
                f, gradient_y = gradients(y)
                p = p - epsilon / 2 * gradient_y
            log_ratio = e - f + ((kinetic - p.square()) / 2).view(len(x), -1).sum(1)
            state, proposal = (e, x, gradient), (f, y, gradient_y)
            (e, x, gradient), acceptance, invalid = metropolis(log_ratio, state, proposal)
            if t <= tune:
                step = tuner.update(acceptance.mean()) if t < tune else tuner.step
                seen.add(x)
                if t in (tune // 4, tune // 2, 3 * tune // 4) and t >= 10:
                    scale = seen.deviation().minimum(widest)
                    tuner, seen = DualAveraging(tuner.step, self.target), Spread(x)
            yield Move(x, e, acceptance, invalid, {"step": step, "scale": scale})


def _widest(domain: Domain | None, x: Tensor) -> Tensor:
    """The deviation of a uniform angle in periodic columns, ∞ elsewhere.

    On their covering line angles wander without end.
    """
    widest = x[0].new_full((x[0].numel(),), math.inf)
    for column, index in [] if domain is None else domain.groups:
        if isinstance(column, Periodic):
            widest[index] = (column.high - column.low) / math.sqrt(12)
    return widest.view_as(x[0])


class Spread:
    """Running standard deviation of each entry, over chains and steps."""

    def __init__(self, x: Tensor) -> None:
        self.origin, self.count = x.mean(0), 0
        self.first = torch.zeros_like(self.origin)
        self.second = torch.zeros_like(self.origin)

    def add(self, x: Tensor) -> None:
        y = x - self.origin
        self.count += len(x)
        self.first += y.sum(0)
        self.second += y.square().sum(0)

    def deviation(self) -> Tensor:
        """Where few states have been seen, the variance is drawn towards 10⁻³, as in Stan."""
        variance = self.second / self.count - (self.first / self.count).square()
        return ((self.count * variance.clamp_min(0) + 5e-3) / (self.count + 5)).sqrt()
