"""Integrals in the unit cube at equal calls: likely, VEGAS+ and plain Monte Carlo.

`python benchmarks/integrals.py [CALLS] [REPEATS]` prints a row for each integrand: the root mean square of
the true error, and the mean of the errors that are claimed. VEGAS+ (PyPI `vegas`) gets half of its calls to
adapt, in five iterations, and five more for the estimate.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

import likely as lk

sys.path.append(str(Path(__file__).parents[1] / "tests" / "fitting"))
from test_integral import breit_wigner, camel, cube, diagonal, gaussian

INTEGRANDS = {
    "Gaussian, width 0.1, d = 8": gaussian(8, 0.1),
    "Breit–Wigner, width 0.02, d = 6": breit_wigner(6, 0.4, 0.02),
    "camel, width 0.1, d = 6": camel(6, 0.1),
    "diagonal, width 0.05, d = 5": diagonal(5, 0.05),
}
Integrand = Callable[[torch.Tensor], torch.Tensor]


def likely(f: Integrand, d: int, calls: int, seed: int) -> tuple[float, float]:
    figure = lk.integrate(f, cube(d), calls=calls, seed=seed)
    assert figure.stderr is not None
    return figure.value, figure.stderr


def vegas(f: Integrand, d: int, calls: int, seed: int) -> tuple[float, float]:
    import gvar
    import vegas

    gvar.ranseed(seed)
    batches = vegas.lbatchintegrand(lambda x: f(torch.as_tensor(np.asarray(x))).numpy())
    integrator = vegas.Integrator([[0, 1]] * d)
    integrator(batches, nitn=5, neval=calls // 10)
    result = integrator(batches, nitn=5, neval=calls // 10)
    return result.mean, result.sdev


def plain(f: Integrand, d: int, calls: int, seed: int) -> tuple[float, float]:
    x = torch.rand(calls, d, generator=torch.Generator().manual_seed(seed))
    value = f(x).double()
    return value.mean().item(), value.std().item() / calls**0.5


def main(calls: int = 50_000, repeats: int = 10) -> None:
    print(
        "| integrand | sampler | true error | claimed | seconds of a CPU |\n|---|---|---|---|---|"
    )
    for name, (f, exact, d) in INTEGRANDS.items():
        for sampler in (likely, vegas, plain):
            start = time.process_time()
            found = np.array([sampler(f, d, calls, seed) for seed in range(repeats)]) / exact
            seconds = (time.process_time() - start) / repeats
            error = np.sqrt(np.mean((found[:, 0] - 1) ** 2))
            claimed = found[:, 1].mean()
            print(
                f"| {name} | {sampler.__name__} | {error:.2%} | {claimed:.2%} | {seconds:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*map(int, sys.argv[1:]))
