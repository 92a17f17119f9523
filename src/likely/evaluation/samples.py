"""What `evaluate` measures on draws of a model beside rows of the data."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from likely.contract.model import GenerativeModel
from likely.contract.training import Batch
from likely.contract.views import Features
from likely.core.likelihood import Figure
from likely.data import Data
from likely.evaluation.classifier import classifier_test
from likely.evaluation.images import FeatureExtractor, frechet_distance
from likely.evaluation.likelihood import subset
from likely.evaluation.marginals import marginal_distances, pair_distances
from likely.evaluation.neighbours import neighbours
from likely.evaluation.resampling import thinned
from likely.evaluation.two_sample import energy_distance, kernel_distance, mmd, sliced_wasserstein

if TYPE_CHECKING:
    from likely.data import Split

ROWS = 2000  # on each side of a measure …
NUMBERS = 1 << 24  # … or fewer, so that their features fit in this many numbers
FEWEST_ROWS = 20  # for tests and neighbours
CLASSIFIED_COLUMNS = 256  # that the classifier sees; of more a random choice
TABLE_COLUMNS = 64  # of the widest vector whose columns and pairs of columns are compared


def sample_figures(
    model: GenerativeModel,
    data: Data,
    held: Split,
    other: Split,
    seed: int,
    extractor: FeatureExtractor | None,
    limit: int | None = None,
) -> dict[str, Any]:
    """Fields of an `Evaluation`: at most `limit` draws of the model, or other rows, beside a split."""
    views = [Features(domain).double() for domain in (model.domain, model.context) if domain]
    rows = min(limit or ROWS, ROWS, NUMBERS // max(1, sum(view.size for view in views)))
    real = held.rows(subset(len(held), rows, seed))
    more = other.rows(subset(len(other), len(real), seed))
    for view, part in zip(views, (real.x, real.context), strict=False):
        assert part is not None
        view.prepare(part, real.weight)
        varies = (part != part[:1]).flatten(1).any(0)
        if view.domain.layout == "image" and varies.any():
            # One scale for all pixels: rare ones would outweigh all others.
            view.scale.fill_(view.scale[varies].square().mean().sqrt())
    seed = stream(seed, "distances")
    drawn, invalid = _drawn(model, real, seed)
    paired = model.context is not None
    figures: dict[str, Any] = {"invalid": invalid}
    if drawn.weight is not None and not drawn.weight.any():  # no draw that could be compared
        names = ("energy_distance", "sliced_wasserstein")
        fields = [f"{name}{suffix}" for name in names for suffix in ("", "_floor")]
        return figures | dict.fromkeys(fields, Figure(math.nan, math.nan))

    def features(batch: Batch) -> Tensor:
        parts = zip(views, (batch.x, batch.context), strict=False)
        return torch.cat([view(part) for view, part in parts], 1)

    def compare(name: str, of: Callable[..., Any], seen: Callable[[Batch], Tensor]) -> None:
        """A measure of the draws, and its floor."""
        x, weight = seen(real), real.weight
        for field, to, pairs in ((name, drawn, paired), (f"{name}_floor", more, False)):
            y, of_y = seen(to), to.weight
            figures[field] = of(x, y, weight_x=weight, weight_y=of_y, paired=pairs, seed=seed)

    compare("energy_distance", energy_distance, features)
    compare("sliced_wasserstein", sliced_wasserstein, features)
    domain = model.domain
    if domain.layout == "image":
        extract = FeatureExtractor(data) if extractor is None else extractor
        figures["extractor"] = extract.description
        compare("frechet_distance", frechet_distance, lambda batch: extract(batch.x))
        compare("kernel_distance", kernel_distance, lambda batch: extract(batch.x))
    if domain.layout == "vector" and domain.size <= TABLE_COLUMNS:
        for name, of in (("marginals", marginal_distances), ("pairs", pair_distances)):
            compare(name, partial(of, domain=domain), lambda batch: batch.x)
            floor = figures.pop(f"{name}_floor")
            figures[name] = figures[name].assign(floor=floor["value"], floor_stderr=floor["stderr"])

    # What follows takes rows without weights.
    real_at, drawn_at, more_at = (_even(b, seed) for b in (drawn if paired else real, drawn, more))
    if min(len(real_at), len(drawn_at), len(more_at)) >= FEWEST_ROWS:
        x, y, z = features(real)[real_at], features(drawn)[drawn_at], features(more)[more_at]
        figures["mmd"], figures["mmd_p_value"] = mmd(x, y, paired=paired, seed=seed)
        a, b = _columns(real, paired, seed)[real_at], _columns(drawn, paired, seed)[drawn_at]
        told = classifier_test(a, b, paired=paired, seed=seed)
        figures |= {f"classifier_{name}": value for name, value in told._asdict().items()}
        for suffix, near in (
            ("", neighbours(x, y, paired=paired, seed=seed)),
            ("_floor", neighbours(x, z, seed=seed)),
        ):
            figures |= {f"{name}{suffix}": value for name, value in near._asdict().items()}
    return figures


def stream(seed: int, purpose: str) -> int:
    """A seed of our own: the draws must not repeat the random numbers that made the data."""
    return int(np.random.SeedSequence([seed, *purpose.encode()]).generate_state(1)[0])


def _drawn(model: GenerativeModel, real: Batch, seed: int) -> tuple[Batch, float]:
    """As many draws of the model, in the contexts of real rows, and how many of them are invalid.

    These have weight 0; they are moved into the domain, so that everything can be computed.
    """
    context = real.context if model.context is not None else None
    x = model.sample(len(real), context=context, seed=seed).cpu()
    valid = model.domain.contains(x)
    mask = valid.reshape(-1, *[1] * len(model.domain.shape))
    weight = valid.double()
    if context is not None and real.weight is not None:
        weight *= real.weight
    drawn = Batch(torch.where(mask, x, model.domain.anchor.to(x)), real.context, weight)
    return drawn, 1 - valid.double().mean().item()


def _even(batch: Batch, seed: int) -> Int64[Tensor, " kept"]:
    """Rows that stand for the weighted ones."""
    return torch.arange(len(batch)) if batch.weight is None else thinned(batch.weight, seed)


def _columns(batch: Batch, with_context: bool, seed: int) -> Tensor:
    """Columns as they are, for trees, which need no scales."""
    parts = [batch.x, batch.context] if with_context else [batch.x]
    columns = torch.cat([part.flatten(1).double() for part in parts if part is not None], 1)
    chosen = np.random.default_rng(seed).permutation(columns.shape[1])[:CLASSIFIED_COLUMNS]
    return columns[:, np.sort(chosen)]
