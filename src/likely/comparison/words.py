"""Findings in sentences: each follows from figures, and says where they are not clear."""

import math
from collections.abc import Iterable, Sequence

from likely.comparison.findings import AHEAD, Findings, Ranking
from likely.comparison.results import NOT_COMPARABLE, Row
from likely.comparison.seeds import LEVEL, Pooled
from likely.core.likelihood import Kind, shown
from likely.evaluation.measures import BY_NAME

ONE_SEED = "with one seed the error excludes variation between runs"
CLEAR = (
    "What follows from these figures; a difference counts as clear by a t test over rows and seeds, "
    f"at the two-sided level {LEVEL:g}, that of three standard errors."
)


def summary(findings: Findings) -> list[str]:
    """What came out and how it is ranked; the last sentence says what the data are."""
    ranked = [*filter(None, [_best_likelihood(findings), _closest_samples(findings)])]
    ahead = (
        f"More than {AHEAD:g} standard errors above independent marginals, the baseline: "
        f"{_listed(findings.ahead)}."
    )
    to_come = findings.results.settings.get("to_come")
    return [
        *([f"Not finished: still to come are {_listed(to_come)}."] if to_come else []),
        *(ranked or ["No fit completed: there is nothing to rank."]),
        *([ahead] if findings.ahead else []),
        str(findings.results.data),
    ]


def _best_likelihood(findings: Findings) -> str:
    if not findings.by_likelihood:
        return ""
    if not findings.likelihoods.rows:
        return "No model gives every test row a density: likelihoods (−∞) rank none."
    best, *others = findings.likelihoods.rows
    assert best.log_likelihood is not None
    at_least = "at least " if best.density == Kind.LOWER else ""
    value = f"{at_least}{shown(best.log_likelihood)} nats per sample"
    if not others:
        return f"{best.model} gives held-out rows {value}."
    lead = findings.likelihoods.leads[others[0].model]
    bound = ", as far as its lower bound tells" if others[0].density == Kind.LOWER else ""
    gap = f"{shown(lead)} nats behind: {_verdict(lead)}{bound}"
    if lead.value == math.inf:
        gap = "but gives some test rows no density at all"
    return f"{best.model} explains held-out rows best: {value}. {others[0].model} follows, {gap}."


def _closest_samples(findings: Findings) -> str:
    """About the rows that the energy distance of their samples ranks, and why it does."""
    if not findings.by_distance:
        return ""
    best, *others = findings.by_distance
    second = ""
    if others and others[0].leaves_domain == best.leaves_domain:
        lead = findings.distances.leads[others[0].model]
        second = f"; {others[0].model} {shown(lead)} further away: {_verdict(lead)}"
    closest = f"{best.model}, {shown(best.figures['energy_distance'])}{second}"
    outside = _outside(findings.by_distance)
    last = f" Last, as distances leave out draws outside the domain: {outside}." if outside else ""
    if atoms := findings.results.atoms:
        return (
            f"By energy distance the samples closest to held-out rows are those of {closest}. It ranks "
            f"the models because {len(atoms)} continuous columns (such as {atoms[0]}) repeat values so "
            f"often that a likelihood can grow without bound there.{last}"
        )
    why = ", ".join(
        f"{row.model} ({NOT_COMPARABLE.get(row.density, 'not a number')})"
        for row in findings.by_distance
    )
    below = " below the others" if findings.by_likelihood else ""
    return (
        f"Ranked{below} by the energy distance of samples from held-out rows, for want of a "
        f"likelihood that can be compared: {why}. Closest: {closest}.{last}"
    )


def advice(findings: Findings) -> dict[str, str]:
    """Which model to use for what; empty where no fit completed."""
    if not (findings.likelihoods.rows or findings.sorted_by("energy_distance")):
        return {}
    able = findings.completing
    parts = {
        "Likelihoods of new rows": _for_likelihoods(findings.likelihoods),
        "Faithful samples": _for_samples(findings),
        "Many samples": _for_speed(findings),
        "Unknown entries": f"{_listed(able)} can fill them in from the others." if able else "",
        "Other data": _for_other_data(findings),
        "With care": _with_care(findings),
    }
    return {purpose: text for purpose, text in parts.items() if text}


def _for_likelihoods(ranking: Ranking) -> str:
    if len(ranking.rows) < 2:
        return ""
    best, *others = ranking.rows
    behind, near, unknown = (ranking.where(answer) for answer in (True, False, None))
    bounds = [row.model for row in others if row.density == Kind.LOWER and row.model in behind]
    lie, tell = "lies", "its lower bound tells"
    if len(bounds) > 1:
        lie, tell = "lie", "their lower bounds tell"
    exact = next((row.model for row in ranking.rows if row.density == Kind.EXACT), None)
    place = _sentence([
        f"{best.model}{', by a clear difference' if len(behind) == len(others) else ''}",
        near and f"{_listed(near)} cannot be told from it",
        unknown and f"how far {_listed(unknown)} may lie behind is open: {_doubt(ranking)}",
        bounds and f"{_listed(bounds)} {lie} behind as far as {tell}",
    ], capital=False)  # fmt: skip
    if best.density == Kind.EXACT or exact is None:
        return place
    return f"{place} That is a {best.density}; the best exact one is that of {exact}."


def _for_samples(findings: Findings) -> str:
    rankings = findings.samples.items()
    outside = _outside(findings.sorted_by("energy_distance"))
    return _sentence([
        *(f"by {BY_NAME[name].title} {_whose(by)}" for name, by in rankings if len(by.rows) > 1),
        outside and f"left out for their draws outside the domain: {outside}",
    ])  # fmt: skip


def _whose(ranking: Ranking) -> str:
    """Whose samples are best."""
    behind, near, unknown = (ranking.where(answer) for answer in (True, False, None))
    if len(near) == len(ranking.leads):
        return "no model's are clearly better than the others'"
    parts = [
        len(behind) == len(ranking.leads) and "clearly",
        near and f"not clearly ahead of those of {_listed(near)}",
        unknown and f"but how far ahead of those of {_listed(unknown)} is open ({_doubt(ranking)})",
    ]
    return ", ".join([f"those of {ranking.rows[0].model} are best", *filter(None, parts)])  # type: ignore[list-item]


def _for_speed(findings: Findings) -> str:
    def drawn(row: Row) -> str:
        rate = float(f"{row.figures['sampling'].value:.3g}")
        text = f"{row.model} draws {f'{rate:,.0f}' if rate >= 100 else f'{rate:g}'} rows/s"
        lead = findings.likelihoods.leads.get(row.model)
        if lead is None:
            return text
        return f"{text} ({shown(lead)} nats below {findings.likelihoods.rows[0].model})"

    return _sentence(map(drawn, findings.faster), capital=False)


def _for_other_data(findings: Findings) -> str:
    def takers(able: Sequence[str]) -> str:
        rest = [row.model for row in findings.rows if row.model not in able]
        return f"all but {_listed(rest)}" if len(rest) < len(able) else _listed(able or ["none"])

    parts = _sentence(f"{what}: {takers(able)}" for what, able in findings.special.items())
    return parts and f"Not all of them take everything. {parts}"


def _with_care(findings: Findings) -> str:
    clauses = []
    for row in findings.rows:
        if gap := findings.overfitted.get(row.model):
            clauses.append(f"{row.model} gives training rows {shown(gap)} nats more than test rows")
        if row.diverged:
            clauses.append(f"{row.model} diverged in {row.diverged} of {row.seeds} fits")
    return _sentence(clauses, capital=False)


def notes(findings: Findings) -> list[str]:
    """What else a reader of the table must know."""
    results = findings.results
    floors = ", ".join(f"{title} {shown(floor)}" for title, floor in findings.floors.items())
    lines = [
        *(f"{name} was left out: {reason}" for name, reason in results.refused.items()),
        *(
            f"{run.name}, seed {run.seed}, {'diverged' if run.diverged else 'failed'}: {run.error}"
            for run in results.runs
            if run.error is not None
        ),
        *(
            f"{name} gives {count:,} test rows no density at all (−∞)."
            for name, count in findings.without_density.items()
        ),
        results.settings["jobs"] != 1
        and "Fits ran side by side and slowed each other down: no speeds are given.",
        *(
            f"{part:.2%} of the draws of {row.model} lie outside the domain."
            for row in findings.rows
            if (part := row.largest.get("invalid"))
        ),
        floors
        and f"Real training rows in place of samples have {floors}: at that level a model's samples "
        "cannot be told from data by these measures.",
    ]
    return [line for line in lines if line]


# Words and numbers.


def _verdict(lead: Pooled) -> str:
    """Whether a difference is one."""
    if lead.clear is None:
        return ONE_SEED if lead.degrees == 0 else "the error is unknown"
    if lead.clear:
        return f"a clear difference (p < {LEVEL:g})"
    return "too little to tell the two apart"


def _doubt(ranking: Ranking) -> str:
    """Why it is not known whether differences are clear."""
    return " and ".join(dict.fromkeys(_verdict(ranking.leads[n]) for n in ranking.where(None)))


def _outside(rows: Iterable[Row]) -> str:
    """The models with many draws outside the domain, and how many these are."""
    return ", ".join(f"{r.model} ({r.largest['invalid']:.1%})" for r in rows if r.leaves_domain)


def _sentence(clauses: Iterable[str | float | Sequence[str]], capital: bool = True) -> str:
    """The clauses that say something, as one sentence; a name of a model has no capital."""
    text = "; ".join(str(clause) for clause in clauses if clause)
    return f"{text[:1].upper() if capital else text[:1]}{text[1:]}." if text else ""


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
