"""compare(): several models on the same data, and what each is worth."""

from likely.comparison.comparison import Comparison
from likely.comparison.results import Row, Run
from likely.comparison.run import compare

__all__ = ["Comparison", "Row", "Run", "compare"]
