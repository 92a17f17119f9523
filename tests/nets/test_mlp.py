"""The multilayer perceptron: rows first or last."""

import pytest
import torch

from likely.nets.mlp import MLP


@pytest.mark.parametrize("inputs", [0, 3])
@pytest.mark.parametrize("hidden", [(), (5,), (6, 6, 4)])
def test_rows_may_be_first_or_last(inputs, hidden):
    net = MLP(inputs, 2, hidden).double()
    x = torch.randn(7, inputs, dtype=torch.float64, requires_grad=True)
    y, columns = net(x), net.columns(x.T)
    torch.testing.assert_close(columns.T, y)
    weight = torch.randn_like(y)
    variables = [*net.parameters(), *([x] if inputs else [])]
    expected = torch.autograd.grad((weight * y).sum(), variables)
    found = torch.autograd.grad((weight * columns.T).sum(), variables)
    torch.testing.assert_close(found, expected)
