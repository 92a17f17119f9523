"""Variational dequantisation: where in its cell a level lies is learned, too.

Ho et al. 2019, arXiv:1902.00275 (Flow++), eq. 12: with a density q(u|x) of the place u in the cell,

    log P(x) ≥ E_q [log p(x + u) − log q(u|x)],

of which uniform noise is the case q = 1. Here u = Φ(y), where couplings carry normal noise ε to y, given x:

    log q(u|x) = log N(ε; 0, 1) − log |det ∂y/∂ε| − log N(y; 0, 1).

So u is uniform where y = ε. A coupling acts on a row of ε and x of which only ε moves.
"""

import torch
from torch import Tensor, nn

from likely.contract import RealView
from likely.core.errors import LikelyError
from likely.models.flows.affine import Affine
from likely.models.flows.images import ImageCoupling, checkerboard, squeezed
from likely.models.flows.transforms import VectorCoupling, half
from likely.nets.convolutional import image_shape

TRANSFORMS = 4
CHANNELS = 32  # of the networks of images
HIDDEN = 64, 64  # of others


class VariationalNoise(nn.Module):
    """q(u|x), with convolutional couplings where all entries are pixels with levels.

    Parameters
    ----------
    view : RealView
        Whose discrete columns get noise.
    context : int
        Number of context features.

    Raises
    ------
    LikelyError
        If there are no discrete columns.
    """

    def __init__(self, view: RealView, context: int) -> None:
        super().__init__()
        if view.exact:
            raise LikelyError(
                'dequantisation="variational": there are no columns of whole numbers: leave it out'
            )
        self.discrete = nn.Buffer(view.discrete.nonzero()[:, 0], persistent=False)
        noise = len(self.discrete)
        entries = noise + view.dim
        shape = image_shape(view.domain)
        self.transforms = nn.ModuleList()
        if shape is not None and noise == view.domain.size:
            image = torch.arange(entries).reshape(2 * shape[0], *shape[1:])
            moves = checkerboard(image)
            if not (shape[1] % 2 or shape[2] % 2):
                image, moves = squeezed(image), squeezed(moves)
            for i in range(TRANSFORMS):
                mask = (moves if i % 2 == 0 else ~moves) & (image < noise)
                self.transforms.append(ImageCoupling(image, mask, CHANNELS, 1, context))
        else:
            periodic = torch.cat([torch.zeros(noise, dtype=torch.bool), view.periodic])
            for i in range(TRANSFORMS):
                mask = torch.zeros(entries, dtype=torch.bool)
                mask[:noise] = half(noise, i)
                affine = Affine(periodic[mask])
                self.transforms.append(VectorCoupling(affine, periodic, mask, HIDDEN, context))

    def forward(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """Places in the cells, 0 to 1, and log q of them.

        Parameters
        ----------
        z : Tensor, shape (n, dim)
            Columns of the view in the middle of their cells.
        context : Tensor, shape (n, context), optional

        Returns
        -------
        Tensor, shape (n, dim)
            0 where a column is continuous.
        Tensor, shape (n,)
        """
        noise = torch.randn_like(z.index_select(1, self.discrete))
        row, log_det = torch.cat([noise, z], 1), z.new_zeros(len(z))
        for transform in self.transforms:
            row, term = transform(row, context)
            log_det = log_det + term
        y = row[:, : noise.shape[1]]
        log_q = (y.square() - noise.square()).sum(1) / 2 - log_det
        return torch.zeros_like(z).index_copy(1, self.discrete, torch.special.ndtr(y)), log_q
