"""Mixtures: weighted sums of simple densities."""

from likely.models.mixtures.deep_gmm import DeepGaussianMixture
from likely.models.mixtures.gmm import GaussianMixture
from likely.models.mixtures.mfa import MixtureOfFactorAnalysers

__all__ = ["DeepGaussianMixture", "GaussianMixture", "MixtureOfFactorAnalysers"]
