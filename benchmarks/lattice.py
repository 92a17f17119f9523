"""Training on an energy of lattice systems, against exact values: `python benchmarks/lattice.py NAME …`.

Each NAME prints one row: model, minutes, steps, effective part of the draws, KL, log Z with its error and
the exact one, observables with the exact ones in brackets. `--minutes` is another budget, `--threads` cores.
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
COUPLINGS = {"transforms": 16, "channels": 16, "blocks": 1}
EXACT = {(8, 8, 8.0): {"log_z": 9.2913638, "susceptibility": 0.74414}}
# Name: model, shape, λ at m² = −4, minutes, options.
PHI4: dict[str, tuple[str, tuple[int, ...], float, float, dict[str, Any]]] = {
    "phi4-4-cnf": ("lattice-cnf", (4, 4), 8.0, 2, {}),
    "phi4-8-cnf": ("lattice-cnf", (8, 8), 8.0, 10, {}),
    "phi4-8-affine": ("realnvp", (8, 8), 8.0, 15, COUPLINGS),
    "phi4-8-spline": ("nsf-coupling", (8, 8), 8.0, 15, COUPLINGS),
    "phi4-12-cnf": ("lattice-cnf", (12, 12), 5.276, 40, {}),
}


def phi4(name: str, minutes: float | None) -> str:
    """A row for a φ⁴ field."""
    model_name, shape, coupling, default, options = PHI4[name]
    target = lk.targets.phi4(*shape, coupling=coupling)
    model = lk.make(model_name, target.domain, seed=0, **options)
    begin = time.perf_counter()
    history = lk.fit(model, target, minutes=minutes or default, seed=0)
    spent = (time.perf_counter() - begin) / 60
    assert target.energy is not None
    x, log_q = sample_with_log_prob(model, DRAWS, seed=1)
    log_weight = -(target.energy(x) + log_q).double()
    log_z, weight = log_mean(log_weight), log_weight.softmax(0)
    known = EXACT.get((*shape, coupling), {"log_z": target.log_z, **(target.observables or {})})
    exact = known["log_z"]
    observables = []
    for function in (lk.targets.phi2, lk.targets.susceptibility):
        value = function(x).double()
        mean = (weight * value).sum()
        error = (weight.square() * (value - mean).square()).sum().sqrt()
        figure = lk.core.likelihood.Figure(mean.item(), error.item())
        truth = known.get(function.__name__)
        observables.append(f"{function.__name__} {figure} ({truth or 'unknown'})")
    divergence = "" if exact is None else f"  KL {exact - log_weight.mean().item():.4f}"
    return (
        f"{name:14} {model_name:12} {spent:5.1f} min {history.rows[-1]['step']:6} steps  "
        f"ESS {effective(log_weight) / DRAWS:.4f}{divergence}  log Z {log_z} ({exact})  "
        + "  ".join(observables)
    )


def main() -> None:
    """Print the rows that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(PHI4)}")
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for name in options.names or PHI4:
        print(phi4(name, options.minutes), flush=True)


if __name__ == "__main__":
    main()
