"""What importance weights are worth, from their logarithms."""

import math

from jaxtyping import Float
from torch import Tensor

from likely.core.likelihood import Figure, importance_bound


def log_mean(log_weight: Float[Tensor, " n"]) -> Figure:
    """log of the mean of weights, with the delta method's error."""
    return Figure(*importance_bound(log_weight[:, None])[:, 0].tolist())


def effective(log_weight: Float[Tensor, " n"]) -> float:
    """Effective sample size of weights, (Σ w)²/Σ w²."""
    return (2 * log_weight.logsumexp(0) - (2 * log_weight).logsumexp(0)).exp().item()


def largest_share(log_weight: Float[Tensor, " n"]) -> float:
    """The largest weight as a part of their sum."""
    return math.exp((log_weight.max() - log_weight.logsumexp(0)).item())
