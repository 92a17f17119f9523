"""The command `likely`. Nothing heavy is imported before a command needs it."""

import contextlib
import io
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Annotated, Any

import typer

import likely as lk
from likely.cli import (  # noqa: F401 – they register their commands
    classify,
    compare,
    complete,
    fit,
    inspect,
    judge,
    models,
    restore,
    sample,
    translate,
)
from likely.cli.app import app
from likely.cli.lattice import lattice
from likely.cli.output import print_text
from likely.cli.quantum import quantum
from likely.core.errors import LikelyError, RunError

STOPPED = {130: "interrupted", 143: "terminated"}  # 128 + the number of the signal, as of a shell

app.add_typer(quantum)
app.add_typer(lattice)


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
        0 done, 1 the run failed, 2 unusable arguments or data, 130 interrupted, 143 terminated.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a pipe on Windows knows few characters
            stream.reconfigure(errors="replace")
    fitting = (arguments or sys.argv[1:])[:1] == ["fit"]
    hint = "; the same command resumes from the last checkpoint" if fitting else ""
    text = ""
    with warnings.catch_warnings(), _terminable():
        warnings.showwarning = _show_warning
        warnings.simplefilter("default", UserWarning)
        try:
            status = int(app(arguments, prog_name="likely", standalone_mode=False) or 0)
        except _UsageError as error:
            command = error.ctx.command_path if error.ctx is not None else "likely"
            text, status = f"{error.format_message()} (see {command} --help)", 2
        except (LikelyError, OSError) as error:
            text, status = str(error), 1 if isinstance(error, RunError) else 2
        except KeyboardInterrupt:  # outside of a command
            status = 130
        except SystemExit as end:
            status = int(end.code or 0)
        except Exception as error:
            if not _is_out_of_memory(error):
                raise
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            advice = "free some, or ask for less: a smaller batch, fewer rows"
            text, status = f"memory has run out ({reason}); {advice}{hint}", 1
    if status in STOPPED:
        print_text(f"{STOPPED[status]}{hint}", "yellow", stderr=True)
    elif text:
        print_text(f"error: {text}", "red", stderr=True)
    return status


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Let a request to end (SIGTERM), as of a batch system, clean up as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


# What torch, NumPy, oneDNN and the system's loader of libraries say.
_NO_MEMORY = "out of memory", "allocate memory", "create a primitive", "failed to map segment"


def _is_out_of_memory(error: Exception) -> bool:
    """Whether a library says, in its way, that it got no memory."""
    said = str(error).lower()
    return isinstance(error, MemoryError) or any(words in said for words in _NO_MEMORY)
