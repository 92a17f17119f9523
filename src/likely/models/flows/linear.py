"""Affine maps of columns, or of an image's channels, that are the same for all rows and pixels.

    diagonal    y = eˢ ⊙ x                             (Dinh, Krueger & Bengio 2014, arXiv:1410.8516)
    ActNorm     y = eˢ ⊙ (x + b)                       (Kingma & Dhariwal 2018, arXiv:1807.03039)
    LU          y = W x,   W = P L (U + diag ± eˢ)     (ibid., eq. 10)

The log-determinant of each is Σ_i s_i, once for every pixel.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from likely.contract.views import weighted_moments

Channels = Float[Tensor, "n channels *pixels"]

# Of standard deviations: below it, numbers of unit size are constant up to rounding in float32.
FLOOR = 1e-5


class Diagonal(nn.Module):
    """y = eˢ ⊙ x.

    Parameters
    ----------
    channels : int
        Columns of a table, or channels of an image.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Channels, context: Tensor | None) -> tuple[Channels, Tensor]:
        """y and the log-determinant, of shape (n,)."""
        return self._mapped(x), self._log_det(x)

    def inverse(self, y: Channels, context: Tensor | None) -> Channels:
        """x, in the shape of y."""
        return y * _per_pixel((-self.log_scale).exp(), y)

    def inverse_with_log_det(self, y: Channels, context: Tensor | None) -> tuple[Channels, Tensor]:
        """x and the log-determinant of the inverse, of shape (n,)."""
        return self.inverse(y, context), -self._log_det(y)

    def _mapped(self, x: Channels) -> Channels:
        return x * _per_pixel(self.log_scale.exp(), x)

    def _log_det(self, x: Channels) -> Tensor:
        return (math.prod(x.shape[2:]) * self.log_scale.sum()).expand(len(x))


class ActNorm(Diagonal):
    """y = eˢ ⊙ (x + b); `prepare` makes each channel of y have mean 0 and variance 1.

    Parameters
    ----------
    channels : int
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.shift = nn.Parameter(torch.zeros(channels))

    @torch.no_grad()
    def prepare(self, x: Channels, weight: Tensor | None = None) -> None:
        """Take b and s from rows of the training split; the scale of a constant channel is 1."""
        if weight is not None:
            weight = weight.repeat_interleave(math.prod(x.shape[2:]))
        mean, std = weighted_moments(x.movedim(1, -1).flatten(0, -2), weight)
        self.shift.copy_(-mean)
        self.log_scale.copy_(-torch.where(std > FLOOR, std, 1.0).log())

    def inverse(self, y: Channels, context: Tensor | None) -> Channels:
        return super().inverse(y, context) - _per_pixel(self.shift, y)

    def _mapped(self, x: Channels) -> Channels:
        return super()._mapped(x + _per_pixel(self.shift, x))


class LU(Diagonal):
    """y = W x, where P and the signs stay as they are at the start, so that W is always invertible.

    Parameters
    ----------
    start : Tensor, shape (channels, channels)
        W at first, an invertible matrix.
    """

    def __init__(self, start: Float[Tensor, "channels channels"]) -> None:
        super().__init__(len(start))
        permutation, lower, upper = torch.linalg.lu(start)
        self.permutation = nn.Buffer(permutation)
        self.sign = nn.Buffer(upper.diagonal().sign())
        self.log_scale = nn.Parameter(upper.diagonal().abs().log())
        # L below the diagonal, U above it.
        self.triangles = nn.Parameter(lower.tril(-1) + upper.triu(1))

    def _factors(self) -> tuple[Tensor, Tensor]:
        """L, and U with its diagonal."""
        lower = self.triangles.tril(-1) + torch.eye(len(self.sign)).to(self.triangles)
        return lower, self.triangles.triu(1) + torch.diag(self.sign * self.log_scale.exp())

    @property
    def matrix(self) -> Float[Tensor, "channels channels"]:
        """W."""
        lower, upper = self._factors()
        return self.permutation @ lower @ upper

    def _mapped(self, x: Channels) -> Channels:
        with torch.autocast(x.device.type, enabled=False):  # a map of rows is no network
            return _product(self.matrix, x)

    def inverse(self, y: Channels, context: Tensor | None) -> Channels:
        lower, upper = (factor.double() for factor in self._factors())
        solve, turned = torch.linalg.solve_triangular, self.permutation.T.double()
        inverse = solve(upper, solve(lower, turned, upper=False, unitriangular=True), upper=True)
        with torch.autocast(y.device.type, enabled=False):
            return _product(inverse.to(y.dtype), y)


def _product(matrix: Tensor, x: Channels) -> Channels:
    return torch.einsum("ij,nj...->ni...", matrix, x)


def _per_pixel(values: Float[Tensor, " channels"], x: Channels) -> Tensor:
    """Values of channels in a shape that multiplies x."""
    return values.reshape(-1, *[1] * (x.ndim - 2))
