"""Pictures and HTML, used by everything that shows results."""

from likely.report.pictures import (
    draw_likelihoods,
    draw_samples,
    draw_scores,
    draw_training,
    to_png,
    to_uri,
)

__all__ = ["draw_likelihoods", "draw_samples", "draw_scores", "draw_training", "to_png", "to_uri"]
