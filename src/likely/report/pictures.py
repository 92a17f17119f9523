"""Pictures of samples, training and likelihoods: matplotlib figures, no global state.

Every function returns a `Figure`. `to_uri` embeds one into a page as an SVG that follows the
reader's light or dark colours, `to_png` makes the bytes of a file.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Colormap, LinearSegmentedColormap, ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from likely.core.columns import (
    Binary,
    Categorical,
    Column,
    Constant,
    Discrete,
    Integer,
    Interval,
    Positive,
)
from likely.core.domain import END, Domain
from likely.fitting.history import BOOKKEEPING

# After Okabe & Ito: colours that colour-blind readers tell apart, none lost on white or on black.
PALETTE = ("#1F82C0", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6BB1", "#7A7A7A")
INK = "#010203"  # stands for the page's text colour; `to_uri` replaces it
REAL = "#8A8A8A"  # real data
BINS = 40
DOTS = 500  # real rows drawn as dots in one panel
CORNER = 5  # columns of a corner plot
LINES, LINE, LINES_OF_ONE = 24, 56, 6  # of text in a picture, symbols in a line, lines of a sample
STYLE: Any = {
    "font.size": 9.0,
    "axes.titlesize": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.formatter.useoffset": False,
    "legend.frameon": False,
    "legend.fontsize": 8.0,
    "lines.linewidth": 1.4,
    "svg.fonttype": "none",
    "svg.hashsalt": "likely",
    "image.composite_image": False,
    **dict.fromkeys(
        ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK
    ),
}
NO_METADATA = dict.fromkeys(
    ("Creator", "Date", "Format", "Type")
)  # the same picture, the same bytes
THEME = "<style>svg{color:#24292f}@media(prefers-color-scheme:dark){svg{color:#d5dbe3}}</style>"


def to_uri(figure: Figure) -> str:
    """The figure as an SVG data URI whose text is dark on light pages and light on dark ones."""
    stream = io.StringIO()
    with mpl.rc_context(STYLE):
        figure.savefig(stream, format="svg", transparent=True, metadata=NO_METADATA)
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    svg = svg.replace("<defs>", f"<defs>{THEME}", 1)
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def to_png(figure: Figure, dpi: int = 200) -> bytes:
    """The figure as a PNG file on white."""
    stream = io.BytesIO()
    with mpl.rc_context(STYLE):
        figure.savefig(stream, format="png", dpi=dpi, facecolor="white")
    return stream.getvalue()


def empty_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches, that belongs to no window."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


# Samples.


def form(domain: Domain) -> str:
    """In which form `draw_samples` shows a domain: "images", "sequences", "density" or "corner"."""
    if domain.layout in ("image", "lattice") and len(domain.shape) > 1:
        return "images"
    if domain.layout != "vector" and domain.size > CORNER:
        return "sequences"
    kinds = [domain.column(i) for i in _moving(domain)]
    return "density" if len(kinds) == 2 and not any(k.discrete for k in kinds) else "corner"


def _moving(domain: Domain) -> list[int]:
    """The entries that are not constant."""
    return [i for i in range(domain.size) if not isinstance(domain.column(i), Constant)]


def draw_samples(
    x: Tensor, domain: Domain, *, reference: Tensor | None = None, color: str = PALETTE[0]
) -> Figure:
    """Rows of a domain in the form that suits it.

    Images and 2-D lattices become a grid; sequences a heat map with a row for each sample, texts and
    sequences of more categories than there are colours lines of symbols; two continuous columns a
    density map, and other tables a corner plot of at most five columns with the real rows behind
    the samples (one column: a histogram).

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
    draw = {"images": _image_grid, "sequences": _sequences, "density": _density_map}
    real = None if reference is None else _array(reference)
    with mpl.rc_context(STYLE):
        shape = form(domain)
        if shape == "corner":
            return _corner(_array(x), domain, real, color)
        return draw[shape](_array(x), domain, real)


def _array(x: Tensor) -> np.ndarray:
    return x.numpy(force=True).astype(float)


def _table(x: np.ndarray, index: list[int]) -> np.ndarray:
    """Some entries of each row, as the columns of a matrix."""
    return x.reshape(len(x), -1)[:, index]


def _label(domain: Domain, index: int) -> str:
    name = domain.names[index] if domain.names else f"column {index}"
    return name if len(name) <= 14 else name[:13] + "…"


def _span(values: np.ndarray, tail: float) -> tuple[float, float]:
    """What lies between two quantiles, whatever a broken model may have put among the values."""
    usable = values[np.isfinite(values) & (np.abs(values) < 1e15)]
    if not len(usable):
        return 0.0, 1.0
    low, high = np.quantile(usable, [tail, 1 - tail])
    return float(low), float(high)


def _parts(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Part of all values that lies in each bin."""
    return np.histogram(values[np.isfinite(values)], edges)[0] / max(len(values), 1)


def _value_range(domain: Domain, values: np.ndarray) -> tuple[float, float]:
    """The values that the two ends of a colour scale stand for."""
    column = domain.column(0)
    if isinstance(column, Discrete) and column.levels is not None:
        return float(column.low), float(column.low + column.step * (column.levels - 1))
    if isinstance(column, Interval):
        return column.low, column.high
    low, high = _span(values, 0.005)
    return low, high if high > low else low + 1


def _color_map(domain: Domain) -> Colormap:
    column = domain.column(0)
    if isinstance(column, Categorical):
        levels = column.levels or 1
        return ListedColormap([PALETTE[i % len(PALETTE)] for i in range(levels)])
    return mpl.colormaps["gray" if isinstance(column, Integer | Binary) else "viridis"]


def _image_grid(
    x: np.ndarray, domain: Domain, real: np.ndarray | None, columns: int | None = None
) -> Figure:
    """Up to 36 images, or rows of `columns`, side by side; channels first where there are three axes."""
    low, high = _value_range(domain, x if real is None else real)
    side = max(1, min(6, math.isqrt(len(x)))) if columns is None else columns
    rows = max(1, len(x) // side if columns else min(6, len(x) // side))
    images = x[: side * rows]
    if len(domain.shape) > 2:
        images = images.reshape(len(images), -1, *domain.shape[-2:])
        images = np.moveaxis(images[:, : 3 if images.shape[1] == 3 else 1], 1, -1)
    else:
        images = images[..., None]
    n, height, width, channels = images.shape
    gap = max(1, width // 12)
    canvas = np.full((rows * (height + gap) - gap, side * (width + gap) - gap, channels), math.nan)
    for index in range(n):
        top, left = (index // side) * (height + gap), (index % side) * (width + gap)
        canvas[top : top + height, left : left + width] = images[index]
    figure = empty_figure(3.2, 3.2 * canvas.shape[0] / canvas.shape[1])
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    unit = np.clip((canvas - low) / (high - low), 0, 1)
    opaque = np.isfinite(unit).all(-1, keepdims=True).astype(float)
    if channels == 3:
        pixels = np.concatenate([np.nan_to_num(unit), opaque], -1)
    else:
        pixels = _color_map(domain)(np.nan_to_num(unit[..., 0]))
        pixels[..., 3:] = opaque
    axes.imshow(pixels, interpolation="none")
    return figure


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
    axes = figure.add_subplot(xlabel="position", ylabel="sample")
    column = domain.column(0)
    half = 0.5 if isinstance(column, Categorical) else 0.0
    picture = axes.imshow(
        rows, cmap=_color_map(domain), vmin=low - half, vmax=high + half, aspect="auto",
        interpolation="none",
    )  # fmt: skip
    axes.set_yticks([])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if isinstance(column, Categorical) and (column.levels or 0) <= len(PALETTE):
        bar = figure.colorbar(picture, ax=axes, ticks=range(column.levels or 0))
        if column.labels:
            bar.ax.set_yticklabels(column.labels)
    elif not isinstance(column, Categorical):
        figure.colorbar(picture, ax=axes, label="value")
    return figure


def _bins(n: int) -> int:
    """How finely a histogram of n rows may look (Rice's rule), within reason."""
    return int(np.clip(2 * n ** (1 / 3), 10, 60))


def _edges(column: Column, values: np.ndarray, bins: int) -> tuple[np.ndarray, bool]:
    """Histogram edges that cover the values of one column, and whether they are logarithmic."""
    if isinstance(column, Interval):
        return np.linspace(column.low, column.high, bins + 1), False
    if isinstance(column, Discrete) and column.levels is not None and column.levels <= 2 * bins:
        return column.low + column.step * (np.arange(column.levels + 1) - 0.5), False
    low, high = _span(values, 0.002)
    if column.discrete:
        width = max(1, math.ceil((high - low + 1) / bins))
        return np.arange(math.floor(low), high + width + 1, width) - 0.5, False
    if isinstance(column, Positive) and 0 < 50 * low < high:
        return np.geomspace(low / 1.2, high * 1.2, bins + 1), True
    margin = 0.08 * (high - low) or 0.5 + 0.001 * abs(low)
    return np.linspace(low - margin, high + margin, bins + 1), False


def _density_map(x: np.ndarray, domain: Domain, real: np.ndarray | None) -> Figure:
    """Two continuous columns: density of the rows in the plane."""
    index = _moving(domain)
    columns, names = [domain.column(i) for i in index], [_label(domain, i) for i in index]
    x = _table(x, index)
    base = x if real is None else _table(real, index)
    bins = int(np.clip(2 * math.isqrt(len(base)) // 3, 16, 80))
    (xs, x_log), (ys, y_log) = (_edges(columns[i], base[:, i], bins) for i in range(2))
    figure = empty_figure(3.4, 2.8)
    axes = figure.add_subplot(xlabel=names[0], ylabel=names[1])
    area = np.outer(np.diff(xs), np.diff(ys))
    density, top = (
        np.histogram2d(rows[:, 0], rows[:, 1], bins=(xs, ys))[0] / area / max(len(rows), 1)
        for rows in (x, base)
    )
    mesh = axes.pcolormesh(
        xs, ys, density.T, cmap="viridis", vmin=0, vmax=top.max() or 1, rasterized=True
    )
    _scales(axes, x_log, y_log)
    if not (x_log or y_log) and 0.67 < np.ptp(xs) / np.ptp(ys) < 1.5:
        axes.set_aspect("equal")
    figure.colorbar(mesh, ax=axes, label="density", extend="max")
    _note_outside(figure, x, [xs, ys])
    return figure


def _corner(x: np.ndarray, domain: Domain, real: np.ndarray | None, color: str) -> Figure:
    """Every pair of columns: real rows as dots over the density of the samples."""
    index = _moving(domain)[:CORNER]
    columns, names = [domain.column(i) for i in index], [_label(domain, i) for i in index]
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
            (xs, x_log), (ys, y_log) = edges[j], edges[i]
            _scales(axes, x_log, y_log and j < i)
            if i == j:
                fine, _ = _edges(columns[i], base[:, i], _bins(len(base)))
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
                axes.set_ylim(ys[0], ys[-1])
            axes.set_xlim(xs[0], xs[-1])
            _ticks(axes, columns[j], columns[i], last=i == size - 1, first=j == 0 < i)
            if i == size - 1:
                axes.set_xlabel(names[j])
            if j == 0 < i:
                axes.set_ylabel(names[i])
    if real is not None:
        handles = [
            Line2D([], [], color=INK, marker=".", linestyle="", label="real"),
            Patch(color=color, label="samples"),
        ]
        if size > 1:
            figure.legend(handles=handles, loc="upper right")
    _note_outside(figure, x, [e for e, _ in edges])
    return figure


def _marginal(
    axes: Axes, x: np.ndarray, real: np.ndarray | None, edges: np.ndarray, color: str
) -> None:
    """Parts of the rows in each bin: real ones filled, samples as a line."""
    if real is not None:
        axes.stairs(_parts(real, edges), edges, fill=True, color=REAL, alpha=0.45)
    axes.stairs(_parts(x, edges), edges, color=color, linewidth=1.2)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)


def _scales(axes: Axes, x_log: bool, y_log: bool) -> None:
    if x_log:
        axes.set_xscale("log")
    if y_log:
        axes.set_yscale("log")


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
    inside = np.all([(x[:, i] >= e[0]) & (x[:, i] <= e[-1]) for i, e in enumerate(edges)], axis=0)
    part = 1 - inside.mean() if len(x) else 0.0
    if part > 0.02:
        figure.supxlabel(f"{part:.0%} of the samples lie outside the frame", fontsize=8)


# Latent spaces.


def draw_codes(z: Tensor, labels: Sequence[str] | None = None) -> Figure:
    """Codes of rows in the plane of their two largest principal components.

    Parameters
    ----------
    z : Tensor, shape (n, latent)
    labels : sequence of str, optional
        Class of each row.
    """
    codes = _array(z)
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
    kinds = [""] * len(codes) if labels is None else list(labels)
    shown = sorted(set(kinds))
    with mpl.rc_context(STYLE):
        figure = empty_figure(3.6, 3.2)
        axes = figure.add_subplot(xlabel=names[0], ylabel=names[1])
        for index, kind in enumerate(shown):
            rows = codes[[k == kind for k in kinds]]
            color = (
                mpl.colormaps["tab10"](index % 10) if len(shown) > len(PALETTE) else PALETTE[index]
            )
            axes.plot(*rows.T, ".", color=color, markersize=3, alpha=0.7, mew=0, label=kind)
        if labels is not None:
            axes.legend(markerscale=3, ncols=2 if len(shown) > 5 else 1, loc="upper left",
                        bbox_to_anchor=(1, 1))  # fmt: skip
        return figure


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
    x = _array(decoded)
    with mpl.rc_context(STYLE):
        if form(domain) == "images":
            return _image_grid(x.reshape(-1, *x.shape[2:]), domain, None, columns=len(steps))
        index = _moving(domain)[: len(PALETTE)]
        lines = x.reshape(*x.shape[:2], -1)[..., index]
        scale = lines.std((0, 1)).clip(1e-12)
        lines = (lines - lines.mean((0, 1))) / scale
        across = min(4, len(dimensions))
        down = math.ceil(len(dimensions) / across)
        figure = empty_figure(1.8 * across + 1, 1.6 * down + 0.3)
        grid = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True).flat
        for axes, curves, dimension in zip(grid, lines, dimensions, strict=False):
            for column, curve in enumerate(curves.T):
                axes.plot(steps, curve, color=PALETTE[column], label=_label(domain, index[column]))
            axes.set_title(f"latent variable {dimension + 1}")
        for axes in list(grid)[len(dimensions) :]:
            axes.set_axis_off()
        handles, names = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside right upper")
        figure.supxlabel("standard deviations of the code", fontsize=9)
        return figure


def draw_filters(weight: Tensor, domain: Domain) -> Figure:
    """What hidden units respond to: the weights of each as a row of the domain, 0 in the middle.

    Up to 36 images, or a heat map with a row for each of up to 40 units; strong units first, each on
    a scale of its own.

    Parameters
    ----------
    weight : Tensor, shape (visible, hidden)
    domain : Domain
        With as many entries as there are visible units.
    """
    filters = _array(weight).T
    filters = filters[np.argsort(-np.linalg.norm(filters, axis=1), kind="stable")]
    filters = filters / np.abs(filters).max(1, keepdims=True).clip(1e-12)
    shown = Domain(domain.shape, (Interval(-1, 1),), layout=domain.layout)
    draw = _image_grid if form(domain) == "images" else _heat_map
    with mpl.rc_context(STYLE):
        return draw(filters.reshape(-1, *domain.shape), shown, None)


def draw_reconstructions(x: Tensor, reconstructed: Tensor, domain: Domain) -> Figure:
    """Rows above what a model makes of them: ten images; of other domains, a heat map of both.

    Parameters
    ----------
    x, reconstructed : Tensor, shape (n, *domain.shape)
    domain : Domain
    """
    real, made = _array(x)[:10], _array(reconstructed)[:10]
    rows = np.concatenate([real, made])
    with mpl.rc_context(STYLE):
        if form(domain) == "images":
            return _image_grid(rows, domain, None, columns=len(real))
        return _heat_map(rows, domain, None)


# Training and likelihoods.


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
    with mpl.rc_context(STYLE):
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
    axes: Axes,
    curves: Sequence[tuple[pd.Series, pd.Series]],
    label: str,
    color: str,
    style: Any,
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


def draw_likelihoods(train: np.ndarray, test: np.ndarray) -> Figure:
    """Log-likelihoods of training and test rows, in nats; they differ where a model overfits."""
    with mpl.rc_context(STYLE):
        figure = empty_figure(3.2, 2.2)
        axes = figure.add_subplot(xlabel="log-likelihood of a row (nats)")
        low, high = _span(np.concatenate([train, test]), 0.005)
        margin = 0.02 * (high - low) or 0.5
        edges = np.linspace(low - margin, high + margin, _bins(min(len(train), len(test))) + 1)
        axes.stairs(
            _parts(train, edges), edges, fill=True, color=REAL, alpha=0.45, label="training"
        )
        axes.stairs(_parts(test, edges), edges, color=PALETTE[0], linewidth=1.4, label="test")
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.legend(loc="upper left")
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        return figure


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
    with mpl.rc_context(STYLE):
        figure = empty_figure(1.2 + 1.8 * len(parts), 0.75 + 0.25 * len(names))
        grid = figure.subplots(1, len(parts), sharey=True, squeeze=False)[0]
        for axes, (unit, part) in zip(grid, parts.items(), strict=True):
            at = [names.index(name) for name in part["column"]]
            if floor:
                axes.barh(at, part["floor"], color=REAL, alpha=0.45, height=0.6)
            axes.errorbar(
                part["value"],
                at,
                xerr=part["stderr"],
                fmt="o",
                color=color,
                markersize=4,
                capsize=2,
            )
            axes.set_xlabel(unit)
            axes.set_xlim(left=0)
            axes.xaxis.set_major_locator(MaxNLocator(4))
            axes.tick_params(axis="y", length=0)
        labels = [name if len(name) <= 14 else name[:13] + "…" for name in names]
        grid[0].set_yticks(range(len(names)), labels=labels, parse_math=False)
        grid[0].set_ylim(len(names) - 0.4, -0.6)
        return figure


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
    with mpl.rc_context(STYLE):
        figure = empty_figure(4.2, 0.75 + 0.25 * len(names))
        axes = figure.add_subplot(xlabel=label)
        if reference is not None:
            text, at = reference
            axes.axvline(at, color=REAL, linestyle=(0, (4, 2)), linewidth=1.0)
            axes.annotate(
                text, (at, 1), (2, 2), xycoords=("data", "axes fraction"),
                textcoords="offset points", fontsize=8,
            )  # fmt: skip
        for at, (value, error, mark, color) in enumerate(
            zip(values, errors, marks, colors, strict=True)
        ):
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
