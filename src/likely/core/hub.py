"""The Hugging Face Hub, where models are files of a repository."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from likely.core.errors import ArtifactError, LikelyError

HUB = "hf://"
MODEL = "model.safetensors"


@contextlib.contextmanager
def hub(address: str) -> Iterator[Any]:
    """The library of the Hub; what goes wrong there becomes an `ArtifactError`."""
    try:
        import huggingface_hub
    except ImportError as error:
        raise LikelyError(f"{address}: this needs pip install 'likely[hub]'") from error
    try:
        yield huggingface_hub
    except Exception as error:  # of its own kinds, and of those of the libraries below it
        what = " ".join(f"{type(error).__name__}: {error}".split())
        raise ArtifactError(
            f"{address}: {what}; check the name and the network, and log in with `hf auth login` if it "
            "is yours or private"
        ) from error


def fetch(address: str) -> Path:
    """The file of the model at hf://user/name or hf://user/name@revision, in the Hub's cache.

    Raises
    ------
    ArtifactError
        If there is no such file, or the Hub cannot be reached.
    LikelyError
        If its library is not installed.
    """
    name, _, revision = address.removeprefix(HUB).partition("@")
    if name.count("/") != 1:
        raise ArtifactError(f"{address}: write it as {HUB}user/name, or {HUB}user/name@revision")
    with hub(address) as library:
        return Path(library.hf_hub_download(name, MODEL, revision=revision or None))
