"""Twisted diffusion sampling: guided particles, weighted and resampled, so that guidance need not be right.

The prior's reverse process p(z_s|z_σ) is twisted by a guess of the likelihood of a noisy row,

    ψ(z, σ) = N(y; h(m(z, σ)), Σ + V J Jᵀ)        V = σ²/(1 + σ²),     ψ(z, 0) = p(y|z)

    z_s ~ q = N(mean of p + what ∇ log ψ adds, ν)        w ← w · p(z_s|z_σ) ψ(z_s, s) / [q(z_s) ψ(z_σ, σ)]

(Wu, Trippe, Naesseth, Blei & Cunningham 2023, arXiv:2306.17775, algorithm 1; Cardoso et al. 2023,
arXiv:2308.07983, are its relatives). The weights make up for whatever is wrong with ψ: with many particles
their draws are those of the posterior under the prior's own reverse process. V is a number, so that the
determinant in ψ is that of all particles, and cancels.
"""

from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor

from likely.contract.options import Range
from likely.core.weights import effective
from likely.inverse.diffusion import Columns, Denoiser, denoiser_of, steps_of
from likely.inverse.linear import Linearised, Measurement
from likely.inverse.problem import Draws, Problem, method
from likely.inverse.samplers.guided import denoised, obstacle
from likely.sampling.annealing import systematic

FEW = 10  # effective particles, below which the answer is doubtful


@method("twisted-smc", kind="asymptotic", order=70, obstacle=obstacle)
def twisted_smc(
    problem: Problem,
    n: int,
    *,
    particles: Annotated[int, Range(2)] | None = None,
    steps: int = 200,
    ess: Annotated[float, Range(0, 1, open="both")] = 0.5,
) -> Draws:
    """Twisted diffusion sampling; draws are resampled particles, and some may be the same.

    Right as the number of particles grows. Diagnostics: `ess`, the effective sample size at the end, and
    `smallest_ess`, the smallest one on the way, both as parts of the particles; `families`, the number of
    first particles that the last ones descend from.

    Parameters
    ----------
    problem, n
        As in every method.
    particles : int, optional
        All at once in memory; by default 10 for each draw.
    steps : int
        From the largest noise to none.
    ess : float
        Effective sample size below which particles are resampled, as a part of their number.
    """
    denoiser = denoiser_of(problem.model)
    assert denoiser is not None
    measured = Measurement(problem, denoiser.view)
    count = particles or 10 * n
    levels = denoiser.levels(steps)[:-1]
    z = denoiser.start(count, levels[0])
    first = torch.arange(count, device=z.device)
    m, toward, log_twist = twisted(denoiser, measured, z, levels[0])
    log_weight, smallest = log_twist, float(count)
    for step in steps_of(levels):
        smallest = min(smallest, effective(log_weight))
        if effective(log_weight) < ess * count:
            index = systematic(log_weight.softmax(0))
            z, m, toward, log_twist, first = (a[index] for a in (z, m, toward, log_twist, first))
            log_weight = torch.zeros_like(log_weight)
        noise, moved = step.noise(z), (1 - step.kept) * toward
        z = step.mean(z, m) + moved + noise
        log_ratio = (noise.square() - (noise + moved).square()).sum(1) / (2 * step.variance)
        log_weight = log_weight + log_ratio.double() - log_twist
        m, toward, log_twist = twisted(denoiser, measured, z, step.lower)
        log_weight = log_weight + log_twist
    log_weight = log_weight + measured.log_prob(m).double() - log_twist
    final, weight = effective(log_weight), log_weight.softmax(0)
    index = torch.multinomial(weight, n, replacement=True)
    families = len(first[index].unique())
    diagnostics = {
        "ess": final / count,
        "smallest_ess": min(smallest, final) / count,
        "families": families,
    }
    notes = []
    if min(smallest, final) < FEW:
        notes.append(
            f"of {count} particles only {min(smallest, final):.1f} were effective at the worst level: take "
            "more particles"
        )
    return Draws(denoiser.view.inverse(m[index]), diagnostics, tuple(notes))


def twisted(
    denoiser: Denoiser, measured: Measurement, z: Columns, sigma: float
) -> tuple[Columns, Columns, Float[Tensor, " n"]]:
    """m of rows z, what σ² ∇ log ψ adds to it, and log ψ up to a constant."""
    m, back = denoised(denoiser, z, sigma)
    near = Linearised(measured.whitened, m)
    spread = denoiser.width**2 * sigma**2 / (denoiser.width**2 + sigma**2)
    solved, _ = near.solved(lambda v: spread * v)
    log_twist = -(near.value * solved).double().sum(1) / 2
    return m, sigma**2 * back(near.pull(solved)), log_twist
