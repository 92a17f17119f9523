"""Couplings of a field on a periodic lattice (Albergo, Kanwar & Shanahan 2019, arXiv:1904.12072).

The sites of a checkerboard take turns: half of them move by an element-wise bijection whose parameters come
from the other half, through circular convolutions. No parameter belongs to a site, so that shifts by an even
number of sites leave the density as it is.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from likely.contract import RealView, Recipe
from likely.core.domain import Domain
from likely.models.flows.transforms import Bijection, Coupling, Inverse, start_at_identity
from likely.nets.convolutional import ResidualConvolutions, circular

LatticeShape = tuple[int, int]
# A convolution takes as long for many small batches as for a few large ones.
LATTICE_RECIPE = Recipe(batch=64, rate=4e-3)


def lattice_shape(domain: Domain) -> LatticeShape | None:
    """The sides of a lattice that a checkerboard covers evenly, a ring's first one being 1; else None.

    It has one or two axes of even length, and entries of one kind.
    """
    shape = domain.shape
    fits = len(shape) <= 2 and not any(length % 2 for length in shape)
    if domain.layout != "lattice" or not fits or len(domain.groups) > 1:
        return None
    return (1, *shape)[-2:]  # type: ignore[return-value]


def lattice_couplings(
    bijection: Callable[[Tensor], Bijection],
    count: int,
    shape: LatticeShape,
    view: RealView,
    channels: int,
    blocks: int,
    context: int,
) -> list[Inverse]:
    """Couplings of the sites of a lattice, whose two colours take turns, as in `Flow._couplings`.

    They lead from the base to the field, since a training on an energy goes that way: the inverse of a
    spline with its slope costs much more than a spline.
    """
    row, column = (torch.arange(length) for length in shape)
    black = ((row[:, None] + column) % 2 == 1).flatten()
    colours = [black if i % 2 else ~black for i in range(count)]
    circle = bool(view.periodic.any())
    couplings = (
        LatticeCoupling(
            bijection(view.periodic[moves]), moves, shape, circle, channels, blocks, context
        )
        for moves in colours
    )
    return [Inverse(coupling) for coupling in couplings]


class LatticeCoupling(Coupling):
    """A coupling of the sites of a lattice, with a convolutional network.

    Parameters
    ----------
    bijection : Bijection
        For the sites that move.
    moves : Tensor of bool, shape (sites,)
        Which sites move.
    shape : (int, int)
        Sides; a ring's first one is 1.
    circle : bool
        Whether the field is an angle; the network then sees its cosine and sine.
    channels, blocks : int
        Size of the network.
    context : int
        Number of context features.
    """

    def __init__(
        self,
        bijection: Bijection,
        moves: Tensor,
        shape: LatticeShape,
        circle: bool,
        channels: int,
        blocks: int,
        context: int,
    ) -> None:
        super().__init__(bijection, moves.nonzero()[:, 0])
        self.stays = nn.Buffer(~moves, persistent=False)
        self.shape, self.circle = shape, circle
        sizes = 1 + circle, bijection.size, channels, blocks, context
        # Smooth, as the map of a field is: with ReLU, φ⁴ ended a tenth further from its action.
        layer = circular(*shape)
        # To its many parameters at each site, a 3×3 convolution would cost a spline more than all others.
        last = partial(nn.Conv2d, kernel_size=1) if bijection.size > channels else layer
        self.net = ResidualConvolutions(*sizes, layer=layer, last=last, activation=nn.SiLU)
        start_at_identity(self.net.last)

    def parameters_of(self, x: Tensor, context: Tensor | None) -> Tensor:
        phi = x.T[:, None]
        seen = torch.cat([phi.cos(), phi.sin()], 1) if self.circle else phi
        seen = torch.where(self.stays, seen, 0.0).unflatten(2, self.shape)
        outputs = self.net(seen, context).to(x.dtype).flatten(2)
        return outputs.permute(2, 1, 0).index_select(0, self.moving)
