"""Distances of single columns and of pairs of columns of a table, each in units that one can read.

Columns are ordered (real, positive, interval, integer, count), on a circle (periodic) or without
an order (categorical, binary, spin).
"""

import math

import pandas as pd
import torch
from jaxtyping import Float, Int64
from numpy.typing import ArrayLike
from torch import Tensor

from likely.contract.views import weighted_moments
from likely.core.columns import Binary, Categorical, Column, Maybe, Periodic
from likely.core.domain import Domain
from likely.core.errors import DataError
from likely.evaluation.resampling import Statistic, each, jackknife, two_samples

CELLS = 5  # of an ordered column or a circle, equally full, in the tables of pairs
CATEGORIES = 32  # in the tables of pairs; rarer ones share the last


def marginal_distances(
    x: ArrayLike,
    y: ArrayLike,
    domain: Domain,
    *,
    weight_x: ArrayLike | None = None,
    weight_y: ArrayLike | None = None,
    paired: bool = False,
    seed: int = 0,
) -> pd.DataFrame:
    """Distances between the distributions of each column.

    - "Wasserstein-1", of a column that is ordered or a circle: ∫ |F − G| in units of the standard
      deviation of x. On a circle it is the least over the places to start from, and for the
      deviation the circle is cut opposite to the mean direction.
    - "Kolmogorov–Smirnov", of an ordered column: max |F − G|; "Kuiper", of a circle:
      max(F − G) + max(G − F), which does not depend on the place to start from.
    - "total variation", of a column without an order: ½ Σ |p − q|.
    - "missing", of a column with missing entries: how far apart their shares are. The other distances are
      those of the entries which are present.

    All lie above zero for samples of one distribution, too, of the order n^(−1/2). Constant columns
    are left out.

    Parameters
    ----------
    x : array, shape (n, *domain.shape)
        Real rows.
    y : array, shape (m, *domain.shape)
        Samples, in the domain.
    domain : Domain
    weight_x, weight_y, paired
        As in `energy_distance`.
    seed : int
        Of the jackknife.

    Returns
    -------
    DataFrame
        With columns "column", "measure", "value", "stderr" (by the jackknife).

    Raises
    ------
    DataError
        If the arrays do not fit together or to the domain, or a sample is empty or without weight.
    """
    x, y, w, v = two_samples(*_rows(domain, x, y), paired, weight_x, weight_y, True)
    records = []
    for i in domain.moving:
        column = domain.column(i)
        distances = _of_maybe if isinstance(column, Maybe) else _of_column
        measures, statistic = distances(column, x[:, i], y[:, i], w)  # type: ignore[arg-type]
        found = jackknife(statistic, w, v, paired, seed)
        for measure, value, stderr in zip(measures, *found, strict=True):
            records.append((domain.label(i), measure, value.item(), stderr.item()))
    return pd.DataFrame(records, columns=["column", "measure", "value", "stderr"])


def _of_maybe(
    column: Maybe, x: Float[Tensor, " n"], y: Float[Tensor, " m"], w: Float[Tensor, " n"]
) -> tuple[list[str], Statistic]:
    """As `_of_column`, of what is present, and the difference of the shares that are missing."""
    here_x, here_y = ((~z.isnan()).to(w) for z in (x, y))
    x, y = (z.nan_to_num(column.anchor) for z in (x, y))
    measures, of_present = _of_column(column.of, x, y, w * here_x)

    def statistic(w: Float[Tensor, "k n"], v: Float[Tensor, "k m"]) -> Float[Tensor, "k measures"]:
        shares = [u @ here / u.sum(1) for u, here in ((w, here_x), (v, here_y))]
        missing = (shares[0] - shares[1]).abs()[:, None]
        return torch.cat([missing, of_present(w * here_x, v * here_y)], 1)

    return ["missing", *measures], statistic


def _of_column(
    column: Column, x: Float[Tensor, " n"], y: Float[Tensor, " m"], w: Float[Tensor, " n"]
) -> tuple[list[str], Statistic]:
    """What the distances of one column are, and how they follow from the rows' weights."""
    z, order = torch.cat([x, y]).sort()
    gaps = z.diff()
    last = torch.cat([gaps > 0, torch.tensor([True])])  # of the rows with equal values

    def behind_rows(w: Float[Tensor, "k n"], v: Float[Tensor, "k m"]) -> Float[Tensor, "k rows"]:
        """F − G behind each row."""
        steps = torch.cat([w / w.sum(1, keepdim=True), -v / v.sum(1, keepdim=True)], 1)
        return steps[:, order].cumsum(1)

    def nominal(w: Float[Tensor, "k n"], v: Float[Tensor, "k m"]) -> Float[Tensor, "k 1"]:
        ends = behind_rows(w, v)[:, last]
        return ends.diff(dim=1, prepend=torch.zeros_like(ends[:, :1])).abs().sum(1)[:, None] / 2

    def ordered(w: Float[Tensor, "k n"], v: Float[Tensor, "k m"]) -> Float[Tensor, "k 2"]:
        behind = behind_rows(w, v)
        wasserstein = behind[:, :-1].abs() @ gaps / deviation
        return torch.stack([wasserstein, behind[:, last].abs().amax(1)], 1)

    def circular(w: Float[Tensor, "k n"], v: Float[Tensor, "k m"]) -> Float[Tensor, "k 2"]:
        behind = behind_rows(w, v)
        ranked, rank = behind.sort(dim=1)
        length = closed[rank].cumsum(1)
        middle = (length < length[:, -1:] / 2).sum(1, keepdim=True)
        # The best place to start from takes the median of F − G along the circle off.
        wasserstein = (behind - ranked.gather(1, middle)).abs() @ closed / deviation
        ends = behind[:, last]
        return torch.stack([wasserstein, ends.amax(1) - ends.amin(1)], 1)

    if is_nominal(column):
        return ["total variation"], nominal
    if isinstance(column, Periodic):
        period = column.high - column.low
        closed = torch.cat([gaps, z[:1] + period - z[-1:]])
        angle = x * (2 * math.pi / period)
        mean = torch.atan2(w @ angle.sin(), w @ angle.cos()) * (period / (2 * math.pi))
        deviation = weighted_moments((x[:, None] - mean + period / 2) % period, w)[1]
        return ["Wasserstein-1", "Kuiper"], circular
    deviation = weighted_moments(x[:, None], w)[1]
    return ["Wasserstein-1", "Kolmogorov–Smirnov"], ordered


def pair_distances(
    x: ArrayLike,
    y: ArrayLike,
    domain: Domain,
    *,
    weight_x: ArrayLike | None = None,
    weight_y: ArrayLike | None = None,
    paired: bool = False,
    seed: int = 0,
) -> pd.DataFrame:
    """Distances between the joint distributions of each pair of columns.

    - "total variation": ½ Σ |p − q| over the cells of the table of both columns. Ordered columns
      and circles are cut into 5 cells that hold equally many rows of x; of more than 32 categories
      the rarest share one. Missing entries have a cell of their own.
    - "correlation", of two ordered columns without missing entries: how much Spearman's rank correlation
      of y lies above that of x. It is about zero for samples of one distribution, the total variation above.

    Parameters
    ----------
    x, y, domain, weight_x, weight_y, paired, seed
        As in `marginal_distances`.

    Returns
    -------
    DataFrame
        With columns "first", "second", "measure", "value", "stderr" (by the jackknife).

    Raises
    ------
    DataError
        As in `marginal_distances`.
    """
    x, y, w, v = two_samples(*_rows(domain, x, y), paired, weight_x, weight_y, True)
    columns = [(i, domain.column(i)) for i in domain.moving]
    if len(columns) < 2:
        return pd.DataFrame(columns=["first", "second", "measure", "value", "stderr"])
    cells = [_cells(column, x[:, i], y[:, i], w) for i, column in columns]
    sizes = torch.tensor([int(torch.cat(pair).max()) + 1 for pair in cells])
    first = sizes.cumsum(0) - sizes
    owner = torch.arange(len(sizes)).repeat_interleave(sizes)
    of_column = torch.nn.functional.one_hot(owner, len(sizes)).to(x).T

    def members(codes: list[Tensor]) -> Tensor:
        """Which cells each row is in, one for each column: shape (n, cells)."""
        rows = torch.stack(codes, 1) + first
        return x.new_zeros(len(rows), len(owner)).scatter_(1, rows, 1.0)

    in_x, in_y = members([a for a, _ in cells]), members([b for _, b in cells])
    ordered = [
        p
        for p, (_, c) in enumerate(columns)
        if not (is_nominal(c) or isinstance(c, Periodic | Maybe))
    ]
    line_x, line_y = (_Ranks(z[:, [columns[p][0] for p in ordered]]) for z in (x, y))
    pairs = torch.triu_indices(len(columns), len(columns), 1)
    ordered_pairs = torch.triu_indices(len(ordered), len(ordered), 1)

    def distances(w: Tensor, v: Tensor) -> Tensor:
        """Of one weight per row: total variations, then differences of correlations."""
        p, q = ((in_z.T * u) @ in_z / u.sum() for in_z, u in ((in_x, w), (in_y, v)))
        variation = of_column @ (p - q).abs() @ of_column.T / 2
        difference = line_y.correlation(v) - line_x.correlation(w)
        return torch.cat([variation[*pairs], difference[*ordered_pairs]])

    values, errors = jackknife(each(distances), w, v, paired, seed)
    names = [domain.label(i) for i, _ in columns]
    measures = [(names[a], names[b], "total variation") for a, b in pairs.T.tolist()]
    of_line = [names[p] for p in ordered]
    measures += [(of_line[a], of_line[b], "correlation") for a, b in ordered_pairs.T.tolist()]
    frame = pd.DataFrame(measures, columns=["first", "second", "measure"])
    return frame.assign(value=values.numpy(), stderr=errors.numpy())


class _Ranks:
    """Rank correlations of columns as a function of the rows' weights."""

    def __init__(self, x: Float[Tensor, "n d"]) -> None:
        self.level = torch.empty(x.shape, dtype=torch.int64)
        for p, column in enumerate(x.T):
            self.level[:, p] = column.unique(return_inverse=True)[1]

    def correlation(self, w: Float[Tensor, " n"]) -> Float[Tensor, "d d"]:
        """Weighted Pearson correlations of the weighted ranks; rows that are equal share a rank."""
        w = w / w.sum()
        mass = w.new_zeros(len(w), self.level.shape[1])
        mass.scatter_add_(0, self.level, w[:, None].expand_as(mass))
        rank = (mass.cumsum(0) - mass / 2).gather(0, self.level) - 0.5
        covariance = (rank.T * w) @ rank
        scale = covariance.diagonal().sqrt()
        return covariance / (scale[:, None] * scale).clamp_min(1e-30)


def _cells(
    column: Column, x: Tensor, y: Tensor, w: Tensor
) -> tuple[Int64[Tensor, " n"], Int64[Tensor, " m"]]:
    """Number of the cell of each row in the tables of pairs."""
    if isinstance(column, Maybe):
        missing = x.isnan(), y.isnan()
        x, y = (z.nan_to_num(column.anchor) for z in (x, y))
        cells = _cells(column.of, x, y, w * ~missing[0])
        own = int(torch.cat(cells).max()) + 1
        return cells[0].masked_fill(missing[0], own), cells[1].masked_fill(missing[1], own)
    z = torch.cat([x, y])
    level, mass = z.unique(return_inverse=True)[1], x.new_zeros(len(z))
    mass.index_add_(0, level[: len(x)], w / w.sum())  # the weight of each value among real rows
    if is_nominal(column):
        cell = mass.argsort(descending=True).argsort().clamp_max(CATEGORIES - 1)
    else:  # by the middle of the ranks of the value, so that equal values share a cell
        cell = ((mass.cumsum(0) - mass / 2) * CELLS).long().clamp_max(CELLS - 1)
    return cell[level[: len(x)]], cell[level[len(x) :]]


def is_nominal(column: Column) -> bool:
    """Whether a column's values have no order, or are only two."""
    return isinstance(column, Categorical | Binary)


def _rows(domain: Domain, x: ArrayLike, y: ArrayLike) -> tuple[Tensor, Tensor]:
    """Both samples with the entries of the domain as columns."""
    a, b = torch.as_tensor(x), torch.as_tensor(y)
    for shape in (tuple(a.shape[1:]), tuple(b.shape[1:])):
        if shape != domain.shape:
            raise DataError(f"rows of shape {shape} where the domain has {domain.shape}")
    return a.flatten(1), b.flatten(1)
