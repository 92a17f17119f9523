"""The bound against its parts in the paper's form, and against exact likelihoods; samples of exact noise."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats
import torch
from torch.distributions import MultivariateNormal, Normal, kl_divergence

import likely as lk
from likely.contract.training import Batch
from likely.contract.views import log_mass
from likely.core.likelihood import Kind
from likely.evaluation.modes import mode_coverage
from likely.models.score.ddpm import MEASURED, noise_levels

COVARIANCE = torch.tensor([[1.0, 0.8], [0.8, 1.0]], dtype=torch.float64)


def exact(covariance, **options):
    """A model whose noise prediction is that of a Gaussian, and rows of it."""
    dim = len(covariance)
    law = MultivariateNormal(torch.zeros(dim, dtype=torch.float64), covariance)
    variance, axes = torch.linalg.eigh(covariance)

    def noise(y, sigma, context=None):
        sigma = sigma[:, None]
        return sigma * (y @ axes / (variance + sigma.square())) @ axes.T

    model = lk.make("ddpm", lk.reals(dim), **options).double()
    model.noise_prediction = noise
    x = law.sample((20_000,))
    model.finish(Batch(x))
    return model, law, x


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_noise_levels_are_those_of_the_papers(schedule):
    sigma = noise_levels(1000, schedule).numpy()
    if schedule == "linear":
        beta = np.linspace(1e-4, 0.02, 1000)
    else:
        signal = np.cos((np.arange(1001) / 1000 + 0.008) / 1.008 * np.pi / 2) ** 2
        beta = np.minimum(1 - signal[1:] / signal[:-1], 0.999)
    alpha_bar = np.cumprod(1 - beta)
    np.testing.assert_allclose(sigma[1:], np.sqrt((1 - alpha_bar) / alpha_bar), rtol=1e-10)
    assert sigma[0] == 0


def test_error_of_the_noise_is_measured():
    model, _, _ = exact(torch.eye(1, dtype=torch.float64) * 0.5, levels=50)
    # Each is a mean of so many squares of Gaussians; together they spread as such means do.
    ratio = model.error[:, 0] / (0.5 / (0.5 + model.sigma[1:].square()))
    z = (ratio - 1) / math.sqrt(2 / (MEASURED[1] // 50))
    assert z.abs().max() < 5
    assert abs(z.mean()) < 4 / math.sqrt(50)


def test_bound_is_the_sum_of_its_parts_in_the_form_of_the_paper():
    """Ho et al., eqs. 5 to 7 in x_t, each expectation over the noise by Gauss–Hermite quadrature."""
    variance, levels = 0.3, 12
    model, _, x = exact(torch.eye(1, dtype=torch.float64) * variance, levels=levels)
    x = x[:5]
    alpha_bar = (1 / (1 + model.sigma.square())).tolist()
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    noise = torch.tensor(nodes)
    weights = torch.tensor(weights / weights.sum())
    total = kl_divergence(
        Normal(math.sqrt(alpha_bar[-1]) * x, math.sqrt(1 - alpha_bar[-1])), Normal(0.0, 1.0)
    )
    for t in range(1, levels + 1):
        now, before = alpha_bar[t], alpha_bar[t - 1]
        alpha, beta = now / before, 1 - now / before
        x_t = math.sqrt(now) * x + math.sqrt(1 - now) * noise  # a row for each x₀
        predicted = math.sqrt(1 - now) / (now * variance + 1 - now) * x_t
        mean = (x_t - beta / math.sqrt(1 - now) * predicted) / math.sqrt(alpha)  # eq. 11
        spread = beta**2 / (alpha * (1 - now)) * model.error[t - 1]
        if t == 1:
            term = -Normal(mean, spread.sqrt()).log_prob(x)
        else:
            beta_tilde = (1 - before) / (1 - now) * beta  # eq. 7
            posterior_mean = (
                math.sqrt(before) * beta * x + math.sqrt(alpha) * (1 - before) * x_t
            ) / (1 - now)
            term = kl_divergence(
                Normal(posterior_mean, math.sqrt(beta_tilde)),
                Normal(mean, (beta_tilde + spread).sqrt()),
            )
        total = total + (term @ weights)[:, None]
    bound = model.log_likelihood(x.repeat(4000, 1), seed=0, draws=2)
    assert bound.kind == Kind.LOWER
    values = bound.value.view(4000, 5)
    error = values.std(0) / math.sqrt(4000)
    assert ((values.mean(0) + total[:, 0]).abs() < 4 * error).all()
    assert (error < 0.02).all()
    # The errors that a row is told, from two draws each, are of the size that its values spread by.
    assert bound.stderr.square().mean().item() == pytest.approx(
        values.var(0).mean().item(), rel=0.1
    )


def test_bound_rises_to_the_likelihood_with_the_number_of_levels():
    gaps, narrow = [], torch.tensor([[1.0, 0.95], [0.95, 1.0]], dtype=torch.float64)
    for levels in (10, 40, 160):
        model, law, x = exact(narrow, levels=levels)
        gap = law.log_prob(x) - model.log_likelihood(x, seed=0, draws=4).value
        gaps.append(gap.mean().item())
        assert gaps[-1] > -3 * gap.std() / math.sqrt(len(gap))
    assert gaps[0] > 2 * gaps[1] > 4 * gaps[2]
    assert gaps[2] < 0.03


def test_terms_estimate_their_sum():
    model, _, x = exact(COVARIANCE, levels=60)
    x = x[:3000]
    full = model.log_likelihood(x, seed=1)
    part = model.log_likelihood(x, seed=1, draws=4, terms=7)
    difference = part.value - full.value
    assert abs(difference.mean()) < 4 * difference.std() / math.sqrt(len(x))
    assert part.stderr.square().mean() > full.stderr.square().mean() / 2
    assert model.log_likelihood(x[:5], seed=1, draws=1).stderr is None


def test_samples_are_those_of_the_exact_reverse_chain():
    """For a scalar Gaussian each reverse step is the exact one, however few there are."""
    model = exact(torch.eye(1, dtype=torch.float64) * 0.3, levels=5)[0]
    sigma = model.sigma[1:]
    model.error.copy_((0.3 / (0.3 + sigma.square()))[:, None])
    x = model.sample(20_000, seed=0)[:, 0]
    assert scipy.stats.kstest(x, "norm", (0, math.sqrt(0.3))).pvalue > 1e-3


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_samples_in_fewer_steps(eta):
    model = exact(COVARIANCE, levels=200)[0]
    x = model.sample(20_000, seed=0, steps=50, eta=eta)
    torch.testing.assert_close(x.T.cov(), COVARIANCE, rtol=0.05, atol=0.03)


def test_ddim_without_noise_is_a_map_of_its_start():
    model = exact(COVARIANCE, levels=20)[0]
    assert torch.equal(model.sample(3, seed=1, eta=0.0), model.sample(3, seed=1, eta=0.0))
    levels = model.sigma
    with torch.random.fork_rng():
        torch.manual_seed(3)
        y = model._back([20, 10, 0], 0.0, 7, None)
        torch.manual_seed(3)
        z = math.sqrt(1 + levels[20] ** 2) * torch.randn(7, 2, dtype=torch.float64)
    for t, s in ((20, 10), (10, 0)):  # Song, Meng & Ermon 2021, eq. 13
        z = z + (levels[s] - levels[t]) * model.noise_prediction(z, levels[t : t + 1])
    torch.testing.assert_close(y, z)


def test_decoder_is_a_distribution_over_levels():
    domain = lk.table(lk.Integer(5), lk.Binary(), lk.Spin(), lk.Real(), lk.Count())
    model = lk.make("ddpm", domain).double()
    choices = [range(5), (0, 1), (-1, 1), (0.3,), range(40)]
    x = torch.tensor(list(itertools.product(*choices)), dtype=torch.float64)
    model.prepare(Batch(x))
    (low, middle, high), log_det = model.view.cells(x)
    assert (low < middle)[:, model.view.discrete].all()
    assert (middle < high)[:, model.view.discrete].all()
    for std in (0.01, 0.5, 30.0):
        for mean in (-2.0, 0.1, 3.0):
            log_probability = log_mass((low - mean) / std, (high - mean) / std)
            for i, values in enumerate(choices[:3]):
                total = sum(
                    log_probability[(x[:, i] == v).nonzero()[0, 0], i].exp() for v in values
                )
                assert total.item() == pytest.approx(1, abs=1e-12)
    torch.testing.assert_close(log_det, torch.full_like(log_det, -model.view.scale[3].log()))
    image = lk.make("ddpm", lk.integers(17, 8, 8, layout="image")).double()
    (low, _, high), _ = image.view.cells(torch.arange(17).view(-1, 1, 1).expand(17, 8, 8))
    torch.testing.assert_close(low[1:], high[:-1])
    assert (low[0] == -math.inf).all()
    assert (high[-1] == math.inf).all()


def test_log_mass_in_the_tails():
    low = torch.tensor([-40.0, 8.0, -0.1, -math.inf, 30.0], dtype=torch.float64)
    high = torch.tensor([-39.0, 9.0, 0.1, -20.0, math.inf], dtype=torch.float64)
    mpmath = pytest.importorskip("mpmath")
    mpmath.mp.dps = 400
    expected = [
        float(mpmath.log(mpmath.ncdf(b) - mpmath.ncdf(a)))
        for a, b in zip(low.tolist(), high.tolist(), strict=True)
    ]
    torch.testing.assert_close(log_mass(low, high), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.slow
def test_both_weightings_learn():
    data = lk.load_data(lk.targets.eight_gaussians().sample(4000, 0).float())
    for weighting in ("simple", "bound"):
        model = lk.make("ddpm", data.domain, weighting=weighting, hidden=(64, 64), seed=0)
        lk.fit(model, data, steps=400)
        found = model.log_likelihood(data.test.x, seed=0).mean()
        assert found.value > -4.2  # a Gaussian with the same moments has −4.95, the truth −2.6


@pytest.mark.slow
def test_eight_gaussians():
    data = lk.load_data("eight-gaussians")
    model = lk.make("ddpm", data.domain, seed=0)
    lk.fit(model, data, steps=3000)
    truth = data.truth
    found = mode_coverage(model.sample(20_000, seed=0), truth.modes, truth.mode_width)
    x = truth.sample(5000, 1)
    gap = (truth.log_prob(x) - model.log_likelihood(x.float(), seed=0).value).mean().item()
    assert found.near.value > 0.96
    assert all(abs(share.value - 1 / 8) < 0.015 for share in found.shares)
    assert 0 < gap < 0.2


def test_bad_options():
    for options in ({"levels": 1}, {"schedule": "sudden"}, {"weighting": "none"}):
        with pytest.raises(lk.LikelyError, match=next(iter(options))):
            lk.score.DDPM(lk.reals(2), **options)
    model = lk.make("ddpm", lk.reals(2))
    for options in ({"steps": 0}, {"steps": 101}, {"eta": 1.5}):
        with pytest.raises(lk.LikelyError, match=next(iter(options))):
            model.sample(2, **options)
    for options in ({"draws": 0}, {"terms": 0}):
        with pytest.raises(lk.LikelyError, match=next(iter(options))):
            model.log_likelihood(torch.zeros(2, 2), **options)


def test_cells_of_large_counts_are_resolved():
    # Of counts around 1e8 a cell is 1e-8 wide in the logarithm, less than float32 resolves.
    x = torch.randn(500, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values = {}
    for scale in (1e4, 1e8):
        counts = (scale * x.exp()).long()
        model = lk.make("ddpm", lk.table(lk.Count()), levels=20, hidden=(8, 8), seed=0)
        model.prepare(Batch(counts))
        values[scale] = model.log_likelihood(counts, seed=0).mean().value
    assert values[1e8] == pytest.approx(values[1e4] - math.log(1e4), abs=0.01)
