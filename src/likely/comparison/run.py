"""compare: fit several models to the same data under the same budget."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, get_type_hints

import joblib
from rich.console import Console

from likely.comparison.comparison import Comparison
from likely.comparison.energies import EnergyComparison, compare_energies
from likely.comparison.engines import library_of, spread
from likely.comparison.results import BASELINE, Run
from likely.contract.model import GenerativeModel
from likely.contract.options import NonNegativeInt, check_values
from likely.contract.registry import entries, find, make
from likely.core.errors import DivergenceError, DomainError, LikelyError, RunError
from likely.core.runtime import children_ignore_interrupts, find_device
from likely.core.target import Target
from likely.data import Data, load_data
from likely.evaluation import FeatureExtractor, evaluate
from likely.fitting.fit import fit
from likely.fitting.plan import one_budget


def compare(
    models: Sequence[str] | None,
    data: Any,
    *,
    minutes: float | None = None,
    steps: int | None = None,
    epochs: int | None = None,
    seeds: int = 3,
    seed: NonNegativeInt = 0,
    jobs: int = 1,
    engine: str | None = None,
    runs: str | Path | None = None,
    rows: int | None = None,
    progress: bool = False,
    device: str = "auto",
    hyperparameters: Mapping[str, Mapping[str, Any]] | None = None,
    out: str | Path | None = None,
) -> Comparison | EnergyComparison:
    """Fit each model with several seeds and measure what it is worth on the test split.

    For a target with an energy the models are trained on it, and ranked by what their draws are worth
    when they are reweighted: effective sample size, free energy.

    The baseline, `independent`, always takes part. A model that does not take the data is listed as
    refused, with the reason; a run that diverges or fails is counted.

    Parameters
    ----------
    models : sequence of str or None
        Names as in `lk.models()`; None takes every model that takes the data.
    data : Data, or anything that `load_data` reads, or a Target with an energy
    minutes, steps, epochs : number, optional
        The budget of each single fit, one of them at most. None: until validation stops improving.
    seeds : int
        Fits of each model, with seeds `seed`, `seed` + 1, …; the splits stay the same.
    seed : int
    jobs : int
        How many fits run side by side; -1 takes every core. Only one at a time (1) do timings mean
        something, so that others report no speeds. With equally many threads the rest is the same.
    engine : str, optional
        A cluster for the fits: "dask" or "ray" is the one to which this process is connected, or a new one
        on the cores of this machine; or the address of a scheduler, "tcp://HOST:8786" or
        "ray://HOST:10001". A fit whose worker is killed starts again on another one.
    runs : path, optional
        Folder for the run folders of the fits, such as `nsf-0`; all workers must see it. A fit that was
        interrupted resumes from its last checkpoint, in a later call too.
    rows : int, optional
        Score at most this many rows of the test split, a random subset, and draw as many samples.
        On an energy, the number of draws that are weighed, by default 16,384.
    progress : bool
        Show which fit is running, its progress bar, and the time that is left; of several jobs, how
        many are done.
    device : str
        Where to compute, as in `fit`; on a cluster, what each worker has.
    hyperparameters : mapping of str to mapping, optional
        Hyperparameters of models, by name.
    out : str or Path, optional
        A folder: the page and the files of `Comparison.write` are written there after the first model,
        and again after each.

    Returns
    -------
    Comparison, or EnergyComparison

    Raises
    ------
    LikelyError
        If a model or a hyperparameter is unknown, a hyperparameter, the seed or the budget has a
        value that is not valid, the budget is given twice, there is no such device or engine, or there are
        several jobs without a budget in steps or epochs.
    DomainError
        If no model takes the data.
    RunError
        If one of several processes is killed.
    ArtifactError
        If a file cannot be written.
    """
    whole = {"seeds": seeds, "seed": seed, "rows": rows}
    check_values("compare", whole, get_type_hints(compare, include_extras=True), {})
    if jobs < 1 and jobs != -1:
        raise LikelyError(f"jobs must be at least 1, or -1 for every core, not {jobs}")
    budget = one_budget(steps, epochs, minutes)
    if engine is not None:
        library_of(engine)
        if jobs != 1:
            raise LikelyError(
                f"jobs={jobs}: the cluster of engine={engine!r} says how many; leave it out"
            )
        jobs = -1
    beside = f"jobs={jobs}" if engine is None else f"engine={engine!r}"
    training: dict[str, Any] = budget | {
        "device": str(find_device(device)) if engine is None else device
    }
    if jobs != 1 and steps is None and epochs is None:
        raise LikelyError(f"{beside}: fits side by side need a budget in steps or epochs")
    options = {name: dict(given) for name, given in (hyperparameters or {}).items()}
    names = list(dict.fromkeys(models if models is not None else entries()))
    for name in [*names, *options]:
        find(name)
    if isinstance(data, Target) and data.energy is not None:
        if jobs != 1:
            raise LikelyError(f"{beside}: trainings on an energy run one after the other")
        trained = range(seed, seed + seeds)
        return compare_energies(models, data, trained, options, training, rows, progress, out)
    if not isinstance(data, Data):
        data = load_data(data)
    refused = {}
    for name in names:
        try:
            make(name, data.domain, context=data.context, **options.get(name, {}))
        except DomainError as error:
            refused[name] = str(error)
    names = [name for name in names if name not in refused]
    if not names:
        reasons = "; ".join(refused.values()) or "none is named"
        raise DomainError(f"none of the models takes these data ({reasons})")
    if BASELINE not in names and BASELINE not in refused:
        names.append(BASELINE)
    seeds_used = range(seed, seed + seeds)

    def untrained() -> Iterator[tuple[str, GenerativeModel, int]]:
        for name in names:
            for at in seeds_used:
                given = options.get(name, {})
                yield name, make(name, data.domain, context=data.context, seed=at, **given), at

    started = time.time()
    total = len(names) * seeds
    # One for all models: its features are what the distances between images are made of.
    extractor = FeatureExtractor(data) if data.domain.layout == "image" else None
    shared = data, training, extractor, rows, None if runs is None else Path(runs).absolute()

    def in_turn() -> Iterator[Run]:
        for done, fresh in enumerate(untrained()):
            if progress:
                each = (time.time() - started) / done if done else 60 * (minutes or 0)
                left = f", about {(total - done) * each / 60:.1f} min left" if each else ""
                _say(f"{fresh[0]}, seed {fresh[2]}: fit {done + 1} of {total}{left}")
            yield _run(*shared, *fresh, progress)

    def side_by_side() -> Iterator[Run]:
        verbose = 5 if progress else 0
        with joblib.Parallel(jobs, return_as="generator", verbose=verbose) as parallel:
            with children_ignore_interrupts():
                list(parallel([joblib.delayed(int)()]))  # starts the processes
            yield from parallel(joblib.delayed(_run)(*shared, *fresh) for fresh in untrained())

    found: list[Run] = []

    def compared() -> Comparison:
        seconds = round(time.time() - started, 1)
        settings = {"seeds": [*seeds_used], "budget": budget, "jobs": jobs, "seconds": seconds}
        settings |= {} if engine is None else {"engine": engine}
        to_come = names[len(found) // seeds :]
        return Comparison(
            data, [*found], refused, settings | ({"to_come": to_come} if to_come else {})
        )

    try:
        fits: Iterable[Run]
        if engine is not None:
            fits = _on_cluster(engine, shared, list(untrained()), progress)
        else:
            fits = in_turn() if jobs == 1 else side_by_side()
        for run in fits:
            found.append(run)
            if out is not None and len(found) % seeds == 0:
                compared().write(out)
    except BrokenProcessPool as error:
        raise RunError(
            f"jobs={jobs}: one of the processes was killed; if memory ran out, take fewer jobs"
        ) from error
    return compared()


def _on_cluster(
    engine: str,
    shared: tuple[Any, ...],
    untrained: list[tuple[str, GenerativeModel, int]],
    progress: bool,
) -> list[Run]:
    """All fits, as `_run` gives them, on a cluster."""
    done: dict[int, Run] = {}
    for i, outcome in spread(_run, shared, untrained, engine):
        name, model, seed = untrained[i]
        if isinstance(outcome, Exception):  # its workers were killed, one after the other
            reason = " ".join(f"{type(outcome).__name__}: {outcome}".split())
            done[i] = Run(name, seed, model.density, error=reason)
        else:
            done[i] = outcome
        if progress:
            ended = "done" if done[i].error is None else f"failed, {done[i].error}"
            _say(f"{name}, seed {seed}: {ended}; {len(done)} of {len(untrained)} fits have ended")
    return [done[i] for i in range(len(untrained))]


def _say(line: str) -> None:
    Console(stderr=True).print(line, style="bold", highlight=False)


def _run(
    data: Data,
    training: Mapping[str, Any],
    extractor: FeatureExtractor | None,
    rows: int | None,
    folder: Path | None,
    name: str,
    model: GenerativeModel,
    seed: int,
    progress: bool = False,
) -> Run:
    """Fit one model with one seed and measure it."""
    run = Run(name, seed, model.density)
    try:
        place = None if folder is None else folder / f"{name}-{seed}"
        history = fit(model, data, seed=seed, run=place, progress=progress, **training)
        # The same rows and the same noise for every model and seed: differences are paired.
        run.evaluation = evaluate(model, data, history=history, rows=rows, extractor=extractor)
        run.model, run.history = model, history
    except DivergenceError as error:
        return Run(name, seed, model.density, error=str(error), diverged=True)
    # Whatever else happens to one fit must not lose the others: no memory, a user's model, …
    except Exception as error:
        return Run(name, seed, model.density, error=f"{type(error).__name__}: {error}")
    return run
