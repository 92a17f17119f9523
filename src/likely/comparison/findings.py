"""What follows from the results of a comparison, as facts: `words` puts them into sentences."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from likely.comparison.results import Results, Row
from likely.comparison.seeds import Pooled
from likely.contract.abilities import Completes
from likely.contract.registry import find
from likely.core.likelihood import Figure
from likely.evaluation.measures import MEASURES

AHEAD = 3.0  # standard errors above the baseline for a gain to be named
FAITHFUL = ("energy_distance", "classifier_auc")  # measures that say whose samples are best


@dataclass(frozen=True)
class Ranking:
    """Rows by one figure, the best first, and by how much the best one leads each of the others."""

    rows: Sequence[Row]
    leads: dict[str, Pooled]

    @classmethod
    def of(cls, rows: Sequence[Row], lead: Callable[[Row, Row], Pooled]) -> "Ranking":
        """Of sorted rows; `lead(best, other)` is positive where the best one is better."""
        return cls(rows, {row.model: lead(rows[0], row) for row in rows[1:]})

    def where(self, clear: bool | None) -> list[str]:
        """Models that lie clearly behind the best, that do not (False), or nobody knows (None)."""
        return [name for name, lead in self.leads.items() if lead.clear is clear]


class Findings:
    """Facts that follow from the results of a comparison, each computed once."""

    def __init__(self, results: Results) -> None:
        self.results = results
        self.rows = results.rows
        by, rows = results.ranked_by, {row.model: row for row in results.rows}
        self.by_likelihood = [rows[name] for name in by.get("log_likelihood", [])]
        self.by_distance = [rows[name] for name in by.get("energy_distance", [])]

    @cached_property
    def likelihoods(self) -> Ranking:
        """Models that likelihoods rank; none where all give some test row no density."""
        scored = [row for row in self.by_likelihood if row.log_likelihood is not None]
        if all(row.log_likelihood.value == -math.inf for row in scored):  # type: ignore[union-attr]
            scored = []
        return Ranking.of(scored, lambda a, b: self.results.difference(a.model, b.model))

    @cached_property
    def distances(self) -> Ranking:
        """Models that the energy distance of their samples ranks."""
        return Ranking.of(self.by_distance, lambda best, row: _value(row) - _value(best))

    @cached_property
    def samples(self) -> dict[str, Ranking]:
        """All models with few draws outside the domain, by measures of their samples."""
        return {
            name: Ranking.of(
                [row for row in self.sorted_by(name) if not row.leaves_domain],
                lambda best, row, name=name: _value(row, name) - _value(best, name),  # type: ignore[misc]
            )
            for name in FAITHFUL
        }

    def sorted_by(self, name: str) -> list[Row]:
        """Models by a measure of their samples, those with many draws outside the domain last."""
        measured = [row for row in self.rows if math.isfinite(_value(row, name).value)]
        return sorted(measured, key=lambda row: (row.leaves_domain, _value(row, name).value))

    @cached_property
    def ahead(self) -> list[str]:
        """Models well above independent marginals."""
        gains = [(row.model, row.gain) for row in self.by_likelihood if row.gain is not None]
        return [
            name
            for name, gain in gains
            if gain.value == math.inf or gain.value > AHEAD * (gain.stderr or 0.0)
        ]

    @cached_property
    def faster(self) -> list[Row]:
        """The best model, and those that draw faster than all that are ranked above them."""
        ranked, fastest, found = self.likelihoods.rows, 0.0, []
        for row in [*ranked, *(r for r in self.sorted_by("energy_distance") if r not in ranked)]:
            if "sampling" in row.figures and row.figures["sampling"].value > fastest:
                fastest = row.figures["sampling"].value
                found.append(row)
        return found

    @cached_property
    def completing(self) -> list[str]:
        """Models that can fill in unknown entries."""
        runs = [(row.model, self.results.best_run(row.model)) for row in self.rows]
        return [name for name, run in runs if run and isinstance(run.model, Completes)]

    @cached_property
    def special(self) -> dict[str, list[str]]:
        """What not all of the models take, and those that do."""
        entries = {row.model: find(row.model) for row in self.rows}
        takes = {
            "categories": [n for n, entry in entries.items() if "categorical" in entry.columns],
            "angles (periodic columns)": [n for n, e in entries.items() if "periodic" in e.columns],
            "a context": [name for name, entry in entries.items() if entry.cls.takes_context],
        }
        return {what: able for what, able in takes.items() if len(able) < len(entries)}

    @cached_property
    def overfitted(self) -> dict[str, Pooled]:
        """By how many nats training rows clearly lie above test rows, in these very fits."""
        gaps = {}
        for row in self.rows:
            train, test = row.figure("train_log_likelihood"), row.log_likelihood
            if train is not None and test is not None:
                error = math.hypot(train.stderr or 0.0, test.stderr or 0.0)
                gaps[row.model] = Pooled(train.value - test.value, error)
        return {name: gap for name, gap in gaps.items() if gap.clear}

    @cached_property
    def without_density(self) -> dict[str, int]:
        """How many test rows have no density in some run."""
        counts = {}
        for row in self.rows:
            values = [run.test.value for run in self.results.finished(row.model) if run.test]
            if values and (count := torch.stack(values).isneginf().any(0).sum().item()):
                counts[row.model] = int(count)
        return counts

    @cached_property
    def floors(self) -> dict[str, Figure]:
        """What training rows in place of samples have, by titles of measures.

        Empty given a context: draws have that of the test rows, training rows have others.
        """
        if self.results.data.context is not None:
            return {}
        figures: dict[str, Pooled] = next((row.figures for row in self.rows if row.figures), {})
        named = {measure.title: figures.get(f"{measure.name}_floor") for measure in MEASURES}
        return {title: floor for title, floor in named.items() if floor is not None}


def _value(row: Row, name: str = "energy_distance") -> Pooled:
    return row.figures.get(name, Pooled(math.nan))
