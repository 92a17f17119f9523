"""A small U-Net that sees a noise level: from an image to one of the same size, at several resolutions.

(Ronneberger, Fischer & Brox 2015, arXiv:1505.04597; with residual blocks and a noise embedding, Ho, Jain
& Abbeel 2020, arXiv:2006.11239.)
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from likely.nets.convolutional import Shape, conv
from likely.nets.mlp import Context
from likely.nets.noise import NoiseEmbedding, zeroed

PATCHED = 16  # edges from which on a patch of 2 × 2 pixels is one pixel of more channels


class UNet(nn.Module):
    """Residual blocks on the way down to half the resolution and back up, with skips between the two.

    It takes and gives flat rows, and starts at zero.

    Parameters
    ----------
    shape : (channels, height, width)
        Of the image; the edges may be odd.
    channels : sequence of int
        Of the maps at the full resolution, half of it …
    context : int
        Number of context features; they join the noise level.
    """

    def __init__(self, shape: Shape, channels: Sequence[int] = (32, 64), context: int = 0) -> None:
        super().__init__()
        self.shape = shape
        self.patch = 2 if min(shape[1:]) >= PATCHED else 1
        planes = shape[0] * self.patch**2
        width = 2 * channels[-1]
        self.embedding = NoiseEmbedding(width, context)
        self.first = conv(planes, channels[0])
        down, up = [channels[0], *channels], [channels[-1], *channels[::-1]]
        self.down = nn.ModuleList(_Block(a, b, width) for a, b in pairwise(down))
        self.middle = _Block(channels[-1], channels[-1], width)
        self.up = nn.ModuleList(_Block(a + b, b, width) for a, b in pairwise(up))
        self.norm = _group_norm(channels[0])
        self.last = zeroed(conv(channels[0], planes))

    def forward(
        self, z: Float[Tensor, "n pixels"], t: Float[Tensor, " n"], context: Context = None
    ) -> Float[Tensor, "n pixels"]:
        e = self.embedding(t, context)
        _, height, width = self.shape
        x = F.pad(z.unflatten(1, self.shape), (0, -width % self.patch, 0, -height % self.patch))
        h = self.first(F.pixel_unshuffle(x, self.patch))
        skips: list[Tensor] = []
        for block in self.down:
            h = block(F.avg_pool2d(h, 2, ceil_mode=True) if skips else h, e)
            skips.append(h)
        h = self.middle(h, e)
        for block, skip in zip(self.up, reversed(skips), strict=True):
            if h.shape[2:] != skip.shape[2:]:
                h = F.interpolate(h, size=skip.shape[2:])
            h = block(torch.cat([h, skip], 1), e)
        y = F.pixel_shuffle(self.last(F.silu(self.norm(h))), self.patch)
        return y[..., :height, :width].flatten(1)


class _Block(nn.Module):
    """h ← S h + W₂ σ(γ(e) N(W₁ σ(N h)) + β(e)), with group norms N and an embedding e."""

    def __init__(self, inputs: int, outputs: int, embedding: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([_group_norm(inputs), _group_norm(outputs)])
        self.first = conv(inputs, outputs)
        self.modulation = nn.Linear(embedding, 2 * outputs)
        self.second = zeroed(conv(outputs, outputs))
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(
        self, h: Float[Tensor, "n inputs height width"], e: Float[Tensor, "n embedding"]
    ) -> Float[Tensor, "n outputs height width"]:
        scale, shift = self.modulation(e)[..., None, None].chunk(2, 1)
        inner = self.norms[1](self.first(F.silu(self.norms[0](h))))
        return self.skip(h) + self.second(F.silu(inner + scale * inner + shift))


def _group_norm(channels: int) -> nn.GroupNorm:
    # Two channels or more in a group: at one pixel, one value would have no variance.
    return nn.GroupNorm(math.gcd(8, max(1, channels // 2)), channels)
