"""Split Gibbs sampling: the data and the prior in turn, coupled at ρ, which falls.

A twin u of the row z is tied to it by noise of ρ. It sees the data alone, and z the prior alone:

    π(z, u|y) ∝ p(z) N(u; z, ρ²) p(y|u)

    u | z    u = z' + ρ² Jᵀ (1 + ρ² J Jᵀ)⁻¹ [Σ^(−½) (y − h(z')) + η],    z' ~ N(z, ρ²),  η ~ N(0, 1)
    z | u    the reverse diffusion of the prior alone, from u at noise ρ

(Vono, Dobigeon & Chainais 2019, arXiv:1804.05809; Coeurdoux, Dobigeon & Chainais 2023, arXiv:2304.11134;
Wu et al. 2024, PnP-DM, arXiv:2405.18782). The first line draws exactly from the Gaussian u | z, without a
factor of its covariance: a prior draw z' is moved by what a draw of its own noisy data misses of y.

At a fixed ρ, z settles to the posterior of the same data with the noise Σ + ρ² J Jᵀ: exactly this, and
thus the posterior itself as ρ → 0. A sweep moves by about ρ in what the data leave open. ρ therefore falls
from where all of the prior is within reach, which is where modes get their weights.
"""

import torch

from likely.contract.inputs import chunks
from likely.contract.options import Positive
from likely.inverse.diffusion import Columns, denoise, denoiser_of, geometric
from likely.inverse.linear import Linearised, Measurement
from likely.inverse.problem import Draws, Problem, method
from likely.inverse.samplers.guided import obstacle

SHARE = 0.7  # of the sweeps, in which ρ falls
BELOW = 20.0  # ρ over the noise at which a denoising ends


@method("split-gibbs", kind="asymptotic", order=60, obstacle=obstacle)
def split_gibbs(
    problem: Problem, n: int, *, rho: Positive = 0.1, sweeps: int = 100, steps: int = 16
) -> Draws:
    """Split Gibbs sampling, annealed; a draw is the last state of a chain of its own.

    Right as ρ → 0 and sweeps grow as 1/ρ². The diagnostic `inflation` says by how much, at the last ρ, the
    noise counts as larger than it is: ρ² |J|², in the direction of z that is measured best.

    Parameters
    ----------
    problem, n
        As in every method.
    rho : float
        The last coupling ρ, where columns have unit variance.
    sweeps : int
        Of both steps; ρ falls during the first 70 %.
    steps : int
        Of the reverse diffusion in a sweep.
    """
    denoiser = denoiser_of(problem.model)
    assert denoiser is not None
    measured = Measurement(problem, denoiser.view)
    rho *= denoiser.width
    couplings = geometric(denoiser.largest, rho, max(2, round(SHARE * sweeps)))[:-1]
    couplings += [rho] * (sweeps - len(couplings))
    parts = []
    for at in chunks(problem.model.domain, n):
        z = denoiser.start(at.stop - at.start, 0.0)
        for coupling in couplings:
            u = coupled(measured, z, coupling)
            last = max(coupling / BELOW, min(denoiser.smallest, coupling / 2))
            z = denoise(denoiser, u, geometric(coupling, last, steps))
        parts.append(z)
    z = torch.cat(parts)
    inflation = rho**2 * largest_eigenvalue(Linearised(measured.whitened, z[:1]))
    return Draws(denoiser.view.inverse(z), {"inflation": inflation})


def coupled(measured: Measurement, z: Columns, rho: float) -> Columns:
    """u given z."""
    z = z + rho * torch.randn_like(z)
    near = Linearised(measured.whitened, z)
    near.value = near.value + torch.randn_like(near.value)
    return z + rho**2 * near.pull(near.solved(lambda v: rho**2 * v)[0])


def largest_eigenvalue(near: Linearised) -> float:
    """|J|² at one row, by power iteration."""
    v = torch.randn_like(near.value)
    for _ in range(20):
        v = near.push(near.pull(v / v.norm().clamp_min(torch.finfo(v.dtype).tiny)))
    return v.norm().item()
