"""What a model is worth: likelihood, distances between samples, divergences, speed."""

from likely.evaluation.annealed import AnnealedFlow, annealed_flow
from likely.evaluation.calibration import Band, Histogram, pit, rank_band, rank_histogram, ranks
from likely.evaluation.classifier import (
    ClassificationAccuracy,
    ClassifierTest,
    classification_accuracy,
    classifier_test,
)
from likely.evaluation.disentanglement import (
    DCI,
    active_units,
    attribute_predictability,
    dci,
    factor_vae_score,
    mutual_information_gap,
)
from likely.evaluation.evaluate import evaluate
from likely.evaluation.images import FeatureExtractor, ImageClassifier, frechet_distance
from likely.evaluation.likelihood import forward_kl, held_out, reverse_kl
from likely.evaluation.marginals import marginal_distances, pair_distances
from likely.evaluation.modes import ModeCoverage, class_coverage, mode_coverage
from likely.evaluation.neighbours import Memorisation, Neighbours, memorisation, neighbours
from likely.evaluation.prediction import explained
from likely.evaluation.resampling import thinned
from likely.evaluation.result import Evaluation
from likely.evaluation.speed import throughput
from likely.evaluation.two_sample import energy_distance, kernel_distance, mmd, sliced_wasserstein
from likely.evaluation.weighted import Weighted, reweight

__all__ = [
    "DCI", "AnnealedFlow", "Band", "ClassificationAccuracy", "ClassifierTest", "Evaluation",
    "FeatureExtractor", "Histogram", "ImageClassifier", "Memorisation", "ModeCoverage", "Neighbours",
    "Weighted", "active_units", "annealed_flow", "attribute_predictability", "class_coverage",
    "classification_accuracy", "classifier_test", "dci", "energy_distance", "evaluate", "explained",
    "factor_vae_score", "forward_kl", "frechet_distance", "held_out", "kernel_distance",
    "marginal_distances", "memorisation", "mmd", "mode_coverage", "mutual_information_gap",
    "neighbours", "pair_distances", "pit", "rank_band", "rank_histogram", "ranks", "reverse_kl", "reweight",
    "sliced_wasserstein", "thinned", "throughput",
]  # fmt: skip
