"""Pictures of decisions: how sure a classifier is, what scores tell rows outside, what attacks change."""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from likely.report.samples import bin_count, quantile_range, shares
from likely.report.style import PALETTE, REAL, STYLE, empty_figure

DASHED = (0, (4, 2))


@mpl.rc_context(STYLE)
def draw_reliability(
    confidence: np.ndarray,
    accuracy: np.ndarray,
    stderr: np.ndarray,
    rows: np.ndarray,
    *,
    color: str = PALETTE[0],
) -> Figure:
    """A reliability diagram: how often a classifier is right where it is how sure.

    Parameters
    ----------
    confidence, accuracy, rows : array, shape (bins,)
        Of the bins; dots have an area by the number of rows.
    stderr : array, shape (bins,)
        Of the accuracy of a calibrated classifier: the band around the diagonal is two of these wide on
        either side.
    color : str
        Of the dots.
    """
    figure = empty_figure(3.2, 3.0)
    axes = figure.add_subplot(
        xlabel="probability of the likeliest class", ylabel="part that is right"
    )
    low = min(0.98, max(0.0, min(confidence.min(), accuracy.min()) - 0.05))
    axes.plot([low, 1], [low, 1], color=REAL, linestyle=DASHED, linewidth=1)
    ends = confidence - 2 * stderr, np.minimum(confidence + 2 * stderr, 1)
    axes.fill_between(confidence, *ends, color=REAL, alpha=0.3, linewidth=0, label="if calibrated")
    axes.plot(confidence, accuracy, color=color)
    axes.scatter(confidence, accuracy, 20 * rows / rows.mean(), color=color, zorder=3)
    top = 1 + 0.02 * (1 - low)
    axes.set(xlim=(low, top), ylim=(low, top))
    axes.legend(loc="upper left")
    return figure


@mpl.rc_context(STYLE)
def draw_detection(
    inside: np.ndarray, outside: Mapping[str, np.ndarray], *, label: str = "score"
) -> Figure:
    """Scores of rows inside and outside, and the ROC curves that they make; a guess is on the diagonal.

    Parameters
    ----------
    inside : array, shape (n,)
        Higher where rows are more unusual; infinite ones have no place in the histogram.
    outside : mapping of str to array
        By the name of the set.
    label : str
        What the score is.
    """
    figure = empty_figure(6.4, 2.6)
    left, right = figure.subplots(1, 2, width_ratios=(1.5, 1))
    low, high = quantile_range(np.concatenate([inside, *outside.values()]), 0.01)
    edges = np.linspace(low, high if high > low else low + 1, 1 + bin_count(len(inside)))
    left.stairs(
        shares(inside, edges), edges, fill=True, color=REAL, alpha=0.45, label="held-out rows"
    )
    for at, (name, scores) in enumerate(outside.items()):
        color = PALETTE[at % len(PALETTE)]
        left.stairs(shares(scores, edges), edges, color=color, linewidth=1.4, label=name)
        right.plot(*_curve(inside, scores), color=color)
    left.set(xlabel=f"{label}: more unusual →", yticks=[])
    left.spines["left"].set_visible(False)
    left.xaxis.set_major_locator(MaxNLocator(5))
    figure.legend(*left.get_legend_handles_labels(), loc="outside right center")
    right.plot([0, 1], [0, 1], color=REAL, linestyle=DASHED, linewidth=1)
    right.set(xlabel="part of held-out rows", ylabel="part outside", aspect="equal")
    return figure


def _curve(inside: np.ndarray, outside: np.ndarray) -> list[np.ndarray]:
    """Parts of both that are above each threshold, from the highest down."""
    levels = np.unique(np.concatenate([inside, outside]))[::-1]
    parts = [
        1 - np.searchsorted(np.sort(scores), levels, "left") / len(scores)
        for scores in (inside, outside)
    ]
    return [np.concatenate([[0.0], part]) for part in parts]


@mpl.rc_context(STYLE)
def draw_robustness(
    epsilon: Sequence[float],
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    label: str = "size of the change",
) -> Figure:
    """Accuracies under changes of growing size, with their errors.

    Parameters
    ----------
    epsilon : sequence of float
    curves : mapping of str to (values, errors)
        By the kind of change, or the model.
    label : str
        What the sizes are.
    """
    figure = empty_figure(3.6, 2.6)
    axes = figure.add_subplot(xlabel=label, ylabel="accuracy", ylim=(-0.03, 1.03))
    for at, (name, (values, errors)) in enumerate(curves.items()):
        color = PALETTE[at % len(PALETTE)]
        axes.errorbar(
            epsilon, values, yerr=errors, fmt="o-", color=color, markersize=4, capsize=2, label=name
        )
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.legend(loc="best")
    return figure
