"""Several models trained on the same energy: ranked by effective sample size and free energy."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib as mpl
from rich.table import Table

from likely._version import provenance
from likely.contract.model import GenerativeModel
from likely.contract.registry import entries, make
from likely.core.errors import DomainError, LikelyError
from likely.core.files import write_json, write_text
from likely.core.likelihood import Figure, shown
from likely.core.target import Target
from likely.evaluation.weighted import Weighted, reweight
from likely.fitting.fit import fit
from likely.fitting.history import History
from likely.report.page import Card, Cell, Column, Page, Section, listed, terminal_table
from likely.report.style import PALETTE, STYLE, empty_figure, to_uri

DRAWS = 1 << 14
COLUMNS = [
    Column("model", "", "Name as in likely models.", numeric=False),
    Column("ESS", "%", "Effective part of the draws: mean over seeds, and its standard error."),
    Column("free energy", "nats", "F = E_q[log q + E], at least −log Z; lower is better."),
    Column("KL(q‖p)", "nats", "log Z of the weights less the bound −F, of the best seed."),
    Column("log Z", "nats", "From the weights of the best seed."),
    Column("acceptance", "", "Of independence Metropolis, best seed."),
    Column(
        "k̂", "", "Pareto's shape of the largest weights, best seed; above 0.7 do not trust log Z."
    ),
    Column("parameters", "", "Numbers that are trained."),
    Column("steps", "", "Of training, best seed."),
    Column("failed", "", "Seeds whose training diverged or failed."),
]


@dataclass
class EnergyRun:
    """One model trained with one seed."""

    name: str
    seed: int
    parameters: int = 0
    history: History | None = None
    weighted: Weighted | None = None
    error: str | None = None


def _ess(weighted: Weighted) -> float:
    return weighted.ess


def _free_energy(weighted: Weighted) -> float:
    return -weighted.elbo.value


@dataclass
class EnergyComparison:
    """Several models on the same energy: what `compare` returns for a target with one.

    Attributes
    ----------
    target : Target
    runs : list of EnergyRun
    refused : dict
        Models that do not take part, and why.
    settings : dict
    """

    target: Target
    runs: list[EnergyRun]
    refused: dict[str, str]
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def ranking(self) -> list[str]:
        """Names from the best to the worst: by effective sample size, then by free energy."""

        def key(name: str) -> tuple[float, float]:
            if self.best(name) is None:
                return math.inf, math.inf
            return -self._mean(name, _ess).value, self._mean(name, _free_energy).value

        return sorted(dict.fromkeys(run.name for run in self.runs), key=key)

    def best(self, name: str) -> EnergyRun | None:
        """The run of a model with the largest effective sample size."""
        done = [run for run in self.runs if run.name == name and run.weighted is not None]
        return max(done, key=lambda run: run.weighted.ess if run.weighted else 0.0, default=None)

    def _mean(self, name: str, figure: Callable[[Weighted], float]) -> Figure:
        """Mean over the seeds that have ended, with its standard error."""
        values = [
            figure(run.weighted)
            for run in self.runs
            if run.name == name and run.weighted is not None
        ]
        error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
        return Figure(statistics.fmean(values), error)

    def _row(self, name: str) -> list[Cell]:
        best, of_name = self.best(name), [run for run in self.runs if run.name == name]
        failed = Cell(f"{sum(run.error is not None for run in of_name)} of {len(of_name)}")
        if best is None or best.weighted is None or best.history is None:
            return [Cell(name, name), *[Cell("–")] * (len(COLUMNS) - 2), failed]
        w = best.weighted
        ess, free_energy = self._mean(name, _ess), self._mean(name, _free_energy)
        percent = Figure(100 * ess.value, None if ess.stderr is None else 100 * ess.stderr)
        gap = Figure(w.log_z.value - w.elbo.value, w.log_z.stderr)
        figures = [percent, free_energy, gap, w.log_z, w.acceptance]
        return [
            Cell(name, name),
            *(Cell(shown(figure), figure.value) for figure in figures),
            Cell(f"{w.k_hat:.2f}", w.k_hat),
            Cell(f"{best.parameters:,}", best.parameters),
            Cell(f"{best.history.steps:,}", best.history.steps),
            failed,
        ]

    def summary(self) -> list[str]:
        """What came out, in sentences."""
        first = self.best(self.ranking[0])
        if first is None or first.weighted is None:
            return ["No training ended."]
        w, exact = first.weighted, self.target.log_z
        known = "" if exact is None else f" (exact: {exact:.6g})"
        return [
            f"{self.ranking[0]} has the largest effective sample size, {w.ess:.1%} of {len(w):,} draws; its "
            f"log Z is {shown(w.log_z)}{known}.",
            "Models are ranked by effective sample size, then by free energy; both are blind to a mode that "
            "a model has lost, which the notes tell where it can be seen.",
        ]

    @property
    def notes(self) -> list[str]:
        """What speaks against the figures of each model, which did not take part, which failed."""
        found = [f"{name}: {reason}" for name, reason in self.refused.items()]
        for name in self.ranking:
            if (best := self.best(name)) is not None and best.weighted is not None:
                found += [f"{name}: {note}" for note in best.weighted.notes]
        found += [f"{run.name}, seed {run.seed}: {run.error}" for run in self.runs if run.error]
        return found

    def rich_table(self, width: int = 0) -> Table:
        """The table for a terminal."""
        return terminal_table(COLUMNS, [self._row(name) for name in self.ranking])

    def to_json(self, path: str | Path | None = None) -> dict[str, Any]:
        """All figures, also written to `path`."""
        report = {
            "target": self.target.name,
            "log_z_exact": self.target.log_z,
            "settings": self.settings,
            "ranking": self.ranking,
            "refused": self.refused,
            "summary": self.summary(),
            "notes": self.notes,
            "runs": [
                {
                    "model": run.name,
                    "seed": run.seed,
                    "parameters": run.parameters,
                    "steps": run.history.steps if run.history else None,
                    "seconds": run.history.seconds if run.history else None,
                    "weights": run.weighted.to_json() if run.weighted else None,
                    "error": run.error,
                }
                for run in self.runs
            ],
        }
        if path is not None:
            write_json(path, report)
        return report

    def to_html(self, path: str | Path) -> None:
        """Write the report: one page that needs nothing else."""
        done = next((run for run in self.runs if run.history is not None), None)
        page = Page(
            title=f"likely compare: the energy of {self.target.name}",
            lead=self.summary(),
            columns=COLUMNS,
            rows=[self._row(name) for name in self.ranking],
            sorted_by=("ESS", "descending"),
            notes=self.notes,
            sections=[] if done is None else [self._training()],
            settings=[
                ("settings", listed(self.settings)),
                ("made with", listed(provenance(self.settings["device"]))),
            ],
        )
        write_text(path, page.render())

    def write(self, folder: str | Path) -> None:
        """Write index.html and comparison.json into a folder."""
        self.to_html(Path(folder) / "index.html")
        self.to_json(Path(folder) / "comparison.json")

    @mpl.rc_context(STYLE)
    def _training(self) -> Section:
        cards = []
        for name, label in (("free_energy", "free energy F (nats)"), ("ess", "effective part")):
            figure = empty_figure(4.6, 3.2)
            axes = figure.add_subplot(xlabel="seconds", ylabel=label)
            late: list[float] = []
            for model, color in zip(self.ranking, PALETTE * len(self.ranking), strict=False):
                best = self.best(model)
                if best is not None and best.history is not None:
                    frame = best.history.frame
                    axes.plot(frame["seconds"], frame[name], color=color, label=model)
                    late += list(frame[name].tail(max(2, len(frame) // 2)))
            if name == "free_energy" and late and max(late) > min(late):
                span = max(late) - min(late)
                axes.set_ylim(min(late) - 0.1 * span, max(late) + 0.1 * span)
            axes.legend()
            cards.append(Card(label, to_uri(figure)))
        text = "The best seed of each model, on the same noise at each validation."
        return Section("Training", text, cards, "large")


def compare_energies(
    models: Sequence[str] | None,
    target: Target,
    seeds: range,
    options: Mapping[str, Mapping[str, Any]],
    training: Mapping[str, Any],
    draws: int | None = None,
    progress: bool = False,
    out: str | Path | None = None,
) -> EnergyComparison:
    """As `compare`, for a target with an energy."""
    able = [name for name, entry in entries().items() if entry.cls.energy_gradients]
    names = [*dict.fromkeys(models if models is not None else able)]
    refused: dict[str, str] = {}
    for name in names:
        try:
            model = _made(name, target, seeds[0], options)
            if not model.energy_gradients:
                refused[name] = "it cannot be trained on an energy"
        except DomainError as error:
            refused[name] = str(error)
    names = [name for name in names if name not in refused]
    if not names:
        reasons = "; ".join(refused.values()) or "none is named"
        raise DomainError(f"none of the models can be trained on {target.name} ({reasons})")
    runs: list[EnergyRun] = []
    found = EnergyComparison(target, runs, refused, {"seeds": [*seeds], **training})
    for name in names:
        for seed in seeds:
            model = _made(name, target, seed, options)
            run = EnergyRun(name, seed, sum(p.numel() for p in model.parameters()))
            try:
                run.history = fit(model, target, seed=seed, progress=progress, **training)
                run.weighted = reweight(model, target, draws or DRAWS, seed=seed)
            except LikelyError as error:
                run.error = str(error)
            runs.append(run)
        if out is not None:
            found.write(out)
    return found


def _made(
    name: str, target: Target, seed: int, options: Mapping[str, Mapping[str, Any]]
) -> GenerativeModel:
    given = options.get(name, {})
    return make(name, target.domain, context=target.context, seed=seed, **given)
