"""PixelRNN: recurrent networks over the pixels before, Row LSTM and Diagonal BiLSTM.

    [i, f, o, g] = K_ss ∗ h_before + K_is ∗ x,   c = σ(f) c_before + σ(i) tanh(g),   h = σ(o) tanh(c)

after a convolution of 7 × 7 pixels before, in residual layers x + W h of twice the width of h. A Row LSTM
comes from the row above: K_ss are k columns there, K_is the present pixel and those to the left, so that
what it sees of the rows above is a triangle. A diagonal one comes from the pixels to the left and above,
and a mirrored one from those to the right and above; this, moved down by one row, is added. Together they
see all pixels before. (van den Oord, Kalchbrenner & Kavukcuoglu 2016, arXiv:1601.06759, secs. 3.1 to 3.4.)

The last pixel of the row above is out of sight of the diagonal LSTMs of the paper: what they read at a pixel
does not hold the pixel itself. Here the mirrored one, which comes a row late, also reads the pixels.

K_is is applied to all pixels at once; with the skewed map, whose columns are diagonals, a diagonal LSTM takes
a step a column, in both directions at once. Time is bound by these steps: in a layer one after the other as
many as there are rows, or rows and columns, each a product and seven elementwise operations on all rows of
the batch, whose results are kept for the gradient. Diagonals waste half of the skewed map.
"""

from collections import deque
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from likely.contract import Range, Recipe, register
from likely.core.domain import Domain
from likely.models.autoregressive.pixels import SMALL, Maps, PixelModel, check_odd
from likely.nets.mlp import Context

# Rows of the batch are last: each gate is then in one piece, and a step in any order of pixels is a product.
Lines = Float[Tensor, "rows width columns n"]
Line = Float[Tensor, "width columns n"]
Pixel = Float[Tensor, "width n"]


@register(
    "pixelrnn",
    title="PixelRNN (Row LSTM, Diagonal BiLSTM)",
    constraint="autoregressive: pixels row by row, sampled one after the other",
    paper="van den Oord, Kalchbrenner & Kavukcuoglu 2016, arXiv:1601.06759",
)
class PixelRNN(PixelModel):
    """Recurrent networks over the pixels before; a sample evaluates each of them once.

    Parameters
    ----------
    domain : Domain
        Images or lattices of shape (height, width) or (channels, height, width), with entries of one
        kind.
    context : Domain, optional
        A bias of every gate.
    cell : {"row", "diagonal"}
        Row LSTM, which sees a triangle of the rows above; or Diagonal BiLSTM, which sees all pixels
        before, with four times as many cells: in two directions, on the skewed map.
    layers : int
        Of LSTMs, one after the other; each adds to what comes in.
    hidden : int, optional
        Units of a cell; by default 32 where an edge has at most 16 pixels, and otherwise 16.
    kernel : int
        Columns that a Row LSTM sees of the row above; odd. A diagonal one has none.
    first_kernel : int
        Edge of the first convolution; odd, 3 or more.
    components : int
        Components of the mixtures that describe continuous columns, counts and wide integers.
    colours : {"masked", "mixture"}
        How the channels of a pixel depend on one another: each has a distribution given those before,
        or one mixture of logistics for all, as in `PixelCNN`.
    symmetric : bool
        As in `Autoregressive`.

    Examples
    --------
    >>> import likely as lk
    >>> data = lk.load_data("digits")
    >>> model = lk.make("pixelrnn", data.domain, layers=1, hidden=8)
    >>> history = lk.fit(model, data, steps=20)
    >>> model.sample(5, seed=1).shape
    torch.Size([5, 8, 8])
    """

    recipe = Recipe(batch=100, rate=3e-3, clip=1.0)

    def __init__(
        self,
        domain: Domain,
        *,
        cell: Literal["row", "diagonal"] = "row",
        layers: int = 3,
        hidden: int | None = None,
        kernel: int = 3,
        first_kernel: Annotated[int, Range(3)] = 7,
        **options: Any,
    ) -> None:
        super().__init__(domain, **options)
        check_odd(kernel, first_kernel)
        hidden = hidden or (32 if min(domain.shape[-2:]) <= SMALL else 16)
        self.side = first_kernel // 2
        self.above = nn.Conv2d(self.inputs, 2 * hidden, (self.side, first_kernel))
        self.left = nn.Conv2d(self.inputs, 2 * hidden, (1, self.side), bias=False)
        self.layers: Sequence[Layer] = nn.ModuleList(  # type: ignore[assignment]
            RowLSTM(hidden, kernel, self.context_size)
            if cell == "row"
            else DiagonalLSTM(hidden, self.inputs, self.context_size)
            for _ in range(layers)
        )
        self._read_out(2 * hidden)

    def _hidden(self, inputs: Maps, context: Context) -> Maps:
        side = self.side
        first = self.above(F.pad(inputs, (side, side, side, -1)))
        first = first + self.left(F.pad(inputs, (side, -1)))
        x, pixels = (maps.permute(2, 1, 3, 0) for maps in (first, inputs))
        for layer in self.layers:
            x = layer(x, pixels, context)
        return x.permute(3, 1, 0, 2)

    def _passing(self, n: int, context: Context) -> "CachedCells":
        return CachedCells(self, n, context)


class Layer(nn.Module):
    """A residual layer around LSTMs.

    Parameters
    ----------
    hidden : int
        Units of each of them; the layer's width is twice that.
    inputs : sequence of int
        What the input-to-state map of each of them takes.
    near : int
        States that each comes from at a pixel.
    context : int
        Number of context features.
    """

    def __init__(self, hidden: int, inputs: Sequence[int], near: int, context: int) -> None:
        super().__init__()
        self.size = hidden
        gates = 4 * hidden
        self.enter: Sequence[nn.Linear] = nn.ModuleList(  # type: ignore[assignment]
            nn.Linear(size, gates) for size in inputs
        )
        self.recur: Sequence[nn.Linear] = nn.ModuleList(  # type: ignore[assignment]
            nn.Linear(near * hidden, gates, bias=False) for _ in inputs
        )
        self.leave = nn.Linear(hidden, 2 * hidden)
        self.context = nn.Linear(context, len(inputs) * gates, bias=False) if context else None
        with torch.no_grad():
            for linear in self.enter:
                linear.bias[hidden : 2 * hidden] += 1  # remember at first

    def forward(self, x: Lines, pixels: Lines, context: Context) -> Lines:
        """x of the next layer."""
        raise NotImplementedError

    def passing(self, n: int, columns: int, context: Context) -> "LayerPass":
        """The same pixel by pixel, for n rows."""
        raise NotImplementedError

    def biases(self, context: Context) -> list[Float[Tensor, "gates #n"]]:
        """Those of the gates of each LSTM."""
        biases = [linear.bias[:, None] for linear in self.enter]
        if self.context is None or context is None:
            return biases
        given = self.context(context).T.chunk(len(biases))
        return [bias + part for bias, part in zip(biases, given, strict=True)]


class LayerPass(Protocol):
    """A pass through a layer; states are kept of one row of pixels."""

    def down(self, pixels: Line) -> None:
        """Begin a row, after the last one with these pixels; zeros come before the first."""

    def right(self, x: Pixel, column: int) -> Pixel:
        """x of the next layer at this column."""

    def select(self, rows: Int[Tensor, " m"]) -> None:
        """Go on with these rows, which may repeat."""


# Row LSTM.


class RowLSTM(Layer):
    """States come from the row above, from some columns on both sides.

    Parameters
    ----------
    hidden : int
    kernel : int
        Odd.
    context : int
    """

    def __init__(self, hidden: int, kernel: int, context: int) -> None:
        side = kernel // 2
        super().__init__(hidden, [(side + 1) * 2 * hidden], kernel, context)
        self.side = side

    def forward(self, x: Lines, pixels: Lines, context: Context) -> Lines:
        (bias,) = self.biases(context)
        gates = _times(self.enter[0].weight, neighbours(x, self.side, 0)) + bias[:, None]
        h = recurrence(gates[:, None], self.recur[0].weight[None], self.side, self.side)
        return x + _times(self.leave.weight, h[:, 0]) + self.leave.bias[:, None, None]

    def passing(self, n: int, columns: int, context: Context) -> "RowPass":
        return RowPass(self, n, columns, context)


class RowPass:
    """What the row above does to the present one is computed at its beginning; see `LayerPass`."""

    def __init__(self, layer: RowLSTM, n: int, columns: int, context: Context) -> None:
        self.layer = layer
        self.bias = layer.biases(context)[0].expand(-1, n)
        zeros = self.bias.new_zeros(2 * layer.size, n)
        self.start = [zeros] * layer.side  # to the left of a row
        self.h = self.c = [zeros[: layer.size]] * columns

    def down(self, pixels: Line) -> None:
        layer = self.layer
        near = neighbours(torch.stack(self.h, 1)[None], layer.side, layer.side)[0]
        gates = _times(layer.recur[0].weight, near) + self.bias[:, None]
        self.gates, self.above = gates.unbind(1), self.c
        self.h, self.c = [], []
        self.left = deque(self.start, layer.side + 1)

    def right(self, x: Pixel, column: int) -> Pixel:
        layer = self.layer
        self.left.append(x)
        seen = torch.cat([*self.left])
        gates = torch.addmm(self.gates[column], layer.enter[0].weight, seen)
        h, c = cell(gates, self.above[column])
        self.h.append(h)
        self.c.append(c)
        return x + torch.addmm(layer.leave.bias[:, None], layer.leave.weight, h)

    def select(self, rows: Int[Tensor, " m"]) -> None:
        self.bias = self.bias[:, rows]
        for name in ("start", "h", "c", "gates", "above"):
            setattr(self, name, [value[:, rows] for value in getattr(self, name)])
        self.left = deque((x[:, rows] for x in self.left), self.left.maxlen)


# Diagonal BiLSTM.


class DiagonalLSTM(Layer):
    """States come from the pixel to the left and the one above, and mirrored ones from the right.

    Parameters
    ----------
    hidden : int
    inputs : int
        Of a pixel.
    context : int
    """

    def __init__(self, hidden: int, inputs: int, context: int) -> None:
        super().__init__(hidden, [2 * hidden, 2 * hidden + inputs], 2, context)

    def forward(self, x: Lines, pixels: Lines, context: Context) -> Lines:
        own, mirrored = (
            _times(linear.weight, seen) + bias[:, None]
            for linear, seen, bias in zip(
                self.enter, (x, torch.cat([x, pixels], 1)), self.biases(context), strict=True
            )
        )
        weight = torch.stack([linear.weight for linear in self.recur])
        skewed = skew(torch.stack([own, mirrored.flip(2)], 1))
        own, mirrored = unskew(recurrence(skewed, weight, 1, 0)).unbind(1)
        h = own + F.pad(
            mirrored.flip(2), (0, 0, 0, 0, 0, 0, 1, -1)
        )  # what is to its right is later
        return x + _times(self.leave.weight, h) + self.leave.bias[:, None, None]

    def passing(self, n: int, columns: int, context: Context) -> "DiagonalPass":
        return DiagonalPass(self, n, columns, context)


class DiagonalPass:
    """The states pixel by pixel, the mirrored ones of a row once it is complete; see `LayerPass`."""

    def __init__(self, layer: DiagonalLSTM, n: int, columns: int, context: Context) -> None:
        self.layer = layer
        self.bias, self.mirrored_bias = (b.expand(-1, n) for b in layer.biases(context))
        zeros = self.bias.new_zeros(layer.size, n)
        self.x: list[Tensor] = []
        self.h = [zeros] * columns
        self.mirrored = torch.stack(self.h, 1)

    def down(self, pixels: Line) -> None:
        layer = self.layer
        if self.x:
            seen = torch.cat([torch.stack(self.x, 1), pixels])
            above, right = layer.recur[1].weight.chunk(2, 1)
            gates = _times(layer.enter[1].weight, seen) + _times(above, self.mirrored)
            gates = (gates + self.mirrored_bias[:, None]).flip(1).movedim(1, 0)
            states = recurrence(gates[:, None, :, None], right[None], 0, 0)
            self.mirrored = states[:, 0, :, 0].movedim(0, 1).flip(1)
        self.x, self.above, self.h = [], self.h, []
        self.left = self.c = torch.zeros_like(self.above[0])

    def right(self, x: Pixel, column: int) -> Pixel:
        layer = self.layer
        gates = torch.addmm(self.bias, layer.enter[0].weight, x)
        near = torch.cat([self.above[column], self.left])
        self.left, self.c = cell(torch.addmm(gates, layer.recur[0].weight, near), self.c)
        self.x.append(x)
        self.h.append(self.left)
        h = self.left + self.mirrored[:, column]
        return x + torch.addmm(layer.leave.bias[:, None], layer.leave.weight, h)

    def select(self, rows: Int[Tensor, " m"]) -> None:
        for name in ("bias", "mirrored_bias", "left", "c", "mirrored"):
            setattr(self, name, getattr(self, name)[..., rows])
        for name in ("x", "h", "above"):
            setattr(self, name, [value[:, rows] for value in getattr(self, name)])


def skew(x: Float[Tensor, "rows *k columns n"]) -> Float[Tensor, "diagonals *k rows n"]:
    """Each row one further to the right than that above; zeros are around it."""
    rows, columns = x.shape[0], x.shape[-2]
    diagonals = rows + columns - 1
    x = F.pad(x.movedim(0, -3), (0, 0, 0, rows)).flatten(-3, -2)[..., : rows * diagonals, :]
    return x.unflatten(-2, (rows, diagonals)).movedim(-2, 0)


def unskew(x: Float[Tensor, "diagonals *k rows n"]) -> Float[Tensor, "rows *k columns n"]:
    """The inverse of `skew`."""
    diagonals, rows = x.shape[0], x.shape[-2]
    x = F.pad(x.movedim(0, -2).flatten(-3, -2), (0, 0, 0, rows))
    return x.unflatten(-2, (rows, diagonals + 1))[..., : diagonals + 1 - rows, :].movedim(-3, 0)


# Both.


def recurrence(
    inputs: Float[Tensor, "steps passes gates places n"],
    weight: Float[Tensor, "passes gates near"],
    before: int,
    after: int,
) -> Float[Tensor, "steps passes hidden places n"]:
    """States of all steps; each comes from those at the step before of some places around its own."""
    shape = len(weight), weight.shape[1] // 4, *inputs.shape[3:]
    h = weight.new_zeros(shape)
    c, states = h.flatten(2), []
    for x in inputs.unbind(0):
        near = neighbours(h, before, after).flatten(2)
        h, c = cell(torch.baddbmm(x.flatten(2), weight, near), c)
        h = h.view(shape)
        states.append(h)
    return torch.stack(states)


def cell(
    gates: Float[Tensor, "*k gates n"], c: Float[Tensor, "*k hidden n"]
) -> tuple[Float[Tensor, "*k hidden n"], Float[Tensor, "*k hidden n"]]:
    """h and c of an LSTM (Hochreiter & Schmidhuber 1997, Neural Comput. 9, 1735)."""
    size = c.shape[-2]
    open_, g = gates.split([3 * size, size], -2)
    i, f, o = open_.sigmoid().chunk(3, -2)
    c = f * c + i * g.tanh()
    return o * c.tanh(), c


def neighbours(
    x: Float[Tensor, "k width places n"], before: int, after: int
) -> Float[Tensor, "k near places n"]:
    """Channels of the places around each, from `before` ones earlier to `after` ones later."""
    if not before + after:
        return x
    places = x.shape[2]
    x = F.pad(x, (0, 0, before, after))
    return torch.cat([x[:, :, i : i + places] for i in range(before + after + 1)], 1)


def _times(weight: Tensor, x: Float[Tensor, "*k width columns n"]) -> Tensor:
    """W x; with as many axes as x has, a product leaves its rows in order, so that gates are in one piece."""
    weight = weight.expand(*x.shape[:-3], *weight.shape)
    return (weight @ x.flatten(-2)).unflatten(-1, x.shape[-2:])


class CachedCells:
    """A pass pixel by pixel through all layers; see `Passing`."""

    @torch.no_grad()
    def __init__(self, model: PixelRNN, n: int, context: Context) -> None:
        self.model, self.pixel = model, 0
        rows, columns = model.domain.shape[-2:]
        side = model.side
        self.columns = columns
        self.image = model.marginals.new_zeros(n, model.inputs, side + rows, columns + 2 * side)
        self.layers = [layer.passing(n, columns, context) for layer in model.layers]

    @torch.no_grad()
    def hidden(self, before: Float[Tensor, "n inputs"]) -> Float[Tensor, "n width"]:
        """h of the next pixel; see `Passing`."""
        model, side = self.model, self.model.side
        if self.pixel:
            row, column = divmod(self.pixel - 1, self.columns)
            self.image[:, :, side + row, side + column] = before
        row, column = divmod(self.pixel, self.columns)
        self.pixel += 1
        if column == 0:
            pixels = self.image[:, :, side + row - 1, side : side + self.columns]
            for layer in self.layers:
                layer.down(pixels.permute(1, 2, 0))
        above = self.image[:, :, row : row + side, column : column + 2 * side + 1].flatten(1)
        left = self.image[:, :, side + row, column : column + side].flatten(1)
        x = F.linear(above, model.above.weight.flatten(1), model.above.bias)
        x = (x + F.linear(left, model.left.weight.flatten(1))).T
        for layer in self.layers:
            x = layer.right(x, column)
        return x.T

    def select(self, rows: Int[Tensor, " m"]) -> None:
        """Go on with these rows, which may repeat."""
        self.image = self.image[rows]
        for layer in self.layers:
            layer.select(rows)
