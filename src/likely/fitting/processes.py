"""Several processes that train one model: how they start, what they tell each other, how they end.

Every process holds the whole model and takes its part of each batch. Parameters stay the same in all
of them, because they start so and gradients are averaged. Generators, `training_state` and buffers
that a step moves are each process's own; of the buffers, the first one's are validated and kept. What
depends on a clock, on a validation or on a file is decided by the first process. With one process all
of this does nothing.
"""

import contextlib
import json
import logging
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import cloudpickle
import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from lightning_fabric.plugins import environments
from lightning_fabric.strategies import DDPStrategy
from lightning_fabric.utilities import move_data_to_device
from torch import Tensor, nn
from torch.multiprocessing.spawn import ProcessContext, ProcessException, start_processes

from likely.contract import registry
from likely.contract.model import GenerativeModel
from likely.core import errors, files
from likely.core.errors import LikelyError, RunError
from likely.core.runtime import children_ignore_interrupts
from likely.fitting.history import History

# After which a process that is alive but does not answer is given up.
SILENCE = timedelta(minutes=10)
GRACE = 5.0  # seconds in which the others say what they know, once a process has failed

T = TypeVar("T")


class Lost(RunError):
    """The others do not answer: what this process says of a failure that is not its own."""


# What the processes tell each other.


def part(fabric: Fabric, index: Tensor) -> Tensor:
    """This process's part of the rows of a batch; parts differ by one row at most."""
    return index.tensor_split(fabric.world_size)[fabric.global_rank]


def average_gradients(
    fabric: Fabric, loss: Tensor, parameters: list[nn.Parameter], share: float
) -> Tensor:
    """Replace gradients by those of the whole batch, of which this process has seen a `share`.

    Returns
    -------
    Tensor, shape ()
        The loss of the whole batch.
    """
    if fabric.world_size == 1:
        return loss
    used = torch.tensor([float(p.grad is not None) for p in parameters], device=loss.device)
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    parts = [loss.detach().reshape(1), used, *(gradient.reshape(-1) for gradient in gradients)]
    flat = torch.cat(parts) * share
    with _answered(fabric):
        dist.all_reduce(flat)
    total, used, *means = flat.split([len(part) for part in parts])
    for parameter, by_any, mean in zip(parameters, used.tolist(), means, strict=True):
        # The optimizer passes over what no process has used.
        parameter.grad = mean.view_as(parameter).to(parameter) if by_any else None
    return total[0]


def first(fabric: Fabric, make: Callable[[], T]) -> T:
    """What `make` gives in the first process, or the error that it raises, in all of them."""
    if fabric.world_size == 1:
        return make()
    outcome: Any = None
    cause: Exception | None = None
    if fabric.is_global_zero:
        try:
            outcome = make()
        except LikelyError as error:
            outcome = error
        except Exception as error:  # the others must not wait for an answer
            outcome, cause = RunError(f"process 1: {type(error).__name__}: {error}"), error
    with _answered(fabric):
        outcome = fabric.broadcast(outcome)
    if isinstance(outcome, LikelyError):
        raise cause or outcome
    return outcome


def agree(fabric: Fabric, *numbers: float) -> list[float]:
    """The first process's numbers, in one message: for what is asked at every step."""
    if fabric.world_size == 1:
        return list(numbers)
    message = torch.tensor(numbers, dtype=torch.float64, device=fabric.device)
    with _answered(fabric):
        dist.broadcast(message, 0)
    return message.tolist()


def share_weights(fabric: Fabric, model: nn.Module) -> None:
    """Give every process the first one's parameters and buffers."""
    if fabric.world_size > 1:
        weights = first(fabric, lambda: move_data_to_device(model.state_dict(), "cpu"))
        model.load_state_dict(weights)


def gather(fabric: Fabric, value: T) -> list[T]:
    """The values of all processes, in the first; nothing in the others."""
    if fabric.world_size == 1:
        return [value]
    values: Any = [None] * fabric.world_size if fabric.is_global_zero else None
    with _answered(fabric):
        dist.gather_object(move_data_to_device(value, "cpu"), values)
    return values or []


@contextlib.contextmanager
def _answered(fabric: Fabric) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise Lost(
            f"process {fabric.global_rank + 1} of {fabric.world_size} has lost the others "
            f"({str(error).strip().splitlines()[0]}): one of them has ended or does not answer"
        ) from error


# How they start.


def joined(devices: int, device: str, precision: Any) -> Fabric | None:
    """This process's place in the world that torchrun or Slurm has started; None outside of one.

    None too if one process is wanted: then each process of a world has a fit of its own.

    Raises
    ------
    LikelyError
        If the world has another number of processes.
    """
    if devices == 1:
        return None
    kinds = environments.TorchElasticEnvironment, environments.SLURMEnvironment
    try:
        world = next((kind() for kind in kinds if kind.detect()), None)
    except RuntimeError as error:  # Slurm's options are not those that Fabric takes; it says which
        raise LikelyError(str(error)) from error
    if world is None or (started := world.world_size()) == 1:
        return None
    if started != devices:
        raise LikelyError(
            f"devices={devices}, but {started} processes have been started: give devices={started}"
        )
    nodes = os.environ.get("GROUP_WORLD_SIZE") or os.environ.get("SLURM_NNODES") or "1"
    return _place(world, devices, int(nodes), device, precision)


def _place(
    world: environments.ClusterEnvironment, devices: int, nodes: int, device: str, precision: Any
) -> Fabric:
    """A process's Fabric, once all processes are there."""
    fabric = Fabric(
        accelerator=device,
        devices=devices // nodes,
        num_nodes=nodes,
        precision=precision,
        strategy=DDPStrategy(timeout=SILENCE),
        plugins=world,
    )
    threads = torch.get_num_threads()
    fabric.launch()
    torch.set_num_threads(threads)
    return fabric


def launch(
    train: Callable[..., History],
    model: GenerativeModel,
    *arguments: Any,
    devices: int,
    device: str,
    precision: Any,
) -> History:
    """Call `train(fabric, model, *arguments)` in new processes; the model gets their weights.

    The processes are fresh interpreters, which share this one's threads. They get everything from a
    file, classes and functions of the caller's script or notebook by value, so that the script is not
    run again in them, and arrays are not copied for each.

    Raises
    ------
    LikelyError
        The one that a process raised, or what has befallen it; then the others are ended.
    """
    script = {k: e for k, e in registry.entries().items() if e.cls.__module__ == "__main__"}
    with tempfile.TemporaryDirectory(prefix="likely-") as folder:
        task = train, model, arguments, script
        with files.written_whole(Path(folder) / "task") as file:
            torch.save(task, file, pickle_module=cloudpickle)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        threads = max(1, torch.get_num_threads() // devices)
        settings = folder, port, threads, devices, device, precision
        # It would tell that it ends the others, which the error says.
        logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)
        with _without_main(), children_ignore_interrupts():
            context = start_processes(
                _work, settings, devices, join=False, daemon=True, start_method="spawn"
            )
        try:
            while not context.join(grace_period=GRACE):
                pass
        except ProcessException as error:
            raise _failure(context, error, Path(folder)) from error
        finally:
            for process in context.processes:
                process.kill()
                process.join()
        result = files.read_tree(Path(folder) / "result")
    model.load_state_dict(result["model"])
    return History(**result["history"])


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """Keep new processes from importing the script or notebook that this one runs."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _work(
    rank: int, folder: str, port: int, threads: int, devices: int, device: str, precision: Any
) -> None:
    """What a new process does: take its place, train, and leave behind the result or the error."""
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "NODE_RANK": 0, "LOCAL_RANK": rank}
    os.environ |= {name: str(value) for name, value in place.items()}
    torch.set_num_threads(threads)
    try:
        # Our own file, in a folder that nobody else may write to.
        train, model, arguments, script = torch.load(
            Path(folder) / "task", map_location="cpu", mmap=True, weights_only=False
        )
        registry._entries.update(script)
        fabric = _place(environments.LightningEnvironment(), devices, 1, device, precision)
        if rank == 0:
            # Now all have it; a kill would leave the data there. Windows keeps what is mapped.
            with contextlib.suppress(OSError):
                (Path(folder) / "task").unlink()
        history = train(fabric, model, *arguments)
        if rank == 0:
            result = {"model": dict(model.state_dict()), "history": vars(history)}
            files.write_tree(Path(folder) / "result", result)
        dist.destroy_process_group()
    except Exception as error:
        report = {"type": type(error).__name__, "message": str(error)}
        files.write_json(Path(folder) / f"error-{rank}", report)
        raise


# How they end.


def _failure(context: ProcessContext, error: ProcessException, folder: Path) -> LikelyError:
    """What has befallen which process: its own error comes before what the others say of it."""
    of = f"of {len(context.processes)}"
    lost = None
    for rank in range(len(context.processes)):
        if not (file := folder / f"error-{rank}").exists():
            continue
        report = json.loads(file.read_text())
        if report["type"] == Lost.__name__:
            lost = Lost(report["message"])
        elif hasattr(errors, report["type"]):
            return getattr(errors, report["type"])(report["message"])
        else:
            message = " ".join(report["message"].split())
            return RunError(f"process {rank + 1} {of}: {report['type']}: {message}")
    for rank in (error.error_index, *range(len(context.processes))):
        code = context.processes[rank].exitcode
        if code < 0:
            return RunError(
                f"process {rank + 1} {of} was killed by {signal.Signals(-code).name}; if memory ran "
                "out, take a smaller batch; a fit with a run folder goes on from its last checkpoint"
            )
    return lost or RunError(str(error).strip().splitlines()[-1])
