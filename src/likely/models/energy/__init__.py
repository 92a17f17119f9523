"""Models that define a distribution by an energy: Boltzmann machines, restricted and deep, networks
and Hopfield networks."""

from likely.models.energy.dbm import DBM
from likely.models.energy.dbn import DBN
from likely.models.energy.ebm import EBM
from likely.models.energy.gaussian_rbm import GaussianRBM
from likely.models.energy.hopfield import Hopfield, capacity
from likely.models.energy.jem import JEM
from likely.models.energy.modern_hopfield import ModernHopfield
from likely.models.energy.rbm import RBM

__all__ = [
    "DBM",
    "DBN",
    "EBM",
    "JEM",
    "RBM",
    "GaussianRBM",
    "Hopfield",
    "ModernHopfield",
    "capacity",
]
