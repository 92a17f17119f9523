"""Twisted diffusion sampling, against mixtures whose posterior is known."""

import math

import pytest
import torch
from diffusion_cases import NOISE, OPERATORS, deviations, field, field_posterior, twenty_five

import likely as lk
from likely.models.mixtures.gmm import GaussianMixture


def sliced_wasserstein(x, y):
    generator = torch.Generator().manual_seed(0)
    along = torch.randn(x.shape[1], 300, generator=generator, dtype=x.dtype)
    along /= along.norm(dim=0)
    return ((x @ along).sort(0).values - (y @ along).sort(0).values).abs().mean().item()


@pytest.mark.slow
@pytest.mark.parametrize("m", [1, 4])
def test_modes_get_their_weights(m):
    """25 Gaussians in 8 dimensions: within twice what two exact samples differ by, as guidance is not."""
    floor, distance, guided = 0.0, 0.0, 0.0
    for seed in range(3):
        prior, a, sigma, y = twenty_five(8, m, seed)
        problem = (prior, y, a, sigma)
        exact, again = (
            lk.posterior(*problem, n=200, seed=s, method="exact").samples for s in (0, 1)
        )
        options = {"particles": 1500, "steps": 100}
        found = lk.posterior(*problem, n=200, method="twisted-smc", **options)
        alone = lk.posterior(*problem, n=200, method="guided", covariance="pigdm", steps=100)
        floor += sliced_wasserstein(exact, again)
        distance += sliced_wasserstein(exact, found.samples)
        guided += sliced_wasserstein(exact, alone.samples)
        assert found.kind == "asymptotic"
    assert distance < 2 * floor
    assert guided > 2 * floor


def test_weights_of_two_modes_are_right():
    """χ² of the numbers of draws in modes of 1 : 3 that a measurement cannot tell apart."""
    prior = GaussianMixture.of([1, 3], [[-2.0, 0], [2, 0]], 0.1 * torch.eye(2).expand(2, 2, 2))
    a = lk.inverse.Linear([[0.0, 1.0]])
    found = lk.posterior(prior, [0.3], a, 0.2, n=500, method="twisted-smc", particles=4000)
    right = (found.samples[:, 0] > 0).double().mean().item()
    assert right == pytest.approx(0.75, abs=4 * math.sqrt(0.75 * 0.25 * (1 / 500 + 4 / 4000)))


@pytest.mark.parametrize("operator", OPERATORS)
def test_posterior_of_a_gaussian_field(operator):
    """Hotelling's T² and the mean eigenvalue, with each family of draws counted as one."""
    prior, covariance = field()
    a, n = OPERATORS[operator], 300
    y = a(prior.sample(1, seed=0))[0]
    options = {"particles": 1500, "steps": 40}
    found = lk.posterior(prior, y, a, NOISE, n=n, method="twisted-smc", **options)
    mean, exact = field_posterior(a, y, covariance)
    families = found.diagnostics["families"].item()
    shift, trace, _ = deviations(found.samples, mean, exact, count=families)
    assert abs(shift) < 5
    assert trace == pytest.approx(1, abs=0.1)


def test_few_effective_particles_are_noted():
    prior = GaussianMixture.of([1], torch.zeros(1, 40), torch.eye(40)[None] * 9)
    found = lk.posterior(
        prior, torch.full((40,), 3.0), lambda x: x.sin() * 3, 0.05, n=5, method="twisted-smc",
        particles=20, steps=20,
    )  # fmt: skip
    assert any("take more particles" in note for note in found.notes)
    assert found.diagnostics["smallest_ess"] < 0.5
