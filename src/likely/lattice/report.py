"""The page of a study: its sentences, the table of observables, and its pictures."""

import math

import matplotlib as mpl
import numpy as np
from matplotlib.ticker import MaxNLocator
from rich.table import Table
from torch import Tensor

from likely._version import provenance
from likely.core.likelihood import Figure, shown
from likely.lattice.results import Observable, Results, Row
from likely.report.page import Card, Cell, Column, Page, Section, listed, terminal_table
from likely.report.style import INK, PALETTE, REAL, STYLE, empty_figure, to_uri
from likely.targets import correlator, magnetisation, topological_charge

COLUMNS = [
    Column("observable", "", "What is measured.", numeric=False),
    Column("naive", "", "Mean over the model's draws, without weights."),
    Column("reweighted", "", "Mean with importance weights."),
    Column("Metropolis", "", "Mean over the model's draws accepted by independence Metropolis."),
    Column(
        "reference", "", "HMC (Gibbs sampling of spins) in the same time as training and draws."
    ),
    Column("exact", "", "Where it is known."),
]
BINS = 60


def page(study: Results) -> str:
    """The text of one HTML page."""
    return Page(
        title=f"likely lattice: {_what(study)}",
        lead=summary(study),
        columns=COLUMNS,
        rows=[_cells(row) for row in study.rows],
        notes=[f"{note[0].upper()}{note[1:]}." for note in study.weighted.notes],
        sections=sections(study),
        settings=[
            ("settings", listed(study.settings)),
            ("seconds", listed({name: f"{value:,.0f}" for name, value in study.seconds.items()})),
            ("made with", listed(provenance(study.model.device))),
        ],
    ).render()


def rich_table(study: Results) -> Table:
    """The table of observables for a terminal."""
    return terminal_table(COLUMNS, [_cells(row) for row in study.rows])


def summary(study: Results) -> list[str]:
    """What came out, in a few sentences."""
    w, exact = study.weighted, study.target.log_z
    known = "" if exact is None else f" (exact: {exact:.6g})"
    steps, seconds = study.history.steps, study.seconds["training"]
    return [
        f"{study.name}, trained on the action of {_what(study)} for {seconds / 60:.1f} minutes "
        f"({steps:,} steps); {len(w):,} draws, weighed.",
        f"log Z = {shown(w.log_z)}{known}; the variational bound is {shown(w.elbo)}, so that "
        f"KL(q‖p) = {shown(_difference(w.log_z, w.elbo))} nats.",
        f"Effective sample size {w.ess:.1%} of the draws, largest weight {w.largest_share:.1%} of all, "
        f"Pareto k̂ {w.k_hat:.2f}; acceptance of independence Metropolis {shown(w.acceptance)}.",
        "Autocorrelation times here are 1 + 2 Σ ρ, twice the ½ + Σ ρ of most lattice papers.",
    ]


def _difference(a: Figure, b: Figure) -> Figure:
    return Figure(a.value - b.value, max(a.stderr or 0.0, b.stderr or 0.0))


def _what(study: Results) -> str:
    shape = study.target.domain.shape
    sides = shape[1:] if study.target.name == "u1" else shape
    return f"{study.target.name}, {' × '.join(map(str, sides))}"


def _cells(row: Row) -> list[Cell]:
    cells = [Cell(row.name, row.name)]
    for figure in (row.naive, row.reweighted, row.metropolis, row.reference):
        if figure is None:
            cells.append(Cell("–"))
            continue
        tau = getattr(figure, "tau_int", None)
        detail = "" if tau is None else f"τ_int = {tau:.3g}"
        cells.append(Cell(shown(figure), figure.value, detail))
    cells.append(Cell("–") if row.exact is None else Cell(f"{row.exact:.6g}", row.exact))
    return cells


@mpl.rc_context(STYLE)
def sections(study: Results) -> list[Section]:
    """All pictures."""
    found = [
        Section(
            "Training and weights",
            "Free energy and effective sample size at each validation, on the same noise; the "
            "log-weights of the draws, whose variance is what training lowers.",
            [_training(study), _log_weights(study)],
            "large",
        ),
        Section(
            "Order",
            "One peak or two: a model that holds one of them only has lost a mode. Draws are weighted.",
            [_order(study)],
            "large",
        ),
    ]
    if study.target.name in ("phi4", "ising"):
        text = "G(t) between slices of the lattice, with errors of one standard deviation."
        found.append(Section("Correlator", text, [_correlator(study)], "large"))
    return found


def _training(study: Results) -> Card:
    frame = study.history.frame
    figure = empty_figure(4.6, 3.6)
    above, below = figure.subplots(2, 1, sharex=True)
    above.plot(frame["step"], frame["free_energy"], color=PALETTE[0])
    shown_values = [*frame["free_energy"].tail(max(2, int(0.9 * len(frame))))]
    if study.target.log_z is not None:
        above.axhline(-study.target.log_z, color=INK, linewidth=0.8, linestyle=":", label="−log Z")
        above.legend()
        shown_values.append(-study.target.log_z)
    low, high = min(shown_values), max(shown_values)
    if math.isfinite(high - low) and high > low:  # the first values, often far off, are left out
        above.set_ylim(low - 0.1 * (high - low), high + 0.1 * (high - low))
    above.set_ylabel("free energy F")
    below.plot(frame["step"], frame["ess"], color=PALETTE[1])
    below.set_ylim(0, 1)
    below.set_ylabel("ESS")
    below.set_xlabel("step")
    below.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    return Card("training", to_uri(figure))


def _log_weights(study: Results) -> Card:
    figure = empty_figure(4.6, 3.6)
    axes = figure.add_subplot(xlabel="log w − log Z", ylabel="density", yscale="log")
    log_z = study.weighted.log_z.value
    values = (study.weighted.log_weight - log_z).numpy(force=True)
    axes.hist(values, BINS, density=True, color=PALETTE[0], alpha=0.6, label="draws of the model")
    forward = study.weighted.forward
    if forward is not None:
        values = (forward.log_weight.flatten() - log_z).numpy(force=True)
        axes.hist(
            values, BINS, density=True, histtype="step", color=INK, label="draws of the target"
        )
        axes.legend()
    return Card("log-weights", to_uri(figure))


def _order(study: Results) -> Card:
    of = topological_charge if study.target.name == "u1" else magnetisation
    label = "topological charge Q" if study.target.name == "u1" else "magnetisation"
    model = of(study.weighted.samples).numpy(force=True)
    reference = (
        None if study.reference is None else of(study.reference.samples.flatten(0, 1)).numpy()
    )
    values = model if reference is None else np.concatenate([model, reference])
    low, high = values.min(), values.max()
    edges = np.linspace(low, high + 1e-9, BINS + 1)
    if study.target.domain.discrete or study.target.name == "u1":  # few values: a bin for each
        distinct = np.unique(values.round(6))
        half = np.diff(distinct).min() / 2 if len(distinct) > 1 else 0.5
        edges = np.arange(low - half, high + 2 * half, 2 * half)
    figure = empty_figure(4.6, 3.6)
    axes = figure.add_subplot(xlabel=label, ylabel="density")
    weight = study.weighted.log_weight.softmax(0).numpy(force=True)
    axes.hist(
        model,
        list(edges),
        weights=weight,
        density=True,
        color=PALETTE[0],
        alpha=0.6,
        label=study.name,
    )
    if reference is not None:
        axes.hist(
            reference,
            list(edges),
            density=True,
            histtype="step",
            color=INK,
            label="reference chain",
        )
    axes.legend()
    return Card(label, to_uri(figure))


def _known(values: Tensor) -> Observable:
    """An observable whose values are in hand."""
    return lambda _: values


def _correlator(study: Results) -> Card:
    figure = empty_figure(4.6, 3.6)
    axes = figure.add_subplot(xlabel="t", ylabel="G(t)")
    lags = range(study.target.domain.shape[0])
    measured = [(study.name, study.weighted.samples, study.weighted.expect, PALETTE[0], -0.06)]
    if (chain := study.reference) is not None:
        samples = chain.samples.flatten(0, 1)
        measured.append(("reference chain", samples, chain.expect, REAL, 0.06))
    least = math.inf
    for label, samples, expect, color, shift in measured:
        means = [expect(_known(values)) for values in correlator(samples).T]
        value, error = [m.value for m in means], [m.stderr or 0.0 for m in means]
        least = min(least, *value)
        axes.errorbar(
            [t + shift for t in lags], value, error, fmt="o", markersize=4, capsize=2, color=color,
            label=label,
        )  # fmt: skip
    if least > 0:
        axes.set_yscale("log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend()
    return Card("correlator", to_uri(figure))
