"""What completing rows has in common: checks of the rows and of the mask of known entries."""

from __future__ import annotations

import torch
from torch import Tensor

from likely.core.errors import DataError
from likely.core.model import GenerativeModel, as_rows
from likely.nets.heads import ColumnHeads


def partly_known(
    model: GenerativeModel, heads: ColumnHeads, x: Tensor, known: Tensor
) -> tuple[Tensor, Tensor]:
    """Rows with the domain's anchor in their open entries, and the mask in the shape of the rows.

    Rows stay in their floating type; others get that of draws, as all do on a discrete domain.

    Raises
    ------
    DataError
        If a shape is wrong, or a known entry lies outside the domain.
    """
    domain = model.domain
    x, known = as_rows(x, domain, "complete: x"), torch.as_tensor(known)
    if tuple(x.shape[1:]) != domain.shape or tuple(known.shape) not in (domain.shape, x.shape):
        raise DataError(
            f"complete: x and known must have the shape (n, {', '.join(map(str, domain.shape))}), "
            f"not {tuple(x.shape)} and {tuple(known.shape)}"
        )
    x, known = x.to(model.device), known.to(model.device, torch.bool).expand_as(x)
    dtype = heads.type_of_draws(model.dtype)
    x = x if x.is_floating_point() else x.to(dtype)
    x = torch.where(known, x, domain.anchor.to(x))
    domain.check(x, "the known entries")
    return x.to(dtype) if domain.discrete else x, known
