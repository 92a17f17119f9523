"""Precision, recall, density, coverage and memorisation, from distances to nearest neighbours."""

import math
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from numpy.typing import ArrayLike
from torch import Tensor

from likely.core.errors import DataError
from likely.core.likelihood import Figure
from likely.evaluation.classifier import area_p_value, mean_of_sides, sides
from likely.evaluation.resampling import distances, two_samples

HALVES = 20  # of the rows; the errors are then known to 16 %
PAIRS = 1 << 22  # whose distances are in memory at a time
COPIED = 0.05  # part of new rows that count as copies
FAST = "use_mm_for_euclid_dist"


class Neighbours(NamedTuple):
    """Where samples lie among real rows, each with its error.

    A real row's ball reaches to its k-th nearest real row, a sample's to its k-th nearest sample.

    Attributes
    ----------
    precision : Figure
        Part of the samples that lie in some real ball: how real they are.
    recall : Figure
        Part of the real rows that lie in some sample's ball: how much of the variety there is.
    sample_density : Figure
        Mean number of real balls around a sample, over k: robust against single outliers among the
        real rows; about 1 where the distributions agree, and it may be above 1.
    coverage : Figure
        Part of the real balls that hold a sample; 1 − 2^(−k) where the distributions agree and the
        samples are as many as the rows.
    """

    precision: Figure
    recall: Figure
    sample_density: Figure
    coverage: Figure


def neighbours(
    x: ArrayLike, y: ArrayLike, *, k: int = 5, paired: bool = False, seed: int = 0
) -> Neighbours:
    """Precision, recall, density and coverage of samples y of what the real rows x show.

    They depend on the numbers of rows and on the space: compare them with those of real rows in the
    place of samples. There are no weights: `thinned` gives rows without.

    The errors are the spread over random halves of the rows, with all neighbours found anew: a half
    deviates from the whole about as much as the whole from the distribution. Close to 0 and 1 they
    are too large.

    Parameters
    ----------
    x : array, shape (n, d)
        Real rows.
    y : array, shape (m, d)
        Samples.
    k : int
    paired : bool
        As in `energy_distance`: paired rows are in the same half.
    seed : int
        Of the halves.

    Returns
    -------
    Neighbours

    Raises
    ------
    DataError
        If the arrays do not fit together, or a sample has no k-th neighbour.

    References
    ----------
    Kynkäänniemi, Karras, Laine, Lehtinen & Aila 2019, arXiv:1904.06991, eqs. 1 and 2;
    Naeem, Oh, Uh, Choi & Yoo 2020, arXiv:2002.09797, eqs. 4 and 5.
    """
    x, y, _, _ = two_samples(x, y, paired, None, None)
    n, m, fewest = len(x), len(y), 2 * k + 2
    if k < 1 or min(n, m) < fewest:
        raise DataError(f"samples of {n} and {m} rows: {k} neighbours need {fewest} of each")
    across = distances(x, y)
    near_x, near_y = _nearest(x, k), _nearest(y, k)

    def figures(in_x: Int64[Tensor, " r"], in_y: Int64[Tensor, " s"]) -> Float[Tensor, " 4"]:
        distance = across[in_x][:, in_y]
        real = distance <= _radius(*near_x, in_x, k)[:, None]
        drawn = distance <= _radius(*near_y, in_y, k)
        parts = real.any(0), drawn.any(1), real.sum(0) / k, real.any(1)
        return torch.stack([part.double().mean() for part in parts])

    rng = np.random.default_rng(seed)

    def half(n: int) -> Int64[Tensor, " r"]:
        return torch.from_numpy(rng.permutation(n)[: (n + 1) // 2])

    halves = []
    for _ in range(HALVES):
        in_x = half(n)
        halves.append(figures(in_x, in_x if paired else half(m)))
    values = figures(torch.arange(n), torch.arange(m))
    return Neighbours(*map(Figure, values.tolist(), torch.stack(halves).std(0).tolist()))


class Memorisation(NamedTuple):
    """Whether samples lie closer to training rows than new rows do.

    Attributes
    ----------
    closer : Figure
        Probability that a sample is closer to its nearest training row than a held-out row is to its
        own: one half where the model draws new rows, 1 where it repeats those that it has seen.
    p_value : float
        Of the hypothesis that it is one half, against its being above.
    copied : Figure
        Part of the samples that lie nearer to a training row than 95 % of the held-out rows do: 0.05 where
        the model draws new rows. It sees few copies among many new rows.
    """

    closer: Figure
    p_value: float
    copied: Figure


def memorisation(x: ArrayLike, train: ArrayLike, held: ArrayLike) -> Memorisation:
    """Compare samples' distances to their nearest training rows with those of held-out rows.

    Rows that a model repeats pass every test of two samples, but not this one. It sees that distances
    are smaller, not why: samples that crowd where the data are dense, such as blurred images, are
    closer, too, and a model that also misses the data may hide its copies among distant samples.

    Parameters
    ----------
    x : array, shape (n, d)
        Samples.
    train : array, shape (k, d)
        Rows that the model was trained on, best all of them.
    held : array, shape (m, d)
        Other rows of the data.

    Raises
    ------
    DataError
        If the arrays do not fit together, or there are fewer than two samples or held-out rows.

    References
    ----------
    Meehan, Chaudhuri & Dasgupta 2020, arXiv:2004.05675, sec. 3; the p-value is that of Mann & Whitney.
    """
    to_train = []
    for rows in (held, x):
        a, b, _, _ = two_samples(rows, train, False, None, None)
        if len(a) < 2:
            raise DataError(
                f"memorisation: {len(a)} rows: give at least two samples and held-out rows"
            )
        a, b = a - b.mean(0), b - b.mean(0)
        parts = a.split(max(1, PAIRS // len(b)))
        # By products of matrices, which are fast but round; the distance of the nearest is then exact.
        nearest = torch.cat([torch.cdist(part, b, compute_mode=FAST).argmin(1) for part in parts])
        to_train.append((a - b[nearest]).norm(dim=1).numpy())
    of_held, of_samples = sides(-to_train[0], -to_train[1])
    area = float(of_samples.mean())
    # `of_samples` is the part of the held-out rows that lie farther away; of ties, one half.
    copied = float((of_samples > 1 - COPIED).mean())
    variance = copied * (1 - copied) / len(of_samples) + COPIED * (1 - COPIED) / len(of_held)
    return Memorisation(
        mean_of_sides(of_held, of_samples, area),
        area_p_value(area, len(of_held), len(of_samples)),
        Figure(copied, math.sqrt(variance)),
    )


def _nearest(x: Float[Tensor, "n d"], k: int) -> tuple[Tensor, Tensor]:
    """Distances of each row to its nearest other ones, in order, and which those are.

    So many that among them are k of any half.
    """
    distance = distances(x, x).fill_diagonal_(torch.inf)
    near = distance.topk(min(6 * k + 12, len(x) - 1), largest=False)
    return near.values, near.indices


def _radius(
    distance: Float[Tensor, "n near"], index: Tensor, kept: Int64[Tensor, " r"], k: int
) -> Float[Tensor, " r"]:
    """Distance of each of some rows to the k-th nearest of these."""
    is_kept = torch.zeros(len(distance), dtype=torch.bool)
    is_kept[kept] = True
    found = is_kept[index[kept]].cumsum(1)
    place = (found < k).sum(1, keepdim=True).clamp_max(found.shape[1] - 1)
    return distance[kept].gather(1, place)[:, 0] * (1 + 1e-9)  # neighbours as far are inside
