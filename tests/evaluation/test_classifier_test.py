import math

import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

import likely as lk
from likely.evaluation import classifier_test


class Fixed(LogisticRegression):
    """Scores by the first column, whatever it was trained on."""

    def fit(self, x, y):
        return self

    def predict_proba(self, x):
        right = 1 / (1 + np.exp(-x[:, :1]))
        return np.hstack([1 - right, right])


def test_area_and_accuracy_of_a_fixed_score_against_scikit_learn_and_the_closed_form():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((3000, 1)), rng.standard_normal((2000, 1)) + 1
    ours = classifier_test(x, y, classifier=Fixed(), seed=1)
    label = np.repeat([0, 1], [3000, 2000])
    pooled = roc_auc_score(label, np.concatenate([x, y])[:, 0])
    assert ours.auc.value == pytest.approx(pooled, abs=2e-3)  # within folds instead of across
    assert abs(ours.auc.value - stats.norm.cdf(1 / math.sqrt(2))) < 4 * ours.auc.stderr
    logit = math.log(2 / 3)  # more rows of x: the threshold moves
    right = (stats.norm.cdf(logit) + stats.norm.sf(logit - 1)) / 2
    assert abs(ours.accuracy.value - right) < 4 * ours.accuracy.stderr
    assert ours.p_value < 1e-100


class Means(Fixed):
    """Scores along the difference of the means: of all classifiers the one that folds share most."""

    def fit(self, x, y):
        self.direction = x[y == 1].mean(0) - x[y == 0].mean(0)
        return self

    def predict_proba(self, x):
        return super().predict_proba((x @ self.direction)[:, None])


@pytest.mark.parametrize(("columns", "classifier"), [(1, Means()), (10, Means()), (5, None)])
def test_level_and_errors_under_the_hypothesis(columns, classifier):
    rng = np.random.default_rng(2)
    repeats = 20 if classifier is None else 500
    tests = []
    for seed in range(repeats):
        x, y = (rng.standard_normal((60, columns)) for _ in "xy")
        tests.append(classifier_test(x, y, classifier=classifier, seed=seed))
    for level in (0.01, 0.05, 0.1):  # not above it, tested at the level 0.1 %
        rejected = sum(test.p_value <= level for test in tests)
        assert stats.binomtest(rejected, repeats, level, "greater").pvalue > 1e-3
    for figures in ([test.auc for test in tests], [test.accuracy for test in tests]):
        values, errors = zip(*[(figure.value, figure.stderr) for figure in figures], strict=True)
        assert abs(np.mean(values) - 0.5) < 4 * np.std(values) / math.sqrt(repeats)
        assert 0.7 < np.mean(errors) / np.std(values) < 1.8


def test_paired_rows_share_a_fold():
    rng = np.random.default_rng(3)
    given = 10 * rng.standard_normal((300, 1))
    x, y = (np.hstack([given, given + rng.standard_normal((300, 1))]) for _ in "xy")
    paired = classifier_test(x, y, paired=True)
    assert abs(paired.auc.value - 0.5) < 3 * paired.auc.stderr
    y[:, 1] += 2
    assert classifier_test(x, y, paired=True).p_value < 1e-3


def test_power():
    rng = np.random.default_rng(4)
    x = rng.standard_normal((500, 2))
    y = rng.standard_normal((500, 2))
    y = np.stack([y[:, 0], 0.6 * y[:, 0] + 0.8 * y[:, 1]], 1)  # the same marginals
    told = classifier_test(x, y)
    assert told.p_value < 1e-3
    assert told.accuracy.value > 0.5 + 2 * told.accuracy.stderr
    assert told == classifier_test(x, y)
    with pytest.raises(lk.DataError, match="needs 10 of each"):
        classifier_test(x[:9], y)
