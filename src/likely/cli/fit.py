"""The command `likely fit`."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

import likely as lk
from likely.cli import options as opt
from likely.cli.app import command
from likely.cli.options import data_options, hyperparameters, read_data, split_names
from likely.cli.output import print_json, print_text

TRAINING = "Training: by default as the model's family recommends"


class Precision(StrEnum):
    """In which numbers a fit computes."""

    SINGLE = "32-true"
    DOUBLE = "64-true"
    MIXED = "bf16-mixed"


@command(
    "likely fit digits --model made --minutes 1 --out runs/digits",
    "likely fit events.csv --model nsf --set transforms=3 --set hidden=64,64 "
    "--column 'phi=periodic(-pi,pi)' --weight w --out runs/events",
    "likely fit digits --model classifier --predict label --out runs/labels",
    "likely fit google/ --unpaired twitter/ --model cyclegan --minutes 20 --out runs/styles",
)
def fit(
    data: opt.Source,
    model: Annotated[str, typer.Option(help="Name of a model, as in [bold]likely models[/bold].")],
    out: Annotated[Path, typer.Option(metavar="RUN", help="Folder of the run.")],
    settings: opt.Settings = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the training.")] = 0,
    device: opt.Device = "auto",
    devices: Annotated[
        int, typer.Option(min=1, help="Processes, each on a GPU or some cores, that share a batch.")
    ] = 1,
    accumulate: Annotated[
        int,
        typer.Option(
            min=1, help="Parts of a batch whose gradients are added up, for want of memory."
        ),
    ] = 1,
    precision: Annotated[
        Precision,
        typer.Option(help="bf16-mixed is faster where the processor multiplies bfloat16 matrices."),
    ] = Precision.SINGLE,
    compile: Annotated[
        bool,
        typer.Option("--compile", help="Compile the loss; pays in long runs of flows."),
    ] = False,
    batch: Annotated[
        int | None, typer.Option(rich_help_panel=TRAINING, help="Rows of a batch.")
    ] = None,
    rate: Annotated[
        float | None, typer.Option(rich_help_panel=TRAINING, help="Learning rate.")
    ] = None,
    weight_decay: Annotated[
        float | None, typer.Option(rich_help_panel=TRAINING, help="Weight decay of matrices.")
    ] = None,
    clip: Annotated[
        float | None, typer.Option(rich_help_panel=TRAINING, help="Largest norm of a gradient.")
    ] = None,
    ema: Annotated[
        float | None,
        typer.Option(rich_help_panel=TRAINING, help="Decay of the averaged weights, from 0 to 1."),
    ] = None,
    early_stopping: Annotated[
        bool,
        typer.Option(
            "--early-stopping/--no-early-stopping",
            rich_help_panel=TRAINING,
            help="Keep the best weights, and stop when validation no longer improves; otherwise spend "
            "the whole budget and keep the last ones.",
        ),
    ] = True,
    steps: opt.Steps = None,
    epochs: opt.Epochs = None,
    minutes: opt.Minutes = None,
    unpaired: opt.Unpaired = None,
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
    """Fit a model to data.

    The same command resumes a run that was interrupted.
    """
    from lightning_fabric.utilities.rank_zero import rank_zero_only

    from likely.core.files import read_tree, write_json
    from likely.fitting.folder import CHECKPOINT, MODEL

    forms: dict[str, Any] = {
        "unpaired": unpaired,
        "predict": split_names(predict),
        "window": window,
        "words": words,
        "vocabulary": vocabulary,
    }
    forms |= {"lowercase": lowercase, "length": length, "long": long.value, "size": size}
    options = data_options(column, columns, context, weight, missing, **forms)
    loaded = read_data(data, options)
    chosen = hyperparameters(settings)
    new = lk.make(model, loaded.domain, context=loaded.context, seed=seed, **chosen)
    # Several processes may run, started by torchrun or Slurm.
    first = not getattr(rank_zero_only, "rank", 0)
    if first and not as_json:
        print_text(str(loaded))
    complete, checkpoint = (out / MODEL).exists(), out / CHECKPOINT
    if first and not as_json and checkpoint.exists() and not complete:
        done = read_tree(checkpoint)["state"]["history"]["steps"]
        print_text(f"resuming at step {done:,}")
    training: dict[str, Any] = {"steps": steps, "epochs": epochs, "minutes": minutes}
    training |= {
        "batch": batch,
        "rate": rate,
        "weight_decay": weight_decay,
        "clip": clip,
        "ema": ema,
    }
    training |= {"early_stopping": early_stopping, "seed": seed, "compile": compile}
    training |= {"device": device, "devices": devices, "precision": precision.value}
    training |= {"accumulate": accumulate}
    history = lk.fit(new, loaded, run=out, progress=sys.stderr.isatty(), **training)
    if not first:
        return
    # What `score` and `evaluate` must know to read data as this command did.
    write_json(out / "data.json", options)
    if as_json:
        figures = ("steps", "seconds", "skipped", "best", "rows_seen", "peak_memory")
        print_json({"run": str(out)} | {name: getattr(history, name) for name in figures})
        return
    best, spent = history.best, f"{history.steps:,} steps in {history.seconds:,.1f} s"
    score = "" if best is None else f"validation log-likelihood {best:.6g} nats ({new.density}), "
    state = "complete before this command: " if complete else ""
    print_text(f"{state}{score}{spent}: {out / MODEL}")
