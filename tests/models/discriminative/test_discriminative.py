"""Classifiers and regressors: what is known in closed form, their temperature, and what they refuse."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
from torch.nn import functional as F

import likely as lk
from likely.contract.training import Batch
from likely.core.errors import AbilityError
from likely.nets.heads import regularised_temperature

PLAIN = {"weight_decay": 0.0, "seed": 0}
MEANS = np.array([[0.0, 0.0], [1.5, 0.5], [-0.5, 2.0]])
COVARIANCE = np.array([[0.8, 0.3], [0.3, 0.6]])


def made(data, name="classifier", **options):
    return lk.make(name, data.domain, context=data.context, seed=0, **options)


def not_below(model, data, entropy):
    """Whether −E log p is at least the conditional entropy of the truth, up to three errors."""
    found = model.log_likelihood(data.test.x, data.test.context).mean()
    return -found.value > entropy - 3 * found.stderr


def gaussian_classes(n):
    rng = np.random.default_rng(0)
    y = rng.integers(3, size=n)
    x = MEANS[y] + rng.multivariate_normal([0, 0], COVARIANCE, n)
    return lk.load_data({"x": 10 * x + 3, "y": y}, predict="y"), x


def test_linear_discriminant_analysis_is_recovered():
    data, x = gaussian_classes(20_000)
    model = made(data, hidden=())
    lk.fit(model, data, steps=300, batch=1024, rate=0.2, **PLAIN)
    weight = model.net.layers[0].weight.detach() / model.context_features.scale * 10
    expected = (MEANS - MEANS[0]) @ np.linalg.inv(COVARIANCE)  # Σ⁻¹(μ_k − μ_0)
    np.testing.assert_allclose(weight - weight[0], expected, atol=0.2)
    terms = [scipy.stats.multivariate_normal(m, COVARIANCE).logpdf(x) for m in MEANS]
    posterior = torch.from_numpy(np.stack(terms, 1)).softmax(1)
    predicted = model.classify(torch.from_numpy(10 * x + 3)).double()
    assert (posterior * (posterior / predicted).log()).sum(1).mean() < 2e-3
    assert model.temperature.item() == pytest.approx(1, abs=0.1)  # of 2,000 rows
    entropy = -(posterior * posterior.log()).sum(1).mean().item()
    assert not_below(model, data, entropy)


def test_a_known_temperature_is_recovered():
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(20_000, 5, generator=generator)
    code = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    for temperature in (0.4, 1.0, 3.0):
        found = regularised_temperature(temperature * logits, code)
        assert found == pytest.approx(temperature, rel=0.03)
    half = torch.arange(20_000) % 2  # rows of weight zero do not count
    mixed = torch.where(half.bool()[:, None], logits, -5 * logits)
    assert regularised_temperature(mixed, code, half.float()) == pytest.approx(1, rel=0.04)


def test_rows_that_are_all_told_right_do_not_make_a_classifier_certain():
    code = torch.arange(20) % 2
    assert 0.1 < regularised_temperature(5 * F.one_hot(code, 2).float(), code) < 2


def test_calibration_is_on_held_out_rows_and_changes_no_order():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(400, 20))
    y = (x[:, 0] + rng.normal(size=400) > 0).astype(int)  # few rows, many columns: it learns noise
    data = lk.load_data({"x": x, "y": y}, predict="y")
    fits = {}
    for calibrated in (True, False):
        model = fits[calibrated] = made(data, calibrated=calibrated)
        lk.fit(model, data, steps=150, early_stopping=False, **PLAIN)
    sure, calm = fits[False], fits[True]
    assert sure.temperature == 1
    assert calm.temperature > 2
    p, q = (model.classify(data.test.context) for model in (sure, calm))
    assert torch.equal(p.argsort(1), q.argsort(1))
    x = rng.normal(size=(4000, 20))
    held = torch.from_numpy(x[:, :1] + rng.normal(size=(4000, 1)) > 0).long(), torch.from_numpy(x)
    assert calm.log_likelihood(*held).mean().value > sure.log_likelihood(*held).mean().value + 0.05
    lk.fit(calm, data, steps=1, early_stopping=False, **PLAIN)
    assert calm.temperature > 2  # found again, from 1


def test_classify_has_gradients_in_the_rows_only():
    data = lk.load_data("digits", predict="label")
    model = made(data)
    model.prepare(data.train.rows(slice(100)))
    model.last.weight.data.normal_(0, 0.1)
    x = data.test.context.float().requires_grad_()
    probability = model.classify(x)
    assert not model.classify(data.test.context).requires_grad
    torch.testing.assert_close(probability.sum(1), torch.ones(len(x)))
    log_prob = model.log_prob(data.test.x, x)
    torch.testing.assert_close(probability.gather(1, data.test.x)[:, 0].log(), log_prob)
    (gradient,) = torch.autograd.grad(probability[:, 0].sum(), x)
    assert (gradient != 0).any()
    assert isinstance(model, lk.contract.abilities.Classifies)


@pytest.mark.parametrize("name", ["classifier", "regressor"])
def test_the_same_seed_gives_the_same_model_and_saving_keeps_it(name, tmp_path):
    predict = {"classifier": "label", "regressor": [0, 1]}[name]
    source = "digits" if name == "classifier" else np.random.default_rng(0).normal(size=(200, 4))
    data, scores = lk.load_data(source, predict=predict), []
    for _ in range(2):
        model = made(data, name)
        lk.fit(model, data, steps=3, seed=1)
        scores.append(model.log_prob(data.test.x, data.test.context))
    assert torch.equal(*scores)
    path = tmp_path / "model.safetensors"
    lk.save(model, path)
    again = lk.load(path)
    assert torch.equal(again.log_prob(data.test.x, data.test.context), scores[0])
    draws = [m.sample(5, context=data.test.context[:5], seed=2) for m in (model, again)]
    assert torch.equal(*draws)


@pytest.mark.slow
def test_digits():
    data = lk.load_data("digits", predict="label")
    model = made(data)
    lk.fit(model, data, steps=600, seed=0)
    told = model.classify(data.test.context).argmax(1) == data.test.x[:, 0]
    assert told.double().mean() >= 0.97


# Regression.


def linear_gaussian(n):
    rng = np.random.default_rng(0)
    x, a = rng.normal(size=(n, 3)), np.array([[1, 0.5, -1], [0, 2, 0.3]])
    c = np.array([[0.5, 0.2], [0.2, 0.3]])
    y = x @ a.T + rng.multivariate_normal([0, 0], c, n)
    return lk.load_data(np.c_[7 * y + 5, x], predict=[0, 1]), 7 * x @ a.T + 5, 49 * c, x


def test_the_conditional_mean_and_covariance_of_a_gaussian_are_recovered():
    data, mean, covariance, x = linear_gaussian(20_000)
    model = made(data, "regressor", hidden=(), covariance="full")
    lk.fit(model, data, steps=500, batch=1024, rate=0.02, **PLAIN)
    found = model.moments(torch.from_numpy(x).float())
    rms = (found.mean - torch.from_numpy(mean)).square().mean(0).sqrt()
    assert (rms < 0.02 * torch.from_numpy(covariance).diagonal().sqrt()).all()
    np.testing.assert_allclose(found.covariance.mean(0), covariance, rtol=0.05)
    assert not_below(model, data, scipy.stats.multivariate_normal(cov=covariance).entropy())
    for u in model.pit(data.test.x, data.test.context).T:
        assert scipy.stats.kstest(u.numpy(), "uniform").pvalue > 1e-3


def test_a_deviation_that_depends_on_the_row_is_recovered():
    rng = np.random.default_rng(0)
    x = rng.uniform(-2, 2, 20_000)
    sigma = 0.2 + 0.3 * x**2
    data = lk.load_data(np.c_[x, np.sin(2 * x) + sigma * rng.normal(size=len(x))], predict=1)
    model = made(data, "regressor", hidden=(64, 64))
    lk.fit(model, data, steps=1500, batch=512, rate=5e-3, **PLAIN)
    grid = torch.linspace(-1.9, 1.9, 200)
    found = model.moments(grid[:, None]).covariance.flatten().sqrt()
    error = found / (0.2 + 0.3 * grid**2) - 1
    assert error.square().mean().sqrt() < 0.05
    assert not_below(model, data, 0.5 * math.log(2 * math.pi * math.e) + np.log(sigma).mean())


@pytest.mark.parametrize("covariance", ["diagonal", "full"])
def test_the_density_and_the_draws_are_those_of_the_moments(covariance):
    data, *_ = linear_gaussian(200)
    model = made(data, "regressor", covariance=covariance).double()
    with torch.no_grad():
        model.prepare(data.train.rows(slice(None)))
        model.last.weight.normal_(0, 0.2)
    x, y = data.test.context.double(), data.test.x.double()
    mean, full = (part.numpy() for part in model.moments(x))
    normal = scipy.stats.multivariate_normal
    expected = [normal(m, c).logpdf(r) for m, c, r in zip(mean, full, y, strict=True)]
    np.testing.assert_allclose(model.log_prob(y, x).detach(), expected, rtol=1e-6, atol=1e-6)
    assert (full[:, 0, 1] != 0).all() == (covariance == "full")
    draws = model.sample(20_000, context=x[0], seed=0).numpy()
    error = np.sqrt(np.diag(full[0]) / 20_000)
    assert (abs(draws.mean(0) - mean[0]) < 4 * error).all()
    np.testing.assert_allclose(np.cov(draws.T), full[0], atol=0.06 * full[0].max())


def test_the_beta_nll_pulls_at_the_mean_as_least_squares_do_and_at_zero_is_the_likelihood():
    data, *_ = linear_gaussian(200)
    batch = data.train.rows(slice(None))
    pulls = {}
    for beta in (0.0, 1.0):
        model = made(data, "regressor", hidden=(), beta=beta)
        model.prepare(batch)
        weight = model.last.weight.data
        weight.copy_(torch.linspace(-1, 1, weight.numel()).view_as(weight))
        loss = model.loss(batch)
        if beta == 0:
            torch.testing.assert_close(loss, -model.log_prob(batch.x, batch.context))
        loss.sum().backward()
        pulls[beta] = model.last.bias.grad[:2]
        mean, _, _ = model._gaussian(model.context_features(batch.context))
        z = model.view(batch.x)[0]
    torch.testing.assert_close(pulls[1.0], (mean - z).sum(0).detach(), rtol=1e-4, atol=1e-3)
    assert not torch.allclose(pulls[0.0], pulls[1.0])


def test_constant_columns_have_no_variance():
    x = np.random.default_rng(0).normal(size=(100, 3))
    x[:, 1] = 4
    with pytest.warns(UserWarning, match="never changes"):
        data = lk.load_data(x, predict=[0, 1])
    model = made(data, "regressor")
    model.prepare(data.train.rows(slice(None)))
    mean, covariance = model.moments(data.test.context)
    assert (mean[:, 1] == 4).all()
    assert (covariance[:, 1] == 0).all()
    assert (covariance[:, 0, 0] > 0).all()


# What is refused.


def test_mistakes_get_clear_errors():
    digits = lk.load_data("digits", context="label")
    with pytest.raises(lk.DomainError, match=r"give context=data.context.*--predict"):
        lk.make("classifier", lk.categories(3))
    with pytest.raises(lk.DomainError, match=r"64 columns, but one of classes.*predict"):
        lk.make("classifier", digits.domain, context=digits.context)
    with pytest.raises(lk.DomainError, match="real columns"):
        lk.make("classifier", lk.reals(1), context=digits.domain)
    with pytest.raises(lk.DomainError, match="one class only"):
        lk.make("classifier", lk.table(y=lk.Categorical(["a"])), context=lk.reals(2))
    with pytest.raises(lk.LikelyError, match=r"beta=0\.5: the β-NLL is for a diagonal"):
        lk.make("regressor", lk.reals(2), context=lk.reals(1), beta=0.5, covariance="full")
    with pytest.raises(lk.LikelyError, match="convolutional"):
        lk.make("classifier", lk.categories(3), context=lk.reals(2), network="convolutional")
    with pytest.raises(AbilityError, match="cannot classify rows; classifiers and jem can"):
        lk.make("gaussian", lk.reals(2)).classify  # noqa: B018
    model = made(digits.swapped())
    images = digits.test.x[:3]
    with pytest.raises(lk.DataError, match=r"x: rows of shape \(9, 8\), not \(8, 8\)"):
        model.classify(torch.zeros(3, 9, 8))
    with pytest.raises(lk.DataError, match=r"the context: row 0.*99"):
        model.log_prob(torch.zeros(3, 1), images + 99)
    with pytest.raises(lk.DataError, match="is conditional: give a context"):
        model.log_prob(torch.zeros(3, 1))
    outside = model.log_prob(torch.tensor([[3], [10], [-1]]), images)
    assert outside.isinf().tolist() == [False, True, True]
    one = Batch(torch.full((5, 1), 7), digits.train.x[:5])
    with pytest.raises(lk.DataError, match="every training row has the class '7'"):
        model.prepare(one)
    with pytest.raises(lk.DataError, match="no context to swap"):
        lk.load_data("digits").swapped()
    with pytest.raises(lk.LikelyError, match="predict and context"):
        lk.load_data("digits", predict="label", context="label")
