"""Autoregressive models, and the product of independent marginals."""

from likely.autoregressive.independent import Independent
from likely.autoregressive.made import MADE
from likely.autoregressive.rnn import RNN
from likely.autoregressive.transformer import Transformer

__all__ = ["MADE", "RNN", "Independent", "Transformer"]
