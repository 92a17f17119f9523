"""The command `likely models`."""

from dataclasses import asdict
from inspect import Parameter
from typing import Annotated

import typer

import likely as lk
from likely.cli import options as opt
from likely.cli.app import command
from likely.cli.output import make_console, print_json, print_text

TRAINING = ("batch", "rate", "weight_decay", "clip", "ema")  # options of `likely fit`


@command("likely models nsf")
def models(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Show this model and its options.")
    ] = None,
    as_json: opt.Json = False,
) -> None:
    """List all models, or the options of one."""
    if name is not None:
        _one(name, as_json)
        return
    frame = lk.models()
    if as_json:
        print_json(frame.reset_index().to_dict("records"))
        return
    from rich.table import Table

    table = Table("model", "what it is", "density", "constraint", "paper", "columns")
    for key, row in frame.iterrows():
        takes = ", ".join([*row["columns"], *(["a context"] if row["context"] else [])])
        words = [row[part] for part in ("title", "density", "constraint", "paper")]
        table.add_row(f"[bold]{key}[/bold]", *words, takes)
    make_console().print(table)


def _one(name: str, as_json: bool) -> None:
    """What a model is, and its options."""
    from rich.markup import escape
    from rich.table import Table

    from likely.contract.describe import options_of
    from likely.contract.registry import find

    entry, options = find(name), options_of(name)
    recipe = asdict(entry.cls.recipe)
    training = {key: recipe[key] for key in TRAINING}
    about = entry.to_json() | {"training": training}
    if as_json:
        print_json(about | {"options": [option.to_json() for option in options]})
        return
    facts = {key: about[key] for key in ("family", "density", "constraint", "paper")}
    facts["columns"] = ", ".join([*about["columns"], *(["a context"] if about["context"] else [])])
    facts["training"] = ", ".join(f"{key} {value:g}" for key, value in training.items())
    print_text(f"{name}: {entry.title}", "bold")
    for key, fact in facts.items():
        print_text(f"{key:>12}  {fact}")
    table = Table("option", "default", "takes", "what it is")
    for option in options:
        default = "" if option.default is Parameter.empty else repr(option.default)
        words = (default, option.takes, option.line)
        table.add_row(f"[bold]{option.name}[/bold]", *map(escape, words))
    make_console().print(table)
    print_text(f"likely fit DATA --model {name} --set NAME=VALUE … --out RUN")
