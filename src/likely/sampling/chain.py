"""Chain: what a sampler's run returns, and the convergence diagnostics of its draws."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Shaped
from torch import Tensor

from likely.core.columns import Periodic
from likely.core.domain import Domain
from likely.core.likelihood import Figure
from likely.core.target import check_values

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Picture

R_HAT = 1.01  # above this, and with fewer effective draws than these, chains count as not mixed
ESS = 400
MONITORED = 32  # entries of a sample that are looked at, evenly spread, next to the energy


@dataclass(frozen=True)
class Diagnostics:
    """How well a run's chains have mixed: the worst over the energy and at most 32 entries.

    Attributes
    ----------
    acceptance : float
        Mean acceptance probability; 1 where nothing can be rejected.
    r_hat : float
        Largest rank-normalised split R̂; infinite where chains stand still at different values, NaN
        with fewer than 4 draws.
    ess_bulk, ess_tail : float
        Smallest effective sample size of the bulk, and of the 5 % and 95 % quantiles.
    tau_int : float
        Largest integrated autocorrelation time in draws, 1 + 2 Σ_t ρ(t) = draws / ESS of the mean:
        1 for independent draws. Where chains disagree it grows with their disagreement.
    notes : tuple of str
        What is wrong with the run, in words; empty if nothing is.

    References
    ----------
    Vehtari, Gelman, Simpson, Carpenter & Bürkner 2021, Bayesian Analysis 16, 667: R̂ ≤ 1.01 and an
    effective sample size of at least 400. Computed by ArviZ.
    """

    acceptance: float
    r_hat: float
    ess_bulk: float
    ess_tail: float
    tau_int: float
    notes: tuple[str, ...]

    @property
    def mixed(self) -> bool:
        """Whether nothing speaks against it; chains that all miss the same mode go unnoticed."""
        return not self.notes

    def __str__(self) -> str:
        figures = (
            f"acceptance {self.acceptance:.3g}, R̂ {self.r_hat:.4g}, ESS {self.ess_bulk:.0f} (bulk) "
            f"{self.ess_tail:.0f} (tail), τ_int {self.tau_int:.3g} draws"
        )
        return "\n".join([figures, *(f"NOT MIXED: {note}" for note in self.notes)])


@dataclass(frozen=True)
class Average(Figure):
    """A mean over chains, with the error that its autocorrelation leaves.

    Attributes
    ----------
    tau_int : float
        As in `Diagnostics`, 1 + 2 Σ_t ρ(t) in draws: twice the ½ + Σ_t ρ(t) of most lattice papers.
    """

    tau_int: float = 1.0


@dataclass(frozen=True, eq=False, repr=False)
class Chain:
    """Draws of several chains.

    Attributes
    ----------
    samples : Tensor, shape (chains, draws, ...)
    energy : Tensor, shape (chains, draws)
        Of each draw.
    acceptance : Tensor, shape (chains,)
        Mean acceptance probability of each chain after its burn-in.
    invalid : Tensor, shape (chains,)
        Part of each chain's proposals whose energy was NaN or −∞; they were rejected.
    domain : Domain, optional
        Diagnostics look at cosine and sine of its periodic columns.
    info : dict of Tensor
        What the sampler adds: `step` as it was tuned, `swaps` between temperatures, `log_z` …
    """

    samples: Shaped[Tensor, "chains draws *shape"]
    energy: Float[Tensor, "chains draws"]
    acceptance: Float[Tensor, " chains"]
    invalid: Float[Tensor, " chains"]
    domain: Domain | None = None
    info: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def last(self) -> Shaped[Tensor, "chains *shape"]:
        """The last state of each chain."""
        return self.samples[:, -1]

    @property
    def mixed(self) -> bool:
        """Whether the diagnostics have nothing to say against it."""
        return self.diagnostics.mixed

    @cached_property
    def diagnostics(self) -> Diagnostics:
        """Computed when it is first asked for."""
        acceptance = self.acceptance.mean().item()
        r_hat, bulk, tail, tau_int = _worst(self._monitored())
        return Diagnostics(acceptance, r_hat, bulk, tail, tau_int, self._notes(r_hat, bulk, tail))

    def expect(self, f: Callable[[Tensor], Tensor]) -> Average:
        """Mean of an observable, with its error and autocorrelation time.

        Parameters
        ----------
        f : callable (n, ...) -> (n,)
            Of samples.

        Raises
        ------
        LikelyError
            If it does not return a number for each sample.
        """
        x = self.samples.flatten(0, 1)
        value = f(x)
        check_values(value, len(x), "expect: the observable")
        return self.average(value.double().view(self.energy.shape))

    def average(self, value: Float[Tensor, "chains draws"]) -> Average:
        """Mean of a number that belongs to each draw."""
        *_, tau_int = _worst(value.double().numpy(force=True)[None])
        error = value.std().item() * math.sqrt(tau_int / value.numel())
        return Average(value.mean().item(), error, tau_int)

    def plot(self) -> "Picture":
        """Energy of each chain by draw, its histogram, and its autocorrelation."""
        from likely.report import draw_chains

        return draw_chains(self.energy.double().numpy(force=True))

    def to_datatree(self) -> Any:
        """An `xarray.DataTree` for ArviZ: `posterior` with `x`, `sample_stats` with the energy.

        Needs xarray (extra `arviz`).
        """
        import xarray

        dims = ["chain", "draw"]
        x = self.samples.numpy(force=True)
        shape = [*dims, *(f"x_dim_{i}" for i in range(x.ndim - 2))]
        energy = {"energy": (dims, self.energy.numpy(force=True))}
        # ArviZ labels chains and draws by number.
        numbers = {dim: np.arange(n) for dim, n in zip(dims, self.energy.shape, strict=True)}
        groups = {"posterior": {"x": (shape, x)}, "sample_stats": energy}
        return xarray.DataTree.from_dict(
            {name: xarray.Dataset(group, numbers) for name, group in groups.items()}
        )

    def _monitored(self) -> Float[np.ndarray, "quantities chains draws"]:
        flat = self.samples.flatten(2) if self.samples.ndim > 2 else self.samples[..., None]
        size = flat.shape[2]
        entries = sorted({round(i) for i in np.linspace(0, size - 1, min(size, MONITORED))})
        quantities = [self.energy]
        for i in entries:
            value, column = flat[..., i], self.domain and self.domain.column(i)
            if isinstance(column, Periodic):
                angle = (value - column.low) * (2 * math.pi / (column.high - column.low))
                quantities += [angle.cos(), angle.sin()]
            else:
                quantities.append(value)
        return np.stack([quantity.double().numpy(force=True) for quantity in quantities])

    def _notes(self, r_hat: float, bulk: float, tail: float) -> tuple[str, ...]:
        notes = []
        stayed = self.acceptance == 0
        # An acceptance of 1e-5 is no movement, nor are steps below rounding.
        if self.samples.shape[1] > 1:
            alike = (self.samples == self.samples[:, :1]).flatten(1).all(1)
            discrete = self.domain is not None and self.domain.discrete
            real = self.samples.is_floating_point() and not discrete
            stayed = stayed | (alike & ((self.acceptance < 1) | real))
        still = int(stayed.sum())
        if still == len(self.acceptance):
            why = "every proposal was rejected (use a smaller step), or steps are below rounding"
            notes.append(f"no chain ever moved: {why}")
        elif still:
            notes.append(f"{still} of {len(self.acceptance)} chains never moved")
        if (self.invalid > 0).any():
            part = f"{self.invalid.mean():.2%} of the proposals"
            notes.append(f"the energy of {part} was NaN or −∞ (rejected): are the steps too long?")
        if math.isnan(r_hat):
            least = "8 of a single chain" if len(self.energy) == 1 else "4 of each chain"
            notes.append(f"too few draws to tell: keep at least {least}")
            return tuple(notes)
        if r_hat > R_HAT:
            notes.append(f"R̂ = {r_hat:.3g} exceeds {R_HAT}: run longer chains, or temper them")
        if min(bulk, tail) < ESS:
            notes.append(f"only {min(bulk, tail):.0f} effective draws, {ESS} are needed to tell")
        return tuple(notes)

    def __repr__(self) -> str:
        chains, draws = self.energy.shape
        shape = "×".join(map(str, self.samples.shape[2:])) or "1"
        return f"Chain: {chains} chains of {draws} draws of shape {shape}\n{self.diagnostics}"


def _worst(x: Float[np.ndarray, "quantities chains draws"]) -> tuple[float, float, float, float]:
    """Largest R̂, smallest bulk and tail ESS, largest τ_int."""
    from arviz_stats.base import array_stats

    chains, draws = x.shape[1:]
    if draws < 4:
        return (math.nan,) * 4
    if chains == 1:  # R̂ needs two: the halves of the one
        x = x[..., : draws // 2 * 2].reshape(len(x), 2, -1)
        if x.shape[2] < 4:
            return (math.nan,) * 4
    x = x[np.ptp(x, axis=(1, 2)) > 0]
    if not len(x):  # one value everywhere
        return 1.0, float(chains * draws), float(chains * draws), 1.0
    axes = {"chain_axis": -2, "draw_axis": -1}
    with np.errstate(all="ignore"):  # chains that stand still have no variance
        r_hat = array_stats.rhat(x, **axes)
        bulk = array_stats.ess(x, method="bulk", **axes)
        tail = array_stats.ess(x, method="tail", prob=(0.05, 0.95), **axes)
        mean = array_stats.ess(x, method="mean", **axes)
        tau = x[0].size / mean
    still = (np.ptp(x, axis=2) == 0).all(1)  # then neither R̂ nor ESS means anything
    r_hat[still], bulk[still], tail[still], tau[still] = np.inf, 0, 0, np.inf
    worst = (np.nanmax(r_hat), np.nanmin(bulk), np.nanmin(tail), np.nanmax(tau))
    return tuple(float(value) for value in worst)  # type: ignore[return-value]
