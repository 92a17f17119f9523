"""The columns of the property table: what each means, and how a model fills it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from likely.core.likelihood import Figure, shown
from likely.report import page as html

if TYPE_CHECKING:
    from likely.comparison.results import Results, Row

MISSING = "–"


@dataclass(frozen=True)
class Column(html.Column):
    """A column of the property table, and how a row fills it."""

    cell: Callable[[Row], html.Cell] = lambda row: html.Cell("")
    terminal: bool = False  # whether the command shows it
    figure: str = ""  # of `Evaluation`, where one alone fills the column


def _figure(
    value: Figure | None, sign: str = "", detail: str = "", sortable: bool = True
) -> html.Cell:
    if value is None:
        return html.Cell(MISSING, detail=detail)
    order = value.value if sortable and not math.isnan(value.value) else None
    return html.Cell(sign + shown(value), order, detail)


def _nats(row: Row, value: Figure | None, detail: str = "", divergence: bool = False) -> html.Cell:
    """A figure made of log-likelihoods, or of minus these; sorted by only where it is comparable."""
    kind = row.density.opposite if divergence else row.density
    return _figure(value, kind.sign, detail, row.comparable)


def _number(value: float | None, detail: str = "") -> html.Cell:
    """Three significant digits, with separators."""
    if value is None or not math.isfinite(value):
        return html.Cell(MISSING, detail=detail)
    digits = 2 - math.floor(math.log10(abs(value))) if value else 0
    return html.Cell(f"{round(value, digits):,.{max(0, digits)}f}", value, detail)


def _log_likelihood(row: Row) -> html.Cell:
    detail = ""
    if "bits_per_dimension" in row.figures:
        how = "no" if row.dequantisation == "none" else row.dequantisation
        detail = f"{row.figures['bits_per_dimension'].value:.3f} bits/dim\n{how} dequantisation"
    return _nats(row, row.log_likelihood, detail)


def _stability(row: Row) -> html.Cell:
    events = f"{row.diverged} of {row.seeds} diverged"
    if row.failed:
        events += f", {row.failed} failed"
    if row.skipped:
        events += f"\n{row.skipped:,} steps skipped"
    if row.seed_spread is None and row.distance_spread is not None:
        events = f"energy distance: {_number(row.distance_spread).text}\n{events}"
    return _number(row.seed_spread, events)


def _size(row: Row) -> html.Cell:
    if row.parameters is None:
        return html.Cell(MISSING)
    memory = "" if row.peak_memory is None else f"{row.peak_memory / 2**20:,.0f} MiB"
    return html.Cell(f"{row.parameters:,}", row.parameters, memory)


def _measured(
    title: str, unit: str, name: str, meaning: str, terminal: bool = False, p: str = ""
) -> Column:
    """A column of a figure of `Evaluation`, by its name there; `p` names its p-value."""

    def cell(row: Row) -> html.Cell:
        detail = f"p ≤ {row.largest[p]:.2g}" if p in row.largest else ""
        return _figure(row.figures.get(name), detail=detail)

    return Column(
        title, unit, meaning, group="quality: samples", terminal=terminal, figure=name, cell=cell
    )  # fmt: skip


def _speed(title: str, name: str, meaning: str, terminal: bool = False) -> Column:
    """A column of a speed in `Evaluation`, whose errors say little."""

    def cell(row: Row) -> html.Cell:
        return _number(row.figures[name].value if name in row.figures else None)

    return Column(title, "rows/s", meaning, group="speed", terminal=terminal, cell=cell)


COLUMNS = (
    Column(
        "model", "", "Name in the registry, and in full.", numeric=False, terminal=True,
        cell=lambda row: html.Cell(row.model, row.model, row.title),
    ),
    Column(
        "density", "", "What kind of number the log-likelihood is. Exact: the model's own. Lower "
        "bound (≥): the model's own is at least this (where integers are dequantised, or latent "
        "variables bounded), so that it never flatters the model. Estimate (≈): it may lie on either "
        "side. None: there is no likelihood, only samples can be compared.",
        numeric=False, terminal=True, cell=lambda row: html.Cell(row.density, row.density),
    ),
    Column(
        "log-likelihood", "nats per sample", "Mean log-likelihood of the test rows, over all seeds, "
        "in nats (1 nat = 1.443 bits) and in the data's own units; higher is better. ± is one "
        "standard error, that of drawing both test rows and seeds anew (with one seed, that of "
        "drawing rows: the chance in training is not in it). For whole numbers also as "
        "bits/dim, −log-likelihood / (dimensions · ln 2), with the dequantisation that turned a "
        "density into probabilities.", group="quality: likelihood", terminal=True, cell=_log_likelihood,
    ),
    Column(
        "gain", "nats per sample", "Log-likelihood above that of the baseline, independent "
        "marginals: what the model knows of how the entries of a row depend on each other. Its error "
        "is paired: it comes from differences on the same test rows, and can be far smaller than "
        "those of the two means; with one seed it lacks the chance in training, too.",
        group="quality: likelihood", terminal=True,
        cell=lambda row: _nats(row, row.gain),
    ),
    Column(
        "KL(truth‖model)", "nats", "How far the model's density is from the known truth, on fresh "
        "draws of the truth; 0 where they are equal.", group="quality: likelihood", terminal=True,
        cell=lambda row: _nats(row, row.figures.get("forward_kl"), divergence=True),
    ),
    Column(
        "training rows", "nats per sample", "Log-likelihood of rows that the model was trained on. "
        "What lies above that of the test rows is learnt by heart (overfitting).",
        group="quality: likelihood",
        cell=lambda row: _nats(row, row.figures.get("train_log_likelihood")),
    ),
    _measured(
        "energy distance", "standardised", "energy_distance", "Between samples of the model and "
        "test rows, as standardised features; 0 for equal distributions. It needs no density, so "
        "that every model has it. ± is one standard error: a bootstrap of the rows and, with several "
        "seeds, these drawn anew. Errors of two models are not paired, so that a difference between "
        "them has those of both.", terminal=True,
    ),
    _measured(
        "sliced Wasserstein", "standardised", "sliced_wasserstein", "Mean Wasserstein-1 distance "
        "between projections of samples and of test rows, as standardised features; finite samples "
        "keep it above 0. ± is as for the energy distance.",
    ),
    _measured(
        "MMD²", "", "mmd", "Squared maximum mean discrepancy between samples and test rows; 0 for "
        "equal distributions. Below it the p-value of a permutation test that they are equal, the "
        "largest of all seeds.", p="mmd_p_value",
    ),
    _measured(
        "classifier AUC", "", "classifier_auc", "How well a classifier tells samples from test rows "
        "that it has not seen: the area under its ROC curve, 0.5 for a guess, 1 for certainty. Below "
        "it the p-value that it guesses, the largest of all seeds.", p="classifier_p_value",
    ),
    _measured(
        "precision", "", "precision", "Part of the samples that lie where real rows are, by nearest "
        "neighbours: how real they look.",
    ),
    _measured(
        "recall", "", "recall", "Part of the real rows that lie where samples are, by nearest "
        "neighbours: how much of their variety there is.",
    ),
    _measured(
        "sample density", "", "sample_density", "As precision, counting how many real rows' "
        "neighbourhoods a sample lies in; about 1 where the distributions agree, above it where "
        "samples crowd.",
    ),
    _measured(
        "coverage", "", "coverage", "Part of the real rows with a sample in their neighbourhood: "
        "whether modes are missing.",
    ),
    _measured(
        "modes covered", "", "modes_covered", "Part of the known modes of the truth that hold at "
        "least a tenth of the samples that they should.",
    ),
    _measured(
        "near modes", "", "near_modes", "Part of the samples within three widths of a known mode.",
    ),
    _measured(
        "Fréchet distance", "", "frechet_distance", "Between Gaussians fitted to features of samples "
        "and of test images, by a network trained on these data: not comparable with other data's.",
    ),
    _measured(
        "kernel distance", "", "kernel_distance", "Squared maximum mean discrepancy between the same "
        "features of images.",
    ),
    Column(
        "spread", "nats over seeds", "Standard deviation of the mean log-likelihood between seeds: "
        "what a result owes to chance in training; without a likelihood, that of the energy distance "
        "below it. Then fits that could not go on because a loss or gradient was no longer finite, "
        "and single steps skipped for that reason.", group="stability", terminal=True,
        cell=_stability,
    ),
    Column(
        "constraint", "", "What the method asks of its network or of the data.", numeric=False,
        cell=lambda row: html.Cell(row.constraint, row.constraint),
    ),
    Column(
        "fit", "seconds", "Time of one fit, validation included, and training rows processed a "
        "second.", group="speed", terminal=True, cell=lambda row: _number(
            row.fit_seconds,
            f"{_number(row.figures['fitting'].value).text} rows/s" if "fitting" in row.figures else "",
        ),
    ),
    _speed("sampling", "sampling", "Samples drawn a second, in batches.", terminal=True),
    _speed("scoring", "scoring", "Log-likelihoods computed a second, in batches."),
    Column(
        "parameters", "", "Numbers that were learnt; below it, the largest resident memory of the "
        "whole process during a fit.", group="size", terminal=True, cell=_size,
    ),
)  # fmt: skip


def filled(results: Results) -> list[Column]:
    """The columns that say something about at least one model."""
    cells = {column: [column.cell(row) for row in results.rows] for column in COLUMNS}
    return [
        column
        for column, of_rows in cells.items()
        if any(cell.text != MISSING or cell.detail for cell in of_rows)
    ]
