"""Langevin dynamics, as it is and with a Metropolis correction.

    x ← x − η ∇E(x) + √(2η) ξ,    ξ ~ N(0, 1)

Unadjusted, its stationary law is off by O(η): on a unit Gaussian its variance is 1/(1 − η/2).
Accepting each step with the Metropolis–Hastings probability (MALA) removes that.

References
----------
Roberts & Tweedie 1996, Bernoulli 2, 341.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from likely.sampling.sampler import DualAveraging, Energy, GradientSampler, Move, metropolis, rows

NOISE = 1 << 16  # numbers of noise that are drawn in one call, at most: they stay in the cache


def _noise(x: Tensor) -> Iterator[Tensor]:
    """Standard normal tensors like x without end, drawn in blocks that double up to `NOISE`."""
    block = 1
    while True:
        yield from torch.randn(block, *x.shape, dtype=x.dtype, device=x.device)
        block = max(1, min(2 * block, NOISE // x.numel()))


@dataclass(frozen=True)
class Langevin(GradientSampler):
    """Unadjusted Langevin dynamics: fast, and biased by its step.

    Nothing is rejected, and no diagnostic shows the bias: compare with half of the step, or with MALA.

    Parameters
    ----------
    step : float or Tensor of shape (n,)
        η, of all chains or of each; 0.01 suits coordinates of a deviation about 1.
    domain, compile
        As in `GradientSampler`: where a sample lives, and whether the energy is compiled.
    """

    scaling = 1.0
    invariant = False

    step: float | Tensor = 0.01

    def _walk(self, energy: Energy, x: Tensor, tune: int) -> Iterator[Move]:
        step = rows(torch.as_tensor(self.step, dtype=x.dtype, device=x.device), x)
        spread = (2 * step).sqrt()
        gradients, _, gradient = self._start(energy, x)
        for noise in _noise(x):
            x = noise.mul_(spread).add_(x).addcmul_(gradient, step, value=-1)
            e, gradient = gradients(x)
            yield Move(x, e)


class MALA(GradientSampler):
    """Metropolis-adjusted Langevin: exact; a burn-in tunes its step to an acceptance of 0.574.

    Parameters
    ----------
    step, domain, compile
        As in `Langevin`.

    References
    ----------
    Roberts & Rosenthal 1998, JRSS B 60, 255: the acceptance.
    """

    scaling = 1.0
    target = 0.574

    def _walk(self, energy: Energy, x: Tensor, tune: int) -> Iterator[Move]:
        step = torch.as_tensor(self.step, dtype=x.dtype, device=x.device)
        tuner = DualAveraging(step, self.target)
        gradients, e, gradient = self._start(energy, x)
        for t, noise in enumerate(_noise(x)):
            eta = rows(step, x)
            y = x - eta * gradient + (2 * eta).sqrt() * noise
            f, gradient_y = gradients(y)
            back = (x - y + eta * gradient_y).square() / (4 * eta)
            log_ratio = e - f + (noise.square() / 2 - back).view(len(x), -1).sum(1)
            state, proposal = (e, x, gradient), (f, y, gradient_y)
            (e, x, gradient), acceptance, invalid = metropolis(log_ratio, state, proposal)
            if t < tune:
                step = tuner.update(acceptance.mean()) if t < tune - 1 else tuner.step
            yield Move(x, e, acceptance, invalid, {"step": step})
