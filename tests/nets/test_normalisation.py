"""Rescaled layers and normalised batches against singular values, closed forms and plain layers."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from likely.nets.normalisation import (
    ConditionalBatchNorm,
    Equalised,
    MinibatchDeviation,
    SpectralNorm,
    batch_norms,
    converge,
    standing_statistics,
)

LAYERS = [nn.Linear(7, 5), nn.Conv2d(3, 8, 3, padding=1)]


def example(layer):
    return torch.randn(4, 7) if isinstance(layer, nn.Linear) else torch.randn(4, 3, 6, 6)


def largest(spectral):
    matrix = (spectral.scale() * spectral.layer.weight).flatten(1)
    return torch.linalg.svdvals(matrix)[0].item()


@pytest.mark.parametrize("layer", LAYERS, ids=["linear", "conv"])
def test_power_iterations_find_the_largest_singular_value(layer):
    spectral = SpectralNorm(copy.deepcopy(layer))
    spectral.u.copy_(F.normalize(torch.randn_like(spectral.u), dim=0))
    x = example(layer)
    spectral.eval()
    assert largest(spectral) > 1.02
    before = spectral(x)
    assert torch.equal(spectral(x), before)  # no iteration in evaluation
    spectral.train()
    for _ in range(50):
        spectral(x)
    assert largest(spectral) == pytest.approx(1, abs=1e-3)
    with torch.no_grad():
        spectral.layer.weight.normal_()
    converge(spectral)
    assert largest(spectral) == pytest.approx(1, abs=1e-5)


def test_the_gradient_sees_the_singular_value():
    # W/σ does not change with the scale of W: its slope along W is zero.
    spectral = SpectralNorm(nn.Linear(6, 4)).double()
    first, second = spectral(torch.randn(3, 6).double()), spectral(torch.randn(3, 6).double())
    (gradient,) = torch.autograd.grad((first + second).square().sum(), spectral.layer.weight)
    assert (gradient * spectral.layer.weight).sum().item() == pytest.approx(0, abs=1e-5)
    assert gradient.norm() > 0.1


@pytest.mark.parametrize(
    "layer", [*LAYERS, nn.ConvTranspose2d(16, 8, 4, 2, 1)], ids=["linear", "conv", "transposed"]
)
def test_equalised_layers_keep_the_variance_of_a_rectifier(layer):
    torch.manual_seed(0)
    equalised = Equalised(copy.deepcopy(layer))
    assert equalised.layer.weight.std().item() == pytest.approx(1, rel=0.3)
    shape = (2000, 7) if isinstance(layer, nn.Linear) else (200, layer.in_channels, 8, 8)
    y = equalised(F.relu(torch.randn(shape)))
    assert y[..., 2:-2].square().mean().item() == pytest.approx(1, rel=0.4)


def test_layers_are_scaled_wherever_they_are():
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.ModuleDict({"a": nn.Conv2d(1, 2, 3)}))
    SpectralNorm.layers_of(net)
    assert [type(m) for m in (net[0], net[1], net[2]["a"])] == [SpectralNorm, nn.ReLU, SpectralNorm]


@pytest.mark.parametrize("training", [True, False])
def test_a_conditional_norm_is_one_affine_norm_for_each_class(training):
    classes, channels = 3, 5
    conditional = ConditionalBatchNorm(channels, classes).double()
    with torch.no_grad():
        conditional.gain.normal_()
        conditional.shift.normal_()
        conditional.running_mean.normal_()
        conditional.running_var.uniform_(0.5, 2)
    h = torch.randn(12, channels, 4, 3, dtype=torch.float64)
    label = torch.arange(12) % classes
    plain = []
    for k in range(classes):
        norm = nn.BatchNorm2d(channels).double()
        norm.load_state_dict(
            {
                "weight": 1 + conditional.gain[:, k],
                "bias": conditional.shift[:, k],
                **dict(conditional.named_buffers()),
            }
        )
        plain.append(norm.train(training)(h))
    expected = torch.stack(plain)[label, torch.arange(12)]
    found = conditional.train(training)(h, F.one_hot(label, classes).double())
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_standing_statistics_are_means_over_batches():
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)).eval()
    batches = [torch.randn(9, 1, 3, 3) for _ in range(4)]
    net[1].running_mean.fill_(7)
    standing_statistics(net, batches)
    maps = torch.stack([net[0](x) for x in batches])
    torch.testing.assert_close(net[1].running_mean, maps.mean((0, 1, 3, 4)))
    torch.testing.assert_close(
        net[1].running_var, maps.transpose(1, 2).flatten(2).var(2).mean(0), rtol=1e-4, atol=1e-5
    )
    assert not net.training
    assert net[1].momentum == 0.1
    assert list(batch_norms(net)) == ["1"]


def test_the_deviation_over_a_batch():
    layer = MinibatchDeviation()
    same = torch.randn(1, 3, 2, 2).expand(6, -1, -1, -1)
    assert layer(same)[:, 3].abs().max() < 1e-3
    h = torch.randn(6, 3, 2, 2)
    expected = h.std(0, correction=0).mean().item()
    for _ in range(200):
        seen = layer(h)
    assert torch.equal(seen[:, :3], h)
    assert torch.allclose(seen[:, 3], torch.tensor(expected))
    layer.eval()
    torch.testing.assert_close(layer(h[:1]), layer(h)[:1], rtol=0, atol=0)
    assert layer(same)[0, 3, 0, 0].item() == pytest.approx(expected, rel=1e-3)
    assert not math.isnan(layer(h[:1]).sum().item())
