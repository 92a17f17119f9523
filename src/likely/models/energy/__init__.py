"""Models that define a distribution by an energy: Boltzmann machines, networks and
Hopfield networks."""

from likely.models.energy.ebm import EBM
from likely.models.energy.gaussian_rbm import GaussianRBM
from likely.models.energy.hopfield import Hopfield, capacity
from likely.models.energy.jem import JEM
from likely.models.energy.modern_hopfield import ModernHopfield
from likely.models.energy.rbm import RBM

__all__ = ["EBM", "JEM", "RBM", "GaussianRBM", "Hopfield", "ModernHopfield", "capacity"]
