"""MaskedMLP: what sees what, and the incremental pass against the ordinary one."""

import pytest
import torch

from likely.core.errors import LikelyError
from likely.nets import masked
from likely.nets.masked import MaskedMLP

INPUTS = [2, 0, 1, 3, 1]  # features and outputs of five entries, some without any
OUTPUTS = [1, 4, 3, 0, 2]
ORDERS = [None, [4, 3, 2, 1, 0], [2, 0, 4, 1, 3]]
HIDDEN = [(60,), (60, 60), (80, 60, 60, 40)]


@pytest.fixture(autouse=True)
def _several_blocks(monkeypatch):
    monkeypatch.setattr(masked, "AHEAD", 2)


def with_direct(*sizes, **options):
    """A network whose direct connections are not zero."""
    net = MaskedMLP(*sizes, direct=True, **options)
    torch.nn.init.normal_(net.direct)
    return net


def position_of(order):
    order = list(range(5)) if order is None else order
    return {entry: p for p, entry in enumerate(order)}


def blocks(jacobian):
    """Largest |∂ output / ∂ input| over rows, between entries; a dictionary."""
    largest = jacobian.abs().amax(0)
    return {
        (i, j): part.max().item()
        for i, rows in enumerate(largest.split(OUTPUTS))
        for j, part in enumerate(rows.split(INPUTS, 1))
        if part.numel()
    }


def jacobian(function, x):
    """Row by row, shape (n, outputs, inputs)."""
    return torch.stack(
        [torch.autograd.functional.jacobian(function, row[None])[0, :, 0] for row in x]
    )


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("hidden", HIDDEN)
@pytest.mark.parametrize("context", [0, 3])
def test_an_output_sees_exactly_the_entries_before_it(order, hidden, context):
    net = with_direct(INPUTS, OUTPUTS, order=order, hidden=hidden, context=context)
    c = torch.randn(1, context) if context else None
    position = position_of(order)
    for (i, j), moved in blocks(jacobian(lambda x: net(x, c), torch.randn(20, 7))).items():
        assert (moved > 0) == (position[j] < position[i]), (i, j)


def test_another_ordering_by_its_masks():
    net = MaskedMLP(INPUTS, OUTPUTS, hidden=(60, 60))
    masks, position = net.masks(ORDERS[2]), position_of(ORDERS[2])
    moved = blocks(jacobian(lambda x: net(x, None, masks), torch.randn(20, 7)))
    assert all((size > 0) == (position[j] < position[i]) for (i, j), size in moved.items())


@pytest.mark.parametrize("order", ORDERS)
def test_every_output_sees_the_context(order):
    net = MaskedMLP(INPUTS, OUTPUTS, order=order, hidden=(60, 60), context=3)
    x = torch.randn(1, 7)
    assert (jacobian(lambda c: net(x, c), torch.randn(20, 3)).abs().amax(0) > 0).all()


def test_fewer_hidden_units_than_entries():
    net = MaskedMLP([1] * 9, [2] * 9, hidden=(4, 4))
    largest = jacobian(net, torch.randn(20, 9)).abs().amax(0).reshape(9, 2, 9).amax(1)
    assert (largest.triu() == 0).all()


def run_incrementally(net, x, context, order):
    features, outputs = x.split(net.inputs, 1), [None] * len(net.inputs)
    incremental = net.incremental(len(x), context, order)
    for i in range(len(net.inputs)) if order is None else order:
        outputs[i] = incremental.outputs()
        incremental.feed(features[i])
    return torch.cat(outputs, 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("hidden", [*HIDDEN, (3, 3)])
@pytest.mark.parametrize("context", [0, 3])
@pytest.mark.parametrize("make", [MaskedMLP, with_direct])
def test_incremental_pass_equals_ordinary_pass(make, dtype, order, hidden, context):
    net = make(INPUTS, OUTPUTS, order=order, hidden=hidden, context=context).to(dtype)
    x = torch.randn(6, 7, dtype=dtype)
    c = torch.randn(6, context, dtype=dtype) if context else None
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    expected = net(x, c)
    found = run_incrementally(net, x, c, order)
    assert found.dtype == dtype
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=0)
    other = ORDERS[2]
    torch.testing.assert_close(
        run_incrementally(net, x, c, other), net(x, c, net.masks(other)), atol=tolerance, rtol=0
    )


@pytest.mark.parametrize("inputs", [[1], [0], [0, 0]])
@pytest.mark.parametrize("context", [0, 2])
def test_without_anything_to_see(inputs, context):
    net = MaskedMLP(inputs, [2] * len(inputs), hidden=(5, 5), context=context)
    x, c = torch.randn(4, sum(inputs)), torch.randn(4, context) if context else None
    torch.testing.assert_close(net(x, c), run_incrementally(net, x, c, None))
    assert (net(x, c).std(0) > 0).all() == bool(context)


def test_selected_rows_go_on():
    net = with_direct(INPUTS, OUTPUTS, hidden=(60, 60), context=3)
    x, c, rows = torch.randn(6, 7), torch.randn(6, 3), torch.tensor([5, 0, 0, 3])
    features, outputs = x.split(INPUTS, 1), net(x, c).split(OUTPUTS, 1)
    incremental = net.incremental(6, c)
    for i in range(2):
        incremental.feed(features[i])
    incremental.select(rows)
    for i in range(2, 5):
        torch.testing.assert_close(incremental.outputs(), outputs[i][rows], atol=1e-5, rtol=0)
        incremental.feed(features[i][rows])


def test_no_hidden_layer_is_refused():
    with pytest.raises(LikelyError, match="hidden"):
        MaskedMLP([1, 1], [1, 1], hidden=())
