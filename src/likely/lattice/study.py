"""study: train a model on an action, and measure what is asked of a lattice, with errors."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from likely.contract.reference import Reference
from likely.contract.registry import make
from likely.core import files
from likely.core.errors import LikelyError
from likely.core.target import Target
from likely.evaluation.weighted import reweight
from likely.fitting.fit import fit
from likely.lattice import report
from likely.lattice.results import Observable, Results
from likely.sampling import HMC, Gibbs
from likely.sampling.chain import Chain
from likely.targets import magnetisation, phi2, plaquettes, susceptibility, topological_charge

CHAINS = 64  # of the reference …
BURN_IN = 300  # … and the steps that tune each of them
KEPT = 1 << 24  # numbers of it that are kept at most


# By name of the target; names that the target knows exactly are the same there.
MAGNETIC: dict[str, Observable] = {
    "|magnetisation|": lambda x: magnetisation(x).abs(),
    "magnetisation": magnetisation,
}
OBSERVABLES: dict[str, dict[str, Observable]] = {
    "phi4": {"susceptibility": susceptibility, "phi2": phi2, **MAGNETIC},
    "ising": {"susceptibility": susceptibility, **MAGNETIC},
    "u1": {
        "plaquette": lambda x: plaquettes(x).cos().mean((1, 2)),
        "charge2": lambda x: topological_charge(x).square(),
    },
}


class Study(Results):
    """What came out of a training on an action: its figures, its page and its files.

    The attributes are those of `Results`.
    """

    def to_html(self) -> str:
        """The page."""
        return report.page(self)

    def summary(self) -> list[str]:
        """What came out, in a few sentences."""
        return report.summary(self)

    def save(self, folder: str | Path) -> None:
        """Write index.html, lattice.json and draws.npz (samples and log-weights)."""
        folder = Path(folder)
        files.write_text(folder / "index.html", self.to_html())
        files.write_text(folder / "lattice.json", json.dumps(self.to_json(), indent=2) + "\n")
        with files.written_whole(folder / "draws.npz") as file:
            np.savez_compressed(
                file,
                samples=self.weighted.samples.numpy(force=True),
                log_weight=self.weighted.log_weight.numpy(force=True),
            )


def study(
    target: Target,
    model: str = "lattice-cnf",
    *,
    minutes: float | None = None,
    steps: int | None = None,
    seed: int = 0,
    draws: int = 65_536,
    reference: bool = True,
    observables: Mapping[str, Observable] | None = None,
    run: str | Path | None = None,
    progress: bool = False,
    device: str = "auto",
    hyperparameters: Mapping[str, Any] | None = None,
) -> Study:
    """Train a model on a target's energy, and measure observables with it.

    Parameters
    ----------
    target : Target
        With an energy.
    model : str
        A name as in `lk.models()`.
    minutes, steps : number, optional
        The budget, one of them at most.
    seed : int
        Of the weights, the training and all draws.
    draws : int
        Of the model, that are weighed.
    reference : bool
        Whether to run the library's own sampler for as long as training and draws took.
    observables : mapping of str to callable (x) -> (n,), optional
        By default those of φ⁴, Ising or U(1), if the target is one of these.
    run, progress, device
        As in `fit`.
    hyperparameters : mapping, optional
        Of the model.

    Returns
    -------
    Study

    Raises
    ------
    LikelyError
        If the model cannot be trained on an energy, or there is nothing to measure.

    Examples
    --------
    >>> import likely as lk
    >>> found = lk.lattice.study(lk.targets.phi4(8), "realnvp", steps=5, draws=500, reference=False)
    >>> [row.name for row in found.rows]
    ['susceptibility', 'phi2', '|magnetisation|', 'magnetisation']
    """
    measured = observables or OBSERVABLES.get(target.name)
    if measured is None:
        raise LikelyError(f"{target.name}: give observables, such as {{'r2': lambda x: …}}")
    options = dict(hyperparameters or {})
    new = make(model, target.domain, context=target.context, seed=seed, **options)
    history = fit(
        new,
        target,
        minutes=minutes,
        steps=steps,
        seed=seed,
        run=run,
        progress=progress,
        device=device,
    )
    started = time.perf_counter()
    weighted = reweight(new, target, draws, seed=seed)
    seconds = {"training": history.seconds, "draws": time.perf_counter() - started}
    chain = weighted.chain(seed)
    long = None
    if reference:
        started = time.perf_counter()
        long = run_reference(target, sum(seconds.values()), seed)
        seconds["reference"] = time.perf_counter() - started
    budget = {"minutes": minutes, "steps": steps}
    settings = {
        "target": target.name,
        "shape": list(target.domain.shape),
        "model": model,
        **options,
        **{unit: value for unit, value in budget.items() if value is not None},
        "seed": seed,
        "draws": draws,
    }
    return Study(target, new, model, history, weighted, chain, long, measured, seconds, settings)


def run_reference(target: Target, seconds: float, seed: int) -> Chain:
    """HMC, or Gibbs sampling of a discrete domain, for about so many seconds, burn-in included."""
    domain, energy = target.domain, target.energy
    assert energy is not None
    sampler = Gibbs(domain) if domain.discrete else HMC(0.1, domain=domain)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        start = Reference(domain).sample(CHAINS)
    started = time.perf_counter()
    pilot = sampler.run(energy, start, 20, seed, burn_in=BURN_IN)
    pace = (time.perf_counter() - started) / (BURN_IN + 20)
    steps = max(100, int(seconds / pace) - 2 * BURN_IN)
    thin = max(1, steps * CHAINS * domain.size // KEPT)
    steps = steps // thin * thin
    return sampler.run(energy, pilot.last, steps, seed + 1, burn_in=BURN_IN, thin=thin)
