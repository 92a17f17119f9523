"""fit(): the one training loop."""

from likely.fitting.fit import fit
from likely.fitting.history import History

__all__ = ["History", "fit"]
