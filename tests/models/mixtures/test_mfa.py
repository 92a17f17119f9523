"""Mixtures of factor analysers and deep Gaussian mixtures against closed forms and scikit-learn."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal, norm
from sklearn.decomposition import FactorAnalysis

import likely as lk
from likely.contract.abilities import Completes
from likely.contract.training import Batch
from likely.models.mixtures import DeepGaussianMixture, MixtureOfFactorAnalysers

D = 6
DEEP = {"components": (3, 2, 2), "factors": (4, 3, 2)}
KINDS = [
    (MixtureOfFactorAnalysers, {"components": 3, "factors": 2}),
    (MixtureOfFactorAnalysers, {"components": 3, "factors": 2, "noise": "isotropic"}),
    (DeepGaussianMixture, DEEP),
    (DeepGaussianMixture, {**DEEP, "noise": "isotropic"}),
]
each_kind = pytest.mark.parametrize(
    ("kind", "options"), KINDS, ids=["mfa", "mfa-isotropic", "deep", "deep-isotropic"]
)


def rows(n=1000, seed=0):
    """Three clusters, bent, with correlations and unequal noise."""
    generator = np.random.default_rng(seed)
    k = generator.integers(3, size=n)
    centres, loadings = generator.normal(size=(3, D)) * 3, generator.normal(size=(3, 2, D))
    z = generator.normal(size=(n, 2))
    z[:, 1] += z[:, 0] ** 2
    x = centres[k] + np.einsum("ni,nij->nj", z, loadings[k])
    return torch.from_numpy(x + generator.normal(size=(n, D)) * np.linspace(0.2, 1, D))


def prepared(kind, x, weight=None, **options):
    torch.manual_seed(0)
    model = kind(lk.reals(x.shape[1]), **options).double()
    model.prepare(Batch(x, weight=weight))
    return model


def trained(kind, x, passes=20, **options):
    model = prepared(kind, x, **options)
    for _ in range(passes):
        model.epoch([Batch(x)])
    return model.eval()


def layers(model):
    return getattr(model, "layers", [model.layer])


def explicit(model):
    """Weight, mean and covariance of each path, by the recursion of the paper in numpy."""
    parts = []
    for layer in layers(model):
        tensors = layer.logits.softmax(0), layer.means, layer.loadings, layer.log_noise.exp()
        pi, eta, loadings, psi = (t.detach().double().numpy() for t in tensors)
        parts.append((pi, eta, loadings, np.broadcast_to(psi, eta.shape)))
    paths = []
    for path in itertools.product(*(range(len(part[0])) for part in parts)):
        q = parts[-1][2].shape[2]
        weight, mean, covariance = 1.0, np.zeros(q), np.eye(q)
        for (pi, eta, loadings, psi), s in zip(reversed(parts), reversed(path), strict=True):
            weight *= pi[s]
            mean = eta[s] + loadings[s] @ mean
            covariance = np.diag(psi[s]) + loadings[s] @ covariance @ loadings[s].T
        paths.append((weight, mean, covariance))
    return [np.array(part) for part in zip(*paths, strict=True)]


def log_joint(model, x):
    """log p(path, x), shape (n, paths)."""
    z, log_det = (t.detach().numpy() for t in model.view(x))
    terms = [
        math.log(w) + multivariate_normal(m, s).logpdf(z)
        for w, m, s in zip(*explicit(model), strict=True)
    ]
    return np.stack(terms, 1) + log_det[:, None]


@each_kind
def test_density_is_that_of_the_explicit_mixture_of_paths(kind, options):
    x = rows()
    model = trained(kind, x, passes=3, **options)
    expected = np.logaddexp.reduce(log_joint(model, x), 1)
    np.testing.assert_allclose(model.log_prob(x).detach(), expected, rtol=1e-10, atol=1e-10)
    narrow = model.float()  # whose parameters are rounded, not its arithmetic
    expected = np.logaddexp.reduce(log_joint(narrow, x), 1)
    np.testing.assert_allclose(narrow.log_prob(x.float()).detach(), expected, rtol=1e-5, atol=1e-4)


@each_kind
def test_responsibilities_follow_bayes(kind, options):
    """Of paths; those of a layer are their sums over the other layers."""
    x = rows(200)
    model = trained(kind, x, passes=3, **options)
    joint = np.exp(log_joint(model, x))
    sizes = [len(layer.means) for layer in layers(model)]
    of_paths = (joint / joint.sum(1, keepdims=True)).reshape(-1, *sizes)
    found = model.responsibilities(x)
    assert found.shape == of_paths.shape
    np.testing.assert_allclose(found, of_paths, atol=1e-10)
    for kept in range(1, len(sizes) + 1):
        others = [axis for axis in range(1, len(sizes) + 1) if axis != kept]
        of_layer = found.sum(others) if others else found
        np.testing.assert_allclose(of_layer.sum(1), 1, atol=1e-12)


@each_kind
def test_em_never_loses_likelihood(kind, options):
    x = rows(400)
    x[:100, 2] = 1.0  # an atom: a noise falls to the floor
    weight = torch.rand(400, dtype=torch.float64)
    model = prepared(kind, x, weight, floor=1e-4, **options)
    losses = [model.epoch([Batch(x, weight=weight)])["loss"] for _ in range(100)]
    assert max(np.diff(losses)) < 1e-9
    assert losses[-1] < losses[0] - 0.01
    assert min(layer.log_noise.min().item() for layer in layers(model)) >= math.log(1e-4) - 1e-12


@each_kind
def test_weights_move_by_the_gradient_in_each_layer(kind, options):
    """The M-step of π is a step of one along the gradient in log π (Xu & Jordan 1996, eq. 5)."""
    x = rows(300)
    model = trained(kind, x, passes=2, **options)
    model.loss(Batch(x)).mean().backward()
    old = [layer.logits.softmax(0) for layer in layers(model)]
    model.epoch([Batch(x)])
    for layer, before in zip(layers(model), old, strict=True):
        expected = before - layer.logits.grad
        torch.testing.assert_close(layer.logits.softmax(0), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
def test_em_ends_where_the_gradient_vanishes():
    """An update that climbs, but stops elsewhere, would be a wrong M-step."""
    x = rows(300)
    model = trained(DeepGaussianMixture, x, 3000, components=(2, 2), factors=(2, 1))
    model.loss(Batch(x)).mean().backward()
    assert max(parameter.grad.abs().max() for parameter in model.parameters()) < 2e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_component_is_factor_analysis(dtype):
    z, noise = torch.randn(1000, 2), torch.randn(1000, D) * torch.linspace(0.3, 1, D)
    x = (z @ torch.randn(2, D) + noise).to(dtype)
    model = prepared(MixtureOfFactorAnalysers, x, components=1, factors=2, tolerance=0).to(dtype)
    for _ in range(200):
        model.epoch([Batch(x)])
    peer = FactorAnalysis(2, tol=1e-6, max_iter=10_000, svd_method="lapack").fit(x.numpy())
    assert model.log_prob(x).mean().item() == pytest.approx(peer.score(x.numpy()), abs=1e-4)


def test_isotropic_noise_is_probabilistic_principal_components():
    x = rows()
    x = (x - x.mean(0)) / x.std(0, correction=0)  # isotropic in these units
    options = {"components": 1, "factors": 2, "noise": "isotropic"}
    model = trained(MixtureOfFactorAnalysers, x, passes=200, **options)
    values = np.linalg.eigvalsh(np.cov(x.T, bias=True))[::-1]
    # Tipping & Bishop 1999, eqs. 7 and 8: σ² is the mean of the values that are left out.
    rest = values[2:].mean()
    log_det = np.log(values[:2]).sum() + (D - 2) * np.log(rest)
    expected = -(D * np.log(2 * np.pi) + log_det + D) / 2
    assert model.log_prob(x).mean().item() == pytest.approx(expected, abs=1e-6)
    assert model.layer.log_noise.exp().item() == pytest.approx(rest, rel=1e-4)


def copied(source, target):
    """A deep mixture whose first layer is that of another model."""
    target.load_state_dict(source.state_dict(), strict=False)
    return target


def test_one_layer_is_a_mixture_of_factor_analysers():
    x = rows(500)
    plain = prepared(MixtureOfFactorAnalysers, x, components=3, factors=2)
    deep = copied(plain, DeepGaussianMixture(lk.reals(D), components=(3,), factors=(2,)).double())
    for _ in range(10):
        assert deep.epoch([Batch(x)]) == plain.epoch([Batch(x)])
    assert torch.equal(deep.responsibilities(x), plain.responsibilities(x))


def test_an_upper_layer_without_loadings_changes_nothing():
    x = rows(500)
    plain = trained(MixtureOfFactorAnalysers, x, components=3, factors=2)
    domain, options = lk.reals(D), {"components": (3, 1), "factors": (2, 2)}
    deep = copied(plain, DeepGaussianMixture(domain, **options).double())  # Λ₂ = 0, Ψ₂ = 1
    torch.testing.assert_close(deep.log_prob(x), plain.log_prob(x), rtol=1e-12, atol=1e-12)


@each_kind
def test_samples_have_the_models_moments(kind, options):
    model = trained(kind, rows(), passes=5, **options)
    n = 100_000
    z = model.view(model.sample(n, seed=0))[0].detach().numpy()
    weights, means, spreads = explicit(model)
    mean = weights @ means
    second = np.tensordot(weights, spreads + means[:, :, None] * means[:, None], 1)
    deviation = (z.mean(0) - mean) / (z.std(0) / math.sqrt(n))
    products = z[:, :, None] * z[:, None]
    of_second = (products.mean(0) - second) / (products.std(0) / math.sqrt(n))
    level = norm.isf(1e-4 / (2 * (D + D * (D + 1) // 2)))  # two-sided, over all figures
    assert np.abs(deviation).max() < level
    assert np.abs(of_second).max() < level


@each_kind
def test_completion_draws_from_the_gaussian_conditional(kind, options):
    x = rows()
    model = trained(kind, x, passes=5, **options)
    assert isinstance(model, Completes)
    known = torch.tensor([True, False, True, True, False, False])
    n, row = 40_000, x[0]
    draws = model.complete(row.expand(n, D), known, seed=0)
    assert torch.equal(draws[:, known], row[known].expand(n, -1))
    z = model.view(draws)[0].detach().numpy()
    here, there = known.numpy(), ~known.numpy()
    weights, mean, second = [], 0.0, 0.0
    for weight, m, s in zip(*explicit(model), strict=True):
        gain = s[np.ix_(there, here)] @ np.linalg.inv(s[np.ix_(here, here)])
        centre = m[there] + gain @ (z[0, here] - m[here])
        spread = s[np.ix_(there, there)] - gain @ s[np.ix_(here, there)]
        given = weight * multivariate_normal(m[here], s[np.ix_(here, here)]).pdf(z[0, here])
        weights.append(given)
        mean = mean + given * centre
        second = second + given * (spread + np.outer(centre, centre))
    mean, second = mean / sum(weights), second / sum(weights)
    drawn = z[:, there]
    products = drawn[:, :, None] * drawn[:, None]
    level = norm.isf(1e-4 / (2 * 9))  # two-sided, over nine figures
    assert np.abs((drawn.mean(0) - mean) / (drawn.std(0) / math.sqrt(n))).max() < level
    error = products.std(0) / math.sqrt(n)
    assert np.abs((products.mean(0) - second) / error).max() < level


def test_completion_with_a_mask_for_each_row():
    """Also with nothing known, everything known, open entries of NaN, and levels."""
    x = rows(8)
    model = trained(MixtureOfFactorAnalysers, rows(), components=2, factors=2)
    known = torch.arange(8)[:, None] > torch.arange(D)
    filled = model.complete(torch.where(known, x, math.nan), known, seed=0)
    assert torch.equal(filled[known], x[known])
    assert filled.isfinite().all()
    levels = lk.integers(5, 4)
    discrete = MixtureOfFactorAnalysers(levels, components=2)
    y = torch.randint(0, 5, (200, 4))
    discrete.prepare(Batch(y))
    filled = discrete.complete(y, torch.tensor([True, True, False, False]), seed=0)
    assert torch.equal(filled[:, :2], y[:, :2])
    assert levels.contains(filled).all()


@each_kind
def test_streaming_and_weights(kind, options):
    """Batches add up, a weight of two is a row repeated, and the weights' unit does not matter."""
    x = rows(600)
    weight = torch.randint(0, 3, (600,), dtype=torch.float64)
    start = prepared(kind, x, weight, **options).state_dict()
    weighted, streamed, repeated, scaled = (prepared(kind, x, weight, **options) for _ in range(4))
    for model in (weighted, streamed, repeated, scaled):
        model.load_state_dict({name: tensor.clone() for name, tensor in start.items()})
    cuts = [0, 1, 200, 599, 600, 600]
    for _ in range(3):
        weighted.epoch([Batch(x, weight=weight)])
        streamed.epoch(Batch(x[i:j], weight=weight[i:j]) for i, j in itertools.pairwise(cuts))
        repeated.epoch([Batch(x.repeat_interleave(weight.long(), 0))])
        scaled.epoch([Batch(x, weight=1e-9 * weight)])
    for other in (streamed, repeated, scaled):
        for p, q in zip(weighted.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(p, q, rtol=1e-8, atol=1e-8)


@each_kind
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_degenerate_data(kind, options, dtype):
    """Fewer rows than components, equal rows, one column."""
    for x in (rows(2), torch.full((50, D), 3.0), rows(100)[:, :1]):
        torch.manual_seed(0)
        model = kind(lk.reals(x.shape[1]), **options).to(dtype)
        model.prepare(Batch(x.to(dtype)))
        for _ in range(20):
            model.epoch([Batch(x.to(dtype))])
        assert model.log_prob(x.to(dtype)).isfinite().all()
        assert model.sample(10, seed=0).isfinite().all()


def test_a_dead_component_keeps_its_place():
    x = rows(300)
    model = prepared(MixtureOfFactorAnalysers, x, components=3, factors=2)
    with torch.no_grad():
        model.layer.means[1] = 1e6
    before = model.layer.loadings[1].clone()
    model.epoch([Batch(x)])
    assert (model.layer.means[1] == 1e6).all()
    assert torch.equal(model.layer.loadings[1], before)
    assert model.log_prob(x).isfinite().all()


def test_gradients_go_on_from_em():
    x = rows(100)
    model = trained(DeepGaussianMixture, x, passes=3, **DEEP)
    assert torch.autograd.gradcheck(model.log_prob, x[:3].clone().requires_grad_())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mfa", {"factors": 0}, "factors=0: give a whole number"),
        ("mfa", {"noise": "full"}, "noise='full': give one of 'diagonal'"),
        ("deep-gmm", {"components": (5,)}, "give one number for each layer"),
        ("deep-gmm", {"components": (30, 20)}, "600 paths, .* at most 500"),
        ("deep-gmm", {"components": 5}, "components=5: give a sequence"),
    ],
)
def test_bad_options(name, options, message):
    with pytest.raises(lk.LikelyError, match=message):
        lk.make(name, lk.reals(4), **options)


@pytest.mark.slow
def test_digits_are_worth_more_than_by_gaussian_mixtures():
    """Held-out nats: by a mixture of analysers more than by full or diagonal Gaussians, and by a deep
    mixture no less than by one of analysers of as many numbers."""
    data = lk.load_data("digits", seed=0)

    def score(name, **options):
        model = lk.make(name, data.domain, seed=0, **options)
        lk.fit(model, data, epochs=300, seed=0)
        return model.log_likelihood(data.test.x, seed=0).value

    analysers = score("mfa")
    for covariance in ("full", "diagonal"):
        gain = analysers - score("gmm", components=10, covariance=covariance)
        assert gain.mean() > 2 * gain.std() / math.sqrt(len(gain))
    loss = score("mfa", components=5) - score("deep-gmm")
    assert loss.mean() < 2 * loss.std() / math.sqrt(len(loss))
