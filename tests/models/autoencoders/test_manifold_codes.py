"""Codes on spheres and rotations: densities, bounds against quadrature, paths without jumps."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

import likely as lk
from likely.contract.training import Batch
from likely.data.rotations import BALLS
from likely.models.autoencoders.so3_vae import LOG_VOLUME, exponential, log_density, orthonormal

pytestmark = pytest.mark.xdist_group("autoencoders")


def random_model(name, **options):
    """A model away from its start, and rows."""
    x = torch.randn(300, 3, dtype=torch.float64)
    model = lk.make(name, lk.reals(3), hidden=(16,), scale=2.0, seed=0, **options).double()
    model.prepare(Batch(x))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval(), x[:5]


# Spheres.


@pytest.mark.parametrize("posterior", ["vmf", "power-spherical"])
def test_bounds_against_quadrature_on_a_circle(posterior):
    model, x = random_model("vmf-vae", latent=1, posterior=posterior)
    turn = 2 * math.pi / 400 * torch.arange(400, dtype=torch.float64)
    z = torch.stack([turn.cos(), turn.sin()], 1)
    with torch.no_grad():
        rows = x.repeat_interleave(400, 0)
        given = model._log_prob_given(rows, z.repeat(5, 1), None).view(5, 400)
        log_p = given.logsumexp(1) - math.log(400)
        q = model._posterior(x, None)
        log_q = q.spread.log_prob((z @ q.mean.T).clamp(-1, 1).acos()).T
        share = (log_q + math.log(2 * math.pi / 400)).exp()
        torch.testing.assert_close(share.sum(1), torch.ones(5).double(), rtol=1e-6, atol=0)
        elbo = (share * (given - log_q - math.log(2 * math.pi))).sum(1)
        divergence = (share * (log_q + math.log(2 * math.pi))).sum(1)
        torch.testing.assert_close(q.spread.divergence(), divergence, rtol=1e-6, atol=1e-9)
    found = model.elbo(x, seed=0, draws=4000)
    assert ((found.value - elbo).abs() < 4 * found.stderr + 1e-9).all()
    bounds = [model.log_likelihood(x.repeat(200, 1), seed=0, draws=k) for k in (1, 5, 50)]
    means = [bound.value.view(200, 5).mean(0) for bound in bounds]
    assert (elbo < log_p).all()
    assert (means[0] < means[1]).all()
    assert (means[1] < means[2]).all()
    errors = bounds[2].value.view(200, 5).std(0) / math.sqrt(200)
    assert (means[2] < log_p + 4 * errors).all()
    assert (log_p - means[2] < (log_p - elbo) / 2 + 4 * errors).all()


@pytest.mark.parametrize("posterior", ["vmf", "power-spherical"])
def test_the_encoder_gets_the_gradient_of_the_bound_on_a_circle(posterior):
    model, x = random_model("vmf-vae", latent=1, posterior=posterior, warm_up=0)
    turn = 2 * math.pi / 400 * torch.arange(400, dtype=torch.float64)
    z = torch.stack([turn.cos(), turn.sin()], 1)
    q = model._posterior(x[:1], None)
    # q as a function of the angle of μ and of κ, without arccos at its ends.
    away = torch.atan2(z[:, 1], z[:, 0]) - torch.atan2(q.mean[0, 1], q.mean[0, 0])
    away = (away + math.pi).remainder(2 * math.pi) - math.pi
    log_q = q.spread.log_prob(away[:, None])[:, 0]
    given = model._log_prob_given(x[:1].expand(400, 3), z, None)
    elbo = (log_q.exp() * (given - log_q)).sum() * 2 * math.pi / 400
    bias = model.encoder.net.layers[-1].bias
    (expected,) = torch.autograd.grad(elbo, bias)
    n, parts = 1000, []
    torch.manual_seed(0)
    for _ in range(16):
        loss = model.loss(Batch(x[:1].expand(n, 3))).mean()
        parts.append(-torch.autograd.grad(loss, bias)[0])
    found = torch.stack(parts)
    errors = found.std(0) / math.sqrt(16)
    assert (errors < expected.norm() / 20).all()
    assert ((found.mean(0) - expected).abs() < 4 * errors).all()


def test_codes_are_points_of_the_sphere():
    model, x = random_model("vmf-vae", latent=2)
    assert model.encode(x).norm(dim=1).detach().numpy() == pytest.approx(1)
    assert model._sample_code(100, None).norm(dim=1).numpy() == pytest.approx(1)
    z = model.encode(x).detach()
    torch.testing.assert_close(model.decode(3 * z), model.decode(z))
    with pytest.raises(lk.LikelyError, match="its prior is uniform"):
        lk.make("vmf-vae", lk.reals(3), prior="flow")


# Rotations.

DIVERGENCES = [
    (0.1, 7.022342),
    (0.3, 3.746589),
    (0.5, 2.254697),
    (1.0, 0.427670),
    (1.7, 0.012),
    (2 * math.pi, math.log(2)),
]


@pytest.mark.parametrize(("sigma", "expected"), DIVERGENCES)
def test_densities_of_rotations_have_unit_mass_and_the_divergence(sigma, expected):
    """By quadrature over the angle, and by draws, which know nothing of it."""
    cells = 20_000
    angle = math.pi / cells * (torch.arange(cells, dtype=torch.float64) + 0.5)
    v = torch.nn.functional.pad(angle[:, None], (0, 2))
    std = torch.full((3,), sigma, dtype=torch.float64)
    ratio = log_density(v, std) + LOG_VOLUME
    share = ratio.exp() * (1 - angle.cos()) / cells  # Haar's measure of the angle
    assert share.sum().item() == pytest.approx(1, abs=1e-6)
    tolerance = (
        3e-4 if sigma > 1 else 2e-6
    )  # the density has a pole at 0, and at 2π is near its limit
    assert (share * ratio).sum().item() == pytest.approx(expected, abs=tolerance)
    torch.manual_seed(0)
    drawn = log_density(std * torch.randn(10_000, 3).double(), std) + LOG_VOLUME
    error = drawn.std().item() / 100
    assert drawn.mean().item() == pytest.approx(expected, abs=4 * error + tolerance)
    if sigma >= 1:
        weight = (-drawn).exp()
        assert weight.mean().item() == pytest.approx(1, abs=4 * weight.std().item() / 100)


def test_unequal_widths_have_unit_mass():
    """The mean over uniform rotations."""
    torch.manual_seed(0)
    std = torch.tensor([0.5, 1.0, 4.0], dtype=torch.float64)
    rotations = Rotation.random(100_000, np.random.default_rng(0))
    v = torch.from_numpy(rotations.as_rotvec())
    ratio = (log_density(v, std) + LOG_VOLUME).exp()
    error = ratio.std().item() / math.sqrt(len(v))
    assert error < 0.03
    assert ratio.mean().item() == pytest.approx(1, abs=4 * error)


def test_exponentials_and_frames_are_rotations():
    torch.manual_seed(0)
    v = torch.cat([3 * torch.randn(50, 3), torch.zeros(1, 3), 1e-9 * torch.randn(1, 3)]).double()
    expected = torch.from_numpy(Rotation.from_rotvec(v.numpy()).as_matrix())
    torch.testing.assert_close(exponential(v), expected)
    v.requires_grad_()
    assert torch.autograd.grad(exponential(v).sum(), v)[0].isfinite().all()
    density = log_density(v[v.norm(dim=1) > 0], torch.ones(3).double())
    assert torch.autograd.grad(density.sum(), v)[0].isfinite().all()
    r = orthonormal(torch.randn(20_000, 6).double())
    torch.testing.assert_close(r @ r.mT, torch.eye(3).double().expand_as(r))
    torch.testing.assert_close(torch.linalg.det(r), torch.ones(len(r)).double())
    # Uniform: the angle has the density (1 − cos θ)/π, so that E cos θ = −1/2.
    cosine = (r.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2
    assert cosine.mean().item() == pytest.approx(-0.5, abs=4 * 0.5 / math.sqrt(len(r)))


def test_bounds_of_rotations_rise_to_the_likelihood():
    model, x = random_model("so3-vae", latent=4)
    assert model.encode(x).shape == (5, 10)
    log_p = []
    with torch.no_grad():
        for _ in range(20):
            z = model._sample_code(5000, None)
            given = model._log_prob_given(x.repeat_interleave(1000, 0), z, None)
            log_p.append(given.view(5, 1000).exp().mean(1))
    p = torch.stack(log_p)
    errors = p.std(0) / p.mean(0) / math.sqrt(20)
    log_p = p.mean(0).log()
    rows = x.repeat(300, 1)
    found = [model.log_likelihood(rows, seed=0, draws=k).value.view(300, 5) for k in (1, 10, 100)]
    means = [value.mean(0) for value in found]
    assert (means[0] < means[1]).all()
    assert (means[1] < means[2] + 0.01).all()
    doubt = 4 * (errors + found[2].std(0) / math.sqrt(300))
    assert (means[2] < log_p + doubt).all()
    # The mean of all weights is p(x) without bias.
    weights = found[0].exp()
    ratio, error = weights.mean(0) / p.mean(0), weights.std(0) / p.mean(0) / math.sqrt(300)
    assert ((ratio - 1).abs() < 4 * (error + errors)).all()


def test_options_that_do_not_suit_rotations():
    for options in ({"posterior": "iaf"}, {"prior": "vamp"}):
        with pytest.raises(lk.LikelyError, match="of its own"):
            lk.make("so3-vae", lk.reals(3), **options)
    with pytest.raises(lk.LikelyError, match="latent=2: give a whole number of 3 or more"):
        lk.make("so3-vae", lk.reals(3), latent=2)


def test_a_closed_loop_of_rotations_is_encoded_without_a_jump():
    """A linear encoder of what is seen of the balls can give every rotation its own code."""
    rng = np.random.default_rng(0)

    def seen(rotations):
        """Where the balls are in the image, before they are drawn."""
        places = np.einsum("nij,kj->nik", rotations.as_matrix()[:, :2], BALLS)
        return torch.from_numpy(places.reshape(-1, 8))

    model = lk.make("so3-vae", lk.reals(8), hidden=(), seed=0).double()
    model.prepare(Batch(seen(Rotation.random(100, rng))))
    encoder, scale = model.encoder.net.layers[0], model.heads.heads[0].scale
    back = torch.block_diag(*[torch.from_numpy(np.linalg.pinv(BALLS))] * 2)
    with torch.no_grad():
        encoder.weight[:6] = back * scale  # features are (x − shift)/scale
        encoder.bias[:6] = back @ model.features.shift
    turn = np.linspace(0, 2 * math.pi, 401)[:, None]
    for axis in ([1.0, 0, 0], [0, 0, 1.0], [0.6, 0.0, -0.8]):
        loop = Rotation.random(None, rng) * Rotation.from_rotvec(turn * axis)
        z = model.encode(seen(loop)).detach()
        torch.testing.assert_close(z, torch.from_numpy(loop.as_matrix().reshape(-1, 9)))
        jump = (z[1:] - z[:-1]).norm(dim=1).max().item()
        assert jump == pytest.approx(math.sqrt(8) * math.sin(math.pi / 400), rel=1e-6)
