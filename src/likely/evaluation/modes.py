"""Which of the known modes of a distribution samples reach, and in what parts."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

from likely.core.errors import DataError
from likely.core.likelihood import Figure


@dataclass(frozen=True)
class ModeCoverage:
    """Samples sorted by the known modes; figures carry their Monte Carlo errors.

    Attributes
    ----------
    covered : int
        Modes that hold at least a tenth of what they should.
    modes : int
        How many there are.
    near : Figure
        Part of the samples that lie within three widths of a mode.
    shares : list of Figure
        Part of the near samples that each mode holds.
    divergence : Figure
        Kullback-Leibler divergence KL(shares ‖ true weights) in nats. Samples of the truth itself
        have about (modes − 1)/(2n).
    """

    covered: int
    modes: int
    near: Figure
    shares: list[Figure]
    divergence: Figure

    def __str__(self) -> str:
        return (
            f"{self.covered} of {self.modes} modes, {self.near} of the samples near one, "
            f"divergence of their weights {self.divergence} nats"
        )


def mode_coverage(
    x: ArrayLike, centres: ArrayLike, width: float, *, weights: ArrayLike | None = None
) -> ModeCoverage:
    """Count samples at the known modes of a distribution.

    A sample belongs to the nearest mode, if it lies within three widths of it. Of the samples of a
    round Gaussian in the plane that is 98.9 %, on the line 99.7 %.

    Parameters
    ----------
    x : array, shape (n, *shape)
        Samples.
    centres : array, shape (modes, *shape)
        Where the modes are, as in `Target.modes`.
    width : float
        Standard deviation of a mode along each coordinate.
    weights : array, shape (modes,), optional
        The modes' true weights; by default they are equal.

    Returns
    -------
    ModeCoverage

    Raises
    ------
    DataError
        If the arrays do not fit together, there are no samples, or the width is not positive, or a
        weight not.

    References
    ----------
    Srivastava et al. 2017, VEEGAN, arXiv:1705.07761, section 4.1, for modes and near samples.
    """
    samples, modes = (torch.as_tensor(part).detach().cpu().double() for part in (x, centres))
    if samples.ndim < 2 or not samples.numel() or samples.shape[1:] != modes.shape[1:]:
        shapes = f"{tuple(samples.shape)} and {tuple(modes.shape)}"
        raise DataError(f"mode_coverage: shapes {shapes}: give (n, *shape) and (modes, *shape)")
    truth = torch.ones(len(modes)) if weights is None else torch.as_tensor(weights)
    truth = truth.double() / truth.sum()
    if truth.shape != (len(modes),) or not (truth > 0).all() or not width > 0:
        raise DataError("mode_coverage: give a width above 0, and for each mode a weight above 0")
    distance, nearest = torch.cdist(samples.flatten(1), modes.flatten(1)).min(1)
    count = torch.bincount(nearest[distance <= 3 * width], minlength=len(modes)).double()
    n, near = len(samples), count.sum()
    return ModeCoverage(
        covered=int((count >= 0.1 * truth * n).sum()),
        modes=len(modes),
        near=_part(near, n),
        shares=[_part(k, near) for k in count],
        divergence=_divergence(count, truth),
    )


def _part(k: Tensor, n: Tensor | int) -> Figure:
    """k of n, with the binomial standard error."""
    part = k / n
    return Figure(part.item(), (part * (1 - part) / n).sqrt().item())


def _divergence(count: Float[Tensor, " modes"], truth: Float[Tensor, " modes"]) -> Figure:
    """KL(count/n ‖ truth) by the delta method; near the truth only its second order is left."""
    n = count.sum()
    share = count / n
    surprise = torch.where(count > 0, (share / truth).log(), 0.0)
    value = (share * surprise).sum()
    variance = (share * (surprise - value).square()).sum() / n + (len(count) - 1) / (2 * n**2)
    return Figure(value.item(), variance.sqrt().item())
