"""Mixtures: weighted sums of simple densities."""

from likely.mixtures.gmm import GaussianMixture

__all__ = ["GaussianMixture"]
