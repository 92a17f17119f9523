"""Additive and affine maps of the line.

Additive: y = x + t (Dinh, Krueger & Bengio 2014, arXiv:1410.8516, sec. 3.2).
Affine: y = eˢ x + t (Dinh, Sohl-Dickstein & Bengio 2017, arXiv:1605.08803, eq. 7).
"""

import torch
from jaxtyping import Bool
from torch import Tensor

from likely.models.flows.transforms import Parameters, Values

# A deep flow multiplies its scales: with |s| < 2 the product over 20 layers, and its square, stay below
# float32's largest number, e⁸⁸, whatever the networks say far from the data, and few samples stray
# far; one layer still narrows or widens a density 7 times.
MAX_LOG_SCALE = 2.0


class Additive:
    """A shift of each entry, with parameters (t,).

    Parameters
    ----------
    periodic : Tensor of bool, shape (entries,)
        Nowhere true: none of the entries may be an angle.

    Attributes
    ----------
    size : int
        Number of parameters of an entry.
    """

    size = 1

    def __init__(self, periodic: Bool[Tensor, " entries"]) -> None:
        self.periodic = periodic

    def __call__(self, x: Values, parameters: Parameters) -> tuple[Values, Values]:
        """Shifted values, and the logarithms of the slopes."""
        return x + parameters[:, 0], torch.zeros_like(x)

    def inverse(self, y: Values, parameters: Parameters, entries: slice = slice(None)) -> Values:
        """Values before the shift."""
        return y - parameters[:, 0]


class Affine(Additive):
    """A scale and a shift of each entry, with parameters (t, s'), where s = 2 tanh(s'/2).

    The soft bound on s is odd, so that narrowing is as easy as widening, and has slope 1 at 0.
    """

    size = 2

    def __call__(self, x: Values, parameters: Parameters) -> tuple[Values, Values]:
        """Scaled and shifted values, and the logarithms of the slopes."""
        shift, raw = parameters.unbind(1)
        log_scale = _bounded(raw)
        return torch.addcmul(shift, x, log_scale.exp()), log_scale

    def inverse(self, y: Values, parameters: Parameters, entries: slice = slice(None)) -> Values:
        """Values before scale and shift."""
        shift, raw = parameters.unbind(1)
        return (y - shift) * (-_bounded(raw)).exp()


def _bounded(raw: Tensor) -> Tensor:
    # M tanh(raw/2), in a fifth of the time; as M = 2, the slope at 0 is 1.
    return 2 * MAX_LOG_SCALE * torch.sigmoid(raw) - MAX_LOG_SCALE
