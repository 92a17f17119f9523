"""Quantum states from measurements: POVMs, states, exact outcomes, and reconstruction."""

from likely.quantum.chains import CHAINS, Chain, ghz, tfim, xxz
from likely.quantum.free_fermions import FreeFermions
from likely.quantum.measurement import Measurement
from likely.quantum.mps import MPS, from_dense, random_mps
from likely.quantum.povm import PAULI, POVM, POVMS, depolarised, povm
from likely.quantum.reconstruction import Reconstruction, reconstruct
from likely.quantum.shots import Shots, load

__all__ = [
    "CHAINS", "MPS", "PAULI", "POVM", "POVMS", "Chain", "FreeFermions", "Measurement",
    "Reconstruction", "Shots", "depolarised", "from_dense", "ghz", "load", "povm", "random_mps",
    "reconstruct", "tfim", "xxz",
]  # fmt: skip
