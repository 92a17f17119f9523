"""Gated PixelCNN: masked convolutions over the pixels before.

    v^l_ij = v^(l−1)_ij + g(V_ij),    V = W_v ∗ v^(l−1) + C_v c           (rows above)
    h^l_ij = h^(l−1)_ij + U g(H_ij),  H = W_h ∗ h^(l−1) + L V + C_h c     (and pixels to the left)

with a gate g(a, b) = −tanh(a/2) σ(b) over two halves of the channels, and the class or other context c. The
kernels of the vertical stack have rows above and, but in the first layer, the present one; those of the
horizontal stack have the pixels to the left and, but in the first layer, the present one. Since v reaches
h and never the reverse, no pixel before is out of sight ("blind spot"). The plain network: van den Oord,
Kalchbrenner & Kavukcuoglu (2016), arXiv:1601.06759; gates and stacks: van den Oord et al. (2016),
arXiv:1606.05328. Kernels are cropped, not masked. The mixture that the channels of a pixel share:
Salimans, Karpathy, Chen & Kingma, PixelCNN++ (2017), arXiv:1701.05517.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from likely.contract import Range, Recipe, Widths, register
from likely.core.domain import Domain
from likely.models.autoregressive.pixels import SMALL, Maps, PixelModel, check_odd
from likely.nets.fast import gate
from likely.nets.mlp import Context


@register(
    "pixelcnn",
    title="gated PixelCNN",
    constraint="autoregressive: pixels row by row, sampled one after the other",
    paper="van den Oord et al. 2016, arXiv:1606.05328",
)
class PixelCNN(PixelModel):
    """Gated convolutions over the pixels before; a sample evaluates each of them once.

    Parameters
    ----------
    domain : Domain
        Images or lattices of shape (height, width) or (channels, height, width), with entries of one
        kind. They may be smaller than what a pixel can see.
    context : Domain, optional
        A bias of every gate.
    channels : int
        Of the hidden maps of each stack.
    kernel : int
        Edge of the kernels; odd, 3 or more.
    first_kernel : int, optional
        The same of the first layer; by default 5 where an edge has at most 16 pixels, and otherwise 7.
    dilations : sequence of int, optional
        Steps between the taps of each further layer; by default six of 1 where an edge has at most 16
        pixels, and otherwise (1, 2, 1, 4, 1, 2, 1, 4). A pixel sees the rows above up to a distance of
        first_kernel // 2 + kernel // 2 · Σ dilations, and as far to each side.
    components : int
        Components of the mixtures that describe continuous columns, counts and wide integers.
    colours : {"masked", "mixture"}
        How the channels of a pixel depend on one another: each has a distribution given those before,
        by a masked network; or one mixture of logistics for all, as in PixelCNN++, with
        levels, counts and continuous columns.
    symmetric : bool
        As in `Autoregressive`.

    Examples
    --------
    >>> import likely as lk
    >>> data = lk.load_data("digits")
    >>> model = lk.make("pixelcnn", data.domain, channels=8, dilations=(1, 2))
    >>> history = lk.fit(model, data, steps=20)
    >>> model.sample(5, seed=1).shape
    torch.Size([5, 8, 8])
    """

    recipe = Recipe(batch=16, rate=3e-3, clip=1.0)

    def __init__(
        self,
        domain: Domain,
        *,
        channels: int = 32,
        kernel: Annotated[int, Range(3)] = 3,
        first_kernel: Annotated[int, Range(3)] | None = None,
        dilations: Widths | None = None,
        **options: Any,
    ) -> None:
        super().__init__(domain, **options)
        small = min(domain.shape[-2:]) <= SMALL
        first_kernel = first_kernel or (5 if small else 7)
        if dilations is None:
            dilations = (1,) * 6 if small else (1, 2, 1, 4) * 2
        check_odd(kernel, first_kernel)
        given = self.context_size
        self.layers: Sequence[GatedLayer] = nn.ModuleList(  # type: ignore[assignment]
            [
                GatedLayer(self.inputs, channels, first_kernel, 1, given, first=True),
                *(GatedLayer(channels, channels, kernel, step, given) for step in dilations),
            ]
        )
        self._read_out(channels)

    def _hidden(self, inputs: Maps, context: Tensor | None) -> Maps:
        v = h = inputs
        for layer in self.layers:  # with channels last convolutions take half of the time
            v, h = layer(
                *(x.contiguous(memory_format=torch.channels_last) for x in (v, h)), context
            )
        return h

    def _passing(self, n: int, context: Tensor | None) -> "CachedStacks":
        return CachedStacks(self, n, context)


class GatedLayer(nn.Module):
    """One layer of both stacks.

    Parameters
    ----------
    inputs, channels : int
    kernel : int
        Odd.
    step : int
        Dilation.
    context : int
        Number of context features.
    first : bool
        Whether the inputs are the pixels themselves, of which the present one is not to be seen.
    """

    def __init__(
        self,
        inputs: int,
        channels: int,
        kernel: int,
        step: int,
        context: int,
        first: bool = False,
    ) -> None:
        super().__init__()
        self.first, self.step = first, step
        self.side = step * (kernel // 2)
        self.taps = kernel // 2 + (not first)  # rows, or columns to the left
        self.vertical = nn.Conv2d(inputs, 2 * channels, (self.taps, kernel), dilation=step)
        self.horizontal = nn.Conv2d(inputs, 2 * channels, (1, self.taps), dilation=step, bias=False)
        self.link = nn.Conv2d(2 * channels, 2 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        self.context = nn.Linear(context, 4 * channels, bias=False) if context else None

    def biases(self, context: Context) -> Iterator[Tensor | None]:
        """C c of both stacks."""
        if self.context is None or context is None:
            return iter((None, None))
        return iter(self.context(context)[..., None, None].chunk(2, 1))

    def forward(self, v: Maps, h: Maps, context: Context) -> tuple[Maps, Maps]:
        last = -1 if self.first else 0  # the present row, or pixel
        of_v, of_h = self.biases(context)
        V = _plus(self.vertical(F.pad(v, (self.side, self.side, self.side, last))), of_v)
        H = _plus(self.horizontal(F.pad(h, (self.side, last))) + self.link(V), of_h)
        return self.updated(v, gate(V)), self.updated(h, self.out(gate(H)))

    def updated(self, x: Tensor, update: Tensor) -> Tensor:
        """What goes to the next layer."""
        return update if self.first else x + update


class CachedLayer:
    """One layer of a `GatedLayer` for n rows: `down` takes a row of v, `right` then each of its h."""

    def __init__(self, layer: GatedLayer, n: int, columns: int, context: Context) -> None:
        self.layer = layer
        self.of_v, self.of_h = layer.biases(context)
        weight = layer.horizontal.weight
        inputs, reach = weight.shape[1], (layer.taps - 1) * layer.step + 1
        self.weight = weight[:, :, 0].permute(2, 1, 0).flatten(0, 1)  # taps and inputs, outputs
        self.above = deque([weight.new_zeros(n, inputs, 1, columns)] * reach, reach)
        self.start = [weight.new_zeros(n, inputs)] * reach

    def down(self, v: Float[Tensor, "n inputs 1 columns"]) -> Float[Tensor, "n width 1 columns"]:
        """v of the next layer in this row."""
        layer = self.layer
        self.above.append(v)
        seen = F.pad(torch.cat([*self.above][:: layer.step], 2), (layer.side, layer.side))
        weight, bias = layer.vertical.weight, layer.vertical.bias
        V = _plus(F.conv2d(seen, weight, bias, dilation=(1, layer.step)), self.of_v)
        linked = _plus(layer.link(V), self.of_h)
        self.linked = linked[:, :, 0].permute(2, 0, 1)  # of each column
        self.left = deque(self.start, len(self.start))
        return layer.updated(v, gate(V))

    def right(self, h: Float[Tensor, "n inputs"], column: int) -> Float[Tensor, "n width"]:
        """h of the next layer at this column."""
        layer = self.layer
        self.left.append(h)
        seen = torch.cat([*self.left][:: layer.step], 1)
        H = torch.addmm(self.linked[column], seen, self.weight)
        return layer.updated(h, F.linear(gate(H), layer.out.weight[..., 0, 0], layer.out.bias))

    def select(self, rows: Int[Tensor, " m"]) -> None:
        """Go on with these rows, which may repeat."""
        self.above = deque((v[rows] for v in self.above), self.above.maxlen)
        self.left = deque((h[rows] for h in self.left), self.left.maxlen)
        self.start = [h[rows] for h in self.start]
        self.linked = self.linked[:, rows]
        self.of_v, self.of_h = (b if b is None else b[rows] for b in (self.of_v, self.of_h))


class CachedStacks:
    """A pass pixel by pixel: the vertical stack once a row, the horizontal stack once a pixel."""

    @torch.no_grad()
    def __init__(self, model: PixelCNN, n: int, context: Context) -> None:
        self.columns = model.domain.shape[-1]
        self.layers = [CachedLayer(layer, n, self.columns, context) for layer in model.layers]
        # Inputs of the pixels of the present row, or of all of the row above.
        self.row = [model.marginals.new_zeros(n, model.inputs)] * (self.columns - 1)

    @torch.no_grad()
    def hidden(self, before: Float[Tensor, "n inputs"]) -> Float[Tensor, "n width"]:
        """h of the next pixel; see `Passing`."""
        self.row.append(before)
        h = before
        if len(self.row) == self.columns:  # a row is full, and a new one begins
            v = torch.stack(self.row, -1)[:, :, None]
            for layer in self.layers:
                v = layer.down(v)
            self.row, h = [], torch.zeros_like(before)
        for layer in self.layers:
            h = layer.right(h, len(self.row))
        return h

    def select(self, rows: Int[Tensor, " m"]) -> None:
        """Go on with these rows, which may repeat."""
        self.row = [x[rows] for x in self.row]
        for layer in self.layers:
            layer.select(rows)


def _plus(maps: Tensor, bias: Tensor | None) -> Tensor:
    return maps if bias is None else maps + bias
