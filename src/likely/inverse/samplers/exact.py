"""Mixtures of Gaussians under a linear operator and Gaussian noise: the posterior in closed form.

With x = μ_k + L_k ε, ε ~ N(0, 1), in component k, and whitened noise, the residual r_k = W (y − A μ_k)
has r_k = B_k ε + η with B_k = W A L_k = U diag(s) Vᵀ and η ~ N(0, 1), so that

    ε | y, k ~ N(V diag(s/(1 + s²)) Uᵀ r_k, 1 − V diag(s²/(1 + s²)) Vᵀ)

    −2 log p(y|k) = ‖r_k − U Uᵀ r_k‖² + Σ_i (Uᵀ r_k)_i²/(1 + s_i²) + Σ_i log(1 + s_i²) + log |2πΣ|

and p(k|y) ∝ π_k p(y|k). Everything is in float64, and nothing cancels, however small the noise is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from likely.contract.views import LOG_TWO_PI
from likely.core.columns import Constant, Real
from likely.inverse.noise import GaussianNoise
from likely.inverse.problem import Draws, Problem, method
from likely.models.mixtures.em import Mixture


def _obstacle(problem: Problem) -> str | None:
    if not isinstance(problem.model, Mixture):
        return "a Gaussian or a mixture of them as the prior"
    if not problem.model.domain.kinds <= {Real, Constant}:
        return "real columns: declare pixels so, by domain=lk.reals(…)"
    if not problem.operator.linear:
        return "a linear operator"
    if not isinstance(problem.noise, GaussianNoise):
        return "Gaussian noise"
    return None


@dataclass(frozen=True, eq=False)
class Component:
    """One Gaussian, and how the operator sees it."""

    log_weight: Float[Tensor, ""]
    mean: Float[Tensor, " d"]  # μ
    root: Float[Tensor, "d r"]  # L
    seen: Float[Tensor, " m"]  # W A μ
    u: Float[Tensor, "m s"]
    s: Float[Tensor, " s"]
    vh: Float[Tensor, "s r"]

    def project(self, y: Float[Tensor, " m"]) -> tuple[Tensor, Float[Tensor, ""]]:
        """Uᵀ r and log π p(y), up to the constant of the noise."""
        r = y - self.seen
        inside = self.u.mT @ r
        gain = 1 + self.s.square()
        square = (r - self.u @ inside).square().sum() + (inside.square() / gain).sum()
        return inside, self.log_weight - (square + gain.log().sum()) / 2

    def sample(self, inside: Float[Tensor, " s"], n: int) -> Float[Tensor, "n d"]:
        """Draws of x, given Uᵀ r."""
        gain = 1 + self.s.square()
        noise = torch.randn(n, self.vh.shape[1], dtype=self.mean.dtype, device=self.mean.device)
        along = (
            noise @ self.vh.mT
        )  # of which the measurement leaves 1/√(1 + s²), about its own mean
        moved = along * (gain.rsqrt() - 1) + self.s / gain * inside
        return self.mean + (noise + moved @ self.vh) @ self.root.mT


@method("exact", kind="exact", order=0, obstacle=_obstacle)
def exact(problem: Problem, n: int) -> Draws:
    """Independent draws of the exact posterior, and the log-evidence log p(y) in nats."""
    noise, shape = problem.noise, problem.model.domain.shape
    assert isinstance(noise, GaussianNoise)
    if "exact" not in problem.shared:
        problem.shared["exact"] = _components(problem, noise)
    components: list[Component] = problem.shared["exact"]
    y = noise.whiten(problem.y[None].double()).flatten()
    inside, log_joint = zip(*(component.project(y) for component in components), strict=True)
    joint = torch.stack(log_joint)
    constant = (noise.log_det(problem.y.shape) + len(y) * LOG_TWO_PI) / 2
    drawn = torch.multinomial(joint.softmax(0), n, replacement=True)
    x = y.new_empty(n, math.prod(shape))
    for k in drawn.unique().tolist():
        x[drawn == k] = components[k].sample(inside[k], int((drawn == k).sum()))
    evidence = (joint.logsumexp(0) - constant.to(joint)).item()
    return Draws(x.reshape(n, *shape).to(problem.y.dtype), {"log_evidence": evidence})


def _components(problem: Problem, noise: GaussianNoise) -> list[Component]:
    model = problem.model
    assert isinstance(model, Mixture)
    view, shape, size = model.view, model.domain.shape, model.domain.size
    paths = model.gaussians()
    shift, scale = view.shift.double() + view.shift_rest, view.scale.double()
    found = []
    for log_weight, mean, covariance in zip(
        paths.log_weights, paths.means, paths.covariances, strict=True
    ):
        x = model.domain.anchor.flatten().to(mean)  # holds the constants
        x[view.kept] = shift + scale * mean
        root = x.new_zeros(size, view.dim)
        root[view.kept] = scale[:, None] * torch.linalg.cholesky(covariance)
        both = torch.cat([root.mT, x[None]]).reshape(-1, *shape)
        *columns, seen = noise.whiten(problem.predict(both)).flatten(1)
        svd = torch.linalg.svd(torch.stack(columns, 1), full_matrices=False)
        found.append(Component(log_weight, x, root, seen, *svd))
    return found
