"""Sequential Monte Carlo: particles that go from a base to the target, weighted and resampled.

Along p_β ∝ q^(1−β) e^(−βE), each next β is as large as the effective sample size of the weights
w = e^(−Δβ (E + log q)) allows; the product of their means estimates Z.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from likely.core.domain import Domain
from likely.core.errors import LikelyError
from likely.sampling.annealing import Annealing
from likely.sampling.sampler import Density, Energy, Move, Sampler


@dataclass(frozen=True)
class SMC(Sampler):
    """Sequential Monte Carlo; `init` of `run` must be draws from the base.

    At the target the particles continue as chains of `kernel`, whose draws are returned. `info` of
    the result holds `log_z` with `log_z_stderr`, from the parts of the particles that descend from
    the same draw of the base: the more of them do, the less the kernel has made them forget it. It
    is too small where many stages leave only a few families, and 1 where they leave one.

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
    Del Moral, Doucet & Jasra 2006, JRSS B 68, 411. Lee & Whiteley 2018, Biometrika 105, 609 (the
    error by common ancestors; systematic resampling adds no noise of its own to it).
    """

    annealed = True

    base: Density
    kernel: Sampler
    moves: int = 5
    ess: float = 0.5

    def __post_init__(self) -> None:
        if self.moves < 1 or not 0 < self.ess < 1:
            raise LikelyError(f"moves={self.moves}, ess={self.ess}: give moves ≥ 1, 0 < ess < 1")

    @property
    def domain(self) -> Domain | None:  # type: ignore[override]
        return self.kernel.domain

    def walk(self, energy: Energy, x: Tensor, tune: int = 0) -> Iterator[Move]:
        annealing = Annealing(energy, self.base, self.kernel, None)
        if len(x) < 2:
            raise LikelyError("SMC: at least two particles are needed")
        if (x == x[:1]).all():
            raise LikelyError("SMC: all particles of init are the same: use base.sample(n, seed=…)")
        annealing.check(x)
        log_z = torch.zeros((), dtype=torch.float64, device=x.device)
        n, first = len(x), torch.arange(len(x), device=x.device)
        for _, particles, log_weight, ancestor in annealing.stages(x, self.ess, self.moves):
            x, first = particles, first[ancestor]
            log_z = log_z + log_weight.logsumexp(0) - math.log(n)
        share = first.bincount(minlength=n).double() / n
        variance = (n * share.square().sum() - 1) / (n - 1)
        info = {"log_z": log_z, "log_z_stderr": variance.clamp_min(0).sqrt()}
        kernel = annealing.kernel_at(1.0)
        assert isinstance(kernel, Sampler)
        for move in kernel.walk(energy, x, tune):
            yield move._replace(info={**move.info, **info})
