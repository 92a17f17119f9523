"""Posteriors at the limits of noise, row by row, with missing entries, and what is said of bad input."""

import math

import pytest
import torch

import likely as lk
from likely.inverse import Convolve, Gaussian, Linear, Mask, Poisson, Select

METHODS = [
    ("gaussian", "exact", {}),
    ("gaussian", "smc", {"particles": 256}),
    ("gaussian", "hmc", {"temperatures": 1, "chains": 16, "burn_in": 60, "leapfrogs": 5}),
    ("flow", "latent", {"particles": 256}),
    ("vae", "latent", {"particles": 256}),
    ("gan", "latent", {"particles": 256, "error": 0.2}),
]
each_method = pytest.mark.parametrize(
    ("name", "method", "options"), METHODS, ids=[f"{a}-{b}" for a, b, _ in METHODS]
)


@each_method
def test_a_measurement_without_news_leaves_the_prior(prior, name, method, options):
    model, mean, covariance = prior(name, (1, 3))
    for operator, sigma in ((None, 1e4), (Linear(torch.zeros(2, 3)), 1.0)):
        y = torch.zeros(1, 3) if operator is None else torch.zeros(2)
        p = lk.posterior(model, y, operator, sigma, n=400, method=method, **options)
        independent = p.diagnostics.get("ess", torch.tensor(400.0)).clamp(max=400)
        error = (covariance.diagonal() / independent).sqrt()
        assert ((p.mean.flatten() - mean).abs() < 4.5 * error).all()
        spread = p.std.flatten().double() / covariance.diagonal().sqrt()
        assert ((spread - 1).abs() < 4.5 / (2 * independent).sqrt()).all()


@each_method
def test_a_measurement_without_noise_is_the_answer(prior, name, method, options):
    model, mean, _ = prior(name, (1, 3))
    y = (mean + torch.tensor([0.3, -0.2, 0.5])).reshape(1, 3)
    p = lk.posterior(model, y, None, 1e-3, n=100, method=method, **options)
    assert torch.allclose(p.mean, y, atol=1e-3)
    assert (p.std < 2e-3).all()


@each_method
def test_a_row_alone_is_the_row_in_a_batch_and_seeds_repeat(prior, name, method, options):
    model, mean, _ = prior(name, (1, 3))
    y = mean.reshape(1, 1, 3) + torch.tensor([[[0.0]], [[0.5]]])
    options = options | ({"particles": 40, "moves": 1} if "particles" in options else {})
    options = options | ({"burn_in": 10, "thin": 1} if method == "hmc" else {})
    together = lk.posterior(model, y, None, 0.5, n=40, method=method, seed=3, **options)
    alone = lk.posterior(model, y[1], None, 0.5, n=40, method=method, seed=3, **options)
    other = lk.posterior(model, y[1], None, 0.5, n=40, method=method, seed=4, **options)
    assert torch.equal(together.samples[1], alone.samples)
    assert torch.equal(together.chi2[1], alone.chi2)
    assert not torch.equal(alone.samples, other.samples)


def test_shapes_of_one_and_several_measurements(prior):
    model, *_ = prior("gaussian", (4, 5))
    blur = Convolve(torch.full((2, 2), 0.25), "valid")
    y = torch.randn(3, 3, 4)
    several, one = (lk.posterior(model, v, blur, 0.5, n=7) for v in (y, y[0]))
    assert several.samples.shape == (3, 7, 4, 5)
    assert several.mean.shape == several.std.shape == (3, 4, 5)
    assert several.quantiles([0.1, 0.9]).shape == (2, 3, 4, 5)
    assert several.residual.shape == (3, 3, 4)
    assert several.pulls.shape == (3, 7, 3, 4)
    assert several.chi2.shape == several.diagnostics["log_evidence"].shape == (3,)
    assert one.samples.shape == (7, 4, 5)
    assert one.chi2.shape == ()
    assert "7 draws by exact (exact)" in repr(one)


def test_missing_entries_are_those_of_a_mask(prior):
    model, *_ = prior("gaussian", (2, 3))
    y = torch.randn(2, 3)
    known = torch.tensor([[True, False, True], [True, True, False]])
    sigma = torch.rand(2, 3) + 0.2
    masked = lk.posterior(model, y, Mask(known), Gaussian(sigma), n=50)
    selected = lk.posterior(model, y[known], Select(known), Gaussian(sigma[known]), n=50)
    holes = torch.where(known, y, math.nan)
    unknown = torch.where(known, sigma, 0.0)
    for p in (
        masked,
        lk.posterior(model, holes, None, Gaussian(sigma), n=50, missing="mask"),
        lk.posterior(model, y, None, Gaussian(unknown), n=50, missing="mask"),
        lk.posterior(model, holes, Mask(known), Gaussian(sigma), n=50),
    ):
        assert torch.allclose(p.samples, selected.samples)
        assert torch.allclose(p.chi2, selected.chi2)
        assert torch.equal(p.residual.isnan(), ~known)


def test_poisson_counts_with_a_background_move_a_positive_prior(prior):
    model = lk.make("gaussian", lk.table(lk.Positive()), seed=0)  # log x ~ N(0, 1)
    y, noise = torch.tensor([9.0]), Poisson(background=2.0)
    p = lk.posterior(model, y, None, noise, n=1000, method="smc", particles=1000)
    x = torch.linspace(-4, 4, 4001, dtype=torch.float64).exp()[:, None]
    log = model.log_prob(x) + x[:, 0].log() + noise.log_prob(y[None].double(), x)
    weight = log.detach().softmax(0)
    mean = weight @ x[:, 0]
    error = p.std.item() / p.diagnostics["ess"].sqrt()
    assert abs(p.mean.item() - mean) < 4.5 * error
    assert p.residual.item() == pytest.approx(9 - 2 - p.mean.item(), abs=1e-4)


def test_a_measurement_beyond_the_prior_is_told(prior):
    model, mean, _ = prior("gaussian", (3, 3))
    y = mean.reshape(3, 3)
    assert not lk.posterior(model, y, None, 0.5).notes
    (note,) = lk.posterior(model, 40 * y, None, 0.5).notes
    assert "outside what the prior knows" in note
    (note,) = lk.posterior(model, torch.zeros(400), Linear(torch.ones(400, 9) / 9), 5.0).notes
    assert "less noise" in note


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"y": torch.zeros(3, 2)}, r"y has shape \(3, 2\)"),
        ({"y": torch.full((2, 3), math.nan)}, r"y is not finite at \(0, 0\) of measurement 0"),
        ({"y": torch.full((2, 3), math.nan), "missing": "mask"}, "no entry of y is observed"),
        ({"noise": torch.zeros(2, 3)}, r"the noise is 0.* at \(0, 0\)"),
        ({"noise": torch.ones(3)}, "sigma of shape"),
        ({"noise": "loud"}, "standard deviation"),
        ({"operator": 3}, "the operator is a int"),
        ({"operator": Convolve(torch.full((5, 5), 0.04))}, "larger than x"),
        ({"missing": "maybe"}, "missing="),
        ({"n": 0}, "at least one draw"),
        ({"y": torch.full((2, 3), -1.0), "noise": Poisson(), "method": "smc"}, "counts"),
    ],
)
def test_bad_input_is_named(prior, arguments, message):
    model, *_ = prior("gaussian", (2, 3))
    with pytest.raises(lk.LikelyError, match=message):
        lk.posterior(model, **{"y": torch.zeros(2, 3), "noise": 1.0, **arguments})


def test_a_prior_with_a_context_is_refused():
    model = lk.make("realnvp", lk.reals(2), context=lk.reals(1), transforms=1)
    with pytest.raises(lk.DomainError, match="context"):
        lk.posterior(model, torch.zeros(2), None, 1.0)
