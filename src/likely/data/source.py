"""Sources: whatever `load_data` takes, as a `Table`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from likely.core.errors import DataError
from likely.core.target import Target
from likely.data import builtin
from likely.data.readers.arrays import assemble, read_npy, read_npz
from likely.data.readers.hdf5 import read_hdf5
from likely.data.readers.images import read_images
from likely.data.readers.tables import read_csv, read_parquet
from likely.data.readers.text import read_text
from likely.data.table import Table, as_values, from_target


def read(source: Any, seed: int = 0) -> Table:
    """Read whatever `load_data` takes.

    Raises
    ------
    DataError
        If the source is missing, empty, damaged, or of an unknown kind.
    """
    if isinstance(source, str) and source in builtin.names():
        return builtin.read(source, seed)
    if isinstance(source, str | Path):
        return _read_path(str(source))
    if isinstance(source, Target):
        return from_target(source, seed)
    if isinstance(source, dict):
        return assemble(
            "the data", list(source), lambda key: as_values(source[key], f"the data, {key}")
        )
    if isinstance(source, list) and source and all(isinstance(line, str) for line in source):
        return Table("the data", source)
    return Table("the data", as_values(source, "the data"))


READERS: dict[str, Callable[[Path, list[str]], Table]] = {
    ".npy": read_npy,
    ".npz": read_npz,
    ".csv": read_csv,
    ".tsv": read_csv,
    ".parquet": read_parquet,
    ".h5": read_hdf5,
    ".hdf5": read_hdf5,
    ".txt": read_text,
}


def _read_path(text: str) -> Table:
    """Read a file or a folder; `file::key` and `file::a,b` name arrays in it."""
    name, _, keys = text.partition("::") if not Path(text).exists() else (text, "", "")
    path = Path(name)
    if not path.exists():
        raise DataError(
            f"{name}: there is no such file or folder; built-in data are {', '.join(builtin.names())}"
        )
    if path.is_dir():
        return read_images(path)
    read_file = READERS.get(path.suffix.lower())
    if read_file is None:
        raise DataError(
            f"{path}: files of type {path.suffix!r} cannot be read; convert to one of "
            f"{', '.join(READERS)}"
        )
    if keys and read_file not in (read_npz, read_hdf5):
        raise DataError(
            f"{text}: only .npz and .h5 files hold arrays by name; leave '::{keys}' out"
        )
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty")
    try:
        return read_file(path, [key.strip() for key in keys.split(",")] if keys else [])
    except DataError:
        raise
    except Exception as error:  # whatever a library says of a damaged file
        reason = " ".join(str(error).split()) or type(error).__name__
        if "pickle" in reason or "Python objects" in reason:
            reason = "it holds pickled Python objects, which are never loaded: save numbers"
        raise DataError(
            f"{path}: not a readable {path.suffix} file ({reason}); restore it or convert it again"
        ) from error
