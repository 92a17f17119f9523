"""The path from a base to a target, of sequential Monte Carlo and annealed importance sampling."""

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from likely.core.errors import LikelyError
from likely.core.weights import effective
from likely.sampling.sampler import Density, Energy, GradientSampler, Sampler

EnergyPath = Callable[[Tensor, float], Tensor]
Kernel = Callable[[Tensor, float], Tensor]

STAGES = 10_000  # after so many the target is out of reach
PILOT_ESS = 0.9  # what each stage of a pilot run keeps of the effective sample size …
PILOT_MOVES = 5  # … and its transitions


class Annealing:
    """A path of densities f_β from a base at 0 to a target at 1, with a kernel for each of them.

    Parameters
    ----------
    energy, base, kernel, path
        As in `ais`.
    """

    def __init__(
        self, energy: Energy, base: Density, kernel: Sampler | Kernel, path: EnergyPath | None
    ) -> None:
        self.energy, self.base, self.kernel, self.path = energy, base, kernel, path
        if isinstance(kernel, Sampler) and not kernel.invariant:
            raise LikelyError(f"{type(kernel).__name__} is biased by its step: use MALA or HMC")
        if isinstance(kernel, GradientSampler):
            kernel.check_single_step("annealing")
        self.betas: list[float] = []  # where the kernel's step was tuned …
        self.log_steps: list[float] = []  # … and to what

    def check(self, x: Tensor) -> None:
        """Raise a `LikelyError` if the energies on the way are not what the kernel needs."""
        if isinstance(self.kernel, Sampler):
            self.kernel.check(self.energy_at(0.5), x)

    def energy_at(self, beta: float) -> Energy:
        """−log f_β."""
        return lambda x: (self.path or self._geometric)(x, beta)

    def _geometric(self, x: Tensor, beta: float) -> Tensor:
        e = self.energy(x)
        return e if beta == 1 else beta * e - (1 - beta) * self.base.log_prob(x).to(e)

    def weighing(self, x: Tensor, beta: float) -> Callable[[float], Float[Tensor, " n"]]:
        """The log-weights log f_β'(x) − log f_β(x) as a function of β'."""
        path = self.path
        if path is not None:
            here = path(x, beta)
            return lambda after: (here - path(x, after)).double()
        difference = self.energy(x).double() + self.base.log_prob(x).double()
        return lambda after: (beta - after) * difference

    def kernel_at(self, beta: float) -> Sampler | Kernel:
        """The kernel, with its step as it was tuned nearby."""
        if isinstance(self.kernel, GradientSampler) and self.betas:
            log_step = np.interp(beta, self.betas, self.log_steps)
            return self.kernel.with_step(math.exp(log_step))
        return self.kernel

    def move(self, x: Tensor, beta: float) -> Tensor:
        """One transition at β."""
        kernel = self.kernel_at(beta)
        if isinstance(kernel, Sampler):
            return next(kernel.walk(self.energy_at(beta), x)).x
        return kernel(x, beta)

    def stages(
        self, x: Tensor, ess: float, moves: int
    ) -> Iterator[tuple[float, Tensor, Float[Tensor, " n"], Int64[Tensor, " n"]]]:
        """β, particles, log-weights and ancestors of each stage from the base to the target.

        Each β is as large as a part `ess` of the effective sample size allows; then the particles
        are resampled and moved, and a step that can be tuned is nudged towards its acceptance.
        """
        kernel, beta = self.kernel, 0.0
        for _ in range(STAGES):
            weigh = self.weighing(x, beta)
            beta = next_beta(weigh, beta, ess)
            log_weight = weigh(beta)
            ancestor = systematic(log_weight.softmax(0))
            x = x[ancestor]
            for _move in range(moves):
                if isinstance(kernel, GradientSampler) and kernel.target < 1:
                    move = next(kernel.walk(self.energy_at(beta), x))
                    assert move.acceptance is not None
                    factor = (move.acceptance.mean() - kernel.target).exp()
                    x, kernel = move.x, kernel.with_step(float(kernel.step * factor))
                else:
                    x = self.move(x, beta)
            if isinstance(kernel, GradientSampler) and kernel.target < 1:
                self.betas.append(beta)
                self.log_steps.append(math.log(kernel.step))
            yield beta, x, log_weight, ancestor
            if beta == 1:
                return
        raise LikelyError(f"β is {beta:.2g} after {STAGES} stages: use a wider base or more chains")

    def schedule(self, x: Tensor, temperatures: int) -> Float[Tensor, " steps"]:
        """β from 0 to 1, from a pilot run whose stages have equal effective sample sizes.

        It starts from draws x of the base, and tunes the kernel's step on the way.
        """
        betas = [0.0, *(beta for beta, *_ in self.stages(x, PILOT_ESS, PILOT_MOVES))]
        stages = np.linspace(0, 1, len(betas))
        placed = np.interp(np.linspace(0, 1, temperatures + 1), stages, betas)
        placed[-1] = 1.0
        return torch.from_numpy(placed)


def next_beta(weigh: Callable[[float], Float[Tensor, " n"]], beta: float, ess: float) -> float:
    """The largest β' ≤ 1 whose weights keep a part of the effective sample size, by bisection."""

    def keeps(after: float) -> bool:
        log_weight = weigh(after)
        return effective(log_weight) >= ess * len(log_weight)

    if keeps(1.0):
        return 1.0
    low, high = beta, 1.0
    while high - low > 0.01 * (high - beta) and high - beta > 1e-12:
        middle = (low + high) / 2
        low, high = (middle, high) if keeps(middle) else (low, middle)
    return high


def systematic(
    weight: Float[Tensor, "*rows n"], start: Float[Tensor, "*rows 1"] | None = None
) -> Int64[Tensor, "*rows n"]:
    """Indices of resampled particles, evenly spaced in the cumulative weight.

    Parameters
    ----------
    weight : Tensor, shape (*rows, n)
        Sums to 1 in each row.
    start : Tensor, shape (*rows, 1), optional
        Uniform numbers in [0, 1), where the first point of each row lies; by default one is drawn.
    """
    n = weight.shape[-1]
    start = torch.rand(1, device=weight.device) if start is None else start
    points = (torch.arange(n, device=weight.device) + start) / n
    return torch.searchsorted(weight.cumsum(-1), points.to(weight)).clamp_max(n - 1)
