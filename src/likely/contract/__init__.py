"""What a model is: its verbs, its training, its options, and how it is named and saved.

The names here are what most files with a model need.
"""

from likely.contract.model import GenerativeModel
from likely.contract.options import Length, NonNegative, NonNegativeInt, Positive, Range, Widths
from likely.contract.real import RealModel, ViewedModel
from likely.contract.registry import register
from likely.contract.training import Batch, Objective, Recipe
from likely.contract.views import LOG_TWO_PI, Features, RealView, Rows, log_mass

__all__ = [
    "LOG_TWO_PI", "Batch", "Features", "GenerativeModel", "Length", "NonNegative", "NonNegativeInt",
    "Objective", "Positive", "Range", "RealModel", "RealView", "Recipe", "Rows", "ViewedModel", "Widths",
    "log_mass", "register",
]  # fmt: skip
