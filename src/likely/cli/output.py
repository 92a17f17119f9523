"""How the commands print."""

import json
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console


def make_console(stderr: bool = False) -> "Console":
    """A console that doesn't fold tables where its width is unknown."""
    from rich.console import Console

    console = Console(stderr=stderr)
    if not console.is_terminal:
        console.width = 200
    return console


def print_text(text: str, style: str | None = None, stderr: bool = False) -> None:
    """Print a line as it is, for the terminal to fold."""
    console = make_console(stderr)
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """Print JSON."""
    typer.echo(json.dumps(value, indent=2, default=str))
