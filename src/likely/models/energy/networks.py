"""Networks whose one output is a part of an energy."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from likely.nets.convolutional import ImageEncoder, Shape
from likely.nets.mlp import MLP
from likely.nets.normalisation import SpectralNorm

WAVED = 16  # largest number of columns for which waves are inputs by default
CODE = 128  # numbers that convolutions make of an image


class EnergyNetwork(nn.Module):
    """f(z), Lipschitz and smooth: a perceptron, or convolutions of an image.

    Beside each column z it sees sin w z and cos w z for some frequencies w; of angles only these, so
    that nothing jumps.

    Parameters
    ----------
    periodic : Tensor of bool, shape (d,)
        Which columns are angles.
    hidden : sequence of int, optional
        Widths of layers, by default (128, 128, 128), or channels, (32, 64).
    frequencies : sequence of int, optional
        By default (1, 2, 4, 8) for up to 16 columns that are no image, and else what angles need.
    image : (channels, height, width), optional
        With columns of one kind.
    spectral_norm : bool
        Whether to divide the weights of each layer by their largest singular value.
    """

    def __init__(
        self,
        periodic: Tensor,
        hidden: Sequence[int] | None,
        frequencies: Sequence[int] | None,
        image: Shape | None,
        spectral_norm: bool,
    ) -> None:
        super().__init__()
        self.periodic = nn.Buffer(periodic.clone(), persistent=False)
        d, angles = len(periodic), int(periodic.sum())
        if frequencies is None:
            frequencies = (1, 2, 4, 8) if image is None and d <= WAVED else ()
        self.frequencies = tuple(frequencies) or ((1,) if angles else ())
        inputs = d - angles + 2 * len(self.frequencies) * d
        if image is None:
            self.net: nn.Module = MLP(inputs, 1, hidden or (128, 128, 128), F.silu)
        else:
            planes = inputs // (image[1] * image[2])
            shape = planes, *image[1:]
            encoder = ImageEncoder(shape, CODE, hidden or (32, 64), activation=F.silu)
            self.net = nn.Sequential(encoder, nn.SiLU(), nn.Linear(CODE, 1))
        if spectral_norm:
            SpectralNorm.layers_of(self.net)

    def forward(self, z: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        waves = [wave(w * z) for w in self.frequencies for wave in (torch.sin, torch.cos)]
        return self.net(torch.cat([z[:, ~self.periodic], *waves], 1))[:, 0]
