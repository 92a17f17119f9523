"""Noise-conditional score network: scores at many noise levels, and annealed Langevin dynamics.

One network learns the scores at levels σ₁ > … > σ_L, a geometric sequence, each weighted by its σ², so
that all count alike (Song & Ermon 2019, arXiv:1907.05600, eq. 6). A chain runs down the levels with
K steps of η σ_i² at each (algorithm 1 there): at σ₁ it moves freely between modes, so that they get their
weights. How to choose what that leaves open (Song & Ermon 2020, arXiv:2006.09011):

1. σ₁ is the largest distance between two rows of the training split.
2. Neighbouring levels overlap. Noisy rows are at distances √d σ ± σ/√2 from their own ones; half of
   those of one level shall lie within three such widths of the level before, at the ratio γ,

       Φ(√(2d) (γ − 1) + 3γ) − Φ(√(2d) (γ − 1) − 3γ) = 1/2.

3. The score is −ε̂/σ, with a bounded ε̂.
4. A level starts with the variance γ²σ², and its steps bring it to

       [(1 − η)^(2K) (γ² − v) + v] σ²,      v = 1/(1 − η/2);

   η brings it as near to σ² as it can.
5. The weights are averaged (`fit` does that).

With few steps chains lag behind: modes keep some of the width and the weights that they had at larger
noise. One step along the probability flow (Song et al. 2021, arXiv:2011.13456, eq. 13) hands them over as
the next level needs them,

    z ← z − (σ_i − σ_{i+1}) ε̂(z, σ_i),

and from σ_L to zero the same step takes the noise off, as in the second paper. This predictor is the
default, with a fixed η; without it, η is the fourth technique's.
"""

import math
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from likely.contract import Batch, Positive, Range, register
from likely.core.domain import Domain
from likely.models.score.denoising import DenoisingScore

WIDEST = 1.5  # ratio of levels, at most; in few dimensions, any ratio would meet the condition
FARTHEST = 2048  # rows, the farthest from the mean, among which the largest distance is looked for


@register(
    "ncsn",
    title="noise-conditional score network",
    constraint="none on the network; sampling takes a hundred evaluations or more",
    paper="Song & Ermon 2019, arXiv:1907.05600",
)
class NCSN(DenoisingScore):
    """Noise-conditional score network. It has no likelihood.

    The other parameters and the errors are those of `DenoisingScore`.

    Parameters
    ----------
    sigma : float
        The smallest noise level σ_L, for columns of variance 1.
    levels : int, optional
        Their number L, at least two; by default about what technique 2 asks for, with ratios of at
        most 1.5 where the largest distance of rows is that of normal ones, 2√(2d).
    steps : int
        Langevin steps K at each level.
    predictor : bool
        Whether chains are handed over along the probability flow. Otherwise they are those of the
        papers, which need hundreds of steps at each level where modes have different weights.

    Attributes
    ----------
    sigmas : Tensor, shape (levels,)
        Noise levels, from the largest down, for columns of variance 1.

    Examples
    --------
    >>> import likely as lk
    >>> data = lk.load_data("eight-gaussians")
    >>> model = lk.score.NCSN(data.domain)
    >>> history = lk.fit(model, data, steps=100)
    >>> model.sample(5, seed=1).shape
    torch.Size([5, 2])
    """

    def __init__(
        self,
        domain: Domain,
        *,
        sigma: Positive = 0.02,
        levels: Annotated[int, Range(2)] | None = None,
        steps: int = 5,
        predictor: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(domain, sigma=sigma, steps=steps, **options)
        self.predictor = predictor
        # Rows of unit variance are about √(2d) apart; the files of a model must not depend on more.
        largest = max(2 * math.sqrt(2 * self.dim), 2 * sigma)
        if levels is None:
            levels = 2 + int(math.log(largest / sigma) / math.log(overlapping_ratio(self.dim)))
        self.sigmas = nn.Buffer(geometric(largest, sigma, levels))

    def prepare(self, batch: Batch) -> None:
        super().prepare(batch)
        z, _ = self.view(batch.x)
        farthest = z[(z - z.mean(0)).norm(dim=1).topk(min(len(z), FARTHEST)).indices]
        smallest = self.sigmas[-1].item()
        largest = max(torch.cdist(farthest, farthest).max().item(), 2 * smallest)
        self.sigmas.copy_(geometric(largest, smallest, len(self.sigmas)))

    @property
    def eta(self) -> float:
        if self.predictor:
            return super().eta
        return annealing_step((self.sigmas[0] / self.sigmas[1]).item(), self.steps)


def geometric(first: float, last: float, count: int) -> Tensor:
    """A geometric sequence of `count` numbers."""
    exponents = torch.linspace(math.log(first), math.log(last), count, dtype=torch.float64)
    return exponents.exp().to(torch.get_default_dtype())


def overlapping_ratio(dim: int) -> float:
    """γ of technique 2, with its first Φ taken as 1."""
    width = math.sqrt(2 * dim)
    return min(WIDEST, width / (width - 3)) if width > 3 else WIDEST


def annealing_step(ratio: float, steps: int) -> float:
    """η of technique 4, in units of σ²."""
    eta = torch.linspace(0, 1, 1001, dtype=torch.float64)[1:-1]
    settled = 1 / (1 - eta / 2)
    variance = (1 - eta) ** (2 * steps) * (ratio**2 - settled) + settled
    return eta[variance.argmin()].item()
