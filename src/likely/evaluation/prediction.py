"""Train on synthetic rows, test on real ones: whether draws teach what rows of data teach.

Esteban, Hyland & Rätsch 2017, arXiv:1706.02633, sec. 4.2.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from likely.core.domain import Domain
from likely.core.errors import DataError
from likely.core.likelihood import Figure
from likely.evaluation.marginals import is_nominal

TARGETS = 8  # columns that are predicted, evenly spread


def explained(rows: ArrayLike, held: ArrayLike, domain: Domain) -> Figure:
    """Part of the columns of held-out rows that trees explain which learnt from other rows.

    Each of at most 8 columns is predicted from all others: R² of the ranks of ordered columns, and of
    categories the part of the errors of always naming the commonest that is avoided. The mean over the
    columns is 1 where all can be told from the others, 0 for a constant guess, and below it where what
    was learnt is wrong. It depends on the number of rows: compare draws with as many real rows.

    Parameters
    ----------
    rows : array, shape (n, *domain.shape)
        To learn from: draws, or real rows.
    held : array, shape (m, *domain.shape)
        Real rows.
    domain : Domain

    Returns
    -------
    Figure
        Its error is that of drawing the held-out rows again.

    Raises
    ------
    DataError
        If fewer than two columns vary, or among the held-out rows none does.

    Examples
    --------
    >>> import likely as lk, torch
    >>> x = torch.randn(500, 1, generator=torch.Generator().manual_seed(0)).expand(-1, 2)
    >>> lk.evaluation.explained(x[:300], x[300:], lk.reals(2)).value > 0.9
    True
    """
    x, y = (np.asarray(part).reshape(len(np.asarray(part)), -1) for part in (rows, held))
    moving = domain.moving
    if len(moving) < 2:
        raise DataError("train on samples, test on real: at least two columns must vary")
    chosen = sorted({round(i) for i in np.linspace(0, len(moving) - 1, TARGETS)})
    losses = []
    for at in (moving[i] for i in chosen):
        others = [i for i in moving if i != at]
        error, guess = _losses(
            x[:, others], x[:, at], y[:, others], y[:, at], is_nominal(domain.column(at))
        )
        if guess > 0:
            losses.append(error / guess)
    if not losses:
        raise DataError("train on samples, test on real: no column of the held-out rows varies")
    kept = 1 - np.mean(losses, 0)
    return Figure(float(kept.mean()), float(kept.std()) / math.sqrt(len(kept)))


def _losses(
    x: np.ndarray, target: np.ndarray, y: np.ndarray, truth: np.ndarray, nominal: bool
) -> tuple[np.ndarray, float]:
    """Loss of each held-out row, and the mean loss of the best constant."""
    if nominal:
        commonest = (truth == np.bincount(truth.astype(int)).argmax()).mean()
        return (_learnt(x, target, True).predict(y) != truth).astype(float), 1 - float(commonest)
    order = np.sort(truth)
    target, truth = (
        np.searchsorted(order, values, "right") / len(order) for values in (target, truth)
    )
    return (_learnt(x, target, False).predict(y) - truth) ** 2, float(truth.var())


def _learnt(x: np.ndarray, target: np.ndarray, nominal: bool) -> Any:
    from sklearn.dummy import DummyClassifier
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    options = {"max_iter": 50, "max_leaf_nodes": 15, "max_bins": 64, "early_stopping": False}
    kind = HistGradientBoostingClassifier if nominal else HistGradientBoostingRegressor
    constant = nominal and len(np.unique(target)) < 2  # a model may have lost all classes but one
    trees = DummyClassifier() if constant else kind(**options, random_state=0)
    return trees.fit(x, target)
