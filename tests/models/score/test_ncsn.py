"""Noise levels and steps against their conditions; annealed Langevin dynamics with exact scores."""

import math

import pytest
import scipy.stats
import torch

import likely as lk
from likely.contract.training import Batch
from likely.evaluation.modes import mode_coverage
from likely.models.score.ncsn import WIDEST, annealing_step, geometric, overlapping_ratio
from likely.targets import gaussian_mixture

MEANS = torch.tensor([[-5.0, -5.0], [5.0, 5.0]], dtype=torch.float64)
WEIGHTS = torch.tensor([0.2, 0.8], dtype=torch.float64)


def mixture_noise(z, sigma, context=None):
    """E[ε|z] of two round Gaussians of unit width."""
    offset = z[:, None] - MEANS
    variance = 1 + sigma[:, None].square()
    share = (WEIGHTS.log() - offset.square().sum(2) / (2 * variance)).softmax(1)
    return sigma[:, None] * (share[:, :, None] * offset).sum(1) / variance


@pytest.fixture
def rows():
    return gaussian_mixture(WEIGHTS, MEANS, torch.eye(2).expand(2, 2, 2)).sample(3000, 0)


def exact(name, rows, **options):
    """A model that knows the score, in the rows' own units."""
    model = lk.make(name, lk.reals(2), **options).double()
    model.prepare(Batch(rows))
    model.view.shift.zero_()
    model.view.shift_rest.zero_()
    model.view.scale.fill_(1)
    if name == "ncsn":
        model.sigmas.copy_(geometric(torch.pdist(rows).max().item(), 0.02, len(model.sigmas)))
    model.noise_prediction = mixture_noise
    return model


@pytest.mark.slow
def test_annealing_gives_separate_modes_their_weights(rows):
    """Song & Ermon 2019, figure 3: plain Langevin dynamics does not."""
    model = exact("ncsn", rows, steps=10)
    n = 20_000
    x = model.sample(n, seed=0)
    right = (x.sum(1) > 0).double().mean().item()
    assert abs(right - 0.8) < 4 * math.sqrt(0.8 * 0.2 / n)
    for mean in MEANS:
        near = x[(x - mean).norm(dim=1) < 6] - mean
        for column in near.T:
            assert scipy.stats.kstest(column, "norm").statistic < 0.03
    # As printed, the algorithm lags behind, the more so the fewer its steps are.
    lagging = [exact("ncsn", rows, steps=k, predictor=False).sample(n, seed=0) for k in (5, 20)]
    first, second = ((x.sum(1) > 0).double().mean().item() for x in lagging)
    assert 0.7 < first < second < 0.77
    plain = exact("denoising-score", rows, sigma=0.5, steps=200)
    right = (plain.sample(2000, seed=0).sum(1) > 0).double().mean().item()
    assert 0.4 < right < 0.7


def test_levels_are_chosen_from_the_rows(rows, tmp_path):
    model = lk.make("ncsn", lk.reals(2), sigma=0.01)
    model.prepare(Batch(rows.float()))
    largest = torch.pdist(model.view(rows)[0]).max()
    torch.testing.assert_close(model.sigmas[[0, -1]], torch.stack([largest, torch.tensor(0.01)]))
    ratio = model.sigmas[:-1] / model.sigmas[1:]
    torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio))
    assert ratio[0] == pytest.approx(WIDEST, rel=0.1)
    lk.save(model, tmp_path / "model.safetensors")
    assert torch.equal(lk.load(tmp_path / "model.safetensors").sigmas, model.sigmas)


@pytest.mark.parametrize("dim", [64, 784, 3072])
def test_half_of_the_rows_of_a_level_lie_in_the_level_before(dim):
    ratio = overlapping_ratio(dim)
    normal = scipy.stats.norm
    centre, spread = math.sqrt(2 * dim) * (ratio - 1), 3 * ratio
    assert normal.cdf(centre + spread) - normal.cdf(centre - spread) == pytest.approx(0.5, abs=1e-6)
    # The distances of noisy rows from their own ones, in as many dimensions, at σ = 1.
    distance = torch.randn(2000, dim).norm(dim=1)
    low, high = (ratio * (math.sqrt(dim) + k / math.sqrt(2)) for k in (-3, 3))
    inside = ((distance > low) & (distance < high)).double().mean().item()
    assert inside == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize(("ratio", "steps"), [(1.04, 5), (1.36, 10), (1.5, 3)])
def test_the_step_brings_a_level_nearest_to_its_variance(ratio, steps):
    def variance(eta):
        v = ratio**2
        for _ in range(steps):
            v = (1 - eta) ** 2 * v + 2 * eta
        return v

    eta = annealing_step(ratio, steps)
    assert variance(eta) < min(variance(eta - 0.002), variance(eta + 0.002))
    assert 1 < variance(eta) < ratio**2


@pytest.mark.slow
def test_eight_gaussians_get_their_weights():
    data = lk.load_data("eight-gaussians")
    model = lk.make("ncsn", data.domain, seed=0)
    lk.fit(model, data, steps=3000)
    truth = data.truth
    found = mode_coverage(model.sample(20_000, seed=0), truth.modes, truth.mode_width)
    assert found.near.value > 0.97
    assert all(abs(share.value - 1 / 8) < 0.015 for share in found.shares)


def test_bad_options():
    with pytest.raises(lk.LikelyError, match="levels"):
        lk.score.NCSN(lk.reals(2), levels=1)
    with pytest.raises(lk.LikelyError, match="no option 'step'"):
        lk.make("ncsn", lk.reals(2), step=0.1)


def test_it_is_made_in_the_default_type():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        assert lk.make("ncsn", lk.reals(2), hidden=(8,)).sample(2, seed=0).dtype == torch.float64
    finally:
        torch.set_default_dtype(before)
