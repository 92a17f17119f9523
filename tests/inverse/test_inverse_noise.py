"""Noise: densities, draws and covariances against torch's distributions and dense matrices."""

import math

import pytest
import torch
from torch import distributions

import likely as lk
from likely.inverse import CorrelatedGaussian, DenseGaussian, Gaussian, Poisson, PoissonGaussian

SHAPE = (4, 5)
LAG = torch.tensor([[0.1, 0.2, 0.1], [0.2, 1.0, 0.2], [0.1, 0.2, 0.1]], dtype=torch.float64)


def dense(noise):
    """The covariance that colours white noise, as a matrix."""
    units = torch.eye(math.prod(SHAPE), dtype=torch.float64).reshape(-1, *SHAPE)
    root = noise.colour(units).flatten(1)
    return root.mT @ root


def gaussians():
    root = torch.randn(20, 20, dtype=torch.float64)
    return [
        Gaussian(0.3),
        Gaussian(torch.rand(SHAPE) + 0.1),
        CorrelatedGaussian(LAG),
        DenseGaussian(root @ root.mT + torch.eye(20)),
    ]


@pytest.mark.parametrize("which", range(4))
def test_gaussian_noise_is_the_multivariate_normal_of_its_covariance(which):
    noise = gaussians()[which].on(SHAPE)
    covariance = dense(noise)
    y, mean = torch.randn(2, 3, *SHAPE, dtype=torch.float64)
    exact = distributions.MultivariateNormal(mean.flatten(1), covariance)
    assert torch.allclose(noise.log_prob(y, mean), exact.log_prob(y.flatten(1)))
    assert torch.allclose(noise.whiten(noise.colour(y)), y)
    assert torch.allclose(noise.variance(mean)[0].flatten(), covariance.diagonal())
    kept = torch.rand(SHAPE) < 0.5
    part = noise.at(kept)
    flat = kept.flatten()
    exact = distributions.MultivariateNormal(mean[:, kept], covariance[flat][:, flat])
    assert torch.allclose(part.log_prob(y[:, kept], mean[:, kept]), exact.log_prob(y[:, kept]))


def test_stationary_covariances_hold_between_all_neighbours():
    covariance = dense(CorrelatedGaussian(LAG).on(SHAPE)).reshape(*SHAPE, *SHAPE)
    assert covariance[1, 1, 2, 1].item() == pytest.approx(0.2)
    assert covariance[0, 0, 3, 4].item() == pytest.approx(0.1)  # round both edges
    assert covariance[0, 0, 2, 2].item() == pytest.approx(0, abs=1e-12)


def test_poisson_noise_is_that_of_counts():
    mean = torch.rand(3, *SHAPE, dtype=torch.float64) * 5
    noise = Poisson(background=2.0, gain=0.5).on(SHAPE)
    y = noise.sample(mean, seed=0)
    exact = distributions.Poisson((mean + 2) / 0.5).log_prob(y / 0.5)
    assert torch.allclose(noise.log_prob(y, mean), exact.flatten(1).sum(1))


@pytest.mark.parametrize(
    "noise",
    [*gaussians(), Poisson(1.0, 0.5), PoissonGaussian(0.7, 1.0, 0.5)],
    ids=lambda noise: type(noise).__name__,
)
def test_draws_have_the_mean_the_variance_and_chi2_that_are_said(noise):
    noise = noise.on(SHAPE)
    mean = torch.full((20_000, *SHAPE), 3.0)
    y = noise.sample(mean, seed=1)
    assert torch.equal(y, noise.sample(mean, seed=1))
    variance = noise.variance(mean)[0]
    error = (variance / len(y)).sqrt()
    assert ((y.mean(0) - noise.expected(mean)[0]).abs() < 5 * error).all()
    assert torch.allclose(y.var(0), variance, rtol=0.1)
    chi2 = noise.chi2(y, mean) / math.prod(SHAPE)
    assert chi2.mean().item() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Gaussian(0.0), "above 0"),
        (lambda: Gaussian(float("nan")), "above 0"),
        (lambda: Gaussian(torch.ones(3)).on(SHAPE), "sigma of shape"),
        (lambda: CorrelatedGaussian(LAG.roll(1, 0)).on(SHAPE), "not symmetric"),
        (lambda: CorrelatedGaussian(LAG - 2 * LAG.clamp(max=0.3)).on((8, 8)), "no covariance"),
        (lambda: CorrelatedGaussian(LAG).on((2, 8)), "larger than y"),
        (lambda: CorrelatedGaussian(torch.zeros(3, 3)), "must be above 0"),
        (lambda: DenseGaussian(-torch.eye(3)), "positive definite"),
        (lambda: DenseGaussian(torch.eye(3)).on((4,)), "3 entries"),
        (lambda: Poisson(-1.0), "background"),
        (lambda: Poisson(0.0, 0.0), "gain"),
        (lambda: Poisson(torch.ones(3)).on(SHAPE), "background of shape"),
        (lambda: Poisson().check(torch.tensor([-1.0])), "counts are 0 or more"),
        (lambda: PoissonGaussian(0.0), "above 0"),
    ],
)
def test_bad_noise_is_named(make, message):
    with pytest.raises(lk.DataError, match=message):
        make()
