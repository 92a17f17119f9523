"""The commands `likely lattice …`."""

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from likely.cli import options as opt
from likely.cli.app import command
from likely.cli.options import check_writable, hyperparameters, split_names
from likely.cli.output import make_console, print_json, print_text
from likely.core.errors import LikelyError

if TYPE_CHECKING:
    from likely.core.target import Target

lattice = typer.Typer(
    name="lattice",
    help="Train a model on the action of a lattice, and measure with it.",
    no_args_is_help=True,
)

_action = partial(typer.Option, rich_help_panel="Action")

Size = Annotated[str, _action(metavar="L,L", help="Sites in each direction.")]
Out = Annotated[Path, typer.Option(metavar="FOLDER", help="Folder of the run and of the report.")]
Model = Annotated[str, typer.Option(help="A name of [bold]likely models[/bold].")]
Seed = Annotated[int, typer.Option(min=0, help="Of the weights, the training and all draws.")]
Draws = Annotated[int, typer.Option(min=2, help="Draws of the model that are weighed.")]
Compared = Annotated[
    bool,
    typer.Option(
        "--reference/--no-reference",
        help="Run HMC (Gibbs sampling of spins) for as long as training and draws took.",
    ),
]


@command(
    "likely lattice phi4 --size 8,8 --mass2 -4 --coupling 8 --minutes 10 --out report/", of=lattice
)
def phi4(
    out: Out,
    size: Size = "8,8",
    mass2: Annotated[float, _action(help="m², in units of the lattice.")] = -4.0,
    coupling: Annotated[float, _action(help="λ.")] = 8.0,
    model: Model = "lattice-cnf",
    settings: opt.Settings = None,
    minutes: opt.Minutes = None,
    steps: opt.Steps = None,
    seed: Seed = 0,
    draws: Draws = 65_536,
    reference: Compared = True,
    device: opt.Device = "auto",
    as_json: opt.Json = False,
) -> None:
    """The φ⁴ field, S = Σ [m² φ² + λ φ⁴ + Σ_μ (Δ_μ φ)²]: there is no factor ½."""
    from likely.targets import phi4 as make

    target = make(*_sides(size), mass2=mass2, coupling=coupling)
    _run(target, out, model, settings, minutes, steps, seed, draws, reference, device, as_json)


@command(
    "likely lattice ising --size 8,8 --temperature 2.269 --minutes 5 --out report/", of=lattice
)
def ising(
    out: Out,
    size: Size = "8,8",
    temperature: Annotated[float, _action(help="In units of the coupling.")] = 2.269185314213022,
    model: Model = "made",
    settings: opt.Settings = None,
    minutes: opt.Minutes = None,
    steps: opt.Steps = None,
    seed: Seed = 0,
    draws: Draws = 65_536,
    reference: Compared = True,
    device: opt.Device = "auto",
    as_json: opt.Json = False,
) -> None:
    """The Ising model on a torus, by default at its critical temperature."""
    from likely.targets import ising as make

    rows, columns = (_sides(size) * 2)[:2]
    target = make(rows, columns, temperature=temperature)
    _run(target, out, model, settings, minutes, steps, seed, draws, reference, device, as_json)


@command("likely lattice u1 --size 8,8 --beta 2 --minutes 20 --out report/", of=lattice)
def u1(
    out: Out,
    size: Size = "8,8",
    beta: Annotated[float, _action(help="β.")] = 2.0,
    model: Model = "lattice-u1",
    settings: opt.Settings = None,
    minutes: opt.Minutes = None,
    steps: opt.Steps = None,
    seed: Seed = 0,
    draws: Draws = 65_536,
    reference: Compared = True,
    device: opt.Device = "auto",
    as_json: opt.Json = False,
) -> None:
    """U(1) gauge theory in two dimensions, S = −β Σ_P cos θ_P."""
    from likely.targets import u1 as make

    target = make(*_sides(size), beta=beta)
    _run(target, out, model, settings, minutes, steps, seed, draws, reference, device, as_json)


def _sides(size: str) -> list[int]:
    try:
        return [int(side) for side in split_names(size) or []]
    except ValueError as error:
        raise LikelyError(f"--size {size}: write it as 8,8") from error


def _run(
    target: "Target",
    out: Path,
    model: str,
    settings: list[str] | None,
    minutes: float | None,
    steps: int | None,
    seed: int,
    draws: int,
    reference: bool,
    device: str,
    as_json: bool,
) -> None:
    """Train, measure, write the report, and say what came out."""
    from likely.lattice import study
    from likely.lattice.report import rich_table

    check_writable(out)
    options: dict[str, Any] = {"minutes": minutes, "steps": steps, "seed": seed, "draws": draws}
    found = study(
        target, model, run=out, reference=reference, device=device,
        progress=sys.stderr.isatty(), hyperparameters=hyperparameters(settings), **options,
    )  # fmt: skip
    found.save(out)
    if as_json:
        print_json(found.to_json())
        return
    make_console().print(rich_table(found))
    for line in [*found.summary(), *found.weighted.notes, f"report: {out / 'index.html'}"]:
        print_text(line)
