"""Heads: from the outputs of a network to a distribution for each entry of a domain.

=====================================  ===================================================
binary, spin                           Bernoulli: one output, a logit
categorical                            softmax: k logits
integer of at most 64 levels           softmax: k − 1 coefficients of `cosine_basis`
wider integer                          K discretised logistics: 3 K outputs
count                                  the same on the scale log(1 + x)
real                                   K logistics: 3 K outputs
positive, interval                     the same of log x, of log (x − a)/(b − x)
periodic                               K von Mises distributions: 3 K outputs
constant, single level                 nothing
maybe                                  the same after one more output, the logit of "missing"
=====================================  ===================================================

Each is normalised by the base measure of its column, counting or Lebesgue. Families whose outputs are
hidden causes rather than the entries before (variational autoencoders) take simpler ones, by
`simple_head`.
"""

from likely.nets.heads.base import NARROWEST, Head, choose
from likely.nets.heads.columns import ColumnHeads, Integers, mixture_head, simple_head
from likely.nets.heads.discrete import OrderedSoftmax, Softmax, regularised_temperature, sharpened
from likely.nets.heads.line import DiscretisedLogistics, Gaussian, Logistics

__all__ = [
    "NARROWEST",
    "ColumnHeads",
    "DiscretisedLogistics",
    "Gaussian",
    "Head",
    "Integers",
    "Logistics",
    "OrderedSoftmax",
    "Softmax",
    "choose",
    "mixture_head",
    "regularised_temperature",
    "sharpened",
    "simple_head",
]  # fmt: skip
