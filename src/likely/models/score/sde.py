"""Score-based model through a stochastic differential equation (Song et al. 2021, arXiv:2011.13456).

Noise enters the rows continuously until nothing else is left,

    variance preserving    dz = −½ β(t) z dt + √β(t) dw      β(t) = 0.1 + 19.9 t      (eq. 11, 32)
    variance exploding     dz = √(dσ²/dt) dw                 σ(t) = σ(0) [σ(1)/σ(0)]ᵗ  (eq. 9, 30)

so that z_t = α_t (z₀ + σ(t) ε), with α_t = 1 where variance explodes. In y = z_t/α_t both are one process,
dy = √dσ² dw, on clocks of their own: σ(t)² = exp(∫₀ᵗ β) − 1 where variance is preserved. Everything is
therefore written once, with time σ. Reversed, it is the SDE, or the ODE with the same marginals,

    dy = −∇ log p_σ(y) dσ² + √dσ² dw        dy/dσ = −σ ∇ log p_σ(y) = ε̂(y, σ)               (eq. 6, 13)

from N(0, 1 + σ(1)²) at t = 1. The ODE is a continuous flow. With u = α y, α = 1/√(1 + σ²), s = σ α it is

    du/d log σ = s (ε̂ − s u)      d log p(u)/d log σ = −Tr ∂/∂u s (ε̂ − s u)                       (eq. 39)

which stands still where the data are standard normal. The loss

    ∫ E‖ε̂(y, σ) − ε‖² d log σ = ∫ E‖ε̂(y, σ) − ε‖²/α² d log s

bounds the divergence KL(data‖model) from above, up to a constant (Song, Durkan, Murray & Ermon 2021,
arXiv:2101.09258, theorem 1, with the likelihood weighting λ = g²). In its second form the integrand is
the network's own error: no time is lost where there is nothing left but noise.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from likely.contract import LOG_TWO_PI, Batch, Positive, Recipe, register
from likely.contract.inputs import context_features
from likely.core.domain import Domain
from likely.core.errors import LikelyError
from likely.core.likelihood import Estimator, Kind, mean_and_error
from likely.models.score.base import Columns, PerRow
from likely.models.score.ode import Divergence, ODEModel, carried_log_density
from likely.nets.noise import NoiseMLP
from likely.nets.unet import UNet
from likely.numerics.ode import check_tolerance, solve

SDE = Literal["vp", "ve"]
Sampler = Literal["ode", "heun", "ddim", "pc"]
Weighting = Literal["likelihood", "simple"]
Method = Literal["ode", "bound"]

FIRST = 1e-5  # t at which the variance-preserving process is cut off (Song et al. 2021, appendix C)
EXPLODING = 1e-3, 50.0  # σ(0) and σ(1) of the variance-exploding one
FEW = 8  # largest number of columns for which rows of a batch inform on one another's noise
SIGNAL_TO_NOISE = 0.16  # r of a corrector step, whose size is 2 (r σ)² (algorithm 4)


@register(
    "score-sde",
    title="score-based model through a stochastic differential equation",
    density="estimate (probability-flow ODE)",
    constraint="none on the network; sampling takes tens to hundreds of evaluations",
    paper="Song et al. 2021, arXiv:2011.13456",
)
class ScoreSDE(ODEModel):
    """Score-based model through a stochastic differential equation.

    Parameters
    ----------
    domain, context, network, hidden
        As in `ScoreModel`.
    edges : int, optional
        Number of planes, placed by training, across which the perceptron expects the density to end
        abruptly; none by default. 64 are enough for a checkerboard, given 100,000 rows or more; with fewer
        rows they gain little.
    sde : {"vp", "ve"}
        Whether noise preserves the variance of the rows, or makes it explode.
    weighting : {"likelihood", "simple"}
        What training minimises: a bound of the negative log-likelihood, or the mean over t of the
        error of ε̂; where variance explodes, both have the same minimum.
    sampler : {"ode", "heun", "ddim", "pc"}
        How to draw: the probability-flow ODE with an adaptive solver, whose draws have exactly the
        density that `log_likelihood` reports; in `steps` steps of second or first order (DDIM, Song,
        Meng & Ermon 2021, arXiv:2010.02502); or the reverse SDE by predictor and corrector. `sample`
        may choose another.
    steps : int
        Of the samplers but "ode"; "heun" and "pc" evaluate the network twice in each.
    tolerance : float
        Of the adaptive solver, relative and absolute.

    Raises
    ------
    DomainError
        If a column is periodic or an unordered category, or all are constant.
    LikelyError
        If an option is out of range.

    Examples
    --------
    >>> import likely as lk
    >>> data = lk.load_data(lk.targets.eight_gaussians().sample(2000, 0))
    >>> model = lk.score.ScoreSDE(data.domain, hidden=(64, 64))
    >>> history = lk.fit(model, data, steps=200)
    >>> str(model.log_likelihood(data.test.x[:10]).kind)
    'estimate'
    """

    recipe = Recipe(batch=1024, rate=2e-3, weight_decay=0.3)
    validation: ClassVar[dict[str, Any]] = {"method": "bound", "draws": 8}

    def __init__(
        self,
        domain: Domain,
        *,
        sde: SDE = "vp",
        edges: int | None = None,
        weighting: Weighting = "likelihood",
        sampler: Sampler = "ode",
        steps: int = 50,
        tolerance: Positive = 1e-5,
        **options: Any,
    ) -> None:
        super().__init__(domain, **options)
        if edges and isinstance(self.net, UNet):
            raise LikelyError(f'edges={edges}: a U-Net has none, but network="mlp" has')
        check_tolerance(tolerance, self.view.scale.dtype)
        self.sde, self.weighting = sde, weighting
        self.sampler, self.steps, self.tolerance = sampler, steps, tolerance
        if isinstance(self.net, UNet):
            self.recipe = Recipe(batch=128, rate=2e-3)
        ends = self._sigma(torch.tensor([0.0, 1.0], dtype=torch.float64)).log()
        self.log_sigma: tuple[float, float] = tuple(ends.tolist())

    def _perceptron(self, hidden: Sequence[int]) -> NoiseMLP:
        return NoiseMLP(self.dim, hidden, self.context_size, self.hyperparameters["edges"] or 0)

    def _sigma(self, t: Tensor) -> Tensor:
        """σ of a time between 0, where the process is cut off, and 1."""
        if self.sde == "ve":
            low, high = EXPLODING
            return low * (high / low) ** t
        t = FIRST + (1 - FIRST) * t
        return (0.1 * t + 19.9 * t.square() / 2).expm1().sqrt()

    # Training.

    def loss(self, batch: Batch) -> PerRow:
        """‖ε̂ − ε‖² of each row, divided by the number of columns; with the likelihood weighting, times
        1 + σ². Noise levels are spread evenly over rows."""
        z, _ = self.view(batch.x)
        t = (torch.rand(1).to(z) + torch.arange(len(z), device=z.device) / len(z)) % 1
        simple = self.weighting == "simple"
        sigma = self._sigma(t) if simple else self._share_log_uniform(t)
        context = context_features(self, batch.context, len(z))
        if self.dim <= FEW and context is None and batch.weight is None:
            error = self.pooled_error(z, sigma)
        else:
            error = self.missed(z, sigma, context).square().sum(1)
        return (error if simple else error * (1 + sigma.square())) / self.dim

    def _share_log_uniform(self, t: Tensor) -> Tensor:
        """σ for which the logarithm of s = σ/√(1 + σ²) goes from end to end while t goes from 0 to 1."""
        low, high = (-math.log1p(math.exp(-2 * end)) / 2 for end in self.log_sigma)
        return (-2 * (low * (1 - t) + high * t)).expm1().rsqrt()

    def _log_uniform(self, t: Tensor) -> Tensor:
        """σ whose logarithm goes from end to end while t goes from 0 to 1."""
        low, high = self.log_sigma
        return (low + (high - low) * t).exp()

    # Likelihoods.

    def estimator(
        self,
        *,
        seed: int | None = None,
        method: Method = "ode",
        divergence: Divergence = "auto",
        draws: int | None = None,
        tolerance: Positive | None = None,
    ) -> Estimator:
        """Through the probability-flow ODE, or a bound.

        Parameters
        ----------
        seed
            Without effect here.
        method : {"ode", "bound"}
            The density of the ODE, an estimate; or an average over noise levels which bounds that of
            the reverse SDE, with noise σ(0) in the rows, from below (Song, Durkan, Murray & Ermon
            2021, theorem 3): hundreds of times cheaper, and what `fit` validates by.
        divergence : {"auto", "exact", "hutchinson"}
            Whether the divergence is computed, at the cost of a backward pass for each column, or
            estimated from a random direction in each draw (Hutchinson 1990); "auto" computes it up to
            64 columns, if they are no image: through a U-Net that takes a second a row.
        draws : int, optional
            Of what is random: directions, noise, and the noise that dequantises integers; by default 64
            noise levels of the bound, and 4 of the others. The mean is taken, and with
            an exact divergence the importance-weighted bound, whose errors are the delta method's.
            Noise levels are spread evenly, which makes the bound's errors smaller than is stated.
        tolerance : float, optional
            Of the solver, relative and absolute; by default the model's own.

        Raises
        ------
        LikelyError
            If an option is out of range.
        """
        if method == "ode":
            return self._through_ode(divergence, draws, tolerance)
        count = draws or 64

        def bound(x: Tensor, context: Tensor | None) -> Tensor:
            terms = []
            for k in range(count):
                z, log_det = self.view(x)
                t = (k + torch.rand_like(z[:, 0])) / count
                terms.append(self._bound(z, context, self._log_uniform(t)) + log_det)
            return mean_and_error(torch.stack(terms))

        return Estimator(bound, Kind.LOWER)

    def _bound(self, z: Columns, context: Tensor | None, sigma: PerRow) -> PerRow:
        """A bound in expectation over log σ, uniform between its ends, and the noise, of log p(z) with
        noise of σ(0) in z.

        A Gaussian N(0, 1 + σ²) at all times predicts s u for ε, and its bound is its own likelihood;
        the network's error is compared with that of this prediction, so that what is averaged is the
        gain over the Gaussian.
        """
        noise = torch.randn_like(z)
        y = z + sigma[:, None] * noise
        gaussian = y * (sigma / (1 + sigma.square()))[:, None]
        predicted = self.noise_prediction(y, sigma, context)
        gain = ((noise - gaussian).square() - (noise - predicted).square()).sum(1)
        low, high = self.log_sigma
        variance = 1 + math.exp(2 * low)
        square = (z.square().sum(1) + self.dim * (variance - 1)) / variance
        return (high - low) * gain - (square + self.dim * (LOG_TWO_PI + math.log(variance))) / 2

    def _log_density(
        self, z: Columns, context: Tensor | None, exact: bool, tolerance: float
    ) -> PerRow:
        low, high = self.log_sigma
        shrunk = -math.log1p(math.exp(2 * low)) / 2  # log α at σ(0)
        log_density = carried_log_density(
            lambda t, u: self._drift(t, u, context),
            z * math.exp(shrunk),
            low,
            high,
            exact,
            tolerance,
        )
        return log_density + self.dim * shrunk

    def _drift(self, log_sigma: Float[Tensor, ""], u: Columns, context: Tensor | None) -> Columns:
        """du/d log σ of the probability-flow ODE, with the same σ for all rows."""
        sigma = log_sigma.exp()
        alpha = (1 + sigma.square()).rsqrt()
        s = sigma * alpha
        return s * (self.noise_prediction(u / alpha, sigma[None], context) - s * u)

    # Sampling.

    def _sample(
        self,
        n: int,
        context: Tensor | None,
        *,
        sampler: Sampler | None = None,
        steps: int | None = None,
    ) -> Tensor:
        """Draws by a sampler in `steps` steps; by default those of the constructor."""
        sampler, steps = sampler or self.sampler, steps or self.steps
        low, high = self.log_sigma
        u = self.view.scale.new_empty(n, self.dim).normal_()
        if sampler == "ode":
            u = solve(lambda t, u: self._drift(t, u, context), u, high, low, self.tolerance)
            return self.view.inverse(u * math.sqrt(1 + math.exp(2 * low)))
        y = u * math.sqrt(1 + math.exp(2 * high))
        times = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
        for sigma, lower in pairwise(self._sigma(times).tolist()):
            y = self._step(y, sigma, lower, context, sampler)
        return self.view.inverse(y)

    def _step(
        self, y: Columns, sigma: float, lower: float, context: Tensor | None, sampler: Sampler
    ) -> Columns:
        """From σ to a lower one."""

        def predicted(y: Tensor, sigma: float) -> Tensor:
            return self.noise_prediction(y, y.new_tensor([sigma]), context)

        noise = predicted(y, sigma)
        if sampler != "pc":
            after = y + (lower - sigma) * noise
            if sampler == "ddim":
                return after
            return y + (lower - sigma) * (noise + predicted(after, lower)) / 2
        variance = sigma**2 - lower**2
        y = y - variance / sigma * noise
        y = y + lower / sigma * math.sqrt(variance) * torch.randn_like(y)
        kick = 2 * SIGNAL_TO_NOISE * lower
        return y - kick**2 / (2 * lower) * predicted(y, lower) + kick * torch.randn_like(y)
