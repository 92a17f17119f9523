"""Gaussian mixture, fitted by expectation–maximisation (EM).

    p(z) = Σ_k π_k N(z; μ_k, Σ_k),      N(z; μ, Σ) = (2π)^(−d/2) |W| exp(−½ ‖W (z − μ)‖²)

with the lower triangular W that whitens Σ: W Σ Wᵀ = 1. A pass over rows z_n of weight w_n takes each
component's moments in its own whitened coordinates y_nk = W_k (z_n − μ_k):

    E    r_nk = w_n π_k N(z_n; μ_k, Σ_k) / p(z_n)
         N_k = Σ_n r_nk      s_k = Σ_n r_nk z_n      S_k = Σ_n r_nk y_nk y_nkᵀ

    M    π_k ← N_k / Σ_j N_j      μ_k ← s_k / N_k      Σ_k ← W_k⁻¹ (S_k / N_k − m_k m_kᵀ) W_k⁻ᵀ

where m_k = W_k (s_k / N_k − μ_k), the step of the mean, vanishes as EM converges: nothing cancels,
however narrow a component is and however far from the origin.

Where the columns A = W_m = QR of W belong to missing entries, and b = W (z − μ) has them at their means,

    y | present ~ N((1 − QQᵀ) b, QQᵀ)      z_m = μ_m − R⁻¹ Qᵀ (b − y)
    p(present) = (2π)^(−(d − m)/2) |W|/|R| exp(−½ ‖(1 − QQᵀ) b‖²)

Dempster, Laird & Rubin 1977, "Maximum likelihood from incomplete data via the EM algorithm".
"""

from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
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

    Missing entries are integrated out, and taken to be missing at random (see `log_prob_present`).

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

    def _whitened(
        self, z: Float[Tensor, "n d"], missing: Bool[Tensor, " d"] | None = None
    ) -> Float[Tensor, "components d n"]:
        """y = W (z − μ); b, where columns are missing."""
        if missing is not None:
            w, present = self._whitening(), ~missing
            w = w[:, :, present]
            return w @ z[:, present].mT - w @ self.means[:, present, None]
        if self.covariance == "diagonal":
            return self.factor[..., None] * (z.mT - self.means[..., None])
        w = self._whitening()
        return w @ z.mT - w @ self.means[..., None]

    def _log_joint(
        self, z: Float[Tensor, "n d"], missing: Bool[Tensor, " d"] | None = None
    ) -> Float[Tensor, "components n"]:
        """log π N(z; μ, Σ)."""
        b = self._whitened(z, missing)
        if missing is None:
            return self._log_density(b)
        q, r = self._split(missing)
        return self._log_density(b - q @ (q.mT @ b), r)

    def _split(self, missing: Bool[Tensor, " d"]) -> tuple[Tensor, Tensor]:
        """Q and R of the columns of W that belong to missing entries."""
        q, r = torch.linalg.qr(self._whitening()[:, :, missing])
        return q, r

    def _log_density(
        self, y: Float[Tensor, "components d n"], r: Float[Tensor, "factors m m"] | None = None
    ) -> Float[Tensor, "components n"]:
        log_det, d = self.factor[:, self.rows == self.columns].abs().log().sum(1), self.view.dim
        if r is not None:
            log_det = log_det - r.diagonal(dim1=-2, dim2=-1).abs().log().sum(1)
            d -= r.shape[-1]
        constant = self.logits.log_softmax(0) + log_det - d / 2 * LOG_TWO_PI
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

    def _infer(self, z: Tensor, missing: Bool[Tensor, " d"]) -> Tensor:
        b, (q, r) = self._whitened(z, missing), self._split(missing)
        qb = q.mT @ b
        joint = self._log_density(b - q @ qb, r)
        drawn = torch.multinomial(joint.mT.softmax(1), 1)[:, 0]
        r = r.expand(self.components, -1, -1)[drawn]
        moved = torch.randn_like(qb[0].mT) - qb[drawn, :, torch.arange(len(z), device=z.device)]
        step = solve_triangular(r, moved[..., None], upper=True)[..., 0]
        return self.means[drawn][:, missing] + step

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

    def _moments(
        self, z: Tensor, weight: Tensor, missing: Bool[Tensor, " d"] | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """E-step: N, s and S (its diagonal, where Σ is diagonal) of some rows."""
        if missing is not None:
            return self._moments_present(z, weight, missing)
        y = self._whitened(z)
        r, log_prob = posterior(self._log_density(y), weight)
        y *= r.sqrt()[:, None]
        second = y.square().sum(2) if self.covariance == "diagonal" else y @ y.mT
        return log_prob, [r.sum(1), r @ z, second]

    def _moments_present(
        self, z: Tensor, weight: Tensor, missing: Bool[Tensor, " d"]
    ) -> tuple[Tensor, list[Tensor]]:
        """The same in expectation of what is missing."""
        b, (q, triangle) = self._whitened(z, missing), self._split(missing)
        y = b - q @ (q.mT @ b)
        r, log_prob = posterior(self._log_density(y, triangle), weight)
        count = r.sum(1)
        first = r @ z.nan_to_num(0.0)
        step = solve_triangular(triangle, q.mT @ (b @ r[..., None]), upper=True)[..., 0]
        first[:, missing] = count[:, None] * self.means[:, missing] - step
        second = (r[:, None] * y) @ y.mT + count[:, None, None] * (q @ q.mT)
        if self.covariance == "diagonal":
            second = second.diagonal(dim1=-2, dim2=-1)
        return log_prob, [count, first, second]

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
