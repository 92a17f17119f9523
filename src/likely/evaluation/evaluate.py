"""What a fitted model is worth, in figures with errors."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from likely.contract.model import GenerativeModel
from likely.contract.registry import name_of
from likely.contract.training import Batch
from likely.core.columns import Binary, Integer
from likely.core.errors import DataError, LikelyError
from likely.core.likelihood import Figure, Kind, Likelihood
from likely.data import Data, load_data
from likely.evaluation.images import FeatureExtractor
from likely.evaluation.likelihood import forward_kl, held_out, reverse_kl, subset
from likely.evaluation.modes import mode_coverage
from likely.evaluation.result import Evaluation
from likely.evaluation.samples import sample_figures, stream
from likely.evaluation.speed import throughput
from likely.evaluation.text import bits_per_character, each_character_once, lengths
from likely.models.autoregressive.base import Autoregressive

if TYPE_CHECKING:
    from likely.data import Split
    from likely.fitting import History

KL_DRAWS = 20_000  # and for the modes
SPEED_ROWS = 512  # sampled and scored at a time when the speed is measured


def evaluate(
    model: GenerativeModel,
    data: Any,
    *,
    split: str = "test",
    seed: int = 0,
    history: History | None = None,
    rows: int | None = None,
    extractor: FeatureExtractor | None = None,
) -> Evaluation:
    """Evaluate a fitted model on one split of the data.

    Parameters
    ----------
    model : GenerativeModel
        It is put into evaluation mode meanwhile.
    data : Data, or anything that `load_data` reads
    split : {"test", "valid", "train"}
    seed : int
        The figures, but for the speeds, depend on it alone.
    history : History, optional
        What `fit` returned: adds the speed of fitting and the peak memory.
    rows : int, optional
        Score at most so many rows, a random subset, and draw as many: for models that take long to
        score or to sample. None scores the whole split, and draws up to 2,000.
    extractor : FeatureExtractor, optional
        For the distances of images; None trains one on the training split, the same for the same
        data. Make one and give it where several models are evaluated.

    Returns
    -------
    Evaluation

    Raises
    ------
    LikelyError
        If there is no such split.
    DataError
        If the split is empty, or the model needs a context that the data don't have.
    """
    if split not in ("train", "valid", "test"):
        raise LikelyError(f"unknown split {split!r}: take train, valid or test")
    if not isinstance(data, Data):
        data = load_data(data, domain=model.domain)
    if model.context is not None and data.context is None:
        raise DataError(
            "the model is conditional, but the data have no context: load them with one"
        )
    held, other = getattr(data, split), data.test if split == "train" else data.train
    scored = subset(len(held), rows, seed)
    draws = KL_DRAWS if rows is None else min(rows, KL_DRAWS)
    with _evaluation_mode(model):
        return Evaluation(
            model=_name(model),
            data=data.name,
            split=split,
            rows=len(scored),
            density=model.density,
            **_likelihoods(model, data, split, scored, seed),
            **_divergences(model, data, seed, draws),
            **_modes(model, data, seed, draws),
            **sample_figures(model, data, held, other, seed, extractor, rows),
            **_costs(model, held, history, seed, rows),
        )


def _likelihoods(
    model: GenerativeModel, data: Data, split: str, scored: Tensor, seed: int
) -> dict[str, Any]:
    if model.density == Kind.NONE:
        return {}
    rows = len(scored)
    likelihood, weight = held_out(model, getattr(data, split), rows=rows, seed=seed)
    figure = likelihood.mean(weight)
    on_train = held_out(model, data.train, rows=rows, seed=seed)
    figures: dict[str, Any] = {
        "log_likelihood": figure,
        "solver_tolerance": likelihood.tolerance,
        "train_log_likelihood": on_train[0].mean(on_train[1]),
        "held": likelihood,
        "held_train": on_train[0],
        "weight": weight,
        "outside": _part(likelihood.value == -math.inf, weight),
        **_per_character(model, data, split, scored, likelihood),
    }
    if model.domain.kinds <= {Integer, Binary}:
        scale = model.domain.size * math.log(2)
        stderr = None if figure.stderr is None else figure.stderr / scale
        figures["bits_per_dimension"] = Figure(-figure.value / scale, stderr)
        figures["dequantisation"] = "uniform" if model.dequantises else "none"
    return figures


def _per_character(
    model: GenerativeModel, data: Data, split: str, scored: Tensor, likelihood: Likelihood
) -> dict[str, Figure]:
    """Bits per character of the rows that were scored, or of each character of a running text."""
    if model.domain.alphabet is None:
        return {}
    held = getattr(data, split)
    batch = held.rows(scored)
    counts = lengths(model.domain, batch.x).cpu()
    of_rows = bits_per_character(likelihood.value, counts, batch.weight)
    in_order = (
        isinstance(model, Autoregressive)
        and len(model.orderings) == 1
        and model.orderings.diff().eq(1).all()
    )
    if not (data.running and in_order and split != "train" and model.domain.size > 1):
        return {"bits_per_character": of_rows}
    assert isinstance(model, Autoregressive)
    return {
        "bits_per_character": each_character_once(model, held),
        "bits_per_character_in_windows": of_rows,
    }


def _part(condition: Tensor, weight: Tensor | None) -> float:
    """Part of the weight where a condition holds."""
    w = torch.ones(len(condition)) if weight is None else weight.cpu()
    return (w[condition.cpu()].sum() / w.sum()).item()


def _divergences(model: GenerativeModel, data: Data, seed: int, draws: int) -> dict[str, Any]:
    truth = data.truth
    if truth is None or model.density == Kind.NONE or model.context is not None:
        return {}
    if truth.sample is None or truth.log_prob is None:
        return {}
    forward = forward_kl(model, truth, draws=draws, seed=stream(seed, "truth"))
    reverse = reverse_kl(model, truth, draws=draws, seed=stream(seed, "model"))
    return {
        "forward_kl": forward.mean(),
        "reverse_kl": reverse.mean(),
        "leaked": _part(reverse.value == math.inf, None),
    }


def _modes(model: GenerativeModel, data: Data, seed: int, draws: int) -> dict[str, Any]:
    """Which modes of the truth the model's draws reach."""
    truth = data.truth
    if (
        truth is None
        or truth.modes is None
        or truth.mode_width is None
        or model.context is not None
    ):
        return {}
    x = model.sample(draws, seed=stream(seed, "modes"))
    found = mode_coverage(x, truth.modes, truth.mode_width, weights=truth.mode_weights)
    return {
        "modes_covered": Figure(found.covered / found.modes, math.nan),
        "near_modes": found.near,
        "mode_divergence": found.divergence,
    }


def _costs(
    model: GenerativeModel, held: Split, history: History | None, seed: int, rows: int | None
) -> dict[str, Any]:
    n = SPEED_ROWS if rows is None else min(rows, SPEED_ROWS)
    batch = held.rows(torch.arange(n) % len(held))
    context = _context(model, batch)
    figures: dict[str, Any] = {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "sampling": throughput(lambda: model.sample(n, context=context, seed=seed), n),
    }
    if model.density != Kind.NONE:
        figures["scoring"] = throughput(
            lambda: model.log_likelihood(batch.x, context, seed=seed).value, n
        )
    if history is not None:
        figures["fitting"] = Figure(history.rows_seen / max(history.seconds, 1e-9), math.nan)
        figures["peak_memory"] = history.peak_memory
    return figures


def _context(model: GenerativeModel, batch: Batch) -> Tensor | None:
    return batch.context if model.context is not None else None


def _name(model: GenerativeModel) -> str:
    """The registered name, or that of the class."""
    try:
        return name_of(model)
    except LikelyError:
        return type(model).__name__


@contextlib.contextmanager
def _evaluation_mode(model: GenerativeModel) -> Iterator[None]:
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
