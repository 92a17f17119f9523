"""Glow: levels, ActNorm, 1×1 convolutions, Jacobians of whole models, quadrature, far rows, files."""

import math
from dataclasses import replace

import pytest
import torch

import likely as lk
from likely.contract.training import Batch
from likely.core.columns import Constant, Real
from likely.core.domain import Domain
from likely.core.random import seeded
from likely.models.flows.glow import ChannelCoupling
from likely.models.flows.linear import LU, ActNorm


def images(n, *shape, seed=0):
    """Rows of correlated pixels with means and deviations of their own."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, *shape, generator=generator, dtype=torch.float64)
    return 3 * (x + 0.5 * x.roll(1, -1) + 0.5 * x.mean(1, keepdim=True)) + 1


def rough(*shape, dtype=torch.float64, **options):
    """A prepared model whose networks are far from zero."""
    with seeded(0):
        model = lk.make(
            "glow",
            lk.reals(*shape, layout="image"),
            **{"transforms": 2, "channels": 6} | options,
        ).to(dtype)
        model.prepare(Batch(images(200, *shape).to(dtype)))
        with torch.no_grad():
            for parameter in model.transforms.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def shapes_of_levels(*shape, **options):
    model = lk.make("glow", lk.reals(*shape, layout="image"), channels=2, transforms=1, **options)
    return list(dict.fromkeys(tuple(t.entries.shape) for t in model.transforms))


def test_levels_halve_edges_while_they_are_even():
    assert shapes_of_levels(1, 8, 8) == [(4, 4, 4), (8, 2, 2)]
    assert shapes_of_levels(1, 28, 28) == [(4, 14, 14), (8, 7, 7)]
    assert shapes_of_levels(3, 32, 32) == [(12, 16, 16), (24, 8, 8), (48, 4, 4)]
    assert shapes_of_levels(1, 64, 64)[-1] == (32, 4, 4)
    assert shapes_of_levels(2, 12, 10) == [(8, 6, 5)]
    assert shapes_of_levels(1, 28, 28, levels=9) == [(4, 14, 14), (8, 7, 7)]
    assert shapes_of_levels(3, 7, 7) == [(3, 7, 7)]
    # A grey image with an odd edge, and one with a constant pixel, are vectors.
    assert shapes_of_levels(1, 7, 7) == [(49, 1, 1)]
    domain = Domain((4, 4), (Constant(0.0), *[Real()] * 15), layout="image")
    assert lk.make("glow", domain).transforms[0].entries.shape == (15, 1, 1)


@pytest.mark.parametrize("scale", [0.1, 1, 10, 100])
@pytest.mark.parametrize("channels", [1, 3])
def test_jacobian_of_a_whole_model(channels, scale):
    model = rough(channels, 4, 4)
    z = scale * torch.randn(2, 16 * channels, dtype=torch.float64)
    with torch.no_grad():
        y, log_det = model._transformed(z, None)
        _, log_det_back = model.transforms[-1].inverse_with_log_det(y, None)
        torch.testing.assert_close(log_det_back, -model.transforms[-1](y, None)[1])
        torch.testing.assert_close(model._inverted(y, None), z, rtol=1e-9, atol=1e-9)
    jacobian = torch.autograd.functional.jacobian(
        lambda z: model._transformed(z, None)[0].sum(0), z
    )
    expected = torch.linalg.slogdet(jacobian.transpose(0, 1))[1]
    torch.testing.assert_close(log_det, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("shape", "points", "width"), [((1, 1, 1), 400, 40), ((2, 1, 1), 200, 40), ((1, 2, 2), 26, 24)]
)
def test_small_images_integrate_to_one(shape, points, width):
    model = rough(*shape)
    grid = torch.linspace(1 - width, 1 + width, points, dtype=torch.float64)
    x = torch.cartesian_prod(*[grid] * math.prod(shape)).reshape(-1, *shape)
    with torch.no_grad():
        total = model.log_prob(x).exp().sum() * (grid[1] - grid[0]) ** math.prod(shape)
    assert total == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize("weighted", [False, True])
def test_every_actnorm_gives_mean_0_and_variance_1_after_prepare(weighted):
    with seeded(0):
        model = lk.make(
            "glow",
            lk.reals(3, 8, 8, layout="image"),
            context=lk.table(lk.Categorical(2)),
            channels=4,
        )
    x, weight = images(300, 3, 8, 8).float(), torch.rand(300) if weighted else None
    seen = []
    model.prepare(Batch(x, torch.arange(300)[:, None] % 2, weight))
    norms = [module for module in model.modules() if isinstance(module, ActNorm)]
    for norm in norms:
        norm.register_forward_hook(lambda norm, x, y: seen.append(y[0].movedim(1, -1).double()))
    model.log_prob(x, torch.arange(300)[:, None] % 2)
    assert len(seen) == len(norms) == 2 * 6 + 1
    share = (torch.ones(300) if weight is None else weight).double()
    share = (share / share.sum())[:, None]
    for y in seen:
        mean = (share * y.flatten(1, 2).mean(1)).sum(0)
        square = (share * y.flatten(1, 2).square().mean(1)).sum(0)
        torch.testing.assert_close(mean, torch.zeros_like(mean), rtol=0, atol=1e-5)
        torch.testing.assert_close(square, torch.ones_like(mean), rtol=0, atol=1e-4)


def test_lu_has_its_log_determinant_and_inverse():
    model = rough(3, 8, 8)
    layers = [module for module in model.modules() if isinstance(module, LU)]
    for layer in layers:
        size = len(layer.sign)
        assert not torch.equal(layer.matrix, layer.matrix.triu())  # it mixes the channels
        log_det = torch.linalg.slogdet(layer.matrix)[1]
        torch.testing.assert_close(layer.log_scale.sum(), log_det, rtol=0, atol=1e-12)
        x = torch.randn(2, size, 5, 3, dtype=torch.float64)
        y, total = layer(x, None)
        torch.testing.assert_close(total, 15 * log_det.expand(2))
        torch.testing.assert_close(layer.inverse(y, None), x)
        torch.testing.assert_close(y[1, :, 2, 1], layer.matrix @ x[1, :, 2, 1])
    for size in (1, 5):
        start = torch.randn(size, size, dtype=torch.float64)
        torch.testing.assert_close(LU(start).double().matrix, start)


def test_a_constant_channel_does_no_harm():
    x = images(100, 3, 4, 4).float()
    x[:, 1] = 0.3
    model = lk.make("glow", lk.reals(3, 4, 4, layout="image"), transforms=2, channels=4, seed=0)
    model.prepare(Batch(x))
    loss = model.loss(Batch(x)).mean()
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    assert model.sample(10, seed=0).isfinite().all()
    norm = ActNorm(2)
    norm.prepare(torch.stack([torch.randn(50), 3.1 + 2e-7 * torch.randn(50)], 1))
    assert norm.log_scale[1] == 0


def test_round_trip_in_single_precision():
    """Rows 100 deviations away while the networks are zero, and rows of size 100 after training."""
    x = 100 * images(200, 3, 8, 8).float()
    data = lk.load_data(x, domain=lk.reals(3, 8, 8, layout="image"))
    model = lk.make("glow", data.domain, transforms=3, channels=8, seed=0)
    model.prepare(Batch(x))
    for trained in (False, True):
        if trained:
            lk.fit(model, data, steps=10, seed=0)
        z = model.view(x)[0] if trained else 100 * torch.randn(20, 192)
        with torch.no_grad():
            back = model._inverted(model._transformed(z, None)[0], None)
        assert (back - z).abs().max() < 1e-3


def test_split_is_a_conditional_normal_and_temperature_scales_it():
    """The half that leaves is N(μ(z₁), σ(z₁)²), and a draw at temperature T has T times its noise."""
    model = rough(1, 4, 4)
    (split,) = (
        t
        for t in model.transforms
        if isinstance(t.transform, ChannelCoupling) and len(t.transform.net) == 1
    )
    z = torch.randn(5, 16, dtype=torch.float64)
    leaves = split.entries[2:].flatten()
    stays = split.entries[:2]
    with torch.no_grad():
        y, log_det = split(z, None)
        log_prob = -(y[:, leaves].square() + math.log(2 * math.pi)).sum(1) / 2 + log_det
        shift, raw = split.transform._parameters_of(z[:, stays], None).unbind(1)
        sigma = (-(4 * raw.sigmoid() - 2)).exp()
        normal = torch.distributions.Normal(-shift * sigma, sigma)
        expected = normal.log_prob(z[:, split.entries[2:]]).flatten(1).sum(1)
    torch.testing.assert_close(log_prob, expected)
    cold = model.sample(400, seed=0, temperature=1e-3)
    warm = model.sample(400, seed=0)
    assert cold.std(0).mean() < 0.01 * warm.std(0).mean()
    torch.testing.assert_close(model.sample(4, seed=0, temperature=1.0), model.sample(4, seed=0))
    with pytest.raises(lk.LikelyError, match="temperature"):
        model.sample(4, temperature=-1.0)


def test_levels_of_an_image_are_equally_spaced_and_files_give_the_same_scores(tmp_path):
    domain = lk.integers(16, 1, 4, 4, layout="image")
    x = (images(300, 1, 4, 4) + 8).clamp(0, 15).long()
    data = lk.load_data(x, domain=domain)
    model = lk.make("glow", domain, transforms=2, channels=4, seed=0)
    lk.fit(model, data, steps=5, seed=0)
    assert model.density == "lower bound"
    z = model.view(x)[0]
    torch.testing.assert_close(
        (z - x.flatten(1) / 16).mean().item(), 1 / 32 - 0.5, atol=2e-3, rtol=0
    )
    lk.save(model, tmp_path / "glow.safetensors")
    loaded = lk.load(tmp_path / "glow.safetensors")
    for a, b in zip(model.parameters(), loaded.parameters(), strict=True):
        assert torch.equal(a, b)  # no second initialisation
    first, second = (m.log_likelihood(x, seed=1).value for m in (model, loaded))
    assert torch.equal(first, second)
    assert torch.equal(model.sample(5, seed=0), loaded.sample(5, seed=0))


def test_a_context_reaches_every_network():
    model = lk.make(
        "glow", lk.reals(1, 4, 4, layout="image"), context=lk.table(lk.Categorical(3)), seed=0
    )
    context = torch.tensor([[0], [1], [2]])
    batch = Batch(images(3, 1, 4, 4).float(), context)
    model.prepare(batch)
    with torch.no_grad():
        for parameter in model.transforms.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    x = batch.x[:1].expand(3, 1, 4, 4)
    assert len(set(model.log_prob(x, context).tolist())) == 3
    model.loss(replace(batch, weight=None)).mean().backward()
    couplings = [m for m in model.modules() if isinstance(m, ChannelCoupling)]
    assert all((c.net[0].weight.grad[:, -3:] != 0).any() for c in couplings)
