"""Scores of how unusual a row is, from what a model has: a density, its gradient, classes."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from likely.contract.inputs import chunks
from likely.contract.model import GenerativeModel
from likely.contract.real import RealModel
from likely.core.columns import Constant
from likely.core.errors import DensityError
from likely.core.likelihood import Kind
from likely.core.random import seeded
from likely.evaluation.classes import class_log_prob, classifies, predicts_only, seen_by

Score = Callable[[Tensor], Tensor]


def ood_scores(
    model: GenerativeModel, x: Tensor, *, held: Tensor | None = None, seed: int = 0
) -> dict[str, Float[Tensor, " n"]]:
    """Every score of rows that the model has; all are higher for rows that are more unusual.

    - ``likelihood``: −log p(x), up to a constant where p is known up to one; of an autoencoder its error
      of reconstruction.
    - ``typicality``: |−log p(x) − H|, where H is the mean of −log p over held-out rows.
    - ``gradient``: ‖∂ log p/∂x‖, in the data's own units, of an exact density, one of dequantised columns,
      or one known up to a constant. Around a narrow mode without mass it is large.
    - ``confidence``: −max_y p(y|x), of a classifier.

    The logarithm of a classifier's summed exponentials of logits is a density up to a constant, if the model
    says so (`free_energy`).

    Parameters
    ----------
    model : GenerativeModel
        Without a context, or with one that it can do without: p(y|x), or p(x, y) with a `free_energy`.
    x : Tensor, shape (n, *shape)
    held : Tensor, shape (m, *shape), optional
        Rows like those that it was fitted to, but not among them: for typicality.
    seed : int
        Of scores that draw.

    Returns
    -------
    dict of str to Tensor, shape (n,)
        In float64; infinite outside the domain.

    Raises
    ------
    DensityError
        If the model has no score.

    References
    ----------
    Nalisnick et al. 2019, arXiv:1906.02994, for typicality; Grathwohl et al. 2020, arXiv:1912.03263,
    for gradients; Hendrycks & Gimpel 2017, arXiv:1610.02136, for confidence.
    """
    scores = {}
    if density := _density(model):
        scores["likelihood"] = _by_chunks(model, density, x, seed)
        if held is not None:
            level = _by_chunks(model, density, held, seed)
            level = level[level.isfinite()].mean()
            scores["typicality"] = (scores["likelihood"] - level).abs()
    if slope := _slope(model):
        scores["gradient"] = _by_chunks(model, slope, x, seed)
    if classifies(model):
        inside = seen_by(model).contains(x)
        confidence = torch.full((len(x),), math.inf, dtype=torch.float64)
        confidence[inside.cpu()] = -class_log_prob(model, x[inside]).max(1).values.exp()
        scores["confidence"] = confidence
    if not scores:
        name = type(model).__name__
        raise DensityError(f"{name} has no score of rows without a context: take another model")
    return scores


def _density(model: GenerativeModel) -> Score | None:
    """−log p(x), up to a constant, if the model has it without a context."""
    if predicts_only(model):
        return None
    if energy := getattr(model, "free_energy", None):
        return torch.no_grad()(energy)
    own = type(model).anomaly_score is not GenerativeModel.anomaly_score
    if model.context is not None or not (own or model.density != Kind.NONE):
        return None
    return model.anomaly_score


def _slope(model: GenerativeModel) -> Score | None:
    """‖∂ log p/∂x‖, if the model has it without a context."""
    kinds = model.domain.kinds - {Constant}
    if predicts_only(model) or (
        model.dequantisation == "none" and any(kind.discrete for kind in kinds)
    ):
        return None
    log_p: Score
    if energy := getattr(model, "free_energy", None):
        log_p = energy
    elif model.context is not None:
        return None
    elif model.density == Kind.EXACT:
        log_p = model.log_prob
    elif isinstance(model, RealModel) and model.density == Kind.LOWER:
        terms = model.estimator().terms

        def log_p(x: Tensor) -> Tensor:
            return terms(x, None)[0]

    else:
        return None

    def slope(x: Tensor) -> Tensor:
        inside = model.domain.contains(x)
        norm = torch.full((len(x),), math.inf, device=x.device)
        rows = x[inside] if x.is_floating_point() else x[inside].to(model.parameter_dtype)
        with torch.enable_grad():
            (of_x,) = torch.autograd.grad(log_p(rows.requires_grad_()).sum(), rows)
        norm[inside] = of_x.flatten(1).norm(dim=1).to(norm)
        return norm

    return slope


def _by_chunks(model: GenerativeModel, score: Score, x: Tensor, seed: int) -> Tensor:
    with seeded(seed, model.device):
        parts = [score(x[at].to(model.device)) for at in chunks(model.domain, len(x))]
    return torch.cat(parts).detach().double().cpu()
