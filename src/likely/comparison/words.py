"""What a comparison found, in sentences: each follows from figures, and says where they are not clear."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from likely.comparison.columns import COLUMNS, NOT_COMPARABLE
from likely.core.likelihood import Figure, Kind, shown
from likely.core.model import GenerativeModel
from likely.core.registry import find

if TYPE_CHECKING:
    from likely.comparison.result import Comparison, Row

CLEAR = 3.0  # standard errors from which on a difference counts as one


def summary(comparison: Comparison) -> list[str]:
    """What came out and how it is ranked; the last sentence says what the data are."""
    rows = {row.model: row for row in comparison.rows}
    by_likelihood, by_distance = (
        [rows[name] for name in comparison.ranked_by.get(figure, [])]
        for figure in ("log_likelihood", "energy_distance")
    )
    lines = []
    if by_likelihood:
        lines.append(_best_likelihood(comparison, by_likelihood))
    if by_distance:
        lines.append(_closest_samples(comparison, by_distance, bool(by_likelihood)))
    if not lines:
        lines.append("No fit came to its end: there is nothing to rank.")
    ahead = [row.model for row in comparison.rows if row.gain is not None and _clear(row.gain)]
    if ahead:
        lines.append(
            f"More than {CLEAR:g} standard errors above independent marginals, the baseline: "
            f"{_listed(ahead)}."
        )
    return [*lines, str(comparison.data)]


def _best_likelihood(comparison: Comparison, rows: Sequence[Row]) -> str:
    best, *others = rows
    value = f"{_bound(best)}{shown(comparison.log_likelihood(best.model))} nats per sample"
    if not others:
        return f"{best.model} gives held-out rows {value}."
    lead = comparison.difference(best.model, others[0].model)
    far = ", as far as its lower bound tells" if others[0].density == Kind.LOWER else ""
    return (
        f"{best.model} explains held-out rows best: {value}. {others[0].model} follows, "
        f"{shown(lead)} nats behind: {_verdict(lead)}{far}."
    )


def _closest_samples(comparison: Comparison, rows: Sequence[Row], follow: bool) -> str:
    """About the rows that the energy distance of their samples ranks, and why it does."""
    best, *others = rows
    closest = f"{best.model}, {shown(_value(best))}"
    if others:
        lead = _further(best, others[0])
        closest += f"; {others[0].model} {shown(lead)} further away, {_verdict(lead)}"
    if comparison.atoms:
        return (
            f"By energy distance the samples closest to held-out rows are those of {closest}. It ranks "
            f"the models because {len(comparison.atoms)} continuous columns (as "
            f"{comparison.atoms[0]}) repeat values so often that a likelihood can grow without bound "
            "there."
        )
    why = ", ".join(
        f"{row.model} ({NOT_COMPARABLE.get(row.density, 'not a number')})" for row in rows
    )
    below = " below the others" if follow else ""
    return (
        f"Ranked{below} by the energy distance of samples from held-out rows, for want of a "
        f"likelihood that can be compared: {why}. Closest: {closest}."
    )


def advice(comparison: Comparison) -> dict[str, str]:
    """Which model to take for what; empty where no fit came to its end."""
    rows = {row.model: row for row in comparison.rows}
    ranked = [rows[name] for name in comparison.ranked_by.get("log_likelihood", [])]
    sampled = sorted(
        (row for row in rows.values() if not math.isnan(_value(row).value)),
        key=lambda row: _value(row).value,
    )
    if not (ranked or sampled):
        return {}
    parts = {
        "Likelihoods of new rows": _for_likelihoods(comparison, ranked),
        "Faithful samples": _for_samples(sampled),
        "Many samples": _for_speed(comparison, ranked, sampled),
        "Unknown entries": _for_completion(comparison),
        "Other data": _for_other_data(list(rows)),
        "With care": _with_care(comparison),
    }
    return {purpose: text for purpose, text in parts.items() if text}


def _for_likelihoods(comparison: Comparison, ranked: Sequence[Row]) -> str:
    if len(ranked) < 2:
        return ""
    best, *others = ranked
    near = [r.model for r in others if not _clear(comparison.difference(best.model, r.model))]
    text = best.model
    text += f"; {_listed(near)} cannot be told from it" if near else ", by a clear difference"
    exact = next((row.model for row in ranked if row.density == Kind.EXACT), None)
    if best.density != Kind.EXACT and exact is not None:
        text += f". That is a {best.density}; the best exact one is that of {exact}"
    return text + "."


def _for_samples(rows: Sequence[Row]) -> str:
    parts = []
    for figure, how in (
        ("energy_distance", "by energy distance"),
        ("classifier_auc", "by a classifier that tells them from held-out rows"),
    ):
        measured = [row for row in rows if not math.isnan(_value(row, figure).value)]
        if len(measured) < 2:
            continue
        best, *others = sorted(measured, key=lambda row: _value(row, figure).value)
        near = [row.model for row in others if not _clear(_further(best, row, figure))]
        if len(near) == len(others):
            parts.append(f"{how} no model's are clearly better than the others'")
        else:
            follow = f", not clearly ahead of those of {_listed(near)}" if near else ", clearly"
            parts.append(f"{how} those of {best.model} are best{follow}")
    text = "; ".join(parts)
    return text[:1].upper() + text[1:] + "." if text else ""


def _for_speed(comparison: Comparison, ranked: Sequence[Row], sampled: Sequence[Row]) -> str:
    """The best model, and those that draw faster than all that are ranked above them."""
    parts = []
    best, *_ = rows = [*ranked, *(row for row in sampled if row not in ranked)]
    fastest = 0.0
    for row in rows:
        if "sampling" not in row.figures or row.figures["sampling"].value <= fastest:
            continue
        fastest = row.figures["sampling"].value
        text = f"{row.model} draws {_plainly(fastest)} rows/s"
        if row in ranked and row is not best:
            lead = comparison.difference(best.model, row.model)
            text += f" ({shown(lead)} nats below {best.model})"
        parts.append(text)
    return "; ".join(parts) + "." if parts else ""


def _for_completion(comparison: Comparison) -> str:
    able = []
    for row in comparison.rows:
        run = comparison.best_run(row.model)
        if run and run.model and type(run.model).complete is not GenerativeModel.complete:
            able.append(row.model)
    return f"{_listed(able)} can fill them in from the rest of a row." if able else ""


def _for_other_data(names: Sequence[str]) -> str:
    """What only some of the models take."""
    takes = {
        "categories": [name for name in names if "categorical" in find(name).columns],
        "angles (periodic columns)": [name for name in names if "periodic" in find(name).columns],
        "a context": [name for name in names if find(name).cls.takes_context],
    }
    parts = []
    for what, able in takes.items():
        unable = [name for name in names if name not in able]
        if unable:
            few = len(unable) < len(able)
            parts.append(f"{what}: {f'all but {_listed(unable)}' if few else _listed(able)}")
    return f"Not all of them take everything. {'; '.join(parts).capitalize()}." if parts else ""


def _with_care(comparison: Comparison) -> str:
    parts = []
    for row in comparison.rows:
        train = row.figures.get("train_log_likelihood")
        if row.log_likelihood is not None and train is not None:
            error = math.hypot(train.stderr or 0.0, row.log_likelihood.stderr or 0.0)
            gap = Figure(train.value - row.log_likelihood.value, error)
            if _clear(gap):
                parts.append(
                    f"{row.model} gives training rows {shown(gap)} nats more than test rows"
                )
        if row.diverged:
            parts.append(f"{row.model} diverged in {row.diverged} of {row.seeds} fits")
    return "; ".join(parts) + "." if parts else ""


def notes(comparison: Comparison) -> list[str]:
    """What a reader of the table must know besides."""
    lines = [f"{name} was left out: {reason}" for name, reason in comparison.refused.items()]
    lines += [
        f"{run.name}, seed {run.seed}, {'diverged' if run.diverged else 'failed'}: {run.error}"
        for run in comparison.runs
        if run.error is not None
    ]
    for row in comparison.rows:
        values = [run.test.value for run in comparison.finished(row.model) if run.test]
        outside = torch.stack(values).isneginf().any(0).sum().item() if values else 0
        if outside:
            lines.append(f"{row.model} gives {outside:,} test rows no density at all (−∞).")
    if comparison.settings["jobs"] != 1:
        lines.append(
            "Fits ran side by side, so that they cost each other time: no speeds are given."
        )
    for row in comparison.rows:
        if row.largest.get("invalid"):
            part = f"{row.largest['invalid']:.2%}"
            lines.append(f"{part} of the draws of {row.model} lie outside the domain.")
    first = next((row.figures for row in comparison.rows if row.figures), {})
    floors = {column.title: first.get(f"{column.figure}_floor") for column in COLUMNS}
    levels = [f"{name} {shown(floor)}" for name, floor in floors.items() if floor is not None]
    if levels:
        lines.append(
            f"Real training rows in place of samples have {', '.join(levels)}: at that level a "
            "model's samples cannot be told from data by these measures."
        )
    return lines


# Words and numbers.


def _clear(lead: Figure) -> bool:
    return lead.value == math.inf or lead.value > CLEAR * (lead.stderr or 0.0)


def _verdict(lead: Figure) -> str:
    """Whether a difference is one."""
    if lead.stderr is None or not math.isfinite(lead.value) or not math.isfinite(lead.stderr):
        return "with an unknown error"
    if _clear(lead):
        return f"a clear difference, more than {CLEAR:g} standard errors"
    return "too little to tell the two apart"


def _bound(row: Row) -> str:
    return "at least " if row.density == Kind.LOWER else ""


def _value(row: Row, figure: str = "energy_distance") -> Figure:
    return row.figures.get(figure, Figure(math.nan))


def _further(best: Row, other: Row, figure: str = "energy_distance") -> Figure:
    """How much larger the figure of one row is than that of another."""
    near, far = _value(best, figure), _value(other, figure)
    return Figure(far.value - near.value, math.hypot(near.stderr or 0.0, far.stderr or 0.0))


def _plainly(value: float) -> str:
    """Three significant digits, with separators."""
    return f"{float(f'{value:.3g}'):,.0f}" if value >= 100 else f"{value:.3g}"


def _listed(names: Sequence[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last
