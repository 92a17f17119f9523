"""Pictures of latent spaces."""

import math
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from likely.core.domain import Domain
from likely.report.samples import as_array, form, image_grid, label
from likely.report.style import PALETTE, STYLE, empty_figure


@mpl.rc_context(STYLE)
def draw_codes(z: Tensor) -> Figure:
    """Codes of rows, shape (n, latent), in the plane of their two largest principal components."""
    codes = as_array(z)
    centred = codes - codes.mean(0)
    names = ["code 1", "code 2"]
    if codes.shape[1] > 2:
        _, spread, axes_of_codes = np.linalg.svd(centred, full_matrices=False)
        parts = spread**2 / (spread**2).sum()
        codes = centred @ axes_of_codes[:2].T
        names = [f"component {i + 1} ({parts[i]:.0%} of the variance)" for i in range(2)]
    elif codes.shape[1] == 1:
        names[1] = "row"
        codes = np.column_stack([codes[:, 0], np.arange(len(codes))])
    figure = empty_figure(3.6, 3.2)
    axes = figure.add_subplot(xlabel=names[0], ylabel=names[1])
    axes.plot(*codes.T, ".", color=PALETTE[0], markersize=3, alpha=0.7, mew=0)
    return figure


@mpl.rc_context(STYLE)
def draw_style_mixing(mixed: Tensor, domain: Domain) -> Figure:
    """A square of images, shape (n, n, *domain.shape): coarse styles by row, fine ones by column."""
    return image_grid(as_array(mixed.flatten(0, 1)), domain, None, columns=mixed.shape[1])


@mpl.rc_context(STYLE)
def draw_traversal(
    decoded: Tensor, domain: Domain, steps: Sequence[float], dimensions: Sequence[int]
) -> Figure:
    """What changes as one latent variable moves and the others stay.

    Images become a grid with a row for each variable; other domains a panel for each, with a line for
    each of at most eight columns, in standard deviations of the column over the picture.

    Parameters
    ----------
    decoded : Tensor, shape (dimensions, steps, *domain.shape)
    domain : Domain
    steps : sequence of float
        Where the variable was, in standard deviations of its code.
    dimensions : sequence of int
        Which latent variables these are.
    """
    x = as_array(decoded)
    if form(domain) == "images":
        return image_grid(x.reshape(-1, *x.shape[2:]), domain, None, columns=len(steps))
    index = domain.moving[: len(PALETTE)]
    lines = x.reshape(*x.shape[:2], -1)[..., index]
    lines = (lines - lines.mean((0, 1))) / lines.std((0, 1)).clip(1e-12)
    across = min(4, len(dimensions))
    down = math.ceil(len(dimensions) / across)
    figure = empty_figure(1.8 * across + 1, 1.6 * down + 0.3)
    grid = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True).flat
    for axes, curves, dimension in zip(grid, lines, dimensions, strict=False):
        for column, curve in enumerate(curves.T):
            axes.plot(steps, curve, color=PALETTE[column], label=label(domain, index[column]))
        axes.set_title(f"latent variable {dimension + 1}")
    for axes in list(grid)[len(dimensions) :]:
        axes.set_axis_off()
    handles, names = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right upper")
    figure.supxlabel("standard deviations of the code", fontsize=9)
    return figure
