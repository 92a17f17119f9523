"""The command `likely translate`, for models of two unpaired data sets."""

from pathlib import Path
from typing import Annotated

import typer

import likely as lk
from likely.cli import options as opt
from likely.cli.app import command
from likely.cli.options import check_suffix
from likely.cli.output import print_text
from likely.cli.rows import TABLES
from likely.cli.sample import write_samples
from likely.core.progress import shown


@command(
    "likely translate runs/styles google/ --out twitter.npy",
    "likely translate runs/styles twitter/ --back --out pages.png",
)
def translate(
    run: opt.RunFolder,
    data: opt.Source,
    out: Annotated[
        Path, typer.Option(metavar="FILE", help=".npy .npz .csv .parquet .fits, or .png.")
    ],
    back: Annotated[
        bool, typer.Option("--back", help="From the second of the two data sets to the first.")
    ] = False,
    device: opt.Device = "auto",
) -> None:
    """Translate every row, in the order of the data.

    A picture shows the first rows, their translations, and what these return to.
    """
    check_suffix(out, (*TABLES, ".png"))
    model = lk.load(run, device)
    move = model.translate  # a model without it says so
    source, target = model.context, model.domain
    if source is None:
        raise lk.DomainError(f"{run}: fitted without --unpaired: it translates no rows")
    if back:
        source, target = target, source
    x = lk.data.load_rows(data, domain=source).x[:]
    with shown("translate"):
        translated = move(x, back=back)
    if out.suffix.lower() == ".png":
        from likely.core.files import written_whole
        from likely.report import draw_translation, to_png

        some = slice(0, 500)
        returned = move(translated[some], back=not back)
        figure = draw_translation(x[some], translated[some], returned, source, target)
        with written_whole(out) as file:
            file.write(to_png(figure))
    else:
        write_samples(out, translated.cpu(), target)
    print_text(f"{len(x):,} rows: {out}")
