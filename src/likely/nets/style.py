"""Generators that take styles: a number for each channel of each layer scales what passes (StyleGAN2).

Karras et al. 2020, arXiv:1912.04958. A mapping network makes a latent w of noise; an affine map makes of it
the styles s of a layer. With weights W_{oik} of output o, input i and place k,

    y_o = d_o Σ_ik W_oik s_i x_i,    d_o = (Σ_ik (s_i W_oik)²)^(−½),

so that of inputs with variance 1 come outputs with variance 1 (eq. 1 and 3 there). Scaling inputs and
outputs is the same as scaling the weights for each image, at the price of one ordinary convolution.
"""

import math
from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from likely.nets.adversarial import resolutions
from likely.nets.convolutional import Shape, leaky_relu
from likely.nets.normalisation import Equalised, noise_norm

Styles = Float[Tensor, "n layers latent"]

equalised = partial(Equalised, gain=1.0)


def activated(h: Tensor) -> Tensor:
    """A leaky rectifier that keeps the mean square."""
    return math.sqrt(2) * leaky_relu(h)


class Mapping(nn.Module):
    """w = f(z/|z| √latent, c), with layers that learn more slowly by a factor.

    Their weights start at N(0, 1/rate²), and are multiplied by the rate when they are used, as are biases.

    Parameters
    ----------
    latent, context : int
    depth : int
        Number of layers.
    rate : float
        The factor.
    """

    def __init__(self, latent: int, context: int, depth: int, rate: float) -> None:
        super().__init__()
        self.latent, self.rate = latent, rate
        layers = (nn.Linear(a, b) for a, b in pairwise([latent + context, *[latent] * depth]))
        self.layers = nn.ModuleList(equalised(layer) for layer in layers)
        with torch.no_grad():
            for weight in (p for p in self.parameters() if p.ndim > 1):
                weight.div_(rate)

    def forward(self, inputs: Float[Tensor, "n inputs"]) -> Float[Tensor, "n latent"]:
        w = noise_norm(inputs, self.latent)
        for layer in self.layers:
            w = activated(self.rate * layer(w))
        return w


class ModulatedConv(nn.Module):
    """A convolution whose inputs are scaled by styles, which start around 1.

    Parameters
    ----------
    inputs, outputs : int
        Channels.
    latent : int
        Dimension of w.
    kernel : int
    demodulate : bool
        Whether outputs are divided by what styles and weights make of the variance.
    """

    def __init__(
        self, inputs: int, outputs: int, latent: int, kernel: int = 3, demodulate: bool = True
    ) -> None:
        super().__init__()
        self.demodulate = demodulate
        self.style = equalised(nn.Linear(latent, inputs))
        convolution = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
        self.convolution = equalised(convolution)
        self.bias = nn.Parameter(torch.zeros(outputs, 1, 1))

    def forward(
        self, x: Float[Tensor, "n inputs height width"], w: Float[Tensor, "n latent"]
    ) -> Float[Tensor, "n outputs height width"]:
        style = 1 + self.style(w)
        y = self.convolution(style[..., None, None] * x)
        if self.demodulate:
            weight = self.convolution.scale() * self.convolution.layer.weight
            variance = style.square() @ weight.square().sum((2, 3)).T
            y = y * (variance + 1e-8).rsqrt()[..., None, None]
        return y + self.bias


class StyledLayer(nn.Module):
    """A modulated convolution, then noise of one strength, from 0 on, then the rectifier."""

    def __init__(self, inputs: int, outputs: int, latent: int) -> None:
        super().__init__()
        self.convolution = ModulatedConv(inputs, outputs, latent)
        self.strength = nn.Parameter(torch.tensor(0.0))

    def forward(self, x: Tensor, w: Tensor, noise: bool) -> Tensor:
        h = self.convolution(x, w)
        if noise:
            h = h + self.strength * torch.randn_like(h[:, :1])
        return activated(h)


class Synthesis(nn.Module):
    """Images of styles: a learned constant, then layers; images of all resolutions are summed.

    Parameters
    ----------
    latent : int
    shape : (channels, height, width)
    widths : sequence of int
        Channels at half the resolution, a quarter …; the finest maps have those at half of it.
    """

    def __init__(self, latent: int, shape: Shape, widths: Sequence[int]) -> None:
        super().__init__()
        self.shape = shape
        channels = [*widths[::-1], widths[0]]
        self.constant = nn.Parameter(torch.randn(channels[0], *resolutions(shape, len(widths))[0]))
        steps = [(channels[0], channels[0])]
        steps += [step for a, b in pairwise(channels) for step in ((a, b), (b, b))]
        self.layers = nn.ModuleList(StyledLayer(a, b, latent) for a, b in steps)
        self.to_image = nn.ModuleList(
            ModulatedConv(width, shape[0], latent, 1, demodulate=False) for width in channels
        )

    def forward(self, styles: Styles, noise: bool = True) -> Float[Tensor, "n pixels"]:
        w = styles.unbind(1)
        h = self.layers[0](self.constant.expand(len(styles), -1, -1, -1), w[0], noise)
        image = self.to_image[0](h, w[0])
        for i in range(1, len(self.layers), 2):
            h = self.layers[i](doubled(h), w[i], noise)
            h = self.layers[i + 1](h, w[i + 1], noise)
            image = doubled(image) + self.to_image[(i + 1) // 2](h, w[i + 1])
        return image[..., : self.shape[1], : self.shape[2]].flatten(1)


def doubled(h: Tensor) -> Tensor:
    """Twice the resolution."""
    return F.interpolate(h, scale_factor=2, mode="bilinear")


class StyleGenerator(nn.Module):
    """Mapping and synthesis; in training the later layers of some images have the styles of others.

    Parameters
    ----------
    latent, context : int
        How many of the inputs are noise, and, after it, context.
    shape, widths
        As in `Synthesis`.
    mapping : int
        Layers of the mapping network.
    rate : float
        Factor of its learning rate.
    mixing : float
        Part of the images whose styles are mixed.
    """

    def __init__(
        self,
        latent: int,
        context: int,
        shape: Shape,
        widths: Sequence[int],
        mapping: int,
        rate: float,
        mixing: float,
    ) -> None:
        super().__init__()
        self.latent, self.mixing = latent, mixing
        self.mapping = Mapping(latent, context, mapping, rate)
        self.synthesis = Synthesis(latent, shape, widths)
        self.layers = len(self.synthesis.layers)

    def forward(self, inputs: Float[Tensor, "n inputs"]) -> Float[Tensor, "n pixels"]:
        return self.synthesis(self.styles(inputs))

    def styles(self, inputs: Float[Tensor, "n inputs"]) -> Styles:
        """w for each layer, mixed in training."""
        styles = self.mapping(inputs)[:, None].expand(-1, self.layers, -1)
        if not self.training or not self.mixing:
            return styles
        z, context = inputs[:, : self.latent], inputs[:, self.latent :]
        others = self.mapping(torch.cat([torch.randn_like(z), context], 1))
        first = torch.randint(1, self.layers, (len(z), 1), device=z.device)
        mixed = torch.rand(len(z), 1, device=z.device) < self.mixing
        return crossed(styles, others[:, None], torch.where(mixed, first, self.layers))


def crossed(styles: Styles, others: Styles, first: Tensor | int) -> Styles:
    """Styles that are others from a layer on."""
    layer = torch.arange(styles.shape[1], device=styles.device)
    return torch.where((layer < first)[..., None], styles, others)
