"""Pictures of samples, in the form that suits their domain."""

import math
from collections.abc import Sequence
from functools import partial

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap, ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from likely.core.columns import Binary, Categorical, Column, Discrete, Integer, Interval, Positive
from likely.core.domain import END, Domain
from likely.report.style import INK, PALETTE, REAL, STYLE, empty_figure

BINS = 40
DOTS = 500  # real rows drawn as dots in one panel
CORNER = 5  # columns of a corner plot
RATIOS = 12  # bins of the ratio of real rows to samples
CONTOURED = 200  # rows that contours need
LINES, LINE, LINES_OF_ONE = 24, 56, 6  # of text in a picture, symbols in a line, lines of a sample


def form(domain: Domain) -> str:
    """In which form `draw_samples` shows a domain: "images", "sequences", "density" or "corner"."""
    if domain.layout in ("image", "lattice") and len(domain.shape) > 1:
        return "images"
    if domain.layout != "vector" and domain.size > CORNER:
        return "sequences"
    kinds = [domain.column(i) for i in domain.moving]
    return "density" if len(kinds) == 2 and not any(k.discrete for k in kinds) else "corner"


@mpl.rc_context(STYLE)
def draw_samples(
    x: Tensor, domain: Domain, *, reference: Tensor | None = None, color: str = PALETTE[0]
) -> Figure:
    """Rows of a domain in the form that suits it.

    Images and 2-D lattices become a grid; sequences a heat map with a row for each sample, texts and
    sequences of more categories than there are colours lines of symbols; two continuous columns a
    density map, and other tables a corner plot of at most five columns with the real rows behind
    the samples (one column: a histogram). Contours hold 39 % and 86 % of the rows, one and two σ of a
    plane Gaussian, those of real rows dashed; below a histogram is the ratio of real rows to samples.

    Parameters
    ----------
    x : Tensor, shape (n, *domain.shape)
        Samples of a model, or real rows.
    domain : Domain
    reference : Tensor, shape (m, *domain.shape), optional
        Real rows: they set the range of axes and colours.
    color : str
        Of the samples, where they are not coloured by their values.
    """
    draw = {"images": image_grid, "sequences": _sequences, "density": _density_map}
    real = None if reference is None else as_array(reference)
    drawn = draw.get(form(domain), partial(_corner, color=color))
    return drawn(as_array(x), domain.present, real)  # what is missing is in no bin


def as_array(x: Tensor) -> np.ndarray:
    """Numbers to draw."""
    return x.numpy(force=True).astype(float)


def _table(x: np.ndarray, index: list[int]) -> np.ndarray:
    """Some entries of each row, as the columns of a matrix."""
    return x.reshape(len(x), -1)[:, index]


def label(domain: Domain, index: int) -> str:
    """What to call an entry in a picture."""
    return shortened(domain.names[index] if domain.names else f"column {index}")


def shortened(name: str) -> str:
    """A name of at most 14 characters."""
    return name if len(name) <= 14 else name[:13] + "…"


def quantile_range(values: np.ndarray, tail: float) -> tuple[float, float]:
    """Two quantiles, whatever a broken model may have put among the values."""
    usable = values[np.isfinite(values) & (np.abs(values) < 1e15)]
    if not len(usable):
        return 0.0, 1.0
    low, high = np.quantile(usable, [tail, 1 - tail])
    return float(low), float(high)


def shares(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Share of all values in each bin."""
    return np.histogram(values[np.isfinite(values)], edges)[0] / max(len(values), 1)


def _value_range(domain: Domain, values: np.ndarray) -> tuple[float, float]:
    """The values that the two ends of a colour scale stand for."""
    column = domain.column(0)
    if isinstance(column, Discrete) and column.levels is not None:
        return float(column.low), float(column.low + column.step * (column.levels - 1))
    if isinstance(column, Interval):
        return column.low, column.high
    low, high = quantile_range(values, 0.005)
    return low, high if high > low else low + 1


def _color_map(domain: Domain) -> Colormap:
    column = domain.column(0)
    if isinstance(column, Categorical):
        return ListedColormap([PALETTE[i % len(PALETTE)] for i in range(column.levels or 1)])
    return mpl.colormaps["gray" if isinstance(column, Integer | Binary) else "viridis"]


def image_grid(
    x: np.ndarray, domain: Domain, real: np.ndarray | None, columns: int | None = None
) -> Figure:
    """Up to 36 images, or rows of `columns`, side by side; channels first where there are three axes."""
    side = max(1, min(6, math.isqrt(len(x)))) if columns is None else columns
    rows = max(1, len(x) // side if columns else min(6, len(x) // side))
    images = to_pixels(x[: side * rows], domain, x if real is None else real)
    n, height, width, channels = images.shape
    gap = max(1, width // 12)
    canvas = np.zeros((rows * (height + gap) - gap, side * (width + gap) - gap, channels))
    for index in range(n):
        top, left = (index // side) * (height + gap), (index % side) * (width + gap)
        canvas[top : top + height, left : left + width] = images[index]
    figure = empty_figure(3.2, 3.2 * canvas.shape[0] / canvas.shape[1])
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.imshow(canvas, interpolation="none")
    return figure


def to_pixels(x: np.ndarray, domain: Domain, base: np.ndarray) -> np.ndarray:
    """Images as colours from 0 to 1 with opacity, shape (n, height, width, 4); `base` sets the range.

    Three channels are colours; of other numbers the first is shown. What is not finite is transparent.
    """
    low, high = _value_range(domain, base)
    images = x.reshape(-1, math.prod(domain.shape[:-2]), *domain.shape[-2:])
    images = np.moveaxis(images[:, : 3 if images.shape[1] == 3 else 1], 1, -1)
    unit = np.clip((images - low) / (high - low), 0, 1)
    opaque = np.isfinite(unit).all(-1, keepdims=True).astype(float)
    colours = unit if unit.shape[-1] == 3 else _color_map(domain)(np.nan_to_num(unit[..., 0]))
    return np.concatenate([np.nan_to_num(colours[..., :3]), opaque], -1)


def _sequences(x: np.ndarray, domain: Domain, real: np.ndarray | None) -> Figure:
    column = domain.column(0)
    if isinstance(column, Categorical):
        text = column.labels is not None and END in column.labels
        if text or (column.levels or 0) > len(PALETTE):
            return _symbols(x, column)
    return _heat_map(x, domain, real)


def _symbols(x: np.ndarray, column: Categorical) -> Figure:
    """Samples as lines of symbols, in turn in two colours; a long one takes several lines."""
    labels = column.labels or [str(code) for code in range(column.levels or 0)]
    gap = "" if all(len(label) == 1 for label in labels if label != END) else " "
    figure = empty_figure(3.2, 3.2)
    figure.set_layout_engine("none")
    line = 0
    for number, row in enumerate(x.reshape(len(x), -1).astype(int)):
        symbols = [labels[code] for code in row]
        text = gap.join(symbols[: symbols.index(END)] if END in symbols else symbols)
        shown = "".join(symbol if symbol.isprintable() else "↵" for symbol in text)
        parts = [shown[i : i + LINE] for i in range(0, len(shown), LINE)] or ["(empty)"]
        if len(parts) > LINES_OF_ONE:
            parts = [*parts[: LINES_OF_ONE - 1], parts[LINES_OF_ONE - 1][:-1] + "…"]
        if line + len(parts) > LINES:
            break
        for part in parts:
            figure.text(
                0.01, 1 - (line + 0.9) / LINES, part, family="monospace", fontsize=6.5,
                color=(INK, PALETTE[0])[number % 2], parse_math=False,
            )  # fmt: skip
            line += 1
    return figure


def _heat_map(x: np.ndarray, domain: Domain, real: np.ndarray | None) -> Figure:
    """One row a sample, one column a position."""
    rows = x[:40].reshape(min(len(x), 40), -1)
    low, high = _value_range(domain, x if real is None else real)
    figure = empty_figure(3.2, 3.0)
    axes = figure.add_subplot(xlabel="position", ylabel="sample", yticks=[])
    column = domain.column(0)
    half = 0.5 if isinstance(column, Categorical) else 0.0
    picture = axes.imshow(
        rows, cmap=_color_map(domain), vmin=low - half, vmax=high + half, aspect="auto",
        interpolation="none",
    )  # fmt: skip
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if not isinstance(column, Categorical):
        figure.colorbar(picture, ax=axes, label="value")
    elif (column.levels or 0) <= len(PALETTE):
        bar = figure.colorbar(picture, ax=axes, ticks=range(column.levels or 0))
        if column.labels:
            bar.ax.set_yticklabels(column.labels)
    return figure


def bin_count(n: int) -> int:
    """How finely a histogram of n rows may look (Rice's rule), within reason."""
    return int(np.clip(2 * n ** (1 / 3), 10, 60))


def _edges(column: Column, values: np.ndarray, bins: int) -> tuple[np.ndarray, str]:
    """Histogram edges that cover the values of one column, and the scale of their axis."""
    if isinstance(column, Interval):
        return np.linspace(column.low, column.high, bins + 1), "linear"
    if isinstance(column, Discrete) and column.levels is not None and column.levels <= 2 * bins:
        return column.low + column.step * (np.arange(column.levels + 1) - 0.5), "linear"
    low, high = quantile_range(values, 0.002)
    if column.discrete:
        width = max(1, math.ceil((high - low + 1) / bins))
        return np.arange(math.floor(low), high + width + 1, width) - 0.5, "linear"
    if isinstance(column, Positive) and 0 < 50 * low < high:
        return np.geomspace(low / 1.2, high * 1.2, bins + 1), "log"
    margin = 0.08 * (high - low) or 0.5 + 0.001 * abs(low)
    return np.linspace(low - margin, high + margin, bins + 1), "linear"


def _density_map(x: np.ndarray, domain: Domain, real: np.ndarray | None) -> Figure:
    """Two continuous columns: density of the rows in the plane."""
    index = domain.moving
    columns, names = [domain.column(i) for i in index], [label(domain, i) for i in index]
    x = _table(x, index)
    base = x if real is None else _table(real, index)
    bins = int(np.clip(2 * math.isqrt(len(base)) // 3, 16, 80))
    (xs, xscale), (ys, yscale) = (_edges(columns[i], base[:, i], bins) for i in range(2))
    figure = empty_figure(3.4, 2.8)
    axes = figure.add_subplot(xlabel=names[0], ylabel=names[1], xscale=xscale, yscale=yscale)
    area = np.outer(np.diff(xs), np.diff(ys))
    density, top = (
        np.histogram2d(rows[:, 0], rows[:, 1], bins=(xs, ys))[0] / area / max(len(rows), 1)
        for rows in (x, base)
    )
    mesh = axes.pcolormesh(
        xs, ys, density.T, cmap="viridis", vmin=0, vmax=top.max() or 1, rasterized=True
    )
    if xscale == yscale == "linear" and 0.67 < np.ptp(xs) / np.ptp(ys) < 1.5:
        axes.set_aspect("equal")
    figure.colorbar(mesh, ax=axes, label="density", extend="max")
    _note_outside(figure, x, [xs, ys])
    return figure


def _corner(x: np.ndarray, domain: Domain, real: np.ndarray | None, color: str) -> Figure:
    """Every pair of columns: real rows as dots over the density of the samples."""
    index = domain.moving[:CORNER]
    columns, names = [domain.column(i) for i in index], [label(domain, i) for i in index]
    size = len(columns)
    x = _table(x, index)
    real = None if real is None else _table(real, index)
    base = x if real is None else real
    edges = [_edges(column, base[:, i], BINS) for i, column in enumerate(columns)]
    inch = max(1.15, 3.6 / size)
    figure = empty_figure(inch * size, inch * size * (0.7 if size == 1 else 1))
    grid = figure.subplots(size, size, squeeze=False)
    rgb = mpl.colors.to_rgb(color)
    shades = LinearSegmentedColormap.from_list("shades", [(*rgb, 0.05), (*rgb, 0.95)])
    random = np.random.default_rng(0)
    for i in range(size):
        for j in range(size):
            axes: Axes = grid[i, j]
            if j > i:
                axes.set_axis_off()
                continue
            (xs, xscale), (ys, yscale) = edges[j], edges[i]
            axes.set(xscale=xscale, yscale=yscale if j < i else "linear")
            if i == j:
                fine, _ = _edges(columns[i], base[:, i], bin_count(len(base)))
                _marginal(axes, x[:, i], None if real is None else real[:, i], fine, color)
            else:
                count, _, _ = np.histogram2d(x[:, j], x[:, i], bins=(xs, ys))
                shown = np.ma.masked_equal(count.T, 0)
                axes.pcolormesh(xs, ys, shown, cmap=shades, rasterized=True)
                if real is not None:
                    dots = real[:DOTS][:, [j, i]].copy()
                    for k, column in enumerate((columns[j], columns[i])):
                        if column.discrete:  # a little noise shows how many dots lie on one point
                            dots[:, k] += random.uniform(-0.3, 0.3, len(dots))
                    axes.plot(*dots.T, ".", color=INK, markersize=2.2, alpha=0.6, mew=0)
                    if not (columns[i].discrete or columns[j].discrete):
                        _contours(axes, real[:, [j, i]], xs, ys, INK, "--")
                        _contours(axes, x[:, [j, i]], xs, ys, color, "-")
                axes.set_ylim(ys[0], ys[-1])
            axes.set_xlim(xs[0], xs[-1])
            _ticks(axes, columns[j], columns[i], last=i == size - 1, first=j == 0 < i)
            if i == size - 1:
                axes.set_xlabel(names[j])
            if j == 0 < i:
                axes.set_ylabel(names[i])
    if real is not None and size > 1:
        real_dots = Line2D([], [], color=INK, marker=".", linestyle="", label="real")
        figure.legend(handles=[real_dots, Patch(color=color, label="samples")], loc="upper right")
    _note_outside(figure, x, [e for e, _ in edges])
    return figure


def _contours(
    axes: Axes, xy: np.ndarray, xs: np.ndarray, ys: np.ndarray, color: str, style: str
) -> None:
    """The smallest regions that hold 39 % and 86 % of the rows: one and two σ of a plane Gaussian."""
    from scipy.ndimage import gaussian_filter

    count, _, _ = np.histogram2d(xy[:, 0], xy[:, 1], bins=(xs, ys))
    if count.sum() < CONTOURED:
        return
    smooth = gaussian_filter(count, 1.2)
    ranked = np.sort(smooth, axis=None)
    held = ranked.cumsum() / ranked.sum()
    levels = np.unique(ranked[np.searchsorted(held, [1 - 0.865, 1 - 0.393])])
    centres = ((e[1:] + e[:-1]) / 2 for e in (xs, ys))
    axes.contour(*centres, smooth.T, levels, colors=color, linestyles=style, linewidths=0.9)


def _ratio(axes: Axes, x: np.ndarray, real: np.ndarray, edges: np.ndarray, color: str) -> None:
    """Below a marginal: real rows over samples in each bin, with Poisson's errors, around 1."""
    height = axes.get_ylim()[1]
    axes.set_ylim(-height / 2, height)
    panel = axes.inset_axes((0, 0, 1, 0.28))
    counts = [np.histogram(rows[np.isfinite(rows)], edges)[0] for rows in (real, x)]
    filled = (counts[0] > 0) & (counts[1] > 0)
    a, b = (count[filled] for count in counts)
    ratio = np.clip((a / len(real)) / (b / len(x)), 0, 2)  # those beyond lie on the frame
    logarithmic = axes.get_xscale() == "log"
    middle = np.sqrt(edges[1:] * edges[:-1]) if logarithmic else (edges[1:] + edges[:-1]) / 2
    panel.axhline(1, color=color, linewidth=0.8)
    panel.errorbar(
        middle[filled], ratio, ratio * np.sqrt(1 / a + 1 / b), fmt=".", color=INK, markersize=2,
        elinewidth=0.6,
    )  # fmt: skip
    panel.set(xscale=axes.get_xscale(), xlim=(edges[0], edges[-1]), ylim=(-0.1, 2.1), yticks=[1])
    panel.tick_params(axis="both", which="both", length=0, labelbottom=False, labelsize=7, pad=1)
    panel.spines[["left", "bottom"]].set_visible(False)


def _marginal(
    axes: Axes, x: np.ndarray, real: np.ndarray | None, edges: np.ndarray, color: str
) -> None:
    """Parts of the rows in each bin: real ones filled, samples as a line."""
    if real is not None:
        axes.stairs(shares(real, edges), edges, fill=True, color=REAL, alpha=0.45)
    axes.stairs(shares(x, edges), edges, color=color, linewidth=1.2)
    if real is not None:
        _ratio(axes, x, real, edges[:: max(1, len(edges) // RATIOS)], color)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)


def _ticks(axes: Axes, across: Column, up: Column, *, last: bool, first: bool) -> None:
    """Ticks at the outer panels only, labels where categories have them."""
    for axis, column, shown in ((axes.xaxis, across, last), (axes.yaxis, up, first)):
        if not shown:
            axis.set_ticklabels([])
        elif isinstance(column, Categorical) and column.labels and len(column.labels) <= 6:
            axis.set_ticks(range(len(column.labels)), labels=list(column.labels))
        elif axis.get_scale() == "linear":
            axis.set_major_locator(MaxNLocator(3, integer=column.discrete))


def _note_outside(figure: Figure, x: np.ndarray, edges: Sequence[np.ndarray]) -> None:
    """Say how many samples the frame leaves out, so that it hides no tails."""
    outside = [(x[:, i] < e[0]) | (x[:, i] > e[-1]) for i, e in enumerate(edges)]
    inside = ~np.any(outside, axis=0)  # what is missing is nowhere
    part = 1 - inside.mean() if len(x) else 0.0
    if part > 0.02:
        figure.supxlabel(f"{part:.0%} of the samples lie outside the frame", fontsize=8)
