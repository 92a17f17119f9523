"""The page of one restored image: data, mean, deviation, draws, residuals, and the truth where known."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
from jaxtyping import Float
from torch import Tensor

from likely.inverse.posterior import Posterior
from likely.report.page import Card, Cell, Column, Page, Section, listed
from likely.report.samples import as_array, quantile_range
from likely.report.style import STYLE, empty_figure, to_uri

KINDS = {
    "exact": "draws of the posterior of this prior",
    "asymptotic": "draws of the posterior of this prior, in the limit of long chains or many particles",
    "approximation": "draws of something near the posterior, with an error that no diagnostic shows",
}
COLUMNS = [
    Column("figure", "", "What is measured.", numeric=False),
    Column("value", "", "Its value."),
    Column("meaning", "", "What it should be.", numeric=False),
]
COMPARED = [
    Column("method", "", "As `--method` takes it.", numeric=False),
    Column("draws", "", "What its draws claim to be.", numeric=False),
    Column(
        "χ² per pixel", "", "Of y, as a mean over draws: 1, within the noise of so many pixels."
    ),
    Column("deviation", "", "Of the draws: the mean over pixels."),
    Column("time", "s", "For all draws."),
]
KNOWN = [
    Column(
        "error of the mean",
        "",
        "Its root mean square over pixels: the least one, of an exact posterior.",
    ),
    Column("truth within 2σ", "%", "About 95 of the pixels, which are not independent."),
]
DRAWS = 8  # that are shown
FEW = 4  # draws of each of several methods
TAIL = 0.002  # of pixels at either end of a colour scale


def page(
    found: Posterior,
    *,
    title: str,
    truth: Float[Tensor, "*shape"] | None = None,
    settings: Mapping[str, object] | None = None,
) -> str:
    """The text of one HTML page.

    Parameters
    ----------
    found : Posterior
        Of one image.
    title : str
    truth : Tensor, shape (*domain.shape,), optional
        What was measured, where it is known.
    settings : mapping, optional
        What is needed to repeat the work.
    """
    rows = [("method", found.method, f"{found.kind}: {KINDS[found.kind]}")]
    if found.noise is not None:
        rows.append(("χ² per pixel", f"{found.chi2:.3g}", "1, within the noise of so many pixels"))
    rows += [(name, f"{value:.4g}", "") for name, value in found.diagnostics.items()]
    if truth is not None:
        inside = f"{_within(found, truth):.1%}"
        rows.append(
            ("truth within 2σ", inside, "about 95 % of the pixels, which are not independent")
        )
    return Page(
        title=title,
        lead=[
            f"{len(found.samples)} draws of {_size(found.samples[0])} pixels: {KINDS[found.kind]}."
        ],
        columns=COLUMNS,
        rows=[[Cell(str(text)) for text in row] for row in rows],
        notes=[f"{note[0].upper()}{note[1:]}." for note in found.notes],
        sections=sections(found, truth),
        settings=[("settings", listed(settings or {}))],
    ).render()


@mpl.rc_context(STYLE)
def page_of_methods(
    found: Mapping[str, Posterior],
    seconds: Mapping[str, float],
    *,
    title: str,
    truth: Float[Tensor, "*shape"] | None = None,
    settings: Mapping[str, object] | None = None,
) -> str:
    """The text of one HTML page on the same image, as several methods see it.

    Parameters
    ----------
    found : mapping of str to Posterior
        By method; all have the same y, operator and noise.
    seconds : mapping of str to float
        What each took.
    title, truth, settings
        As in `page`.
    """
    rows, notes = [], []
    for name, one in found.items():
        chi2 = Cell("–") if one.noise is None else Cell(f"{one.chi2:.3g}", one.chi2.item())
        std, spent = one.std.mean().item(), seconds[name]
        cells = [Cell(name, name), Cell(one.kind, one.kind, KINDS[one.kind]), chi2]
        cells += [Cell(f"{std:.3g}", std), Cell(f"{spent:.3g}", spent)]
        if truth is not None:
            error = (one.mean - truth).square().mean().sqrt().item()
            inside = 100 * _within(one, truth)
            cells += [Cell(f"{error:.3g}", error), Cell(f"{inside:.1f}", inside)]
        rows.append(cells)
        notes += [f"{name}: {note}." for note in one.notes]
    one = next(iter(found.values()))
    means = {name: as_array(one.mean) for name, one in found.items()}
    draws = {name: as_array(one.samples[:FEW]) for name, one in found.items()}
    known = [] if truth is None else [as_array(truth)]
    scale = quantile_range(np.stack([*means.values(), *known]), TAIL)
    spreads = {name: as_array(one.std) for name, one in found.items()}
    widest = 0.0, quantile_range(np.stack([*spreads.values()]), TAIL)[1]
    y = as_array(one.y)
    data = [_card("data", y, quantile_range(y, TAIL), "y")]
    return Page(
        title=title,
        lead=[
            f"{len(found)} methods, {len(one.samples)} draws of {_size(one.samples[0])} pixels each. "
            "Those that are exact, or asymptotic and long enough, agree."
        ],
        columns=[*COMPARED, *([] if truth is None else KNOWN)],
        rows=rows,
        notes=notes,
        sections=[
            Section(
                "What was measured", "", data + [_card("truth", image, scale) for image in known]
            ),
            Section("Means", "", [_card(name, mean, scale) for name, mean in means.items()]),
            Section(
                "Deviations",
                "Of the draws: where the data leave an image open.",
                [_card(name, std, widest, "", "magma") for name, std in spreads.items()],
            ),
            Section(
                "Draws",
                "",
                [_card(name, draw, scale) for name, few in draws.items() for draw in few],
                "small",
            ),
        ],
        settings=[("settings", listed(settings or {}))],
    ).render()


def _within(found: Posterior, truth: Tensor) -> float:
    """Part of the pixels with the truth within two deviations of the mean."""
    pull = ((found.mean - truth) / found.std).abs()
    return (pull[found.std > 0] < 2).double().mean().item()


@mpl.rc_context(STYLE)
def sections(found: Posterior, truth: Tensor | None = None) -> list[Section]:
    """All pictures; images of x have one scale of colours."""
    mean, draws = as_array(found.mean), as_array(found.samples[:DRAWS])
    known = [] if truth is None else [as_array(truth)]
    scale = quantile_range(np.stack([mean, *draws, *known]), TAIL)
    y, residual = as_array(found.y), as_array(found.residual)
    sigma = np.ones_like(y) if found.noise is None else _deviation(found)
    first = [
        _card("data", y, quantile_range(y, TAIL), "y"),
        _card("mean", mean, scale, "of all draws"),
        _card("deviation", as_array(found.std), None, "of the draws", "magma"),
        _card(
            "residual",
            residual / sigma,
            (-4, 4),
            "y less the mean prediction, over the noise",
            "RdBu_r",
        ),
    ]
    if truth is not None:
        pull = (mean - known[0]) / as_array(found.std).clip(1e-12)
        first += [
            _card("truth", known[0], scale),
            _card("pull", pull, (-4, 4), "mean less truth, over the deviation", "RdBu_r"),
        ]
    return [
        Section(
            "What was measured, and what it tells",
            "White is not observed. Residuals of a right answer look like noise.",
            first,
            "medium",
        ),
        Section(
            "Draws",
            "Each is one image that the data and the prior allow; where they differ, the data do not tell.",
            [_card(f"draw {i + 1}", draw, scale) for i, draw in enumerate(draws)],
            "small",
        ),
    ]


def _deviation(found: Posterior) -> np.ndarray:
    """Of the noise, at the mean prediction."""
    assert found.noise is not None
    return as_array(found.noise.variance(found.predictions.mean(0)).sqrt())


def _size(x: Tensor) -> str:
    return " × ".join(map(str, x.shape))


def _card(
    title: str,
    image: np.ndarray,
    scale: tuple[float, float] | None,
    caption: str = "",
    colours: str = "viridis",
) -> Card:
    """One image with its scale; three channels are colours, of another number the first is shown."""
    image = image.reshape(-1, *image.shape[-2:])
    low, high = scale or quantile_range(image, TAIL)
    figure = empty_figure(3.0, 2.6)
    axes = figure.add_subplot(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    if len(image) == 3:
        axes.imshow(np.clip((np.moveaxis(image, 0, -1) - low) / (high - low), 0, 1))
    else:
        shown = axes.imshow(image[0], cmap=colours, vmin=low, vmax=high, interpolation="none")
        figure.colorbar(shown, ax=axes)
    return Card(title, to_uri(figure), caption)
