"""The command `likely inspect`."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import likely as lk
from likely.cli import options as opt
from likely.cli.app import command
from likely.cli.output import make_console, print_json, print_text

if TYPE_CHECKING:
    from likely.data import Inspection

SHOWN = 60  # columns at most
# Of the models that take the data, the first of these is proposed: by the layout of a row.
PROPOSED = {
    "vector": ("nsf", "made", "rnn"),
    "sequence": ("transformer", "made"),
    "image": ("made", "realnvp"),
    "lattice": ("made", "realnvp"),
}


@command("likely inspect events.csv", "likely inspect runs/events")
def inspect(
    source: Annotated[
        str,
        typer.Argument(metavar="DATA|RUN", help="Data, as in [bold]likely fit[/bold], or a run."),
    ],
    size: opt.Size = None,
    as_json: opt.Json = False,
) -> None:
    """Show what data hold, and a command that fits a model to them; or what a run was and became."""
    path = Path(source)
    if path.suffix == ".safetensors" or any(
        (path / name).exists() for name in ("config.json", "model.safetensors")
    ):
        _run(path, as_json)
    else:
        _data(source, size, as_json)


def _data(source: str, size: int | None, as_json: bool) -> None:
    from rich.markup import escape
    from rich.table import Table

    found = lk.data.inspect(source, size=size)
    line = None if found.data is None else _fit_line(source, found)
    if as_json:
        print_json(found.to_json() | {"command": line})
        return
    print_text(str(found.data) if found.data is not None else f"{found.name}: {found.rows:,} rows")
    if found.columns:
        table = Table("column", "kind", "missing", "distinct", "min", "max", "remark")
        for column in found.columns[:SHOWN]:
            ends = ["" if end is None else f"{end:.6g}" for end in (column.low, column.high)]
            distinct = "" if column.distinct is None else f"{column.distinct:,}"
            words = [column.name, column.kind or "", f"{column.missing:,}", distinct, *ends]
            style = None if column.used else "dim"
            table.add_row(*map(escape, [*words, column.remark]), style=style)
        make_console().print(table)
        if len(found.columns) > SHOWN:
            print_text(f"… and {len(found.columns) - SHOWN:,} more columns (--json has them all)")
    for warning in found.warnings:
        print_text(f"warning: {warning}", "yellow")
    if found.others:
        print_text(f"also there, for --context or --weight: {', '.join(found.others)}")
    suggested = [column for column in found.columns if column.suggested]
    if suggested:
        kinds = [f"--column={_key(c.name, found.labels)}={c.suggested}" for c in suggested]
        print_text(f"if these are angles, add: {shlex.join(kinds)}")
    if found.options.get("missing") == "drop":
        print_text("to keep the rows with missing entries: --model made (or vae) --missing model")
    if _has_classes(found):
        print_text("to tell classes from the images: --model classifier --predict label")
    if line is not None:
        print_text(f"models that take these data: {', '.join(found.models)}")
        print_text(line, "bold")


def _fit_line(source: str, found: Inspection) -> str | None:
    """A command that fits a model to what can be read."""
    from likely.contract.registry import find

    assert found.data is not None
    models, proposed = found.models, PROPOSED[found.data.domain.layout]
    model = next((name for name in (*proposed, *models) if name in models), None)
    if model is None:
        return None
    parts = ["likely", "fit", source, "--model", model]
    if columns := found.options.get("columns"):
        parts += ["--columns", ",".join(_key(name, found.labels) for name in columns)]
    for name, kind in found.options.get("domain", {}).items():
        parts += ["--column", f"{_key(name, found.labels)}={kind}"]
    if _has_classes(found) and find(model).cls.takes_context:
        parts += ["--context", "label"]
    for option in ("missing", "size"):
        if option in found.options:
            parts += [f"--{option}", str(found.options[option])]
    name = re.sub(r"\W+", "-", Path(source.partition("::")[0]).stem).strip("-") or "data"
    run = out = f"runs/{name}"
    number = 2
    while Path(run).exists():
        run, number = f"{out}-{number}", number + 1
    return shlex.join([*parts, "--out", run])


def _has_classes(found: Inspection) -> bool:
    """Whether there are images that come with labels."""
    image = found.data is not None and found.data.domain.layout == "image"
    return image and "label" in found.others


def _key(name: str, labels: list[str]) -> str:
    """A column as the command takes it: by its position where its name cannot stand in a list."""
    return str(labels.index(name)) if "," in name or name != name.strip() or not name else name


def _run(path: Path, as_json: bool) -> None:
    from likely.contract.registry import entries
    from likely.core.domain import Domain
    from likely.fitting.folder import describe

    report = describe(path)
    if as_json:
        print_json(report)
        return
    model, fit = report["model"], report.get("fit", {})
    entry = entries().get(model["name"])
    title = f" ({entry.title}; density: {entry.density})" if entry else ""
    options = ", ".join(f"{key}={value}" for key, value in model["hyperparameters"].items())
    rows: dict[str, Any] = {"model": f"{model['name']}{title}", "options": options or "none"}
    rows["domain"] = Domain.from_json(model["domain"])
    if model["context"] is not None:
        rows["context"] = Domain.from_json(model["context"])
    if fit:
        rows["data"] = report["data"]["source"]
        rows["training"] = ", ".join(f"{k}={v}" for k, v in fit.items() if v is not None)
    if "steps" in report:
        rows["steps"] = f"{report['steps']:,}"
        rows["time"] = f"{report['seconds']:,.1f} s"
        best = report["best"]
        score = "none" if best is None else f"validation log-likelihood {best:.6g} nats"
        rows["best score"] = score
        rows["stopped"] = report["stopped"]
    rows["versions"] = report.get("versions") or f"likely {report.get('version')}"
    rows["machine"] = report.get("machine")
    state = "complete" if report["complete"] else "interrupted, or not ended yet: no model"
    print_text(f"{path}: {state}", "bold")
    for key, value in rows.items():
        if value is not None:
            print_text(f"{key:>12}  {value}")
