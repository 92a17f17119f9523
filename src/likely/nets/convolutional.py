"""Convolutional networks of images: to a vector, from a vector, and to another image.

The first two take and give flat rows, as `MLP` does, so that a family can take either.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from likely.core.domain import Domain
from likely.core.errors import LikelyError
from likely.nets.mlp import Context, with_context

Shape = tuple[int, int, int]  # channels, height, width
Network = Literal["auto", "mlp", "convolutional"]


class Conv2d(nn.Conv2d):
    """A convolution of images whose channels come last in memory, which makes it faster on CPUs."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.contiguous(memory_format=torch.channels_last))


conv = partial(Conv2d, kernel_size=3, padding=1)
# A critic whose units all died would no longer judge, without a sign of it.
leaky_relu = partial(F.leaky_relu, negative_slope=0.2)


def image_shape(domain: Domain) -> Shape | None:
    """Channels, height and width of a domain whose layout is an image; None for any other."""
    if domain.layout != "image":
        return None
    channels, height, width = domain.shape if len(domain.shape) == 3 else (1, *domain.shape)
    return channels, height, width


def image_shape_for(domain: Domain, network: str, alike: bool, least: int = 1) -> Shape | None:
    """The shape of the images that convolutional networks are to see; None for an MLP.

    Entries must be `alike`, of one kind, to be pixels. "auto" takes convolutions where each edge has
    at least `least` of them. Raises a `LikelyError` if `network` names some that find no image.
    """
    shape = image_shape(domain) if alike else None
    if network not in ("auto", "mlp") and shape is None:
        raise LikelyError(f'network="{network}" takes images with entries of one kind: take "mlp"')
    if network == "mlp" or (network == "auto" and shape and min(shape[1:]) < least):
        return None
    return shape


def halved(size: int, times: int) -> list[int]:
    """An edge at each resolution, the finest first."""
    sizes = [size]
    for _ in range(times):
        sizes.append((sizes[-1] + 1) // 2)
    return sizes


def residual(
    channels: int,
    layer: Callable[[int, int], nn.Module] = conv,
    activation: Callable[[], nn.Module] = nn.ReLU,
) -> nn.Sequential:
    """W₂ σ(W₁ σ(h)), to be added to h."""
    return nn.Sequential(
        activation(), layer(channels, channels), activation(), layer(channels, channels)
    )


class ImageEncoder(nn.Module):
    """Strided convolutions, each to half the resolution, then a linear layer or more convolutions.

    Parameters
    ----------
    shape : (channels, height, width)
        Of the image.
    outputs : int
    widths : sequence of int
        Channels at half the resolution, a quarter …
    context : int
        Numbers that join at the last layer.
    activation : callable
    grid : int, optional
        Channels of outputs that are a map at the coarsest resolution; None takes the linear layer.
    blocks : int
        Residual blocks after each strided convolution.
    """

    def __init__(
        self,
        shape: Shape,
        outputs: int,
        widths: Sequence[int] = (32, 64),
        context: int = 0,
        activation: Callable[[Tensor], Tensor] = leaky_relu,
        grid: int | None = None,
        blocks: int = 0,
    ) -> None:
        super().__init__()
        self.shape, self.activation = shape, activation
        channels = [shape[0], *widths]
        self.layers = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(channels)
        )
        self.blocks = nn.ModuleList(
            nn.ModuleList(residual(width) for _ in range(blocks)) for width in widths
        )
        height, width = (halved(edge, len(widths))[-1] for edge in shape[1:])
        self.last: nn.Module
        if grid is None:
            self.last = nn.Linear(channels[-1] * height * width + context, outputs)
        else:
            self.last = FlatMaps(channels[-1], grid, (height, width), channels[-1], context)

    def forward(
        self, x: Float[Tensor, "n pixels"], context: Context = None
    ) -> Float[Tensor, "n outputs"]:
        h = x.unflatten(1, self.shape)
        for layer, blocks in zip(self.layers, self.blocks, strict=True):
            h = self.activation(layer(h))
            for block in blocks:  # type: ignore[attr-defined]
                h = h + block(h)
        return self.last(with_context(h.flatten(1), context))


class ImageDecoder(nn.Module):
    """The way back: a linear layer or convolutions, then others, each after doubling the resolution.

    Parameters
    ----------
    inputs : int
    shape : (channels, height, width)
        Of the image.
    widths : sequence of int
        Channels at half the resolution, a quarter … (in the same order as an encoder's).
    grid : int, optional
        Channels of a map at the coarsest resolution with which the inputs begin; what follows joins at
        each of its places. None takes the linear layer.
    """

    def __init__(
        self,
        inputs: int,
        shape: Shape,
        widths: Sequence[int] = (32, 64),
        grid: int | None = None,
    ) -> None:
        super().__init__()
        sizes = [halved(edge, len(widths)) for edge in shape[1:]]
        self.sizes = list(zip(*sizes, strict=True))[::-1]  # the coarsest first
        channels = [*widths[::-1], widths[0] if widths else shape[0]]
        places = math.prod(self.sizes[0])
        self.first: nn.Module
        if grid is None:
            self.first = nn.Linear(inputs, channels[0] * places)
        else:
            context = inputs - grid * places
            self.first = FlatMaps(grid, channels[0], self.sizes[0], channels[0], context)
        self.layers = nn.ModuleList(conv(a, b) for a, b in pairwise(channels))
        self.last = conv(channels[-1], shape[0])

    def forward(self, z: Float[Tensor, "n inputs"]) -> Float[Tensor, "n pixels"]:
        h = self.first(z).unflatten(1, (-1, *self.sizes[0]))
        for layer, size in zip(self.layers, self.sizes[1:], strict=True):
            h = F.relu(layer(F.interpolate(F.relu(h), size)))
        return self.last(h).flatten(1)


def circular(height: int, width: int) -> Callable[[int, int], nn.Module]:
    """What makes 3×3 convolutions on a torus of these sides; kernels are no wider than it."""
    return partial(CircularConv2d, kernel_size=(min(3, height), min(3, width)))


class CircularConv2d(Conv2d):
    """A convolution on a torus.

    With torch's circular padding a training step of couplings takes 1.4 times as long.
    """

    def forward(self, input: Tensor) -> Tensor:
        for axis, kernel in zip((2, 3), self.kernel_size, strict=True):
            before, after = (kernel - 1) // 2, kernel // 2
            parts = [input.narrow(axis, -before, before)] * (before > 0) + [input]
            parts += [input.narrow(axis, 0, after)] * (after > 0)
            input = torch.cat(parts, axis)
        return super().forward(input)


class ResidualConvolutions(nn.Module):
    """From an image to another of the same size: 3×3 convolutions with residual blocks.

        h ← A x + C c,    h ← h + W₂ σ(W₁ σ(h)) for each block,    y = B σ(h)

    Parameters
    ----------
    inputs, outputs : int
        Channels.
    channels : int
        Of the hidden maps.
    blocks : int
    context : int
        Number of context features; they are added to every pixel.
    layer : callable (inputs, outputs) -> Module
        Makes a convolution.
    last : callable (inputs, outputs) -> Module, optional
        Makes the last one, B; by default `layer`.
    activation : callable () -> Module
        Makes σ.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        channels: int = 32,
        blocks: int = 2,
        context: int = 0,
        layer: Callable[[int, int], nn.Module] = conv,
        last: Callable[[int, int], nn.Module] | None = None,
        activation: Callable[[], nn.Module] = nn.ReLU,
    ) -> None:
        super().__init__()
        self.first = layer(inputs, channels)
        self.context = nn.Linear(context, channels, bias=False) if context else None
        self.blocks = nn.ModuleList(residual(channels, layer, activation) for _ in range(blocks))
        self.activation = activation()
        self.last = (last or layer)(channels, outputs)

    def forward(
        self, x: Float[Tensor, "n inputs height width"], context: Context = None
    ) -> Float[Tensor, "n outputs height width"]:
        h = self.first(x)
        if self.context is not None and context is not None:
            h = h + self.context(context)[..., None, None]
        for block in self.blocks:
            h = h + block(h)
        return self.last(self.activation(h))


class FlatMaps(nn.Module):
    """`ResidualConvolutions` of flat rows, whose last columns are the context.

    Parameters
    ----------
    inputs, outputs : int
        Channels.
    size : (height, width)
    channels, context
        As in `ResidualConvolutions`.
    """

    def __init__(
        self, inputs: int, outputs: int, size: tuple[int, int], channels: int, context: int
    ) -> None:
        super().__init__()
        self.size, self.split = size, [inputs * math.prod(size), context]
        self.net = ResidualConvolutions(inputs, outputs, channels, context=context)

    def forward(self, x: Float[Tensor, "n inputs"]) -> Float[Tensor, "n outputs"]:
        x, context = x.split(self.split, 1)
        return self.net(x.unflatten(1, (-1, *self.size)), context).flatten(1)
