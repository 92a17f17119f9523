"""Networks whose outputs are parts of energies."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from likely.nets.convolutional import ImageEncoder, Shape
from likely.nets.mlp import MLP
from likely.nets.normalisation import SpectralNorm

WAVED = 16  # largest number of columns for which waves are inputs by default
CODE = 128  # numbers that the last of several layers sees


class QuadraticHead(nn.Linear):
    """w h + b + ½ |A h + c|²: an energy that grows as a square, and falls at most linearly.

    The square is the same for all outputs. In Li, Chen & Sommer 2019, arXiv:1910.07762, it is a product of
    two linear functions instead, which may fall as a square, too.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.root = nn.Linear(inputs, inputs)

    def forward(self, input: Float[Tensor, "n inputs"]) -> Float[Tensor, "n outputs"]:
        return super().forward(input) + self.root(input).square().sum(1, keepdim=True) / 2


class EnergyNetwork(nn.Module):
    """f(z), smooth, and falling at most linearly: a perceptron, or convolutions of an image.

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
    quadratic : bool
        Whether the last layer is a `QuadraticHead`.
    outputs : int
    """

    def __init__(
        self,
        periodic: Tensor,
        hidden: Sequence[int] | None,
        frequencies: Sequence[int] | None,
        image: Shape | None,
        spectral_norm: bool,
        quadratic: bool = False,
        outputs: int = 1,
    ) -> None:
        super().__init__()
        self.periodic = nn.Buffer(periodic.clone(), persistent=False)
        d, angles = len(periodic), int(periodic.sum())
        if frequencies is None:
            frequencies = (1, 2, 4, 8) if image is None and d <= WAVED else ()
        self.frequencies = tuple(frequencies) or ((1,) if angles else ())
        inputs = d - angles + 2 * len(self.frequencies) * d
        code = CODE if image is not None or quadratic else outputs
        if image is None:
            self.net: nn.Module = MLP(inputs, code, hidden or (128, 128, 128), F.silu)
        else:
            planes = inputs // (image[1] * image[2])
            shape = planes, *image[1:]
            self.net = ImageEncoder(shape, code, hidden or (32, 64), activation=F.silu)
        if image is not None or quadratic:
            head = (QuadraticHead if quadratic else nn.Linear)(code, outputs)
            self.net = nn.Sequential(self.net, nn.SiLU(), head)
        if spectral_norm:
            SpectralNorm.layers_of(self.net)

    def forward(self, z: Float[Tensor, "n d"]) -> Float[Tensor, "n outputs"]:
        waves = [wave(w * z) for w in self.frequencies for wave in (torch.sin, torch.cos)]
        return self.net(torch.cat([z[:, ~self.periodic], *waves], 1))
