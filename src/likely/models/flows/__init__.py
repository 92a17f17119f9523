"""Normalizing flows."""

from likely.models.flows.ffjord import FFJORD
from likely.models.flows.glow import Glow
from likely.models.flows.iaf import IAF
from likely.models.flows.lattice_cnf import LatticeCNF
from likely.models.flows.lattice_u1 import LatticeU1
from likely.models.flows.maf import MAF
from likely.models.flows.nice import NICE
from likely.models.flows.nsf import NSF
from likely.models.flows.planar import Planar, Radial, Sylvester
from likely.models.flows.realnvp import RealNVP

__all__ = [
    "FFJORD", "IAF", "MAF", "NICE", "NSF", "Glow", "LatticeCNF", "LatticeU1", "Planar", "Radial",
    "RealNVP", "Sylvester",
]  # fmt: skip
