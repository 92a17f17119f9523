"""PixelRNN: what a pixel sees, exact sums, an ordinary LSTM, a pass pixel by pixel."""

import itertools
import math

import pytest
import torch

import likely as lk
from likely.core.errors import LikelyError
from likely.models.autoregressive import PixelRNN

BITS = lk.binary(3, 3, layout="image")
BIT_IMAGES = torch.tensor(list(itertools.product([0, 1], repeat=9))).view(-1, 3, 3)
CELLS = pytest.mark.parametrize("cell", ["row", "diagonal"])


def pixelrnn(domain=BITS, spread=0.3, **options):
    """A model with random weights, away from its start."""
    small = {"layers": 2, "hidden": 3, "first_kernel": 3, "components": 3}
    model = PixelRNN(domain, **{**small, **options}).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(spread * torch.randn_like(parameter))
        model.net.layers[-1].weight.mul_(0.2)  # or conditionals would be nearly certain
    return model.eval()


@pytest.mark.parametrize(
    ("cell", "options"),
    [
        ("row", {}),
        ("row", {"layers": 1}),
        ("row", {"layers": 1, "kernel": 1}),
        ("row", {"layers": 1, "kernel": 5, "first_kernel": 5}),
        ("diagonal", {}),
        ("diagonal", {"layers": 1}),
    ],
    ids=str,
)
def test_a_pixel_sees_its_triangle_or_all_before_it_and_nothing_else(cell, options):
    model = pixelrnn(lk.binary(6, 11, layout="image"), cell=cell, **options)
    maps = torch.randn(1, 1, 6, 11, dtype=torch.float64)
    h = lambda maps: model._hidden(maps, None)[0].flatten(1).sum(0)  # noqa: E731
    seen = torch.autograd.functional.jacobian(h, maps).view(66, 66) != 0
    places = torch.cartesian_prod(torch.arange(6), torch.arange(11))
    up, left = (places[:, None] - places).unbind(2)  # from who sees to what is seen
    expected = (up > 0) | ((up == 0) & (left > 0))
    if cell == "row":
        # The first layer reaches `first` to each side, and rows above; each row adds `side`, and
        # each layer as much to the left.
        first, side = model.side, model.layers[0].side
        right = torch.where(up > 0, first + side * (up - 1), 0)
        most = first + side * (up + len(model.layers))
        expected &= (left >= -right) & (left <= most)
    assert torch.equal(seen, expected)


@CELLS
@pytest.mark.parametrize("shape", [(3, 3), (1, 6), (6, 1), (1, 1)], ids=str)
def test_sums_to_one(cell, shape):
    model = pixelrnn(lk.binary(*shape, layout="image"), cell=cell)
    images = list(itertools.product([0, 1], repeat=math.prod(shape)))
    value = model.log_prob(torch.tensor(images).view(-1, *shape))
    assert value.exp().sum().item() == pytest.approx(1, abs=1e-12)
    assert value.std() > 0.1 or shape == (1, 1)  # far from uniform


def test_a_diagonal_lstm_of_one_row_is_an_ordinary_lstm():
    model = pixelrnn(lk.binary(1, 9, layout="image"), cell="diagonal", layers=1)
    layer, size = model.layers[0], 3
    lstm = torch.nn.LSTM(2 * size, size).double()
    order = torch.arange(4 * size).view(4, size)[[0, 1, 3, 2]].flatten()  # i, f, g, o
    with torch.no_grad():
        lstm.weight_ih_l0.copy_(layer.enter[0].weight[order])
        lstm.weight_hh_l0.copy_(layer.recur[0].weight[order, size:])  # of the pixel to the left
        lstm.bias_ih_l0.copy_(layer.enter[0].bias[order])
        lstm.bias_hh_l0.zero_()
        x = torch.randn(1, 2 * size, 9, 4, dtype=torch.float64)
        pixels = torch.randn(1, 1, 9, 4, dtype=torch.float64)
        h = lstm(x[0].permute(1, 2, 0))[0]
        expected = x[0] + layer.leave(h).permute(2, 0, 1)
        torch.testing.assert_close(layer(x, pixels, None)[0], expected, rtol=1e-12, atol=1e-12)


CASES = [
    (lk.binary(4, 5, layout="image"), {"first_kernel": 7}),
    (lk.integers(4, 3, 3, 4, layout="image"), {"kernel": 5}),
    (lk.reals(2, 3, 3), {"layers": 1}),
    (lk.binary(4, 1, layout="image"), {}),
    (lk.binary(1, 4, layout="image"), {}),
]
NAMES = ["binary", "levels", "reals", "column", "row"]


@CELLS
@pytest.mark.parametrize("context", [None, lk.table(lk.Categorical(3))], ids=["", "classes"])
@pytest.mark.parametrize(("domain", "options"), CASES, ids=NAMES)
def test_caches_draw_what_the_whole_network_draws(cell, domain, options, context, same_as_rerun):
    same_as_rerun(pixelrnn(domain, cell=cell, context=context, **options))


@CELLS
def test_sampling_takes_no_pass_of_the_whole_network(cell, monkeypatch):
    model = pixelrnn(cell=cell)
    monkeypatch.setattr(PixelRNN, "_hidden", None)
    assert model.sample(2).shape == (2, 3, 3)
    assert model.sample(0).shape == (0, 3, 3)


def test_even_kernels_are_refused():
    for options in ({"kernel": 4}, {"first_kernel": 6}):
        with pytest.raises(LikelyError, match="odd"):
            PixelRNN(BITS, **options)
