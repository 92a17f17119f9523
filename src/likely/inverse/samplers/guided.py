"""Guided reverse diffusion: samples of the posterior under a prior that is known by its denoiser.

With the score of p_σ(z|y) the reverse process draws from the posterior. It is that of the prior plus the
gradient of log p(y|z), and p(z₀|z) behind this is taken as a Gaussian N(m, V) around the denoised row:

    m_y(z, σ) = z + σ² ∇ log p_σ(z|y) ≈ m + σ² (∂m/∂z)ᵀ Jᵀ (Σ + J V Jᵀ)⁻¹ (y − h(m))

The methods differ in V alone:

    moments   V = σ² ∂m/∂z       the covariance itself (Tweedie's second formula); right for Gaussian priors
                                 (Boys et al. 2023, arXiv:2310.06721; Finzi et al. 2023, arXiv:2306.07526)
    pigdm     V = σ²/(1 + σ²)    right for columns that are standard normal (Song et al. 2023, ΠGDM)
    dps       V = 0              too narrow, down to 1/√2 (Chung et al. 2023, arXiv:2209.14687)
    cla       V = σ², m = z      the convolved likelihood: no Jacobian of the denoiser
                                 (Adam et al. 2022, arXiv:2211.03812)

The slope of a network may have errors that σ² makes large, so that V is no covariance. Rows in which that
shows take that of ΠGDM instead.

`dps-normalised` is what the DPS paper runs: from each step is taken ζ ∇_x ‖y − h(m)‖ with x = z/√(1 + σ²),
which does not depend on Σ at all. The norm is that of a row.
"""

from typing import Literal

import torch

from likely.contract.inputs import chunks
from likely.contract.options import Positive
from likely.core.errors import LikelyError
from likely.inverse.diffusion import Columns, Denoiser, Step, denoiser_of, steps_of
from likely.inverse.linear import Linearised, Map, Measurement
from likely.inverse.problem import Draws, Problem, method

FAR = 10.0  # of what a start has in noise, where no draw ends

Covariance = Literal["moments", "pigdm", "dps", "dps-normalised", "cla"]


def obstacle(problem: Problem) -> str | None:
    """What diffusion lacks for a problem, in words."""
    if denoiser_of(problem.model) is None:
        return "a score model with many noise levels, or a mixture of Gaussians"
    return "noise" if problem.noise is None else None


@method("guided", kind="approximation", order=50, obstacle=obstacle)
def guided(
    problem: Problem,
    n: int,
    *,
    covariance: Covariance = "moments",
    steps: int = 200,
    iterations: int = 20,
    size: Positive = 1.0,
) -> Draws:
    """Guided reverse diffusion.

    Draws of a Gaussian prior by the moments, of a linear measurement with Gaussian noise, tend to those of
    the posterior as `steps` grows: only there nothing is approximated.

    Parameters
    ----------
    problem, n
        As in every method.
    covariance : {"moments", "pigdm", "dps", "dps-normalised", "cla"}
        V, as above.
    steps : int
        From the largest noise to none. "dps" needs more where noise is small: thousands.
    iterations : int
        Of conjugate gradients, at most; with the moments each takes a backward pass of the network.
    size : float
        ζ of "dps-normalised", in columns of unit variance and the units of y.

    Raises
    ------
    LikelyError
        If draws end nowhere near the prior, as with "dps" and too few steps.
    """
    denoiser = denoiser_of(problem.model)
    assert denoiser is not None
    measured = Measurement(problem, denoiser.view)
    levels, parts = denoiser.levels(steps), []
    for at in chunks(problem.model.domain, n):
        z = start = denoiser.start(at.stop - at.start, levels[0])
        for step in steps_of(levels):
            if covariance == "dps-normalised":
                z = normalised_step(denoiser, measured, z, step, size)
            else:
                mean = guided_mean(denoiser, measured, z, step.sigma, covariance, iterations)
                z = step.mean(z, mean) + step.noise(z)
        if not ((z - start).abs() < FAR * denoiser.largest).all():
            raise LikelyError(
                f"posterior by 'guided': draws diverge with covariance={covariance!r} in {steps} steps: take "
                "more steps, or covariance='moments'"
            )
        parts.append(z)
    z = torch.cat(parts)
    right = covariance == "moments" and denoiser.gaussian and measured.gaussian
    return Draws(denoiser.view.inverse(z), kind="asymptotic" if right else None)


def guided_mean(
    denoiser: Denoiser,
    measured: Measurement,
    z: Columns,
    sigma: float,
    covariance: Covariance,
    iterations: int,
) -> Columns:
    """m_y of rows z with noise σ."""
    if covariance == "cla":
        near = Linearised(measured.whitened, z)
        pulled = near.pull(near.solved(lambda v: sigma**2 * v)[0])
        return denoiser.mean(z, sigma) + sigma**2 * pulled
    m, back = denoised(denoiser, z, sigma)
    near = Linearised(measured.whitened, m)
    if covariance == "dps":
        return m + sigma**2 * back(near.pull(near.value))
    solved, sound = near.value, near.value.new_zeros(len(z), 1, dtype=torch.bool)
    if covariance == "moments":
        solved, sound = near.solved(lambda v: sigma**2 * back(v), iterations)
    if not sound.all():
        round_one, _ = near.solved(lambda v: sigma**2 / (1 + sigma**2) * v)
        solved = torch.where(sound, solved, round_one)
    return m + sigma**2 * back(near.pull(solved))


def denoised(denoiser: Denoiser, z: Columns, sigma: float) -> tuple[Columns, Map]:
    """m of rows z, and what multiplies rows by the transpose of ∂m/∂z."""
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        m = denoiser.mean(z, sigma)
    return m.detach(), lambda v: torch.autograd.grad(m, z, v, retain_graph=True)[0]


def normalised_step(
    denoiser: Denoiser, measured: Measurement, z: Columns, step: Step, size: float
) -> Columns:
    """z_s of the DPS paper's algorithm: a step of the prior, less ζ ∇_x ‖y − h(m)‖."""
    m, back = denoised(denoiser, z, step.sigma)
    near = Linearised(measured.residual, m)
    unit = near.value / near.value.norm(dim=1, keepdim=True).clamp_min(torch.finfo(z.dtype).tiny)
    downhill = back(near.pull(unit))
    return step.mean(z, m) + step.noise(z) + size * (1 + step.sigma**2) * downhill
