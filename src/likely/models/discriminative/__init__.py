"""Discriminative models: p(y|x) of labels or numbers y, on a network that sees x as its context."""

from likely.models.discriminative.classifier import Classifier
from likely.models.discriminative.regressor import Regressor

__all__ = ["Classifier", "Regressor"]
