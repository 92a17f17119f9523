"""Formats of the field: ROOT, FITS and LHE, each by its own library, an extra of this one."""

from __future__ import annotations

import importlib
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from likely.core.errors import DataError
from likely.data.readers.arrays import centred
from likely.data.select import few
from likely.data.table import Table, as_frame, as_values, spread

JAGGED = (
    "is jagged: it has a varying number of values in each event; write branches with one value an event, "
    "such as the first value, their number or their sum"
)
FITS = (".fits", ".fit", ".fts")
KINEMATICS = ("px", "py", "pz", "e")


def library(module: str, extra: str, path: Path) -> Any:
    """A module that files of a format need.

    Raises
    ------
    DataError
        If it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise DataError(
            f"{path}: needs {module.split('.', maxsplit=1)[0]}: pip install 'likely[{extra}]'"
        ) from error


def read_root(path: Path, keys: list[str]) -> Table:
    """A tree of a ROOT file, `events.root:tree`, or the only one: branches with one value an event.

    Branches with several values an event become a column for each; those with a varying number of values
    are left out, and told.
    """
    uproot = library("uproot", "root", path)
    with uproot.open(path) as file:
        kinds = file.classnames(cycle=False)
        trees = [key for key, kind in kinds.items() if kind == "TTree" or "RNTuple" in kind]
        wanted = keys[0] if keys else trees[0] if len(trees) == 1 else None
        if wanted not in trees:
            raise DataError(
                f"{path}: holds the trees {', '.join(trees) or '– none'}; name one, as in "
                f"'{path}:{trees[0] if trees else 'tree'}'"
            )
        columns: dict[str, np.ndarray] = {}
        jagged = []
        for name, branch in file[wanted].items():
            values = branch.array(library="np")
            if values.dtype == object and not isinstance(values[:1].sum(), str):
                jagged.append(name)
            else:
                columns |= spread({name: values})
    title = f"{path}:{wanted}"
    if not columns:
        raise DataError(f"{title}: no branch has the same number of values in each event")
    table = Table(title, as_values(as_frame(columns, title), title))
    if jagged:
        table.notes = [
            f"branches with a varying number of values are left out: {', '.join(jagged)}"
        ]
        table.left_out = dict.fromkeys(jagged, JAGGED)
    return table


def read_fits(path: Path, keys: list[str], size: int | None = None) -> Table:
    """A table or images of a FITS file: the extension that is named, `stars.fits::SCI`, or the only one.

    A cube holds an image for each step along its first axis, and so do extensions with an image each; a
    file with one image is a row of these. Masked entries are missing. Images become `size` × `size` pixels
    around their middles, if that is given; otherwise they must have one size.
    """
    fits = library("astropy.io.fits", "fits", path)
    tables = library("astropy.table", "fits", path)
    with fits.open(path, memmap=False) as file:
        held = {hdu.name or str(i): hdu for i, hdu in enumerate(file) if hdu.data is not None}
        named = {**{str(i): hdu for i, hdu in enumerate(file)}, **{hdu.name: hdu for hdu in file}}
        if keys and keys[0] not in named:
            raise DataError(f"{path}: has no extension {keys[0]!r}; it holds {few([*held])}")
        chosen = [named[keys[0]]] if keys else [*held.values()]
        if not chosen or chosen[0].data is None:
            raise DataError(f"{path}: holds no data")
        if len(chosen) > 1 and any(np.ndim(hdu.data) != 2 for hdu in chosen):
            raise DataError(
                f"{path}: has several extensions that are not an image each, {few([*held])}; name one, as in "
                f"'{path}::{[*held][-1]}'"
            )
        title = f"{path}::{keys[0]}" if keys else str(path)
        if isinstance(chosen[0].data, fits.FITS_rec):
            with warnings.catch_warnings():  # those of logical columns, whose nulls are kept here
                warnings.filterwarnings("ignore", ".*contains NULL")
                table = tables.Table.read(chosen[0])
            columns = {name: _filled(table[name]) for name in table.colnames}
            raw = chosen[0].data.view(np.ndarray)
            for name, column in columns.items():
                if column.dtype == bool and (null := raw[name] == 0).any():  # neither T nor F
                    columns[name] = np.where(null, np.nan, column)
            return Table(title, as_values(as_frame(spread(columns), title), title))
        images = [np.asarray(hdu.data) for hdu in chosen]
    pixels, notes = centred(images, size, title)
    pixels = pixels if images[0].ndim == 2 else pixels[0]
    pixels = pixels.astype(pixels.dtype.newbyteorder("="))
    return Table(title, as_values(pixels, title), notes=notes)


def read_fits_folder(folder: Path, keys: list[str], size: int | None = None) -> Table:
    """The images of all FITS files of a folder, in the order of their names; `size` as in `read_fits`."""
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in FITS)
    tables = [read_fits(path, keys, size) for path in files]
    for table in tables:
        if np.ndim(table.values) != 3:
            raise DataError(
                f"{table.name}: holds no image; keep only files with images in the folder"
            )
    images = [image for table in tables for image in np.asarray(table.values)]
    pixels, _ = centred(images, size, str(folder))
    return Table(str(folder), pixels, notes=[note for table in tables for note in table.notes])


def _filled(column: Any) -> np.ndarray:
    """A column of a table of astropy, with NaN where it is masked, and text in Unicode."""
    if column.dtype.kind in "SU":
        texts = np.asarray(column).astype(str).astype(object)
        texts[np.ma.getmaskarray(column) | (texts == "")] = None  # an empty one is FITS's null
        return texts
    if np.ma.is_masked(column):
        return np.ma.filled(column.astype(float), np.nan)
    return np.asarray(column)


def read_lhe(path: Path, keys: list[str]) -> Table:
    """Events of a Les Houches file: momenta of the outgoing particles, in their order, and weights.

    The columns are `px0`, `py0`, `pz0`, `e0`, `px1` …, in GeV; the weights are another array, "weight".
    """
    pylhe = library("pylhe", "lhe", path)
    rows, weights = [], []
    for event in pylhe.LHEFile.fromfile(str(path)).events:
        outgoing = [particle for particle in event.particles if particle.status == 1]
        rows.append([getattr(particle, name) for particle in outgoing for name in KINEMATICS])
        weights.append(event.eventinfo.weight)
        if len(rows[-1]) != len(rows[0]):
            raise DataError(
                f"{path} (events counted from 0): event {len(rows) - 1} has {len(outgoing)} outgoing "
                f"particles, the first one {len(rows[0]) // 4}; give events with one number of them"
            )
    if not rows or not rows[0]:
        raise DataError(f"{path}: holds no events with outgoing particles")
    names = [f"{name}{i}" for i in range(len(rows[0]) // 4) for name in KINEMATICS]
    columns = dict(zip(names, np.array(rows, float).T, strict=True))
    weight = as_frame({"weight": np.array(weights, float)}, "weight")
    return Table(str(path), as_frame(columns, str(path)), {"weight": weight})
