"""fit: the one training loop, for every family.

What is trained by gradients hands out `Objective`s; what isn't (EM, Hebbian storage) has an `epoch`.
Both get the same budget, validation, history, checkpoints and progress.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from pathlib import Path
from typing import Any, Literal

from lightning_fabric import Fabric

import likely
from likely.core.artifact import configuration
from likely.core.errors import DomainError, LikelyError
from likely.core.model import GenerativeModel, seeded
from likely.data import Data, load_data
from likely.fitting import memory
from likely.fitting.history import History
from likely.fitting.loop import Gradients, Passes
from likely.fitting.progress import Progress
from likely.fitting.run import Run

BATCH_ENTRIES = 1 << 17  # numbers in a batch, unless its size is given


def fit(
    model: GenerativeModel,
    data: Any,
    *,
    steps: int | None = None,
    epochs: int | None = None,
    minutes: float | None = None,
    seed: int = 0,
    run: str | Path | None = None,
    progress: bool = False,
    early_stopping: bool = True,
    batch: int | None = None,
    rate: float | None = None,
    weight_decay: float | None = None,
    clip: float | None = None,
    ema: float | None = None,
    device: str = "auto",
    precision: Literal["32-true", "64-true", "bf16-mixed"] = "32-true",
) -> History:
    """Train a model on the training split; it then holds its best weights by validation likelihood.

    With a budget (one of `steps`, `epochs`, `minutes`) the learning rate falls to zero as a cosine
    over it; without one, it falls when validation stops improving, and then training stops; a model
    without a likelihood has a default number of steps. Weights are averaged (EMA), and it is the
    average that is validated and kept; a model without a likelihood keeps the last one. A step whose
    loss or gradient is not finite is skipped and counted.

    Parameters
    ----------
    model : GenerativeModel
        On the domain of the data; it is trained in place.
    data : Data, or anything that `load_data` reads
    steps, epochs, minutes : number, optional
        The budget, one of them at most. Minutes become a number of steps once the first are timed.
    seed : int
        From the same initial weights (`lk.make(…, seed=…)`) the same seed gives the same weights, bit
        by bit, on a CPU with the same number of threads.
    run : path, optional
        Folder for checkpoints, history and the model. A run that was interrupted goes on from its
        last checkpoint; one that is complete is only loaded.
    progress : bool
        Show a progress bar.
    early_stopping : bool
        Keep the best weights, and stop when the score has not risen for 30 % of the budget.
        Otherwise the whole budget is used and the last weights are kept.
    batch : int, optional
        Rows of a batch; by default the family's, and at most an eighth of the
        training rows and about 130,000 numbers.
    rate, weight_decay, clip, ema : float, optional
        Learning rate, weight decay of matrices (AdamW), largest norm of a gradient, decay of the
        averaged weights; by default the family's `recipe`.
    device : str
        "auto", "cpu", "cuda" …
    precision : {"32-true", "64-true", "bf16-mixed"}
        As in Lightning Fabric.

    Returns
    -------
    History

    Raises
    ------
    LikelyError
        If an option is out of range, or there are two budgets.
    DomainError
        If model and data are on different domains.
    DivergenceError
        If training cannot go on; the last good checkpoint is kept.
    ArtifactError
        If `run` is not empty and not this run, or cannot be written.
    """
    if not isinstance(data, Data):
        data = load_data(data, domain=model.domain)
    if model.domain != data.domain or model.context != data.context:
        raise DomainError(
            "the model was built for another domain or context than the data's: "
            "build it with lk.make(name, data.domain, context=data.context)"
        )
    if sum(budget is not None for budget in (steps, epochs, minutes)) > 1:
        raise LikelyError("give one budget: steps, epochs or minutes")
    for option, value in {"steps": steps, "epochs": epochs, "minutes": minutes}.items():
        if value is not None and not value > 0:
            raise LikelyError(f"{option} must be above 0, not {value}")
    given = {"rate": rate, "weight_decay": weight_decay, "clip": clip, "ema": ema, "batch": batch}
    for option, value in given.items():
        may_vanish = option in ("weight_decay", "ema")
        if value is not None and not (0 < value < math.inf or (may_vanish and value == 0)):
            raise LikelyError(f"{option} must be a finite number above 0, not {value}")
    if seed < 0:
        raise LikelyError(f"seed must not be negative, not {seed}")
    changes: dict[str, Any] = {k: v for k, v in given.items() if v is not None}
    if batch is None:
        changes["batch"] = min(
            model.recipe.batch,
            max(32, len(data.train) // 8),
            max(16, BATCH_ENTRIES // model.domain.size),
        )
    recipe = dataclasses.replace(model.recipe, **changes)
    if steps is None and epochs is None and minutes is None:
        steps = recipe.steps
    fabric = Fabric(accelerator=device, devices=1, precision=precision)
    folder = None
    if run is not None:
        config = {
            "version": likely.__version__,
            "model": configuration(model),
            "data": {"source": data.name, "fingerprint": data.fingerprint()},
            "fit": {
                **dataclasses.asdict(recipe),
                "steps": steps,
                "epochs": epochs,
                "minutes": minutes,
                "seed": seed,
                "early_stopping": early_stopping,
                "precision": precision,
            },
        }
        folder = Run(run, config)
    if precision == "64-true":
        model.double()
    if folder is not None and folder.model.exists():
        warnings.warn(f"{run}: this run is complete, there is nothing left to do", stacklevel=2)
        history = folder.read_result(model)
        model.eval()
        return history
    loop_class = Passes if hasattr(model, "epoch") else Gradients
    loop = loop_class(model, data, fabric, recipe, seed, early_stopping)
    loop.plan(steps, epochs, minutes)
    memory.reset_peak()
    with seeded(seed, fabric.device), Progress(type(model).__name__, progress) as bar:
        return loop.run(folder, bar)
