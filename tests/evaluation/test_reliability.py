"""Calibration errors vanish for exact posteriors, are right for known softening, and have right errors."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from sklearn.metrics import log_loss as reference_log_loss

import likely as lk
from likely.evaluation import (
    accuracy,
    brier_score,
    expected_calibration_error,
    fitted_temperature,
    log_loss,
    reliability,
)

SLOPE = 2.0  # of the log-odds of two Gaussians at ±1 on the line


def log_posterior(n, seed, temperature=1.0):
    """Two Gaussian classes on the line: log p(y|x)^(1/T), normalised, and labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(2, size=n)
    x = torch.from_numpy(2.0 * labels - 1 + rng.standard_normal(n))
    log_odds = SLOPE * x / temperature
    return torch.stack([-log_odds / 2, log_odds / 2], 1).log_softmax(1), labels


def calibration_error(temperature):
    """E |p_T(ŷ|x) − p(ŷ|x)| by quadrature; its sign is the same everywhere."""

    def gap(x):
        density = (stats.norm.pdf(x - 1) + stats.norm.pdf(x + 1)) / 2
        soft, right = (1 / (1 + math.exp(-abs(SLOPE * x) / t)) for t in (temperature, 1.0))
        return density * abs(soft - right)

    return integrate.quad(gap, -8, 8, points=[0])[0]


def share(hits, level, at_least=1e-3):
    """Whether a part `level` of the hits is true, tested two-sidedly."""
    return stats.binomtest(int(sum(hits)), len(hits), level).pvalue > at_least


def test_exact_posteriors_are_calibrated_within_the_band():
    found = [reliability(*log_posterior(300, seed), seed=seed) for seed in range(200)]
    values = np.array([diagram.error.value for diagram in found])
    assert share([d.null[0] <= d.error.value <= d.null[1] for d in found], 0.95)
    assert abs(values.mean()) < 4 * values.std() / math.sqrt(200)  # where |gaps| alone have 0.03
    plain = [((d.accuracy - d.confidence).abs() * d.rows / 300).sum() for d in found]
    assert np.mean(plain) > 8 * values.std() / math.sqrt(200)


@pytest.mark.parametrize("temperature", [0.4, 3.0])
def test_softened_posteriors_have_the_error_of_the_quadrature(temperature):
    exact = calibration_error(temperature)
    found = [reliability(*log_posterior(1000, seed, temperature), seed=seed) for seed in range(100)]
    values = np.array([d.error.value for d in found])
    z = (values - values.mean()) / [d.error.stderr for d in found]
    assert 0.93 * exact < values.mean() < exact + 3 * values.std() / math.sqrt(100)
    assert share(np.abs(z) < 1.96, 0.95)
    assert all(d.error.value > d.null[1] for d in found)
    by_width = expected_calibration_error(*log_posterior(50_000, 0, temperature), equal="width")
    assert abs(by_width.value - exact) < 4 * by_width.stderr


def test_bins_hold_all_rows_and_confidence_one_is_in_the_last():
    p = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.7, 0.3], [0.02, 0.98]], dtype=torch.float64)
    wide = reliability(p.log(), [0, 1, 0, 0], bins=10, equal="width")
    assert wide.rows.tolist() == [1, 3]
    torch.testing.assert_close(wide.confidence, torch.tensor([0.7, 2.98 / 3]).double())
    torch.testing.assert_close(wide.accuracy, torch.tensor([1.0, 2 / 3]).double())
    sure = reliability(torch.tensor([[0.0, -math.inf]]).expand(50, 2), torch.zeros(50))
    assert sure.rows.tolist() == [50]
    assert sure.error == lk.Figure(0.0, 0.0)
    diagram = reliability(*log_posterior(1000, 0))
    assert diagram.rows.sum() == 1000
    assert diagram.rows.max() - diagram.rows.min() <= 2
    order = np.random.default_rng(0).permutation(1000)
    log_p, labels = log_posterior(1000, 0)
    tied = (10 * log_p.exp()).round().clamp(0.1, 9.9) / 10
    first, again = (reliability(tied[i].log(), labels[i]) for i in (slice(None), order))
    assert first.rows.tolist() == again.rows.tolist()
    assert first.error.value == pytest.approx(again.error.value)


def test_rows_without_weight_do_not_count():
    log_p, labels = log_posterior(400, 1, temperature=2.0)
    weight = np.repeat([1.0, 0.0], 200)
    left, right = (
        reliability(log_p[at], labels[at], weight=weight[at], equal="width")
        for at in (slice(None), slice(200))
    )
    assert left.error.value == pytest.approx(right.error.value)
    for score in (accuracy, log_loss, brier_score, fitted_temperature):
        whole = score(log_p, labels, weight=weight)
        assert whole.value == pytest.approx(score(log_p[:200], labels[:200]).value)


def test_scores_against_scikit_learn():
    rng = np.random.default_rng(2)
    p = rng.dirichlet(np.ones(4), 300)
    labels = rng.integers(4, size=300)
    log_p = torch.from_numpy(p).log()
    assert log_loss(log_p, labels).value == pytest.approx(reference_log_loss(labels, p))
    assert brier_score(log_p, labels).value == pytest.approx(
        np.mean((p - np.eye(4)[labels]) ** 2) * 4
    )
    assert accuracy(log_p, labels).value == np.mean(p.argmax(1) == labels)


def test_temperature_is_the_one_that_softened():
    z = []
    for seed in range(200):
        found = fitted_temperature(*log_posterior(500, seed, temperature=2.5))
        z.append((1 / found.value - 2.5) / (found.stderr / found.value**2))
    assert abs(np.mean(z)) < 4 / math.sqrt(200)
    assert share(np.abs(z) < 1.96, 0.95)
    log_p, labels = log_posterior(500, 0, temperature=0.5)
    best = fitted_temperature(log_p, labels).value
    near = [
        log_loss((log_p / t).log_softmax(1), labels).value for t in (best, best + 0.02, best - 0.02)
    ]
    assert near[0] == min(near)
    sure, _ = log_posterior(500, 0)
    assert fitted_temperature(sure, sure.argmax(1)).value == 0  # always right
    assert fitted_temperature(sure, sure.argmin(1)).value == math.inf  # always wrong


def test_wrong_rows_and_labels_are_named():
    log_p, labels = log_posterior(10, 0)
    with pytest.raises(lk.DataError, match=r"row 0: the prob.* their logarithms"):
        log_loss(log_p.exp(), labels)
    with pytest.raises(lk.DataError, match="row 9: the label 2 is none of the classes 0 to 1"):
        log_loss(log_p, [*labels[:9], 2])
    with pytest.raises(lk.DataError, match=r"of shape \(10, 2\) for labels of shape \(9,\)"):
        reliability(log_p, labels[:9])
    with pytest.raises(lk.DataError, match="bins=0"):
        reliability(log_p, labels, bins=0)
