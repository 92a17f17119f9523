"""The commands `likely quantum …`."""

import inspect
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import likely as lk
from likely.cli import options as opt
from likely.cli.app import command
from likely.cli.options import check_suffix, check_writable, hyperparameters, split_names
from likely.cli.output import make_console, print_json, print_text
from likely.core.errors import DataError, LikelyError

if TYPE_CHECKING:
    from likely.quantum import POVM

quantum = typer.Typer(
    name="quantum",
    help="Measure states of spin chains, and reconstruct states from measurements.",
    no_args_is_help=True,
)

_state = partial(typer.Option, rich_help_panel="State")
_measurement = partial(typer.Option, rich_help_panel="Measurement")


@command(
    "likely quantum measure --chain tfim --sites 50 --povm tetrahedral --shots 200000 --out shots.npz",
    of=quantum,
)
def measure(
    sites: Annotated[int, _state(help="Number of spins.")],
    shots: Annotated[int, _measurement(min=1, help="How many.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help=".npz; an old one is replaced.")],
    chain: Annotated[
        str,
        _state(
            metavar="NAME",
            help="Ground state of −J Σ σᶻσᶻ − h Σ σˣ (tfim) or of Σ (σˣσˣ + σʸσʸ + Δ σᶻσᶻ) (xxz), both "
            "by DMRG, or (|0…0⟩ + |1…1⟩)/√2 (ghz).",
        ),
    ] = "tfim",
    coupling: Annotated[float | None, _state(help="J or Δ; 1 by default.")] = None,
    field: Annotated[float | None, _state(help="h of tfim; 1 by default.")] = None,
    periodic: Annotated[
        bool | None, _state("--periodic/--open", help="Boundary; open by default.")
    ] = None,
    parity: Annotated[int | None, _state(help="Π σˣ of tfim: 1 or −1.")] = None,
    magnetisation: Annotated[int | None, _state(help="Σ σᶻ of xxz.")] = None,
    povm: Annotated[
        str,
        _measurement(
            help="tetrahedral, pauli4, pauli6, trine, computational, or a .npy file of effects of "
            "shape (k, 2, 2).",
        ),
    ] = "tetrahedral",
    noise: Annotated[float, _measurement(help="Probability that a site is depolarised.")] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the outcomes.")] = 0,
    as_json: opt.Json = False,
) -> None:
    """Measure every site of a spin chain many times: exact, independent outcomes."""
    from likely.quantum import CHAINS, Measurement, Shots
    from likely.quantum.povm import check_noise

    started = time.perf_counter()
    check_suffix(out, (".npz",))
    if out.is_dir():
        raise LikelyError(f"--out {out}: a folder; give the name of a file")
    check_writable(out.parent)
    check_noise(noise)
    effects = _povm(povm)
    if chain not in CHAINS:
        raise LikelyError(f"--chain {chain}: the known ones are {', '.join(CHAINS)}")
    takes = inspect.signature(CHAINS[chain]).parameters
    options = {
        "delta" if "delta" in takes else "coupling": coupling,
        "field": field,
        "periodic": periodic,
        "parity": parity,
        "magnetisation": magnetisation,
    }
    given = {name: value for name, value in options.items() if value is not None}
    for name in given:
        if name not in takes:
            raise LikelyError(f"--{name}: the chain {chain} has none; leave it out")
    ground = CHAINS[chain](sites, **given)
    outcomes = Measurement(ground.state, effects, noise).sample(shots, seed)
    terms = ground.hamiltonian
    energy = None if terms is None else ground.state.energy(terms, noise)
    energies = {"energy": energy, "ground_energy": ground.energy}
    header = {"chain": ground.name, **ground.parameters, "seed": seed, **energies}
    Shots(outcomes, effects, noise, ground.state, terms, header).save(out)
    if as_json:
        seconds = time.perf_counter() - started
        rest = {"bond": ground.state.bond, "seconds": seconds}
        print_json({"file": str(out), "shots": shots} | energies | rest)
        return
    of_state = "" if energy is None else f", energy {energy:.9f}"
    if noise and energy is not None:
        of_state += f" with the noise ({ground.energy:.9f} without)"
    print_text(f"{ground.name}, {sites} sites{of_state}; {shots:,} {effects.name} shots: {out}")


@command(
    "likely quantum reconstruct shots.npz --model rnn --minutes 10 --out report/",
    "likely quantum reconstruct outcomes.csv --povm pauli6 --model rnn --out report/",
    of=quantum,
)
def reconstruct(
    shots: Annotated[
        Path,
        typer.Argument(
            metavar="SHOTS",
            help="A file of [bold]likely quantum measure[/bold], or outcomes 0 … k−1 of your own, a row "
            "for each shot (.npy .npz .csv .txt).",
        ),
    ],
    out: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Folder of the run and of the report.")
    ],
    model: Annotated[
        str, typer.Option(help="Any that takes categories, as in [bold]likely models[/bold].")
    ] = "rnn",
    settings: opt.Settings = None,
    povm: Annotated[
        str | None,
        typer.Option(help="A name or a .npy file of effects, where SHOTS does not hold them."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the fit and of all draws.")] = 0,
    draws: Annotated[
        int, typer.Option(help="Outcomes of the model, and fresh shots, that measure it.")
    ] = 100_000,
    curve: Annotated[
        str | None,
        typer.Option(
            metavar="N,N,…",
            help="Learning curve: also fit the model, each time from the start and with the whole "
            "budget, to these numbers of shots.",
        ),
    ] = None,
    steps: opt.Steps = None,
    epochs: opt.Epochs = None,
    minutes: opt.Minutes = None,
    device: opt.Device = "auto",
    as_json: opt.Json = False,
) -> None:
    """Fit a model to outcomes, and compare the state that it describes with the exact one.

    Writes index.html, reconstruction.json and observables.npz next to the files of the run. The density
    matrix and the quantum fidelity are sums over all outcomes, at most 2²¹: up to ten sites with four
    outcomes, eight with six (pauli6). The same command resumes a run that was interrupted.
    """
    from likely.quantum import load
    from likely.quantum import reconstruct as fit

    try:
        sizes = [int(size) for size in split_names(curve) or []]
    except ValueError as error:
        raise LikelyError(f"--curve {curve}: write it as 1000,10000,100000") from error
    loaded = load(shots, None if povm is None else _povm(povm))
    new = lk.make(model, loaded.povm.domain(loaded.sites), seed=seed, **hyperparameters(settings))
    check_writable(out)
    options: dict[str, Any] = {"steps": steps, "epochs": epochs, "minutes": minutes}
    options |= {"seed": seed, "run": out, "draws": draws, "curve": sizes, "device": device}
    result = fit(loaded, new, progress=sys.stderr.isatty(), **options)
    result.save(out)
    if as_json:
        print_json(result.to_json())
        return
    make_console().print(result.rich_table())
    for line in [*result.summary(), *result.notes(), f"report: {out / 'index.html'}"]:
        print_text(line)


def _povm(text: str) -> "POVM":
    """A POVM by its name, or from a file of effects."""
    import numpy as np

    from likely.quantum import POVM, povm

    if not text.endswith(".npy"):
        return povm(text)
    try:
        return POVM(Path(text).stem, np.load(text, allow_pickle=False))
    except (OSError, ValueError) as error:
        raise DataError(f"{text}: not a readable array of effects ({error})") from error
