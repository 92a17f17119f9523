"""What a comparison found: the property table, and the files that show it."""

from __future__ import annotations

import dataclasses
import io
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

import likely
from likely.comparison.page import filled, page
from likely.core.artifact import write_json, write_text
from likely.core.errors import DensityError, LikelyError
from likely.core.likelihood import Figure, Kind, Likelihood, plain, shown
from likely.core.model import GenerativeModel
from likely.core.registry import find
from likely.data import Data
from likely.data.check import SAMPLE_ENTRIES, has_atom
from likely.evaluation import Evaluation
from likely.fitting import History

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

BASELINES = ("independent", "gaussian")
RANKABLE = (Kind.EXACT, Kind.LOWER)  # a lower bound is at most the truth: it never flatters
CLEAR = 3.0  # standard errors from which on a difference counts as one


@dataclass
class Run:
    """One fit, and what it was worth.

    Attributes
    ----------
    name : str
        Of the model.
    seed : int
    density : Kind
    model : GenerativeModel, optional
        Trained; None if the run did not come to its end.
    history : History, optional
    evaluation : Evaluation, optional
        On the test split.
    error : str, optional
        Why the run did not come to its end.
    diverged : bool
        Whether that was because training could not go on.
    """

    name: str
    seed: int
    density: Kind
    model: GenerativeModel | None = None
    history: History | None = None
    evaluation: Evaluation | None = None
    error: str | None = None
    diverged: bool = False

    @property
    def test(self) -> Likelihood | None:
        """Log-likelihoods of all test rows."""
        return None if self.evaluation is None else self.evaluation.held

    @property
    def train(self) -> Likelihood | None:
        """Log-likelihoods of at most as many training rows."""
        return None if self.evaluation is None else self.evaluation.held_train

    @property
    def weight(self) -> Tensor | None:
        """Weights of the test rows, shape (n,)."""
        return None if self.evaluation is None else self.evaluation.weight


@dataclass(frozen=True)
class Row:
    """One model's properties: a row of the table. None stands for what it doesn't have.

    Attributes
    ----------
    model, title, family, constraint : str
        As in `lk.models()`.
    density : Kind
        What kind of number the log-likelihood is.
    log_likelihood : Figure
        Mean over test rows and seeds, nats per sample. Its error is that of drawing both anew.
    train_log_likelihood : Figure
        The same over training rows.
    bits_per_dimension : Figure
        On integer and binary domains; `dequantisation` says how densities became probabilities.
    gain : Figure
        `log_likelihood` above the best baseline's, paired over the same test rows.
    forward_kl : Figure
        KL(truth‖model) in nats, where the truth is known.
    energy_distance, sliced_wasserstein : Figure
        Between samples and test rows, as standardised features, with bootstrap errors.
    seed_spread : float
        Standard deviation over the seeds of the mean log-likelihood, nats.
    seeds, diverged, failed, skipped : int
        Fits, how many of them diverged, how many failed otherwise, and steps skipped for a loss that
        was not finite.
    fit_seconds, fit_rows_per_second, sample_rows_per_second, score_rows_per_second, steps : float
        Means over the seeds.
    parameters : int
    peak_memory : int
        Largest resident memory of the process during a fit, bytes.
    """

    model: str
    title: str
    family: str
    density: Kind
    log_likelihood: Figure | None
    train_log_likelihood: Figure | None
    bits_per_dimension: Figure | None
    dequantisation: str | None
    gain: Figure | None
    forward_kl: Figure | None
    energy_distance: Figure | None
    sliced_wasserstein: Figure | None
    seed_spread: float | None
    seeds: int
    diverged: int
    failed: int
    skipped: int
    constraint: str
    fit_seconds: float | None
    fit_rows_per_second: float | None
    sample_rows_per_second: float | None
    score_rows_per_second: float | None
    steps: float | None
    parameters: int | None
    peak_memory: int | None

    def to_json(self) -> dict[str, Any]:
        """All fields; figures as value and standard error, numbers that are not finite as null."""
        return plain(self)

    def flat(self) -> dict[str, Any]:
        """All fields as columns: a figure becomes two, the second one `…_stderr`."""
        columns: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if "Figure" in str(field.type):
                columns[field.name] = None if value is None else value.value
                columns[f"{field.name}_stderr"] = None if value is None else value.stderr
            else:
                columns[field.name] = value
        return columns


@dataclass(repr=False)
class Comparison:
    """Several models on the same data.

    Attributes
    ----------
    data : Data
    runs : list of Run
        Every fit.
    refused : dict of str to str
        Models that do not take the data, and why.
    settings : dict
        Seeds, budget and time.
    rows : list of Row
        One for each model, the best first; by which figure says `ranked_by`.
    table : DataFrame
        The rows, by model.
    """

    data: Data
    runs: list[Run]
    refused: dict[str, str]
    settings: dict[str, Any]

    def finished(self, name: str) -> list[Run]:
        """The runs of a model that came to their end.

        Raises
        ------
        LikelyError
            If there is no such model here.
        """
        runs = [run for run in self.runs if run.name == name]
        if not runs:
            known = ", ".join(dict.fromkeys(run.name for run in self.runs))
            raise LikelyError(f"no model {name!r} in this comparison; there are {known}")
        return [run for run in runs if run.error is None]

    def best_run(self, name: str) -> Run | None:
        """The run of a model with the best validation score, if any finished."""

        def score(run: Run) -> float:
            best = run.history.best if run.history is not None else None
            return -math.inf if best is None else best

        return max(self.finished(name), key=score, default=None)

    # Likelihoods.

    def _pooled(self, name: str) -> tuple[Likelihood, Tensor | None]:
        """Each test row's log-likelihood, averaged over the seeds; their error is the common one."""
        runs = self.finished(name)
        parts = [run.test for run in runs if run.test is not None]
        if not parts:
            raise DensityError(f"{name} has no log-likelihood here")
        value = torch.stack([part.value.double() for part in parts]).mean(0)
        weight = runs[0].weight
        means = torch.tensor([part.mean(weight).value for part in parts], dtype=torch.float64)
        known = sum(part.common_stderr**2 for part in parts) / len(parts)
        spread = means.var().item() if len(parts) > 1 and means.isfinite().all() else 0.0
        common = math.sqrt(max(spread, known) / len(parts))
        return Likelihood(value, parts[0].kind, common_stderr=common), weight

    def log_likelihood(self, name: str) -> Figure:
        """Mean log-likelihood of a model over test rows and seeds, in nats per sample.

        The standard error combines that of the mean over the rows (each averaged over the seeds
        first) with that of the mean over the seeds, σ_rows²/n + σ_seeds²/s: the error to expect
        when both test rows and seeds are drawn anew. With one seed it lacks the second part.
        """
        likelihood, weight = self._pooled(name)
        return likelihood.mean(weight)

    def difference(self, name: str, other: str) -> Figure:
        """How far one model's log-likelihood lies above another's, in nats per sample.

        Paired: the error is that of the mean of differences row by row, which is much smaller than
        the errors of the two means where rows are easy or hard for both models. The seeds' part is
        added for each model.

        Raises
        ------
        DensityError
            If one of them has no likelihood.
        """
        (a, weight), (b, _) = self._pooled(name), self._pooled(other)
        common = math.hypot(a.common_stderr, b.common_stderr)
        return Likelihood(a.value - b.value, a.kind + b.kind, None, common).mean(weight)

    @cached_property
    def baseline(self) -> str | None:
        """The better one of the baselines that took part, by log-likelihood."""
        present = {run.name for run in self.runs if run.test is not None}
        scores = {name: self.log_likelihood(name).value for name in BASELINES if name in present}
        return max(scores, key=lambda name: scores[name], default=None)

    # The table.

    @cached_property
    def atoms(self) -> list[str]:
        """Continuous columns with more than 1 % of the training rows on one value.

        A Lebesgue likelihood can grow without bound there, and says little.
        """
        domain = self.data.domain
        rows = np.sort(self.data.train.subset(SAMPLE_ENTRIES).x.flatten(1).numpy(), axis=0)
        return [
            domain.name(index)
            for column, where in domain.groups
            if not column.discrete
            for index in where
            if has_atom(rows[:, index], len(rows))
        ]

    @cached_property
    def ranked_by(self) -> str:
        """`log_likelihood` where every model has a comparable one, otherwise `energy_distance`."""
        comparable = all(run.density in RANKABLE for run in self.runs)
        return "log_likelihood" if comparable and not self.atoms else "energy_distance"

    @cached_property
    def rows(self) -> list[Row]:
        """One row for each model, the best first."""
        rows = [self._row(name) for name in dict.fromkeys(run.name for run in self.runs)]
        sign = -1.0 if self.ranked_by == "log_likelihood" else 1.0

        def order(row: Row) -> float:
            figure = getattr(row, self.ranked_by)
            return math.inf if figure is None or math.isnan(figure.value) else sign * figure.value

        return sorted(rows, key=order)

    def _row(self, name: str) -> Row:
        entry = find(name)
        runs = [run for run in self.runs if run.name == name]
        done = self.finished(name)
        scored = [run for run in done if run.test is not None]
        means = [run.test.mean(run.weight).value for run in scored if run.test is not None]
        histories = [run.history for run in done if run.history is not None]
        evaluations = [run.evaluation for run in done if run.evaluation is not None]
        against = self.baseline if scored and name != self.baseline else None
        return Row(
            model=name,
            title=entry.title,
            family=entry.family,
            density=runs[0].density,
            log_likelihood=self.log_likelihood(name) if scored else None,
            train_log_likelihood=_over_seeds([ev.train_log_likelihood for ev in evaluations]),
            bits_per_dimension=_over_seeds([ev.bits_per_dimension for ev in evaluations]),
            dequantisation=evaluations[0].dequantisation if evaluations else None,
            gain=self.difference(name, against) if against else None,
            forward_kl=_over_seeds([ev.forward_kl for ev in evaluations]),
            energy_distance=_over_seeds([ev.energy_distance for ev in evaluations]),
            sliced_wasserstein=_over_seeds([ev.sliced_wasserstein for ev in evaluations]),
            seed_spread=_std(means) if len(means) > 1 else None,
            seeds=len(runs),
            diverged=sum(run.diverged for run in runs),
            failed=sum(run.error is not None and not run.diverged for run in runs),
            skipped=sum(history.skipped for history in histories),
            constraint=entry.constraint,
            fit_seconds=_mean([history.seconds for history in histories]),
            fit_rows_per_second=_mean([ev.fitting.value for ev in evaluations if ev.fitting]),
            sample_rows_per_second=_mean([ev.sampling.value for ev in evaluations]),
            score_rows_per_second=_mean([ev.scoring.value for ev in evaluations if ev.scoring]),
            steps=_mean([history.steps for history in histories]),
            parameters=evaluations[0].parameters if evaluations else None,
            peak_memory=max((history.peak_memory for history in histories), default=None),
        )

    @property
    def table(self) -> pd.DataFrame:
        """The rows as a DataFrame, by model; figures with their errors in columns `…_stderr`."""
        import pandas as pd

        return pd.DataFrame([row.flat() for row in self.rows]).set_index("model")

    def summary(self) -> list[str]:
        """What came out, in sentences; the last one says what the data are."""
        ranked = [row for row in self.rows if getattr(row, self.ranked_by) is not None]
        if not ranked:
            return ["No fit came to its end: there is nothing to rank.", str(self.data)]
        best, *others = ranked
        if self.ranked_by == "log_likelihood":
            bound = "at least " if best.density == Kind.LOWER else ""
            value = shown(self.log_likelihood(best.model))
            text = f"{best.model} explains held-out rows best: {bound}{value} nats per sample."
            if others:
                lead = self.difference(best.model, others[0].model)
                text += f" {others[0].model} follows, {shown(lead)} nats behind: {_verdict(lead)}"
                text += f"{_as_far(others[0].density)}."
            lines = [text]
        else:
            near, *further = [row.energy_distance or Figure(math.nan) for row in ranked]
            text = f"Samples of {best.model} are closest to held-out rows: energy distance {shown(near)}."
            if further:
                error = math.hypot(near.stderr or 0.0, further[0].stderr or 0.0)
                lead = Figure(further[0].value - near.value, error)
                text += f" {others[0].model} follows, {shown(lead)} further away: {_verdict(lead)}."
            reason = "not every model has a likelihood that can be compared"
            if self.atoms:
                reason = (
                    f"{len(self.atoms)} continuous columns (as {self.atoms[0]}) repeat values so often "
                    "that a likelihood can grow without bound there"
                )
            lines = [text, f"Ranked by energy distance because {reason}."]
        ahead = [
            row.model
            for row in self.rows
            if row.gain is not None
            and row.model not in BASELINES
            and row.gain.value > CLEAR * (row.gain.stderr or 0.0)
        ]
        if self.baseline and ahead:
            (density,) = (row.density for row in self.rows if row.model == self.baseline)
            lines.append(
                f"More than {CLEAR:g} standard errors above the best baseline, {self.baseline}"
                f"{_as_far(density)}: {', '.join(ahead)}."
            )
        return [*lines, str(self.data)]

    @property
    def notes(self) -> list[str]:
        """What a reader of the table must know besides."""
        lines = [f"{name} was refused: {reason}" for name, reason in self.refused.items()]
        lines += [
            f"{run.name}, seed {run.seed}, {'diverged' if run.diverged else 'failed'}: {run.error}"
            for run in self.runs
            if run.error is not None
        ]
        for name in dict.fromkeys(run.name for run in self.runs):
            values = [run.test.value for run in self.runs if run.name == name and run.test]
            outside = torch.stack(values).isneginf().any(0).sum().item() if values else 0
            if outside:
                lines.append(f"{name} gives {outside:,} test rows no density at all (−∞).")
        evaluation = next((run.evaluation for run in self.runs if run.evaluation), None)
        if evaluation is not None:
            lines.append(
                "Real training rows in place of samples have an energy distance of "
                f"{shown(evaluation.energy_distance_floor)} and a sliced Wasserstein distance of "
                f"{shown(evaluation.sliced_wasserstein_floor)}: at that level a model's samples "
                "cannot be told from data by these measures."
            )
        return lines

    # Files.

    def to_json(self, path: str | Path | None = None) -> dict[str, Any]:
        """Everything but the models and the rows of the data, also written to `path`.

        Raises
        ------
        ArtifactError
            If the file cannot be written.
        """
        report = {
            "data": {
                "name": self.data.name,
                "domain": self.data.domain.to_json(),
                "context": None if self.data.context is None else self.data.context.to_json(),
                "rows": {s: len(getattr(self.data, s)) for s in ("train", "valid", "test")},
                "fingerprint": self.data.fingerprint(),
            },
            "settings": self.settings,
            "versions": {
                "likely": likely.__version__,
                "torch": torch.__version__,
                "numpy": np.__version__,
            },
            "ranked_by": self.ranked_by,
            "atoms": self.atoms,
            "baseline": self.baseline,
            "refused": self.refused,
            "rows": [row.to_json() for row in self.rows],
            "runs": [
                {
                    "model": run.name,
                    "seed": run.seed,
                    "hyperparameters": run.model.hyperparameters if run.model else None,
                    "steps": run.history.steps if run.history else None,
                    "error": run.error,
                    "diverged": run.diverged,
                    "evaluation": run.evaluation.to_json() if run.evaluation else None,
                }
                for run in self.runs
            ],
        }
        if path is not None:
            write_json(path, report)
        return report

    def to_csv(self, path: str | Path) -> None:
        """Write the table as CSV.

        Raises
        ------
        ArtifactError
            If the file cannot be written.
        """
        write_text(path, self.table.to_csv(lineterminator="\n"))

    def to_html(self, path: str | Path) -> None:
        """Write the report: one page that needs nothing else.

        Raises
        ------
        ArtifactError
            If the file cannot be written.
        """
        write_text(path, page(self))

    def _repr_html_(self) -> str:
        return self.table.to_html(float_format="{:.4g}".format, na_rep="")

    def rich_table(self, width: int) -> Table:
        """The most important columns, for `rich` to print, as many as there is room for."""
        from rich import box
        from rich.table import Table

        table = Table(
            title=f"{self.data.name}, held-out rows", title_justify="left", box=box.SIMPLE_HEAD
        )
        cells = []
        for column in filled(self):
            texts = [column.cell(row).text for row in self.rows]
            words = [*column.title.split(), *column.unit.split()]
            needed = max(len(text) for text in [*texts, *words])
            if column.terminal and needed + 3 <= width:
                width -= needed + 3  # with its margins
                cells.append(texts)
                table.add_column(
                    f"{column.title}\n{column.unit}",
                    justify="right" if column.numeric else "left",
                    min_width=needed,
                )
        for entries in zip(*cells, strict=True):
            table.add_row(*entries)
        return table

    def __str__(self) -> str:
        from rich.console import Console

        text = io.StringIO()
        console = Console(file=text, width=120, color_system=None)
        console.print(self.rich_table(console.width))
        for line in [*self.summary(), *self.notes]:
            console.print(line, markup=False, highlight=False)
        return text.getvalue().rstrip("\n")

    __repr__ = __str__


def _verdict(lead: Figure) -> str:
    """Whether a difference is one."""
    if lead.stderr is None or not math.isfinite(lead.value) or not math.isfinite(lead.stderr):
        return "with an unknown error"
    if lead.value > CLEAR * lead.stderr:
        return f"a clear difference, more than {CLEAR:g} standard errors"
    return "too little to tell the two apart"


def _as_far(density: Kind) -> str:
    """A reservation about what lies behind: a bound hides how far its model really is."""
    return ", as far as its lower bound tells" if density == Kind.LOWER else ""


def _mean(values: list[Any]) -> float | None:
    return sum(values) / len(values) if values else None


def _std(values: list[float]) -> float:
    return torch.tensor(values, dtype=torch.float64).std().item()


def _over_seeds(given: list[Figure | None]) -> Figure | None:
    """Mean over the seeds. All share the test rows, so that only the seeds' own spread shrinks."""
    figures = [figure for figure in given if figure is not None]
    if not figures:
        return None
    values = [figure.value for figure in figures]
    shared = sum((figure.stderr or 0.0) ** 2 for figure in figures) / len(figures)
    spread = _std(values) ** 2 / len(values) if len(values) > 1 else 0.0
    return Figure(sum(values) / len(values), math.sqrt(shared + spread))
