"""Factor analysers: the layer that mixtures of them and deep Gaussian mixtures are made of.

    y = μ_k + Λ_k z + ε,     ε ~ N(0, Ψ_k),  Ψ_k diagonal,     k with probability π_k

The factors z in R^q have a Gaussian mixture as their prior, N(m_u, C_u) with probability w_u: one
standard normal in a mixture of factor analysers, the layers above in a deep mixture. Given k and u
everything is Gaussian, and no d × d matrix is formed (Woodbury):

    z | y, k, u ~ N(V h, V)      V = (C⁻¹ + Λᵀ Ψ⁻¹ Λ)⁻¹      h = C⁻¹ m + Λᵀ Ψ⁻¹ (y − μ)

    −2 log p(y|k, u) = (y − μ)ᵀ Ψ⁻¹ (y − μ) + mᵀ C⁻¹ m − hᵀ V h + log |2πΨ| |C| / |V|

The squares are products of y and y² with matrices, and cancel: all is in float64.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.linalg import cholesky, solve_triangular

from likely.contract import LOG_TWO_PI
from likely.models.mixtures.em import GaussianPaths, posterior, total
from likely.models.mixtures.k_means import k_means


def standard_normal(q: int, device: torch.device) -> GaussianPaths:
    """One path, N(0, 1)."""
    zeros = torch.zeros(1, q, dtype=torch.float64, device=device)
    return GaussianPaths(zeros[:, 0], zeros, torch.eye(q).to(zeros)[None])


@dataclass(frozen=True)
class Analysers:
    """The mixture of analysers and of their factors' prior; paths (k, u) in row-major order."""

    log_weights: Float[Tensor, " k"]
    means: Float[Tensor, "k d"]
    loadings: Float[Tensor, "k d q"]
    noise: Float[Tensor, "k d"]  # the diagonals of Ψ
    prior: GaussianPaths

    @cached_property
    def _projection(self) -> Float[Tensor, "k q d"]:
        """Λᵀ Ψ⁻¹."""
        return (self.loadings / self.noise[..., None]).mT

    @cached_property
    def _root(self) -> Float[Tensor, "k u q q"]:
        """A triangular L with V = L Lᵀ."""
        precision = self._prior_precision + (self._projection @ self.loadings)[:, None]
        one = torch.eye(precision.shape[-1]).to(precision)
        return solve_triangular(cholesky(precision), one, upper=False).mT

    @cached_property
    def _prior_precision(self) -> Float[Tensor, "u q q"]:
        return torch.cholesky_inverse(cholesky(self.prior.covariances))

    @cached_property
    def _offset(self) -> Float[Tensor, "k u q"]:
        """h at y = 0."""
        m = self._prior_precision @ self.prior.means[..., None]
        return m[..., 0] - (self._projection @ self.means[..., None]).mT

    @cached_property
    def _constant(self) -> Float[Tensor, "k u"]:
        """log p(k, u, y) at y = 0, without hᵀ V h."""
        prior, diagonal = self.prior, self._root.diagonal(dim1=-2, dim2=-1)
        m = prior.means
        of_prior = torch.einsum("ui,uij,uj->u", m, self._prior_precision, m)
        of_prior = of_prior + torch.logdet(prior.covariances) - 2 * prior.log_weights
        of_noise = self.means.square() / self.noise + self.noise.log() + LOG_TWO_PI
        of_noise = of_noise.sum(1) - 2 * self.log_weights
        return diagonal.log().sum(-1) - (of_noise[:, None] + of_prior) / 2

    def project(self, y: Float[Tensor, "n d"]) -> Float[Tensor, "k u q n"]:
        """Lᵀ h: the factors' posterior means are L times it."""
        h = (self._projection.flatten(0, 1) @ y.mT).unflatten(0, (len(self.means), -1))
        return self._root.mT @ (h[:, None] + self._offset[..., None])

    def log_joint(
        self, y: Float[Tensor, "n d"], projected: Float[Tensor, "k u q n"]
    ) -> Float[Tensor, "k*u n"]:
        """log p(y, k, u)."""
        square = (1 / self.noise) @ y.mT.square() - 2 * (self.means / self.noise) @ y.mT
        exponent = projected.square().sum(2) - square[:, None]
        return (self._constant[..., None] + exponent / 2).flatten(0, 1)

    def moments(
        self, y: Float[Tensor, "n d"], weight: Float[Tensor, " n"]
    ) -> tuple[Float[Tensor, " n"], list[Tensor]]:
        """The E-step: log p(y), and sums over rows for `Layer.maximise` and the layers above.

        With z₁ = (1, z): Σ r E[z₁ z₁ᵀ] of each path, Σ r E[z₁] yᵀ and Σ r y² of each analyser.
        """
        projected = self.project(y)
        r, log_prob = posterior(self.log_joint(y, projected), weight)
        r = r.unflatten(0, projected.shape[:2])
        mean = nn.functional.pad(self._root @ projected, (0, 0, 1, 0), value=1.0)
        weighted = r[:, :, None] * mean
        within = self._padded_covariance * r.sum(-1)[..., None, None]
        cross = (weighted.sum(1).flatten(0, 1) @ y).unflatten(0, (len(self.means), -1))
        return log_prob, [weighted @ mean.mT + within, cross, r.sum(1) @ y.square()]

    def moments_present(
        self, y: Float[Tensor, "n d"], weight: Float[Tensor, " n"], missing: Bool[Tensor, " d"]
    ) -> tuple[Float[Tensor, " n"], list[Tensor]]:
        """`moments` where some columns are missing, in expectation of these given the factors."""
        present = self.of_columns(~missing)
        log_prob, (second, cross_present, square_present) = present.moments(y[:, ~missing], weight)
        of_analyser = second.sum(1)
        regression = torch.cat([self.means[..., None], self.loadings], 2)[:, missing]  # on z₁
        mean = regression @ of_analyser
        cross = mean.new_empty(*of_analyser.shape[:2], len(missing))
        cross[..., ~missing], cross[..., missing] = cross_present, mean.mT
        square = torch.empty_like(self.noise)
        square[:, ~missing] = square_present
        noise = self.noise[:, missing] * of_analyser[:, :1, 0]
        square[:, missing] = (mean * regression).sum(2) + noise
        return log_prob, [second, cross, square]

    def moments_above(
        self, second: Float[Tensor, "k*u 1+d 1+d"]
    ) -> tuple[Float[Tensor, "k u 1+q 1+q"], Float[Tensor, "k 1+q d"], Float[Tensor, "k d"]]:
        """The sums of `moments`, from Σ r E[y₁ y₁ᵀ] of each path, y₁ = (1, y)."""
        second = second.unflatten(0, self._root.shape[:2])
        v = self._root @ self._root.mT
        gain = torch.cat([(v @ self._offset[..., None]), v @ self._projection[:, None]], -1)
        mean = nn.functional.pad(gain, (0, 0, 1, 0))  # E[z₁ | y] is this matrix times y₁
        mean[..., 0, 0] = 1
        cross = mean @ second
        within = self._padded_covariance * second[..., :1, :1]
        square = second.diagonal(dim1=-2, dim2=-1)[..., 1:]
        return cross @ mean.mT + within, cross[..., 1:].sum(1), square.sum(1)

    @property
    def _padded_covariance(self) -> Float[Tensor, "k u 1+q 1+q"]:
        """The covariance V of (1, z)."""
        return nn.functional.pad(self._root @ self._root.mT, (1, 0, 1, 0))

    def marginal(self) -> GaussianPaths:
        """p(y): N(μ_k + Λ_k m_u, Λ_k C_u Λ_kᵀ + Ψ_k) with weight π_k w_u."""
        prior, loadings = self.prior, self.loadings[:, None]
        log_weights = self.log_weights[:, None] + prior.log_weights
        means = self.means[:, None] + (loadings @ prior.means[..., None])[..., 0]
        covariances = loadings @ prior.covariances @ loadings.mT
        covariances = covariances + torch.diag_embed(self.noise)[:, None]
        return GaussianPaths(*(t.flatten(0, 1) for t in (log_weights, means, covariances)))

    def of_columns(self, columns: Bool[Tensor, " d"]) -> Self:
        """The marginal mixture of some columns of y."""
        return replace(
            self,
            means=self.means[:, columns],
            loadings=self.loadings[:, columns],
            noise=self.noise[:, columns],
        )

    def infer(self, y: Float[Tensor, "n d"]) -> tuple[Int[Tensor, " n"], Float[Tensor, "n q"]]:
        """A draw of the analyser k and its factors z, given each y."""
        projected = self.project(y)
        path = torch.multinomial(self.log_joint(y, projected).mT.softmax(1), 1)[:, 0]
        mean = projected.flatten(0, 1)[path, :, torch.arange(len(y), device=y.device)]
        z = self._root.flatten(0, 1)[path] @ (mean + torch.randn_like(mean))[..., None]
        return path // len(self.prior.means), z[..., 0]

    def emit(self, k: Int[Tensor, " n"], z: Float[Tensor, "n q"]) -> Float[Tensor, "n d"]:
        """A draw of y, given the analyser and its factors."""
        mean = self.means[k] + (self.loadings[k] @ z[..., None])[..., 0]
        return mean + self.noise[k].sqrt() * torch.randn_like(mean)

    def sample(self, z: Float[Tensor, "n q"]) -> Float[Tensor, "n d"]:
        """A draw of y, given its factors."""
        return self.emit(torch.multinomial(self.log_weights.exp(), len(z), replacement=True), z)


class Layer(nn.Module):
    """The parameters of some analysers, their start and their M-step.

    Parameters
    ----------
    components : int
    d : int
        Number of columns of y.
    factors : int
        q.
    isotropic : bool
        Whether Ψ_k is a multiple of the identity.
    floor : float
        Least entry of Ψ: without one it may vanish (Heywood cases).
    """

    def __init__(
        self, components: int, d: int, factors: int, isotropic: bool, floor: float
    ) -> None:
        super().__init__()
        self.factors, self.isotropic, self.floor = factors, isotropic, floor
        self.logits = nn.Parameter(torch.zeros(components))  # log π
        self.means = nn.Parameter(torch.zeros(components, d))
        self.loadings = nn.Parameter(torch.zeros(components, d, factors))
        self.log_noise = nn.Parameter(torch.zeros(components, 1 if isotropic else d))

    def analysers(self, prior: GaussianPaths | None = None) -> Analysers:
        """These with a prior of the factors, by default N(0, 1)."""
        return Analysers(
            self.logits.double().log_softmax(0),
            self.means.double(),
            self.loadings.double(),
            self.log_noise.double().exp().expand_as(self.means),
            prior or standard_normal(self.loadings.shape[2], self.means.device),
        )

    @torch.no_grad()
    def start(self, y: Float[Tensor, "n d"], weight: Float[Tensor, " n"]) -> None:
        """k-means, and the principal components of each cluster."""
        y, weight = y.to(self.means), weight.to(self.means)
        components, d, q = self.loadings.shape
        centres, _ = k_means(y, weight, components)
        member = torch.cdist(y, centres).argmin(1)
        self.loadings.normal_(0, 0.01)
        self.logits.zero_()
        for k in range(components):
            w = weight * (member == k)
            rows = w > 0
            self.means[k] = centres[k]
            if rows.any():
                part = (y[rows] - centres[k]) * (w[rows] / w.sum()).sqrt()[:, None]
                total = part.square().sum()
                _, s, v = torch.svd_lowrank(part, min(q, *part.shape))
                left = (total - s.square().sum()) / max(1, d - len(s))
                # EM moves slowly from little noise.
                noise = torch.maximum(left, 0.1 * total / d).clamp_min(self.floor)
                self.loadings[k, :, : len(s)] = (
                    v * (s.square() - noise).clamp_min(0.01 * noise).sqrt()
                )
                self.log_noise[k] = noise.log()

    def fit(
        self, y: Float[Tensor, "n d"], weight: Float[Tensor, " n"], passes: int, block: int
    ) -> None:
        """Start, and some passes of EM with N(0, 1) as the prior."""
        self.start(y, weight)
        for _ in range(passes):
            analysers = self.analysers()
            blocks = zip(y.split(block), weight.split(block), strict=True)
            second, cross, square = total(analysers.moments(*rows)[1] for rows in blocks)
            self.maximise(second.sum(1), cross, square)

    @torch.no_grad()
    def maximise(
        self,
        second: Float[Tensor, "k 1+q 1+q"],
        cross: Float[Tensor, "k 1+q d"],
        square: Float[Tensor, "k d"],
    ) -> None:
        """The M-step, from Σ r E[z₁ z₁ᵀ], Σ r E[z₁] yᵀ and Σ r y²; without rows all stays as it is.

        μ and Λ are updated together: they are the regression of y on (1, z).
        """
        count = second[:, 0, 0]
        least = torch.finfo(count.dtype).eps * count.sum()
        self.logits.copy_((count.clamp_min(least) / count.sum()).log())
        alive = count > least
        second, cross, square, count = (t[alive] for t in (second, cross, square, count))
        regression = torch.linalg.solve(second, cross)  # of y on (1, z): μ, then Λ
        noise = (square - (regression * cross).sum(1)) / count[:, None]
        if self.isotropic:
            noise = noise.mean(1, keepdim=True)
        self.means[alive] = regression[:, 0].to(self.means)
        self.loadings[alive] = regression[:, 1:].mT.to(self.loadings)
        self.log_noise[alive] = noise.clamp_min(self.floor).log().to(self.log_noise)
