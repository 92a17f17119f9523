"""Pictures and HTML, used by everything that shows results.

Every function `draw_…` returns a matplotlib `Figure` and changes no global state. `to_uri` embeds one
into a page as an SVG that follows the reader's light or dark colours, `to_png` makes the bytes of a file.
"""

from likely.report.decisions import draw_detection, draw_reliability, draw_robustness
from likely.report.latent import draw_codes, draw_style_mixing, draw_traversal
from likely.report.ranks import draw_chains, draw_ranks
from likely.report.samples import draw_samples, form
from likely.report.scores import (
    draw_correlations,
    draw_likelihoods,
    draw_marginals,
    draw_scores,
    ordered,
)
from likely.report.style import INK, PALETTE, REAL, STYLE, to_png, to_uri
from likely.report.training import draw_training
from likely.report.translation import draw_translation
from likely.report.turing import turing_page

__all__ = [
    "INK", "PALETTE", "REAL", "STYLE", "draw_chains", "draw_codes", "draw_correlations", "draw_detection",
    "draw_likelihoods", "draw_marginals", "draw_ranks", "draw_reliability", "draw_robustness",
    "draw_samples", "draw_scores", "draw_style_mixing", "draw_training", "draw_translation",
    "draw_traversal", "form", "ordered", "to_png", "to_uri", "turing_page",
]  # fmt: skip
