"""The report of a comparison: its table, its pictures and its settings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from likely import report as pictures
from likely._version import provenance
from likely.comparison import words
from likely.comparison.columns import filled
from likely.contract.abilities import Encodes
from likely.contract.model import GenerativeModel
from likely.contract.training import Batch
from likely.core.likelihood import Figure, Kind
from likely.report import page as html

if TYPE_CHECKING:
    from likely.comparison.results import Results, Row, Run
    from likely.core.domain import Domain
    from likely.data import Split

SAMPLE_ENTRIES = 200_000  # numbers drawn from each model for its picture …
SAMPLE_ROWS = 10_000  # … in at most so many rows
IMAGES = 36  # of a picture
SORTED = {  # by the figure that ranks the first rows: which column, and how
    "log_likelihood": ("log-likelihood", "descending"),
    "energy_distance": ("energy distance", "ascending"),
}
WALK = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0)  # through a latent space, in standard deviations
MARKS = {Kind.LOWER: ">", Kind.UPPER: "<"}


def page(results: Results) -> str:
    """The report as the text of one HTML page."""
    parts = (_samples, _scores, _columns, _training, _overfitting, _latent)
    sections = [part(results) for part in parts]
    return html.render(
        f"likely compare: {results.data.name}",
        lead=words.summary(results),
        advice=words.advice(results),
        notes=words.notes(results),
        sections=[section for section in sections if section.cards],
        settings=_settings(results),
        **_table(results),
    )


def table(results: Results) -> str:
    """The table alone, as HTML for a notebook, with what came out below it."""
    return html.render_table(lead=words.summary(results), **_table(results))


def _table(results: Results) -> dict[str, Any]:
    columns = filled(results)
    return {
        "columns": columns,
        "rows": [[column.cell(row) for column in columns] for row in results.rows],
        "sorted_by": SORTED.get(next(iter(results.ranked_by), ""), ("", "")),
    }


def _color(results: Results, row: Row) -> str:
    return pictures.PALETTE[results.rows.index(row) % len(pictures.PALETTE)]


def _scores(results: Results) -> html.Section:
    def card(rows: Sequence[Row], figures: Sequence[Figure], label: str, **options: Any) -> None:
        if len(rows) > 1:
            picture = pictures.draw_scores(
                [row.model for row in rows],
                [figure.value for figure in figures],
                [figure.stderr or math.nan for figure in figures],
                colors=[_color(results, row) for row in rows],
                label=label,
                **options,
            )
            cards.append(html.Card("", pictures.to_uri(picture)))

    cards: list[html.Card] = []
    scored = [row for row in results.rows if row.log_likelihood is not None]
    card(
        scored,
        [row.log_likelihood for row in scored if row.log_likelihood is not None],
        "log-likelihood (nats per sample): higher is better",
        marks=[MARKS.get(row.density, "o") for row in scored],
    )
    drawn = [row for row in results.rows if "energy_distance" in row.figures]
    floor = results.data.context is None  # else training rows have other contexts than draws
    if drawn:
        card(
            drawn,
            [row.figures["energy_distance"] for row in drawn],
            "energy distance: lower is better",
            marks=["o"] * len(drawn),
            reference=("real rows", drawn[0].figures["energy_distance_floor"].value)
            if floor
            else None,
        )
    return html.Section(
        "Held-out rows",
        "Bars are one standard error. Likelihoods: circles are exact or estimates, arrowheads lower "
        "bounds (the model's own value lies there or further to the right)."
        + (
            " Energy distances of samples: the dashed line is that of training rows in their place."
            if floor
            else ""
        ),
        cards,
        size="large",
    )


def _columns(results: Results) -> html.Section:
    """How far single columns of tables are from those of held-out rows."""
    cards = []
    floor = results.data.context is None
    for row in results.rows:
        run = results.best_run(row.model)
        frame = run.evaluation.marginals if run and run.evaluation else None
        if run is None or frame is None or frame.empty:
            continue
        picture = pictures.draw_marginals(frame, color=_color(results, row), floor=floor)
        cards.append(html.Card(row.model, pictures.to_uri(picture), f"seed {run.seed}"))
    bars = "; grey bars are those of training rows in their place" if floor else ""
    return html.Section(
        "Columns",
        "Distances between samples and held-out rows in each column alone (dots, with one standard "
        f"error){bars}. The Wasserstein distance is in standard deviations of the column; those of "
        "probabilities are the total variation of categories, and Kolmogorov–Smirnov (of circles: "
        "Kuiper) of numbers.",
        cards,
    )


def _samples(results: Results) -> html.Section:
    data = results.data
    form = pictures.form(data.domain)
    real = _draw_rows(data.train, data.domain).x
    cards = []
    if form != "corner":  # which draws the real rows behind the samples
        uri = pictures.to_uri(pictures.draw_samples(real, data.domain))
        cards.append(html.Card("real data", uri, f"{len(real):,} training rows"))
    for row in results.rows:
        run = results.best_run(row.model)
        if run is None or run.model is None:
            continue
        x = _draw(run.model, results)
        picture = pictures.draw_samples(x, data.domain, reference=real, color=_color(results, row))
        cards.append(html.Card(row.model, pictures.to_uri(picture), f"seed {run.seed}"))
    given = "" if data.context is None else ", each at the context of a test row"
    return html.Section(
        "Samples",
        f"Real rows, and draws from each model{given}: the first ones of the seed with the best "
        "validation likelihood (without a likelihood, of the first seed), none chosen by hand.",
        cards,
        size={"images": "small", "corner": "large"}.get(form, "medium"),
    )


def _rows_in_picture(domain: Domain) -> int:
    if pictures.form(domain) == "images":
        return IMAGES
    return min(SAMPLE_ROWS, max(IMAGES, SAMPLE_ENTRIES // domain.size))


def _draw_rows(split: Split, domain: Domain) -> Batch:
    """Random rows for a picture; where they have weights, drawn in proportion to these."""
    n = min(_rows_in_picture(domain), len(split))
    if split.weight is None:
        return split.subset(n * domain.size)
    share = split.weight.double().numpy()
    return split.rows(np.random.default_rng(0).choice(len(split), n, p=share / share.sum()))


def _draw(model: GenerativeModel, results: Results) -> torch.Tensor:
    """Draws for a picture; a conditional model gets the contexts of test rows."""
    domain = results.data.domain
    if model.context is None:
        return model.sample(_rows_in_picture(domain), seed=0).cpu()
    context = _draw_rows(results.data.test, domain).context
    assert context is not None
    return model.sample(len(context), context=context, seed=0).cpu()


def _training(results: Results) -> html.Section:
    cards = []
    for row in results.rows:
        frames = [run.history.frame for run in results.finished(row.model) if run.history]
        frames = [frame for frame in frames if len(frame)]
        if frames:
            picture = pictures.to_uri(pictures.draw_training(frames))
            cards.append(html.Card(row.model, picture, f"{row.steps:,.0f} steps"))
    return html.Section(
        "Training",
        "What training minimises (dashed) and, where there is a likelihood, minus that of the "
        "validation split (solid), one line for each seed. The first steps may lie outside the frame. "
        "Where there is noise in a bound (dequantised integers, latent variables), training takes one "
        "draw and validation averages over several, which alone puts it lower. Losses of players "
        "against each other need not fall.",
        cards,
    )


def _overfitting(results: Results) -> html.Section:
    cards = []
    for row in results.rows:
        run = results.best_run(row.model)
        if run is None or run.test is None or run.train is None:
            continue
        train, test = run.train.value.numpy(force=True), run.test.value.numpy(force=True)
        picture = pictures.to_uri(pictures.draw_likelihoods(train, test))
        cards.append(html.Card(row.model, picture, f"seed {run.seed}"))
    return html.Section(
        "Likelihoods of training and test rows",
        "Log-likelihoods of single rows. Where training rows lie clearly further to the right, the "
        "model has learnt them by heart; with few rows noise alone moves them. A long tail to the "
        "left holds the rows that it finds odd.",
        cards,
    )


def _latent(results: Results) -> html.Section:
    """Codes of test rows, and walks through the latent space, of the models that have one."""
    cards = []
    data = results.data
    test = _draw_rows(data.test, data.domain)
    for row in results.rows:
        run = results.best_run(row.model)
        if run is None or not isinstance(run.model, Encodes):
            continue
        context = test.context if run.model.context is not None else None
        with torch.no_grad():
            codes = run.model.encode(test.x, context).cpu()
        dimensions, decoded = run.model.traverse(test.x, WALK, context)
        pictured = {
            "codes of test rows": pictures.draw_codes(codes),
            "one latent variable moves": pictures.draw_traversal(
                decoded.cpu(), data.domain, WALK, dimensions
            ),
        }
        cards += [
            html.Card(row.model, pictures.to_uri(picture), f"{caption}; seed {run.seed}")
            for caption, picture in pictured.items()
        ]
    return html.Section(
        "Latent space",
        "Codes in the plane of their largest principal components, and what rows become as one latent "
        f"variable goes from {WALK[0]:g} to {WALK[-1]:g} standard deviations of its code, from left "
        "to right, while the others stay at their means; those that vary most come first.",
        cards,
    )


def _settings(results: Results) -> list[tuple[str, str]]:
    data, settings = results.data, results.settings
    budget = ", ".join(f"{value:g} {unit}" for unit, value in settings["budget"].items())
    first: dict[str, Run] = {}
    for run in results.runs:
        if run.model is not None:
            first.setdefault(run.name, run)
    jobs = settings["jobs"]
    fits = {1: "one at a time", -1: "side by side, on all cores"}.get(jobs, f"{jobs} at a time")
    device = next((str(run.model.device) for run in first.values() if run.model), "cpu")
    return [
        ("data", f"{data}; fingerprint {data.fingerprint()[:16]}"),
        ("seeds", ", ".join(map(str, settings["seeds"]))),
        ("fits", fits),
        ("budget of a fit", budget or "until validation stops improving"),
        *(
            (name, ", ".join(f"{k}={v}" for k, v in run.model.hyperparameters.items()) or "–")
            for name, run in first.items()
            if run.model is not None
        ),
        ("time", f"{settings['seconds']:,.0f} s for all fits and measurements"),
        *provenance(device).items(),
    ]
