"""The classifier of images in two-sample tests, and what classes draws show."""

import math

import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

import likely as lk
from likely.evaluation import ImageClassifier, classification_accuracy, classifier_test


def test_p_values_are_uniform_and_the_area_is_one_half_for_images_of_one_kind():
    rng = np.random.default_rng(0)
    net = ImageClassifier((1, 4, 4), steps=3)
    found = [
        classifier_test(*rng.standard_normal((2, 60, 16)), classifier=net, folds=1, seed=seed)
        for seed in range(200)
    ]
    assert stats.kstest([f.p_value for f in found], "uniform").pvalue > 1e-3
    area = np.array([f.auc.value for f in found])
    assert abs(area.mean() - 0.5) < 4 * area.std() / 200**0.5
    assert 0.85 < np.mean([f.auc.stderr for f in found]) / area.std() < 1.2


@pytest.mark.parametrize("shift", [0.5, 1.0, 2.0])
def test_power_is_near_the_best_possible_and_not_above_it(shift):
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((2, 2000, 16))
    y += shift / 4  # the best classifier sees the sum of the pixels: Φ(Δ/√2), Δ = |shift|/4 · √16
    found = classifier_test(x, y, classifier=ImageClassifier((1, 4, 4)), folds=1)
    best = stats.norm.cdf(shift / math.sqrt(2))
    assert best - 0.05 < found.auc.value < best + 3 * found.auc.stderr
    assert found.p_value < 1e-6


def test_it_sees_a_texture_that_trees_of_pixels_do_not():
    rng = np.random.default_rng(2)

    def stripes(n, across):  # of any phase, so that each pixel alone is as bright in both
        place = np.arange(12) + rng.uniform(0, 4, (n, 1))
        wave = np.sin(np.pi / 2 * place)[:, :, None].repeat(12, 2)
        wave = wave.transpose(0, 2, 1) if across else wave
        return (0.7 * wave + rng.standard_normal((n, 12, 12))).reshape(n, -1)

    x, y = stripes(300, False), stripes(300, True)
    seen = classifier_test(x, y, classifier=ImageClassifier((1, 12, 12)), folds=1)
    assert seen.auc.value > classifier_test(x, y, folds=1).auc.value + 0.1
    assert seen.auc.value > 0.9


def test_one_half_tests_what_the_other_trains():
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((100, 2)), rng.standard_normal((80, 2)) + 1
    found = classifier_test(x, y, classifier=LogisticRegression(), folds=1, seed=5)
    again = np.random.default_rng(5)
    test_x, test_y = again.permutation(100) % 2 == 0, again.permutation(80) % 2 == 0
    label = np.repeat([0, 1], [50, 40])
    fitted = LogisticRegression().fit(np.concatenate([x[~test_x], y[~test_y]]), label)
    score = fitted.predict_proba(np.concatenate([x[test_x], y[test_y]]))[:, 1]
    assert found.auc.value == pytest.approx(roc_auc_score(label, score))
    exact = stats.mannwhitneyu(
        score[50:], score[:50], alternative="greater", method="asymptotic", use_continuity=False
    )
    assert found.p_value == pytest.approx(exact.pvalue, rel=1e-6)
    with pytest.raises(lk.LikelyError, match="folds=0"):
        classifier_test(x, y, folds=0)


def test_accuracy_both_ways_of_draws_that_lack_variety_and_of_draws_with_wrong_labels():
    rng = np.random.default_rng(4)
    label = np.repeat([0, 1], 1000)
    line = LogisticRegression()

    def rows(label, width=1.0):
        return np.where(label, 1.0, -1.0)[:, None] + width * rng.standard_normal((len(label), 1))

    real, held = (rows(label), label), (rows(label), label)
    found = classification_accuracy(real, (rows(label), label), held, classifier=line)
    for figure in found:  # the best is Φ(1)
        assert abs(figure.value - stats.norm.cdf(1)) < 4 * figure.stderr + 0.005
    narrow = classification_accuracy(real, (rows(label, 0.1), label), held, classifier=line)
    assert narrow.agreement.value == 1
    wrong = rng.random(2000) < 0.5
    labels = np.where(wrong, rng.integers(0, 2, 2000), label)
    mixed = classification_accuracy(real, (rows(label), labels), held, classifier=line)
    expected = 0.75 * stats.norm.cdf(1) + 0.25 * stats.norm.cdf(-1)
    assert abs(mixed.agreement.value - expected) < 4 * mixed.agreement.stderr + 0.01
    assert mixed.learnt.value > 0.8  # half of the labels still say where the classes are
    with pytest.raises(lk.DataError, match="drawn: every label is 1"):
        classification_accuracy(real, (rows(label), np.ones(2000)), held)
    with pytest.raises(lk.DataError, match=r"held: rows of shape \(2000, 1\) and labels"):
        classification_accuracy(real, real, (held[0], label[1:]))
