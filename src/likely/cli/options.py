"""Options that several commands have, and what their texts mean."""

from __future__ import annotations

import ast
import tempfile
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from likely.core.errors import ArtifactError, LikelyError

if TYPE_CHECKING:
    from likely.contract.model import GenerativeModel
    from likely.data import Data

BUDGET = "Budget: one of these; without any, until validation stops improving"
DATA = "Data"


class Missing(StrEnum):
    """What to do about rows with missing entries."""

    ERROR = "error"
    DROP = "drop"
    MODEL = "model"
    UNLABELLED = "unlabelled"


class Long(StrEnum):
    """What to do about texts that are too long."""

    ERROR = "error"
    DROP = "drop"
    CUT = "cut"


Steps = Annotated[int | None, typer.Option(rich_help_panel=BUDGET, help="Batches.")]
Epochs = Annotated[int | None, typer.Option(rich_help_panel=BUDGET, help="Passes over the data.")]
Minutes = Annotated[float | None, typer.Option(rich_help_panel=BUDGET, help="Time.")]
Device = Annotated[
    str, typer.Option(help="cpu, cuda, cuda:1, mps; auto: CUDA where there is one, else the CPU.")
]
Processes = Annotated[
    int,
    typer.Option(
        min=1, help="Processes that share the work; results are the same, up to rounding."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="A hyperparameter of the model, as [bold]transforms=5[/bold]. May be repeated.",
    ),
]
RunFolder = Annotated[
    Path, typer.Argument(metavar="RUN", help="A run folder, or a model.safetensors file.")
]
Source = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="A file (.npy .npz .csv .tsv .dat .parquet .feather .h5 .root .fits .lhe .txt), a folder of "
        "images, or a built-in name such as [bold]digits[/bold]. Arrays in a file: "
        "[bold]events.h5::group/key[/bold].",
    ),
]
Unpaired = Annotated[
    str | None,
    typer.Option(
        metavar="DATA",
        rich_help_panel=DATA,
        help="A second data set, into which the model learns to translate the first; their rows are no "
        "pairs.",
    ),
]
Kinds = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        metavar="NAME=KIND",
        rich_help_panel=DATA,
        help="Declare a column by name or position, as [bold]phi=periodic(-pi,pi)[/bold]; kinds: real, "
        "positive, interval(a,b), periodic(a,b), integer(levels), count, binary, spin, "
        "categorical(a,b,…), date(days), date(seconds), maybe(kind) where entries are missing. May be "
        "repeated; what is not declared is inferred.",
    ),
]
Columns = Annotated[
    str | None, typer.Option(metavar="A,B,…", rich_help_panel=DATA, help="Use these columns only.")
]
ContextColumns = Annotated[
    str | None,
    typer.Option(
        "--context", metavar="COLUMN,…", rich_help_panel=DATA, help="Columns to condition on."
    ),
]
Predict = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN,…",
        rich_help_panel=DATA,
        help="Columns to predict from all others, or an array of the source that came with its rows, as "
        "[bold]label[/bold]: for classifiers and regressors.",
    ),
]
Weight = Annotated[
    str | None,
    typer.Option(metavar="COLUMN", rich_help_panel=DATA, help="Non-negative weights of the rows."),
]
OnMissing = Annotated[
    Missing,
    typer.Option(
        "--missing",
        rich_help_panel=DATA,
        help="What to do about missing entries: drop their rows, or model them as values of their own; "
        "unlabelled: keep rows apart whose class, the [bold]--context[/bold], is missing, for "
        "semi-supervised models.",
    ),
]
Window = Annotated[
    int | None,
    typer.Option(
        min=0,
        metavar="N",
        rich_help_panel=DATA,
        help="Characters of a window of a running text (.txt), by default 256; 0: each line is a "
        "separate text.",
    ),
]
Words = Annotated[
    bool,
    typer.Option(
        "--words",
        rich_help_panel=DATA,
        help="Each line of a .txt file is a text of words and marks.",
    ),
]
Vocabulary = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        rich_help_panel=DATA,
        help="How many words and marks are known, by default 10000; rarer ones become <unk>.",
    ),
]
Lowercase = Annotated[
    bool,
    typer.Option(
        "--lowercase/--no-lowercase",
        rich_help_panel=DATA,
        help="Whether words lose their capitals.",
    ),
]
Length = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        rich_help_panel=DATA,
        help="The most words and marks, or characters, of the texts; by default those of the longest.",
    ),
]
OnLong = Annotated[
    Long, typer.Option("--long", rich_help_panel=DATA, help="What to do about longer texts.")
]
Size = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        rich_help_panel=DATA,
        help="Pixels of an edge to which FITS images are cut, or filled with zeros.",
    ),
]


def data_options(
    column: list[str] | None,
    columns: str | None,
    context: str | None,
    weight: str | None,
    missing: Missing,
    **forms: Any,
) -> dict[str, Any]:
    """Options of `load_data`, JSON-able; `forms` are those of texts and images, as `window`."""
    given = split_names(context)
    options = {
        "domain": split_pairs(column or [], "--column") or None,
        "columns": split_names(columns),
        "context": given[0] if given and len(given) == 1 else given,
        "weight": weight,
        "missing": missing.value,
    }
    return options | {name: value for name, value in forms.items() if value is not None}


def read_data(source: str, options: dict[str, Any]) -> Data:
    """Data as `data_options` say, `unpaired` among them."""
    import likely as lk

    options = dict(options)
    if (other := options.pop("unpaired", None)) is None:
        return lk.load_data(source, **options)
    if wrong := [name for name in ("context", "weight") if options.pop(name, None) is not None]:
        raise LikelyError(f"--unpaired: rows of two data sets have no {wrong[0]}: leave it out")
    options.setdefault("context_domain", options["domain"])
    return lk.unpaired(source, other, **options)


def fitted_options(model: GenerativeModel, run: Path) -> dict[str, Any]:
    """How to read data for a fitted model: as its `fit` did, in its domains."""
    options = read_json(run, "data.json") or {}
    return options | {"domain": model.domain, "context_domain": model.context}


def read_json(run: Path, name: str) -> dict[str, Any] | None:
    """A file of the run folder, if it is there; `run` may be the model's file in that folder."""
    path = (run.parent if run.is_file() else run) / name
    if not path.is_file():
        return None
    from likely.core.files import read_json as read

    return read(path)


def split_pairs(texts: list[str], option: str) -> dict[str, str]:
    """`name=value` texts as a dictionary."""
    for text in texts:
        if "=" not in text:
            raise LikelyError(f"{option} {text}: write it as name=value")
    return {name.strip(): value.strip() for name, _, value in (t.rpartition("=") for t in texts)}


def split_names(text: str | None) -> list[str] | None:
    """Names between commas."""
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def hyperparameters(settings: list[str] | None) -> dict[str, Any]:
    """Values of `--set`: Python literals, `true` or `false`, or else the texts themselves."""
    return {key: _value(text) for key, text in split_pairs(settings or [], "--set").items()}


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text.title() if text.lower() in ("true", "false") else text)
    except (ValueError, SyntaxError):
        return text


def check_suffix(path: Path, known: tuple[str, ...]) -> None:
    """Raise unless files of this type are written."""
    if path.suffix.lower() not in known:
        raise LikelyError(
            f"--out {path}: files of type {path.suffix!r} are not written; use {', '.join(known)}"
        )
    if path.suffix.lower() == ".fits":
        from likely.data.readers.fields import library

        library("astropy.table", "fits", path)


def check_writable(folder: Path) -> None:
    """Find out before hours of work whether their result can be written, and write nothing yet."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise ArtifactError(
            f"--out {folder}: cannot be written ({error.strerror}); choose another folder"
        ) from error
