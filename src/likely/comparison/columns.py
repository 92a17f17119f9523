"""The columns of the property table: what each means, and how a model fills it."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from likely.comparison.results import Results, Row
from likely.core.likelihood import Figure, Kind, shown
from likely.evaluation.measures import BY_NAME, CLASSIFIED
from likely.report import page as html

MISSING = "–"
P_VALUES = {"mmd": "mmd_p_value", "classifier_auc": "classifier_p_value"}


@dataclass(frozen=True)
class Column(html.Column):
    """A column of the property table, and how a row fills it."""

    main: bool = False
    cell: Callable[[Row], html.Cell] = lambda row: html.Cell("")


def _figure(row: Row, value: Figure | None, kind: Kind | None, detail: str = "") -> html.Cell:
    """A figure with the sign of its kind; sorted by only where it can be compared."""
    if value is None:
        return html.Cell(MISSING, detail=detail)
    comparable = (kind is None or row.rankable) and not math.isnan(value.value)
    sign = kind.sign if kind is not None else ""
    return html.Cell(sign + shown(value), value.value if comparable else None, detail)


def _number(value: float | None, detail: str = "") -> html.Cell:
    """Three significant digits, with separators."""
    if value is None or not math.isfinite(value):
        return html.Cell(MISSING, detail=detail)
    digits = 2 - math.floor(math.log10(abs(value))) if value else 0
    return html.Cell(f"{round(value, digits):,.{max(0, digits)}f}", value, detail)


def _detail(row: Row, name: str) -> str:
    """What stands below a figure: the largest p-value, or bits per dimension."""
    if P_VALUES.get(name) in row.largest:
        return f"p ≤ {row.largest[P_VALUES[name]]:.2g}"
    if name == "log_likelihood" and "bits_per_dimension" in row.figures:
        how = "no" if row.dequantisation == "none" else row.dequantisation
        return f"{row.figures['bits_per_dimension'].value:.3f} bits/dim\n{how} dequantisation"
    return ""


def measured(name: str, more: str = "", main: bool = False) -> Column:
    """The column of a measure; `more` is what a comparison adds to its meaning."""
    measure = BY_NAME[name]

    def cell(row: Row) -> html.Cell:
        value = row.figure(name)
        if measure.unit == "rows/s":  # whose error says little
            return _number(None if value is None else value.value)
        return _figure(row, value, measure.kind(row.density), _detail(row, name))

    of_samples = "speed" if measure.unit == "rows/s" else "quality: samples"
    of_rows = "quality: classes" if measure.need is CLASSIFIED else of_samples
    group = "quality: likelihood" if measure.sign else of_rows
    meaning = f"{measure.meaning} {more}".strip()
    return Column(measure.title, measure.unit, meaning, group=group, cell=cell, main=main)


def _stability(row: Row) -> html.Cell:
    events = f"{row.diverged} of {row.seeds} diverged"
    if row.failed:
        events += f", {row.failed} failed"
    if row.skipped:
        events += f"\n{row.skipped:,} steps skipped"
    if row.seed_spread is None and row.distance_spread is not None:
        events = f"energy distance: {_number(row.distance_spread).text}\n{events}"
    return _number(row.seed_spread, events)


def _fit(row: Row) -> html.Cell:
    rate = row.figure("fitting")
    return _number(row.fit_seconds, f"{_number(rate.value).text} rows/s" if rate else "")


def _size(row: Row) -> html.Cell:
    if row.parameters is None:
        return html.Cell(MISSING)
    memory = "" if row.peak_memory is None else f"{row.peak_memory / 2**20:,.0f} MiB"
    return html.Cell(f"{row.parameters:,}", row.parameters, memory)


COLUMNS = (
    Column(
        "model", "", "Name in the registry, and in full.", numeric=False, main=True,
        cell=lambda row: html.Cell(row.model, row.model, row.title),
    ),
    Column(
        "density", "", "What kind of number the log-likelihood is. Exact: the model's own. Lower "
        "bound (≥): the model's own is at least this (where integers are dequantised, or latent "
        "variables bounded), so that it never flatters the model. Estimate (≈): it may lie on either "
        "side. None: there is no likelihood, only samples can be compared.",
        numeric=False, main=True, cell=lambda row: html.Cell(row.density, row.density),
    ),
    measured(
        "log_likelihood", "The mean is over all seeds, and ± is one standard error, that of drawing "
        "both test rows and seeds again (with one seed, that of drawing rows: it excludes variation "
        "between runs). For whole numbers also as bits/dim, −log-likelihood / (dimensions · ln 2), "
        "with the dequantisation that turned a density into probabilities.", main=True,
    ),
    Column(
        "gain", "nats per sample", "Log-likelihood above that of the baseline, independent "
        "marginals: what the model knows of how the entries of a row depend on each other. Its error "
        "is paired: it comes from differences on the same test rows, and can be far smaller than "
        "those of the two means; with one seed it, too, excludes variation between runs.",
        group="quality: likelihood", main=True,
        cell=lambda row: _figure(row, row.gain, row.density),
    ),
    measured("forward_kl", main=True),
    measured("train_log_likelihood"),
    *map(measured, ("accuracy", "log_loss", "calibration_error", "temperature")),
    measured(
        "energy_distance", "± is one standard error: a bootstrap of the rows and, with several seeds, "
        "these drawn again. Errors of two models are not paired, so that a difference between them "
        "has those of both.", main=True,
    ),
    measured("sliced_wasserstein", "± is as for the energy distance."),
    measured("mmd", "Below it the p-value of a permutation test, the largest of all seeds."),
    measured("classifier_auc", "Below it the p-value that it guesses, the largest of all seeds."),
    *map(measured, (
        "precision", "recall", "sample_density", "coverage", "modes_covered", "near_modes",
        "frechet_distance", "kernel_distance", "explained", "memorised", "copied",
    )),
    Column(
        "spread", "nats over seeds", "Standard deviation of the mean log-likelihood between seeds: "
        "how much a result varies between runs; without a likelihood, that of the energy distance "
        "below it. Then fits that diverged, because a loss or gradient was no longer finite, and "
        "single steps skipped for that reason.", group="stability", main=True, cell=_stability,
    ),
    Column(
        "constraint", "", "What the method asks of its network or of the data.", numeric=False,
        cell=lambda row: html.Cell(row.constraint, row.constraint),
    ),
    Column(
        "fit", "seconds", "Time of one fit, validation included, and training rows processed a "
        "second.", group="speed", main=True, cell=_fit,
    ),
    measured("sampling", main=True),
    measured("scoring"),
    Column(
        "parameters", "", "Numbers that were learnt; below it, the largest resident memory of the "
        "whole process during a fit.", group="size", main=True, cell=_size,
    ),
)  # fmt: skip


def filled(results: Results) -> list[Column]:
    """The columns that say something about at least one model."""

    def says(column: Column) -> bool:
        return any(cell.text != MISSING or cell.detail for cell in map(column.cell, results.rows))

    return list(filter(says, COLUMNS))
