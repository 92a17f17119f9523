"""Affine couplings of entries of a flat row that are arranged as an image."""

import torch
from torch import Tensor, nn

from likely.models.flows.affine import Affine
from likely.models.flows.transforms import Coupling, start_at_identity
from likely.nets.convolutional import ResidualConvolutions


class ImageCoupling(Coupling):
    """An affine coupling of entries of a row, arranged as an image, with a convolutional network.

    Parameters
    ----------
    entries : Tensor of int, shape (channels, height, width)
        Which entries of the row the pixels are; the others stay, and are not looked at.
    moves : Tensor of bool, shape (channels, height, width)
        Which of the pixels move.
    channels, blocks : int
        Size of the network.
    context : int
        Number of context features.
    """

    def __init__(
        self, entries: Tensor, moves: Tensor, channels: int, blocks: int, context: int
    ) -> None:
        super().__init__(Affine(torch.zeros(int(moves.sum()), dtype=torch.bool)), entries[moves])
        self.entries = nn.Buffer(entries, persistent=False)
        self.moves = nn.Buffer(moves, persistent=False)
        # Numbers of the pixels that move.
        self.pixels = nn.Buffer(moves.flatten().nonzero()[:, 0], persistent=False)
        outputs = self.bijection.size * len(entries)
        self.net = ResidualConvolutions(len(entries), outputs, channels, blocks, context)
        start_at_identity(self.net.last)

    def parameters_of(self, x: Tensor, context: Tensor | None) -> Tensor:
        image = torch.where(self.moves, 0.0, x.T[:, self.entries])
        outputs = self.net(image, context).to(x.dtype).unflatten(1, (-1, self.bijection.size))
        return outputs.permute(1, 3, 4, 2, 0).flatten(0, 2).index_select(0, self.pixels)


def checkerboard(image: Tensor) -> Tensor:
    """Where row and column of a pixel add up to an odd number."""
    _, row, column = (torch.arange(length) for length in image.shape)
    return ((row[:, None] + column) % 2 == 1).repeat(len(image), 1, 1)


def squeezed(image: Tensor) -> Tensor:
    """(c, h, w) as (4c, h/2, w/2): upper left pixels, then upper right, lower left, lower right."""
    blocks = image.unflatten(2, (-1, 2)).unflatten(1, (-1, 2))
    return blocks.permute(2, 4, 0, 1, 3).flatten(0, 2)
