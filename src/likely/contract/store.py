"""Models as files: `save` and `load`."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from likely._version import __version__
from likely.contract.model import GenerativeModel
from likely.contract.networks import find_module, recorded
from likely.contract.registry import make, name_of
from likely.core.domain import Domain
from likely.core.errors import ArtifactError, LikelyError
from likely.core.files import read_tensors, write_tensors
from likely.core.hub import HUB, fetch
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
        "hyperparameters": described(model.hyperparameters),
    }


def described(options: dict[str, Any]) -> dict[str, Any]:
    """Options of a model or a network, JSON-able."""

    def one(value: Any) -> Any:
        if isinstance(value, GenerativeModel):
            return {"model": configuration(value)}
        if isinstance(value, nn.Module):
            name, arguments = recorded(value)
            own = type(value).__name__
            if name is None:
                return {"module": own, "arguments": None}
            arguments = described(arguments)
            try:
                json.dumps(arguments)
            except TypeError as error:
                raise LikelyError(
                    f"the arguments of the network {own} cannot be saved ({error}): give numbers and names"
                ) from error
            return {"module": name, "arguments": arguments}
        return tuple(map(one, value)) if isinstance(value, tuple) else value

    return {name: one(value) for name, value in options.items()}


def build(config: dict[str, Any], networks: dict[str, nn.Module] | None = None) -> GenerativeModel:
    """The (untrained) model that a configuration describes.

    Raises
    ------
    ArtifactError
        If it has a network that is neither registered nor among the given ones.
    """

    def built(name: str, value: Any) -> Any:
        if isinstance(value, dict) and "model" in value:
            return build(value["model"])
        if isinstance(value, dict):
            cls, arguments = value["module"], value["arguments"]
            if arguments is None:
                raise ArtifactError(
                    f"its {name} is a {cls}, a network that is not registered: pass it again, "
                    f"lk.load(…, {name}={cls}(…)), or register its class with lk.register_module and save "
                    "the model again"
                )
            return find_module(cls)(**{key: built(key, part) for key, part in arguments.items()})
        if isinstance(value, list | tuple):
            return tuple(built(name, part) for part in value)
        return value

    given: dict[str, Any] = dict(networks or {})
    for name, value in config["hyperparameters"].items():
        if name not in given:
            given[name] = built(name, value)
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


def load(
    path: str | Path, device: str | torch.device = "cpu", **networks: nn.Module
) -> GenerativeModel:
    """Load a model that `save` wrote, in evaluation mode.

    Parameters
    ----------
    path : str or Path
        The file, a run folder that holds `model.safetensors`, or the address of a model on the Hugging Face
        Hub, "hf://user/name" or "hf://user/name@revision", where the extra `hub` is installed.
    device : str or torch.device
        "cpu", "cuda", "cuda:1", "mps", or "auto": CUDA where there is one, and otherwise the CPU.
    **networks
        Networks that were options of the model and whose classes are not registered, by the names of the
        options: `context_encoder=MyNetwork(…)`. They take the weights of the file.

    Raises
    ------
    ArtifactError
        If the file is missing, damaged, or not a model that this version knows; or the run has not
        been completed, or the Hub not be reached. Nothing in it is ever executed.
    LikelyError
        If there is no such device.
    """
    place = find_device(device)
    path = fetch(path) if isinstance(path, str) and path.startswith(HUB) else Path(path)
    if path.is_dir():
        path = path / "model.safetensors"
    if not path.exists() and (path.parent / "config.json").exists():
        raise ArtifactError(
            f"{path.parent}: this fit was interrupted, or has not ended yet, and there is no model; go on "
            f"with the same `likely fit … --out {path.parent}`, or lk.fit(…, run=…)"
        )
    tensors, description = read_tensors(path)
    try:
        model = build(description["model"], networks)
        model.to(getattr(torch, description["dtype"]))
        model.load_state_dict(tensors)
    except (LikelyError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        what = str(error) if isinstance(error, LikelyError) else f"{type(error).__name__}: {error}"
        remedy = "" if isinstance(error, ArtifactError) else f"; {_remedy(description)}"
        raise ArtifactError(f"{path}: {' '.join(what.split())}{remedy}") from error
    return model.to(place).eval()


def _remedy(description: Any) -> str:
    """What to do about a model that cannot be built."""
    version = description.get("version") if isinstance(description, dict) else None
    if version is None:
        return "this is not a model that lk.save wrote"
    if version != __version__:
        return f"likely {version} wrote it, and this is {__version__}: load it with that version"
    return "if the model is your own, import the file that registers it first"
