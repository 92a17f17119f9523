"""Distances between two samples, with bootstrap errors: for models with and without a density.

Energy distance, MMD and kernel distance are one statistic with different kernels k,

    E k(X, X′) + E k(Y, Y′) − 2 E k(X, Y),

which is zero for equal distributions.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

from likely.core.errors import DataError
from likely.core.likelihood import Figure
from likely.evaluation.resampling import bootstrap, distances, two_samples


def energy_distance(
    x: ArrayLike,
    y: ArrayLike,
    *,
    weight_x: ArrayLike | None = None,
    weight_y: ArrayLike | None = None,
    paired: bool = False,
    replicates: int = 100,
    seed: int = 0,
) -> Figure:
    """Energy distance 2 E‖X − Y‖ − E‖X − X′‖ − E‖Y − Y′‖, zero only for equal distributions.

    Estimated without bias by a U-statistic: a row never meets itself, so the value may fall below
    zero when the distributions agree. Needs memory for three matrices of all pairs.

    Parameters
    ----------
    x : array, shape (n, d)
    y : array, shape (m, d)
    weight_x : array, shape (n,), optional
    weight_y : array, shape (m,), optional
        Non-negative.
    paired : bool
        Row i of y was drawn given something of row i of x, such as its context: the two rows never
        meet, and the bootstrap draws them together.
    replicates : int
        Of the bootstrap.
    seed : int
        Of the bootstrap.

    Returns
    -------
    Figure
        In the units of x.

    Raises
    ------
    DataError
        If the arrays do not fit together, or a sample is empty or without weight.

    References
    ----------
    Székely & Rizzo 2013, J. Statistical Planning and Inference 143, 1249.
    """
    x, y, w, v = two_samples(x, y, paired, weight_x, weight_y)
    kernels = [-distances(a, b) for a, b in ((x, x), (y, y), (x, y))]
    return _discrepancy(kernels, w, v, paired, replicates, seed)


def mmd(
    x: ArrayLike,
    y: ArrayLike,
    *,
    paired: bool = False,
    replicates: int = 100,
    permutations: int = 200,
    seed: int = 0,
) -> tuple[Figure, float]:
    """Squared maximum mean discrepancy, and the p-value of the hypothesis of equal distributions.

    The kernel is the mean of three Gaussians exp(−‖x − y‖²/2σ²), with σ half, once and twice the
    median distance of two different rows of both samples.

    For the p-value rows are exchanged at random between the samples, of paired ones row i of x with
    row i of y; it is (1 + number of exchanges that reach the statistic)/(1 + permutations). Under
    the hypothesis P(p ≤ α) ≤ α then holds for every α, with any number of rows, as long as they are
    independent. There are no weights, because rows with weights cannot be exchanged: `thinned`
    gives rows without.

    Parameters
    ----------
    x, y, paired, replicates
        As in `energy_distance`.
    permutations : int
    seed : int
        Of the bootstrap and the permutations.

    Returns
    -------
    Figure
        Estimated without bias, as in `energy_distance`; it has no unit.
    float
        The p-value.

    Raises
    ------
    DataError
        As in `energy_distance`.

    References
    ----------
    Gretton, Borgwardt, Rasch, Schölkopf & Smola 2012, J. Machine Learning Research 13, 723, eq. 3.
    """
    x, y, w, v = two_samples(x, y, paired, None, None)
    n, m = len(x), len(y)
    if min(n, m) < 2:
        raise DataError(f"mmd: samples of {n} and {m} rows: give at least two of each")
    z = torch.cat([x, y])
    rng = np.random.default_rng(seed)
    k = _gaussians(distances(z, z), rng).fill_diagonal_(0)
    within_x, within_y, across = kernels = k[:n, :n], k[n:, n:], k[:n, n:]
    figure = _discrepancy(kernels, w, v, paired, replicates, seed)

    if paired:
        sign = torch.from_numpy(rng.choice([-1.0, 1.0], size=(permutations + 1, n)))
        sign[0] = 1
        values = ((sign @ (within_x + within_y - across - across.T)) * sign).sum(1) / n**2
    else:
        order = np.stack([np.arange(n + m), *(rng.permutation(n + m) for _ in range(permutations))])
        in_x = torch.from_numpy(order < n).to(k)
        met = in_x @ k
        of_x, of_both = (met * in_x).sum(1), met.sum(1)
        of_y = k.sum() - 2 * of_both + of_x
        values = of_x / (n * (n - 1)) + of_y / (m * (m - 1)) - 2 * (of_both - of_x) / (n * m)
    reached = (values[1:] >= values[0] - 1e-12).sum().item()  # equal ones, but for rounding, too
    return figure, (1 + reached) / (1 + permutations)


def kernel_distance(
    x: ArrayLike,
    y: ArrayLike,
    *,
    weight_x: ArrayLike | None = None,
    weight_y: ArrayLike | None = None,
    paired: bool = False,
    replicates: int = 100,
    seed: int = 0,
) -> Figure:
    """Kernel distance of features: the squared MMD with the kernel (x·y/d + 1)³.

    With the features of a `FeatureExtractor` it compares images; with those of an Inception network
    it is known as KID. The kernel sees the first three moments.

    Parameters
    ----------
    x, y, weight_x, weight_y, paired, replicates, seed
        As in `energy_distance`.

    Returns
    -------
    Figure
        Estimated without bias; it depends on the scale of the features.

    Raises
    ------
    DataError
        As in `energy_distance`.

    References
    ----------
    Bińkowski, Sutherland, Arbel & Gretton 2018, arXiv:1801.01401, sec. 4.
    """
    x, y, w, v = two_samples(x, y, paired, weight_x, weight_y)
    kernels = [(a @ b.T / a.shape[1] + 1) ** 3 for a, b in ((x, x), (y, y), (x, y))]
    return _discrepancy(kernels, w, v, paired, replicates, seed)


def _gaussians(distance: Float[Tensor, "n n"], rng: np.random.Generator) -> Float[Tensor, "n n"]:
    """Mean of Gaussians of the distance, half, once and twice as wide as its median.

    The median is that of a thousand rows of both samples; copies of a row, as discrete data have,
    say nothing about widths.
    """
    some = torch.from_numpy(rng.permutation(len(distance))[:1000])
    apart = distance[some][:, some]
    apart = apart[apart > 0]
    median = apart.median() if len(apart) else torch.tensor(1.0)
    wide = distance.div(2 * median).square_().div_(-2).exp_()
    medium = wide.square().square_()
    narrow = medium.square().square_()
    return narrow.add_(medium).add_(wide).div_(3)


def _discrepancy(
    kernels: Sequence[Tensor], w: Tensor, v: Tensor, paired: bool, replicates: int, seed: int
) -> Figure:
    """E k(X, X′) + E k(Y, Y′) − 2 E k(X, Y) of weighted rows, from the kernels of these pairs.

    A row never meets itself: the diagonals, which this sets to zero, count for nothing. In the
    bootstrap, copies of one row would meet and pull the terms within a sample aside by a part 1/n.
    As weights they are still one row, which doesn't meet itself.

    Where the distributions nearly agree, the statistic is nearly a quadratic form in the deviations
    of the weights, whose linear part is mere noise, of twice the quadratic part's variance in the
    bootstrap but absent in truth. The two parts are told apart by deviations of the opposite sign,
    and that noise is taken off.
    """
    within_x, within_y, across = kernels
    for kernel in kernels if paired else kernels[:2]:
        kernel.fill_diagonal_(0)

    def within(w: Float[Tensor, "k n"], kernel: Float[Tensor, "n n"]) -> Float[Tensor, " k"]:
        return ((w @ kernel) * w).sum(1) / (w.sum(1).square() - w.square().sum(1))

    def statistic(w: Float[Tensor, "k n"], v: Float[Tensor, "k m"]) -> Float[Tensor, " k"]:
        pairs = w.sum(1) * v.sum(1) - ((w * v).sum(1) if paired else 0)
        return within(w, within_x) + within(v, within_y) - 2 * ((w @ across) * v).sum(1) / pairs

    redrawn_w, redrawn_v = bootstrap(w, v, paired, replicates, seed)
    there = statistic(redrawn_w, redrawn_v)
    back = statistic(2 * w - redrawn_w, 2 * v - redrawn_v)
    linear, quadratic = ((there - back) / 2).var(), ((there + back) / 2).var()
    variance = (linear - 2 * quadratic).clamp_min(0) + quadratic
    return Figure(statistic(w[None], v[None]).item(), variance.sqrt().item())


def sliced_wasserstein(
    x: ArrayLike,
    y: ArrayLike,
    *,
    weight_x: ArrayLike | None = None,
    weight_y: ArrayLike | None = None,
    paired: bool = False,
    projections: int = 128,
    replicates: int = 100,
    seed: int = 0,
) -> Figure:
    """Sliced Wasserstein-1 distance: the mean over directions θ of W₁(θ·X, θ·Y).

    W₁ of each projection is exact for the weighted samples, ∫ |F − G|. Samples of one distribution
    have a distance above zero, of the order n^(−1/2): compare it with that of two real samples.

    Parameters
    ----------
    x, y, weight_x, weight_y, paired, replicates
        As in `energy_distance`.
    projections : int
        Number of random directions.
    seed : int
        Of the directions and the bootstrap.

    Returns
    -------
    Figure
        In the units of x. The error holds the choice of rows and of directions; where the
        distributions agree it is up to 1.5 times too large.

    Raises
    ------
    DataError
        As in `energy_distance`.

    References
    ----------
    Bonneel, Rabin, Peyré & Pfister 2015, J. Mathematical Imaging and Vision 51, 22.
    """
    x, y, w, v = two_samples(x, y, paired, weight_x, weight_y)
    rng = np.random.default_rng(seed)
    theta = torch.from_numpy(rng.standard_normal((x.shape[1], projections)))
    theta /= theta.norm(dim=0)
    z, order = (torch.cat([x, y]) @ theta).T.sort(dim=1)
    gaps = z.diff(dim=1)

    def along(w: Float[Tensor, " n"], v: Float[Tensor, " m"]) -> Float[Tensor, " projections"]:
        steps = torch.cat([w / w.sum(), -v / v.sum()])[order]  # of F − G, along each direction
        return (steps.cumsum(1)[:, :-1].abs() * gaps).sum(1)

    values = []
    for redrawn in zip(*bootstrap(w, v, paired, replicates, seed), strict=True):
        directions = torch.from_numpy(rng.integers(projections, size=projections))
        values.append(along(*redrawn)[directions].mean())
    return Figure(along(w, v).mean().item(), torch.stack(values).std().item())
