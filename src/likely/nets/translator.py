"""Networks for the translation of images: from one image to another, and a critic of its patches.

Both take and give flat rows, as `MLP` does.
"""

from collections.abc import Sequence
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from likely.nets.convolutional import Shape, conv, halved, leaky_relu


def instance_norm(channels: int) -> nn.Module:
    """Each channel of each image to mean 0 and deviation 1, times a gain, plus a shift."""
    return nn.GroupNorm(channels, channels)


class ResidualBlock(nn.Module):
    """h + N(W₂ σ(N(W₁ h))) with instance normalisation N (Johnson et al. 2016, arXiv:1603.08155)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = conv(channels, channels), conv(channels, channels)
        self.norms = nn.ModuleList(instance_norm(channels) for _ in range(2))

    def forward(self, h: Tensor) -> Tensor:
        return h + self.norms[1](self.second(F.relu(self.norms[0](self.first(h)))))


class Translator(nn.Module):
    """An image to another of the same size: to a lower resolution, residual blocks, and back.

    The way back enlarges and then convolves: transposed convolutions leave checkerboards
    (Odena, Dumoulin & Olah 2016, Distill).

    Parameters
    ----------
    shape : (channels, height, width)
        Of the images that come in.
    outputs : int
        Channels of those that go out.
    widths : sequence of int
        Channels at full resolution, at half …
    blocks : int
        Residual blocks at the lowest.
    """

    def __init__(self, shape: Shape, outputs: int, widths: Sequence[int], blocks: int) -> None:
        super().__init__()
        self.shape = shape
        sizes = [halved(edge, len(widths) - 1) for edge in shape[1:]]
        self.sizes = list(zip(*sizes, strict=True))[-2::-1]  # on the way back
        self.first = conv(shape[0], widths[0])
        self.down = nn.ModuleList(conv(a, b, stride=2) for a, b in pairwise(widths))
        self.blocks = nn.Sequential(*(ResidualBlock(widths[-1]) for _ in range(blocks)))
        self.up = nn.ModuleList(conv(a, b) for a, b in pairwise(widths[::-1]))
        self.last = conv(widths[0], outputs)
        in_order = [*widths, *widths[-2::-1]]
        self.norms = nn.ModuleList(instance_norm(width) for width in in_order)

    def forward(self, x: Float[Tensor, "n pixels"]) -> Float[Tensor, "n outputs"]:
        norms = iter(self.norms)
        h = F.relu(next(norms)(self.first(x.unflatten(1, self.shape))))
        for layer in self.down:
            h = F.relu(next(norms)(layer(h)))
        h = self.blocks(h)
        for layer, size in zip(self.up, self.sizes, strict=True):
            h = F.relu(next(norms)(layer(F.interpolate(h, size))))
        return self.last(h).flatten(1)


class PatchCritic(nn.Module):
    """A number for each patch of an image (Isola et al. 2017, arXiv:1611.07004, sec. 3.2.2).

    Parameters
    ----------
    shape : (channels, height, width)
    widths : sequence of int
        Channels at half the resolution, at a quarter …
    """

    def __init__(self, shape: Shape, widths: Sequence[int]) -> None:
        super().__init__()
        self.shape = shape
        self.layers = nn.ModuleList(
            nn.Conv2d(a, b, 4, stride=2, padding=1) for a, b in pairwise([shape[0], *widths])
        )
        self.last = conv(widths[-1], 1)

    def forward(self, x: Float[Tensor, "n pixels"]) -> Float[Tensor, "n patches"]:
        h: Tensor = x.unflatten(1, self.shape)
        for layer in self.layers:
            h = leaky_relu(layer(h))
        return self.last(h).flatten(1)
