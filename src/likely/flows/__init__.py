"""Normalizing flows."""

from likely.flows.ffjord import FFJORD
from likely.flows.maf import IAF, MAF
from likely.flows.nice import NICE
from likely.flows.nsf import NSF
from likely.flows.realnvp import RealNVP

__all__ = ["FFJORD", "IAF", "MAF", "NICE", "NSF", "RealNVP"]
