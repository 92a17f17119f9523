"""Problems whose posterior is known, for samplers that know the prior by its denoiser."""

import math

import torch

from likely.inverse import Convolve, Downsample, Linear, Mask
from likely.models.mixtures.gmm import GaussianMixture

SIDE, NOISE = 8, 0.3
OPERATORS = {
    "mask": Mask(torch.arange(SIDE) < SIDE // 2),
    "blur": Convolve(torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16, "circular"),
    "boxes": Downsample(2),
}


def field():
    """A stationary Gaussian field of unit variance on a torus, and its covariance."""
    edge = torch.arange(SIDE, dtype=torch.float64)
    apart = (edge[:, None] - edge).abs()
    line = (-torch.minimum(apart, SIDE - apart) / 3).exp()
    covariance = torch.kron(line, line)
    return GaussianMixture.of([1], torch.zeros(1, SIDE, SIDE), covariance[None]), covariance


def field_posterior(operator, y, covariance, inflated=0.0):
    """Mean and covariance of the field; ρ² A Aᵀ of a coupling ρ may be added to the noise."""
    a = operator.on((SIDE, SIDE)).matrix()
    y = y.flatten()
    noise = NOISE**2 * torch.eye(len(a)).to(a) + inflated**2 * a @ a.mT
    gain = covariance @ a.mT @ torch.linalg.inv(a @ covariance @ a.mT + noise)
    return gain @ y, covariance - gain @ a @ covariance


def deviations(x, mean, covariance, count=None):
    """Hotelling's T² less its expectation, in deviations; tr C⁻¹S/d; the eigenvalues of C⁻¹S.

    `count` is the number of independent rows, where that is another.
    """
    x = x.flatten(1)
    n, d = x.shape
    root = torch.linalg.cholesky(covariance)
    white = torch.linalg.solve_triangular(root, (x - mean).mT, upper=False)
    square = (count or n) * white.mean(1).square().sum()
    eigenvalues = torch.linalg.eigvalsh(white.cov())
    return ((square - d) / math.sqrt(2 * d)).item(), eigenvalues.mean().item(), eigenvalues


def twenty_five(d, m, seed):
    """The mixture of 25 Gaussians of MCGDiff (arXiv:2308.07983): prior, operator, noise, y, draws."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        grid = 8 * torch.arange(-2.0, 3, dtype=torch.float64)
        means = torch.cartesian_prod(grid, grid).repeat(1, d // 2)
        weights = torch.randn(25, dtype=torch.float64).square()
        u, v = (torch.linalg.qr(torch.randn(k, k, dtype=torch.float64))[0] for k in (m, d))
        s = torch.rand(m, dtype=torch.float64)
        a, sigma = u * s @ v[:m], (torch.rand(()) * s.max()).item()
        x = means[torch.multinomial(weights, 1)[0]] + torch.randn(d, dtype=torch.float64)
        y = a @ x + sigma * torch.randn(m, dtype=torch.float64)
    return GaussianMixture.of(weights, means, torch.eye(d).expand(25, d, d)), Linear(a), sigma, y
