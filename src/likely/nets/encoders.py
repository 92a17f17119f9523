"""Encoders of contexts that are arrays: of images, series and sets.

They take the `shape` of one array and give `outputs` numbers for each.
"""

from jaxtyping import Float
from torch import Tensor, nn

from likely.contract.networks import register_module
from likely.contract.options import Widths
from likely.nets.convolutional import ImageEncoder, Shape
from likely.nets.mlp import MLP


@register_module("cnn")
class CNN(nn.Module):
    """A small convolutional network, of images.

    Parameters
    ----------
    shape : (channels, height, width)
    outputs : int
    hidden : sequence of int
        Channels at half the resolution, at a quarter …
    """

    channel_axis = -3

    def __init__(self, shape: Shape, outputs: int = 16, hidden: Widths = (16, 32)) -> None:
        super().__init__()
        self.net = ImageEncoder(shape, outputs, hidden)

    def forward(self, x: Float[Tensor, "n channels height width"]) -> Float[Tensor, "n outputs"]:
        return self.net(x.flatten(1))


@register_module("gru")
class GRU(nn.Module):
    """A recurrent network, of series: a linear map of its last state (Cho et al. 2014, arXiv:1406.1078).

    Parameters
    ----------
    shape : (length, channels)
    outputs : int
    hidden : int
        Width of the state.
    """

    channel_axis = 1

    def __init__(self, shape: tuple[int, int], outputs: int = 16, hidden: int = 64) -> None:
        super().__init__()
        self.cell = nn.GRU(shape[-1], hidden, batch_first=True)
        self.last = nn.Linear(hidden, outputs)

    def forward(self, x: Float[Tensor, "n length channels"]) -> Float[Tensor, "n outputs"]:
        return self.last(self.cell(x)[1][0])


@register_module("deepsets")
class DeepSets(nn.Module):
    """ρ(1/N Σ_i φ(x_i)), of sets: the order of their N members does not matter.

    (Zaheer et al. 2017, arXiv:1703.06114, theorem 2, with a mean.)

    Parameters
    ----------
    shape : (members, channels)
    outputs : int
    hidden : sequence of int
        Widths of the hidden layers of φ and of ρ; φ has as many outputs as the last.
    """

    channel_axis = 1

    def __init__(
        self, shape: tuple[int, int], outputs: int = 16, hidden: Widths = (64, 64)
    ) -> None:
        super().__init__()
        self.phi = MLP(shape[-1], hidden[-1], hidden)
        self.rho = MLP(hidden[-1], outputs, hidden)

    def forward(self, x: Float[Tensor, "n members channels"]) -> Float[Tensor, "n outputs"]:
        return self.rho(self.phi(x.flatten(0, 1)).unflatten(0, x.shape[:2]).mean(1))
