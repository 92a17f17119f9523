"""The report of a reconstruction: its table and its pictures."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure as Picture
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from likely import report as pictures
from likely._version import __version__
from likely.comparison.columns import SIGN
from likely.core.likelihood import Figure, Kind, shown
from likely.evaluation.likelihood import OPPOSITE
from likely.report import INK, PALETTE, REAL, STYLE
from likely.report import page as html
from likely.report.style import empty_figure

if TYPE_CHECKING:
    from rich.table import Table as RichTable

    from likely.quantum.reconstruction import Compared, Reconstruction, Worth

ROWS = 60  # outcomes in a heat map
LARGEST = 6  # sites whose density matrix is drawn
DOUBT = 0.01  # p-value below which outcomes are said to belong to no state
RAISED = {"x": "ˣ", "y": "ʸ", "z": "ᶻ"}


def page(result: Reconstruction) -> str:
    """The report as the text of one HTML page."""
    parts = (_outcomes, _training, _correlators, _sites, _density, _curve)
    sections = [part(result) for part in parts]
    columns, rows = _table(result)
    return html.render(
        f"likely quantum reconstruct: {_state(result)}",
        lead=summary(result),
        advice={},
        columns=columns,
        rows=rows,
        notes=notes(result),
        sections=[section for section in sections if section.cards],
        settings=_settings(result),
    )


def summary(result: Reconstruction) -> list[str]:
    """What came out, in a few sentences."""
    worth, matrix = result.worth, result.density_matrix
    kinds = _kinds(worth, result)
    lines = [
        f"{worth.model}, fitted to {worth.shots:,} {result.shots.povm.name} shots of {_state(result)} "
        f"in {result.history.seconds:,.0f} s"
    ]
    if worth.kl is not None and worth.classical_fidelity is not None:
        lines[0] += (
            f": KL(exact‖model) {_shown(worth.kl, kinds['kl'])} nats, classical fidelity Σ √(P P_model) "
            f"{_shown(worth.classical_fidelity, kinds['classical_fidelity'])}"
        )
    elif worth.held_out is not None:
        gains = [(b.behind, b) for b in result.baselines if b.behind is not None]
        gain, best = min(gains, key=lambda entry: entry[0].value)
        lines[0] += (
            f": held-out log-likelihood {_shown(worth.held_out, kinds['held_out'])} nats, "
            f"{_shown(gain, _kinds(best, result)['behind'])} above that of the best baseline ({best.model})"
        )
    if matrix is not None and matrix.fidelity is not None:
        lines[0] += f", quantum fidelity (squared) {matrix.fidelity:.5f}"
    if worth.energy is not None:
        exact = (
            ""
            if result.exact_energy is None
            else f"; the exact one is {_exact(result.exact_energy)}"
        )
        lines.append(f"Energy {shown(worth.energy)}{exact}")
    if matrix is not None:
        line = f"The smallest eigenvalue of the density matrix is {_exact(matrix.smallest)}"
        if matrix.smallest < -1e-9 and matrix.fidelity is not None:
            line += (
                ": it is not positive, so that the quantum fidelity with a pure state may exceed 1, and that "
                "with a mixed one is that of the nearest density matrix"
            )
        lines.append(line)
    for of, test in (
        ("generated outcomes", result.positivity),
        ("the shots themselves", result.measured_positivity),
    ):
        if test is not None:
            verdict = "may all be positive" if test.p_value > DOUBT else "cannot all be positive"
            lines.append(
                f"The {test.matrices:,} density matrices of sites and pairs of sites by {of} {verdict} (the "
                f"expectation that is lowest in standard errors is {shown(test.value)}, at "
                f"{' and '.join(f'site {site}' for site in test.sites)}; p = {test.p_value:.2g})"
            )
    return [f"{line}." for line in lines]


def _state(result: Reconstruction) -> str:
    unnamed = "unknown state" if result.shots.state is None else "given state"
    chain = result.shots.header.get("chain", unnamed)
    return f"{chain}, {result.shots.sites} sites"


def notes(result: Reconstruction) -> list[str]:
    """What is to be known about the figures."""
    worth = result.worth
    lines = [f"{name}: {reason}." for name, reason in result.reasons.items()]
    if result.scored is not None:
        lines.append(
            f"KL and classical fidelity: on {result.scored:,} fresh shots, and as many outcomes of a model."
        )
    if worth.kl is not None and worth.density != Kind.EXACT:
        kinds = worth.kinds
        lines.append(
            f"{worth.model}: its likelihood is {_a(worth.density)}, so that KL(exact‖model) and the "
            f"classical fidelity are each {_a(kinds['kl'])}, and KL(model‖exact) is "
            f"{_a(kinds['reverse_kl'])}."
        )
    return lines


def _a(kind: Kind) -> str:
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"


# The table.


def rich_table(result: Reconstruction) -> RichTable:
    """The table for a terminal."""
    from rich.table import Table

    columns, rows = _table(result)
    table = Table()
    for column in columns:
        unit = f" ({column.unit})" if column.unit else ""
        table.add_column(f"{column.title}{unit}", justify="right" if column.numeric else "left")
    for row in rows:
        table.add_row(*(cell.text for cell in row))
    return table


def _table(result: Reconstruction) -> tuple[list[html.Column], list[list[html.Cell]]]:
    columns = {
        "model": html.Column("model", "", "What describes the outcomes.", numeric=False),
        "shots": html.Column("shots", "", "That it was fitted to, validation included."),
        "held_out": html.Column(
            "held-out log-likelihood", "nats", "Mean over shots that no model has seen."
        ),
        "behind": html.Column(
            "behind", "nats", "How far the held-out log-likelihood is below the reconstruction's."
        ),
        "kl": html.Column("KL(exact‖model)", "nats", "On fresh exact shots; 0 is perfect."),
        "reverse_kl": html.Column(
            "KL(model‖exact)", "nats", "On outcomes of the model; infinite if one is impossible."
        ),
        "classical_fidelity": html.Column(
            "classical fidelity",
            "",
            "Σ √(P P_model), not squared, on outcomes of the model; 1 is perfect.",
        ),
        "energy": html.Column("energy", "", "From outcomes, through the dual frame."),
    }
    worths = [result.worth, *result.curve, *result.baselines]
    rows = [_row(worth, [*columns], _kinds(worth, result)) for worth in worths]
    for name, figure in (
        ("shots themselves", result.measured_energy),
        ("exact state", None if result.exact_energy is None else Figure(result.exact_energy)),
    ):
        if figure is not None:
            cells = {"model": html.Cell(name, name), "energy": _cell(figure)}
            rows.append([cells.get(column, html.Cell("")) for column in columns])
    filled = [i for i in range(len(columns)) if any(row[i].text for row in rows)]
    heads = list(columns.values())
    return [heads[i] for i in filled], [[row[i] for i in filled] for row in rows]


def _row(worth: Worth, columns: Sequence[str], kinds: Mapping[str, Kind]) -> list[html.Cell]:
    first = html.Cell(worth.model, worth.model), html.Cell(f"{worth.shots:,}", worth.shots)
    cells = [_cell(getattr(worth, column), kinds.get(column)) for column in columns[2:]]
    return [*first, *cells]


def _cell(figure: Figure | None, kind: Kind | None = None) -> html.Cell:
    return html.Cell("") if figure is None else html.Cell(_shown(figure, kind), figure.value)


def _kinds(worth: Worth, result: Reconstruction) -> dict[str, Kind]:
    """What the figures that need probabilities are."""
    behind = result.worth.density + OPPOSITE[worth.density]
    return {"held_out": worth.density, "behind": behind, **worth.kinds}


def _shown(figure: Figure, kind: Kind | None = None) -> str:
    """A figure, marked where it is a bound or an estimate."""
    text = _exact(figure.value) if figure.stderr is None else shown(figure)
    return f"{SIGN.get(kind, '')}{text}" if kind is not None else text


def _exact(value: float) -> str:
    return f"{value:.5f}".replace("-", "−")


# Pictures.


def _outcomes(result: Reconstruction) -> html.Section:
    shots = result.shots
    k = shots.povm.outcomes

    def draw(x: Tensor) -> Picture:
        with mpl.rc_context(STYLE):
            figure = empty_figure(4.2, 3.6)
            axes = figure.add_subplot(xlabel="site", ylabel="shot")
            picture = axes.imshow(
                x[:ROWS].numpy(), cmap=ListedColormap([_color(a) for a in range(k)]), vmin=-0.5, vmax=k - 0.5,
                aspect="auto", interpolation="none",
            )  # fmt: skip
            axes.set_yticks([])
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            figure.colorbar(picture, ax=axes, ticks=range(k), label="outcome")
            return figure

    cards = [
        html.Card(
            "measured", pictures.to_uri(draw(shots.outcomes)), f"{len(shots.outcomes):,} shots"
        ),
        html.Card(
            f"generated by {result.worth.model}",
            pictures.to_uri(draw(result.generated)),
            f"{len(result.generated):,} outcomes",
        ),
    ]
    return html.Section(
        "Outcomes",
        f"The first {ROWS} rows: a row for each shot, a column for each site.",
        cards,
        "large",
    )


def _training(result: Reconstruction) -> html.Section:
    frame = result.history.frame
    if frame.empty:
        return html.Section("Training", "")
    if "kl" not in frame:
        cards = [html.Card("", pictures.to_uri(pictures.draw_training([frame])))]
        return html.Section(
            "Training", "The loss, and the score of the shots that validate.", cards
        )
    with mpl.rc_context(STYLE):
        figure = empty_figure(4.6, 3.6)
        panels = figure.subplots(2, 1, sharex=True)
        for axes, name, sign, label, color in (
            (panels[0], "kl", 1, "KL(exact‖model), nats", PALETTE[0]),
            (panels[1], "fidelity", -1, "1 − classical fidelity", PALETTE[1]),
        ):
            value = frame[name] if sign > 0 else 1 - frame[name]
            error = frame[f"{name}_stderr"]
            axes.plot(frame["step"], value, color=color, marker="o", markersize=3)
            axes.fill_between(
                frame["step"], (value - error).clip(lower=value / 10), value + error,
                color=color, alpha=0.25, linewidth=0,
            )  # fmt: skip
            axes.set_yscale("log", nonpositive="mask")
            axes.set_ylabel(label)
        panels[1].set_xlabel("step")
        panels[1].xaxis.set_major_locator(MaxNLocator(5, integer=True))
    return html.Section(
        "Training",
        "KL and classical fidelity of the averaged model at each validation, always on the same fresh "
        "exact shots; the bands are one standard error, which all points of a curve share for the most "
        "part. The figures in the table are measured on more shots.",
        [html.Card("", pictures.to_uri(figure))],
        "large",
    )


def _correlators(result: Reconstruction) -> html.Section:
    cards = []
    sites = range(result.shots.sites)
    middle = torch.tensor((len(sites) - 1) // 2)
    for axis, compared in result.correlators.items():
        sigma = f"σ{RAISED[axis]}"
        with mpl.rc_context(STYLE):
            figure = empty_figure(6.4, 3.4)
            grid = figure.subplots(2, 2, sharex="col", height_ratios=(2, 1))
            # A gap at i = j, where there is nothing to estimate.
            _compare(
                grid[:, 0], sites, compared, lambda t: t[middle].index_fill(0, middle, math.nan)
            )
            bonds = sites if result.shots.periodic else sites[:-1]
            _compare(grid[:, 1], bonds, compared, result.neighbours)
            grid[0, 0].set_ylabel(f"⟨{sigma}$_i$ {sigma}$_j$⟩")
            grid[1, 0].set_xlabel(f"site j, with i = {middle}")
            ring = f" mod {len(sites)}" if result.shots.periodic else ""
            grid[1, 1].set_xlabel(f"site i, with j = i + 1{ring}")
            grid[0, 0].legend()
        cards.append(html.Card(f"{sigma} {sigma}", pictures.to_uri(figure)))
    return html.Section("Correlators", f"Of two sites. {_explained(result)}", cards, "wide")


def _sites(result: Reconstruction) -> html.Section:
    sites = range(result.shots.sites)
    cards = []
    if result.local:
        with mpl.rc_context(STYLE):
            figure = empty_figure(2.2 * len(result.local) + 0.6, 3.2)
            grid = figure.subplots(
                2, len(result.local), sharex=True, squeeze=False, height_ratios=(2, 1)
            )
            for column, (axis, compared) in zip(grid.T, result.local.items(), strict=True):
                _compare(column, sites, compared)
                column[0].set_title(f"⟨σ{RAISED[axis]}$_i$⟩")
                column[1].set_xlabel("site i")
            grid[0, 0].legend()
        cards.append(html.Card("magnetisation", pictures.to_uri(figure)))
    with mpl.rc_context(STYLE):
        figure = empty_figure(4.6, 3.2)
        panels = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
        for a in range(result.shots.povm.outcomes):
            column = partial(torch.select, dim=1, index=a)
            _compare(panels, sites, result.occupation, column, _color(a), _color(a), str(a))
        panels[0].set_ylabel("probability")
        panels[1].set_xlabel("site")
        figure.legend(handles=panels[0].containers, loc="outside right upper", title="outcome")
    cards.append(html.Card("occupation", pictures.to_uri(figure), "of each outcome"))
    return html.Section("Single sites", _explained(result), cards, "wide")


def _density(result: Reconstruction) -> html.Section:
    matrix = result.density_matrix
    if matrix is None or result.shots.sites > LARGEST:
        return html.Section("Density matrix", "")
    shown_ones = {"reconstructed": matrix.value}
    if matrix.exact is not None:
        shown_ones |= {"exact": matrix.exact, "difference": matrix.value - matrix.exact}
    with mpl.rc_context(STYLE):
        figure = empty_figure(2.5 * len(shown_ones) + 0.3, 4.6)
        grid = figure.subplots(2, len(shown_ones), squeeze=False)
        for column, (title, rho) in zip(grid.T, shown_ones.items(), strict=True):
            top = torch.view_as_real(rho).abs().max().item() or 1.0
            for axes, part, name in zip(column, (rho.real, rho.imag), ("Re", "Im"), strict=True):
                drawn = axes.imshow(
                    part.numpy(), cmap="RdBu", vmin=-top, vmax=top, interpolation="none"
                )
                axes.set_title(f"{name} {title}")
                axes.set_xticks([])
                axes.set_yticks([])
            figure.colorbar(drawn, ax=list(column), shrink=0.7, location="bottom")
    return html.Section(
        "Density matrix",
        "What the model's probabilities of all outcomes make of it by linear inversion, in the basis "
        "of σᶻ, the first site the most significant bit.",
        [html.Card("", pictures.to_uri(figure))],
        "wide",
    )


def _curve(result: Reconstruction) -> html.Section:
    worths = sorted([*result.curve, result.worth], key=lambda worth: worth.shots)
    if len(worths) < 2 or result.worth.held_out is None:
        return html.Section("Learning curve", "")
    known = result.worth.kl is not None
    figures = [worth.kl if known else worth.held_out for worth in worths]
    with mpl.rc_context(STYLE):
        picture = empty_figure(4.2, 3.0)
        axes = picture.add_subplot(xlabel="shots")
        axes.errorbar(
            [worth.shots for worth in worths],
            [figure.value for figure in figures if figure is not None],
            [figure.stderr or math.nan for figure in figures if figure is not None],
            color=PALETTE[0], marker="o", markersize=4, capsize=2,
        )  # fmt: skip
        axes.set_xscale("log")
        if known:
            axes.set_yscale("log")
        name = "kl" if known else "held_out"
        label = "KL(exact‖model), nats" if known else "held-out log-likelihood, nats"
        axes.set_ylabel(f"{SIGN.get(_kinds(result.worth, result)[name], '')}{label}")
    return html.Section(
        "Learning curve",
        "The same model and budget with fewer shots.",
        [html.Card("", pictures.to_uri(picture))],
    )


def _compare(
    panels: Sequence[Axes],
    at: Sequence[int],
    compared: Compared,
    pick: Callable[[Tensor], Tensor] = lambda values: values,
    color: str = PALETTE[0],
    line: str = INK,
    label: str = "generated",
) -> None:
    """Generated estimates over exact ones, or else over measured ones; below, the differences."""
    generated, measured, exact = compared.generated, compared.measured, compared.exact
    reference = measured.value if exact is None else exact
    spread = measured.stderr if exact is None else torch.zeros_like(exact)
    value, error, truth = (pick(t).numpy() for t in (generated.value, generated.stderr, reference))
    both = np.hypot(error, pick(spread).numpy())
    panels[0].plot(at, truth, color=line, linewidth=1.0, label=_reference(compared))
    for axes, y, bar in ((panels[0], value, error), (panels[1], value - truth, both)):
        axes.errorbar(at, y, bar, fmt="o", color=color, markersize=2.5, elinewidth=0.8, label=label)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    panels[1].axhline(0, color=REAL, linewidth=0.8)
    panels[1].set_ylabel("difference")


def _reference(compared: Compared) -> str:
    return "measured" if compared.exact is None else "exact"


def _explained(result: Reconstruction) -> str:
    known = _reference(result.occupation)
    of = "the state, noise included" if known == "exact" else "the shots themselves"
    return (
        f"Dots: estimates from {len(result.generated):,} generated outcomes, with one standard error. "
        f"Lines: {known} values of {of}. Below: the differences."
    )


def _color(outcome: int) -> str:
    return PALETTE[outcome % len(PALETTE)]


def _settings(result: Reconstruction) -> list[tuple[str, str]]:
    shots, history = result.shots, result.history
    known = ", ".join(
        f"{k}={v}" for k, v in shots.header.items() if isinstance(v, str | int | float)
    )
    options = ", ".join(f"{k}={v}" for k, v in result.model.hyperparameters.items())
    return [
        ("shots", f"{len(shots.outcomes):,}, of {shots.sites} sites; {known}".rstrip("; ")),
        ("POVM", f"{shots.povm.name}: {shots.povm.outcomes} outcomes, rank {shots.povm.rank} of 4"),
        ("noise", f"{shots.noise:g}, the probability that a site is depolarised"),
        ("model", f"{result.worth.model}: {options or '–'}"),
        ("fit", f"{history.steps:,} steps in {history.seconds:,.0f} s"),
        (
            "time",
            f"{result.seconds:,.0f} s for the fit and all measurements but the learning curve",
        ),
        (
            "machine",
            f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, "
            f"{torch.get_num_threads()} threads, {result.model.device}",
        ),
        (
            "versions",
            f"likely {__version__}, Python {platform.python_version()}, "
            f"torch {torch.__version__}, numpy {np.__version__}",
        ),
    ]
