"""What a fitted model is worth, in figures with errors."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from likely.core.domain import Binary, Integer
from likely.core.errors import DataError, LikelyError
from likely.core.likelihood import Figure, Kind, Likelihood, plain
from likely.core.model import Batch, GenerativeModel, RealModel
from likely.core.registry import name_of
from likely.core.view import Features
from likely.data import Data, load_data
from likely.evaluation.likelihood import OPPOSITE, forward_kl, held_out, reverse_kl, subset
from likely.evaluation.speed import throughput
from likely.evaluation.two_sample import energy_distance, sliced_wasserstein

if TYPE_CHECKING:
    from rich.table import Table

    from likely.data import Split
    from likely.fitting import History

TWO_SAMPLE_ROWS = 2000  # on each side of a distance …
TWO_SAMPLE_NUMBERS = 1 << 24  # … or fewer, so that their features fit in this many numbers
KL_DRAWS = 20_000
SPEED_ROWS = 512  # sampled and scored at a time when the speed is measured


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Figures of a model on one split of the data.

    Attributes
    ----------
    model, data, split : str
        Names.
    rows : int
        Rows of the split that were scored.
    density : Kind
        What kind of numbers the log-likelihoods are.
    log_likelihood : Figure, optional
        Weighted mean over the split, in nats per sample; None for models without a density.
    train_log_likelihood : Figure, optional
        The same over at most as many training rows: what lies above is learnt by heart.
    outside : float, optional
        Part of the split's weight to which the model gives no density at all.
    bits_per_dimension : Figure, optional
        On integer and binary domains: −log-likelihood / (size · log 2).
    dequantisation : str, optional
        "uniform" noise was added to the integers, or "none": probabilities of integers.
    energy_distance, sliced_wasserstein : Figure
        Between draws of the model and rows of the split, as the standardised features of
        `likely.core.view.Features`. A conditional model draws at the rows' contexts, and these
        count as features too; being shared, they alone lower the Wasserstein distance somewhat.
    energy_distance_floor, sliced_wasserstein_floor : Figure
        The same between training rows and rows of the split: what cannot be told from the data.
    invalid : float
        Part of the model's draws outside the domain; the distances leave them out.
    forward_kl, reverse_kl : Figure, optional
        KL(truth‖model) and KL(model‖truth) in nats, where the truth is known; their kinds are
        `forward_kl_kind` and `density`.
    leaked : float, optional
        Part of the model's draws where the truth has no density: any makes `reverse_kl` infinite.
    fitting, sampling, scoring : Figure, optional
        Rows per second; the error of fitting is unknown.
    parameters : int
        How many numbers were learnt.
    peak_memory : int, optional
        Of the process during the fit, in bytes.
    held, held_train : Likelihood, optional
        Row by row, what `log_likelihood` and `train_log_likelihood` are the means of.
    weight : Tensor, shape (rows,), optional
        The weights of the split's rows.
    """

    model: str
    data: str
    split: str
    rows: int
    density: Kind
    log_likelihood: Figure | None = None
    train_log_likelihood: Figure | None = None
    outside: float | None = None
    bits_per_dimension: Figure | None = None
    dequantisation: str | None = None
    forward_kl: Figure | None = None
    reverse_kl: Figure | None = None
    leaked: float | None = None
    energy_distance: Figure
    energy_distance_floor: Figure
    sliced_wasserstein: Figure
    sliced_wasserstein_floor: Figure
    invalid: float
    fitting: Figure | None = None
    sampling: Figure
    scoring: Figure | None = None
    parameters: int
    peak_memory: int | None = None
    held: Likelihood | None = field(default=None, repr=False)
    held_train: Likelihood | None = field(default=None, repr=False)
    weight: Tensor | None = field(default=None, repr=False)

    @property
    def forward_kl_kind(self) -> Kind:
        """A lower bound of the model's log-density is an upper one of this divergence."""
        return OPPOSITE[self.density]

    def to_json(self) -> dict[str, Any]:
        """All figures, without the rows; a number that is not finite becomes null."""
        return {"forward_kl_kind": self.forward_kl_kind, **plain(self)}

    def summary(self) -> Table:
        """A table for `rich` to print; `str()` gives it as text."""
        from rich.table import Table

        table = Table(
            title=f"{self.model} on {self.data or 'data'}: {self.split}, {self.rows:,} rows",
            show_header=False,
        )

        def add(name: str, value: object, note: str = "") -> None:
            if value is not None:
                table.add_row(name, str(value), note)

        def part(fraction: float | None, of: str) -> str:
            return f"; {fraction:.2%} of {of}" if fraction else ""

        if self.log_likelihood is None:
            add("log-likelihood", "none", "the model has no density")
        no_density = part(self.outside, "the weight has no density")
        add("log-likelihood", self.log_likelihood, f"nats, {self.density}{no_density}")
        add("… of training rows", self.train_log_likelihood, "nats")
        add("bits per dimension", self.bits_per_dimension, f"dequantisation: {self.dequantisation}")
        add("KL(truth‖model)", self.forward_kl, f"nats, {self.forward_kl_kind}")
        leaked = part(self.leaked, "its draws lie outside the truth's support")
        add("KL(model‖truth)", self.reverse_kl, f"nats, {self.density}{leaked}")
        invalid = part(self.invalid, "its draws lie outside the domain")
        floor = self.energy_distance_floor
        add("energy distance", self.energy_distance, f"training rows: {floor}{invalid}")
        floor = self.sliced_wasserstein_floor
        add("sliced Wasserstein-1", self.sliced_wasserstein, f"training rows: {floor}")
        for verb in ("fitting", "sampling", "scoring"):
            rate = getattr(self, verb)
            add(verb, None if rate is None else f"{rate.value:,.0f}", "rows per second")
        add("parameters", f"{self.parameters:,}")
        if self.peak_memory is not None:
            add("peak memory", f"{self.peak_memory / 2**20:,.0f} MiB", "of the process, fitting")
        return table

    def __str__(self) -> str:
        from rich.console import Console

        text = io.StringIO()
        Console(file=text, width=100, color_system=None).print(self.summary())
        return text.getvalue().rstrip("\n")


def evaluate(
    model: GenerativeModel,
    data: Any,
    *,
    split: str = "test",
    seed: int = 0,
    history: History | None = None,
    rows: int | None = None,
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
        Score at most so many rows, a random subset; None scores the whole split.

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
    if model.context is not None and data.context is None:
        raise DataError(
            "the model is conditional, but the data have no context: load them with one"
        )
    if not isinstance(data, Data):
        data = load_data(data, domain=model.domain)
    held, other = getattr(data, split), data.test if split == "train" else data.train
    scored = subset(len(held), rows, seed)
    with _evaluation_mode(model):
        return Evaluation(
            model=_name(model),
            data=data.name,
            split=split,
            rows=len(scored),
            density=model.density,
            **_likelihoods(model, held, data.train, len(scored), seed),
            **_divergences(model, data, seed),
            **_distances(model, held, other, seed),
            **_costs(model, held, history, seed),
        )


def _likelihoods(
    model: GenerativeModel, held: Split, train: Split, rows: int, seed: int
) -> dict[str, Any]:
    if model.density == Kind.NONE:
        return {}
    likelihood, weight = held_out(model, held, rows=rows, seed=seed)
    figure = likelihood.mean(weight)
    on_train = held_out(model, train, rows=rows, seed=seed)
    figures = {
        "log_likelihood": figure,
        "train_log_likelihood": on_train[0].mean(on_train[1]),
        "held": likelihood,
        "held_train": on_train[0],
        "weight": weight,
        "outside": _part(likelihood.value == -math.inf, weight),
    }
    if model.domain.kinds <= {Integer, Binary}:
        scale = model.domain.size * math.log(2)
        stderr = None if figure.stderr is None else figure.stderr / scale
        figures["bits_per_dimension"] = Figure(-figure.value / scale, stderr)
        figures["dequantisation"] = "uniform" if isinstance(model, RealModel) else "none"
    return figures


def _part(condition: Tensor, weight: Tensor | None) -> float:
    """Part of the weight where a condition holds."""
    w = torch.ones(len(condition)) if weight is None else weight.cpu()
    return (w[condition.cpu()].sum() / w.sum()).item()


def _divergences(model: GenerativeModel, data: Data, seed: int) -> dict[str, Any]:
    truth = data.truth
    if truth is None or model.density == Kind.NONE or model.context is not None:
        return {}
    if truth.sample is None or truth.log_prob is None:
        return {}
    forward = forward_kl(model, truth, draws=KL_DRAWS, seed=_stream(seed, "truth"))
    reverse = reverse_kl(model, truth, draws=KL_DRAWS, seed=_stream(seed, "model"))
    return {
        "forward_kl": forward.mean(),
        "reverse_kl": reverse.mean(),
        "leaked": _part(reverse.value == math.inf, None),
    }


def _stream(seed: int, purpose: str) -> int:
    """A seed of our own: the draws must not repeat the random numbers that made the data."""
    return int(np.random.SeedSequence([seed, *purpose.encode()]).generate_state(1)[0])


def _distances(model: GenerativeModel, held: Split, other: Split, seed: int) -> dict[str, Any]:
    """Two-sample distances of the model's draws and, for comparison, of real rows."""
    views = [Features(domain).double() for domain in (model.domain, model.context) if domain]
    rows = min(TWO_SAMPLE_ROWS, TWO_SAMPLE_NUMBERS // max(1, sum(view.size for view in views)))
    real = held.rows(subset(len(held), rows, seed))
    more = other.rows(subset(len(other), len(real), seed))
    for view, part in zip(views, (real.x, real.context), strict=False):
        assert part is not None
        view.prepare(part, real.weight)
    conditional = model.context is not None
    seed = _stream(seed, "distances")
    x = model.sample(len(real), context=_context(model, real), seed=seed).cpu()
    valid = model.domain.contains(x)
    mask = valid.reshape(-1, *[1] * len(model.domain.shape))
    drawn = Batch(
        torch.where(mask, x, model.domain.anchor.to(x)),
        real.context,
        valid * real.weight if conditional and real.weight is not None else valid.double(),
    )

    def features(batch: Batch) -> Tensor:
        parts = zip(views, (batch.x, batch.context), strict=False)
        return torch.cat([view(part) for view, part in parts], 1)

    def distance(of: Callable[..., Figure], to: Batch, paired: bool = False) -> Figure:
        a, b = features(real), features(to)
        return of(a, b, weight_x=real.weight, weight_y=to.weight, paired=paired, seed=seed)

    return {
        "energy_distance": distance(energy_distance, drawn, conditional),
        "energy_distance_floor": distance(energy_distance, more),
        "sliced_wasserstein": distance(sliced_wasserstein, drawn, conditional),
        "sliced_wasserstein_floor": distance(sliced_wasserstein, more),
        "invalid": 1 - valid.double().mean().item(),
    }


def _costs(
    model: GenerativeModel, held: Split, history: History | None, seed: int
) -> dict[str, Any]:
    batch = held.rows(torch.arange(SPEED_ROWS) % len(held))
    context = _context(model, batch)
    figures: dict[str, Any] = {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "sampling": throughput(
            lambda: model.sample(SPEED_ROWS, context=context, seed=seed), SPEED_ROWS
        ),
    }
    if model.density != Kind.NONE:
        figures["scoring"] = throughput(
            lambda: model.log_likelihood(batch.x, context, seed=seed).value, SPEED_ROWS
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
