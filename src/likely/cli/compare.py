"""The commands `likely evaluate` and `likely compare`."""

import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

import likely as lk
from likely.cli import options as opt
from likely.cli.app import command
from likely.cli.options import (
    check_writable,
    data_options,
    fitted_options,
    read_data,
    read_json,
    split_names,
)
from likely.cli.output import make_console, print_json, print_text
from likely.core.errors import DivergenceError


@command("likely evaluate runs/digits digits --json")
def evaluate(
    run: opt.RunFolder, data: opt.Source, device: opt.Device = "auto", as_json: opt.Json = False
) -> None:
    """Measure a fitted model on the test split of the data: the same split as in the fit."""
    model = lk.load(run, device)
    loaded = read_data(data, fitted_options(model, run))
    config = read_json(run, "config.json")
    if config and config.get("data", {}).get("fingerprint") != loaded.fingerprint():
        warnings.warn(f"{data}: not the data of {run}; its own test split is used", stacklevel=1)
    evaluation = lk.evaluate(model, loaded, progress=True)
    if as_json:
        print_json(evaluation.to_json())
    else:
        make_console().print(evaluation.summary())


@command(
    "likely compare digits --models gaussian,gmm,made,nsf --minutes 1 --out report/",
    "likely compare events.csv --column 'phi=periodic(-pi,pi)' --seeds 5 --out report/",
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
    rows: Annotated[
        int | None,
        typer.Option(min=1, help="Rows to score, and to draw, at most; by default all, and 2,000."),
    ] = None,
    column: opt.Kinds = None,
    columns: opt.Columns = None,
    context: opt.ContextColumns = None,
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
    forms: dict[str, Any] = {"window": window, "words": words, "vocabulary": vocabulary}
    forms |= {"lowercase": lowercase, "length": length, "long": long.value, "size": size}
    loaded = lk.load_data(data, **data_options(column, columns, context, weight, missing, **forms))
    check_writable(out)
    options: dict[str, Any] = {"steps": steps, "epochs": epochs, "minutes": minutes}
    options |= {"seeds": seeds, "seed": seed, "jobs": jobs, "rows": rows, "device": device}
    shown = sys.stderr.isatty()
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
