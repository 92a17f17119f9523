"""Normalizing flows."""

from likely.flows.nsf import NSF

__all__ = ["NSF"]
