"""Arrays that are too large for memory and lie in their files in pieces: copied once, then mapped."""

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from likely.core.files import written_whole


def mapped(
    files: Sequence[Path],
    key: str,
    shape: Sequence[int],
    dtype: np.dtype,
    parts: Iterable[np.ndarray],
) -> tuple[np.memmap, str]:
    """What the parts hold together, mapped from a copy in the user's cache, and a note on that.

    The copy is made once, unless one of the files changes.

    Parameters
    ----------
    files : sequence of Path
        Where the parts come from.
    key : str
        What of the files they are.
    shape : sequence of int
    dtype : dtype
    parts : iterable of ndarray
        In order; read only if there is no copy yet.

    Raises
    ------
    ArtifactError
        If the copy cannot be written, as where the disk is full.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "likely"
    states = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    about = json.dumps([states, key, [*shape], str(dtype)])
    path = cache / f"{hashlib.sha256(about.encode()).hexdigest()[:32]}.npy"
    if not path.exists():
        header = {"descr": dtype.str, "fortran_order": False, "shape": tuple(shape)}
        with written_whole(path) as file:
            np.lib.format.write_array_header_1_0(file, header)
            for part in parts:
                file.write(np.ascontiguousarray(part, dtype).data)
    note = (
        f"too large for memory, and read from a copy, {path}; XDG_CACHE_HOME says where copies lie"
    )
    return np.load(path, mmap_mode="r"), note
