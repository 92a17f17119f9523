"""Sources: whatever `load_data` takes, as a `Table`."""

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from glob import glob
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from likely.core.errors import DataError
from likely.core.target import Target
from likely.data import builtin
from likely.data.readers.arrays import assemble, from_dataset, read_npy, read_npz, stacked
from likely.data.readers.csv import csv_parts, read_csv
from likely.data.readers.fields import FITS, read_fits, read_fits_folder, read_lhe, read_root
from likely.data.readers.hdf5 import read_hdf5
from likely.data.readers.images import read_images
from likely.data.readers.tables import parquet_parts, read_feather, read_parquet
from likely.data.readers.text import read_text
from likely.data.table import Table, as_values, from_target


def read(
    source: Any, seed: int = 0, text: Sequence[str | int] = (), size: int | None = None
) -> Table:
    """Read whatever `load_data` takes; columns of `text` stay as they are written, where they are.

    FITS images are brought to `size` × `size` pixels.

    Raises
    ------
    DataError
        If the source is missing, empty, damaged, or of an unknown kind.
    """
    if isinstance(source, str) and source in builtin.names():
        return builtin.read(source, seed)
    if isinstance(source, str | Path):
        return _read_path(str(source), text, size)
    if isinstance(source, Target):
        return from_target(source, seed)
    if isinstance(source, dict):
        return assemble(
            "the data", list(source), lambda key: as_values(source[key], f"the data, {key}")
        )
    if isinstance(source, list) and source and all(isinstance(line, str) for line in source):
        return Table("the data", source)
    if isinstance(source, Dataset):
        return from_dataset(source)
    return Table("the data", as_values(source, "the data"))


def read_parts(source: Any, text: Sequence[str | int] = ()) -> Iterator[Table]:
    """A table in text or Parquet, files of them that match a pattern, or a folder, some rows at a time.

    Anything else is read as a whole, as `read` does.
    """
    path = Path(source) if isinstance(source, str | Path) else None
    files = [path] if path is None or path.exists() else [*map(Path, sorted(glob(str(path))))]
    readers = [_reader_of(file) if file is not None and file.exists() else None for file in files]
    if not readers or not {*readers} <= {read_csv, read_parquet}:
        yield read(source, text=text)
        return
    first = 0
    for file, reader in zip(files, readers, strict=True):
        assert file is not None
        with _readable(file):
            parts = csv_parts(file, text) if reader is read_csv else parquet_parts(file)
            for table in parts:
                yield replace(table, first=first)
                first += len(table.values)


Reader = Callable[..., Table]  # (path, keys)
READERS: dict[str, Reader] = {
    ".npy": read_npy,
    ".npz": read_npz,
    ".csv": read_csv,
    ".tsv": read_csv,
    ".dat": read_csv,
    ".parquet": read_parquet,
    ".feather": read_feather,
    ".arrow": read_feather,
    ".h5": read_hdf5,
    ".hdf5": read_hdf5,
    ".txt": read_text,
    ".root": read_root,
    **dict.fromkeys(FITS, read_fits),
    ".lhe": read_lhe,
}


def _read_path(name: str, text: Sequence[str | int], size: int | None) -> Table:
    """Read a file, several that match a pattern, or a folder; `file::key` and `file::a,b` name arrays."""
    file, _, keys = name.partition("::") if not Path(name).exists() else (name, "", "")
    if not keys and (tree := re.fullmatch(r"(.+\.root):([^/:][^:]*)", file)):  # as uproot writes it
        file, keys = tree.groups()
    path = Path(file)
    if not path.exists() and (parts := sorted(glob(file))):
        return stacked(
            name, [_read_path(f"{part}::{keys}".rstrip(":"), text, size) for part in parts]
        )
    if not path.exists():
        raise DataError(
            f"{file}: there is no such file or folder; built-in data are {', '.join(builtin.names())}"
        )
    read_file = _reader_of(path)
    if keys and read_file not in (read_npz, read_hdf5, read_root, read_fits):
        raise DataError(
            f"{name}: only .npz, .h5, .root and .fits files hold arrays by name; leave '::{keys}' out"
        )
    options: dict[Reader, dict[str, Any]] = {
        read_csv: {"text": text},
        read_fits: {"size": size},
        read_fits_folder: {"size": size},
    }
    if size is not None and "size" not in options.get(read_file, {}):
        raise DataError(
            f"{path}: holds no FITS images, which alone have a size; leave size= out (--size)"
        )
    names = [key.strip() for key in keys.split(",")] if keys else []
    with _readable(path):
        return read_file(path, names, **options.get(read_file, {}))


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Whatever a library says of a damaged file becomes a `DataError`."""
    if path.stat().st_size == 0 and path.is_file():
        raise DataError(f"{path}: the file is empty")
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        if "pickle" in reason or "Python objects" in reason:
            reason = "it holds pickled Python objects, which are never loaded: save numbers"
        raise DataError(
            f"{path}: not a readable {path.suffix} file ({reason}); restore it or convert it again"
        ) from error


def _reader_of(path: Path) -> Reader:
    """The reader of a folder or a file; tables in text may be compressed."""
    if path.is_dir():
        if any(part.suffix.lower() in FITS for part in path.iterdir()):
            return read_fits_folder
        return read_parquet if any(path.rglob("*.parquet")) else read_images
    suffixes = [suffix.lower() for suffix in path.suffixes]
    inner = READERS.get("".join(suffixes[-2:-1]))
    if suffixes[-1:] == [".gz"] and inner in (read_csv, read_text, read_fits, read_lhe):
        return inner
    read_file = READERS.get(path.suffix.lower())
    if read_file is None:
        raise DataError(
            f"{path}: files of type {path.suffix!r} cannot be read; convert to one of "
            f"{', '.join(READERS)}"
        )
    return read_file
