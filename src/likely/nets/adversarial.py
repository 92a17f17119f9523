"""Generators and critics of images: strided convolutions (DCGAN), and residual blocks (SNGAN, BigGAN).

All take and give flat rows. Resolutions double from layer to layer, and odd edges are cut at the end
(7, 14, 28; 4, 8, 15). Widths are channels at half the resolution, a quarter …
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from likely.nets.convolutional import Shape, conv, halved
from likely.nets.growing import PlainFeatures
from likely.nets.normalisation import ConditionalBatchNorm, MinibatchDeviation

COARSEST = 7  # pixels along the longer edge, at most, of the coarsest maps

Context = Float[Tensor, "n context"] | None


def doubling(
    shape: Shape, first: int, most: int = 256, coarsest: int = COARSEST
) -> tuple[int, ...]:
    """Widths that double with each halving of an image, down to edges of that many pixels."""
    halvings = max(1, math.ceil(math.log2(max(shape[1:]) / coarsest)))
    return tuple(min(first << i, most) for i in range(halvings))


def resolutions(shape: Shape, halvings: int) -> list[tuple[int, int]]:
    """Height and width at each resolution, the coarsest first; the finest may exceed the image."""
    height, width = (halved(edge, halvings)[-1] for edge in shape[1:])
    return [(height << i, width << i) for i in range(halvings + 1)]


class DCGenerator(nn.Module):
    """A linear layer to the coarsest maps, then transposed convolutions with batch normalisation.

    Radford, Metz & Chintala 2016, arXiv:1511.06434, fig. 1.

    Parameters
    ----------
    inputs : int
    shape : (channels, height, width)
    widths : sequence of int
    """

    def __init__(self, inputs: int, shape: Shape, widths: Sequence[int]) -> None:
        super().__init__()
        self.shape, self.coarsest = shape, resolutions(shape, len(widths))[0]
        self.first = nn.Linear(inputs, widths[-1] * math.prod(self.coarsest))
        channels = [*widths[::-1], shape[0]]
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in channels[:-1])
        self.layers = nn.ModuleList(
            nn.ConvTranspose2d(a, b, 4, stride=2, padding=1) for a, b in pairwise(channels)
        )

    def forward(self, z: Float[Tensor, "n inputs"]) -> Float[Tensor, "n pixels"]:
        h = self.first(z).unflatten(1, (-1, *self.coarsest))
        for norm, layer in zip(self.norms, self.layers, strict=True):
            h = layer(F.relu(norm(h)))
        return h[..., : self.shape[1], : self.shape[2]].flatten(1)


class DCFeatures(nn.Module):
    """Strided convolutions: what a critic of images sees before its last layer.

    Parameters
    ----------
    shape : (channels, height, width)
    widths : sequence of int
    batch_norm : bool
        Whether all layers but the first normalise over the batch.
    minibatch_std : bool
        Whether the last convolution sees the deviation over the batch.
    """

    def __init__(
        self,
        shape: Shape,
        widths: Sequence[int],
        batch_norm: bool = False,
        minibatch_std: bool = False,
    ) -> None:
        super().__init__()
        self.shape = shape
        channels = [shape[0], *widths]
        layers: list[nn.Module] = []
        for i, (a, b) in enumerate(pairwise(channels)):
            last = i == len(widths) - 1
            deviation = [MinibatchDeviation()] if last and minibatch_std else []
            norm = [nn.BatchNorm2d(b)] if i and batch_norm else []
            convolution = nn.Conv2d(a + len(deviation), b, 4, stride=2, padding=1)
            layers += [*deviation, convolution, *norm, nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers)
        self.size = widths[-1] * math.prod(edge >> len(widths) for edge in shape[1:])

    def forward(self, u: Float[Tensor, "n pixels"]) -> Float[Tensor, "n features"]:
        return self.layers(u.unflatten(1, self.shape)).flatten(1)


class ResidualGenerator(nn.Module):
    """Residual blocks, each doubling the resolution, whose normalisation is conditional on noise and c.

        h ← up(h) ↦ A h + W₂ σ(cbn₂(W₁ up σ(cbn₁(h)))),

    where cbn_i sees the context and a part of the noise of its own for each block (hierarchical noise). The
    first layer sees the context, too, with which classes part early.

    Brock, Donahue & Simonyan 2019, arXiv:1809.11096, fig. 15.

    Parameters
    ----------
    latent, context : int
        How many of the inputs are noise, and, after it, context.
    shape : (channels, height, width)
    widths : sequence of int
    """

    def __init__(self, latent: int, context: int, shape: Shape, widths: Sequence[int]) -> None:
        super().__init__()
        self.shape, self.coarsest = shape, resolutions(shape, len(widths))[0]
        part = latent // (len(widths) + 1)
        self.parts = [latent - part * len(widths), *[part] * len(widths), context]
        channels = [*widths[::-1], widths[0]]
        places = math.prod(self.coarsest)
        self.first = nn.Linear(self.parts[0] + context, channels[0] * places)
        self.blocks = nn.ModuleList(UpBlock(a, b, part + context) for a, b in pairwise(channels))
        self.norm = nn.BatchNorm2d(channels[-1])
        self.last = conv(channels[-1], shape[0])

    def forward(self, inputs: Float[Tensor, "n inputs"]) -> Float[Tensor, "n pixels"]:
        z, *parts, context = inputs.split(self.parts, 1)
        h = self.first(torch.cat([z, context], 1)).unflatten(1, (-1, *self.coarsest))
        for block, part in zip(self.blocks, parts, strict=True):
            h = block(h, torch.cat([part, context], 1))
        h = self.last(F.relu(self.norm(h)))
        return h[..., : self.shape[1], : self.shape[2]].flatten(1)


class UpBlock(nn.Module):
    """A residual block of a generator."""

    def __init__(self, inputs: int, outputs: int, context: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(ConditionalBatchNorm(c, context) for c in (inputs, outputs))
        self.layers = nn.ModuleList([conv(inputs, outputs), conv(outputs, outputs)])
        self.shortcut = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        h = F.relu(self.norms[0](x, context))
        h = self.layers[0](F.interpolate(h, scale_factor=2))
        h = self.layers[1](F.relu(self.norms[1](h, context)))
        return h + F.interpolate(self.shortcut(x), scale_factor=2)  # 1×1 before it costs a quarter


class ResidualFeatures(nn.Module):
    """Residual blocks, each halving the resolution but the last, then sums over all places.

    Parameters
    ----------
    shape, widths, minibatch_std
        As in `DCFeatures`.
    """

    def __init__(self, shape: Shape, widths: Sequence[int], minibatch_std: bool = False) -> None:
        super().__init__()
        self.shape, self.size = shape, widths[-1]
        channels = [shape[0], *widths]
        blocks: list[nn.Module] = [
            DownBlock(a, b, first=not i) for i, (a, b) in enumerate(pairwise(channels))
        ]
        blocks += [MinibatchDeviation()] if minibatch_std else []
        blocks.append(DownBlock(widths[-1] + minibatch_std, widths[-1], halve=False))
        self.blocks = nn.Sequential(*blocks)

    def forward(self, u: Float[Tensor, "n pixels"]) -> Float[Tensor, "n features"]:
        return F.relu(self.blocks(u.unflatten(1, self.shape))).sum((2, 3))


class DownBlock(nn.Module):
    """A residual block of a critic; the first of all sees pixels, which no rectifier may cut."""

    def __init__(self, inputs: int, outputs: int, first: bool = False, halve: bool = True) -> None:
        super().__init__()
        self.first, self.halve = first, halve
        self.layers = nn.ModuleList([conv(inputs, outputs), conv(outputs, outputs)])
        self.shortcut = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.layers[1](F.relu(self.layers[0](x if self.first else F.relu(x))))
        if not self.halve:
            return h + self.shortcut(x)
        return F.avg_pool2d(h, 2) + self.shortcut(F.avg_pool2d(x, 2))


class Projection(nn.Module):
    """f = l · φ + b + ⟨V c, φ⟩: the last layer of a critic whose context joins as an inner product.

    Miyato & Koyama 2018, arXiv:1802.05637, eq. 5.

    Parameters
    ----------
    features, context : int
        Numbers of entries of φ and of c.
    """

    def __init__(self, features: int, context: int) -> None:
        super().__init__()
        self.last = nn.Linear(features, 1)
        self.embedding = nn.Linear(context, features, bias=False) if context else None

    def forward(self, phi: Float[Tensor, "n features"], context: Context) -> Float[Tensor, " n"]:
        f = self.last(phi)[:, 0]
        if self.embedding is None:
            return f
        return f + (self.embedding(context) * phi).sum(1)


class ImageCritic(nn.Module):
    """f(u, c): features of an image and a projection."""

    def __init__(
        self, features: DCFeatures | ResidualFeatures | PlainFeatures, context: int
    ) -> None:
        super().__init__()
        self.features, self.head = features, Projection(features.size, context)

    def forward(self, u: Float[Tensor, "n pixels"], context: Context) -> Float[Tensor, " n"]:
        return self.head(self.features(u), context)
