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
    reached : int
        Modes that hold any.
    modes : int
        How many there are.
    near : Figure
        Part of the samples that lie within three widths of a mode; of classes all do.
    shares : list of Figure
        Part of the near samples that each mode holds.
    divergence : Figure
        Kullback-Leibler divergence KL(shares ‖ true weights) in nats. Samples of the truth itself
        have about (modes − 1)/(2n).
    """

    covered: int
    reached: int
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
        If the arrays do not fit together, there are no samples, or the width or a weight is not
        positive.

    References
    ----------
    Srivastava et al. 2017, VEEGAN, arXiv:1705.07761, section 4.1, for modes and near samples.
    """
    samples, modes = (torch.as_tensor(part).detach().cpu().double() for part in (x, centres))
    if samples.ndim < 2 or not samples.numel() or samples.shape[1:] != modes.shape[1:]:
        shapes = f"{tuple(samples.shape)} and {tuple(modes.shape)}"
        raise DataError(f"mode_coverage: shapes {shapes}: give (n, *shape) and (modes, *shape)")
    truth = _true_weights(weights, len(modes), "mode_coverage")
    if not width > 0:
        raise DataError(f"mode_coverage: a width of {width}: give one above 0")
    distance, nearest = torch.cdist(samples.flatten(1), modes.flatten(1)).min(1)
    return _coverage(nearest[distance <= 3 * width], truth, len(samples))


def class_coverage(
    labels: ArrayLike, classes: int, *, weights: ArrayLike | None = None
) -> ModeCoverage:
    """Count samples in classes, such as those that a classifier finds in images.

    Of stacked digits there are a thousand; the modes of the literature are those `reached`, of 26,000
    samples.

    Parameters
    ----------
    labels : array of int, shape (n,)
        The class of each sample, from 0 on.
    classes : int
        How many there are.
    weights : array, shape (classes,), optional
        Their true weights; by default they are equal.

    Raises
    ------
    DataError
        If there are no samples, a label is not a class, or a weight not positive.

    References
    ----------
    Srivastava et al. 2017, VEEGAN, arXiv:1705.07761, section 4.1.

    Examples
    --------
    >>> import likely as lk
    >>> found = lk.evaluation.class_coverage([0, 0, 1, 1], 4)
    >>> found.reached, found.divergence.value
    (2, 0.6931471805599453)
    """
    found = torch.as_tensor(labels).detach().cpu()
    truth = _true_weights(weights, classes, "class_coverage")
    if found.ndim != 1 or not len(found) or found.is_floating_point() or found.is_complex():
        raise DataError("class_coverage: give the number of a class for each sample, shape (n,)")
    if found.min() < 0 or found.max() >= classes:
        raise DataError(f"class_coverage: labels go from 0 to {classes - 1}")
    return _coverage(found.long(), truth, len(found))


def _true_weights(weights: ArrayLike | None, modes: int, who: str) -> Tensor:
    truth = torch.ones(modes) if weights is None else torch.as_tensor(weights)
    truth = truth.double() / truth.sum()
    if truth.shape != (modes,) or not (truth > 0).all():
        raise DataError(f"{who}: give for each mode a weight above 0")
    return truth


def _coverage(found: Tensor, truth: Float[Tensor, " modes"], n: int) -> ModeCoverage:
    """Of the modes of those samples that are near one; n are all."""
    count = torch.bincount(found, minlength=len(truth)).double()
    near = count.sum()
    return ModeCoverage(
        covered=int((count >= 0.1 * truth * n).sum()),
        reached=int((count > 0).sum()),
        modes=len(truth),
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
