"""The Gaussian inside an energy: what makes it normalisable, and where annealing starts."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.quasirandom import SobolEngine

from likely.contract import LOG_TWO_PI
from likely.core.likelihood import Figure
from likely.core.random import seeded
from likely.sampling.ais import log_mean

POINTS, SCRAMBLINGS = 1 << 12, 8  # of an integral
REACH = 2.0  # deviation of those points, in the base's own: mass may lie in its tails


class GaussianBase(nn.Module):
    """N(m, Σ) of the columns z of a view, but uniform in angles.

    Σ = LLᵀ is the data's covariance times 1 + 2/√d: so much wider that the base's mean energy on data is
    below that on its draws by half of its own standard deviation for a few columns, and by √2 of it for
    many. All coordinates are u = L⁻¹(z − m), in which it is N(0, 1) and one step suits all.

    Parameters
    ----------
    periodic : Tensor of bool, shape (d,)
        Which columns are angles.
    """

    def __init__(self, periodic: Tensor) -> None:
        super().__init__()
        d = len(periodic)
        self.periodic = nn.Buffer(periodic.clone(), persistent=False)
        self.mean = nn.Buffer(torch.zeros(d))  # m
        self.factor = nn.Buffer(torch.eye(d))  # L

    def prepare(
        self, z: Float[Tensor, "n d"], weight: Tensor | None = None, noise: float = 0.0
    ) -> None:
        """Take m and Σ from data and noise: off the diagonal shrunk as if by d more rows, then widened."""
        n, d = z.shape
        z = z.double().masked_fill(self.periodic, 0)
        w = z.new_ones(n) if weight is None else weight.to(z)
        mean = w @ z / w.sum()
        covariance = (w[:, None] * (z - mean)).T @ (z - mean) / w.sum()
        covariance.diagonal().add_(noise**2)
        diagonal = covariance.diag().clamp_min(1e-6).diag()
        covariance = (1 + 2 / d**0.5) * torch.lerp(covariance, diagonal, d / (n + d))
        covariance.diagonal()[self.periodic] = 1
        self.mean.copy_(mean)
        self.factor.copy_(torch.linalg.cholesky(covariance))

    def columns(self, u: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """z = m + L u."""
        return torch.addmm(self.mean, u, self.factor.T)

    def coordinates(self, z: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """u."""
        return torch.linalg.solve_triangular(self.factor, (z - self.mean).T, upper=False).T

    @property
    def log_volume(self) -> Float[Tensor, ""]:
        """log |dz/du|."""
        return self.factor.diagonal().log().sum()

    def log_prob(self, u: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """Of u, in nats."""
        own = torch.where(self.periodic, LOG_TWO_PI, (u.square() + LOG_TWO_PI) / 2)
        return -own.sum(1)

    @property
    def entropy(self) -> Float[Tensor, ""]:
        """Of u, in nats."""
        return torch.where(self.periodic, LOG_TWO_PI, (1 + LOG_TWO_PI) / 2).sum()

    def sample(self, n: int, *, seed: int | None = None) -> Float[Tensor, "n d"]:
        """Draws of u."""
        with seeded(seed, self.mean.device):
            u = self.mean.new_empty(n, len(self.mean)).normal_()
            if not self.periodic.any():
                return u
            return torch.where(self.periodic, math.pi * (2 * torch.rand_like(u) - 1), u)

    @torch.no_grad()
    def integral(self, f: Callable[[Tensor], Tensor]) -> Figure:
        """log E e^(−f), by scrambled low-discrepancy points of a wider Gaussian: for a few columns.

        The error is that between the scramblings; mass beyond the reach of all of them escapes it.
        """
        values, tiny = [], torch.finfo(self.mean.dtype).eps
        for seed in range(SCRAMBLINGS):
            points = SobolEngine(len(self.mean), scramble=True, seed=seed).draw(POINTS)
            v = points.to(self.mean).clamp(tiny, 1 - tiny)
            t = torch.special.ndtri(v)
            u = torch.where(self.periodic, math.pi * (2 * v - 1), REACH * t)
            own = (t.square() - u.square()) / 2 + math.log(REACH)  # log base/proposal
            log_weight = own.masked_fill(self.periodic, 0).sum(1).double() - f(u).double()
            values.append(log_weight.logsumexp(0) - math.log(POINTS))
        return log_mean(torch.stack(values))
