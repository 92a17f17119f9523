"""What keeps networks at a scale: weights that are rescaled when they are used, and normal batches."""

import math
from collections.abc import Iterable
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

Net = TypeVar("Net", bound=nn.Module)
Layer = nn.Linear | nn.Conv2d | nn.ConvTranspose2d
Maps = Float[Tensor, "n channels height width"]


class Scaled(nn.Module):
    """A layer whose weights are multiplied by a number whenever they are used."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.layer = layer

    def scale(self) -> Tensor | float:
        """The number."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return functional_call(self.layer, {"weight": self.scale() * self.layer.weight}, x)

    @classmethod
    def layers_of(cls, net: Net) -> Net:
        """The network itself, with its linear layers and convolutions scaled."""
        for parent in [*net.modules()]:
            for name, layer in [*parent.named_children()]:
                if isinstance(layer, Layer):
                    setattr(parent, name, cls(layer))
        return net


class SpectralNorm(Scaled):
    """A layer whose matrix is divided by its largest singular value σ = uᵀ W v.

    Each pass in training improves u and v by one power iteration; `converge` finds them exactly. Of a
    convolution W is the matrix from a patch to the channels, and σ not the norm of the whole map, which may
    be larger by up to the square root of the kernel's size.

    Miyato et al. 2018, arXiv:1802.05957, algorithm 1.
    """

    def __init__(self, layer: Layer) -> None:
        super().__init__(layer)
        self.u = nn.Buffer(torch.empty(len(layer.weight)))
        self.converge()

    @torch.no_grad()
    def converge(self) -> None:
        """Find u by a singular value decomposition."""
        u = torch.linalg.svd(self.layer.weight.flatten(1), full_matrices=False).U
        self.u.copy_(u[:, 0])

    def scale(self) -> Tensor:
        with torch.autocast(self.u.device.type, enabled=False):
            matrix = self.layer.weight.flatten(1)
            with torch.no_grad():
                v = F.normalize(matrix.T @ self.u, dim=0)
                u = F.normalize(matrix @ v, dim=0)
                if self.training:
                    self.u.copy_(u)
            return 1 / (u @ matrix @ v)


def converge(net: nn.Module) -> None:
    """Find the singular values of all spectrally normalised layers."""
    for module in net.modules():
        if isinstance(module, SpectralNorm):
            module.converge()


class Equalised(Scaled):
    """A layer with weights from N(0, 1) that are scaled by gain/√inputs when they are used.

    Adam moves every weight by about the rate, whatever its scale; so all layers learn at the same pace.

    Karras et al. 2018, arXiv:1710.10196, sec. 4.1.

    Parameters
    ----------
    layer : Module
    gain : float
        √2 before a rectifier (He et al. 2015).
    """

    def __init__(self, layer: Layer, gain: float = math.sqrt(2)) -> None:
        super().__init__(layer)
        weight = layer.weight
        inputs = weight[0].numel()
        if isinstance(layer, nn.ConvTranspose2d):  # each output sees a part of the kernel
            inputs = weight[:, 0].numel() // math.prod(layer.stride)
        self.gain = gain / math.sqrt(inputs)
        nn.init.normal_(weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)

    def scale(self) -> float:
        return self.gain


def pixel_norm(h: Float[Tensor, "n channels *places"]) -> Float[Tensor, "n channels *places"]:
    """h over the root of its mean square over channels, at each place (Karras et al. 2018, sec. 4.2)."""
    return math.sqrt(h.shape[1]) * F.normalize(h, dim=1)


def noise_norm(inputs: Float[Tensor, "n inputs"], latent: int) -> Float[Tensor, "n inputs"]:
    """A network's inputs with mean square 1 over the noise; the context that follows stays."""
    return torch.cat([pixel_norm(inputs[:, :latent]), inputs[:, latent:]], 1)


class ConditionalBatchNorm(nn.BatchNorm2d):
    """ĥ ⊙ (1 + W c) + V c, where ĥ has mean 0 and deviation 1 in each channel over the batch.

    Dumoulin et al. 2017, arXiv:1610.07629, eq. 5; W and V start at zero.

    Parameters
    ----------
    channels, context : int
        Numbers of channels and of features of c.
    """

    def __init__(self, channels: int, context: int) -> None:
        super().__init__(channels, affine=False)
        self.gain = nn.Parameter(torch.zeros(channels, context))
        self.shift = nn.Parameter(torch.zeros(channels, context))

    def forward(self, h: Maps, context: Float[Tensor, "n context"]) -> Maps:  # type: ignore[override]
        gain, shift = (F.linear(context, w)[..., None, None] for w in (self.gain, self.shift))
        return super().forward(h) * (1 + gain) + shift


def batch_norms(net: nn.Module) -> dict[str, nn.BatchNorm2d]:
    """The layers of a network that normalise over the batch, by name."""
    return {name: m for name, m in net.named_modules() if isinstance(m, nn.BatchNorm2d)}


@torch.no_grad()
def standing_statistics(net: nn.Module, inputs: Iterable[Tensor]) -> None:
    """Set the running statistics to means over these batches, for these weights.

    Those that training leaves belong to the weights of many steps, and not to their average.
    """
    norms, training = batch_norms(net).values(), net.training
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # all batches count alike
    net.train()
    for x in inputs:
        net(x)
    net.train(training)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


class MinibatchDeviation(nn.Module):
    """Appends a channel with the standard deviation over the batch, averaged over channels and places.

    So a critic sees a batch of equal samples for what it is. In evaluation the channel holds what was
    usual in training, so that a row's number does not depend on its neighbours.

    Karras et al. 2018, arXiv:1710.10196, sec. 3.
    """

    MOMENTUM = 0.05

    def __init__(self) -> None:
        super().__init__()
        self.usual = nn.Buffer(torch.tensor(0.0))

    def forward(self, h: Maps) -> Maps:
        deviation: Tensor = self.usual
        if self.training:
            deviation = (h.var(0, correction=0) + 1e-8).sqrt().mean()
            with torch.no_grad():
                self.usual.lerp_(deviation.to(self.usual), self.MOMENTUM)
        return torch.cat([h, deviation.to(h).expand(len(h), 1, *h.shape[2:])], 1)


def sees_neighbours(net: nn.Module) -> bool:
    """Whether what a network makes of a row in training depends on the rest of the batch."""
    return any(isinstance(m, nn.BatchNorm2d | MinibatchDeviation) for m in net.modules())
