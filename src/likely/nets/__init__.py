"""Networks that families share, and encoders of contexts."""

from likely.nets.encoders import CNN, GRU, DeepSets

__all__ = ["CNN", "GRU", "DeepSets"]
