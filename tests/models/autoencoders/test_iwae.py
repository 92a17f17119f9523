"""Gradients of the importance-weighted bound where the posterior is known."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal

import likely as lk
from likely.contract.training import Batch
from likely.models.autoencoders.posteriors import GaussianPosterior

pytestmark = pytest.mark.xdist_group("autoencoders")

GRADIENTS = ["reparametrised", "stl", "dreg"]
WEIGHT = torch.tensor([[2.0, 0.0], [0.0, 1.2], [0.0, 0.0]], dtype=torch.float64)
MEAN, SIGMA = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64), 0.6
LAW = MultivariateNormal(MEAN, WEIGHT @ WEIGHT.T + SIGMA**2 * torch.eye(3, dtype=torch.float64))


@pytest.fixture
def rows():
    return LAW.sample((200,))


def encoder_gradients(model, x, mean=0.0, std=1.0):
    """Loss of each row, and its gradients in μ and log σ of q, both moved away from the exact ones."""
    exact = model._posterior(x, None)
    leaves = [(exact.mean + mean).detach(), (exact.std * std).log().detach()]
    for leaf in leaves:
        leaf.requires_grad_()
    model._posterior = lambda x, context: GaussianPosterior(leaves[0], leaves[1].exp())
    try:
        loss = model.loss(Batch(x))
    finally:
        del model._posterior
    return loss.detach(), torch.cat(torch.autograd.grad(loss.sum(), leaves), 1)


def made(set_by_hand, x, gradient, draws):
    return set_by_hand("iwae", x, WEIGHT, MEAN, SIGMA, gradient=gradient, draws=draws)[0]


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_with_the_exact_posterior_each_draw_has_zero_gradient(set_by_hand, rows, gradient):
    model = made(set_by_hand, rows, gradient, 5)
    loss, gradients = encoder_gradients(model, rows)
    torch.testing.assert_close(-loss, LAW.log_prob(rows), rtol=0, atol=1e-9)
    if gradient == "reparametrised":
        assert (gradients.abs().amax(1) > 1e-3).all()
    else:
        assert gradients.abs().max() < 1e-9


def test_estimators_of_the_gradient_agree_in_value_and_mean(set_by_hand, rows):
    x, means = rows[:1].expand(40_000, 3), {}
    for gradient in GRADIENTS:
        torch.manual_seed(1)
        model = made(set_by_hand, rows, gradient, 4)
        torch.manual_seed(2)
        loss, gradients = encoder_gradients(model, x, mean=0.3, std=1.5)
        error = gradients.std(0) / math.sqrt(len(x))
        means[gradient] = loss, gradients.mean(0), error
        decoder = torch.autograd.grad(model.loss(Batch(rows)).mean(), model.decoder.bias)[0]
        assert decoder.abs().max() > 0  # the decoder learns from all of them
    for gradient in ("stl", "dreg"):
        torch.testing.assert_close(means[gradient][0], means["reparametrised"][0])
    pull = {}
    for gradient in ("stl", "dreg"):
        _, mean, error = means[gradient]
        _, reference, scatter = means["reparametrised"]
        pull[gradient] = ((mean - reference) / (error.square() + scatter.square()).sqrt()).abs()
    assert pull["dreg"].max() < 4
    assert pull["stl"].max() > 8  # which is biased for several draws


def test_gradients_of_the_decoder_do_not_depend_on_the_encoders(set_by_hand, rows):
    found = []
    for gradient in GRADIENTS:
        model = made(set_by_hand, rows, gradient, 4)
        with torch.no_grad():
            model.encoder.net.layers[0].bias[:2] += 0.2
        torch.manual_seed(2)
        parameters = [*model.decoder.parameters(), *model.heads.parameters()]
        found.append(torch.autograd.grad(model.loss(Batch(rows)).mean(), parameters))
    for other in found[1:]:
        torch.testing.assert_close(other, found[0])


def test_the_gradient_of_one_draw_is_that_of_a_vae_in_mean(set_by_hand, rows):
    """K = 1: STL and DReG are the same, and the bound is the ELBO."""
    gradients = []
    for gradient in ("stl", "dreg"):
        model = made(set_by_hand, rows, gradient, 1)
        torch.manual_seed(2)
        gradients.append(encoder_gradients(model, rows, 0.3, 1.5)[1])
    torch.testing.assert_close(*gradients)


@pytest.mark.slow
def test_signal_to_noise_grows_with_the_draws_by_dreg_and_falls_without(set_by_hand, rows):
    """±½ on logarithmic scales (Rainforth et al. 2018; Tucker et al. 2019)."""
    counts = [16, 64, 256]
    spread, signal = {}, []
    for draws in counts:
        for gradient in ("reparametrised", "dreg"):
            model = made(set_by_hand, rows, gradient, draws)
            x = rows[:1].expand(4000, 3)
            found = encoder_gradients(model, x, mean=0.1, std=1.2)[1][:, :2]  # in μ
            spread.setdefault(gradient, []).append(found.std(0))
        signal.append(found.mean(0).abs())  # the same for both, and far less noisy with DReG
    span = math.log(counts[-1] / counts[0])
    for gradient, expected in (("reparametrised", -0.5), ("dreg", 0.5)):
        logs = (torch.stack(signal) / torch.stack(spread[gradient])).log()
        slope = (logs[-1] - logs[0]) / span
        torch.testing.assert_close(slope, torch.full_like(slope, expected), rtol=0, atol=0.1)


def test_bounds_rise_with_the_draws_of_training(set_by_hand, rows):
    losses = []
    for draws in (1, 4, 64):
        model = made(set_by_hand, rows, "dreg", draws)
        torch.manual_seed(0)
        losses.append(encoder_gradients(model, rows, 0.5, 1.5)[0].mean().item())
    assert losses[0] > losses[1] > losses[2] > -LAW.log_prob(rows).mean().item() - 1e-3


def test_what_has_no_place_in_the_bound_is_refused():
    for options in ({"beta": 2.0}, {"warm_up": 100}, {"free_bits": 0.1}):
        with pytest.raises(lk.LikelyError, match="beta, warm_up and free_bits"):
            lk.make("iwae", lk.reals(2), **options)
    for gradient in ("dreg", "stl"):
        with pytest.raises(lk.LikelyError, match='gradient="reparametrised"'):
            lk.make("iwae", lk.reals(2), posterior="planar", gradient=gradient)
    model = lk.make("iwae", lk.reals(2), posterior="planar", gradient="reparametrised", latent=2)
    x = torch.randn(20, 2)
    model.prepare(Batch(x))
    assert model.loss(Batch(x)).isfinite().all()
    vamp = lk.make(
        "iwae", lk.reals(2), prior="vamp", latent=2
    )  # whose prior has the encoder's weights
    vamp.prepare(Batch(x))
    assert vamp.loss(Batch(x)).isfinite().all()
