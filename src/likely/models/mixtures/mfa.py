"""Mixture of factor analysers, fitted by EM.

    p(x) = Σ_k π_k N(x; μ_k, Λ_k Λ_kᵀ + Ψ_k)        x = μ_k + Λ_k z + ε,  z ~ N(0, 1),  ε ~ N(0, Ψ_k)

Each component is a low-dimensional Gaussian, the span of its q factors z, with diagonal noise around
it: K (2 + q) d numbers where a mixture with full covariances has K d² / 2. With r_nk = p(k|x_n) and
z₁ = (1, z), the M-step is a regression of x on z₁, which updates μ and Λ together:

    [μ_k Λ_k] = (Σ_n r_nk x_n E[z₁|x_n]ᵀ) (Σ_n r_nk E[z₁ z₁ᵀ|x_n])⁻¹
    Ψ_k = diag(Σ_n r_nk (x_n − [μ_k Λ_k] E[z₁|x_n]) x_nᵀ) / Σ_n r_nk

Ghahramani & Hinton 1996, "The EM algorithm for mixtures of factor analyzers" (there Ψ is the same in
all components). With one component this is factor analysis, with isotropic noise probabilistic
principal components (Tipping & Bishop 1999).
"""

from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from likely.contract import Batch, register
from likely.core.domain import Domain
from likely.models.mixtures.analysers import Analysers, Layer
from likely.models.mixtures.em import GaussianPaths, Mixture

BLOCK = 1 << 20  # numbers at a time


@register(
    "mfa",
    title="mixture of factor analysers",
    density="exact; lower bound on integers",
    constraint="a sum of few Gaussians, each with few directions of correlation",
    paper="Ghahramani & Hinton 1996",
)
class MixtureOfFactorAnalysers(Mixture):
    """Mixture of factor analysers over the real view of a domain, fitted by EM.

    Missing entries are integrated out, and taken to be missing at random (see `log_prob_present`).

    Parameters
    ----------
    domain : Domain
        Without periodic columns: a Gaussian is not continuous across the seam.
    components : int
        Number of analysers K.
    factors : int
        Number of factors q of each; where there are fewer columns, as many as these.
    noise : {"diagonal", "isotropic"}
        Whether each column has its own noise in each component, or all have the same.
    floor : float
        Least variance of the noise, where each column of the data has variance 1.
    tolerance : float
        EM has converged when a pass gains less than this, in nats per sample.

    Raises
    ------
    DomainError
        If the domain has periodic or categorical columns.
    LikelyError
        If an option is out of range.

    Examples
    --------
    >>> import likely as lk
    >>> data = lk.load_data("digits")
    >>> model = lk.mixtures.MixtureOfFactorAnalysers(data.domain, components=5, factors=4)
    >>> history = lk.fit(model, data, epochs=3, seed=0)
    >>> known = torch.arange(64).reshape(8, 8) < 32
    >>> model.complete(data.test.x, known, seed=0).shape  # the lower halves drawn anew
    torch.Size([179, 8, 8])
    """

    def __init__(
        self,
        domain: Domain,
        *,
        components: int = 10,
        factors: int = 8,
        noise: Literal["diagonal", "isotropic"] = "diagonal",
        **options: Any,
    ) -> None:
        super().__init__(domain, **options)
        d = self.view.dim
        self.paths = components
        self.layer = Layer(components, d, min(factors, d), noise == "isotropic", self.floor)

    def _prior(self) -> GaussianPaths | None:
        """The distribution of the factors, where it is not N(0, 1)."""
        return None

    def _draw_factors(self, n: int) -> Float[Tensor, "n q"]:
        return torch.randn(n, self.layer.factors, dtype=torch.float64, device=self.device)

    def _analysers(self) -> Analysers:
        return self.layer.analysers(self._prior())

    def gaussians(self) -> GaussianPaths:
        return self._analysers().marginal()

    @property
    def _block(self) -> int:
        return max(1024, BLOCK // (self.view.dim + self.paths * self.layer.factors))

    def _log_joint(
        self, z: Float[Tensor, "n d"], missing: Bool[Tensor, " d"] | None = None
    ) -> Float[Tensor, "components n"]:
        analysers, y = self._analysers(), z.double()
        if missing is not None:
            analysers, y = analysers.of_columns(~missing), y[:, ~missing]
        return analysers.log_joint(y, analysers.project(y))

    def _sample_real(self, n: int, context: Tensor | None) -> Tensor:
        return self.layer.analysers().sample(self._draw_factors(n))

    @torch.no_grad()
    def prepare(self, batch: Batch) -> None:
        """Start from k-means, and the principal components of each cluster."""
        super().prepare(batch)
        self._start(*self._start_rows(batch))

    def _start(self, z: Tensor, weight: Tensor) -> None:
        self.layer.start(z, weight)

    def _moments(
        self, z: Tensor, weight: Tensor, missing: Bool[Tensor, " d"] | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        analysers, y, weight = self._analysers(), z.double(), weight.double()
        if missing is not None:
            return analysers.moments_present(y, weight, missing)
        return analysers.moments(y, weight)

    def _infer(self, z: Tensor, missing: Bool[Tensor, " d"]) -> Tensor:
        analysers = self._analysers()
        drawn = analysers.of_columns(~missing).infer(z[:, ~missing].double())
        return analysers.emit(*drawn)[:, missing]

    def _maximisation(self, moments: list[Tensor]) -> None:
        second, cross, square = moments
        self.layer.maximise(second.sum(1), cross, square)
