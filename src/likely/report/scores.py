"""Pictures of figures of merit: likelihoods of rows, distances of columns, scores of models."""

import math
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from likely.core.columns import Binary, Categorical, Periodic
from likely.core.domain import Domain
from likely.report.samples import as_array, bin_count, label, quantile_range, shares, shortened
from likely.report.style import PALETTE, REAL, STYLE, empty_figure


@mpl.rc_context(STYLE)
def draw_likelihoods(train: np.ndarray, test: np.ndarray) -> Figure:
    """Log-likelihoods of training and test rows, in nats; they differ where a model overfits."""
    figure = empty_figure(3.2, 2.2)
    axes = figure.add_subplot(xlabel="log-likelihood of a row (nats)", yticks=[])
    low, high = quantile_range(np.concatenate([train, test]), 0.005)
    margin = 0.02 * (high - low) or 0.5
    edges = np.linspace(low - margin, high + margin, bin_count(min(len(train), len(test))) + 1)
    axes.stairs(shares(train, edges), edges, fill=True, color=REAL, alpha=0.45, label="training")
    axes.stairs(shares(test, edges), edges, color=PALETTE[0], linewidth=1.4, label="test")
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.legend(loc="upper left")
    axes.spines["left"].set_visible(False)
    return figure


@mpl.rc_context(STYLE)
def draw_marginals(frame: pd.DataFrame, *, color: str = PALETTE[0], floor: bool = True) -> Figure:
    """Distances of single columns with their standard errors, and the floors of these as grey bars.

    Parameters
    ----------
    frame : DataFrame
        `Evaluation.marginals`.
    color : str
        Of the distances.
    floor : bool
        Whether to draw the floors.
    """
    names = list(dict.fromkeys(frame["column"]))
    moved = frame["measure"] == "Wasserstein-1"
    parts = {"standard deviations": frame[moved], "probability": frame[~moved]}
    parts = {unit: part for unit, part in parts.items() if len(part)}
    figure = empty_figure(1.2 + 1.8 * len(parts), 0.75 + 0.25 * len(names))
    grid = figure.subplots(1, len(parts), sharey=True, squeeze=False)[0]
    for axes, (unit, part) in zip(grid, parts.items(), strict=True):
        at = [names.index(name) for name in part["column"]]
        if floor:
            axes.barh(at, part["floor"], color=REAL, alpha=0.45, height=0.6)
        axes.errorbar(
            part["value"], at, xerr=part["stderr"], fmt="o", color=color, markersize=4, capsize=2
        )
        axes.set(xlabel=unit, xlim=(0, None))
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.tick_params(axis="y", length=0)
    grid[0].set_yticks(range(len(names)), labels=map(shortened, names), parse_math=False)
    grid[0].set_ylim(len(names) - 0.4, -0.6)
    return figure


def ordered(domain: Domain) -> list[int]:
    """Columns whose ranks can be correlated."""
    unordered = Categorical | Binary | Periodic
    columns = domain.present
    return [i for i in domain.moving if not isinstance(columns.column(i), unordered)]


@mpl.rc_context(STYLE)
def draw_correlations(real: Tensor, drawn: Tensor, domain: Domain) -> Figure:
    """Rank correlations (Spearman) of the ordered columns: real rows beside draws.

    Parameters
    ----------
    real, drawn : Tensor, shape (n, *domain.shape)
    domain : Domain
        With at least two `ordered` columns.
    """
    index = ordered(domain)
    names = [label(domain, i) for i in index]
    side = max(1.6, 0.16 * len(index))
    figure = empty_figure(2 * side + 1.6, side + 0.9)
    grid = figure.subplots(1, 2, sharey=True)
    for axes, rows, title in zip(grid, (real, drawn), ("real rows", "samples"), strict=True):
        table = pd.DataFrame(as_array(rows).reshape(len(rows), -1)[:, index])
        picture = axes.imshow(table.corr("spearman"), cmap="RdBu_r", vmin=-1, vmax=1)
        axes.set_title(title)
        axes.set_xticks(range(len(names)), labels=names, rotation=90, parse_math=False, fontsize=7)
        axes.set_yticks(range(len(names)), labels=names, parse_math=False, fontsize=7)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    figure.colorbar(picture, ax=list(grid), label="rank correlation", shrink=0.9)
    return figure


@mpl.rc_context(STYLE)
def draw_scores(
    names: Sequence[str],
    values: Sequence[float],
    errors: Sequence[float],
    *,
    marks: Sequence[str],
    colors: Sequence[str],
    label: str,
    reference: tuple[str, float] | None = None,
) -> Figure:
    """One figure of several models with its error bars, the first one on top.

    Parameters
    ----------
    names, values, errors : sequences of equal length
    marks, colors : sequences of str
        A matplotlib marker and a colour for each.
    label : str
        What the figure is, with its unit.
    reference : (str, float), optional
        A name and a value to compare with: a dashed line.
    """
    figure = empty_figure(4.2, 0.75 + 0.25 * len(names))
    axes = figure.add_subplot(xlabel=label)
    if reference is not None:
        text, at = reference
        axes.axvline(at, color=REAL, linestyle=(0, (4, 2)), linewidth=1.0)
        axes.annotate(
            text, (at, 1), (2, 2), xycoords=("data", "axes fraction"),
            textcoords="offset points", fontsize=8,
        )  # fmt: skip
    rows = zip(values, errors, marks, colors, strict=True)
    for at, (value, error, mark, color) in enumerate(rows):
        axes.errorbar(
            value, at, xerr=error if math.isfinite(error) else None, fmt=mark, color=color,
            markersize=5, capsize=2,
        )  # fmt: skip
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.set_yticks(range(len(names)), labels=list(names))
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=REAL, alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)
    return figure
