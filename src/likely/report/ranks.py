"""Pictures of numbers that are uniform where a model is right, and of chains."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from likely.report.samples import as_array, bin_count
from likely.report.style import INK, PALETTE, REAL, STYLE, empty_figure

LAGS = 100  # of an autocorrelation, at most


@mpl.rc_context(STYLE)
def draw_ranks(
    u: Tensor, band: tuple[np.ndarray, np.ndarray, np.ndarray], names: Sequence[str] = ()
) -> Figure:
    """Empirical distribution functions of ranks less those of uniform numbers, and their band.

    Parameters
    ----------
    u : Tensor, shape (n, columns)
        What `ranks`, `pit` or TARP gave.
    band : (array, array, array)
        `likely.evaluation.rank_band(n)`.
    names : sequence of str, optional
        Of the columns.
    """
    at, low, high = band
    figure = empty_figure(3.6, 2.6)
    axes = figure.add_subplot(xlabel="rank", ylabel="ECDF − rank", xlim=(0, 1))
    axes.fill_between(at, low - at, high - at, color=REAL, alpha=0.3, linewidth=0)
    for i, column in enumerate(as_array(u).T):
        part = np.searchsorted(np.sort(column), at, side="right") / len(column)
        axes.plot(at, part - at, color=PALETTE[i % len(PALETTE)], label=names[i] if names else None)
    if names:
        axes.legend()
    return figure


@mpl.rc_context(STYLE)
def draw_chains(value: np.ndarray, label: str = "energy") -> Figure:
    """A number along the first eight chains, its histogram, and its autocorrelation over all chains.

    Parameters
    ----------
    value : ndarray, shape (chains, draws)
    label : str
    """
    figure = empty_figure(7.0, 2.4)
    trace, histogram, correlation = figure.subplots(1, 3, width_ratios=(3, 1, 2))
    trace.set(xlabel="draw", ylabel=label)
    correlation.set(xlabel="lag (draws)", ylabel="autocorrelation")
    finite = value[np.isfinite(value)]
    edges = np.histogram_bin_edges(finite, bin_count(value.shape[1]))
    mean, variance = finite.mean(), finite.var() or 1.0
    lags = np.arange(min(LAGS, value.shape[1] - 1) + 1)
    for chain, color in zip(value, PALETTE, strict=False):  # more could not be told apart
        trace.plot(chain, color=color, linewidth=0.7, alpha=0.8)
        histogram.stairs(
            np.histogram(chain, edges)[0], edges, color=color, orientation="horizontal"
        )
    off = np.nan_to_num(value - mean, posinf=0.0, neginf=0.0)
    products = [(off[:, : value.shape[1] - lag] * off[:, lag:]).mean() for lag in lags]
    correlation.plot(lags, np.array(products) / variance, color=INK)
    histogram.set(xlabel="draws", ylim=trace.get_ylim(), yticklabels=[])
    correlation.axhline(0, color=REAL, linewidth=0.7)
    return figure
