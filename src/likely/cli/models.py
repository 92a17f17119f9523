"""The command `likely models`."""

import likely as lk
from likely.cli import options as opt
from likely.cli.app import command
from likely.cli.output import make_console, print_json


@command()
def models(as_json: opt.Json = False) -> None:
    """List all models."""
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
