"""Whether single latent variables stand for single factors of the data.

All measures see codes (means of q(z|x), from `encode`) and the factors that rows were made of, as labels.
They describe these rows: what a training gives varies much more from seed to seed than from row to row.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from likely.core.errors import DataError
from likely.core.likelihood import Figure

BINS = 20  # of equal width, into which codes are put for MIG
INACTIVE = 0.05  # standard deviation below which the FactorVAE score leaves a variable out
TREES = 50


class DCI(NamedTuple):
    """Disentanglement, completeness and informativeness, each from 0 to 1.

    Attributes
    ----------
    disentanglement : float
        1 where each variable matters to a single factor.
    completeness : float
        1 where each factor is in a single variable.
    informativeness : float
        Part of the factors of held-out rows that the codes tell.
    """

    disentanglement: float
    completeness: float
    informativeness: float


def mutual_information_gap(codes: ArrayLike, factors: ArrayLike) -> float:
    """MIG: by how much the best variable knows a factor better than the second best does.

    Mean over factors of (I₁ − I₂)/H, with H the factor's entropy and I₁ ≥ I₂ its largest two mutual
    informations with one variable, which is put into 20 bins of equal width.

    Parameters
    ----------
    codes : array, shape (n, latent)
    factors : array, shape (n, factors)
        Labels of any type; a factor with a single one is left out.

    Returns
    -------
    float
        From 0 to 1.

    Raises
    ------
    DataError
        If the arrays do not fit together, or no factor varies.

    References
    ----------
    Chen, Li, Grosse & Duvenaud 2018, arXiv:1802.04942, eq. 6; with bins of means as in Locatello et al.
    2019, arXiv:1811.12359, which gives other values than integrals over q(z|x).
    """
    z, labels = _checked(codes, factors)
    low, span = z.min(0), np.ptp(z, axis=0)
    bins = ((z - low) / np.where(span > 0, span, 1) * BINS).astype(int).clip(0, BINS - 1)
    known = np.zeros((labels.shape[1], max(2, z.shape[1])))
    for j, label in enumerate(labels.T):
        for k, code in enumerate(bins.T):
            table = np.zeros((label.max() + 1, BINS))
            np.add.at(table, (label, code), 1 / len(z))
            rest = _entropy(table.sum(1)) + _entropy(table.sum(0)) - _entropy(table.ravel())
            known[j, k] = rest / _entropy(table.sum(1))
    second, first = np.sort(known, 1)[:, -2:].T
    return float(np.clip(first - second, 0, 1).mean())


def dci(codes: ArrayLike, factors: ArrayLike, *, seed: int = 0) -> DCI:
    """DCI: how the importances of variables are spread, in forests that tell factors from codes.

    With R_kj the importance of variable k for factor j, disentanglement is the mean of
    1 − H(R_k·)/log(factors) weighted by Σ_j R_kj, and completeness that of 1 − H(R_·j)/log(variables).

    Parameters
    ----------
    codes : array, shape (n, latent)
    factors : array, shape (n, factors)
        As for `mutual_information_gap`.
    seed : int
        Of the split into halves to fit and to test, and of the forests: 50 trees each, with
        importances by impurity.

    Returns
    -------
    DCI

    Raises
    ------
    DataError
        If the arrays do not fit together, or no factor varies.

    References
    ----------
    Eastwood & Williams 2018, ICLR; there with lasso and forests for regression.
    """
    from sklearn.ensemble import RandomForestClassifier

    z, labels = _checked(codes, factors)
    fit, test = _halves(len(z), seed)
    importance, right = np.zeros((z.shape[1], labels.shape[1])), []
    for j, label in enumerate(labels.T):
        forest = RandomForestClassifier(
            TREES, max_features=None, min_samples_leaf=5, random_state=seed
        )
        forest.fit(z[fit], label[fit])
        importance[:, j] = forest.feature_importances_
        right.append(forest.score(z[test], label[test]))
    total = max(importance.sum(), np.finfo(float).tiny)
    disentangled = 1 - _spread(importance)
    completed = np.where(importance.any(0), 1 - _spread(importance.T), 0)
    return DCI(
        float(importance.sum(1) @ disentangled / total),
        float(completed.mean()),
        float(np.mean(right)),
    )


def attribute_predictability(codes: ArrayLike, factors: ArrayLike, *, seed: int = 0) -> float:
    """SAP: by how much the best variable tells a factor better than the second best does.

    Mean over factors of the difference between the largest two parts of held-out rows of which one
    variable tells the label, by a linear support vector classifier with C = 0.01 and labels of equal
    weight. That is enough for two labels only: with many, the best possible score is well below 1.

    Parameters
    ----------
    codes : array, shape (n, latent)
    factors : array, shape (n, factors)
        As for `mutual_information_gap`.
    seed : int
        Of the split into halves to fit and to test.

    Returns
    -------
    float
        From 0 to 1.

    Raises
    ------
    DataError
        If the arrays do not fit together, or no factor varies.

    References
    ----------
    Kumar, Sattigeri & Balakrishnan 2018, arXiv:1711.00848.
    """
    from sklearn.svm import LinearSVC

    z, labels = _checked(codes, factors)
    fit, test = _halves(len(z), seed)
    right = np.zeros((labels.shape[1], max(2, z.shape[1])))
    for j, label in enumerate(labels.T):
        if not np.ptp(label[fit]):  # a rare label, in the other half only
            continue
        for k in np.flatnonzero(np.ptp(z[fit], axis=0)):
            line = LinearSVC(C=0.01, class_weight="balanced", dual=False)
            right[j, k] = line.fit(z[fit, k, None], label[fit]).score(z[test, k, None], label[test])
    second, first = np.sort(right, 1)[:, -2:].T
    return float((first - second).mean())


def factor_vae_score(
    codes: ArrayLike, factors: ArrayLike, *, votes: int = 5000, batch: int = 64, seed: int = 0
) -> Figure:
    """FactorVAE score: how often the variable that varies least tells which factor was held fixed.

    For each vote one factor has one label in `batch` rows, and the variable with the least variance there,
    relative to that in all rows, is taken; each variable stands for the factor for which it is taken most
    often. Variables with a standard deviation below 0.05 are left out.

    Parameters
    ----------
    codes : array, shape (n, latent)
    factors : array, shape (n, factors)
        As for `mutual_information_gap`.
    votes : int
        To find the majorities, and again as many to count.
    batch : int
    seed : int
        Of the votes.

    Returns
    -------
    Figure
        From about 1/factors, a guess, to 1; 0 where no variable is left.

    Raises
    ------
    DataError
        If the arrays do not fit together, or no factor varies.

    References
    ----------
    Kim & Mnih 2018, arXiv:1802.05983, sec. 2.
    """
    z, labels = _checked(codes, factors)
    z = z[:, z.std(0) > INACTIVE]
    if not z.shape[1]:
        return Figure(0.0, 0.0)
    z = z / z.std(0)
    rng = np.random.default_rng(seed)
    taken = np.zeros((2, z.shape[1], labels.shape[1]))
    groups = [
        [np.flatnonzero(label == value) for value in range(label.max() + 1)] for label in labels.T
    ]
    for count in taken:
        for factor in rng.integers(labels.shape[1], size=votes):
            alike = groups[factor][labels[rng.integers(len(z)), factor]]
            count[z[rng.choice(alike, batch)].var(0).argmin(), factor] += 1
    right = taken[1][np.arange(z.shape[1]), taken[0].argmax(1)].sum() / votes
    return Figure(float(right), float(np.sqrt(right * (1 - right) / votes)))


def active_units(codes: ArrayLike, *, least: float = 0.01) -> int:
    """How many variables vary with the row: those whose codes have a variance above `least`.

    Raises
    ------
    DataError
        If the codes are not of shape (n, latent), with n > 0, or not finite.

    References
    ----------
    Burda, Grosse & Salakhutdinov 2016, arXiv:1509.00519, sec. 5.2.
    """
    return int((_codes(codes).var(0) > least).sum())


def _codes(codes: ArrayLike) -> np.ndarray:
    z = np.asarray(codes, dtype=float)
    if z.ndim != 2 or not z.size or not np.isfinite(z).all():
        raise DataError(f"codes of shape {z.shape}: give (n, latent), finite and not empty")
    return z


def _checked(codes: ArrayLike, factors: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Codes, and the factors that vary as labels 0, 1, …"""
    z, labels = _codes(codes), np.asarray(factors)
    if labels.ndim != 2 or len(labels) != len(z):
        raise DataError(f"factors of shape {labels.shape} for {len(z)} codes: give (n, factors)")
    found = [np.unique(label, return_inverse=True)[1] for label in labels.T]
    if not (varying := [label for label in found if label.any()]):
        raise DataError("factors: none varies over the rows; give some that do")
    return z, np.stack(varying, 1)


def _halves(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    order = np.random.default_rng(seed).permutation(n)
    return order[: n // 2], order[n // 2 :]


def _entropy(p: np.ndarray) -> float:
    p = p[p > 0]
    return float(-(p * np.log(p)).sum())


def _spread(importance: np.ndarray) -> np.ndarray:
    """Entropy of each row's shares over its largest possible value."""
    total = importance.sum(1, keepdims=True)
    shares = importance / np.where(total > 0, total, 1)
    return np.array([_entropy(p) for p in shares]) / np.log(max(2, importance.shape[1]))
