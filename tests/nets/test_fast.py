"""Fast twins and their plain forms agree in values and gradients; the frequency of dropout."""

import math

import pytest
import torch
from torch.nn import functional as F

from likely.models.flows.spline import RationalQuadraticSpline
from likely.nets.attention import attention
from likely.nets.fast import QUERIES, Dropout, KnownGradients, columns, fused_attention, gate
from likely.nets.masked import MaskedMLP
from likely.nets.mlp import MLP


def assert_agree(function, plain, variables, tolerance=1e-12):
    """Values of both are close, and the gradients of a random combination of them."""
    results = []
    for f in (function, plain):
        value = f()
        torch.manual_seed(1)
        total = sum((torch.randn(part.shape, dtype=part.dtype) * part).sum() for part in value)
        results.append([*value, *torch.autograd.grad(total, variables)])
    torch.testing.assert_close(*results, rtol=tolerance, atol=tolerance)


def uniform(*shape):
    return (2 * torch.rand(*shape, dtype=torch.float64) - 1).requires_grad_()


@pytest.mark.parametrize("inputs", [0, 3])
@pytest.mark.parametrize("hidden", [(), (5,), (6, 6, 4)])
def test_perceptron_with_the_rows_last(inputs, hidden):
    net, x = MLP(inputs, 2, hidden).double(), uniform(7, inputs)
    variables = [*net.parameters(), *([x] if inputs else [])]
    assert_agree(lambda: [columns(net.layers, x.T).T], lambda: [net(x)], variables)


@pytest.mark.parametrize("context", [0, 3])
@pytest.mark.parametrize("inputs", [[2, 0, 1], [0, 0, 0]])
@pytest.mark.parametrize("hidden", [(8,), (9, 9, 6)])
def test_masked_perceptron(context, inputs, hidden):
    net = MaskedMLP(inputs, [1, 4, 2], hidden=hidden, context=context).double()
    x, c = uniform(7, sum(inputs)), uniform(7, context) if context else None
    variables = [*net.parameters(), *([x] if sum(inputs) else []), *([c] if context else [])]
    for masks in (None, net.masks([2, 0, 1])):
        assert_agree(
            lambda m=masks: [net(x, c, m)], lambda m=masks: [net.plain(x, c, m)], variables
        )


@pytest.mark.parametrize("shape", [(3, 8), (2, 6, 4, 5)])
@pytest.mark.parametrize("channels_last", [False, True])
def test_gate(shape, channels_last):
    x = uniform(*shape)
    if channels_last:
        x = x.detach().movedim(1, -1).contiguous().movedim(-1, 1).requires_grad_()

    def plain():
        a, b = x.chunk(2, 1)
        return [-(a / 2).tanh() * b.sigmoid()]

    assert_agree(lambda: [gate(x)], plain, [x])


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("length", [1, QUERIES, 3 * QUERIES - 7])
def test_attention(causal, length):
    q, k, v = (uniform(2, 3, length, 8) for _ in range(3))
    fused = lambda: [fused_attention(q, k, v, causal)]  # noqa: E731
    assert_agree(fused, lambda: [attention(q, k, v, causal)], [q, k, v])
    kernel = lambda: [F.scaled_dot_product_attention(q, k, v, is_causal=causal)]  # noqa: E731
    assert_agree(fused, kernel, [q, k, v])
    with torch.no_grad():  # torch's kernel
        torch.testing.assert_close(fused(), [attention(q, k, v, causal)], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("periodic", [(False, False), (True, True), (True, False)])
@pytest.mark.parametrize("bins", [1, 2, 8])
def test_spline(periodic, bins):
    torch.manual_seed(0)
    spline = RationalQuadraticSpline(torch.tensor(periodic), bins, bound=3.0)
    x = (math.pi * uniform(2, 600)).detach().requires_grad_()  # beyond the bounds, too
    theta = torch.randn(2, spline.size, 600, dtype=torch.float64, requires_grad=True)
    assert_agree(
        lambda: spline(x, theta), lambda: spline.plain(x, theta)[:2], [x, theta], tolerance=1e-9
    )


def test_known_gradients():
    x, weight = torch.rand(9, 3, dtype=torch.float64), uniform(3)

    def known():
        with torch.no_grad():
            value = (x @ weight).exp()
        return [KnownGradients.apply(value, lambda g: ((g * value) @ x,), weight)]

    assert_agree(known, lambda: [(x @ weight).exp()], [weight])


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_dropout_drops_a_known_part_and_keeps_the_mean(p):
    torch.manual_seed(0)
    n = 1_000_003
    x = torch.ones(n, requires_grad=True)
    y = Dropout(p)(x)
    part = round(256 * p) / 256
    assert y.eq(0).float().mean().item() == pytest.approx(part, abs=5 * math.sqrt(part / n))
    assert y.max().item() == pytest.approx(1 / (1 - part))
    (gradient,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(gradient, y.detach())
    assert torch.equal(Dropout(p).eval()(x), x)
