"""Quantum states from measurements: POVMs, states, exact outcomes, and reconstruction."""

from likely.physics.chains import CHAINS, Chain, ghz, tfim, xxz
from likely.physics.free_fermions import FreeFermions
from likely.physics.measurement import Measurement
from likely.physics.mps import MPS, from_dense, random_mps
from likely.physics.povm import PAULI, POVM, POVMS, depolarised, povm
from likely.physics.reconstruction import Reconstruction, reconstruct
from likely.physics.shots import Shots, load

__all__ = [
    "CHAINS",
    "MPS",
    "PAULI",
    "POVM",
    "POVMS",
    "Chain",
    "FreeFermions",
    "Measurement",
    "Reconstruction",
    "Shots",
    "depolarised",
    "from_dense",
    "ghz",
    "load",
    "povm",
    "random_mps",
    "reconstruct",
    "tfim",
    "xxz",
]
