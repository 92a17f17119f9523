"""Guided reverse diffusion, against posteriors in closed form and known biases."""

import math
from dataclasses import replace

import pytest
import torch
from diffusion_cases import NOISE, OPERATORS, deviations, field, field_posterior, twenty_five
from scipy.stats import ks_2samp

import likely as lk
from likely.inverse import Identity, Linear, Mask, Poisson
from likely.inverse.diffusion import Step, denoiser_of
from likely.inverse.linear import Linearised, Measurement, conjugate_gradients
from likely.inverse.problem import Problem
from likely.inverse.samplers.guided import guided_mean, normalised_step
from likely.models.mixtures.gmm import GaussianMixture

# Of a prior N(0, c), y = x + n = 1: columns of one problem are four problems.
C = torch.tensor([1, 1, 0.1, 4], dtype=torch.float64)
SIGMA = torch.tensor([0.1, 1, 0.1, 1], dtype=torch.float64)
MEAN, STD = C / (C + SIGMA**2), (C * SIGMA**2 / (C + SIGMA**2)).sqrt()
# Mean, and deviation over the right one, in the limit of small steps: the recursion of both in float64.
BIASES = {
    "dps": ([1.000, 0.632, 1.000, 0.982], [0.71, 0.93, 0.74, 0.79]),
    "pigdm": ([0.990, 0.500, 0.835, 0.908], [1.00, 1.00, 1.07, 0.92]),
    "cla": ([0.963, 0.500, 0.827, 0.717], [0.97, 0.82, 0.89, 0.85]),
    "moments": (MEAN.tolist(), [1.0, 1.0, 1.0, 1.0]),
}


@pytest.mark.parametrize("covariance", BIASES)
def test_biases_in_one_dimension_are_the_known_ones(covariance):
    """Two-sided: an approximation earns its label, and the default has no bias."""
    prior = GaussianMixture.of([1], torch.zeros(1, 4), torch.diag(C)[None])
    steps = 500 if covariance == "dps" else 200
    options = {"method": "guided", "covariance": covariance, "steps": steps}
    found = lk.posterior(prior, torch.ones(4), None, SIGMA, n=6000, **options)
    mean, ratio = BIASES[covariance]
    assert found.mean.tolist() == pytest.approx(mean, rel=0.03)
    assert (found.std / STD).tolist() == pytest.approx(ratio, rel=0.03)
    assert found.kind == ("asymptotic" if covariance == "moments" else "approximation")


@pytest.mark.parametrize("operator", OPERATORS)
def test_posterior_of_a_gaussian_field_is_right_where_it_claims_to_be(operator):
    """Mean and covariance of 64 correlated pixels, by Hotelling's T² and Wishart's eigenvalues."""
    prior, covariance = field()
    a, n = OPERATORS[operator], 300
    with torch.random.fork_rng():
        torch.manual_seed(1)
        y = a(prior.sample(1, seed=0))[0]
        y = y + NOISE * torch.randn_like(y)
    found = lk.posterior(prior, y, a, NOISE, n=n, method="guided", steps=100)
    mean, exact = field_posterior(a, y, covariance)
    shift, trace, eigenvalues = deviations(found.samples, mean, exact)
    edge = math.sqrt(64 / n)
    assert found.kind == "asymptotic"
    assert abs(shift) < 4
    assert trace == pytest.approx(1, abs=5 * math.sqrt(2 / (64 * n)))
    assert eigenvalues[0] > (1 - edge) ** 2 - 0.1
    assert eigenvalues[-1] < (1 + edge) ** 2 + 0.15


@pytest.mark.parametrize(
    ("name", "options"),
    [("score-sde", {}), ("score-sde", {"sde": "ve"}), ("ncsn", {"sigma": 0.01}), ("ddpm", {}),
     ("flow-matching", {})],
)  # fmt: skip
def test_score_models_answer(name, options):
    """An untrained one is standard normal, so that its posterior is known."""
    prior = lk.make(name, lk.reals(3), hidden=(4,), **options)
    prior.view.shift.copy_(torch.tensor([1.0, 2, 3]))
    prior.view.scale.copy_(torch.tensor([1.0, 10, 0.1]))
    a = torch.tensor([[1.0, 0.1, 0], [0, 0, 10]])
    found = lk.posterior(prior, [2.0, 30.5], Linear(a), 0.5, n=2000, steps=100)
    assert found.method == "guided"
    h = a * prior.view.scale  # in standard columns
    gain = h.mT @ torch.linalg.inv(h @ h.mT + 0.25 * torch.eye(2))
    mean = gain @ (torch.tensor([2.0, 30.5]) - a @ prior.view.shift)
    z = (found.samples - prior.view.shift) / prior.view.scale
    assert z.mean(0).tolist() == pytest.approx(mean.tolist(), abs=0.08)
    assert torch.allclose(z.mT.cov(), torch.eye(3) - gain @ h, atol=0.1)


def test_operators_act_on_the_units_of_the_data():
    """A lognormal prior, whose view takes logarithms, against quadrature."""
    prior = lk.make("gaussian", lk.table(lk.Positive())).double()
    prior.view.shift.fill_(0.5)
    found = lk.posterior(prior, [3.0], Identity(), 0.2, n=2000, method="guided")
    x = torch.linspace(1e-3, 12, 100_000, dtype=torch.float64)
    weight = (-(x.log() - 0.5).square() / 2 - x.log() - ((x - 3) / 0.2).square() / 2).softmax(0)
    mean = (weight * x).sum()
    assert found.mean.item() == pytest.approx(mean.item(), rel=0.01)
    assert found.std.item() == pytest.approx(
        (weight * (x - mean) ** 2).sum().sqrt().item(), rel=0.05
    )
    assert found.kind == "approximation"


def test_levels_of_pixels_have_gradients():
    """Integers are real numbers to the operator, and levels again in the draws."""
    prior = lk.make("gaussian", lk.integers(16, 2, 2, layout="image"), view="affine")
    rows = torch.randint(16, (200, 2, 2), generator=torch.Generator().manual_seed(0))
    lk.fit(prior, rows, epochs=3, seed=0)
    found = lk.posterior(prior, [3.0, 12.0, 3.0, 12.0], lambda x: x.flatten(1), 0.5, n=50)
    assert found.samples.dtype == torch.int64
    assert found.mean.flatten().tolist() == pytest.approx([3, 12, 3, 12], abs=0.5)


@pytest.mark.parametrize("method", ["guided", "split-gibbs", "twisted-smc"])
def test_limits_of_the_noise(method):
    """Much of it, or an operator that sees nothing, gives back the prior; little gives y."""
    prior = GaussianMixture.of([1, 2], [[-1.0, 0], [1, 0.5]], 0.1 * torch.eye(2).expand(2, 2, 2))
    draws = prior.sample(400, seed=3)
    options = {"n": 400, "method": method}
    options |= {"sweeps": 40} if method == "split-gibbs" else {"steps": 60}
    for a, sigma in ((Identity(), 1e3), (Linear(torch.zeros(2, 2)), 0.1)):
        x = lk.posterior(prior, [0.5, 0.5], a, sigma, **options).samples
        assert min(ks_2samp(x[:, i], draws[:, i]).pvalue for i in range(2)) > 1e-3
    options |= {"rho": 1e-3} if method == "split-gibbs" else {}
    sharp = lk.posterior(prior, [0.9, 0.4], None, 1e-2, **options)
    assert torch.allclose(sharp.samples, torch.tensor([0.9, 0.4]).double(), atol=0.06)


def test_rows_do_not_depend_on_their_neighbours():
    """Neither draws of one measurement, whose norms DPS may take together, nor measurements."""
    prior, operator, sigma, y = twenty_five(4, 2, seed=0)
    denoiser = denoiser_of(prior)
    problem = Problem(prior, operator.on((4,), y), lk.inverse.Gaussian(sigma), y)
    measured = Measurement(problem, denoiser.view)
    z = 5 * torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for covariance in ("moments", "pigdm", "dps", "cla"):
        rows = guided_mean(denoiser, measured, z, 2.0, covariance, 20)
        alone = torch.cat(
            [guided_mean(denoiser, measured, row[None], 2.0, covariance, 20) for row in z]
        )
        assert torch.allclose(rows, alone, rtol=1e-9)
    step = Step(2.0, 0.0, 30.0)  # without noise
    rows = normalised_step(denoiser, measured, z, step, 1.0)
    alone = torch.cat([normalised_step(denoiser, measured, row[None], step, 1.0) for row in z])
    assert torch.allclose(rows, alone, rtol=1e-9)
    both = lk.posterior(prior, torch.stack([y, y + 1]), operator, sigma, n=5, method="guided")
    one = lk.posterior(prior, y + 1, operator, sigma, n=5, method="guided")
    assert torch.equal(both.samples[1], one.samples)


def test_slopes_that_are_no_covariance_do_no_harm():
    """A network's error in ∂m/∂z, times a large σ², once made draws diverge: ΠGDM's V stands in."""
    prior = GaussianMixture.of([1], [[0.0]], [[[1.0]]])
    right = denoiser_of(prior)
    wrong = replace(right, mean=lambda z, sigma: right.mean(z, sigma) + 0.01 * (5 * z).sin())
    y = torch.ones(1, dtype=torch.float64)
    problem = Problem(prior, Identity().on((1,), y), lk.inverse.Gaussian(0.5), y)
    measured = Measurement(problem, right.view)
    z = torch.linspace(-3, 3, 20, dtype=torch.float64)[:, None]
    slope = 1 / 401 + 0.05 * (5 * z).cos()  # of m, at σ = 20
    moments, pigdm = (
        guided_mean(wrong, measured, z, 20.0, covariance, 20) for covariance in ("moments", "pigdm")
    )
    assert torch.allclose(moments[slope < 0], pigdm[slope < 0])
    assert not torch.isclose(moments[slope > 0], pigdm[slope > 0]).any()


def test_normalised_steps_do_not_know_the_noise():
    """What the DPS paper runs gives the same draws whatever the noise is."""
    prior = GaussianMixture.of([1], [[0.0, 0.0]], torch.eye(2)[None])
    options = {"method": "guided", "covariance": "dps-normalised", "n": 50}
    a, b = (lk.posterior(prior, [1.0, 0.5], None, sigma, **options) for sigma in (0.1, 1.0))
    assert torch.equal(a.samples, b.samples)


def test_counts_are_answered():
    """Poisson noise enters by its variance at the denoised row."""
    prior = GaussianMixture.of([1], [[100.0]], [[[400.0]]])
    found = lk.posterior(prior, [80.0], None, Poisson(), n=2000, method="guided")
    assert found.mean.item() == pytest.approx((80 * 400 + 100 * 84) / 484, rel=0.02)
    assert found.std.item() == pytest.approx(math.sqrt(400 * 84 / 484), rel=0.1)


def test_products_with_the_slope_and_its_transpose_are_adjoint():
    """J and Jᵀ of a curved measurement: ⟨J v, w⟩ = ⟨v, Jᵀ w⟩, and J by finite differences."""
    z, v = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def residual(z):
        return torch.stack([z[:, 0] * z[:, 1], z[:, 2].exp()], 1)

    near = Linearised(residual, z)
    w = v[:, :2]
    assert torch.allclose((near.push(v) * w).sum(), (v * near.pull(w)).sum())
    difference = (residual(z + 1e-6 * v) - residual(z - 1e-6 * v)) / 2e-6
    assert torch.allclose(near.push(v), -difference, rtol=1e-5)


def test_conjugate_gradients_solve_and_stop():
    """Rows are solved exactly in as many steps as columns; one that is not at least 1 is told."""
    a = torch.randn(5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    s, b = a @ a.mT + torch.eye(5).to(a), a[:3]
    x, sound = conjugate_gradients(lambda v: v @ s, b, tolerance=1e-10)
    assert torch.allclose(x @ s, b)
    assert sound.all()
    x, sound = conjugate_gradients(lambda v: v * torch.tensor([[1.0], [-1], [0.5]]), b)
    assert torch.equal(x[0], b[0])
    assert not x[1:].any()
    assert sound.tolist() == [[True], [False], [False]]


def test_refusals_say_what_is_needed():
    one_level = lk.make("denoising-score", lk.reals(2))
    with pytest.raises(lk.LikelyError, match="score model with many noise levels"):
        lk.posterior(one_level, [0.0, 0.0], None, 0.1, method="guided")
    prior = GaussianMixture.of([1], [[0.0, 0.0]], torch.eye(2)[None])
    with pytest.raises(lk.LikelyError, match="needs noise"):
        lk.posterior(prior, [0.0, 0.0], Mask([1, 0]), None, method="guided")
    options = {"covariance": "dps", "steps": 20}
    with pytest.raises(lk.LikelyError, match="diverge"):
        lk.posterior(prior, [1.0, 1.0], None, 1e-4, n=2, method="guided", **options)
