"""Classifier two-sample test: can a classifier tell draws of a model from data?"""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from likely.core.errors import DataError
from likely.core.likelihood import Figure
from likely.evaluation.resampling import two_samples

FOLDS = 5
# In cross-validation each pair of folds is used twice, once each way. That correlates their figures:
# the variance of the mean is up to about twice that of independent folds. The correction of Nadeau &
# Bengio 2003, Machine Learning 52, 239, 1 + folds · test rows/training rows, covers it.
INFLATION = 1 + FOLDS / (FOLDS - 1)


class ClassifierTest(NamedTuple):
    """How well a classifier tells two samples apart.

    Attributes
    ----------
    auc : Figure
        Area under the ROC curve: the probability that a row of y looks more like y than one of x
        does. One half where the samples cannot be told apart, 1 where they can always be.
    accuracy : Figure
        Mean of the parts of x and of y that are told right: one half for a guess.
    p_value : float
        Of the hypothesis of equal distributions.
    """

    auc: Figure
    accuracy: Figure
    p_value: float


def classifier_test(
    x: ArrayLike, y: ArrayLike, *, classifier: Any = None, paired: bool = False, seed: int = 0
) -> ClassifierTest:
    """Train a classifier to tell x from y, and measure it on rows that it has not seen.

    Cross-validated on five folds. The errors are those of DeLong for the area, and binomial for the
    accuracy, both times 1.5 for the correlation of the folds. So is the error of the area under the
    hypothesis, from whose normal limit the one-sided p-value comes: p-values below 0.1 are too
    large rather than too small. There are no weights: `thinned` gives rows without.

    Parameters
    ----------
    x : array, shape (n, d)
    y : array, shape (m, d)
    classifier : scikit-learn classifier with `predict_proba`, optional
        By default 50 small boosted trees (`HistGradientBoostingClassifier`), which need no scales.
    paired : bool
        As in `energy_distance`: paired rows are put into the same fold.
    seed : int
        Of the folds.

    Returns
    -------
    ClassifierTest

    Raises
    ------
    DataError
        If the arrays do not fit together, or a sample has fewer than 10 rows.

    References
    ----------
    Lopez-Paz & Oquab 2017, arXiv:1610.06545; DeLong, DeLong & Clarke-Pearson 1988, Biometrics 44,
    837.
    """
    from sklearn.base import clone
    from sklearn.ensemble import HistGradientBoostingClassifier

    x, y, _, _ = (part.numpy() for part in two_samples(x, y, paired, None, None))
    n, m = len(x), len(y)
    if min(n, m) < 2 * FOLDS:
        raise DataError(f"two samples of {n} and {m} rows: a classifier needs {2 * FOLDS} of each")
    if classifier is None:
        classifier = HistGradientBoostingClassifier(
            max_iter=50, max_leaf_nodes=15, max_bins=64, early_stopping=False, random_state=0
        )
    rng = np.random.default_rng(seed)
    fold_x = rng.permutation(n) % FOLDS
    fold_y = fold_x if paired else rng.permutation(m) % FOLDS
    # Of each row: the part of its fold's rows of the other sample that it is on the right side of,
    # and whether it is classified right.
    right_x, right_y, hit_x, hit_y = (np.empty(size) for size in (n, m, n, m))
    for fold in range(FOLDS):
        test_x, test_y = fold_x == fold, fold_y == fold
        rows = np.concatenate([x[~test_x], y[~test_y]])
        label = np.repeat([0, 1], [(~test_x).sum(), (~test_y).sum()])
        fitted = clone(classifier).fit(rows, label)
        score_x, score_y = (fitted.predict_proba(part)[:, 1] for part in (x[test_x], y[test_y]))
        right = (np.sign(score_y - score_x[:, None]) + 1) / 2
        right_x[test_x], right_y[test_y] = right.mean(1), right.mean(0)
        threshold = label.mean()  # where both are as likely as they were in the training
        hit_x[test_x], hit_y[test_y] = score_x < threshold, score_y >= threshold

    def figure(of_x: np.ndarray, of_y: np.ndarray, value: float) -> Figure:
        parts = [of_x + of_y] if paired else [of_x, of_y]
        variance = sum(part.var(ddof=1) / len(part) for part in parts)
        return Figure(value, math.sqrt(INFLATION * variance))

    area = float(right_x.mean())
    null = INFLATION * (n + m + FOLDS) / (12 * n * m)  # its variance under the hypothesis
    return ClassifierTest(
        figure(right_x, right_y, area),
        figure(hit_x / 2, hit_y / 2, float(hit_x.mean() + hit_y.mean()) / 2),
        math.erfc((area - 0.5) / math.sqrt(2 * null)) / 2,
    )
