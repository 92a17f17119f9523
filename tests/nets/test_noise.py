"""Inputs of a perceptron that sees a noise level, against quadrature and derivatives."""

import math

import pytest
import torch

from likely.nets.noise import BlurredSteps


@pytest.mark.parametrize("sigma", [1e-3, 0.05, 2.0])
def test_blurred_steps_are_means_over_the_noise_and_their_slopes(sigma):
    steps = BlurredSteps(3, 9).double()
    with torch.no_grad():
        steps.log_widths.add_(2)  # of which some are far above the noise, and some are not
        steps.normals.mul_(1.7)
    z = torch.randn(20, 3, dtype=torch.float64, requires_grad=True)
    step, slope = steps(z, torch.full((20, 1), sigma, dtype=torch.float64)).chunk(2, 1)

    normals = torch.nn.functional.normalize(steps.normals)
    noise = torch.linspace(-9, 9, 5001, dtype=torch.float64)
    density = (noise[1] - noise[0]) * torch.exp(-(noise**2) / 2) / math.sqrt(2 * math.pi)
    at = (z @ normals.T - steps.offsets)[..., None] - sigma * noise
    mean = (torch.erf(at / steps.log_widths.exp()[:, None] / math.sqrt(2)) * density).sum(-1)
    torch.testing.assert_close(step, mean, rtol=0, atol=1e-6)

    for i in range(9):
        (gradient,) = torch.autograd.grad(step[:, i].sum(), z, retain_graph=True)
        expected = math.sqrt(2 / math.pi) / sigma * slope[:, i, None] * normals[i]
        torch.testing.assert_close(gradient, expected)


def test_half_of_the_planes_start_across_single_columns():
    normals = BlurredSteps(3, 12).normals
    across = (normals.abs() > 0).sum(1) == 1
    assert across.sum() == 6
    assert normals[across].sum(0).tolist() == [2, 2, 2]
