"""The one way in for what users give: rows, contexts, masks; and how they are divided into chunks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from likely.contract.abilities import Reparametrised
from likely.contract.views import Rows
from likely.core.domain import Domain
from likely.core.errors import DataError
from likely.core.progress import track
from likely.core.random import seeded

if TYPE_CHECKING:
    from likely.contract.model import GenerativeModel

OfRows = Callable[[Tensor, Tensor | None], Tensor]  # and of context features
CHUNK = 1 << 17  # entries that are scored or sampled at a time
MOST = 1 << 37  # entries that are drawn in one call: half a terabyte


def as_rows(values: Any, domain: Domain, what: str) -> Tensor:
    """A tensor of what a user gives as rows: a tensor, an array, a list, or a table by its names.

    One row may be a dictionary of values by name, or a single label; labels in a frame become codes.

    Raises
    ------
    DataError
        If it holds anything but numbers and known labels, or a table lacks a column.
    """
    if isinstance(values, Tensor):  # scales are not taken off in half precision
        return (
            values.float() if values.dtype.itemsize == 2 and values.is_floating_point() else values
        )
    try:
        if isinstance(values, Mapping):
            return domain.row(values)
        if isinstance(values, str):
            return domain.row([values])
        if hasattr(values, "to_frame") and domain.size == 1:  # a Series, or an Index of labels
            values = values.to_frame(name=domain.label(0))
        if hasattr(values, "columns"):
            return domain.rows(values)
        array = np.asarray(values)
        if array.dtype.kind not in "biuf":
            raise TypeError
        # Tensors have no strides below zero, no foreign order of bytes, and no longer numbers.
        native = np.float64 if array.dtype.itemsize > 8 else array.dtype.newbyteorder("=")
        wide = np.int64 if array.dtype.kind == "u" and array.dtype.itemsize > 1 else native
        return torch.as_tensor(np.require(array, wide, ["C", "W"]))
    except DataError as error:
        raise DataError(f"{what}: {error}") from error
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{what}: rows of numbers are needed, categories as their codes 0, 1, …; give a frame with the "
            "columns' names, or make rows with lk.data.load_rows(table, domain=…)"
        ) from error


def context_features(model: GenerativeModel, context: Tensor | None, n: int) -> Tensor | None:
    """Features of the contexts of n rows, or of one for all; their values are not checked.

    Raises
    ------
    DataError
        If the context is missing, not wanted, or of another shape.
    """
    if model.context is None or model.context_features is None:
        if context is not None:
            raise DataError(f"{type(model).__name__} was built without a context: leave it out")
        return None
    shape = model.context.shape
    if context is None and model.context_optional:
        return None
    if context is None:
        raise DataError(f"{type(model).__name__} is conditional: give a context, {(n, *shape)}")
    if tuple(context.shape) == shape:  # an encoder sees it once
        return model.context_features(context[None]).expand(n, -1)
    return model.context_features(of_each(context, shape, n, "the context has"))


def of_each(values: Tensor, shape: Sequence[int], n: int, what: str) -> Tensor:
    """n rows of values, which may be one row for all; a `DataError` if they have another shape."""
    if tuple(values.shape) == tuple(shape):
        values = values.expand(n, *shape)
    if tuple(values.shape) != (n, *shape):
        raise DataError(f"{what} shape {tuple(values.shape)}, not {(n, *shape)}")
    return values


def accept_context(model: GenerativeModel, context: Any, n: int) -> Tensor | None:
    """Features of a context that a user gives; a `DataError` if it lies outside its domain, too."""
    if context is not None and model.context is not None:
        context = as_rows(context, model.context, "the context")
        one_for_all = tuple(context.shape) == model.context.shape
        model.context.check(context[None] if one_for_all else context, "the context")
        context = context.to(model.device)
    return context_features(model, context, n)


def accept(
    model: GenerativeModel, x: Any, context: Any = None
) -> tuple[Bool[Tensor, " n"], Rows, Tensor | None]:
    """Which rows lie in the domain, the rows with the others moved into it, and context features.

    Raises
    ------
    DataError
        If x or the context have the wrong shape, or the context is missing, not wanted or outside
        its domain.
    """
    domain = model.domain
    x = as_rows(x, domain, "x").to(model.device)
    if tuple(x.shape[1:]) != domain.shape:
        raise DataError(f"x has rows of shape {tuple(x.shape[1:])}, the domain {domain.shape}")
    inside = domain.contains(x)
    mask = inside.reshape(-1, *[1] * len(domain.shape))
    x = torch.where(mask, x, domain.anchor.to(x))
    return inside, x, accept_context(model, context, len(x))


def accept_inside(model: GenerativeModel, x: Any, what: str = "the data") -> Rows:
    """Rows on the model's device; a `DataError` unless all lie in its domain."""
    x = as_rows(x, model.domain, "x").to(model.device)
    model.domain.check(x, what)
    return x


def accept_partly_known(
    model: GenerativeModel, x: Any, known: Any, context: Any, dtype: torch.dtype | None = None
) -> tuple[Rows, Bool[Tensor, "n *shape"], Tensor | None]:
    """Rows with the domain's anchor in their open entries, the mask in their shape, context features.

    Rows stay in their floating type; others get that of draws, `dtype`, as all do on a discrete domain.

    Raises
    ------
    DataError
        If a shape is wrong, or a known entry or the context lies outside its domain.
    """
    domain, dtype = model.domain, dtype or model.dtype
    x, known = as_rows(x, domain, "complete: x"), torch.as_tensor(known)
    if tuple(x.shape[1:]) != domain.shape or tuple(known.shape) not in (domain.shape, x.shape):
        raise DataError(
            f"complete: rows have shape {domain.shape}, not x {(*x.shape,)}, known {(*known.shape,)}"
        )
    x, known = x.to(model.device), known.to(model.device, torch.bool).expand_as(x)
    x = x if x.is_floating_point() else x.to(dtype)
    x = torch.where(known, x, domain.anchor.to(x))
    domain.check(x, "the known entries")
    x = x.to(dtype) if domain.discrete else x
    return x, known, accept_context(model, context, len(x))


def chunks(domain: Domain, n: int, context: Domain | None = None) -> list[slice]:
    """Where each chunk of n rows starts and stops, by the larger of their two domains."""
    rows = max(1, CHUNK // max(domain.size, 0 if context is None else context.size))
    return [slice(start, min(start + rows, n)) for start in range(0, n, rows)]


def _for_each(model: GenerativeModel, context: Any, n: int) -> Any:
    """A context for each of n rows, where one is given for all."""
    if context is None or model.context is None:
        return context
    context = as_rows(context, model.context, "the context")
    return context.expand(n, *context.shape) if context.shape == model.context.shape else context


def map_chunks(
    model: GenerativeModel, function: OfRows, x: Any, context: Any = None, seed: int | None = None
) -> Shaped[Tensor, "k n"]:
    """`function` of x and context features, shape (k, n), by chunks and without gradients.

    Rows outside the support get −inf in the first line and 0 in the others.
    """
    x = as_rows(x, model.domain, "x")
    context = _for_each(model, context, len(x))
    parts = []
    with torch.no_grad(), seeded(seed, model.device):
        for at in track(chunks(model.domain, len(x), model.context) or [slice(0)], "rows"):
            part_context = None if context is None else context[at]
            inside, rows, features = accept(model, x[at], part_context)
            part = function(rows, features)
            outside = torch.zeros_like(part[:, :1])
            outside[0] = -math.inf
            parts.append(torch.where(inside & ~part.isnan(), part, outside))
    return torch.cat(parts, 1)


def sample_with_log_prob(
    model: GenerativeModel, n: int, context: Tensor | None = None, seed: int | None = None
) -> tuple[Rows, Float[Tensor, " n"]]:
    """n draws and their log-densities, by chunks and without gradients; contexts are not checked."""
    context, parts = _for_each(model, context, n), []
    with torch.no_grad(), seeded(seed, model.device):
        for at in track(chunks(model.domain, n, model.context), "draws"):
            rows, part = at.stop - at.start, None if context is None else context[at]
            if isinstance(model, Reparametrised):
                parts.append(model.rsample_with_log_prob(rows, context=part))
            else:
                x = model.sample(rows, context=part)
                parts.append((x, model._log_prob(x, context_features(model, part, rows))))
    x, log_prob = zip(*parts, strict=True)
    return torch.cat(x), torch.cat(log_prob)


def draw_chunks(
    model: GenerativeModel,
    draw: Callable[..., Tensor],
    n: int,
    context: Any,
    seed: int | None,
    options: Mapping[str, Any],
) -> Rows:
    """n draws by `draw(rows, context features, **options)`, by chunks and without gradients.

    An option that is a tensor has a row for each draw.
    """
    if n < 0:
        raise DataError(f"sample: n must not be negative, not {n}")
    if n * model.domain.size > MOST:
        raise DataError(f"sample: {n:,} draws do not fit into memory: draw them in parts")
    features = accept_context(model, context, n)
    with torch.no_grad(), seeded(seed, model.device):
        parts = [
            draw(
                at.stop - at.start,
                None if features is None else features[at],
                **{k: v[at] if isinstance(v, Tensor) else v for k, v in options.items()},
            )
            for at in track(chunks(model.domain, n, model.context), "draws")
        ]
    if not parts:
        return torch.empty(0, *model.domain.shape, dtype=model.dtype, device=model.device)
    draws = torch.cat(parts)
    # Without a context it is the model that is broken, which an evaluation measures.
    if context is not None and not draws.isfinite().all():
        raise DataError(
            f"sample: {type(model).__name__} draws values that are not finite: the context is too far from "
            "those that it was fitted to"
        )
    return draws
