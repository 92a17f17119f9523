"""Posteriors and priors of a VAE against closed forms and quadrature."""

import math

import pytest
import torch
from sklearn.decomposition import FactorAnalysis
from torch.distributions import MultivariateNormal, Normal

import likely as lk
from likely.contract.training import Batch
from likely.core.random import seeded

pytestmark = pytest.mark.xdist_group("autoencoders")

FLOWS = ["planar", "sylvester", "iaf"]
EDGE = torch.linspace(-10, 10, 201, dtype=torch.float64)
GRID = torch.cartesian_prod(EDGE, EDGE)  # of two latent variables
LOG_CELL = 2 * math.log(0.1)


def correlated():
    """Rows x = W z + μ + σ ε with oblique columns of W, and their distribution."""
    torch.manual_seed(0)
    weight = torch.tensor([[2.0, 1.0], [0.5, 1.5], [1.0, 1.0], [0.0, 0.7]], dtype=torch.float64)
    mean, sigma = torch.arange(4.0, dtype=torch.float64), 0.8
    law = MultivariateNormal(mean, weight @ weight.T + sigma**2 * torch.eye(4, dtype=torch.float64))
    return law.sample((400,)), law, (weight, mean, sigma)


def random_model(width=0.0, **options):
    """A VAE away from its start, with two latent variables, and rows."""
    x = torch.randn(300, 3, dtype=torch.float64)
    model = lk.make(
        "vae", lk.reals(3), latent=2, hidden=(16,), scale=2.0, seed=0, **options
    ).double()
    model.prepare(Batch(x))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                size = 0.05 if name.startswith("prior") else 0.1
                parameter.add_(size * torch.randn_like(parameter))
        model.encoder.net.layers[-1].bias[2:4] += width
    return model.eval(), x


def test_independent_posteriors_lose_what_correlations_hold(set_by_hand):
    x, law, parameters = correlated()
    model, precision = set_by_hand("vae", x, *parameters)
    gap = (precision.diagonal().log().sum() - torch.logdet(precision)).item() / 2
    assert gap > 0.1
    elbo = model.elbo(x, seed=0, draws=500)
    found = law.log_prob(x) - elbo.value
    error = elbo.stderr.square().mean().sqrt().item() / math.sqrt(len(x))
    assert found.mean().item() == pytest.approx(gap, abs=4 * error)


def test_an_affine_autoregressive_posterior_loses_nothing(set_by_hand):
    x, law, parameters = correlated()
    options = {"posterior": "iaf", "posterior_layers": 1, "posterior_hidden": (4,)}
    model, precision = set_by_hand("vae", x, *parameters, **options)
    factor = torch.linalg.cholesky(torch.linalg.inv(precision))
    gate = torch.sigmoid(torch.tensor(2.0, dtype=torch.float64))
    std = factor.diagonal() / gate  # of z₀; then z₁ = γ z₀₁ and z₂ = γ z₀₂ + (1 − γ) a z₀₁
    slope = factor[1, 0] / (1 - gate) / std[0]
    back = torch.linalg.inv(
        torch.stack([torch.stack([gate, 0 * gate]), torch.stack([(1 - gate) * slope, gate])])
    )
    encoder, net = model.encoder.net.layers[0], model.maps[0].net
    with torch.no_grad():
        encoder.weight[:2], encoder.bias[:2] = back @ encoder.weight[:2], back @ encoder.bias[:2]
        encoder.bias[2:4] = (std - 1e-4).expm1().log() - math.log(math.e - 1)
        for parameter in net.parameters():
            parameter.zero_()
        net.layers[0].weight[2:, 0] = torch.tensor([1.0, -1.0])  # z₁ = relu(z₁) − relu(−z₁)
        net.layers[1].weight[2, 2:] = torch.stack([slope, -slope])
    bound = model.log_likelihood(x, seed=1, draws=3)
    torch.testing.assert_close(bound.value, law.log_prob(x), rtol=0, atol=1e-9)
    torch.testing.assert_close(-model.loss(Batch(x)), law.log_prob(x), rtol=0, atol=1e-9)


def test_a_posterior_of_rows_has_the_mean_of_their_codes():
    data = lk.load_data("digits", context="label")
    model = lk.make("vae", data.domain, context=data.context, latent=3, seed=0)
    x, label = data.test.x[:5], data.test.context[:5]
    with torch.no_grad(), seeded(0):
        q = model.posterior(x, label)
        draws, log_q = q.draw(4000)
    torch.testing.assert_close(q.mean, model.encode(x, label))
    assert draws.shape == (4000, 5, 3)
    assert ((draws.mean(0) - q.mean).abs() < 5 * draws.std(0) / 4000**0.5).all()
    entropy = Normal(q.mean, q.std).entropy().sum(1)
    torch.testing.assert_close(-log_q.mean(0), entropy, atol=0.1, rtol=0)
    with pytest.raises(lk.DataError):
        model.posterior(x + 100, label)


@pytest.mark.parametrize("common", [False, True])
def test_the_best_linear_vae_is_factor_analysis(set_by_hand, common):
    """With one noise for all columns, probabilistic PCA (Lucas et al. 2019, arXiv:1911.02469)."""
    x, _, (weight, _, _) = correlated()
    x = x * torch.tensor([1.0, 2.0, 0.5, 1.0]) if not common else x
    mean = x.mean(0)
    if common:
        values, axes = torch.linalg.eigh((x - mean).T @ (x - mean) / len(x))
        variance = values[:2].mean()
        weight = axes[:, 2:] * (values[2:] - variance).sqrt()
        noise = variance.sqrt()
        logs = values[2:].log().sum() + 2 * variance.log()
        best = -(4 * math.log(2 * math.pi) + logs.item() + 4) / 2
    else:
        analysis = FactorAnalysis(1, tol=1e-12, max_iter=20_000).fit(x.numpy())
        weight = torch.from_numpy(analysis.components_.T.copy())
        noise = torch.from_numpy(analysis.noise_variance_).sqrt()
        best = analysis.score(x.numpy())
    model, _ = set_by_hand("vae", x, weight, mean, noise)
    assert model.elbo(x, seed=0, draws=2).value.mean().item() == pytest.approx(best, abs=1e-9)
    # It is an optimum: the gradient over many draws vanishes.
    loss = torch.stack([model.loss(Batch(x)).mean() for _ in range(300)])
    gradients = torch.autograd.grad(
        loss.mean(), [model.decoder.bias, model.decoder.net.layers[0].weight]
    )
    for gradient in gradients:
        assert gradient.abs().max() < 0.02


@pytest.mark.parametrize("posterior", FLOWS)
def test_a_flow_posterior_is_normalised(posterior):
    """E_q[p/q] = 1 for a normal p, for the draws' own log q."""
    model, x = random_model(width=3.0, posterior=posterior)  # which covers the prior
    with torch.no_grad():
        z, log_q = model._posterior(x[:3], None).draw(50_000)
        ratio = (model._log_prior(z) - log_q).exp()
    error = ratio.std(0) / math.sqrt(len(ratio))
    assert (error < 0.05).all()
    assert ((ratio.mean(0) - 1).abs() < 4 * error).all()


@pytest.mark.parametrize("posterior", FLOWS)
def test_a_flow_posterior_knows_its_jacobian(posterior):
    model, x = random_model(posterior=posterior)
    q = model._posterior(x[:5], None)
    z = torch.randn(1, 5, 2, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda z: q._mapped(z)[0].sum((0, 1)), z)
    expected = torch.linalg.slogdet(jacobian.permute(1, 2, 0, 3))[1]
    torch.testing.assert_close(q._mapped(z)[1], expected)
    torch.testing.assert_close(model.encode(x[:5]), q._mapped(q.base.mean[None])[0][0])


VARIANTS = [{"posterior": name} for name in FLOWS] + [
    {"prior": "flow"},
    {"prior": "vamp", "pseudo_inputs": 5},
    {"prior": "flow", "posterior": "iaf"},
]


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_bounds_rise_with_the_draws_and_stay_below_the_quadrature(options):
    wide = 0.0 if options.get("prior") == "vamp" else 1.0  # so that the last bound is tight
    model, x = random_model(wide, **options)
    with torch.no_grad():
        prior = model._log_prior(GRID[:, None])[:, 0] + LOG_CELL
        assert prior.exp().sum().item() == pytest.approx(1, abs=1e-3)
        exact = torch.stack(
            [
                (model._log_prob_given(row.expand(len(GRID), 3), GRID, None) + prior).logsumexp(0)
                for row in x[:5]
            ]
        ).repeat(100)
    rows, gaps = x[:5].repeat(100, 1), []
    for draws in (1, 10, 300):
        gap = exact - model.log_likelihood(rows, seed=1, draws=draws).value
        assert gap.mean() > -3 * gap.std() / math.sqrt(len(gap))
        gaps.append(gap.mean().item())
    assert gaps[0] > gaps[1] + 0.01 > gaps[2] + 0.01
    assert gaps[2] < 0.02


@pytest.mark.parametrize("options", VARIANTS[3:5], ids=str)
def test_samples_come_from_the_prior(options):
    model, _ = random_model(**options)
    with torch.no_grad():
        density = (model._log_prior(GRID[:, None])[:, 0] + LOG_CELL).exp()
        z = model._sample_code(40_000, None)
    mean = density @ GRID
    torch.testing.assert_close(z.mean(0), mean, rtol=0, atol=0.05)
    covariance = (GRID - mean).T * density @ (GRID - mean)
    torch.testing.assert_close(z.T.cov(), covariance, rtol=0.05, atol=0.05)


def test_priors_begin_where_they_should():
    """A flow near N(0, 1), pseudo-inputs at training rows."""
    x = torch.randn(50, 3, dtype=torch.float64)
    model = lk.make("vae", lk.reals(3), latent=2, prior="flow", seed=0).double()
    z = torch.randn(1, 50, 2, dtype=torch.float64)
    normal = -(z.square() + math.log(2 * math.pi)).sum(2) / 2
    torch.testing.assert_close(model._log_prior(z), normal, rtol=0.1, atol=0.3)
    model = lk.make("vae", lk.reals(3), latent=2, prior="vamp", pseudo_inputs=4, seed=0).double()
    model.prepare(Batch(x))
    assert torch.equal(model.pseudo_inputs, model.features(x[[0, 16, 32, 49]]))


@pytest.mark.parametrize("options", [*VARIANTS, "model"], ids=str)
def test_variants_are_trained_saved_and_loaded(options, tmp_path):
    if options == "model":
        options = {"prior": lk.make("nsf-coupling", lk.reals(2), transforms=1, seed=0)}
    kinds = lk.table(label=lk.Categorical(2))
    x, label = torch.randn(200, 3), torch.randint(0, 2, (200, 1))
    split = lk.data.Split(x, label)
    data = lk.Data(lk.reals(3), split, split, split, context=kinds)
    model = lk.make("vae", lk.reals(3), context=kinds, latent=2, hidden=(8,), seed=0, **options)
    before = {name: value.clone() for name, value in model.named_parameters()}
    lk.fit(model, data, steps=5, seed=0)
    assert all((value != before[name]).any() for name, value in model.named_parameters())
    lk.save(model, tmp_path / "model.safetensors")
    again = lk.load(tmp_path / "model.safetensors")
    assert torch.equal(
        model.sample(5, context=label[:5], seed=1), again.sample(5, context=label[:5], seed=1)
    )
    scores = [m.log_likelihood(x, label, seed=1).value for m in (model, again)]
    assert torch.equal(*scores)


def test_free_bits_of_an_estimated_divergence_are_those_of_all_variables():
    model, x = random_model(posterior="planar", free_bits=50.0, warm_up=0)
    torch.manual_seed(1)
    loss = model.loss(Batch(x))
    torch.manual_seed(1)
    z, _ = model._posterior(x, None).draw(1)
    expected = 2 * 50.0 - model._log_prob_given(x, z[0], None)
    torch.testing.assert_close(loss, expected)


def test_priors_that_do_not_fit_are_refused():
    def made(**options):
        return lk.make("vae", lk.reals(3), latent=2, **options)

    for wrong in (
        lk.make("realnvp", lk.reals(3)),
        lk.make("vae", lk.reals(2), latent=1),
        lk.make("realnvp", lk.reals(2), context=lk.reals(1)),
    ):
        with pytest.raises(lk.LikelyError, match=r"prior: give a model of lk.reals\(2\)"):
            made(prior=wrong)
    with pytest.raises(lk.LikelyError, match="prior='nonsense': give one of 'normal'"):
        made(prior="nonsense")
    with pytest.raises(lk.LikelyError, match="vamp"):
        made(prior="vamp", posterior="iaf")
