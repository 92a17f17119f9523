"""The look of all pictures, and how a figure becomes an SVG or a PNG; no global state is left changed."""

import base64
import io
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# After Okabe & Ito: colours that colour-blind readers tell apart, none lost on white or on black.
PALETTE = ("#1F82C0", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6BB1", "#7A7A7A")
INK = "#010203"  # stands for the page's text colour; `to_uri` replaces it
REAL = "#8A8A8A"  # real data
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
METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))  # the same picture, the same bytes
THEME = "<style>svg{color:#24292f}@media(prefers-color-scheme:dark){svg{color:#d5dbe3}}</style>"


def to_uri(figure: Figure) -> str:
    """The figure as an SVG data URI whose text is dark on light pages and light on dark ones."""
    stream = io.StringIO()
    with mpl.rc_context(STYLE):
        figure.savefig(stream, format="svg", transparent=True, metadata=METADATA)
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
