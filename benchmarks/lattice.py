"""Training on an energy of lattice systems, against exact values: `python benchmarks/lattice.py NAME …`.

Each NAME prints one row: minutes, steps, effective part of the draws, by how much the model's free energy
F_q is off, log Z with its error and the exact one, observables with the exact ones in brackets. `--minutes`
is another budget, `--threads` cores.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import torch

import likely as lk
from likely.contract.inputs import sample_with_log_prob
from likely.core.weights import effective, log_mean

DRAWS = 1 << 16
CRITICAL = 2.269185314213022


def ising(size: int, temperature: float = CRITICAL) -> lk.Target:
    """Ising spins on a square torus."""
    return lk.targets.ising(size, size, temperature=temperature)


def glass(beta: float) -> lk.Target:
    """Twenty Sherrington–Kirkpatrick spins."""
    return lk.targets.sherrington_kirkpatrick(20, beta=beta)


# Name: target, minutes, options of the masked network.
SPINS: dict[str, tuple[Any, float, dict[str, Any]]] = {
    "ising-8": (lambda: ising(8), 5, {}),
    "ising-8-ordered": (lambda: ising(8, 2.0), 5, {}),
    "ising-16": (lambda: ising(16), 60, {"hidden": (512, 512)}),
    "ising-16-wide": (lambda: ising(16), 60, {"hidden": (1024, 1024)}),
    "sk-0.5": (lambda: glass(0.5), 2, {"hidden": (80, 80)}),
    "sk-1": (lambda: glass(1.0), 2, {"hidden": (80, 80)}),
    "sk-2": (lambda: glass(2.0), 2, {"hidden": (80, 80)}),
}


def spins(name: str, minutes: float | None) -> str:
    """A row for a system of spins without a field."""
    make, default, options = SPINS[name]
    target = make()
    model = lk.make("made", target.domain, symmetric=True, seed=0, **options)
    begin = time.perf_counter()
    history = lk.fit(model, target, minutes=minutes or default, rate=5e-3, seed=0)
    spent = (time.perf_counter() - begin) / 60
    x, log_q = sample_with_log_prob(model, DRAWS, seed=1)
    energy = target.energy(x).double()
    log_weight = -energy - log_q.double()
    log_z, weight = log_mean(log_weight), log_weight.softmax(0)
    mean = (weight * energy).sum()
    error = (weight.square() * (energy - mean).square()).sum().sqrt()
    mean_energy = lk.core.likelihood.Figure(mean.item(), error.item())
    off = 1 - log_weight.mean().item() / target.log_z
    return (
        f"{name:15} {spent:5.1f} min {history.rows[-1]['step']:6} steps  "
        f"ESS {effective(log_weight) / DRAWS:.4f}  F_q off by {off:.1e}  log Z {log_z} ({target.log_z:.6f})  "
        f"energy {mean_energy} ({target.entropy - target.log_z:.4f})"
    )


def main() -> None:
    """Print the rows that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SPINS)}")
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for name in options.names or SPINS:
        print(spins(name, options.minutes), flush=True)


if __name__ == "__main__":
    main()
