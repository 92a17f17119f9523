"""Files: trees of tensors in one `.safetensors` file, written whole or not at all, never pickled.

The metadata of a file holds a JSON description, a SHA-256 of the tensors and the number of the format.
"""

import contextlib
import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from likely._version import __version__
from likely.core.errors import ArtifactError, SpaceError

FORMAT = 1  # of what is written; files without a number are of format 1
PART = ".part"  # ending of a file that is being written


@contextlib.contextmanager
def written_whole(path: str | Path) -> Iterator[IO[bytes]]:
    """A binary file that replaces `path` once it is complete and on the disk, and not before.

    Raises
    ------
    ArtifactError
        If the file cannot be written; what was there before stays. SpaceError, if the disk is full.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=f".{path.name}.", suffix=PART, delete=False
        ) as file:
            temporary = Path(file.name)
            yield file
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
        _sync(path.parent)
    except OSError as error:
        kind = SpaceError if error.errno in (errno.ENOSPC, errno.EDQUOT) else ArtifactError
        raise kind(
            f"{path}: cannot be written ({error.strerror or error}); "
            "free some space or choose another place"
        ) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):  # the disk may have become read-only
                temporary.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    """Bring a folder's names to the disk, where the system can: else a power cut may undo a rename."""
    with contextlib.suppress(OSError):
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with written_whole(path) as file:
        file.write(text.encode())


def write_json(path: str | Path, data: dict[str, Any]) -> None:
    """Write an object as a JSON file, whole or not at all, with the number of the format."""
    write_text(path, json.dumps({"format": FORMAT, **data}, indent=2, allow_nan=False) + "\n")


def read_json(path: str | Path) -> dict[str, Any]:
    """The object in a JSON file, without the number of its format.

    Raises
    ------
    ArtifactError
        If it cannot be read, or is of a newer format.
    """
    try:
        found = dict(json.loads(Path(path).read_text(encoding="utf-8")))
        _check_format(path, found.pop("format", 1))
        return found
    except (OSError, ValueError, TypeError) as error:
        raise ArtifactError(f"{path}: cannot be read ({error}); restore it or fit again") from error


def _check_format(path: str | Path, number: Any) -> None:
    if int(number) > FORMAT:
        raise ArtifactError(
            f"{path}: of format {number}, and likely {__version__} reads formats up to {FORMAT}: "
            "update likely"
        )


def checksum(tensors: dict[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def write_tensors(path: str | Path, tensors: dict[str, Tensor], description: Any) -> None:
    """Write tensors with a JSON description."""
    tensors = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    metadata = {
        "likely": json.dumps(description),
        "sha256": checksum(tensors),
        "format": str(FORMAT),
    }
    content = memoryview(to_bytes(tensors, metadata))
    start = 8 + int.from_bytes(content[:8], "little")
    # In an order of its own, so that the same tensors are the same bytes: safetensors takes any.
    header = json.loads(bytes(content[8:start])) | {"__metadata__": metadata}
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    with written_whole(path) as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        file.write(content[start:])


def read_tensors(path: str | Path) -> tuple[dict[str, Tensor], Any]:
    """The tensors and the description that `write_tensors` wrote.

    Raises
    ------
    ArtifactError
        If the file is missing, damaged, of a newer format, or not one of ours.
    """
    path = Path(path)
    if not path.is_file():
        raise ArtifactError(f"{path}: there is no such file")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            if "likely" not in metadata or "sha256" not in metadata:
                raise ArtifactError(f"{path}: a safetensors file, but not written by likely")
            _check_format(path, metadata.get("format", "1"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            description = json.loads(metadata["likely"])
    except (SafetensorError, OSError, ValueError) as error:
        raise ArtifactError(
            f"{path}: not a readable safetensors file ({error}); it is damaged or of another kind, "
            "restore it or fit again"
        ) from error
    if checksum(tensors) != metadata["sha256"]:
        raise ArtifactError(f"{path}: its checksum is wrong, the file is damaged; restore it")
    return tensors, description


def write_tree(path: str | Path, tree: Any) -> None:
    """Write nested dictionaries and lists of tensors, numbers, strings and None."""
    tensors: dict[str, Tensor] = {}

    def strip(node: Any) -> Any:
        if isinstance(node, Tensor):
            tensors[str(len(tensors))] = node
            return {"tensor": str(len(tensors) - 1)}
        if isinstance(node, dict):
            return {"items": [[key, strip(value)] for key, value in node.items()]}
        if isinstance(node, list | tuple):
            return [strip(value) for value in node]
        return node

    description = strip(tree)
    write_tensors(path, tensors, description)


def read_tree(path: str | Path) -> Any:
    """The tree that `write_tree` wrote; tuples come back as lists."""
    tensors, description = read_tensors(path)

    def fill(node: Any) -> Any:
        if isinstance(node, dict):
            if "tensor" in node:
                return tensors[node["tensor"]]
            return {key: fill(value) for key, value in node["items"]}
        return [fill(value) for value in node] if isinstance(node, list) else node

    return fill(description)
