"""Autoregressive models, and the product of independent marginals."""

from likely.models.autoregressive.independent import Independent
from likely.models.autoregressive.made import MADE
from likely.models.autoregressive.pixelcnn import PixelCNN
from likely.models.autoregressive.pixelrnn import PixelRNN
from likely.models.autoregressive.rnn import RNN
from likely.models.autoregressive.transformer import Transformer

__all__ = ["MADE", "RNN", "Independent", "PixelCNN", "PixelRNN", "Transformer"]
