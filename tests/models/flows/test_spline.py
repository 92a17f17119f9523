"""Splines: inverse, slope against autograd, knots and bounds, the circle's seam, extreme input."""

import math

import pytest
import torch

from likely.models.flows import spline as splines

LINE, CIRCLE = torch.tensor([False, False]), torch.tensor([True, True])
MIXED = torch.tensor([True, False])


class RationalQuadraticSpline(splines.RationalQuadraticSpline):
    """With rows first, as the formulas here have them."""

    def forward(self, x, parameters):
        y, log_slope = super().forward(x.T, parameters.movedim(0, -1))
        return y.T, log_slope.T

    def inverse(self, y, parameters):
        return super().inverse(y.T, parameters.movedim(0, -1)).T


def plain_knots(spline, theta):
    """Positions, values and slopes of all knots, written as in the paper: each (n, entries, K + 1)."""
    K = spline.bins
    half = torch.where(spline.periodic, torch.tensor(math.pi, dtype=theta.dtype), spline.bound)
    positions = []
    for logits in theta[..., : 2 * K].split(K, -1):
        parts = 1e-3 + (1 - 1e-3 * K) * torch.softmax(logits, -1)
        edges = torch.cat([torch.zeros_like(parts[..., :1]), parts.cumsum(-1)], -1)
        positions.append((2 * edges - 1) * half[:, None])
    zero = math.log(math.expm1(0.999))  # where the slope is 1
    slopes = 1e-3 + torch.logaddexp(
        theta[..., 2 * K : 3 * K] + zero, torch.zeros_like(theta[..., :1])
    )
    one = torch.ones_like(theta[..., :1])
    if not spline.circles:
        return *positions, torch.cat([one, slopes, one], -1)
    end = torch.where(spline.periodic[:, None], slopes[..., :1], one)
    return *positions, torch.cat([end, slopes[..., 1:], end], -1)


def plain(spline, x, theta):
    """The spline and the logarithms of its slopes from all of its pieces (eqs. 4 and 5)."""
    knots_x, knots_y, slopes = plain_knots(spline, theta)
    y, log_slope = x, torch.zeros_like(x)
    for k in range(spline.bins):
        left, right = knots_x[..., k], knots_x[..., k + 1]
        here = (x >= left) & ((x < right) | (k == spline.bins - 1) & (x <= right))
        w, h = right - left, knots_y[..., k + 1] - knots_y[..., k]
        s, d, d1 = h / w, slopes[..., k], slopes[..., k + 1]
        xi = torch.where(here, (x - left) / w, 0.5)
        beta = s + (d1 + d - 2 * s) * xi * (1 - xi)
        value = knots_y[..., k] + h * (s * xi**2 + d * xi * (1 - xi)) / beta
        slope = s**2 * (d1 * xi**2 + 2 * s * xi * (1 - xi) + d * (1 - xi) ** 2) / beta**2
        y, log_slope = torch.where(here, value, y), torch.where(here, slope.log(), log_slope)
    if spline.circles:
        turned = torch.remainder(y + theta[..., -1] + math.pi, 2 * math.pi) - math.pi
        y = torch.where(spline.periodic, turned, y)
    return y, log_slope


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
    knots = plain_knots(spline, theta)[0].flatten()
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


def values_and_gradients(function, x, theta, of_y, of_log):
    """y, log-slope and the gradients of a random combination of both, in x and the parameters."""
    x, theta = x.clone().requires_grad_(), theta.clone().requires_grad_()
    y, log_slope = function(x, theta)
    total = (of_y * y).sum() + (of_log * log_slope).sum()
    return [y.detach(), log_slope.detach(), *torch.autograd.grad(total, (x, theta))]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("periodic", [LINE, CIRCLE, MIXED])
@pytest.mark.parametrize("bins", [1, 2, 8])
@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
def test_values_and_written_derivatives_against_the_plain_formula(dtype, periodic, bins, scale):
    torch.manual_seed(0)
    spline = RationalQuadraticSpline(periodic, bins, bound=3.0)
    theta = parameters(spline, 600, scale)
    x = 3 * torch.randn(600, 2, dtype=torch.float64)
    x = torch.where(periodic, torch.remainder(x + math.pi, 2 * math.pi) - math.pi, x)
    of_y, of_log = torch.randn(2, 600, 2, dtype=torch.float64)
    expected = values_and_gradients(lambda *a: plain(spline, *a), x, theta, of_y, of_log)
    # In memory, rows may be first or last.
    for order in (lambda t: t, lambda t: t.movedim(0, -1).contiguous().movedim(-1, 0)):
        inputs = [order(t.to(dtype)) for t in (x, theta, of_y, of_log)]
        for ours, theirs in zip(values_and_gradients(spline, *inputs), expected, strict=True):
            assert ours.dtype == dtype
            if dtype == torch.float64:
                torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
                continue
            # Rounding moves rows near steep knots: a row in a thousand may be off.
            off = (ours - theirs).abs() / (1 + theirs.abs())
            assert off.double().quantile(0.999) < 2e-3 * max(1.0, scale)
            assert off.median() < 1e-5


@pytest.mark.parametrize("periodic", [LINE, MIXED])
def test_derivatives_exactly_on_knots_and_bounds(periodic):
    spline = RationalQuadraticSpline(periodic, bins=4)
    theta = parameters(spline, 1).expand(5, -1, -1)
    x = plain_knots(spline, theta[:1])[0][0].T.contiguous()
    y, log_slope, by_x, by_theta = values_and_gradients(
        spline, x, theta, torch.ones_like(x), torch.zeros_like(x)
    )
    torch.testing.assert_close(by_x, log_slope.exp())  # the slope is continuous there
    near = values_and_gradients(
        lambda *a: plain(spline, *a), x * (1 - 1e-9), theta, torch.ones_like(x), torch.zeros_like(x)
    )
    torch.testing.assert_close(
        [y, log_slope, by_theta], [near[i] for i in (0, 1, 3)], rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("periodic", [LINE, CIRCLE, MIXED])
def test_second_derivatives(periodic):
    spline = RationalQuadraticSpline(periodic, bins=3)
    x = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    theta = parameters(spline, 3).requires_grad_()
    assert torch.autograd.gradgradcheck(spline, (x, theta))


def test_nothing_is_seen_beyond_the_bounds():
    spline = RationalQuadraticSpline(LINE)
    x = torch.tensor([[-6.0, 5.5], [7.0, -1e30]]).requires_grad_()
    theta = parameters(spline, 2, dtype=torch.float32).requires_grad_()
    y, log_slope = spline(x, theta)
    by_x, by_theta = torch.autograd.grad(y.sum() + log_slope.sum(), (x, theta))
    assert (by_x == 1).all()
    assert (by_theta == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [10.0, 100.0])
def test_knots_of_the_narrowest_and_steepest_bins(dtype, scale):
    torch.manual_seed(0)
    spline = RationalQuadraticSpline(LINE)
    theta = parameters(spline, 500, scale).to(dtype)
    for k in range(spline.bins + 1):
        x = plain_knots(spline, theta)[0][..., k].clone().requires_grad_()
        y, log_slope = spline(x, theta)
        (by_x,) = torch.autograd.grad(y.sum() + log_slope.sum(), x)
        for values in (y, log_slope, by_x, spline.inverse(y.detach(), theta)):
            assert values.isfinite().all()


def test_derivatives_are_mapped_over_values_or_parameters():
    spline = RationalQuadraticSpline(MIXED, bins=3)
    x, theta = torch.randn(4, 2, dtype=torch.float64), parameters(spline, 1)
    expected = [spline(row[None], theta)[0] for row in x]
    mapped = torch.func.vmap(lambda row: spline(row[None], theta)[0])(x)
    torch.testing.assert_close(mapped, torch.stack(expected))
