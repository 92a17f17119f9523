"""The commands `likely sample` and `likely score`, which write a value for each row."""

from __future__ import annotations

import contextlib
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

import likely as lk
from likely.cli import options as opt
from likely.cli.app import command
from likely.cli.options import check_suffix, fitted_options, split_names, split_pairs
from likely.cli.output import print_json, print_text
from likely.cli.rows import STREAMED, TABLES, appended, write_rows
from likely.core.errors import DataError, LikelyError
from likely.core.parallel import in_order
from likely.core.progress import shown, track

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    from torch import Tensor

    from likely.contract.model import GenerativeModel
    from likely.core.domain import Domain
    from likely.core.likelihood import Likelihood
    from likely.data import Split

TEXT = "Texts and other sequences"


@command(
    "likely sample runs/events -n 1000 --seed 1 --out samples.csv",
    "likely sample runs/digits -n 36 --context label=7 --out sevens.png",
    "likely sample runs/play -n 1 --prompt 'ROMEO:' --length 500 --temperature 0.8",
    "likely sample runs/verses --between 'fear not.' 'rejoice in the lord always.' --steps 8",
)
def sample(
    run: opt.RunFolder,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help=".npy .npz .csv .parquet .fits .png, or .txt for texts; these are printed without it.",
        ),
    ] = None,
    n: Annotated[int, typer.Option("-n", min=1, help="Number of samples.")] = 1000,
    seed: Annotated[
        int | None, typer.Option(min=0, help="The same seed gives the same samples.")
    ] = None,
    device: opt.Device = "auto",
    processes: opt.Processes = 1,
    context: Annotated[
        str | None,
        typer.Option(
            metavar="NAME=VALUE,…",
            help="What to condition on: values for all samples, or a file with one row or n rows.",
        ),
    ] = None,
    prompt: Annotated[
        str | None, typer.Option(rich_help_panel=TEXT, help="How each text begins.")
    ] = None,
    length: Annotated[
        int | None,
        typer.Option(
            min=1, rich_help_panel=TEXT, help="Length of a running text; by default a window's."
        ),
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
    between: Annotated[
        tuple[str, str] | None,
        typer.Option(
            metavar="TEXT TEXT",
            rich_help_panel=TEXT,
            help="Instead of samples, a walk from one text to another through an autoencoder's codes.",
        ),
    ] = None,
    steps: Annotated[
        int,
        typer.Option(min=2, rich_help_panel=TEXT, help="Texts of that walk, both ends included."),
    ] = 8,
) -> None:
    """Draw samples from a fitted model, in the data's own units.

    Memory does not grow with their number where they go to a .npy, .csv or .parquet file.
    """
    if out is not None:
        check_suffix(out, (*TABLES, ".png", ".txt"))
    model = lk.load(run, device)
    if model.domain.alphabet is None and (out is None or out.suffix.lower() == ".txt"):
        raise LikelyError(f"--out: give a file to write to, one of {', '.join(TABLES)} or .png")
    given = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    options |= {"context": read_context(model, context), "seed": seed}
    with shown("sample"):
        if between is not None:
            x = _walk(model, between, steps, prompt, length, options)
        elif prompt is None and length is None:
            parts = draw_parts(model, n, options, processes)
            if out is not None and out.suffix.lower() in STREAMED:
                with appended(out, "x") as append:
                    for part in parts:
                        append(part.numpy(), model.domain.frame(part))
                print_text(f"{n:,} rows × {model.domain.size:,} columns: {out}")
                return
            import torch

            x = torch.cat(list(parts))
        else:
            x = _texts(model, n, prompt or "", length, options)
    write_samples(out, x.cpu(), model.domain)
    if out is not None:
        table = out.suffix.lower() in TABLES
        size = f"rows × {model.domain.size:,} columns" if table else "samples"
        print_text(f"{len(x):,} {size}: {out}")


def draw_parts(
    model: GenerativeModel, n: int, options: dict[str, Any], processes: int = 1
) -> Iterator[Tensor]:
    """n draws on the CPU, some at a time, each part with a seed of its own."""
    import secrets

    from likely.core.random import seed_of_part
    from likely.data.table import PART_ENTRIES

    seed, context = options["seed"], options["context"]
    seed = secrets.randbits(48) if seed is None else seed
    size = max(1, PART_ENTRIES // model.domain.size)
    starts = range(0, n, size)

    def calls() -> Iterator[tuple[int, dict[str, Any]]]:
        for i, start in enumerate(starts):
            rows, given = min(size, n - start), context
            if context is not None and context.ndim > len(model.context.shape):  # type: ignore[union-attr]
                if len(context) != n:
                    raise DataError(f"--context: has {len(context):,} rows for {n:,} samples")
                given = context[start : start + rows]
            yield rows, options | {"context": given, "seed": seed_of_part(seed, i)}

    parts = in_order(_draw, [model], calls(), processes)
    for _ in track(starts, "parts"):
        yield next(parts)


def _draw(model: GenerativeModel, n: int, options: dict[str, Any]) -> Tensor:
    return cast("Tensor", model.sample(n, **options).cpu())


def _texts(
    model: GenerativeModel, n: int, prompt: str, length: int | None, options: dict[str, Any]
) -> Tensor:
    """Texts that begin with a prompt; a running text may be longer than a window."""
    domain, codes = model.domain, model.domain.codes(prompt)
    if not domain.ends and (length or len(codes) >= domain.size):
        del options["context"]  # models with one do not generate running texts
        length = length or len(codes) + domain.size // 2
        return model.generate(n, length, prompt=codes, **options)
    if length is not None:
        raise LikelyError("--length: the model's texts end by themselves; leave it out")
    row, known = domain.prefix(codes)
    return model.complete(row.expand(n, -1), known, **options)


def _walk(
    model: GenerativeModel,
    ends: tuple[str, str],
    steps: int,
    prompt: str | None,
    length: int | None,
    options: dict[str, Any],
) -> Tensor:
    """Texts along the line between the codes of two."""
    sampling = {"prompt": prompt, "length": length, **options, "context": None, "seed": None}
    if unwanted := [name for name, value in sampling.items() if value is not None]:
        raise LikelyError(
            f"--between: a walk is not drawn; leave --{unwanted[0].replace('_', '-')} out"
        )
    x = [model.domain.text_row(text)[None] for text in ends]
    # A model without codes says so.
    return model.interpolate(*x, steps=steps, context=options["context"])[0]


def read_context(model: GenerativeModel, text: str | None) -> Tensor | None:
    """The context that `--context` names: a file, or values in the order or by the names."""
    domain = model.context
    if domain is None:
        if text is not None:
            raise DataError("this model takes no context: leave --context out")
        return None
    if text is None:
        wanted = ",".join(f"{name}=…" for name in domain.names or ()) or "FILE"
        raise DataError(f"this model is conditional: give --context {wanted}")
    if Path(text).exists():
        rows = lk.data.load_rows(text, domain=domain).x[:]
        return rows[0] if len(rows) == 1 else rows
    parts = split_names(text) or []
    values = split_pairs(parts, "--context") if "=" in text else parts
    if len(values) < len(parts):
        raise DataError(f"--context {text}: a name stands there twice")
    try:
        return domain.row(values)
    except DataError as error:
        raise DataError(f"--context {text}: {error}, or the name of a file") from error


@command(
    "likely score runs/events new-events.csv --out scores.npy",
    "likely score runs/events new-events.csv --anomaly --out unusual.csv",
)
def score(
    run: opt.RunFolder,
    data: opt.Source,
    out: Annotated[Path, typer.Option(metavar="FILE", help=".npy .npz .csv .parquet or .fits.")],
    anomaly: Annotated[
        bool,
        typer.Option(
            "--anomaly",
            help="How unusual each row is instead, the higher the more so: the negative "
            "log-likelihood, or an autoencoder's error of reconstruction.",
        ),
    ] = False,
    device: opt.Device = "auto",
    processes: opt.Processes = 1,
    as_json: opt.Json = False,
) -> None:
    """Log-likelihood of every row, in nats, in the order of the data.

    Tables in text and Parquet, mapped arrays, and .npy, .csv and .parquet files of scores may be larger than
    memory. A row outside the model's domain gets −inf; a category that it does not know is an error. Where
    the model was fitted with weights, so is the mean that is printed.
    """
    check_suffix(out, TABLES)
    model = lk.load(run, device)
    # Rows outside the domain are read, too, as real numbers.
    options = fitted_options(model, run) | {"domain": model.domain.widened}
    for name in ("missing", "unpaired", "words", "vocabulary", "lowercase", "length", "long"):
        options.pop(name, None)  # the domain says what texts are
    with shown("score"):
        report, text = (_anomaly if anomaly else _likelihood)(model, data, options, out, processes)
    if as_json:
        print_json(report | {"file": str(out)})
    else:
        print_text(f"{report['rows']:,} rows, {text}: {out}")


def _likelihood(
    model: GenerativeModel, data: str, options: dict[str, Any], out: Path, processes: int
) -> tuple[dict[str, Any], str]:
    """Write log-likelihoods, and say what their mean is."""
    from dataclasses import replace

    import numpy as np

    from likely.core.likelihood import Mean

    try:
        next(lk.data.load_parts(data, **options))
    except DataError as error:  # new rows need no weights to be scored
        options = options | {"weight": None}
        next(lk.data.load_parts(data, **options))
        warnings.warn(f"the mean is not weighted: {error}", stacklevel=1)
    mean, mean_inside, rows, outside, first = Mean(), Mean(), 0, 0, 0
    with written(out, "log_likelihood") as write:
        for likelihood, weight in scored(_held_out, model, data, options, processes):
            value = write(likelihood.value)
            inside = np.isfinite(value)
            mean.add(likelihood, weight)
            within = None if weight is None else weight[inside]
            mean_inside.add(replace(likelihood, value=likelihood.value[inside]), within)
            if not outside and not inside.all():
                first = rows + int((~inside).argmax())
            rows, outside = rows + len(value), outside + int((value == -np.inf).sum())
    report = {
        "rows": rows,
        "outside": outside,
        "kind": likelihood.kind,
        "solver_tolerance": likelihood.tolerance,
        "mean": mean.figure.to_json(),
        "mean_inside": mean_inside.figure.to_json(),
    }
    text = f"mean log-likelihood {mean.figure} nats ({likelihood.kind})"
    if outside == rows:
        text += "; all of them lie outside the domain"
    elif outside:
        text += (
            f"; {mean_inside.figure} without the {outside:,} outside the domain "
            f"(the first is row {first})"
        )
    return report, text


def _anomaly(
    model: GenerativeModel, data: str, options: dict[str, Any], out: Path, processes: int
) -> tuple[dict[str, Any], str]:
    """Write how unusual each row is, and say which row is the most."""
    import numpy as np

    rows, outside, first, most = 0, 0, 0, -np.inf
    with written(out, "anomaly_score") as write:
        given = options | {"weight": None}
        for score in scored(_unusual, model, data, given, processes):
            value = write(score)
            if value.max() > most:
                most, first = value.max(), rows + int(value.argmax())
            rows, outside = rows + len(value), outside + int(np.isinf(value).sum())
    text = f"the most unusual is row {first} ({most:.6g})"
    if outside:
        text = f"{outside:,} outside the domain (the first is row {first})"
    return {"rows": rows, "outside": outside, "most_unusual": first}, text


def scored(
    function: Callable[..., Any],
    model: GenerativeModel,
    data: str,
    options: dict[str, Any],
    processes: int,
) -> Iterator[Any]:
    """`function(model, rows, seed)` of the rows of a source, some at a time."""
    from likely.core.random import seed_of_part

    parts = enumerate(lk.data.load_parts(data, **options))
    calls = ((rows, seed_of_part(0, i)) for i, rows in parts)
    return in_order(function, [model], calls, processes)


def _held_out(model: GenerativeModel, rows: Split, seed: int) -> tuple[Likelihood, Tensor | None]:
    from likely.evaluation import held_out

    return held_out(model, rows, seed=seed)


def _unusual(model: GenerativeModel, rows: Split, seed: int) -> Tensor:
    import torch

    from likely.core.random import seeded
    from likely.evaluation.likelihood import batches

    with seeded(seed, model.device):
        chunks = batches(model, rows, torch.arange(len(rows)))
        return torch.cat([model.anomaly_score(b.x, b.context).cpu() for b in chunks])


@contextlib.contextmanager
def written(path: Path, name: str) -> Iterator[Callable[[Tensor], np.ndarray]]:
    """A function that writes values of rows, of which those of a streamed file need not fit into memory."""
    import numpy as np

    if path.suffix.lower() in STREAMED:
        with appended(path, name) as append:

            def write(part: Tensor) -> np.ndarray:
                append(value := part.numpy(force=True))
                return value

            yield write
        return
    values: list[np.ndarray] = []

    def keep(part: Tensor) -> np.ndarray:
        values.append(part.numpy(force=True))
        return values[-1]

    yield keep
    write_rows(path, name, np.concatenate(values))


# Files.


def write_samples(out: Path | None, x: Tensor, domain: Domain) -> None:
    """Write samples in the format of a file's name, or print texts."""
    from likely.core.files import written_whole

    suffix = ".txt" if out is None else out.suffix.lower()
    if out is not None and suffix in TABLES:
        write_rows(out, "x", x.numpy(force=True), domain.frame(x))
        return
    if suffix == ".png":
        from likely.report import draw_samples, to_png

        content = to_png(draw_samples(x, domain))
    else:
        content = (("\n" if domain.ends else "\n\n").join(domain.texts(x)) + "\n").encode()
    if out is None:
        typer.echo(content, nl=False)
        return
    with written_whole(out) as file:
        file.write(content)
