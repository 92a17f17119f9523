"""Mixtures: of Gaussians in any dimension, and of von Mises distributions on the torus."""

import math
from dataclasses import replace

import torch
from jaxtyping import Float64
from numpy.typing import ArrayLike
from torch import Tensor, distributions

from likely.core.columns import Periodic
from likely.core.domain import reals, table
from likely.core.random import seeded
from likely.core.target import Target
from likely.targets.exact import from_distribution, with_log_z


def gaussian_mixture(weights: ArrayLike, means: ArrayLike, covariances: ArrayLike) -> Target:
    """A mixture of Gaussians on R^d, with energy −log p − (d/2) log 2π.

    Parameters
    ----------
    weights : array, shape (k,)
        Non-negative; they are divided by their sum.
    means : array, shape (k, d)
        The target's `modes`.
    covariances : array, shape (k, d, d)

    Raises
    ------
    ValueError
        If a covariance is not positive definite, or a weight negative (torch's own checks).
    """
    weights = torch.as_tensor(weights, dtype=torch.float64)
    means = torch.as_tensor(means, dtype=torch.float64)
    covariances = torch.as_tensor(covariances, dtype=torch.float64)
    components = distributions.MultivariateNormal(means, covariances)
    mixture = distributions.MixtureSameFamily(distributions.Categorical(weights), components)
    second = covariances + means[:, :, None] * means[:, None, :]
    w = (weights / weights.sum())[:, None, None]
    variance = covariances[0, 0, 0]
    round_and_alike = torch.allclose(covariances, variance * torch.eye(means.shape[1]).to(means))
    target = from_distribution("gaussian-mixture", mixture, reals(means.shape[1]))
    return replace(
        with_log_z(target, means.shape[1] * math.log(2 * math.pi) / 2),
        mean=mixture.mean,
        covariance=(w * second).sum(0) - torch.outer(mixture.mean, mixture.mean),
        modes=means,
        mode_weights=w.flatten(),
        mode_width=variance.sqrt().item() if round_and_alike else None,
    )


def eight_gaussians(radius: float = 4.0, width: float = 0.3) -> Target:
    """Eight equal, round Gaussians on a circle in the plane.

    Parameters
    ----------
    radius : float
        Of the circle.
    width : float
        Standard deviation of each Gaussian.

    Notes
    -----
    By symmetry the entropy is −E log p over one of the eight: by the trapezoidal rule, to 1e-9.
    """
    angles = torch.arange(8, dtype=torch.float64) * math.pi / 4
    means = radius * torch.stack([angles.cos(), angles.sin()], 1)
    covariances = width**2 * torch.eye(2, dtype=torch.float64).expand(8, 2, 2)
    target = gaussian_mixture(torch.ones(8), means, covariances)
    assert target.log_prob is not None
    line = torch.arange(-9, 9, 0.15, dtype=torch.float64)
    around = torch.cartesian_prod(line, line)
    mass = (-around.square().sum(1) / 2).exp()
    entropy = -(mass / mass.sum() * target.log_prob(means[0] + width * around)).sum().item()
    return replace(target, name="eight-gaussians", entropy=entropy)


def forty_gaussians() -> Target:
    """Forty equal, round Gaussians of width 1.313 in the plane, at places drawn once in [−40, 40]².

    The widths and the law of the means are those of the reference, the means are our own draw.
    The entropy comes from the trapezoidal rule, to 1e-9.

    References
    ----------
    Midgley et al. 2023, Flow annealed importance sampling bootstrap, ICLR, arXiv:2208.01893.
    """
    with seeded(0):
        means = 80 * torch.rand(40, 2, dtype=torch.float64) - 40
    width = math.log1p(math.e)
    covariances = width**2 * torch.eye(2, dtype=torch.float64).expand(40, 2, 2)
    target = gaussian_mixture(torch.ones(40), means, covariances)
    line = torch.arange(-50, 50, 0.25, dtype=torch.float64)[:, None]
    across, along = (distributions.Normal(m, width).log_prob(line).exp() for m in means.T)
    entropy = 0.25**2 * torch.special.entr(across @ along.T / 40).sum().item()
    return replace(target, name="forty-gaussians", entropy=entropy)


def torus(
    weights: ArrayLike = (0.5, 0.3, 0.2),
    locations: ArrayLike = ((0.0, 0.0), (math.pi, math.pi / 2), (-math.pi / 2, math.pi)),
    concentrations: ArrayLike = ((8.0, 16.0), (16.0, 16.0), (4.0, 8.0)),
) -> Target:
    """A mixture of products of von Mises distributions, p(φ) ∝ Σ w exp(Σ κ cos(φ − μ)).

    By default on the two-dimensional torus, where the second and third components lie across the
    seam at ±π; the widths κ^(−1/2) are 0.25 to 0.5.

    Parameters
    ----------
    weights : array, shape (k,)
    locations : array, shape (k, d)
        μ, the target's `modes`.
    concentrations : array, shape (k, d)
        κ > 0.

    Notes
    -----
    torch's Bessel function I₀ normalises the density to 1e-7. In one and two dimensions the entropy
    comes from the trapezoidal rule on 512 points of each circle, to the same precision up to κ of
    some thousands; in more it is unknown.
    """
    weights = torch.as_tensor(weights, dtype=torch.float64)
    locations = torch.as_tensor(locations, dtype=torch.float64)
    concentrations = torch.as_tensor(concentrations, dtype=torch.float64)
    components = distributions.Independent(distributions.VonMises(locations, concentrations), 1)
    mixture = distributions.MixtureSameFamily(distributions.Categorical(weights), components)
    d = locations.shape[1]
    target = from_distribution("torus", mixture, table(*[Periodic(-math.pi, math.pi)] * d))
    entropy = _torus_entropy(mixture, d) if d <= 2 else None
    return replace(target, modes=locations, entropy=entropy)


def _torus_entropy(mixture: distributions.MixtureSameFamily, d: int) -> float:
    circle = torch.arange(512, dtype=torch.float64) * (2 * math.pi / 512) - math.pi
    points: Float64[Tensor, "n d"] = torch.cartesian_prod(*[circle] * d).reshape(-1, d)
    density = mixture.log_prob(points).exp()
    return (2 * math.pi) ** d * torch.special.entr(density).mean().item()
