"""Pictures of translations between two domains."""

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from likely.core.domain import Domain
from likely.report.samples import as_array, form, label, to_pixels
from likely.report.style import STYLE, empty_figure

ACROSS = 10  # images in a line
NAMES = ("rows", "translations", "returns")


@mpl.rc_context(STYLE)
def draw_translation(
    x: Tensor, translated: Tensor, returned: Tensor, source: Domain, target: Domain
) -> Figure:
    """Rows, their translations, and what these return to.

    Images stand below each other, ten in a line. Of other domains the first two columns are shown as
    dots, which keep in all three panels the colour that their row has by its first column.

    Parameters
    ----------
    x, returned : Tensor, shape (n, *source.shape)
    translated : Tensor, shape (n, *target.shape)
    source, target : Domain
    """
    sides = [(x, source), (translated, target), (returned, source)]
    if form(source) == form(target) == "images":
        return _images(sides)
    figure = empty_figure(7.5, 2.6)
    colour = as_array(x).reshape(len(x), -1)[:, source.moving[0]]
    for axes, (rows, domain), name in zip(figure.subplots(1, 3), sides, NAMES, strict=True):
        index = domain.moving[:2]
        points = as_array(rows).reshape(len(rows), -1)[:, index]
        axes.set(title=name, xlabel=label(domain, index[0]))
        if len(index) > 1:
            axes.set_ylabel(label(domain, index[1]))
        else:  # against where the row was
            points = np.column_stack([points, colour])
            axes.set_ylabel(f"{label(source, source.moving[0])} of the row")
        axes.scatter(*points.T, c=colour, cmap="viridis", s=5, linewidths=0)
    return figure


def _images(sides: list[tuple[Tensor, Domain]]) -> Figure:
    n = min(ACROSS, len(sides[0][0]))
    figure = empty_figure(0.75 * n + 0.9, 2.5)
    grid = figure.subplots(3, n, squeeze=False)
    for line, (rows, domain), name in zip(grid, sides, NAMES, strict=True):
        images = as_array(rows)
        for axes, pixels in zip(line, to_pixels(images[:n], domain, images), strict=True):
            axes.imshow(pixels, interpolation="none")
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        line[0].set_ylabel(name)
    return figure
