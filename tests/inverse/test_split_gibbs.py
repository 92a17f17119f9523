"""Split Gibbs sampling, against what it converges to at a finite coupling."""

import math

import pytest
import torch
from diffusion_cases import NOISE, OPERATORS, deviations, field, field_posterior

import likely as lk
from likely.inverse.diffusion import denoise, denoiser_of, geometric
from likely.models.mixtures.gmm import GaussianMixture


@pytest.mark.parametrize("v", [0.1, 1.0, 30.0])
def test_denoising_draws_of_the_posterior_of_a_noisy_row(v):
    """Variance of z given u, whether the prior is narrower or wider than the noise of 1."""
    denoiser = denoiser_of(GaussianMixture.of([1], [[0.0]], [[[v]]]))
    z = denoise(denoiser, torch.full((4000, 1), 2.0).double(), geometric(1.0, 0.05, 32))
    assert z.mean().item() == pytest.approx(2 * v / (1 + v), abs=0.06)
    assert z.var().item() == pytest.approx(v / (1 + v), rel=0.1)


@pytest.mark.parametrize("operator", OPERATORS)
def test_posterior_of_a_gaussian_field_is_that_of_the_inflated_noise(operator):
    """Hotelling and Wishart at Σ + ρ² A Aᵀ, which is not the posterior itself."""
    prior, covariance = field()
    a, n, rho = OPERATORS[operator], 300, 0.2
    y = a(prior.sample(1, seed=0))[0]
    options = {"rho": rho, "sweeps": 60, "steps": 24}
    found = lk.posterior(prior, y, a, NOISE, n=n, method="split-gibbs", **options)
    mean, exact = field_posterior(a, y, covariance, inflated=rho)
    shift, trace, eigenvalues = deviations(found.samples, mean, exact)
    edge = math.sqrt(64 / n)
    assert found.kind == "asymptotic"
    assert abs(shift) < 5
    assert trace == pytest.approx(1, abs=0.1)
    assert eigenvalues[0] > (1 - edge) ** 2 - 0.1
    assert eigenvalues[-1] < (1 + edge) ** 2 + 0.4
    largest = torch.linalg.matrix_norm(a.on((8, 8)).matrix(), 2)
    assert found.diagnostics["inflation"].item() == pytest.approx(
        (rho * largest / NOISE).item() ** 2, rel=0.05
    )


def test_a_smaller_coupling_is_nearer_to_the_posterior():
    prior = GaussianMixture.of([1], [[0.0]], [[[1.0]]])
    options = {"n": 2000, "method": "split-gibbs", "sweeps": 60}
    std = [lk.posterior(prior, [1.0], None, 0.3, rho=r, **options).std.item() for r in (0.3, 0.1)]
    right = [math.sqrt(s / (1 + s)) for s in (0.18, 0.1)]
    assert std == pytest.approx(right, rel=0.06)
