"""Splines: inverse, slope against autograd, knots and bounds, the circle's seam, extreme input."""

import math

import pytest
import torch

from likely.flows.bijections.spline import RationalQuadraticSpline

LINE, CIRCLE = torch.tensor([False, False]), torch.tensor([True, True])


def parameters(spline, n, scale=1.0, dtype=torch.float64):
    return scale * torch.randn(n, len(spline.periodic), spline.size, dtype=dtype)


def test_zero_parameters_give_the_identity():
    spline = RationalQuadraticSpline(torch.tensor([False, True]))
    x = torch.linspace(-3, 3, 50, dtype=torch.float64)[:, None].expand(-1, 2)
    y, log_slope = spline(x, torch.zeros(50, 2, spline.size, dtype=torch.float64))
    torch.testing.assert_close(y, x)
    torch.testing.assert_close(log_slope, torch.zeros_like(x))


@pytest.mark.parametrize("periodic", [LINE, CIRCLE, torch.tensor([True, False])])
@pytest.mark.parametrize("scale", [0.1, 1, 10, 100])
def test_inverse_and_slope(periodic, scale):
    spline = RationalQuadraticSpline(periodic, bins=6)
    x = scale * torch.randn(400, 2, dtype=torch.float64)
    x = torch.where(periodic, torch.remainder(x + math.pi, 2 * math.pi) - math.pi, x)
    theta = parameters(spline, 400)
    x.requires_grad_()
    y, log_slope = spline(x, theta)
    (slope,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(log_slope, slope.log())
    torch.testing.assert_close(spline.inverse(y, theta), x.detach(), rtol=1e-9, atol=1e-9)


def test_exactly_on_knots_and_bounds():
    spline = RationalQuadraticSpline(torch.tensor([False]), bins=4, bound=2.0)
    theta = parameters(spline, 1)
    knots = spline._knots(theta, spline.periodic)[0].flatten()
    x = knots[:, None].clone().requires_grad_()
    y, log_slope = spline(x, theta.expand(5, -1, -1))
    assert y.diff(dim=0).min() > 0
    torch.testing.assert_close(y[[0, -1], 0], torch.tensor([-2.0, 2.0], dtype=torch.float64))
    torch.testing.assert_close(log_slope[[0, -1], 0], torch.zeros(2, dtype=torch.float64))
    assert torch.autograd.grad(y.sum() + log_slope.sum(), x)[0].isfinite().all()
    torch.testing.assert_close(spline.inverse(y.detach(), theta.expand(5, -1, -1)), x.detach())


def test_slope_is_continuous_across_the_seam():
    spline = RationalQuadraticSpline(torch.tensor([True]))
    theta = parameters(spline, 1).expand(2, -1, -1)
    y, log_slope = spline(torch.tensor([[-math.pi], [math.pi - 1e-12]], dtype=torch.float64), theta)
    torch.testing.assert_close(log_slope[0], log_slope[1])
    torch.testing.assert_close(y[0].cos(), y[1].cos())
    torch.testing.assert_close(y[0].sin(), y[1].sin())


@pytest.mark.parametrize("scale", [1.0, 30.0, 1000.0])
def test_float32_stays_finite_for_any_parameters(scale):
    spline = RationalQuadraticSpline(LINE)
    theta = parameters(spline, 2000, scale, torch.float32).requires_grad_()
    x = (10 * torch.randn(2000, 2)).requires_grad_()
    y, log_slope = spline(x, theta)
    (y.sum() + log_slope.sum()).backward()
    assert y.isfinite().all()
    assert log_slope.isfinite().all()
    assert theta.grad.isfinite().all()
    assert x.grad.isfinite().all()
    assert spline.inverse(y.detach(), theta.detach()).isfinite().all()


@pytest.mark.parametrize("where", [-50.0, 50.0])
def test_whole_batch_in_the_tails(where):
    spline = RationalQuadraticSpline(LINE)
    x = torch.full((3, 2), where)
    y, log_slope = spline(x, parameters(spline, 3, dtype=torch.float32))
    assert (y == x).all()
    assert (log_slope == 0).all()
