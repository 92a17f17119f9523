"""Lattice fields and spins, from their action to observables with errors."""

from likely.lattice.results import Row
from likely.lattice.study import OBSERVABLES, Study, study

__all__ = ["OBSERVABLES", "Row", "Study", "study"]
