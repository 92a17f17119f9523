"""Posteriors of codes: a Gaussian, and what maps whose parameters the encoder gives make of it.

    z₀ ~ N(μ(x), diag σ(x)²),    z = f_T ∘ … ∘ f₁(z₀),    log q(z|x) = log N(z₀; μ, σ²) − Σ_t log |det ∂f_t|

(Rezende & Mohamed 2015, arXiv:1505.05770, eq. 13), with planar maps (the same, eq. 10), Sylvester maps
(van den Berg et al. 2018, arXiv:1803.05649), or those of inverse autoregressive flow (Kingma et al. 2016,
arXiv:1606.04934, eqs. 10 and 14), with masked networks m and s of the entries before i and of h(x):

    f(z)_i = γ_i z_i + (1 − γ_i) m_i,     γ = sigmoid(s + 2).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from likely.contract import LOG_TWO_PI
from likely.nets.heads import NARROWEST
from likely.nets.masked import MaskedMLP
from likely.nets.planar import orthonormal, planar, sylvester, triangular

Draws = Float[Tensor, "draws n latent"]
LogProbs = Float[Tensor, "draws n"]

COLUMNS = 8  # most directions that a Sylvester map acts along
CONTEXT = 64  # numbers h(x) that a layer of an inverse autoregressive flow sees
GATE = 2.0  # γ is near 1 at first, and the layer near the identity


class Posterior(Protocol):
    """A distribution of codes for each of n rows."""

    @property
    def mean(self) -> Float[Tensor, "n latent"]:
        """A code without noise."""
        ...

    def draw(self, draws: int) -> tuple[Draws, LogProbs]:
        """Codes, and log q(z|x) of each, with gradients."""
        ...


class GaussianPosterior(NamedTuple):
    """N(μ, diag σ²) for each row, both of shape (n, latent)."""

    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, mean: Tensor, raw: Tensor) -> "GaussianPosterior":
        """That of an encoder's outputs; raw numbers of 0 stand for σ = 1."""
        return cls(mean, F.softplus(raw + math.log(math.e - 1)) + NARROWEST)

    def draw(self, draws: int) -> tuple[Draws, LogProbs]:
        noise = torch.randn(draws, *self.mean.shape, dtype=self.mean.dtype, device=self.mean.device)
        log_q = -((noise.square() + LOG_TWO_PI) / 2 + self.std.log()).sum(2)
        return self.mean + self.std * noise, log_q

    def log_prob(self, z: Draws) -> LogProbs:
        """log q(z|x) of given codes."""
        return self.log_probs(z).sum(2)

    def log_probs(self, z: Draws) -> Draws:
        """log q(z_k|x) of each variable of given codes."""
        return -((((z - self.mean) / self.std).square() + LOG_TWO_PI) / 2 + self.std.log())

    def stopped(self) -> "GaussianPosterior":
        """The same without gradients in its parameters."""
        return GaussianPosterior(self.mean.detach(), self.std.detach())

    def divergence(self) -> Float[Tensor, "n latent"]:
        """KL(q‖N(0, 1)) of each variable."""
        return (self.mean.square() + self.std.square() - 1) / 2 - self.std.log()


class FlowPosterior(NamedTuple):
    """A Gaussian carried by maps, each with its parameters for each row."""

    base: GaussianPosterior
    maps: Sequence[nn.Module]
    parameters: Sequence[Tensor]

    @property
    def mean(self) -> Float[Tensor, "n latent"]:
        """The image of the base's mean."""
        return self._mapped(self.base.mean[None])[0][0]

    def draw(self, draws: int) -> tuple[Draws, LogProbs]:
        z, log_q = self.base.draw(draws)
        z, log_det = self._mapped(z)
        return z, log_q - log_det

    def _mapped(self, z: Draws) -> tuple[Draws, LogProbs]:
        total = torch.zeros_like(z[..., 0])
        for function, parameters in zip(self.maps, self.parameters, strict=True):
            z, log_det = function(z, parameters)
            total = total + log_det
        return z, total


class Map(nn.Module):
    """A bijection of draws whose parameters the encoder gives for each row.

    Parameters
    ----------
    latent : int
    hidden : sequence of int
        Widths of the hidden layers, where it has a network of its own.
    layer : int
        Its place among others.
    """

    def __init__(self, latent: int, hidden: Sequence[int], layer: int) -> None:
        super().__init__()
        self.latent = latent

    @staticmethod
    def sizes(latent: int) -> list[int]:
        """Numbers of its parameters, part by part."""
        raise NotImplementedError

    def forward(self, z: Draws, parameters: Float[Tensor, "n size"]) -> tuple[Draws, LogProbs]:
        """Images of the draws, and the log-determinant."""
        raise NotImplementedError


class Planar(Map):
    """A planar map with amortised u, w and b."""

    @staticmethod
    def sizes(latent: int) -> list[int]:
        return [latent, latent, 1]

    def forward(self, z: Draws, parameters: Tensor) -> tuple[Draws, LogProbs]:
        u, w, b = parameters.split(self.sizes(self.latent), 1)
        return planar(z, u, w, b[:, 0])


class Sylvester(Map):
    """A Sylvester map with amortised Q (by Householder reflections), R, R̃ and b."""

    @staticmethod
    def sizes(latent: int) -> list[int]:
        m = min(latent, COLUMNS)
        return [m * latent, m * (m + 1) // 2, m * (m + 1) // 2, m]

    def forward(self, z: Draws, parameters: Tensor) -> tuple[Draws, LogProbs]:
        axes, r, r_tilde, b = parameters.split(self.sizes(self.latent), 1)
        m = b.shape[1]
        q = orthonormal(axes.unflatten(1, (m, self.latent)))
        return sylvester(z, q, triangular(r, m), triangular(r_tilde, m), b)


class GatedAutoregressive(Map):
    """A layer of inverse autoregressive flow with an amortised context; every other one goes backwards."""

    def __init__(self, latent: int, hidden: Sequence[int], layer: int) -> None:
        super().__init__(latent, hidden, layer)
        order, one, two = range(latent)[:: (-1) ** layer], [1] * latent, [2] * latent
        self.net = MaskedMLP(one, two, order=order, hidden=hidden, context=CONTEXT)

    @staticmethod
    def sizes(latent: int) -> list[int]:
        return [CONTEXT]

    def forward(self, z: Draws, parameters: Tensor) -> tuple[Draws, LogProbs]:
        outputs = self.net(z.flatten(0, 1), parameters.repeat(len(z), 1))
        m, s = outputs.to(z.dtype).view(*z.shape, 2).unbind(-1)
        gate = torch.sigmoid(s + GATE)
        return gate * z + (1 - gate) * m, F.logsigmoid(s + GATE).sum(-1)


MAPS: dict[str, type[Map]] = {
    "planar": Planar,
    "sylvester": Sylvester,
    "iaf": GatedAutoregressive,
}
