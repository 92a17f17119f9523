"""The application that the verbs register with."""

from collections.abc import Callable
from typing import Any

import typer

HEADING = "[bold]Examples[/bold]"
app = typer.Typer(
    name="likely",
    help="Generative models of every family behind one contract: fit, sample, score, compare.",
    epilog=f"{HEADING}\n\n"
    "likely compare digits --models gmm,made,nsf --minutes 1 --out report/\n\n"
    "likely fit events.csv --model nsf --column 'phi=periodic(-pi,pi)' --out runs/events\n\n"
    "likely sample runs/events -n 1000 --out samples.csv",
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def command(*examples: str, of: typer.Typer = app) -> Callable[[Any], Any]:
    """Make a function a command, whose help ends with examples."""
    return of.command(epilog="\n\n".join([HEADING, *examples]) if examples else None)
