"""Annealed Hamiltonian Monte Carlo of the latent z of x = G(z) + s ε, ε ~ N(0, 1): flows, VAEs and GANs.

A flow has s = 0. A VAE's decoder has its own s, which is marginalised: with Σ the noise's covariance

    y | z ~ N(A G(z), C),    C = Σ + A diag(s²) Aᵀ,

and it is given back to the draws, x | z, y ~ N(G(z) + K (y − A G(z)), (1 − K A) diag(s²)) with
K = diag(s²) Aᵀ C⁻¹. Of a GAN s is an error of observation that the user gives: what its generator
cannot make, it cannot explain otherwise.

Particles follow p(z) p(y|z)^β from draws of p(z) to the posterior, as those of "smc" do for x.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from likely.contract.abilities import Generates
from likely.contract.options import NonNegative
from likely.contract.views import LOG_TWO_PI, Rows
from likely.core.errors import LikelyError
from likely.core.likelihood import Kind
from likely.inverse.chains import annealed
from likely.inverse.noise import GaussianNoise
from likely.inverse.problem import Draws, Problem, method
from likely.inverse.problem import Kind as AnswerKind
from likely.models.autoencoders.vae import VAE

Codes = Float[Tensor, "n latent"]


def _obstacle(problem: Problem) -> str | None:
    model = problem.model
    if problem.noise is None:
        return "noise"
    if isinstance(model, VAE) and model.flat_codes and model.decoder_std is not None:
        linear = problem.operator.linear and isinstance(problem.noise, GaussianNoise)
        return None if linear else "a linear operator and Gaussian noise, for a VAE"
    if isinstance(model, Generates) and model.normals is not None:
        return None
    return "a flow, a VAE of real columns or a GAN as the prior"


@method("latent", kind="asymptotic", order=20, obstacle=_obstacle)
def latent(
    problem: Problem,
    n: int,
    *,
    error: NonNegative = 0.0,
    particles: int = 512,
    moves: int = 5,
    leapfrogs: int = 5,
) -> Draws:
    """One particle for each draw.

    Parameters
    ----------
    error : float
        s of a GAN, in the units of the data: how far rows may lie from what it generates, which takes a
        linear operator and Gaussian noise.
    particles, moves, leapfrogs
        As of "smc".
    """
    model = problem.model
    kind: AnswerKind | None = None if model.density != Kind.NONE else "approximation"
    generate: Callable[[Codes], Rows]
    if isinstance(model, VAE):
        generate, prior = model.decode, Prior(model.sample_codes, model.log_prior)
        assert model.decoder_std is not None
        std = model.decoder_std.flatten()
    else:
        assert isinstance(model, Generates)
        generate, prior = model.generate, _standard_normal(problem, model.normals)
        std = torch.full((model.domain.size,), error, dtype=torch.float64, device=model.device)
    spread = _Spread(problem, std) if std.any() else None

    def energy(z: Codes) -> Tensor:
        x = generate(z)
        given = problem.log_likelihood(x) if spread is None else spread.log_likelihood(x)
        return -prior.log_prob(z) - given

    init = prior.sample(max(particles, n, 2))
    z, diagnostics, notes = annealed(energy, None, prior, init, n, moves, leapfrogs)
    x = generate(z)
    return Draws(x if spread is None else spread.sample(x), diagnostics, notes, kind)


@dataclass(frozen=True)
class Prior:
    """p(z), as `SMC` takes it."""

    sample: Callable[..., Codes]
    log_prob: Callable[[Codes], Float[Tensor, " n"]]


def _standard_normal(problem: Problem, size: int | None) -> Prior:
    return Prior(
        lambda n, **_: torch.randn(n, size or 0, dtype=problem.y.dtype, device=problem.y.device),
        lambda z: -(z.square() + LOG_TWO_PI).sum(1) / 2,
    )


@dataclass(frozen=True)
class _Spread:
    """The spread s ε of rows about G(z), as the measurement sees it, in float64 and whitened."""

    problem: Problem
    std: Float[Tensor, " d"]

    def __post_init__(self) -> None:
        if not (self.problem.operator.linear and isinstance(self.problem.noise, GaussianNoise)):
            raise LikelyError("latent: an error takes a linear operator and Gaussian noise")

    @cached_property
    def noise(self) -> GaussianNoise:
        noise = self.problem.noise
        assert isinstance(noise, GaussianNoise)
        return noise

    @cached_property
    def seen(self) -> Float[Tensor, "m d"]:
        """W A diag(s)."""
        units = torch.diag(self.std).reshape(-1, *self.problem.model.domain.shape)
        return self.noise.whiten(self.problem.predict(units)).flatten(1).mT

    @cached_property
    def root(self) -> Float[Tensor, "m m"]:
        """The Cholesky factor of 1 + W A diag(s²) Aᵀ Wᵀ, which is W C Wᵀ."""
        one = torch.eye(len(self.seen), dtype=torch.float64, device=self.std.device)
        return torch.linalg.cholesky(one + self.seen @ self.seen.mT)

    def _residual(self, x: Rows) -> Float[Tensor, "n m"]:
        y = self.problem.y.double()
        return self.noise.whiten(y - self.problem.predict(x.double())).flatten(1)

    def log_likelihood(self, x: Rows) -> Float[Tensor, " n"]:
        """log N(y; A x, C), in nats."""
        r = torch.linalg.solve_triangular(self.root, self._residual(x).mT, upper=False)
        log_det = 2 * self.root.diagonal().log().sum() + self.noise.log_det(self.problem.y.shape)
        return -(r.square().sum(0) + log_det + len(r) * LOG_TWO_PI).to(x) / 2

    def sample(self, x: Rows) -> Rows:
        """Draws of x + s ε given y: the prior's, moved by what they leave of y."""
        noise = torch.randn(len(x), len(self.std), dtype=torch.float64, device=x.device)
        r = self._residual(x) - noise @ self.seen.mT
        r = r - torch.randn_like(r)
        noise = noise + torch.cholesky_solve(r.mT, self.root).mT @ self.seen
        return x + (self.std * noise).reshape(x.shape).to(x)
