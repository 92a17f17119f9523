"""Additive and affine maps of the line.

Additive: y = x + t (Dinh, Krueger & Bengio 2014, arXiv:1410.8516, sec. 3.2).
Affine: y = eˢ x + t (Dinh, Sohl-Dickstein & Bengio 2017, arXiv:1605.08803, eq. 7).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

# A deep flow multiplies its scales: with |s| < 2 the product over 20 layers, and its square, stay below
# float32's largest number, e⁸⁸, whatever the networks say far from the data, and few samples stray
# far; one layer still narrows or widens a density 7 times.
MOST_LOG_SCALE = 2.0


class Additive:
    """A shift of each entry, with parameters (t,).

    Parameters
    ----------
    entries : int

    Attributes
    ----------
    size : int
        Number of parameters of an entry.
    periodic : Tensor of bool, shape (entries,)
        Nowhere true: none of the entries may be an angle.
    """

    size = 1

    def __init__(self, entries: int) -> None:
        self.periodic = torch.zeros(entries, dtype=torch.bool)

    def __call__(
        self, x: Float[Tensor, "n entries"], parameters: Float[Tensor, "n entries size"]
    ) -> tuple[Float[Tensor, "n entries"], Float[Tensor, "n entries"]]:
        """Shifted values, and the logarithms of the slopes."""
        return x + parameters[..., 0], torch.zeros_like(x)

    def inverse(
        self,
        y: Float[Tensor, "n entries"],
        parameters: Float[Tensor, "n entries size"],
        entries: slice = slice(None),
    ) -> Float[Tensor, "n entries"]:
        """Values before the shift."""
        return y - parameters[..., 0]


class Affine(Additive):
    """A scale and a shift of each entry, with parameters (t, s'), where s = 2 tanh(s'/2).

    The soft bound on s is odd, so that narrowing is as easy as widening, and has slope 1 at 0.
    """

    size = 2

    @staticmethod
    def _log_scale(parameters: Tensor) -> Tensor:
        return MOST_LOG_SCALE * torch.tanh(parameters[..., 1] / MOST_LOG_SCALE)

    def __call__(
        self, x: Float[Tensor, "n entries"], parameters: Float[Tensor, "n entries size"]
    ) -> tuple[Float[Tensor, "n entries"], Float[Tensor, "n entries"]]:
        """Scaled and shifted values, and the logarithms of the slopes."""
        log_scale = self._log_scale(parameters)
        return x * log_scale.exp() + parameters[..., 0], log_scale

    def inverse(
        self,
        y: Float[Tensor, "n entries"],
        parameters: Float[Tensor, "n entries size"],
        entries: slice = slice(None),
    ) -> Float[Tensor, "n entries"]:
        """Values before scale and shift."""
        return (y - parameters[..., 0]) * (-self._log_scale(parameters)).exp()
