"""Attention against torch's own, and the frequency and mean of dropout."""

import math

import pytest
import torch

from likely.nets.attention import QUERIES, Dropout, attention


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("length", [1, QUERIES, 3 * QUERIES - 7])
def test_written_out_attention_and_its_gradients_are_those_of_torch(causal, length):
    torch.manual_seed(0)
    inputs = torch.randn(3, 2, 3, length, 8, dtype=torch.float64)
    towards = torch.randn(2, 3, length, 8, dtype=torch.float64)
    results = []
    for function in (
        lambda q, k, v: attention(q, k, v, causal),
        lambda q, k, v: torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal),
    ):
        x = inputs.clone().requires_grad_()
        y = function(*x)
        results.append((y.detach(), *torch.autograd.grad(y, x, towards)))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


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
