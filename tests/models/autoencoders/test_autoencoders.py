"""Bounds against closed forms and quadrature; decoders, codes and corruption against formulas."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal

import likely as lk
from likely.contract.training import Batch
from likely.core.random import seeded

pytestmark = pytest.mark.xdist_group("autoencoders")  # which shares what its fixtures fit

N = 20_000


def linear_gaussian(seed=0):
    """Rows x = W z + μ + σ ε with orthogonal columns of W, and their distribution."""
    generator = torch.Generator().manual_seed(seed)
    axes = torch.linalg.qr(torch.randn(5, 2, generator=generator, dtype=torch.float64))[0]
    weight = axes * torch.tensor([2.0, 1.2])
    mean, sigma = torch.arange(5.0, dtype=torch.float64), 0.6
    covariance = weight @ weight.T + sigma**2 * torch.eye(5, dtype=torch.float64)
    law = MultivariateNormal(mean, covariance)
    with seeded(seed):
        return law.sample((N,)), law, (weight, mean, sigma)


def data_of(domain, x, context=None, context_domain=None):
    n = len(x)
    parts = [slice(0, n // 2), slice(n // 2, 3 * n // 4), slice(3 * n // 4, n)]
    splits = [lk.data.Split(x[p], None if context is None else context[p]) for p in parts]
    return lk.Data(domain, *splits, context=context_domain)


def test_elbo_with_the_closed_form_posterior_is_the_log_likelihood(set_by_hand):
    """Probabilistic PCA (Tipping & Bishop 1999), all parameters set by hand."""
    x, law, parameters = linear_gaussian()
    model, _ = set_by_hand("vae", x, *parameters)
    exact = law.log_prob(x)
    for draws in (1, 3, 100):  # each weight p(x, z)/q(z|x) is p(x): nothing is left to chance
        bound = model.log_likelihood(x, seed=1, draws=draws)
        torch.testing.assert_close(bound.value, exact, rtol=0, atol=1e-9)
    torch.testing.assert_close(model.elbo(x, seed=1, draws=4).value, exact, rtol=0, atol=1e-9)
    # The formula of the training loss is that of the ELBO, with the divergence in closed form.
    with seeded(2):
        loss = model.loss(Batch(x)).mean()
    assert loss.item() == pytest.approx(-exact.mean().item(), abs=0.03)
    draws = model.sample(N, seed=3)
    torch.testing.assert_close(draws.T.cov(), law.covariance_matrix, rtol=0.06, atol=0.06)


@pytest.mark.slow
def test_trained_elbo_reaches_the_closed_form_likelihood():
    x, law, _ = linear_gaussian()
    data = data_of(lk.reals(5), x.float())
    model = lk.make("vae", lk.reals(5), latent=2, hidden=(), seed=0)
    lk.fit(model, data, steps=2500, batch=512, rate=1e-2)
    test = data.test.x
    gap = law.log_prob(test.double()) - model.elbo(test, seed=0, draws=64).value
    assert abs(gap.mean().item()) < 0.01


@pytest.fixture(scope="module")
def curved():
    """A VAE with one latent variable on a parabola, and its likelihood by quadrature."""
    generator = torch.Generator().manual_seed(0)
    t = torch.randn(4000, generator=generator, dtype=torch.float64)
    noise = 0.2 * torch.randn(4000, 2, generator=generator, dtype=torch.float64)
    x = torch.stack([t, t.square()], 1) + noise
    model = lk.make("vae", lk.reals(2), latent=1, hidden=(32,), seed=0)
    lk.fit(model, data_of(lk.reals(2), x), steps=500, precision="64-true")
    with torch.no_grad():
        model.encoder.net.layers[-1].bias[1] += 1  # a posterior too wide, so that bounds are loose
    test = x[-300:]
    z = torch.linspace(-9, 9, 4001, dtype=torch.float64)[:, None]
    prior = torch.distributions.Normal(0.0, 1.0).log_prob(z[:, 0]) + math.log(18 / 4000)
    with torch.no_grad():
        exact = torch.stack(
            [
                (model._log_prob_given(row.expand(len(z), 2), z, None) + prior).logsumexp(0)
                for row in test
            ]
        )
    return model, test, exact


def test_bounds_rise_with_the_draws_towards_the_quadrature(curved):
    model, x, exact = curved
    gaps, errors = [], []
    for draws in (1, 4, 32, 2000):
        gap = exact - model.log_likelihood(x, seed=1, draws=draws).value
        errors.append(gap.std().item() / math.sqrt(len(x)))
        gaps.append(gap.mean().item())
        assert gaps[-1] > -3 * errors[-1]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[0] > 0.02
    assert abs(gaps[-1]) < 0.003
    elbo = model.elbo(x, seed=2, draws=500)
    assert (exact - elbo.value).mean().item() == pytest.approx(gaps[0], abs=3 * errors[0])


def test_standard_errors_of_the_bound_cover(curved):
    model, x, exact = curved
    bound = model.log_likelihood(x, seed=3, draws=1000)
    pulls = (bound.value - exact) / bound.stderr
    assert 0.9 < (pulls.abs() < 2).double().mean().item() < 0.99
    assert model.log_likelihood(x, seed=3, draws=1).stderr is None


def test_samples_follow_the_quadrature(curved):
    model, _, _ = curved
    draws = model.sample(4000, seed=4)
    edges = torch.linspace(-2, 6, 9, dtype=torch.float64)
    observed = torch.histogram(draws[:, 1], edges).hist / 4000
    z = torch.linspace(-9, 9, 4001, dtype=torch.float64)[:, None]
    weight = torch.distributions.Normal(0.0, 1.0).log_prob(z[:, 0]).exp() * 18 / 4000
    head = model.heads.heads[0]
    with torch.no_grad():
        mean = head.original(model.decoder(z, None))[:, 1]
        cdf = torch.distributions.Normal(mean, head.widths()[1] * head.scale[1]).cdf
        expected = torch.stack([weight @ cdf(edge) for edge in edges]).diff()
    error = (expected * (1 - expected) / 4000).sqrt()
    assert ((observed - expected).abs() < 4 * error + 1e-4).all()


def test_loss_weighs_the_divergence_by_beta_warm_up_and_free_bits():
    x = torch.randn(64, 3)

    def loss(step=10**6, **options):
        model = lk.make("vae", lk.reals(3), latent=2, seed=0, **options)
        model.prepare(Batch(x))
        with seeded(1):
            return model.loss(Batch(x, step=step)), model

    plain, model = loss()
    reconstruction, _ = loss(beta=0.0)
    divergence = plain - reconstruction
    mean, std = model._posterior(x, None)
    normal = torch.distributions.Normal
    each = torch.distributions.kl_divergence(normal(mean, std), normal(0.0, 1.0))
    torch.testing.assert_close(divergence, each.sum(1), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(loss(beta=4.0)[0] - reconstruction, 4 * divergence, **CLOSE)
    torch.testing.assert_close(
        loss(step=24, warm_up=100)[0] - reconstruction, divergence / 4, **CLOSE
    )
    least = each.mean(0).max().item() + 0.1
    expected = torch.full((64,), 2 * least)
    torch.testing.assert_close(loss(free_bits=least)[0] - reconstruction, expected, **CLOSE)


CLOSE = {"rtol": 1e-3, "atol": 1e-4}


@pytest.mark.parametrize("integers", ["categorical", "discretised-logistic"])
def test_decoders_of_integers_sum_to_one(integers):
    levels = 70
    model = lk.make("vae", lk.integers(levels, 1), latent=3, integers=integers, seed=0).double()
    x = torch.arange(levels)[:, None]
    model.prepare(Batch(x))
    z = torch.randn(5, 3, dtype=torch.float64)
    for code in z:
        total = model._log_prob_given(x, code.expand(levels, 3), None).exp().sum().item()
        assert total == pytest.approx(1, abs=1e-9)


def test_fixed_width_makes_the_loss_a_squared_error():
    x = torch.randn(50, 4, dtype=torch.float64)
    model = lk.make("ae", lk.reals(4), latent=2, scale=0.5, seed=0).double()
    model.prepare(Batch(x))
    head = model.heads.heads[0]
    assert not head.width.requires_grad
    residual = (x - model.reconstruct(x)) / head.scale
    width = 0.5
    expected = (
        residual.square().sum(1) / width**2 / 2
        + 4 * math.log(width * math.sqrt(2 * math.pi))
        + head.scale.log().sum()
    )
    torch.testing.assert_close(model.loss(Batch(x)), expected)
    torch.testing.assert_close(model.anomaly_score(x), expected)


def test_convolutions_see_and_give_pixels_at_their_places():
    """Two channels of five levels: outputs and features of a pixel are planes of the network."""
    domain = lk.integers(5, 2, 3, 4, layout="image")
    x = torch.randint(0, 5, (300, 2, 3, 4), generator=torch.Generator().manual_seed(0))
    model = lk.make("ae", domain, latent=2, seed=0).double()
    model.prepare(Batch(x))
    outputs = torch.zeros(2, 4, 3, 4)  # of the last convolution: channel, output, row, column
    outputs[1, 2, 0, 3] = 1
    model.decoder.net.forward = lambda z: outputs.flatten()[None].double()
    with torch.no_grad():
        model.decoder.bias.zero_()
        found = model.decoder(torch.zeros(1, 2).double(), None).view(2, 3, 4, 4)
    assert found.nonzero().tolist() == [[1, 0, 3, 2]]
    seen = []
    model.encoder.net.forward = lambda planes, context: seen.append(planes) or planes[:, :2]
    model.encode(x[:1])
    planes = seen[0].view(2, 4, 3, 4)
    torch.testing.assert_close(planes[1, :, 2, 0], model.features.entry(20, x[:1, 1, 2, 0])[0])


def test_training_starts_at_the_marginals_of_each_pixel():
    domain = lk.integers(5, 2, 3, 4, layout="image")
    x = torch.randint(0, 5, (300, 2, 3, 4), generator=torch.Generator().manual_seed(0))
    x[:, 1, 2, 3] = 4
    model = lk.make("ae", domain, latent=2, seed=0)
    model.prepare(Batch(x))
    with torch.no_grad():
        for parameter in model.decoder.net.parameters():
            parameter.zero_()
    means = model.decode(torch.zeros(1, 2))[0]
    torch.testing.assert_close(means, x.float().mean(0), rtol=0, atol=0.02)
    assert model.sample(7, seed=0).shape == (7, 2, 3, 4)


def test_an_image_is_needed_for_convolutions():
    with pytest.raises(lk.LikelyError, match="image"):
        lk.make("vae", lk.reals(4), network="convolutional")


def test_linear_autoencoder_samples_have_the_moments_of_the_data():
    x, law, _ = linear_gaussian()
    data = data_of(lk.reals(5), x.float())
    model = lk.make("ae", lk.reals(5), latent=2, hidden=(), seed=0)
    lk.fit(model, data, steps=1500, batch=512, rate=1e-2)
    draws = model.sample(N, seed=0).double()
    torch.testing.assert_close(draws.mean(0), law.mean, rtol=0, atol=0.08)
    variances, axes = torch.linalg.eigh(law.covariance_matrix)
    kept = (draws @ axes[:, -2:]).var(0)  # along the plane of the codes; the decoder adds noise
    assert ((kept > 0.85 * variances[-2:]) & (kept < 1.05 * variances[-2:] + 0.36)).all()
    far = law.mean.float() + 6 * axes[:, 0].float()
    assert model.anomaly_score(far[None]) > model.anomaly_score(data.test.x).quantile(0.999)


def test_codes_of_weighted_rows_have_weighted_moments():
    x, _, _ = linear_gaussian()
    x = x[:500]
    weight = torch.randint(0, 4, (500,), generator=torch.Generator().manual_seed(1)).double()
    model = lk.make("ae", lk.reals(5), latent=2, seed=0).double()
    model.prepare(Batch(x, weight=weight))
    model.finish(Batch(x, weight=weight))
    moments = model.code_mean.clone(), model.code_factor.clone()
    model.finish(Batch(x.repeat_interleave(weight.long(), 0)))
    torch.testing.assert_close(moments, (model.code_mean, model.code_factor))


def test_rows_of_weight_zero_do_not_free_bits():
    x, weight = torch.randn(60, 3), torch.ones(60)
    weight[30:] = 0
    model = lk.make("vae", lk.reals(3), latent=2, free_bits=0.3, warm_up=0, seed=0)
    model.prepare(Batch(x))

    def losses(x):
        with seeded(1):
            return model.loss(Batch(x, weight=weight))[:30]

    torch.testing.assert_close(losses(x), losses(torch.cat([x[:30], 50 * x[30:]])))


def test_rows_outside_the_domain_have_no_code():
    model = lk.make("ae", lk.table(u=lk.Interval(0, 1)), latent=1, seed=0)
    for verb in (model.encode, model.reconstruct):
        with pytest.raises(lk.DataError, match="u"):
            verb(torch.tensor([[0.5], [7.0]]))
    with pytest.raises(lk.DataError, match="codes of shape"):
        model.decode(torch.zeros(2, 3))


def test_reconstructions_keep_large_offsets():
    x = 1.7e9 + 580 * torch.randn(400, 2, dtype=torch.float64)
    model = lk.make("ae", lk.reals(2), latent=2, seed=0)
    model.prepare(Batch(x))
    assert model.reconstruct(x)[:, 0].unique().numel() > 390


def test_codes_follow_the_context():
    """z = A (1, c) + L ε is fitted by least squares."""
    generator = torch.Generator().manual_seed(0)
    label = torch.randint(0, 2, (4000, 1), generator=generator)
    x = 0.3 * torch.randn(4000, 3, generator=generator) + torch.tensor([-1.0, 2.0])[label]
    kinds = lk.table(label=lk.Categorical(2))
    model = lk.make("ae", lk.reals(3), context=kinds, latent=1, hidden=(), seed=0)
    lk.fit(model, data_of(lk.reals(3), x, label, kinds), steps=600, rate=5e-3)
    for value, mean in ((0, -1.0), (1, 2.0)):
        draws = model.sample(3000, context=torch.tensor([value]), seed=0)
        assert draws.mean().item() == pytest.approx(mean, abs=0.05)


def test_corruption_blanks_discrete_entries_and_shakes_continuous_ones():
    domain = lk.table(lk.Real(), lk.Categorical(3), lk.Binary())
    model = lk.make("dae", domain, noise=0.25, seed=0)
    features = torch.ones(40_000, model.features.size)
    with seeded(0):
        corrupted = model._corrupted(features)
    real, category, binary = corrupted.split([1, 3, 1], 1)
    assert real.std().item() == pytest.approx(0.25, rel=0.02)
    blank = (category == 0).all(1)
    assert ((category == 1).all(1) | blank).all()
    for part in (blank, binary[:, 0] == 0):
        assert part.double().mean().item() == pytest.approx(0.25, abs=0.01)


def test_the_denoising_chain_draws_from_the_data():
    """A ring: a Gaussian of the codes alone would fill it."""
    generator = torch.Generator().manual_seed(0)
    angle = 2 * math.pi * torch.rand(8000, generator=generator)
    radius = 3 + 0.1 * torch.randn(8000, generator=generator)
    x = torch.stack([radius * angle.cos(), radius * angle.sin()], 1)
    model = lk.make("dae", lk.reals(2), latent=2, hidden=(128, 128), noise=0.2, seed=0)
    lk.fit(model, data_of(lk.reals(2), x), steps=600, rate=2e-3)
    radius = model.sample(2000, seed=0).norm(dim=1)
    assert ((radius > 2.4) & (radius < 3.6)).double().mean().item() > 0.9
    start = lk.autoencoders.Autoencoder._sample(model, 2000, None).norm(dim=1)
    assert ((start > 2.4) & (start < 3.6)).double().mean().item() < 0.7


def test_interpolations_begin_and_end_at_their_rows():
    kinds = lk.table(label=lk.Categorical(2))
    model = lk.make("vae", lk.reals(3), context=kinds, latent=2, seed=0).double()
    x, label = torch.randn(8, 3, dtype=torch.float64), torch.arange(8)[:, None] % 2
    model.prepare(Batch(x, label))
    walk = model.interpolate(x[:4], x[4:], 5, label[:4])
    assert walk.shape == (4, 5, 3)
    torch.testing.assert_close(walk[:, 0], model.reconstruct(x[:4], label[:4]))
    torch.testing.assert_close(walk[:, 4], model.reconstruct(x[4:], label[:4]))
    middle = (model.encode(x[:4], label[:4]) + model.encode(x[4:], label[:4])) / 2
    torch.testing.assert_close(walk[:, 2], model.decode(middle, label[:4]))
    one = model.interpolate(x[:4], x[4:], 5, label[0])  # one context for all
    torch.testing.assert_close(one[0], walk[0])
    with pytest.raises(lk.DataError, match="4 rows and 3"):
        model.interpolate(x[:4], x[5:], 5, label[0])
    with pytest.raises(lk.LikelyError, match="steps=1"):
        model.interpolate(x[:4], x[4:], 1, label[0])


def test_a_walk_moves_the_variables_that_matter_one_at_a_time():
    x, _, _ = linear_gaussian()
    model = lk.make("ae", lk.reals(5), latent=3, hidden=(), seed=0).double()
    model.prepare(Batch(x))
    with torch.no_grad():
        model.encoder.net.layers[0].weight[1] *= 1e-3  # hardly used
    dimensions, decoded = model.traverse(x, [-1.0, 0.0, 2.0], most=2)
    assert set(dimensions) == {0, 2}
    z = model.encode(x)
    moved = z.mean(0, keepdim=True)
    moved[0, dimensions[0]] += 2 * z[:, dimensions[0]].std(correction=0)
    torch.testing.assert_close(decoded[0, 2], model.decode(moved)[0])
    torch.testing.assert_close(decoded[0, 1], decoded[1, 1])
