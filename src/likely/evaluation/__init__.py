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
from likely.evaluation.outside import (
    Detection,
    Outside,
    auroc,
    detect_outside,
    detection,
    outside_images,
    typicality_test,
)
from likely.evaluation.prediction import explained
from likely.evaluation.reliability import (
    Reliability,
    accuracy,
    brier_score,
    expected_calibration_error,
    fitted_temperature,
    log_loss,
    reliability,
)
from likely.evaluation.resampling import thinned
from likely.evaluation.result import Evaluation
from likely.evaluation.robustness import Adversarial, Robustness, pgd, robustness
from likely.evaluation.speed import throughput
from likely.evaluation.two_sample import energy_distance, kernel_distance, mmd, sliced_wasserstein
from likely.evaluation.unusual import ood_scores
from likely.evaluation.weighted import Weighted, reweight

__all__ = [
    "DCI", "Adversarial", "AnnealedFlow", "Band", "ClassificationAccuracy", "ClassifierTest", "Detection",
    "Evaluation", "FeatureExtractor", "Histogram", "ImageClassifier", "Memorisation",
    "ModeCoverage", "Neighbours", "Outside", "Reliability", "Robustness", "Weighted", "accuracy",
    "active_units", "annealed_flow", "attribute_predictability", "auroc", "brier_score",
    "class_coverage", "classification_accuracy", "classifier_test", "dci", "detect_outside",
    "detection", "energy_distance", "evaluate", "expected_calibration_error", "explained", "factor_vae_score",
    "fitted_temperature", "forward_kl", "frechet_distance", "held_out", "kernel_distance",
    "log_loss", "marginal_distances", "memorisation", "mmd", "mode_coverage",
    "mutual_information_gap", "neighbours", "ood_scores", "outside_images", "pair_distances", "pgd",
    "pit", "rank_band", "rank_histogram", "ranks", "reliability", "reverse_kl", "reweight", "robustness",
    "sliced_wasserstein", "thinned", "throughput", "typicality_test",
]  # fmt: skip
