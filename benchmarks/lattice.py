"""Training on an energy of lattice systems, against exact values: `python benchmarks/lattice.py NAME …`.

Each NAME prints one row: model, minutes, steps, effective part of the draws, acceptance of independence
Metropolis, log Z with its error and the exact one, observables with the exact ones in brackets. `--minutes`
is another budget, `--threads` cores.
"""

from __future__ import annotations

import argparse
import math
import time

import torch

import likely as lk

DRAWS = 1 << 16
# Name: length, β, minutes.
U1 = {"u1-8-1": (8, 1.0, 5.0), "u1-8": (8, 2.0, 20.0), "u1-8-3": (8, 3.0, 20.0)}


def u1(name: str, minutes: float | None) -> str:
    """A row for U(1) gauge theory; log Z is that of the Haar measure, as in the literature."""
    length, beta, default = U1[name]
    target = lk.targets.u1(length, beta=beta)
    model = lk.make("lattice-u1", target.domain, seed=0)
    begin = time.perf_counter()
    history = lk.fit(model, target, minutes=minutes or default, seed=0)
    spent = (time.perf_counter() - begin) / 60
    w = lk.reweight(model, target, DRAWS, seed=1)
    haar = target.domain.size * math.log(2 * math.pi)
    log_z = lk.Figure(w.log_z.value - haar, w.log_z.stderr)
    functions = {
        "plaquette": lambda x: lk.targets.plaquettes(x).cos().mean((1, 2)),
        "charge2": lambda x: lk.targets.topological_charge(x).square(),
    }
    observables = [
        f"{key} {w.expect(f)} ({target.observables[key]:.5f})" for key, f in functions.items()
    ]
    return (
        f"{name:14} lattice-u1   {spent:5.1f} min {history.rows[-1]['step']:6} steps  ESS {w.ess:.4f}  "
        f"acceptance {w.acceptance}  log Z {log_z} ({target.log_z - haar:.5f})  "
        + "  ".join([*observables, *w.notes])
    )


def main() -> None:
    """Print the rows that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(U1)}")
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for name in options.names or U1:
        print(u1(name, options.minutes), flush=True)


if __name__ == "__main__":
    main()
