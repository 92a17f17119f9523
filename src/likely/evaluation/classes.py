"""What a classifier sees, whether it models p(x, y) or p(y|x), and what it says."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from likely.contract.abilities import Classifies
from likely.contract.inputs import chunks
from likely.contract.model import GenerativeModel
from likely.contract.training import Batch
from likely.core.columns import Discrete
from likely.core.domain import Domain
from likely.core.errors import AbilityError


class Labelled(NamedTuple):
    """Rows, their classes counted from 0, and their weights."""

    x: Tensor
    labels: Int64[Tensor, " n"]
    weight: Tensor | None


def classifies(model: GenerativeModel) -> bool:
    """Whether it has the ability, and classes: a joint model may have been built without."""
    classes = (domain for domain in (model.domain, model.context) if domain is not None)
    return isinstance(model, Classifies) and any(map(_is_class, classes))


def predicts_only(model: GenerativeModel) -> bool:
    """Whether it is p(y|x): the class is its domain, and what it sees its context."""
    return isinstance(model, Classifies) and _is_class(model.domain) and model.context is not None


def seen_by(model: GenerativeModel) -> Domain:
    """Where the rows live that a model sees: its domain, or the context of p(y|x)."""
    domain = model.context if predicts_only(model) else model.domain
    assert domain is not None
    return domain


def labelled(model: GenerativeModel, batch: Batch) -> Labelled:
    """The rows of a batch whose class is known.

    Raises
    ------
    AbilityError
        If the model does not classify, or has no class to compare with.
    """
    if not classifies(model):
        raise AbilityError(f"{type(model).__name__} cannot classify rows: take a classifier")
    if predicts_only(model):
        x, y, domain = batch.context, batch.x, model.domain
    else:
        x, y, domain = batch.x, batch.context, model.context  # type: ignore[assignment]
    if domain is None or not _is_class(domain) or x is None or y is None:
        raise AbilityError(
            f"{type(model).__name__}: rows need one class each: give it as the context"
        )
    column, y = domain.column(0), y.flatten()
    assert isinstance(column, Discrete)
    known = column.contains(y).nonzero()[:, 0]
    weight = None if batch.weight is None else batch.weight[known]
    return Labelled(x[known], column.code(y[known]).long(), weight)


@torch.no_grad()
def class_log_prob(model: GenerativeModel, x: Tensor) -> Float[Tensor, "n classes"]:
    """log p(y|x) in float64 on the CPU, by chunks; what floats cannot hold counts as their least."""
    p = torch.cat([model.classify(x[at]).cpu() for at in chunks(seen_by(model), len(x))])
    return p.clamp_min(torch.finfo(p.dtype).tiny).double().log()


def _is_class(domain: Domain) -> bool:
    return domain.size == 1 and isinstance(domain.column(0), Discrete)
