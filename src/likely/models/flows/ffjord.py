"""FFJORD: a continuous flow along a free-form field (Grathwohl et al. 2019, arXiv:1810.01367).

A row z(0) moves with a field f until it has the base's density (Chen et al. 2018, arXiv:1806.07366):

    dz/dt = f(z, t)        log p(z(0)) = log p_base(z(1)) + ∫₀¹ ∇·f(z(t), t) dt            (eqs. 2 to 4).

Any f with a bounded slope is a flow: nothing need be invertible by construction, only integrated. The
divergence of a network takes a pass for each column, or is estimated along a random direction. That of
a perceptron with two hidden layers is known, in any number of columns, for the price of one product:

    f = V s₂ + c,    s₂ = tanh(W s₁ + b),    s₁ = tanh(U z + A τ(t) + a)
    ∇·f = (1 − s₂²)ᵀ [W ⊙ (U V)ᵀ] (1 − s₁²).

Training minimises the negative log-likelihood by Runge and Kutta's steps of fixed length, with

    λ ∫₀¹ ‖f‖² dt / d

added to it, which makes paths straight, and so these steps accurate (Finlay et al. 2020, arXiv:2002.02798,
eq. 7). What is reported comes from an adaptive solver, to a stated tolerance.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from likely.contract import Batch, Length, NonNegative, Positive, Recipe, register
from likely.contract.inputs import context_features
from likely.core.domain import Domain
from likely.core.likelihood import Estimator, Kind
from likely.models.flows.base import AffineFlow
from likely.models.flows.transforms import start_at_identity
from likely.nets.mlp import with_context
from likely.numerics.ode import check_tolerance, random_times, runge_kutta, solve

FREQUENCIES = 3  # of the cosines and sines of time


class Field(nn.Module):
    """f and its divergence; see the top of this file for the symbols.

    Parameters
    ----------
    dim : int
    hidden : (int, int)
    context : int
        Number of context features.
    """

    def __init__(self, dim: int, hidden: Sequence[int], context: int) -> None:
        super().__init__()
        self.dim = dim
        self.frequencies = nn.Buffer(math.pi * torch.arange(1.0, FREQUENCIES + 1), persistent=False)
        first, second = hidden
        self.first = nn.Linear(dim + 2 * FREQUENCIES + context, first)
        self.second = nn.Linear(first, second)
        self.last = nn.Linear(second, dim)
        start_at_identity(self.last)

    def along(
        self, context: Tensor | None, divergence: bool = True
    ) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """A function of time and rows that gives f and, if asked, ∇·f, shapes (n, dim) and (n,)."""
        U, A = self.first.weight.tensor_split([self.dim], 1)
        matrix = (self.second.weight * (U @ self.last.weight).T).T

        def field(t: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
            phase = t * self.frequencies
            tau = torch.cat([phase.cos(), phase.sin()])[None]
            if context is not None:
                tau = with_context(tau.expand(len(context), -1), context)
            s1 = (z @ U.T + (tau @ A.T + self.first.bias)).tanh()
            s2 = self.second(s1).tanh()
            if not divergence:
                return self.last(s2), z.new_zeros(len(z))
            return self.last(s2), ((1 - s2.square()) * ((1 - s1.square()) @ matrix)).sum(1)

        return field


@register(
    "ffjord",
    title="continuous normalizing flow along a free-form field",
    density="estimate (ODE)",
    constraint="none but a smooth field; density and samples by an ODE solver",
    paper="Grathwohl et al. 2019, arXiv:1810.01367",
)
class FFJORD(AffineFlow):
    """FFJORD: a continuous normalizing flow, with the exact divergence of its field.

    Parameters
    ----------
    domain : Domain
        Of real, positive, bounded, integer, count or binary columns; none may be periodic.
    context : Domain, optional
    hidden : (int, int)
        Widths of the two hidden layers of the field.
    steps : int
        A training step integrates by `steps` + 1 Runge–Kutta steps of four evaluations: at most 1/`steps`
        long, they end at random times. With few of them the training loss is too optimistic.
    kinetic : float
        λ, the weight of the field's mean square next to the negative log-likelihood.
    tolerance : float
        Of the solver behind `log_likelihood` and `sample`, relative and absolute. It holds for each of
        its steps; the errors of log-likelihoods are some ten times as large.

    Raises
    ------
    LikelyError
        If an option is out of range.

    Examples
    --------
    >>> import likely as lk
    >>> data = lk.load_data("moons")
    >>> model = lk.flows.FFJORD(data.domain, hidden=(32, 32))
    >>> history = lk.fit(model, data, steps=50)
    >>> str(model.log_likelihood(data.test.x[:10]).kind)
    'estimate'
    """

    density = Kind.ESTIMATE
    energy_gradients = ("reparametrised",)  # ∇ log q takes an integration of its own
    recipe = Recipe(batch=512, rate=5e-3)
    validation: ClassVar[dict[str, Any]] = {"tolerance": 1e-3}

    def __init__(
        self,
        domain: Domain,
        *,
        hidden: Annotated[Sequence[int], Length(2, exact=True)] = (128, 128),
        steps: int = 8,
        kinetic: NonNegative = 0.01,
        tolerance: Positive = 1e-5,
        **options: Any,
    ) -> None:
        super().__init__(domain, **options)
        check_tolerance(tolerance, self.view.scale.dtype)
        self.steps, self.kinetic, self.tolerance = steps, kinetic, tolerance
        self.field = Field(self.view.dim, hidden, self.context_size)

    def loss(self, batch: Batch) -> Float[Tensor, " n"]:
        """Negative log-likelihood of each row by steps of fixed length, and λ times its kinetic energy."""
        context = context_features(self, batch.context, len(batch))
        z, log_det = self._viewed(batch.x, context)
        z = self._flipped(z)
        field = self.field.along(context)

        def rates(t: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
            f, divergence = field(t, z)
            return f, torch.stack([divergence, f.square().mean(1)])

        z, (total, energy) = runge_kutta(rates, z, random_times(self.steps))
        return self.kinetic * energy - self._log_prob_base(z) - total - log_det

    def _rsample_real(self, n: int, context: Tensor | None) -> tuple[Tensor, Tensor]:
        start = self._sample_base(n)
        times = random_times(self.steps)[::-1]
        z, total = runge_kutta(self.field.along(context), start, times)
        return z, self._log_prob_base(start) - total

    def estimator(
        self, *, seed: int | None = None, draws: int = 4, tolerance: Positive | None = None
    ) -> Estimator:
        """By an ODE solver with an exact divergence.

        Parameters
        ----------
        seed
            Without effect here.
        draws : int
            Of the noise that dequantises integers; the importance-weighted bound, as in `RealModel`.
        tolerance : float, optional
            Of the solver, relative and absolute; by default the model's own.
        """
        tolerance = self.tolerance if tolerance is None else tolerance
        check_tolerance(tolerance, self.view.scale.dtype)
        terms = partial(self._bound, 1 if self.view.exact else draws, tolerance=tolerance)
        return Estimator(terms, Kind.ESTIMATE, tolerance=tolerance)

    def _log_prob_real(
        self, z: Tensor, context: Tensor | None, tolerance: float | None = None
    ) -> Float[Tensor, " n"]:
        tolerance = self.tolerance if tolerance is None else tolerance
        field = self.field.along(context)

        def both(t: Tensor, state: Tensor) -> Tensor:
            f, divergence = field(t, state[:, :-1])
            return torch.cat([f, divergence[:, None]], 1)

        end = solve(both, torch.cat([z, torch.zeros_like(z[:, :1])], 1), 0.0, 1.0, tolerance)
        return self._log_prob_base(end[:, :-1]) + end[:, -1]

    def _sample_real(self, n: int, context: Tensor | None) -> Float[Tensor, "n dim"]:
        field = self.field.along(context, divergence=False)
        start = self._sample_base(n)
        return solve(lambda t, z: field(t, z)[0], start, 1.0, 0.0, self.tolerance)
