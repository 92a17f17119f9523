"""Generators that take styles: what modulation is, and which layers a style moves."""

import math

import pytest
import torch
from torch.nn import functional as F

from likely.nets.style import Mapping, ModulatedConv, StyleGenerator, crossed

SHAPE, WIDTHS = (2, 16, 20), (3, 4)


@pytest.mark.parametrize("demodulate", [True, False])
def test_a_modulated_convolution_is_one_for_each_image(demodulate):
    layer = ModulatedConv(3, 5, 4, demodulate=demodulate).double()
    torch.nn.init.normal_(layer.bias)
    x, w = torch.randn(6, 3, 7, 8).double(), torch.randn(6, 4).double()
    weight = layer.convolution.scale() * layer.convolution.layer.weight
    images = []
    for image, style in zip(x, 1 + layer.style(w), strict=True):
        kernel = weight * style[:, None, None]
        if demodulate:
            kernel = kernel / (kernel.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        images.append(F.conv2d(image[None], kernel, layer.bias.flatten(), padding=1))
    torch.testing.assert_close(layer(x, w), torch.cat(images), rtol=1e-10, atol=1e-10)


def test_demodulated_outputs_have_unit_variance():
    torch.manual_seed(0)
    layer, n = ModulatedConv(8, 50, 6), 4000
    w = 3 * torch.randn(1, 6).expand(n, -1)
    with torch.no_grad():
        y = layer(torch.randn(n, 8, 3, 3), w)[:, :, 1, 1]
    error = math.sqrt(2 / n)
    assert ((y.var(0) - 1).abs() / error).max() < 4.5
    assert (y.var(0) - 1).mean().abs() < 4 * error / math.sqrt(50)


def test_styles_start_around_one_and_noise_at_nothing():
    generator = StyleGenerator(5, 0, SHAPE, WIDTHS, 2, 0.01, 0.0)
    styles = torch.randn(3, generator.layers, 5)
    images = [generator.synthesis(styles, noise) for noise in (True, True, False)]
    assert torch.equal(images[0], images[1])
    assert torch.equal(images[0], images[2])
    for layer in generator.synthesis.layers:
        assert not layer.convolution.style(torch.zeros(1, 5)).any()
        torch.nn.init.constant_(layer.strength, 1.0)
    one, two, quiet = (generator.synthesis(styles, noise) for noise in (True, True, False))
    assert not torch.equal(one, two)
    assert torch.equal(quiet, images[2])


def test_other_styles_from_a_layer_on_move_only_what_follows():
    generator = StyleGenerator(5, 0, SHAPE, WIDTHS, 2, 0.01, 0.0)
    assert generator.layers == 5
    maps = []
    for layer in generator.synthesis.layers:
        layer.register_forward_hook(lambda net, inputs, h: maps.append(h))
    styles, others = torch.randn(2, 3, 5, 5)
    generator.synthesis(styles)
    for first in range(6):
        generator.synthesis(crossed(styles, others, first))
        moved = [not torch.equal(a, b) for a, b in zip(maps[:5], maps[-5:], strict=True)]
        assert moved == [i >= first for i in range(5)]


def test_mixing_in_training_only():
    generator = StyleGenerator(5, 1, SHAPE, WIDTHS, 2, 0.01, 0.5)
    inputs = torch.randn(2000, 6)
    styles = generator.styles(inputs)
    plain = generator.mapping(inputs)
    assert torch.equal(styles[:, 0], plain)
    changes = (styles[:, 1:] != styles[:, :-1]).any(2).sum(1)
    assert changes.max() == 1
    assert changes.float().mean().item() == pytest.approx(0.5, abs=0.05)
    first = (styles[:, 1:] != styles[:, :-1]).any(2)[changes > 0].float().mean(0)
    assert (first - 0.25).abs().max() < 0.06  # every layer may be the first
    assert torch.equal(generator.eval().styles(inputs), plain[:, None].expand(-1, 5, -1))


def test_a_mapping_learns_more_slowly():
    """Weights of deviation 1/rate move as others do, and so w moves less by about the rate."""
    moves = []
    for rate in (1.0, 0.01):
        torch.manual_seed(0)
        net = Mapping(16, 0, 2, rate)
        z = torch.randn(500, 16)
        before = net(z)
        assert before.square().mean().item() == pytest.approx(1, rel=0.4)
        optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
        net(z)[:, 0].mean().backward()
        optimizer.step()
        moves.append((net(z) - before).abs().mean().item())
    assert moves[1] / moves[0] == pytest.approx(0.01, rel=0.2)
