"""Training on the energy of lattice systems, against exact values: `python benchmarks/lattice.py NAME …`.

Each NAME prints a row: model, minutes, steps, effective part of the draws, acceptance of Metropolis,
KL(q‖p), log Z with its error and the exact one, observables with the exact ones in brackets, and what
speaks against them.
`--minutes` is another budget. With `--out`, a run that was interrupted goes on when the command is repeated.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

import likely as lk
from likely.lattice import OBSERVABLES

CRITICAL = 2.269185314213022
COUPLINGS = {"channels": 16, "blocks": 1}
SPINS = {"symmetric": True}
# By `lk.targets.phi4_exact`, a minute for each.
EXACT = {"phi4-8": (9.2913638, {"susceptibility": 0.74414, "phi2": 0.14345})}


class Job(NamedTuple):
    """A target, a model, and their options."""

    target: Callable[[], lk.Target]
    model: str
    minutes: float
    options: dict[str, Any]
    training: dict[str, Any]


def phi4(size: int, coupling: float, model: str, minutes: float, **options: Any) -> Job:
    """A φ⁴ field at m² = −4."""
    target = partial(lk.targets.phi4, size, size, coupling=coupling)
    return Job(target, model, minutes, options, {})


def couplings(model: str, rate: float, **options: Any) -> Job:
    """Couplings of that field on 8 × 8 sites.

    A pilot finds the width of the field: at first, tails three times as wide would cost hundreds of nats a
    site. With the reparametrised gradient, twice as fast, KL(q‖p) stays above 0.4 nats for a thousand steps.
    """
    job = phi4(8, 8.0, model, 15, **COUPLINGS, **options)
    return job._replace(training={"pilot": True, "rate": rate})


def ising(size: int, temperature: float, minutes: float, rate: float = 5e-3, **options: Any) -> Job:
    """Ising spins on a square torus."""
    return Job(
        lambda: lk.targets.ising(size, size, temperature=temperature),
        "made", minutes, SPINS | options, {"rate": rate},
    )  # fmt: skip


def glass(beta: float) -> Job:
    """Twenty Sherrington–Kirkpatrick spins."""
    options = SPINS | {"hidden": (80, 80)}
    rate = {"rate": 5e-3}
    return Job(lambda: lk.targets.sherrington_kirkpatrick(20, beta=beta), "made", 2, options, rate)


def links(beta: float, minutes: float) -> Job:
    """U(1) gauge theory, 8 × 8; log Z with the Lebesgue measure."""
    return Job(lambda: lk.targets.u1(8, beta=beta), "lattice-u1", minutes, {}, {})


JOBS = {
    "free-8": Job(lambda: lk.targets.phi4(8, 8, mass2=1.0, coupling=0.0), "lattice-cnf", 3, {}, {}),
    "phi4-4": phi4(4, 8.0, "lattice-cnf", 2),
    "phi4-8": phi4(8, 8.0, "lattice-cnf", 10),
    "phi4-8-affine": couplings("realnvp", 4e-3, transforms=12),
    "phi4-8-spline": couplings("nsf-coupling", 3e-3, transforms=12, bins=8),
    "phi4-12": phi4(12, 5.276, "lattice-cnf", 40),
    "phi4-20": phi4(20, 4.807, "lattice-cnf", 120),
    "ising-8": ising(8, CRITICAL, 5, 1.5e-3, hidden=(512, 512)),
    "ising-8-ordered": ising(8, 2.0, 5),
    "ising-16": ising(16, CRITICAL, 60, hidden=(512, 512)),
    "ising-16-wide": ising(16, CRITICAL, 60, hidden=(1024, 1024)),
    "sk-0.5": glass(0.5),
    "sk-1": glass(1.0),
    "sk-2": glass(2.0),
    "u1-8-1": links(1.0, 5),
    "u1-8": links(2.0, 20),
    "u1-8-3": links(3.0, 20),
}


def row(name: str, minutes: float | None, draws: int, out: Path | None) -> str:
    """Train, weigh, measure."""
    job = JOBS[name]
    target = job.target()
    model = lk.make(job.model, target.domain, seed=0, **job.options)
    run = None if out is None else out / name
    history = lk.fit(model, target, minutes=minutes or job.minutes, seed=0, run=run, **job.training)
    spent = history.seconds / 60
    w = lk.reweight(model, target, draws, seed=1)
    known = name if name in EXACT else name.rpartition("-")[0]
    log_z, exact = EXACT.get(known, (target.log_z, target.observables or {}))
    parts = [
        f"{name}: {job.model}, {spent:.1f} min, {history.steps:,} steps",
        f"ESS {w.ess:.4f}, acceptance {w.acceptance}",
        f"KL {w.log_z.value - w.elbo.value:.4f}"
        if log_z is None
        else f"KL {log_z - w.elbo.value:.4f}",
        f"log Z {w.log_z} ({'unknown' if log_z is None else f'{log_z:.6f}'})",
        *(
            f"{observable} {w.expect(f)} ({exact.get(observable, 'unknown')})"
            for observable, f in OBSERVABLES.get(target.name, {}).items()
        ),
        *w.notes,
    ]
    return "; ".join(parts)


def main() -> None:
    """Print the rows that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(JOBS)}")
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--draws", type=int, default=1 << 16)
    parser.add_argument("--out", type=Path, help="folder of the runs")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for name in options.names or JOBS:
        print(row(name, options.minutes, options.draws, options.out), flush=True)


if __name__ == "__main__":
    main()
