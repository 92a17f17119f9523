"""Markov chains and particles of one posterior, and what their diagnostics say."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from likely.core.domain import Domain
from likely.sampling import HMC, SMC, ParallelTempering
from likely.sampling.sampler import Density

LEAST = 32  # states of each chain that are kept, for its diagnostics
SWAPS = 0.1  # probability of a swap below which temperatures are too far apart
FAMILIES = 20  # of particles, below which they say little

Energy = Callable[[Tensor], Tensor]
Found = tuple[Float[Tensor, "n *shape"], dict[str, float], tuple[str, ...]]  # and notes


def tempered(
    energy: Energy,
    domain: Domain,
    init: Float[Tensor, "chains *shape"],
    n: int,
    burn_in: int,
    thin: int,
    leapfrogs: int,
    temperatures: int,
) -> Found:
    """n states of chains of tempered HMC, evenly spaced."""
    hmc = HMC(domain=domain, leapfrogs=leapfrogs)
    sampler = hmc if temperatures == 1 else ParallelTempering(hmc, temperatures)
    kept = max(LEAST, math.ceil(n / len(init)))
    chain = sampler.run(energy, init, kept * thin, burn_in=burn_in, thin=thin)
    found = chain.diagnostics
    notes = list(found.notes)
    if "swaps" in chain.info and (least := chain.info["swaps"].min().item()) < SWAPS:
        notes.append(f"temperatures swap with probability {least:.2g} only: give more of them")
    states = chain.samples.transpose(0, 1).flatten(0, 1)  # all chains at one time after another
    chosen = torch.linspace(0, len(states) - 1, n).round().long()
    diagnostics = {"r_hat": found.r_hat, "ess": found.ess_bulk, "acceptance": found.acceptance}
    return states[chosen.to(states.device)], diagnostics, tuple(notes)


def annealed(
    energy: Energy,
    domain: Domain | None,
    prior: Density,
    init: Float[Tensor, "particles *shape"],
    n: int,
    moves: int,
    leapfrogs: int,
) -> Found:
    """n particles that SMC has led from draws of the prior to e^(−E) = p(x) p(y|x), and log p(y).

    After each resampling they move by HMC; at the end it is tuned, and they move as often again. The
    effective draws are the families of particles with a common ancestor that were left by then.
    """
    smc = SMC(prior, HMC(domain=domain, leapfrogs=leapfrogs), moves=moves)
    chain = smc.run(energy, init, moves, burn_in=8 * moves, thin=moves)
    count, error = len(init), chain.info["log_z_stderr"].item()
    families = count / (1 + (count - 1) * error**2)
    diagnostics = {
        "log_evidence": chain.info["log_z"].item(),
        "log_evidence_stderr": error,
        "ess": families,
        "acceptance": chain.acceptance.mean().item(),
    }
    few = f"only {families:.0f} families of particles are left: give more particles, or more moves"
    chosen = torch.randperm(count, device=init.device)[:n]
    return chain.last[chosen], diagnostics, (few,) if families < FAMILIES else ()
