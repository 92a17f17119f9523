"""What a comparison found: the property table, and the files that show it."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from likely._version import __version__
from likely.comparison import words
from likely.comparison.columns import NOT_COMPARABLE, filled
from likely.comparison.page import page, table
from likely.comparison.seeds import Pooled, welch
from likely.contract.model import GenerativeModel
from likely.contract.registry import find
from likely.core.errors import DensityError, LikelyError
from likely.core.files import write_json, write_text
from likely.core.likelihood import Figure, Kind, Likelihood, plain
from likely.data import Data
from likely.data.check import SAMPLE_ENTRIES, has_atom
from likely.evaluation import Evaluation
from likely.fitting import History

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

BASELINE = "independent"  # what it knows of a row, it knows from each entry alone
RANKING = ("log_likelihood", "energy_distance", "")  # figures that rank rows; without any, last
SPEEDS = ("fitting", "sampling", "scoring")
INVALID = 0.01  # part of the draws outside the domain, from which on distances hide too much


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
        Mean over test rows and seeds, nats per sample. Its error is that of drawing both anew; with
        one seed, that of drawing rows.
    gain : Figure
        `log_likelihood` above that of independent marginals, paired over the same test rows.
    figures : dict of str to Figure
        Every other figure of `Evaluation` that the model has, by its name there: means over the
        seeds. Speeds (`fitting`, `sampling`, `scoring`) only where fits ran one at a time.
    largest : dict of str to float
        The largest over the seeds of its plain numbers: p-values, and parts of draws outside.
    dequantisation : str
        How densities became probabilities of integers.
    seed_spread, distance_spread : float
        Standard deviations over the seeds: of the mean log-likelihood in nats, and of the energy
        distance.
    seeds, diverged, failed, skipped : int
        Fits, how many of them diverged, how many failed otherwise, and steps skipped for a loss that
        was not finite.
    fit_seconds, steps : float
        Means over the seeds.
    parameters : int
    peak_memory : int
        Largest resident memory of the process during a fit, bytes.
    """

    model: str
    title: str
    family: str
    density: Kind
    log_likelihood: Pooled | None
    gain: Pooled | None
    figures: dict[str, Pooled]
    largest: dict[str, float]
    dequantisation: str | None
    seed_spread: float | None
    distance_spread: float | None
    seeds: int
    diverged: int
    failed: int
    skipped: int
    constraint: str
    fit_seconds: float | None
    steps: float | None
    parameters: int | None
    peak_memory: int | None

    @property
    def strays(self) -> bool:
        """Whether over 1 % of the draws lie outside the domain: distances leave these out."""
        return self.largest.get("invalid", 0.0) > INVALID

    def to_json(self) -> dict[str, Any]:
        """All fields; figures as value and standard error, numbers that are not finite as null."""
        own = plain(self)
        return {**own, "figures": {name: plain(value) for name, value in self.figures.items()}}

    def flat(self) -> dict[str, Any]:
        """All fields as columns: a figure becomes two, the second one `…_stderr`."""
        columns: dict[str, Any] = {}
        for name, value in {**vars(self), **self.figures, **self.largest}.items():
            if isinstance(value, Figure):
                columns |= {name: value.value, f"{name}_stderr": value.stderr}
            elif name not in ("figures", "largest"):
                columns[name] = value
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
        Seeds, budget, jobs and time.
    rows : list of Row
        One for each model, the best first.
    ranked_by : dict of str to list of str
        Which figure ranks which models, the best first.
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

    def _pooled(self, name: str) -> tuple[Likelihood, Tensor | None, int]:
        """Each test row's log-likelihood, averaged over the seeds; their error is the common one.

        Also the weights of the rows, and the degrees of freedom of the common error.
        """
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
        return Likelihood(value, parts[0].kind, common_stderr=common), weight, len(parts) - 1

    def log_likelihood(self, name: str) -> Pooled:
        """Mean log-likelihood of a model over test rows and seeds, in nats per sample.

        The standard error combines that of the mean over the rows (each averaged over the seeds
        first) with that of the mean over the seeds, σ_rows²/n + σ_seeds²/s: the error to expect
        when both test rows and seeds are drawn anew. With one seed it lacks the second part.
        """
        likelihood, weight, degrees = self._pooled(name)
        return _figure(likelihood, weight, (likelihood.common_stderr, degrees))

    def difference(self, name: str, other: str) -> Pooled:
        """How far one model's log-likelihood lies above another's, in nats per sample.

        Paired: the error is that of the mean of differences row by row, which is much smaller than
        the errors of the two means where rows are easy or hard for both models. The seeds' part is
        added for each model, where it has more than one.

        Raises
        ------
        DensityError
            If one of them has no likelihood.
        """
        (a, weight, of_a), (b, _, of_b) = self._pooled(name), self._pooled(other)
        common = math.hypot(a.common_stderr, b.common_stderr)
        gap = Likelihood(a.value - b.value, a.kind + b.kind, None, common)
        return _figure(gap, weight, (a.common_stderr, of_a), (b.common_stderr, of_b))

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
    def rows(self) -> list[Row]:
        """One row for each model, the best first."""
        rows = [self._row(name) for name in dict.fromkeys(run.name for run in self.runs)]
        return sorted(rows, key=self._place)

    @cached_property
    def ranked_by(self) -> dict[str, list[str]]:
        """Which figure ranks which models, the best first.

        Likelihoods that are exact or lower bounds rank their models, unless the data have atoms;
        the others follow by energy distance, which needs samples only. Last among them come models
        with more than 1 % of their draws outside the domain, as the distance leaves these out.
        """
        by: dict[str, list[str]] = {}
        for row in self.rows:
            by.setdefault(RANKING[self._place(row)[0]], []).append(row.model)
        by.pop("", None)
        return by

    def _place(self, row: Row) -> tuple[int, bool, float]:
        """Which figure of `RANKING` ranks a row, and its place by it: the lower, the better."""
        likelihood, distance = row.log_likelihood, row.figures.get("energy_distance")
        comparable = row.density not in NOT_COMPARABLE and not self.atoms
        if comparable and likelihood is not None and likelihood.value < math.inf:
            return 0, False, -likelihood.value
        if distance is not None and math.isfinite(distance.value):
            return 1, row.strays, distance.value
        return 2, False, 0.0

    def _row(self, name: str) -> Row:
        entry = find(name)
        runs = [run for run in self.runs if run.name == name]
        done = self.finished(name)
        means = [run.test.mean(run.weight).value for run in done if run.test is not None]
        histories = [run.history for run in done if run.history is not None]
        evaluations = [run.evaluation for run in done if run.evaluation is not None]
        measured: dict[str, list[Figure]] = {}
        largest: dict[str, float] = {}
        for evaluation in evaluations:
            for figure, value in vars(evaluation).items():
                if isinstance(value, Figure):
                    measured.setdefault(figure, []).append(value)
                elif isinstance(value, float) and math.isfinite(value):
                    largest[figure] = max(value, largest.get(figure, value))
        distances = [evaluation.energy_distance.value for evaluation in evaluations]
        alone = self.settings["jobs"] == 1
        untrue = {"log_likelihood", *(() if alone else SPEEDS)}
        baseline = any(run.name == BASELINE and run.test is not None for run in self.runs)
        return Row(
            model=name,
            title=entry.title,
            family=entry.family,
            density=runs[0].density,
            log_likelihood=self.log_likelihood(name) if means else None,
            gain=self.difference(name, BASELINE)
            if means and baseline and name != BASELINE
            else None,
            figures={
                figure: _over_seeds(values)
                for figure, values in measured.items()
                if figure not in untrue
            },
            largest=largest,
            dequantisation=evaluations[0].dequantisation if evaluations else None,
            seed_spread=_std(means),
            distance_spread=_std(distances),
            seeds=len(runs),
            diverged=sum(run.diverged for run in runs),
            failed=sum(run.error is not None and not run.diverged for run in runs),
            skipped=sum(history.skipped for history in histories),
            constraint=entry.constraint,
            fit_seconds=_mean([history.seconds for history in histories]) if alone else None,
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
        """What came out and how it is ranked, in sentences; the last one says what the data are."""
        return words.summary(self)

    def advice(self) -> dict[str, str]:
        """Which model to take for what, in sentences that follow from the figures."""
        return words.advice(self)

    @property
    def notes(self) -> list[str]:
        """What a reader of the table must know besides."""
        return words.notes(self)

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
                "likely": __version__,
                "torch": torch.__version__,
                "numpy": np.__version__,
            },
            "ranked_by": self.ranked_by,
            "atoms": self.atoms,
            "refused": self.refused,
            "summary": self.summary(),
            "advice": self.advice(),
            "notes": self.notes,
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
        return table(self)

    def rich_table(self, width: int) -> Table:
        """The most important columns, for `rich` to print, as many as there is room for."""
        from rich import box
        from rich.table import Table

        table = Table(
            title=f"{self.data.name}, held-out rows", title_justify="left", box=box.SIMPLE_HEAD
        )
        cells = []
        width -= 1  # of the frame
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
                    width=needed,
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


def _mean(values: list[Any]) -> float | None:
    return sum(values) / len(values) if values else None


def _std(values: list[float]) -> float | None:
    """Standard deviation, where there is more than one value."""
    return torch.tensor(values, dtype=torch.float64).std().item() if len(values) > 1 else None


def _figure(likelihood: Likelihood, weight: Tensor | None, *parts: tuple[float, float]) -> Pooled:
    """The mean over rows; `parts` are errors that come from seeds, and their degrees of freedom."""
    mean = likelihood.mean(weight)
    return Pooled(mean.value, mean.stderr, welch(mean.stderr or 0.0, parts))


def _over_seeds(figures: list[Figure]) -> Pooled:
    """Mean over the seeds. All share the test rows, so that only the seeds' own spread shrinks."""
    values = [figure.value for figure in figures]
    shared = sum((figure.stderr or 0.0) ** 2 for figure in figures) / len(figures)
    spread = (_std(values) or 0.0) ** 2 / len(values)
    stderr = math.sqrt(shared + spread)
    degrees = welch(stderr, [(math.sqrt(spread), len(values) - 1)])
    return Pooled(sum(values) / len(values), stderr, degrees)
