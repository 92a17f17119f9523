"""Networks of images that grow: at the start of a level they are those of the level before."""

import math

import pytest
import torch
from torch.nn import functional as F

from likely.nets.growing import GrowingFeatures, GrowingGenerator
from likely.nets.normalisation import Equalised, MinibatchDeviation, pixel_norm

SHAPE, WIDTHS = (2, 24, 32), (4, 8)  # of 6 × 8, 12 × 16 and 24 × 32 pixels


def networks():
    torch.manual_seed(0)
    nets = GrowingGenerator(5, 2, SHAPE, WIDTHS), GrowingFeatures(SHAPE, WIDTHS)
    return [Equalised.layers_of(net).double() for net in nets]


def halved(u, edge):
    return F.avg_pool2d(u.unflatten(1, SHAPE), edge)


@pytest.mark.parametrize("level", [1, 2])
def test_a_level_begins_as_the_one_before(level):
    generator, features = networks()
    z = torch.randn(3, 7, dtype=torch.float64)
    u = torch.randn(3, math.prod(SHAPE), dtype=torch.float64)
    before, after = generator.at(z, level - 1, 1.0), generator.at(z, level, 0.0)
    torch.testing.assert_close(after, before, rtol=0, atol=1e-12)
    edge = 2 ** (3 - level)
    coarse = F.interpolate(halved(before, edge), scale_factor=edge)  # nothing is lost
    torch.testing.assert_close(coarse.flatten(1), before)
    # The critic sees the images that the level before would, halved once more.
    means = F.interpolate(halved(u, edge), scale_factor=edge).flatten(1)
    torch.testing.assert_close(features.at(u, level, 0.0), features.at(means, level - 1, 1.0))
    assert not torch.allclose(features.at(u, level, 1.0), features.at(means, level, 1.0))


def test_what_a_level_leaves_behind_no_longer_learns():
    for net, rows, old in zip(
        networks(),
        (torch.randn(3, 7).double(), torch.randn(3, math.prod(SHAPE)).double()),
        (lambda g: g.to_image[1], lambda f: f.coarser[0]),
        strict=True,
    ):
        for fade, learns in ((1.0, False), (0.5, True)):
            net.zero_grad()
            net.at(rows, 2, fade).sum().backward()
            gradient = old(net).layer.weight.grad
            assert (gradient is not None and bool(gradient.any())) == learns


def test_levels_and_fractions():
    generator, _ = networks()
    for grown, expected in ((0.0, (0, 1.0)), (0.25, (1, 0.25)), (1.0, (1, 1.0)), (1.5, (2, 0.5))):
        generator.grown.fill_(grown)
        assert generator.level() == expected
        z = torch.randn(2, 7, dtype=torch.float64)
        assert torch.equal(generator(z), generator.at(z, *expected))


def test_real_images_fade_as_the_critic_does():
    """At α it sees (1 − α) up(down(x)) + α x of what its level resolves."""
    _, features = networks()
    u = torch.randn(3, math.prod(SHAPE), dtype=torch.float64)
    features.grown.fill_(0.25)  # the second of three resolutions
    fine, coarse = (F.interpolate(halved(u, edge), scale_factor=edge) for edge in (2, 4))
    seen = halved(features.faded(u), 2)
    torch.testing.assert_close(seen, halved((0.75 * coarse + 0.25 * fine).flatten(1), 2))
    for grown in (0.0, 1.0, 2.0):
        features.grown.fill_(grown)
        assert features.faded(u) is u


def test_weights_times_their_constant():
    """He's deviation, √(2/inputs), whatever a layer's size."""
    for net in networks():
        for layer in (m for m in net.modules() if isinstance(m, Equalised)):
            weight = layer.scale() * layer.layer.weight
            deviation = math.sqrt(2 / weight[0].numel())
            error = deviation / math.sqrt(2 * weight.numel())
            assert abs(weight.std().item() - deviation) < 4 * error


def test_a_critic_sees_equal_rows():
    features = GrowingFeatures(SHAPE, WIDTHS, minibatch_std=True)
    maps = []
    layer = next(m for m in features.modules() if isinstance(m, MinibatchDeviation))
    layer.register_forward_hook(lambda net, inputs, h: maps.append(h[:, -1]))
    u = torch.randn(6, math.prod(SHAPE))
    features(u[:1].expand(6, -1))
    features(u)
    assert maps[0].abs().max() < 1e-3 < maps[1].abs().min()


def test_norms_at_each_place():
    h = pixel_norm(torch.randn(3, 5, 2, 2))
    torch.testing.assert_close(h.square().mean(1), torch.ones(3, 2, 2))
