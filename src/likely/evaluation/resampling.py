"""What measures between two samples share: checks, and errors from drawing or leaving out rows.

A measure is a function of one weight per row. The bootstrap and the jackknife change only those
weights: a row that is drawn c times gets c times its weight, one that is left out gets none.
"""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int64
from numpy.typing import ArrayLike
from torch import Tensor

from likely.core.errors import DataError

Statistic = Callable[[Float[Tensor, "k n"], Float[Tensor, "k m"]], Float[Tensor, "k ..."]]

GROUPS = 20  # of rows that the jackknife leaves out; its errors are known to 16 %


def bootstrap(
    w: Float[Tensor, " n"], v: Float[Tensor, " m"], paired: bool, replicates: int, seed: int
) -> tuple[Float[Tensor, "replicates n"], Float[Tensor, "replicates m"]]:
    """Weights of the rows, each times how often the row was drawn, with replacement."""
    rng = np.random.default_rng(seed)

    def counts(n: int) -> Tensor:
        return torch.from_numpy(rng.multinomial(n, np.full(n, 1 / n), size=replicates)).double()

    of_x = counts(len(w))
    return of_x * w, (of_x if paired else counts(len(v))) * v


def jackknife(
    statistic: Statistic, w: Tensor, v: Tensor, paired: bool, seed: int
) -> tuple[Tensor, Tensor]:
    """Statistics of weights (n,) and (m,), and their standard errors by the grouped jackknife.

    The rows of either sample are divided at random into G groups; with θ_g the statistic without the
    g-th group of both, the variance is (G − 1)/G Σ_g (θ_g − θ̄)²
    (Shao & Tu 1995, The Jackknife and Bootstrap, sec. 2.3).
    """
    rng = np.random.default_rng(seed)
    groups = min(GROUPS, len(w), len(v))

    def kept(n: int) -> Tensor:
        group = torch.from_numpy(rng.permutation(n) % groups)
        return (group != torch.arange(groups)[:, None]).to(w)

    of_x = kept(len(w))
    parts = statistic(of_x * w, (of_x if paired else kept(len(v))) * v)
    variance = (groups - 1) * (parts - parts.mean(0)).square().mean(0)
    return statistic(w[None], v[None])[0], variance.sqrt()


def each(figures: Callable[[Tensor, Tensor], Tensor]) -> Statistic:
    """A statistic that is computed for one set of weights at a time."""
    return lambda w, v: torch.stack([figures(*rows) for rows in zip(w, v, strict=True)])


def thinned(weight: ArrayLike, seed: int = 0) -> Int64[Tensor, " kept"]:
    """Indices of rows, kept with probability weight/largest weight: a sample without weights.

    Tests that exchange rows, and neighbours that are counted, need such rows. They are independent
    draws of the distribution that the weighted rows stand for, since none of them comes twice.

    Parameters
    ----------
    weight : array, shape (n,)
        Non-negative.
    seed : int
    """
    w = np.asarray(weight, dtype=np.float64)
    uniform = np.random.default_rng(seed).random(len(w))
    return torch.from_numpy(np.flatnonzero(uniform * w.max(initial=0.0) < w))


def two_samples(
    x: ArrayLike,
    y: ArrayLike,
    paired: bool,
    weight_x: ArrayLike | None,
    weight_y: ArrayLike | None,
    holes: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Two samples of vectors and the weights of their rows, in float64 on the CPU.

    `holes` says whether numbers may be missing.

    Raises
    ------
    DataError
        If they do not fit together, one is empty or without weight, or a number is missing or infinite.
    """
    a, b = (torch.as_tensor(part).detach().to("cpu", torch.float64) for part in (x, y))
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or not (len(a) and len(b)):
        shapes = f"{tuple(a.shape)} and {tuple(b.shape)}"
        raise DataError(f"two samples of shapes {shapes}: give (n, d) and (m, d), neither empty")
    if not all((z.isfinite() | (z.isnan() & holes)).all() for z in (a, b)):
        raise DataError("two samples: a number is missing or infinite; leave such rows out")
    if paired and len(a) != len(b):
        raise DataError(f"paired samples of {len(a)} and {len(b)} rows: give equally many")
    return a, b, weight_of(a, weight_x), weight_of(b, weight_y)


def weight_of(x: Tensor, weight: ArrayLike | None) -> Float[Tensor, " n"]:
    """One weight in float64 for each row, 1 where none are given.

    Raises
    ------
    DataError
        If a weight is missing or negative, or all are zero.
    """
    if weight is None:
        return torch.ones(len(x), dtype=torch.float64)
    w = torch.as_tensor(weight).detach().to("cpu", torch.float64)
    if w.shape != (len(x),) or not (w >= 0).all():
        raise DataError(f"weights of shape {tuple(w.shape)}: give {len(x)} non-negative numbers")
    if not w.any():
        raise DataError("two samples: every row of one of them has weight 0, it is empty")
    return w


def distances(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    """Distances of all pairs: from differences, so that neither offsets nor far rows round them."""
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")
