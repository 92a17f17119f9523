"""Probability integral transforms: numbers that are uniform where a model is right.

For a right model, F(x | context) is uniform on (0, 1) for each column, whatever the context is. A
histogram shaped like ∪ shows a distribution that is too narrow, one like ∩ too wide, a slope a bias.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor

from likely.contract.abilities import HasPIT
from likely.contract.inputs import accept_inside
from likely.contract.model import GenerativeModel
from likely.core.errors import DataError, DensityError
from likely.core.random import seeded


def ranks(
    model: GenerativeModel,
    x: Shaped[Tensor, "n *shape"],
    context: Tensor | None = None,
    *,
    draws: int = 99,
    given_previous: bool = False,
    seed: int = 0,
) -> Float[Tensor, "n size"]:
    """Where the entries of each row lie among draws of the model in the row's context.

    With r of L draws below an entry and t of them equal to it, this is (r + u)/(L + 1) with u
    uniform on (0, t + 1): where the model is right, exactly uniform on (0, 1), for discrete entries
    too. Works for every model, with or without a density. Rows with weights need `thinned` first.

    Parameters
    ----------
    model : GenerativeModel
    x : Tensor, shape (n, *domain.shape)
        Real rows.
    context : Tensor, optional
        As in `sample`.
    draws : int
        L, for each row.
    given_previous : bool
        Draw each entry given the entries before it, in row-major order, by the model's `complete`:
        this tests the conditionals of an autoregressive model one by one, at `size` times the cost.
    seed : int

    Returns
    -------
    Tensor, shape (n, domain.size)

    Raises
    ------
    DataError
        If x or the context have the wrong shape.
    LikelyError
        If the model cannot complete rows, but should.

    References
    ----------
    Talts, Betancourt, Simpson, Vehtari & Gelman 2018, arXiv:1804.06788, sec. 4; Czado, Gneiting &
    Held 2009, Biometrics 65, 1254, for discrete columns.
    """
    x = accept_inside(model, x, "the rows to be ranked")
    rows = x.flatten(1)
    below, equal = torch.zeros(rows.shape), torch.zeros(rows.shape)
    entry = torch.arange(model.domain.size, device=x.device).reshape(model.domain.shape)
    with seeded(seed, model.device):
        for _ in range(draws):
            if given_previous:
                parts = [
                    model.complete(x, entry < i, context=context).flatten(1)[:, i]
                    for i in range(model.domain.size)
                ]
                drawn = torch.stack(parts, 1)
            else:
                drawn = model.sample(len(x), context=context).flatten(1)
            below += (drawn < rows).cpu()
            equal += (drawn == rows).cpu()
        return placed(below, equal, draws)


def placed(below: Tensor, equal: Tensor, draws: int) -> Tensor:
    """(r + u)/(L + 1) from the numbers r of `draws` L below a value and t equal to it, as in `ranks`."""
    return (below + (equal + 1) * torch.rand(below.shape)) / (draws + 1)


def pit(
    model: HasPIT, x: Shaped[Tensor, "n *shape"], context: Tensor | None = None
) -> Float[Tensor, "n columns"]:
    """Exact probability integral transform of rows, by a model that has one, such as a flow.

    Where the model is right, all numbers are independent and uniform on (0, 1). For one column, or a
    flow whose entry i depends on entries up to i alone, they are F(x_i | x_1 … x_{i−1}).

    Parameters
    ----------
    model : GenerativeModel
    x : Tensor, shape (n, *domain.shape)
    context : Tensor, optional
        As in `log_prob`.

    Returns
    -------
    Tensor, shape (n, columns)
        One column for each real number that the model makes of a row: constant ones are left out.

    Raises
    ------
    DensityError
        If the model has no exact transform of this domain. `ranks` works for every model.
    DataError
        If x or the context have the wrong shape, or lie outside their domains.
    """
    if not isinstance(model, HasPIT):
        raise DensityError(f"{type(model).__name__} has no exact transform: use `ranks`")
    return model.pit(x, context)


class Histogram(NamedTuple):
    """Counts of numbers that should be uniform.

    Attributes
    ----------
    counts : Tensor of int, shape (columns, bins)
    low, high : int
        Of a uniform number's counts, a part `level` lies from `low` to `high`, each bin by itself.
    p_value : Tensor, shape (columns,)
        Of Pearson's χ² test of uniformity of each column.
    """

    counts: Int64[Tensor, "columns bins"]
    low: int
    high: int
    p_value: Float[Tensor, " columns"]


def rank_histogram(
    u: Float[Tensor, "n columns"], *, bins: int = 20, level: float = 0.95
) -> Histogram:
    """Histogram of what `ranks` or `pit` gave, with a binomial band and a test of uniformity.

    Parameters
    ----------
    u : Tensor, shape (n, columns)
        Between 0 and 1.
    bins : int
        Of equal width; χ² needs at least about five rows in each.
    level : float
        Of the band.

    Raises
    ------
    DataError
        If u has another shape, or numbers that are not between 0 and 1.
    """
    from scipy import stats

    u = torch.as_tensor(u)
    if u.ndim != 2 or not len(u) or not ((u >= 0) & (u <= 1)).all():
        raise DataError("give numbers between 0 and 1, of shape (n, columns), as `ranks` does")
    bin_of = (u * bins).long().clamp_max(bins - 1)
    counts = torch.zeros(u.shape[1], bins, dtype=torch.int64)
    counts.scatter_add_(1, bin_of.T, torch.ones_like(bin_of.T))
    low, high = (int(stats.binom.ppf((1 + side * level) / 2, len(u), 1 / bins)) for side in (-1, 1))
    p_value = stats.chisquare(counts.numpy(), axis=1).pvalue
    return Histogram(counts, low, high, torch.from_numpy(p_value))


class Band(NamedTuple):
    """Where empirical distribution functions of uniform numbers lie, at all points at once.

    Attributes
    ----------
    at : ndarray, shape (points,)
    low, high : ndarray, shape (points,)
        Parts of the numbers that are at most `at`.
    """

    at: np.ndarray
    low: np.ndarray
    high: np.ndarray


def rank_band(
    n: int, *, points: int = 50, level: float = 0.95, draws: int = 2000, seed: int = 0
) -> Band:
    """Simultaneous band for the empirical distribution function of n uniform numbers.

    A function of what `ranks`, `pit` or TARP gave that leaves it anywhere speaks against uniformity at
    1 − level; the band of `rank_histogram` holds for each bin alone. Its binomial intervals are widened
    until simulated functions lie inside all of them with probability `level`.

    Parameters
    ----------
    n : int
    points : int
        Where the functions are compared, evenly spread.
    level : float
    draws : int
        Simulated functions.
    seed : int

    References
    ----------
    Säilynoja, Bürkner & Vehtari 2022, Statistics and Computing 32, 32, sec. 2.2.

    Examples
    --------
    >>> import likely as lk
    >>> band = lk.evaluation.rank_band(100)
    >>> bool((band.low < band.at).all() and (band.at < band.high).all())
    True
    """
    from scipy import stats

    at = np.arange(1, points) / points
    cells = np.random.default_rng(seed).multinomial(n, np.full(points, 1 / points), draws)
    counts = cells.cumsum(1)[:, :-1]
    tail = np.minimum(stats.binom.cdf(counts, n, at), stats.binom.sf(counts - 1, n, at))
    least = np.quantile(2 * tail.min(1), 1 - level)
    low, high = stats.binom.ppf(least / 2, n, at), stats.binom.isf(least / 2, n, at)
    return Band(at, np.asarray(low) / n, np.asarray(high) / n)
