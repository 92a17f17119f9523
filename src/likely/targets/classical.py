"""The textbook distributions."""

import math
from dataclasses import replace

import torch
from numpy.typing import ArrayLike
from torch.distributions import Beta, Independent, MultivariateNormal, StudentT

from likely.core.columns import Interval
from likely.core.domain import reals, table
from likely.core.target import Target
from likely.targets.exact import from_distribution, with_log_z


def gaussian(
    mean: ArrayLike = (0.0, 0.0), covariance: ArrayLike = ((1.0, 0.8), (0.8, 1.0))
) -> Target:
    """A Gaussian on R^d, with energy (x − μ)ᵀ Σ⁻¹ (x − μ)/2.

    Parameters
    ----------
    mean : array, shape (d,)
    covariance : array, shape (d, d)

    Raises
    ------
    ValueError
        If the covariance is not positive definite (torch's own check).
    """
    mean = torch.as_tensor(mean, dtype=torch.float64)
    covariance = torch.as_tensor(covariance, dtype=torch.float64)
    distribution = MultivariateNormal(mean, covariance)
    target = from_distribution("gaussian", distribution, reals(len(mean)))
    target = with_log_z(target, (2 * math.pi * covariance).logdet().item() / 2)
    return replace(target, mean=mean, covariance=covariance, modes=mean[None])


def beta(a: float = 2.0, b: float = 5.0) -> Target:
    """Beta(a, b): density ∝ x^(a−1) (1 − x)^(b−1) on (0, 1)."""
    parameters = torch.tensor([[a], [b]], dtype=torch.float64)
    distribution = Beta(*parameters)
    target = from_distribution("beta", Independent(distribution, 1), table(Interval(0.0, 1.0)))
    return replace(
        target,
        mean=distribution.mean,
        covariance=distribution.variance[None],
        modes=distribution.mode[None] if a > 1 and b > 1 else None,
    )


def student_t(df: float = 3.0) -> Target:
    """Student's t on the line: its tails fall like |x|^−(df + 1)."""
    distribution = StudentT(torch.tensor([df], dtype=torch.float64))
    target = from_distribution("student-t", Independent(distribution, 1), reals(1))
    return replace(
        target,
        mean=distribution.mean if df > 1 else None,
        covariance=distribution.variance[None] if df > 2 else None,
        modes=torch.zeros(1, 1, dtype=torch.float64),
    )
