"""Score models through SDEs: against the exact score of a mixture, quadrature and χ² tests."""

import math

import pytest
import scipy.stats
import torch

import likely as lk
from likely.contract.training import Batch
from likely.core.likelihood import Kind
from likely.core.random import seeded
from likely.evaluation.likelihood import forward_kl
from likely.models.score.ode import divergence_of

# A mixture of Gaussians with variances of their own along each axis, standardised as a view does it.
WEIGHT = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
MEAN = torch.tensor([[-1.2, 0.6], [0.2, -0.9], [0.9, 0.8]], dtype=torch.float64)
VARIANCE = torch.tensor([[0.05, 0.2], [0.1, 0.1], [0.3, 0.02]], dtype=torch.float64)
MEAN = MEAN - WEIGHT @ MEAN
TOTAL = WEIGHT @ (MEAN**2 + VARIANCE)
MEAN, VARIANCE = MEAN / TOTAL.sqrt(), VARIANCE / TOTAL


def mixture(z, sigma):
    """Log-density and score of the mixture with noise of variance σ²; σ of shape (n,) or (1,)."""
    variance = VARIANCE + sigma[:, None, None] ** 2
    deviation = z[:, None] - MEAN
    terms = -(deviation**2 / variance + (2 * math.pi * variance).log()).sum(2) / 2 + WEIGHT.log()
    score = -(terms.softmax(1)[..., None] * deviation / variance).sum(1)
    return terms.logsumexp(1), score


def draws_of_the_mixture(n, seed):
    generator = torch.Generator().manual_seed(seed)
    part = torch.multinomial(WEIGHT, n, replacement=True, generator=generator)
    noise = torch.randn(n, 2, generator=generator, dtype=torch.float64)
    return MEAN[part] + VARIANCE[part].sqrt() * noise


@pytest.fixture
def exact(monkeypatch):
    """Makes a model, whose view is the identity, with the exact prediction in place of a network."""

    def make(**options):
        model = lk.score.ScoreSDE(lk.reals(2), **options).double()
        monkeypatch.setattr(
            model, "noise_prediction", lambda z, sigma, _: -sigma[:, None] * mixture(z, sigma)[1]
        )
        return model

    return make


# Likelihoods with the exact score.


@pytest.mark.parametrize("sde", ["vp", "ve"])
def test_exact_score_gives_the_exact_likelihood(exact, sde):
    x = draws_of_the_mixture(300, 0)
    truth = mixture(x, torch.zeros(1, dtype=torch.float64))[0]
    likelihood = exact(sde=sde).log_likelihood(x)
    assert likelihood.kind == Kind.ESTIMATE
    assert likelihood.stderr is None
    # Beside the solver's there are the errors of the two cut-offs.
    torch.testing.assert_close(likelihood.value, truth, rtol=0, atol=1e-3)


def test_errors_of_random_directions_are_honest(exact):
    model = exact(tolerance=1e-4)
    x = draws_of_the_mixture(200, 0)
    expected = model.log_likelihood(x).value
    draws = 12
    estimate = model.log_likelihood(x, divergence="hutchinson", draws=draws, seed=0)
    assert estimate.kind == Kind.ESTIMATE
    deviation = (estimate.value - expected) / estimate.stderr
    # Differences in standard errors are close to Student's t, whose variance is known.
    assert deviation.square().mean() == pytest.approx((draws - 1) / (draws - 3), rel=0.5)
    assert abs(deviation.mean()) < 5 / math.sqrt(len(x))


@pytest.mark.parametrize("sde", ["vp", "ve"])
def test_with_the_exact_score_the_bound_is_tight(exact, sde):
    x = draws_of_the_mixture(4000, 1)
    truth = mixture(x, torch.zeros(1, dtype=torch.float64))[0]
    bound = exact(sde=sde).log_likelihood(x, method="bound", draws=64, seed=0)
    assert bound.kind == Kind.LOWER
    gap = bound.value - truth
    error = gap.std() / math.sqrt(len(gap))
    assert error < 0.02
    assert abs(gap.mean()) < 4 * error


def test_with_a_wrong_score_the_bound_is_lower(exact, monkeypatch):
    model = exact()
    right = model.noise_prediction
    monkeypatch.setattr(model, "noise_prediction", lambda z, s, c: right(z, s, c) + 0.1)
    x = draws_of_the_mixture(4000, 1)
    truth = mixture(x, torch.zeros(1, dtype=torch.float64))[0]
    bound = model.log_likelihood(x, method="bound", draws=64, seed=0)
    gap = bound.value - truth
    low, high = model.log_sigma
    # ∫ ‖ε̂ − E[ε|y]‖² d log σ, theorem 1.
    expected = -(high - low) * 2 * 0.1**2
    assert abs(gap.mean() - expected) < 4 * gap.std() / math.sqrt(len(gap))


def test_divergence_of_a_field():
    u = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    matrix = torch.randn(4, 4, dtype=torch.float64)

    def field(u):
        return (u @ matrix).tanh()

    jacobian = torch.autograd.functional.jacobian(lambda u: field(u).sum(0), u).transpose(0, 1)
    expected = jacobian.diagonal(dim1=1, dim2=2).sum(1)
    torch.testing.assert_close(divergence_of(field(u), u, None), expected)
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0]).double()] * 4)
    estimates = [divergence_of(field(u), u, v.expand(5, 4)) for v in signs]
    torch.testing.assert_close(torch.stack(estimates).mean(0), expected)


# Samples with the exact score.


@pytest.mark.parametrize("sde", ["vp", "ve"])
@pytest.mark.parametrize("sampler", ["ode", "heun", "ddim", "pc"])
def test_samplers_draw_from_the_mixture(exact, sampler, sde):
    n = 4000
    model = exact(sde=sde, sampler=sampler, steps=200 if sampler == "ddim" else 100)
    x = model.sample(n, seed=1)
    # Distribution functions of the marginals, at all draws.
    for axis in range(2):
        normal = torch.distributions.Normal(MEAN[:, axis], VARIANCE[:, axis].sqrt())
        uniform = (normal.cdf(x[:, axis, None]) * WEIGHT).sum(1)
        assert scipy.stats.kstest(uniform.numpy(), "uniform").pvalue > 1e-3 / 16


# Training.


def test_pooling_takes_only_noise_off_the_regression(exact, monkeypatch):
    model = exact()
    right = model.noise_prediction
    z = draws_of_the_mixture(20_000, 2).view(100, 200, 2)
    for sigma in (0.05, 0.3, 2.0):
        level, drops = torch.full((200,), sigma, dtype=torch.float64), []
        for prediction in (right, lambda y, s, _: 0.3 * right(y, s, _) + 0.2 * y.sin()):
            monkeypatch.setattr(model, "noise_prediction", prediction)
            torch.manual_seed(0)
            alone = torch.stack(
                [model.missed(rows, level, None).square().sum(1).mean() for rows in z]
            )
            pooled = torch.stack([model.pooled_error(rows, level).mean() for rows in z])
            drops.append(alone - pooled)
        # The two errors differ by a variance, which does not depend on the prediction.
        assert (drops[0] > 0).double().mean() > 0.9
        difference = drops[0] - drops[1]
        assert abs(difference.mean()) < 4 * difference.std() / 10


@pytest.mark.parametrize("weighting", ["likelihood", "simple"])
def test_loss_is_of_single_rows_and_contexts_count(weighting):
    context = lk.table(lk.Real())
    model = lk.score.ScoreSDE(lk.reals(3), context=context, weighting=weighting, hidden=(8, 8))
    batch = Batch(torch.randn(64, 3), torch.randn(64, 1))
    model.prepare(batch)
    loss = model.loss(batch)
    assert loss.shape == (64,)
    # The untrained network predicts as a standard normal distribution has it: s u.
    torch.manual_seed(1)
    sizes = torch.stack([model.loss(batch).mean() for _ in range(200)])
    t = torch.linspace(0, 1, 10_001, dtype=torch.float64)
    simple = weighting == "simple"
    expected = (1 / (1 + model._sigma(t) ** 2)).mean().item() if simple else 1.0
    assert sizes.mean().item() == pytest.approx(expected, abs=4 * sizes.std().item() / 14 + 0.01)


@pytest.mark.parametrize("sde", ["vp", "ve"])
def test_drawing_the_share_of_noise_samples_log_sigma_by_importance(exact, sde):
    model = exact(sde=sde)
    t = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    plain, drawn = model._log_uniform(t), model._share_log_uniform(t)
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(model._share_log_uniform(ends), model._sigma(ends))
    low, high = model.log_sigma
    shorter = (model._sigma(ends).square().reciprocal().log1p() / -2).diff()
    for power in (1.5, 2.0, 3.0):
        value = [sigma / (1 + sigma**2) ** power for sigma in (plain, drawn)]
        integral = (high - low) * value[0].mean()
        weighted = (value[1] * (1 + drawn**2)).mean() * shorter.squeeze()
        torch.testing.assert_close(weighted, integral, rtol=1e-4, atol=0)


def model_of(x, steps, **options):
    """A model of rows in the plane after so many steps."""
    data = lk.load_data(x.float(), domain=lk.reals(2))
    with seeded(0):
        model = lk.score.ScoreSDE(data.domain, **options)
    lk.fit(model, data, steps=steps, seed=0)
    return model


def check_mass_and_samples(model, half, cells, n):
    """The density's mass on a grid of [−half, half]² is 1, and draws of the ODE follow it."""
    block = 16
    k = cells * block
    edges = torch.linspace(-half, half, k + 1, dtype=torch.float64)
    middle = (edges[1:] + edges[:-1]) / 2
    log_p = model.log_likelihood(torch.cartesian_prod(middle, middle).float()).value.double()
    p = log_p.exp().view(cells, block, cells, block).sum((1, 3)) * (2 * half / k) ** 2
    assert p.sum().item() == pytest.approx(1, abs=0.01)
    p = p / p.sum()  # the quadrature's error would show in the cell of what is left over
    x = model.sample(n, seed=1).double()
    span = [-half, half, -half, half]
    observed = torch.histogramdd(x, bins=[cells, cells], range=span).hist
    keep = n * p > 5
    expected, observed = n * p[keep], observed[keep]
    expected = torch.cat([expected, (n - expected.sum()).clamp_min(1)[None]])
    observed = torch.cat([observed, (n - observed.sum())[None]])
    statistic = ((observed - expected) ** 2 / expected).sum().item()
    assert scipy.stats.chi2.sf(statistic, len(expected) - 1) > 1e-3


@pytest.mark.slow
def test_density_has_unit_mass_and_the_ode_draws_from_it():
    x = draws_of_the_mixture(20_000, 5)
    model = model_of(x, 100, hidden=(32, 32), tolerance=1e-3)
    check_mass_and_samples(model, 4.0, 10, 20_000)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "half", "cells", "rows", "edges"),
    # Four fifths are trained on. The checkerboard's edges lie in the middle of cells, and between
    # points of the quadrature.
    [
        ("eight-gaussians", 6.5, 12, 20_000, None),
        ("rings", 4.0, 12, 20_000, None),
        ("checkerboard", 5.5, 11, 250_000, 64),
    ],
)
def test_targets_in_the_plane(name, half, cells, rows, edges):
    target = lk.targets.target(name)
    model = model_of(target.sample(rows, 0), 3000, tolerance=1e-4, edges=edges)
    divergence = forward_kl(model, target, draws=20_000, seed=12345)
    assert divergence.mean().value < 0.02
    check_mass_and_samples(model, half, cells, 100_000)


# Uses and errors.


def test_edges_are_trained_and_saved(tmp_path):
    x = torch.rand(400, 2)
    data = lk.load_data(x, domain=lk.reals(2))
    model = lk.make("score-sde", data.domain, edges=6, hidden=(8, 8), tolerance=1e-3, seed=0)
    before = [p.clone() for p in model.net.steps.parameters()]
    lk.fit(model, data, steps=20)
    assert all((a != b).any() for a, b in zip(before, model.net.steps.parameters(), strict=True))
    lk.save(model, tmp_path / "edges.safetensors")
    again = lk.load(tmp_path / "edges.safetensors")
    assert torch.equal(again.log_likelihood(x[:5]).value, model.log_likelihood(x[:5]).value)
    image = lk.integers(17, 8, 8, layout="image")
    with pytest.raises(lk.LikelyError, match="edges=6: a U-Net has none"):
        lk.make("score-sde", image, edges=6)


def test_score_of_the_data_at_a_noise_level(exact):
    z = draws_of_the_mixture(50, 3).requires_grad_()
    log_density = mixture(z, torch.full((1,), 0.3, dtype=torch.float64))[0]
    (expected,) = torch.autograd.grad(log_density.sum(), z)
    torch.testing.assert_close(exact().score(z.detach(), 0.3), expected)


def test_levels_of_an_image_lie_on_one_scale():
    domain = lk.integers(17, 8, 8, layout="image")
    model = lk.score.ScoreSDE(domain, hidden=(4, 8), sampler="ddim", steps=3)
    x = torch.randint(0, 17, (40, 8, 8))
    model.prepare(Batch(x))
    assert len(model.view.scale.unique()) == 1
    assert model.sample(3, seed=0).shape == (3, 8, 8)
    likelihood = model.log_likelihood(x[:2], divergence="hutchinson", tolerance=1e-2, seed=0)
    assert likelihood.kind == Kind.ESTIMATE
    assert (likelihood.stderr > 0).all()


def test_the_size_of_a_batch_does_not_matter(exact):
    model = exact()
    x = draws_of_the_mixture(20, 4)
    alone = torch.cat([model.log_likelihood(row[None]).value for row in x])
    torch.testing.assert_close(model.log_likelihood(x).value, alone, rtol=0, atol=1e-3)
    assert model.log_likelihood(x[:0]).value.shape == (0,)
    assert model.sample(0).shape == (0, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sde": "sub-vp"}, "sde='sub-vp'"),
        ({"sampler": "euler"}, "sampler='euler'"),
        ({"weighting": "none"}, "weighting='none'"),
        ({"network": "unet"}, "takes images"),
        ({"network": "cnn"}, "network='cnn'"),
        ({"hidden": ()}, "whole numbers above 0, at least 1"),
        ({"edges": -1}, "edges=-1"),
        ({"steps": 0}, "steps=0"),
        ({"tolerance": 0.0}, "tolerance=0.0"),
    ],
)
def test_refused_options(options, message):
    with pytest.raises(lk.LikelyError, match=message):
        lk.score.ScoreSDE(lk.reals(2), **options)


def test_refused_domains_and_estimates(exact):
    for domain in (lk.table(lk.Real(), lk.Periodic(0, 1)), lk.categories(3, 4)):
        with pytest.raises(lk.DomainError, match="does not take"):
            lk.score.ScoreSDE(domain)
    with pytest.raises(lk.DomainError, match="constant"):
        lk.score.ScoreSDE(lk.table(lk.Constant(1.0)))
    model, x = exact(), torch.zeros(2, 2)
    for options, message in (
        ({"method": "exact"}, "method='exact'"),
        ({"divergence": "none"}, "divergence='none'"),
        ({"draws": 0}, "draws=0"),
        ({"tolerance": -1.0}, "tolerance=-1.0"),
    ):
        with pytest.raises(lk.LikelyError, match=message):
            model.log_likelihood(x, **options)
    with pytest.raises(lk.DensityError, match="estimate"):
        model.log_prob(x)
    with pytest.raises(lk.LikelyError, match="sigma must be positive"):
        model.score(x, 0.0)
    with pytest.raises(lk.DataError, match="score: z has shape"):
        model.score(torch.zeros(2, 3), 1.0)


def test_weights_that_are_not_finite_are_an_error():
    model = lk.make("score-sde", lk.reals(2), hidden=(8, 8), seed=0)
    torch.nn.init.constant_(next(model.net.parameters()), math.nan)
    for use in (lambda: model.sample(2, seed=0), lambda: model.log_likelihood(torch.zeros(2, 2))):
        with pytest.raises(lk.DivergenceError, match="Are the model's weights finite"):
            use()
