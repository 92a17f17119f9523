"""Whether posteriors are right: on simulated measurements, whose x is known, and on measured ones.

Where x* is a draw of the prior and y one of its measurement, x* is one more draw of p(x|y): its rank
among the draws of a right posterior is uniform, a 90 % interval holds it in 90 % of the cases, and so
on. What the prior cannot make, no such check sees: `misfit` looks for that in y itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from likely.contract.model import GenerativeModel
from likely.contract.views import Rows
from likely.core.errors import DataError, LikelyError
from likely.core.likelihood import Figure
from likely.core.random import seeded
from likely.evaluation.calibration import Histogram, placed, rank_histogram
from likely.inverse.noise import as_noise
from likely.inverse.operators import as_operator
from likely.inverse.posterior import Posterior

ODD = 0.01  # p-value below which a measurement is said to lie outside what the prior makes


def simulate(
    model: GenerativeModel, operator: Any = None, noise: Any = None, m: int = 100, seed: int = 0
) -> tuple[Rows, Float[Tensor, "m *out_shape"]]:
    """Draws x of the prior, and a measurement y of each.

    Parameters
    ----------
    model, operator, noise
        As of `posterior`.
    m : int
    seed : int

    Returns
    -------
    x : Tensor, shape (m, *domain.shape)
    y : Tensor, shape (m, *out_shape)
    """
    like = torch.empty(0, dtype=model.parameter_dtype, device=model.device)
    bound = as_operator(operator).on(model.domain.shape, like)
    with torch.no_grad(), seeded(seed, model.device):
        x = model.sample(m)
        y = bound(x if x.is_floating_point() else x.to(like))
        return x, y if noise is None else as_noise(noise).on(bound.out_shape or ()).sample(y)


@dataclass(frozen=True, eq=False)
class Calibration:
    """What posteriors say of x that are known.

    Parameters
    ----------
    posterior : Posterior
        Of m measurements.
    truth : Tensor, shape (m, *domain.shape)
        Their x: of `simulate`, or known otherwise.
    seed : int
        Of ties, and of the reference points of `tarp`.

    Raises
    ------
    DataError
        If the truth has another shape than one draw for each measurement.

    Examples
    --------
    >>> import likely as lk
    >>> model = lk.make("gaussian", lk.reals(2))
    >>> x, y = lk.inverse.simulate(model, None, 1.0, m=200)
    >>> found = lk.inverse.Calibration(lk.posterior(model, y, None, 1.0, n=99), x)
    >>> coverage = found.coverage(0.9)
    >>> abs(coverage.value - 0.9) < 4 * coverage.stderr
    True
    """

    posterior: Posterior
    truth: Float[Tensor, "m *shape"]
    seed: int = 0

    def __post_init__(self) -> None:
        samples = self.posterior.samples
        one_each = (*samples.shape[:1], *samples.shape[2:])
        if self.posterior.single or tuple(self.truth.shape) != one_each:
            raise DataError(
                f"the truth has shape {(*self.truth.shape,)}: give one x for each of several measurements"
            )

    @property
    def _varies(self) -> Bool[Tensor, " size"]:
        """Which entries of x are not always the same."""
        flat = self.truth.flatten(1)
        return (flat != flat[:1]).any(0)

    @cached_property
    def ranks(self) -> Float[Tensor, "m entries"]:
        """Where each entry of x lies among its draws: uniform on (0, 1), if the posteriors are right.

        Entries that are constant are left out. Talts, Betancourt, Simpson, Vehtari & Gelman 2018,
        arXiv:1804.06788.
        """
        draws = self.posterior.samples.flatten(2)[..., self._varies]
        truth = self.truth.flatten(1)[:, None, self._varies].to(draws)
        below, equal = (draws < truth).sum(1), (draws == truth).sum(1)
        with seeded(self.seed):
            return placed(below.cpu(), equal.cpu(), draws.shape[1])

    def histogram(self, bins: int = 10) -> Histogram:
        """Of the ranks of each entry, with a test of uniformity."""
        return rank_histogram(self.ranks, bins=bins)

    def coverage(self, level: float) -> Figure:
        """How often the central interval of this probability holds an entry of x, with its error.

        Entries of one measurement are not independent: the error is that over measurements.
        """
        if not 0 < level < 1:
            raise LikelyError(f"coverage: level={level}: give a number between 0 and 1")
        inside = ((self.ranks - 0.5).abs() < level / 2).double().mean(1)
        # An interval that held all of them, or none, leaves the binomial error.
        least = math.sqrt(level * (1 - level) / inside.numel() / self.ranks.shape[1])
        return Figure(inside.mean().item(), max((inside.std() / len(inside) ** 0.5).item(), least))

    @cached_property
    def tarp(self) -> Float[Tensor, " m"]:
        """Which part of the draws lies nearer to a reference point than x does: uniform, as ranks are.

        It sees all entries of x together; the reference points are the x of other measurements. Lemos,
        Coogan, Hezaveh & Perreault-Levasseur 2023, arXiv:2302.03026.
        """
        draws, truth = self.posterior.samples.double().flatten(2), self.truth.double().flatten(1)
        if len(truth) < 2:
            raise DataError("tarp: give at least two measurements")
        with seeded(self.seed):
            shift = int(torch.randint(1, len(truth), ()))
            reference = truth.roll(shift, 0)
            scale = truth.std(0)
            scale[scale == 0] = 1
            near = ((draws - reference[:, None]) / scale).square().sum(2)
            own = ((truth - reference) / scale).square().sum(1)[:, None]
            below, equal = (near < own).sum(1).cpu(), (near == own).sum(1).cpu()
            return placed(below, equal, draws.shape[1])

    def p_values(self) -> dict[str, float]:
        """Of uniform ranks and of `tarp`, by Kolmogorov's and Smirnov's test.

        That of ranks is the least over entries, times their number.
        """
        from scipy import stats

        columns = [*self.ranks.T.double(), self.tarp.double()]
        *each, tarp = (float(stats.kstest(u.numpy(), "uniform").pvalue) for u in columns)
        return {"ranks": min(1.0, min(each) * len(each)), "tarp": tarp}


@dataclass(frozen=True, eq=False)
class Misfit:
    """Where measurements lie among those that the prior makes.

    Attributes
    ----------
    distance : Tensor, shape (m,)
        Mahalanobis' distance of each from the mean of simulated measurements, per root of the entries.
    reference : Tensor, shape (draws // 2,)
        The same of simulated ones.
    p_value : Tensor, shape (m,)
        Part of the simulated ones that lie as far out.
    notes : tuple of str
    """

    distance: Float[Tensor, " m"]
    reference: Float[Tensor, " draws"]
    p_value: Float[Tensor, " m"]
    notes: tuple[str, ...]


def misfit(
    model: GenerativeModel,
    y: Any,
    operator: Any = None,
    noise: Any = None,
    *,
    draws: int = 1000,
    seed: int = 0,
) -> Misfit:
    """Ask whether the prior could have made a measurement at all, before its posterior is believed.

    One half of simulated measurements gives a mean and a covariance, shrunk by the rule of Ledoit and Wolf;
    the other half the distances from it that are to be expected. A measurement in other units, or of
    something that the prior has never seen, lies farther out.

    Parameters
    ----------
    model, y, operator, noise
        As of `posterior`; y without missing entries.
    draws : int
        Simulated measurements.
    seed : int

    Raises
    ------
    DataError
        If y does not have the shape that A makes, or is not finite.
    """
    from sklearn.covariance import LedoitWolf

    if draws < 40:
        raise LikelyError(f"misfit: draws={draws}: at least 40 are needed")
    _, simulated = simulate(model, operator, noise, draws, seed)
    y = torch.as_tensor(y).to(simulated)
    rows = y[None] if y.shape == simulated.shape[1:] else y
    if rows.shape[1:] != simulated.shape[1:] or not rows.isfinite().all():
        raise DataError(
            f"misfit: y has shape {(*y.shape,)}; finite rows of shape {(*simulated.shape[1:],)} are needed"
        )
    flat = simulated.flatten(1).double().cpu()
    kept = flat.std(0) > 0
    first, second = flat[:, kept].tensor_split(2)
    scale = first.std(0)
    found = LedoitWolf().fit((first / scale).numpy())

    def distances(rows: Tensor) -> Tensor:
        squares = found.mahalanobis((rows / scale).numpy())
        return torch.from_numpy(squares).div(rows.shape[1]).sqrt()

    reference = distances(second)
    distance = distances(rows.flatten(1).double().cpu()[:, kept])
    farther = (reference >= distance[:, None]).sum(1)
    p_value = (farther + 1).double() / (len(reference) + 1)
    notes = []
    if (odd := p_value < ODD).any():
        which = "the measurement lies" if len(odd) == 1 else f"{int(odd.sum())} of {len(odd)} lie"
        notes.append(
            f"{which} outside what the prior makes, at {distance[odd].max() / reference.median():.3g} times "
            "the usual distance: is y in the units of the prior's data, and of what it has seen?"
        )
    return Misfit(distance, reference, p_value, tuple(notes))
