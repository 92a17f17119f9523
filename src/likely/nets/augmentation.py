"""Differentiable augmentation of images (Zhao et al. 2020, arXiv:2006.10738).

A critic that sees real images and samples only after the same random changes T cannot learn few images by
heart; where T is differentiable the generator learns through it, and p_model = p_data is still best.
Images are standardised: a typical one has deviation 1.
"""

from collections.abc import Callable
from functools import reduce

import torch
from jaxtyping import Float
from torch import Tensor

from likely.core.errors import LikelyError

Images = Float[Tensor, "n channels height width"]
Augmentation = Callable[[Images], Images]

SHIFT = 8  # translations are of up to an edge over this
CUT = 2  # squares that are cut out have an edge over this


def translated(x: Images) -> Images:
    """Moved by up to an eighth of each edge; the border is repeated, and so a background goes on."""
    at = []
    for axis in (2, 3):
        edge, most = x.shape[axis], x.shape[axis] // SHIFT
        by = torch.randint(-most, most + 1, (len(x), 1), device=x.device)
        at.append((torch.arange(edge, device=x.device) + by).clamp(0, edge - 1))
    rows = torch.arange(len(x), device=x.device)[:, None, None]
    return x.permute(0, 2, 3, 1)[rows, at[0][:, :, None], at[1][:, None]].permute(0, 3, 1, 2)


def cut(x: Images) -> Images:
    """With a square of half the edges, at a random place, set to the mean of all images, which is 0."""
    inside = []
    for axis in (2, 3):
        edge, half = x.shape[axis], x.shape[axis] // CUT
        start = torch.randint(-half // 2, edge - half // 2, (len(x), 1), device=x.device)
        place = torch.arange(edge, device=x.device) - start
        inside.append((place >= 0) & (place < half))
    return x.masked_fill((inside[0][:, :, None] & inside[1][:, None])[:, None], 0.0)


def recoloured(x: Images) -> Images:
    """With another brightness, saturation (of several channels) and contrast."""
    brightness, saturation, contrast = torch.rand(
        3, len(x), 1, 1, 1, dtype=x.dtype, device=x.device
    )
    x = x + brightness - 0.5
    grey = x.mean(1, keepdim=True)
    x = grey + 2 * saturation * (x - grey)
    mean = x.mean((1, 2, 3), keepdim=True)
    return mean + (0.5 + contrast) * (x - mean)


AUGMENTATIONS: dict[str, Augmentation] = {
    "translation": translated,
    "cutout": cut,
    "colour": recoloured,
}


def augmentation(names: str) -> Augmentation:
    """The named augmentations, separated by commas, one after the other.

    Raises
    ------
    LikelyError
        If a name is unknown.
    """
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    for name in wanted:
        if name not in AUGMENTATIONS:
            raise LikelyError(f"augment={names!r}: {name!r} is none of {', '.join(AUGMENTATIONS)}")
    return lambda x: reduce(lambda x, name: AUGMENTATIONS[name](x), wanted, x)
