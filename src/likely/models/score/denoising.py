"""Denoising score matching at one noise level, and samples by Langevin dynamics.

Rows z₀ get noise of one standard deviation σ, z = z₀ + σ ε, and the network learns to find it:

    L = E ‖ε̂(z) − ε‖²/d,      ∇ log p_σ(z) = −ε̂(z)/σ

(Vincent 2011, Neural Computation 23, 1661, eq. 9; Song & Ermon 2019, arXiv:1907.05600, eq. 5, times
2σ²/d), where p_σ is the density of the noisy rows. Langevin dynamics with a step of η σ² samples it,

    z ← z − η σ ε̂(z) + √(2η) σ ξ,      ξ ~ N(0, 1),

and z − σ ε̂(z), the mean of z₀ given z, takes the noise off (Tweedie's formula).
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from likely.contract import Batch, Positive, Recipe, register
from likely.contract.inputs import context_features
from likely.core.domain import Domain
from likely.core.likelihood import Kind
from likely.models.score.base import Columns, PerRow, ScoreModel

STEP = 0.2  # η; a variance σ² comes out larger by 1/(1 − η/2)


@register(
    "denoising-score",
    title="denoising score matching",
    constraint="none; modes that are much further apart than `sigma` get wrong weights",
    paper="Vincent 2011, Neural Computation 23, 1661",
)
class DenoisingScore(ScoreModel):
    """The score of data with noise of one level.

    It has no likelihood: `score` at its own σ is what it knows, and `sample` follows it. Chains start
    from the Gaussian that has the moments of the noisy rows. They settle in the modes that are next to
    their start and hardly ever cross between modes that are many σ apart, so that the weights of such
    modes come out wrong however long they run; `NCSN`, which anneals the noise, is made for those.

    The other parameters and the errors are those of `ScoreModel`.

    Parameters
    ----------
    sigma : float
        σ of the noise, for columns of variance 1: the detail that is lost.
    steps : int
        Langevin steps of a chain, whose last state is the sample; with η = 0.2, it takes some 5/σ² of
        them to forget its start.
    denoise : bool
        Whether samples get a last step that takes the noise off.

    Examples
    --------
    >>> import likely as lk
    >>> data = lk.load_data("rings")
    >>> model = lk.score.DenoisingScore(data.domain, sigma=0.2)
    >>> history = lk.fit(model, data, steps=100)
    >>> model.sample(5, seed=1).shape
    torch.Size([5, 2])
    """

    density = Kind.NONE
    recipe = Recipe(batch=256, rate=3e-3, steps=10_000)
    predictor = True  # whether noise is taken off between levels, where there are several

    def __init__(
        self,
        domain: Domain,
        *,
        sigma: Positive = 0.2,
        steps: int = 300,
        denoise: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(domain, **options)
        self.steps, self.denoise = steps, denoise
        self.sigmas = nn.Buffer(torch.tensor([float(sigma)]))

    @property
    def eta(self) -> float:
        """η, the size of a Langevin step in units of σ²."""
        return STEP

    def loss(self, batch: Batch) -> PerRow:
        """‖ε̂ − ε‖²/d of each row, each at a level drawn uniformly."""
        z, _ = self.view(batch.x)
        level = torch.randint(len(self.sigmas), (len(z),), device=z.device)
        context = context_features(self, batch.context, len(z))
        return self.missed(z, self.sigmas[level], context).square().sum(1) / self.dim

    def _sample_real(self, n: int, context: Tensor | None) -> Columns:
        """Langevin dynamics at each level, from the largest down; between two, noise is taken off."""
        start = torch.randn(n, self.dim, dtype=self.sigmas.dtype, device=self.device)
        z = (1 + self.sigmas[0].square()).sqrt() * start
        eta = self.eta
        for i, sigma in enumerate(self.sigmas[:, None]):
            for _ in range(self.steps):
                noise = self.noise_prediction(z, sigma, context)
                z = z + sigma * (math.sqrt(2 * eta) * torch.randn_like(z) - eta * noise)
            last = i == len(self.sigmas) - 1
            if self.denoise if last else self.predictor:
                after = 0.0 if last else self.sigmas[i + 1]
                z = z - (sigma - after) * self.noise_prediction(z, sigma, context)
        return z
