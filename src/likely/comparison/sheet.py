"""The page of one model: what was measured, and how it classifies, detects and withstands."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from likely import report as pictures
from likely._version import provenance
from likely.core.likelihood import shown
from likely.evaluation import Evaluation, Outside, Reliability, Robustness
from likely.report import page as html


def sheet(
    evaluation: Evaluation,
    *,
    outside: Outside | None = None,
    robustness: Sequence[Robustness] = (),
    device: str = "cpu",
) -> str:
    """The text of an HTML page on one model.

    Parameters
    ----------
    evaluation : Evaluation
    outside : Outside, optional
        What `detect_outside` found.
    robustness : sequence of Robustness
        What `robustness` found, for one norm or several.
    device : str
        Where it was measured.
    """
    sections = []
    if evaluation.reliability is not None:
        picture, caption = diagram(evaluation.reliability)
        card = html.Card("reliability", pictures.to_uri(picture), caption)
        sections.append(calibration([card]))
    if outside is not None:
        sections.append(detection(outside))
    sections += [withstanding(found) for found in robustness]
    heads = {
        "measure": "What was measured.",
        "value": "With its standard error.",
        "": "Unit and kind.",
    }
    return html.Page(
        title=f"likely evaluate: {evaluation.model} on {evaluation.data or 'data'}",
        lead=[f"{evaluation.rows:,} rows of the {evaluation.split} split."],
        columns=[html.Column(head, "", meaning, numeric=False) for head, meaning in heads.items()],
        rows=[[html.Cell(text.replace("-", "−")) for text in line] for line in evaluation.lines],
        notes=[
            note for found in (outside, *robustness) if found is not None for note in found.notes
        ],
        sections=sections,
        settings=[*provenance(device).items()],
    ).render()


def diagram(found: Reliability, color: str = pictures.PALETTE[0]) -> tuple[Figure, str]:
    """A reliability diagram, and its caption."""
    low, high = found.null
    parts = (found.confidence, found.accuracy, found.stderr, found.rows)
    picture = pictures.draw_reliability(*(part.numpy() for part in parts), color=color)
    caption = f"error {shown(found.error)}; if calibrated {low:.2g} to {high:.2g}"
    return picture, caption.replace("-", "−")


def calibration(cards: Sequence[html.Card]) -> html.Section:
    """Reliability diagrams."""
    return html.Section(
        "Calibration",
        "How often the likeliest class is right, by its probability, in bins with equally many rows. A "
        "calibrated classifier is on the diagonal, within the band in 95 % of the bins; one that is too "
        "sure of itself is below it. The error is the mean distance from the diagonal, without the bias "
        "that noise gives to distances.",
        cards,
    )


def detection(found: Outside) -> html.Section:
    """Histograms and ROC curves of each score."""
    cards = []
    for score, inside in found.inside.items():
        sets = {name: rows[score].numpy() for name, rows in found.outside.items()}
        figure = pictures.draw_detection(inside.numpy(), sets, label=score)
        caption = "AUROC: " + ", ".join(
            f"{name} {shown(of.auroc)}" for name, of in found.found[score].items()
        )
        cards.append(html.Card(score, pictures.to_uri(figure), caption))
    return html.Section(
        "Rows outside",
        "Whether a score tells other rows from held-out ones: higher means more unusual. The area under a "
        "curve (AUROC) is 1 where it always does and 0.5 for a guess; a curve below the diagonal belongs "
        "to rows that look more usual than data, as images of few details do to many likelihoods.",
        cards,
        size="large",
    )


def withstanding(found: Robustness) -> html.Section:
    """Accuracies under attack and noise."""
    curves = {
        name: ([f.value for f in figures], [f.stderr or 0.0 for f in figures])
        for name, figures in (("attack", found.accuracy), ("noise", found.random))
    }
    figure = pictures.draw_robustness(
        found.epsilon, curves, label=f"ε ({found.norm}), in units of the data"
    )
    return html.Section(
        f"Robustness, {found.norm}",
        f"Part of {found.rows:,} rows that remain right under the worst change of size ε that projected "
        f"gradient descent finds, in {found.restarts} restarts of {found.steps} steps, and under as many "
        "random changes. A better attack may find more. " + ". ".join(found.notes),
        [html.Card(found.norm, pictures.to_uri(figure))],
    )
