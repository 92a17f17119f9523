"""What pixel models share: pixels row by row, a pixel's channels in order, one network for all of them.

    p(x) = Π_i Π_c p(x_ci | h_i, x_1i, …, x_(c−1)i),   h_i of all channels of the pixels before i

A small network at each pixel goes from its features h_i and the channels before to the outputs of a
distribution (`likely.nets.heads`).
"""

import dataclasses
from typing import Literal, Protocol

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from likely.contract import Batch, Features
from likely.core.columns import Column, Integer
from likely.core.domain import Domain
from likely.core.errors import DomainError, LikelyError
from likely.models.autoregressive.base import Autoregressive
from likely.nets.heads import ColumnHeads, DiscretisedLogistics, Head, Logistics, mixture_head
from likely.nets.masked import MaskedMLP
from likely.nets.mlp import MLP

HIDDEN = 64  # units between a pixel's features and its outputs
BATCH_PIXELS = 16 * 28 * 28  # of all rows of a batch
SMALL = 16  # edge up to which images count as small

Maps = Float[Tensor, "n width rows columns"]
Hidden = Float[Tensor, "n pixels width"]
OfPixels = Float[Tensor, "n channels pixels size"]


class Passing(Protocol):
    """A pass through a network of pixels, one after the other."""

    def hidden(self, before: Float[Tensor, "n inputs"]) -> Float[Tensor, "n width"]:
        """h of the next pixel, from the inputs of the one before; zeros come before the first."""

    def select(self, rows: Int[Tensor, " m"]) -> None:
        """Go on with these rows, which may repeat."""


def check_odd(kernel: int, first_kernel: int) -> None:
    """Raise if an edge of a kernel is even."""
    if kernel % 2 == 0 or first_kernel % 2 == 0:
        raise LikelyError(f"{kernel=}, {first_kernel=}: kernels have a centre: give odd edges")


class PixelModel(Autoregressive):
    """Images, each pixel given those above it and those to its left in its row.

    A subclass calls `_read_out`, and writes `_hidden` and `_passing`. It takes the layouts of images and
    lattices, of shape (height, width) or (channels, height, width), with entries of one kind.
    """

    of_one_kind = True

    def __init__(
        self,
        domain: Domain,
        *,
        context: Domain | None = None,
        context_encoder: nn.Module | str | None = None,
        components: int = 10,
        colours: Literal["masked", "mixture"] = "masked",
        symmetric: bool = False,
    ) -> None:
        super().__init__(
            domain, context=context, context_encoder=context_encoder, symmetric=symmetric
        )
        self.channels = 1 if len(domain.shape) < 3 else domain.shape[0]
        self.places = domain.size // self.channels
        self.orderings[0] = torch.arange(domain.size).view(self.channels, -1).T.flatten()
        self.recipe = dataclasses.replace(
            self.recipe, batch=max(self.recipe.batch, BATCH_PIXELS // self.places)
        )
        self.features = Features(domain)
        self.inputs = self.channels * self.features.sizes[0]  # of a pixel
        self.heads = ColumnHeads(domain, components, HEADS[colours])
        self.colours, self.components = colours, components
        size = self.heads.sizes[0]
        self.marginals = nn.Buffer(torch.zeros(self.channels, self.places, size))

    @classmethod
    def obstacle(cls, domain: Domain) -> str | None:
        image = domain.layout in ("image", "lattice") and len(domain.shape) in (2, 3)
        where = None if image else 'anything but layout="image" or "lattice" with two or three axes'
        return super().obstacle(domain) or where

    def _read_out(self, width: int) -> None:
        """Make the network from h, of this width, to outputs."""
        self.net: MLP | MaskedMLP
        if self.colours == "mixture":
            self.net = MLP(width, self.components * sum(self._parts), (HIDDEN,))
            return
        # Nothing depends on the last channel.
        inputs = [self.features.sizes[0]] * (self.channels - 1) + [0]
        outputs = self.heads.sizes[:: self.places]
        self.net = MaskedMLP(inputs, outputs, hidden=(HIDDEN,), context=width)

    def prepare(self, batch: Batch) -> None:
        """Take scales from the training split, and start at its independent marginals."""
        super().prepare(batch)
        self.features.prepare(batch.x, batch.weight)
        self.heads.prepare(batch.x, batch.weight)
        with torch.no_grad():
            self.marginals.copy_(self.heads.initial(batch.x, batch.weight).view_as(self.marginals))
            self.net.layers[-1].weight.zero_()
            self.net.layers[-1].bias.zero_()

    # What a subclass writes.

    def _hidden(self, inputs: Maps, context: Tensor | None) -> Maps:
        """h of all pixels from the inputs of all pixels."""
        raise NotImplementedError

    def _passing(self, n: int, context: Tensor | None) -> Passing:
        """The same for n rows pixel by pixel; nothing is recorded for gradients."""
        raise NotImplementedError

    # Likelihood and sampling.

    def _terms(self, k: int, x: Tensor, context: Tensor | None) -> Float[Tensor, "n entries"]:
        rows, columns = self.domain.shape[-2:]
        size = self.features.sizes[0]
        seen = self.features(x).view(len(x), self.channels, self.places, size)
        inputs = seen.transpose(2, 3).reshape(len(x), self.inputs, rows, columns)
        h = self._hidden(inputs, context).flatten(2).transpose(1, 2)
        values = x.reshape(len(x), self.channels, self.places)
        outputs = self.outputs(h, values, seen, slice(0, self.places))
        return self.heads.log_prob(outputs.flatten(1), x)

    def outputs(self, h: Hidden, x: Tensor, seen: OfPixels, at: slice) -> OfPixels:
        """Outputs of all channels of the pixels `at`, from h, the channels' values x and their features.

        Those of a channel depend on the channels before it.
        """
        marginals = self.marginals[:, at]
        if not isinstance(self.net, MaskedMLP):
            return self._of_shared_mixture(h, x, marginals, at)
        before = seen[:, :-1].transpose(1, 2).reshape(h.shape[:2].numel(), sum(self.net.inputs))
        y = self.net(before, h.flatten(0, 1)).view(*h.shape[:2], *self.marginals.shape[::2])
        return y.transpose(1, 2) + marginals

    def _of_shared_mixture(self, h: Hidden, x: Tensor, marginals: Tensor, at: slice) -> OfPixels:
        """The same of a mixture whose component all channels of a pixel share.

            p(x_1, x_2, …) = Σ_k π_k Π_c P_k(x_c; μ_ck + Σ_{b<c} tanh(α_cbk) z_b, s_ck)

        with the channels z on the scale of the means. The conditional of a channel is a mixture, too,
        whose weights are π_k Π_{b<c} P_k(x_b).
        """
        parts = self.net(h).unflatten(-1, (-1, self.components))
        weights, means, widths, slopes = parts.split(self._parts, -2)
        weights, slope = weights[..., 0, :], iter(slopes.tanh().unbind(-2))
        head: Logistics = self.heads.heads[0]  # type: ignore[assignment]
        outputs: list[Tensor] = []
        z: list[Tensor] = []
        for c in range(self.channels):
            mean = means[..., c, :] + sum(next(slope) * z_b[..., None] for z_b in z)
            y = torch.cat([weights, mean, widths[..., c, :]], -1) + marginals[c]
            outputs.append(y)
            entries = slice(c * self.places + at.start, c * self.places + at.stop)
            z.append(head.standardised(x[:, c], y, entries)[0])
            weights = weights + head.terms(y, x[:, c], entries)[0]
        return torch.stack(outputs, 1)

    @property
    def _parts(self) -> list[int]:
        """Outputs for each component: of weights π, means μ, widths s and slopes α."""
        return [1, self.channels, self.channels, self.channels * (self.channels - 1) // 2]

    def _walk(self, k: int, n: int, context: Tensor | None) -> "PixelWalk":
        return PixelWalk(self, n, context)


class PixelWalk:
    """A pass entry by entry: the network once a pixel, its readout once a channel; see `Walk`."""

    def __init__(self, model: PixelModel, n: int, context: Tensor | None) -> None:
        self.model, self.pixel, self.channel = model, 0, 0
        self.network = model._passing(n, context)
        dtype = model.heads.type_of_draws(model.dtype)
        self.x = torch.full(
            (n, model.channels), model.domain.column(0).anchor, dtype=dtype, device=model.device
        )
        self.seen = model.marginals.new_zeros(n, model.channels, model.features.sizes[0])
        self.h = self.network.hidden(self.seen.flatten(1))

    @torch.no_grad()
    def outputs(self) -> Float[Tensor, "n size"]:
        at = slice(self.pixel, self.pixel + 1)
        y = self.model.outputs(self.h[:, None], self.x[..., None], self.seen[:, :, None], at)
        return y[:, self.channel, 0]

    @torch.no_grad()
    def feed(self, values: Shaped[Tensor, " n"]) -> None:
        entry = self.channel * self.model.places + self.pixel
        self.x[:, self.channel] = values.to(self.x)
        self.seen[:, self.channel] = self.model.features.entry(entry, values)
        self.channel += 1
        if self.channel == self.model.channels:
            self.pixel, self.channel = self.pixel + 1, 0
            if self.pixel < self.model.places:
                self.h = self.network.hidden(self.seen.flatten(1).clone())

    def select(self, rows: Int[Tensor, " m"]) -> None:
        """Go on with these rows, which may repeat."""
        self.x, self.seen, self.h = self.x[rows], self.seen[rows], self.h[rows]
        self.network.select(rows)


def _of_mixture(column: Column) -> type[Head]:
    """The head of a column whose mixture the channels of a pixel can share."""
    levels = isinstance(column, Integer) and (column.levels or 0) > 2
    head = DiscretisedLogistics if levels else mixture_head(column)
    if head is None or not issubclass(head, Logistics):
        raise DomainError(
            f'colours="mixture" does not take {column.kind} columns: take colours="masked"'
        )
    return head


HEADS = {"masked": mixture_head, "mixture": _of_mixture}
