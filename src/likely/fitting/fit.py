"""fit: the one training loop, for every family.

What is trained by gradients hands out `Objective`s; what isn't (EM, Hebbian storage) has an `epoch`.
Both get the same budget, validation, history, checkpoints and progress.
"""

import importlib.util
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
from likely.core.random import seeded
from likely.core.runtime import find_device
from likely.core.target import Target
from likely.data import Data, load_data
from likely.fitting import memory, processes
from likely.fitting.energy import EnergySource, check_target
from likely.fitting.folder import RunFolder
from likely.fitting.gradients import Gradients
from likely.fitting.history import History
from likely.fitting.loop import OnValidation, Watch
from likely.fitting.passes import Passes
from likely.fitting.plan import Plan
from likely.fitting.progress import Progress
from likely.fitting.sources import DataSource, Source
from likely.integrations import TensorBoard


def fit(
    model: GenerativeModel,
    source: Any,
    *,
    data: Any = None,
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
    accumulate: int = 1,
    precision: Literal["32-true", "64-true", "bf16-mixed"] = "32-true",
    compile: bool = False,
    watch: Watch | None = None,
    on_validation: OnValidation | None = None,
    gradient: Literal["path", "reparametrised", "reinforce"] | None = None,
    annealing: float | None = None,
    energy_cut: float | None = None,
    pilot: bool | None = None,
) -> History:
    """Train a model on rows or on an energy; it then holds its best weights by validation.

    With a budget (one of `steps`, `epochs`, `minutes`) the learning rate falls to zero as a cosine
    over it; without one, it falls when validation stops improving, and then training stops; a model
    without a likelihood has a default number of steps. Weights are averaged (EMA), and it is the
    average that is validated and kept; a model without a likelihood keeps the last one. A step whose
    loss or gradient is not finite is skipped and counted.

    On an energy E it is the variational free energy F = E_q[log q + E] ≥ −log Z that falls; no rows are
    needed. Validations draw with fixed noise: the history has F as `free_energy` (its negative as
    `valid`), the deviation of the log-weights, their effective part `ess`, and the share of the largest.

    Parameters
    ----------
    model : GenerativeModel
        On the domain of the data or the target; it is trained in place.
    source : Data, or anything that `load_data` reads, or a Target with an energy
    data : Data, or anything that `load_data` reads, optional
        Rows beside the energy, such as a tempered chain: their negative log-likelihood is added to F,
        so that no mode is lost that they hold.
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
        Rows of a batch; by default the family's, or 1024 draws of a discrete model on an energy, and at
        most an eighth of the training rows and about 130,000 numbers.
    rate, weight_decay, clip, ema : float, optional
        Learning rate, weight decay of matrices (AdamW), largest norm of a gradient, decay of the
        averaged weights; by default the family's `recipe`, and no decay of a discrete model on an energy.
    device : str or torch.device
        "cpu", "cuda", "cuda:1", "mps", or "auto": CUDA where there is one, and otherwise the CPU.
    devices : int
        Number of processes that share each batch: new ones on the cores or GPUs of this machine, from
        a script, a notebook or a test alike; or the processes that torchrun or Slurm has started,
        each of which calls `fit` with the same arguments. `batch` is what they take together.
        Noise differs from process to process, and so from that of a single one; it is the same in
        each run on the same number of processes, which share the threads of the caller.
    accumulate : int
        Parts in which a process goes through its rows of a batch, adding up their gradients: a batch then
        needs the memory of one part. The step is that of the whole batch, up to rounding, where the loss
        is a sum over rows; noise is drawn for each part.
    precision : {"32-true", "64-true", "bf16-mixed"}
        As in Lightning Fabric.
    compile : bool
        Compile the loss (torch.compile), of a model without derivatives in its loss. That takes about
        half a minute, and pays in long runs of what consists of many small operations, as flows do.
        Weights are those of a plain run up to rounding.
    watch : callable (model) -> dict of str to float, optional
        Figures of the averaged model that go into the history at each validation.
    on_validation : callable (step, row, model), optional
        Called after each validation with the new row of the history and the averaged model, in the first
        of several processes, with random numbers of its own; a resumed run calls it with no row twice. It
        may raise `lk.Stop("why")`: training ends as if its budget were spent, and `History.stopped` says
        why. `likely.integrations` has some for other tools. TensorBoard is told if it is installed and
        `run` is given.
    gradient : {"path", "reparametrised", "reinforce"}, optional
        Of the free energy: along the draws without or with the part whose mean is zero, or by the
        score of q. By default the first that the family has; discrete ones have the last only.
    annealing : float, optional
        Part of the budget in which β rises from 0 to 1 in β E − (1 − β) log r, where r is a simple
        reference: 0.2 on a discrete domain, and otherwise 0. Validation is at β = 1.
    energy_cut : float, optional
        Energies above it grow as a logarithm only, in training and validation; how many did is in the
        history as `cut`.
    pilot : bool, optional
        Take shift and scale of real columns from a short run of HMC on the energy, in place of the
        reference: mean 0 and deviation 1 in each column's chart.

    Returns
    -------
    History

    Raises
    ------
    LikelyError
        If an option is out of range, there are two budgets or no such device, the loss cannot be
        compiled, the family cannot be trained on an energy, or this is not a real number for each row.
    RunError
        If one of several processes has ended.
    DomainError
        If model and data are on different domains.
    DataError
        If weights are negative, and the model does not train by gradients.
    DivergenceError
        If training has diverged, or the energy has no lower bound; the last good checkpoint is kept.
    ArtifactError
        If `run` is not empty and not this run, or cannot be written; also a RunError, if the disk
        is full.
    """
    target = source if isinstance(source, Target) else None
    if target is None:
        if data is not None:
            raise LikelyError(
                "data: these are rows beside an energy; give rows as the second argument"
            )
        data = source
    else:
        check_target(model, target)
    if data is not None:
        data = _accepted(model, data)
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
        "accumulate": accumulate,
        "precision": precision,
        "compile": compile,
        "gradient": gradient,
        "annealing": annealing,
        "energy_cut": energy_cut,
        "pilot": pilot,
    }
    n = None if data is None else len(data.train)
    plan = Plan.of(model, n, options, energy=target is not None)
    training: Source = DataSource(data) if target is None else EnergySource(target, plan, data)
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
            "data": training.describe(),
            "fit": asdict(plan),
        }
        folder = processes.first(fabric, partial(RunFolder, run, config))
    if precision == "64-true":
        model.double()
    seen = training.checksum()
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
    told = [] if on_validation is None else [on_validation]
    if run is not None and importlib.util.find_spec("tensorboard") is not None:
        told.insert(0, TensorBoard(Path(run) / "tensorboard"))
    arguments = training, plan, folder, progress, watch, told
    if devices == fabric.world_size:
        return _train(fabric, model, *arguments)
    history = processes.launch(
        _train, model, *arguments, devices=devices, device=place.type, precision=precision
    )
    model.to(alone.device).eval()
    return history


def _accepted(model: GenerativeModel, data: Any) -> Data:
    """The data, after a look whether they are the model's."""
    if not isinstance(data, Data):
        data = load_data(data, domain=model.domain)
    check_weights(model, data)
    if model.domain != data.domain or model.context != data.context:
        raise DomainError(
            "the model was built for another domain or context than the data's: "
            "build it with lk.make(name, data.domain, context=data.context)"
        )
    return data


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
    source: Source,
    plan: Plan,
    folder: RunFolder | None,
    progress: bool,
    watch: Watch | None,
    told: list[OnValidation],
) -> History:
    """The fit, in each of its processes."""
    loop = Passes if isinstance(model, FitsByEpochs) else Gradients
    if folder is not None:
        folder.writes = fabric.is_global_zero
    memory.reset_peak()
    bar = Progress(type(model).__name__, progress and fabric.is_global_zero)
    with seeded(plan.seed + 1_000_003 * fabric.global_rank, fabric.device), bar:
        return loop(model, source, plan, fabric, watch, told).run(folder, bar)
