"""The commands `likely quantum …`."""

from __future__ import annotations

import inspect
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import likely as lk
from likely.cli.common import (
    Epochs,
    Json,
    Minutes,
    Steps,
    hyperparameters,
    make_console,
    print_json,
    print_text,
    refuse_suffix,
    refuse_unwritable,
    split_names,
)
from likely.core.errors import DataError, LikelyError

if TYPE_CHECKING:
    from likely.quantum import POVM

quantum = typer.Typer(
    name="quantum",
    help="Measure states of spin chains, and reconstruct states from measurements.",
    no_args_is_help=True,
)

STATE, MEASUREMENT = "State", "Measurement"


@quantum.command(
    epilog="[bold]Example[/bold]\n\n"
    "likely quantum measure --chain tfim --sites 50 --povm tetrahedral --shots 200000 --out shots.npz"
)
def measure(
    sites: Annotated[int, typer.Option(rich_help_panel=STATE, help="Number of spins.")],
    shots: Annotated[int, typer.Option(min=1, rich_help_panel=MEASUREMENT, help="How many.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help=".npz; replaced if it is there.")],
    chain: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            rich_help_panel=STATE,
            help="Ground state of −J Σ σᶻσᶻ − h Σ σˣ (tfim) or of Σ (σˣσˣ + σʸσʸ + Δ σᶻσᶻ) (xxz), both "
            "by DMRG, or (|0…0⟩ + |1…1⟩)/√2 (ghz).",
        ),
    ] = "tfim",
    coupling: Annotated[
        float | None, typer.Option(rich_help_panel=STATE, help="J or Δ; 1 by default.")
    ] = None,
    field: Annotated[
        float | None, typer.Option(rich_help_panel=STATE, help="h of tfim; 1 by default.")
    ] = None,
    periodic: Annotated[
        bool | None,
        typer.Option("--periodic/--open", rich_help_panel=STATE, help="Boundary; open by default."),
    ] = None,
    parity: Annotated[
        int | None, typer.Option(rich_help_panel=STATE, help="Π σˣ of tfim: 1 or −1.")
    ] = None,
    magnetisation: Annotated[
        int | None, typer.Option(rich_help_panel=STATE, help="Σ σᶻ of xxz.")
    ] = None,
    povm: Annotated[
        str,
        typer.Option(
            rich_help_panel=MEASUREMENT,
            help="tetrahedral, pauli4, pauli6, trine, computational, or a .npy file of effects of "
            "shape (k, 2, 2).",
        ),
    ] = "tetrahedral",
    noise: Annotated[
        float,
        typer.Option(rich_help_panel=MEASUREMENT, help="Probability that a site is depolarised."),
    ] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Of the outcomes.")] = 0,
    as_json: Json = False,
) -> None:
    """Measure every site of a spin chain, again and again: exact, independent outcomes."""
    from likely.quantum import CHAINS, Measurement, Shots
    from likely.quantum.povm import check_noise

    started = time.perf_counter()
    refuse_suffix(out, [".npz"])
    if out.is_dir():
        raise LikelyError(f"--out {out}: a folder; give the name of a file")
    refuse_unwritable(out.parent)
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
    made = CHAINS[chain](sites, **given)
    outcomes = Measurement(made.state, effects, noise).sample(shots, seed)
    terms = made.hamiltonian
    energies = {
        "energy": None if terms is None else made.state.energy(terms, noise),
        "ground_energy": made.energy,
    }
    header = {"chain": made.name, **made.parameters, "seed": seed, **energies}
    Shots(outcomes, effects, noise, made.state, terms, header).save(out)
    if as_json:
        seconds = time.perf_counter() - started
        rest = {"bond": made.state.bond, "seconds": seconds}
        print_json({"file": str(out), "shots": shots} | energies | rest)
        return
    energy = "" if terms is None else f", energy {energies['energy']:.9f}"
    if noise and terms is not None:
        energy += f" with the noise ({made.energy:.9f} without)"
    print_text(f"{made.name}, {sites} sites{energy}; {shots:,} {effects.name} shots: {out}")


@quantum.command(
    epilog="[bold]Examples[/bold]\n\n"
    "likely quantum reconstruct shots.npz --model rnn --minutes 10 --out report/\n\n"
    "likely quantum reconstruct outcomes.csv --povm pauli6 --model rnn --out report/"
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
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="A hyperparameter of the model. May be repeated."
        ),
    ] = None,
    povm: Annotated[
        str | None,
        typer.Option(
            help="What was measured, where the file does not say: a name, or a .npy file of effects."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the fit and of all draws.")] = 0,
    draws: Annotated[
        int, typer.Option(help="Outcomes of the model, and fresh shots, that measure it.")
    ] = 100_000,
    curve: Annotated[
        str | None,
        typer.Option(
            metavar="N,N,…",
            help="Learning curve: fit the model to so many shots, too, each time anew; every one takes "
            "the budget once more.",
        ),
    ] = None,
    steps: Steps = None,
    epochs: Epochs = None,
    minutes: Minutes = None,
    as_json: Json = False,
) -> None:
    """Fit a model to outcomes, and compare the state that it describes with the exact one.

    Writes index.html, reconstruction.json and observables.npz beside the files of the run. The density
    matrix and the quantum fidelity are sums over all outcomes, at most 2²¹: up to ten sites with four
    outcomes, eight with six (pauli6). The same command goes on with a run that was interrupted.
    """
    from likely import quantum as physics

    try:
        sizes = [int(size) for size in split_names(curve) or []]
    except ValueError as error:
        raise LikelyError(f"--curve {curve}: write it as 1000,10000,100000") from error
    loaded = physics.load(shots, None if povm is None else _povm(povm))
    made = lk.make(model, loaded.povm.domain(loaded.sites), seed=seed, **hyperparameters(settings))
    refuse_unwritable(out)
    result = physics.reconstruct(
        loaded,
        made,
        steps=steps,
        epochs=epochs,
        minutes=minutes,
        seed=seed,
        run=out,
        progress=sys.stderr.isatty(),
        draws=draws,
        curve=sizes,
    )
    result.save(out)
    if as_json:
        print_json(result.to_json())
        return
    make_console().print(result.rich_table())
    for line in [*result.summary(), *result.notes(), f"report: {out / 'index.html'}"]:
        print_text(line)


def _povm(text: str) -> POVM:
    """A POVM by its name, or from a file of effects."""
    import numpy as np

    from likely.quantum import POVM, povm

    if not text.endswith(".npy"):
        return povm(text)
    try:
        return POVM(Path(text).stem, np.load(text, allow_pickle=False))
    except (OSError, ValueError) as error:
        raise DataError(f"{text}: not a readable array of effects ({error})") from error
