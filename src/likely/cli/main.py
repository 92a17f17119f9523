"""The command `likely`. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import inspect
import json
import sys
import warnings
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import likely as lk
from likely.cli.common import (
    Epochs,
    Json,
    Minutes,
    Steps,
    hyperparameters,
    make_console,
    print_json,
    print_text,
    refuse_suffix,
    refuse_unwritable,
    split_names,
    split_pairs,
)
from likely.cli.quantum import quantum
from likely.core.errors import ArtifactError, DataError, DivergenceError, LikelyError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from likely.contract.model import GenerativeModel
    from likely.core.domain import Domain

app = typer.Typer(
    name="likely",
    help="Generative models of every family behind one contract: fit, sample, score, compare.",
    epilog="[bold]Examples[/bold]\n\n"
    "likely compare digits --models gmm,made,nsf --minutes 1 --out report/\n\n"
    "likely fit events.csv --model nsf --column 'phi=periodic(-pi,pi)' --out runs/events\n\n"
    "likely sample runs/events -n 1000 --out samples.csv",
    rich_markup_mode="rich",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(quantum)


class Precision(StrEnum):
    """In which numbers a fit computes."""

    SINGLE = "32-true"
    DOUBLE = "64-true"
    MIXED = "bf16-mixed"


class Missing(StrEnum):
    """What to do about rows with missing entries."""

    ERROR = "error"
    DROP = "drop"


TEXT = "Texts and other sequences"
DATA = "Data"

Source = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="A file (.npy .npz .csv .tsv .parquet .h5 .txt), a folder of images, or a built-in "
        "name such as [bold]digits[/bold]. Arrays in a file: [bold]events.h5::group/key[/bold].",
    ),
]
RunFolder = Annotated[
    Path, typer.Argument(metavar="RUN", help="A run folder, or a model.safetensors file.")
]
Kinds = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        metavar="NAME=KIND",
        rich_help_panel=DATA,
        help="Declare a column by name or position, as [bold]phi=periodic(-pi,pi)[/bold]; kinds: real, "
        "positive, interval(a,b), periodic(a,b), integer(levels), count, binary, spin, "
        "categorical(a,b,…). May be repeated; what is not declared is inferred.",
    ),
]
Columns = Annotated[
    str | None,
    typer.Option(metavar="A,B,…", rich_help_panel=DATA, help="Take these columns only."),
]
ContextColumns = Annotated[
    str | None,
    typer.Option(
        "--context", metavar="COLUMN,…", rich_help_panel=DATA, help="Columns to condition on."
    ),
]
Weight = Annotated[
    str | None,
    typer.Option(metavar="COLUMN", rich_help_panel=DATA, help="Non-negative weights of the rows."),
]
OnMissing = Annotated[
    Missing,
    typer.Option("--missing", rich_help_panel=DATA, help="What to do about missing entries."),
]
Window = Annotated[
    int | None,
    typer.Option(
        min=0,
        metavar="N",
        rich_help_panel=DATA,
        help="Characters of a window of a running text (.txt), by default 256; 0: each line is a "
        "text of its own.",
    ),
]


@app.callback(invoke_without_command=True)
def _likely(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    if version:
        typer.echo(f"likely {lk.__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
def models(as_json: Json = False) -> None:
    """List the models that there are."""
    frame = lk.models()
    if as_json:
        print_json(frame.reset_index().to_dict("records"))
        return
    from rich.table import Table

    table = Table("model", "what it is", "density", "constraint", "paper", "columns")
    for name, row in frame.iterrows():
        takes = ", ".join([*row["columns"], *(["a context"] if row["context"] else [])])
        words = [row[key] for key in ("title", "density", "constraint", "paper")]
        table.add_row(f"[bold]{name}[/bold]", *words, takes)
    make_console().print(table)


@app.command(
    epilog="[bold]Examples[/bold]\n\n"
    "likely fit digits --model made --minutes 1 --out runs/digits\n\n"
    "likely fit events.csv --model nsf --set transforms=3 --set hidden=64,64 "
    "--column 'phi=periodic(-pi,pi)' --weight w --out runs/events"
)
def fit(
    data: Source,
    model: Annotated[str, typer.Option(help="Name of a model, as in [bold]likely models[/bold].")],
    out: Annotated[Path, typer.Option(metavar="RUN", help="Folder of the run.")],
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="A hyperparameter, as [bold]transforms=5[/bold]. May be repeated.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the training.")] = 0,
    devices: Annotated[
        int, typer.Option(min=1, help="Processes, each on a GPU or some cores, that share a batch.")
    ] = 1,
    precision: Annotated[
        Precision,
        typer.Option(help="bf16-mixed is faster where the processor multiplies bfloat16 matrices."),
    ] = Precision.SINGLE,
    compile: Annotated[
        bool,
        typer.Option(
            "--compile", help="Compile the loss after 20 steps; pays in long runs of flows."
        ),
    ] = False,
    steps: Steps = None,
    epochs: Epochs = None,
    minutes: Minutes = None,
    column: Kinds = None,
    columns: Columns = None,
    context: ContextColumns = None,
    weight: Weight = None,
    window: Window = None,
    missing: OnMissing = Missing.ERROR,
    as_json: Json = False,
) -> None:
    """Fit a model to data.

    The same command goes on with a run that was interrupted.
    """
    from lightning_fabric.utilities.rank_zero import rank_zero_only

    from likely.core.files import write_json

    options = _options(column, columns, context, weight, window, missing)
    loaded = lk.load_data(data, **options)
    made = lk.make(
        model, loaded.domain, context=loaded.context, seed=seed, **hyperparameters(settings)
    )
    first = not getattr(
        rank_zero_only, "rank", 0
    )  # of the processes that torchrun or Slurm has started
    if first and not as_json:
        print_text(str(loaded))
    history = lk.fit(
        made,
        loaded,
        steps=steps,
        epochs=epochs,
        minutes=minutes,
        seed=seed,
        devices=devices,
        precision=precision.value,
        compile=compile,
        run=out,
        progress=sys.stderr.isatty(),
    )
    if not first:
        return
    # What `score` and `evaluate` must know to read data as this command did.
    write_json(out / "data.json", options)
    if as_json:
        figures = ("steps", "seconds", "skipped", "best", "rows_seen", "peak_memory")
        print_json({"run": str(out)} | {name: getattr(history, name) for name in figures})
        return
    score = (
        ""
        if history.best is None
        else f"validation log-likelihood {history.best:.6g} nats ({made.density}), "
    )
    spent = f"{history.steps:,} steps in {history.seconds:,.1f} s"
    print_text(f"{score}{spent}: {out / 'model.safetensors'}")


@app.command(
    epilog="[bold]Examples[/bold]\n\n"
    "likely sample runs/events -n 1000 --seed 1 --out samples.csv\n\n"
    "likely sample runs/digits -n 36 --context label=7 --out sevens.png\n\n"
    "likely sample runs/play -n 1 --prompt 'ROMEO:' --length 500 --temperature 0.8"
)
def sample(
    run: RunFolder,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help=".npy .npz .csv .parquet .png, or .txt for texts; these are printed without it.",
        ),
    ] = None,
    n: Annotated[int, typer.Option("-n", min=1, help="Number of samples.")] = 1000,
    seed: Annotated[
        int | None, typer.Option(min=0, help="The same seed gives the same samples.")
    ] = None,
    context: Annotated[
        str | None,
        typer.Option(
            metavar="NAME=VALUE,…",
            help="What to condition on: values for all samples, or a file with one row or n rows.",
        ),
    ] = None,
    prompt: Annotated[
        str | None, typer.Option(rich_help_panel=TEXT, help="With what each text begins.")
    ] = None,
    length: Annotated[
        int | None,
        typer.Option(min=1, rich_help_panel=TEXT, help="Of a running text; else a window's."),
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(
            rich_help_panel=TEXT,
            help="Below 1 the likely symbols become likelier, above 1 less so.",
        ),
    ] = None,
    top_k: Annotated[
        int | None, typer.Option(rich_help_panel=TEXT, help="Draw from the K likeliest symbols.")
    ] = None,
    top_p: Annotated[
        float | None,
        typer.Option(
            rich_help_panel=TEXT,
            help="Draw from the fewest symbols that have this probability together.",
        ),
    ] = None,
) -> None:
    """Draw samples from a fitted model, in the data's own units."""
    if out is not None:
        refuse_suffix(out, [*_WRITERS, ".png", ".txt"])
    model = lk.load(run)
    domain = model.domain
    if domain.alphabet is None and (out is None or out.suffix.lower() == ".txt"):
        raise LikelyError(f"--out: give a file to write to, one of {', '.join(_WRITERS)} or .png")
    sharpening = {
        name: value
        for name, value in (("temperature", temperature), ("top_k", top_k), ("top_p", top_p))
        if value is not None
    }
    for option in sharpening:
        if option not in inspect.signature(model.sample).parameters:
            raise LikelyError(
                f"--{option.replace('_', '-')}: only models of sequences take it, such as rnn and "
                "transformer"
            )
    options: dict[str, Any] = {"context": _context(model, context), "seed": seed, **sharpening}
    if prompt is None and length is None:
        x = model.sample(n, **options)
    else:
        x = _continued(model, n, prompt or "", length, options)
    from likely.core.files import written_whole

    if out is None or out.suffix.lower() == ".txt":
        texts = ("\n" if domain.ends else "\n\n").join(domain.texts(x)) + "\n"
        if out is None:
            typer.echo(texts, nl=False)
            return
        with written_whole(out) as file:
            file.write(texts.encode())
    elif out.suffix.lower() == ".png":
        from likely.report import draw_samples, to_png

        picture = to_png(draw_samples(x, domain))
        with written_whole(out) as file:
            file.write(picture)
    else:
        _write_rows(out, "x", x.numpy(force=True), _columns(x, domain))


@app.command(
    epilog="[bold]Examples[/bold]\n\n"
    "likely score runs/events new-events.csv --out scores.npy\n\n"
    "likely score runs/events new-events.csv --anomaly --out unusual.csv"
)
def score(
    run: RunFolder,
    data: Source,
    out: Annotated[Path, typer.Option(metavar="FILE", help=".npy .npz .csv or .parquet.")],
    anomaly: Annotated[
        bool,
        typer.Option(
            "--anomaly",
            help="How unusual each row is instead, the higher the more so: the negative "
            "log-likelihood, or an autoencoder's error of reconstruction.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Log-likelihood of every row, in nats, in the order of the data.

    A row outside the model's domain gets −inf; a category that it does not know is an error. Where
    the model was fitted with weights, so is the mean that is printed.
    """
    import dataclasses

    import numpy as np

    refuse_suffix(out, [*_WRITERS])
    model = lk.load(run)
    if anomaly:
        _score_anomaly(model, run, data, out, as_json)
        return
    likelihood, weight, outside = _score(model, run, data)
    value = likelihood.value.numpy(force=True)
    _write_rows(out, "log_likelihood", value, {"log_likelihood": value})
    mean = likelihood.mean(weight)
    inside = np.isfinite(value)
    others = dataclasses.replace(likelihood, value=likelihood.value[inside])
    mean_inside = others.mean(None if weight is None else weight[inside])
    if as_json:
        report = {
            "rows": len(value),
            "outside": outside,
            "kind": likelihood.kind,
            "solver_tolerance": likelihood.tolerance,
        }
        means = {"mean": mean.to_json(), "mean_inside": mean_inside.to_json()}
        print_json(report | means | {"file": str(out)})
        return
    text = f"{len(value):,} rows, mean log-likelihood {mean} nats ({likelihood.kind})"
    if outside == len(value):
        text += "; all of them lie outside the domain"
    elif outside:
        first = int((~inside).argmax())
        text += (
            f"; {mean_inside} without the {outside:,} outside the domain (the first is row {first})"
        )
    print_text(f"{text}: {out}")


@app.command(epilog="[bold]Example[/bold]\n\nlikely evaluate runs/digits digits --json")
def evaluate(run: RunFolder, data: Source, as_json: Json = False) -> None:
    """Measure a fitted model on the test split of the data: the same split as in the fit."""
    model = lk.load(run)
    loaded = lk.load_data(data, **_as_fitted(model, run))
    config = _read_json(run, "config.json")
    if config and config.get("data", {}).get("fingerprint") != loaded.fingerprint():
        warnings.warn(
            f"{data}: not the data of {run}; measured on its own test split", stacklevel=1
        )
    evaluation = lk.evaluate(model, loaded)
    if as_json:
        print_json(evaluation.to_json())
    else:
        make_console().print(evaluation.summary())


@app.command(
    epilog="[bold]Examples[/bold]\n\n"
    "likely compare digits --models gaussian,gmm,made,nsf --minutes 1 --out report/\n\n"
    "likely compare events.csv --column 'phi=periodic(-pi,pi)' --seeds 5 --out report/"
)
def compare(
    data: Source,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the report goes.")],
    models: Annotated[
        str | None,
        typer.Option(metavar="A,B,…", help="Names of models; by default all that take the data."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Fits of each model.")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="The first of the seeds.")] = 0,
    steps: Steps = None,
    epochs: Epochs = None,
    minutes: Minutes = None,
    jobs: Annotated[
        int,
        typer.Option(
            help="Fits side by side, with a budget in steps or epochs; -1: one on every core."
        ),
    ] = 1,
    rows: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Score at most so many test rows, and draw as many; by default all, and 2,000.",
        ),
    ] = None,
    column: Kinds = None,
    columns: Columns = None,
    context: ContextColumns = None,
    weight: Weight = None,
    window: Window = None,
    missing: OnMissing = Missing.ERROR,
    as_json: Json = False,
) -> None:
    """Fit several models to the same data under the same budget, and report what each is worth.

    Writes index.html, comparison.json and comparison.csv. The budget is that of each single fit.
    """
    loaded = lk.load_data(data, **_options(column, columns, context, weight, window, missing))
    refuse_unwritable(out)
    comparison = lk.compare(
        split_names(models),
        loaded,
        steps=steps,
        epochs=epochs,
        minutes=minutes,
        seeds=seeds,
        seed=seed,
        jobs=jobs,
        rows=rows,
        progress=sys.stderr.isatty(),
    )
    comparison.to_html(out / "index.html")
    report = comparison.to_json(out / "comparison.json")
    comparison.to_csv(out / "comparison.csv")
    if as_json:
        print_json(report)
    else:
        console = make_console()
        console.print(comparison.rich_table(console.width))
        for line in [*comparison.summary(), *comparison.notes, f"report: {out / 'index.html'}"]:
            print_text(line)
    if all(run.error for run in comparison.runs):
        raise DivergenceError("no fit came to its end")


# Arguments.


def _options(
    column: list[str] | None,
    columns: str | None,
    context: str | None,
    weight: str | None,
    window: int | None,
    missing: Missing,
) -> dict[str, Any]:
    """What `load_data` is told, JSON-able."""
    given = split_names(context)
    options = {
        "domain": split_pairs(column or [], "--column") or None,
        "columns": split_names(columns),
        "context": given[0] if given and len(given) == 1 else given,
        "weight": weight,
        "missing": missing.value,
    }
    return options if window is None else options | {"window": window}


def _as_fitted(model: GenerativeModel, run: Path) -> dict[str, Any]:
    """How to read data for a fitted model: as its `fit` did, in its domains."""
    options = _read_json(run, "data.json") or {}
    return options | {"domain": model.domain, "context_domain": model.context}


def _read_json(run: Path, name: str) -> dict[str, Any] | None:
    """A file of the run folder, if it is there; `run` may be the model's file in that folder."""
    path = (run.parent if run.is_file() else run) / name
    if not path.is_file():
        return None
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise ArtifactError(f"{path}: cannot be read ({error}); restore it or fit again") from error


def _continued(
    model: GenerativeModel,
    n: int,
    prompt: str,
    length: int | None,
    options: dict[str, Any],
) -> Tensor:
    """Texts that begin with a prompt; a running text may be longer than a window."""
    import torch

    from likely.models.autoregressive.base import Autoregressive
    from likely.models.autoregressive.sequence import SequenceModel

    codes, size = model.domain.codes(prompt), model.domain.size
    if not isinstance(model, Autoregressive):
        raise LikelyError(
            "--prompt, --length: only autoregressive models take them, such as rnn and made"
        )
    if not model.domain.ends and (length or len(codes) >= size):
        if not isinstance(model, SequenceModel) or options.pop("context") is not None:
            raise LikelyError(
                f"--length, or a prompt of {size} characters or more: only models of sequences without "
                "a context take these, such as rnn and transformer"
            )
        return model.generate(n, length or len(codes) + size // 2, prompt=codes, **options)
    if length is not None:
        raise LikelyError("--length: the model's texts end by themselves; leave it out")
    if len(codes) > size:
        raise DataError(f"--prompt: it has {len(codes)} characters, a text at most {size}")
    known = torch.arange(size) < len(codes)
    x = torch.nn.functional.pad(codes, (0, size - len(codes))).expand(n, -1)
    return model.complete(x, known, **options)


def _context(model: GenerativeModel, text: str | None) -> Tensor | None:
    """The context that `--context` names: a file, or values in the order or by the names."""
    if text is None:
        if model.context is not None:
            wanted = ",".join(f"{name}=…" for name in model.context.names or ()) or "FILE"
            raise DataError(f"this model is conditional: give --context {wanted}")
        return None
    if model.context is None:
        raise DataError("this model takes no context: leave --context out")
    if Path(text).exists():
        rows = lk.data.load_rows(text, domain=model.context).x[:]
        return rows[0] if len(rows) == 1 else rows
    parts = split_names(text) or []
    names = [model.context.name(i).strip("'") for i in range(model.context.size)]
    given = (
        split_pairs(parts, "--context") if "=" in text else dict(zip(names, parts, strict=False))
    )
    if sorted(given) != sorted(names) or len(parts) != len(names):
        raise DataError(
            f"--context {text}: give a value of each of {', '.join(names)}, or the name of a file"
        )
    return model.context.row([given[name] for name in names])


# Scores.


def _score(
    model: GenerativeModel, run: Path, data: str
) -> tuple[lk.Likelihood, Tensor | None, int]:
    """Log-likelihood of all rows of a source, their weights, and how many lie outside the domain."""
    import math

    from likely.evaluation import held_out

    options = _to_be_scored(model, run)
    try:
        rows = lk.data.load_rows(data, **options)
    except DataError as error:  # new rows need no weights to be scored
        rows = lk.data.load_rows(data, **options | {"weight": None})
        warnings.warn(f"the mean is not weighted: {error}", stacklevel=1)
    likelihood, weight = held_out(model, rows)
    return likelihood, weight, int((likelihood.value == -math.inf).sum())


def _score_anomaly(model: GenerativeModel, run: Path, data: str, out: Path, as_json: bool) -> None:
    """Write how unusual each row of a source is, and say which row is the most."""
    import numpy as np
    import torch

    from likely.core.random import seeded
    from likely.evaluation.likelihood import batches

    rows = lk.data.load_rows(data, **_to_be_scored(model, run) | {"weight": None})
    with seeded(0, model.device):
        chunks = batches(model, rows, torch.arange(len(rows)))
        parts = [model.anomaly_score(batch.x, batch.context).cpu() for batch in chunks]
    value = torch.cat(parts).numpy()
    _write_rows(out, "anomaly_score", value, {"anomaly_score": value})
    outside, first = int(np.isinf(value).sum()), int(value.argmax())
    if as_json:
        report = {"rows": len(value), "outside": outside, "most_unusual": first, "file": str(out)}
        print_json(report)
        return
    found = f"the most unusual is row {first} ({value[first]:.6g})"
    if outside:
        found = f"{outside:,} outside the domain (the first is row {first})"
    print_text(f"{len(value):,} rows, {found}: {out}")


def _to_be_scored(model: GenerativeModel, run: Path) -> dict[str, Any]:
    """How to read rows that are to be scored: those outside the domain too, as real numbers."""
    options = _as_fitted(model, run) | {"domain": model.domain.widened}
    options.pop("missing", None)
    return options


# Files.


_WRITERS = (".npy", ".npz", ".csv", ".parquet")


def _write_rows(path: Path, key: str, array: np.ndarray, columns: dict[str, np.ndarray]) -> None:
    """Write rows in the format of the file's name: as an array, or as the columns of a table."""
    import numpy as np
    import pandas as pd

    from likely.core.files import written_whole

    suffix = path.suffix.lower()
    with written_whole(path) as file:
        if suffix == ".npy":
            np.save(file, array)
        elif suffix == ".npz":
            np.savez_compressed(file, allow_pickle=False, **{key: array})
        elif suffix == ".csv":
            pd.DataFrame(columns).to_csv(file, index=False, lineterminator="\n")
        else:
            pd.DataFrame(columns).to_parquet(file, index=False)


def _columns(x: Tensor, domain: Domain) -> dict[str, np.ndarray]:
    """Samples as columns: whole numbers stay whole, categories get their labels back."""
    import numpy as np

    columns = {}
    for index, values in enumerate(x.flatten(1).numpy(force=True).T):
        kind = domain.column(index)
        if kind.discrete and not isinstance(kind, lk.Constant):
            values = values.astype(np.int64)  # noqa: PLW2901
        labels = getattr(kind, "labels", None)
        name = domain.names[index] if domain.names else f"x{index}"
        columns[name] = np.array(labels, dtype=object)[values] if labels else values
    return columns


# What is said, and how it ends.


def _say(text: str, style: str) -> None:
    make_console(stderr=True).print(
        text, style=style, markup=False, highlight=False, soft_wrap=True
    )


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    if category is UserWarning:  # others are for developers
        _say(f"warning: {message}", "yellow")


_UsageError: Any = typer.BadParameter.__base__  # of whichever click typer brings along


def main(arguments: list[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    arguments : list of str, optional
        By default those of the process.

    Returns
    -------
    int
        0 done, 1 the run failed, 2 unusable arguments or data, 130 interrupted.
    """
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        warnings.simplefilter("default", UserWarning)
        try:
            status = app(arguments, prog_name="likely", standalone_mode=False) or 0
        except _UsageError as error:
            command = error.ctx.command_path if error.ctx is not None else "likely"
            _say(f"error: {error.format_message()} (see {command} --help)", "red")
            return 2
        except LikelyError as error:
            _say(f"error: {error}", "red")
            return 1 if isinstance(error, DivergenceError) else 2
        except OSError as error:
            _say(f"error: {error}", "red")
            return 2
    if status == 130:
        goes_on = (arguments or sys.argv[1:])[:1] == ["fit"]
        hint = "; the same command goes on from the last checkpoint" if goes_on else ""
        _say(f"interrupted{hint}", "yellow")
    return int(status)
