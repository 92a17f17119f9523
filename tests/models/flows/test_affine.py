"""Additive and affine maps: inverse, slope against autograd, the bound on the scale."""

import pytest
import torch

from likely.models.flows.affine import MAX_LOG_SCALE, Additive, Affine


@pytest.mark.parametrize("kind", [Additive, Affine])
@pytest.mark.parametrize("scale", [0.1, 1, 10, 100])
def test_inverse_and_slope(kind, scale):
    bijection = kind(3)
    x = (scale * torch.randn(3, 50, dtype=torch.float64)).requires_grad_()
    theta = scale * torch.randn(3, kind.size, 50, dtype=torch.float64)
    y, log_slope = bijection(x, theta)
    (slope,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(log_slope, slope.log())
    torch.testing.assert_close(bijection.inverse(y, theta), x, rtol=1e-9, atol=1e-9 * scale)


def test_the_bound_of_the_scale_is_soft_and_odd():
    raw = torch.linspace(-30, 30, 601, dtype=torch.float64)
    theta = torch.stack([torch.zeros_like(raw), raw])[None]
    y, log_scale = Affine(torch.tensor([False]))(
        torch.ones(1, len(raw), dtype=torch.float64), theta
    )
    torch.testing.assert_close(y, log_scale.exp())
    torch.testing.assert_close(log_scale, -log_scale.flip(1))
    assert log_scale.abs().max() <= MAX_LOG_SCALE
    near = raw.abs() < 0.11
    torch.testing.assert_close(log_scale[0, near], raw[near], rtol=2e-3, atol=1e-12)
