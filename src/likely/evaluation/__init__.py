"""What a model is worth: likelihood, distances between samples, divergences, speed."""

from likely.evaluation.evaluation import Evaluation, evaluate
from likely.evaluation.likelihood import forward_kl, held_out, reverse_kl
from likely.evaluation.speed import throughput
from likely.evaluation.two_sample import energy_distance, sliced_wasserstein

__all__ = [
    "Evaluation",
    "energy_distance",
    "evaluate",
    "forward_kl",
    "held_out",
    "reverse_kl",
    "sliced_wasserstein",
    "throughput",
]
