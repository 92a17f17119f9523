"""Sequential Monte Carlo: particles that go from a base to the target, weighted and resampled.

Along p_β ∝ q^(1−β) e^(−βE), each next β is as large as the effective sample size of the weights
w = e^(−Δβ (E + log q)) allows; the product of their means estimates Z.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from likely.core.domain import Domain
from likely.core.errors import LikelyError
from likely.core.likelihood import importance_bound
from likely.sampling.annealing import Annealing
from likely.sampling.sampler import Density, Energy, Move, Sampler


@dataclass(frozen=True)
class SMC(Sampler):
    """Sequential Monte Carlo; `init` of `run` must be draws from the base.

    Once at the target the particles go on as chains of `kernel`, whose draws are kept. `info` of
    the result holds `log_z` with `log_z_stderr`, which takes the stages as independent.

    Parameters
    ----------
    base : object with `sample` and `log_prob`
        Normalised; wider than the target.
    kernel : Sampler
        Moves the particles; its step is tuned on the way, if it can be.
    moves : int
        Transitions after each resampling.
    ess : float
        Effective sample size after which the particles are resampled, relative to their number.

    References
    ----------
    Del Moral, Doucet & Jasra 2006, JRSS B 68, 411.
    """

    annealed = True

    base: Density
    kernel: Sampler
    moves: int = 5
    ess: float = 0.5

    def __post_init__(self) -> None:
        if self.moves < 1 or not 0 < self.ess < 1:
            raise LikelyError(
                f"SMC: moves = {self.moves} must be positive, and ess = {self.ess} between 0 and 1"
            )

    @property
    def domain(self) -> Domain | None:  # type: ignore[override]
        return self.kernel.domain

    def walk(self, energy: Energy, x: Tensor, tune: int = 0) -> Iterator[Move]:
        annealing = Annealing(energy, self.base, self.kernel)
        log_z = variance = torch.zeros((), dtype=torch.float64, device=x.device)
        for _, particles, log_weight in annealing.stages(x, self.ess, self.moves):
            mean, stderr = importance_bound(log_weight[:, None])[:, 0]
            x, log_z, variance = particles, log_z + mean, variance + stderr.square()
        info = {"log_z": log_z, "log_z_stderr": variance.sqrt()}
        kernel = annealing.kernel_at(1.0)
        assert isinstance(kernel, Sampler)
        for move in kernel.walk(energy, x, tune):
            yield move._replace(info={**move.info, **info})
