"""Calibration of classifiers: whether classes are as frequent as their probabilities say.

All functions take log p(y|x), of which a classifier that is sure keeps more digits than p(y|x) has.
"""

import math
import sys
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from numpy.typing import ArrayLike
from torch import Tensor

from likely.core.errors import DataError
from likely.core.likelihood import Figure, Kind, Likelihood
from likely.core.numbers import whole
from likely.evaluation.resampling import jackknife, weight_of

SIMULATIONS = 200  # of labels, for the null band
STEEPEST = 1e4  # of the inverse temperatures that are tried; its inverse is the flattest


class Reliability(NamedTuple):
    """A reliability diagram, and what it comes to.

    Attributes
    ----------
    confidence, accuracy : Tensor, shape (bins,)
        Mean probability of the likeliest class, and part of the rows where it is right.
    stderr : Tensor, shape (bins,)
        Of the accuracy, where the classifier is calibrated.
    rows : Tensor of int, shape (bins,)
    error : Figure
        Expected calibration error: mean distance of accuracy from confidence.
    null : (float, float)
        Where 95 % of these errors lie if the classifier is calibrated.
    """

    confidence: Float[Tensor, " bins"]
    accuracy: Float[Tensor, " bins"]
    stderr: Float[Tensor, " bins"]
    rows: Int64[Tensor, " bins"]
    error: Figure
    null: tuple[float, float]


def reliability(
    log_p: Float[Tensor, "n classes"],
    labels: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    bins: int = 15,
    equal: str = "rows",
    seed: int = 0,
) -> Reliability:
    """Compare the probability of the likeliest class with how often it is right.

    The mean distance |g| of a bin's accuracy from its confidence is above zero for a calibrated
    classifier too, since each has an error σ. Here |g| is the mean, over all ways to halve the bin, of one
    half's g with the sign of the other half's: g erf(g/σ√2) − 2σ φ(g/σ) where g is normal. Its mean
    vanishes where the classifier is calibrated, and is |g| where that is far above σ; one
    result may be negative. σ is that of a calibrated classifier.

    Parameters
    ----------
    log_p : Tensor, shape (n, classes)
        Log-probabilities of the classes.
    labels : array of int, shape (n,)
        The right ones, from 0.
    weight : array, shape (n,), optional
        Non-negative.
    bins : int
        At most so many; rows of equal confidence share one.
    equal : {"rows", "width"}
        What bins have in common: their number of rows, or their width between 0 and 1. A confidence of 1
        belongs to the last one.
    seed : int
        Of the error, by the jackknife, and of the simulated labels behind the null band.

    Raises
    ------
    DataError
        If the arrays do not fit together, rows are no log-probabilities, or a label is no class.

    References
    ----------
    Guo, Pleiss, Sun & Weinberger 2017, arXiv:1706.04599; Bröcker & Smith 2007, Weather and Forecasting
    22, 651, for the band; Nixon et al. 2019, arXiv:1904.01685, for bins of equally many rows.

    Examples
    --------
    >>> import torch
    >>> from likely.evaluation import reliability
    >>> p = torch.rand(5000, 3, generator=torch.Generator().manual_seed(0)).log_softmax(1)
    >>> labels = torch.distributions.Categorical(logits=p).sample()
    >>> diagram = reliability(p, labels)
    >>> diagram.confidence.shape
    torch.Size([15])
    """
    if whole("bins", bins) < 1 or equal not in ("rows", "width"):
        raise DataError(f"bins={bins}, equal={equal!r}: give a number from 1 on, and rows or width")
    log_p, labels = _checked(log_p, labels)
    w = weight_of(labels, weight)
    log_confidence, guess = log_p.max(1)
    confidence = log_confidence.exp()
    edges = torch.arange(1, bins) / bins
    if equal == "rows":
        edges = confidence.quantile(edges.double()).unique()
    of_bin = torch.searchsorted(edges.to(confidence), confidence, right=True)
    used, of_bin = of_bin.unique(return_inverse=True)
    member = (of_bin[:, None] == torch.arange(len(used))).double()
    variance = confidence * (1 - confidence)

    def parts(w: Tensor, hits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Weights, gaps and errors of the bins, shape (k, bins); a bin without weight has none."""
        total = w @ member
        known = total.clamp_min(sys.float_info.min)
        gap = (w * (hits - confidence)) @ member / known
        return total, gap, (w.square() * variance @ member).sqrt() / known

    def distance(w: Tensor, hits: Tensor) -> Tensor:
        total, gap, sigma = parts(w, hits)
        s = gap / sigma.clamp_min(sys.float_info.min)
        halved = gap * torch.erf(s / math.sqrt(2))
        halved -= sigma * math.sqrt(2 / math.pi) * (-s.square() / 2).exp()
        return (total * halved).sum(-1) / total.sum(-1)

    hits = (guess == labels).double()
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.rand(SIMULATIONS, len(hits), generator=generator, dtype=torch.float64)
    simulated = distance(w, (drawn < confidence).double())
    low, high = simulated.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    error, stderr = jackknife(lambda w, _: distance(w, hits), w, w, True, seed)
    total, gap, sigma = parts(w, hits)
    mean = (w * confidence) @ member / total
    rows = member.sum(0).long()
    return Reliability(
        mean, mean + gap, sigma, rows, Figure(error.item(), stderr.item()), (low, high)
    )


def expected_calibration_error(
    log_p: Float[Tensor, "n classes"],
    labels: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    bins: int = 15,
    equal: str = "rows",
    seed: int = 0,
) -> Figure:
    """Mean distance of accuracy from confidence, with its error: `reliability(…).error`.

    Parameters and errors are those of `reliability`.
    """
    return reliability(log_p, labels, weight=weight, bins=bins, equal=equal, seed=seed).error


def accuracy(
    log_p: Float[Tensor, "n classes"], labels: ArrayLike, *, weight: ArrayLike | None = None
) -> Figure:
    """Part of the rows whose likeliest class is right; errors as in `reliability`."""
    log_p, labels = _checked(log_p, labels)
    return _mean((log_p.argmax(1) == labels).double(), weight)


def log_loss(
    log_p: Float[Tensor, "n classes"], labels: ArrayLike, *, weight: ArrayLike | None = None
) -> Figure:
    """Mean of −log p(y|x) in nats, the proper score that training minimises; errors as in `reliability`."""
    log_p, labels = _checked(log_p, labels)
    return _mean(-_of(log_p, labels), weight)


def brier_score(
    log_p: Float[Tensor, "n classes"], labels: ArrayLike, *, weight: ArrayLike | None = None
) -> Figure:
    """Mean of Σ_k (p_k − 1[y = k])², from 0 to 2; errors as in `reliability`.

    References
    ----------
    Brier 1950, Monthly Weather Review 78, 1.
    """
    log_p, labels = _checked(log_p, labels)
    right = torch.nn.functional.one_hot(labels, log_p.shape[1])
    return _mean((log_p.exp() - right).square().sum(1), weight)


def fitted_temperature(
    log_p: Float[Tensor, "n classes"], labels: ArrayLike, *, weight: ArrayLike | None = None
) -> Figure:
    """The temperature T at which p(y|x)^(1/T), normalised, has the least log loss on these rows.

    Above 1 where the classifier is too sure, below 1 where it is not sure enough. It changes no
    decision. 0 where every row is right, infinite where rows speak against the classifier, both without
    an error; else that is the sandwich estimator's. Errors as in `reliability`.

    References
    ----------
    Guo, Pleiss, Sun & Weinberger 2017, arXiv:1706.04599, sec. 4.2.
    """
    from scipy.optimize import brentq

    log_p, labels = _checked(log_p, labels)
    w = weight_of(labels, weight)
    right = _of(log_p, labels)

    def slopes(log_beta: float) -> tuple[Tensor, Tensor]:
        """∂/∂β of each row's loss −β log p_y + log Σ_k p_k^β at the inverse temperature β, and ∂²/∂β²."""
        tempered = (math.exp(log_beta) * log_p).softmax(1)
        mean = (tempered * log_p).sum(1)
        return mean - right, (tempered * (log_p - mean[:, None]).square()).sum(1)

    def slope(log_beta: float) -> float:
        return (w @ slopes(log_beta)[0]).item()

    end = math.log(STEEPEST)
    if slope(end) <= 0:
        return Figure(0.0, math.nan)
    if slope(-end) >= 0:
        return Figure(math.inf, math.nan)
    log_beta = float(brentq(slope, -end, end))
    first, second = slopes(log_beta)
    of_beta = (w * first).square().sum().sqrt() / (w @ second)
    return Figure(math.exp(-log_beta), math.exp(-2 * log_beta) * of_beta.item())


def _mean(values: Tensor, weight: ArrayLike | None) -> Figure:
    return Likelihood(values, Kind.EXACT).mean(weight_of(values, weight))


def _of(log_p: Tensor, labels: Tensor) -> Float[Tensor, " n"]:
    """Log-probabilities of the right classes."""
    return log_p.gather(1, labels[:, None])[:, 0]


def _checked(log_p: Tensor, labels: ArrayLike) -> tuple[Tensor, Int64[Tensor, " n"]]:
    """Log-probabilities in float64 on the CPU, finite, and labels."""
    p = torch.as_tensor(log_p).detach().to("cpu", torch.float64)
    y = torch.as_tensor(np.asarray(torch.as_tensor(labels).cpu()))
    if p.ndim != 2 or y.shape != (len(p),) or not len(p):
        raise DataError(
            f"log-probabilities of shape {tuple(p.shape)} for labels of shape {tuple(y.shape)}: give "
            "(n, classes) and (n,)"
        )
    off: Bool[Tensor, " n"] = ~((p.logsumexp(1)).abs() < 1e-2)
    if off.any():
        row = int(off.nonzero()[0])
        raise DataError(
            f"row {row}: the probabilities of its classes do not sum to 1; give their logarithms"
        )
    wrong = (y < 0) | (y >= p.shape[1]) | (y != y.long())
    if wrong.any():
        row = int(wrong.nonzero()[0])
        raise DataError(
            f"row {row}: the label {y[row]} is none of the classes 0 to {p.shape[1] - 1}"
        )
    return p.clamp_min(math.log(sys.float_info.min)), y.long()
