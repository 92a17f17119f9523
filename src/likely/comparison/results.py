"""The results of a comparison: every fit, what each model is worth over its seeds, and the ranking."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from likely.comparison.seeds import Pooled, over_seeds, pooled, spread
from likely.contract.model import GenerativeModel
from likely.contract.registry import find
from likely.core.errors import DensityError, LikelyError
from likely.core.likelihood import Figure, Kind, Likelihood, plain
from likely.data import Data
from likely.data.check import SAMPLE_ENTRIES, has_atom
from likely.evaluation import Evaluation
from likely.fitting import History

BASELINE = "independent"  # what it knows of a row, it knows from each entry alone
RANKING = ("log_likelihood", "energy_distance", "")  # measures that rank rows; without any, last
SPEEDS = ("fitting", "sampling", "scoring")
INVALID = 0.01  # part of the draws outside the domain above which distances hide too much
# Likelihoods that do not rank their model. A lower bound does: it never flatters.
NOT_COMPARABLE = {
    Kind.NONE: "none",
    Kind.UPPER: "an upper bound, which flatters",
    Kind.ESTIMATE: "an estimate, which may flatter",
}


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
        Trained; None if the run did not complete.
    history : History, optional
    evaluation : Evaluation, optional
        On the test split.
    error : str, optional
        Why the run did not complete.
    diverged : bool
        Whether that was because training diverged.
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
        Mean over test rows and seeds, nats per sample. Its error is that of drawing both again;
        with one seed, that of drawing rows.
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

    def figure(self, name: str) -> Pooled | None:
        """A figure by the name of its measure."""
        return self.log_likelihood if name == "log_likelihood" else self.figures.get(name)

    @property
    def rankable(self) -> bool:
        """Whether the log-likelihood never flatters the model."""
        return self.density not in NOT_COMPARABLE

    @property
    def leaves_domain(self) -> bool:
        """Whether over 1 % of the draws lie outside the domain: distances leave these out."""
        return self.largest.get("invalid", 0.0) > INVALID

    def to_json(self) -> dict[str, Any]:
        """All fields; figures as value and standard error, numbers that are not finite as null."""
        return plain(self)

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
class Results:
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
        """The runs of a model that completed.

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
        variance = means.var().item() if len(parts) > 1 and means.isfinite().all() else 0.0
        common = math.sqrt(max(variance, known) / len(parts))
        return Likelihood(value, parts[0].kind, common_stderr=common), weight, len(parts) - 1

    def log_likelihood(self, name: str) -> Pooled:
        """Mean log-likelihood of a model over test rows and seeds, in nats per sample.

        The standard error combines that of the mean over the rows (each averaged over the seeds
        first) with that of the mean over the seeds, σ_rows²/n + σ_seeds²/s: the error to expect
        when both test rows and seeds are drawn again. With one seed it lacks the second part.
        """
        likelihood, weight, degrees = self._pooled(name)
        return pooled(likelihood.mean(weight), (likelihood.common_stderr, degrees))

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
        return pooled(gap.mean(weight), (a.common_stderr, of_a), (b.common_stderr, of_b))

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
        likelihood, distance = row.log_likelihood, row.figure("energy_distance")
        comparable = row.rankable and not self.atoms
        if comparable and likelihood is not None and likelihood.value < math.inf:
            return 0, False, -likelihood.value
        if distance is not None and math.isfinite(distance.value):
            return 1, row.leaves_domain, distance.value
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
            for figure, value in evaluation.values.items():
                if isinstance(value, Figure):
                    measured.setdefault(figure, []).append(value)
                elif isinstance(value, float) and math.isfinite(value):
                    largest[figure] = max(value, largest.get(figure, value))
        alone = self.settings["jobs"] == 1
        for figure in ("log_likelihood", *(() if alone else SPEEDS)):
            measured.pop(figure, None)
        scored = any(run.name == BASELINE and run.test is not None for run in self.runs)
        paired = means and scored and name != BASELINE
        return Row(
            model=name,
            title=entry.title,
            family=entry.family,
            density=runs[0].density,
            log_likelihood=self.log_likelihood(name) if means else None,
            gain=self.difference(name, BASELINE) if paired else None,
            figures={figure: over_seeds(values) for figure, values in measured.items()},
            largest=largest,
            dequantisation=evaluations[0].dequantisation if evaluations else None,
            seed_spread=spread(means),
            distance_spread=spread([e.energy_distance.value for e in evaluations]),
            seeds=len(runs),
            diverged=sum(run.diverged for run in runs),
            failed=sum(run.error is not None and not run.diverged for run in runs),
            skipped=sum(history.skipped for history in histories),
            constraint=entry.constraint,
            fit_seconds=_mean([history.seconds for history in histories]) if alone else None,
            steps=_mean([history.steps for history in histories]),
            parameters=evaluations[0].parameters if evaluations else None,
            peak_memory=max((history.peak_memory for history in histories), default=0) or None,
        )

    @property
    def table(self) -> pd.DataFrame:
        """The rows as a DataFrame, by model; figures with their errors in columns `…_stderr`."""
        return pd.DataFrame([row.flat() for row in self.rows]).set_index("model")


def _mean(values: list[Any]) -> float | None:
    return sum(values) / len(values) if values else None
