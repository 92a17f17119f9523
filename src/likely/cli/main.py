"""The command `likely`. Nothing heavy is imported before a command needs it."""

import io
import sys
import warnings
from typing import Annotated, Any

import typer

import likely as lk
from likely.cli import compare, fit, inspect, models, sample  # noqa: F401 – they register their commands
from likely.cli.app import app
from likely.cli.output import print_text
from likely.cli.quantum import quantum
from likely.core.errors import DivergenceError, LikelyError

app.add_typer(quantum)


@app.callback(invoke_without_command=True)
def _likely(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    if version:
        typer.echo(f"likely {lk.__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    if category is UserWarning:  # others are for developers
        print_text(f"warning: {message}", "yellow", stderr=True)


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
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a pipe on Windows knows few characters
            stream.reconfigure(errors="replace")
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        warnings.simplefilter("default", UserWarning)
        try:
            status = int(app(arguments, prog_name="likely", standalone_mode=False) or 0)
        except _UsageError as error:
            command = error.ctx.command_path if error.ctx is not None else "likely"
            text, status = f"{error.format_message()} (see {command} --help)", 2
        except (LikelyError, OSError) as error:
            text, status = str(error), 1 if isinstance(error, DivergenceError) else 2
        else:
            if status == 130:
                fitting = (arguments or sys.argv[1:])[:1] == ["fit"]
                hint = "; the same command resumes from the last checkpoint" if fitting else ""
                print_text(f"interrupted{hint}", "yellow", stderr=True)
            return status
    print_text(f"error: {text}", "red", stderr=True)
    return status
