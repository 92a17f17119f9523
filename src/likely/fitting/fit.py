"""fit: the one training loop, for every family.

What is trained by gradients hands out `Objective`s; what isn't (EM, Hebbian storage) has an `epoch`.
Both get the same budget, validation, history, checkpoints and progress.
"""

import warnings
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import LightningEnvironment

from likely._version import __version__, provenance
from likely.contract.abilities import FitsByEpochs
from likely.contract.model import GenerativeModel
from likely.contract.store import configuration
from likely.core.errors import DataError, DomainError, LikelyError
from likely.core.files import checksum
from likely.core.random import seeded
from likely.core.runtime import find_device
from likely.data import Data, load_data
from likely.fitting import memory, processes
from likely.fitting.folder import RunFolder
from likely.fitting.gradients import Gradients
from likely.fitting.history import History
from likely.fitting.loop import Watch
from likely.fitting.passes import Passes
from likely.fitting.plan import Plan
from likely.fitting.progress import Progress
from likely.fitting.sources import PREPARE_ENTRIES, DataSource


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
    device: str | torch.device = "auto",
    devices: int = 1,
    precision: Literal["32-true", "64-true", "bf16-mixed"] = "32-true",
    compile: bool = False,
    watch: Watch | None = None,
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
        The budget, one of them at most. Minutes become a number of steps once the first
        are timed, and again when the pace changes; validations count.
    seed : int
        From the same initial weights (`lk.make(…, seed=…)`) the same seed gives the same weights, bit
        by bit, on a CPU with the same number of threads.
    run : path, optional
        Folder for checkpoints, history and the model. A run that was interrupted resumes from its
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
    device : str or torch.device
        "cpu", "cuda", "cuda:1", "mps", or "auto": CUDA where there is one, and otherwise the CPU.
    devices : int
        Number of processes that share each batch: new ones on the cores or GPUs of this machine, from
        a script, a notebook or a test alike; or the processes that torchrun or Slurm has started,
        each of which calls `fit` with the same arguments. `batch` is what they take together.
        Noise differs from process to process, and so from that of a single one; it is the same in
        each run on the same number of processes, which share the threads of the caller.
    precision : {"32-true", "64-true", "bf16-mixed"}
        As in Lightning Fabric.
    compile : bool
        Compile the loss (torch.compile), of a model without derivatives in its loss. That takes about
        half a minute, and pays in long runs of what consists of many small operations, as flows do.
        Weights are those of a plain run up to rounding.
    watch : callable (model) -> dict of str to float, optional
        Figures of the averaged model that go into the history at each validation.

    Returns
    -------
    History

    Raises
    ------
    LikelyError
        If an option is out of range, there are two budgets or no such device, or the loss cannot be
        compiled.
    RunError
        If one of several processes has ended.
    DomainError
        If model and data are on different domains.
    DataError
        If weights are negative, and the model does not train by gradients.
    DivergenceError
        If training has diverged; the last good checkpoint is kept.
    ArtifactError
        If `run` is not empty and not this run, or cannot be written; also a RunError, if the disk
        is full.
    """
    if not isinstance(data, Data):
        data = load_data(data, domain=model.domain)
    check_weights(model, data)
    if model.domain != data.domain or model.context != data.context:
        raise DomainError(
            "the model was built for another domain or context than the data's: "
            "build it with lk.make(name, data.domain, context=data.context)"
        )
    place = find_device(device)
    options = {
        "steps": steps,
        "epochs": epochs,
        "minutes": minutes,
        "seed": seed,
        "early_stopping": early_stopping,
        "batch": batch,
        "rate": rate,
        "weight_decay": weight_decay,
        "clip": clip,
        "ema": ema,
        "device": str(place),
        "devices": devices,
        "precision": precision,
        "compile": compile,
    }
    plan = Plan.of(model, len(data.train), options)
    alone = Fabric(
        accelerator=place.type,
        devices=1 if place.index is None else [place.index],
        precision=precision,
        plugins=LightningEnvironment(),
    )
    fabric = processes.joined(devices, place.type, precision) or alone
    if devices > fabric.world_size and alone.device.type != "cpu":
        there_are = torch.accelerator.device_count()
        if there_are < devices:
            raise LikelyError(
                f"devices={devices}, but there are {there_are} of type {alone.device.type}: give "
                f'fewer, or device="cpu"'
            )
    folder = None
    if run is not None:
        config = {
            "version": __version__,
            **provenance(place),
            "model": configuration(model),
            "data": {"source": data.name, "fingerprint": data.fingerprint()},
            "fit": asdict(plan),
        }
        folder = processes.first(fabric, partial(RunFolder, run, config))
    if precision == "64-true":
        model.double()
    seen = checksum({"x": data.train.subset(PREPARE_ENTRIES).x})
    if model.fitted_to not in (None, seen) and not isinstance(model, FitsByEpochs):
        warnings.warn(
            "the model was fitted to other data before, and keeps their scales and its weights; for a fit "
            "from the start make a new one with lk.make",
            stacklevel=2,
        )
    model.fitted_to = seen
    if folder is not None and folder.complete:
        warnings.warn(f"{run}: this run is complete, there is nothing left to do", stacklevel=2)
        history = processes.first(fabric, partial(folder.read_result, model))
        processes.share_weights(fabric, model)
        model.eval()
        return history
    arguments = data, plan, folder, progress, watch
    if devices == fabric.world_size:
        return _train(fabric, model, *arguments)
    history = processes.launch(
        _train, model, *arguments, devices=devices, device=place.type, precision=precision
    )
    model.to(alone.device).eval()
    return history


def check_weights(model: GenerativeModel, data: Data) -> None:
    """Raise if there are negative weights and the model does not train by gradients.

    Raises
    ------
    DataError
    """
    weight = data.train.weight
    if weight is not None and (weight < 0).any() and isinstance(model, FitsByEpochs):
        raise DataError(
            f"{data.name}: some weights are negative, and {type(model).__name__} trains by sums of weighted "
            "rows, which must be positive; take a model that trains by gradients, such as nsf, or draw rows "
            "with positive weights first"
        )


@torch.inference_mode(False)
@torch.enable_grad()
def _train(
    fabric: Fabric,
    model: GenerativeModel,
    data: Data,
    plan: Plan,
    folder: RunFolder | None,
    progress: bool,
    watch: Watch | None,
) -> History:
    """The fit, in each of its processes."""
    loop = Passes if isinstance(model, FitsByEpochs) else Gradients
    if folder is not None:
        folder.writes = fabric.is_global_zero
    memory.reset_peak()
    bar = Progress(type(model).__name__, progress and fabric.is_global_zero)
    with seeded(plan.seed + 1_000_003 * fabric.global_rank, fabric.device), bar:
        return loop(model, DataSource(data), plan, fabric, watch).run(folder, bar)
