"""The Gaussian mixture against closed forms, a plain float64 reference, and scikit-learn."""

import itertools
import math
import warnings

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal, norm
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture as ScikitMixture

import likely as lk
from likely.contract.registry import name_of
from likely.contract.training import Batch
from likely.models.mixtures import GaussianMixture
from likely.targets import gaussian_mixture

COVARIANCES = ["full", "diagonal", "tied"]
DTYPES = [torch.float32, torch.float64]

WEIGHTS = [0.5, 0.3, 0.2]
MEANS = [[0.0, 0.0, 0.0], [3.0, -2.0, 1.0], [-2.0, 3.0, 4.0]]
ROOTS = [[[1.0, 0, 0], [0.5, 0.7, 0], [0, 0.3, 0.5]], np.diag([0.3, 1.0, 0.6]), np.eye(3)]
SPREADS = np.array([np.array(root) @ np.array(root).T for root in ROOTS])
TRUTH = gaussian_mixture(WEIGHTS, MEANS, SPREADS)


def rows(n=2000, seed=0):
    return TRUTH.sample(n, seed).double()


def prepared(x, weight=None, dtype=torch.float64, components=3, **options):
    model = GaussianMixture(lk.reals(*x.shape[1:]), components=components, **options).to(dtype)
    torch.manual_seed(0)
    model.prepare(Batch(x, weight=weight))
    return model


def fitted(x, weight=None, passes=1000, **options):
    model = prepared(x, weight, **options)
    for _ in range(passes):
        model.epoch([Batch(x, weight=weight)])
        if model.converged:
            return model.eval()
    raise AssertionError("EM has not converged")


def covariances(model):
    """Σ of each component in the view's coordinates, in numpy."""
    if model.covariance == "diagonal":
        return np.array([np.diag(w**-2.0) for w in model.factor.detach().double().numpy()])
    w = model._whitening().detach().double()
    return (w.mT @ w).inverse().expand(model.components, -1, -1).numpy()


def reference_step(z, weight, pi, mu, sigma, covariance, floor):
    """Log-likelihood, and one EM step by the book, component by component in float64."""
    d = z.shape[1]
    density = np.stack(
        [p * multivariate_normal(m, s).pdf(z) for p, m, s in zip(pi, mu, sigma, strict=True)]
    )
    r = weight * density / density.sum(0)
    count = r.sum(1)
    means = r @ z / count[:, None]
    spread = np.stack(
        [(z - m).T @ (q[:, None] * (z - m)) / c for m, q, c in zip(means, r, count, strict=True)]
    )
    if covariance == "diagonal":
        spread = spread * np.eye(d)
    if covariance == "tied":
        spread = np.tensordot(count / count.sum(), spread, 1)[None].repeat(len(pi), 0)
    values, vectors = np.linalg.eigh(spread)
    spread = vectors * np.maximum(values, floor)[:, None] @ vectors.swapaxes(1, 2)
    log_likelihood = weight @ np.log(density.sum(0)) / weight.sum()
    return log_likelihood, count / count.sum(), means, spread


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("covariance", COVARIANCES)
def test_a_step_is_the_textbooks(covariance, dtype):
    x = rows()
    weight = (torch.rand(len(x)) * (torch.rand(len(x)) > 0.2)).double()
    model = prepared(x, weight, dtype, covariance=covariance)
    z, log_det = model.double().view(x)
    model.to(dtype)
    for _ in range(3):
        start = (
            model.logits.detach().double().softmax(0).numpy(),
            model.means.detach().double().numpy().copy(),
            covariances(model),
        )
        loss = model.epoch([Batch(x, weight=weight)])["loss"]
        log_likelihood, *expected = reference_step(
            z.numpy(), weight.numpy(), *start, covariance, model.floor
        )
        log_likelihood += (weight @ log_det / weight.sum()).item()
        precision = 1e-10 if dtype == torch.float64 else 3e-5
        assert loss == pytest.approx(-log_likelihood, abs=precision)
        found = (
            model.logits.detach().double().softmax(0).numpy(),
            model.means.detach().double().numpy(),
            covariances(model),
        )
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=precision, atol=precision)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("covariance", COVARIANCES)
def test_agrees_with_scikit_learn_at_the_optimum(covariance, dtype):
    x = rows()
    model = prepared(x, dtype=dtype, covariance=covariance, tolerance=1e-8)
    z, log_det = model.view(x.to(dtype))
    kind = {"full": "full", "diagonal": "diag", "tied": "tied"}[covariance]
    precisions = np.linalg.inv(covariances(model))
    if covariance == "diagonal":
        precisions = precisions.diagonal(axis1=1, axis2=2)
    peer = ScikitMixture(
        3,
        covariance_type=kind,
        tol=1e-8,
        max_iter=1000,
        weights_init=np.full(3, 1 / 3),
        means_init=model.means.detach().double().numpy(),
        precisions_init=precisions[0] if covariance == "tied" else precisions,
    ).fit(z.double().numpy())
    while not model.converged:
        model.epoch([Batch(x)])
    expected = peer.score(z.double().numpy()) + log_det.mean().item()
    assert model.log_prob(x).mean().item() == pytest.approx(expected, abs=1e-4)
    order, peers = model.means[:, 0].argsort().tolist(), peer.means_[:, 0].argsort()
    np.testing.assert_allclose(model.means.detach()[order], peer.means_[peers], atol=0.01)


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_em_never_loses_likelihood(covariance):
    x = rows(500)
    x[:100, 2] = 1.0  # an atom: a component narrows down to the floor
    weight = torch.rand(500, dtype=torch.float64)
    model = prepared(x, weight, components=6, covariance=covariance, floor=1e-4)
    losses = [model.epoch([Batch(x, weight=weight)])["loss"] for _ in range(60)]
    assert max(np.diff(losses)) < 1e-12 * 60
    assert losses[-1] < losses[0] - 0.1
    if covariance != "tied":
        assert np.linalg.eigvalsh(covariances(model)).min() == pytest.approx(1e-4, rel=1e-6)


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_weight_two_is_a_row_repeated(covariance):
    x = rows(600)
    weight = torch.randint(0, 4, (600,), dtype=torch.float64)
    weight[0] = 2
    model = prepared(x, weight, covariance=covariance)
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for _ in range(5):
        model.epoch([Batch(x, weight=weight)])
    other = GaussianMixture(model.domain, components=3, covariance=covariance).double()
    other.load_state_dict(start)
    for _ in range(5):
        other.epoch([Batch(x.repeat_interleave(weight.long(), 0))])
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, other.state_dict()[name], rtol=1e-10, atol=1e-10)


def test_scaled_weights_fit_the_same():
    x = rows(600)
    weight = torch.rand(600, dtype=torch.float64)
    model, other = (prepared(x, w, components=5) for w in (weight, 1e-9 * weight))
    model.epoch([Batch(x, weight=weight)])
    other.epoch([Batch(x, weight=1e-9 * weight)])
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_streaming_is_one_batch(covariance):
    x = rows(3000)
    weight = torch.rand(3000, dtype=torch.float64)
    weight[1000:1500] = 0  # a batch without weight, holding a row that no component explains
    x[1200] = 1e4
    one = prepared(x[:1000], weight[:1000], covariance=covariance)
    many = prepared(x[:1000], weight[:1000], covariance=covariance)
    cuts = [0, 1, 1000, 1500, 2999, 3000, 3000]
    for _ in range(3):
        a = one.epoch([Batch(x, weight=weight)])
        b = many.epoch(Batch(x[i:j], weight=weight[i:j]) for i, j in itertools.pairwise(cuts))
        assert a["loss"] == pytest.approx(b["loss"], abs=1e-12)
    for p, q in zip(one.parameters(), many.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("covariance", COVARIANCES)
def test_log_prob_is_exact(covariance, dtype):
    """Also of a component that is thin, correlated and far from the origin."""
    model = GaussianMixture(lk.reals(3), components=3, covariance=covariance).to(dtype)
    with torch.no_grad():
        model.logits.copy_(torch.tensor([0.0, 1.0, -1.0]))
        model.means.copy_(torch.tensor(MEANS))
        model.factor.normal_().add_(torch.sign(model.factor))
        model.factor[-1] *= 300
    x = torch.cat([rows(200), model.sample(200, seed=0).double()])
    x = x.to(dtype)
    expected = np.logaddexp.reduce(
        [
            math.log(p) + multivariate_normal(m, s).logpdf(x.double().numpy())
            for p, m, s in zip(
                model.logits.detach().double().softmax(0).tolist(),
                model.means.detach().double().numpy(),
                covariances(model),
                strict=True,
            )
        ]
    )
    # In float32 a row itself is only known to about 1e-7 of its size, a thousandth of this width.
    rtol, atol = (1e-9, 1e-9) if dtype == torch.float64 else (3e-5, 1e-2)
    np.testing.assert_allclose(model.log_prob(x).detach().numpy(), expected, rtol, atol)


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_density_integrates_to_one(covariance):
    x = rows()[:, :2]
    model = fitted(x, covariance=covariance)
    axis = torch.linspace(-12, 12, 601, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    total = model.log_prob(grid).exp().sum().item() * (24 / 600) ** 2
    assert total == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_samples_have_the_models_moments(covariance):
    model = fitted(rows(), covariance=covariance)
    n = 200_000
    z, _ = model.view(model.sample(n, seed=0))
    z = z.detach().numpy()
    pi = model.logits.detach().softmax(0).numpy()
    means, spread = model.means.detach().numpy(), covariances(model)
    mean = pi @ means
    second = np.tensordot(pi, spread + means[:, :, None] * means[:, None], 1)
    deviation = (z.mean(0) - mean) / (z.std(0) / math.sqrt(n))
    products = z[:, :, None] * z[:, None]
    spread_of_second = (products.mean(0) - second) / (products.std(0) / math.sqrt(n))
    level = norm.isf(1e-4 / (2 * (3 + 6)))  # two-sided, over nine figures
    assert np.abs(deviation).max() < level
    assert np.abs(spread_of_second).max() < level


def test_recovers_a_known_mixture():
    x = rows(50_000)
    model = fitted(x, tolerance=1e-7)
    order = model.means[:, 0].argsort(descending=True)  # the components at 3, 0 and −2
    pi = model.logits.softmax(0)[order].detach()
    torch.testing.assert_close(pi, torch.tensor([0.3, 0.5, 0.2]).double(), atol=0.01, rtol=0)
    means = (model.means * model.view.scale + model.view.shift)[order].detach()
    torch.testing.assert_close(means, torch.tensor(MEANS)[[1, 0, 2]].double(), atol=0.05, rtol=0)
    fresh = TRUTH.sample(50_000, 1).double()
    gap = TRUTH.log_prob(fresh) - model.log_prob(fresh)
    assert -3 * gap.std() / math.sqrt(50_000) < gap.mean() < 0.002


@pytest.mark.parametrize("covariance", COVARIANCES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_more_components_than_rows(covariance, dtype):
    model = fitted(rows(4), dtype=dtype, components=7, covariance=covariance)
    assert model.log_prob(rows(20)).isfinite().all()
    assert model.sample(10, seed=0).isfinite().all()


@pytest.mark.parametrize("covariance", COVARIANCES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_identical_rows(covariance, dtype):
    x = torch.full((50, 2), 3.0)
    model = fitted(x, dtype=dtype, covariance=covariance)
    # The floor, in units of the deviation that the view takes where there is none: one.
    expected = 2 * norm.logpdf(0, scale=1e-3)
    assert model.log_prob(x)[0].item() == pytest.approx(expected, abs=1e-3)


def test_one_column_and_constant_columns():
    x = torch.cat([torch.randn(500) - 4, 2 * torch.randn(500) + 3]).double()[:, None]
    model = fitted(x, components=2)
    table = torch.cat([torch.full_like(x, 7), x], 1)
    wide = GaussianMixture(lk.table(lk.Constant(7.0), lk.Real()), components=2).double()
    torch.manual_seed(0)
    wide.prepare(Batch(table))
    while not wide.converged:
        wide.epoch([Batch(table)])
    torch.testing.assert_close(wide.log_prob(table), model.log_prob(x))
    assert (wide.sample(5, seed=0)[:, 0] == 7).all()


def test_a_dead_component_keeps_its_place():
    x = rows(500)
    for covariance in COVARIANCES:
        model = prepared(x, covariance=covariance)
        with torch.no_grad():
            model.means[1] = 1e6
        before = covariances(model)[1]
        model.epoch([Batch(x)])
        assert (model.means[1] == 1e6).all()
        assert model.logits[1].exp() < 1e-15
        if covariance != "tied":
            np.testing.assert_allclose(covariances(model)[1], before, rtol=1e-12)
        assert model.log_prob(x).isfinite().all()


def test_dequantised_rows_converge():
    domain = lk.integers(17, 4)
    x = torch.randint(0, 17, (800, 4)).minimum(torch.randint(0, 17, (800, 1)))
    model = GaussianMixture(domain, components=3)
    model.prepare(Batch(x))
    losses = []
    while not model.converged:
        losses.append(model.epoch([Batch(x)])["loss"])
        assert len(losses) < 200
    assert losses[-1] < losses[0] - 0.1
    every = torch.cartesian_prod(*[torch.arange(17)] * 2)
    two = GaussianMixture(lk.integers(17, 2), components=3)
    two.prepare(Batch(x[:, :2]))
    two.epoch([Batch(x[:, :2])])
    total = two.log_likelihood(every, seed=0, draws=64).value.exp().sum().item()
    assert total == pytest.approx(1, abs=0.02)


def test_training_state_goes_on_where_it_was():
    x = rows(500)
    model, other = prepared(x), prepared(x)
    model.epoch([Batch(x)])
    model.epoch([Batch(x)])
    other.load_state_dict(model.state_dict())
    other.load_training_state(model.training_state())
    while not model.converged:
        model.epoch([Batch(x)])
        other.epoch([Batch(x)])
    assert other.converged
    assert all(
        torch.equal(p, q) for p, q in zip(model.parameters(), other.parameters(), strict=True)
    )


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_gradients_go_on_from_em(covariance):
    x = rows(200)
    model = prepared(x, covariance=covariance)
    z = x[:3].clone().requires_grad_()
    assert torch.autograd.gradcheck(model.log_prob, z)
    before = model.loss(Batch(x)).mean()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(30):
        optimizer.zero_grad()
        model.loss(Batch(x)).mean().backward()
        optimizer.step()
    assert model.loss(Batch(x)).mean() < before - 0.01
    d, factors = 3, {"full": 3 * 6, "diagonal": 3 * 3, "tied": 6}[covariance]
    assert sum(p.numel() for p in model.parameters()) == 3 + 3 * d + factors


def test_responsibilities_follow_bayes():
    x = rows(300)
    model = fitted(x)
    r = model.responsibilities(x)
    assert r.shape == (300, 3)
    joint = np.stack(
        [
            p * multivariate_normal(m, s).pdf(model.view(x)[0].numpy())
            for p, m, s in zip(
                model.logits.detach().softmax(0).tolist(),
                model.means.detach().numpy(),
                covariances(model),
                strict=True,
            )
        ],
        1,
    )
    np.testing.assert_allclose(r.numpy(), joint / joint.sum(1, keepdims=True), atol=1e-10)
    with pytest.raises(lk.DataError, match="row 1, column 0"):
        model.responsibilities(torch.tensor([[0.0, 0, 0], [math.nan, 0, 0]]))


def test_names():
    gaussian = lk.make("gaussian", lk.reals(2))
    assert gaussian.components == 1
    assert name_of(gaussian) == "gaussian"
    assert name_of(lk.make("gmm", lk.reals(2))) == "gmm"


def test_a_gaussian_is_the_maximum_likelihood_fit():
    x = rows(1000)
    model = fitted(x, components=1)
    expected = multivariate_normal(x.mean(0), np.cov(x.T, bias=True)).logpdf(x)
    np.testing.assert_allclose(model.log_prob(x).detach(), expected, atol=1e-8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"components": 0}, "components=0: give a whole number"),
        ({"covariance": "spherical"}, "covariance='spherical': give one of 'full'"),
        ({"floor": 0.0}, "floor=0.0"),
        ({"tolerance": -1.0}, "tolerance=-1.0: give a finite number of 0 or more"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(lk.LikelyError, match=message):
        lk.make("gmm", lk.reals(2), **options)


def test_refusals():
    with pytest.raises(lk.DomainError, match="does not take periodic columns"):
        GaussianMixture(lk.table(lk.Periodic(0, 1), lk.Real()))
    with pytest.raises(lk.DomainError, match="takes no context"):
        GaussianMixture(lk.reals(2), context=lk.reals(1))
    x = rows(50)
    model = prepared(x)
    with pytest.raises(lk.DataError, match="no row has a weight above zero"):
        model.epoch([Batch(x, weight=torch.zeros(50))])


@pytest.mark.parametrize("components", [1, 3])
def test_fit(components):
    data = lk.load_data(rows(2000).numpy())
    model = GaussianMixture(data.domain, components=components)
    history = lk.fit(model, data, epochs=200)
    assert model.converged
    train = Batch(torch.as_tensor(data.train.x))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        peer = ScikitMixture(components, n_init=3, random_state=0).fit(train.x.numpy())
    assert model.log_prob(train.x).mean().item() == pytest.approx(
        peer.score(train.x.numpy()), abs=0.01
    )
    assert history.rows[-1]["loss"] == pytest.approx(-peer.score(train.x.numpy()), abs=0.01)
