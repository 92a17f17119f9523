"""Point-spread functions, as users have them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from likely.core.errors import DataError
from likely.data.source import read

PSF = Any  # an array, a file name, or a kernel of astropy
NEGATIVE, UNNORMALISED = 1e-6, 1e-3  # what rounding may do, relative to the peak, and to the sum


def as_psf(value: PSF, normalise: bool = False) -> Float[Tensor, "*size"]:
    """A PSF in float64 of one or two dimensions, which sums to 1.

    Parameters
    ----------
    value : array, file name or kernel of astropy
        A file as in `lk.load_data`, with one image: of several extensions one is named, "psf.fits::PSF".
    normalise : bool
        Divide by the sum.

    Raises
    ------
    DataError
        If it has another number of dimensions, negative or not finite values, or does not sum to 1.
    """
    name = "the PSF"
    if isinstance(value, str | Path):
        name = str(value)
        value = read(value).values
        if value.ndim == 3 and len(value) > 1:
            raise DataError(f"{name}: holds {len(value)} images: name one extension, '{name}::1'")
        value = value[0] if value.ndim == 3 else value
    value = getattr(value, "array", value)
    psf = torch.as_tensor(value if isinstance(value, Tensor) else np.asarray(value, np.float64))
    psf = psf.detach().double()
    if psf.ndim not in (1, 2) or not psf.numel():
        raise DataError(f"{name}: an array of one or two dimensions is needed, not {(*psf.shape,)}")
    if not psf.isfinite().all():
        raise DataError(f"{name}: has values that are not finite: set them to 0, and normalise it")
    if psf.min() < -NEGATIVE * psf.max().abs():
        raise DataError(
            f"{name}: is negative in places, down to {psf.min():.3g}: set these to 0, and normalise it"
        )
    total = psf.sum().item()
    if normalise and total > 0:
        return psf / total
    if not abs(total - 1) <= UNNORMALISED:
        raise DataError(f"{name}: sums to {total:.4g}, not to 1: give normalise=True, or divide it")
    return psf
