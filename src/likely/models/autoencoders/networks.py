"""Encoder and decoder: perceptrons, or convolutional networks where samples are images."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from likely.nets.convolutional import ImageDecoder, ImageEncoder, Shape
from likely.nets.mlp import MLP, with_context


class Encoder(nn.Module):
    """From a sample's features and the context to a vector.

    Parameters
    ----------
    inputs : int
        Features of a sample, entry by entry.
    outputs : int
    hidden : sequence of int
        Widths of layers, or channels.
    context : int
        Number of context features.
    shape : (channels, height, width), optional
        Of the image; each pixel has the same number of features.
    grid : int, optional
        As in `ImageEncoder`.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        hidden: Sequence[int],
        context: int,
        shape: Shape | None,
        grid: int | None = None,
    ) -> None:
        super().__init__()
        self.shape = shape
        if shape is None:
            self.net: nn.Module = MLP(inputs + context, outputs, hidden)
        else:
            planes = inputs // (shape[1] * shape[2])  # channels × features of each
            self.net = ImageEncoder((planes, *shape[1:]), outputs, hidden, context, grid=grid)

    def forward(
        self, features: Float[Tensor, "n inputs"], context: Float[Tensor, "n context"] | None
    ) -> Float[Tensor, "n outputs"]:
        if self.shape is None:
            outputs = self.net(with_context(features, context))
        else:
            planes = features.unflatten(1, (*self.shape, -1)).movedim(4, 2)
            outputs = self.net(planes.flatten(1), context)
        return outputs.to(features.dtype)  # of lower precision are networks only, not densities


class Decoder(nn.Module):
    """From a code and the context to the outputs of all entries.

    A `bias` of each output lets training start at the marginals.

    Parameters
    ----------
    inputs : int
        Length of the code.
    outputs : int
        Outputs of all entries, entry by entry.
    hidden, context, shape, grid
        As in `Encoder`; widths or channels in reverse.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        hidden: Sequence[int],
        context: int,
        shape: Shape | None,
        grid: int | None = None,
    ) -> None:
        super().__init__()
        self.shape = shape
        if shape is None:
            self.net: nn.Module = MLP(inputs + context, outputs, hidden[::-1])
        else:
            planes = outputs // (shape[1] * shape[2])
            self.net = ImageDecoder(inputs + context, (planes, *shape[1:]), hidden, grid)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(
        self, z: Float[Tensor, "n inputs"], context: Float[Tensor, "n context"] | None
    ) -> Float[Tensor, "n outputs"]:
        outputs = self.net(with_context(z, context))
        if self.shape is not None:
            channels, height, width = self.shape
            outputs = outputs.unflatten(1, (channels, -1, height, width)).movedim(2, 4).flatten(1)
        return outputs + self.bias
