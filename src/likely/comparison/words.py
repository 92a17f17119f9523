"""What a comparison found, in sentences: each follows from figures, and says where they are not clear."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from likely.comparison.columns import COLUMNS
from likely.comparison.seeds import LEVEL, Pooled
from likely.contract.abilities import Completes
from likely.contract.registry import find
from likely.core.likelihood import Kind, shown

if TYPE_CHECKING:
    from likely.comparison.results import Results, Row

ONE_SEED = "with one seed the chance in training is not in the error"
NOT_COMPARABLE = {
    Kind.NONE: "none",
    Kind.UPPER: "an upper bound, which flatters",
    Kind.ESTIMATE: "an estimate, which may flatter",
}
AHEAD = 3.0  # standard errors above the baseline, from which on a gain is told


def summary(results: Results) -> list[str]:
    """What came out and how it is ranked; the last sentence says what the data are."""
    rows = {row.model: row for row in results.rows}
    by_likelihood, by_distance = (
        [rows[name] for name in results.ranked_by.get(figure, [])]
        for figure in ("log_likelihood", "energy_distance")
    )
    lines = []
    if by_likelihood:
        lines.append(_best_likelihood(results, by_likelihood))
    if by_distance:
        lines.append(_closest_samples(results, by_distance, bool(by_likelihood)))
    if not lines:
        lines.append("No fit came to its end: there is nothing to rank.")
    ahead = [
        row.model
        for row in by_likelihood
        if row.gain is not None
        and (row.gain.value == math.inf or row.gain.value > AHEAD * (row.gain.stderr or 0.0))
    ]
    if ahead:
        lines.append(
            f"More than {AHEAD:g} standard errors above independent marginals, the baseline: "
            f"{_listed(ahead)}."
        )
    return [*lines, str(results.data)]


def _best_likelihood(results: Results, rows: Sequence[Row]) -> str:
    best, *others = rows
    if results.log_likelihood(best.model).value == -math.inf:
        return "No model gives every test row a density: likelihoods (−∞) tell none from another."
    value = f"{_bound(best)}{shown(results.log_likelihood(best.model))} nats per sample"
    if not others:
        return f"{best.model} gives held-out rows {value}."
    first = f"{best.model} explains held-out rows best: {value}. {others[0].model} follows, "
    lead = results.difference(best.model, others[0].model)
    if lead.value == math.inf:
        return f"{first}but gives some test rows no density at all."
    far = ", as far as its lower bound tells" if others[0].density == Kind.LOWER else ""
    return f"{first}{shown(lead)} nats behind: {_verdict(lead)}{far}."


def _closest_samples(results: Results, rows: Sequence[Row], follow: bool) -> str:
    """About the rows that the energy distance of their samples ranks, and why it does."""
    best, *others = rows
    closest = f"{best.model}, {shown(_value(best))}"
    if others and others[0].strays == best.strays:
        lead = _value(others[0]) - _value(best)
        closest += f"; {others[0].model} {shown(lead)} further away: {_verdict(lead)}"
    strays = _strays(rows)
    last = f" Last, as distances leave draws outside the domain out: {strays}." if strays else ""
    if results.atoms:
        return (
            f"By energy distance the samples closest to held-out rows are those of {closest}. It ranks "
            f"the models because {len(results.atoms)} continuous columns (as "
            f"{results.atoms[0]}) repeat values so often that a likelihood can grow without bound "
            f"there.{last}"
        )
    why = ", ".join(
        f"{row.model} ({NOT_COMPARABLE.get(row.density, 'not a number')})" for row in rows
    )
    below = " below the others" if follow else ""
    return (
        f"Ranked{below} by the energy distance of samples from held-out rows, for want of a "
        f"likelihood that can be compared: {why}. Closest: {closest}.{last}"
    )


def advice(results: Results) -> dict[str, str]:
    """Which model to take for what; empty where no fit came to its end."""
    rows = {row.model: row for row in results.rows}
    ranked = [rows[name] for name in results.ranked_by.get("log_likelihood", [])]
    if ranked and results.log_likelihood(ranked[0].model).value == -math.inf:
        ranked = []
    sampled = _sampled(rows.values(), "energy_distance")
    if not (ranked or sampled):
        return {}
    parts = {
        "Likelihoods of new rows": _for_likelihoods(results, ranked),
        "Faithful samples": _for_samples(sampled),
        "Many samples": _for_speed(results, ranked, sampled),
        "Unknown entries": _for_completion(results),
        "Other data": _for_other_data(list(rows)),
        "With care": _with_care(results),
    }
    return {purpose: text for purpose, text in parts.items() if text}


def _for_likelihoods(results: Results, ranked: Sequence[Row]) -> str:
    if len(ranked) < 2:
        return ""
    best, *others = ranked
    leads = {row.model: results.difference(best.model, row.model) for row in others}
    behind, near, unknown = _sorted_out(leads)
    text = best.model
    if len(behind) == len(others):
        text += ", by a clear difference"
    if near:
        text += f"; {_listed(near)} cannot be told from it"
    if unknown:
        text += f"; how far {_listed(unknown)} may lie behind is open: {_doubt(leads, unknown)}"
    bounds = [row.model for row in others if row.density == Kind.LOWER and row.model in behind]
    if bounds:
        one = len(bounds) == 1
        text += f"; {_listed(bounds)} {'lies' if one else 'lie'} behind as far as "
        text += "its lower bound tells" if one else "their lower bounds tell"
    exact = next((row.model for row in ranked if row.density == Kind.EXACT), None)
    if best.density != Kind.EXACT and exact is not None:
        text += f". That is a {best.density}; the best exact one is that of {exact}"
    return text + "."


def _sampled(rows: Iterable[Row], figure: str) -> list[Row]:
    """Those whose samples are measured, the best first; last those with many draws left out."""
    measured = (row for row in rows if math.isfinite(_value(row, figure).value))
    return sorted(measured, key=lambda row: (row.strays, _value(row, figure).value))


def _for_samples(rows: Sequence[Row]) -> str:
    parts = []
    for figure, how in (
        ("energy_distance", "by energy distance"),
        ("classifier_auc", "by a classifier that tells them from held-out rows"),
    ):
        measured = [row for row in _sampled(rows, figure) if not row.strays]
        if len(measured) < 2:
            continue
        best, *others = measured
        leads = {row.model: _value(row, figure) - _value(best, figure) for row in others}
        behind, near, unknown = _sorted_out(leads)
        if len(near) == len(others):
            parts.append(f"{how} no model's are clearly better than the others'")
            continue
        text = f"{how} those of {best.model} are best"
        if len(behind) == len(others):
            text += ", clearly"
        if near:
            text += f", not clearly ahead of those of {_listed(near)}"
        if unknown:
            text += f", but how far ahead of those of {_listed(unknown)} is open"
            text += f" ({_doubt(leads, unknown)})"
        parts.append(text)
    out = _strays(rows)
    if out:
        parts.append(f"left aside for their draws outside the domain: {out}")
    return _sentence("; ".join(parts))


def _for_speed(results: Results, ranked: Sequence[Row], sampled: Sequence[Row]) -> str:
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
            lead = results.difference(best.model, row.model)
            text += f" ({shown(lead)} nats below {best.model})"
        parts.append(text)
    return "; ".join(parts) + "." if parts else ""


def _for_completion(results: Results) -> str:
    able = []
    for row in results.rows:
        run = results.best_run(row.model)
        if run and run.model and isinstance(run.model, Completes):
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
            parts.append(
                f"{what}: {f'all but {_listed(unable)}' if few else _listed(able or ['none'])}"
            )
    return f"Not all of them take everything. {_sentence('; '.join(parts))}" if parts else ""


def _with_care(results: Results) -> str:
    parts = []
    for row in results.rows:
        train = row.figures.get("train_log_likelihood")
        if row.log_likelihood is not None and train is not None:
            error = math.hypot(train.stderr or 0.0, row.log_likelihood.stderr or 0.0)
            # Of these very fits: chance in training needs no part in it.
            gap = Pooled(train.value - row.log_likelihood.value, error)
            if gap.clear:
                parts.append(
                    f"{row.model} gives training rows {shown(gap)} nats more than test rows"
                )
        if row.diverged:
            parts.append(f"{row.model} diverged in {row.diverged} of {row.seeds} fits")
    return "; ".join(parts) + "." if parts else ""


def notes(results: Results) -> list[str]:
    """What a reader of the table must know besides."""
    lines = [f"{name} was left out: {reason}" for name, reason in results.refused.items()]
    lines += [
        f"{run.name}, seed {run.seed}, {'diverged' if run.diverged else 'failed'}: {run.error}"
        for run in results.runs
        if run.error is not None
    ]
    for row in results.rows:
        values = [run.test.value for run in results.finished(row.model) if run.test]
        outside = torch.stack(values).isneginf().any(0).sum().item() if values else 0
        if outside:
            lines.append(f"{row.model} gives {outside:,} test rows no density at all (−∞).")
    if results.settings["jobs"] != 1:
        lines.append(
            "Fits ran side by side, so that they cost each other time: no speeds are given."
        )
    for row in results.rows:
        if row.largest.get("invalid"):
            part = f"{row.largest['invalid']:.2%}"
            lines.append(f"{part} of the draws of {row.model} lie outside the domain.")
    first = next((row.figures for row in results.rows if row.figures), {})
    floors = {column.title: first.get(f"{column.figure}_floor") for column in COLUMNS}
    levels = [f"{name} {shown(floor)}" for name, floor in floors.items() if floor is not None]
    # Given a context, draws share that of the test rows, and training rows have others.
    if levels and results.data.context is None:
        lines.append(
            f"Real training rows in place of samples have {', '.join(levels)}: at that level a "
            "model's samples cannot be told from data by these measures."
        )
    return lines


# Words and numbers.


def _verdict(lead: Pooled) -> str:
    """Whether a difference is one."""
    if lead.clear is None:
        return ONE_SEED if lead.degrees == 0 else "the error is unknown"
    if lead.clear:
        return f"a clear difference (p < {LEVEL:g})"
    return "too little to tell the two apart"


def _sorted_out(leads: Mapping[str, Pooled]) -> tuple[list[str], list[str], list[str]]:
    """The models that lie clearly behind, those that do not, and those of which nobody knows."""
    behind, near, unknown = (
        [name for name, lead in leads.items() if lead.clear is answer]
        for answer in (True, False, None)
    )
    return behind, near, unknown


def _doubt(leads: Mapping[str, Pooled], unknown: Sequence[str]) -> str:
    """Why it is not known whether differences are clear."""
    return " and ".join(dict.fromkeys(_verdict(leads[name]) for name in unknown))


def _strays(rows: Sequence[Row]) -> str:
    """The models with many draws outside the domain, and how many these are."""
    return ", ".join(f"{row.model} ({row.largest['invalid']:.1%})" for row in rows if row.strays)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _bound(row: Row) -> str:
    return "at least " if row.density == Kind.LOWER else ""


def _value(row: Row, figure: str = "energy_distance") -> Pooled:
    return row.figures.get(figure, Pooled(math.nan))


def _plainly(value: float) -> str:
    """Three significant digits, with separators."""
    return f"{float(f'{value:.3g}'):,.0f}" if value >= 100 else f"{value:.3g}"


def _listed(names: Sequence[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last
