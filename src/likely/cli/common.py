"""What the commands share: options, arguments, and how they print."""

from __future__ import annotations

import ast
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from likely.core.errors import ArtifactError, LikelyError

if TYPE_CHECKING:
    from rich.console import Console

BUDGET = "Budget: one of these; without any, until validation stops improving"

Steps = Annotated[int | None, typer.Option(rich_help_panel=BUDGET, help="Batches.")]
Epochs = Annotated[int | None, typer.Option(rich_help_panel=BUDGET, help="Passes over the data.")]
Minutes = Annotated[float | None, typer.Option(rich_help_panel=BUDGET, help="Time.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


def split_pairs(texts: list[str], option: str) -> dict[str, str]:
    """`name=value` texts as a dictionary."""
    for text in texts:
        if "=" not in text:
            raise LikelyError(f"{option} {text}: write it as name=value")
    return {name.strip(): value.strip() for name, _, value in (t.partition("=") for t in texts)}


def split_names(text: str | None) -> list[str] | None:
    """Names between commas."""
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def hyperparameters(settings: list[str] | None) -> dict[str, Any]:
    """What `--set` says: Python literals, `true` or `false`, or else the texts themselves."""
    return {key: _value(text) for key, text in split_pairs(settings or [], "--set").items()}


def _value(text: str) -> Any:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def refuse_suffix(path: Path, known: list[str]) -> None:
    """Raise unless files of this type are written."""
    if path.suffix.lower() not in known:
        raise LikelyError(
            f"--out {path}: files of type {path.suffix!r} are not written; take {', '.join(known)}"
        )


def refuse_unwritable(folder: Path) -> None:
    """Find out before hours of work whether their result can be written, and write nothing yet."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise ArtifactError(
            f"--out {folder}: cannot be written ({error.strerror}); choose another folder"
        ) from error


def make_console(stderr: bool = False) -> Console:
    """A console that doesn't fold tables where its width is unknown."""
    from rich.console import Console

    console = Console(stderr=stderr)
    if not console.is_terminal:
        console.width = 200
    return console


def print_text(text: str) -> None:
    """Print a line as it is, for the terminal to fold."""
    make_console().print(text, markup=False, highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """Print JSON."""
    typer.echo(json.dumps(value, indent=2, default=str))
