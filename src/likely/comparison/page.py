"""The report of a comparison: what its columns are, its pictures and its settings."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

import likely
from likely.core.likelihood import Figure, Kind, shown
from likely.core.model import Batch, GenerativeModel
from likely.report import page as html
from likely.report import pictures

if TYPE_CHECKING:
    from likely.comparison.result import Comparison, Row, Run
    from likely.core.domain import Domain
    from likely.data import Split

SAMPLE_ENTRIES = 200_000  # numbers drawn from each model for its picture …
SAMPLE_ROWS = 10_000  # … in at most so many rows
MISSING = "–"


@dataclass(frozen=True)
class Column(html.Column):
    """A column of the property table, and how a row fills it."""

    cell: Callable[[Row], html.Cell] = lambda row: html.Cell("")
    terminal: bool = False  # whether the command shows it


def _figure(value: Figure | None, prefix: str = "", detail: str = "") -> html.Cell:
    if value is None:
        return html.Cell(MISSING)
    order = None if math.isnan(value.value) else value.value
    return html.Cell(prefix + shown(value), order, detail)


def _number(value: float | None, detail: str = "") -> html.Cell:
    """Three significant digits, with separators."""
    if value is None or not math.isfinite(value):
        return html.Cell(MISSING)
    digits = 2 - math.floor(math.log10(abs(value))) if value else 0
    return html.Cell(f"{round(value, digits):,.{max(0, digits)}f}", value, detail)


def _rate(rows_per_second: float | None) -> str:
    return "" if rows_per_second is None else f"{_number(rows_per_second).text} rows/s"


def _log_likelihood(row: Row) -> html.Cell:
    detail = ""
    if row.bits_per_dimension is not None:
        how = "no" if row.dequantisation == "none" else row.dequantisation
        detail = f"{row.bits_per_dimension.value:.3f} bits/dim\n{how} dequantisation"
    return _figure(row.log_likelihood, "≥ " if row.density == Kind.LOWER else "", detail)


def _stability(row: Row) -> html.Cell:
    events = f"{row.diverged} of {row.seeds} diverged"
    if row.failed:
        events += f", {row.failed} failed"
    if row.skipped:
        events += f", {row.skipped:,} steps skipped"
    cell = _number(row.seed_spread, events)
    return cell if row.seed_spread is not None else html.Cell(MISSING, None, events)


def _size(row: Row) -> html.Cell:
    if row.parameters is None:
        return html.Cell(MISSING)
    memory = "" if row.peak_memory is None else f"{row.peak_memory / 2**20:,.0f} MiB"
    return html.Cell(f"{row.parameters:,}", row.parameters, memory)


COLUMNS = (
    Column(
        "model", "", "Name in the registry, and in full.", numeric=False, terminal=True,
        cell=lambda row: html.Cell(row.model, row.model, row.title),
    ),
    Column(
        "density", "", "What kind of number the log-likelihood is. Exact: the model's own. Lower "
        "bound: the model's own is at least this (where integers are dequantised, or latent "
        "variables bounded), so that it never flatters the model. None: there is no likelihood, "
        "only samples can be compared.", numeric=False, terminal=True,
        cell=lambda row: html.Cell(row.density, row.density),
    ),
    Column(
        "log-likelihood", "nats per sample", "Mean log-likelihood of the test rows, over all seeds, "
        "in nats (1 nat = 1.443 bits) and in the data's own units; higher is better. ± is one "
        "standard error, that of drawing both test rows and seeds anew. For whole numbers also as "
        "bits/dim, −log-likelihood / (dimensions · ln 2), with the dequantisation that turned a "
        "density into probabilities.", terminal=True, cell=_log_likelihood,
    ),
    Column(
        "gain", "nats per sample", "Log-likelihood above that of the best baseline (independent "
        "marginals, or one Gaussian). Its error is paired: it comes from differences on the same "
        "test rows, and can be far smaller than those of the two means.", terminal=True,
        cell=lambda row: _figure(row.gain),
    ),
    Column(
        "KL(truth‖model)", "nats", "How far the model's density is from the known truth, on fresh "
        "draws of the truth; 0 where they are equal. An upper bound where the density is a lower "
        "one.", terminal=True, cell=lambda row: _figure(row.forward_kl),
    ),
    Column(
        "training rows", "nats per sample", "Log-likelihood of rows that the model was trained on. "
        "What lies above that of the test rows is learnt by heart (overfitting).",
        cell=lambda row: _figure(row.train_log_likelihood),
    ),
    Column(
        "energy distance", "standardised", "Between samples of the model and test rows, as "
        "standardised features; 0 for equal distributions. It needs no density, so that every model "
        "has it. ± is a bootstrap standard error.", terminal=True,
        cell=lambda row: _figure(row.energy_distance),
    ),
    Column(
        "sliced Wasserstein", "standardised", "Mean Wasserstein-1 distance between projections of "
        "samples and of test rows, as standardised features; finite samples keep it above 0. ± is "
        "a bootstrap standard error.", cell=lambda row: _figure(row.sliced_wasserstein),
    ),
    Column(
        "spread", "nats over seeds", "Standard deviation of the mean log-likelihood between seeds: "
        "what a result owes to chance in training. Below it: fits that could not go on because a "
        "loss or gradient was no longer finite, and single steps skipped for that reason.",
        terminal=True, cell=_stability,
    ),
    Column(
        "fit", "seconds", "Time of one fit, validation included, and training rows processed a "
        "second. Fits run one at a time.", terminal=True,
        cell=lambda row: _number(row.fit_seconds, _rate(row.fit_rows_per_second)),
    ),
    Column(
        "sampling", "rows/s", "Samples drawn a second, in batches.", terminal=True,
        cell=lambda row: _number(row.sample_rows_per_second),
    ),
    Column(
        "scoring", "rows/s", "Log-likelihoods computed a second, in batches.",
        cell=lambda row: _number(row.score_rows_per_second),
    ),
    Column(
        "parameters", "", "Numbers that were learnt; below it, the largest resident memory of the "
        "whole process during a fit.", terminal=True, cell=_size,
    ),
    Column(
        "constraint", "", "What the method asks of its network or of the data.", numeric=False,
        cell=lambda row: html.Cell(row.constraint, row.constraint),
    ),
)  # fmt: skip


RANKED = {
    "log_likelihood": ("log-likelihood", "descending"),
    "energy_distance": ("energy distance", "ascending"),
}


def filled(comparison: Comparison) -> list[Column]:
    """The columns that say something about at least one model."""
    cells = {column: [column.cell(row) for row in comparison.rows] for column in COLUMNS}
    return [
        column
        for column, of_rows in cells.items()
        if any(cell.text != MISSING or cell.detail for cell in of_rows)
    ]


def page(comparison: Comparison) -> str:
    """The report as the text of one HTML page."""
    columns = filled(comparison)
    sections = [part(comparison) for part in (_samples, _scores, _training, _overfitting)]
    ranked, order = RANKED[comparison.ranked_by]
    return html.render(
        f"likely compare: {comparison.data.name}",
        lead=comparison.summary(),
        columns=columns,
        rows=[[column.cell(row) for column in columns] for row in comparison.rows],
        sorted_by=(ranked, order),
        notes=comparison.notes,
        sections=[section for section in sections if section.cards],
        settings=_settings(comparison),
    )


def _scores(comparison: Comparison) -> html.Section:
    rows = [row for row in comparison.rows if row.log_likelihood is not None]
    cards = []
    if len(rows) > 1:
        figures = [row.log_likelihood or Figure(math.nan) for row in rows]
        picture = pictures.draw_scores(
            [row.model for row in rows],
            [figure.value for figure in figures],
            [figure.stderr or math.nan for figure in figures],
            marks=[">" if row.density == Kind.LOWER else "o" for row in rows],
            label="held-out log-likelihood (nats per sample)",
        )
        cards = [html.Card("", pictures.to_uri(picture))]
    return html.Section(
        "Held-out log-likelihood",
        "Higher is better. Circles are exact, arrowheads lower bounds (the model's own value lies "
        "there or further to the right); bars are one standard error.",
        cards,
        size="wide",
    )


def _samples(comparison: Comparison) -> html.Section:
    data = comparison.data
    form = pictures.form(data.domain)
    real = _draw_rows(data.train, data.domain).x
    cards = []
    if form != "corner":  # which draws the real rows behind the samples
        uri = pictures.to_uri(pictures.draw_samples(real, data.domain))
        cards.append(html.Card("real data", uri, f"{len(real):,} training rows"))
    for at, row in enumerate(comparison.rows):
        run = comparison.best_run(row.model)
        if run is None or run.model is None:
            continue
        x = _draw(run.model, comparison)
        color = pictures.PALETTE[at % len(pictures.PALETTE)]
        picture = pictures.draw_samples(x, data.domain, reference=real, color=color)
        cards.append(html.Card(row.model, pictures.to_uri(picture), f"seed {run.seed}"))
    return html.Section(
        "Samples",
        "Real rows, and draws from each model: the first ones of the seed with the best validation "
        "score, none chosen by hand.",
        cards,
        size={"images": "small", "corner": "large"}.get(form, "medium"),
    )


def _rows_in_picture(domain: Domain) -> int:
    return min(SAMPLE_ROWS, max(36, SAMPLE_ENTRIES // domain.size))


def _draw_rows(split: Split, domain: Domain) -> Batch:
    """Random rows for a picture; where they have weights, drawn in proportion to these."""
    n = min(_rows_in_picture(domain), len(split))
    if split.weight is None:
        return split.subset(n * domain.size)
    share = split.weight.double().numpy()
    return split.rows(np.random.default_rng(0).choice(len(split), n, p=share / share.sum()))


def _draw(model: GenerativeModel, comparison: Comparison) -> torch.Tensor:
    """Draws for a picture; a conditional model gets the contexts of test rows."""
    domain = comparison.data.domain
    if model.context is None:
        return model.sample(_rows_in_picture(domain), seed=0).cpu()
    context = _draw_rows(comparison.data.test, domain).context
    assert context is not None
    return model.sample(len(context), context=context, seed=0).cpu()


def _training(comparison: Comparison) -> html.Section:
    cards = []
    for row in comparison.rows:
        frames = [run.history.frame for run in comparison.finished(row.model) if run.history]
        frames = [frame for frame in frames if len(frame)]
        if frames:
            picture = pictures.to_uri(pictures.draw_training(frames))
            cards.append(html.Card(row.model, picture, f"{row.steps:,.0f} steps"))
    return html.Section(
        "Training",
        "What training minimises (dashed) and the validation split (solid), one line for each "
        "seed; lower is better. The first steps may lie above the frame. Where integers are "
        "dequantised, training takes one draw of the noise and validation averages over several, "
        "which alone puts it lower.",
        cards,
    )


def _overfitting(comparison: Comparison) -> html.Section:
    cards = []
    for row in comparison.rows:
        run = comparison.best_run(row.model)
        if run is None or run.test is None or run.train is None:
            continue
        train, test = run.train.value.numpy(force=True), run.test.value.numpy(force=True)
        picture = pictures.to_uri(pictures.draw_likelihoods(train, test))
        cards.append(html.Card(row.model, picture, f"seed {run.seed}"))
    return html.Section(
        "Single rows",
        "Log-likelihoods of training and of test rows. Where the two differ, the model has learnt "
        "training rows by heart; a long tail to the left holds the rows that it finds odd.",
        cards,
    )


def _settings(comparison: Comparison) -> list[tuple[str, str]]:
    data, settings = comparison.data, comparison.settings
    budget = ", ".join(f"{value:g} {unit}" for unit, value in settings["budget"].items())
    first: dict[str, Run] = {}
    for run in comparison.runs:
        if run.model is not None:
            first.setdefault(run.name, run)
    device = next((str(run.model.device) for run in first.values() if run.model), "cpu")
    return [
        ("data", f"{data}; fingerprint {data.fingerprint()[:16]}"),
        ("seeds", ", ".join(map(str, settings["seeds"]))),
        ("budget of a fit", budget or "until validation stops improving"),
        *(
            (name, ", ".join(f"{k}={v}" for k, v in run.model.hyperparameters.items()) or "–")
            for name, run in first.items()
            if run.model is not None
        ),
        ("time", f"{settings['seconds']:,.0f} s for all fits and measurements"),
        (
            "machine",
            f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, "
            f"{torch.get_num_threads()} threads, {device}",
        ),
        (
            "versions",
            f"likely {likely.__version__}, Python {platform.python_version()}, "
            f"torch {torch.__version__}, numpy {np.__version__}",
        ),
    ]
