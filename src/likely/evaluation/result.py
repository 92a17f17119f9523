"""What an evaluation found."""

from __future__ import annotations

import io
import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor

from likely.core.likelihood import Figure, Kind, Likelihood, plain

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Figures of a model on one split of the data.

    Attributes
    ----------
    model, data, split : str
        Names.
    rows : int
        Rows of the split that were scored.
    density : Kind
        What kind of numbers the log-likelihoods are.
    log_likelihood : Figure, optional
        Weighted mean over the split, in nats per sample; None for models without a density.
    solver_tolerance : float, optional
        Relative and absolute, where an adaptive solver computed the log-likelihoods.
    train_log_likelihood : Figure, optional
        The same over at most as many training rows: what lies above is learnt by heart.
    outside : float, optional
        Part of the split's weight to which the model gives no density at all.
    bits_per_dimension : Figure, optional
        On integer and binary domains: −log-likelihood / (size · log 2).
    dequantisation : str, optional
        "uniform" noise was added to the integers, or "none": probabilities of integers.
    bits_per_character : Figure, optional
        Of texts. Of a running text it is what `each_character_once` gives, if the model predicts
        them in their order, of the whole split, and then
    bits_per_character_in_windows : Figure, optional
        is the mean over windows that do not overlap, whose first characters have little before them.
    energy_distance, sliced_wasserstein : Figure
        Between draws of the model and rows of the split, as the standardised features of
        `likely.contract.views.Features`, with one scale for all pixels of an image. A conditional model
        draws at the rows' contexts, and these count as features too; being shared, they alone lower the
        Wasserstein distance somewhat.
    mmd, mmd_p_value : Figure and float, optional
        As `mmd` gives them, of the same features; the p-value is that of permutations. This, the
        classifier and the neighbours take rows without weights: rows with weights are `thinned`,
        and where that leaves fewer than 20, these figures are None.
    classifier_auc, classifier_accuracy, classifier_p_value : Figure, Figure and float, optional
        As `classifier_test` gives them, of the columns as they are, at most 256 of them.
    precision, recall, sample_density, coverage : Figure, optional
        As `neighbours` gives them, of the same features.
    extractor : str, optional
        Of images: which features the next two compare. The training rows of the floors are among
        the images that they were learnt from.
    frechet_distance, kernel_distance : Figure, optional
        Between features of images.
    …_floor : Figure, optional
        The same between training rows and rows of the split: what cannot be told from the data.
    marginals, pairs : DataFrame, optional
        Of tables of at most 64 columns: what `marginal_distances` and `pair_distances` give, and
        their floors.
    invalid : float
        Part of the model's draws outside the domain; all these figures leave them out.
    forward_kl, reverse_kl : Figure, optional
        KL(truth‖model) and KL(model‖truth) in nats, where the truth is known; their kinds are
        `forward_kl_kind` and `density`.
    modes_covered, near_modes, mode_divergence : Figure, optional
        Where the modes of the truth are known: what part of them is covered (its error is unknown),
        and `near` and `divergence` as `mode_coverage` gives them.
    leaked : float, optional
        Part of the model's draws where the truth has no density: any makes `reverse_kl` infinite.
    fitting, sampling, scoring : Figure, optional
        Rows per second; the error of fitting is unknown.
    parameters : int
        How many numbers were learnt.
    peak_memory : int, optional
        Of the process during the fit, in bytes.
    held, held_train : Likelihood, optional
        Row by row, what `log_likelihood` and `train_log_likelihood` are the means of.
    weight : Tensor, shape (rows,), optional
        The weights of the split's rows.
    """

    model: str
    data: str
    split: str
    rows: int
    density: Kind
    log_likelihood: Figure | None = None
    solver_tolerance: float | None = None
    train_log_likelihood: Figure | None = None
    outside: float | None = None
    bits_per_dimension: Figure | None = None
    dequantisation: str | None = None
    bits_per_character: Figure | None = None
    bits_per_character_in_windows: Figure | None = None
    forward_kl: Figure | None = None
    reverse_kl: Figure | None = None
    leaked: float | None = None
    modes_covered: Figure | None = None
    near_modes: Figure | None = None
    mode_divergence: Figure | None = None
    energy_distance: Figure
    energy_distance_floor: Figure
    sliced_wasserstein: Figure
    sliced_wasserstein_floor: Figure
    mmd: Figure | None = None
    mmd_p_value: float | None = None
    classifier_auc: Figure | None = None
    classifier_accuracy: Figure | None = None
    classifier_p_value: float | None = None
    precision: Figure | None = None
    precision_floor: Figure | None = None
    recall: Figure | None = None
    recall_floor: Figure | None = None
    sample_density: Figure | None = None
    sample_density_floor: Figure | None = None
    coverage: Figure | None = None
    coverage_floor: Figure | None = None
    extractor: str | None = None
    frechet_distance: Figure | None = None
    frechet_distance_floor: Figure | None = None
    kernel_distance: Figure | None = None
    kernel_distance_floor: Figure | None = None
    invalid: float
    fitting: Figure | None = None
    sampling: Figure
    scoring: Figure | None = None
    parameters: int
    peak_memory: int | None = None
    held: Likelihood | None = field(default=None, repr=False)
    held_train: Likelihood | None = field(default=None, repr=False)
    weight: Tensor | None = field(default=None, repr=False)
    marginals: pd.DataFrame | None = field(default=None, repr=False)
    pairs: pd.DataFrame | None = field(default=None, repr=False)

    @property
    def forward_kl_kind(self) -> Kind:
        """A lower bound of the model's log-density is an upper one of this divergence."""
        return self.density.opposite

    def to_json(self) -> dict[str, Any]:
        """All figures, without the rows; a number that is not finite becomes null."""
        tables = {
            name: None if frame is None else json.loads(frame.to_json(orient="records"))
            for name, frame in (("marginals", self.marginals), ("pairs", self.pairs))
        }
        return {"forward_kl_kind": self.forward_kl_kind, **plain(self), **tables}

    def summary(self) -> Table:
        """A table for `rich` to print; `str()` gives it as text."""
        from rich.table import Table

        table = Table(
            title=f"{self.model} on {self.data or 'data'}: {self.split}, {self.rows:,} rows",
            show_header=False,
        )

        def add(name: str, value: object, note: str = "") -> None:
            if value is not None:
                table.add_row(name, str(value), note)

        def p_value(p: float | None) -> str:
            return "" if p is None else f"p = {p:.2g}, of equal distributions"

        def part(fraction: float | None, of: str) -> str:
            return f"; {fraction:.2%} of {of}" if fraction else ""

        if self.log_likelihood is None:
            add("log-likelihood", "none", "the model has no density")
        no_density = part(self.outside, "the weight has no density")
        solver = (
            f" by a solver of tolerance {self.solver_tolerance:g}" if self.solver_tolerance else ""
        )
        add("log-likelihood", self.log_likelihood, f"nats, {self.density}{solver}{no_density}")
        add("… of training rows", self.train_log_likelihood, "nats")
        add("bits per dimension", self.bits_per_dimension, f"dequantisation: {self.dequantisation}")
        once = self.bits_per_character_in_windows is not None
        add(
            "bits per character",
            self.bits_per_character,
            "each once, in windows that overlap by half" if once else "",
        )
        add("… in separate windows", self.bits_per_character_in_windows)
        add("KL(truth‖model)", self.forward_kl, f"nats, {self.forward_kl_kind}")
        leaked = part(self.leaked, "its draws lie outside the truth's support")
        add("KL(model‖truth)", self.reverse_kl, f"nats, {self.density}{leaked}")
        add("modes covered", self.modes_covered, "of 1")
        add("… samples near one", self.near_modes, "within three widths")
        add("… their weights", self.mode_divergence, "nats, KL from the true weights")
        invalid = part(self.invalid, "its draws lie outside the domain")
        other = "test rows" if self.split == "train" else "training rows"
        for title, name in (
            ("energy distance", "energy_distance"),
            ("sliced Wasserstein-1", "sliced_wasserstein"),
            ("precision", "precision"),
            ("recall", "recall"),
            ("density", "sample_density"),
            ("coverage", "coverage"),
            ("Fréchet distance", "frechet_distance"),
            ("kernel distance", "kernel_distance"),
        ):
            note = f"{other}: {getattr(self, f'{name}_floor')}"
            add(title, getattr(self, name), note + invalid * (name == "energy_distance"))
        if self.extractor is not None:
            add("… of features", "learnt", self.extractor)
        for title, frame in (("farthest column", self.marginals), ("farthest pair", self.pairs)):
            if frame is not None and len(frame):
                of, figure, floor = _farthest(frame)
                add(title, figure, f"{of}; {other}: {floor}")
        add("MMD²", self.mmd, p_value(self.mmd_p_value))
        add("classifier's AUC", self.classifier_auc, p_value(self.classifier_p_value))
        add("… accuracy", self.classifier_accuracy, "1/2: no better than a guess")
        for verb in ("fitting", "sampling", "scoring"):
            rate = getattr(self, verb)
            add(verb, None if rate is None else f"{rate.value:,.0f}", "rows per second")
        add("parameters", f"{self.parameters:,}")
        if self.peak_memory is not None:
            add("peak memory", f"{self.peak_memory / 2**20:,.0f} MiB", "of the process, fitting")
        return table

    def __str__(self) -> str:
        from rich.console import Console

        text = io.StringIO()
        Console(file=text, width=100, color_system=None).print(self.summary())
        return text.getvalue().rstrip("\n")


def _farthest(frame: pd.DataFrame) -> tuple[str, Figure, Figure]:
    """The entry of a table of distances that lies farthest from its floor, in standard errors."""
    error = (frame["stderr"] ** 2 + frame["floor_stderr"] ** 2) ** 0.5
    excess = (frame["value"].abs() - frame["floor"].abs()) / error.clip(lower=1e-30)
    row = frame.iloc[int(excess.fillna(-math.inf).argmax())]
    columns = [row[name] for name in ("column", "first", "second") if name in frame]
    of = f"{row['measure']} of {' and '.join(columns)}"
    return of, Figure(row["value"], row["stderr"]), Figure(row["floor"], row["floor_stderr"])
