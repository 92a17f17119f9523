"""compare(): several models on the same data, and what each is worth."""

from likely.comparison.comparison import Comparison
from likely.comparison.energies import EnergyComparison
from likely.comparison.results import Row, Run
from likely.comparison.run import compare

__all__ = ["Comparison", "EnergyComparison", "Row", "Run", "compare"]
