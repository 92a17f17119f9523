"""Pictures and HTML, used by everything that shows results."""

from likely.report.pictures import (
    draw_codes,
    draw_likelihoods,
    draw_samples,
    draw_scores,
    draw_training,
    draw_traversal,
    to_png,
    to_uri,
)

__all__ = [
    "draw_codes",
    "draw_likelihoods",
    "draw_samples",
    "draw_scores",
    "draw_training",
    "draw_traversal",
    "to_png",
    "to_uri",
]
