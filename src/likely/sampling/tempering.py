"""Parallel tempering: replicas at rising temperatures, which swap their states.

Replica k samples exp(−E/T_k), and neighbours k and k + 1 swap with probability
min(1, exp[(1/T_k − 1/T_{k+1}) (E_k − E_{k+1})]), even and odd pairs in turn.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from likely.core.domain import Domain
from likely.core.errors import LikelyError
from likely.sampling.hmc import HMC
from likely.sampling.sampler import DualAveraging, Energy, GradientSampler, Move, Sampler

SWAPS = 0.4  # probability of a swap that a ladder of our own is tuned to …
RATIO = 2.0  # … with temperatures that rise by this factor at most


def replica_pairs(
    replicas: int, start: int | None = None, device: torch.device | None = None
) -> tuple[Int64[Tensor, " pairs"], Int64[Tensor, " pairs"]]:
    """Every second pair of neighbouring replicas, from `start`: 0, 1, or by default one at random."""
    start = int(torch.randint(2, ())) if start is None else start
    low = torch.arange(start, replicas - 1, 2, device=device)
    return low, low + 1


def swap(
    low: Int64[Tensor, " pairs"], log_ratio: Float[Tensor, "pairs n"], *states: Tensor
) -> None:
    """Swap what replicas `low` and `low` + 1 hold, by Metropolis' rule and in place.

    States have shape (replicas, n, ...).
    """
    accepted = torch.rand_like(log_ratio).log() < log_ratio
    for state in states:
        chosen = accepted.view(*accepted.shape, *[1] * (state.ndim - 2))
        cold, hot = state[low], state[low + 1]
        state[low] = torch.where(chosen, hot, cold)
        state[low + 1] = torch.where(chosen, cold, hot)


@dataclass(frozen=True)
class ParallelTempering(Sampler):
    """Parallel tempering of any other sampler; the draws are those at temperature 1.

    `ParallelTempering().run(energy, init, 1000, burn_in=1000)` is a good start. A burn-in tunes the
    step of `MALA` and `HMC` at each temperature for itself. `info["swaps"]` of the result is the mean
    probability of a swap between each two neighbours after it: where one is below 0.2 or so, put
    more temperatures there.

    Parameters
    ----------
    sampler : Sampler
        Moves each replica between swaps; its step belongs to temperature 1. By default `HMC` of 5
        leapfrogs: longer trajectories diverge where hot replicas are far out.
    temperatures : int or sequence of float
        How many: 1, 2, 4 …, of which a burn-in moves neighbours closer until they swap with
        probability 0.4, and `info["temperatures"]` is the result. Or the temperatures themselves,
        rising from 1.

    References
    ----------
    Geyer 1991, Computing Science and Statistics 23, 156; Syed, Bouchard-Côté, Deligiannidis &
    Doucet 2022, JRSS B 84, 321 (even and odd pairs in turn).
    """

    sampler: Sampler = HMC(leapfrogs=5)  # noqa: RUF009 – it is frozen
    temperatures: int | Sequence[float] = 8

    def __post_init__(self) -> None:
        T = self._ladder
        if len(T) < 2 or T[0] != 1 or any(a >= b for a, b in itertools.pairwise(T)):
            raise LikelyError(f"temperatures must rise from 1, and be two at least, not {T}")
        if isinstance(self.sampler, GradientSampler):
            self.sampler.check_single_step("ParallelTempering")

    @property
    def _ladder(self) -> list[float]:
        """The temperatures at the start."""
        if isinstance(self.temperatures, Integral):  # NumPy's, too
            return [RATIO**k for k in range(int(self.temperatures))]
        return list(self.temperatures)  # type: ignore[arg-type]

    @property
    def invariant(self) -> bool:  # type: ignore[override]
        return self.sampler.invariant

    @property
    def domain(self) -> Domain | None:  # type: ignore[override]
        return self.sampler.domain

    def check(self, energy: Energy, x: Tensor) -> None:
        self.sampler.check(energy, x)

    def walk(self, energy: Energy, x: Tensor, tune: int = 0) -> Iterator[Move]:
        n, inner = len(x), self.sampler
        T = torch.tensor(self._ladder, dtype=torch.float64, device=x.device)
        K = len(T)
        temperature = T.repeat_interleave(n)

        def tempered(y: Tensor) -> Tensor:  # of all replicas, or of several copies of them
            e = energy(y)
            return (e.view(-1, len(temperature)) / temperature.to(e.dtype)).flatten()

        if isinstance(inner, GradientSampler):
            step = (float(inner.step) * T**inner.scaling).to(x.dtype)
            tuner = DualAveraging(step, inner.target)
        adapts = isinstance(self.temperatures, Integral)
        ladder = DualAveraging(T.log().diff(), SWAPS)
        y = x.repeat(K, *[1] * (x.ndim - 1))
        for t in itertools.count(1):
            if t in (1, tune + 1):  # swaps of the burn-in say nothing about the temperatures
                tried, swapped = torch.zeros(2, K - 1, device=x.device)
            if isinstance(inner, GradientSampler):
                inner = inner.with_step(step.repeat_interleave(n))
            move = next(inner.walk(tempered, y))
            if isinstance(inner, GradientSampler) and inner.target < 1 and t <= tune:
                assert move.acceptance is not None
                step = tuner.update(move.acceptance.view(K, n).mean(1)) if t < tune else tuner.step
            y, e = move.x.view(K, n, *x.shape[1:]).clone(), move.energy.view(K, n)
            e = e * T[:, None].to(e.dtype)
            low, _ = replica_pairs(K, t % 2, x.device)
            log_ratio = (1 / T[:-1] - 1 / T[1:])[:, None].to(e.dtype) * (e[:-1] - e[1:])
            swap(low, log_ratio[low], y, e)
            probability = log_ratio.clamp_max(0).exp().mean(1)
            tried[low] += 1
            swapped[low] += probability[low].to(swapped.dtype)
            if adapts and t <= tune:
                gap = ladder.update(probability.nan_to_num(0))
                gap = (gap if t < tune else ladder.step).clamp_max(math.log(RATIO))
                T[1:] = gap.cumsum(0).exp()
                temperature.copy_(T.repeat_interleave(n))
                if isinstance(inner, GradientSampler) and inner.target == 1:  # which tunes no step
                    step = (float(self.sampler.step) * T**inner.scaling).to(x.dtype)  # type: ignore[attr-defined]
            info = {"swaps": swapped / tried, "temperatures": T.clone()}
            if isinstance(inner, GradientSampler):
                info["step"] = step
            acceptance = None if move.acceptance is None else move.acceptance[:n]
            invalid = e.isfinite().logical_not()  # of any replica: it then swaps no more
            if move.invalid is not None:
                invalid = invalid | move.invalid.view(K, n)
            yield Move(y[0], e[0], acceptance, invalid.any(0), info)
            y = y.flatten(0, 1)
