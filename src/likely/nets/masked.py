"""Masked networks: outputs of an entry see only the entries before it in an ordering.

Germain, Gregor, Murray & Larochelle, MADE (2015), arXiv:1502.03509: a hidden unit of degree m sees
the first m entries of the ordering, and the outputs of the entry at position p see the hidden units
of degree at most p (positions count from 0). Hidden units are sorted by degree, which makes every
layer block-triangular, so that sampling evaluates each unit once, as its inputs become known.
"""

from collections.abc import Sequence
from functools import partial
from itertools import accumulate, pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from likely.core.errors import LikelyError
from likely.nets.fast import columns
from likely.nets.mlp import Context, perceptron

AHEAD = 16  # entries
Masks = tuple[Tensor, Tensor, Tensor | None]  # of the first and the last layer, and of A


class MaskedMLP(nn.Module):
    """Autoregressive multilayer perceptron.

    With σ the activation, c the context and every matrix but U masked,

        h₁ = W₁ x + U c + b₁,   h_{l+1} = [h_l +] W_{l+1} σ(h_l) + b_{l+1},   y = V σ(h_L) [+ A x] + b,

    where the residual connection [h_l +] joins layers of equal width.

    Parameters
    ----------
    inputs : sequence of int
        Number of features of each entry.
    outputs : sequence of int
        Number of outputs of each entry.
    order : sequence of int, optional
        The entries in the order in which they are generated; by default as they stand.
    hidden : sequence of int
        Widths of the hidden layers.
    context : int
        Number of context features, which every output sees.
    direct : bool
        Whether there are connections A from inputs to outputs, which start at zero.
    early : float
        The degree of a part u of a layer's units is at most u^early of the greatest: above 1, more of
        them serve the first entries of the ordering.
    """

    mask_in: Tensor
    mask_out: Tensor
    mask_direct: Tensor | None

    def __init__(
        self,
        inputs: Sequence[int],
        outputs: Sequence[int],
        *,
        order: Sequence[int] | None = None,
        hidden: Sequence[int] = (128, 128),
        context: int = 0,
        direct: bool = False,
        early: float = 1.0,
    ) -> None:
        super().__init__()
        if not hidden:
            raise LikelyError("hidden: at least one hidden layer is needed")
        self.inputs, self.outputs = list(inputs), list(outputs)
        self.order = list(range(len(self.inputs)) if order is None else order)
        widths = [sum(inputs), *hidden, sum(outputs)]
        self.layers: Sequence[nn.Linear] = nn.ModuleList(  # type: ignore[assignment]
            nn.Linear(max(a, 1), b) for a, b in pairwise(widths)
        )
        self.context = nn.Linear(context, hidden[0], bias=False) if context else None
        self.direct = nn.Parameter(torch.zeros(widths[-1], widths[0])) if direct else None
        # Degree 0 sees the context alone; without a context such units would be constants.
        entries = len(self.inputs)
        least = 0 if context or entries == 1 else 1
        self.degrees = [
            least + ((entries - least) * torch.arange(w).double() ** early / w**early).long()
            for w in hidden
        ]
        for i, (a, b) in enumerate(pairwise(self.degrees), 1):
            self.register_buffer(f"mask{i}", (b[:, None] >= a).float(), persistent=False)
        for name, mask in zip(("in", "out", "direct"), self.masks(self.order), strict=True):
            self.register_buffer(f"mask_{name}", mask, persistent=False)

    def masks(self, order: Sequence[int]) -> Masks:
        """Masks of the first and the last layer and of A for an ordering of the entries."""
        position = torch.argsort(torch.tensor(order))
        of_input = position.repeat_interleave(torch.tensor(self.inputs))
        of_output = position.repeat_interleave(torch.tensor(self.outputs))
        mask_in = self.degrees[0][:, None] > of_input
        mask_out = of_output[:, None] >= self.degrees[-1]
        if not len(of_input):
            mask_in = mask_in.new_zeros(len(mask_in), 1)
        weight = self.layers[0].weight
        direct = None if self.direct is None else (of_output[:, None] > of_input).to(weight)
        return mask_in.to(weight), mask_out.to(weight), direct

    def forward(
        self, x: Float[Tensor, "n features"], context: Context = None, masks: Masks | None = None
    ) -> Float[Tensor, "n outputs"]:
        """Outputs of all entries; `masks` from another ordering may replace this network's own."""
        shift = None if self.context is None else self.context(context).T
        of_layers, of_direct = self._all_masks(masks)
        return self._with_direct(columns(self.layers, x.T, of_layers, shift).T, x, of_direct)

    def plain(self, x: Tensor, context: Context = None, masks: Masks | None = None) -> Tensor:
        """The same with the rows first, as the formula has it."""
        of_layers, of_direct = self._all_masks(masks)
        first, *others = [
            partial(F.linear, weight=layer.weight * mask, bias=layer.bias)
            for layer, mask in zip(self.layers, of_layers, strict=True)
        ]
        shift = 0 if self.context is None else self.context(context)
        h = x if x.shape[1] else x.new_zeros(len(x), 1)
        y = perceptron(h, [lambda h: first(h) + shift, *others])
        return self._with_direct(y, x, of_direct)

    def _with_direct(self, y: Tensor, x: Tensor, mask: Tensor | None) -> Tensor:
        """y + A x, where there is an A."""
        return y if self.direct is None or mask is None else y + F.linear(x, self.direct * mask)

    def _all_masks(self, outer: Masks | None) -> tuple[list[Tensor], Tensor | None]:
        """The masks of all layers, and of A."""
        own = self.mask_in, self.mask_out, self.mask_direct
        first, last, direct = own if outer is None else outer
        inner = (getattr(self, f"mask{i}") for i in range(1, len(self.degrees)))
        return [first, *inner, last], direct

    @torch.no_grad()
    def incremental(
        self, n: int, context: Context = None, order: Sequence[int] | None = None
    ) -> "Incremental":
        """A pass through the network that takes one entry after the other; see `Incremental`."""
        return Incremental(self, n, context, self.order if order is None else order)


class Incremental:
    """One pass of n rows through a `MaskedMLP`, entry by entry, each hidden unit evaluated once.

    For each entry of the ordering in turn, `outputs()` gives its outputs, of shape (n, outputs),
    and `feed(features)` takes its features, of shape (n, features). D entries cost about as many
    operations as one ordinary pass, where a pass for each entry would cost D times as many. What is
    known already goes into the units of `AHEAD` entries by one product: for each entry alone it would
    be read from memory again. Nothing is recorded for gradients.
    """

    def __init__(self, net: MaskedMLP, n: int, context: Context, order: Sequence[int]) -> None:
        # Values are kept units first, so that what is known is one contiguous block.
        self.entries, self.position = len(order), 0
        columns, of_inputs = _in_order(net.inputs, order)
        rows, of_outputs = _in_order(net.outputs, order)
        first, *inner, last = net.layers
        self.h = [layer.bias[:, None].repeat(1, n) for layer in (first, *inner)]
        if net.context is not None:
            self.h[0] += net.context(context).T
        self.h.append(last.bias[rows][:, None].repeat(1, n))
        self.sources = [
            first.weight.new_empty(len(columns), n),
            *map(torch.empty_like, self.h[:-1]),
        ]
        # Weights, from which sources, to which h.
        weights = [first.weight[:, columns], *(layer.weight for layer in inner), last.weight[rows]]
        self.connections = [(weight, i, i) for i, weight in enumerate(weights)]
        if net.direct is not None:
            self.connections.append((net.direct[rows][:, columns], 0, len(inner) + 1))
        # How many of the sources, and at last of the outputs, are known at each position.
        positions = torch.arange(self.entries)
        hidden = [torch.searchsorted(d, positions, right=True).tolist() for d in net.degrees]
        self.ends = [[0, *of_inputs[:-1]], *hidden, of_outputs]
        self._advance()

    def _advance(self) -> None:
        """Evaluate the hidden units whose degree is the present position, and its outputs."""
        step = self.position % AHEAD
        if not step:
            for weight, i, j in self.connections:
                done, rows = self._block(i, j)
                if done:
                    self.h[j][rows].addmm_(weight[rows, :done], self.sources[i][:done])
            self._cut()
        for blocks, source, done, ends in self.cuts:
            weight, h, activated, before = blocks[step]
            if len(h):
                new = ends[self.position] - done
                h.addmm_(weight[:, :new], source[:new])
                if before is not None:
                    h += before
                if activated is not None:
                    torch.clamp_min(h, 0, out=activated)

    def _block(self, i: int, j: int) -> tuple[int, slice]:
        """How many of sources i were known before these `AHEAD` entries, and their rows of h_j."""
        start = self.position - self.position % AHEAD
        stop = min(start + AHEAD, self.entries)
        done, first = (self.ends[k][start - 1] if start else 0 for k in (i, j + 1))
        return done, slice(first, self.ends[j + 1][stop - 1])

    def _cut(self) -> None:
        """Cut what belongs to each of these entries, once: a slice costs as much as a sum."""
        self.cuts = []
        start = self.position - self.position % AHEAD
        for weight, i, j in self.connections:
            done, rows = self._block(i, j)
            sizes = [
                b - a for a, b in pairwise([rows.start, *self.ends[j + 1][start : start + AHEAD]])
            ]
            nothing = [None] * len(sizes)
            inner = j + 1 < len(self.h)
            residual = inner and j > 0 and len(self.h[j]) == len(self.h[j - 1])
            parts = (
                weight[rows, done:].split(sizes),
                self.h[j][rows].split(sizes),
                self.sources[j + 1][rows].split(sizes) if inner else nothing,
                self.h[j - 1][rows].split(sizes) if residual else nothing,
            )
            blocks = [*zip(*parts, strict=True)]
            self.cuts.append((blocks, self.sources[i][done:], done, self.ends[i]))

    @torch.no_grad()
    def outputs(self) -> Float[Tensor, "n outputs"]:
        """Outputs of the present entry, given the entries fed so far."""
        blocks, *_ = self.cuts[-1]
        return blocks[self.position % AHEAD][1].T

    @torch.no_grad()
    def feed(self, features: Float[Tensor, "n features"]) -> None:
        """Take the present entry's features and move on to the next entry."""
        known = self.ends[0][self.position]
        self.sources[0][known : known + features.shape[1]] = features.T
        self.position += 1
        if self.position < self.entries:
            self._advance()

    def select(self, rows: Int[Tensor, " m"]) -> None:
        """Go on with these rows, which may repeat."""
        self.sources = [source[:, rows] for source in self.sources]
        self.h = [h[:, rows] for h in self.h]
        if self.position < self.entries:
            self._cut()


def _in_order(sizes: Sequence[int], order: Sequence[int]) -> tuple[Int[Tensor, " all"], list[int]]:
    """Where the features of entries stand that come in an order, and how many there are up to each."""
    slots = torch.arange(sum(sizes)).split(list(sizes))
    return torch.cat([slots[i] for i in order]), [*accumulate(sizes[i] for i in order)]
