"""The commands `likely evaluate` and `likely compare`."""

import sys
import warnings
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

import likely as lk
from likely.cli import options as opt
from likely.cli.app import command
from likely.cli.options import (
    check_suffix,
    check_writable,
    data_options,
    fitted_options,
    read_data,
    read_json,
    split_names,
)
from likely.cli.output import make_console, print_json, print_text
from likely.core.errors import DivergenceError, LikelyError

ATTACKED = 500  # rows of the test split


class Norm(StrEnum):
    """How the size of a change of a row is measured."""

    LINF = "Linf"
    L2 = "L2"


@command(
    "likely evaluate runs/digits digits --json",
    "likely evaluate runs/mnist mnist.npz --outside fashion.npz --page mnist.html",
    "likely evaluate runs/classes digits --attack 0.5,1,2 --norm L2",
)
def evaluate(
    run: opt.RunFolder,
    data: opt.Source,
    outside: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DATA",
            help="Other rows: can the model tell them from its own? Images made of the data, such as "
            "shuffled ones, are added; [bold]noise[/bold]: these alone. May be repeated.",
        ),
    ] = None,
    attack: Annotated[
        str | None,
        typer.Option(
            metavar="ε,…",
            help="Sizes of changes of 500 rows, in the data's units, against which a classifier is tried.",
        ),
    ] = None,
    norm: Annotated[
        Norm,
        typer.Option(help="How these are measured: the largest entry, or the root of squares."),
    ] = Norm.LINF,
    page: Annotated[
        Path | None, typer.Option(metavar="FILE", help=".html, with pictures of all that.")
    ] = None,
    device: opt.Device = "auto",
    as_json: opt.Json = False,
) -> None:
    """Measure a fitted model on the test split of the data: the same split as in the fit."""
    if page is not None:
        check_suffix(page, (".html",))
    sizes = [_size(text) for text in split_names(attack) or []]
    model = lk.load(run, device)
    options = fitted_options(model, run)
    loaded = read_data(data, options)
    config = read_json(run, "config.json")
    if config and config.get("data", {}).get("fingerprint") != loaded.fingerprint():
        warnings.warn(f"{data}: not the data of {run}; its own test split is used", stacklevel=1)
    from likely.comparison.sheet import sheet
    from likely.core.files import written_whole
    from likely.evaluation import detect_outside, robustness
    from likely.evaluation.classes import labelled
    from likely.evaluation.likelihood import subset

    # What cannot be read or done is told before the long work.
    others = _outside(model, outside, options) if outside else None
    if sizes:
        x, labels, _ = labelled(model, loaded.test.rows(subset(len(loaded.test), ATTACKED, 0)))
    detected = None if others is None else detect_outside(model, loaded, others)
    robust = [robustness(model, x, labels, sizes, norm=norm.value)] if sizes else []
    evaluation = lk.evaluate(model, loaded, progress=True)
    if page is not None:
        text = sheet(evaluation, outside=detected, robustness=robust, device=str(model.device))
        with written_whole(page) as file:
            file.write(text.encode())
    if as_json:
        report = evaluation.to_json()
        report |= {"outside_rows": detected.to_json()} if detected else {}
        print_json(report | ({"robustness": robust[0].to_json()} if robust else {}))
        return
    console = make_console()
    console.print(evaluation.summary())
    for found in ([detected] if detected else []) + robust:
        console.print(found.summary())
        for note in found.notes:
            print_text(note, "yellow")
    if page is not None:
        print_text(f"page: {page}")


def _size(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise LikelyError(f"--attack {text}: give numbers, with commas between them") from None


def _outside(
    model: "lk.GenerativeModel", sources: list[str], options: dict[str, Any]
) -> dict[str, Any]:
    """Rows of other data, in the form of those that the model sees, by the names of their files."""
    from likely.evaluation.classes import seen_by

    names = ("columns", "size", "window")
    given = {name: options[name] for name in names if name in options}
    given["domain"] = seen_by(model).widened  # rows outside it are read, too
    sources = [source for source in sources if source != "noise"]
    return {Path(source).name: lk.data.load_rows(source, **given).x[:] for source in sources}


@command(
    "likely compare digits --models gaussian,gmm,made,nsf --minutes 1 --out report/",
    "likely compare events.csv --column 'phi=periodic(-pi,pi)' --seeds 5 --out report/",
    "likely compare events.csv --steps 20000 --engine tcp://scheduler:8786 --out /shared/report",
)
def compare(
    data: opt.Source,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the report goes.")],
    models: Annotated[
        str | None,
        typer.Option(metavar="A,B,…", help="Names of models; by default all that take the data."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Fits of each model.")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="The first of the seeds.")] = 0,
    steps: opt.Steps = None,
    epochs: opt.Epochs = None,
    minutes: opt.Minutes = None,
    device: opt.Device = "auto",
    jobs: Annotated[
        int,
        typer.Option(help="Fits side by side, given steps or epochs; -1: one on every core."),
    ] = 1,
    engine: Annotated[
        str | None,
        typer.Option(
            metavar="dask|ray|ADDRESS",
            help="Fits on a cluster, given steps or epochs: one on this machine, or that of an address, as "
            "tcp://HOST:8786, ray://HOST:10001. Each resumes from FOLDER/runs if its worker is killed.",
        ),
    ] = None,
    rows: Annotated[
        int | None,
        typer.Option(min=1, help="Rows to score, and to draw, at most; by default all, and 2,000."),
    ] = None,
    column: opt.Kinds = None,
    columns: opt.Columns = None,
    context: opt.ContextColumns = None,
    predict: opt.Predict = None,
    weight: opt.Weight = None,
    window: opt.Window = None,
    words: opt.Words = False,
    vocabulary: opt.Vocabulary = None,
    lowercase: opt.Lowercase = True,
    length: opt.Length = None,
    long: opt.OnLong = opt.Long.ERROR,
    size: opt.Size = None,
    missing: opt.OnMissing = opt.Missing.ERROR,
    as_json: opt.Json = False,
) -> None:
    """Fit several models to the same data under the same budget, and compare them.

    Writes index.html, comparison.json and comparison.csv, after the first model and again after each. The
    budget is that of each single fit.
    """
    forms: dict[str, Any] = {"predict": split_names(predict), "window": window}
    forms |= {"words": words, "vocabulary": vocabulary}
    forms |= {"lowercase": lowercase, "length": length, "long": long.value, "size": size}
    loaded = lk.load_data(data, **data_options(column, columns, context, weight, missing, **forms))
    check_writable(out)
    options: dict[str, Any] = {"steps": steps, "epochs": epochs, "minutes": minutes}
    options |= {"seeds": seeds, "seed": seed, "jobs": jobs, "rows": rows, "device": device}
    if engine is not None:
        options |= {"engine": engine, "runs": out / "runs"}
    shown = sys.stderr.isatty() or engine is not None  # the lines of a cluster suit a log
    comparison = lk.compare(split_names(models), loaded, progress=shown, out=out, **options)
    assert isinstance(comparison, lk.Comparison)
    if as_json:
        print_json(comparison.to_json())
    else:
        console = make_console()
        console.print(comparison.rich_table(console.width))
        for line in [*comparison.summary(), *comparison.notes, f"report: {out / 'index.html'}"]:
            print_text(line)
    if all(run.error for run in comparison.runs):
        raise DivergenceError("no fit completed")
