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

Masks = tuple[Tensor, Tensor]  # of the first and of the last layer


class MaskedMLP(nn.Module):
    """Autoregressive multilayer perceptron.

    With σ the activation, c the context and every matrix but U masked,

        h₁ = W₁ x + U c + b₁,   h_{l+1} = [h_l +] W_{l+1} σ(h_l) + b_{l+1},   y = V σ(h_L) + b,

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
    """

    def __init__(
        self,
        inputs: Sequence[int],
        outputs: Sequence[int],
        *,
        order: Sequence[int] | None = None,
        hidden: Sequence[int] = (128, 128),
        context: int = 0,
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
        # Degree 0 sees the context alone; without a context such units would be constants.
        entries = len(self.inputs)
        least = 0 if context or entries == 1 else 1
        self.degrees = [least + torch.arange(w) * (entries - least) // w for w in hidden]
        for i, (a, b) in enumerate(pairwise(self.degrees), 1):
            self.register_buffer(f"mask{i}", (b[:, None] >= a).float(), persistent=False)
        mask_in, mask_out = self.masks(self.order)
        self.mask_in = nn.Buffer(mask_in, persistent=False)
        self.mask_out = nn.Buffer(mask_out, persistent=False)

    def masks(self, order: Sequence[int]) -> Masks:
        """Masks of the first and the last layer for an ordering of the entries."""
        position = torch.argsort(torch.tensor(order))
        of_input = position.repeat_interleave(torch.tensor(self.inputs))
        of_output = position.repeat_interleave(torch.tensor(self.outputs))
        mask_in = self.degrees[0][:, None] > of_input
        mask_out = of_output[:, None] >= self.degrees[-1]
        if not len(of_input):
            mask_in = mask_in.new_zeros(len(mask_in), 1)
        weight = self.layers[0].weight
        return mask_in.to(weight), mask_out.to(weight)

    def forward(
        self, x: Float[Tensor, "n features"], context: Context = None, masks: Masks | None = None
    ) -> Float[Tensor, "n outputs"]:
        """Outputs of all entries; `masks` from another ordering may replace this network's own."""
        shift = None if self.context is None else self.context(context).T
        return columns(self.layers, x.T, self._masks_of_layers(masks), shift).T

    def plain(self, x: Tensor, context: Context = None, masks: Masks | None = None) -> Tensor:
        """The same with the rows first, as the formula has it."""
        first, *others = [
            partial(F.linear, weight=layer.weight * mask, bias=layer.bias)
            for layer, mask in zip(self.layers, self._masks_of_layers(masks), strict=True)
        ]
        shift = 0 if self.context is None else self.context(context)
        h = x if x.shape[1] else x.new_zeros(len(x), 1)
        return perceptron(h, [lambda h: first(h) + shift, *others])

    def _masks_of_layers(self, outer: Masks | None) -> list[Tensor]:
        """The masks of all layers."""
        first, last = (self.mask_in, self.mask_out) if outer is None else outer
        return [first, *(getattr(self, f"mask{i}") for i in range(1, len(self.degrees))), last]

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
    operations as one ordinary pass, where a pass for each entry would cost D times as many.
    Nothing is recorded for gradients.
    """

    def __init__(self, net: MaskedMLP, n: int, context: Context, order: Sequence[int]) -> None:
        # Activations are kept units first, so that what is known is one contiguous block.
        self.order = list(order)
        self.position = self.known = 0  # entry, and features
        starts = [0, *accumulate(net.inputs)]
        features = [j for i in self.order for j in range(starts[i], starts[i + 1])]
        weights = [layer.weight for layer in net.layers]
        self.weights = [weights[0][:, features], *weights[1:-1]]
        self.features = weights[0].new_empty(len(features), n)
        self.h = [layer.bias[:, None].repeat(1, n) for layer in net.layers[:-1]]
        if net.context is not None:
            self.h[0] += net.context(context).T
        self.active = [torch.empty_like(h) for h in self.h]
        self.ends = [  # how many units of each layer have a degree of at most p
            torch.searchsorted(degree, torch.arange(len(self.order)), right=True).tolist()
            for degree in net.degrees
        ]
        bias = net.layers[-1].bias[:, None]
        self.last = [*zip(weights[-1].split(net.outputs), bias.split(net.outputs), strict=True)]
        self._cut()
        self._advance()

    def _cut(self) -> None:
        """Cut the hidden layers into the units of each degree, once: a slice costs as much as a sum."""
        self.blocks = []
        layers = zip(self.weights, self.h, self.active, self.ends, strict=True)
        for i, (weight, h, active, ends) in enumerate(layers):
            sizes = [stop - start for start, stop in pairwise([0, *ends])]
            residual = i > 0 and len(h) == len(self.h[i - 1])
            before = self.h[i - 1].split(sizes) if residual else [None] * len(sizes)
            parts = weight.split(sizes), h.split(sizes), active.split(sizes), before
            self.blocks.append([*zip(*parts, strict=True)])

    def _advance(self) -> None:
        """Evaluate the hidden units whose degree is the present position."""
        source, known = self.features, self.known
        for blocks, active, ends in zip(self.blocks, self.active, self.ends, strict=True):
            weight, h, activated, before = blocks[self.position]
            if len(h):
                h.addmm_(weight[:, :known], source[:known])
                if before is not None:
                    h += before
                torch.clamp_min(h, 0, out=activated)
            source, known = active, ends[self.position]

    @torch.no_grad()
    def outputs(self) -> Float[Tensor, "n outputs"]:
        """Outputs of the present entry, given the entries fed so far."""
        weight, bias = self.last[self.order[self.position]]
        known = self.ends[-1][self.position]
        return torch.addmm(bias, weight[:, :known], self.active[-1][:known]).T

    @torch.no_grad()
    def feed(self, features: Float[Tensor, "n features"]) -> None:
        """Take the present entry's features and move on to the next entry."""
        stop = self.known + features.shape[1]
        self.features[self.known : stop] = features.T
        self.known = stop
        self.position += 1
        if self.position < len(self.order):
            self._advance()

    def select(self, rows: Int[Tensor, " m"]) -> None:
        """Go on with these rows, which may repeat."""
        self.features = self.features[:, rows]
        self.h = [h[:, rows] for h in self.h]
        self.active = [active[:, rows] for active in self.active]
        self._cut()
