"""Annealed importance sampling: log Z with its error, forwards and backwards.

Along a path of densities f_0 … f_K from a normalised base to the target, x_k is drawn by a kernel
that leaves f_k invariant, and the weight of a chain is

    log w = Σ_k log f_k(x_{k−1}) − log f_{k−1}(x_{k−1}),    E[w] = Z_K / Z_0.

So the mean of log Z̃ = log mean w is at most log Z (Jensen), while the same run backwards from exact
samples of the target gives at least log Z.

References
----------
Neal 2001, Statistics and Computing 11, 125. Grosse, Ghahramani & Adams 2015, arXiv:1511.02543 (the
reverse bound). Burda, Grosse & Salakhutdinov 2015, arXiv:1412.8566 (from approximate samples).
"""

import contextlib
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from likely.core.errors import LikelyError
from likely.core.likelihood import Figure
from likely.core.progress import shown, track
from likely.core.random import seeded
from likely.core.runtime import fast_products
from likely.core.weights import effective, log_mean
from likely.sampling.annealing import Annealing, EnergyPath, Kernel, systematic
from likely.sampling.hmc import HMC
from likely.sampling.sampler import Density, Energy, Sampler, check_energy

MIN_ESS = 0.2  # of the chains; with less, 95 % intervals cover in clearly fewer cases


@dataclass(frozen=True, eq=False, repr=False)
class Annealed:
    """An estimate of log Z.

    Attributes
    ----------
    log_z : Figure
        The forward estimate; a lower bound in expectation. Where a few chains carry all the weight (a
        small `ess`), it is too low, and so is its standard error: use more temperatures.
    reverse : Figure, optional
        The reverse one.
    exact : bool
        Whether the reverse run started from exact samples, so that it is an upper bound in
        expectation; from long chains it is only a diagnostic: chains that miss a mode miss it
        forwards and backwards.
    log_weights : Tensor, shape (chains,)
        Of the forward run, with log Z_0: their log-mean-exp is `log_z`.
    samples : Tensor, shape (chains, ...)
        Last states of the forward run; with the weights they stand for the target.
    betas : Tensor, shape (temperatures + 1,)
        The schedule.
    """

    log_z: Figure
    reverse: Figure | None
    exact: bool
    log_weights: Float[Tensor, " chains"]
    samples: Shaped[Tensor, "chains *shape"]
    betas: Float[Tensor, " steps"]

    @cached_property
    def ess(self) -> float:
        """Effective sample size of the forward weights."""
        return effective(self.log_weights)

    @property
    def gap(self) -> Figure | None:
        """Reverse minus forward estimate: with exact samples, log Z lies between the two."""
        if self.reverse is None:
            return None
        stderr = math.hypot(self.reverse.stderr or 0, self.log_z.stderr or 0)
        return Figure(self.reverse.value - self.log_z.value, stderr)

    @property
    def notes(self) -> tuple[str, ...]:
        """What is wrong with the estimate, in words."""
        apart, gap = None, self.gap
        if gap is not None and not abs(gap.value) <= 0.1 + 3 * (gap.stderr or 0):  # NaN counts
            apart = f"forwards and backwards differ by {gap}: more temperatures, or a better kernel"
        return tuple(filter(None, (low_ess(self.ess, len(self.log_weights)), apart)))

    def __repr__(self) -> str:
        kind = "upper bound in expectation" if self.exact else "diagnostic, from long chains"
        reverse = "" if self.reverse is None else f"; reverse {self.reverse} ({kind})"
        first = f"log Z = {self.log_z}{reverse}; ESS {self.ess:.0f} of {len(self.log_weights)}"
        return "\n".join([first, *(f"WARNING: {note}" for note in self.notes)])


def low_ess(ess: float, chains: int) -> str | None:
    """What is wrong where the weights of so many chains have this effective sample size."""
    if ess >= MIN_ESS * chains:
        return None
    worth = f"the weights of {chains} chains are worth {ess:.1f}"
    return f"{worth}: the error is underestimated; use more temperatures"


def ais(
    energy: Energy,
    base: Density,
    *,
    kernel: Sampler | Kernel | None = None,
    path: EnergyPath | None = None,
    betas: int | Sequence[float] | Float[Tensor, " steps"] = 1000,
    chains: int = 512,
    exact: Shaped[Tensor, "n *shape"] | None = None,
    init: Shaped[Tensor, "n *shape"] | None = None,
    chain_steps: int = 1000,
    reverse: bool = True,
    seed: int | None = None,
    progress: bool = False,
) -> Annealed:
    """log Z = log ∫ e^(−E) by annealed importance sampling, forwards and backwards.

    Parameters
    ----------
    energy : callable (n, ...) -> (n,)
        E.
    base : object with `sample(n, seed=...)` and `log_prob(x)`
        Normalised, and not narrower than the target.
    kernel : Sampler, or callable (x, beta) -> x, optional
        Leaves f_β invariant. By default `HMC` of 5 leapfrogs.
    path : callable (x, beta) -> (n,), optional
        −log f_β(x): ∝ the base at 0, and E at 1. By default the geometric one,
        (β − 1) log q(x) + β E(x), for which each temperature takes one evaluation; another path
        takes two, at the same x, the second just before the kernel at that x and β.
    betas : int, or sequence or Tensor rising from 0 to 1
        How many temperatures; a pilot run of sequential Monte Carlo places them so that each loses
        the same effective sample size, and tunes the step of a `Sampler`. Or the temperatures
        themselves, with the kernel as it is.
    chains : int
        In both directions, unless `exact` or `init` has another number.
    exact : Tensor, shape (n, ...), optional
        Exact, independent samples of the target, from which the reverse run starts.
    init : Tensor, shape (n, ...), optional
        Where the long chains start otherwise (training data are a good choice); by default at the
        ends of the forward run, resampled by their weights.
    chain_steps : int
        Length of those chains.
    reverse : bool
        False leaves the reverse run out.
    seed : int, optional
        By default torch's global generator is used.
    progress : bool
        Show progress bars, on a terminal.

    Returns
    -------
    Annealed

    Raises
    ------
    LikelyError
        If the schedule does not rise from 0 to 1, the energy is not valid, or the path does not lead
        from the base to it.
    """
    if isinstance(betas, Integral):  # NumPy's, too
        betas = int(betas)
    if chains < 2 or (isinstance(betas, int) and betas < 1) or chain_steps < 0:
        raise LikelyError(
            f"{chains=}, {betas=}, {chain_steps=}: give two chains or more, and one β"
        )
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.enter_context(seeded(seed))
        stack.enter_context(shown("ais", progress))
        x = base.sample(chains, seed=_seed())
        stack.enter_context(fast_products(x.device))
        check_energy(energy, x, outside=True)
        log_z0 = _log_z0(x, energy, base, path)
        if kernel is None:
            if not x.is_floating_point():
                raise LikelyError("ais: the base's samples are discrete: give kernel=Gibbs(domain)")
            kernel = HMC(0.1, leapfrogs=5)
        annealing = Annealing(energy, base, kernel, path)
        annealing.check(x)
        if isinstance(betas, int):
            schedule = annealing.schedule(base.sample(chains, seed=_seed()), betas)
        else:
            schedule = torch.as_tensor(betas).double().cpu()
            if [*schedule[:1], *schedule[-1:]] != [0, 1] or not (schedule.diff() > 0).all():
                raise LikelyError("ais: betas must rise from 0 to 1")
        x, log_weight = _anneal(annealing, x, schedule)
        log_weight = log_z0 + log_weight
        backwards = None
        if reverse:
            start = init if exact is None else exact
            if start is None:  # by their weights: some may not have reached the target
                start = x[systematic(log_weight.softmax(0))]
            start = start.to(x)
            if exact is None:
                for _ in track(range(chain_steps), "long chains"):
                    start = annealing.move(start, 1.0)
            inverse = log_mean(_anneal(annealing, start, schedule.flip(0))[1])
            backwards = Figure(log_z0 - inverse.value, inverse.stderr)
    return Annealed(log_mean(log_weight), backwards, exact is not None, log_weight, x, schedule)


def _seed() -> int:
    return int(torch.randint(2**62, ()))


def _log_z0(x: Tensor, energy: Energy, base: Density, path: EnergyPath | None) -> float:
    """log Z of the path's start, after a check that it is the base, and its end the energy."""
    if path is None:
        return 0.0
    e, start = energy(x), -path(x, 0.0) - base.log_prob(x)
    if not start.isfinite().all():
        raise LikelyError("ais: the path at β = 0 is not finite at a draw of the base: 0 · ∞?")
    tolerance = 1e-3 + 1e-4 * e.abs()
    if ((start - start.mean()).abs() > tolerance).any():
        raise LikelyError("ais: the path at β = 0 is not ∝ the base")
    if ((e - path(x, 1.0)).abs() > tolerance).any():
        raise LikelyError("ais: the path at β = 1 is not the energy")
    return start.double().mean().item()


def _anneal(
    annealing: Annealing, x: Tensor, schedule: Tensor
) -> tuple[Tensor, Float[Tensor, " n"]]:
    """Last states and log-weights of a run along a schedule."""
    log_weight = torch.zeros(len(x), dtype=torch.float64, device=x.device)
    for beta, after in track([*itertools.pairwise(schedule.tolist())], "temperatures"):
        log_weight += annealing.weighing(x, beta)(after)
        x = annealing.move(x, after)
    return x, log_weight
