"""Denoisers: the mean of a clean row given a noisy one, which is all that diffusion asks of a prior.

    m(z, σ) = E[z₀|z] = z + σ² ∇ log p_σ(z),      z = z₀ + σ ε                         (Tweedie's formula)

in the columns of the prior's view. Score models have learned it. A Gaussian N(μ, Σ) has it in closed form,

    m(z, σ) = μ + Σ (Σ + σ²)⁻¹ (z − μ),

and a mixture averages these with the probabilities of its components given z, N(z; μ, Σ + σ²) π/p_σ(z):
with one as the prior, whatever a sampler gets wrong is its own doing.

A reverse step goes from σ to a lower s, given the mean m of clean rows, under the prior or the posterior:

    z_s = (s/σ)² z + (1 − (s/σ)²) m + √ν ξ,      ν = (s/σ)^p (σ² − s²),      p = 1 − 2σs/σ₁².

The usual variances have p = 0 (Euler–Maruyama) and p = 2 (ancestral). The final variance of a Gaussian is
wrong by the sum over steps of (v/(v + σ²))² (2σ²/(σ² + v) − p) log(σ/s) (σ² − s²), with v its own one. With
this p, where σ₁ is the first level, that vanishes both for v far below σ₁² and far above.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from likely.contract import GenerativeModel, RealView
from likely.models.mixtures.em import Mixture
from likely.models.score.base import ScoreModel
from likely.models.score.ddpm import DDPM
from likely.models.score.flow_matching import FlowMatching
from likely.models.score.ncsn import NCSN
from likely.models.score.sde import ScoreSDE

Columns = Float[Tensor, "n dim"]  # of the view

SMALLEST, LARGEST = 1e-3, 30.0  # σ, where columns have unit variance


@dataclass(frozen=True)
class Denoiser:
    """A prior as diffusion sees it.

    Attributes
    ----------
    view : RealView
        Of the prior: its columns are those of z.
    mean : callable
        m of rows z, shape (n, dim), at one σ; rows are independent of one another.
    start : callable
        n rows with noise of one σ, at which little else is left.
    smallest, largest : float
        The noise levels σ between which `mean` may be asked.
    width : float
        Of the prior: its columns' root mean square deviation.
    gaussian : bool
        Whether the prior is one Gaussian.
    """

    view: RealView
    mean: Callable[[Columns, float], Columns]
    start: Callable[[int, float], Columns]
    smallest: float
    largest: float
    width: float = 1.0
    gaussian: bool = False

    def levels(self, steps: int) -> list[float]:
        """σ of a whole reverse process: from the largest to the smallest, and 0."""
        return geometric(self.largest, self.smallest, steps)


def geometric(first: float, last: float, steps: int) -> list[float]:
    """`steps` levels from the first to the last, at one ratio, and then 0."""
    ends = math.log10(first), math.log10(last)
    return [*torch.logspace(*ends, steps, dtype=torch.float64).tolist(), 0.0]


@dataclass(frozen=True)
class Step:
    """A reverse step of a process that begins at σ₁ = `first`."""

    sigma: float
    lower: float
    first: float

    @property
    def kept(self) -> float:
        """(s/σ)²."""
        return (self.lower / self.sigma) ** 2

    @property
    def variance(self) -> float:
        """ν."""
        if not self.lower:
            return 0.0
        power = 1 - 2 * self.sigma * self.lower / self.first**2
        return (self.lower / self.sigma) ** power * (self.sigma**2 - self.lower**2)

    def noise(self, z: Columns) -> Columns:
        """√ν ξ."""
        return math.sqrt(self.variance) * torch.randn_like(z)

    def mean(self, z: Columns, clean: Columns) -> Columns:
        """z_s without its noise, given the mean of clean rows."""
        return self.kept * z + (1 - self.kept) * clean


def steps_of(levels: Sequence[float]) -> list[Step]:
    """The steps of a reverse process."""
    return [Step(sigma, lower, levels[0]) for sigma, lower in pairwise(levels)]


def denoise(denoiser: Denoiser, z: Columns, levels: Sequence[float]) -> Columns:
    """Draws of clean rows given rows z with noise of the first level, under the prior alone."""
    for step in steps_of(levels):
        z = step.mean(z, denoiser.mean(z, step.sigma)) + step.noise(z)
    return z


def denoiser_of(model: GenerativeModel) -> Denoiser | None:
    """The denoiser of a score model with many noise levels, or of a mixture; None of other models."""
    if isinstance(model, Mixture):
        return _of_mixture(model)
    span = _span(model)
    if span is None:
        return None
    assert isinstance(model, ScoreModel)
    prior, (smallest, largest) = model, span

    def mean(z: Columns, sigma: float) -> Columns:
        return z - sigma * prior.noise_prediction(z, z.new_tensor([sigma]), None)

    def start(n: int, sigma: float) -> Columns:
        return math.sqrt(1 + sigma**2) * prior.view.scale.new_empty(n, prior.dim).normal_()

    return Denoiser(prior.view, mean, start, smallest, min(largest, LARGEST))


def _span(model: GenerativeModel) -> tuple[float, float] | None:
    """The smallest and the largest noise that a score model has learned to take off."""
    if isinstance(model, ScoreSDE):
        low, high = model.log_sigma
        return math.exp(low), math.exp(high)
    if isinstance(model, NCSN):
        return model.sigmas[-1].item(), model.sigmas[0].item()
    if isinstance(model, DDPM):
        return model.sigma[1].item(), model.sigma[-1].item()
    if isinstance(model, FlowMatching) and model.pairing == "independent":
        return SMALLEST, LARGEST
    return None


def _of_mixture(model: Mixture) -> Denoiser:
    paths = model.gaussians()
    parts = (paths.log_weights, paths.means, paths.covariances)
    log_weights, means, covariances = (part.detach().to(model.view.scale) for part in parts)
    weights = log_weights.exp()
    variance, vector = torch.linalg.eigh(covariances)  # Σ = U diag(variance) Uᵀ
    rotated = (means[:, None] @ vector).squeeze(1)  # Uᵀμ
    scale = covariances.diagonal(dim1=1, dim2=2).mean(1) + (means - weights @ means).square().mean(
        1
    )
    width = (weights @ scale).sqrt().item()

    def mean(z: Columns, sigma: float) -> Columns:
        y = torch.einsum("nd,kde->nke", z, vector) - rotated  # Uᵀ(z − μ)
        noisy = variance + sigma**2
        log_joint = log_weights - (y.square() / noisy + noisy.log()).sum(2) / 2
        r = log_joint.softmax(1)
        shrunk = r[..., None] * y * (variance / noisy)
        return r @ means + torch.einsum("nke,kde->nd", shrunk, vector)

    def start(n: int, sigma: float) -> Columns:
        z = model.view(model.sample(n))[0]
        return z + sigma * torch.randn_like(z)

    return Denoiser(
        model.view, mean, start, SMALLEST * width, LARGEST * width, width, len(means) == 1
    )
