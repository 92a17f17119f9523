"""Flow matching: a continuous flow learned by regression (Lipman et al. 2023, arXiv:2210.02747).

Rows x₁ are joined to noise x₀ ~ N(0, 1) by straight lines, and a field learns the mean of their slopes,

    x_t = (1 − t) x₀ + t x₁,       L = E ‖v(x_t, t) − (x₁ − x₀)‖²                        (eq. 23, σ_min = 0)

so that dx/dt = v carries the noise at t = 0 to the rows at t = 1. Where the rows are standard normal, too,
the best field is (2t − 1) x/q with q = t² + (1 − t)², and x₁ − x₀ deviates from it by 1/√q. The network F
has what is left:

    v(x, t) = [(2t − 1) u − F(u, t)]/√q,       u = x/√q.

With independent x₀ and x₁ this is the noise prediction of the other score models at σ = (1 − t)/t, for
x_t/t = x₁ + σ x₀. With x₀ and x₁ of a batch paired by least total ‖x₁ − x₀‖² (Tong et al. 2024,
arXiv:2302.00482, sec. 3.2) paths hardly cross, and are straighter: fewer steps follow them. The field is
then no score.
"""

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from likely.contract import Batch, Positive, Recipe, register
from likely.contract.inputs import context_features
from likely.core.domain import Domain
from likely.core.errors import DataError, DensityError, LikelyError
from likely.core.likelihood import Estimator
from likely.models.score.base import Columns, PerRow
from likely.models.score.ode import Divergence, ODEModel, carried_log_density
from likely.nets.unet import UNet
from likely.numerics.ode import check_tolerance, runge_kutta, solve

Pairing = Literal["independent", "optimal"]


@register(
    "flow-matching",
    title="continuous flow learned by regression on straight paths",
    density="estimate (ODE)",
    constraint="none on the network; density and samples by an ODE solver",
    paper="Lipman et al. 2023, arXiv:2210.02747; Tong et al. 2024, arXiv:2302.00482",
)
class FlowMatching(ODEModel):
    """Flow matching along straight paths, independent or paired by optimal transport in each batch.

    Parameters
    ----------
    domain, context, network, hidden
        As in `ScoreModel`.
    pairing : {"independent", "optimal"}
        Which noise each row of a batch is joined to: any, or that of the optimal assignment, which takes
        neither a context nor weights, since noise would then depend on them.
    tolerance : float
        Of the adaptive solver behind `log_likelihood` and `sample`, relative and absolute.

    Raises
    ------
    DomainError
        If a column is periodic or an unordered category, or all are constant.
    LikelyError
        If an option is out of range, or there is a context with the optimal pairing.

    Examples
    --------
    >>> import likely as lk
    >>> data = lk.load_data("moons")
    >>> model = lk.score.FlowMatching(data.domain, hidden=(32, 32), pairing="optimal")
    >>> history = lk.fit(model, data, steps=50)
    >>> model.sample(5, seed=1, steps=4).shape
    torch.Size([5, 2])
    """

    recipe = Recipe(batch=512, rate=2e-3)
    validation: ClassVar[dict[str, Any]] = {
        "divergence": "hutchinson",
        "draws": 1,
        "tolerance": 1e-2,
    }

    def __init__(
        self,
        domain: Domain,
        *,
        pairing: Pairing = "independent",
        tolerance: Positive = 1e-5,
        **options: Any,
    ) -> None:
        super().__init__(domain, **options)
        check_tolerance(tolerance, self.view.scale.dtype)
        self.pairing, self.tolerance = pairing, tolerance
        if pairing == "optimal" and self.context is not None:
            raise LikelyError(
                'pairing="optimal" takes no context, on which the noise would depend: take "independent"'
            )
        if isinstance(self.net, UNet):
            self.recipe = Recipe(batch=128, rate=2e-3)

    def prepare(self, batch: Batch) -> None:
        if self.pairing == "optimal" and batch.weight is not None:
            raise DataError('pairing="optimal" takes rows of equal weight: take "independent"')
        super().prepare(batch)

    def _level(self, sigma: PerRow) -> PerRow:
        return 1 / (1 + sigma)  # t, with σ = (1 − t)/t

    def velocity(self, x: Columns, t: PerRow, context: Tensor | None = None) -> Columns:
        """v(x, t) in the view's columns, each row at a time of its own or all at one."""
        root = (t.square() + (1 - t).square()).sqrt()[:, None]
        u = x / root
        return ((2 * t[:, None] - 1) * u - self.net(u, t, context)) / root

    def mismatch(
        self, noise: Columns, z: Columns, t: PerRow, context: Tensor | None = None
    ) -> PerRow:
        """‖v(x_t, t) − (z − noise)‖²/d on the way from noise to rows z."""
        x = torch.lerp(noise, z, t[:, None])
        return (self.velocity(x, t, context) - (z - noise)).square().mean(1)

    def score(self, z: Columns, sigma: float, context: Tensor | None = None) -> Columns:
        """As in `ScoreModel`; a `DensityError` with the optimal pairing, whose field is no score."""
        if self.pairing == "optimal":
            raise DensityError('FlowMatching has no score where pairing="optimal"')
        return super().score(z, sigma, context)

    def loss(self, batch: Batch) -> PerRow:
        """The mismatch of each row, at times that are spread evenly over rows."""
        z, _ = self.view(batch.x)
        noise = torch.randn_like(z)
        if self.pairing == "optimal":
            noise = noise[assignment(z, noise)]
        t = (torch.rand(1).to(z) + torch.arange(len(z), device=z.device) / len(z)) % 1
        return self.mismatch(noise, z, t, context_features(self, batch.context, len(z)))

    def estimator(
        self,
        *,
        seed: int | None = None,
        divergence: Divergence = "auto",
        draws: int | None = None,
        tolerance: Positive | None = None,
    ) -> Estimator:
        """Through the ODE.

        Parameters
        ----------
        seed
            Without effect here.
        divergence : {"auto", "exact", "hutchinson"}
            As in `ScoreSDE.estimator`.
        draws : int, optional
            Of random directions and of the noise that dequantises integers; 4 by default.
        tolerance : float, optional
            Of the solver, relative and absolute; by default the model's own.

        Raises
        ------
        LikelyError
            If an option is out of range.
        """
        return self._through_ode(divergence, draws, tolerance)

    def _log_density(
        self, z: Columns, context: Tensor | None, exact: bool, tolerance: float
    ) -> PerRow:
        return carried_log_density(
            lambda t, x: self.velocity(x, t[None], context), z, 1.0, 0.0, exact, tolerance
        )

    def _sample(self, n: int, context: Tensor | None, *, steps: int | None = None) -> Tensor:
        """Draws by the adaptive solver, or by so many Runge–Kutta steps of four evaluations."""
        x = self.view.scale.new_empty(n, self.dim).normal_()

        def field(t: Tensor, x: Tensor) -> Tensor:
            return self.velocity(x, t[None], context)

        if steps is None:
            return self.view.inverse(solve(field, x, 0.0, 1.0, self.tolerance))
        times = torch.linspace(0, 1, steps + 1, dtype=torch.float64).tolist()
        x, _ = runge_kutta(lambda t, x: (field(t, x), torch.zeros_like(x[:, 0])), x, times)
        return self.view.inverse(x)


def assignment(z: Columns, noise: Columns) -> Tensor:
    """For each row of z the row of noise in the pairing of least total square distance."""
    from scipy.optimize import linear_sum_assignment

    cost = torch.cdist(z.detach(), noise).square().cpu().numpy()
    return torch.as_tensor(linear_sum_assignment(cost)[1], device=z.device)
