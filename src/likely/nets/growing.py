"""Networks of images that grow while they train (Karras et al. 2018, arXiv:1710.10196).

Each level has twice the resolution of the one before. While a level fades in, with α from 0 to 1,

    generator:  image = (1 − α) up(image of the level before) + α (its own),
    critic:     maps = (1 − α) (those of the level before, of the halved image) + α (its own),

so that the networks that grow are, at α = 0, the small ones. Images have the final resolution at all
levels: a generator repeats its pixels, and a critic begins with their means.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from likely.nets.convolutional import Shape, conv, leaky_relu
from likely.nets.normalisation import MinibatchDeviation, noise_norm, pixel_norm

Pixels = Float[Tensor, "n pixels"]


class Growing(nn.Module):
    """A network whose buffer `grown` is the number of its doublings; a fraction fades in."""

    grown: Tensor

    def level(self) -> tuple[int, float]:
        """The level, from 0 on, and its α."""
        grown = self.grown.item()
        level = math.ceil(grown)
        return level, grown - level + 1


class GrowingGenerator(Growing):
    """A linear layer to the coarsest maps, then convolutions that are normalised at each place.

    Parameters
    ----------
    latent, context : int
        How many of the inputs are noise, and, after it, context.
    shape : (channels, height, width)
    widths : sequence of int
        Channels at half the resolution, a quarter …; the finest maps have those at half of it.
    """

    def __init__(self, latent: int, context: int, shape: Shape, widths: Sequence[int]) -> None:
        super().__init__()
        self.latent, self.shape = latent, shape
        self.coarsest = tuple(edge >> len(widths) for edge in shape[1:])
        channels = [*widths[::-1], widths[0]]
        places = math.prod(self.coarsest)
        self.first = nn.Linear(latent + context, channels[0] * places)
        self.second = conv(channels[0], channels[0])
        self.blocks = nn.ModuleList(
            nn.ModuleList([conv(a, b), conv(b, b)]) for a, b in pairwise(channels)
        )
        self.to_image = nn.ModuleList(nn.Conv2d(width, shape[0], 1) for width in channels)
        self.grown = nn.Buffer(torch.tensor(float(len(widths))))

    def forward(self, inputs: Float[Tensor, "n inputs"]) -> Pixels:
        return self.at(inputs, *self.level())

    def at(self, inputs: Float[Tensor, "n inputs"], level: int, fade: float) -> Pixels:
        """Images of a level whose α is `fade`."""
        z = self.first(noise_norm(inputs, self.latent))
        h = before = activated(z.unflatten(1, (-1, *self.coarsest)))
        h = activated(self.second(h))
        for block in self.blocks[:level]:
            before, h = h, F.interpolate(h, scale_factor=2)
            for layer in block.children():
                h = activated(layer(h))
        image = self.to_image[level](h)
        if level and fade < 1:
            coarse = F.interpolate(self.to_image[level - 1](before), scale_factor=2)
            image = torch.lerp(coarse, image, fade)
        return F.interpolate(image, self.shape[1:]).flatten(1)


def activated(h: Tensor) -> Tensor:
    """A leaky rectifier, then the norm at each place."""
    return pixel_norm(leaky_relu(h))


class PlainFeatures(nn.Module):
    """Pairs of convolutions, then means of four pixels, and in the end a layer of all places.

    Parameters
    ----------
    shape : (channels, height, width)
    widths : sequence of int
        Channels at half the resolution, a quarter …; the finest maps have those at half of it.
    minibatch_std : bool
        Whether the last convolution sees the deviation over the batch.
    """

    def __init__(self, shape: Shape, widths: Sequence[int], minibatch_std: bool = False) -> None:
        super().__init__()
        self.shape, self.size = shape, widths[-1]
        self.from_image = nn.Conv2d(shape[0], widths[0], 1)
        self.blocks = nn.ModuleList(
            nn.Sequential(conv(a, a), leaky(), conv(a, b), leaky(), nn.AvgPool2d(2))
            for a, b in pairwise([widths[0], *widths])
        )
        places = math.prod(edge >> len(widths) for edge in shape[1:])
        self.last = nn.Sequential(
            *([MinibatchDeviation()] if minibatch_std else []),
            conv(self.size + minibatch_std, self.size),
            leaky(),
            nn.Flatten(),
            nn.Linear(self.size * places, self.size),
            leaky(),
        )

    def forward(self, u: Pixels) -> Float[Tensor, "n features"]:
        h = leaky_relu(self.from_image(u.unflatten(1, self.shape)))
        for block in self.blocks:
            h = block(h)
        return self.last(h)


def leaky() -> nn.Module:
    """The leaky rectifier as a module."""
    return nn.LeakyReLU(0.2)


class GrowingFeatures(PlainFeatures, Growing):
    """`PlainFeatures` that grow.

    Parameters
    ----------
    shape, widths, minibatch_std
        As in `PlainFeatures`.
    """

    def __init__(self, shape: Shape, widths: Sequence[int], minibatch_std: bool = False) -> None:
        super().__init__(shape, widths, minibatch_std)
        self.coarser = nn.ModuleList(nn.Conv2d(shape[0], width, 1) for width in widths)
        self.grown = nn.Buffer(torch.tensor(float(len(widths))))

    def forward(self, u: Pixels) -> Float[Tensor, "n features"]:
        return self.at(u, *self.level())

    def at(self, u: Pixels, level: int, fade: float) -> Float[Tensor, "n features"]:
        """Features of a level whose α is `fade`."""
        halvings = len(self.blocks) - level
        from_image = [self.from_image, *self.coarser]
        x = F.avg_pool2d(u.unflatten(1, self.shape), 2**halvings)
        h = leaky_relu(from_image[halvings](x))
        for i, block in enumerate(self.blocks[halvings:]):
            h = block(h)
            if i == 0 and fade < 1:
                coarse = from_image[halvings + 1](F.avg_pool2d(x, 2))
                h = torch.lerp(leaky_relu(coarse), h, fade)
        return self.last(h)

    def faded(self, u: Pixels) -> Pixels:
        """Real images as blurred as those of a generator that grows alike."""
        level, fade = self.level()
        if not level or fade == 1:
            return u
        edge = 2 ** (len(self.blocks) - level + 1)
        x = u.unflatten(1, self.shape)
        coarse = F.interpolate(F.avg_pool2d(x, edge), scale_factor=edge)
        return torch.lerp(coarse, x, fade).flatten(1)
