"""Out-of-distribution detection: does a score tell rows of other data from held-out ones?

All scores here are higher for rows that are more unusual. Likelihoods need not be lower outside: images of
fewer details are often likelier than those that a model was trained on (Nalisnick et al. 2019,
arXiv:1810.09136), and the figures below show it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from rich.table import Table
from torch import Tensor

from likely.contract.model import GenerativeModel
from likely.core.columns import Categorical, Discrete
from likely.core.domain import Domain
from likely.core.errors import DataError, DomainError
from likely.core.likelihood import Figure, plain
from likely.data import Data, Split
from likely.evaluation.classes import predicts_only, seen_by
from likely.evaluation.classifier import mean_of_sides, sides
from likely.evaluation.likelihood import subset
from likely.evaluation.resampling import bootstrap
from likely.evaluation.result import as_text
from likely.evaluation.unusual import ood_scores
from likely.nets.convolutional import image_shape

REPLICATES = 200
PASSING = 0.95  # part of the rows inside that are let pass
BLUR = 3  # pixels along the edge of a box
ROWS = 2000  # of each set


class Detection(NamedTuple):
    """How well a score tells rows outside from rows inside.

    Attributes
    ----------
    auroc : Figure
        Probability that a row outside is more unusual than one inside, ties counting half: 0.5 for a
        guess. Below that the score has it the wrong way round.
    aupr : Figure
        Mean precision over the rows outside as they are found, where both sets weigh the same: 0.5 for
        a guess.
    fpr95 : Figure
        Part of the rows outside that pass where 95 % of the rows inside do: 0.95 for a guess.
    """

    auroc: Figure
    aupr: Figure
    fpr95: Figure


def auroc(inside: ArrayLike, outside: ArrayLike) -> Figure:
    """Area under the ROC curve of a score that should be higher outside, with DeLong's error.

    Parameters
    ----------
    inside : array, shape (n,)
        Scores of rows like those that a model was fitted to. Infinite ones are allowed.
    outside : array, shape (m,)

    Raises
    ------
    DataError
        If a sample has fewer than two scores, or one is missing.

    References
    ----------
    DeLong, DeLong & Clarke-Pearson 1988, Biometrics 44, 837.
    """
    of_inside, of_outside = sides(*_checked(inside, outside))
    return mean_of_sides(of_inside, of_outside, float(of_inside.mean()))


def detection(inside: ArrayLike, outside: ArrayLike, *, seed: int = 0) -> Detection:
    """`auroc`, and two more figures whose errors are those of a bootstrap of the rows.

    Parameters and errors are those of `auroc`; `seed` is that of the bootstrap.

    Examples
    --------
    >>> import numpy as np
    >>> from likely.evaluation import detection
    >>> rng = np.random.default_rng(0)
    >>> found = detection(rng.normal(size=2000), rng.normal(size=2000) + 1)
    >>> print(found.auroc)  # Φ(1/√2) = 0.760
    0.7637 ± 0.0074
    """
    a, b = _checked(inside, outside)
    levels, place = np.unique(np.concatenate([a, b]), return_inverse=True)

    def counts(w: Tensor, at: np.ndarray) -> Tensor:
        """Rows at each level, from the highest down, shape (k, levels)."""
        index = torch.from_numpy(len(levels) - 1 - at).expand_as(w)
        return w.new_zeros(len(w), len(levels)).scatter_add(1, index, w)

    def figures(w: Tensor, v: Tensor) -> Tensor:
        found = counts(v, place[len(a) :])
        false, right = counts(w, place[: len(a)]).cumsum(1) / len(a), found.cumsum(1) / len(b)
        precision = right / (false + right).clamp_min(1e-300)
        # Inside, a part `PASSING` at least must not be above the threshold.
        stopped = (false <= 1 - PASSING + 1e-12).sum(1, keepdim=True)
        caught = torch.cat([torch.zeros_like(right[:, :1]), right], 1).gather(1, stopped)
        return torch.stack([(found * precision).sum(1) / len(b), 1 - caught[:, 0]], 1)

    w, v = (torch.ones(1, len(part), dtype=torch.float64) for part in (a, b))
    values = figures(w, v)[0].tolist()
    errors = figures(*bootstrap(w[0], v[0], False, REPLICATES, seed)).std(0).tolist()
    return Detection(auroc(a, b), *map(Figure, values, errors))


def typicality_test(
    inside: ArrayLike, rows: ArrayLike, *, draws: int = 999, seed: int = 0
) -> float:
    """p-value of a batch of rows having the mean log-likelihood of held-out rows, on either side.

    A permutation test: whatever the distributions are, p-values of a batch from inside are uniform, but
    for steps of 1/(draws + 1). A batch may be a single row.

    Parameters
    ----------
    inside : array, shape (n,)
        Log-likelihoods of held-out rows: their mean is −H, the entropy's estimate.
    rows : array, shape (m,)
        Of the batch.
    draws : int
    seed : int

    Raises
    ------
    DataError
        If inside are fewer than two rows, the batch is empty, or a number is missing.

    References
    ----------
    Nalisnick, Matsukawa, Teh & Lakshminarayanan 2019, arXiv:1906.02994, with a bootstrap instead.
    """
    a, b = _checked(inside, rows, least=1)
    if not np.isfinite(b).all():
        return 1 / (draws + 1)
    both = np.concatenate([b, a[np.isfinite(a)]])
    rng = np.random.default_rng(seed)

    def distance(batch: np.ndarray) -> float:
        of_batch = batch.sum()
        rest = (both.sum() - of_batch) / (len(both) - len(b))
        return abs(of_batch / len(b) - rest)

    drawn = [distance(rng.choice(both, len(b), replace=False)) for _ in range(draws)]
    return (1 + int((np.array(drawn) >= distance(b) * (1 - 1e-12)).sum())) / (draws + 1)


# Sets of rows outside.


def outside_images(x: Tensor, domain: Domain, *, seed: int = 0) -> dict[str, Tensor]:
    """Images that are like none of the data, from images of the data.

    - ``noise``: every pixel uniform between the ends of the domain, or of x where it has none.
    - ``constant``: all pixels of an image at one such level.
    - ``shuffled``: the pixels of each image in another order.
    - ``inverted``: dark where x is bright.
    - ``blurred``: means over boxes of 3 × 3 pixels.

    Unordered categories are neither inverted nor blurred.

    Parameters
    ----------
    x : Tensor, shape (n, *domain.shape)
    domain : Domain
        Of images with pixels of one kind.
    seed : int

    Returns
    -------
    dict of str to Tensor, shape (n, *domain.shape)

    Raises
    ------
    DomainError
        If the domain is not one of such images.
    """
    shape, column = image_shape(domain), domain.column(0)
    if shape is None or len(domain.columns) > 1:
        raise DomainError(
            f"outside rows are made of images with pixels of one kind, not of {domain}"
        )
    low, high = column.ends if column.bounded else (x.min().item(), x.max().item())
    generator = torch.Generator().manual_seed(seed)

    def uniform(*size: int) -> Tensor:
        u = torch.rand(size, generator=generator, dtype=torch.float64)
        return low + (high - low) * u if not column.discrete else levels(u)

    def levels(u: Tensor) -> Tensor:
        """Whole numbers of equal probability."""
        count = round((high - low) / column.step) + 1
        return low + column.step * (u * count).floor()

    flat = x.cpu().double().flatten(1)
    order = torch.rand(flat.shape, generator=generator).argsort(1)
    sets = {
        "noise": uniform(*flat.shape),
        "constant": uniform(len(flat), 1).expand_as(flat),
        "shuffled": flat.gather(1, order),
    }
    if not isinstance(column, Categorical):
        sets["inverted"] = low + high - flat
        boxes = torch.nn.functional.avg_pool2d(
            flat.reshape(-1, *shape), BLUR, stride=1, padding=BLUR // 2, count_include_pad=False
        )
        if isinstance(column, Discrete):
            boxes = column.low + column.step * column.code(boxes).round()
        sets["blurred"] = boxes
    return {name: rows.reshape(x.shape).to(x) for name, rows in sets.items()}


@dataclass(frozen=True, eq=False)
class Outside:
    """Scores of rows inside and outside, and how well they tell these apart.

    Attributes
    ----------
    inside : dict of str to Tensor, shape (n,)
        By score, of held-out rows.
    outside : dict of str to dict of str to Tensor, shape (m,)
        By set and score.
    """

    inside: Mapping[str, Tensor]
    outside: Mapping[str, Mapping[str, Tensor]]
    seed: int = 0

    @cached_property
    def found(self) -> dict[str, dict[str, Detection]]:
        """By score and set."""
        return {
            score: {
                name: detection(inside, rows[score], seed=self.seed)
                for name, rows in self.outside.items()
            }
            for score, inside in self.inside.items()
        }

    @property
    def notes(self) -> list[str]:
        """What a reader must know, in words: above all where a score has it the wrong way round."""
        notes = []
        for score, sets in self.found.items():
            wrong = [
                f"{name} ({found.auroc})"
                for name, found in sets.items()
                if found.auroc.value + 2 * (found.auroc.stderr or 0) < 0.5
            ]
            if wrong:
                notes.append(
                    f"by {score}, rows of {', '.join(wrong)} look more usual than held-out rows: where the "
                    "AUROC is below one half, this score does not tell what is outside"
                )
        for name, rows in self.outside.items():
            part = np.mean([np.isposinf(value.numpy()).mean() for value in rows.values()])
            if part:
                notes.append(
                    f"{part:.1%} of {name} lie outside the domain: these are told for certain"
                )
        return notes

    def to_json(self) -> dict[str, Any]:
        """All figures and notes, without the scores of rows."""
        found = {
            score: {name: plain(of._asdict()) for name, of in sets.items()}
            for score, sets in self.found.items()
        }
        return {"outside": found, "notes": self.notes}

    def summary(self) -> Table:
        """A table for `rich` to print; `str()` gives it as text, with the notes."""
        table = Table("rows outside", "score", "AUROC", "AUPR", "FPR95")
        for name in self.outside:
            for score, sets in self.found.items():
                table.add_row(name, score, *map(str, sets[name]))
        return table

    def __str__(self) -> str:
        return as_text(self.summary(), *self.notes)


def detect_outside(
    model: GenerativeModel,
    data: Data,
    outside: Mapping[str, Tensor] | None = None,
    *,
    rows: int = ROWS,
    seed: int = 0,
) -> Outside:
    """Ask every score of a model whether it tells other rows from the test split.

    Parameters
    ----------
    model : GenerativeModel
        In evaluation mode, as `fit` and `load` leave it.
    data : Data
        What it was fitted to. Validation rows give the entropy for typicality.
    outside : dict of str to Tensor, shape (m, *shape), optional
        Other rows, by name. With images, those of `outside_images` are added.
    rows : int
        At most so many of each set.
    seed : int

    Returns
    -------
    Outside

    Raises
    ------
    DensityError
        If the model has no score.
    DataError
        If there are no rows outside, or these have another shape.

    Examples
    --------
    >>> import likely as lk
    >>> data = lk.load_data("digits")
    >>> model = lk.make("independent", data.domain)
    >>> history = lk.fit(model, data, steps=5)
    >>> found = lk.evaluation.detect_outside(model, data, rows=100).found
    >>> found["likelihood"]["noise"].auroc.value  # the largest one
    1.0
    >>> sorted(found["likelihood"])
    ['blurred', 'constant', 'inverted', 'noise', 'shuffled']
    """
    domain = seen_by(model)
    inside = _some(model, data.test, rows, seed)
    sets = dict(outside or {})
    for name, other in sets.items():
        if tuple(other.shape[1:]) != domain.shape:
            raise DataError(f"{name}: rows of shape {tuple(other.shape[1:])}, not {domain.shape}")
        sets[name] = other[subset(len(other), rows, seed)]
    if image_shape(domain) is not None and len(domain.columns) == 1:
        sets |= outside_images(inside, domain, seed=seed)
    if not sets:
        raise DataError("there are no rows outside: give some, by name")
    held = _some(model, data.valid, rows, seed)
    scores = {name: ood_scores(model, x, held=held, seed=seed) for name, x in sets.items()}
    return Outside(ood_scores(model, inside, held=held, seed=seed), scores, seed)


def _some(model: GenerativeModel, split: Split, rows: int, seed: int) -> Tensor:
    """What the model sees of some rows of a split."""
    batch = split.rows(subset(len(split), rows, seed))
    x = batch.context if predicts_only(model) else batch.x
    assert x is not None
    return x


def _checked(
    inside: ArrayLike, outside: ArrayLike, least: int = 2
) -> tuple[np.ndarray, np.ndarray]:
    a, b = (np.asarray(torch.as_tensor(part).cpu(), dtype=np.float64) for part in (inside, outside))
    if a.ndim != 1 or b.ndim != 1 or len(a) < 2 or len(b) < least:
        raise DataError(
            f"scores of shapes {a.shape} and {b.shape}: give (n,) and (m,), two at least"
        )
    if np.isnan(a).any() or np.isnan(b).any():
        raise DataError("a score is missing (NaN): leave such rows out")
    return a, b
