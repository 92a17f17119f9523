"""Samplers and annealed importance sampling: they act on any energy, and know no model.

Each sampler has `run(energy, init, steps, seed) -> Chain`; `ais` estimates log Z.
"""

from likely.sampling.ais import Annealed, ais
from likely.sampling.chain import Chain, Diagnostics
from likely.sampling.gibbs import Gibbs
from likely.sampling.hmc import HMC
from likely.sampling.langevin import MALA, Langevin
from likely.sampling.metropolis import IndependenceMetropolis
from likely.sampling.redraw import PartialRedraw
from likely.sampling.sampler import Move, Sampler
from likely.sampling.smc import SMC
from likely.sampling.tempering import ParallelTempering

__all__ = [
    "HMC", "MALA", "SMC", "Annealed", "Chain", "Diagnostics", "Gibbs", "IndependenceMetropolis",
    "Langevin", "Move", "ParallelTempering", "PartialRedraw", "Sampler", "ais",
]  # fmt: skip
