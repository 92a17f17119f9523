"""Gaussian mixture, fitted by expectation–maximisation (EM).

    p(z) = Σ_k π_k N(z; μ_k, Σ_k),      N(z; μ, Σ) = (2π)^(−d/2) |W| exp(−½ ‖W (z − μ)‖²)

with the lower triangular W that whitens Σ: W Σ Wᵀ = 1. A pass over rows z_n of weight w_n takes each
component's moments in its own whitened coordinates y_nk = W_k (z_n − μ_k):

    E    r_nk = w_n π_k N(z_n; μ_k, Σ_k) / p(z_n)
         N_k = Σ_n r_nk      s_k = Σ_n r_nk z_n      S_k = Σ_n r_nk y_nk y_nkᵀ

    M    π_k ← N_k / Σ_j N_j      μ_k ← s_k / N_k      Σ_k ← W_k⁻¹ (S_k / N_k − m_k m_kᵀ) W_k⁻ᵀ

where m_k = W_k (s_k / N_k − μ_k), the step of the mean, vanishes as EM converges: nothing cancels,
however narrow a component is and however far from the origin.

Dempster, Laird & Rubin 1977, "Maximum likelihood from incomplete data via the EM algorithm".
"""

from typing import Any, Literal

import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.linalg import cholesky, eigh, solve_triangular

from likely.contract import LOG_TWO_PI, Batch, register
from likely.core.domain import Domain, reals
from likely.models.mixtures.em import GaussianPaths, Mixture, posterior
from likely.models.mixtures.k_means import k_means

Covariance = Literal["full", "diagonal", "tied"]

BLOCK = 1 << 19  # numbers y_nk at a time: they stay in the cache


@register(
    "gmm",
    title="Gaussian mixture",
    density="exact; lower bound on integers",
    constraint="a sum of few Gaussians",
    paper="Dempster, Laird & Rubin 1977",
)
@register(
    "gaussian",
    title="Gaussian",
    density="exact; lower bound on integers",
    constraint="one mode, linear correlations",
    components=1,
)
class GaussianMixture(Mixture):
    """Mixture of Gaussians over the real view of a domain, fitted by EM.

    Parameters
    ----------
    domain : Domain
        Without periodic columns: a Gaussian is not continuous across the seam.
    components : int
        Number of Gaussians.
    covariance : {"full", "diagonal", "tied"}
        Each component has its own, its own without correlations, or all share one.
    floor : float
        Smallest variance in any direction, where each column of the data has variance 1.
    tolerance : float
        EM has converged when a pass gains less than this, in nats per sample.

    Raises
    ------
    DomainError
        If the domain has periodic or categorical columns.
    LikelyError
        If an option is out of range.
    """

    def __init__(
        self,
        domain: Domain,
        *,
        components: int = 8,
        covariance: Covariance = "full",
        **options: Any,
    ) -> None:
        super().__init__(domain, **options)
        self.components, self.covariance = components, covariance
        d = self.view.dim
        diagonal = torch.arange(d).expand(2, d)
        rows, columns = diagonal if covariance == "diagonal" else torch.tril_indices(d, d)
        self.rows = nn.Buffer(rows, persistent=False)
        self.columns = nn.Buffer(columns, persistent=False)
        self.logits = nn.Parameter(torch.zeros(components))  # log π
        self.means = nn.Parameter(torch.zeros(components, d))
        w = (rows == columns).to(self.means).repeat(1 if covariance == "tied" else components, 1)
        self.factor = nn.Parameter(w)  # the entries of W at (rows, columns)

    @classmethod
    def of(cls, weights: ArrayLike, means: ArrayLike, covariances: ArrayLike) -> "GaussianMixture":
        """The mixture with these parameters on real columns, in their own units and in float64.

        Parameters
        ----------
        weights : array, shape (components,)
            Positive; they are divided by their sum.
        means : array, shape (components, *shape)
        covariances : array, shape (components, d, d)
            With d the number of entries of a row.

        Raises
        ------
        LinAlgError
            If a covariance is not positive definite.

        Examples
        --------
        >>> model = GaussianMixture.of([1], [[0.0, 1.0]], [[[1.0, 0.0], [0.0, 1.0]]])
        >>> round(model.log_prob(torch.tensor([[0.0, 1.0]])).item(), 4)
        -1.8379
        """
        weights, means, covariances = (
            torch.as_tensor(values, dtype=torch.float64) for values in (weights, means, covariances)
        )
        model = cls(reals(*means.shape[1:]), components=len(means)).double()
        d = model.view.dim
        one = torch.eye(d, dtype=torch.float64)
        whitening = solve_triangular(cholesky(covariances), one, upper=False)
        with torch.no_grad():
            model.logits.copy_((weights / weights.sum()).log())
            model.means.copy_(means.reshape(-1, d))
            model.factor.copy_(whitening[:, model.rows, model.columns])
            model.prepared.fill_(True)
        return model

    # Density and samples.

    @property
    def _block(self) -> int:
        """Rows at a time."""
        return max(256, BLOCK // self.means.numel())

    def _whitening(self) -> Float[Tensor, "factors d d"]:
        """W of each component, or the one that all share."""
        d = self.view.dim
        w = self.factor.new_zeros(len(self.factor), d, d)
        w[:, self.rows, self.columns] = self.factor
        return w

    def _whitened(self, z: Float[Tensor, "n d"]) -> Float[Tensor, "components d n"]:
        """y = W (z − μ)."""
        if self.covariance == "diagonal":
            return self.factor[..., None] * (z.mT - self.means[..., None])
        w = self._whitening()
        return w @ z.mT - w @ self.means[..., None]

    def _log_joint(self, z: Float[Tensor, "n d"]) -> Float[Tensor, "components n"]:
        """log π N(z; μ, Σ)."""
        return self._log_density(self._whitened(z))

    def _log_density(self, y: Float[Tensor, "components d n"]) -> Float[Tensor, "components n"]:
        log_det = self.factor[:, self.rows == self.columns].abs().log().sum(1)
        constant = self.logits.log_softmax(0) + log_det - self.view.dim / 2 * LOG_TWO_PI
        return constant[:, None] - y.square().sum(1) / 2

    def gaussians(self) -> GaussianPaths:
        w = self._whitening().double().expand(self.components, -1, -1)
        inverse = torch.linalg.inv(w)
        log_weights = self.logits.double().log_softmax(0)
        return GaussianPaths(log_weights, self.means.double(), inverse @ inverse.mT)

    def _sample_real(self, n: int, context: Tensor | None) -> Tensor:
        drawn = torch.multinomial(self.logits.softmax(0), n, replacement=True)
        noise = torch.randn(n, self.view.dim, dtype=self.means.dtype, device=self.device)
        if self.covariance == "diagonal":
            return self.means[drawn] + noise / self.factor[drawn]
        z = torch.empty_like(noise)
        w = self._whitening().expand(self.components, -1, -1)
        for k in drawn.unique().tolist():
            mine = drawn == k
            z[mine] = self.means[k] + solve_triangular(w[k], noise[mine].mT, upper=False).mT
        return z

    # Expectation–maximisation.

    @torch.no_grad()
    def prepare(self, batch: Batch) -> None:
        """Start from k-means: its centres, and one round covariance for all components."""
        super().prepare(batch)
        z, weight = self._start_rows(batch)
        centres, distance = k_means(z, weight, self.components)
        variance = (weight @ distance / weight.sum() / self.view.dim).clamp_min(self.floor)
        self.means.copy_(centres)
        self.factor.copy_((self.rows == self.columns) * variance.rsqrt())

    def _moments(self, z: Tensor, weight: Tensor) -> tuple[Tensor, list[Tensor]]:
        """E-step: N, s and S (its diagonal, where Σ is diagonal) of some rows."""
        y = self._whitened(z)
        r, log_prob = posterior(self._log_density(y), weight)
        y *= r.sqrt()[:, None]
        second = y.square().sum(2) if self.covariance == "diagonal" else y @ y.mT
        return log_prob, [r.sum(1), r @ z, second]

    def _maximisation(self, moments: list[Tensor]) -> None:
        """M-step, from N, s and S, under Σ ⪰ floor; a component without rows stays as it is."""
        count, first, second = moments
        least = torch.finfo(count.dtype).eps * count.sum()
        dead = (count <= least)[:, None]
        count = count.clamp_min(least)
        means = torch.where(dead, self.means.double(), first / count[:, None])
        step = means - self.means
        if self.covariance == "diagonal":
            w = self.factor.double()
            moved = torch.where(dead, 1.0, second / count[:, None] - (w * step).square())
            factor = (moved / w.square()).clamp_min(self.floor).rsqrt()
        else:
            w = self._whitening().double()
            one = torch.eye(self.view.dim, dtype=w.dtype, device=w.device)
            m = w @ step[..., None]
            moved = second / count[:, None, None] - m @ m.mT
            moved = torch.where(dead[..., None], one, moved)
            if self.covariance == "tied":
                moved = torch.einsum("k,kij->ij", count / count.sum(), moved)[None]
            inverse = solve_triangular(w, one, upper=False)
            # The maximiser under the constraint raises the eigenvalues that lie below the floor.
            value, vector = eigh(inverse @ moved @ inverse.mT)
            covariance = vector * value.clamp_min(self.floor)[:, None] @ vector.mT
            w = solve_triangular(cholesky(covariance), one, upper=False)
            factor = w[:, self.rows, self.columns]
        self.logits.copy_((count / count.sum()).log())
        self.means.copy_(means)
        self.factor.copy_(factor)
