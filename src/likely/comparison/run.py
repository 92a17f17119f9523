"""compare: fit several models to the same data under the same budget, one at a time."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from likely.comparison.result import Comparison, Run
from likely.core.errors import DataError, DivergenceError, DomainError, LikelyError
from likely.core.model import GenerativeModel
from likely.core.registry import entries, find, make
from likely.data import Data, load_data
from likely.evaluation import evaluate
from likely.fitting import fit


def compare(
    models: Sequence[str] | None,
    data: Any,
    *,
    minutes: float | None = None,
    steps: int | None = None,
    epochs: int | None = None,
    seeds: int = 3,
    seed: int = 0,
    progress: bool = False,
    hyperparameters: Mapping[str, Mapping[str, Any]] | None = None,
) -> Comparison:
    """Fit each model with several seeds and measure what it is worth on the test split.

    Fits run one at a time, so that their timings mean something. A model that does not take the
    data is listed as refused, with the reason; a run that diverges or fails is counted.

    Parameters
    ----------
    models : sequence of str or None
        Names as in `lk.models()`; None takes every model that takes the data.
    data : Data, or anything that `load_data` reads
    minutes, steps, epochs : number, optional
        The budget of each single fit, one of them at most. None: until validation stops improving.
    seeds : int
        Fits of each model, with seeds `seed`, `seed` + 1, …; the splits stay the same.
    seed : int
    progress : bool
        Show which fit is running, and its progress bar.
    hyperparameters : mapping of str to mapping, optional
        Hyperparameters of models, by name.

    Returns
    -------
    Comparison

    Raises
    ------
    LikelyError
        If a model or a hyperparameter is unknown, a hyperparameter or the seed has a value that is
        none, or the budget is given twice.
    DomainError
        If no model takes the data.
    """
    if seeds < 1:
        raise LikelyError(f"seeds must be at least 1, not {seeds}")
    if seed < 0:
        raise LikelyError(f"seed={seed}: give a whole number from 0 on")
    if not isinstance(data, Data):
        data = load_data(data)
    options = {name: dict(given) for name, given in (hyperparameters or {}).items()}
    names = list(dict.fromkeys(models)) if models is not None else _suitable(data)
    for name in [*names, *options]:
        find(name)
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
    budget = {"minutes": minutes, "steps": steps, "epochs": epochs}
    runs = []
    started = time.time()
    for number, (name, at) in enumerate((n, s) for n in names for s in range(seed, seed + seeds)):
        if progress:
            from rich.console import Console

            line = f"[bold]{name}[/bold], seed {at}: fit {number + 1} of {len(names) * seeds}"
            Console(stderr=True, highlight=False).print(line)
        model = make(name, data.domain, context=data.context, seed=at, **options.get(name, {}))
        runs.append(_run(name, model, data, at, budget, progress))
    return Comparison(
        data=data,
        runs=runs,
        refused=refused,
        settings={
            "seeds": list(range(seed, seed + seeds)),
            "budget": {unit: value for unit, value in budget.items() if value is not None},
            "seconds": round(time.time() - started, 1),
        },
    )


def _suitable(data: Data) -> list[str]:
    """Every registered model that takes the data's domain and its context."""
    return [
        name
        for name, entry in entries().items()
        if entry.takes(data.domain) and (data.context is None or entry.cls.takes_context)
    ]


def _run(
    name: str,
    model: GenerativeModel,
    data: Data,
    seed: int,
    budget: Mapping[str, Any],
    progress: bool,
) -> Run:
    """Fit one model with one seed and measure it."""
    run = Run(name, seed, model.density)
    try:
        history = fit(model, data, seed=seed, progress=progress, **budget)
        # The same rows and the same noise for every model and seed: differences are paired.
        run.evaluation = evaluate(model, data, seed=0, history=history)
        run.model, run.history = model, history
    except DivergenceError as error:
        return Run(name, seed, model.density, error=str(error), diverged=True)
    # Whatever else happens to one fit must not lose the others: no draw in the domain, no memory, …
    except (DataError, RuntimeError, np.linalg.LinAlgError) as error:
        return Run(name, seed, model.density, error=str(error))
    return run
