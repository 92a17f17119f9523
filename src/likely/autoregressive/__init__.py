"""Autoregressive models, and the product of independent marginals."""

from likely.autoregressive.independent import Independent
from likely.autoregressive.made import MADE

__all__ = ["MADE", "Independent"]
