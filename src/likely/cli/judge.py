"""The command `likely judge`, which writes a page on which a person tells draws from data."""

import warnings
from pathlib import Path
from typing import Annotated

import typer

import likely as lk
from likely.cli import options as opt
from likely.cli.app import command
from likely.cli.options import check_suffix, fitted_options, read_data
from likely.cli.output import print_text


@command("likely judge runs/digits digits -n 100 --out judge.html")
def judge(
    run: opt.RunFolder,
    data: opt.Source,
    out: Annotated[Path, typer.Option(metavar="FILE", help=".html")],
    n: Annotated[int, typer.Option("-n", min=1, help="Number of pairs.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Of the images and of the draws.")] = 0,
    device: opt.Device = "auto",
) -> None:
    """Write a page of pairs of a real and a drawn image, for a person to tell which is which.

    Real images are those of the test split. At its end the page tells the share of right answers, with
    its interval.
    """
    from likely.core.files import written_whole
    from likely.report import turing_page

    check_suffix(out, (".html",))
    model = lk.load(run, device)
    loaded = read_data(data, fitted_options(model, run))
    real = loaded.test.subset(n * model.domain.size, seed)
    if len(real) < n:
        warnings.warn(f"{data}: the test split has {len(real)} rows: as many pairs", stacklevel=1)
    context = None if model.context is None else real.context
    drawn = model.sample(len(real), context=context, seed=seed)
    page = turing_page(
        real.x, drawn, model.domain, title=f"{run.name}: which image is real?", seed=seed
    )
    with written_whole(out) as file:
        file.write(page.encode())
    print_text(f"{len(real)} pairs: {out}")
