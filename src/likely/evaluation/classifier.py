"""What classifiers say about draws of a model: can they be told from data, and do they show its classes?"""

import math
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from likely.core.errors import DataError, LikelyError
from likely.core.likelihood import Figure
from likely.core.numbers import whole
from likely.evaluation.resampling import two_samples

FOLDS = 5
SIDES: tuple[Literal["left", "right"], ...] = ("left", "right")  # of equal scores
Labelled = tuple[ArrayLike, ArrayLike]  # rows and their labels


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
    x: ArrayLike,
    y: ArrayLike,
    *,
    classifier: Any = None,
    folds: int = FOLDS,
    paired: bool = False,
    seed: int = 0,
) -> ClassifierTest:
    """Train a classifier to tell x from y, and measure it on rows that it has not seen.

    Cross-validated on five folds. The errors are those of DeLong for the area, and binomial for the
    accuracy, both times 1.5 for the correlation of the folds. So is the error of the area under the
    hypothesis, from whose normal limit the one-sided p-value comes: p-values below 0.1 are too
    large rather than too small. With `folds=1`, half of the rows train and the others test: nothing is
    correlated, and p-values are uniform under the hypothesis. There are no weights: `thinned` gives
    rows without.

    Parameters
    ----------
    x : array, shape (n, d)
        NaN is missing; the default classifier takes that.
    y : array, shape (m, d)
    classifier : scikit-learn classifier with `predict_proba`, optional
        By default 50 small boosted trees (`HistGradientBoostingClassifier`), which need no scales. For
        images take an `ImageClassifier`.
    folds : int
        How often a classifier is trained; 1 for one whose training takes long.
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
        If the arrays do not fit together, a sample has fewer than 10 rows, or two for each fold.
    LikelyError
        If the number of folds is not one.

    References
    ----------
    Lopez-Paz & Oquab 2017, arXiv:1610.06545; DeLong, DeLong & Clarke-Pearson 1988, Biometrics 44,
    837.
    """
    from sklearn.base import clone

    if whole("folds", folds) < 1:
        raise LikelyError(f"folds={folds}: give a number from 1 on")
    x, y, _, _ = (part.numpy() for part in two_samples(x, y, paired, None, None, holes=True))
    n, m, least = len(x), len(y), max(2 * folds, 2 * FOLDS)
    if min(n, m) < least:
        raise DataError(f"two samples of {n} and {m} rows: a classifier needs {least} of each")
    classifier = _trees() if classifier is None else classifier
    rng = np.random.default_rng(seed)
    fold_x = rng.permutation(n) % max(folds, 2)
    fold_y = fold_x if paired else rng.permutation(m) % max(folds, 2)
    # Of each row: the part of its fold's rows of the other sample that it is on the right side of,
    # and whether it is classified right.
    right_x, right_y, hit_x, hit_y = (np.empty(size) for size in (n, m, n, m))
    for fold in range(folds):
        test_x, test_y = fold_x == fold, fold_y == fold
        rows = np.concatenate([x[~test_x], y[~test_y]])
        label = np.repeat([0, 1], [(~test_x).sum(), (~test_y).sum()])
        fitted = clone(classifier).fit(rows, label)
        score_x, score_y = (fitted.predict_proba(part)[:, 1] for part in (x[test_x], y[test_y]))
        right_x[test_x], right_y[test_y] = sides(score_x, score_y)
        threshold = label.mean()  # where both are as likely as they were in the training
        hit_x[test_x], hit_y[test_y] = score_x < threshold, score_y >= threshold
    seen_x, seen_y = fold_x < folds, fold_y < folds
    right_x, hit_x, right_y, hit_y = right_x[seen_x], hit_x[seen_x], right_y[seen_y], hit_y[seen_y]
    # In cross-validation each pair of folds is used twice, once each way. That correlates their
    # figures: the variance of the mean is up to about twice that of independent folds. The correction
    # of Nadeau & Bengio 2003, Machine Learning 52, 239, 1 + folds · test rows/training rows, covers it.
    inflation = 1 if folds == 1 else 1 + folds / (folds - 1)
    accuracy = float(hit_x.mean() + hit_y.mean()) / 2
    return ClassifierTest(
        mean_of_sides(right_x, right_y, float(right_x.mean()), paired, inflation),
        mean_of_sides(hit_x / 2, hit_y / 2, accuracy, paired, inflation),
        area_p_value(float(right_x.mean()), len(right_x), len(right_y), folds, inflation),
    )


def sides(score_x: np.ndarray, score_y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each row, the part of the other sample's rows that it is on the right side of; ties count half."""

    def below(score: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Part of the other scores that are lower."""
        other = np.sort(other)
        ends = [np.searchsorted(other, score, side) for side in SIDES]
        return np.mean(ends, axis=0) / len(other)

    return 1 - below(score_x, score_y), below(score_y, score_x)


def mean_of_sides(
    of_x: np.ndarray, of_y: np.ndarray, value: float, paired: bool = False, inflation: float = 1
) -> Figure:
    """A mean over pairs of rows, or of parts, and its error (DeLong et al. 1988)."""
    parts = [of_x + of_y] if paired else [of_x, of_y]
    variance = sum(part.var(ddof=1) / len(part) for part in parts)
    return Figure(value, math.sqrt(inflation * variance))


def area_p_value(area: float, n: int, m: int, folds: int = 1, inflation: float = 1) -> float:
    """One-sided p-value of an area above one half, from its normal limit (Mann & Whitney 1947)."""
    variance = inflation * (n + m + folds) / (12 * n * m)  # under the hypothesis
    return math.erfc((area - 0.5) / math.sqrt(2 * variance)) / 2


def _trees() -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(
        max_iter=50, max_leaf_nodes=15, max_bins=64, early_stopping=False, random_state=0
    )


class ClassificationAccuracy(NamedTuple):
    """How well the classes of draws are those of real rows.

    Attributes
    ----------
    real : Figure
        Accuracy on held-out rows of a classifier that is trained on real ones.
    learnt : Figure
        Accuracy on held-out rows of one that is trained on draws, the classification accuracy score:
        below `real` by what the draws lack.
    agreement : Figure
        Accuracy on draws of the one that is trained on real rows: whether each draw shows the class
        that it was drawn for. Draws with too little variety reach 1.
    """

    real: Figure
    learnt: Figure
    agreement: Figure


def classification_accuracy(
    real: Labelled,
    drawn: Labelled,
    held: Labelled,
    *,
    classifier: Any = None,
) -> ClassificationAccuracy:
    """Train a classifier on real rows and one on draws, and test both.

    Errors are binomial: they are without the choice of the rows that a classifier is trained on.

    Parameters
    ----------
    real : (array, shape (n, d), and array, shape (n,))
        Real rows and their labels.
    drawn : (array, shape (m, d), and array, shape (m,))
        Draws of a conditional model, best as many, and the labels that they were drawn for.
    held : (array, shape (k, d), and array, shape (k,))
        Other real rows.
    classifier
        As in `classifier_test`.

    Raises
    ------
    DataError
        If the arrays do not fit together, or the rows to train on have one class only.

    References
    ----------
    Ravuri & Vinyals 2019, arXiv:1905.10887, sec. 4.

    Examples
    --------
    >>> import likely as lk
    >>> data = lk.load_data("digits", context="label")
    >>> train, test = [(s.x.flatten(1), s.context.flatten()) for s in (data.train, data.test)]
    >>> found = lk.evaluation.classification_accuracy(train, train, test)
    >>> found.learnt == found.real
    True
    """
    from sklearn.base import clone

    sets = []
    for what, (rows, labels) in zip(("real", "drawn", "held"), (real, drawn, held), strict=True):
        x, label = np.asarray(rows), np.asarray(labels)
        if x.ndim != 2 or label.shape != (len(x),) or not len(x):
            raise DataError(
                f"{what}: rows of shape {x.shape} and labels of shape {label.shape}: give (n, d) and (n,)"
            )
        if what != "held" and len(np.unique(label)) < 2:
            raise DataError(f"{what}: every label is {label[0]}; a classifier needs two classes")
        sets.append((x, label))
    (x, label), (y, wanted), (z, truth) = sets
    classifier = _trees() if classifier is None else classifier
    by_real, by_drawn = (clone(classifier).fit(*rows) for rows in ((x, label), (y, wanted)))
    return ClassificationAccuracy(
        _accuracy(by_real.predict(z) == truth),
        _accuracy(by_drawn.predict(z) == truth),
        _accuracy(by_real.predict(y) == wanted),
    )


def _accuracy(hits: np.ndarray) -> Figure:
    return Figure(float(hits.mean()), float(hits.std()) / math.sqrt(len(hits)))
