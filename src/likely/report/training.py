"""Pictures of training."""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from likely.contract.training import BOOKKEEPING
from likely.report.style import PALETTE, STYLE, empty_figure


@mpl.rc_context(STYLE)
def draw_training(histories: Sequence[pd.DataFrame]) -> Figure:
    """What training minimises and the validation score, by step, one line for each seed.

    One objective shares its axis with the validation score; several, as of players against each
    other, have losses that are no likelihoods, and an axis of their own.

    Parameters
    ----------
    histories : sequence of DataFrame
        `History.frame` of each run.
    """
    numbers = [history.astype(float) for history in histories]  # None becomes NaN
    losses = list(dict.fromkeys(str(key) for h in numbers for key in h if key not in BOOKKEEPING))
    scored = any("valid" in history and history["valid"].notna().any() for history in numbers)
    apart = len(losses) > 1
    figure = empty_figure(3.2, 3.6 if apart and scored else 2.4)
    panels = figure.subplots(1 + (apart and scored), 1, sharex=True, squeeze=False)[:, 0]
    panels[0].set_ylabel("loss")
    panels[-1].set_xlabel("step")
    panels[-1].xaxis.set_major_locator(MaxNLocator(5, integer=True))
    for index, name in enumerate(losses):
        curves = [(history["step"], history[name]) for history in numbers if name in history]
        label = "training" if name == "loss" else name
        _curves(panels[0], curves, label, PALETTE[index], (0, (4, 1.5)))
    if scored:
        panels[-1].set_ylabel("−log-likelihood (nats)")
        curves = [(history["step"], -history["valid"]) for history in numbers]
        _curves(panels[-1], curves, "validation", PALETTE[len(losses)], "-")
    for axes in panels:
        _frame(axes)
    return figure


def _curves(
    axes: Axes, curves: Sequence[tuple[pd.Series, pd.Series]], label: str, color: str, style: Any
) -> None:
    """The same quantity of several runs; what is not finite is left out."""
    for step, values in curves:
        curve = values[np.isfinite(values)]
        if not curve.empty:
            axes.plot(
                step[curve.index], curve, color=color, alpha=0.8, linestyle=style, linewidth=1.2,
                marker="o" if len(curve) < 3 else None, markersize=4, label=label,
            )  # fmt: skip
            label = "_"  # one entry in the legend is enough


def _frame(axes: Axes) -> None:
    """A range that the first steps, often far off, do not flatten; and a legend."""
    curves = [np.asarray(line.get_ydata()) for line in axes.lines]
    if not curves:
        return
    if max(map(len, curves)) > 2:
        low = min(np.quantile(curve, 0.02) for curve in curves)
        height = max(np.quantile(curve, 0.9) for curve in curves) - low
        if height > 0:
            axes.set_ylim(low - 0.1 * height, low + 1.3 * height)
    axes.legend(loc="best")
