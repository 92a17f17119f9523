"""The report of a comparison: its table, its pictures and its settings."""

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import torch
from matplotlib.figure import Figure

from likely import report as pictures
from likely._version import provenance
from likely.comparison import words
from likely.comparison.columns import filled
from likely.comparison.findings import Findings
from likely.comparison.results import Results, Row, Run
from likely.comparison.sheet import calibration, diagram
from likely.contract.abilities import Encodes, MixesStyles, Translates
from likely.contract.model import GenerativeModel
from likely.contract.store import described
from likely.core.likelihood import Kind
from likely.data.pictures import draw_rows, rows_in_picture
from likely.evaluation.measures import BY_NAME, TABLE_COLUMNS
from likely.report import page as html

MIXED = 5  # samples whose styles are mixed
CORNER = (
    " Contours hold 39 % and 86 % of the rows, those of real rows dashed; below each histogram is the "
    "ratio of real rows to draws."
)
WALK = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0)  # through a latent space, in standard deviations
MARKS = {Kind.LOWER: ">", Kind.UPPER: "<"}


def page(findings: Findings) -> str:
    """The report as the text of one HTML page."""
    results = findings.results
    drawn = {
        row.model: _draw(run.model, results)
        for row in results.rows
        if (run := results.best_run(row.model)) and run.model is not None
    }

    def sections(*parts: Callable[[Results], html.Section]) -> list[html.Section]:
        return [section for part in parts if (section := part(results)).cards]

    return html.Page(
        title=f"likely compare: {results.data.name}",
        advice=words.advice(findings),
        about_advice=words.CLEAR,
        notes=words.notes(findings),
        opening=sections(partial(_samples, drawn=drawn), _scores),
        sections=sections(
            partial(_correlations, drawn=drawn),
            _columns,
            _training,
            _overfitting,
            _calibration,
            _latent,
            _translations,
        ),
        settings=_settings(results),
        **_table(findings),
    ).render()


def table(findings: Findings) -> str:
    """The table alone, as HTML for a notebook, with what came out below it."""
    return html.Summary(**_table(findings)).render()


def _table(findings: Findings) -> dict[str, Any]:
    results = findings.results
    columns = filled(results)
    first = BY_NAME.get(next(iter(results.ranked_by), ""))  # what ranks the first rows
    order = {"higher": "descending", "lower": "ascending"}
    return {
        "lead": words.summary(findings),
        "columns": columns,
        "rows": [[column.cell(row) for column in columns] for row in results.rows],
        "sorted_by": ("", "") if first is None else (first.title, order[first.better]),
    }


def _cards(
    results: Results, draw: Callable[[Row, Run, str], Iterable[tuple[Figure, str]]]
) -> list[html.Card]:
    """Pictures, with their captions, of the best run of each model, in the model's colour."""
    cards = []
    for row in results.rows:
        if run := results.best_run(row.model):
            for picture, caption in draw(row, run, _color(results, row)):
                cards.append(html.Card(row.model, pictures.to_uri(picture), caption))
    return cards


def _color(results: Results, row: Row) -> str:
    """By the order of the fits: it stays as models come in."""
    names = list(dict.fromkeys(run.name for run in results.runs))
    return pictures.PALETTE[names.index(row.model) % len(pictures.PALETTE)]


def _samples(results: Results, drawn: Mapping[str, torch.Tensor]) -> html.Section:
    data = results.data
    form = pictures.form(data.domain)
    real = draw_rows(data.train, data.domain).x

    def draw(row: Row, run: Run, color: str) -> Iterable[tuple[Figure, str]]:
        if (x := drawn.get(row.model)) is not None:
            picture = pictures.draw_samples(x, data.domain, reference=real, color=color)
            yield picture, f"seed {run.seed}"

    cards = _cards(results, draw)
    if form != "corner":  # which draws the real rows behind the samples
        uri = pictures.to_uri(pictures.draw_samples(real, data.domain))
        cards.insert(0, html.Card("real data", uri, f"{len(real):,} training rows"))
    given = "" if data.context is None else ", each at the context of a test row"
    return html.Section(
        "Samples",
        f"Real rows, and draws from each model{given}: the first ones of the seed with the best "
        "validation likelihood (without a likelihood, of the first seed), none chosen by hand."
        + (CORNER if form == "corner" else ""),
        cards,
        size={"images": "small", "corner": "large"}.get(form, "medium"),
    )


def _correlations(results: Results, drawn: Mapping[str, torch.Tensor]) -> html.Section:
    domain = results.data.domain
    columns = len(pictures.ordered(domain))
    shown = domain.layout == "vector" and 2 < columns <= TABLE_COLUMNS
    real = draw_rows(results.data.train, domain).x

    def draw(row: Row, run: Run, color: str) -> Iterable[tuple[Figure, str]]:
        if shown and (x := drawn.get(row.model)) is not None:
            yield pictures.draw_correlations(real, x, domain), f"seed {run.seed}"

    return html.Section(
        "Correlations",
        "Rank correlations of columns that have an order, of training rows and of draws.",
        _cards(results, draw),
        size="large",
    )


def _draw(model: GenerativeModel, results: Results) -> torch.Tensor:
    """Draws for a picture; a conditional model gets the contexts of test rows."""
    domain, context = results.data.domain, None
    if model.context is not None:
        context = draw_rows(results.data.test, domain).context
    n = rows_in_picture(domain) if context is None else len(context)
    return model.sample(n, context=context, seed=0).cpu()


def _scores(results: Results) -> html.Section:
    """The figures that rank models."""
    floor = results.data.context is None  # else training rows have other contexts than draws

    def card(name: str, marks: Callable[[Row], str]) -> Iterable[html.Card]:
        scored = [(row, row.figure(name)) for row in results.rows]
        known = [(row, figure) for row, figure in scored if figure is not None]
        if len(known) < 2:
            return
        measure, level = BY_NAME[name], known[0][0].figure(f"{name}_floor")
        picture = pictures.draw_scores(
            [row.model for row, _ in known],
            [figure.value for _, figure in known],
            [figure.stderr or math.nan for _, figure in known],
            colors=[_color(results, row) for row, _ in known],
            marks=[marks(row) for row, _ in known],
            label=f"{measure.title} ({measure.unit}): {measure.better} is better",
            reference=("real rows", level.value) if floor and level is not None else None,
        )
        yield html.Card("", pictures.to_uri(picture))

    dashed = "Energy distances of samples: the dashed line is that of training rows in their place."
    return html.Section(
        "Held-out rows",
        "Bars are one standard error. Likelihoods: circles are exact or estimates, arrowheads lower "
        "bounds (the model's own value lies there or further to the right)."
        + (f" {dashed}" if floor else ""),
        [
            *card("log_likelihood", lambda row: MARKS.get(row.density, "o")),
            *card("energy_distance", lambda row: "o"),
        ],
        size="large",
    )


def _columns(results: Results) -> html.Section:
    """How far single columns of tables are from those of held-out rows."""
    floor = results.data.context is None

    def draw(row: Row, run: Run, color: str) -> Iterable[tuple[Figure, str]]:
        frame = run.evaluation.marginals if run.evaluation else None
        if frame is not None and not frame.empty:
            yield pictures.draw_marginals(frame, color=color, floor=floor), f"seed {run.seed}"

    bars = "; grey bars are those of training rows in their place" if floor else ""
    return html.Section(
        "Columns",
        "Distances between samples and held-out rows in each column alone (dots, with one standard "
        f"error){bars}. The Wasserstein distance is in standard deviations of the column; those of "
        "probabilities are the total variation of categories, and Kolmogorov–Smirnov (of circles: "
        "Kuiper) of numbers.",
        _cards(results, draw),
    )


def _training(results: Results) -> html.Section:
    def draw(row: Row, run: Run, color: str) -> Iterable[tuple[Figure, str]]:
        frames = [run.history.frame for run in results.finished(row.model) if run.history]
        if frames := [frame for frame in frames if len(frame)]:
            yield pictures.draw_training(frames), f"{row.steps:,.0f} steps"

    return html.Section(
        "Training",
        "What training minimises (dashed) and, where there is a likelihood, minus that of the "
        "validation split (solid), one line for each seed. The first steps may lie outside the frame. "
        "Where there is noise in a bound (dequantised integers, latent variables), training takes one "
        "draw and validation averages over several, which alone puts it lower. Losses of players "
        "against each other need not fall.",
        _cards(results, draw),
    )


def _overfitting(results: Results) -> html.Section:
    def draw(row: Row, run: Run, color: str) -> Iterable[tuple[Figure, str]]:
        if run.test is not None and run.train is not None:
            train, test = (rows.value.numpy(force=True) for rows in (run.train, run.test))
            yield pictures.draw_likelihoods(train, test), f"seed {run.seed}"

    return html.Section(
        "Likelihoods of training and test rows",
        "Log-likelihoods of single rows. Where training rows lie clearly further to the right, the "
        "model has memorised them (overfitting); with few rows noise alone moves them. A long tail to "
        "the left holds the rows that the model finds unusual.",
        _cards(results, draw),
    )


def _calibration(results: Results) -> html.Section:
    def draw(row: Row, run: Run, color: str) -> Iterable[tuple[Figure, str]]:
        if run.evaluation is not None and run.evaluation.reliability is not None:
            yield diagram(run.evaluation.reliability, color)

    return calibration(_cards(results, draw))


def _latent(results: Results) -> html.Section:
    """Codes of test rows, and walks through the latent space, of the models that have one."""
    data = results.data
    test = draw_rows(data.test, data.domain)

    def draw(row: Row, run: Run, color: str) -> Iterable[tuple[Figure, str]]:
        model = run.model
        if model is None:
            return
        context = test.context if model.context is not None else None
        if isinstance(model, MixesStyles):
            given = None if context is None else context[0]
            mixed = model.mix_styles(MIXED, context=given, seed=run.seed).cpu()
            about = f"coarse styles by row, fine ones by column; seed {run.seed}"
            yield pictures.draw_style_mixing(mixed, data.domain), about
        if not isinstance(model, Encodes):
            return
        with torch.no_grad():
            codes = model.encode(test.x, context).cpu()
        yield pictures.draw_codes(codes), f"codes of test rows; seed {run.seed}"
        dimensions, decoded = model.traverse(test.x, WALK, context)
        walk = pictures.draw_traversal(decoded.cpu(), data.domain, WALK, dimensions)
        yield walk, f"one latent variable moves; seed {run.seed}"

    return html.Section(
        "Latent space",
        "Codes in the plane of their largest principal components, and what rows become as one latent "
        f"variable goes from {WALK[0]:g} to {WALK[-1]:g} standard deviations of its code, from left "
        "to right, while the others stay at their means; those that vary most come first. Where layers have "
        "styles, images with the coarse ones of one sample and the fine ones of another; those of the "
        "diagonal are samples.",
        _cards(results, draw),
    )


def _translations(results: Results) -> html.Section:
    """Rows of the other domain, their translations and their returns."""
    data = results.data
    source = draw_rows(data.test, data.domain).context

    def draw(row: Row, run: Run, color: str) -> Iterable[tuple[Figure, str]]:
        model = run.model
        if isinstance(model, Translates) and source is not None and data.context is not None:
            there = model.translate(source)
            back = model.translate(there, back=True)
            picture = pictures.draw_translation(source, there, back, data.context, data.domain)
            yield picture, f"seed {run.seed}"

    return html.Section(
        "Translations",
        "Test rows of the domain that is translated, their translations, and what these return to.",
        _cards(results, draw),
        size="wide",
    )


def _settings(results: Results) -> list[tuple[str, str]]:
    data, settings = results.data, results.settings
    budget = ", ".join(f"{value:g} {unit}" for unit, value in settings["budget"].items())
    first: dict[str, GenerativeModel] = {}
    for run in results.runs:
        if run.model is not None:
            first.setdefault(run.name, run.model)
    jobs = settings["jobs"]
    place = settings.get("engine", "all cores")
    fits = {1: "one at a time", -1: f"side by side, on {place}"}.get(jobs, f"{jobs} at a time")
    device = next((str(model.device) for model in first.values()), "cpu")
    return [
        ("data", f"{data}; fingerprint {data.fingerprint()[:16]}"),
        ("seeds", ", ".join(map(str, settings["seeds"]))),
        ("fits", fits),
        ("budget of a fit", budget or "until validation stops improving"),
        *((name, html.listed(described(model.hyperparameters))) for name, model in first.items()),
        ("time", f"{settings['seconds']:,.0f} s for all fits and measurements"),
        *provenance(device).items(),
    ]
