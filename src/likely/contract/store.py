"""Models as files: `save` and `load`."""

from pathlib import Path
from typing import Any

import torch

from likely._version import __version__
from likely.contract.model import GenerativeModel
from likely.contract.registry import make, name_of
from likely.core.domain import Domain
from likely.core.errors import ArtifactError, LikelyError
from likely.core.files import read_tensors, write_tensors
from likely.core.runtime import find_device


def configuration(model: GenerativeModel) -> dict[str, Any]:
    """What it takes to build a model again, and those that are its options: JSON-able."""

    def option(value: Any) -> Any:
        if isinstance(value, GenerativeModel):
            return {"model": configuration(value)}
        return tuple(map(option, value)) if isinstance(value, tuple) else value

    return {
        "name": name_of(model),
        "domain": model.domain.to_json(),
        "context": None if model.context is None else model.context.to_json(),
        "hyperparameters": {name: option(v) for name, v in model.hyperparameters.items()},
    }


def build(config: dict[str, Any]) -> GenerativeModel:
    """The (untrained) model that a configuration describes."""

    def option(value: Any) -> Any:
        if isinstance(value, dict):
            return build(value["model"])
        return tuple(map(option, value)) if isinstance(value, list | tuple) else value

    given = {name: option(value) for name, value in config["hyperparameters"].items()}
    context = None if config["context"] is None else Domain.from_json(config["context"])
    return make(config["name"], Domain.from_json(config["domain"]), context=context, **given)


def save(model: GenerativeModel, path: str | Path) -> None:
    """Save a model: one `.safetensors` file with its configuration and a checksum.

    Parameters
    ----------
    model : GenerativeModel
        Of a registered class.
    path : str or Path

    Raises
    ------
    ArtifactError
        If the file cannot be written; an existing one is then untouched.
    """
    dtype = str(model.parameter_dtype).removeprefix("torch.")
    description = {"version": __version__, "dtype": dtype, "model": configuration(model)}
    write_tensors(path, model.state_dict(), description)


def load(path: str | Path, device: str | torch.device = "cpu") -> GenerativeModel:
    """Load a model that `save` wrote, in evaluation mode.

    Parameters
    ----------
    path : str or Path
        The file, or a run folder that holds `model.safetensors`.
    device : str or torch.device
        "cpu", "cuda", "cuda:1", "mps", or "auto": CUDA where there is one, and otherwise the CPU.

    Raises
    ------
    ArtifactError
        If the file is missing, damaged, or not a model that this version knows; or the run has not
        been completed. Nothing in it is ever executed.
    LikelyError
        If there is no such device.
    """
    path, place = Path(path), find_device(device)
    if path.is_dir():
        path = path / "model.safetensors"
    if not path.exists() and (path.parent / "config.json").exists():
        raise ArtifactError(
            f"{path.parent}: this fit was interrupted, or has not ended yet, and there is no model; go on "
            f"with the same `likely fit … --out {path.parent}`, or lk.fit(…, run=…)"
        )
    tensors, description = read_tensors(path)
    try:
        model = build(description["model"])
        model.to(getattr(torch, description["dtype"]))
        model.load_state_dict(tensors)
    except (LikelyError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        what = str(error) if isinstance(error, LikelyError) else f"{type(error).__name__}: {error}"
        raise ArtifactError(f"{path}: {' '.join(what.split())}; {_remedy(description)}") from error
    return model.to(place).eval()


def _remedy(description: Any) -> str:
    """What to do about a model that cannot be built."""
    version = description.get("version") if isinstance(description, dict) else None
    if version is None:
        return "this is not a model that lk.save wrote"
    if version != __version__:
        return f"likely {version} wrote it, and this is {__version__}: load it with that version"
    return "if the model is your own, import the file that registers it first"
