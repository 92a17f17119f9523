"""Models that define a distribution by an energy: Boltzmann machines and Hopfield networks."""

from likely.energy.hopfield import Hopfield, ModernHopfield, capacity
from likely.energy.rbm import RBM, GaussianRBM

__all__ = ["RBM", "GaussianRBM", "Hopfield", "ModernHopfield", "capacity"]
