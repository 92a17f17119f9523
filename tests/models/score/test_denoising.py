"""Langevin dynamics with an exact score against its closed form; a learned score against the exact one."""

import math

import pytest
import torch

import likely as lk
from likely.contract.training import Batch
from likely.targets import gaussian_mixture

WIDTHS = torch.tensor([0.2, 0.7, 1.5], dtype=torch.float64)  # variances of independent columns


def gaussian_noise(z, sigma, context=None):
    """E[ε|z] of a Gaussian with these variances."""
    return sigma[:, None] * z / (WIDTHS + sigma[:, None].square())


@pytest.mark.parametrize("denoise", [False, True])
def test_samples_have_the_known_bias_of_unadjusted_langevin(denoise):
    model = lk.make("denoising-score", lk.reals(3), sigma=0.5, steps=400, denoise=denoise).double()
    model.noise_prediction = gaussian_noise
    n, noisy = 20_000, WIDTHS + 0.25
    variance = noisy / (1 - 0.2 * 0.25 / noisy / 2)  # for a step of η σ², η = 0.2
    if denoise:
        variance = variance * (WIDTHS / noisy).square()
    found = model.sample(n, seed=0).var(0)
    assert ((found / variance).log().abs() < 4 * math.sqrt(2 / n)).all()


@pytest.mark.slow
def test_the_learned_score_is_that_of_the_noisy_density():
    weights, means, widths = [0.3, 0.7], [[-1.0, 0.5], [1.5, -0.5]], torch.tensor([0.3, 0.2])
    covariances = widths[:, None, None] * torch.eye(2)
    data = lk.load_data(gaussian_mixture(weights, means, covariances).sample(4000, 0).float())
    model = lk.make("denoising-score", data.domain, sigma=0.4, hidden=(64, 64), seed=0)
    lk.fit(model, data, steps=800)
    scale, shift = model.view.scale.double(), model.view.shift.double()
    means = (torch.tensor(means) - shift) / scale
    covariances = covariances / torch.outer(scale, scale) + 0.16 * torch.eye(2)
    noisy = gaussian_mixture(weights, means, covariances)
    z = noisy.sample(2000, 1).requires_grad_()
    (exact,) = torch.autograd.grad(noisy.log_prob(z).sum(), z)
    with torch.no_grad():
        error = model.score(z.float(), 0.4) - exact
    assert error.square().mean() < 0.02 * exact.square().mean()


def test_the_loss_is_the_mean_error_of_the_noise():
    model = lk.make("denoising-score", lk.reals(3), sigma=0.5).double()
    model.noise_prediction = gaussian_noise
    x = torch.randn(100_000, 3, dtype=torch.float64) * WIDTHS.sqrt()
    loss = model.loss(Batch(x))
    expected = (WIDTHS / (WIDTHS + 0.25)).mean()  # the variance of ε given z
    assert loss.shape == (len(x),)
    assert abs(loss.mean() - expected) < 4 * loss.std() / math.sqrt(len(x))


def test_bad_options():
    for options in ({"sigma": -0.1}, {"sigma": 0.0}, {"steps": 0}):
        with pytest.raises(lk.LikelyError, match=next(iter(options))):
            lk.score.DenoisingScore(lk.reals(2), **options)
    with pytest.raises(lk.DensityError, match="no likelihood"):
        lk.make("denoising-score", lk.reals(2)).log_prob(torch.zeros(1, 2))
