"""Mixtures: weighted sums of simple densities."""

from likely.models.mixtures.gmm import GaussianMixture

__all__ = ["GaussianMixture"]
