"""Denoising diffusion probabilistic model (Ho, Jain & Abbeel 2020, arXiv:2006.11239).

In T steps noise replaces a row x₀ (a discrete value by the middle of its cell), and a Markov chain learns
the way back:

    q(x_t|x_{t−1}) = N(√(1 − β_t) x_{t−1}, β_t)        q(x_t|x₀) = N(√ᾱ_t x₀, 1 − ᾱ_t)      (eq. 2, 4)

    log p(x₀) ≥ −L_T − Σ_{t>1} L_{t−1} − L₀                                                    (eq. 5)

with L_T = KL(q(x_T|x₀)‖N(0, 1)), L_{t−1} = KL(q(x_{t−1}|x_t, x₀)‖p(x_{t−1}|x_t)) and
L₀ = −log p(x₀|x₁), a density for a continuous column and the probability of its cell for a discrete one
(eq. 13). All is written in y_t = x_t/√ᾱ_t = x₀ + σ_t ε, σ_t² = (1 − ᾱ_t)/ᾱ_t, where, from t to s = t − 1,

    q(y_s|y_t, x₀) = N(y_t − κ ε, ν)       κ = σ_t − √(σ_s² − ν)     ν = σ_s² (σ_t² − σ_s²)/σ_t²
    p(y_s|y_t)     = N(y_t − κ ε̂, ν + κ² e_t)

    L_{t−1} = ½ Σ_columns log(1 + w e_t) + (1 + w (ε̂ − ε)²)/(1 + w e_t) − 1      w = κ²/ν = σ_t²/σ_s² − 1

e_t = 0 and e_t = ᾱ_t are the two variances of Ho et al., the best for one fixed row and for standard
normal ones: discrete and continuous columns start with these. The best for any ε̂ is e_t = E(ε̂ − ε)²,
measured column by column when training is done (with the exact mean for ε̂ it is that of Bao et al. 2022,
arXiv:2201.06503, eq. 7). Steps from t to any s < t, with ν times η², are those of DDIM (Song, Meng &
Ermon 2021, arXiv:2010.02502, eq. 12 and 16).
"""

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Float64, Int
from torch import Tensor, nn

from likely.contract import LOG_TWO_PI, Batch, Range, Recipe, log_mass, register
from likely.contract.inputs import context_features
from likely.core.domain import Domain
from likely.core.errors import LikelyError
from likely.core.likelihood import Estimator, Kind, mean_and_error
from likely.models.score.base import Columns, PerRow, ScoreModel

Schedule = Literal["cosine", "linear"]
Weighting = Literal["simple", "bound"]

MEASURED = 128, 1 << 18  # rows that each e_t is measured on at least, and numbers for all of them
LEAST = 0.05  # of e₁, so that a row that is unlike all of those does not cost thousands of nats


@register(
    "ddpm",
    title="denoising diffusion probabilistic model",
    constraint="none on the network; sampling takes an evaluation for each level",
    paper="Ho et al. 2020, arXiv:2006.11239",
)
class DDPM(ScoreModel):
    """Denoising diffusion probabilistic model.

    The other parameters and the errors are those of `ScoreModel`.

    Parameters
    ----------
    levels : int
        Number T of noise levels, at least two. The more they are, the tighter is the bound; images of
        256 levels need about 1000, so that the first noise is finer than a level.
    schedule : {"cosine", "linear"}
        How noise grows: as in Nichol & Dhariwal 2021, arXiv:2102.09672, eq. 17, or β_t from 0.1/T to
        20/T, as in Ho et al. at their T of 1000.
    weighting : {"simple", "bound"}
        Whether all levels count alike in the loss (Ho et al., eq. 14), or as they do in the bound.

    Examples
    --------
    >>> import likely as lk
    >>> data = lk.load_data("moons")
    >>> model = lk.score.DDPM(data.domain)
    >>> history = lk.fit(model, data, steps=10)
    >>> str(model.log_likelihood(data.test.x, terms=10).kind)
    'lower bound'
    """

    density = Kind.LOWER
    dequantisation = "none"  # the decoder gives the probability of a level
    recipe = Recipe(batch=256, rate=3e-3)
    validation: ClassVar[dict[str, Any]] = {"draws": 1, "terms": 16}

    def __init__(
        self,
        domain: Domain,
        *,
        levels: Annotated[int, Range(2)] = 100,
        schedule: Schedule = "cosine",
        weighting: Weighting = "simple",
        **options: Any,
    ) -> None:
        super().__init__(domain, **options)
        self.levels, self.weighting = levels, weighting
        self.sigma = noise_levels(levels, schedule)  # no buffer: its type must not change
        error = torch.where(self.view.discrete, 0.0, 1 / (1 + self.sigma[1:, None].square()))
        error[0] = 1.0
        self.error = nn.Buffer(error.to(self.view.scale))  # e_t of each column

    # Training.

    def loss(self, batch: Batch) -> PerRow:
        """Mean over columns of (ε̂ − ε)², with the weights w/2(1 + w e_t) and T for the bound."""
        z = self.view.cells(batch.x)[0][1].to(self.error)
        spread = torch.arange(len(z), device=z.device) / len(z)
        t = 1 + ((torch.rand(1).to(z) + spread) % 1 * self.levels).long().clamp_max(self.levels - 1)
        square = self._missed(z, t, context_features(self, batch.context, len(z))).square()
        if self.weighting == "bound":
            square = square * self.levels / 2 / (1 / self._gain(t).to(z) + self.error[t - 1])
        return square.mean(1)

    def _missed(self, z: Columns, t: Int[Tensor, " n"], context: Tensor | None) -> Columns:
        """ε̂ − ε of rows z at the levels t, or at one level for all."""
        return self.missed(z, self.sigma[t.cpu()].to(z), context)

    def _gain(self, t: Int[Tensor, " n"]) -> Float64[Tensor, "n 1"]:
        """w of the steps from t to t − 1; infinite at t = 1."""
        t = t.cpu()
        return (self.sigma[t] / self.sigma[t - 1]).square()[:, None] - 1

    @torch.no_grad()
    def finish(self, batch: Batch) -> None:
        """Measure e_t; the bounds that `fit` validates by are those before, and lower."""
        weight = torch.ones(len(batch)) if batch.weight is None else batch.weight.cpu()
        n = max(MEASURED[0], MEASURED[1] // (self.levels * self.dim))
        rows = torch.multinomial(weight, self.levels * n, replacement=True).to(self.device)
        for t, index in enumerate(rows.view(self.levels, n), start=1):
            z = self.view.cells(batch.x[index])[0][1].to(self.error)
            context = None if batch.context is None else batch.context[index]
            missed = self._missed(z, torch.tensor([t]), context_features(self, context, n))
            self.error[t - 1] = missed.square().mean(0)
        self.error[0].clamp_min_(LEAST)

    # The bound.

    def estimator(
        self, *, seed: int | None = None, draws: int = 2, terms: int | None = None
    ) -> Estimator:
        """The variational bound of each row.

        Parameters
        ----------
        seed
            Without effect here.
        draws : int
            Over which each term is averaged, with fresh noise; from two on there are errors.
        terms : int, optional
            Number of the T − 1 divergences L_{t−1}, spread evenly over t at random, for all of
            them; by default all are summed.
        """

        def bound(x: Tensor, context: Tensor | None) -> Tensor:
            (low, middle, high), log_det = self.view.cells(x)
            z = middle.to(log_det)
            last = 1 + self.sigma[-1].item() ** 2  # 1/ᾱ_T
            prior = ((z.square() - 1) / last - math.log1p(-1 / last)).sum(1) / 2
            values = []
            for _ in range(draws):
                value = self._log_decoder(z, low - middle, high - middle, context) - prior
                for t, weight in self._chosen(terms, z):
                    value = value - weight * self._divergence(z, t, context)
                values.append(value + log_det)
            return mean_and_error(torch.stack(values))

        return Estimator(bound, Kind.LOWER)

    def _chosen(self, terms: int | None, z: Tensor) -> Iterator[tuple[Int[Tensor, " n"], float]]:
        """Levels t > 1 whose divergences stand for all, one or one for each row, and their weights."""
        inner = self.levels - 1
        terms = min(terms or inner, inner)
        for k in range(terms):
            u = torch.rand(len(z) if terms < inner else 1, dtype=torch.float64)
            yield 2 + ((k + u) * (inner / terms)).long().clamp_max(inner - 1), inner / terms

    def _divergence(self, z: Columns, t: Int[Tensor, " n"], context: Tensor | None) -> PerRow:
        """L_{t−1} of each row, with one draw of y_t."""
        gain, error = self._gain(t).to(z), self.error[t - 1]
        excess = gain * (self._missed(z, t, context).square() - error) / (1 + gain * error)
        return ((gain * error).log1p() + excess).sum(1) / 2

    def _log_decoder(
        self, z: Columns, below: Columns, above: Columns, context: Tensor | None
    ) -> PerRow:
        """log p(x₀|x₁) of each row, whose cells reach from z + below to z + above, with one draw of y₁."""
        std = self.sigma[1].to(z) * self.error[0].sqrt()
        u = self._missed(z, torch.tensor([1]), context) / self.error[0].sqrt()  # (x₀ − mean)/std
        density = -(u.square() + LOG_TWO_PI) / 2 - std.log()
        inside = log_mass(u + below / std, u + above / std).to(density)
        return torch.where(self.view.discrete, inside, density).sum(1)

    # Sampling.

    def _sample(
        self,
        n: int,
        context: Tensor | None,
        *,
        steps: int | None = None,
        eta: Annotated[float, Range(0, 1)] = 1.0,
    ) -> Tensor:
        """Draws by DDIM.

        Parameters
        ----------
        n, context
            As in `GenerativeModel._sample`.
        steps : int, optional
            From T to 0; by default T of them.
        eta : float
            Part of the noise that is added on the way, from 0 (none but the first) to 1. Only with
            all steps and all noise the draws are those of the model whose likelihood is bounded.

        Raises
        ------
        LikelyError
            If there are more steps than levels.
        """
        steps = self.levels if steps is None else steps
        if steps > self.levels:
            raise LikelyError(f"steps={steps}: give at most {self.levels}, the number of levels")
        path = torch.linspace(self.levels, 0, steps + 1).round().long().tolist()
        return self.view.inverse(self._back(path, eta, n, context))

    def _back(self, path: list[int], eta: float, n: int, context: Tensor | None) -> Columns:
        """y₀ from y_T over the levels of a path."""
        y = torch.randn(n, self.dim, dtype=self.error.dtype, device=self.device)
        y = y * math.sqrt(1 + self.sigma[-1].item() ** 2)
        for t, s in pairwise(path):
            sigma, lower = self.sigma[t].item(), self.sigma[s].item()
            variance = (eta * lower) ** 2 * (1 - (lower / sigma) ** 2)
            kappa = sigma - math.sqrt(lower**2 - variance)
            spread = (variance + (eta * kappa) ** 2 * self.error[t - 1]).sqrt()
            predicted = self.noise_prediction(y, y.new_tensor([sigma]), context)
            y = y - kappa * predicted + spread * torch.randn_like(y)
        return y


def noise_levels(levels: int, schedule: Schedule) -> Float64[Tensor, " levels+1"]:
    """σ_t = √((1 − ᾱ_t)/ᾱ_t) from t = 0 to T, of a schedule of β_t ≤ 0.999."""
    if schedule == "linear":
        beta = torch.linspace(0.1, 20, levels, dtype=torch.float64) / levels
    else:
        t = torch.linspace(0, 1, levels + 1, dtype=torch.float64)
        signal = ((t + 0.008) / 1.008 * math.pi / 2).cos().square()
        beta = 1 - signal[1:] / signal[:-1]
    log_signal = (-beta.clamp_max(0.999)).log1p().cumsum(0)
    return torch.cat([beta.new_zeros(1), (-log_signal).expm1().sqrt()])
