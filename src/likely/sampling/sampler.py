"""What all samplers share: the run, the check of an energy, gradients, acceptance, step sizes."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import ClassVar, NamedTuple, Protocol, Self

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from likely.contract.views import LOG_TWO_PI
from likely.core.columns import Column, Interval, Periodic, Positive
from likely.core.domain import Domain
from likely.core.errors import DomainError, LikelyError
from likely.core.progress import shown, track
from likely.core.random import seeded
from likely.core.runtime import check_compilable, compiled, fast_products, keep_freed_memory
from likely.sampling.chain import Chain

Energy = Callable[[Tensor], Tensor]


class Density(Protocol):
    """What can be drawn from and has a normalised density: a model, or a target."""

    def sample(self, n: int, *, seed: int) -> Tensor: ...
    def log_prob(self, x: Tensor) -> Tensor: ...


class Move(NamedTuple):
    """The state after one transition; None stands for all accepted, none invalid."""

    x: Shaped[Tensor, "n *shape"]
    energy: Float[Tensor, " n"]
    acceptance: Float[Tensor, " n"] | None = None
    invalid: Bool[Tensor, " n"] | None = None
    info: Mapping[str, Tensor] = {}


class Sampler(ABC):
    """A Markov chain whose stationary density is ∝ exp(−E(x)), run for many chains at a time."""

    domain: Domain | None
    annealed: ClassVar[bool] = False  # starts from a base, which may reach beyond the support
    invariant: ClassVar[bool] = True  # the density ∝ exp(−E) is stationary, and not nearly

    @abstractmethod
    def walk(self, energy: Energy, x: Tensor, tune: int = 0) -> Iterator[Move]:
        """Transitions of all chains from x on, without end.

        The first `tune` may adapt the sampler; after them it is a fixed kernel. Nothing is checked
        here, and gradients are off outside the energy.
        """

    def check(self, energy: Energy, x: Tensor) -> None:  # noqa: B027 – most samplers take any energy
        """Raise a `LikelyError` if the energy is not what the sampler needs, as seen from x."""

    def run(
        self,
        energy: Energy,
        init: Shaped[Tensor, "chains *shape"],
        steps: int,
        seed: int | None = None,
        *,
        burn_in: int = 0,
        thin: int = 1,
        progress: bool = False,
    ) -> Chain:
        """Run all chains.

        Parameters
        ----------
        energy : callable (n, ...) -> (n,)
            E, with density ∝ exp(−E); +∞ outside the support. One call takes many chains.
        init : Tensor, shape (chains, ...)
            Where the chains start.
        steps : int
            Transitions after the burn-in.
        seed : int, optional
            By default torch's global generator is used.
        burn_in : int
            Transitions before, which are thrown away, and tune what the sampler can tune.
        thin : int
            Keep every `thin`-th state.
        progress : bool
            Show progress bars, on a terminal.

        Returns
        -------
        Chain
            `samples` of shape (chains, steps // thin, ...), and diagnostics.

        Raises
        ------
        LikelyError
            If there is nothing to run, the energy has the wrong shape, is no finite number at the
            start, or stops being one on the way.
        """
        init = torch.as_tensor(init)
        whole = int(steps), int(thin), int(burn_in)
        if whole != (steps, thin, burn_in) or not steps >= thin >= 1 or burn_in < 0:
            raise LikelyError(
                f"{steps=}, {thin=}, {burn_in=}: give whole numbers, steps ≥ thin ≥ 1, burn_in ≥ 0"
            )
        steps, thin, burn_in = whole
        keep_freed_memory()
        where = init.device
        with torch.no_grad(), seeded(seed, where), fast_products(where), shown("run", progress):
            check_energy(energy, init, self.domain, outside=self.annealed)
            self.check(energy, init)
            walk = self.walk(energy, init, burn_in)
            for _ in track(range(burn_in), "burn-in"):
                next(walk)
            chains, draws = len(init), steps // thin
            samples = init.new_empty(draws, *init.shape)
            energies: Tensor | None = None
            acceptance = torch.full((chains,), float(steps), device=init.device)
            invalid = torch.zeros(chains, device=init.device)
            for t in track(range(1, steps + 1), "steps"):
                move = next(walk)
                if move.acceptance is not None:
                    acceptance += move.acceptance - 1
                if move.invalid is not None:
                    invalid += move.invalid
                if t % thin == 0:
                    if energies is None:
                        energies = move.energy.new_empty(draws, chains)
                    samples[t // thin - 1] = move.x
                    energies[t // thin - 1] = move.energy
        assert energies is not None
        broken = energies.isfinite().logical_not().any(1).nonzero()
        if len(broken):
            after = f"after step {(int(broken[0]) + 1) * thin + burn_in}"
            raise LikelyError(f"the energy is not finite {after}: use a smaller step, or MALA")
        rates = acceptance / steps, invalid / steps
        return Chain(samples.transpose(0, 1), energies.T, *rates, self.domain, move.info)


def check_energy(
    energy: Energy, x: Tensor, domain: Domain | None = None, *, outside: bool = False
) -> None:
    """Raise unless an energy gives one finite number for each row of x, all inside the domain.

    `outside` allows +∞ in some rows: draws of a base that reaches beyond the target's support.

    Raises
    ------
    LikelyError
        With what is wrong.
    """
    if not len(x):
        raise LikelyError("init holds no chains: give a tensor of shape (chains, ...)")
    if domain is not None:
        domain.check(x, "init")
    e = energy(x)
    if not isinstance(e, Tensor) or e.shape != x.shape[:1] or not e.is_floating_point():
        got = f"a {e.dtype} of shape {(*e.shape,)}" if isinstance(e, Tensor) else type(e).__name__
        raise LikelyError(f"the energy must be floating-point, of shape ({len(x)},), not {got}")
    good = e.isfinite() | (e == torch.inf) if outside and e.isfinite().any() else e.isfinite()
    for row in good.logical_not().nonzero()[:1, 0].tolist():
        raise LikelyError(f"energy of state {row} of init is {e[row]}: start where it is finite")


def value_and_gradient(energy: Energy, x: Tensor) -> tuple[Float[Tensor, " n"], Tensor]:
    """E(x) and ∂E/∂x, row by row; the energy's parameters get no gradients.

    Raises
    ------
    LikelyError
        If the energy has no gradient.
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        e = energy(x)
        if not e.requires_grad:
            raise LikelyError("the energy has no gradient: write it in torch, or use Gibbs")
        (gradient,) = torch.autograd.grad(e, x, torch.ones_like(e))
    return e.detach(), gradient


Gradients = Callable[[Tensor], tuple[Tensor, Tensor]]


def compiled_gradients(energy: Energy) -> Gradients:
    """`value_and_gradient` of an energy, compiled at the first call by torch.compile.

    Raises
    ------
    LikelyError
        From the call, if the energy cannot be compiled.
    """

    def value(x: Tensor) -> tuple[Tensor, Tensor]:
        e = energy(x)
        return e.sum(), e

    gradient: Gradients = compiled(torch.func.grad(value, has_aux=True))

    def gradients(x: Tensor) -> tuple[Tensor, Tensor]:
        with check_compilable("energy"):
            slope, e = gradient(x)
        return e, slope

    return gradients


def rows(value: Tensor, like: Tensor) -> Tensor:
    """One value a row, shaped so that it broadcasts over that row's entries."""
    return value.view(-1, *[1] * (like.ndim - 1))


def metropolis(
    log_ratio: Float[Tensor, " n"], state: Sequence[Tensor], proposal: Sequence[Tensor]
) -> tuple[list[Tensor], Float[Tensor, " n"], Bool[Tensor, " n"]]:
    """The next state, acceptance probabilities, and which proposed energies are not valid.

    Energies come first in a state. A proposal without one (NaN, −∞) or without a ratio is rejected.
    """
    invalid = proposal[0].isnan() | (proposal[0] == -torch.inf)
    log_ratio = torch.where(invalid | log_ratio.isnan(), -torch.inf, log_ratio)
    accepted = torch.rand_like(log_ratio).log() < log_ratio
    pairs = zip(state, proposal, strict=True)
    after = [torch.where(rows(accepted, old), new, old) for old, new in pairs]
    return after, log_ratio.clamp_max(0).exp(), invalid


class DualAveraging:
    """Step sizes that bring acceptances to a target, each for itself.

    References
    ----------
    Hoffman & Gelman 2014, JMLR 15, 1593 (Section 3.2, eq. 6, with its constants).
    """

    def __init__(self, step: Tensor, target: float) -> None:
        self.target, self.count = target, 0
        self.centre = (10 * step).log()
        self.error = torch.zeros_like(step)
        self.average = step.log()

    def update(self, acceptance: Tensor) -> Tensor:
        """The step to try next."""
        self.count += 1
        acceptance = acceptance.to(self.error)  # an energy in float64 does not widen the chains
        weight = 1 / (self.count + 10)
        self.error = (1 - weight) * self.error + weight * (self.target - acceptance)
        log_step = self.centre - math.sqrt(self.count) / 0.05 * self.error
        weight = self.count**-0.75
        self.average = weight * log_step + (1 - weight) * self.average
        return log_step.exp()

    @property
    def step(self) -> Tensor:
        """The averaged step, to keep."""
        return self.average.exp()


@dataclass(frozen=True)
class GradientSampler(Sampler):
    """A sampler that moves along gradients, in coordinates without bounds.

    Real columns are their own coordinate, and so are periodic ones, on their covering line; a
    positive column moves in its logarithm and an interval in Φ⁻¹ of its part, with the Jacobian in
    the energy.

    Parameters
    ----------
    step : float or Tensor of shape (n,)
        Step size, of all chains or of each.
    domain : Domain, optional
        Where a sample lives; by default R^d.
    compile : bool
        Compile the energy's value and gradient (torch.compile): some seconds at the first step, which
        long runs on a network repay; further runs on the same energy need none. torch compiles eight
        energies in a process, and runs others as they are, with a warning.
    """

    scaling: ClassVar[float]  # the step suits temperature T as step · T^scaling
    target: ClassVar[float] = 1.0  # acceptance that the step is tuned to; 1: it is not

    step: float | Tensor = 0.1
    domain: Domain | None = None
    compile: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        if not (torch.as_tensor(self.step) > 0).all():
            raise LikelyError(f"{type(self).__name__}: the step must be positive, not {self.step}")
        if not isinstance(self.domain, Domain | None):
            raise DomainError(f"{self.domain!r} is not a domain: for columns, use lk.table(…)")
        if self.domain is not None and any(column.discrete for column in self.domain.columns):
            raise DomainError(f"{type(self).__name__} needs continuous columns: use Gibbs")

    @abstractmethod
    def _walk(self, energy: Energy, x: Tensor, tune: int) -> Iterator[Move]:
        """`walk` in unbounded coordinates."""

    def walk(self, energy: Energy, x: Tensor, tune: int = 0) -> Iterator[Move]:
        if not x.is_floating_point():
            raise LikelyError(f"gradients need floating-point states, and init is {x.dtype}")
        groups = [] if self.domain is None else self.domain.groups
        curved = [group for group in groups if isinstance(group[0], Positive | Interval)]
        if not curved:
            yield from self._walk(energy, x, tune)
            return

        def energy_of_z(z: Tensor) -> Tensor:
            y, log_slope = _from_coordinates(curved, z)
            return energy(y) - log_slope

        for move in self._walk(energy_of_z, _to_coordinates(curved, x), tune):
            y, log_slope = _from_coordinates(curved, move.x)
            yield move._replace(x=y, energy=move.energy + log_slope)

    def _start(self, energy: Energy, x: Tensor) -> tuple[Gradients, Tensor, Tensor]:
        """x ↦ E(x), ∂E/∂x for many calls, and both at x."""
        plain = partial(value_and_gradient, energy)
        return compiled_gradients(energy) if self.compile else plain, *plain(x)

    def with_step(self, step: float | Tensor) -> Self:
        """The same with another step."""
        return replace(self, step=step)

    def check_single_step(self, where: str) -> None:
        """Raise a `LikelyError` unless all chains have one step."""
        if torch.as_tensor(self.step).numel() != 1:
            raise LikelyError(f"{where} changes the step: give one for all chains")


Curved = list[tuple[Column, list[int]]]


def _to_coordinates(curved: Curved, x: Tensor) -> Tensor:
    z = x.flatten(1).clone()
    for column, index in curved:
        if not isinstance(column, Periodic):
            z[:, index] = column.to_reals(z[:, index])[0]
    return z.reshape(x.shape)


def _from_coordinates(curved: Curved, z: Tensor) -> tuple[Tensor, Float[Tensor, " n"]]:
    """x, and Σ log |dx/dz| of its columns."""
    flat = z.flatten(1)
    x, log_slope = flat.clone(), flat.new_zeros(len(flat))
    for column, index in curved:
        part = flat[:, index]
        if isinstance(column, Periodic):
            x[:, index] = column.low + (part - column.low).remainder(column.high - column.low)
            continue
        x[:, index] = column.from_reals(part)
        if isinstance(column, Interval):
            log_width = math.log(column.high - column.low)
            part = log_width - (part.square() + LOG_TWO_PI) / 2
        log_slope = log_slope + part.sum(1)
    return x.reshape(z.shape), log_slope
