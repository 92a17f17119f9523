"""fit(): the one training loop; integrate(): integrals by a flow that learns from their integrand."""

from likely.fitting.fit import fit
from likely.fitting.history import History
from likely.fitting.integral import Integral, integrate

__all__ = ["History", "Integral", "fit", "integrate"]
