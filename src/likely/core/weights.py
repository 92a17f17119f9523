"""What importance weights are worth, from their logarithms."""

import math
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from likely.core.likelihood import Figure, importance_bound

ALIKE = 1e-4  # log-weights that differ by less are equal, but for the rounding of log q


def log_mean(log_weight: Float[Tensor, " n"]) -> Figure:
    """log of the mean of weights, with the delta method's error."""
    return Figure(*importance_bound(log_weight[:, None])[:, 0].tolist())


def effective(log_weight: Float[Tensor, " n"]) -> float:
    """Effective sample size of weights, (Σ w)²/Σ w²."""
    return (2 * log_weight.logsumexp(0) - (2 * log_weight).logsumexp(0)).exp().item()


def largest_share(log_weight: Float[Tensor, " n"]) -> float:
    """The largest weight as a part of their sum."""
    return math.exp((log_weight.max() - log_weight.logsumexp(0)).item())


def pareto_k(log_weight: Float[Tensor, " n"]) -> float:
    """Shape k of the generalised Pareto distribution that fits the largest weights, by ArviZ.

    Moments of order 1/k and above are infinite. −∞ where weights are alike, NaN where there are too few
    of them.

    References
    ----------
    Vehtari, Simpson, Gelman, Yao & Gabry 2024, JMLR 25, 72: above 0.7 the mean is not to be trusted.
    """
    from arviz_stats.base import array_stats

    finite = log_weight[log_weight > -math.inf].double().numpy(force=True)
    if len(finite) < 25:  # of which the tail would be less than 5
        return math.nan
    tail = int(min(len(finite) / 5, 3 * math.sqrt(len(finite))))
    if np.ptp(np.sort(finite)[-tail:]) < ALIKE:
        return -math.inf
    with np.errstate(all="ignore"):  # where half of the tail is one value
        return float(array_stats.psislw(-finite)[1])


def acceptances(log_weight: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Probability that independence Metropolis leaves each draw at a step: the mean of min(1, w'/w)."""
    w, order = log_weight.sort()
    rank = torch.arange(1, len(w) + 1, dtype=w.dtype, device=w.device)
    above = (len(w) - rank) / len(w)  # where the proposal's weight is larger
    below = (w.logcumsumexp(0) - w).exp() / len(w)
    return torch.empty_like(w).index_copy(0, order, (above + below).clamp(max=1))


def bennett(
    log_weight: Float[Tensor, " n"],
    forward: Float[Tensor, " m"],
    average: Callable[[Tensor], Figure],
) -> Figure:
    """log Z from log-weights log p̃/q at draws of both q and p, by Bennett's acceptance ratio.

    It solves E_q[w/(s + t w)] = E_p[1/(s + t w)] with w = p̃/(q Z), where s and t are the parts of all
    draws that come from q and from p; the error is that of the delta method.

    Parameters
    ----------
    log_weight : Tensor, shape (n,)
        At draws of q.
    forward : Tensor, shape (m,)
        At draws of p.
    average : callable
        Mean of a function of the draws of p, with its error.

    References
    ----------
    Bennett 1976, J. Comput. Phys. 22, 245; Meng & Wong 1996, Statistica Sinica 6, 831.
    """
    from scipy.optimize import brentq

    s = len(log_weight) / (len(log_weight) + len(forward))
    t = 1 - s

    def terms(log_z: float) -> tuple[Tensor, Tensor]:
        # 1/(s + t w) and w/(s + t w) = 1/(s/w + t)
        odds, back = log_weight - log_z, forward - log_z
        at_q = 1 / (s * (-odds).exp() + t)
        return at_q, 1 / (s + t * back.exp())

    def excess(log_z: float) -> float:
        at_q, at_p = terms(log_z)
        return (at_q.mean() - at_p.mean()).item()

    both = torch.cat([log_weight, forward])
    both = both[both.isfinite()]
    low, high = both.min().item() - 1, both.max().item() + 1
    if excess(low) <= 0 or excess(high) >= 0:
        return Figure(math.nan, math.nan)
    log_z = brentq(excess, low, high, xtol=1e-12)
    at_q, at_p = terms(log_z)
    mean = average(at_p)
    error = (at_q.std() / at_q.mean()).item() / math.sqrt(len(at_q))
    assert mean.stderr is not None
    return Figure(log_z, math.hypot(error, mean.stderr / mean.value))
