"""RealNVP: real-valued non-volume preserving transformations.

Dinh, Sohl-Dickstein & Bengio (2017), arXiv:1605.08803: affine couplings. With a mask b of the entries
that stay,

    y = b ⊙ x + (1 − b) ⊙ (x ⊙ exp s(b ⊙ x) + t(b ⊙ x))                    (eq. 9).

On images s and t come from a convolutional network. At each scale couplings with checkerboard masks
are followed by a squeeze, which trades 2×2 pixels for four channels, and by couplings with channel
masks; then half of the channels is left as it is and the other half passes to the next scale, until
an edge is odd or at most 4 pixels (secs. 3.4 to 3.6). A coupling here acts on a set of the entries
of a flat row, arranged as an image: squeeze and split only choose the entries that the couplings
after them act on. So the squeeze may as well come first: the networks of checkerboard couplings,
too, see the squeezed image, for a quarter of the operations.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from likely.contract import Recipe, register
from likely.core.domain import Domain
from likely.models.flows.affine import Affine
from likely.models.flows.base import AffineFlow, Linear, check_vector
from likely.models.flows.images import ImageCoupling, checkerboard, squeezed
from likely.models.flows.lattice import LATTICE_RECIPE, lattice_couplings, lattice_shape
from likely.nets.convolutional import Shape, image_shape

SMALLEST = 4  # edge of an image that is not split further (sec. 3.6)


@register(
    "realnvp",
    title="real-valued non-volume preserving flow",
    density="exact; lower bound on integers",
    constraint="invertible; half of the entries move at a time",
    paper="Dinh, Sohl-Dickstein & Bengio 2017, arXiv:1605.08803",
)
class RealNVP(AffineFlow):
    """RealNVP: affine couplings, convolutional where the layout is an image or a lattice.

    Images are treated at several scales. An image with constant pixels, which are no part of the density,
    is treated as a vector, and so is one of a single pixel. On a lattice with one or two axes of even
    length and entries of one kind, convolutions are circular and shifts by an even number of sites leave
    the density as it is; any other lattice is treated as a vector.

    Parameters
    ----------
    domain : Domain
        Of real, positive, bounded, integer, count or binary columns; none may be periodic.
    context : Domain, optional
    transforms : int
        Number of couplings; those of an image are shared out among its scales. A lattice wants some 16.
    hidden : sequence of int
        Widths of the hidden layers of the networks of a vector.
    channels : int
        Of the hidden maps of the networks of an image or a lattice.
    blocks : int
        Residual blocks in each of these.
    linear : {"lu"}, optional
        Linear maps of all columns between the layers, as products of triangular matrices that start at the
        identity, where rows are vectors. None leaves them out.

    Examples
    --------
    >>> import likely as lk
    >>> data = lk.load_data("digits")
    >>> model = lk.flows.RealNVP(data.domain, transforms=4)
    >>> history = lk.fit(model, data, steps=5)
    >>> model.sample(5, seed=1).shape
    torch.Size([5, 8, 8])
    """

    recipe = Recipe(batch=512, rate=3e-3)

    def __init__(
        self,
        domain: Domain,
        *,
        transforms: int = 12,
        hidden: Sequence[int] = (64, 64),
        channels: int = 32,
        blocks: int = 1,
        linear: Linear = None,
        **options: Any,
    ) -> None:
        super().__init__(domain, **options)
        shape = image_shape(domain)
        sides = lattice_shape(domain)
        if sides is not None:
            check_vector(linear)
            self.recipe = LATTICE_RECIPE
            size = channels, blocks, self.context_size
            lattice = lattice_couplings(Affine, transforms, sides, self.view, *size)
            self.transforms = nn.ModuleList(lattice)
        elif shape is not None and self.view.dim == domain.size and shape[1] * shape[2] > 1:
            check_vector(linear)
            # A convolution takes as long for many small batches as for a few large ones.
            self.recipe = Recipe(batch=64, rate=4e-3)
            size = channels, blocks, self.context_size
            masks = _couplings(shape, transforms)
            layers = [ImageCoupling(entries, moves, *size) for entries, moves in masks]
            self.transforms = nn.ModuleList(layers)
        else:
            self.transforms = nn.ModuleList(self._couplings(Affine, transforms, hidden, linear))


def _couplings(shape: Shape, transforms: int) -> Iterator[tuple[Tensor, Tensor]]:
    """For each coupling the entries it acts on, as an image, and which of its pixels move."""
    scales = list(_scales(shape))
    for j, (entries, masks) in enumerate(scales):
        count = len(range(j, transforms, len(scales)))
        for i in range(count):
            mask = masks[i * len(masks) // count]
            yield entries, mask if i % 2 == 0 else ~mask


def _scales(shape: Shape) -> Iterator[tuple[Tensor, list[Tensor]]]:
    """For each scale the entries that its couplings act on, as an image, and the masks to take."""
    entries = torch.arange(math.prod(shape)).reshape(shape)
    while not (entries.shape[1] % 2 or entries.shape[2] % 2) and min(entries.shape[1:]) > SMALLEST:
        alternating = squeezed(checkerboard(entries))
        entries = squeezed(entries)
        kept = entries[: len(entries) // 2]
        yield entries, [alternating, torch.isin(entries, kept)]
        entries = kept
    yield entries, [checkerboard(entries)]
